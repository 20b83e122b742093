"""The figures."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.common.figures import Figure, curves, describe, panel_each
from experiments.common.frames import Row, group
from experiments.sketching_bounds import numbers
from experiments.sketching_bounds.lemmas import BINS
from experiments.sketching_bounds.numbers import LABELS, METHODS
from htjax import plotting

_COLOURS = (*plotting.COLOURS, '#A6761D', '#7570B3', '#999999', '#000000')
_COLOUR = dict(zip(LABELS, _COLOURS, strict=True))


def _legend(loc: str, size: str = 'x-small', **more: Any) -> dict[str, Any]:
  return {'fontsize': size, 'loc': loc, **more}


# Above the title.
_ABOVE = _legend('lower left', 'xx-small', bbox_to_anchor=(0, 1.08), ncols=2)


def _column(rows: list[Row], name: str) -> list[Any]:
  return [row.get(name, np.nan) for row in rows]


def _by_dataset(
  rows: list[Row], panels: int = 1
) -> tuple[Figure, Iterator[tuple[list[Any], list[Row]]]]:
  """A figure, and (so many axes, rows) of each data set."""
  groups = group(rows, 'dataset')
  figure, axes = plotting.panels(panels * len(groups), columns=2)
  for i, ax in enumerate(axes):
    first = list(groups.values())[i // panels][0]
    describe(ax, f'{first["dataset"]}, width {first["width"]}')
  own = (axes[i : i + panels] for i in range(0, len(axes), panels))
  return figure, zip(own, groups.values(), strict=False)


def methods_figure(rows: list[Row]) -> Figure:
  """Figure 3 (a, b): bars by method, the published beside ours."""
  chosen = [
    min(own, key=lambda row: abs(row['width'] - 784))
    for own in group(rows, 'dataset').values()
  ]
  figure, panels = _by_dataset(chosen)
  for (ax,), (row,) in panels:
    ours, theirs = numbers.complexities(row), numbers.printed(row)
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
    legend = _legend('lower right')
    describe(ax, legend=legend, xlabel='ln of the complexity term')
  return figure


def width_figure(rows: list[Row]) -> Figure:
  """Figure 3 (c): logarithms against width; dotted is published."""
  dataset, own = max(group(rows, 'dataset').items(), key=lambda x: len(x[1]))
  figure, (ax,) = plotting.panels(1, size=(6.4, 5))
  widths = _column(own, 'width')
  for name, label in LABELS.items():
    ours, theirs = (
      [function(row).get(name, np.nan) for row in own]
      for function in (numbers.complexities, numbers.printed)
    )
    lines = {label: ours, '_published': theirs}
    curves(ax, widths, lines, ('o-', 's:'), (_COLOUR[name],))
  ax.set_xscale('log')
  ax.set_xticks(widths, [str(width) for width in widths])
  ax.minorticks_off()
  ax.axhline(0, color='black', lw=0.5)
  ax.set(xlabel='width', ylabel='ln of the complexity term')
  legend = _legend('center left', bbox_to_anchor=(1, 0.5))
  describe(ax, f'{dataset}; dotted: published', legend)
  return figure


def epochs_figure(rows: list[Row]) -> Figure:
  """Figure 5: bounds, and errors with the margin, from epoch to epoch."""
  figure, panels = _by_dataset(rows, panels=2)
  for (bounds, errors), own in panels:
    epochs = _column(own, 'epoch')
    shown = {
      name: label for name, label in METHODS.items() if name != 'reading'
    }
    lines = {
      label: [row['methods'].get(name, {}).get('bound', np.nan) for row in own]
      for name, label in shown.items()
    }
    curves(bounds, epochs, lines, colours=[_COLOUR[name] for name in shown])
    describe(bounds, legend=_ABOVE, xlabel='epoch', ylabel='ln of the bound')
    train, test = (_column(own, f'{name}_error') for name in ('train', 'test'))
    curves(errors, epochs, {'training': train, 'test': test})
    legend = _legend('upper center')
    describe(errors, legend=legend, xlabel='epoch', ylabel='error')
    twin = errors.twinx()
    curves(twin, epochs, {'margin': _column(own, 'gamma')}, ('s:',), ('black',))
    twin.set_ylabel('margin (dotted)')
  return figure


def weights_figure(rows: list[Row]) -> Figure:
  """Figures 1 and 6: histograms of the layers with the normal density."""
  figure, axes = plotting.panels(len(rows), columns=5, size=(2.6, 2.6))
  centres = (BINS[1:] + BINS[:-1]) / 2
  normal = np.exp(-(centres**2) / 2) / math.sqrt(2 * math.pi)
  for ax, row in zip(axes, rows, strict=True):
    ax.stairs(row['density'], BINS, fill=True, color='#56B4E9')
    ax.plot(centres, normal, color='black', lw=0.8)
    ax.set(yscale='log', ylim=(1e-6, 10), xlabel='weight / deviation')
    title = f'{row["dataset"]}, layer {row["layer"]}'
    describe(ax, f'{title}, kurtosis {row["kurtosis"]:.3g}', titlesize='small')
  return figure


def error_figure(rows: list[Row]) -> Figure:
  """Figure 2: change of the outputs and its bounds against the strength."""
  figure, panels = _by_dataset(rows)
  for (ax,), own in panels:
    d = _column(own, 'strength')
    changes = {
      f'change {name}': np.log(
        np.maximum(_column(own, f'change_{name}'), 1e-30)
      )
      for name in ('max', 'mean')
    }
    curves(ax, d, changes, colours=('#000000', '#999999'))
    for name, colour, label in (
      ('markov', '#D55E00', 'Lemma 4.1, Markov'),
      ('mean', '#E69F00', 'Lemma 4.1, in the mean'),
      ('measured', '#0072B2', 'from the measured norms'),
    ):
      found = _column(own, f'bound_{name}')
      label += ' (dots: premise holds)'
      ax.plot(d, [f['log'] for f in found], '-', color=colour, label=label)
      valid = [f['log'] if f['premise'] else np.nan for f in found]
      ax.plot(d, valid, 'o', color=colour)
    ax.set(xscale='log', xlabel='strength d')
    describe(ax, legend=_ABOVE, ylabel='ln change of the output')
  return figure


def sparsity_figure(rows: list[Row]) -> Figure:
  """Figure 4: most nonzeros in a row or column, over all layers."""
  figure, panels = _by_dataset(rows)
  labels = {
    'trained network': 'most_nonzeros',
    'Lemma 5.1, lambda = 1': 'most_claimed',
    'normal weights, 95 %': 'most_quantile',
  }
  for (ax,), own in panels:
    lines = {
      label: map(max, _column(own, name)) for label, name in labels.items()
    }
    curves(ax, _column(own, 'strength'), lines, ('o-', 's--', '^:'))
    ax.set(xscale='log', xlabel='strength d')
    ax.set(yscale='log', ylabel='most nonzeros in a row or column')
    ax.legend(**_legend('lower left'))
  return figure


def recovery_figure(rows: list[Row]) -> Figure:
  """Share of matrices that come back against m / p; dotted is the theorem."""
  groups = dict(sorted(group(rows, 'j', 'p').items()))
  columns = len({p for _, p in groups})
  figure, panels = panel_each(groups, columns=columns, size=(3.2, 3))
  for ax, ((j, p), own) in panels:
    for ones, curve in group(own, 'ones').items():
      y = [row['recovered'] / row['draws'] for row in curve]
      curves(ax, [row['m'] / p for row in curve], {f'{ones} ones': y})
    title = f'p = {p}, j = {j}; theorem: {own[0]["theorem"] / p:.1f}'
    ax.set(xlabel='m / p', ylabel='recovered')
    describe(ax, title, _legend('upper left', 'xx-small'), titlesize='small')
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
