"""Tables of trained networks, their rank correlations, and stable weights."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from experiments.common import frames
from experiments.common.cells import Report
from experiments.common.frames import Column, Row
from experiments.heavy_tails_sgd import figures
from experiments.heavy_tails_sgd.networks import (
  METHODS,
  admitted,
  capped,
  model_alpha,
  survival,
  survival_at,
)
from experiments.heavy_tails_sgd.synthetic import AGREEMENTS, STRUCTURES

_RESAMPLES = 2000
_PRUNED = (0.5, 0.8, 0.9, 0.95)  # shares of the parameters, for a table


def report(config: ConfigDict, rows: list[Row]) -> Report:
  """A part for each study of which there are rows."""
  of = frames.group(rows, 'study')
  trained = of.get('training', [])
  usable = admitted(trained, config.target_loss)
  tables = [
    training_table(config, trained),
    relations_table(usable),
    survival_table(usable),
    networks_table(config, of.get('networks', [])),
    matrices_table(of.get('matrices', [])),
    limits_table(of.get('limits', [])),
  ]
  return Report(tables, figures.figures(config, of, usable))


# Trained networks.


def training_table(config: ConfigDict, rows: list[Row]) -> str:
  """A line per network, step and batch size: mean +- sd over seeds."""
  good = functools.partial(admitted, target_loss=config.target_loss)
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
    *frames.columns('network=panel', 'b=batch_size', 'eta=learning_rate:g'),
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
  return frames.table(title, columns, frames.group(rows, *_SETTING).values())


_SETTING = ('panel', 'batch_size', 'learning_rate')
Pairs = Callable[[Row], Iterable[tuple[float, float]]]


def relations_table(rows: list[Row]) -> str:
  """Spearman's rho of what each figure sets against each other."""
  columns = frames.columns(
    *('network', 'figure', 'what', 'paper', 'n', 'rho:.2f', 'low:.2f'),
    'high:.2f',
  )
  lines = []
  for panel, own in frames.group(rows, 'panel').items():
    for figure, what, pairs in relations(own[0]):
      points = pairs_of(own, pairs)
      found = dict(zip(('rho', 'low', 'high'), spearman(points), strict=True))
      line = {'network': panel, 'figure': figure, 'what': what, 'paper': '-'}
      lines.append(line | {'n': len(points)} | found)
  title = (
    "Spearman's rho with 95 % bootstrap intervals (settings are resampled, "
    'with their seeds)'
  )
  return frames.table(title, columns, lines)


def relations(row: Row) -> Iterator[tuple[str, str, Pairs]]:
  """(figure, what, points of a row) for networks such as this row's.

  The paper expects a negative correlation of all of them.
  """
  yield 'F1', 'eta/b, alpha', lambda r: [(r['eta_over_b'], model_alpha(r))]
  what = 'prunable entries, alpha; '
  yield 'F3', f'{what}all layers', _layers
  for i, layer in enumerate(row['layers']):
    yield 'F3', f'{what}{layer}', functools.partial(_layer, i)
  for method, (title, figure) in METHODS.items():
    if f'{method}_ratios' in row:
      what = f'alpha, relative accuracy; {title}'
      yield figure, what, functools.partial(_mean_survival, method)
  accuracy = 'alpha, test accuracy'
  yield 'F7', accuracy, lambda r: [(model_alpha(r), r['test_accuracy'])]


def _layers(row: Row) -> list[tuple[float, float]]:
  return list(zip(row['layer_ratios'], capped(row), strict=True))


def _layer(i: int, row: Row) -> list[tuple[float, float]]:
  return _layers(row)[i : i + 1]


def _mean_survival(method: str, row: Row) -> list[tuple[float, float]]:
  return [(model_alpha(row), float(survival(row, method).mean()))]


def survival_table(rows: list[Row]) -> str:
  """Spearman's rho of alpha and relative accuracy at equal shares pruned."""

  def rho(share: float, item: tuple[str, list[Row]]) -> str:
    method, own = item
    return _interval(
      pairs_of(own, lambda r: [(model_alpha(r), survival_at(r, method, share))])
    )

  columns = [
    Column('network', lambda item: item[1][0]['panel']),
    Column('figure', lambda item: METHODS[item[0]][1]),
    Column('pruned', lambda item: METHODS[item[0]][0]),
    *(Column(f'{s:.0%}', functools.partial(rho, s)) for s in _PRUNED),
  ]
  items = [
    (method, own)
    for own in frames.group(rows, 'panel').values()
    for method in METHODS
    if f'{method}_ratios' in own[0]
  ]
  title = 'the same of alpha and relative accuracy, by the parameters pruned'
  return frames.table(title, columns, items)


Point = tuple[Any, float, float]


