"""Tables and figures from the rows."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from experiments.common.cells import Report
from experiments.common.frames import Column, Row, group, table, where
from experiments.prunability import figures
from experiments.prunability.methods import ADDITIVE

_TITLES = {
  'norm': 'norm of incoming weights',
  'centred': 'norm of incoming weights less their median',
  'in_out': 'norm in x norm out',
  'activation': 'effect on the outputs',
}

# Where heavy tails come from. A penalty has its own, of zeros.
_ORIGINS = {
  'steps': ('sgd',),
  'additive noise': ('sgd', *ADDITIVE),
  'contribution noise': ('sgd', 'contribution', 'unconserved'),
}


def report(config: ConfigDict, rows: list[Row]) -> Report:
  """Sizes, accuracies by every criterion, pairs, and tails."""
  trained = [row for row in rows if 'accuracy_in_out' in row]
  tables = [
    sizes_table(rows),
    *(accuracy_table(config, trained, c) for c in config.criteria),
    paired_table(config, trained),
    tuned_table(config, rows),
    tails_table(config, trained),
    correlation_table(config, trained),
  ]
  if config.tuning:
    return Report([*tables, choice_table(config, trained)], {})
  return Report(tables, figures.drawn(config, rows))


def interval(values: Sequence[float]) -> tuple[float, float]:
  """Mean and half width of its 95 % interval, Student's, in %."""
  x = 100 * np.asarray(values, float)
  if len(x) < 2:
    return float(x.mean()), float('nan')
  half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
  return float(x.mean()), float(half)


def paired(
  rows: Sequence[Row], baseline: Sequence[Row], column: str, at: int | None
) -> list[float]:
  """Differences to the baseline's runs of the same seeds."""
  clean = {row['seed']: _value(row, column, at) for row in baseline}
  return [
    _value(row, column, at) - clean[row['seed']]
    for row in rows
    if row['seed'] in clean
  ]


def sizes_table(rows: list[Row]) -> str:
  """Units, parameters and multiply-adds that are left at each share."""
  columns = [
    Column('kept', 'share', 'g'),
    Column('units', 'units', ',d'),
    Column('parameters', 'parameters', ',d'),
    Column('multiply-adds', 'multiply_adds', ',d'),
  ]
  return table('what is left', columns, where(rows, cell='sizes'))


def accuracy_table(config: ConfigDict, rows: list[Row], criterion: str) -> str:
  """Test accuracy in % at each share, by one criterion."""
  column = f'accuracy_{criterion}'
  columns = [
    Column('trained with', 'cell'),
    Column('runs', lambda own: str(len(own))),
    _percent('dense', 'test_accuracy'),
    *(_percent(f'{s:.0%}', column, i) for i, s in enumerate(config.shares)),
  ]
  title = f'test accuracy in % by {_TITLES[criterion]}, 95 % intervals'
  return table(title, columns, group(rows, 'cell').values())


def paired_table(config: ConfigDict, rows: list[Row]) -> str:
  """Differences to clean training of the same seed, by in times out."""
  baseline = where(rows, cell=config.baseline)
  others = [
    own for name, own in group(rows, 'cell').items() if name != config.baseline
  ]

  def difference(header: str, column: str, at: int | None = None) -> Column:
    return Column(header, lambda own: _shown(paired(own, baseline, column, at)))

  columns = [
    Column('trained with', 'cell'),
    difference('dense', 'test_accuracy'),
    *(
      difference(f'{share:.0%}', 'accuracy_in_out', i)
      for i, share in enumerate(config.shares)
    ),
  ]
  title = f'points above {config.baseline!r}, same seeds, by norm in x norm out'
  return table(title, columns, others)


