"""Numbers that tables and figures show of a row, and printed ones."""

import math
from typing import Any

import numpy as np

from experiments.common import published
from experiments.common.frames import Row
from experiments.sketching_bounds.methods import NORM_BOUNDS, norm_bounds
from htjax.bounds import baselines

METHODS = {
  'neyshabur_2015': 'Neyshabur 2015',
  'neyshabur_2017': 'Neyshabur 2017',
  'bartlett_2017': 'Bartlett 2017',
  'arora_2018': 'Arora 2018',
  'ju_2022': 'Ju 2022',
  'sketched': 'sketch, 1/60 kept',
  'reading': 'sketch, 3 lambda chi ln r = 1',
  'sketched_margin': 'sketch, margin kept',
  'naive': 'plain count, 1/60 kept',
}
TRUE = 'true error'
LABELS = METHODS | {TRUE: TRUE}


def printed(row: Row) -> dict[str, float]:
  """Natural logarithms in Tables 2 and 3; the paper's own fits `reading`."""
  table = {'mnist': 'SK-TB2', 'cifar10': 'SK-TB3'}.get(row['dataset'], '')
  return published.row(table, row['width'])


def complexities(row: Row) -> dict[str, float]:
  """Natural logarithms by method, without the empirical term; those that were
  evaluated, and the true error."""
  logs = {name: one['complexity'] for name, one in row['methods'].items()}
  # A file does not hold the logarithm of 0.
  found = {n: v for n, v in logs.items() if v is not None and math.isfinite(v)}
  found |= _without_norms(row)
  return {n: found[n] for n in LABELS if n in found}


def _without_norms(row: Row) -> dict[str, float]:
  error = row['test_error']
  found = {TRUE: math.log(error)} if error > 0 else {}
  return {'reading': reading(row)} | found


def reading(row: Row) -> float:
  """ln sqrt(sum d_1 d_2 ln^2(p) / n): Theorem 5.2 with unit factors.

  The published column 'ours' follows it to within 0.04 on MNIST.
  """
  total = sum(a * b * math.log(max(a, b)) ** 2 for a, b in row['shapes'])
  return 0.5 * math.log(total / row['num_samples'])


def in_one_currency(row: Row) -> dict[str, float]:
  """ln sqrt(value / n) of every printed column, with the margin of the table.

  The paper's own column is one already, the norm columns are the squares over
  gamma^2 alone: without n, without a root.
  """
  found = printed(row)
  scale = math.log(row['num_samples'])
  rooted = {n: 0.5 * (found[n] - scale) for n in NORM_BOUNDS if n in found}
  own = {n: found[n] for n in ('reading', TRUE) if n in found}
  return rooted | own


def measured_in_one_currency(row: Row) -> dict[str, float]:
  """The printed formulas on our network at its margin, and its error."""
  scale = math.log(row['num_samples'])
  rooted = {name: 0.5 * (v - scale) for name, v in squares(row).items()}
  return rooted | _without_norms(row)


def squares(row: Row) -> dict[str, float]:
  """ln of the norm bounds as the paper's program has them, over gamma^2."""
  fan_in = np.array([a for a, _ in row['shapes']])
  norms = {name: np.array(values) for name, values in row['norms'].items()}
  norms['two_one'] = norms['frobenius']
  shared = {'gamma': row['gamma'], 'delta': 0.5, 'variant': 'authors'}
  # The formulas have no empirical term.
  found = norm_bounds(np.ones(1), norms, (fan_in, 2), (1.0, 1.0), **shared)
  return {name: bound.log_value for name, bound in found.items()}


def stable_ranks(row: Row) -> np.ndarray:
  """(F / S)^2 of each layer."""
  return np.divide(row['norms']['frobenius'], row['norms']['spectral']) ** 2


def forms(row: Row) -> dict[str, float]:
  """The norm bounds as often compared, natural logarithms."""
  return baselines.log_norm_products(
    **{name: np.array(values) for name, values in row['norms'].items()},
    widths=np.array([b for _, b in row['shapes']]),
    gamma=row['gamma'],
    num_samples=row['num_samples'],
  )


def slopes(rows: list[Row]) -> dict[str, tuple[float, float | None]]:
  """Slopes against ln width: measured and, by the same fit, published."""
  ours, theirs = ([f(row) for row in rows] for f in (complexities, printed))
  widths = np.log([row['width'] for row in rows])

  def slope(name: str, values: list[dict[str, Any]]) -> float | None:
    if not all(name in v for v in values):
      return None
    return float(np.polyfit(widths, [v[name] for v in values], 1)[0])

  found = {name: (slope(name, ours), slope(name, theirs)) for name in LABELS}
  return {n: (own, p) for n, (own, p) in found.items() if own is not None}
