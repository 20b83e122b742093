"""The k largest of many numbers, and their median, without a sort.

The k-th largest is bracketed by a small sample and closed in on by counting
passes: about ten of them, against a sort of everything.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from htjax.checks import checked
from htjax.types import Array, ArrayLike

# Of the search for a k-th largest: how many entries are sampled for the first
# bracket, and after how many passes only halving closes it.
_SAMPLE = 1 << 14
_GUESSES = 16
# At most 127, so that a count of them fits a byte.
_GROUP = 16


@checked
@jax.jit
def largest(scores: Array, k: ArrayLike) -> Array:
  """Mask of the k largest scores, exactly k of them under ties.

  The k-th largest is bracketed by a small sample and closed in on by counting
  passes: about ten of them, against a sort of everything.

  Args:
    scores: non-negative floating array of any shape; NaN ranks highest.
    k: integer, traced; below 0 counts as 0, beyond the size as the size.

  Returns:
    Boolean array of the scores' shape; among equal scores the first in
    row-major order come first.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import compressibility
    >>> compressibility.largest(jnp.array([1.0, 3.0, 2.0]), 2).tolist()
    [False, True, True]
  """
  scores, k = jnp.asarray(scores), jnp.asarray(k)
  if not jnp.issubdtype(scores.dtype, jnp.floating):
    raise ValueError(f'scores must be floating, got {scores.dtype.name}')
  if k.shape != ():
    raise ValueError(f'k must be one number, got shape {k.shape}')
  if scores.size == 0:
    return jnp.zeros(scores.shape, bool)
  keys = _order_preserving_bits(jnp.abs(scores.reshape(-1)))
  k = jnp.clip(jnp.asarray(k, jnp.int32), 0, keys.size)
  cut, count = _cut(keys, k)

  def break_ties() -> Array:
    tied = keys == cut
    missing = k - (count - jnp.sum(tied, dtype=jnp.int32))
    return (keys > cut) | (
      tied & (jnp.cumsum(tied, dtype=jnp.int32) <= missing)
    )

  mask = lax.cond(count == k, lambda: keys >= cut, break_ties)
  return mask.reshape(scores.shape)


@checked
@jax.jit
def num_true(mask: Array) -> Array:
  """Number of True, int32 [], of a boolean array of any shape.

  XLA writes what it is to sum to memory first: bytes, summed in groups small
  enough for them, take half the time of 32-bit integers.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import compressibility
    >>> int(compressibility.num_true(jnp.array([True, False, True])))
    2
  """
  flat = jnp.asarray(mask).reshape(-1)
  whole = flat.size // _GROUP * _GROUP
  bits = flat[:whole].reshape(-1, _GROUP).astype(jnp.int8)
  counts = jnp.sum(bits, axis=1, dtype=jnp.int8)
  rest = jnp.sum(flat[whole:], dtype=jnp.int32)
  return jnp.sum(counts, dtype=jnp.int32) + rest


@checked
@jax.jit
def median(x: Array) -> Array:
  """Median of all entries, without a sort: shape [], the middle two averaged.

  Args:
    x: floating array of any shape, not empty; NaN ranks highest.

  Returns:
    Array [] of x's dtype.

  Raises:
    ValueError: x is empty or not floating.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import compressibility
    >>> float(compressibility.median(jnp.array([1.0, 9.0, 2.0, 4.0])))
    3.0
  """
  x = jnp.asarray(x).reshape(-1)
  if x.size == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(
      'x must be floating numbers, not empty, got '
      f'{x.dtype.name}{list(x.shape)}'
    )
  keys = _order_preserving_bits(x)
  upper_half = (x.size + 1) // 2
  cut, count = _cut(keys, jnp.int32(upper_half))
  upper = jnp.min(jnp.where(keys >= cut, x, jnp.inf))
  if x.size % 2:
    return upper
  below = jnp.max(jnp.where(keys < cut, x, -jnp.inf))
  # With ties at the cut, the next in order equals it.
  lower = jnp.where(count > upper_half, upper, below)
  return lower / 2 + upper / 2


def _order_preserving_bits(x: Array) -> Array:
  """Numbers as signed integers of the same order, all NaN equal and highest."""
  integer = jnp.int64 if x.dtype == jnp.float64 else jnp.int32
  highest = jnp.iinfo(integer).max
  bits = lax.bitcast_convert_type(x, integer)
  keys = jnp.where(bits < 0, bits ^ highest, bits)
  # One below the highest, so that some integer is above every key.
  return jnp.where(jnp.isnan(x), highest - 1, keys)


def _cut(keys: Array, k: Array) -> tuple[Array, Array]:
  """A cut t and the number of keys >= t: k of them, or else t is the k-th.

  Keeps a bracket low < high with #{keys >= low} >= k >= #{keys >= high}. The
  first cuts tried lie on either side of k in a sample, the next ones where
  linear interpolation expects k, or a standard deviation to either side;
  every third, and all after `_GUESSES`, halve the bracket.

  Args:
    keys: integers, none of them the highest of their type.
    k: int32 in [0, keys.size], traced.

  Returns:
    (t, count). If count is not k, it is more, and t is the k-th largest key.
  """
  sample = jnp.sort(keys[:: -(-keys.size // _SAMPLE)])
  real = jnp.float64 if keys.dtype == jnp.int64 else jnp.float32
  share = k.astype(real) / keys.size
  spread = 3 * jnp.sqrt(share * (1 - share) / sample.size)

  def sampled(side: int) -> Array:
    place = (1 - share + side * spread) * sample.size
    return sample[jnp.clip(place.astype(jnp.int32), 0, sample.size - 1)]

  def interpolated(state: Any, side: int) -> Array:
    _, low, high, more, fewer = state
    between = (more - fewer).astype(real)
    share = (more - k).astype(real) / between
    # Aim past the place by its standard deviation, until few keys are left.
    few = between < 32
    past = jnp.where(few, 0, jnp.sqrt(share * (1 - share) / between))
    share = jnp.clip(share + side * past, 1e-6, 1 - 1e-6)
    # Halves, since the width itself may not fit; the sum wraps around rightly.
    half = ((high >> 1) - (low >> 1)).astype(real)
    return low + 2 * (share * half).astype(keys.dtype)

  def halved(state: Any) -> Array:
    _, low, high, _, _ = state
    return (low & high) + ((low ^ high) >> 1)

  def unfinished(state: Any) -> Array:
    _, low, high, more, fewer = state
    return (more != k) & (fewer != k) & (low + 1 < high)

  def refine(state: Any) -> Any:
    i, low, high, more, fewer = state
    kind = jnp.where(i < 2, i, jnp.where(i < _GUESSES, 2 + (i - 2) % 3, 4))
    cut = lax.switch(
      kind,
      [
        lambda s: sampled(-1),
        lambda s: sampled(1),
        lambda s: interpolated(s, -1),
        lambda s: interpolated(s, 1),
        halved,
      ],
      state,
    )
    cut = jnp.clip(cut, low + 1, high - 1)
    count = num_true(keys >= cut)
    enough = count >= k
    return (
      i + 1,
      jnp.where(enough, cut, low),
      jnp.where(enough, high, cut),
      jnp.where(enough, count, more),
      jnp.where(enough, fewer, count),
    )

  start = (
    jnp.int32(0),
    jnp.min(keys),
    jnp.max(keys) + 1,
    jnp.int32(keys.size),
    jnp.int32(0),
  )
  _, low, high, more, fewer = lax.while_loop(unfinished, refine, start)
  use_high = (more != k) & (fewer == k)
  return jnp.where(use_high, high, low), jnp.where(use_high, fewer, more)
