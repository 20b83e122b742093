"""The results of one run, in one work directory.

A run's directory holds `config.json` (what was asked for, and with what it was
run), `metrics.jsonl` (a line per evaluation, appended) and `results.json` (a
flat list of rows, replaced as a whole). A process that is killed at any moment
leaves complete files behind. One process writes to a directory at a time; of
several hosts that train together only the first writes. All files are strict
JSON: a NaN or an infinity in a record is null.
"""

import contextlib
import datetime
import errno
import fcntl
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

_CONFIG, _METRICS, _RESULTS = 'config.json', 'metrics.jsonl', 'results.json'
_LOCK = '.lock'
_PACKAGES = ('jax', 'jaxlib', 'numpy', 'flax', 'optax')
_ABSENT = object()
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def open_run(
  workdir: str | os.PathLike,
  config: Mapping[str, Any],
  *,
  tensorboard: bool = False,
) -> 'Run':
  """Open a work directory, new or of the same config, for writing.

  A new directory gets a `config.json` with the config, the versions of the
  packages, the devices, the commit of the code and the time. A directory that
  has one is gone on with, if its config is the same; versions and devices may
  differ. A last line of `metrics.jsonl` that was cut off is dropped.

  Args:
    workdir: created if it is missing.
    config: what the run depends on: a nested dictionary (or ConfigDict) of
      numbers, strings, booleans, None, lists and tuples; a tuple equals a list.
    tensorboard: also write TensorBoard events, with tensorboardX.

  Returns:
    A Run: close it, or use it in a `with` statement.

  Raises:
    ValueError: the directory belongs to another config, or holds other files,
      or another process is writing there, or its config.json is damaged.
    ImportError: tensorboard without tensorboardX.
  """
  import jax

  workdir = Path(workdir)
  plain = _plain(config, 'config', _name_nonfinite)
  if not isinstance(plain, dict):
    raise ValueError(f'config must be a dictionary, got {config!r}')
  if jax.process_index() != 0:
    _wait_for_hosts()
    _check_config(workdir, plain)
    return Run(workdir, plain, None)
  if workdir.exists() and not workdir.is_dir():
    raise ValueError(f'workdir {workdir} is a file')
  _check_config(workdir, plain)
  workdir.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as on_error:
    lock = on_error.enter_context(_lock(workdir))
    # Looked at again: only now nobody else can write it.
    if not _check_config(workdir, plain):
      about = {'config': plain, **_surroundings()}
      atomic_write(workdir / _CONFIG, _dump(about, indent=2) + '\n')
    for left_over in workdir.glob('.*.tmp'):
      left_over.unlink()
    _repair(workdir / _METRICS)
    events = _event_writer(workdir) if tensorboard else None
    _wait_for_hosts()
    on_error.pop_all()
  return Run(workdir, plain, lock, events)


