"""Figures from the rows of `results.json`.

Every function takes rows (dicts, one for each trained network; fractions in
[0, 1]; None where a network diverged) and returns a `matplotlib.figure.Figure`
that belongs to no window: pyplot is not used, global settings are not touched,
and matplotlib is imported when the first figure is made. Rows of one tail
index alpha are one group; alpha None is training without noise. Where there is
nothing to draw, the figure says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from htjax.checks import check_range
from htjax.io import files

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

Row = Mapping[str, Any]

# Edges of `column_norm_counts`, in units of the median norm.
NORM_BINS = np.geomspace(0.1, 1000.0, 81)

_DPI = 150
_KINDS = {'type1': 'Type I', 'type2': 'Type II', 'type3': 'Type III'}
# Okabe and Ito's colours for the colour-blind, heavy tails warm.
_COLOURS = ('#D55E00', '#E69F00', '#009E73', '#56B4E9', '#0072B2', '#CC79A7')
_MARKERS = 'osD^vP'
_NO_NOISE = '#222222'
_GREY = '#888888'


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
  with files.replacing(path) as temporary:
    figure.savefig(temporary, format='png', dpi=_DPI)
  if 'matplotlib.pyplot' in sys.modules:
    sys.modules['matplotlib.pyplot'].close(figure)


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
  groups = _groups(rows, ('test_accuracy', 'test_accuracy_curve'))
  figure, (absolute, relative) = _figure(rows, 2)
  if not _finished(rows):
    return _say_so(figure, rows)
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


def ratio_against_alpha(rows: Sequence[Row]) -> Figure:
  """Draw the pruning ratio of every network, by tail index.

  Beside the points stand their median and quartiles; the quartiles and the 5 %
  and 95 % quantiles of `law_pruning_ratios`; and the published mean and
  standard deviation; the last two where the rows have them.

  Args:
    rows: with `pruning_ratio`, and if they like `law_pruning_ratios` (a list)
      and `published_pruning_ratio` with `published_pruning_ratio_sd`.

  Returns:
    A figure of one panel.

  Raises:
    ValueError: a row lacks a column.
  """
  groups = _groups(rows, ('pruning_ratio', 'sigma'))
  figure, (ax,) = _figure(rows, 1)
  if not _finished(rows):
    return _say_so(figure, rows)
  laws = [_law(group) for group in groups]
  printed = [_published(group) for group in groups]
  # Points, closed form and published mark stand side by side.
  shown = [True, any(map(len, laws)), any(printed)]
  offsets = 0.26 * (np.cumsum(shown) - 1 - (sum(shown) - 1) / 2)
  for i, (group, law, mark) in enumerate(
    zip(groups, laws, printed, strict=True)
  ):
    ratios = 100 * np.array([r['pruning_ratio'] for r in group.rows])
    if ratios.size:
      at = i + offsets[0]
      ax.plot(
        at - 0.05 + _jitter(ratios.size, 0.1),
        ratios,
        group.marker,
        color=group.colour,
        alpha=0.7,
        markersize=5,
        markeredgewidth=0,
        label='a trained network',
      )
      _quartiles(ax, at + 0.07, ratios, group.colour, 'median, quartiles')
    if len(law):
      at = i + offsets[1]
      ax.vlines(at, *np.percentile(law, (5, 95)), color=_GREY, linewidth=1)
      _quartiles(ax, at, law, _GREY, 'closed form (thin: 5 to 95 %)')
    if mark:
      ax.errorbar(
        i + offsets[2],
        100 * mark[0],
        100 * mark[1],
        fmt='*',
        color='black',
        markersize=9,
        capsize=4,
        linewidth=1,
        label='published mean, sd',
      )
  ax.set_xticks(range(len(groups)), [_category(group) for group in groups])
  ax.set(
    xlabel='tail index α of the noise',
    ylabel='pruning ratio (% of the columns)',
    xlim=(-0.6, len(groups) - 0.4),
    ylim=(0, 104),
  )
  _legend_once(figure, ax)
  return figure


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
  groups = _groups(rows, ('column_norm_counts',))
  figure, (ax,) = _figure(rows, 1)
  if not _finished(rows):
    return _say_so(figure, rows)
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
    return _say_so(figure, rows, 'no column lies within the bins')
  positive = np.concatenate(drawn)
  ax.axvline(1.0, color=_GREY, linewidth=1, linestyle=':')
  _log_x(ax, edges[filled[0]] / 1.2, edges[filled[-1] + 1] * 1.2)
  ax.set(
    yscale='log',
    ylim=(positive[positive > 0].min() / 2, positive.max() * 2),
    xlabel='norm of a column / median norm',
    ylabel='share of the columns in a bin',
  )
  ax.legend(frameon=False)
  return figure


def sweep(rows: Sequence[Row]) -> Figure:
  """Draw what a larger noise scale buys, and where training ends.

  A point is the mean over the networks of one (alpha, sigma). It is filled if
  all of them converged, hollow if some ran out of steps, a cross if some
  diverged; where all diverged, the cross stands at the foot of the right panel.
  A ring marks the largest sigma at which all converged. The small dots in the
  right panel are the networks; the lines in the left one join what converged.

  Args:
    rows: with `sigma`, `status`, `pruning_ratio` and `test_accuracy_pruned`.

  Returns:
    A figure of two panels: accuracy after pruning against pruning ratio, the
    area of a point growing with sigma; and pruning ratio against sigma.

  Raises:
    ValueError: a row lacks a column, or has an alpha but no sigma > 0.
  """
  groups = _groups(
    rows, ('sigma', 'status', 'pruning_ratio', 'test_accuracy_pruned')
  )
  noisy = [group for group in groups if group.alpha is not None]
  sigmas = sorted({r['sigma'] for group in noisy for r in group.all_rows})
  check_range('sigma', sigmas, 0.0, np.inf, open_low=True, open_high=True)
  figure, (trade, scale) = _figure(rows, 2)
  if not _finished(rows):
    return _say_so(figure, rows)
  feet = [-10.0 - 6.0 * i for i in range(len(noisy))]
  lost = [
    _sweep_group(trade, scale, group, sigmas, foot)
    for group, foot in zip(noisy, feet, strict=True)
  ]
  for group in groups:
    if group.alpha is None and group.rows:
      _sweep_reference(trade, scale, group)
  trade.set(
    xlabel='pruning ratio (% of the columns)',
    ylabel='test accuracy after pruning (%)',
  )
  trade.set_title('the larger a point, the larger σ', fontsize=10)
  scale.set(
    xlabel='noise scale σ',
    ylabel='pruning ratio (% of the columns)',
    ylim=(feet[-1] - 6 if any(lost) else 0, 104),
  )
  scale.set_title('dotted: the largest σ at which all converge', fontsize=10)
  if any(lost):
    percents = range(0, 101, 20)
    scale.set_yticks(
      [*percents, np.mean(feet)], [*map(str, percents), 'all\ndiverged']
    )
  if sigmas:
    _log_x(scale, sigmas[0] / 1.3, sigmas[-1] * 1.3)
  _sweep_legend(figure, groups)
  return figure


class _Group(NamedTuple):
  """Rows of one alpha: those that did not diverge, and all."""

  alpha: float | None
  rows: list[Row]
  all_rows: list[Row]
  colour: Any
  marker: str

  @property
  def label(self) -> str:
    name = 'no noise' if self.alpha is None else f'α = {self.alpha:g}'
    if len(self.rows) == len(self.all_rows):
      return name
    return f'{name} ({len(self.rows)} of {len(self.all_rows)} runs)'


def _groups(rows: Sequence[Row], needed: tuple[str, ...]) -> list[_Group]:
  """Groups by rising alpha, no noise last."""
  for row in rows:
    for column in ('alpha', 'diverged', *needed):
      if column not in row:
        raise ValueError(f'rows must have {column!r}, got {sorted(row)}')
  alphas = sorted({r['alpha'] for r in rows if r['alpha'] is not None})
  colours: Any = _COLOURS
  if len(alphas) > len(_COLOURS):
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
) -> _Group:
  ours = [r for r in rows if r['alpha'] == alpha]
  return _Group(alpha, _finished(ours), ours, colour, marker)


def _finished(rows: Sequence[Row]) -> list[Row]:
  return [r for r in rows if not r['diverged']]


def _figure(rows: Sequence[Row], panels: int) -> tuple[Figure, list[Axes]]:
  from matplotlib.figure import Figure

  figure = Figure(figsize=(1.5 + 4.5 * panels, 4.8), layout='constrained')
  figure.suptitle(_title(rows))
  axes = [figure.add_subplot(1, panels, i + 1) for i in range(panels)]
  for ax in axes:
    ax.spines[['top', 'right']].set_visible(False)
    ax.grid(color='#e6e6e6', linewidth=0.8)
    ax.set_axisbelow(True)
  return figure, axes


def _log_x(ax: Axes, low: float, high: float) -> None:
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
    parts.append(f'{_KINDS.get(kind, kind)} noise')
  if width := common('width'):
    parts.append(f'width {width}')
  return ', '.join(parts)


def _say_so(figure: Figure, rows: Sequence[Row], reason: str = '') -> Figure:
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
  ax: Axes, x: np.ndarray, curves: np.ndarray, group: _Group
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


def _jitter(n: int, width: float) -> np.ndarray:
  """Offsets that spread any n neighbours, the same ones at every call."""
  golden = 0.5 * (np.sqrt(5.0) - 1.0)
  return width * ((golden * np.arange(n)) % 1.0 - 0.5)


def _quartiles(
  ax: Axes, x: float, values: np.ndarray, colour: Any, label: str
) -> None:
  low, median, high = np.percentile(values, (25, 50, 75))
  ax.errorbar(
    x,
    median,
    [[median - low], [high - median]],
    fmt='_',
    color=colour,
    markersize=11,
    markeredgewidth=2.5,
    elinewidth=4,
    label=label,
  )


def _category(group: _Group) -> str:
  name = 'no noise' if group.alpha is None else f'{group.alpha:g}'
  sigmas = {r['sigma'] for r in group.all_rows}
  lines = [name]
  if group.alpha is not None and len(sigmas) == 1:
    lines.append(f'σ = {sigmas.pop():.4g}')
  if not group.rows:
    lines.append('all diverged')
  elif len(group.rows) < len(group.all_rows):
    lines.append(f'{len(group.rows)} of {len(group.all_rows)} runs')
  return '\n'.join(lines)


def _law(group: _Group) -> np.ndarray:
  """All draws of a group's closed-form law, in %."""
  draws = [r.get('law_pruning_ratios') or [] for r in group.rows]
  return 100 * np.concatenate([np.empty(0), *draws])