def tuned_table(config: ConfigDict, rows: list[Row]) -> str:
  """After fine-tuning, beside networks that are small from the start."""
  own = list(group([r for r in rows if 'tuned' in r], 'cell').values())
  small = where(rows, kind='small')
  columns = [
    Column('trained with', 'cell'),
    *(
      _percent(f'{share:.0%}', 'tuned', i)
      for i, share in enumerate(config.tuned_shares)
    ),
  ]
  title = f'the same, fine-tuned for {config.tuned_epochs} epochs'

  def stars() -> dict[str, str]:
    found = {'trained with': 'small from the start'}
    for share in config.tuned_shares:
      alike = [r['test_accuracy'] for r in where(small, share=share)]
      found[f'{share:.0%}'] = _shown(alike)
    return found

  last = own[-1:]
  return table(
    title,
    columns,
    own,
    beneath=lambda item: stars() if small and item is last[0] else None,
  )


def tails_table(config: ConfigDict, rows: list[Row]) -> str:
  """Tail indices, and the removable share by the papers' criterion."""
  columns = [
    Column('trained with', 'cell'),
    Column('10 %-ratio', lambda own: _mean(own, 'pruning_ratio'), '.3f'),
    Column('Hill, norms in', lambda own: _mean(own, 'tail_index_norm'), '.2f'),
    Column(
      'Hill, contributions',
      lambda own: _mean(own, 'tail_index_contribution'),
      '.2f',
    ),
    Column('log-normal', lambda own: log_normal_index(own[0]), '.2f'),
  ]
  return table(
    'tails: index of the largest tenth',
    columns,
    group(rows, 'cell').values(),
  )


def log_normal_index(row: Row) -> float | None:
  """Hill's index that Gaussian noise alone gives contributions.

  Of a log-normal law with sigma^2 = 2 s^2 on, from the largest tenth.
  """
  if row['kind'] != 'contribution' or row['alpha'] < 2:
    return None
  z = stats.norm.isf(0.1)
  sigma = row['strength'] * np.sqrt(2 * row['on'])
  return float(1 / (sigma * (stats.norm.pdf(z) / 0.1 - z)))


def correlation_table(config: ConfigDict, rows: list[Row]) -> str:
  """Rank correlation of tails with accuracy, by where the tails come from."""
  at = list(config.shares).index(config.tuned_shares[0])
  found = []
  for name, kinds in _ORIGINS.items():
    own = [
      (row['tail_index_norm'], row['accuracy_in_out'][at])
      for row in rows
      if row['kind'] in kinds and np.isfinite(row['tail_index_norm'] or np.nan)
    ]
    if len(own) > 2:
      r, p = stats.spearmanr(*zip(*own, strict=True))
      found.append({'tails by': name, 'n': len(own), 'r': r, 'p': p})
  columns = [
    Column('tails by', 'tails by'),
    Column('runs', 'n', 'd'),
    Column('Spearman', 'r', '.2f'),
    Column('p', 'p', '.1g'),
  ]
  title = (
    f'index of norms in against accuracy at {config.shares[at]:.0%}, '
    'by norm in x norm out'
  )
  return table(title, columns, found)


def choice_table(config: ConfigDict, rows: list[Row]) -> str:
  """Settings by accuracy at the share that is tuned for, best first."""
  at = list(config.shares).index(config.tuned_shares[0])
  clean = _mean(where(rows, cell=config.baseline), 'test_accuracy')
  fair = [
    own
    for own in group(rows, 'cell').values()
    if _mean(own, 'test_accuracy') >= clean - 0.01
  ]
  fair.sort(key=lambda own: -_mean(own, 'accuracy_in_out', at))
  columns = [
    Column('trained with', 'cell'),
    _percent('dense', 'test_accuracy'),
    _percent(f'{config.shares[at]:.0%}', 'accuracy_in_out', at),
  ]
  return table('dense within a point of clean, best first', columns, fair[:8])


def _value(row: Row, column: str, at: int | None) -> float:
  return row[column] if at is None else row[column][at]


def _mean(rows: Sequence[Row], column: str, at: int | None = None) -> float:
  values = [_value(row, column, at) for row in rows]
  return float(np.mean([np.nan if v is None else v for v in values]))


def _percent(header: str, column: str, at: int | None = None) -> Column:
  return Column(
    header, lambda own: _shown([_value(row, column, at) for row in own])
  )


def _shown(values: Sequence[float]) -> str:
  if not len(values):
    return ''
  mean, half = interval(values)
  return f'{mean:.1f}+-{half:.1f}'
