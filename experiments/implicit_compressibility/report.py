"""Tables and figures of a finished (or half finished) run, from its rows."""

import functools

import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from experiments.common import frames, published
from experiments.common.cells import Report
from experiments.common.frames import Column, Row
from experiments.implicit_compressibility import figures
from htjax import plotting

_MEASURED = {
  'train_accuracy': 'train acc.',
  'test_accuracy': 'test acc.',
  'pruning_ratio': 'pruning ratio',
  'train_accuracy_pruned': 'train a.p.',
  'test_accuracy_pruned': 'test a.p.',
}
_SETTING = frames.columns('alpha:tail; sigma:.4g')
_percent = functools.partial(frames.spread, unit=100, over=plotting.finished)


def report(config: ConfigDict, rows: list[Row]) -> Report:
  """The paper's table and its figures; of a sweep, where it ends."""
  tables = [main_table(config, rows), spread_table(rows), law_table(rows)]
  if config.sweep:
    tables.append(sweep_table(rows))
    return Report(tables, {'sigma_sweep': figures.sweep(rows)})
  curve = plotting.accuracy_against_ratio(rows, list(config.fractions))
  drawn = {
    'accuracy_against_pruning_ratio': curve,
    'pruning_ratio': figures.ratio_against_alpha(rows),
    'column_norms': plotting.column_norms(rows),
  }
  return Report(tables, drawn)


def main_table(config: ConfigDict, rows: list[Row]) -> str:
  """Tables 1-6: the paper's columns in %, the published row under ours."""
  columns = [
    *_SETTING,
    Column('runs', lambda own: f'{len(plotting.finished(own))}/{len(own)}'),
    frames.spread('steps', 'steps', 0, over=plotting.finished),
    *(_percent(header, name) for name, header in _MEASURED.items()),
  ]

  def printed(own: list[Row]) -> dict[str, str]:
    found = {
      _MEASURED[name]: f'{100 * mean:.2f}+-{100 * sd:.2f}'
      for name, (mean, sd) in published.row(
        config.table, own[0]['alpha']
      ).items()
    }
    return {'runs': 'published'} | found if found else {}

  groups = frames.group(rows, 'alpha', 'sigma').values()
  return frames.table(config.preset, columns, groups, beneath=printed)


def spread_table(rows: list[Row]) -> str:
  """Quantiles of the pruning ratio over seeds, in %."""

  def quantile(percent: float, own: list[Row]) -> float:
    return np.percentile([100 * row['pruning_ratio'] for row in own], percent)

  quantiles = {'min': 0, '25 %': 25, 'median': 50, '75 %': 75, 'max': 100}
  columns = [
    Column(header, functools.partial(quantile, percent), '.2f')
    for header, percent in quantiles.items()
  ]
  groups = frames.group(plotting.finished(rows), 'alpha', 'sigma').values()
  return frames.table('pruning ratio over seeds', _SETTING + columns, groups)


def law_table(rows: list[Row]) -> str:
  """Trained rows against the closed-form law of noise that is not seen."""
  columns = frames.columns(
    'alpha:tail; sigma:.4g; runs; trained 25/50/75 %=trained:quartiles; '
    'closed form 25/50/75 %=law:quartiles; KS=distance:.3f; p:.3g',
    quartiles=_quartiles,
  )
  with_law = [row for row in rows if row.get('law_pruning_ratios')]
  groups = frames.group(with_law, 'alpha', 'sigma').values()
  title = 'trained networks against the law of invisible Type I noise'
  return frames.table(title, columns, map(_compare, groups))


def _compare(rows: list[Row]) -> Row:
  trained = [row['pruning_ratio'] for row in rows]
  law = np.concatenate([row['law_pruning_ratios'] for row in rows])
  test = stats.ks_2samp(trained, law)
  found = {'runs': len(rows), 'trained': trained, 'law': law}
  return rows[0] | found | {'distance': test.statistic, 'p': test.pvalue}


def _quartiles(ratios: np.ndarray) -> str:
  found = np.percentile(ratios, (25, 50, 75))
  return ' / '.join(f'{100 * q:.1f}' for q in found)


def sweep_table(rows: list[Row]) -> str:
  """For each alpha the largest sigma at which every seed still converges."""
  columns = [
    *frames.columns('alpha:tail'),
    Column('largest sigma', _largest_sigma),
    frames.spread('steps', 'steps', 0, over=_largest),
    _percent('pruning ratio', 'pruning_ratio', over=_largest),
    _percent('test a.p.', 'test_accuracy_pruned', over=_largest),
  ]
  noisy = [row for row in rows if row['alpha'] is not None]
  groups = frames.group(noisy, 'alpha').values()
  return frames.table('largest sigma that still converges', columns, groups)


def _largest(rows: list[Row]) -> list[Row]:
  """The rows of the largest sigma at which all converged."""
  good = {
    sigma: own
    for sigma, own in frames.group(rows, 'sigma').items()
    if all(row['status'] == 'converged' for row in own)
  }
  return good[max(good)] if good else []


def _largest_sigma(rows: list[Row]) -> str:
  tried, found = {row['sigma'] for row in rows}, _largest(rows)
  if not found:
    return f'none of {len(tried)}'
  sigma = found[0]['sigma']
  return f'{sigma:.4g}' + (' (largest tried)' if sigma == max(tried) else '')