def _published(group: _Group) -> tuple[float, float] | None:
  """Mean and standard deviation that were printed for a group."""
  for row in group.all_rows:
    if row.get('published_pruning_ratio') is not None:
      sd = row.get('published_pruning_ratio_sd') or 0.0
      return row['published_pruning_ratio'], sd
  return None


def _legend_once(figure: Figure, ax: Axes) -> None:
  """A legend beside the axes with one entry for each label."""
  handles, labels = ax.get_legend_handles_labels()
  first = dict(zip(reversed(labels), reversed(handles), strict=True))
  names = list(dict.fromkeys(labels))
  figure.legend(
    [first[name] for name in names],
    names,
    loc='outside lower center',
    ncols=2,
    frameon=False,
  )


class _Setting(NamedTuple):
  """The networks of one (alpha, sigma): their worst status, means in %."""

  sigma: float
  area: float
  status: str
  ratios: list[float]
  ratio: float
  accuracy: float


def _setting(rows: list[Row], sigma: float, area: float) -> _Setting:
  statuses = {r['status'] for r in rows}
  worst = [s for s in ('diverged', 'out of steps') if s in statuses]
  ratios, accuracies = (
    [100 * r[column] for r in _finished(rows)]
    for column in ('pruning_ratio', 'test_accuracy_pruned')
  )
  return _Setting(
    sigma,
    area,
    (worst or ['converged'])[0],
    ratios,
    float(np.mean(ratios)) if ratios else np.nan,
    float(np.mean(accuracies)) if ratios else np.nan,
  )


