"""Tail index from sums, or from maxima, of blocks of samples.

A sum of m independent strictly stable vectors is m^(1/alpha) times one of
them in law, so that log|sum| grows by log(m) / alpha. Blocks do not overlap:
each gives one independent estimate of 1/alpha, and the spread of those is the
standard error, with the dependence between a sum and its terms inside.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Float, Shaped

from htjax import parts
from htjax.checks import check_count, check_finite, checked, is_concrete
from htjax.floats import split, times_power_of_two, to_unit_peak
from htjax.host import Working, is_spread, on_host, to_device
from htjax.tail_index.estimate import (
  TailEstimate,
  check_cap,
  check_determined,
  host_estimate,
  make_estimate,
  two_sided_p_value,
  working_samples,
)
from htjax.types import Array, ArrayLike

# Rows below this length are multiplied faster all at once than one by one.
_SHORT = 32
# Exponent of an extreme peak after scaling.
_PEAK = 40


@checked
def mmo(
  x: Shaped[ArrayLike, 'K d'],
  block: int | None = None,
  *,
  cap: float | None = None,
) -> TailEstimate:
  """Tail index of strictly stable vectors, from the norms of block sums.

  1/alpha = (mean_i log|Y_i| - mean_j log|X_j|) / log(block), with Y_i the sum
  of the i-th `block` consecutive vectors. Whether the vectors are symmetric,
  isotropic or have independent entries does not matter, but they must be
  centred: a shift pulls alpha towards 1.

  Args:
    x: [K, d], one vector per row, independent and centred.
    block: vectors per sum, static, a divisor of K, 2 <= block <= K / 2. None
      is m^2 with the largest m for which m^4 <= K, and leaves out the last
      K mod m^2 vectors.
    cap: None, or the largest alpha to return (the papers take 2), > 0.

  Returns:
    TailEstimate. `num_used` is the number of blocks. The standard error holds
    for any law of the vectors, in the limit of many blocks; it includes that a
    sum depends on its terms, which lowers it below the value for independent
    sums and terms. `p_value` is of the hypothesis that log|Y| grows as fast
    from 1 to m vectors as from m to `block`, m the divisor of `block` nearest
    its root, as it does for a stable law and no other; NaN if `block` is prime.

  Raises:
    ValueError: x not [K, d], fewer than 16 vectors and no block, block not a
      divisor or out of range, cap not positive; concrete x with NaN or
      infinity, or constant.

  Values: zero vectors, which have no logarithm, are left out of the means.
    Traced NaN or infinity gives NaN.

  Source: [HT], eq. (S1) and Theorem S5; [Mohammadi2015].

  Examples:
    >>> import jax
    >>> from htjax import stable, tail_index
    >>> key = jax.random.key(0)
    >>> x = stable.sample_vectors(key, 1.5, (10_000, 3), kind='type3')
    >>> estimate = tail_index.mmo(x)
    >>> bool(abs(estimate.alpha - 1.5) < 4 * estimate.standard_error)
    True
  """
  check_cap(cap)
  x = working_samples('x', x, 2, 4 if block else 16, finite=False)
  block = check_block(block, x.shape[0])
  if is_spread(x):
    return _cap(_spread_mmo(x, block, 1), cap)
  return _cap(_checked_mmo(x, block), cap)


@checked
def mmo_univariate(
  x: Shaped[ArrayLike, '...'],
  block: int | None = None,
  *,
  cap: float | None = None,
) -> TailEstimate:
  """Tail index of strictly stable numbers, from block sums; see `mmo`.

  For independent symmetric stable x the standard error of 1/alpha is, to
  leading order, sqrt(pi^2 (1/alpha^2 + 1/2) / (6 n / block)) / log(block).

  Args:
    x: any shape, taken in row-major order; independent and centred.
    block: numbers per sum, static, a divisor of x.size, 2 <= block <=
      x.size / 2. None is m^2 with the largest m for which m^4 <= x.size, and
      leaves out the last numbers.
    cap: None, or the largest alpha to return (the papers take 2), static.

  Returns:
    TailEstimate, whose fields mean what they do for `mmo`.

  Raises:
    ValueError: fewer than 16 numbers and no block, block not a divisor or out
      of range; concrete x with NaN or infinity, or constant.

  Values: zeros, which have no logarithm, are left out of the means. Traced NaN
    or infinity gives NaN.

  Source: [HT], eq. (S1) and Theorem S5, with |.| in place of the norm;
    [Mohammadi2015].

  Examples:
    >>> import jax
    >>> from htjax import stable, tail_index
    >>> x = stable.sample(jax.random.key(0), 1.5, (10_000,))
    >>> estimate = tail_index.mmo_univariate(x)
    >>> bool(abs(estimate.alpha - 1.5) < 4 * estimate.standard_error)
    True
  """
  check_cap(cap)
  x = working_samples('x', x, 1, 4 if block else 16, finite=False, stays=True)
  block = check_block(block, x.size)
  if is_spread(x):
    return _cap(_spread_mmo(x, block, x.ndim), cap)
  return _cap(_checked_mmo(x[:, None], block), cap)


@checked
def max_ratio(
  x: Shaped[ArrayLike, '...'], block: int | None = None
) -> TailEstimate:
  """Tail index from the two largest |x| of each block.

  With r_i the second largest over the largest of block i, E r = alpha /
  (1 + alpha) in the limit of large blocks of any law with a regular tail.

  Args:
    x: any shape, taken in row-major order; independent.
    block: numbers per block, static, a divisor of x.size, 2 <= block <=
      x.size / 2. None is m^2 with the largest m for which m^4 <= x.size.

  Returns:
    TailEstimate without a test of fit. `num_used` is the number of blocks; the
    standard error holds in the limit of many blocks, and leaves out the bias
    of blocks too small for the tail.

  Raises:
    ValueError: as `mmo`.

  Values: traced NaN gives NaN; a block of zeros gives NaN.

  Source: [Davydov2000], with the authors' estimator of the tail index p / (1 -
    p).

  Examples:
    >>> import jax
    >>> from htjax import stable, tail_index
    >>> x = stable.sample(jax.random.key(0), 1.5, (10_000,))
    >>> estimate = tail_index.max_ratio(x)
    >>> bool(abs(estimate.alpha - 1.5) < 4 * estimate.standard_error)
    True
  """
  x = working_samples('x', x, 1, 4 if block else 16, stays=True)
  block = check_block(block, x.size)
  num = x.size // block
  if is_spread(x):
    known = _max_ratio_of_parts(to_unit_peak(x)[0], block, *parts.layout(x))
    estimate = make_estimate(**parts.here(known), num_used=num)
  elif on_host(x):
    estimate = host_estimate(
      *(host_max_ratio, x, block), num_used=num, dtype=x.dtype
    )
  else:
    estimate = make_estimate(**_max_ratio(x, block), num_used=num)
  return check_determined('x', estimate)


def check_block(block: int | None, num: int) -> int:
  """The block size that stands for `block`, which must divide `num`."""
  if block is None:
    return math.isqrt(math.isqrt(num)) ** 2
  check_count('block', block, 2)
  if num % block or block > num // 2:
    raise ValueError(
      f'block must divide the number of samples, {num}, at least twice, got '
      f'{block}'
    )
  return int(block)


def _cap(estimate: TailEstimate, cap: float | None) -> TailEstimate:
  return estimate if cap is None else estimate.capped(cap)


def _checked_mmo(x: Working, block: int) -> TailEstimate:
  """`_mmo` of x, in another unit where squares would leave the range.

  Estimates do not depend on the unit. Concrete samples are looked at for NaN
  and infinity only where something came out NaN.
  """
  num_blocks = x.shape[0] // block
  # What no block holds is looked at as well.
  if is_concrete(x) and x.shape[0] % block:
    check_finite('x', x[num_blocks * block :])
  if on_host(x):
    estimate = host_estimate(
      lambda xp: mmo_at(x, [block])[0], num_used=num_blocks, dtype=x.dtype
    )
    return check_determined('x', estimate, x)
  low, high = _limits(x.dtype)
  if not is_concrete(x):
    known, _ = _mmo(_in_range(x), block)
    return make_estimate(**known, num_used=num_blocks)
  known, (least, peak) = _mmo(x, block)
  # A vector of subnormal numbers has been taken for zero.
  if least == 0 or not low < peak < high:
    known, _ = _mmo(_in_range(x), block)
  estimate = make_estimate(**known, num_used=num_blocks)
  return check_determined('x', estimate, x)


def _spread_mmo(x: Array, block: int, num_axes: int) -> TailEstimate:
  """`_checked_mmo` of an array that is spread over devices, where it lies.

  Args:
    x: [K, d], or numbers of any shape.
    block: samples in a block.
    num_axes: axes of x that count samples; the others are those of a vector.
  """
  check_finite('x', x)
  scaled = _in_range(x)
  with jax.enable_x64(True):
    known = _mmo_of_parts(scaled, block, num_axes, *parts.layout(x))
  num = math.prod(x.shape[:num_axes])
  known = {n: to_device(a, x.dtype) for n, a in parts.here(known).items()}
  estimate = make_estimate(**known, num_used=num // block)
  return check_determined('x', estimate)


def _limits(dtype: Any) -> tuple[float, float]:
  """Between these the squares of sums of the largest entries are in range."""
  limits = jnp.finfo(dtype)
  return float(limits.tiny) ** 0.25, float(limits.max) ** 0.25


@jax.jit
def _in_range(x: Working) -> Array:
  """x, with an extreme peak near 2^40, from where squares do not overflow."""
  low, high = _limits(x.dtype)
  x, moved = to_unit_peak(x)
  peak = jnp.max(jnp.abs(x))
  extreme = (moved != 0) | ~((low < peak) & (peak < high))
  shift = jnp.where(extreme, _PEAK - split(peak)[1], 0)
  return x * times_power_of_two(jnp.ones_like(peak), shift)


@functools.partial(jax.jit, static_argnames='block')
def _mmo(x: Array, block: int) -> tuple[dict[str, Array], tuple[Array, Array]]:
  """The estimate, the least norm, and the largest entry."""
  num_blocks = x.shape[0] // block
  x = x[: num_blocks * block]
  # Two passes that vectorise, where one over |x| does not.
  peak = jnp.maximum(jnp.max(x), -jnp.min(x))
  inner = _middle_divisor(block)

  def sums(vectors: Array, size: int) -> Array:
    return jnp.sum(vectors.reshape(-1, size, x.shape[1]), axis=1)

  def logs(norms: Array) -> Array:
    """Mean over each block of the logarithms of its vectors' norms."""
    return jnp.mean(_logarithms(norms).reshape(num_blocks, -1), axis=1)

  # Written out, for else the sums are made again inside the next ones.
  middle = lax.optimization_barrier(sums(x, inner))
  norms = _norms(x)
  one, some = logs(norms), logs(_norms(middle))
  all_ = logs(_norms(sums(middle, block // inner)))
  return _growth(one, some, all_, block), (jnp.min(norms), peak)


@functools.partial(
  jax.jit, static_argnames=('block', 'num_axes', 'mesh', 'spec')
)
def _mmo_of_parts(
  x: Array, block: int, num_axes: int, mesh: Mesh, spec: PartitionSpec
) -> dict[str, Array]:
  """The estimate, in float64; sums of the parts of blocks are sent."""
  num_blocks = math.prod(x.shape[:num_axes]) // block
  over, across = spec[:num_axes], parts.axes_of(spec[num_axes:])
  names, inner = parts.axes_of(over), _middle_divisor(block)

  def kernel(part: Array) -> dict[str, Array]:
    vectors = part.reshape(*part.shape[:num_axes], -1)
    place = parts.places(vectors[..., 0], PartitionSpec(*over)).reshape(-1)
    vectors = vectors.reshape(place.size, -1).astype(jnp.float64)

    def sums(size: int) -> Array:
      num = num_blocks * block // size
      return parts.sums(vectors, place // size, num, names)

    def norms(vectors: Array) -> Array:
      return jnp.sqrt(lax.psum(jnp.sum(vectors**2, axis=1), across))

    def logs(norms: Array, place: Array, size: int) -> Array:
      """Mean over each block of the logarithms of its norms."""
      known = norms != 0
      values = jnp.log(jnp.where(known, norms, 1))
      both = jnp.stack([values, known.astype(values.dtype)], axis=1)
      spread = names if size == 1 else ()
      in_block = parts.sums(both, place * size // block, num_blocks, spread)
      total, num = in_block[:, 0], in_block[:, 1]
      # A zero gets the mean of the others.
      mean = jnp.sum(total) / jnp.sum(num)
      per_block = block // size
      return (total + (per_block - num) * mean) / per_block

    def of_sums(size: int) -> Array:
      return logs(
        norms(sums(size)), jnp.arange(num_blocks * block // size), size
      )

    one = logs(norms(vectors), place, 1)
    some = one if inner == 1 else of_sums(inner)
    return _growth(one, some, of_sums(block), block)

  return parts.on_parts(kernel, mesh, spec, x)


def _growth(
  one: Any, some: Any, all_: Any, block: int, xp: Any = jnp
) -> dict[str, Any]:
  """The estimate from each block's mean logarithms of norms.

  Args:
    one: of its vectors.
    some: of their sums over the middle divisor.
    all_: of its sum.
    block: vectors in it.
    xp: `jax.numpy` or `numpy`.
  """
  inner = _middle_divisor(block)
  inverse, error = _mean_and_error((all_ - one) / math.log(block), xp)
  alpha = 1 / inverse
  known = {'alpha': alpha, 'standard_error': alpha**2 * error}
  if inner > 1:
    growth = (some - one) / math.log(inner)
    change, spread = _mean_and_error(
      (all_ - some) / math.log(block // inner) - growth, xp
    )
    known['p_value'] = two_sided_p_value(change / spread, xp)
  return known


def mmo_at(x: Any, blocks: Sequence[int]) -> list[dict[str, Any]]:
  """The fields that `_mmo` knows of [K, d] at several block sizes, by NumPy.

  Sums over many vectors are made of those over few. Nothing is checked, and
  what is zero is divided by.
  """
  norms = _host_norms(x)
  low, high = _limits(x.dtype)
  if not low < np.max(norms) < high:
    x = np.asarray(_in_range(x))
    norms = _host_norms(x)
  sums, logs = {1: x}, {1: np.log(norms)}

  def logs_at(size: int) -> np.ndarray:
    if size not in logs:
      part = max(s for s in sums if size % s == 0)
      sums[size] = _host_sums(sums[part], size // part)
      logs[size] = np.log(_host_norms(sums[size]))
    return logs[size]

  def means(size: int, block: int) -> Any:
    num = x.shape[0] // block
    used = logs_at(size)[: num * block // size]
    # NaN stays, and is found where the estimate is NaN.
    known = ~np.isneginf(used)
    if not np.all(known):
      used = np.where(known, used, np.mean(used[known]))
    return np.mean(used.reshape(num, -1), axis=1, dtype=np.float64)

  found = {}
  for block in sorted(set(blocks)):
    sizes = (1, _middle_divisor(block), block)
    one, some, all_ = (means(size, block) for size in sizes)
    found[block] = _growth(one, some, all_, block, np)
  return [found[block] for block in blocks]


def _host_sums(x: Any, size: int) -> np.ndarray:
  num, dim = x.shape[0] // size, x.shape[1]
  if dim == 1:
    return np.sum(x[: num * size].reshape(num, size), axis=1)[:, None]
  return np.sum(x[: num * size].reshape(num, size, dim), axis=1)


def _host_norms(vectors: Any) -> np.ndarray:
  """The norm of each row."""
  dim = vectors.shape[1]
  if dim == 1:
    return np.abs(vectors[:, 0])
  if dim < _SHORT:
    squares = np.einsum('ij,ij->i', vectors, vectors)
  else:
    squares = np.vecdot(vectors, vectors)
  enough = squares > np.finfo(squares.dtype).tiny * 1e3
  if np.all(enough):
    return np.sqrt(squares)
  peaks = np.max(np.abs(vectors), axis=1)
  return np.where(enough, np.sqrt(squares), peaks)


@functools.partial(jax.jit, static_argnames='block')
def _max_ratio(x: Float[Array, ' n'], block: int) -> dict[str, Array]:
  x, _ = to_unit_peak(x)
  num_blocks = x.size // block
  blocks = jnp.abs(x[: num_blocks * block]).reshape(num_blocks, block)
  return _ratio_of_pairs(lax.top_k(blocks, 2)[0])


@functools.partial(jax.jit, static_argnames=('block', 'mesh', 'spec'))
def _max_ratio_of_parts(
  x: Array, block: int, mesh: Mesh, spec: PartitionSpec
) -> dict[str, Array]:
  """`_max_ratio`; three numbers of each block are sent."""
  num_blocks, names = x.size // block, parts.axes_of(spec)

  def kernel(part: Array) -> dict[str, Array]:
    segment = parts.places(part, spec).reshape(-1) // block
    sizes = jnp.abs(part.reshape(-1))

    def largest(values: Array) -> Array:
      own = jax.ops.segment_max(
        values, segment, num_segments=num_blocks, indices_are_sorted=True
      )
      return lax.pmax(jnp.maximum(own, 0), names)

    first = largest(sizes)
    is_first = sizes == first[jnp.minimum(segment, num_blocks - 1)]
    num = parts.sums(is_first.astype(jnp.int32), segment, num_blocks, names)
    second = largest(jnp.where(is_first, 0, sizes))
    second = jnp.where(num > 1, first, second)
    return _ratio_of_pairs(jnp.stack([first, second], axis=1))

  return parts.on_parts(kernel, mesh, spec, x)


def _ratio_of_pairs(pairs: Any, xp: Any = jnp) -> dict[str, Any]:
  """alpha and its standard error from the two largest of each block."""
  ratio, error = _mean_and_error(pairs[:, 1] / pairs[:, 0], xp)
  return {
    'alpha': ratio / (1 - ratio),
    'standard_error': error / (1 - ratio) ** 2,
  }


def host_max_ratio(x: Any, block: int, xp: Any) -> dict[str, Any]:
  """`_max_ratio` by NumPy."""
  num = x.size // block
  blocks = np.abs(x[: num * block]).reshape(num, block)
  two = np.partition(blocks, block - 2, axis=1)[:, block - 2 :]
  pairs = [np.max(two, axis=1), np.min(two, axis=1)]
  return _ratio_of_pairs(np.stack(pairs, axis=1).astype(np.float64), xp)


def _norms(vectors: Float[Array, 'K d']) -> Float[Array, ' K']:
  """The norm of each row."""
  # A product, which runs at the speed of memory where a sum over rows does not.
  ones = jnp.ones(vectors.shape[1], vectors.dtype)
  squares = jnp.matmul(vectors**2, ones, precision=lax.Precision.HIGHEST)
  enough = squares > jnp.finfo(squares.dtype).tiny * 1e3
  # Where the squares vanish, the largest entry stands for the norm.
  return lax.cond(
    jnp.all(enough),
    lambda v, s: jnp.sqrt(s),
    lambda v, s: jnp.where(enough, jnp.sqrt(s), jnp.max(jnp.abs(v), axis=1)),
    vectors,
    squares,
  )


def _logarithms(norms: Array) -> Array:
  """log of each norm; a zero gets the mean of the others."""
  known = norms != 0
  logs = jnp.log(jnp.where(known, norms, 1))
  mean = jnp.sum(jnp.where(known, logs, 0)) / jnp.sum(known, dtype=norms.dtype)
  return jnp.where(known, logs, mean)


def _mean_and_error(values: Any, xp: Any = jnp) -> tuple[Any, Any]:
  """Mean of independent values, and its standard error."""
  return xp.mean(values), xp.std(values, ddof=1) / math.sqrt(values.size)


def _middle_divisor(block: int) -> int:
  """The largest divisor up to the root; 1 if block is prime."""
  return max(m for m in range(1, math.isqrt(block) + 1) if block % m == 0)
