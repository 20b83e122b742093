"""Files: results of a run, checkpoints to go on from, anyone's weights.

`records` keeps the results of one run in its work directory, `cells` those of a
study that goes on where it was stopped, `checkpoints` the state of a run;
`weights` exchanges weights with other programs; `tables` are plain text and
`files` are replaced as a whole.
"""

from htjax.io import cells, checkpoints, files, records, tables, weights

__all__ = ['cells', 'checkpoints', 'files', 'records', 'tables', 'weights']
