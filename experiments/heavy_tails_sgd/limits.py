"""Limits and rates of the errors of independent stable weights.

Lemma S2 and Theorem 2 of "Heavy Tails in SGD and Compressibility of
Overparametrized Neural Networks", and what its section S1.6.2 measures.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.common.cells import Cell, Row, cell
from experiments.heavy_tails_sgd.synthetic import (
  STRUCTURES,
  make_key,
  matrix_ratios,
)
from htjax import compressibility, mean_field, stable

# Values that another program found, of 250,000 entries at relative error 0.1.
_ALPHAS = (1.75, 1.8, 1.85, 1.9, 1.95, 2.0)
_RATIOS = {
  'independent': (0.45, 0.38, 0.35, 0.315, 0.286, 0.2653),
  'columns': (0.34, 0.33, 0.31, 0.28, 0.27, 0.265),
}
# And of single draws of 800 by 800 entries, half of the singular values kept.
_SINGULAR = {1.2: 0.050, 1.6: 0.134, 1.9: 0.290, 2.0: 0.326}


def cells(config: ConfigDict) -> Iterator[Cell]:
  """A cell for each group of limits."""
  for name, limit in LIMITS.items():
    yield cell(name, limit, config, study='limits')


def repeated(
  config: ConfigDict, cell: int, measure: Callable[..., Any], *arguments: Any
) -> Any:
  """`measure(*arguments, key)` of each repeat, one by one; in float64.

  One program for all arguments, where `measure` is the same object.
  """
  found = _repeats(measure, cell, config.limits.repeats, *arguments)
  return jax.tree.map(lambda a: np.asarray(a, np.float64), found)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _repeats(
  measure: Callable[..., Any], cell: int, repeats: int, *arguments: Any
) -> Any:
  def one(i: Any) -> Any:
    return measure(*arguments, make_key('limits', cell, i))

  return jax.lax.map(one, jnp.arange(repeats))


Interval = tuple[float, float, float]  # value, low, high


def limit_row(
  statement: str,
  what: str,
  alpha: float,
  interval: Sequence[float],
  predicted: float | None,
  slack: float = 0.0,
) -> Row:
  """It holds if the prediction lies in the interval, or as near as slack."""
  row = {'statement': statement, 'what': what, 'alpha': alpha}
  value, low, high = interval
  row |= {'value': value, 'low': low, 'high': high, 'predicted': predicted}
  if predicted is None:
    return row | {'holds': None}
  ends = (1 - slack) * low, (1 + slack) * high
  return row | {'holds': bool(ends[0] <= predicted <= ends[1])}


def mean_interval(values: np.ndarray, bias: float = 0.0) -> Interval:
  """A mean, three standard errors and a bias on either side."""
  reach = 3 * values.std(ddof=1) / math.sqrt(len(values)) + bias
  return values.mean(), values.mean() - reach, values.mean() + reach


def median_interval(values: np.ndarray) -> Interval:
  """A median and order statistics, three deviations of rank away: 99.7 %."""
  ordered, num = np.sort(values), len(values)
  reach = math.ceil(1.5 * math.sqrt(num))
  low, high = num // 2 - reach, (num - 1) // 2 + reach
  ends = float(ordered[max(low, 0)]), float(ordered[min(high, num - 1)])
  return float(np.median(values)), *ends


def range_interval(values: np.ndarray) -> Interval:
  """A median, and between which values 98 % of the draws lie."""
  low, middle, high = np.quantile(values, (0.01, 0.5, 0.99)).tolist()
  return middle, low, high


def _draw_error(
  sample: Any, size: int, kappa: Any, p: float
) -> Callable[[Any, Any], Any]:
  """(alpha, key) -> the error of a fresh sample with a kept fraction."""

  def error(alpha: Any, key: Any) -> Any:
    x = sample(key, alpha, (size,))
    return compressibility.compression_error(x, kappa, p=p)

  return error


def _gaussian(config: ConfigDict) -> Iterator[Row]:
  """alpha = 2: the error has a limit at every kept fraction."""
  kappas = jnp.asarray((0.1, 0.25, 0.5, 0.75, 0.9))
  measure = _draw_error(stable.sample, config.limits.largest, kappas, 2)
  found = repeated(config, 0, measure, 2.0)
  limits = np.asarray(compressibility.gaussian_limit(kappas))
  for kappa, errors, limit in zip(kappas, found.T, limits, strict=True):
    what = f'error, kappa = {kappa:g}'
    yield limit_row(
      'Gaussian limit', what, 2.0, mean_interval(errors), float(limit)
    )


def rate_row(
  statement: str, what: str, alpha: float, sizes: Sequence[int], errors: Any
) -> Row:
  """Slope of the median error [sizes, repeats], to 0.05 of the theory's."""
  found = mean_field.fit_rate(
    np.array(sizes), np.asarray(errors), statistic='median'
  )
  theory = compressibility.error_rate(alpha)
  interval = found.slope, found.low, found.high
  what = f'slope of log error in log {what}'
  return limit_row(statement, what, alpha, interval, theory) | {
    'holds': abs(found.slope - theory) <= 0.05,
    'last_slope': found.local_slopes[-1],
  }


