"""Tail index from the largest values: y_1 >= y_2 >= .. are the sorted |x|.

All take k = `num_top` and look at y_1, .., y_{k+1} only. They are consistent
for any law with a regular tail, as k grows and k / n tends to zero; at a given
n their bias is that of the law's distance to a power law beyond y_{k+1}.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Shaped

from htjax.checks import (
  check_count,
  check_finite,
  check_range,
  check_real,
  checked,
)
from htjax.compressibility.kth_largest import top_of_spread
from htjax.floats import as_floating, times_power_of_two, to_unit_peak
from htjax.host import Working, chunks, is_spread, on_host, top
from htjax.tail_index.estimate import (
  TailEstimate,
  check_determined,
  host_estimate,
  known_where,
  kolmogorov_p_value,
  make_estimate,
  working_samples,
)
from htjax.types import Array, ArrayLike

# Of the arrays of largest values that `hill` works on.
_LEAST_ROOM = 64


@checked
def hill(x: Shaped[ArrayLike, '...'], num_top: int) -> TailEstimate:
  """Hill's estimate, the maximum likelihood of a power law beyond y_{k+1}.

  1/alpha = mean over i <= k of log(y_i / y_{k+1}).

  Args:
    x: any shape, any unit (the estimate is free of scale).
    num_top: k, 1 <= k < x.size; see `hill_plot` for many.

  Returns:
    TailEstimate: standard error alpha / sqrt(k), `scale` y_{k+1}. `p_value` is
    Kolmogorov's, of the power law for the k largest, and too large because
    alpha was fitted: see `power_law_p_value` for a calibrated one.

  Raises:
    ValueError: x too small for num_top, num_top < 1; concrete x with NaN or
      infinity, or with zero or equal values at the top.

  Values: NaN or infinity in x gives NaN.

  Source: [Hill1975].

  Examples:
    >>> import jax
    >>> from htjax import tail_index
    >>> x = jax.random.pareto(jax.random.key(0), 1.5, (10_000,))
    >>> estimate = tail_index.hill(x, 400)
    >>> bool(abs(estimate.alpha - 1.5) < 4 * estimate.standard_error)
    True
  """
  x = _samples(x, num_top, 1)
  if on_host(x):
    return _host(hill_of, x, num_top)
  # Few programs serve every number; the largest values are found in one pass.
  room = min(max(_LEAST_ROOM, 4 ** math.ceil(math.log(num_top, 4))), x.size - 1)
  known = _hill(x, jnp.int32(num_top), room)
  return check_determined('x', make_estimate(**known, num_used=num_top))


@checked
def hill_plot(
  x: ArrayLike, num_tops: Sequence[int] | np.ndarray | None = None
) -> TailEstimate:
  """Hill's estimates for many numbers of largest values, by one sort.

  Args:
    x: any shape, any unit.
    num_tops: the numbers k, 1 <= k < x.size, concrete; None is all of them.

  Returns:
    TailEstimate of arrays [len(num_tops)], each entry as `hill` has it, but
    without its test of fit. Infinite where the k + 1 largest values are equal,
    0 where y_{k+1} is zero.

  Raises:
    ValueError: numbers that are not integers or out of range; otherwise as
      `hill`.

  Values: NaN or infinity in x gives NaN.

  Source: [Drees2000].

  Examples:
    >>> import jax
    >>> from htjax import tail_index
    >>> x = jax.random.pareto(jax.random.key(0), 1.5, (1000,))
    >>> plot = tail_index.hill_plot(x, [50, 100, 200])
    >>> plot.alpha.shape, bool(((plot.alpha > 1) & (plot.alpha < 2)).all())
    ((3,), True)
  """
  x = as_floating('x', x) if is_spread(x) else working_samples('x', x, 1, 2)
  if num_tops is not None:
    check_real('num_tops', num_tops)
  tops = np.arange(1, x.size) if num_tops is None else np.asarray(num_tops)
  if tops.ndim != 1 or tops.size == 0 or tops.dtype.kind not in 'iu':
    raise ValueError(f'num_tops must be a list of integers, got {num_tops!r}')
  check_range('num_tops', tops, 1, x.size - 1)
  if is_spread(x):
    x = _enough(x, int(tops.max()))
  if on_host(x):
    y = top(np.abs(x), int(tops.max()) + 1)
    return host_estimate(_hill_plot_of, y, tops, num_used=tops, dtype=x.dtype)
  nums = jnp.asarray(tops, jnp.int32)
  return make_estimate(**_hill_plot(x, nums), num_used=nums)


@checked
def moment(x: Shaped[ArrayLike, '...'], num_top: int) -> TailEstimate:
  """Moment estimate of Dekkers, Einmahl and de Haan.

  1/alpha = M1 + 1 - 1 / (2 (1 - M1^2 / M2)), M_j = mean over i <= k of
  log(y_i / y_{k+1})^j. Light tails give a negative alpha, or a huge one.

  Args:
    x: any shape, any unit.
    num_top: k, static, 2 <= k < x.size.

  Returns:
    TailEstimate: standard error alpha^2 sqrt(1 + 1/alpha^2) / sqrt(k), for
    1/alpha >= 0 (NaN below). `scale` is y_{k+1}; no test of fit.

  Raises:
    ValueError: as `hill`, num_top < 2.

  Values: NaN or infinity in x gives NaN.

  Source: [Dekkers1989].

  Examples:
    >>> import jax
    >>> from htjax import tail_index
    >>> x = jax.random.pareto(jax.random.key(0), 1.5, (10_000,))
    >>> estimate = tail_index.moment(x, 400)
    >>> bool(abs(estimate.alpha - 1.5) < 4 * estimate.standard_error)
    True
  """
  x = _samples(x, num_top, 2)
  if on_host(x):
    return _host(moment_of, x, num_top)
  known, defined = _moment(x, int(num_top))
  known['standard_error'] = known_where(defined, known['standard_error'])
  return check_determined('x', make_estimate(**known, num_used=num_top))


@checked
def pickands(x: Shaped[ArrayLike, '...'], num_top: int) -> TailEstimate:
  """Pickands' estimate, from three of the largest values.

  1/alpha = log((y_{a+1} - y_{b+1}) / (y_{b+1} - y_{k+1})) / log 2 with
  b = floor(k / 2) and a = floor(k / 4): free of scale and of location on the
  side of the tail. The original has y_{k/4}, y_{k/2}, y_k, which is the same
  in the limit.

  Args:
    x: any shape, any unit.
    num_top: k, static, 2 <= k < x.size, best a multiple of 4.

  Returns:
    TailEstimate with `scale` y_{k+1} and no test of fit; with g = 1/alpha, the
    standard error of g is g sqrt(2^(2g+1) + 1) / (2 (2^g - 1) log 2
    sqrt(k / 4)). Wide: at alpha = 1.5 four times that of `hill`.

  Raises:
    ValueError: as `hill`, num_top < 2.

  Values: NaN or infinity in x gives NaN.

  Source: [Pickands1975]; [DekkersDeHaan1989], Theorem 2.3.

  Examples:
    >>> import jax
    >>> from htjax import tail_index
    >>> x = jax.random.pareto(jax.random.key(0), 1.5, (10_000,))
    >>> estimate = tail_index.pickands(x, 400)
    >>> bool(abs(estimate.alpha - 1.5) < 4 * estimate.standard_error)
    True
  """
  x = _samples(x, num_top, 2)
  if on_host(x):
    return _host(pickands_of, x, num_top)
  known = _pickands(x, int(num_top))
  return check_determined('x', make_estimate(**known, num_used=num_top))


@checked
def de_haan_resnick(x: Shaped[ArrayLike, '...'], num_top: int) -> TailEstimate:
  """De Haan and Resnick's estimate, 1/alpha = log(y_1 / y_{k+1}) / log k.

  Here for comparison with published values: it converges like 1 / log k and
  leans low by the factor 1 + 0.58 / log k.

  Args:
    x: any shape, any unit.
    num_top: k, static, 2 <= k < x.size.

  Returns:
    TailEstimate with `scale` y_{k+1} and no test of fit. log(k) (alpha/alpha^ -
    1) tends to Gumbel's law, which is not symmetric and has not mean 0: the
    standard error, alpha pi / (sqrt(6) log k), makes no 95 % interval.

  Raises:
    ValueError: as `hill`, num_top < 2.

  Values: NaN or infinity in x gives NaN.

  Source: [DeHaan1980].

  Examples:
    >>> import jax
    >>> from htjax import tail_index
    >>> x = jax.random.pareto(jax.random.key(0), 1.5, (10_000,))
    >>> estimate = tail_index.de_haan_resnick(x, 400)
    >>> bool(abs(estimate.alpha - 1.5) < 4 * estimate.standard_error)
    True
  """
  x = _samples(x, num_top, 2)
  if on_host(x):
    return _host(de_haan_resnick_of, x, num_top)
  known = _de_haan_resnick(x, int(num_top))
  return check_determined('x', make_estimate(**known, num_used=num_top))


def _samples(x: ArrayLike, num_top: int, least: int) -> Working:
  check_count('num_top', num_top, least)
  return _enough(x, num_top)


def _enough(x: ArrayLike, num_top: int) -> Working:
  """Samples of which the k + 1 largest |x| may be taken.

  Of an array that is spread over devices these are all: each device finds its
  own, which then meet.
  """
  if is_spread(x):
    x = as_floating('x', x)
    if x.size > num_top:
      check_finite('x', x)
      return top_of_spread(x, num_top + 1)
  return working_samples('x', x, 1, num_top + 1)


def _host(kernel: Any, x: Any, num_top: int) -> TailEstimate:
  """An estimate by NumPy, from the k + 1 largest |x| alone."""
  return of_sorted(kernel, top(np.abs(x), num_top + 1), num_top)


def of_sorted(kernel: Any, y: Any, num_top: int) -> TailEstimate:
  """The estimate that a kernel makes of descending y >= 0, by NumPy."""
  wide = y[: num_top + 1].astype(np.float64)
  estimate = host_estimate(
    kernel, wide, num_top, num_used=num_top, dtype=y.dtype
  )
  return check_determined('x', estimate)


def hill_of(y: Any, num_top: Any, xp: Any = jnp) -> dict[str, Any]:
  """Hill's estimate of descending y, of which k + 1 or more are given."""
  room = y.size - 1
  threshold = y[num_top]
  inside = xp.arange(room) < num_top
  excess = xp.log(xp.where(inside, y[:room], threshold) / threshold)
  num = xp.asarray(num_top, y.dtype)
  alpha = 1 / (xp.sum(excess) / num)
  ks_distance = power_law_distance(alpha, excess, num_top, xp)
  return {
    'alpha': alpha,
    'standard_error': alpha / xp.sqrt(num),
    'scale': threshold,
    'ks_distance': ks_distance,
    'p_value': kolmogorov_p_value(ks_distance, num_top, xp),
  }


