"""The figures of Tables 1-6, one point for each network."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.common import frames
from experiments.common.figures import Axes, Figure, describe, legend_once
from htjax import plotting
from htjax.checks import check_range
from htjax.plotting import GREY, Group, Row

Style = dict[str, Any]
_RATIO = 'pruning ratio (% of the columns)'


def ratio_against_alpha(rows: Sequence[Row]) -> Figure:
  """Draw the pruning ratio of every network, by tail index.

  Beside the points stand their median and quartiles; the quartiles and the 5 %
  and 95 % quantiles of `law_pruning_ratios`; and the published mean and
  standard deviation; the last two where the rows have them.
  """
  groups = plotting.by_alpha(rows, ('pruning_ratio', 'sigma'))
  figure, (ax,) = plotting.figure_of(rows, 1)
  if not plotting.finished(rows):
    return plotting.say_so(figure, rows)
  laws, printed = list(map(_law, groups)), list(map(_published, groups))
  # Points, closed form and published mark stand side by side.
  shown = [True, any(map(len, laws)), any(printed)]
  offsets = 0.26 * (np.cumsum(shown) - 1 - (sum(shown) - 1) / 2)
  for i, group in enumerate(groups):
    points, closed, star = i + offsets
    if group.rows:
      _draw_points(ax, points, group)
    if len(laws[i]):
      ends = np.percentile(laws[i], (5, 95))
      ax.vlines(closed, *ends, color=GREY, linewidth=1)
      _quartiles(ax, closed, laws[i], GREY, 'closed form (thin: 5 to 95 %)')
    if mark := printed[i]:
      style: Style = {'color': 'black', 'markersize': 9, 'capsize': 4}
      style |= {'linewidth': 1, 'label': 'published mean, sd'}
      ax.errorbar(star, 100 * mark[0], 100 * mark[1], fmt='*', **style)
  ax.set_xticks(range(len(groups)), list(map(_category, groups)))
  ax.set(xlabel='tail index α of the noise', ylabel=_RATIO)
  ax.set(xlim=(-0.6, len(groups) - 0.4), ylim=(0, 104))
  legend_once(figure, ax)
  return figure


def _draw_points(ax: Axes, x: float, group: Group) -> None:
  ratios = 100 * np.array([row['pruning_ratio'] for row in group.rows])
  # Spread so that any neighbours are apart, the same way at every call.
  golden = 0.5 * (np.sqrt(5.0) - 1.0)
  spread = 0.1 * ((golden * np.arange(ratios.size)) % 1.0 - 0.5)
  style: Style = {'color': group.colour, 'alpha': 0.7, 'markeredgewidth': 0}
  at = x - 0.05 + spread
  label = 'a trained network'
  ax.plot(at, ratios, group.marker, markersize=5, label=label, **style)
  _quartiles(ax, x + 0.07, ratios, group.colour, 'median, quartiles')


def _quartiles(
  ax: Axes, x: float, values: np.ndarray, colour: Any, label: str
) -> None:
  low, median, high = np.percentile(values, (25, 50, 75))
  ends = [[median - low], [high - median]]
  style: Style = {'markersize': 11, 'markeredgewidth': 2.5, 'elinewidth': 4}
  ax.errorbar(x, median, ends, fmt='_', color=colour, label=label, **style)


def _category(group: Group) -> str:
  lines = ['no noise' if group.alpha is None else f'{group.alpha:g}']
  sigmas = {row['sigma'] for row in group.all_rows}
  if group.alpha is not None and len(sigmas) == 1:
    lines.append(f'σ = {sigmas.pop():.4g}')
  if not group.rows:
    lines.append('all diverged')
  elif len(group.rows) < len(group.all_rows):
    lines.append(f'{len(group.rows)} of {len(group.all_rows)} runs')
  return '\n'.join(lines)


def _law(group: Group) -> np.ndarray:
  """All draws of a group's closed-form law, in %."""
  draws = [row.get('law_pruning_ratios') or [] for row in group.rows]
  return 100 * np.concatenate([[], *draws])


def _published(group: Group) -> tuple[float, float] | None:
  """Mean and standard deviation that were printed for a group."""
  for row in group.all_rows:
    if row.get('published_pruning_ratio') is not None:
      sd = row.get('published_pruning_ratio_sd') or 0.0
      return row['published_pruning_ratio'], sd
  return None


def sweep(rows: Sequence[Row]) -> Figure:
  """Draw what a larger noise scale buys, and where training ends.

  Left, accuracy after pruning against pruning ratio, the area of a point
  growing with sigma; right, pruning ratio against sigma. A point is the mean
  over the networks of one (alpha, sigma). It is filled if all of them
  converged, hollow if some ran out of steps, a cross if some diverged; where
  all diverged, the cross stands at the foot of the right panel. A ring marks
  the largest sigma at which all converged. The small dots on the right are the
  networks; the lines on the left join what converged.

  Raises:
    ValueError: a row lacks a column, or has an alpha but no sigma > 0.
  """
  needed = ('sigma', 'status', 'pruning_ratio', 'test_accuracy_pruned')
  groups = plotting.by_alpha(rows, needed)
  noisy = [group for group in groups if group.alpha is not None]
  sigmas = sorted({row['sigma'] for group in noisy for row in group.all_rows})
  check_range('sigma', sigmas, 0.0, np.inf, open_low=True, open_high=True)
  figure, (trade, scale) = plotting.figure_of(rows, 2)
  if not plotting.finished(rows):
    return plotting.say_so(figure, rows)
  feet = [-10.0 - 6.0 * i for i in range(len(noisy))]
  lost = [
    _draw_alpha(trade, scale, group, sigmas, foot)
    for group, foot in zip(noisy, feet, strict=True)
  ]
  for group in groups:
    if group.alpha is None and group.rows:
      _draw_clean(trade, scale, group)
  trade.set(xlabel=_RATIO, ylabel='test accuracy after pruning (%)')
  describe(trade, 'the larger a point, the larger σ', titlesize=10)
  title = 'dotted: the largest σ at which all converge'
  scale.set_ylim(feet[-1] - 6 if any(lost) else 0, 104)
  describe(scale, title, titlesize=10, xlabel='noise scale σ', ylabel=_RATIO)
  if any(lost):
    percents = range(0, 101, 20)
    names = [*map(str, percents), 'all\ndiverged']
    scale.set_yticks([*percents, np.mean(feet)], names)
  if sigmas:
    plotting.log_x(scale, sigmas[0] / 1.3, sigmas[-1] * 1.3)
  _sweep_legend(figure, groups)
  return figure


