"""The share of a norm that the smallest entries carry, at any scale.

Both norms of a share are taken relative to their own largest entry, so that
heavy tails neither overflow nor lose what is small.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from htjax.types import Array, ArrayLike


def removal_cost(
  ascending: Array, p: float, *, power: bool = False
) -> Callable[[Array], Array]:
  """The function m -> |m smallest|_p / |all|_p, or the p-th power of that.

  Both norms are relative to their own largest entry, so nothing under- or
  overflows, and shares of equal entries are exact. 0 / 0 is 0; the cost of
  nonzero entries is above 0; it is NaN if an entry is NaN or infinite.
  """
  highest, total = _scaled_sum(ascending, ascending.size, p)
  finite = jnp.isfinite(highest)

  def cost(m: Array) -> Array:
    peak, removed = _scaled_sum(ascending, m, p)
    peaks = peak / jnp.where(highest == 0, 1, highest)
    sums = removed / jnp.where(total == 0, 1, total)
    value = raised(peaks, p) * sums if power else peaks * root(sums, p)
    # The whole costs 1, in whatever order it was summed.
    value = jnp.where(m >= ascending.size, jnp.sign(total), value)
    # What is not nothing must not come free where its share underflows.
    least = jnp.where(removed > 0, jnp.finfo(value.dtype).tiny, 0)
    return jnp.where(finite, jnp.clip(value, least, 1), jnp.nan)

  return cost


def last_true(holds: Callable[[Array], Array], size: int) -> Array:
  """Largest m in [0, size] at which a predicate true up to there holds.

  holds(0) is taken for granted.
  """

  def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
    low, high = bounds
    middle = low + (high - low + 1) // 2
    yes = holds(middle)
    return jnp.where(yes, middle, low), jnp.where(yes, high, middle - 1)

  bounds = (jnp.int32(0), jnp.int32(size))
  return lax.fori_loop(0, size.bit_length(), halve, bounds)[0]


def _scaled_sum(
  ascending: Array, m: ArrayLike, p: float
) -> tuple[Array, Array]:
  """Largest of the m smallest entries, and the sum of (entry / largest)^p."""
  peak = ascending[jnp.maximum(m - 1, 0)]
  inside = jnp.arange(ascending.size, dtype=jnp.int32) < m
  share = jnp.where(inside, ascending / jnp.where(peak == 0, 1, peak), 0)
  return peak, jnp.sum(raised(share, p))


def raised(x: Array, p: float) -> Array:
  """x^p of x >= 0, at p = 1 and 2 without a logarithm."""
  return x if p == 1 else x * x if p == 2 else x**p


def root(x: Array, p: float) -> Array:
  """x^(1/p) of x >= 0, at p = 1 and 2 without a logarithm."""
  return x if p == 1 else jnp.sqrt(x) if p == 2 else x ** (1 / p)
