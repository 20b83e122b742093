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
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Float, Int

from htjax import parts
from htjax.checks import check_count, checked
from htjax.floats import times_power_of_two, to_unit_peak
from htjax.host import chunks, is_spread, on_host, sum_of_squares
from htjax.tail_index import stable_slopes
from htjax.tail_index.estimate import (
  TailEstimate,
  host_estimate,
  kolmogorov_p_value,
  make_estimate,
  working_samples,
)
from htjax.tail_index.stable_slopes import HIGH, LOW, TOUCH
from htjax.types import Array, ArrayLike

# Below e^-8 times the scale the density is flat to 1e-5, even at alpha = 0.5.
_FLAT = 8.0
_NODES_PER_ROOT = 30.0
_MAX_STEPS = 200
# Of a step in standard errors, to be the last one.
_ENOUGH = 1e-3
# After a step that did not turn back, the next may be so much longer.
_LONGER = 1.5
# Arrays that are made of the samples on their way into the histogram.
_NUM_BESIDE = 8
# Of the differences that make the observed information: their error is of
# second order, and in float32 the scores are good to about 1e-6.
_RELATIVE_STEP, _LEAST_STEP, _SCALE_STEP = 0.05, 2e-3, 0.01


class _Histogram(NamedTuple):
  """Nodes in log|x|, the share of samples on each, and below each."""

  u: Array
  share: Array
  below: Array


class _Search(NamedTuple):
  """State of the search for the maximum.

  Attributes:
    theta: alpha and log(scale).
    step: the last one in full.
    rate: the part of it that was made.
    length: of the full step, in standard errors.
    count: of the steps made.
  """

  theta: Any
  step: Any
  rate: Any
  length: Any
  count: Any


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
    unless n is large: see the note; NaN where the search for the maximum has
    not ended. `ks_distance` is taken at the nodes, and `p_value` is
    Kolmogorov's, too large because the law was fitted.

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
  x = working_samples('x', x, 1, 10, stays=True)
  if num_nodes is None:
    least = max(64, _NODES_PER_ROOT * x.size**0.25)
    # Few sizes, so that layers of many shapes share one program.
    num_nodes = 2 ** math.ceil(math.log2(least))
  check_count('num_nodes', num_nodes, 32)
  if is_spread(x):
    return _spread_fit(x, int(num_nodes))
  if on_host(x):
    return host_estimate(
      *(_host_fit, x, int(num_nodes)), num_used=x.size, dtype=x.dtype
    )
  histogram, start, peak, exponent = _histogram(x, int(num_nodes))
  fit = _maximise(histogram, start, peak, jnp.asarray(x.size, jnp.int32))
  return fit._replace(scale=times_power_of_two(fit.scale, exponent))


def _spread_fit(x: Array, num_nodes: int) -> TailEstimate:
  """The fit to an array that is spread over devices: its histogram is sent."""
  x, exponent = to_unit_peak(x)
  with jax.enable_x64(True):
    found = parts.here(_histogram_of_parts(x, num_nodes, *parts.layout(x)))
  if on_host(found):
    fit = host_estimate(
      *(_host_maximise, *found, x.size), num_used=x.size, dtype=x.dtype
    )
  else:
    narrow = jax.tree.map(lambda a: a.astype(x.dtype), found)
    fit = _maximise(*narrow, jnp.asarray(x.size, jnp.int32))
  return fit._replace(scale=times_power_of_two(fit.scale, exponent))


