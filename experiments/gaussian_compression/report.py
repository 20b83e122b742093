"""Tables and figures, from the rows and the config."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.common import frames, published
from experiments.common.cells import Report
from experiments.common.figures import Axes, Figure, curves, describe
from experiments.common.frames import Column, Row, columns, table, where
from experiments.gaussian_compression import brackets
from htjax import line_mixture, plotting, stable

Mixture = line_mixture.LineMixture | None
Axis = dict[str, str]
_AXES = {
  'exponents': {
    'absolute': ('pdf_exponent', 'density exponent of |w|'),
    'positive': ('pdf_exponent_positive', 'density exponent of w > 0'),
  },
  'ranks': {
    'stable': ('stable_rank', 'stable rank'),
    'printed': ('printed_rank', 'F^2 / S^4'),
  },
}


def report(config: ConfigDict, rows: list[Row]) -> Report:
  """All tables and figures that the rows allow."""
  axes, points = rank_axes(config), layer_points(config, rows)
  tables = [accuracy_table(rows), layer_table(rows)]
  figures = {
    'densities': density_figure(config),
    'brackets': brackets.bracket_figure(config),
  }
  if points:
    mixture = fit_points(config, points, axes)
    tables.append(mixture_text(points, mixture, axes))
    figures['stable_rank'] = rank_figure(points, mixture, axes)
  return Report([*tables, brackets.bracket_table(config)], figures)


def _exponent(header: str, shift: int) -> Column:
  """The exponent of the density, or the tail index, one less."""

  def text(row: Row) -> str:
    exponent, error = row.get('pdf_exponent'), row.get('tail_index_se')
    if exponent is None:
      return ''
    return f'{exponent - shift:.2f}' + (f'+-{error:.2f}' if error else '')

  return Column(header, text)


_EXPONENTS = _exponent('density exponent', 0), _exponent('tail index', 1)


def accuracy_table(rows: list[Row]) -> str:
  """Table 1: accuracies in %, before and after, ours above the published."""
  shown = (
    *(*columns('weights; variant'), *_EXPONENTS),
    *columns('errors; accuracy:.2f; compressed; replaced %=replaced:.1f'),
  )
  title = 'last layer compressed, accuracies in %'
  return table(title, shown, _accuracies(rows))


def _accuracies(rows: list[Row]) -> Iterator[Row]:
  finals = where(rows, study='layer', final=True)
  exponents = {row['weights']: row['pdf_exponent'] for row in finals}
  for original in where(rows, study='original'):
    name, depth = original['weights'], original['depth']
    trials = where(rows, study='trial', weights=name)
    for variant, own in frames.group(trials, 'variant').items():
      found = [100 * row['accuracy'] for row in own]
      yield {
        'weights': name,
        'variant': variant,
        'pdf_exponent': exponents.get(name),
        'errors': original['errors'],
        'accuracy': 100 * original['accuracy'],
        'compressed': frames.mean_sd(found)
        if len(own) > 1
        else f'{found[0]:.2f}',
        'replaced': 100 * own[0]['replaced'],
      }
    # Other weights than those in PyTorch's layout that are read here.
    printed = published.row('SH-TB1', original['dataset'], f'resnet{depth}')
    if printed:
      mean, sd = printed['compressed']
      yield printed | {
        'weights': f'published, another ResNet-{depth}',
        'compressed': f'{mean:.2f}+-{sd:.2f}',
      }


def layer_table(rows: list[Row]) -> str:
  """The power law of each file's final dense layer."""

  def in_tail(row):
    size = math.prod(row['shape'])
    return f'{row["num_tail"]}/{size}' if 'num_tail' in row else ''

  def joined(sides: list[int]) -> str:
    return 'x'.join(map(str, sides))

  shown = (
    *columns('weights; final layer=layer; shape:joined', joined=joined),
    *_EXPONENTS,
    *columns('exponent of w > 0=pdf_exponent_positive:.2f'),
    Column('in the tail', in_tail),
    *columns('stable rank=stable_rank:.2f; printed=printed_rank:.3g'),
    Column('note', lambda row: row.get('fault') or row['note']),
  )
  title = 'power law of |w| in the final layers'
  return table(title, shown, where(rows, final=True))


def layer_points(config: ConfigDict, rows: list[Row]) -> list[Row]:
  """The layers of Figure 3."""
  if config.points not in ('all', 'final'):
    raise ValueError(
      f"config.points must be 'all' or 'final', got {config.points!r}"
    )
  return [
    row
    for row in where(rows, study='layer')
    if all(row.get(column) is not None for column in rank_axes(config))
    and (row['final'] or config.points == 'all')
  ]


