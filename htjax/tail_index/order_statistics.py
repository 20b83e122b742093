"""Tail index from the largest values: y_1 >= y_2 >= .. are the sorted |x|.

All take k = `num_top` and look at y_1, .., y_{k+1} only. They are consistent
for any law with a regular tail, as k grows and k / n tends to zero; at a given
n their bias is that of the law's distance to a power law beyond y_{k+1}.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Shaped

from htjax.checks import check_count, check_range, check_real, checked
from htjax.floats import times_power_of_two, to_unit_peak
from htjax.tail_index.estimate import (
  TailEstimate,
  check_determined,
  check_samples,
  known_where,
  kolmogorov_p_value,
  make_estimate,
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
  x = check_samples('x', x, 1, 2)
  if num_tops is not None:
    check_real('num_tops', num_tops)
  tops = np.arange(1, x.size) if num_tops is None else np.asarray(num_tops)
  if tops.ndim != 1 or tops.size == 0 or tops.dtype.kind not in 'iu':
    raise ValueError(f'num_tops must be a list of integers, got {num_tops!r}')
  check_range('num_tops', tops, 1, x.size - 1)
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
  known = _pickands(_samples(x, num_top, 2), int(num_top))
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
  known = _de_haan_resnick(_samples(x, num_top, 2), int(num_top))
  return check_determined('x', make_estimate(**known, num_used=num_top))


def _samples(x: ArrayLike, num_top: int, least: int) -> Array:
  check_count('num_top', num_top, least)
  return check_samples('x', x, 1, num_top + 1)


@functools.partial(jax.jit, static_argnames='room')
def _hill(x: Float[Array, ' n'], num_top: Array, room: int) -> dict[str, Array]:
  y, exponent = _largest(x, room)
  threshold = y[num_top]
  inside = jnp.arange(room, dtype=jnp.int32) < num_top
  excess = jnp.log(jnp.where(inside, y[:room], threshold) / threshold)
  num = num_top.astype(x.dtype)
  alpha = 1 / (jnp.sum(excess) / num)
  ks_distance = power_law_distance(alpha, excess, num_top)
  return {
    'alpha': alpha,
    'standard_error': alpha / jnp.sqrt(num),
    'scale': times_power_of_two(threshold, exponent),
    'ks_distance': ks_distance,
    'p_value': kolmogorov_p_value(ks_distance, num_top),
  }


@functools.partial(jax.jit, static_argnames='num_top')
def _moment(
  x: Float[Array, ' n'], num_top: int
) -> tuple[dict[str, Array], Array]:
  excess, threshold = _log_excesses(x, num_top)
  first, second = jnp.mean(excess), jnp.mean(excess**2)
  inverse = first + 1 - 0.5 / (1 - first**2 / second)
  alpha = 1 / inverse
  error = alpha**2 * jnp.sqrt((1 + inverse**2) / num_top)
  known = {'alpha': alpha, 'standard_error': error, 'scale': threshold}
  # A NaN has the estimate looked at.
  return known, ~(inverse < 0)


@functools.partial(jax.jit, static_argnames='num_top')
def _pickands(x: Float[Array, ' n'], num_top: int) -> dict[str, Array]:
  y, exponent = _largest(x, num_top)
  outer, middle, inner = y[num_top], y[num_top // 2], y[num_top // 4]
  g = jnp.log2((inner - middle) / (middle - outer))
  # g / (2^g - 1) is 1 / log 2 at g = 0.
  slope = jnp.where(g == 0, 1 / math.log(2), g / jnp.where(g == 0, 1, 2**g - 1))
  error = slope * jnp.sqrt((2 ** (2 * g + 1) + 1) / num_top) / math.log(2)
  alpha = 1 / g
  return {
    'alpha': alpha,
    'standard_error': alpha**2 * error,
    'scale': times_power_of_two(outer, exponent),
  }


@functools.partial(jax.jit, static_argnames='num_top')
def _de_haan_resnick(x: Float[Array, ' n'], num_top: int) -> dict[str, Array]:
  excess, threshold = _log_excesses(x, num_top)
  alpha = math.log(num_top) / excess[0]
  error = alpha * math.pi / (math.sqrt(6) * math.log(num_top))
  return {'alpha': alpha, 'standard_error': error, 'scale': threshold}


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


def _log_excesses(
  x: Float[Array, ' n'], num_top: int
) -> tuple[Float[Array, ' {num_top}'], Float[Array, '']]:
  """log(y_i / y_{k+1}) for i <= k, from the largest down, and y_{k+1}."""
  y, exponent = _largest(x, num_top)
  excess = jnp.log(y[:num_top] / y[num_top])
  return excess, times_power_of_two(y[num_top], exponent)


def log_excess_sums(y: Array) -> Array:
  """H_k = sum_{i <= k} log(y_i / y_k) of descending y, for k = 1, .., n.

  The values at zeros are not to be used.
  """
  top, below = y[:-1], y[1:]
  safe = jnp.where(below > 0, below, 1)
  steps = jnp.where(below > 0, jnp.log1p((top - below) / safe), 0)
  steps = steps * jnp.arange(1, y.size, dtype=y.dtype)
  return jnp.concatenate([jnp.zeros_like(y[:1]), jnp.cumsum(steps)])


def power_law_distance(
  alpha: Float[Array, ''], excess: Float[Array, ' m'], num: ArrayLike
) -> Float[Array, '']:
  """Kolmogorov-Smirnov distance of log excesses to the law e^(-alpha t).

  Args:
    alpha: [], tail index.
    excess: [m], log excesses in descending order; only the first `num` count.
    num: number of excesses, traced.

  Returns:
    The distance, []. Ranks inside a tie lie between those at its ends, so ties
    need no care.
  """
  rank = jnp.arange(1, excess.size + 1, dtype=excess.dtype)
  num = jnp.asarray(num, excess.dtype)
  above = jnp.exp(-alpha * excess)
  gap = jnp.maximum(jnp.abs(above - rank / num), above - (rank - 1) / num)
  gap = jnp.where(rank <= num, gap, 0)
  return jnp.where(jnp.isnan(alpha), jnp.nan, jnp.max(gap))
