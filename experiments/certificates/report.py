"""The table and the figures of `experiments/certificates.py`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from htjax import plotting, records

Row = dict[str, Any]

# The best certificate by compression for MNIST before: Lotfi et al. (2022),
# "PAC-Bayes compression bounds so tight that they can explain generalization".
PUBLISHED = 0.116
_COLOURS = {'bound': '#D55E00', 'test_error': '#0072B2'}
_NAMES = {'bound': 'certificate', 'test_error': 'test error'}


def write(rows: list[Row], workdir: Path) -> str:
  """Write tables and figures into `workdir`; returns the tables' text."""
  text = f'{table(rows)}\n\n{alpha_table(rows)}'
  records.atomic_write(workdir / 'table.txt', text + '\n')
  plotting.save(bound_against_bits(rows), workdir / 'bound_against_bits.png')
  plotting.save(bound_against_alpha(rows), workdir / 'bound_against_alpha.png')
  return f'{text}\n\nwritten to {workdir}'


def table(rows: Sequence[Row]) -> str:
  """One line a network: kept weights, bits, errors and bounds in %."""
  lines = [
    [
      *(row['study'], _alpha(row['alpha']), row['seed'], row['kept']),
      *(row['bits'], f'{row["position_bits"]:.0f}', f'{row["value_bits"]:.0f}'),
      *(f'{100 * row[x]:.2f}' for x in ('train_error', 'test_error', 'bound')),
      f'{100 * row["hoeffding"]:.2f}',
    ]
    for row in rows
  ]
  headers = ['study', 'alpha', 'seed', 'kept', 'bits', 'positions', 'values']
  headers += ['train err.', 'test err.', 'bound', 'Hoeffding']
  return records.table(headers, lines)


def alpha_table(rows: Sequence[Row]) -> str:
  """Mean +- sd over seeds at equal size; differences from no noise by seed."""
  rows = [row for row in rows if row['study'] == 'alpha']
  clean = {row['seed']: row for row in rows if row['alpha'] is None}
  lines = []
  for alpha, group in _by_alpha(rows):
    gains = [row['bound'] - clean[row['seed']]['bound'] for row in group]
    lines.append(
      [
        *(_alpha(alpha), len(group), _mean_sd([r['kept'] for r in group], 0)),
        _mean_sd([r['bits'] for r in group], 0),
        *(
          _mean_sd([100 * r[x] for r in group], 2)
          for x in ('train_error', 'test_error', 'bound')
        ),
        _mean_sd([100 * gain for gain in gains], 2),
      ]
    )
  headers = ['alpha', 'runs', 'kept', 'bits', 'train err.', 'test err.']
  return records.table([*headers, 'bound', 'less no noise'], lines)


def bound_against_bits(rows: Sequence[Row]) -> Any:
  """The certificate, the test error and the training error of each size."""
  rows = [row for row in rows if row['study'] in ('main', 'size')]
  figure, ax = _axes('length of the codeword (bits)', 'error')
  curve = sorted((r for r in rows if r['study'] == 'size'), key=_bits)
  main = [r for r in rows if r['study'] == 'main']
  for name, colour in _COLOURS.items():
    x, y = [_bits(r) for r in curve], [r[name] for r in curve]
    ax.plot(x, y, 'o-', color=colour, label=_NAMES[name])
    points = [_bits(r) for r in main], [r[name] for r in main]
    ax.plot(*points, '*', color=colour, markersize=14)
  for row in curve:
    ax.annotate(
      f'{row["kept"]}',
      (_bits(row), row['bound']),
      xytext=(0, 6),
      textcoords='offset points',
      ha='center',
    )
  ax.plot([], [], 'k*', markersize=12, label='trained for longer')
  ax.axhline(PUBLISHED, color='#888888', linestyle='--', linewidth=1)
  ax.annotate(
    'Lotfi et al. 2022, MNIST',
    (1, PUBLISHED),
    xycoords=('axes fraction', 'data'),
    xytext=(0, 3),
    textcoords='offset points',
    ha='right',
    color='#888888',
  )
  ax.margins(x=0.1, y=0.1)
  ax.set_ylim(bottom=0)
  ax.set_title('Numbers: kept weights', fontsize=10)
  ax.legend(frameon=False)
  return figure


def bound_against_alpha(rows: Sequence[Row]) -> Any:
  """Certificate and test error of each seed at equal size, and their mean."""
  rows = [row for row in rows if row['study'] == 'alpha']
  groups = _by_alpha(rows)
  figure, ax = _axes('tail index of the noise', 'error')
  for name, colour in _COLOURS.items():
    for i, (_, group) in enumerate(groups):
      y = [row[name] for row in group]
      ax.plot([i] * len(y), y, 'o', color=colour, alpha=0.5)
      ax.plot([i - 0.2, i + 0.2], [np.mean(y)] * 2, color=colour, linewidth=2)
    ax.plot([], [], 'o-', color=colour, label=_NAMES[name])
  ax.set_xticks(range(len(groups)), [_alpha(alpha) for alpha, _ in groups])
  ax.set_ylim(bottom=0)
  ax.set_title('A point for each seed, a line at the mean', fontsize=10)
  ax.legend(frameon=False)
  return figure


def _axes(xlabel: str, ylabel: str) -> tuple[Any, Any]:
  from matplotlib.figure import Figure

  figure = Figure(figsize=(6.0, 4.4), layout='constrained')
  ax = figure.add_subplot()
  ax.spines[['top', 'right']].set_visible(False)
  ax.grid(color='#e6e6e6', linewidth=0.8)
  ax.set_axisbelow(True)
  ax.set(xlabel=xlabel, ylabel=ylabel)
  return figure, ax


def _by_alpha(rows: Sequence[Row]) -> list[tuple[float | None, list[Row]]]:
  alphas = dict.fromkeys(row['alpha'] for row in rows)
  return [(a, [row for row in rows if row['alpha'] == a]) for a in alphas]


def _bits(row: Row) -> int:
  return row['bits']


def _alpha(alpha: float | None) -> str:
  return 'no noise' if alpha is None else f'{alpha:g}'


def _mean_sd(values: Sequence[float], digits: int) -> str:
  sd = np.std(values, ddof=1) if len(values) > 1 else 0.0
  return f'{np.mean(values):.{digits}f}+-{sd:.{digits}f}'