def rank_axes(config: ConfigDict) -> Axis:
  """Axes of Figure 3: {column of the rows: label}, x and then y."""
  axes: Axis = {}
  for name, choices in _AXES.items():
    if config[name] not in choices:
      raise ValueError(
        f'config.{name} must be one of {", ".join(choices)}, got '
        f'{config[name]!r}'
      )
    column, label = choices[config[name]]
    axes[column] = label
  return axes


def fit_points(config: ConfigDict, points: list[Row], axes: Axis) -> Mixture:
  """The mixture of `num_lines` or, by BIC, up to `max_lines` lines.

  None for too few points.
  """
  x, y = _coordinates(points, axes)
  least = 3 * max(config.num_lines, 1) + 1
  if len(points) < least or np.ptp(x) == 0 or np.ptp(y) == 0:
    return None
  key, restarts = jax.random.key(config.seed), config.num_restarts
  find = line_mixture.fit if config.num_lines else line_mixture.choose
  lines = config.num_lines or config.max_lines
  return find(key, x, y, lines, num_restarts=restarts)


def mixture_text(points: list[Row], mixture: Mixture, axes: Axis) -> str:
  """The lines of Figure 3 in words."""
  x_label, y_label = axes.values()
  head = f'{y_label} against {x_label}, {len(points)} layers'
  if mixture is None:
    return f'{head}: too few for a line'
  correlation = np.corrcoef(*_coordinates(points, axes))[0, 1]
  head += f': correlation {correlation:.2f}, deviation '
  head += f'{float(mixture.deviation):.3g}'
  lines = np.transpose(mixture[:3])
  return frames.listing(head, 'share:.2f; slope:.3g; intercept:.3g', lines)


def rank_figure(points: list[Row], mixture: Mixture, axes: Axis) -> Figure:
  """Figure 3: stable ranks against density exponents, and the fitted lines."""
  x_label, y_label = axes.values()
  figure, (ax,) = plotting.panels(1, size=(6.4, 4.4))
  x, y = _coordinates(points, axes)
  final = np.array([row['final'] for row in points])
  nearest = np.zeros(len(points), int)
  if mixture is not None:
    nearest = np.asarray(mixture.responsibilities.argmax(axis=1))
  colours = np.array(plotting.COLOURS)[nearest % len(plotting.COLOURS)]
  for chosen, marker, size, edge, label in (
    (~final, 'o', 14, 'none', 'other layers'),
    (final, '*', 110, 'black', 'final dense layers'),
  ):
    if chosen.any():
      style: Any = {'marker': marker, 'label': label, 'linewidths': 0.6}
      style |= {'c': colours[chosen], 'edgecolors': edge}
      ax.scatter(x[chosen], y[chosen], size, **style)
  if mixture is not None:
    for j in np.unique(nearest):
      _draw_line(ax, mixture, j, x[nearest == j])
  ax.set(xlabel=f'{x_label} (tail index + 1)')
  describe(ax, legend={'fontsize': 'small'}, ylabel=y_label)
  return figure


def _draw_line(ax: Axes, mixture: Any, j: int, own: np.ndarray) -> None:
  weight, slope, intercept = (float(values[j]) for values in mixture[:3])
  ends = np.array([own.min(), own.max()])
  label = f'slope {slope:.2g}, share {weight:.2f}'
  colour = plotting.COLOURS[j % len(plotting.COLOURS)]
  ax.plot(ends, intercept + slope * ends, color=colour, lw=1.5, label=label)


def _coordinates(
  points: list[Row], axes: Axis
) -> tuple[np.ndarray, np.ndarray]:
  x, y = (np.array([row[name] for row in points], float) for name in axes)
  return x, y


def density_figure(config: ConfigDict) -> Figure:
  """Figure 1: symmetric stable densities, and their tails."""
  figure, (centre, tail) = plotting.panels(2, size=(4.2, 3.4))
  near, far = np.linspace(-5, 5, 401), np.geomspace(0.1, 100, 201)
  for ax, x in ((centre, near), (tail, far)):
    densities = {
      f'alpha {alpha:g}': np.asarray(stable.pdf(jnp.asarray(x), alpha))
      for alpha in config.density_alphas
    }
    curves(ax, x, densities, ('-',), plotting.COLOURS)
  centre.set(xlabel='w', ylabel='density, scale 1')
  tail.set(xlabel='w', xscale='log', yscale='log', ylim=(1e-6, 1))
  centre.legend(fontsize='small')
  return figure
