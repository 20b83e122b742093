"""How well few entries, or few columns, stand for a vector of weights.

Best k-term approximation, its relative l_p error, the smallest kept fraction
that reaches an error, the fraction of columns that 10 % of the squared norm
pays for, and the curves expected of Gaussian and stable weights. kappa is
always the kept fraction; a pruning ratio is 1 - kappa. A column is an index of
the last axis: [fan_in, n] for dense layers, filters [h, w, in, n] for
convolutions. Norms are taken relative to their own largest entry, so that
heavy tails neither overflow nor lose what is small.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax import stable
from htjax.types import (
  Array,
  ArrayLike,
  PRNGKey,
  check_choice,
  check_count,
  check_key,
  check_range,
  is_concrete,
)

ROUNDINGS = ('ceil', 'floor')

# Of the search for a k-th largest: how many entries are sampled for the first
# bracket, and after how many passes only halving closes it.
_SAMPLE = 1 << 14
_GUESSES = 16
# At most 127, so that a count of them fits a byte.
_GROUP = 16


def best_k(x: ArrayLike, k: ArrayLike) -> Array:
  """Best k-term approximation: the k largest magnitudes, zero elsewhere.

  Args:
    x: real array of any shape; entries are ranked over the whole array.
    k: how many entries to keep, an integer in [0, x.size], traced.

  Returns:
    Array of x's shape with exactly min(k, x.size) entries of x, and zeros. Of
    equal magnitudes the first in row-major order is kept.

  Raises:
    ValueError: k of another shape than [] or not an integer; a concrete k out
      of range; x complex.

  Values: NaN ranks above everything. A traced k out of range gives NaN.

  Source: [HT], section 2; [Gribonval2012], section I.
  """
  x = as_floating('x', x)
  if jnp.shape(k) != () or not jnp.issubdtype(jnp.result_type(k), jnp.integer):
    raise ValueError(f'k must be one integer, got {k!r}')
  check_range('k', k, 0, x.size)
  return _best_k(x, k)


@jax.jit
def _best_k(x: Array, k: Array) -> Array:
  kept = jnp.where(largest(jnp.abs(x), k), x, 0)
  return jnp.where((k >= 0) & (k <= x.size), kept, jnp.nan)


def compression_error(
  x: ArrayLike, kappa: ArrayLike, *, p: float = 2, rounding: str = 'ceil'
) -> Array:
  """Relative l_p error of keeping the fraction kappa of largest magnitudes.

  |x - best_k(x, k)|_p / |x|_p with k = ceil(kappa d), d = x.size. A kappa d
  within two roundings of an integer is that integer: kappa = 0.1 of 10 is 1.

  Args:
    x: real array of any shape, not empty, taken as one vector.
    kappa: kept fraction in (0, 1], traced; an array gives a curve, at the cost
      of one sort and one pass over x per entry.
    p: order of the norm, static, 0 < p < infinity.
    rounding: 'ceil' or 'floor'; with 'floor', kappa < 1/d keeps nothing.

  Returns:
    Array of kappa's shape and x's dtype, in [0, 1]; 0 for x = 0.

  Raises:
    ValueError: x empty or complex, p not a positive number, unknown rounding,
      a concrete kappa outside (0, 1].

  Values: NaN or infinity in x gives NaN, as does a traced kappa outside [0, 1].

  Source: [HT], eq. (S43).
  """
  x = _nonempty('x', x)
  check_order(p)
  check_kappa(kappa)
  kept = kept_count(kappa, x.size, rounding)
  return _valid(_errors(x, x.size - kept, p), kappa)


def smallest_kappa(x: ArrayLike, epsilon: ArrayLike, *, p: float = 2) -> Array:
  """Smallest kept fraction whose relative l_p error is at most epsilon.

  Args:
    x: real array of any shape, not empty, taken as one vector.
    epsilon: relative error, not squared, in [0, 1], traced; an array gives a
      curve.
    p: order of the norm, static, 0 < p < infinity.

  Returns:
    Array of epsilon's shape and x's dtype: a multiple of 1 / x.size. It is 0
    for x = 0 and for epsilon = 1.

  Raises:
    ValueError: x empty or complex, p not a positive number, a concrete epsilon
      outside [0, 1].

  Values: NaN or infinity in x gives NaN, as does a traced epsilon outside
    [0, 1].

  Source: [HT], eq. (S5).
  """
  x = _nonempty('x', x)
  check_order(p)
  check_range('epsilon', epsilon, 0.0, 1.0)
  return _valid(_smallest_kappa(x, jnp.asarray(epsilon, x.dtype), p), epsilon)


def pruning_ratio(
  matrix: ArrayLike, *, tolerance: ArrayLike = 0.1, squared: bool = True
) -> Array:
  """Largest fraction of columns whose removal costs at most `tolerance`.

  The columns of smallest l_2 norm go first, for as long as the squared norm of
  what is removed is at most `tolerance` times the squared Frobenius norm;
  equality is removed too.

  Args:
    matrix: [fan_in, n] or filters [h, w, in, n]; real, not empty.
    tolerance: in [0, 1], traced.
    squared: whether `tolerance` is a share of the squared norm, as in the
      paper's tables; if False it is a relative error, of norms not squared.

  Returns:
    Array of shape [] and the matrix's dtype, in [0, 1], a multiple of 1/n. An
    all-zero matrix gives 1: everything can go at no cost.

  Raises:
    ValueError: matrix of rank below 2, empty or complex; a concrete tolerance
      outside [0, 1].

  Values: NaN or infinity in the matrix gives NaN, as does a traced tolerance
    outside [0, 1].

  Source: [IC], section 5, the pruning ratio of the tables.
  """
  matrix = check_matrix('matrix', matrix)
  check_range('tolerance', tolerance, 0.0, 1.0)
  ratio = _ratio_of_norms(
    column_norms(matrix), jnp.asarray(tolerance, matrix.dtype), squared
  )
  return _valid(ratio, tolerance)


def invisible_noise_ratios(
  key: PRNGKey,
  columns: ArrayLike,
  scale: ArrayLike,
  alpha: ArrayLike,
  num_draws: int,
  *,
  tolerance: ArrayLike = 0.1,
  squared: bool = True,
) -> Array:
  """Pruning ratios under Type I noise that the network cannot see.

  Where every input sums to zero (series normalised to mean zero), adding one
  number to all incoming weights of a unit changes nothing, so the Type I noise
  of K steps stays in the weights as it fell: column i ends as theta_i + s Z_i 1
  with s = sigma (eta K)^(1/alpha) and Z_i independent standard symmetric
  stable. A draw costs O(n log n), whatever the fan-in, by
  |theta + s Z 1|^2 = |theta - mean(theta)|^2 + fan_in (mean(theta) + s Z)^2.

  Args:
    key: typed key.
    columns: weights without the noise, [fan_in, n] (or filters).
    scale: s >= 0, the scale of the sum of all noise on one weight, traced.
    alpha: tail index in (0, 2], traced.
    num_draws: static, independent draws of all n numbers Z_i.
    tolerance: as in `pruning_ratio`, traced.
    squared: as in `pruning_ratio`.

  Returns:
    Array [num_draws] of pruning ratios. Their law is wide, one large Z_i can
    own the whole norm: use quantiles rather than a mean of a few.

  Raises:
    ValueError: as `pruning_ratio` and `htjax.stable.sample`; num_draws < 1.

  Values: NaN or infinity in the columns, a traced alpha or tolerance out of
    range and a traced NaN scale give NaN; the sign of a traced scale does not
    matter.

  Source: after [IC], section 2, Type I.
  """
  key = check_key(key)
  columns = check_matrix('columns', columns)
  check_count('num_draws', num_draws)
  check_range('scale', scale, 0.0, np.inf, open_high=True)
  check_range('alpha', alpha, 0.0, 2.0, open_low=True)
  check_range('tolerance', tolerance, 0.0, 1.0)
  tolerance = jnp.asarray(tolerance, columns.dtype)
  ratios = _invisible(key, columns, scale, alpha, num_draws, tolerance, squared)
  return _valid(ratios, tolerance)


def gaussian_limit(kappa: ArrayLike, *, p: float = 2, dim: int = 1) -> Array:
  """Limit of the relative error for Gaussian columns, as their number grows.

  For columns theta_i ~ N(0, s^2 I_dim) and the norm (sum_i |theta_i|^p)^(1/p),
  |theta_i| Euclidean, which for p = 2 is the Frobenius norm:
    error^p -> E[|theta|^p; |theta| <= q] / E |theta|^p,  q the quantile of
    |theta| at 1 - kappa;  at p = 2, F_{dim+2}(F_dim^{-1}(1 - kappa)) with the
    chi-squared distribution functions.

  Args:
    kappa: kept fraction in (0, 1], traced, any shape.
    p: order of the norm, static, 0 < p < infinity.
    dim: dimension of a column, static; 1 for i.i.d. Gaussian entries.

  Returns:
    Array of kappa's shape, accurate to about 5e-6 in float32 (2e-5 for dim in
    the thousands) and 1e-11 in float64. Strictly positive for kappa < 1:
    Gaussian weights are not compressible. Not differentiable.

  Raises:
    ValueError: p not a positive number, dim < 1, a concrete kappa outside
      (0, 1].

  Values: a traced kappa outside [0, 1] gives NaN.

  Source: [IC], Proposition A.1; [Gribonval2012], Proposition 1.1.
  """
  check_order(p)
  check_count('dim', dim)
  check_kappa(kappa)
  kappa = as_floating('kappa', kappa)
  return _valid(_gaussian_limit(kappa, p, dim), kappa)


def stable_curve(
  alpha: ArrayLike,
  kappa: ArrayLike,
  n: int,
  *,
  key: PRNGKey,
  p: float = 2,
  num_draws: int = 200,
  level: ArrayLike = 0.5,
  rounding: str = 'ceil',
) -> Array:
  """Compression error expected of n independent symmetric stable weights.

  The median over simulated vectors: for p >= alpha the error tends to zero like
  n^(1/p - 1/alpha), and at finite n its law is too wide for a mean. For
  p < alpha it tends to a limit between 0 and 1 which depends on alpha alone.

  Args:
    alpha: tail index in (0, 2], traced. The scale does not matter.
    kappa: kept fraction in (0, 1], traced; an array gives a curve.
    n: static, entries per vector.
    key: typed key.
    p: order of the norm, static.
    num_draws: static, simulated vectors; their cost is a sort of n each.
    level: which quantile of the error to return, in [0, 1], traced; 0.05 and
      0.95 make a band around the median.
    rounding: as in `compression_error`.

  Returns:
    Array of kappa's shape and dtype.

  Raises:
    ValueError: as `compression_error` and `htjax.stable.sample`; n or
      num_draws < 1; a concrete level outside [0, 1].

  Values: traced alpha, kappa or level out of range gives NaN.

  Source: [HT], Lemma S2; [Gribonval2012], Proposition 1.2.
  """
  key = check_key(key)
  check_count('n', n)
  check_count('num_draws', num_draws)
  check_order(p)
  check_range('alpha', alpha, 0.0, 2.0, open_low=True)
  check_range('level', level, 0.0, 1.0)
  check_kappa(kappa)
  removed = n - kept_count(kappa, n, rounding)
  dtype = as_floating('kappa', kappa).dtype
  errors = _stable_errors(key, alpha, removed, n, p, num_draws, dtype)
  level = jnp.asarray(level, dtype)
  return _valid(_valid(jnp.quantile(errors, level, axis=0), kappa), level)


# What the kernels of `htjax.pruning` share with the functions above.


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
  """
  if scores.size == 0:
    return jnp.zeros(scores.shape, bool)
  keys = _order_preserving_bits(jnp.abs(scores.reshape(-1)))
  k = jnp.clip(jnp.asarray(k, jnp.int32), 0, keys.size)
  cut, count = _cut(keys, k)

  def break_ties():
    tied = keys == cut
    missing = k - (count - jnp.sum(tied, dtype=jnp.int32))
    return (keys > cut) | (
      tied & (jnp.cumsum(tied, dtype=jnp.int32) <= missing)
    )

  mask = lax.cond(count == k, lambda: keys >= cut, break_ties)
  return mask.reshape(scores.shape)