@functools.partial(jax.jit, static_argnames=('num_nodes', 'mesh', 'spec'))
def _histogram_of_parts(
  x: Array, num_nodes: int, mesh: Mesh, spec: PartitionSpec
) -> tuple[_Histogram, Array, Array]:
  """Histogram of |x| over the largest, start of the search, the largest."""
  names = parts.axes_of(spec)

  def kernel(part: Array) -> tuple[_Histogram, Array, Array]:
    size = jnp.abs(part.reshape(-1))
    peak = lax.pmax(jnp.max(size), names)
    known = size > 0
    # As on one device, in the dtype of x.
    logs = jnp.log(jnp.where(known, size / peak, 1)).astype(jnp.float64)
    num, total = lax.psum((jnp.sum(known), jnp.sum(logs)), names)
    mean = total / num
    squares = jnp.sum(jnp.where(known, (logs - mean) ** 2, 0))
    start = _start(mean, lax.psum(squares, names) / num, jnp)
    low = start[1] - _FLAT
    cell, place = _cells(jnp.where(known, logs, low), low, num_nodes)
    counts, upper = (
      jnp.zeros((2, num_nodes))
      .at[:, cell]
      .add(jnp.stack([jnp.ones_like(place), place]))
    )
    counts, upper = lax.psum((counts / x.size, upper / x.size), names)
    u = low - low / (num_nodes - 1) * jnp.arange(num_nodes)
    return _shared(u, counts, upper, jnp), start, peak

  return parts.on_parts(kernel, mesh, spec, x)


def _host_fit(x: Any, num_nodes: int, xp: Any) -> dict[str, Any]:
  """The fit by NumPy, from the histogram on in float64."""
  peak = max(np.max(x), -np.min(x))
  histogram, start = _host_histogram(x, peak, num_nodes)
  return _host_maximise(histogram, start, peak, x.size, xp)


def _host_maximise(
  histogram: _Histogram, start: Any, peak: Any, num: int, xp: Any
) -> dict[str, Any]:
  """The fit to `num` samples by NumPy."""
  del xp  # the device has a way of its own
  search = _begun(start, np)
  while _unfinished(search):
    search = _improved(histogram, search, num, np)
  known = _known(histogram, search, num, np)
  return known | {'scale': np.float64(peak) * np.exp(search.theta[1])}


def _host_histogram(
  x: Any, peak: Any, num_nodes: int
) -> tuple[_Histogram, Any]:
  """Histogram of |x| over the largest, and the start of the search."""

  def all_logs() -> Iterator[Any]:
    parts = chunks(x.size, _NUM_BESIDE)
    return (np.log(np.abs(x[part]) / peak) for part in parts)

  num, total, squares = 0, 0.0, 0.0
  for logs in all_logs():
    known = logs if np.min(logs) > -np.inf else logs[logs > -np.inf]
    num, total = num + known.size, total + float(np.sum(known))
    squares += float(sum_of_squares(known))
  mean = np.float64(total / num)
  start = _start(mean, np.maximum(squares / num - mean**2, 0), np)
  low = start[1] - _FLAT
  step = -low / (num_nodes - 1)
  counts, upper = np.zeros((2, num_nodes))
  for logs in all_logs():
    place = np.clip((logs - low.astype(x.dtype)) / step, 0, num_nodes - 1)
    cell = np.minimum(place.astype(np.int32), num_nodes - 2)
    counts += np.bincount(cell, minlength=num_nodes)
    upper += np.bincount(cell, place - cell, num_nodes)
  u = low + step * np.arange(num_nodes)
  return _shared(u, counts / x.size, upper / x.size, np), start


@functools.partial(jax.jit, static_argnames='num_nodes')
def _histogram(x: Float[Array, ' n'], num_nodes: int) -> Any:
  """Histogram of |x| over the largest; start of the search; the largest.

  The last comes over 2^exponent, with that exponent.
  """
  x, exponent = to_unit_peak(x)
  size = jnp.abs(x)
  peak = jnp.max(size)
  # Relative to the largest, so that the unit of x does not matter.
  size = size / peak
  start = _start(*_moments(size), jnp)
  histogram = _count(size, start[1] - _FLAT, num_nodes)
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

  search = lax.while_loop(
    _unfinished,
    lambda search: _improved(histogram, search, count, jnp),
    _begun(start, jnp),
  )
  known = _known(histogram, search, count, jnp)
  known['scale'] = peak * jnp.exp(search.theta[1])
  valid = jnp.isfinite(peak) & (peak > 0)
  known = {n: jnp.where(valid, a, jnp.nan) for n, a in known.items()}
  return make_estimate(**known, num_used=num)