def _sweep_group(
  trade: Axes, scale: Axes, group: _Group, sigmas: list[float], foot: float
) -> bool:
  """Draw one alpha; whether at some sigma all of it diverged."""
  settings = [
    _setting(rows, sigma, 20 + 160 * (i + 1) / len(sigmas))
    for i, sigma in enumerate(sigmas)
    if (rows := [r for r in group.all_rows if r['sigma'] == sigma])
  ]
  drawn = [s for s in settings if s.ratios]
  good = [s for s in drawn if s.status == 'converged']
  line = {'color': group.colour, 'linewidth': 1.2, 'alpha': 0.6}
  trade.plot([s.ratio for s in good], [s.accuracy for s in good], **line)
  scale.plot([s.sigma for s in drawn], [s.ratio for s in drawn], **line)
  for s in settings:
    paint = _paint(s.status, group.colour)
    scale.scatter(s.sigma, s.ratio if s.ratios else foot, 45, **paint)
    if s.ratios:
      trade.scatter(s.ratio, s.accuracy, s.area, **paint)
      x = np.full(len(s.ratios), s.sigma)
      scale.scatter(x, s.ratios, 9, color=group.colour, alpha=0.6, linewidths=0)
  if good:
    last = good[-1]
    ring: dict[str, Any] = {
      'facecolors': 'none',
      'edgecolors': 'black',
      'linewidths': 1.4,
      'zorder': 4,
    }
    trade.scatter(last.ratio, last.accuracy, last.area + 140, **ring)
    scale.scatter(last.sigma, last.ratio, 175, **ring)
    scale.axvline(last.sigma, color=group.colour, linewidth=1.2, linestyle=':')
  return len(drawn) < len(settings)


