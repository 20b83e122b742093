"""Studies of exactly stable weights: networks, matrices and limit theorems.

Parts of "Heavy Tails in SGD and Compressibility of Overparametrized Neural
Networks" that need no training: supplements S1.6.1 (networks) and S1.6.2
(matrices), and the limits and rates behind both.
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
from htjax import compressibility, mean_field, models, pruning, stable
from htjax.selection import exclude

STUDIES = ('networks', 'matrices', 'limits')
STRUCTURES = ('independent', 'columns', 'whole')
# The two readings of which layers of a random network are pruned: the output
# layer is the same for all alphas, and the text leaves open if it is kept.
AGREEMENTS = {
  'agreement': 'output layer kept',
  'agreement_all': 'all layers pruned',
}

_DRAWS_IN_A_CELL = 25
# Values that another program found, of 250,000 entries at relative error 0.1.
_ALPHAS = (1.75, 1.8, 1.85, 1.9, 1.95, 2.0)
_RATIOS = {
  'independent': (0.45, 0.38, 0.35, 0.315, 0.286, 0.2653),
  'columns': (0.34, 0.33, 0.31, 0.28, 0.27, 0.265),
}
# And of single draws of 800 by 800 entries, half of the singular values kept.
_SINGULAR = {1.2: 0.050, 1.6: 0.134, 1.9: 0.290, 2.0: 0.326}


def cells(config: ConfigDict) -> Iterator[Cell]:
  """Everything but the trained networks."""
  settings = config, _agreement(config)
  for i in range(config.networks.repeats):
    yield cell(f'repeat {i}', network_rows, *settings, i, study='networks')
  for i in range(0, config.matrices.draws, _DRAWS_IN_A_CELL):
    yield cell(f'draws from {i}', matrix_rows, config, i, study='matrices')
  for name, limit in LIMITS.items():
    yield cell(name, limit, config, study='limits')


def _key(study: str, *numbers: Any) -> Any:
  key = jax.random.key(STUDIES.index(study))
  return functools.reduce(jax.random.fold_in, numbers, key)


# Networks.


def network_rows(
  config: ConfigDict, agreement: Callable[..., Row], repeat: int
) -> Iterator[Row]:
  """A row for each tail index."""
  settings, key = config.networks, _key('networks', repeat)
  shape = (settings.num_inputs, settings.dim)
  inputs = jax.random.normal(jax.random.fold_in(key, 0), shape)
  for alpha in settings.alphas:
    # One key for all: the curves differ by alpha alone.
    curves = agreement(jax.random.fold_in(key, 1), alpha, inputs)
    row = {'alpha': alpha, 'seed': repeat, 'width': settings.width}
    yield row | {name: np.asarray(curves[name]).tolist() for name in AGREEMENTS}


def _agreement(config: ConfigDict) -> Callable[..., Row]:
  """(key, alpha, inputs) -> agreement with itself at each pruned fraction."""
  sizes = config.networks
  network = models.fcn(
    *(sizes.dim, sizes.width, sizes.num_classes),
    hidden_layers=sizes.hidden_layers,
  )

  @jax.jit
  def agreement(key, alpha, inputs):
    params = models.stable_params(key, network, alpha)

    def labels(params):
      return network.apply(params, inputs).argmax(-1)

    own = labels(params)

    def at(fraction, select):
      pruned = pruning.magnitude(params, 1 - fraction, select=select)
      return jnp.mean(labels(pruned.params) == own)

    selections = (exclude(*network.excluded), None)
    fractions = jnp.asarray(sizes.fractions)
    return {
      name: jax.lax.map(functools.partial(at, select=select), fractions)
      for name, select in zip(AGREEMENTS, selections, strict=True)
    }

  return agreement


# Matrices.


def matrix_rows(config: ConfigDict, first: int) -> Iterator[Row]:
  """Random tail indices, and what can be pruned at each."""
  settings = config.matrices
  for i in range(first, min(first + _DRAWS_IN_A_CELL, settings.draws)):
    alpha_key, key = (_key('matrices', i, j) for j in (0, 1))
    alpha = jax.random.uniform(
      alpha_key, minval=settings.low, maxval=settings.high
    )
    ratios = _matrix_ratios(key, alpha, config.error, settings.size)
    for name, ratio in ratios.items():
      row = {'structure': name, 'alpha': float(alpha)}
      yield row | {'pruning_ratio': float(ratio)}


@functools.partial(jax.jit, static_argnames='size')
def _matrix_ratios(key: Any, alpha: Any, error: float, size: int) -> Any:
  keys = jax.random.split(key, 3)
  draw = functools.partial(stable.sample_vectors, kind='type3')
  matrices = {
    'independent': stable.sample(keys[0], alpha, (size, size)),
    'columns': draw(keys[1], alpha, (size, size), axis=0),
    'whole': draw(keys[2], alpha, (size * size,)),
  }
  return {
    name: 1 - compressibility.smallest_kappa(w, error)
    for name, w in matrices.items()
  }


# Limits.


def _repeats(
  config: ConfigDict, cell: int, measure: Callable[..., Any], *arguments: Any
) -> Any:
  """`measure(*arguments, key)` of each repeat, one by one; in float64."""
  found = jax.lax.map(
    lambda i: measure(*arguments, _key('limits', cell, i)),
    jnp.arange(config.limits.repeats),
  )
  return jax.tree.map(lambda a: np.asarray(a, np.float64), found)


Interval = tuple[float, float, float]  # value, low, high


def _row(
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


def _mean(values: np.ndarray, bias: float = 0.0) -> Interval:
  """A mean, three standard errors and a bias on either side."""
  reach = 3 * values.std(ddof=1) / math.sqrt(len(values)) + bias
  return values.mean(), values.mean() - reach, values.mean() + reach


def _median(values: np.ndarray) -> Interval:
  """A median and order statistics, three deviations of rank away: 99.7 %."""
  ordered, num = np.sort(values), len(values)
  reach = math.ceil(1.5 * math.sqrt(num))
  low, high = num // 2 - reach, (num - 1) // 2 + reach
  ends = float(ordered[max(low, 0)]), float(ordered[min(high, num - 1)])
  return float(np.median(values)), *ends


def _range(values: np.ndarray) -> Interval:
  """A median, and between which values 98 % of the draws lie."""
  low, middle, high = np.quantile(values, (0.01, 0.5, 0.99)).tolist()
  return middle, low, high


def _draw_error(
  sample: Any, size: int, kappa: Any, p: float, alpha: float, key: Any
) -> Any:
  """The error of a fresh sample with a kept fraction."""
  x = sample(key, alpha, (size,))
  return compressibility.compression_error(x, kappa, p=p)


def _gaussian(config: ConfigDict) -> Iterator[Row]:
  """alpha = 2: the error has a limit at every kept fraction."""
  kappas = jnp.asarray((0.1, 0.25, 0.5, 0.75, 0.9))
  settings = stable.sample, config.limits.largest, kappas, 2, 2.0
  found = _repeats(config, 0, _draw_error, *settings)
  limits = np.asarray(compressibility.gaussian_limit(kappas))
  for kappa, errors, limit in zip(kappas, found.T, limits, strict=True):
    what = f'error, kappa = {kappa:g}'
    yield _row('Gaussian limit', what, 2.0, _mean(errors), float(limit))


def _rates(config: ConfigDict) -> Iterator[Row]:
  """alpha < 2: the error decays like d^(1/2 - 1/alpha), slowly near 2."""
  largest = round(math.log10(config.limits.largest))
  sizes = [10**k for k in range(3, largest + 1)]
  for alpha in (1.2, 1.5, 1.75, 1.9):
    errors = [
      _repeats(config, 1, _draw_error, stable.sample, size, 0.5, 2, alpha)
      for size in sizes
    ]
    rate = mean_field.fit_rate(
      np.array(sizes), np.array(errors), statistic='median'
    )
    theory = 0.5 - 1 / alpha
    interval = rate.slope, rate.low, rate.high
    what = 'slope of log error in log d'
    yield _row('Lemma S2', what, alpha, interval, theory) | {
      'holds': abs(rate.slope - theory) <= 0.05,
      'last_slope': rate.local_slopes[-1],
    }


def _ratios(config: ConfigDict) -> Iterator[Row]:
  """Prunable shares of matrices with more and less independence."""
  size, error = config.limits.size, config.error
  gaussian = compressibility.gaussian_ratio(error)
  for i, alpha in enumerate(_ALPHAS):
    ratios = functools.partial(
      _matrix_ratios, alpha=alpha, error=error, size=size
    )
    found = _repeats(config, 2, ratios)
    for name in STRUCTURES:
      if name == 'whole' or alpha == 2.0:
        # One Gaussian vector, whatever its scale: the limit is exact. With d
        # entries a ratio is a multiple of 1 / d.
        judged: Any = _mean(found[name], 1 / size**2), gaussian
      else:
        known = _RATIOS[name][i] if (size, error) == (500, 0.1) else None
        judged = _median(found[name]), known, 0.05
      yield _row('Section S1.6.2', f'pruning ratio, {name}', alpha, *judged)


def _singular(config: ConfigDict) -> Iterator[Row]:
  """Half of the singular values of a square matrix."""
  size = config.limits.singular_size

  def error(alpha: float, key: Any) -> Any:
    matrix = stable.sample(key, alpha, (size, size))
    # Over the largest: squares of the tail would overflow.
    matrix = matrix / jnp.max(jnp.abs(matrix))
    s = jnp.linalg.svd(matrix, compute_uv=False)
    return jnp.sqrt(jnp.sum(s[size // 2 :] ** 2) / jnp.sum(s**2))

  for alpha, known in _SINGULAR.items():
    interval = _range(_repeats(config, 3, error, alpha))
    predicted = known if size == 800 else None
    what = 'error, half the values'
    yield _row('Theorem 2', what, alpha, interval, predicted)


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
    for alpha in alphas:
      found = _repeats(config, 4, _draw_error, sample, size, kappa, 1, alpha)
      predicted = limit(kappa, alpha)
      interval = _mean(found, predicted * size ** (1 / alpha - 1))
      what = f'l1 error, kappa = {kappa:g}, {name}'
      yield _row('finite moment', what, alpha, interval, predicted)


LIMITS = {
  'Gaussian': _gaussian,
  'rate': _rates,
  'ratios': _ratios,
  'singular values': _singular,
  'finite moment': _finite_moment,
}