def _begun(start: Any, xp: Any) -> _Search:
  far = xp.asarray(np.inf, start.dtype)
  return _Search(start, 0 * start, xp.ones_like(far), far, 0)


def _unfinished(search: _Search) -> Any:
  return (search.length > _ENOUGH) & (search.count < _MAX_STEPS)


def _improved(
  histogram: _Histogram, search: _Search, num: Any, xp: Any
) -> _Search:
  """The search after a step of Fisher's scoring, or a part of it.

  The products of scores are the information if the law holds. Where it does
  not, steps may be several times too long and go to and fro for ever, so that
  each that turns back halves the part that is made.
  """
  theta = search.theta
  gradient, information = _scores(histogram, theta, xp)
  weight = xp.diag(information)
  free = _step(gradient, information, xp)
  alone = xp.stack([0 * free[0], gradient[1] / weight[1]])
  at_bound = (theta[0] == HIGH) | ((theta[0] <= LOW) & (free[0] < 0))
  step = xp.clip(xp.where(at_bound, alone, free), -0.3, 0.3)
  turned = xp.sum(weight * step * search.step) < 0
  longer = xp.minimum(_LONGER * search.rate, 1)
  rate = xp.where(turned, search.rate / 2, longer)
  # The likelihood is singular at 2: come near it by parts of the way.
  alpha = theta[0] + xp.minimum(rate * step[0], 0.8 * (HIGH - theta[0]))
  alpha = xp.maximum(alpha, LOW)
  alpha = xp.where(alpha > HIGH - TOUCH, HIGH, alpha)
  moved = xp.stack([alpha, theta[1] + rate * step[1]])
  lengths = xp.abs(moved - theta) * xp.sqrt(weight * num)
  return _Search(moved, step, rate, xp.max(lengths) / rate, search.count + 1)


def _moments(size: Float[Array, ' n']) -> tuple[Array, Array]:
  """Mean and variance of the logarithms of what is not zero."""
  known = size > 0
  num = jnp.sum(known, dtype=size.dtype)
  logs = jnp.log(jnp.where(known, size, 1))
  mean = jnp.sum(logs) / num
  return mean, jnp.sum(jnp.where(known, (logs - mean) ** 2, 0)) / num


def _start(mean: Any, variance: Any, xp: Any) -> Any:
  """alpha and log(scale) from the mean and the variance of log|x|."""
  inverse_square = 6 * variance / math.pi**2 - 0.5
  alpha = 1 / xp.sqrt(xp.maximum(inverse_square, 0.25))
  alpha = xp.clip(alpha, LOW + 0.1, HIGH - 0.05)
  return xp.stack([alpha, mean - np.euler_gamma * (1 / alpha - 1)])


def _count(
  size: Float[Array, ' n'], low: Float[Array, ''], num_nodes: int
) -> _Histogram:
  """Share the samples, |x| <= 1, among nodes between e^low and 1."""
  step = -low / (num_nodes - 1)
  tiny = jnp.finfo(size.dtype).tiny
  cell, place = _cells(jnp.log(jnp.maximum(size, tiny)), low, num_nodes)
  count = jnp.zeros(num_nodes, jnp.int32).at[cell].add(1)
  upper = jnp.zeros(num_nodes, size.dtype).at[cell].add(place)
  count = count.astype(size.dtype) / size.size
  u = low + step * jnp.arange(num_nodes, dtype=size.dtype)
  return _shared(u, count, upper / size.size, jnp)


def _cells(logs: Array, low: Array, num_nodes: int) -> tuple[Array, Array]:
  """The node at or below each of the logarithms, and the place above it."""
  step = -low / (num_nodes - 1)
  place = jnp.clip((logs - low) / step, 0, num_nodes - 1)
  cell = jnp.minimum(place.astype(jnp.int32), num_nodes - 2)
  return cell, place - cell.astype(place.dtype)


