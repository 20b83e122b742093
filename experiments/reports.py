"""Tables and figures of a finished (or half finished) run, from its rows."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from scipy import stats
from tqdm import tqdm

from experiments import published
from htjax import plotting, records

Row = dict[str, Any]

_SHORT = {
  'train_accuracy': 'train acc.',
  'test_accuracy': 'test acc.',
  'pruning_ratio': 'pruning ratio',
  'train_accuracy_pruned': 'train a.p.',
  'test_accuracy_pruned': 'test a.p.',
}


def progress(total: int, initial: int) -> tqdm:
  """A bar over finished lanes."""
  return tqdm(total=total, initial=initial, unit='lane', desc='training')


def settings(rows: Iterable[Row]) -> list[tuple[tuple, list[Row]]]:
  """Rows grouped by (alpha, sigma), in the order in which they come."""

  def setting(row: Row) -> tuple:
    return row['alpha'], row['sigma']

  return [(key, list(group)) for key, group in itertools.groupby(rows, setting)]


def write(config: ConfigDict, rows: list[Row], workdir: Path) -> str:
  """Write the figures and tables into `workdir`; returns the tables' text."""
  parts = [main_table(config, rows), spread_table(rows)]
  if config.law_draws:
    parts.append(law_table(rows))
  if config.sweep:
    parts.append(sweep_table(rows))
    plotting.save(plotting.sweep(rows), workdir / 'sigma_sweep.png')
  else:
    fractions = list(config.fractions)
    plotting.save(
      plotting.accuracy_against_ratio(rows, fractions),
      workdir / 'accuracy_against_pruning_ratio.png',
    )
    plotting.save(
      plotting.ratio_against_alpha(rows), workdir / 'pruning_ratio.png'
    )
    plotting.save(plotting.column_norms(rows), workdir / 'column_norms.png')
  text = '\n\n'.join(part for part in parts if part)
  records.atomic_write(workdir / 'table.txt', text + '\n')
  return f'{text}\n\nwritten to {workdir}'


def main_table(config: ConfigDict, rows: list[Row]) -> str:
  """The paper's columns in %, mean +- sd, the published row under ours."""
  lines = []
  for (alpha, sigma), group in settings(rows):
    good = [r for r in group if not r['diverged']]
    lines.append(
      [
        _alpha(alpha),
        f'{sigma:.4g}',
        f'{len(good)}/{len(group)}',
        _mean_sd([r['steps'] for r in good], 1, 0),
        *(_mean_sd([r[c] for r in good]) for c in published.COLUMNS),
      ]
    )
    printed = None if config.sweep else published.row(config.table, alpha)
    if printed:
      values = (f'{100 * m:.2f}+-{100 * s:.2f}' for m, s in printed.values())
      lines.append(['', '', 'published', '', *values])
  headers = ['alpha', 'sigma', 'runs', 'steps', *_SHORT.values()]
  return f'{config.preset}\n' + records.table(headers, lines)


def spread_table(rows: list[Row]) -> str:
  """Quantiles of the pruning ratio over seeds, in %."""
  lines = []
  for (alpha, sigma), group in settings(rows):
    ratios = [100 * r['pruning_ratio'] for r in group if not r['diverged']]
    if ratios:
      quantiles = np.percentile(ratios, (0, 25, 50, 75, 100))
      lines.append(
        [_alpha(alpha), f'{sigma:.4g}', *(f'{q:.2f}' for q in quantiles)]
      )
  headers = ['alpha', 'sigma', 'min', '25 %', 'median', '75 %', 'max']
  return 'pruning ratio over seeds\n' + records.table(headers, lines)


def law_table(rows: list[Row]) -> str:
  """Trained rows against the closed-form law of noise that is not seen."""
  lines = []
  for (alpha, sigma), group in settings(rows):
    group = [r for r in group if r.get('law_pruning_ratios')]
    if not group:
      continue
    ours = [r['pruning_ratio'] for r in group]
    law = np.concatenate([r['law_pruning_ratios'] for r in group])
    test = stats.ks_2samp(ours, law)
    quartiles = (
      ' / '.join(f'{100 * q:.1f}' for q in np.percentile(x, (25, 50, 75)))
      for x in (ours, law)
    )
    lines.append(
      [
        _alpha(alpha),
        f'{sigma:.4g}',
        str(len(ours)),
        *quartiles,
        f'{test.statistic:.3f}',
        f'{test.pvalue:.3g}',
      ]
    )
  headers = ['alpha', 'sigma', 'runs', 'trained 25/50/75 %']
  headers += ['closed form 25/50/75 %', 'KS', 'p']
  title = 'trained networks against the law of invisible Type I noise'
  return f'{title}\n' + records.table(headers, lines) if lines else ''


def sweep_table(rows: list[Row]) -> str:
  """For each alpha the largest sigma at which every seed still converges."""
  lines = []
  noisy = [r for r in rows if r['alpha'] is not None]
  for alpha in dict.fromkeys(r['alpha'] for r in noisy):
    good = [
      (sigma, group)
      for (a, sigma), group in settings(noisy)
      if a == alpha and all(r['status'] == 'converged' for r in group)
    ]
    tried = sorted({r['sigma'] for r in noisy if r['alpha'] == alpha})
    if not good:
      lines.append([_alpha(alpha), f'none of {len(tried)}', '', '', ''])
      continue
    sigma, group = max(good, key=lambda item: item[0])
    lines.append(
      [
        _alpha(alpha),
        f'{sigma:.4g}' + (' (largest tried)' if sigma == tried[-1] else ''),
        _mean_sd([r['steps'] for r in group], 1, 0),
        _mean_sd([r['pruning_ratio'] for r in group]),
        _mean_sd([r['test_accuracy_pruned'] for r in group]),
      ]
    )
  headers = ['alpha', 'largest sigma', 'steps', 'pruning ratio', 'test a.p.']
  return 'largest sigma that still converges\n' + records.table(headers, lines)


def _alpha(alpha: float | None) -> str:
  return 'no noise' if alpha is None else f'{alpha:g}'


def _mean_sd(values: list[float], unit: float = 100, digits: int = 2) -> str:
  if not values:
    return '-'
  x = unit * np.asarray(values, float)
  sd = x.std(ddof=1) if len(x) > 1 else 0.0
  return f'{x.mean():.{digits}f}+-{sd:.{digits}f}'
