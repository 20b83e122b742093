"""Files that are there as a whole or not at all, whenever a process dies."""

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from htjax.checks import checked
from htjax.io.faults import Refused, naming

_KINDS = (
  (stat.S_ISDIR, 'a directory'),
  (stat.S_ISFIFO, 'a pipe'),
  (stat.S_ISSOCK, 'a socket'),
)


@checked
def atomic_write(path: str | os.PathLike, data: str | bytes) -> None:
  """Write a file so that nobody ever sees a part of it.

  Args:
    path: replaced if it exists; its directory must exist.
    data: text (written as UTF-8) or bytes.

  Raises:
    OSError: the disk is full, a directory is in the way, or the like.
  """
  if not isinstance(data, str | bytes | bytearray | memoryview):
    raise ValueError(f'data must be text or bytes, got {type(data).__name__}')
  with replacing(path) as temporary:
    temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
  """Give a temporary path, and move what was written there to `path`.

  The file is on the disk before it takes the name of `path`. If the block
  raises, `path` stays as it was; an `OSError` that names no file gets the name
  of `path`.
  """
  path = Path(path)
  # Unlike tempfile's, the file gets the permissions that the user's umask asks.
  writer = f'{os.getpid()}-{threading.get_ident()}'
  temporary = path.with_name(f'.{path.name}.{writer}.tmp')
  try:
    with naming(path):
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


def size_of(path: str | os.PathLike) -> int:
  """Bytes of a regular file.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it is a directory, or a pipe or device, which may never end.
  """
  found = os.stat(path)
  if not stat.S_ISREG(found.st_mode):
    kind = next((k for is_, k in _KINDS if is_(found.st_mode)), 'a device')
    raise Refused(f'{path} is {kind}, not a file')
  return found.st_size


def size_of_directory(path: str | os.PathLike) -> int:
  """Bytes of all files under a directory, which must be regular ones."""
  return sum(
    int(size_of(os.path.join(folder, name)))
    for folder, _, names in os.walk(os.fspath(path))
    for name in names
  )


def read_bytes(path: str | os.PathLike, max_bytes: int) -> bytes:
  """The content of a regular file of at most `max_bytes`.

  Raises:
    FileNotFoundError: there is none.
    ValueError: it is larger, or no regular file.
  """
  path = Path(path)
  size = size_of(path)
  with naming(path), path.open('rb') as file:
    # Files of the kernel say 0 and may be endless.
    data = file.read(max_bytes + 1) if size <= max_bytes else b''
  if max(size, len(data)) > max_bytes:
    raise Refused(f'{path} must have at most {max_bytes:,} bytes, got more')
  return data
