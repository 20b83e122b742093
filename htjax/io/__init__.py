"""Files: results of a run, checkpoints to go on from, anyone's weights.

`records` keeps the results of one run in its work directory, `checkpoints` the
state of a run, `weights` exchanges weights with other programs; `tables` are
plain text and `files` are replaced as a whole.
"""

from htjax.io import checkpoints, files, records, tables, weights

__all__ = ['checkpoints', 'files', 'records', 'tables', 'weights']
