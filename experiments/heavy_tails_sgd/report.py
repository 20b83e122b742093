"""Tables of trained networks and of stable weights."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from experiments.common import frames
from experiments.common.cells import Report
from experiments.common.frames import Column, Row
from experiments.heavy_tails_sgd import figures, networks, rank_correlations
from experiments.heavy_tails_sgd.networks import model_alpha, survival
from experiments.heavy_tails_sgd.synthetic import AGREEMENTS, STRUCTURES


def report(config: ConfigDict, rows: list[Row]) -> Report:
  """A part for each study of which there are rows."""
  of = frames.group(rows, 'study')
  trained = of.get('training', [])
  usable = networks.admitted(trained, config.target_loss)
  related = rank_correlations.related(usable)
  tables = [
    training_table(config, trained),
    rank_correlations.relations_table(related),
    rank_correlations.survival_table(usable),
    networks_table(config, of.get('networks', [])),
    matrices_table(of.get('matrices', [])),
    limits_table([*of.get('limits', []), *of.get('theorems', [])]),
  ]
  drawn = figures.figures(config, of, usable)
  if related:
    drawn['rank_correlations'] = rank_correlations.figure(related)
  return Report(tables, drawn)


def training_table(config: ConfigDict, rows: list[Row]) -> str:
  """A line per network, step and batch size: mean +- sd over seeds."""
  good = functools.partial(networks.admitted, target_loss=config.target_loss)
  measured: dict[str, Callable[[Row], Any]] = {
    'steps': lambda row: row['steps'],
    'test acc.': lambda row: 100 * row['test_accuracy'],
    'alpha': model_alpha,
    'uncapped': lambda row: np.mean(row['layer_alphas']),
    'stable ML': lambda row: np.mean(row['layer_stable_alphas']),
    'prunable': lambda row: 100 * np.mean(row['layer_ratios']),
    'rel. acc.': lambda row: survival(row, 'magnitude').mean(),
  }
  columns = [
    *frames.columns('network=panel; b=batch_size; eta=learning_rate:g'),
    *frames.columns('eta/b=eta_over_b:.3g'),
    Column('met', lambda own: f'{len(good(own))}/{len(own)}'),
    *(
      frames.spread(*item, digits=None, over=good) for item in measured.items()
    ),
  ]
  title = (
    'trained networks: alpha is the mean over layers of the capped protocol;\n'
    'prunable is the mean over layers of the % of entries within the error;\n'
    'rel. acc. the mean of the curve of layer-wise magnitude pruning'
  )
  groups = frames.group(rows, *rank_correlations.SETTING)
  return frames.table(title, columns, groups.values())


def networks_table(config: ConfigDict, rows: list[Row]) -> str:
  """Agreement of random networks with themselves, and how alpha moves it.

  The repeats share their random numbers across alpha, and differ much more
  from each other than alphas do: the slope is taken within each repeat.
  """
  shown = {
    f'{100 * f:g} %': i
    for i, f in enumerate(config.networks.fractions)
    if f in (0.5, 0.7, 0.8, 0.9)
  }
  lines = []
  for name, title in AGREEMENTS.items() if rows else ():
    curves = {
      f'{alpha:g}': np.array([row[name] for row in own])
      for alpha, own in frames.group(rows, 'alpha').items()
    }
    for alpha, found in (curves | {'slope': slopes(rows, name)}).items():
      chosen = *found.T[list(shown.values())], found.mean(axis=1)
      lines.append((title, alpha, *map(_reach, chosen)))
  title = (
    'random networks with stable weights: agreement after pruning, mean with '
    '95 % interval\nover repeats; last, the change of agreement per unit of '
    'alpha within a repeat'
  )
  spec = '; '.join(('pruned', 'alpha', *shown, 'all fractions'))
  return frames.listing(title, spec, lines)


def slopes(rows: list[Row], name: str) -> np.ndarray:
  """[repeats, fractions], least-squares slopes of agreement against alpha."""

  def slope(own: list[Row]) -> np.ndarray:
    alphas, curves = (
      [row[column] for row in own] for column in ('alpha', name)
    )
    return np.polyfit(alphas, curves, 1)[0]

  return np.array(list(map(slope, frames.group(rows, 'seed').values())))


def _reach(values: np.ndarray) -> str:
  """Mean and half width of Student's 95 % interval."""
  num = len(values)
  reach = stats.t.ppf(0.975, num - 1) * values.std(ddof=1) / math.sqrt(num)
  return f'{values.mean():.3f}+-{reach:.3f}'


def matrices_table(rows: list[Row]) -> str:
  """Median pruning ratio in windows of alpha, and its correlation with it."""

  centres, lines = np.arange(1.775, 2.0, 0.05), []
  groups = frames.group(rows, 'structure')
  for name in STRUCTURES if rows else ():
    own = groups[name]
    alphas = np.array([row['alpha'] for row in own])
    ratios = np.array([row['pruning_ratio'] for row in own])
    near = (ratios[np.abs(alphas - c) <= 0.025] for c in centres)
    medians = (np.median(found) if found.size else None for found in near)
    points = list(zip(range(len(own)), alphas, ratios, strict=True))
    lines.append((name, *medians, rank_correlations.interval(points)))
  windows = [f'{c - 0.025:.2f}-{c + 0.025:.2f}:.3f' for c in centres]
  title = 'random matrices: median pruning ratio by alpha'
  return frames.listing(title, '; '.join(('drawn', *windows, 'rho')), lines)


def limits_table(rows: list[Row]) -> str:
  """Stable weights beside what theorems, and another program, say of them."""
  columns = frames.columns(
    'statement; what; alpha:g; measured=value:.4g; low:.4g; high:.4g; '
    'expected=predicted:.4g; holds:yes'
  )
  return frames.table('independent stable weights', columns, rows)
