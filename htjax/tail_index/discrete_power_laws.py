"""Power laws of counts: the zeta law on the integers from a start on.

P(X = x) = x^-s / zeta(s, xmin) for x >= xmin, s = alpha + 1, with Hurwitz's
zeta function. The likelihood is that of a natural family in log x: s is where
the expected log(x / xmin), which falls in s, equals the mean of the samples.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from htjax.tail_index.estimate import (
  TailEstimate,
  kolmogorov_p_value,
  make_estimate,
)
from htjax.tail_index.order_statistics import log_excess_sums
from htjax.types import Array, PRNGKey

# Terms added one by one, and B_2j / (2j)! of Euler-Maclaurin for the rest.
_TERMS = 8
_BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600)
# log alpha is looked for in here.
_LOG_ALPHAS = (-14.0, 9.0)


@jax.jit
def log_zeta(s: Array, q: Array) -> Array:
  """log(q^s zeta(s, q)), Hurwitz's zeta function over its first term.

  Args:
    s: > 1; the sum converges nowhere else.
    q: >= 1, of a shape that broadcasts with s.

  Returns:
    Array >= 0, to a few roundings for s - 1 up to 10^4; differentiable.
  """
  s, q = jnp.broadcast_arrays(s, q)
  k = jnp.arange(1, _TERMS, dtype=q.dtype).reshape(-1, *(1,) * q.ndim)
  first = jnp.exp(-s[None] * jnp.log1p(k / q[None])).sum(axis=0)
  a = q + _TERMS
  rest = a / (s - 1) + 0.5
  term = s / a
  for j, weight in enumerate(_BERNOULLI):
    rest = rest + weight * term
    term = term * ((s + 2 * j + 1) / a) * ((s + 2 * j + 2) / a)
  return jnp.log1p(first + jnp.exp(-s * jnp.log1p(_TERMS / q)) * rest)


def survival(alpha: Array, xmin: Array, x: Array) -> Array:
  """P(X >= x), shapes that broadcast; x >= xmin."""
  s = alpha + 1
  ratio = log_zeta(s, x) - log_zeta(s, xmin)
  return jnp.exp(ratio - alpha * jnp.log(x / xmin)) * (xmin / x)


@jax.jit
def fit(y: Float[Array, ' n'], num: Array, xmin: Array) -> TailEstimate:
  """The zeta law for the first `num` of the descending y, all >= xmin."""
  count = num.astype(y.dtype)
  inside = jnp.arange(y.size) < num
  excess = jnp.where(inside, jnp.log(jnp.where(inside, y, xmin) / xmin), 0)
  # A NaN in x is sorted to one of the ends.
  mean = jnp.sum(excess) / jnp.maximum(count, 1) + 0 * (y[0] + y[-1])
  valid = (num >= 2) & (xmin >= 1) & (mean > 0)
  start = jnp.where(valid, xmin, 1)
  alpha = _alpha_of(jnp.where(valid, mean, 1), start)
  # Fisher's information is the variance of log X.
  information = _variance(alpha, start)
  not_less, more = _counts(y)
  distance = _distance(
    *(alpha, start, jnp.where(inside, y, start)),
    *(jnp.where(inside, not_less, num), jnp.where(inside, more, 0), count),
  )
  # What lies outside stands in for xmin, where nothing is less.
  distance = jnp.max(jnp.where(inside, distance, 0))

  def known(value: Array) -> Array:
    return jnp.where(valid, value, jnp.nan)

  return make_estimate(
    known(alpha),
    known(1 / jnp.sqrt(count * information)),
    num,
    scale=xmin,
    ks_distance=known(distance),
    p_value=kolmogorov_p_value(known(distance), num),
  )


@functools.partial(jax.jit, static_argnames=('num_quantiles',))
def search(
  y: Float[Array, ' n'], ranks: Array, num_quantiles: int
) -> TailEstimate:
  """The fit from that of the starts y[ranks - 1] which is closest to its tail.

  Args:
    y: descending, whole numbers.
    ranks: int32 [c], >= 2.
    num_quantiles: of each tail, that the distance is looked at.

  Returns:
    TailEstimate.
  """
  xmins = y[ranks - 1]
  not_less, more = _counts(y)
  nums = not_less[ranks - 1]
  means = log_excess_sums(y)[nums - 1] / nums.astype(y.dtype)
  usable = (xmins >= 1) & (means > 0)
  starts = jnp.where(usable, xmins, 1)

  def distance(candidate: tuple[Array, Array, Array]) -> Array:
    num, mean, xmin = candidate
    alpha = _alpha_of(mean, xmin)
    quantile = jnp.arange(1, num_quantiles + 1, dtype=jnp.int32)
    # ceil(num * quantile / num_quantiles), in two parts that fit 32 bits.
    whole, rest = num // num_quantiles, num % num_quantiles
    at = whole * quantile + -(-rest * quantile // num_quantiles) - 1
    values = jnp.maximum(y[at], xmin)
    of_all = num.astype(y.dtype)
    return jnp.max(
      _distance(alpha, xmin, values, not_less[at], more[at], of_all)
    )

  candidates = (nums, jnp.where(usable, means, 1), starts)
  distances = lax.map(distance, candidates, batch_size=64)
  usable &= jnp.isfinite(distances)
  best = jnp.argmin(jnp.where(usable, distances, jnp.inf))
  return fit(y, nums[best], jnp.where(usable[best], xmins[best], jnp.nan))


def draw(key: PRNGKey, alpha: Array, xmin: Array, n: int) -> Array:
  """n draws of the zeta law from xmin on, [n], whole numbers.

  With zeta(s, v) / zeta(s, xmin) = U at a real v, the whole part of v has the
  law: it is >= k where U <= P(X >= k).
  """
  dtype = alpha.dtype
  u = jax.random.uniform(key, (n,), dtype, minval=jnp.finfo(dtype).tiny)
  log_u = jnp.log(u)
  s = alpha + 1
  # The tail is at most that of the continuous law from the next number on.
  longest = (-jnp.min(log_u) + jnp.log(2 + 1 / alpha)) / alpha + 1
  longest = jnp.minimum(longest, jnp.log(jnp.finfo(dtype).max) / 2)

  def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
    low, high = bounds
    middle = (low + high) / 2
    there = xmin * jnp.exp(middle)
    log_tail = log_zeta(s, there) - log_zeta(s, xmin) - s * middle
    left = log_tail <= log_u
    return jnp.where(left, low, middle), jnp.where(left, middle, high)

  ends = (jnp.zeros_like(u), jnp.broadcast_to(longest, u.shape))
  low, _ = lax.fori_loop(0, 6 + jnp.finfo(dtype).nmant, halve, ends)
  return jnp.maximum(jnp.floor(xmin * jnp.exp(low)), xmin)


def _alpha_of(mean: Array, xmin: Array) -> Array:
  """alpha whose expected log(X / xmin) is `mean` > 0."""

  def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
    low, high = bounds
    middle = (low + high) / 2
    more = -_slope(jnp.exp(middle), xmin) > mean
    return jnp.where(more, middle, low), jnp.where(more, high, middle)

  low, high = (jnp.asarray(end, mean.dtype) for end in _LOG_ALPHAS)
  ends = (low + 0 * mean, high + 0 * mean)
  steps = 6 + jnp.finfo(mean.dtype).nmant
  return jnp.exp(lax.fori_loop(0, steps, halve, ends)[0])


def _slope(alpha: Array, xmin: Array) -> Array:
  """The derivative of `log_zeta` in s: minus the mean of log(X / xmin)."""
  return jax.grad(lambda a: log_zeta(a + 1, xmin))(alpha)


def _variance(alpha: Array, xmin: Array) -> Array:
  """The variance of log X."""
  return jax.grad(_slope)(alpha, xmin)


def _counts(y: Float[Array, ' n']) -> tuple[Array, Array]:
  """Numbers of the descending y that are not less than each, and more."""
  not_less = jnp.searchsorted(-y, -y, side='right')
  more = jnp.searchsorted(-y, -y, side='left')
  return not_less.astype(jnp.int32), more.astype(jnp.int32)


def _distance(
  alpha: Array,
  xmin: Array,
  x: Array,
  not_less: Array,
  more: Array,
  count: Array,
) -> Array:
  """Distance of the law to the samples, just before and just after each x.

  Between two values that occur, the law falls and the samples do not: the
  largest distance is at one of them.
  """
  before = survival(alpha, xmin, x)
  # P(X >= x + 1) = P(X >= x) - P(X = x).
  log_mass = -(alpha + 1) * jnp.log(x / xmin) - log_zeta(alpha + 1, xmin)
  after = before - jnp.exp(log_mass)
  return jnp.maximum(
    jnp.abs(before - not_less.astype(x.dtype) / count),
    jnp.abs(after - more.astype(x.dtype) / count),
  )
