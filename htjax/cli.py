"""The command `htjax`, which is `python -m htjax`, too.

  htjax analyze model.safetensors --layout=torch --workdir=runs/model
  htjax data prepare ecg5000 --data_dir=DIR --manual_dir=RAW
  htjax data list

What a user can mend is one line on standard error and exit status 2.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, TypeAlias

import htjax

_FAULT = 2
_Commands: TypeAlias = 'argparse._SubParsersAction[_Parser]'


def main(argv: Sequence[str] | None = None) -> int:
  """Run one command.

  Args:
    argv: the words behind `htjax`; None takes those of the process.

  Returns:
    The exit status: 0, or 2 if a file or a value was refused.

  Raises:
    SystemExit: after --help and --version, and for words that are no command.
  """
  arguments = _parser().parse_args(argv)
  try:
    arguments.run(arguments)
  except (OSError, ValueError, ImportError, MemoryError) as error:
    print(f'htjax: error: {_one_line(error)}', file=sys.stderr)
    return _FAULT
  return 0


class _Parser(argparse.ArgumentParser):
  """Faults are one line; the usage is a --help away."""

  def error(self, message: str) -> NoReturn:
    self.exit(_FAULT, f'{self.prog}: error: {message}; see --help\n')


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(prog='htjax', description=htjax.__doc__.splitlines()[0])
  parser.add_argument(
    '--version', action='version', version=f'htjax {htjax.__version__}'
  )
  commands = parser.add_subparsers(metavar='COMMAND', required=True)
  _add_analyze(commands)
  data = commands.add_parser('data', help='prepare data sets on disk')
  data_commands = data.add_subparsers(metavar='COMMAND', required=True)
  _add_list(data_commands)
  _add_prepare(data_commands)
  return parser


def _add(
  commands: _Commands,
  name: str,
  run: Callable[[argparse.Namespace], None],
  about: str,
) -> _Parser:
  parser = commands.add_parser(name, help=about, description=about)
  parser.set_defaults(run=run)
  return parser


def _add_analyze(commands: _Commands) -> None:
  from htjax import analysis

  parser = _add(
    commands,
    'analyze',
    _analyze,
    'tail indices and compressibility of the weights in a file',
  )
  parser.add_argument(
    'file',
    metavar='FILE',
    help='.safetensors or .npz file, or an Orbax directory',
  )
  parser.add_argument(
    '--workdir',
    metavar='DIR',
    help='also write results.json, table.txt and compression.png there; a run '
    'that was killed goes on from there',
  )
  parser.add_argument(
    '--layout',
    choices=analysis.LAYOUTS,
    default='flax',
    help='flax: [.., in, out] (default); torch: [out, in, ..]',
  )
  for option, about in (
    ('--select', 'analyse only these arrays'),
    ('--exclude', 'leave these arrays out'),
  ):
    parser.add_argument(
      option,
      metavar='PATTERN',
      action='append',
      default=[],
      help=f'{about}: * and ? match, within a whole name or one part of it; '
      'may be given several times',
    )
  parser.add_argument(
    '--max-bytes',
    metavar='N',
    type=int,
    help='refuse a file with more bytes of arrays (default: a limit relative '
    'to the size of the file)',
  )


def _add_list(commands: _Commands) -> None:
  parser = _add(commands, 'list', _list, 'which data sets are prepared')
  _add_data_dir(parser)


def _add_prepare(commands: _Commands) -> None:
  from htjax.data.preparing import PREPARABLE

  parser = _add(commands, 'prepare', _prepare, 'write one data set')
  parser.add_argument('name', choices=PREPARABLE)
  parser.add_argument(
    '--manual_dir',
    metavar='RAW',
    help='directory of raw files, instead of a download',
  )
  _add_data_dir(parser)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--data_dir',
    metavar='DIR',
    help='TFDS directory (default: TFDS_DATA_DIR or ~/tensorflow_datasets)',
  )


def _analyze(arguments: argparse.Namespace) -> None:
  from tqdm import tqdm

  from htjax import analysis

  def progress(names: Sequence[str]) -> Iterable[str]:
    return tqdm(names, desc='analysing', unit='layer', disable=None)

  analysis.run(
    arguments.file,
    arguments.workdir,
    arguments.layout,
    select=arguments.select,
    exclude=arguments.exclude,
    max_bytes=arguments.max_bytes,
    progress=progress,
  )


def _list(arguments: argparse.Namespace) -> None:
  from htjax.data.preparing import PREPARABLE
  from htjax.data.store import find_prepared

  for name in PREPARABLE:
    path = find_prepared(name, arguments.data_dir)
    print(f'{name:14}{path or "not prepared"}')


def _prepare(arguments: argparse.Namespace) -> None:
  from htjax.data import preparing, store

  data_dir = store.data_dirs(arguments.data_dir)[0]
  path = preparing.prepare(arguments.name, data_dir, arguments.manual_dir)
  print(f'{arguments.name} is prepared in {path}')


def _one_line(error: BaseException) -> str:
  return ' '.join(str(error).split()) or type(error).__name__
