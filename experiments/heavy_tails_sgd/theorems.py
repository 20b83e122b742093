"""Theorems 1 to 3 and Proposition S1 on weights that fulfil their premises.

And on ones that do not quite: section 3.3's dependent entries, and a law that
the proposition leaves out.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.common.cells import Cell, Row, cell
from experiments.heavy_tails_sgd.limits import (
  limit_row,
  mean_interval,
  median_interval,
  powers_of_ten,
  rate_row,
  repeated,
)
from experiments.heavy_tails_sgd.synthetic import make_key
from htjax import compressibility, laws, stable

# Tail indices of the layers of Theorem 1, and the weights of each in tenths.
_LAYERS = {'layer': (1.2, 1.5, 1.8), 'global': (1.5, 1.5, 1.5)}
_SHARES = (1, 3, 6)
# Autoregression: 0.9^7 is about a half.
_COEFFICIENT = 0.9
# The most weights, or as many as the limits have.
_MOST = 10**5


def cells(config: ConfigDict) -> Iterator[Cell]:
  """A cell for each statement, with the settings of the limits."""
  for name, statement in STATEMENTS.items():
    yield cell(name, statement, config, study='theorems')


def _sizes(config: ConfigDict) -> list[int]:
  return [size for size in powers_of_ten(config) if size <= _MOST]


def _several_layers(config: ConfigDict) -> Iterator[Row]:
  """Theorem 1: all layers of a network at once, one kept fraction."""
  sizes = _sizes(config)
  for i, (scope, alphas) in enumerate(_LAYERS.items()):
    found = [
      compressibility.network_errors(
        make_key('limits', 5, i, size),
        alphas,
        [size * share // 10 for share in _SHARES],
        0.1,
        scope=scope,
        num_draws=config.limits.repeats,
      )
      for size in sizes
    ]
    if scope == 'global':
      whole = [errors.whole for errors in found]
      yield rate_row('Theorem 1 (i)', 'd, global', alphas[0], sizes, whole)
      continue
    for j, alpha in enumerate(alphas):
      own = [errors.layers[:, j] for errors in found]
      yield rate_row('Theorem 1 (ii)', f'd, layer {j + 1}', alpha, sizes, own)


def _eigenvalues(config: ConfigDict) -> Iterator[Row]:
  """Theorem 2: the law of eigenvalues, and the rate of the error."""
  height, alphas = 4096, (1.2, 1.5)

  def eigenvalues(width: int, alpha: Any, key: Any) -> Any:
    """Of W^T W over its largest entry squared, and that entry."""
    w = stable.sample(key, alpha, (height, width))
    peak = jnp.max(jnp.abs(w))
    w = w / peak
    return jnp.linalg.eigvalsh(w.T @ w), peak

  def scaled(alpha: Any, key: Any) -> Any:
    found, peak = eigenvalues(5, alpha, key)
    return found * jnp.square(peak * height ** (-1 / alpha))

  def error(width: int, alpha: Any, key: Any) -> Any:
    squares = jnp.maximum(eigenvalues(width, alpha, key)[0], 0)
    return jnp.sqrt(jnp.sum(squares[: width // 2]) / jnp.sum(squares))

  found = _each(config, 6, scaled, alphas)
  for alpha, own in zip(alphas, found, strict=True):
    median = float(laws.gram.eigenvalue_quantile(0.5, alpha))
    what, interval = 'median of the eigenvalues', median_interval(own.ravel())
    yield limit_row('Theorem 2', what, alpha, interval, median)
  what, widths = "h', half the values", (16, 64, 256)
  yield from _rates(config, 6, 'Theorem 2', what, error, widths, alphas)


def _nodes(config: ConfigDict) -> Iterator[Row]:
  """Theorem 3: half the columns, each of so many entries."""

  def error(size: int, alpha: Any, key: Any) -> Any:
    w = stable.sample(key, alpha, (16, size))
    norms = jnp.linalg.norm(w / jnp.max(jnp.abs(w)), axis=0)
    return compressibility.compression_error(norms, 0.5)

  what, sizes, alphas = "h', columns", (10**2, 10**3, 10**4), (1.2, 1.5, 1.8)
  yield from _rates(config, 7, 'Theorem 3', what, error, sizes, alphas)


def _rates(
  config: ConfigDict,
  number: int,
  statement: str,
  what: str,
  error: Callable[[int, Any, Any], Any],
  sizes: Sequence[int],
  alphas: Sequence[float],
) -> Iterator[Row]:
  """The slope of `error(size, alpha, key)` in the size, for each alpha."""
  errors = np.stack(
    [
      _each(config, number, functools.partial(error, size), alphas)
      for size in sizes
    ]
  )
  for i, alpha in enumerate(alphas):
    yield rate_row(statement, what, alpha, sizes, errors[:, i])


def _each(
  config: ConfigDict,
  number: int,
  measure: Callable[[Any, Any], Any],
  alphas: Sequence[float],
) -> np.ndarray:
  """`measure(alpha, key)`, [alphas, repeats, ..], in one program."""

  def at_all(key: Any) -> Any:
    keys = jax.random.split(key, len(alphas))
    return jax.lax.map(lambda own: measure(*own), (jnp.asarray(alphas), keys))

  return np.moveaxis(repeated(config, number, at_all), 0, 1)


def _dependent(config: ConfigDict) -> Iterator[Row]:
  """Section 3.3: a stationary autoregression has the limits of its law."""
  sizes = _sizes(config)

  def paths(alpha: float, size: int, number: int) -> Any:
    """Independent sequences, [repeats, size]."""
    key, repeats = make_key('limits', 8, number), config.limits.repeats
    return stable.autoregression(key, alpha, _COEFFICIENT, size, (repeats,)).T

  def errors(x: Any, kappa: float, p: float) -> np.ndarray:
    measure = jax.vmap(
      lambda row: compressibility.compression_error(row, kappa, p=p)
    )
    return np.asarray(measure(x), np.float64)

  # As many independent entries as the sequence is worth.
  fewer = (1 - _COEFFICIENT) / (1 + _COEFFICIENT) * sizes[-1]
  for alpha in (1.5, 1.8, 2.0):
    found = errors(paths(alpha, sizes[-1], 0), 0.3, 1)
    predicted = compressibility.stable_limit(0.3, alpha)
    interval = mean_interval(found, predicted * fewer ** (1 / alpha - 1))
    what = f'l1 error, kappa = 0.3, correlated by {_COEFFICIENT:g}'
    yield limit_row('section 3.3', what, alpha, interval, predicted)
  for alpha in (1.2, 1.5):
    at_sizes = [
      errors(paths(alpha, size, i), 0.5, 2) for i, size in enumerate(sizes)
    ]
    what = f'd, correlated by {_COEFFICIENT:g}'
    yield rate_row('section 3.3', what, alpha, sizes, at_sizes)


def _ordering(config: ConfigDict) -> Iterator[Row]:
  """Proposition S1: the law of smaller alpha has the smaller l1 error.

  So it is within a family. `claim` says whether the proposition's order was
  found, `holds` whether the limits were.
  """
  size = _sizes(config)[-1]
  kappa, heavy, light, weight = 0.3, 1.5, 1.9, 1e-4

  def diluted(key: Any, alpha: float, shape: Sequence[int]) -> Any:
    """Ones, but for a few Pareto numbers."""
    keys = jax.random.split(key)
    rare = jax.random.bernoulli(keys[0], weight, shape)
    return jnp.where(rare, jax.random.pareto(keys[1], alpha, shape), 1.0)

  def pareto_limit(alpha: float) -> float:
    return compressibility.pareto_limit(kappa, alpha)

  def stable_limit(alpha: float) -> float:
    return compressibility.stable_limit(kappa, alpha)

  def diluted_limit(alpha: float) -> float:
    return compressibility.diluted_pareto_limit(kappa, alpha, weight=weight)

  families: dict[str, Any] = {
    'stable': (stable.sample, stable_limit, stable.sample, stable_limit),
    'Pareto': (
      *(jax.random.pareto, pareto_limit),
      *(jax.random.pareto, pareto_limit),
    ),
    'ones with one Pareto number in 10,000, and stable': (
      *(diluted, diluted_limit),
      *(stable.sample, stable_limit),
    ),
  }
  for name, (first, first_limit, second, second_limit) in families.items():

    def gap(key: Any, first: Any = first, second: Any = second) -> Any:
      keys = jax.random.split(key)
      pairs = zip((first, second), (heavy, light), keys, strict=True)
      errors = [
        compressibility.compression_error(draw(k, a, (size,)), kappa, p=1)
        for draw, a, k in pairs
      ]
      return errors[0] - errors[1]

    limits = first_limit(heavy), second_limit(light)
    # Sums of so many numbers are off their means by about so much.
    bias = sum(
      limit * size ** (1 / alpha - 1)
      for limit, alpha in zip(limits, (heavy, light), strict=True)
    )
    interval = mean_interval(repeated(config, 9, gap), bias)
    what = f'l1 error at {heavy:g} less that at {light:g}, {name}'
    row = limit_row(
      'Proposition S1', what, heavy, interval, limits[0] - limits[1]
    )
    yield row | {'claim': bool(interval[2] < 0)}


STATEMENTS = {
  'several layers': _several_layers,
  'eigenvalues': _eigenvalues,
  'columns': _nodes,
  'dependent entries': _dependent,
  'order of errors': _ordering,
}
