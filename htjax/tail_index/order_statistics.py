"""Tail index from the largest values: y_1 >= y_2 >= .. are the sorted |x|.

All take k = `num_top` and look at y_1, .., y_{k+1} only. They are consistent
for any law with a regular tail, as k grows and k / n tends to zero; at a given
n their bias is that of the law's distance to a power law beyond y_{k+1}.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from htjax.checks import check_count
from htjax.tail_index.estimate import (
  TailEstimate,
  check_determined,
  check_samples,
  kolmogorov_p_value,
  make_estimate,
)
from htjax.types import Array, ArrayLike


def hill(x: ArrayLike, num_top: int) -> TailEstimate:
  """Hill's estimate, the maximum likelihood of a power law beyond y_{k+1}.

  1/alpha = mean over i <= k of log(y_i / y_{k+1}).

  Args:
    x: any shape, any unit (the estimate is free of scale).
    num_top: k, static, 1 <= k < x.size.

  Returns:
    TailEstimate: standard error alpha / sqrt(k), `scale` y_{k+1}. `p_value` is
    Kolmogorov's, of the power law for the k largest, and too large because
    alpha was fitted: see `power_law_p_value` for a calibrated one.

  Raises:
    ValueError: x too small for num_top, num_top < 1; concrete x with NaN or
      infinity, or with zero or equal values at the top.

  Values: NaN or infinity in x gives NaN.

  Source: Hill (1975), Annals of Statistics 3(5).
  """
  return _estimate(_hill, x, num_top, 1)


def moment(x: ArrayLike, num_top: int) -> TailEstimate:
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

  Source: Dekkers, Einmahl & de Haan (1989), Annals of Statistics 17(4).
  """
  return _estimate(_moment, x, num_top, 2)


def pickands(x: ArrayLike, num_top: int) -> TailEstimate:
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

  Source: Pickands (1975), Annals of Statistics 3(1); Dekkers & de Haan (1989),
    Annals of Statistics 17(4), Theorem 2.3.
  """
  return _estimate(_pickands, x, num_top, 2)


def de_haan_resnick(x: ArrayLike, num_top: int) -> TailEstimate:
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

  Source: de Haan & Resnick (1980), Journal of the Royal Statistical Society B
    42(1).
  """
  return _estimate(_de_haan_resnick, x, num_top, 2)


def _estimate(kernel, x, num_top: int, least: int) -> TailEstimate:
  check_count('num_top', num_top, least)
  x = check_samples('x', x, 1, num_top + 1)
  return check_determined('x', kernel(x, int(num_top)))


@functools.partial(jax.jit, static_argnames='num_top')
def _hill(x: Array, num_top: int) -> TailEstimate:
  excess, threshold = _log_excesses(x, num_top)
  alpha = 1 / jnp.mean(excess)
  ks_distance = power_law_distance(alpha, excess, num_top)
  return make_estimate(
    alpha,
    alpha / math.sqrt(num_top),
    num_top,
    scale=threshold,
    ks_distance=ks_distance,
    p_value=kolmogorov_p_value(ks_distance, num_top),
  )


@functools.partial(jax.jit, static_argnames='num_top')
def _moment(x: Array, num_top: int) -> TailEstimate:
  excess, threshold = _log_excesses(x, num_top)
  first, second = jnp.mean(excess), jnp.mean(excess**2)
  inverse = first + 1 - 0.5 / (1 - first**2 / second)
  alpha = 1 / inverse
  error = alpha**2 * jnp.sqrt((1 + inverse**2) / num_top)
  error = jnp.where(inverse >= 0, error, jnp.nan)
  return make_estimate(alpha, error, num_top, scale=threshold)


@functools.partial(jax.jit, static_argnames='num_top')
def _pickands(x: Array, num_top: int) -> TailEstimate:
  y = _largest(x, num_top)
  outer, middle, inner = y[num_top], y[num_top // 2], y[num_top // 4]
  g = jnp.log2((inner - middle) / (middle - outer))
  # g / (2^g - 1) is 1 / log 2 at g = 0.
  slope = jnp.where(g == 0, 1 / math.log(2), g / jnp.where(g == 0, 1, 2**g - 1))
  error = slope * jnp.sqrt((2 ** (2 * g + 1) + 1) / num_top) / math.log(2)
  alpha = 1 / g
  return make_estimate(alpha, alpha**2 * error, num_top, scale=outer)


@functools.partial(jax.jit, static_argnames='num_top')
def _de_haan_resnick(x: Array, num_top: int) -> TailEstimate:
  excess, threshold = _log_excesses(x, num_top)
  alpha = math.log(num_top) / excess[0]
  error = alpha * math.pi / (math.sqrt(6) * math.log(num_top))
  return make_estimate(alpha, error, num_top, scale=threshold)


def _largest(x: Array, num_top: int) -> Array:
  """y_1 >= .. >= y_{k+1}, or NaN if x is not finite; NaN are sorted first."""
  y = lax.top_k(jnp.abs(x), num_top + 1)[0]
  # Without it XLA on CPU sorts all of x, a hundred times slower.
  y = lax.optimization_barrier(y)
  return jnp.where(jnp.isfinite(y[0]), y, jnp.nan)


def _log_excesses(x: Array, num_top: int) -> tuple[Array, Array]:
  """log(y_i / y_{k+1}) for i <= k, from the largest down, and y_{k+1}."""
  y = _largest(x, num_top)
  return jnp.log(y[:num_top] / y[num_top]), y[num_top]


def power_law_distance(alpha: Array, excess: Array, num: ArrayLike) -> Array:
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
