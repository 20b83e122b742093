"""Samples of laws, estimators, and their measurements."""

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict

from experiments.common.cells import Cell, Row, cell, run_cells
from experiments.tail_estimators import least_squares
from experiments.tail_estimators.report import report
from htjax import stable, tail_index

# (key, shape [K, d]) -> samples.
Draw = Callable[[Any, tuple[int, ...]], Any]


class Law(NamedTuple):
  """A law of samples and its tail index; infinite where tails are light."""

  name: str
  draw: Draw
  alpha: float


def laws() -> list[Law]:
  """The models of the estimators, and laws that are nobody's."""
  vectors = functools.partial(stable.sample_vectors, kind='type3')
  families: list[tuple[str, Any, tuple[float, ...]]] = [
    ('stable {:g}', stable.sample, (1.2, 1.5, 1.8, 1.95)),
    ('stable vectors {:g}', vectors, (1.5, 1.8)),
    ('stable {:g}, shifted', lambda *law: stable.sample(*law) + 1, (1.8,)),
    ('+-Pareto {:g}', _pareto, (1.5, 2.5, 3.5)),
    ('Student {:g}', jax.random.t, (1.5, 1.8, 3.0, 5.0)),
  ]
  found = [
    Law(name.format(alpha), functools.partial(_draw, draw, alpha), alpha)
    for name, draw, alphas in families
    for alpha in alphas
  ]
  return [
    *found,
    Law('Gaussian', jax.random.normal, math.inf),
    Law('Laplace', jax.random.laplace, math.inf),
    Law('lognormal', lambda k, s: jax.random.lognormal(k, shape=s), math.inf),
  ]


def _draw(draw: Any, alpha: float, key: Any, shape: tuple[int, ...]) -> Any:
  return draw(key, alpha, shape)


def _pareto(key: Any, alpha: float, shape: tuple[int, int]) -> Any:
  sign, size = jax.random.split(key)
  signs = jax.random.rademacher(sign, shape)
  return signs * jax.random.pareto(size, alpha, shape)


Estimator = Callable[[Any], tail_index.TailEstimate]


