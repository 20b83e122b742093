"""Studies of exactly stable weights: networks, matrices and limit theorems.

Parts of "Heavy Tails in SGD and Compressibility of Overparametrized Neural
Networks" that need no training: how random networks survive pruning (supplement
S1.6.1), which random matrices are prunable (S1.6.2), and the limits and rates
behind both. A study is made of cells; each makes rows from its own key.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from htjax import compressibility, mean_field, models, pruning, stable
from htjax.selection import exclude

Row = dict[str, Any]

STUDIES = ('networks', 'matrices', 'limits')
STRUCTURES = ('independent', 'columns', 'whole')

_CELLS_OF_DRAWS = 25
# Values that another program found, of 250,000 entries at relative error 0.1.
_RATIOS = {
  'independent': {
    **{1.75: 0.45, 1.8: 0.38, 1.85: 0.35, 1.9: 0.315, 1.95: 0.286},
    2.0: 0.2653,
  },
  'columns': {
    **{1.75: 0.34, 1.8: 0.33, 1.85: 0.31, 1.9: 0.28, 1.95: 0.27},
    2.0: 0.265,
  },
}
# And of single draws of 800 by 800 entries, half of the singular values kept.
_SINGULAR = {1.2: 0.050, 1.6: 0.134, 1.9: 0.290, 2.0: 0.326}
_KAPPAS = (0.1, 0.25, 0.5, 0.75, 0.9)


class Cell(NamedTuple):
  """A part of a study that is kept as soon as it is measured."""

  name: str
  measure: Callable[[], list[Row]]


def cells(config: ConfigDict) -> dict[str, list[Cell]]:
  """The cells of every study."""
  return {
    'networks': list(_network_cells(config.networks)),
    'matrices': list(_matrix_cells(config.matrices, config.error)),
    'limits': list(_limit_cells(config.limits, config.error)),
  }


def _key(study: str, *numbers: int) -> Any:
  key = jax.random.key(STUDIES.index(study))
  for number in numbers:
    key = jax.random.fold_in(key, number)
  return key


# Networks.


def _network_cells(config: Mapping[str, Any]) -> Iterator[Cell]:
  network = models.fcn(
    config['dim'],
    config['width'],
    config['num_classes'],
    hidden_layers=config['hidden_layers'],
  )
  agreement = _make_agreement(network, config['fractions'])

  def measure(repeat: int) -> list[Row]:
    key = _key('networks', repeat)
    shape = (config['num_inputs'], config['dim'])
    inputs = jax.random.normal(jax.random.fold_in(key, 0), shape)
    rows = []
    for alpha in config['alphas']:
      # One key for all: the curves differ by alpha alone.
      curve = agreement(jax.random.fold_in(key, 1), alpha, inputs)
      rows.append(
        {
          'alpha': alpha,
          'seed': repeat,
          'width': config['width'],
          **{k: np.asarray(v).tolist() for k, v in curve.items()},
        }
      )
    return rows

  for repeat in range(config['repeats']):
    yield Cell(f'repeat {repeat}', functools.partial(measure, repeat))


def _make_agreement(network: models.Network, fractions: Any) -> Any:
  """(key, alpha, inputs) -> agreement with itself at each pruned fraction.

  Once with the output layer kept, which is the same for all alphas, and once
  with all layers pruned: the text leaves open which was meant.
  """

  @jax.jit
  def agreement(key, alpha, inputs):
    params = stable_network(key, network, alpha)

    def labels(params):
      return network.apply(params, inputs).argmax(-1)

    own = labels(params)

    def at(fraction, select):
      pruned = pruning.magnitude(params, 1 - fraction, select=select)
      return jnp.mean(labels(pruned.params) == own)

    return {
      name: jax.lax.map(
        functools.partial(at, select=select), jnp.asarray(fractions)
      )
      for name, select in (
        ('agreement', exclude(*network.excluded)),
        ('agreement_all', None),
      )
    }

  return agreement


def stable_network(key: Any, network: models.Network, alpha: Any) -> Any:
  """Independent stable weights, each hidden layer of unit norm.

  The output layer is as the network initialises it.
  """
  params = dict(network.init(jax.random.fold_in(key, 0)))
  for i, name in enumerate(network.hidden, 1):
    shape = params[name]['kernel'].shape
    w = stable.sample(jax.random.fold_in(key, i), alpha, shape)
    # By the largest entry first: squares of the tail overflow.
    w = w / jnp.max(jnp.abs(w))
    params[name] = {'kernel': w / jnp.linalg.norm(w)}
  return params


# Matrices.


def _matrix_cells(config: Mapping[str, Any], error: float) -> Iterator[Cell]:
  size, num = config['size'], config['draws']

  def measure(first: int) -> list[Row]:
    rows = []
    for i in range(first, min(first + _CELLS_OF_DRAWS, num)):
      key = _key('matrices', i)
      alpha = jax.random.uniform(
        jax.random.fold_in(key, 0),
        minval=config['low'],
        maxval=config['high'],
      )
      ratios = _matrix_ratios(jax.random.fold_in(key, 1), alpha, error, size)
      rows += [
        {'structure': name, 'alpha': float(alpha), 'pruning_ratio': float(r)}
        for name, r in ratios.items()
      ]
    return rows

  for first in range(0, num, _CELLS_OF_DRAWS):
    yield Cell(f'draws from {first}', functools.partial(measure, first))


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


def _limit_cells(config: Mapping[str, Any], error: float) -> Iterator[Cell]:
  yield Cell('Gaussian', lambda: _gaussian(config))
  yield Cell('rate', lambda: _rates(config))
  yield Cell('ratios', lambda: _ratios(config, error))
  yield Cell('singular values', lambda: _singular(config))
  yield Cell('finite moment', lambda: _finite_moment(config))


def _repeats(config: Mapping[str, Any], cell: int, measure: Any) -> np.ndarray:
  """`measure(key)` of each repeat, one after the other; in float64."""
  numbers = jnp.arange(config['repeats'])
  found = jax.lax.map(
    lambda i: measure(jax.random.fold_in(_key('limits', cell), i)), numbers
  )
  return np.asarray(found, np.float64)


def _row(statement: str, what: str, alpha: float, **more: Any) -> Row:
  return {'statement': statement, 'what': what, 'alpha': alpha} | more


def _within(values: np.ndarray, predicted: float, bias: float = 0.0) -> Row:
  """A mean, three standard errors on either side, and a known prediction."""
  reach = 3 * values.std(ddof=1) / math.sqrt(len(values)) + bias
  return {
    'value': values.mean(),
    'low': values.mean() - reach,
    'high': values.mean() + reach,
    'predicted': predicted,
    'holds': bool(abs(values.mean() - predicted) <= reach),
  }


def _median_row(values: np.ndarray, reference: float | None) -> Row:
  """A median with its 99.7 % interval; it holds within 5 % of a reference."""
  low, high = _median_interval(values)
  holds = None
  if reference is not None:
    holds = bool(0.95 * low <= reference <= 1.05 * high)
  return {
    'value': float(np.median(values)),
    'low': low,
    'high': high,
    'predicted': reference,
    'holds': holds,
  }


def _draw_row(values: np.ndarray, reference: float | None) -> Row:
  """A median, and the range in which a reference of one draw should lie."""
  low, high = np.quantile(values, (0.01, 0.99))
  holds = None if reference is None else bool(low <= reference <= high)
  return {
    'value': float(np.median(values)),
    'low': float(low),
    'high': float(high),
    'predicted': reference,
    'holds': holds,
  }


def _median_interval(values: np.ndarray) -> tuple[float, float]:
  """Order statistics, three standard deviations of rank from the middle."""
  ordered, num = np.sort(values), len(values)
  reach = math.ceil(1.5 * math.sqrt(num))
  low, high = num // 2 - reach, (num - 1) // 2 + reach
  return float(ordered[max(low, 0)]), float(ordered[min(high, num - 1)])


def _gaussian(config: Mapping[str, Any]) -> list[Row]:
  """alpha = 2: the error has a limit at every kept fraction."""
  kappas = jnp.asarray(_KAPPAS)
  found = _repeats(
    config,
    0,
    lambda key: compressibility.compression_error(
      stable.sample(key, 2.0, (config['largest'],)), kappas
    ),
  )
  limits = np.asarray(compressibility.gaussian_limit(kappas))
  return [
    _row(
      'Gaussian limit',
      f'error, kappa = {kappa:g}',
      2.0,
      **_within(found[:, i], float(limits[i])),
    )
    for i, kappa in enumerate(_KAPPAS)
  ]


def _rates(config: Mapping[str, Any]) -> list[Row]:
  """alpha < 2: the error decays like d^(1/2 - 1/alpha), slowly near 2."""
  sizes = [10**k for k in range(3, round(math.log10(config['largest'])) + 1)]
  rows = []
  for alpha in (1.2, 1.5, 1.75, 1.9):
    errors = [
      _repeats(
        config,
        1,
        lambda key, alpha=alpha, size=size: compressibility.compression_error(
          stable.sample(key, alpha, (size,)), 0.5
        ),
      )
      for size in sizes
    ]
    rate = mean_field.fit_rate(
      np.array(sizes), np.array(errors), statistic='median'
    )
    theory = 0.5 - 1 / alpha
    rows.append(
      _row(
        'Lemma S2',
        'slope of log error in log d',
        alpha,
        value=rate.slope,
        low=rate.low,
        high=rate.high,
        predicted=theory,
        holds=abs(rate.slope - theory) <= 0.05,
        last_slope=rate.local_slopes[-1],
      )
    )
  return rows


def _ratios(config: Mapping[str, Any], error: float) -> list[Row]:
  """What can be pruned of matrices with more and less independence."""
  size = config['size']
  gaussian = _gaussian_ratio(error)
  rows = []
  for alpha in _RATIOS['independent']:
    found = jax.lax.map(
      lambda i, alpha=alpha: _matrix_ratios(
        jax.random.fold_in(_key('limits', 2), i), alpha, error, size
      ),
      jnp.arange(config['repeats']),
    )
    for name in STRUCTURES:
      values = np.asarray(found[name], np.float64)
      what = f'pruning ratio, {name}'
      if name == 'whole' or alpha == 2.0:
        # One Gaussian vector, whatever its scale: the limit is exact. With d
        # entries a ratio is a multiple of 1 / d.
        row = _within(values, gaussian, 1 / size**2)
      else:
        known = _RATIOS[name][alpha] if size == 500 and error == 0.1 else None
        row = _median_row(values, known)
      rows.append(_row('Section S1.6.2', what, alpha, **row))
  return rows


def _gaussian_ratio(error: float) -> float:
  """The pruned fraction at which the Gaussian limit is `error`."""
  low, high = 0.0, 1.0
  for _ in range(60):
    middle = (low + high) / 2
    with jax.enable_x64(True):
      reached = float(compressibility.gaussian_limit(1.0 - middle)) >= error
    low, high = (low, middle) if reached else (middle, high)
  return low


def _singular(config: Mapping[str, Any]) -> list[Row]:
  """Half of the singular values of a square matrix."""
  size = config['singular_size']
  rows = []
  for alpha, known in _SINGULAR.items():
    found = _repeats(
      config,
      3,
      lambda key, alpha=alpha: _spectral_error(
        stable.sample(key, alpha, (size, size))
      ),
    )
    row = _draw_row(found, known if size == 800 else None)
    rows.append(_row('Theorem 2', 'error, half the values', alpha, **row))
  return rows


def _spectral_error(matrix: Any) -> Any:
  s = jnp.linalg.svd(matrix / jnp.max(jnp.abs(matrix)), compute_uv=False)
  return jnp.sqrt(jnp.sum(s[s.size // 2 :] ** 2) / jnp.sum(s**2))


def _finite_moment(config: Mapping[str, Any]) -> list[Row]:
  """p = 1 < alpha: a limit that depends on the whole law, and falls with it.

  Kept are 30 %. The sum of d such numbers is off its mean by about
  d^(1/alpha - 1) of it, and so is the error.
  """
  kappa, size = 0.3, config['largest']
  rows = []
  laws: dict[str, Any] = {
    'stable': (stable.sample, stable_share, (1.2, 1.4, 1.5, 1.6, 1.8, 2.0)),
    'Pareto': (_pareto, lambda a, k: 1 - k ** (1 - 1 / a), (1.2, 1.5, 1.8)),
  }
  for name, (sample, limit, alphas) in laws.items():
    for alpha in alphas:
      found = _repeats(
        config,
        4,
        lambda key, alpha=alpha, sample=sample: (
          compressibility.compression_error(
            sample(key, alpha, (size,)), kappa, p=1
          )
        ),
      )
      predicted = limit(alpha, kappa)
      bias = predicted * size ** (1 / alpha - 1)
      what = f'l1 error, kappa = {kappa:g}, {name}'
      rows.append(
        _row('finite moment', what, alpha, **_within(found, predicted, bias))
      )
  return rows


def _pareto(key: Any, alpha: float, shape: tuple[int, ...]) -> Any:
  return jax.random.pareto(key, alpha, shape)


def stable_share(alpha: float, kappa: float) -> float:
  """E[|X|; |X| <= q] / E|X| of a stable law, q its quantile at 1 - kappa."""
  with jax.enable_x64(True):
    q = float(stable.quantile(1 - kappa / 2, alpha))
    nodes, weights = np.polynomial.legendre.leggauss(64)
    x = q * (nodes + 1) / 2
    density = np.asarray(stable.pdf(x, alpha))
  inside = float(np.sum(weights * x * density)) * q
  return inside / (2 * math.gamma(1 - 1 / alpha) / math.pi)
