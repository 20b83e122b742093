"""The k largest of many numbers, and their median, without a sort.

The k-th largest is bracketed by a small sample and closed in on by counting
passes: about ten of them, against a sort of everything.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from htjax import host
from htjax.checks import checked
from htjax.compressibility.costs import last_true
from htjax.host import Working, is_spread, on_host, to_device
from htjax.types import Array, ArrayLike

# Of the search for a k-th largest: how many entries are sampled for the first
# bracket, and after how many passes only halving closes it.
_SAMPLE = 1 << 14
_GUESSES = 16
# At most 127, so that a count of them fits a byte.
_GROUP = 16


@checked
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
  if on_host(scores, k):
    count = min(max(int(k), 0), scores.size)
    return to_device(host_largest(np.asarray(scores), count))
  if is_spread(scores):
    return largest_of_spread([scores], k)[0]
  return _largest(scores, k)


@jax.jit
def largest_of_spread(scores: Sequence[Array], k: ArrayLike) -> list[Array]:
  """`largest` of several arrays together, each of which stays where it is.

  Only counts go from device to device. Ties are broken by counts as well, of
  those before a place.

  Args:
    scores: arrays of one dtype, spread over the devices of one mesh.
    k: number of entries that are marked, of all arrays together; traced.

  Returns:
    Masks of the arrays' shapes. Of equal scores those of the first array come
    first, in row-major order.
  """
  keys = [_order_preserving_bits(jnp.abs(s)) for s in scores]
  total = sum(s.size for s in scores)
  k = jnp.clip(jnp.asarray(k, jnp.int32), 0, total)
  cut, count = _cut(keys, k)

  def break_ties() -> list[Array]:
    before = itertools.accumulate((s.size for s in scores), initial=0)
    places = [_places(s.shape, b) for s, b in zip(scores, before, strict=False)]
    tied = [x == cut for x in keys]
    missing = k - (count - _num_spread(tied))

    def are_few(end: Array) -> Array:
      pairs = zip(tied, places, strict=True)
      return _num_spread([t & (p < end) for t, p in pairs]) <= missing

    end = last_true(are_few, total)
    triples = zip(keys, tied, places, strict=True)
    return [(x > cut) | (t & (p < end)) for x, t, p in triples]

  return lax.cond(count == k, lambda: [x >= cut for x in keys], break_ties)


@jax.jit
def _largest(scores: Array, k: Array) -> Array:
  keys = _order_preserving_bits(jnp.abs(scores.reshape(-1)))
  k = jnp.clip(jnp.asarray(k, jnp.int32), 0, keys.size)
  cut, count = _cut([keys], k, _guesses(keys, k))

  def break_ties() -> Array:
    tied = keys == cut
    missing = k - (count - jnp.sum(tied, dtype=jnp.int32))
    return (keys > cut) | (
      tied & (jnp.cumsum(tied, dtype=jnp.int32) <= missing)
    )

  mask = lax.cond(count == k, lambda: keys >= cut, break_ties)
  return mask.reshape(scores.shape)


@checked
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
  if is_spread(mask):
    return _num_spread([mask])
  return _num_true(jnp.asarray(mask))


@jax.jit
def _num_true(mask: Array) -> Array:
  flat = mask.reshape(-1)
  whole = flat.size // _GROUP * _GROUP
  bits = flat[:whole].reshape(-1, _GROUP).astype(jnp.int8)
  counts = jnp.sum(bits, axis=1, dtype=jnp.int8)
  rest = jnp.sum(flat[whole:], dtype=jnp.int32)
  return jnp.sum(counts, dtype=jnp.int32) + rest


@checked
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
  working: Any = np.asarray(x) if on_host(x) else jnp.asarray(x)
  x = working
  if x.size == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(
      'x must be floating numbers, not empty, got '
      f'{x.dtype.name}{list(x.shape)}'
    )
  if on_host(x):
    return to_device(host.median(x.reshape(-1)))
  return _median(x, is_spread(x))


@functools.partial(jax.jit, static_argnames='spread')
def _median(x: Array, spread: bool) -> Array:
  x = x if spread else x.reshape(-1)
  keys = _order_preserving_bits(x)
  upper_half = jnp.int32((x.size + 1) // 2)
  first = None if spread else _guesses(keys, upper_half)
  cut, count = _cut([keys], upper_half, first)
  upper = jnp.min(jnp.where(keys >= cut, x, jnp.inf))
  if x.size % 2:
    return upper
  below = jnp.max(jnp.where(keys < cut, x, -jnp.inf))
  # With ties at the cut, the next in order equals it.
  lower = jnp.where(count > upper_half, upper, below)
  return lower / 2 + upper / 2


def top_of_spread(x: Array, count: int) -> Working:
  """The `count` largest |x|, descending, of an array spread over devices.

  Each device finds as many of its own, and those meet: no more than `count`
  numbers of each device are sent.

  Args:
    x: floating, spread over the devices of a mesh, without NaN.
    count: at most x.size.

  Returns:
    [count], on one device of each host; of NumPy where that is to do the work.
  """
  sharding: Any = x.sharding
  found = _top_of_spread(x, count, sharding.mesh, sharding.spec)
  here: Any = found.addressable_data(0)
  if on_host(here):
    here = np.asarray(here)
  return here


@functools.partial(jax.jit, static_argnames=('count', 'mesh', 'spec'))
def _top_of_spread(
  x: Array, count: int, mesh: Mesh, spec: PartitionSpec
) -> Array:
  axes = tuple(a for part in spec for a in np.ravel(part) if a is not None)

  def meet(part: Array) -> Array:
    flat = jnp.abs(part.reshape(-1))
    own = lax.top_k(flat, min(count, flat.size))[0]
    # Without it XLA on CPU sorts all of the part.
    own = lax.optimization_barrier(own)
    every = lax.all_gather(own, axes, tiled=True)
    return lax.top_k(every, count)[0]

  return jax.shard_map(
    meet,
    mesh=mesh,
    in_specs=spec,
    out_specs=PartitionSpec(),
    check_vma=False,
  )(x)


def host_largest(scores: Any, k: int) -> np.ndarray:
  """`largest` by NumPy, 0 <= k <= scores.size."""
  flat = np.abs(scores.reshape(-1))
  if k in (0, flat.size):
    return np.full(scores.shape, k > 0)
  cut = np.partition(flat, flat.size - k)[flat.size - k]
  if np.isnan(cut):
    mask, tied = np.zeros(flat.shape, bool), np.isnan(flat)
  else:
    # NaN, which compares with nothing, is above the cut.
    mask, tied = ~(flat <= cut), flat == cut
  missing = k - np.count_nonzero(mask)
  mask[np.flatnonzero(tied)[:missing]] = True
  return mask.reshape(scores.shape)


def _order_preserving_bits(x: Array) -> Array:
  """Numbers as signed integers of the same order, all NaN equal and highest."""
  integer = jnp.int64 if x.dtype == jnp.float64 else jnp.int32
  highest = jnp.iinfo(integer).max
  bits = lax.bitcast_convert_type(x, integer)
  keys = jnp.where(bits < 0, bits ^ highest, bits)
  # One below the highest, so that some integer is above every key.
  return jnp.where(jnp.isnan(x), highest - 1, keys)


def _guesses(keys: Array, k: Array) -> Array:
  """[2], cuts on either side of the k-th largest of [n], by a sample."""
  sample = jnp.sort(keys[:: -(-keys.size // _SAMPLE)])
  real = jnp.float64 if keys.dtype == jnp.int64 else jnp.float32
  share = k.astype(real) / keys.size
  spread = 3 * jnp.sqrt(share * (1 - share) / sample.size)
  places = (1 - share + jnp.array([-1, 1], real) * spread) * sample.size
  return sample[jnp.clip(places.astype(jnp.int32), 0, sample.size - 1)]


def _cut(
  keys: Sequence[Array], k: Array, first: Array | None = None
) -> tuple[Array, Array]:
  """A cut t and the number of keys >= t: k of them, or else t is the k-th.

  Keeps a bracket low < high with #{keys >= low} >= k >= #{keys >= high}. The
  first cuts tried are given, the next ones lie where linear interpolation
  expects k, or a standard deviation to either side; every third, and all after
  `_GUESSES`, halve the bracket.

  Args:
    keys: arrays of integers, none of them the highest of their type. Without
      `first` they may be spread over devices, and stay where they are.
    k: int32, from 0 to the number of keys, traced.
    first: None or [2], cuts to try first, of a sample.

  Returns:
    (t, count). If count is not k, it is more, and t is the k-th largest key.
  """
  dtype, total = keys[0].dtype, sum(x.size for x in keys)
  real = jnp.float64 if dtype == jnp.int64 else jnp.float32

  num = _num_spread if first is None else lambda masks: _num_true(*masks)

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
    return low + 2 * (share * half).astype(dtype)

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
        lambda s: halved(s) if first is None else first[0],
        lambda s: halved(s) if first is None else first[1],
        lambda s: interpolated(s, -1),
        lambda s: interpolated(s, 1),
        halved,
      ],
      state,
    )
    cut = jnp.clip(cut, low + 1, high - 1)
    count = num([x >= cut for x in keys])
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
    functools.reduce(jnp.minimum, map(jnp.min, keys)),
    functools.reduce(jnp.maximum, map(jnp.max, keys)) + 1,
    jnp.int32(total),
    jnp.int32(0),
  )
  _, low, high, more, fewer = lax.while_loop(unfinished, refine, start)
  use_high = (more != k) & (fewer == k)
  return jnp.where(use_high, high, low), jnp.where(use_high, fewer, more)


@jax.jit
def _num_spread(masks: Sequence[Array]) -> Array:
  """Number of True in all of them, summed where they lie."""
  return sum(jnp.sum(m, dtype=jnp.int32) for m in masks) + jnp.int32(0)


def _places(shape: Sequence[int], before: int) -> Array:
  """The place of each entry in row-major order, `before` of the first."""
  places, step = jnp.full(shape, before, jnp.int32), 1
  for axis in reversed(range(len(shape))):
    place = lax.broadcasted_iota(jnp.int32, shape, axis)
    places, step = places + step * place, step * shape[axis]
  return places
