"""The figures of Tables 1-6, one point for each network."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from experiments.common.figures import legend_once
from htjax import plotting
from htjax.plotting import GREY, Group, Row
from htjax.types import check_range

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure
  from matplotlib.lines import Line2D


def ratio_against_alpha(rows: Sequence[Row]) -> 'Figure':
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
  groups = plotting.by_alpha(rows, ('pruning_ratio', 'sigma'))
  figure, (ax,) = plotting.figure_of(rows, 1)
  if not plotting.finished(rows):
    return plotting.say_so(figure, rows)
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
      ax.vlines(at, *np.percentile(law, (5, 95)), color=GREY, linewidth=1)
      _quartiles(ax, at, law, GREY, 'closed form (thin: 5 to 95 %)')
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
  legend_once(figure, ax)
  return figure


def sweep(rows: Sequence[Row]) -> 'Figure':
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
  groups = plotting.by_alpha(
    rows, ('sigma', 'status', 'pruning_ratio', 'test_accuracy_pruned')
  )
  noisy = [group for group in groups if group.alpha is not None]
  sigmas = sorted({r['sigma'] for group in noisy for r in group.all_rows})
  check_range('sigma', sigmas, 0.0, np.inf, open_low=True, open_high=True)
  figure, (trade, scale) = plotting.figure_of(rows, 2)
  if not plotting.finished(rows):
    return plotting.say_so(figure, rows)
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
    plotting.log_x(scale, sigmas[0] / 1.3, sigmas[-1] * 1.3)
  _sweep_legend(figure, groups)
  return figure


def _jitter(n: int, width: float) -> np.ndarray:
  """Offsets that spread any n neighbours, the same ones at every call."""
  golden = 0.5 * (np.sqrt(5.0) - 1.0)
  return width * ((golden * np.arange(n)) % 1.0 - 0.5)


def _quartiles(
  ax: 'Axes', x: float, values: np.ndarray, colour: Any, label: str
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


def _category(group: Group) -> str:
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


def _law(group: Group) -> np.ndarray:
  """All draws of a group's closed-form law, in %."""
  draws = [r.get('law_pruning_ratios') or [] for r in group.rows]
  return 100 * np.concatenate([np.empty(0), *draws])


def _published(group: Group) -> tuple[float, float] | None:
  """Mean and standard deviation that were printed for a group."""
  for row in group.all_rows:
    if row.get('published_pruning_ratio') is not None:
      sd = row.get('published_pruning_ratio_sd') or 0.0
      return row['published_pruning_ratio'], sd
  return None


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
    [100 * r[column] for r in plotting.finished(rows)]
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
  trade: 'Axes',
  scale: 'Axes',
  group: Group,
  sigmas: list[float],
  foot: float,
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


def _sweep_reference(trade: 'Axes', scale: 'Axes', group: Group) -> None:
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


def _sweep_legend(figure: 'Figure', groups: list[Group]) -> None:
  """Colours are tail indices, shapes are what became of the networks."""
  from matplotlib.lines import Line2D

  def entry(label: str, colour: Any = GREY, **style: Any) -> 'Line2D':
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