class Run:
  """One run's directory, open for writing; made by `open_run`.

  On the other hosts of a distributed run nothing is written.

  Attributes:
    workdir: Path of the directory.
    config: the config as it stands in `config.json`.
  """

  def __init__(
    self,
    workdir: Path,
    config: dict[str, Any],
    lock: IO | None,
    tensorboard: Any = None,
  ):
    self.workdir, self.config = workdir, config
    self._lock, self._events = lock, tensorboard
    self._log = (workdir / _METRICS).open('ab') if lock else None

  def log(self, record: Mapping[str, Any]) -> None:
    """Append one line to `metrics.jsonl`.

    Args:
      record: numbers (Python's, numpy's or JAX's), strings, booleans, None,
        arrays, lists and dictionaries of them; NaN and infinities become null.
        For TensorBoard the floats are the curves, `step` (or `steps`) their
        axis, and the other integers and strings part of their names.
    """
    plain = _plain(record, 'record', _drop_nonfinite)
    if self._log:
      # One write: a kill leaves a whole line or none, or a last one cut off.
      self._log.write(_dump(plain).encode() + b'\n')
      self._log.flush()
    if self._events:
      _add_scalars(self._events, plain)

  def log_position(self) -> int:
    """Bytes in the log now, to be kept in a checkpoint; for `truncate`."""
    return self._log.tell() if self._log else 0

  def truncate(self, position: int) -> None:
    """Take back the lines logged after `log_position()` gave `position`.

    Raises:
      ValueError: the log has no line that ends there.
    """
    if not self._log:
      return
    path = self.workdir / _METRICS
    with path.open('rb') as file:
      file.seek(max(position - 1, 0))
      ends_line = position == 0 or file.read(1) == b'\n'
    if position < 0 or not ends_line:
      raise ValueError(
        f'{path} has no line that ends at byte {position}: it is not the log '
        'of this checkpoint'
      )
    self._log.truncate(position)
    self._log.seek(position)

  def truncate_from(self, unwanted: Callable[[dict[str, Any]], bool]) -> None:
    """Take back the first record that is `unwanted`, and all after it."""
    if not self._log:
      return
    path, position = self.workdir / _METRICS, 0
    for i, line in enumerate(path.read_bytes().splitlines(True), 1):
      if unwanted(_parse(line, f'{path}, line {i}')):
        break
      position += len(line)
    self.truncate(position)

  def write_results(self, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace `results.json`, atomically, by the list of `rows`.

    Values are those of `log`; NaN and infinities become null.
    """
    plain = [
      _plain(row, f'rows[{i}]', _drop_nonfinite) for i, row in enumerate(rows)
    ]
    if self._lock:
      lines = ',\n'.join(_dump(row) for row in plain)
      atomic_write(self.workdir / _RESULTS, f'[\n{lines}\n]\n')

  def read_results(self) -> list[dict[str, Any]]:
    """The rows written so far."""
    return read_results(self.workdir)

  def close(self) -> None:
    """Close the files and let others write."""
    for file in (self._events, self._log, self._lock):
      if file:
        file.close()
    self._events = self._log = self._lock = None

  def __enter__(self) -> 'Run':
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    self.close()


def read_config(workdir: str | os.PathLike) -> dict[str, Any]:
  """The config of the run in `workdir`.

  Raises:
    FileNotFoundError: there is no run.
    ValueError: config.json is damaged.
  """
  about = _load(Path(workdir) / _CONFIG)
  if not isinstance(about, dict) or not isinstance(about.get('config'), dict):
    raise ValueError(f'{Path(workdir) / _CONFIG} is not the config of a run')
  return about['config']


def read_results(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """The rows of `results.json`; none if it is not there yet.

  Raises:
    ValueError: results.json is damaged.
  """
  path = Path(workdir) / _RESULTS
  if not path.exists():
    return []
  rows = _load(path)
  if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
    raise ValueError(f'{path} is not a list of rows')
  return rows


def read_metrics(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """The records of `metrics.jsonl`; none if it is not there yet.

  A last line that is still being written, or was cut off, is left out.

  Raises:
    ValueError: another line is damaged.
  """
  path = Path(workdir) / _METRICS
  if not path.exists():
    return []
  data = path.read_bytes()
  lines = data[: _whole(data)].splitlines()
  return [_parse(line, f'{path}, line {i}') for i, line in enumerate(lines, 1)]


def atomic_write(path: str | os.PathLike, data: str | bytes) -> None:
  """Write a file so that nobody ever sees a part of it.

  Args:
    path: replaced if it exists; its directory must exist.
    data: text (written as UTF-8) or bytes.
  """
  with replacing(path) as temporary:
    temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
  """Give a temporary path, and move what was written there to `path`.

  The file is on the disk before it takes the name of `path`. If the block
  raises, `path` stays as it was.
  """
  path = Path(path)
  # Unlike tempfile's, the file gets the permissions that the user's umask asks.
  writer = f'{os.getpid()}-{threading.get_ident()}'
  temporary = path.with_name(f'.{path.name}.{writer}.tmp')
  try:
    yield temporary
    with temporary.open('rb') as file:
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise
  directory = os.open(path.parent, os.O_RDONLY)
  try:
    os.fsync(directory)
  finally:
    os.close(directory)


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """Aligned plain text; columns of numbers are aligned to the right.

  Args:
    headers: one title per column.
    rows: of cells; each is shown as `str` shows it.

  Raises:
    ValueError: a row of another length.
  """
  cells = [[str(cell) for cell in row] for row in rows]
  for i, row in enumerate(cells):
    if len(row) != len(headers):
      raise ValueError(
        f'rows[{i}] must have {len(headers)} cells, got {len(row)}'
      )
  columns = list(zip(headers, *cells, strict=True))
  widths = [max(map(len, column)) for column in columns]
  to_right = [_numeric(column[1:]) for column in columns]

  def line(row: Sequence[str]) -> str:
    aligned = (
      cell.rjust(width) if right else cell.ljust(width)
      for cell, width, right in zip(row, widths, to_right, strict=True)
    )
    return '  '.join(aligned).rstrip()

  return '\n'.join(
    map(line, [list(headers), ['-' * width for width in widths], *cells])
  )


def _numeric(cells: Sequence[str]) -> bool:
  return all(re.match(r'[+-]?[.\d]|[+-]?(nan|inf)$|-?$', c) for c in cells)


def _wait_for_hosts() -> None:
  """Keep the others from writing where the first host has not yet looked."""
  from jax.experimental import multihost_utils

  multihost_utils.sync_global_devices('htjax.records.open_run')


def _check_config(workdir: Path, config: dict[str, Any]) -> bool:
  """Whether `workdir` holds this config; False if it holds nothing."""
  if not (workdir / _CONFIG).exists():
    others = [p.name for p in _contents(workdir) if not _is_ours(p.name)]
    if others:
      raise ValueError(
        f'workdir {workdir} holds files but no {_CONFIG} ({others[0]}, ..), so '
        'it is no run; choose another --workdir'
      )
    return False
  differences = _differences(read_config(workdir), config)
  if differences:
    shown = '; '.join(differences[:5])
    more = f'; {len(differences) - 5} more' if len(differences) > 5 else ''
    raise ValueError(
      f'workdir {workdir} belongs to another config ({shown}{more}): choose '
      'another --workdir or delete it'
    )
  return True


def _contents(workdir: Path) -> list[Path]:
  return sorted(workdir.iterdir()) if workdir.is_dir() else []


def _is_ours(name: str) -> bool:
  """Whether a run that died before its config was written leaves the file."""
  return name == _LOCK or re.fullmatch(r'\..*\.tmp', name) is not None


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
  old, new = dict(_dotted(old)), dict(_dotted(new))
  return [
    f'{name} was {_show(a)}, is {_show(b)}'
    for name in sorted(old.keys() | new.keys())
    if not _equal(a := old.get(name, _ABSENT), b := new.get(name, _ABSENT))
  ]


def _dotted(
  tree: dict[str, Any], prefix: str = ''
) -> Iterator[tuple[str, Any]]:
  for name, value in tree.items():
    if isinstance(value, dict) and value:
      yield from _dotted(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value


def _equal(a: Any, b: Any) -> bool:
  # Python says True == 1.
  return a == b and isinstance(a, bool) == isinstance(b, bool)


def _show(value: Any) -> str:
  return 'absent' if value is _ABSENT else json.dumps(value)


def _lock(workdir: Path) -> IO:
  """Hold the directory; the kernel lets go of it when the process ends."""
  file = (workdir / _LOCK).open('ab')
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.close()
    raise ValueError(
      f'another process is writing to workdir {workdir}'
    ) from None
  except OSError as error:
    # Some cluster file systems have no locks: better a run without one.
    if error.errno not in _NO_LOCKS:
      file.close()
      raise
  return file


def _surroundings() -> dict[str, Any]:
  """Facts that a reader needs to run it again, and to understand its times."""
  import jax

  import htjax

  versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
  now = datetime.datetime.now(datetime.UTC)
  return {
    'versions': {'htjax': htjax.__version__, **versions},
    'commit': _commit(Path(htjax.__file__).resolve().parent),
    'python': platform.python_version(),
    'platform': platform.platform(),
    'hosts': jax.process_count(),
    'devices': [device.device_kind for device in jax.devices()],
    'started': now.isoformat(timespec='seconds'),
  }


def _commit(package: Path) -> str | None:
  """The commit of a checkout ('-dirty' with changes), None if installed."""

  def git(*args: str) -> str:
    command = ['git', '-C', str(package), *args]
    return subprocess.run(
      command, capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()

  try:
    # An installed package may lie inside somebody else's checkout.
    if Path(git('rev-parse', '--show-toplevel')) != package.parent:
      return None
    return git('describe', '--always', '--dirty', '--abbrev=40', '--exclude=*')
  except (OSError, subprocess.SubprocessError):
    return None


def _repair(path: Path) -> None:
  """Drop what follows the last whole record."""
  if path.exists():
    data = path.read_bytes()
    end = _whole(data)
    if end < len(data):
      os.truncate(path, end)


def _whole(data: bytes) -> int:
  """End, in bytes, of the last line that is a record."""
  end = data.rfind(b'\n') + 1
  while end:
    start = data.rfind(b'\n', 0, end - 1) + 1
    try:
      json.loads(data[start:end])
      return end
    # A power cut can leave zeros in place of the last lines.
    except ValueError:
      end = start
  return 0


def _load(path: Path) -> Any:
  return _parse(path.read_bytes(), str(path))


def _parse(data: bytes, what: str) -> Any:
  try:
    return json.loads(data)
  except (ValueError, RecursionError) as error:
    raise ValueError(f'{what} is damaged: {error}') from None


def _dump(value: Any, indent: int | None = None) -> str:
  return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)


def _plain(value: Any, name: str, nonfinite: Any) -> Any:
  """`value` in JSON's own types; `name` is for the error."""
  if hasattr(value, 'to_dict'):
    value = value.to_dict()
  if isinstance(value, Mapping):
    for key in value:
      if not isinstance(key, str):
        raise ValueError(f'keys of {name} must be strings, got {key!r}')
    return {k: _plain(v, f'{name}.{k}', nonfinite) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(v, f'{name}[{i}]', nonfinite) for i, v in enumerate(value)]
  if isinstance(value, str):
    return str(value)
  if value is None or isinstance(value, bool | int):
    return value
  if isinstance(value, float):
    return float(value) if math.isfinite(value) else nonfinite(value)
  if hasattr(value, '__array__'):
    return _plain(_array_values(value, name), name, nonfinite)
  raise ValueError(
    f'{name} must be a number, string, boolean, None, list, dictionary or '
    f'array of numbers, got {value!r}'
  )


def _array_values(value: Any, name: str) -> Any:
  try:
    x = np.asarray(value)
    # bfloat16 and its like are no floats to numpy.
    return (x.astype(np.float64) if x.dtype.kind == 'V' else x).tolist()
  except (TypeError, ValueError) as error:
    raise ValueError(f'{name} must be an array of numbers: {error}') from None


def _name_nonfinite(value: float) -> str:
  return str(value)


def _drop_nonfinite(value: float) -> None:
  return None


def _event_writer(workdir: Path) -> Any:
  try:
    from tensorboardX import SummaryWriter
  except ImportError:
    raise ImportError(
      'tensorboard=True needs tensorboardX: pip install tensorboardX'
    ) from None
  return SummaryWriter(str(workdir / 'tensorboard'))


def _add_scalars(events: Any, record: dict[str, Any]) -> None:
  step = record.get('step', record.get('steps'))
  series = [
    f'{name}_{value}'
    for name, value in record.items()
    if isinstance(value, int | str) and name not in ('step', 'steps')
  ]
  for name, value in record.items():
    if isinstance(value, float):
      events.add_scalar('/'.join([*series, name]), value, step)
