"""The tables and the figures, from the rows."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.certificates import rest
from experiments.common import frames, published
from experiments.common.cells import Report
from experiments.common.figures import Axes, Figure, describe
from experiments.common.frames import Column, Row, columns, spread, table, where
from htjax import plotting

# Columns that are drawn, their names and colours.
_DRAWN = {
  'bound': ('certificate', '#D55E00'),
  'test_error': ('test error', '#0072B2'),
}


def report(config: ConfigDict, rows: list[Row]) -> Report:
  """Each network, the tail indices at equal size, and the figures."""
  if config.num_first:
    return rest.report(config, rows)
  noisy = where(rows, study='alpha')
  figures = {'bound_against_bits': bound_against_bits(rows)}
  if noisy:
    figures['bound_against_alpha'] = bound_against_alpha(noisy)
  main = where(rows, study='main')
  tables = [table('', _COLUMNS, rows), seed_table(main), alpha_table(noisy)]
  return Report(tables, figures)


_COLUMNS = columns(
  'study; alpha:tail; seed; kept; bits; positions=position_bits:.0f; '
  'values=value_bits:.0f; train err.=train_error:percent; test '
  'err.=test_error:percent; bound:percent; Hoeffding=hoeffding:percent',
  percent=lambda share: f'{100 * share:.2f}',
)


def seed_table(rows: list[Row]) -> str:
  """Mean +- sd of the certificate over seeds."""
  shown = (Column('runs', len), *_spreads(_SHARES))
  return table('Over seeds', shown, [rows] if len(rows) > 1 else [])


def alpha_table(rows: list[Row]) -> str:
  """Mean +- sd over seeds at equal size; differences from no noise by seed."""
  clean = {row['seed']: row['bound'] for row in where(rows, alpha=None)}
  rows = [row | {'gain': row['bound'] - clean[row['seed']]} for row in rows]
  shares = _SHARES | {'less no noise': 'gain'}
  shown = (*columns('alpha:tail'), Column('runs', len), *_spreads(shares))
  return table('', shown, frames.group(rows, 'alpha').values())


_SHARES = {
  'train err.': 'train_error',
  'test err.': 'test_error',
  'bound': 'bound',
}


def _spreads(shares: dict[str, str]) -> list[Column]:
  counts = [spread(name, name, 0) for name in ('kept', 'bits')]
  return counts + [spread(h, name, unit=100) for h, name in shares.items()]


def _axes(xlabel: str, title: str) -> tuple[Figure, Axes]:
  figure, (ax,) = plotting.panels(1, size=(6.0, 4.4))
  describe(ax, title, titlesize=10, xlabel=xlabel, ylabel='error')
  return figure, ax


def bound_against_bits(rows: list[Row]) -> Figure:
  """The certificate and the test error of each size."""
  figure, ax = _axes('length of the codeword (bits)', 'Numbers: kept weights')
  curve = sorted(where(rows, study='size'), key=lambda row: row['bits'])
  main = where(rows, study='main')
  for name, (label, colour) in _DRAWN.items():
    for own, fmt, size in ((curve, 'o-', 6), (main, '*', 14)):
      points = [row['bits'] for row in own], [row[name] for row in own]
      style: Any = {'color': colour, 'markersize': size}
      ax.plot(*points, fmt, label=label if own is curve else None, **style)
  beside: dict[str, Any] = {'textcoords': 'offset points'}
  for row in curve:
    place = row['bits'], row['bound']
    ax.annotate(row['kept'], place, xytext=(0, 6), ha='center', **beside)
  ax.plot([], [], 'k*', markersize=12, label='trained for longer')
  best = published.value('LOTFI-2022', ('mnist',), 'bound')
  ax.axhline(best, color=plotting.GREY, linestyle='--', linewidth=1)
  beside |= {'xycoords': ('axes fraction', 'data'), 'color': plotting.GREY}
  name = 'Lotfi et al. 2022, MNIST'
  ax.annotate(name, (1, best), xytext=(0, 3), ha='right', **beside)
  ax.margins(x=0.1, y=0.1)
  ax.set_ylim(bottom=0)
  ax.legend(frameon=False)
  return figure


def bound_against_alpha(rows: list[Row]) -> Figure:
  """Certificate and test error of each seed at equal size, and their mean."""
  title = 'A point for each seed, a line at the mean'
  figure, ax = _axes('tail index of the noise', title)
  groups = frames.group(rows, 'alpha')
  for name, (label, colour) in _DRAWN.items():
    for i, own in enumerate(groups.values()):
      y = [row[name] for row in own]
      ax.plot([i] * len(y), y, 'o', color=colour, alpha=0.5)
      ax.plot([i - 0.2, i + 0.2], [np.mean(y)] * 2, color=colour, linewidth=2)
    ax.plot([], [], 'o-', color=colour, label=label)
  ax.set_xticks(range(len(groups)), map(frames.tail, groups))
  ax.set_ylim(bottom=0)
  ax.legend(frameon=False)
  return figure
