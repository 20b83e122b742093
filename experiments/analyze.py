"""The analysis of anyone's weights moved to `htjax.analysis`.

Its program is `htjax analyze FILE --workdir=DIR`.
"""

from htjax.analysis import analyse, load, run

__all__ = ['analyse', 'load', 'run']

if __name__ == '__main__':
  raise SystemExit(__doc__)
