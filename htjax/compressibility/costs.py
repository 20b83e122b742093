"""The share of a norm that the smallest entries carry, at any scale.

Both norms of a share are taken relative to their own largest entry, so that
heavy tails neither overflow nor lose what is small.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.floats import magnitude_bits, to_unit_peak
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


def last_true(
  holds: Callable[[Array], Array], size: int, dtype: Any = jnp.int32
) -> Array:
  """Largest m in [0, size] at which a predicate true up to there holds.

  holds(0) is taken for granted; m is an integer of the dtype.
  """

  def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
    low, high = bounds
    middle = low + (high - low + 1) // 2
    yes = holds(middle)
    return jnp.where(yes, middle, low), jnp.where(yes, high, middle - 1)

  bounds = (jnp.asarray(0, dtype), jnp.asarray(size, dtype))
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


def num_removable_of_spread(
  norms: Array, tolerance: ArrayLike, squared: bool, p: float
) -> Array:
  """The largest m of which the m smallest cost at most the tolerance.

  Nothing is sorted: the costs of all below a cut are summed where they lie, in
  float64, and the cut is closed in on by its bits.

  Args:
    norms: non-negative, any shape, spread over devices.
    tolerance: share of the whole that may be lost.
    squared: whether shares are p-th powers.
    p: order of the norm.

  Returns:
    int32 []; 0 if a norm is NaN or infinite.
  """
  tolerance = jnp.asarray(tolerance, norms.dtype)
  with jax.enable_x64(True):
    return _num_removable_of_spread(norms, tolerance, squared, p)


@functools.partial(jax.jit, static_argnames=('squared', 'p'))
def _num_removable_of_spread(
  norms: Array, tolerance: Array, squared: bool, p: float
) -> Array:
  norms, _ = to_unit_peak(norms)
  keys, wide = magnitude_bits(norms), norms.astype(jnp.float64)
  limits, size = jnp.finfo(norms.dtype), norms.size
  highest = jnp.max(wide)
  unit = jnp.where(highest == 0, 1, highest)
  total = jnp.sum(raised(wide / unit, p))

  def is_within(peak: Array, removed: Array, num: Array) -> Array:
    """Whether so many may go, of a peak, and of a sum relative to it."""
    share = removed / jnp.where(total == 0, 1, total)
    if squared:
      cost = raised(peak / unit, p) * share
    else:
      cost = peak / unit * root(share, p)
    # As in `removal_cost`.
    cost = jnp.where(num >= size, jnp.sign(total), cost)
    least = jnp.where(removed > 0, limits.tiny, 0)
    return jnp.clip(cost, least, 1).astype(norms.dtype) <= tolerance

  def below(cut: Array) -> tuple[Array, Array, Array]:
    """Peak, sum relative to it, and number of what is below a cut."""
    inside = keys < cut
    peak = jnp.max(jnp.where(inside, wide, 0))
    shares = wide / jnp.where(peak == 0, 1, peak)
    removed = jnp.sum(raised(jnp.where(inside, shares, 0), p))
    return peak, removed, jnp.sum(inside, dtype=jnp.int32)

  beyond = int(np.asarray(np.inf, norms.dtype).view(keys.dtype))
  cut = last_true(lambda c: is_within(*below(c)), beyond, keys.dtype)
  peak, removed, num = below(cut)
  # Of those at the cut, which are equal, some may go as well.
  at = keys == cut
  value = jnp.max(jnp.where(at, wide, 0))
  before = removed * raised(peak / jnp.where(value == 0, 1, value), p)
  more = last_true(
    lambda m: is_within(value, before + m, num + m),
    size,
  )
  more = jnp.minimum(more, jnp.sum(at, dtype=jnp.int32))
  # A largest one over devices may lose a NaN.
  finite = jnp.all(jnp.isfinite(wide))
  return jnp.where(finite, num + more, 0).astype(jnp.int32)