def powers_of_ten(config: ConfigDict) -> list[int]:
  """Numbers of entries from 10^3 to the largest."""
  return [10**k for k in range(3, round(math.log10(config.limits.largest)) + 1)]


def _rates(config: ConfigDict) -> Iterator[Row]:
  """alpha < 2: the error decays like d^(1/2 - 1/alpha), slowly near 2."""
  sizes = powers_of_ten(config)
  measures = [_draw_error(stable.sample, size, 0.5, 2) for size in sizes]
  for alpha in (1.2, 1.5, 1.75, 1.9):
    errors = [repeated(config, 1, measure, alpha) for measure in measures]
    yield rate_row('Lemma S2', 'd', alpha, sizes, errors)


def _ratios(config: ConfigDict) -> Iterator[Row]:
  """Prunable shares of matrices with more and less independence."""
  size, error = config.limits.size, config.error
  gaussian = compressibility.gaussian_ratio(error)

  def ratios(alpha: Any, key: Any) -> Any:
    return matrix_ratios(key, alpha, error, size)

  for i, alpha in enumerate(_ALPHAS):
    found = repeated(config, 2, ratios, alpha)
    for name in STRUCTURES:
      if name == 'whole' or alpha == 2.0:
        # One Gaussian vector, whatever its scale: the limit is exact. With d
        # entries a ratio is a multiple of 1 / d.
        judged: Any = mean_interval(found[name], 1 / size**2), gaussian
      else:
        known = _RATIOS[name][i] if (size, error) == (500, 0.1) else None
        judged = median_interval(found[name]), known, 0.05
      yield limit_row(
        'Section S1.6.2', f'pruning ratio, {name}', alpha, *judged
      )


def _singular(config: ConfigDict) -> Iterator[Row]:
  """Half of the singular values of a square matrix."""
  size = config.limits.singular_size

  def error(alpha: Any, key: Any) -> Any:
    matrix = stable.sample(key, alpha, (size, size))
    # Over the largest: squares of the tail would overflow.
    matrix = matrix / jnp.max(jnp.abs(matrix))
    s = jnp.linalg.svd(matrix, compute_uv=False)
    return jnp.sqrt(jnp.sum(s[size // 2 :] ** 2) / jnp.sum(s**2))

  for alpha, known in _SINGULAR.items():
    interval = range_interval(repeated(config, 3, error, alpha))
    predicted = known if size == 800 else None
    what = 'error, half the values'
    yield limit_row('Theorem 2', what, alpha, interval, predicted)


def _finite_moment(config: ConfigDict) -> Iterator[Row]:
  """p = 1 < alpha: a limit that depends on the whole law, and falls with it.

  Kept are 30 %. The sum of d such numbers is off its mean by about
  d^(1/alpha - 1) of it, and so is the error.
  """
  kappa, size = 0.3, config.limits.largest

  def pareto_limit(kappa: float, alpha: float) -> float:
    return 1 - kappa ** (1 - 1 / alpha)

  laws: dict[str, Any] = {
    'stable': (
      stable.sample,
      compressibility.stable_limit,
      (1.2, 1.4, 1.5, 1.6, 1.8, 2.0),
    ),
    'Pareto': (jax.random.pareto, pareto_limit, (1.2, 1.5, 1.8)),
  }
  for name, (sample, limit, alphas) in laws.items():
    measure = _draw_error(sample, size, kappa, 1)
    for alpha in alphas:
      found = repeated(config, 4, measure, alpha)
      predicted = limit(kappa, alpha)
      interval = mean_interval(found, predicted * size ** (1 / alpha - 1))
      what = f'l1 error, kappa = {kappa:g}, {name}'
      yield limit_row('finite moment', what, alpha, interval, predicted)


LIMITS = {
  'Gaussian': _gaussian,
  'rate': _rates,
  'ratios': _ratios,
  'singular values': _singular,
  'finite moment': _finite_moment,
}
