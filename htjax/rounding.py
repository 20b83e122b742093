"""Rounding to narrow floating-point numbers that is right on average.

Rounded to nearest, an update below half the spacing of a weight's dtype is
lost, however often it comes. Rounded up or down with probabilities that have
the number as mean, the sum of many such updates has the law that it should.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from htjax.checks import check_key
from htjax.types import Array, PRNGKey


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


def is_narrower(dtype: Any, other: Any) -> bool:
  """Whether both are floating and the first has fewer bits."""
  first, second = jnp.dtype(dtype), jnp.dtype(other)
  return (
    jnp.issubdtype(first, jnp.floating) and first.itemsize < second.itemsize
  )
