"""Faults of a file, as errors that name it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

# What arrays may take by default: in all, always, and for each byte on disk.
# Numbers that were trained do not shrink to a hundredth.
_MOST, _SMALL, _RATIO = 2**34, 2**28, 100


class Refused(ValueError):
  """A fault found here, whose message says all."""


def allowed(on_disk: int, max_bytes: int | None) -> int:
  """Bytes of arrays that are read from so many on disk."""
  if max_bytes is not None:
    return max_bytes
  return min(_MOST, max(_SMALL, _RATIO * on_disk))


def check_size(
  path: Path, size: int, on_disk: int, max_bytes: int | None
) -> None:
  """Refuse more than `max_bytes` of arrays, or more than fit the file."""
  limit = allowed(on_disk, max_bytes)
  if size > limit:
    why = f', for {on_disk:,} bytes on disk; pass a larger one to read it'
    raise Refused(
      f'{path} holds {size:,} bytes of arrays, more than max_bytes='
      f'{limit:,}{"" if max_bytes else why}'
    )


def first_line(error: BaseException) -> str:
  """The first line of what a parser complained of, or its type."""
  lines = [line.strip() for line in str(error).splitlines()]
  return next(filter(None, lines), type(error).__name__)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
  """Name the path in errors of the disk and of memory that do not."""
  try:
    yield
  except OSError as error:
    if error.errno is None or error.filename is not None:
      raise
    raise OSError(error.errno, error.strerror, str(path)) from error
  except MemoryError as error:
    raise MemoryError(f'{path} does not fit into memory') from error