def _paint(status: str, colour: Any) -> dict[str, Any]:
  if status == 'diverged':
    return {'marker': 'x', 'color': colour, 'linewidths': 1.8, 'zorder': 3}
  inside = colour if status == 'converged' else 'white'
  return {
    'marker': 'o',
    'facecolors': inside,
    'edgecolors': colour,
    'linewidths': 1.4,
    'zorder': 3,
  }


def _sweep_reference(trade: Axes, scale: Axes, group: _Group) -> None:
  mean = _setting(group.rows, 0.0, 70.0)
  trade.scatter(
    mean.ratio,
    mean.accuracy,
    mean.area,
    color=group.colour,
    marker='s',
    zorder=3,
  )
  line = {'color': group.colour, 'linewidth': 1, 'linestyle': '--'}
  trade.axhline(mean.accuracy, **line)
  scale.axhline(mean.ratio, **line)


def _sweep_legend(figure: Figure, groups: list[_Group]) -> None:
  """Colours are tail indices, shapes are what became of the networks."""
  from matplotlib.lines import Line2D

  def entry(label: str, colour: Any = _GREY, **style: Any) -> Line2D:
    style = {'marker': 'o', 'markersize': 7, 'linewidth': 0, **style}
    return Line2D([], [], color=colour, label=label, **style)

  handles = []
  for group in groups:
    if group.alpha is None:
      style = {'marker': 's', 'linewidth': 1, 'linestyle': '--'}
      handles.append(entry('no noise', group.colour, **style))
    else:
      handles.append(entry(f'α = {group.alpha:g}', group.colour, linewidth=1.2))
  handles += [
    entry('all seeds converged'),
    entry('some ran out of steps', markerfacecolor='white'),
    entry('some diverged', marker='x', markeredgewidth=1.8),
    entry('largest σ, all converged', 'black', markersize=12, fillstyle='none'),
  ]
  figure.legend(handles=handles, loc='outside right center', frameon=False)