@jax.jit
def num_true(mask: Array) -> Array:
  """Number of True, int32 [], of a boolean array of any shape.

  XLA writes what it is to sum to memory first: bytes, summed in groups small
  enough for them, take half the time of 32-bit integers.
  """
  flat = mask.reshape(-1)
  whole = flat.size // _GROUP * _GROUP
  bits = flat[:whole].reshape(-1, _GROUP).astype(jnp.int8)
  counts = jnp.sum(bits, axis=1, dtype=jnp.int8)
  rest = jnp.sum(flat[whole:], dtype=jnp.int32)
  return jnp.sum(counts, dtype=jnp.int32) + rest


@jax.jit
def median(x: Array) -> Array:
  """Median of all entries, without a sort: shape [], the middle two averaged.

  Args:
    x: floating array of any shape, not empty; NaN ranks highest.

  Returns:
    Array [] of x's dtype.
  """
  x = x.reshape(-1)
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


def kept_count(kappa: ArrayLike, size: int, rounding: str = 'ceil') -> Any:
  """Number of `size` things that the kept fraction kappa stands for.

  Args:
    kappa: in [0, 1], any shape. Concrete numbers are counted in their own
      precision (a Python float in float64), traced ones in theirs.
    size: static. A float32 kappa tells at most 2^24 counts apart.
    rounding: 'ceil' or 'floor' of kappa * size. Products within two roundings
      of an integer are that integer, so that 0.1 of 10 is 1 and 0.29 of 100 is
      29 either way.

  Returns:
    int32 array of kappa's shape; meaningless where kappa is not in [0, 1].

  Raises:
    ValueError: unknown rounding.
  """
  check_choice('rounding', rounding, ROUNDINGS)
  xp: Any = np if is_concrete(kappa) else jnp
  fraction = xp.asarray(kappa)
  if not jnp.issubdtype(fraction.dtype, jnp.floating):
    fraction = fraction.astype(float)
  exact = fraction * size
  nearest = xp.round(exact)
  slack = 2 * jnp.finfo(fraction.dtype).eps * exact
  rounded = xp.ceil(exact) if rounding == 'ceil' else xp.floor(exact)
  count = xp.where(xp.abs(exact - nearest) <= slack, nearest, rounded)
  return count.astype(np.int32)


