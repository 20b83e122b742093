"""Arguments of bounds as numbers on the host in float64, or a clear error.

A bound is a closed form of a few measured numbers, so it is evaluated on the
host in float64: a product of fifty norms, or the logarithm of a binomial
coefficient of ten million, does not fit float32.
"""

import math
from typing import Any

import numpy as np

from htjax.checks import check_range, is_concrete


def check_concrete(name: str, value: Any) -> None:
  """Raise if `value` is traced, or a list with a traced entry."""
  entries = value if isinstance(value, list | tuple) else [value]
  if not all(is_concrete(entry) for entry in entries):
    raise ValueError(
      f'{name} must be concrete: bounds are evaluated on the host, outside jit '
      'and vmap'
    )


def number(
  name: str,
  value: Any,
  low: float = -math.inf,
  high: float = math.inf,
  **interval: bool,
) -> float:
  """`value` as a float in an interval, or a ValueError that names it."""
  check_concrete(name, value)
  if np.shape(value) != ():
    raise ValueError(f'{name} must be one number, got shape {np.shape(value)}')
  check_range(name, value, low, high, **interval)
  return float(value)


def positive(name: str, value: Any) -> float:
  """`value` as a float above 0 and finite."""
  value = number(name, value, 0, math.inf, open_low=True, open_high=True)
  return value


def probability(name: str, value: Any) -> float:
  """`value` as a float strictly inside (0, 1)."""
  return number(name, value, 0, 1, open_low=True, open_high=True)


def vector(
  name: str, values: Any, low: float = 0.0, *, open_low: bool = False
) -> np.ndarray:
  """`values` as finite float64 [L], L >= 1, each at least `low`."""
  check_concrete(name, values)
  array = np.asarray(values, np.float64)
  if array.ndim != 1 or array.size == 0:
    raise ValueError(f'{name} must be a list of numbers, got {array.shape}')
  check_range(name, array, low, math.inf, open_low=open_low, open_high=True)
  return array


def like(name: str, values: Any, size: int, **options: Any) -> np.ndarray:
  """`values` as float64 [size]; a single number stands for all of them."""
  check_concrete(name, values)
  array = np.asarray(values, np.float64)
  if array.ndim == 0:
    array = np.full(size, float(array))
  array = vector(name, array, **options)
  if array.size != size:
    raise ValueError(f'{name} must have {size} entries, got {array.size}')
  return array


def snap(values: Any) -> np.ndarray:
  """Values that miss an integer by rounding alone, put right: 0.1 * 30."""
  nearest = np.round(values)
  close = np.isclose(values, nearest, rtol=1e-12, atol=0)
  return np.where(close, nearest, values)
