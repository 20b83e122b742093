"""Faults of a file, as errors that name it."""

from pathlib import Path


class Refused(ValueError):
  """A fault found here, whose message says all."""


def check_size(path: Path, size: int, max_bytes: int) -> None:
  """Refuse more than `max_bytes` of arrays."""
  if size > max_bytes:
    raise Refused(
      f'{path} holds {size:,} bytes of arrays, more than max_bytes='
      f'{max_bytes:,}'
    )


def first_line(error: Exception) -> str:
  """The first line of what a parser complained of, or its type."""
  return (str(error).splitlines() or [''])[0] or type(error).__name__