def estimators(num_vectors: int, dim: int) -> dict[str, Estimator]:
  """Each takes [K, d]; those of numbers take its entries."""
  size = num_vectors * dim
  root = max(2, _divisor(num_vectors))

  def of_entries(estimate: Any, *arguments: Any) -> Estimator:
    return lambda x: estimate(x.reshape(-1), *arguments)

  def centred(x: Any) -> tail_index.TailEstimate:
    return tail_index.mmo(x - jnp.median(x, axis=0)[None, :], root)

  return {
    'mmo': lambda x: tail_index.mmo(x, root),
    'mmo centred': centred,
    'mmo_univariate': of_entries(tail_index.mmo_univariate, _divisor(size)),
    'max_ratio': of_entries(tail_index.max_ratio, _divisor(size)),
    'hill 5 %': of_entries(tail_index.hill, size // 20),
    'hill 1 %': of_entries(tail_index.hill, size // 100),
    'moment 5 %': of_entries(tail_index.moment, size // 20),
    'pickands 5 %': of_entries(tail_index.pickands, size // 20),
    'de_haan 5 %': of_entries(tail_index.de_haan_resnick, size // 20),
    'power_law': of_entries(tail_index.power_law),
    'stable_mle': of_entries(tail_index.stable_mle),
  }


def _divisor(num: int) -> int:
  """The largest divisor of num up to its root."""
  return max(d for d in range(1, math.isqrt(num) + 1) if num % d == 0)


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Measure what is not measured yet and report; returns all rows."""
  plan = [
    *bias_cells(config),
    *coverage_cells(config),
    *least_squares.cells(config),
  ]
  wanted = [own for own in plan if own.study in config.studies]
  return run_cells(config, workdir, wanted, report)


def bias_cells(config: ConfigDict) -> Iterator[Cell]:
  """Every estimator on every law."""
  settings = config.bias
  shape = settings.vectors, settings.dim
  compiled = {
    name: _compiled(estimate)
    for name, estimate in estimators(*shape).items()
    if name in (config.estimators or (name,))
  }
  for i, law in enumerate(laws()):
    if law.name in (config.laws or (law.name,)):
      for name, estimate in compiled.items():
        # Every estimator sees the same samples of a law.
        own = Setting(i, law, name, shape, estimate), settings.repeats
        yield cell(f'{law.name}, {name}', _bias, *own, study='bias')


def coverage_cells(config: ConfigDict) -> Iterator[Cell]:
  """Each estimator on its own model."""
  settings = config.coverage
  for i, (law, name, *more) in enumerate(own_models(settings.stable_size)):
    if name in (config.estimators or (name,)):
      own = Setting(i, law, name, *more), settings.replicates
      yield cell(f'{name}, {law.name}', _coverage, *own, study='coverage')


# [R, ..] samples -> alpha, standard error and p-value, [R] each.
Compiled = Callable[[Any], tuple[Any, Any, Any]]


def _compiled(estimate: Estimator) -> Compiled:
  """One program for all laws, which takes one sample after the other."""

  def one(x: Any) -> tuple[Any, Any, Any]:
    found = estimate(x)
    return found.alpha, found.standard_error, found.p_value

  return jax.jit(lambda samples: lax.map(one, samples))


class Setting(NamedTuple):
  """An estimator and a law, and its number in the study."""

  number: int
  law: Law
  estimator: str
  shape: tuple[int, ...]
  estimate: Compiled

  def run(self, stream: int, num: int) -> tuple[np.ndarray, ...]:
    """alpha, standard error and p-value of `num` fresh samples."""
    key = jax.random.fold_in(jax.random.key(stream), self.number)
    keys = jax.random.split(key, num)
    draw = functools.partial(lax.map, lambda k: self.law.draw(k, self.shape))
    samples = jax.jit(draw)(keys)
    return tuple(np.asarray(a, np.float64) for a in self.estimate(samples))


def _bias(own: Setting, repeats: int) -> Row:
  alpha, error, p_value = own.run(0, repeats)
  tested = np.any(np.isfinite(p_value))
  return {
    'law': own.law.name,
    'estimator': own.estimator,
    'truth': own.law.alpha if math.isfinite(own.law.alpha) else None,
    'median': np.nanmedian(alpha),
    'low': np.nanquantile(alpha, 0.05),
    'high': np.nanquantile(alpha, 0.95),
    'coverage': _share_covered(alpha, error, own.law.alpha),
    'rejected': np.nanmean(p_value < 0.05) if tested else None,
  }


def _share_covered(
  alpha: np.ndarray, error: np.ndarray, truth: float
) -> float | None:
  if not math.isfinite(truth) or not np.any(np.isfinite(error)):
    return None
  return float(np.mean(np.abs(alpha - truth) <= 1.96 * error))


def own_models(stable_size: int) -> Iterator[tuple[Any, ...]]:
  """Power laws for order statistics; stable laws for the others."""
  pareto = 'Pareto', jax.random.pareto, (1.5, 2.5, 3.5)
  alphas = (1.2, 1.5, 1.8, 1.95)
  numbers = 'stable', stable.sample, alphas
  type2, type3 = (
    ('stable', functools.partial(stable.sample_vectors, kind=kind), alphas)
    for kind in ('type2', 'type3')
  )

  def of(estimate: Any, argument: Any) -> Estimator:
    return lambda x: estimate(x, argument)

  searched, block_sums = tail_index.power_law, of(tail_index.mmo, 16)
  scalar_sums = of(tail_index.mmo_univariate, 25)
  models: list[tuple[str, Any, Estimator, tuple[int, ...]]] = [
    ('hill', pareto, of(tail_index.hill, 500), (3000,)),
    ('moment', pareto, of(tail_index.moment, 3000), (8000,)),
    ('pickands', pareto, of(tail_index.pickands, 8000), (10_000,)),
    ('max_ratio', pareto, of(tail_index.max_ratio, 8), (4000,)),
    ('power_law, start known', pareto, of(searched, 1.0), (1000,)),
    ('power_law, start searched', pareto, searched, (2000,)),
    ('power_law, search in the error', pareto, _with_the_search, (500,)),
    ('mmo_univariate', numbers, scalar_sums, (10_000,)),
    ('stable_mle', numbers, tail_index.stable_mle, (stable_size,)),
    ('mmo, type2', type2, block_sums, (3200, 4)),
    ('mmo, type3', type3, block_sums, (3200, 4)),
  ]
  for name, (law, sample, tails), estimate, shape in models:
    compiled = _compiled(estimate)
    for alpha in tails:
      draw = functools.partial(_draw, sample, alpha)
      yield Law(f'{law} {alpha:g}', draw, alpha), name, shape, compiled


def _with_the_search(x: Any) -> tail_index.TailEstimate:
  # A key of its own for each sample.
  bits = lax.bitcast_convert_type(x[0], jnp.uint32)
  key = jax.random.fold_in(jax.random.key(2), bits)
  error = tail_index.power_law_standard_error(key, x)
  return tail_index.power_law(x)._replace(standard_error=error)


def _coverage(own: Setting, replicates: int) -> Row:
  alpha, error, _ = own.run(1, replicates)
  covered = np.mean(np.abs(alpha - own.law.alpha) <= 1.96 * error)
  return {
    'law': own.law.name,
    'estimator': own.estimator,
    'truth': own.law.alpha,
    'size': own.shape[0],
    'median': np.median(alpha),
    'coverage': covered,
    'standard_error': math.sqrt(covered * (1 - covered) / replicates),
    'holds': bool(0.93 <= covered <= 0.97),
  }
