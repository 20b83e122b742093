"""Maximum likelihood of the symmetric stable law, at the cost of a histogram.

The samples are many, so they are counted on nodes equally spaced in u = log|x|,
each shared between its two neighbours in proportion: that is the log-likelihood
with log f(e^u) replaced by its linear interpolation. With spacing h that errs
by at most h^2 / 8 times the second derivative, and the number of nodes grows
like n^(1/4), so that the error of the estimates stays a fixed small part of
their standard error ~ n^(-1/2).
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int

from htjax.checks import check_count, checked
from htjax.floats import times_power_of_two, to_unit_peak
from htjax.tail_index import stable_slopes
from htjax.tail_index.estimate import (
  TailEstimate,
  check_samples,
  kolmogorov_p_value,
  make_estimate,
)
from htjax.tail_index.stable_slopes import HIGH, LOW, TOUCH
from htjax.types import Array, ArrayLike

# Below e^-8 times the scale the density is flat to 1e-5, even at alpha = 0.5.
_FLAT = 8.0
_NODES_PER_ROOT = 30.0
_MAX_STEPS = 40
# Of the differences that make the observed information: their error is of
# second order, and in float32 the scores are good to about 1e-6.
_RELATIVE_STEP, _LEAST_STEP, _SCALE_STEP = 0.05, 2e-3, 0.01


class _Histogram(NamedTuple):
  """Nodes in log|x|, the share of samples on each, and below each."""

  u: Array
  share: Array
  below: Array


@checked
def stable_mle(x: ArrayLike, *, num_nodes: int | None = None) -> TailEstimate:
  """Symmetric stable law, tail index and scale, by maximum likelihood.

  Args:
    x: any shape; independent, centred at 0. Zeros count as very small.
    num_nodes: nodes of the histogram, static; None is the power of two above
      30 n^(1/4), 2048 for 10^7 samples.

  Returns:
    TailEstimate: alpha in [0.5, 2] (the range of the likelihood: an estimate at
    0.5 means at most that), `scale` with E exp(itX) = exp(-|scale t|^alpha).
    The standard error is that of the observed Fisher information, with the
    scale unknown. At alpha = 2, where the
    likelihood need not be flat, it is the distance below 2 at which the
    likelihood has fallen as it does within one standard error elsewhere; the
    interval is then one-sided. Near 2 the law of the estimate is not normal
    unless n is large: see the note. `ks_distance` is taken at the nodes, and
    `p_value` is Kolmogorov's, too large because the law was fitted.

  Raises:
    ValueError: fewer than 10 samples, num_nodes < 32; concrete x with NaN or
      infinity, or constant.

  Values: traced NaN or infinity in x gives NaN.

  Note: what tells 1.95 from 2 is the few samples in the power tail, so that
    near 2 the 95 % interval needs many: at alpha = 1.95 it covered 90 % of the
    time for n = 1000 and 94 % for n = 10^4.

  Source: [DuMouchel1973].

  Examples:
    >>> import jax
    >>> from htjax import stable, tail_index
    >>> x = stable.sample(jax.random.key(0), 1.5, (10_000,))
    >>> estimate = tail_index.stable_mle(x[:1000])
    >>> bool(abs(estimate.alpha - 1.5) < 4 * estimate.standard_error)
    True
  """
  x = check_samples('x', x, 1, 10)
  if num_nodes is None:
    least = max(64, _NODES_PER_ROOT * x.size**0.25)
    # Few sizes, so that layers of many shapes share one program.
    num_nodes = 2 ** math.ceil(math.log2(least))
  check_count('num_nodes', num_nodes, 32)
  histogram, start, peak, exponent = _histogram(x, int(num_nodes))
  fit = _maximise(histogram, start, peak, jnp.asarray(x.size, jnp.int32))
  return fit._replace(scale=times_power_of_two(fit.scale, exponent))


@functools.partial(jax.jit, static_argnames='num_nodes')
def _histogram(x: Float[Array, ' n'], num_nodes: int) -> Any:
  """Histogram of |x| over the largest; start of the search; the largest.

  The last comes over 2^exponent, with that exponent.
  """
  x, exponent = to_unit_peak(x)
  size = jnp.abs(x)
  peak = jnp.max(size)
  # Relative to the largest, so that the unit of x does not matter.
  alpha, log_scale = _start(size / peak)
  histogram = _count(size / peak, log_scale - _FLAT, num_nodes)
  start = jnp.stack([alpha, log_scale])
  return histogram, start, peak, exponent


@jax.jit
def _maximise(
  histogram: _Histogram,
  start: Float[Array, '2'],
  peak: Float[Array, ''],
  num: Int[Array, ''],
) -> TailEstimate:
  """The fit to `num` samples, apart because it is slow to compile."""

  count = num.astype(peak.dtype)

  def unfinished(state: Any) -> Array:
    _, step, i = state
    return (step > 1e-3) & (i < _MAX_STEPS)

  def improve(
    state: tuple[Array, Array, int],
  ) -> tuple[Array, Array, int]:
    theta, _, i = state
    gradient, information = _scores(histogram, *theta)
    free = _step(gradient, information)
    alone = jnp.stack([0 * free[0], gradient[1] / information[1, 1]])
    at_bound = (theta[0] == HIGH) | ((theta[0] <= LOW) & (free[0] < 0))
    step = jnp.clip(jnp.where(at_bound, alone, free), -0.3, 0.3)
    # The likelihood is singular at 2: come near it by parts of the way.
    step = step.at[0].min(0.8 * (HIGH - theta[0]))
    moved = jnp.maximum(theta[0] + step[0], LOW)
    moved = jnp.where(moved > HIGH - TOUCH, HIGH, moved)
    moved = jnp.stack([moved, theta[1] + step[1]])
    # In standard errors of the estimates.
    length = jnp.max(
      jnp.abs(moved - theta) * jnp.sqrt(jnp.diag(information) * count)
    )
    return moved, length, i + 1

  state = (start, jnp.full_like(peak, jnp.inf), 0)
  theta = lax.while_loop(unfinished, improve, state)[0]
  error, ks_distance = _error_and_distance(histogram, theta, count)
  valid = jnp.isfinite(peak) & (peak > 0)
  theta, error, ks_distance = jax.tree.map(
    lambda a: jnp.where(valid, a, jnp.nan), (theta, error, ks_distance)
  )
  return make_estimate(
    theta[0],
    error,
    num,
    scale=peak * jnp.exp(theta[1]),
    ks_distance=ks_distance,
    p_value=kolmogorov_p_value(ks_distance, num),
  )


def _start(
  size: Float[Array, ' n'],
) -> tuple[Float[Array, ''], Float[Array, '']]:
  """alpha and log(scale) from the mean and the variance of log|x|."""
  known = size > 0
  num = jnp.sum(known, dtype=size.dtype)
  logs = jnp.log(jnp.where(known, size, 1))
  mean = jnp.sum(logs) / num
  variance = jnp.sum(jnp.where(known, (logs - mean) ** 2, 0)) / num
  inverse_square = 6 * variance / math.pi**2 - 0.5
  alpha = jnp.clip(
    lax.rsqrt(jnp.maximum(inverse_square, 0.25)), LOW + 0.1, HIGH - 0.05
  )
  return alpha, mean - np.euler_gamma * (1 / alpha - 1)


def _count(
  size: Float[Array, ' n'], low: Float[Array, ''], num_nodes: int
) -> _Histogram:
  """Share the samples, |x| <= 1, among nodes between e^low and 1."""
  step = -low / (num_nodes - 1)
  tiny = jnp.finfo(size.dtype).tiny
  place = (jnp.log(jnp.maximum(size, tiny)) - low) / step
  place = jnp.clip(place, 0, num_nodes - 1)
  cell = jnp.minimum(place.astype(jnp.int32), num_nodes - 2)
  count = jnp.zeros(num_nodes, jnp.int32).at[cell].add(1)
  upper = (
    jnp.zeros(num_nodes, size.dtype)
    .at[cell]
    .add(place - cell.astype(size.dtype))
  )
  count = count.astype(size.dtype) / size.size
  upper = upper / size.size
  return _Histogram(
    low + step * jnp.arange(num_nodes, dtype=size.dtype),
    count - upper + jnp.roll(upper, 1),
    jnp.roll(jnp.cumsum(count), 1).at[0].set(0),
  )


def _scores(
  histogram: _Histogram, alpha: Float[Array, ''], log_scale: Float[Array, '']
) -> tuple[Float[Array, '2'], Float[Array, '2 2']]:
  """Mean of the scores in (alpha, log scale), and of their products."""
  slopes = stable_slopes.slopes(histogram.u - log_scale, alpha)
  score = jnp.stack([slopes.by_alpha, -1 - slopes.by_log_x])
  # A node without samples may lie where the density underflows.
  score = jnp.where(histogram.share > 0, score, 0)
  weighted = histogram.share[None, :] * score
  return jnp.sum(weighted, axis=1), jnp.matmul(
    weighted, score.T, precision=lax.Precision.HIGHEST
  )


def _step(
  gradient: Float[Array, '2'], information: Float[Array, '2 2']
) -> Float[Array, '2']:
  (a, b), (_, c) = information
  return jnp.stack(
    [c * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]]
  ) / (a * c - b**2)


def _error_and_distance(
  histogram: _Histogram, theta: Array, num: Array
) -> tuple[Array, Array]:
  """Standard error of alpha, and the distance of the fitted law.

  The error is the distance below alpha at which the log-likelihood has fallen
  by one half, to second order; inside the range, one over the root of the
  information.
  """
  alpha, log_scale = jnp.minimum(theta[0], HIGH - TOUCH), theta[1]
  # The scores change over distances of 2 - alpha.
  width = jnp.maximum(_RELATIVE_STEP * (HIGH - alpha), _LEAST_STEP)
  low = jnp.maximum(alpha - width, LOW)
  high = jnp.minimum(alpha + width, HIGH - TOUCH)
  points = [
    (theta[0], log_scale),
    (alpha, log_scale),
    (low, log_scale),
    (high, log_scale),
    (alpha, log_scale - _SCALE_STEP),
    (alpha, log_scale + _SCALE_STEP),
  ]
  # One after another, which compiles once.
  gradients, distances = lax.map(
    lambda point: (
      _scores(histogram, *point)[0],
      _distance(histogram, *point),
    ),
    jnp.stack([jnp.stack(point) for point in points]),
  )
  _, gradient, *scores = gradients
  a, b = (scores[0] - scores[1]) / (high - low)
  c = (scores[2][1] - scores[3][1]) / (2 * _SCALE_STEP)
  curvature = (a - b**2 / c) * num
  slope = (gradient[0] - b / c * gradient[1]) * num
  slope = jnp.where(theta[0] >= HIGH, jnp.maximum(slope, 0), 0)
  error = 1 / (slope + jnp.sqrt(slope**2 + curvature))
  return error, distances[0]


def _distance(
  histogram: _Histogram, alpha: Float[Array, ''], log_scale: Float[Array, '']
) -> Float[Array, '']:
  tail = stable_slopes.slopes(histogram.u - log_scale, alpha).tail
  return jnp.max(jnp.abs(1 - 2 * tail - histogram.below)[1:])