def pairs_of(rows: list[Row], pairs: Pairs) -> list[Point]:
  """(setting, x, y) of all rows."""
  return [
    (tuple(row[column] for column in _SETTING), x, y)
    for row in rows
    for x, y in pairs(row)
  ]


def _interval(points: list[Point]) -> str:
  return '{:.2f} [{:.2f}, {:.2f}]'.format(*spearman(points))


def spearman(points: list[Point]) -> tuple[float, float, float]:
  """Rank correlation and its interval, whole settings resampled."""
  groups: dict[Any, list[tuple[float, float]]] = {}
  for setting, x, y in points:
    groups.setdefault(setting, []).append((x, y))
  clusters = list(groups.values())
  generator = np.random.default_rng(0)

  def rho(pairs: list[tuple[float, float]]) -> float:
    x, y = np.array(pairs).T
    if len(set(x)) < 2 or len(set(y)) < 2:
      return math.nan
    return float(stats.spearmanr(x, y).statistic)

  draws = [
    rho([pair for i in chosen for pair in clusters[i]])
    for chosen in generator.integers(
      len(clusters), size=(_RESAMPLES, len(clusters))
    )
  ]
  draws = [value for value in draws if not math.isnan(value)] or [math.nan]
  low, high = np.quantile(draws, (0.025, 0.975))
  return rho([pair for c in clusters for pair in c]), float(low), float(high)


# Exactly stable weights.


def networks_table(config: ConfigDict, rows: list[Row]) -> str:
  """Agreement of random networks with themselves, and how alpha moves it.

  The repeats share their random numbers across alpha, and differ much more
  from each other than alphas do: the slope is taken within each repeat.
  """
  columns = [
    *frames.columns('pruned=title', 'alpha'),
    *(
      Column(f'{100 * f:g} %', functools.partial(_at, i), _reach)
      for i, f in enumerate(config.networks.fractions)
      if f in (0.5, 0.7, 0.8, 0.9)
    ),
    Column('all fractions', lambda item: item['curves'].mean(axis=1), _reach),
  ]
  items = []
  for name, title in AGREEMENTS.items() if rows else ():
    curves = {
      f'{alpha:g}': np.array([row[name] for row in own])
      for alpha, own in frames.group(rows, 'alpha').items()
    }
    for alpha, found in (curves | {'slope': _slopes(rows, name)}).items():
      items.append({'title': title, 'alpha': alpha, 'curves': found})
  title = (
    'random networks with stable weights: agreement after pruning, mean with '
    '95 % interval\nover repeats; last, the change of agreement per unit of '
    'alpha within a repeat'
  )
  return frames.table(title, columns, items)


def _at(i: int, item: Row) -> np.ndarray:
  return item['curves'][:, i]


def _slopes(rows: list[Row], name: str) -> np.ndarray:
  """[repeats, fractions], least-squares slopes of agreement against alpha."""
  slopes = []
  for own in frames.group(rows, 'seed').values():
    alphas = np.array([row['alpha'] for row in own])
    curves = np.array([row[name] for row in own])
    slopes.append(np.polyfit(alphas, curves, 1)[0])
  return np.array(slopes)


def _reach(values: np.ndarray) -> str:
  """Mean and half width of Student's 95 % interval."""
  num = len(values)
  reach = stats.t.ppf(0.975, num - 1) * values.std(ddof=1) / math.sqrt(num)
  return f'{values.mean():.3f}+-{reach:.3f}'


def matrices_table(rows: list[Row]) -> str:
  """Median pruning ratio in windows of alpha, and its correlation with it."""

  def median(centre: float, own: list[Row]) -> float | None:
    near = [
      row['pruning_ratio'] for row in own if abs(row['alpha'] - centre) <= 0.025
    ]
    return float(np.median(near)) if near else None

  def rho(own: list[Row]) -> str:
    return _interval(
      [(i, row['alpha'], row['pruning_ratio']) for i, row in enumerate(own)]
    )

  columns = [
    Column('drawn', 'structure'),
    *(
      Column(
        f'{c - 0.025:.2f}-{c + 0.025:.2f}', functools.partial(median, c), '.3f'
      )
      for c in np.arange(1.775, 2.0, 0.05)
    ),
    Column('rho', rho),
  ]
  found = frames.group(rows, 'structure')
  return frames.table(
    'random matrices: median pruning ratio by alpha',
    columns,
    [found[name] for name in STRUCTURES if name in found],
  )


def limits_table(rows: list[Row]) -> str:
  """Stable weights beside what theorems, and another program, say of them."""
  columns = frames.columns(
    *('statement', 'what', 'alpha:g', 'measured=value:.4g', 'low:.4g'),
    *('high:.4g', 'expected=predicted:.4g', 'holds:yes'),
  )
  return frames.table('independent stable weights', columns, rows)
