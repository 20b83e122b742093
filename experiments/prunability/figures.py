"""Figures: accuracy against size, and tails against accuracy."""

from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from experiments.common.figures import (
  Axes,
  Figure,
  describe,
  panel_each,
)
from experiments.common.frames import Row, group, where
from htjax import plotting


def drawn(config: ConfigDict, rows: list[Row]) -> dict[str, Figure]:
  """The figures of a run."""
  trained = [
    row
    for row in rows
    if 'accuracy_in_out' in row and row['cell'] in _names(config)
  ]
  if not trained:
    return {}
  return {
    'removable_in_norm': _removable(trained),
    'accuracy_against_size': _sizes(config, rows, trained),
    'tails_against_accuracy': _tails(config, trained),
  }


def _names(config: ConfigDict) -> list[str]:
  return list(config.drawn) or [own['name'] for own in config.methods]


def _removable(trained: list[Row]) -> Figure:
  """The papers' criterion: columns that a tenth of the squared norm pays."""
  methods = group(trained, 'cell')
  figure, axes = panel_each({'': 0}, size=(6.0, 0.6 + 0.3 * len(methods)))
  ((ax, _),) = axes
  for i, own in enumerate(methods.values()):
    ratios = [row['pruning_ratio'] for row in own]
    colour = plotting.COLOURS[i % len(plotting.COLOURS)]
    ax.barh(i, np.mean(ratios), color=colour, alpha=0.6)
    ax.plot(ratios, [i] * len(ratios), 'k.', ms=3)
  ax.set_yticks(range(len(methods)), list(methods))
  ax.invert_yaxis()
  describe(
    ax,
    'weights that are compressible in norm',
    xlabel='share of columns removable for a tenth of the squared norm',
  )
  return figure


def _sizes(config: ConfigDict, rows: list[Row], trained: list[Row]) -> Figure:
  """Accuracy against the share kept, before and after fine-tuning."""
  panels: dict[str, tuple[str, Sequence[float]]] = {
    'by norm in x norm out': ('accuracy_in_out', config.shares),
    'by norm of incoming weights': ('accuracy_norm', config.shares),
    'fine-tuned': ('tuned', config.tuned_shares),
  }
  there = {k: v for k, v in panels.items() if v[0] in trained[0]}
  figure, axes = panel_each(there, size=(3.9, 3.6))
  for ax, (title, (column, shares)) in axes:
    for i, (name, own) in enumerate(group(trained, 'cell').items()):
      _line(ax, i, name, own, column, shares)
    _stars(ax, rows)
    _ticks(ax, config.shares)
    describe(
      ax,
      title,
      xlabel='units of each layer kept, %',
      ylabel='test accuracy',
    )
    ax.set_ylim(*_limits(trained, column))
  _legend(figure)
  return figure


def _ticks(ax: Axes, shares: Sequence[float]) -> None:
  """A logarithmic axis of shares, each with its tick."""
  ax.set_xscale('log')
  ticks = [1.0, *shares]
  ax.set_xticks(ticks, [f'{100 * s:g}' for s in ticks])
  ax.set_xticks([], minor=True)


def _legend(figure: Figure) -> None:
  handles, labels = figure.axes[0].get_legend_handles_labels()
  figure.legend(
    handles, labels, loc='outside right center', frameon=False, fontsize='small'
  )


def _line(
  ax: Axes,
  i: int,
  name: str,
  own: list[Row],
  column: str,
  shares: Sequence[float],
) -> None:
  x = [1.0, *shares] if column != 'tuned' else list(shares)
  each = [
    [*([row['test_accuracy']] * (column != 'tuned')), *row[column]]
    for row in own
  ]
  style = ('-', '--', ':')[i // len(plotting.COLOURS) % 3]
  colour = plotting.COLOURS[i % len(plotting.COLOURS)]
  ax.plot(
    x, np.mean(each, axis=0), f'o{style}', ms=3, lw=1, color=colour, label=name
  )


def _stars(ax: Axes, rows: list[Row]) -> None:
  small: Mapping[float, list[Row]] = group(where(rows, kind='small'), 'share')
  y = [np.mean([r['test_accuracy'] for r in own]) for own in small.values()]
  if y:
    ax.plot(list(small), y, 'k*', ms=8, label='small from the start')


def _limits(rows: list[Row], column: str) -> tuple[float, float]:
  """From the clean network's lowest mean to all."""
  first = next(iter(group(rows, 'cell').values()))
  lowest = np.mean([row[column] for row in first], axis=0).min()
  return max(0.0, float(lowest) - 0.1), 1.01


def _tails(config: ConfigDict, trained: list[Row]) -> Figure:
  """Accuracy of the pruned network against Hill's index."""
  at = list(config.shares).index(config.tuned_shares[0])
  columns = {
    'norms of incoming weights': 'tail_index_norm',
    'contributions': 'tail_index_contribution',
  }
  figure, axes = panel_each(columns, size=(3.9, 3.6))
  for ax, (title, column) in axes:
    for i, (name, own) in enumerate(group(trained, 'cell').items()):
      ax.plot(
        [row[column] for row in own],
        [row['accuracy_in_out'][at] for row in own],
        'osv'[i // len(plotting.COLOURS) % 3],
        ms=3,
        color=plotting.COLOURS[i % len(plotting.COLOURS)],
        label=name,
      )
    describe(
      ax,
      title,
      xlabel='Hill estimate, largest tenth',
      ylabel=f'test accuracy at {config.shares[at]:.0%}',
      xscale='log',
    )
    plotting.log_x(ax, *ax.get_xlim())
  _legend(figure)
  return figure
