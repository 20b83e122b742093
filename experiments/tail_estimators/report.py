"""Tables of bias and coverage, and the figure of the biases."""

import numpy as np
from ml_collections import ConfigDict

from experiments.common import frames
from experiments.common.cells import Report
from experiments.common.figures import Axes, Figure, panel_each
from experiments.common.frames import Column, Row
from experiments.tail_estimators import least_squares
from htjax import plotting


def report(config: ConfigDict, rows: list[Row]) -> Report:
  """Laws down and estimators across; each estimator on its own model."""
  del config
  bias = frames.where(rows, study='bias')
  title = 'median estimate; the tail index is in the name of the law'
  tables = [
    bias_table(bias, 'median', title),
    bias_table(bias, 'coverage', 'share of 95 % intervals that hold it'),
    coverage_table(frames.where(rows, study='coverage')),
    least_squares.report(frames.where(rows, study='least_squares')),
  ]
  return Report(tables, {'bias': bias_figure(bias)} if bias else {})


def bias_table(rows: list[Row], measured: str, title: str) -> str:
  """One column of the rows, by law and estimator."""
  names = frames.group(rows, 'estimator')
  shown = '; '.join(f'{name}:.2f' for name in names)
  columns = frames.columns(f'law; {shown}')
  lines = [
    {'law': law} | {row['estimator']: row[measured] for row in own}
    for law, own in frames.group(rows, 'law').items()
  ]
  return frames.table(title, columns, lines)


def coverage_table(rows: list[Row]) -> str:
  """Share of the intervals that hold the truth, with its standard error."""
  columns = [
    *frames.columns('estimator; law; n=size; median:.3f'),
    Column('coverage (%)', _coverage),
    *frames.columns('93-97 %=holds:yes'),
  ]
  title = "95 % intervals on the estimators' own models"
  return frames.table(title, columns, rows)


def _coverage(row: Row) -> str:
  return f'{100 * row["coverage"]:.1f}+-{100 * row["standard_error"]:.1f}'


def bias_figure(rows: list[Row]) -> Figure:
  """The middle 90 % of the estimates beside the truth, law by law."""
  laws = frames.group(rows, 'law')
  figure, panels = panel_each(laws, columns=4, size=(4, 2.6))
  for i, (ax, (law, own)) in enumerate(panels):
    _draw_bias(ax, own, names=i % 4 == 0)
    ax.set_title(law)
    if i >= len(laws) - 4:
      ax.set_xlabel('tail index')
  return figure


def _draw_bias(ax: Axes, rows: list[Row], names: bool) -> None:
  y = np.arange(len(rows))
  low, high, median = (
    [row[name] for row in rows] for name in ('low', 'high', 'median')
  )
  ax.hlines(y, low, high, color=plotting.COLOURS[4], lw=3)
  ax.plot(median, y, 'o', color='#222222', ms=4)
  if rows[0]['truth'] is not None:
    ax.axvline(rows[0]['truth'], color=plotting.COLOURS[0], lw=1)
  labels = [row['estimator'] if names else '' for row in rows]
  ax.set_yticks(y, labels)
  ax.set(xlim=(0, 6), ylim=(len(rows) - 0.5, -0.5))
