"""The results of one run, in one work directory.

A run's directory holds `config.json` (what was asked for, and with what it was
run), `metrics.jsonl` (a line per evaluation, appended) and `results.json` (a
flat list of rows, replaced as a whole). A process that is killed at any moment
leaves complete files behind. One process writes to a directory at a time; of
several hosts that train together only the first writes. All files are strict
JSON: a NaN or an infinity in a record is null.
"""

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from htjax import multihost
from htjax.checks import checked
from htjax.io.configs import (
  CONFIG,
  LOCK,
  check_config,
  differences,
  read_config,
)
from htjax.io.faults import naming
from htjax.io.files import atomic_write, read_bytes, size_of
from htjax.io.strict_json import (
  MAX_BYTES,
  drop_nonfinite,
  dump,
  load,
  name_nonfinite,
  parse,
  plain,
  whole_lines,
)
from htjax.io.surroundings import surroundings

__all__ = ['Run', 'open_run', 'read_config', 'read_metrics', 'read_results']

_METRICS, _RESULTS = 'metrics.jsonl', 'results.json'
# Columns that every lane of a run has, or none.
_EVERY_LANE = {
  *('alpha', 'sigma', 'kind', 'seed', 'width', 'steps', 'status', 'diverged'),
  *('train_accuracy', 'test_accuracy', 'pruning_ratio'),
}
# Columns of fractions.
_SHARE = re.compile(r'(^|_)(accuracy(_pruned)?|pruning_ratio)$')
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@checked
def open_run(
  workdir: str | os.PathLike,
  config: Any,
  *,
  tensorboard: bool = False,
) -> 'Run':
  """Open a work directory, new or of the same config, for writing.

  A new directory gets a `config.json` with the config, the versions of the
  packages, the devices, the commit of the code and the time. A directory that
  has one is gone on with, if its config is the same; versions and devices may
  differ, and then `config.json` says from which row on in its list `continued`.
  A last line of `metrics.jsonl` that was cut off is dropped. Of several hosts
  all must open it; where one has another config, or cannot open it, each
  raises.

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
  wanted = plain(config, 'config', name_nonfinite)
  if not isinstance(wanted, dict):
    raise ValueError(f'config must be a dictionary, got {config!r}')
  for i, other in enumerate(multihost.from_each(wanted)):
    if found := differences(wanted, other):
      raise ValueError(
        f'all hosts must have one config; on host {jax.process_index()} and on '
        f'host {i}: {found}'
      )
  error = None
  try:
    if jax.process_index() == 0:
      run = _open(workdir, wanted, tensorboard)
    else:
      check_config(workdir, wanted)
      run = Run(workdir, wanted, None)
  except (OSError, ValueError, ImportError) as found:
    if jax.process_count() == 1:
      raise
    error = found
  for i, problem in enumerate(multihost.from_each(error and str(error))):
    if problem:
      raise error or ValueError(f'host {i} cannot open the run: {problem}')
  return run


def _open(workdir: Path, config: dict[str, Any], tensorboard: bool) -> 'Run':
  if workdir.exists() and not workdir.is_dir():
    raise ValueError(f'workdir {workdir} is a file')
  check_config(workdir, config)
  workdir.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as on_error:
    lock = on_error.enter_context(_lock(workdir))
    # Looked at again: only now nobody else can write it.
    is_new = not check_config(workdir, config)
    _note_surroundings(workdir, config, is_new)
    for left_over in workdir.glob('.*.tmp'):
      left_over.unlink()
    _repair(workdir / _METRICS)
    events = _event_writer(workdir) if tensorboard else None
    on_error.pop_all()
  return Run(workdir, config, lock, events)


def _note_surroundings(
  workdir: Path, config: dict[str, Any], is_new: bool
) -> None:
  """Write with what the run is made, where that is not what stands there."""
  path, now = workdir / CONFIG, surroundings()
  if is_new:
    about = {'config': config, **now}
  else:
    about = load(path)
    parts = about.setdefault('continued', [])
    last = parts[-1] if parts else about
    if all(last.get(k) == now[k] for k in now.keys() - {'started'}):
      return
    parts.append({'after_rows': len(read_results(workdir)), **now})
  atomic_write(path, dump(about, indent=2) + '\n')


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
    line = plain(record, 'record', drop_nonfinite)
    if self._log:
      # One write: a kill leaves a whole line or none, or a last one cut off.
      with naming(self.workdir / _METRICS):
        self._log.write(dump(line).encode() + b'\n')
        self._log.flush()
    if self._events:
      _add_scalars(self._events, line)

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
    lines = read_bytes(path, MAX_BYTES).splitlines(True)
    for i, line in enumerate(lines, 1):
      if unwanted(_record(path, i, line)):
        break
      position += len(line)
    self.truncate(position)

  def write_results(self, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace `results.json`, atomically, by the list of `rows`.

    Values are those of `log`; NaN and infinities become null.
    """
    written = [
      plain(row, f'rows[{i}]', drop_nonfinite) for i, row in enumerate(rows)
    ]
    if self._lock:
      lines = ',\n'.join(dump(row) for row in written)
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