def _shared(u: Any, count: Any, upper: Any, xp: Any) -> _Histogram:
  """The histogram of counts in cells, and their sums of places there."""
  below = xp.cumsum(count[:-1])
  return _Histogram(
    u,
    count - upper + xp.roll(upper, 1),
    xp.concatenate([xp.zeros_like(below[:1]), below]),
  )


def _scores(histogram: _Histogram, theta: Any, xp: Any) -> tuple[Any, Any]:
  """Mean of the scores in (alpha, log scale), and of their products."""
  alpha, log_scale = theta
  slopes = stable_slopes.slopes(histogram.u - log_scale, alpha, xp)
  score = xp.stack([slopes.by_alpha, -1 - slopes.by_log_x])
  # A node without samples may lie where the density underflows.
  score = xp.where(histogram.share > 0, score, 0)
  weighted = histogram.share[None, :] * score
  products = weighted[:, None, :] * score[None, :, :]
  return xp.sum(weighted, axis=1), xp.sum(products, axis=2)


def _step(gradient: Any, information: Any, xp: Any) -> Any:
  (a, b), (_, c) = information
  return xp.stack(
    [c * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]]
  ) / (a * c - b**2)


def _known(
  histogram: _Histogram, search: _Search, num: Any, xp: Any
) -> dict[str, Any]:
  """The end of the search: all of the estimate but its scale."""
  error, distance = _error_and_distance(histogram, search.theta, num, xp)
  return {
    'alpha': search.theta[0],
    'standard_error': xp.where(search.length > _ENOUGH, np.nan, error),
    'ks_distance': distance,
    'p_value': kolmogorov_p_value(distance, num, xp),
  }


def _error_and_distance(
  histogram: _Histogram, theta: Any, num: Any, xp: Any
) -> tuple[Any, Any]:
  """Standard error of alpha, and the distance of the fitted law.

  The error is the distance below alpha at which the log-likelihood has fallen
  by one half, to second order; inside the range, one over the root of the
  information.
  """
  alpha, log_scale = xp.minimum(theta[0], HIGH - TOUCH), theta[1]
  # The scores change over distances of 2 - alpha.
  width = xp.maximum(_RELATIVE_STEP * (HIGH - alpha), _LEAST_STEP)
  low = xp.maximum(alpha - width, LOW)
  high = xp.minimum(alpha + width, HIGH - TOUCH)
  points = [
    (theta[0], log_scale),
    (alpha, log_scale),
    (low, log_scale),
    (high, log_scale),
    (alpha, log_scale - _SCALE_STEP),
    (alpha, log_scale + _SCALE_STEP),
  ]

  def at(point: Any) -> tuple[Any, Any]:
    gradient, _ = _scores(histogram, point, xp)
    return gradient, _distance(histogram, point, xp)

  # One after another, which compiles once.
  stacked = xp.stack([xp.stack(point) for point in points])
  if xp is np:
    gradients, distances = zip(*map(at, stacked), strict=True)
  else:
    gradients, distances = lax.map(at, stacked)
  _, gradient, *scores = gradients
  a, b = (scores[0] - scores[1]) / (high - low)
  c = (scores[2][1] - scores[3][1]) / (2 * _SCALE_STEP)
  curvature = (a - b**2 / c) * num
  slope = (gradient[0] - b / c * gradient[1]) * num
  slope = xp.where(theta[0] >= HIGH, xp.maximum(slope, 0), 0)
  error = 1 / (slope + xp.sqrt(slope**2 + curvature))
  return error, distances[0]


def _distance(histogram: _Histogram, theta: Any, xp: Any) -> Any:
  alpha, log_scale = theta
  tail = stable_slopes.slopes(histogram.u - log_scale, alpha, xp).tail
  return xp.max(xp.abs(1 - 2 * tail - histogram.below)[1:])
