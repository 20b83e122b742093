"""The command line as `python -m htjax`."""

import sys

from htjax.cli import main

if __name__ == '__main__':
  sys.exit(main())
