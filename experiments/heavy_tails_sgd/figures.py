"""The paper's figures, by the names of their files."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.common import frames
from experiments.common.figures import (
  Axes,
  ColourMap,
  Figure,
  describe,
  panel_each,
)
from experiments.common.frames import Row
from experiments.heavy_tails_sgd import networks
from experiments.heavy_tails_sgd.networks import METHODS, model_alpha
from experiments.heavy_tails_sgd.synthetic import AGREEMENTS, STRUCTURES
from htjax import stable
from htjax.bounds import heavy_tails
from htjax.plotting import COLOURS, panels

_EPSILONS = (0.001, 0.01, 0.05, 0.1, 0.3)
_LEGEND = {'frameon': False}


def figures(
  config: ConfigDict, of: dict[str, list[Row]], usable: list[Row]
) -> dict[str, Figure]:
  """All that there is something to draw for.

  `of` has the rows by study, and `usable` those of networks that count.
  """
  drawn = {
    'FS4_volume_factor': volume_factors(),
    'FS5_stable_draws': stable_draws(),
  }
  if usable:
    drawn |= {
      'F1_tail_index': grid(usable, _draw_tail_index),
      'F2_weights': weights(usable),
      'F3_layers': grid(usable, _draw_layers),
      'F7_accuracy': grid(usable, _draw_accuracy),
    }
  for method, (title, figure) in METHODS.items():
    own = [row for row in usable if f'{method}_ratios' in row]
    if own:
      draw = functools.partial(_draw_survival, method=method)
      drawn[f'{figure}_{method}'] = grid(own, draw, f'pruned: {title}')
  if 'networks' in of:
    drawn['FS0_random_networks'] = random_networks(config, of['networks'])
  if 'matrices' in of:
    drawn['FS1_random_matrices'] = random_matrices(config, of['matrices'])
  return drawn


def grid(
  rows: list[Row], draw: Callable[[Axes, list[Row]], None], title: str = ''
) -> Figure:
  """One panel per network, each with its own colour bar or legend."""
  figure, own_panels = panel_each(frames.group(rows, 'panel'), title=title)
  for ax, (name, own) in own_panels:
    draw(ax, own)
    describe(ax, f'{name}, {len(own)} networks')
  return figure


def _draw_tail_index(ax: Axes, rows: list[Row]) -> None:
  sizes = frames.group(rows, 'batch_size')
  for i, (batch_size, own) in enumerate(sizes.items()):
    x, y = [row['eta_over_b'] for row in own], list(map(model_alpha, own))
    colour = COLOURS[4 * (i + 1) % 6]
    ax.plot(x, y, 'os'[i % 2], color=colour, label=f'b = {batch_size}')
  ax.set(xscale='log', xlabel='step size / batch size')
  describe(ax, '', _LEGEND, ylabel='mean tail index of the layers')


def _draw_layers(ax: Axes, rows: list[Row]) -> None:
  layers = rows[0]['layers']
  colours = ColourMap('viridis', range(len(layers)))
  ratios = np.array([row['layer_ratios'] for row in rows])
  alphas = np.array([networks.capped(row) for row in rows])
  for i, layer in enumerate(layers):
    x, y = 100 * ratios[:, i], alphas[:, i]
    ax.plot(x, y, 'o', color=colours(i), ms=4, label=layer)
  ax.set(xlabel='prunable entries (%)', ylabel='tail index of the layer')
  ax.legend(fontsize='x-small', frameon=False)


def _draw_survival(ax: Axes, rows: list[Row], method: str) -> None:
  colours = ColourMap('plasma', map(model_alpha, rows))
  for row in rows:
    x = 100 * np.asarray(row[f'{method}_ratios'])
    y, colour = networks.survival(row, method), colours(model_alpha(row))
    ax.plot(x, y, color=colour, lw=1)
  ax.set_xlabel('pruned parameters (%)')
  ax.set_ylabel('test accuracy, pruned / unpruned')
  if method == 'singular':
    ax.set_xlim(left=-10)
  colours.bar(ax, 'mean tail index')


def _draw_accuracy(ax: Axes, rows: list[Row]) -> None:
  logs = [math.log10(row['eta_over_b']) for row in rows]
  colours = ColourMap('viridis', logs)
  y = [100 * row['test_accuracy'] for row in rows]
  ax.scatter(list(map(model_alpha, rows)), y, c=list(map(colours, logs)))
  ax.set(xlabel='mean tail index of the layers', ylabel='test accuracy (%)')
  colours.bar(ax, 'log10 of step size / batch size')


def weights(rows: list[Row]) -> Figure:
  """A middle layer's weights: two random halves, and a fitted stable law."""
  row = max(rows, key=lambda row: row['eta_over_b'])
  parts = row['histogram']
  edges = parts['edges']
  layer = row['layers'][len(row['layers']) // 2]
  title = f'{row["panel"]}, {layer}, eta/b = {row["eta_over_b"]:.2g}'
  figure, (halves, law) = panels(2, title=title)
  first, second = parts['halves']
  halves.stairs(first, edges, color=COLOURS[4], label='one half')
  halves.stairs(second, edges, color=COLOURS[0], label='the other')
  filled: Any = {'fill': True, 'color': '#bbbbbb', 'label': 'the layer'}
  law.stairs(parts['layer'], edges, **filled)
  label = f'stable, alpha = {parts["law_alpha"]:.2f}'
  law.stairs(parts['law'], edges, color=COLOURS[0], label=label)
  p_value, distance = parts['halves_p_value'], parts['law_distance']
  labels = {'xlabel': 'weight less the median', 'ylabel': 'count'}
  for ax, title in (
    (halves, f'random halves, Kolmogorov-Smirnov p = {p_value:.2f}'),
    (law, f'fitted law, distance {distance:.3f}'),
  ):
    describe(ax, title, _LEGEND, yscale='log', **labels)
  return figure


def random_networks(config: ConfigDict, rows: list[Row]) -> Figure:
  """Mean agreement after pruning, a curve for each alpha."""
  settings = config.networks
  repeats = len({row['seed'] for row in rows})
  title = f'random networks, width {settings.width}, mean of {repeats} repeats'
  figure, axes = panels(2, title=title, sharey=True)
  groups = frames.group(rows, 'alpha')
  colours = ColourMap('plasma', groups)
  for ax, (name, title) in zip(axes, AGREEMENTS.items(), strict=True):
    for alpha, own in groups.items():
      mean = np.mean([row[name] for row in own], axis=0)
      x = 100 * np.asarray(settings.fractions)
      ax.plot(x, mean, color=colours(alpha))
    describe(ax, title, xlabel='pruned parameters of each layer (%)')
  axes[0].set_ylabel('agreement with the unpruned network')
  colours.bar(axes[1], 'tail index of the weights')
  return figure


def random_matrices(config: ConfigDict, rows: list[Row]) -> Figure:
  """Pruning ratio against tail index for three kinds of dependence."""
  titles = ('independent entries', 'independent columns', 'one vector')
  figure, axes = panels(3, size=(4.3, 4), sharex=True, sharey=True)
  size = config.matrices.size
  for ax, name, title in zip(axes, STRUCTURES, titles, strict=True):
    own = frames.where(rows, structure=name)
    x = [100 * row['pruning_ratio'] for row in own]
    ax.plot(x, [row['alpha'] for row in own], 'o', ms=3, color=COLOURS[4])
    xlabel = f'prunable entries (%) at error {config.error:g}'
    describe(ax, f'{title}, {size} x {size}', xlabel=xlabel)
  axes[0].set_ylabel('tail index')
  return figure


def volume_factors(num_weights: int = 10_000) -> Figure:
  """rho_epsilon of Theorem S6, and the simpler bound on it."""
  kappas = np.linspace(0, 1, 201)
  figure, (ax,) = panels(1, size=(7, 4.5))
  for epsilon, colour in zip(_EPSILONS, COLOURS, strict=False):
    factor = [
      heavy_tails.volume_factor(epsilon, kappa, num_weights) for kappa in kappas
    ]
    ax.plot(kappas, factor, color=colour, label=f'epsilon = {epsilon:g}')
    simple = np.minimum(3 * epsilon ** (1 - kappas), 1)
    ax.plot(kappas, simple, ':', color=colour)
  ax.set(xlabel='kept fraction kappa', ylabel='rho(kappa)')
  describe(ax, 'dotted: min(3 epsilon^(1 - kappa), 1)', _LEGEND)
  return figure


def stable_draws(alpha: float = 1.7, num: int = 10_000) -> Figure:
  """Histogram of the magnitudes of stable draws."""
  sizes = np.abs(np.asarray(stable.sample(jax.random.key(0), alpha, (num,))))
  figure, (ax,) = panels(1, size=(7, 4))
  ax.hist(sizes, np.linspace(0, sizes.max(), 200).tolist(), color=COLOURS[4])
  title = f'{num} stable draws, alpha = {alpha:g}'
  describe(ax, title, yscale='log', xlabel='|x|', ylabel='count')
  return figure
