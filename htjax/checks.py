"""Checks of the arguments, which every public function makes.

Three kinds of bad input are told apart throughout the library: static faults
(shapes, counts, unknown names) raise `ValueError` at trace time; concrete
numbers raise `ValueError` when the function is called eagerly; traced numbers
are not looked at, and the docstring says what they give.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from htjax.floats import as_floating
from htjax.types import PRNGKey


def is_concrete(value: Any) -> bool:
  """Whether `value` is a number (or array) that can be looked at now."""
  return not isinstance(value, jax.core.Tracer)


def check_range(
  name: str,
  value: Any,
  low: float,
  high: float,
  *,
  open_low: bool = False,
  open_high: bool = False,
) -> None:
  """Raise if a concrete `value` has an entry outside the interval, or NaN."""
  if not is_concrete(value):
    return
  try:
    x = np.asarray(value)
  except (TypeError, ValueError):  # keys, ragged lists
    x = np.empty(0, object)
  if not any(jnp.issubdtype(x.dtype, d) for d in (jnp.integer, jnp.floating)):
    raise ValueError(f'{name} must be a real number, got {value!r}')
  above = x > low if open_low else x >= low
  below = x < high if open_high else x <= high
  if not np.all(above & below):
    interval = (
      f'{"(" if open_low else "["}{low:g}, {high:g}{")" if open_high else "]"}'
    )
    raise ValueError(f'{name} must lie in {interval}, got {_show(x)}')


def check_finite(name: str, value: Any) -> None:
  """Raise if a concrete `value` holds NaN or infinity."""
  if not is_concrete(value):
    return
  # A constant that a traced function closes over is looked at now, and an
  # array that is spread over several hosts is reduced where it lies.
  with jax.ensure_compile_time_eval():
    finite = bool(jnp.all(jnp.isfinite(as_floating(name, value, vanish=True))))
  if not finite:
    raise ValueError(f'{name} must be finite, got NaN or infinity')


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
  """Raise unless `value` is one of the named choices."""
  # An array would be compared with names entry by entry.
  named = value is None or isinstance(value, str)
  if not named or value not in choices:
    listed = ', '.join(repr(c) for c in choices)
    raise ValueError(f'{name} must be one of {listed}, got {value!r}')


def check_count(name: str, value: Any, low: int = 1) -> None:
  """Raise unless `value` is a Python integer of at least `low`."""
  if (
    isinstance(value, bool)
    or not isinstance(value, int | np.integer)
    or value < low
  ):
    raise ValueError(f'{name} must be an integer >= {low}, got {value!r}')


def check_key(key: Any, name: str = 'key') -> PRNGKey:
  """Return `key` if it is one typed key; refuse anything else by name."""
  if isinstance(key, jax.Array) and jnp.issubdtype(
    key.dtype, jax.dtypes.prng_key
  ):
    if key.shape != ():
      raise ValueError(
        f'{name} must be a single key, got an array of keys of shape '
        f'{key.shape}; vmap over them instead'
      )
    return key
  if getattr(key, 'dtype', None) == np.uint32:
    raise ValueError(
      f'{name} must be a typed key from jax.random.key(seed), got a legacy '
      'uint32 key; wrap it with jax.random.wrap_key_data'
    )
  raise ValueError(
    f'{name} must be a typed key from jax.random.key(seed), got {key!r}'
  )


def check_floating(name: str, dtype: Any) -> np.dtype:
  """Return `dtype` as float32 or float64, or raise."""
  try:
    dtype = jnp.dtype(dtype)
  except TypeError:
    raise ValueError(
      f'{name} must be float32 or float64, got {dtype!r}'
    ) from None
  if dtype not in (jnp.float32, jnp.float64):
    raise ValueError(f'{name} must be float32 or float64, got {dtype.name}')
  if dtype == jnp.float64 and not jax.config.read('jax_enable_x64'):
    raise ValueError(
      f'{name} is float64, which needs jax.enable_x64(True) around the call'
    )
  return dtype


def _show(x: np.ndarray) -> str:
  if x.ndim == 0:
    return f'{x.item()!r}'
  return f'an array with {x.min()}..{x.max()}'