@functools.partial(jax.jit, static_argnames='p')
def column_norms(matrix: Array, p: float = 2) -> Array:
  """l_p norm of each column: [..., n] -> [n], over all axes but the last.

  Args:
    matrix: floating array of rank >= 1.
    p: static, 0 < p < infinity.

  Returns:
    Array [n]; no overflow or underflow on the way to a norm that fits the
    dtype. Infinity in a column gives NaN.
  """
  magnitude = jnp.abs(matrix).reshape(-1, matrix.shape[-1])
  peak = jnp.max(magnitude, axis=0)
  scaled = magnitude / jnp.where(peak == 0, 1, peak)[None, :]
  return peak * _root(jnp.sum(_power(scaled, p), axis=0), p)


@functools.partial(jax.jit, static_argnames=('squared', 'p'))
def num_removable(
  norms: Array, tolerance: ArrayLike, squared: bool = True, p: float = 2
) -> Array:
  """How many of the smallest columns go, given all columns' l_p norms.

  Args:
    norms: [n], non-negative, any order; of columns, or of whatever goes whole.
    tolerance: share of the whole that may be lost, traced.
    squared: whether shares are of p-th powers of norms (the squared norm, for
      p = 2) or of norms.
    p: order of the norm, static.

  Returns:
    int32 array []: the largest m such that the m smallest columns cost at most
    `tolerance`; n if all are zero, 0 if one is NaN or infinite.
  """
  cost = _removal_cost(jnp.sort(norms), p, power=squared)
  return _last_true(lambda m: cost(m) <= tolerance, norms.size)


