"""Files that are there as a whole or not at all, whenever a process dies."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path


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
