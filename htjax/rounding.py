"""Rounding to narrow floating-point numbers that is right on average.

Rounded to nearest, an update below half the spacing of a weight's dtype is
lost, however often it comes. Rounded up or down with probabilities that have
the number as mean, many such updates add up to what they should on average,
with a variance of about update times spacing each that is the rounding's own.
Where there is room to keep what rounding lost, in float32, and to add it next
time, the sum has the law that it should: `landing`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from htjax.checks import check_key
from htjax.types import Array, PRNGKey

# Keys of a step from here on are for rounding, and not for draws of leaves.
ROUNDING = 1 << 31


def stochastic_round(key: PRNGKey, x: Array, dtype: Any) -> Array:
  """Round to one of the two neighbours in `dtype`, with mean x.

  Args:
    key: typed key.
    x: float32 or float64.
    dtype: a floating dtype with fewer bits, static.

  Returns:
    Array of x's shape and the dtype. Numbers that the dtype holds stay; those
    beyond its largest become that one.

  Raises:
    ValueError: a legacy key, or a dtype that is not narrower than x's.

  Values: NaN stays NaN.

  Source: Gupta, Agrawal, Gopalakrishnan & Narayanan (2015), "Deep Learning with
    Limited Numerical Precision", section 2.
  """
  key, dtype = check_key(key), jnp.dtype(dtype)
  if not is_narrower(dtype, x.dtype):
    raise ValueError(
      f'dtype must be floating with fewer bits than {x.dtype.name}, got '
      f'{dtype.name}'
    )
  return _stochastic_round(key, x, dtype)


@functools.partial(jax.jit, static_argnames='dtype')
def _stochastic_round(key: PRNGKey, x: Array, dtype: Any) -> Array:
  largest = jnp.finfo(dtype).max.astype(x.dtype)
  x = jnp.clip(x, -largest, largest)
  nearest = x.astype(dtype)
  rounded = nearest.astype(x.dtype)
  end = jnp.where(rounded > x, -largest, largest).astype(dtype)
  other = jnp.nextafter(nearest, end)
  gap = other.astype(x.dtype) - rounded
  share = (x - rounded) / jnp.where(gap == 0, 1, gap)
  away = jax.random.uniform(key, x.shape, x.dtype) < share
  return jnp.where(away, other, nearest)


def narrowed(key: PRNGKey, x: Array, dtype: Any) -> Array:
  """An array in a dtype, at random and right on average where it loses."""
  if not is_narrower(dtype, x.dtype):
    return x.astype(dtype)
  return stochastic_round(key, x, dtype)


def widened(x: Array) -> Array:
  """An array in float32 at least."""
  return x.astype(jnp.float32) if is_narrower(x.dtype, jnp.float32) else x


def nearest(x: Array, dtype: Any) -> Array:
  """The nearest number that a narrower dtype holds, in the array's own dtype.

  A conversion there and back does the same, unless the compiler takes it for
  nothing, which it is free to do.

  Args:
    x: float32.
    dtype: floating, of fewer bits, static.

  Returns:
    float32 array, ties to even; what is beyond the largest finite number is
    that number. Below 2^-119, where bfloat16 is finer, the spacing is 2^-126.
  """
  info = jnp.finfo(dtype)
  largest = info.max.astype(x.dtype)
  bits = lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0x7F800000)
  power = lax.bitcast_convert_type(bits, jnp.float32)
  least = max(2.0**info.minexp, 2.0 ** (info.nmant - 126))
  spacing = jnp.maximum(power, jnp.float32(least)) * 2.0**-info.nmant
  # Of infinity and NaN, which have no spacing, the number itself is kept.
  rounded = jnp.where(power < jnp.inf, jnp.round(x / spacing) * spacing, x)
  return jnp.clip(rounded, -largest, largest)


def landing(
  weight: Array, update: Array, lost: Array, dtype: Any
) -> tuple[Array, Array]:
  """An update after which a narrow weight is a number of its dtype.

  With e_t what rounding has lost so far, w_t + e_t moves by the update exactly
  as a weight in float32 would, and w_{t+1} is the number nearest to it.

  Args:
    weight: w_t, narrower than float32.
    update: float32.
    lost: e_t, float32, at most half a spacing of the weight.
    dtype: of the update that is returned, static.

  Returns:
    Update in `dtype` and e_{t+1}.
  """
  largest = jnp.finfo(weight.dtype).max.astype(update.dtype)
  start = weight.astype(update.dtype)
  end = jnp.clip(start + (lost + update), -largest, largest)
  move = nearest(end, weight.dtype) - start
  if is_narrower(dtype, update.dtype):
    move = nearest(move, dtype)
  return move.astype(dtype), end - nearest(start + move, weight.dtype)


def is_narrower(dtype: Any, other: Any) -> bool:
  """Whether both are floating and the first has fewer bits."""
  first, second = jnp.dtype(dtype), jnp.dtype(other)
  return (
    jnp.issubdtype(first, jnp.floating) and first.itemsize < second.itemsize
  )