def moment_of(y: Any, num_top: int, xp: Any = jnp) -> dict[str, Any]:
  """The moment estimate of descending y; its error is NaN where undefined."""
  excess = xp.log(y[:num_top] / y[num_top])
  first, second = xp.mean(excess), xp.mean(excess**2)
  inverse = first + 1 - 0.5 / (1 - first**2 / second)
  alpha = 1 / inverse
  error = alpha**2 * xp.sqrt((1 + inverse**2) / num_top)
  if xp is np:
    # On the device what is looked at for NaN must not hold one.
    error = np.where(inverse < 0, np.nan, error)
  return {'alpha': alpha, 'standard_error': error, 'scale': y[num_top]}


def pickands_of(y: Any, num_top: int, xp: Any = jnp) -> dict[str, Any]:
  """Pickands' estimate of descending y."""
  outer, middle, inner = y[num_top], y[num_top // 2], y[num_top // 4]
  g = xp.log2((inner - middle) / (middle - outer))
  # g / (2^g - 1) is 1 / log 2 at g = 0.
  slope = xp.where(g == 0, 1 / math.log(2), g / xp.where(g == 0, 1, 2**g - 1))
  error = slope * xp.sqrt((2 ** (2 * g + 1) + 1) / num_top) / math.log(2)
  alpha = 1 / g
  return {'alpha': alpha, 'standard_error': alpha**2 * error, 'scale': outer}


def de_haan_resnick_of(y: Any, num_top: int, xp: Any = jnp) -> dict[str, Any]:
  """De Haan and Resnick's estimate of descending y."""
  alpha = math.log(num_top) / xp.log(y[0] / y[num_top])
  error = alpha * math.pi / (math.sqrt(6) * math.log(num_top))
  return {'alpha': alpha, 'standard_error': error, 'scale': y[num_top]}


def _hill_plot_of(y: Any, tops: Any, xp: Any) -> dict[str, Any]:
  del xp  # the device has a way of its own
  # H_{k+1} of the sorted values is the sum over i <= k of log(y_i / y_{k+1}).
  total = log_excess_sums_at(y, tops + 1)
  total = np.where(y[tops] > 0, total, np.inf)
  alpha = tops / total
  error = alpha / np.sqrt(tops)
  return {'alpha': alpha, 'standard_error': error, 'scale': y[tops]}


@functools.partial(jax.jit, static_argnames='room')
def _hill(x: Float[Array, ' n'], num_top: Array, room: int) -> dict[str, Array]:
  y, exponent = _largest(x, room)
  return _in_unit(hill_of(y, num_top), exponent)


@functools.partial(jax.jit, static_argnames='num_top')
def _moment(
  x: Float[Array, ' n'], num_top: int
) -> tuple[dict[str, Array], Array]:
  y, exponent = _largest(x, num_top)
  known = _in_unit(moment_of(y, num_top), exponent)
  # A NaN has the estimate looked at.
  return known, ~(known['alpha'] < 0)


@functools.partial(jax.jit, static_argnames='num_top')
def _pickands(x: Float[Array, ' n'], num_top: int) -> dict[str, Array]:
  y, exponent = _largest(x, num_top)
  return _in_unit(pickands_of(y, num_top), exponent)


@functools.partial(jax.jit, static_argnames='num_top')
def _de_haan_resnick(x: Float[Array, ' n'], num_top: int) -> dict[str, Array]:
  y, exponent = _largest(x, num_top)
  return _in_unit(de_haan_resnick_of(y, num_top), exponent)


def _in_unit(known: dict[str, Array], exponent: Array) -> dict[str, Array]:
  return known | {'scale': times_power_of_two(known['scale'], exponent)}


@jax.jit
def _hill_plot(x: Float[Array, ' n'], num_tops: Array) -> dict[str, Array]:
  x, exponent = to_unit_peak(x)
  y = -jnp.sort(-jnp.abs(x))
  # H_{k+1} of the sorted values is the sum over i <= k of log(y_i / y_{k+1}).
  total = log_excess_sums(y)[num_tops]
  total = jnp.where(y[num_tops] > 0, total, jnp.inf)
  num = num_tops.astype(x.dtype)
  alpha = jnp.where(jnp.isfinite(y[0]), num / total, jnp.nan)
  return {
    'alpha': alpha,
    'standard_error': alpha / jnp.sqrt(num),
    'scale': times_power_of_two(y[num_tops], exponent),
  }


def _largest(x: Float[Array, ' n'], num_top: int) -> tuple[Array, Array]:
  """y_1 >= .. >= y_{k+1} over 2^exponent, and that exponent.

  NaN if x is not finite; NaN are sorted first.
  """
  x, exponent = to_unit_peak(x)
  y = lax.top_k(jnp.abs(x), num_top + 1)[0]
  # Without it XLA on CPU sorts all of x, a hundred times slower.
  y = lax.optimization_barrier(y)
  return jnp.where(jnp.isfinite(y[0]), y, jnp.nan), exponent


def log_excess_sums(y: Array) -> Array:
  """H_k = sum_{i <= k} log(y_i / y_k) of descending y, for k = 1, .., n.

  The values at zeros are not to be used.
  """
  top, below = y[:-1], y[1:]
  safe = jnp.where(below > 0, below, 1)
  steps = jnp.where(below > 0, jnp.log1p((top - below) / safe), 0)
  steps = steps * jnp.arange(1, y.size, dtype=y.dtype)
  return jnp.concatenate([jnp.zeros_like(y[:1]), jnp.cumsum(steps)])


def log_excess_sums_at(y: Any, ranks: Any) -> Any:
  """H_k of descending y at the given k >= 1, in float64, by NumPy."""
  total, sums = 0.0, np.zeros(ranks.shape)
  for part in chunks(y.size - 1):
    values = y[part.start : part.stop + 1].astype(np.float64)
    top, below = values[:-1], values[1:]
    safe = np.where(below > 0, below, 1)
    steps = np.log1p((top - below) / safe) * (below > 0)
    steps *= np.arange(part.start + 1, part.stop + 1)
    growing = total + np.cumsum(steps)
    inside = (ranks > part.start + 1) & (ranks <= part.stop + 1)
    sums[inside] = growing[ranks[inside] - part.start - 2]
    total = growing[-1]
  return sums


def power_law_distance(
  alpha: Any, excess: Any, num: ArrayLike, xp: Any = jnp
) -> Any:
  """Kolmogorov-Smirnov distance of log excesses to the law e^(-alpha t).

  Args:
    alpha: [], tail index.
    excess: [m], log excesses in descending order; only the first `num` count.
    num: number of excesses, traced.
    xp: `jax.numpy` or `numpy`.

  Returns:
    The distance, []. Ranks inside a tie lie between those at its ends, so ties
    need no care.
  """
  rank = xp.arange(1, excess.size + 1, dtype=excess.dtype)
  num = xp.asarray(num, excess.dtype)
  above = xp.exp(-alpha * excess)
  gap = xp.maximum(xp.abs(above - rank / num), above - (rank - 1) / num)
  gap = xp.where(rank <= num, gap, 0)
  return xp.where(xp.isnan(alpha), xp.nan, xp.max(gap))
