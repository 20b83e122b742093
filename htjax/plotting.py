"""Figures from the rows of `results.json`, and of fitted rates.

Every function but `rates` takes rows (dicts, one for each trained network;
fractions in [0, 1]; None where a network diverged). All return a
`matplotlib.figure.Figure` that belongs to no window: pyplot is not used, global
settings are not touched, and matplotlib is imported when the first figure is
made. Rows of one tail index alpha are one group; alpha None is training without
noise. Where there is nothing to draw, the figure says so.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from htjax.checks import check_range, checked
from htjax.io import files

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

Row = Mapping[str, Any]

# Edges of `column_norm_counts`, in units of the median norm.
NORM_BINS = np.geomspace(0.1, 1000.0, 81)
# Okabe and Ito's colours for the colour-blind, heavy tails warm.
COLOURS = ('#D55E00', '#E69F00', '#009E73', '#56B4E9', '#0072B2', '#CC79A7')
GREY = '#888888'
KINDS = {'type1': 'Type I', 'type2': 'Type II', 'type3': 'Type III'}

_DPI = 150
_MARKERS = 'osD^vP'
_NO_NOISE = '#222222'


@checked
def save(figure: Figure, path: str | os.PathLike) -> None:
  """Write a figure as PNG, completely or not at all, and close it.

  Args:
    figure: any matplotlib figure.
    path: file that ends in .png, replaced if it is there; its directory exists.

  Raises:
    ValueError: `path` has another ending.
  """
  path = Path(path)
  if path.suffix.lower() != '.png':
    raise ValueError(f'path must end in .png, got {str(path)!r}')
  from matplotlib.backends.backend_agg import FigureCanvasAgg

  with files.replacing(path) as temporary, _at_dpi(figure, _DPI):
    # `savefig` draws twice, first only to find the layout.
    FigureCanvasAgg(figure).print_png(temporary)
  if 'matplotlib.pyplot' in sys.modules:
    sys.modules['matplotlib.pyplot'].close(figure)


@contextlib.contextmanager
def _at_dpi(figure: Figure, dpi: float) -> Iterator[None]:
  before = figure.dpi
  figure.set_dpi(dpi)
  try:
    yield
  finally:
    figure.set_dpi(before)


@checked
def accuracy_against_ratio(
  rows: Sequence[Row], fractions: Sequence[float]
) -> Figure:
  """Draw how test accuracy falls as columns are pruned.

  The left panel is absolute, the right one relative to each network's own
  accuracy before pruning. A line is the mean over the networks of one alpha,
  its band reaches from the worst of them to the best.

  Args:
    rows: with `test_accuracy` and `test_accuracy_curve`, one entry for each of
      `fractions`.
    fractions: pruned fractions of the columns, in [0, 1].

  Returns:
    A figure of two panels.

  Raises:
    ValueError: a fraction outside [0, 1], or a row that lacks a column or
      whose curve has another length.

  Source: [IC], Figure 2.
  """
  check_range('fractions', fractions, 0.0, 1.0)
  groups = by_alpha(rows, ('test_accuracy', 'test_accuracy_curve'))
  figure, (absolute, relative) = figure_of(rows, 2)
  if not finished(rows):
    return say_so(figure, rows)
  x = 100 * np.asarray(fractions, float)
  for group in groups:
    if not group.rows:
      continue
    curves = _stack(group.rows, 'test_accuracy_curve', x.size, 'fractions')
    unpruned = np.array([[r['test_accuracy']] for r in group.rows])
    # A network that was never right has no relative accuracy.
    ratios = curves / np.where(unpruned > 0, unpruned, np.nan)
    _mean_and_band(absolute, x, 100 * curves, group)
    _mean_and_band(relative, x, ratios, group)
  absolute.set(ylabel='test accuracy (%)', title='absolute')
  relative.set(ylabel='test accuracy, pruned / unpruned', title='relative')
  for ax in (absolute, relative):
    ax.set(xlabel='pruned columns (%)', ylim=(0, None))
  absolute.legend(loc='lower left', frameon=False)
  return figure


@checked
def rates(
  x: Sequence[float] | np.ndarray,
  fitted: Mapping[str, Any],
  *,
  predicted: Mapping[str, float] | None = None,
  xlabel: str = '',
  ylabel: str = '',
) -> Figure:
  """Draw errors that decay with x, and the rates that were fitted to them.

  Points are means or medians over replicas with 95 % intervals, full lines the
  fitted powers of x, dotted ones the predicted powers through the last point.

  Args:
    x: [k], positive, such as widths or step sizes.
    fitted: label -> `mean_field.Rate` with k levels.
    predicted: label -> exponent; a label without one has no dotted line.
    xlabel: of the axis.
    ylabel: of the axis.

  Returns:
    A figure of one panel, both axes logarithmic.

  Raises:
    ValueError: x not positive, a rate with another number of levels, an
      exponent of no rate.

  Examples:
    >>> import numpy as np
    >>> from htjax import mean_field, plotting
    >>> widths = np.array([16, 64, 256])
    >>> errors = widths[:, None] ** -0.5 * np.array([0.9, 1.0, 1.0, 1.1])
    >>> figure = plotting.rates(
    ...   widths,
    ...   {'alpha = 1.8': mean_field.fit_rate(widths, errors)},
    ...   predicted={'alpha = 1.8': -0.5},
    ... )
    >>> figure.axes[0].get_xscale()
    'log'

  Source: [IC], Theorems 4.1 and 4.2.
  """
  x = np.asarray(x, float)
  if x.ndim != 1 or not np.all(x > 0):
    raise ValueError(f'x must be [k] and positive, got {x!r}')
  predicted = predicted or {}
  if unknown := sorted(set(predicted) - set(fitted)):
    raise ValueError(
      f'predicted must have labels of fitted {sorted(fitted)}, got {unknown}'
    )
  figure, (ax,) = panels(1)
  if not fitted:
    return say_so(figure, (), 'no rates yet')
  for i, (label, rate) in enumerate(fitted.items()):
    if len(rate.levels) != x.size:
      raise ValueError(
        f'fitted must have {x.size} levels a rate, as x has, got '
        f'{len(rate.levels)} for {label!r}'
      )
    row = rate._asdict() | {'x': x, 'predicted': predicted.get(label)}
    draw_rate(
      ax, row | {'errors': rate.level_errors}, COLOURS[i % len(COLOURS)], label
    )
  log_x(ax, x.min() / 1.2, x.max() * 1.2)
  ax.set(yscale='log', xlabel=xlabel, ylabel=ylabel)
  ax.legend(frameon=False)
  return figure


@checked
def column_norms(
  rows: Sequence[Row], bins: Sequence[float] | np.ndarray = NORM_BINS
) -> Figure:
  """Draw the histogram of the columns' norms, by tail index.

  Args:
    rows: with `column_norm_counts`, one count for each bin. A group's
      histogram is the mean of its networks' shares; columns outside the bins
      are not among them.
    bins: edges [num_bins + 1] in units of the network's median norm, rising,
      positive.

  Returns:
    A figure of one panel, both axes logarithmic.

  Raises:
    ValueError: bins that are not positive or do not rise, or a row that lacks
      the column or has another number of counts.
  """
  edges = np.asarray(bins, float)
  if not (np.all(edges > 0) and np.all(np.diff(edges) > 0)):
    raise ValueError(f'bins must be positive and rise, got {edges}')
  groups = by_alpha(rows, ('column_norm_counts',))
  figure, (ax,) = figure_of(rows, 1)
  if not finished(rows):
    return say_so(figure, rows)
  drawn = []
  for group in groups:
    if not group.rows:
      continue
    counts = _stack(group.rows, 'column_norm_counts', edges.size - 1, 'bins')
    inside = np.maximum(counts.sum(1, keepdims=True), 1)
    share = np.mean(counts / inside, 0)
    drawn.append(share)
    ax.stairs(
      share,
      edges,
      fill=group.alpha is None,
      color=group.colour,
      alpha=0.35 if group.alpha is None else 1.0,
      linewidth=1.6,
      label=group.label,
    )
  filled = np.flatnonzero(np.any(drawn, 0))
  if not filled.size:
    return say_so(figure, rows, 'no column lies within the bins')
  positive = np.concatenate(drawn)
  ax.axvline(1.0, color=GREY, linewidth=1, linestyle=':')
  log_x(ax, edges[filled[0]] / 1.2, edges[filled[-1] + 1] * 1.2)
  ax.set(
    yscale='log',
    ylim=(positive[positive > 0].min() / 2, positive.max() * 2),
    xlabel='norm of a column / median norm',
    ylabel='share of the columns in a bin',
  )
  ax.legend(frameon=False)
  return figure


@checked
def draw_rate(
  ax: Axes, row: Row, colour: Any = COLOURS[0], label: str = ''
) -> None:
  """Draw points with 95 % intervals, the fitted power of x, and what is known.

  The line has the fitted slope on logarithmic axes, the dotted one, through the
  last point, the predicted slope. Bounds are dashed, those at 10,000 times the
  largest level and above left out.

  Args:
    ax: any axes; `log_x` makes them logarithmic.
    row: with `x`, `levels`, their standard errors `errors`, and `predicted`,
      a slope or None. If a rate was fitted (`mean_field.fit_rate`), with its
      `slope` and `local_slopes`. `sharp_bound` and `bound`, one for each x,
      where there are such.
    colour: any that matplotlib knows.
    label: for a legend; the slopes are added to it.
  """
  x, y = np.array(row['x']), np.array(row['levels'])
  is_rate, predicted = row.get('local_slopes') is not None, row['predicted']
  if is_rate:
    label += f': {row["slope"]:.2f}'
    if predicted is not None:
      label += f' (theorem {predicted:.2f})'
  errors = 1.96 * np.array(row['errors'])
  ax.errorbar(x, y, errors, fmt='o', ms=3, color=colour, label=label)
  if is_rate:
    centre, middle = np.exp(np.log(x).mean()), np.exp(np.log(y).mean())
    ax.plot(x, middle * (x / centre) ** row['slope'], color=colour, lw=1)
    if predicted is not None:
      line = y[-1] * (x / x[-1]) ** predicted
      ax.plot(x, line, color=colour, lw=0.8, ls=':')
  for name, style in (('sharp_bound', '--'), ('bound', '-.')):
    bound = np.array(row.get(name) or [np.nan], float)
    # That in terms of one constant alone can be 10 powers of ten away.
    if np.all(bound < 1e4 * y.max()):
      ax.plot(x, bound, color=colour, lw=0.8, ls=style)


class Group(NamedTuple):
  """Rows of one tail index, and how they are drawn.

  Attributes:
    alpha: their tail index, None without noise.
    rows: those that did not diverge.
    all_rows: all of them.
    colour: any that matplotlib knows.
    marker: a matplotlib marker.
  """

  alpha: float | None
  rows: list[Row]
  all_rows: list[Row]
  colour: Any
  marker: str

  @property
  def label(self) -> str:
    """The tail index, and how many diverged if any did."""
    name = 'no noise' if self.alpha is None else f'α = {self.alpha:g}'
    if len(self.rows) == len(self.all_rows):
      return name
    return f'{name} ({len(self.rows)} of {len(self.all_rows)} runs)'


@checked
def by_alpha(rows: Sequence[Row], needed: tuple[str, ...]) -> list[Group]:
  """Group rows by tail index.

  Args:
    rows: with `alpha` and `diverged`.
    needed: columns that every row must have, too.

  Returns:
    Groups by rising alpha, no noise last.

  Raises:
    ValueError: a row lacks a column.
  """
  for row in rows:
    for column in ('alpha', 'diverged', *needed):
      if column not in row:
        raise ValueError(f'rows must have {column!r}, got {sorted(row)}')
  alphas = sorted({r['alpha'] for r in rows if r['alpha'] is not None})
  colours: Any = COLOURS
  if len(alphas) > len(COLOURS):
    from matplotlib import colormaps

    colours = colormaps['plasma'](np.linspace(0.9, 0.0, len(alphas)))
  groups = []
  for i, alpha in enumerate(alphas):
    marker = _MARKERS[i % len(_MARKERS)]
    groups.append(_group(rows, alpha, colours[i], marker))
  if any(r['alpha'] is None for r in rows):
    groups.append(_group(rows, None, _NO_NOISE, 'X'))
  return groups


def _group(
  rows: Sequence[Row], alpha: float | None, colour: Any, marker: str
) -> Group:
  ours = [r for r in rows if r['alpha'] == alpha]
  return Group(alpha, finished(ours), ours, colour, marker)


@checked
def finished(rows: Sequence[Row]) -> list[Row]:
  """The rows of networks that did not diverge."""
  return [r for r in rows if not r['diverged']]


@checked
def panels(
  count: int,
  *,
  columns: int = 3,
  size: tuple[float, float] = (5.2, 4.0),
  title: str = '',
  **subplots: Any,
) -> tuple[Figure, list[Axes]]:
  """Make an empty figure of panels in the style of all figures here.

  Args:
    count: number of panels, at least 1.
    columns: at most so many stand side by side.
    size: width and height of a panel in inches.
    title: above all of them.
    **subplots: for matplotlib's `Figure.subplots`, such as `sharey`.

  Returns:
    (figure, axes), a list of `count` axes.
  """
  from matplotlib.figure import Figure

  columns = min(columns, count)
  lines = -(-count // columns)
  width, height = size
  figure = Figure(
    figsize=(width * columns, height * lines), layout='constrained'
  )
  figure.suptitle(title)
  axes = np.ravel(figure.subplots(lines, columns, squeeze=False, **subplots))
  for i, ax in enumerate(axes):
    ax.set_visible(i < count)
    ax.spines[['top', 'right']].set_visible(False)
    ax.grid(color='#e6e6e6', linewidth=0.8)
    ax.set_axisbelow(True)
  return figure, list(axes[:count])


@checked
def figure_of(rows: Sequence[Row], count: int) -> tuple[Figure, list[Axes]]:
  """Panels side by side, under what all rows have in common."""
  size = 4.5 + 1.5 / count, 4.8
  return panels(count, columns=count, size=size, title=_title(rows))


@checked
def log_x(ax: Axes, low: float, high: float) -> None:
  """A logarithmic x axis with plain numbers, legible over any range."""
  from matplotlib.ticker import LogLocator, NullFormatter

  ax.set(xscale='log', xlim=(low, high))
  ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
  ax.xaxis.set_major_formatter('{x:g}')
  ax.xaxis.set_minor_formatter(NullFormatter())


def _title(rows: Sequence[Row]) -> str:
  """The entries that all rows have in common."""

  def common(column: str) -> Any:
    values = {r[column] for r in rows if r.get(column)}
    return values.pop() if len(values) == 1 else None

  parts = []
  if dataset := common('dataset'):
    parts.append(str(dataset))
  if kind := common('kind'):
    parts.append(f'{KINDS.get(kind, kind)} noise')
  if width := common('width'):
    parts.append(f'width {width}')
  return ', '.join(parts)


@checked
def say_so(figure: Figure, rows: Sequence[Row], reason: str = '') -> Figure:
  """An empty figure with the reason why."""
  for ax in list(figure.axes):
    ax.remove()
  if not reason:
    reason = f'all {len(rows)} networks diverged' if rows else 'no networks yet'
  figure.text(0.5, 0.5, reason, ha='center', va='center', fontsize=12)
  return figure


def _stack(
  rows: list[Row], column: str, size: int, argument: str
) -> np.ndarray:
  for row in rows:
    if len(row[column]) != size:
      raise ValueError(
        f'{argument} must fit {column}, for which it makes {size} entries, '
        f'got a row with {len(row[column])}'
      )
  return np.array([r[column] for r in rows], float)


def _mean_and_band(
  ax: Axes, x: np.ndarray, curves: np.ndarray, group: Group
) -> None:
  ax.fill_between(
    x,
    curves.min(0),
    curves.max(0),
    color=group.colour,
    alpha=0.15,
    linewidth=0,
  )
  ax.plot(
    x,
    curves.mean(0),
    color=group.colour,
    marker=group.marker,
    markersize=5,
    linewidth=1.6,
    label=group.label,
  )
