"""The figures."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.common.frames import Row, group
from experiments.sketching_bounds.lemmas import BINS
from experiments.sketching_bounds.numbers import (
  LABELS,
  METHODS,
  complexities,
  printed,
)
from htjax import plotting

# Where a legend stands above the title.
_ABOVE: dict[str, Any] = {
  **{'loc': 'lower left', 'bbox_to_anchor': (0, 1.08)},
  **{'fontsize': 'xx-small', 'ncols': 2},
}
_COLOURS = (*plotting.COLOURS, '#A6761D', '#7570B3', '#999999', '#000000')
_COLOUR = dict(zip(LABELS, _COLOURS, strict=True))


def _by_dataset(
  rows: list[Row], panels: int = 1
) -> tuple[Any, Iterator[tuple[Any, list[Row]]]]:
  """A figure, and (axes, rows) of each data set: one axis or a list."""
  groups = group(rows, 'dataset')
  figure, axes = plotting.panels(panels * len(groups), columns=2)
  for i, ax in enumerate(axes):
    first = list(groups.values())[i // panels][0]
    title = f'{first["dataset"]}, width {first["width"]}'
    ax.set_title(title, fontsize='medium')
  own = axes if panels == 1 else zip(*[iter(axes)] * panels, strict=True)
  return figure, zip(own, groups.values(), strict=True)


def methods_figure(rows: list[Row]) -> Any:
  """Figure 3 (a, b): bars by method, the published beside ours."""
  chosen = [
    min(own, key=lambda row: abs(row['width'] - 784))
    for own in group(rows, 'dataset').values()
  ]
  figure, panels = _by_dataset(chosen)
  for ax, (row,) in panels:
    ours, theirs = complexities(row), printed(row)
    places = np.arange(len(ours))
    for values, shift, colour, label in (
      (ours, -0.2, '#0072B2', 'ours'),
      (theirs, 0.2, '#E69F00', 'published'),
    ):
      lengths = [values.get(name, np.nan) for name in ours]
      ax.barh(places + shift, lengths, 0.4, color=colour, label=label)
    ax.set_yticks(places, [LABELS[name] for name in ours])
    ax.invert_yaxis()
    ax.axvline(0, color='black', lw=0.8)
    ax.set_xlabel('ln of the complexity term')
    ax.legend(fontsize='x-small', loc='lower right')
  return figure


def width_figure(rows: list[Row]) -> Any:
  """Figure 3 (c): logarithms against width; dotted is published."""
  dataset, own = max(group(rows, 'dataset').items(), key=lambda x: len(x[1]))
  figure, (ax,) = plotting.panels(1, size=(6.4, 5))
  widths = [row['width'] for row in own]
  for name, label in LABELS.items():
    for function, style, shown in (
      (complexities, 'o-', label),
      (printed, 's:', None),
    ):
      values = [function(row).get(name, np.nan) for row in own]
      colour = _COLOUR[name]
      ax.plot(widths, values, style, ms=3, color=colour, label=shown)
  ax.set_xscale('log')
  ax.set_xticks(widths, [str(width) for width in widths])
  ax.minorticks_off()
  ax.axhline(0, color='black', lw=0.5)
  ax.set(xlabel='width', ylabel='ln of the complexity term')
  ax.set_title(f'{dataset}; dotted: published', fontsize='medium')
  ax.legend(fontsize='x-small', loc='center left', bbox_to_anchor=(1, 0.5))
  return figure


def epochs_figure(rows: list[Row]) -> Any:
  """Figure 5: bounds, and errors with the margin, from epoch to epoch."""
  figure, panels = _by_dataset(rows, panels=2)
  for (bounds, errors), own in panels:
    epochs = [row['epoch'] for row in own]
    for name in (n for n in METHODS if n != 'reading'):
      values = [
        row['methods'].get(name, {}).get('bound', np.nan) for row in own
      ]
      style = {'color': _COLOUR[name], 'label': METHODS[name]}
      bounds.plot(epochs, values, 'o-', ms=3, **style)
    bounds.set(xlabel='epoch', ylabel='ln of the bound')
    bounds.legend(**_ABOVE)
    for name, label in (('train_error', 'training'), ('test_error', 'test')):
      values = [row[name] for row in own]
      errors.plot(epochs, values, 'o-', ms=3, label=label)
    errors.set(xlabel='epoch', ylabel='error')
    errors.legend(fontsize='x-small', loc='upper center')
    twin = errors.twinx()
    margins = [row.get('gamma', np.nan) for row in own]
    twin.plot(epochs, margins, 's:', ms=3, color='black')
    twin.set_ylabel('margin (dotted)')
  return figure


def weights_figure(rows: list[Row]) -> Any:
  """Figures 1 and 6: histograms of the layers with the normal density."""
  figure, axes = plotting.panels(len(rows), columns=5, size=(2.6, 2.6))
  centres = (BINS[1:] + BINS[:-1]) / 2
  normal = np.exp(-(centres**2) / 2) / math.sqrt(2 * math.pi)
  for ax, row in zip(axes, rows, strict=True):
    ax.stairs(row['density'], BINS, fill=True, color='#56B4E9')
    ax.plot(centres, normal, color='black', lw=0.8)
    ax.set(yscale='log', ylim=(1e-6, 10), xlabel='weight / deviation')
    title = f'{row["dataset"]}, layer {row["layer"]}'
    ax.set_title(f'{title}, kurtosis {row["kurtosis"]:.3g}', fontsize='small')
  return figure


def error_figure(rows: list[Row]) -> Any:
  """Figure 2: change of the outputs and its bounds against the strength."""
  figure, panels = _by_dataset(rows)
  for ax, own in panels:
    d = [row['strength'] for row in own]
    for name, colour in (('change_max', '#000000'), ('change_mean', '#999999')):
      values = np.log(np.maximum([row[name] for row in own], 1e-30))
      label = name.replace('_', ' ')
      ax.plot(d, values, 'o-', ms=3, color=colour, label=label)
    for name, colour, label in (
      ('markov', '#D55E00', 'Lemma 4.1, Markov'),
      ('mean', '#E69F00', 'Lemma 4.1, in the mean'),
      ('measured', '#0072B2', 'from the measured norms'),
    ):
      found = [row[f'bound_{name}'] for row in own]
      label += ' (dots: premise holds)'
      ax.plot(d, [f['log'] for f in found], '-', color=colour, label=label)
      valid = [f['log'] if f['premise'] else np.nan for f in found]
      ax.plot(d, valid, 'o', color=colour)
    ax.set(xscale='log', xlabel='strength d', ylabel='ln change of the output')
    ax.legend(**_ABOVE)
  return figure


def sparsity_figure(rows: list[Row]) -> Any:
  """Figure 4: most nonzeros in a row or column, over all layers."""
  figure, panels = _by_dataset(rows)
  for ax, own in panels:
    d = [row['strength'] for row in own]
    for name, label, style in (
      ('most_nonzeros', 'trained network', 'o-'),
      ('most_claimed', 'Lemma 5.1, lambda = 1', 's--'),
      ('most_quantile', 'normal weights, 95 %', '^:'),
    ):
      ax.plot(d, [max(row[name]) for row in own], style, ms=3, label=label)
    ax.set(xscale='log', xlabel='strength d')
    ax.set(yscale='log', ylabel='most nonzeros in a row or column')
    ax.legend(fontsize='x-small', loc='lower left')
  return figure


def recovery_figure(rows: list[Row]) -> Any:
  """Share of matrices that come back against m / p; dotted is the theorem."""
  groups = dict(sorted(group(rows, 'j', 'p').items()))
  columns = len({p for _, p in groups})
  figure, axes = plotting.panels(len(groups), columns=columns, size=(3.2, 3))
  for ax, ((j, p), own) in zip(axes, groups.items(), strict=True):
    for ones, curve in group(own, 'ones').items():
      x = [row['m'] / p for row in curve]
      y = [row['recovered'] / row['draws'] for row in curve]
      ax.plot(x, y, 'o-', ms=3, label=f'{ones} ones')
    limit = own[0]['theorem'] / p
    ax.set_title(f'p = {p}, j = {j}; theorem: {limit:.1f}', fontsize='small')
    ax.set(xlabel='m / p', ylabel='recovered')
    ax.legend(fontsize='xx-small', loc='upper left')
  return figure


# By the names of their files, with the study whose rows they show.
FIGURES = {
  'methods': ('bounds', methods_figure),
  'width': ('bounds', width_figure),
  'epochs': ('trace', epochs_figure),
  'weights': ('weights', weights_figure),
  'pruning_error': ('strengths', error_figure),
  'sparsity': ('strengths', sparsity_figure),
  'recovery': ('recovery', recovery_figure),
}