def as_floating(name: str, x: ArrayLike) -> Array:
  """`x` as float32 or float64; integers and half precision become float32."""
  array = jnp.asarray(x)
  if jnp.issubdtype(array.dtype, jnp.complexfloating):
    raise ValueError(f'{name} must be real, got dtype {array.dtype.name}')
  if array.dtype not in (jnp.float32, jnp.float64):
    array = array.astype(jnp.float32)
  return array


def check_matrix(name: str, matrix: ArrayLike) -> Array:
  """Return `matrix` as floating, or raise if it has no columns to speak of."""
  array = _nonempty(name, matrix)
  if array.ndim < 2:
    raise ValueError(
      f'{name} must be [..., n] of rank 2 or more, one column per index of the '
      f'last axis, got shape {array.shape}'
    )
  return array


def check_order(p: Any) -> None:
  """Raise unless `p` is a finite positive Python number."""
  if (
    isinstance(p, bool)
    or not isinstance(p, int | float | np.number)
    or not 0 < p < math.inf
  ):
    raise ValueError(f'p must be a static number in (0, inf), got {p!r}')


def check_kappa(kappa: ArrayLike) -> None:
  """Raise if a concrete kept fraction is not in (0, 1]."""
  check_range('kappa', kappa, 0.0, 1.0, open_low=True)


