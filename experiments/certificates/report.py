"""The tables and the figures, from the rows."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.common import published
from experiments.common.cells import Report
from experiments.common.frames import (
  Column,
  Row,
  group,
  spread,
  table,
  tail,
  where,
)
from htjax import plotting

_COLOURS = {'bound': '#D55E00', 'test_error': '#0072B2'}
_NAMES = {'bound': 'certificate', 'test_error': 'test error'}


def report(config: ConfigDict, rows: list[Row]) -> Report:
  """Each network, the tail indices at equal size, and the figures."""
  del config
  return Report(
    [table('', _COLUMNS, rows), alpha_table(where(rows, study='alpha'))],
    {
      'bound_against_bits': bound_against_bits(rows),
      'bound_against_alpha': bound_against_alpha(where(rows, study='alpha')),
    },
  )


def _percent(header: str, name: str) -> Column:
  return Column(header, lambda row: 100 * row[name], '.2f')


_COLUMNS = (
  Column('study', 'study'),
  Column('alpha', 'alpha', tail),
  *(Column(name, name) for name in ('seed', 'kept', 'bits')),
  Column('positions', 'position_bits', '.0f'),
  Column('values', 'value_bits', '.0f'),
  _percent('train err.', 'train_error'),
  _percent('test err.', 'test_error'),
  _percent('bound', 'bound'),
  _percent('Hoeffding', 'hoeffding'),
)


def alpha_table(rows: list[Row]) -> str:
  """Mean +- sd over seeds at equal size; differences from no noise by seed."""
  clean = {row['seed']: row for row in where(rows, alpha=None)}
  columns = (
    Column('alpha', 'alpha', tail),
    Column('runs', len),
    spread('kept', 'kept', 0),
    spread('bits', 'bits', 0),
    spread('train err.', 'train_error', unit=100),
    spread('test err.', 'test_error', unit=100),
    spread('bound', 'bound', unit=100),
    spread(
      'less no noise',
      lambda row: row['bound'] - clean[row['seed']]['bound'],
      unit=100,
    ),
  )
  return table('', columns, group(rows, 'alpha').values())


def _axes(xlabel: str, title: str) -> tuple[Any, Any]:
  figure, (ax,) = plotting.panels(1, size=(6.0, 4.4))
  ax.set(xlabel=xlabel, ylabel='error')
  ax.set_title(title, fontsize=10)
  return figure, ax


def bound_against_bits(rows: list[Row]) -> Any:
  """The certificate and the test error of each size."""
  figure, ax = _axes('length of the codeword (bits)', 'Numbers: kept weights')
  curve = sorted(where(rows, study='size'), key=lambda row: row['bits'])
  main = where(rows, study='main')
  for name, colour in _COLOURS.items():
    for own, style in ((curve, 'o-'), (main, '*')):
      points = [row['bits'] for row in own], [row[name] for row in own]
      label, size = (_NAMES[name], 6) if own is curve else (None, 14)
      ax.plot(*points, style, color=colour, label=label, markersize=size)
  for row in curve:
    ax.annotate(
      f'{row["kept"]}',
      (row['bits'], row['bound']),
      xytext=(0, 6),
      textcoords='offset points',
      ha='center',
    )
  ax.plot([], [], 'k*', markersize=12, label='trained for longer')
  best = published.value('LOTFI-2022', ('mnist',), 'bound')
  ax.axhline(best, color=plotting.GREY, linestyle='--', linewidth=1)
  ax.annotate(
    'Lotfi et al. 2022, MNIST',
    (1, best),
    xycoords=('axes fraction', 'data'),
    xytext=(0, 3),
    textcoords='offset points',
    ha='right',
    color=plotting.GREY,
  )
  ax.margins(x=0.1, y=0.1)
  ax.set_ylim(bottom=0)
  ax.legend(frameon=False)
  return figure


def bound_against_alpha(rows: list[Row]) -> Any:
  """Certificate and test error of each seed at equal size, and their mean."""
  title = 'A point for each seed, a line at the mean'
  figure, ax = _axes('tail index of the noise', title)
  groups = group(rows, 'alpha')
  for name, colour in _COLOURS.items():
    for i, own in enumerate(groups.values()):
      y = [row[name] for row in own]
      ax.plot([i] * len(y), y, 'o', color=colour, alpha=0.5)
      ax.plot([i - 0.2, i + 0.2], [np.mean(y)] * 2, color=colour, linewidth=2)
    ax.plot([], [], 'o-', color=colour, label=_NAMES[name])
  ax.set_xticks(range(len(groups)), map(tail, groups))
  ax.set_ylim(bottom=0)
  ax.legend(frameon=False)
  return figure
