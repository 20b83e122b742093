"""Command line: `python -m htjax.data prepare NAME` and `.. list`."""

import argparse
import sys
from collections.abc import Sequence

from htjax.data import store
from htjax.data.preparing import PREPARABLE, prepare


def main(argv: Sequence[str] | None = None) -> int:
  """Run one command; returns the exit status."""
  arguments = _parser().parse_args(argv)
  if arguments.command == 'list':
    for name in PREPARABLE:
      path = store.find_prepared(name, arguments.data_dir)
      print(f'{name:14}{path or "not prepared"}')
    return 0
  data_dir = store.data_dirs(arguments.data_dir)[0]
  try:
    path = prepare(arguments.name, data_dir, arguments.manual_dir)
  except (OSError, ValueError, ImportError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  print(f'{arguments.name} is prepared in {path}')
  return 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m htjax.data', description='Prepare data sets on disk.'
  )
  commands = parser.add_subparsers(dest='command', required=True)
  listing = commands.add_parser('list', help='which data sets are prepared')
  preparing = commands.add_parser('prepare', help='write one data set')
  preparing.add_argument('name', choices=PREPARABLE)
  preparing.add_argument(
    '--manual_dir', help='directory of raw files, instead of a download'
  )
  for command in (listing, preparing):
    command.add_argument(
      '--data_dir',
      help='TFDS directory (default: TFDS_DATA_DIR or ~/tensorflow_datasets)',
    )
  return parser


if __name__ == '__main__':
  sys.exit(main())
