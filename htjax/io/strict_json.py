"""Strict JSON: values in its own types, and whole lines of it.

NaN and infinities have no place in it: in a record they become null, in a
config their names.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from htjax.io.faults import Refused
from htjax.io.files import read_bytes

# Of a file of results or of a log.
MAX_BYTES = 2**30


def plain(value: Any, name: str, nonfinite: Any) -> Any:
  """`value` in JSON's own types; `name` is for the error."""
  if hasattr(value, 'to_dict'):
    value = value.to_dict()
  if isinstance(value, Mapping):
    for key in value:
      if not isinstance(key, str):
        raise ValueError(f'keys of {name} must be strings, got {key!r}')
    return {k: plain(v, f'{name}.{k}', nonfinite) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [plain(v, f'{name}[{i}]', nonfinite) for i, v in enumerate(value)]
  if isinstance(value, str):
    return str(value)
  if value is None or isinstance(value, bool | int):
    return value
  if isinstance(value, float):
    return float(value) if math.isfinite(value) else nonfinite(value)
  if hasattr(value, '__array__'):
    return plain(_array_values(value, name), name, nonfinite)
  raise ValueError(
    f'{name} must be a number, string, boolean, None, list, dictionary or '
    f'array of numbers, got {value!r}'
  )


def name_nonfinite(value: float) -> str:
  """NaN and infinities by name, as configs have them."""
  return str(value)


def drop_nonfinite(value: float) -> None:
  """NaN and infinities as null, as records have them."""
  return None


def dump(value: Any, indent: int | None = None) -> str:
  """Strict JSON text."""
  return json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False)


def parse(data: bytes, what: str) -> Any:
  """The value of strict JSON text; `what` is damaged if it is none.

  A name that stands twice in an object, NaN and infinities, also those that a
  number like 1e999 would become, are no strict JSON.
  """
  try:
    return json.loads(
      data,
      object_pairs_hook=_object,
      parse_constant=_no_number,
      parse_float=_finite,
    )
  except (ValueError, RecursionError) as error:
    raise Refused(f'{what} is damaged: {error}') from None


def load(path: Path) -> Any:
  """The value in a file of JSON."""
  return parse(read_bytes(path, MAX_BYTES), str(path))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) < len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'{twice!r} stands there twice')
  return found


def _no_number(text: str) -> float:
  raise ValueError(f'{text} is no number of JSON')


def _finite(text: str) -> float:
  number = float(text)
  return number if math.isfinite(number) else _no_number(text)


def whole_lines(data: bytes) -> int:
  """End, in bytes, of the last line that is a record."""
  end = data.rfind(b'\n') + 1
  while end:
    start = data.rfind(b'\n', 0, end - 1) + 1
    try:
      json.loads(data[start:end])
      return end
    # A power cut can leave zeros in place of the last lines.
    except (ValueError, RecursionError):
      end = start
  return 0


def _array_values(value: Any, name: str) -> Any:
  try:
    x = np.asarray(value)
    # bfloat16 and its like are no floats to numpy.
    return (x.astype(np.float64) if x.dtype.kind == 'V' else x).tolist()
  except (TypeError, ValueError) as error:
    raise ValueError(f'{name} must be an array of numbers: {error}') from None
