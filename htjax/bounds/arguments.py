"""Arguments of bounds as numbers on the host in float64, or a clear error.

A bound is a closed form of a few measured numbers, so it is evaluated on the
host in float64: a product of fifty norms, or the logarithm of a binomial
coefficient of ten million, does not fit float32.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from htjax.checks import check_count, check_range, is_concrete
from htjax.types import Array


def check_concrete(name: str, value: Any) -> None:
  """Raise if `value` is traced, or a list with a traced entry."""
  entries = value if isinstance(value, list | tuple) else [value]
  if not all(is_concrete(entry) for entry in entries):
    raise ValueError(
      f'{name} must be concrete: bounds are evaluated on the host, outside jit '
      'and vmap'
    )


def as_numbers(name: str, values: Any) -> np.ndarray:
  """`values` as float64 of any shape, or a ValueError that names them."""
  check_concrete(name, values)
  try:
    array = np.asarray(values)
  except (TypeError, ValueError):  # ragged lists, keys
    array = np.empty(0, object)
  real = (jnp.integer, jnp.floating)
  if array.dtype == object and isinstance(values, int):  # beyond 64 bits
    array = np.asarray(float(values) if abs(values) < 2**1023 else math.inf)
  # An empty list has the type of floats, and its shape is refused.
  if not any(jnp.issubdtype(array.dtype, kind) for kind in real):
    raise ValueError(f'{name} must be real numbers, got {_short(values)}')
  return array.astype(np.float64)


def as_array(name: str, value: Any) -> Array:
  """`value` as a JAX array, traced or not, or a ValueError that names it."""
  try:
    return jnp.asarray(value)
  except (TypeError, ValueError, OverflowError):
    raise ValueError(f'{name} must be an array, got {_short(value)}') from None


def as_list(name: str, values: Any) -> list[Any]:
  """A list of whatever it is, or a ValueError that names it."""
  array = hasattr(values, 'ndim') and values.ndim > 0
  if isinstance(values, str | bytes) or not (
    array or isinstance(values, Sequence)
  ):
    raise ValueError(f'{name} must be a list, got {_short(values)}')
  return list(values)


def counts(name: str, values: Any, *, least: int = 1) -> list[int]:
  """A list of integers of at least `least`."""
  found = as_list(name, values)
  for value in found:
    check_count(name, value, least)
  return [int(value) for value in found]


def number(
  name: str,
  value: Any,
  low: float = -math.inf,
  high: float = math.inf,
  **interval: bool,
) -> float:
  """`value` as a float in an interval, or a ValueError that names it."""
  array = as_numbers(name, value)
  if array.ndim:
    raise ValueError(f'{name} must be one number, got shape {array.shape}')
  check_range(name, array, low, high, **interval)
  return float(array)


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
  array = as_numbers(name, values)
  if array.ndim != 1 or array.size == 0:
    raise ValueError(f'{name} must be a list of numbers, got {array.shape}')
  check_range(name, array, low, math.inf, open_low=open_low, open_high=True)
  return array


def like(name: str, values: Any, size: int, **options: Any) -> np.ndarray:
  """`values` as float64 [size]; a single number stands for all of them."""
  array = as_numbers(name, values)
  if array.ndim == 0:
    array = np.full(size, float(array))
  array = vector(name, array, **options)
  if array.size != size:
    raise ValueError(f'{name} must have {size} entries, got {array.size}')
  return array


def check_callable(name: str, value: Any) -> Callable:
  """Return `value` if it can be called, or raise."""
  if not callable(value):
    raise ValueError(f'{name} must be a function, got {_short(value)}')
  return value


def snap(values: Any) -> np.ndarray:
  """Values that miss an integer by rounding alone, put right: 0.1 * 30."""
  nearest = np.round(values)
  close = np.isclose(values, nearest, rtol=1e-12, atol=0)
  return np.where(close, nearest, values)


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 80 else f'{text[:77]}...'