def _setting(rows: Sequence[Row]) -> dict[str, Any]:
  """The networks of one (alpha, sigma): their worst status, means in %."""
  statuses = {row['status'] for row in rows}
  worst = [s for s in ('diverged', 'out of steps') if s in statuses]
  finished = plotting.finished(rows)
  ratios, accuracies = (
    [100 * row[name] for row in finished]
    for name in ('pruning_ratio', 'test_accuracy_pruned')
  )
  return {
    'sigma': rows[0]['sigma'],
    'status': (worst or ['converged'])[0],
    'ratios': ratios,
    'ratio': np.mean(ratios) if ratios else np.nan,
    'accuracy': np.mean(accuracies) if ratios else np.nan,
  }


def _draw_alpha(
  trade: Axes, scale: Axes, group: Group, sigmas: list[float], foot: float
) -> bool:
  """Draw one alpha; whether at some sigma all of it diverged."""
  by_sigma = frames.group(group.all_rows, 'sigma')
  settings = [_setting(by_sigma[s]) for s in sigmas if s in by_sigma]
  for s in settings:
    s['area'] = 20 + 160 * (sigmas.index(s['sigma']) + 1) / len(sigmas)
  drawn = [s for s in settings if s['ratios']]
  good = [s for s in drawn if s['status'] == 'converged']
  line = {'color': group.colour, 'linewidth': 1.2, 'alpha': 0.6}
  for ax, known, *names in (
    (trade, good, 'ratio', 'accuracy'),
    (scale, drawn, 'sigma', 'ratio'),
  ):
    ax.plot(*([s[name] for s in known] for name in names), **line)
  dots = {'color': group.colour, 'alpha': 0.6, 'linewidths': 0}
  for s in settings:
    paint = _paint(s['status'], group.colour)
    scale.scatter(s['sigma'], s['ratio'] if s['ratios'] else foot, 45, **paint)
    if s['ratios']:
      trade.scatter(s['ratio'], s['accuracy'], s['area'], **paint)
      scale.scatter([s['sigma']] * len(s['ratios']), s['ratios'], 9, **dots)
  if good:
    last = good[-1]
    ring = _paint('out of steps', 'black') | {'facecolors': 'none', 'zorder': 4}
    trade.scatter(last['ratio'], last['accuracy'], last['area'] + 140, **ring)
    scale.scatter(last['sigma'], last['ratio'], 175, **ring)
    dotted: Style = {'linewidth': 1.2, 'linestyle': ':'}
    scale.axvline(last['sigma'], color=group.colour, **dotted)
  return len(drawn) < len(settings)


def _paint(status: str, colour: Any) -> dict[str, Any]:
  if status == 'diverged':
    return {'marker': 'x', 'color': colour, 'linewidths': 1.8, 'zorder': 3}
  inside = colour if status == 'converged' else 'white'
  paint = {'marker': 'o', 'facecolors': inside, 'edgecolors': colour}
  return paint | {'linewidths': 1.4, 'zorder': 3}


def _draw_clean(trade: Axes, scale: Axes, group: Group) -> None:
  mean = _setting(group.rows)
  style = {'color': group.colour, 'marker': 's', 'zorder': 3}
  trade.scatter(mean['ratio'], mean['accuracy'], 70, **style)
  line = {'color': group.colour, 'linewidth': 1, 'linestyle': '--'}
  trade.axhline(mean['accuracy'], **line)
  scale.axhline(mean['ratio'], **line)


def _sweep_legend(figure: Figure, groups: list[Group]) -> None:
  """Colours are tail indices, shapes are what became of the networks."""
  from matplotlib.lines import Line2D

  def entry(label: str, colour: Any = GREY, **style: Any) -> Any:
    style = {'marker': 'o', 'markersize': 7, 'linewidth': 0, **style}
    return Line2D([], [], color=colour, label=label, **style)

  clean = {'marker': 's', 'linewidth': 1, 'linestyle': '--'}
  handles = [
    entry('no noise', group.colour, **clean)
    if group.alpha is None
    else entry(f'α = {group.alpha:g}', group.colour, linewidth=1.2)
    for group in groups
  ]
  handles += [
    entry('all seeds converged'),
    entry('some ran out of steps', markerfacecolor='white'),
    entry('some diverged', marker='x', markeredgewidth=1.8),
    entry('largest σ, all converged', 'black', markersize=12, fillstyle='none'),
  ]
  figure.legend(handles=handles, loc='outside right center', frameon=False)