def _nonempty(name: str, x: ArrayLike) -> Array:
  array = as_floating(name, x)
  if array.size == 0:
    raise ValueError(f'{name} must not be empty, got shape {array.shape}')
  return array


def _valid(value: Array, fraction: ArrayLike) -> Array:
  """NaN where a fraction, known only at run time, is not in [0, 1]."""
  fraction = jnp.asarray(fraction)
  return jnp.where((fraction >= 0) & (fraction <= 1), value, jnp.nan)


def _power(x: Array, p: float) -> Array:
  return x if p == 1 else x * x if p == 2 else x**p


def _root(x: Array, p: float) -> Array:
  return x if p == 1 else jnp.sqrt(x) if p == 2 else x ** (1 / p)


def _scaled_sum(
  ascending: Array, m: ArrayLike, p: float
) -> tuple[Array, Array]:
  """Largest of the m smallest entries, and the sum of (entry / largest)^p."""
  peak = ascending[jnp.maximum(m - 1, 0)]
  inside = jnp.arange(ascending.size, dtype=jnp.int32) < m
  share = jnp.where(inside, ascending / jnp.where(peak == 0, 1, peak), 0)
  return peak, jnp.sum(_power(share, p))


def _removal_cost(
  ascending: Array, p: float, *, power: bool = False
) -> Callable[[Array], Array]:
  """The function m -> |m smallest|_p / |all|_p, or the p-th power of that.

  Both norms are relative to their own largest entry, so nothing under- or
  overflows, and shares of equal entries are exact. 0 / 0 is 0; the cost of
  nonzero entries is above 0; it is NaN if an entry is NaN or infinite.
  """
  highest, total = _scaled_sum(ascending, ascending.size, p)
  finite = jnp.isfinite(highest)

  def cost(m):
    peak, removed = _scaled_sum(ascending, m, p)
    peaks = peak / jnp.where(highest == 0, 1, highest)
    sums = removed / jnp.where(total == 0, 1, total)
    value = _power(peaks, p) * sums if power else peaks * _root(sums, p)
    # What is not nothing must not come free where its share underflows.
    least = jnp.where(removed > 0, jnp.finfo(value.dtype).tiny, 0)
    return jnp.where(finite, jnp.maximum(value, least), jnp.nan)

  return cost


def _last_true(holds: Callable[[Array], Array], size: int) -> Array:
  """Largest m in [0, size] at which a predicate true up to there holds.

  holds(0) is taken for granted.
  """

  def halve(_, bounds):
    low, high = bounds
    middle = low + (high - low + 1) // 2
    yes = holds(middle)
    return jnp.where(yes, middle, low), jnp.where(yes, high, middle - 1)

  bounds = (jnp.int32(0), jnp.int32(size))
  return lax.fori_loop(0, size.bit_length(), halve, bounds)[0]


@functools.partial(jax.jit, static_argnames='p')
def _errors(x: Array, removed: Array, p: float) -> Array:
  ascending = jnp.sort(jnp.abs(x).reshape(-1))
  removed = jnp.asarray(removed)
  errors = lax.map(_removal_cost(ascending, p), removed.reshape(-1))
  return errors.reshape(removed.shape)


@functools.partial(jax.jit, static_argnames='p')
def _smallest_kappa(x: Array, epsilon: Array, p: float) -> Array:
  ascending = jnp.sort(jnp.abs(x).reshape(-1))
  cost, d = _removal_cost(ascending, p), ascending.size

  def kept(bound):
    m = _last_true(lambda m: cost(m) <= bound, d)
    return (d - m).astype(x.dtype) / d

  kappa = lax.map(kept, epsilon.reshape(-1)).reshape(epsilon.shape)
  return jnp.where(jnp.isfinite(ascending[-1]), kappa, jnp.nan)


