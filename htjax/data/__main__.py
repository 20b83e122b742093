"""`htjax data` as `python -m htjax.data prepare NAME` and `.. list`."""

import sys
from collections.abc import Sequence

from htjax import cli


def main(argv: Sequence[str] | None = None) -> int:
  """Run one command of `htjax data`; returns the exit status."""
  return cli.main(['data', *(sys.argv[1:] if argv is None else argv)])


if __name__ == '__main__':
  sys.exit(main())