@checked
def read_results(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """The rows of `results.json`; none if it is not there yet.

  Raises:
    ValueError: results.json is damaged, or was edited into what no run writes:
      a row twice, a `lane` that is no count or name, rows of lanes without a
      column of the first that every lane has, an accuracy or a pruning ratio
      outside of [0, 1].
  """
  path = Path(workdir) / _RESULTS
  if not path.exists():
    return []
  rows = load(path)
  if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
    raise ValueError(f'{path} is not a list of rows')
  _check_rows(path, rows)
  return rows


@checked
def read_metrics(workdir: str | os.PathLike) -> list[dict[str, Any]]:
  """The records of `metrics.jsonl`; none if it is not there yet.

  A last line that is still being written, or was cut off, is left out.

  Raises:
    ValueError: another line is damaged, or no dictionary.
  """
  path = Path(workdir) / _METRICS
  if not path.exists():
    return []
  data = read_bytes(path, MAX_BYTES)
  lines = data[: whole_lines(data)].splitlines()
  return [_record(path, i, line) for i, line in enumerate(lines, 1)]


def _record(path: Path, number: int, line: bytes) -> dict[str, Any]:
  found = parse(line, f'{path}, line {number}')
  if not isinstance(found, dict):
    raise ValueError(f'{path}, line {number}, is not a record')
  return found


def _check_rows(path: Path, rows: list[dict[str, Any]]) -> None:
  """Refuse what no run writes."""
  first: dict[str, Any] | None = None
  seen: dict[str, int] = {}
  for i, row in enumerate(rows):
    where = f'{path}, row {i + 1},'
    tags = row
    if 'lane' in row:
      first = first or row
      _check_lane(where, row, first)
      # Measured again, a lane has other numbers.
      tags = {k: v for k, v in row.items() if not isinstance(v, float)}
    for name, value in row.items():
      if _SHARE.search(name) and not _is_share(value):
        raise ValueError(f'{where} has {name}={value!r}, outside of [0, 1]')
    j = seen.setdefault(dump(sorted(tags.items(), key=lambda t: t[0])), i)
    if j < i:
      raise ValueError(f'{where} is row {j + 1} again')


def _check_lane(where: str, row: dict[str, Any], first: dict[str, Any]) -> None:
  lane = row['lane']
  # Lanes are counted, or all have names.
  is_known = lane >= 0 if type(lane) is int else lane and isinstance(lane, str)
  if not is_known or type(lane) is not type(first['lane']):
    raise ValueError(f'{where} has lane={lane!r}, no integer >= 0 or name')
  # Others, such as draws of a law, belong to some lanes alone.
  if odd := sorted((row.keys() ^ first.keys()) & _EVERY_LANE):
    verb = 'has' if odd[0] in row else 'lacks'
    raise ValueError(f'{where} {verb} {odd[0]}, unlike the first of a lane')


def _is_share(value: Any) -> bool:
  """Whether it is a fraction, or the null of what was not measured."""
  return value is None or (
    isinstance(value, int | float)
    and not isinstance(value, bool)
    and 0 <= value <= 1
  )


def _lock(workdir: Path) -> IO:
  """Hold the directory; the kernel lets go of it when the process ends."""
  for name in (LOCK, _METRICS, _RESULTS):
    # To open a pipe is to wait for its other end.
    if (workdir / name).exists():
      size_of(workdir / name)
  file = (workdir / LOCK).open('ab')
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


def _repair(path: Path) -> None:
  """Drop what follows the last whole record."""
  if path.exists():
    data = read_bytes(path, MAX_BYTES)
    end = whole_lines(data)
    if end < len(data):
      os.truncate(path, end)


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