def _ratio_of_norms(norms: Array, tolerance: Array, squared: bool) -> Array:
  removed = num_removable(norms, tolerance, squared)
  ratio = removed.astype(norms.dtype) / norms.size
  return jnp.where(jnp.all(jnp.isfinite(norms)), ratio, jnp.nan)


@functools.partial(jax.jit, static_argnames=('num_draws', 'squared'))
def _invisible(key, columns, scale, alpha, num_draws, tolerance, squared):
  fan_in = columns[..., 0].size
  mean = jnp.mean(columns.reshape(fan_in, -1), axis=0)
  fixed = column_norms(columns.reshape(fan_in, -1) - mean[None, :])

  def draw(draw_key):
    z = stable.sample(draw_key, alpha, mean.shape, mean.dtype, scale=scale)
    moved = math.sqrt(fan_in) * jnp.abs(mean + z)
    return _ratio_of_norms(jnp.hypot(fixed, moved), tolerance, squared)

  return lax.map(draw, jax.random.split(key, num_draws))


@functools.partial(jax.jit, static_argnames=('n', 'p', 'num_draws', 'dtype'))
def _stable_errors(key, alpha, removed, n, p, num_draws, dtype):
  def draw(draw_key):
    return _errors(stable.sample(draw_key, alpha, (n,), dtype), removed, p)

  return lax.map(draw, jax.random.split(key, num_draws))


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

  def sampled(side):
    place = (1 - share + side * spread) * sample.size
    return sample[jnp.clip(place.astype(jnp.int32), 0, sample.size - 1)]

  def interpolated(state, side):
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

  def halved(state):
    _, low, high, _, _ = state
    return (low & high) + ((low ^ high) >> 1)

  def unfinished(state):
    _, low, high, more, fewer = state
    return (more != k) & (fewer != k) & (low + 1 < high)

  def refine(state):
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


@functools.partial(jax.jit, static_argnames=('p', 'dim'))
def _gaussian_limit(kappa: Array, p: float, dim: int) -> Array:
  # |theta|^2 / (2 s^2) is Gamma(a); weighted by |theta|^p it is Gamma(b).
  a, b = dim / 2, (dim + p) / 2
  t = _log_gamma_quantile(1 - kappa, a)
  error = _root(_gamma_cdf(t + math.log(a / b), b), p)
  return jnp.where(kappa == 1, 0, error)


def _log_gamma_quantile(q: Array, a: float) -> Array:
  """t with P(Gamma(a) <= a e^t) = q, by bisection; a static, a >= 1/2."""
  # Beyond these ends the probability is below 1e-16 or above 1 - 1e-16.
  low = jnp.full_like(q, -40 / a - 9 / math.sqrt(a))
  high = jnp.full_like(q, math.log1p(9 / math.sqrt(a) + 40 / a))

  def halve(_, bounds):
    low, high = bounds
    middle = (low + high) / 2
    below = _gamma_cdf(middle, a) < q
    return jnp.where(below, middle, low), jnp.where(below, high, middle)

  halvings = 8 + jnp.finfo(q.dtype).nmant
  return lax.fori_loop(0, halvings, halve, (low, high))[0]


def _gamma_cdf(t: Array, a: float) -> Array:
  """P(Gamma(a) <= a e^t), the series x^a e^-x / Gamma(a+1) sum_j x^j / (a+1)_j.

  In terms of t the leading factor is exp(a (t + 1 - e^t)) times a constant of
  a, which keeps the digits that a log x - x - log Gamma(a) cancels in float32.
  """
  constant = math.exp(a * math.log(a) - a - math.lgamma(a + 1))
  x = a * jnp.exp(t)
  eps = jnp.finfo(t.dtype).eps

  def unfinished(state):
    _, term, total = state
    return jnp.any(term > eps * total / 4)

  def add(state):
    j, term, total = state
    term = term * x / (a + j)
    return j + 1, term, total + term

  start = (jnp.ones((), t.dtype), jnp.ones_like(x), jnp.ones_like(x))
  series = lax.while_loop(unfinished, add, start)[2]
  return jnp.minimum(constant * jnp.exp(a * (t - jnp.expm1(t))) * series, 1)
