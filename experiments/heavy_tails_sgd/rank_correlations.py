"""Rank correlations of trained networks: tables, and a figure of them all."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from experiments.common import frames
from experiments.common.figures import Figure, describe, panel_each
from experiments.common.frames import Row
from experiments.heavy_tails_sgd import networks
from experiments.heavy_tails_sgd.networks import METHODS, model_alpha, survival
from htjax import rank_correlation

# Columns of a row that tell one network from another but for its seed.
SETTING = ('panel', 'batch_size', 'learning_rate')
_RESAMPLES = 2000
_PRUNED = (0.5, 0.8, 0.9, 0.95)  # shares of the parameters, for a table

Pairs = Callable[[Row], Iterable[tuple[float, float]]]


def related(rows: list[Row]) -> list[Row]:
  """Spearman's rho of what each figure sets against each other, in rows."""
  names = 'panel', 'figure', 'what', 'n', 'rho', 'low', 'high'
  return [
    dict(
      zip(names, (panel, *named, len(points), *spearman(points)), strict=True)
    )
    for panel, own in frames.group(rows, 'panel').items()
    for *named, pairs in relations(own[0])
    for points in [pairs_of(own, pairs)]
  ]


def relations_table(found: list[Row]) -> str:
  """A line per relation."""
  title = (
    "Spearman's rho with 95 % bootstrap intervals (settings are resampled, "
    'with their seeds)'
  )
  spec = 'network=panel; figure; what; n; rho:.2f; low:.2f; high:.2f'
  return frames.table(title, frames.columns(spec), found)


def relations(row: Row) -> Iterator[tuple[str, str, Pairs]]:
  """(figure, what, points of a row) for networks such as this row's.

  The paper expects a negative correlation of all of them.
  """
  yield 'F1', 'eta/b, alpha', lambda r: [(r['eta_over_b'], model_alpha(r))]
  what = 'prunable entries, alpha; '
  yield 'F3', f'{what}all layers', functools.partial(_layers, None)
  for i, layer in enumerate(row['layers']):
    yield 'F3', f'{what}{layer}', functools.partial(_layers, i)
  for method, (title, figure) in METHODS.items():
    if f'{method}_ratios' in row:
      mean = functools.partial(_mean_survival, method)
      yield figure, f'alpha, relative accuracy; {title}', _alpha_and(mean)
  yield 'F7', 'alpha, test accuracy', _alpha_and(lambda r: r['test_accuracy'])


def _layers(i: int | None, row: Row) -> list[tuple[float, float]]:
  pairs = list(zip(row['layer_ratios'], networks.capped(row), strict=True))
  return pairs if i is None else pairs[i : i + 1]


def _mean_survival(method: str, row: Row) -> float:
  return float(survival(row, method).mean())


def _alpha_and(value: Callable[[Row], float]) -> Pairs:
  return lambda row: [(model_alpha(row), value(row))]


def survival_table(rows: list[Row]) -> str:
  """Spearman's rho of alpha and relative accuracy at equal shares pruned."""
  lines = []
  for panel, own in frames.group(rows, 'panel').items():
    for method, (title, figure) in METHODS.items():
      if f'{method}_ratios' in own[0]:
        at = functools.partial(networks.survival_at, method=method)
        pairs = [_alpha_and(functools.partial(at, share=s)) for s in _PRUNED]
        found = (interval(pairs_of(own, one)) for one in pairs)
        lines.append((panel, figure, title, *found))
  title = 'the same of alpha and relative accuracy, by the parameters pruned'
  shares = '; '.join(f'{share:.0%}' for share in _PRUNED)
  return frames.listing(title, f'network; figure; pruned; {shares}', lines)


Point = tuple[Any, float, float]


def pairs_of(rows: list[Row], pairs: Pairs) -> list[Point]:
  """(setting, x, y) of all rows."""
  return [
    (tuple(row[column] for column in SETTING), x, y)
    for row in rows
    for x, y in pairs(row)
  ]


def interval(points: list[Point]) -> str:
  """Rho and its interval, to be read."""
  return '{:.2f} [{:.2f}, {:.2f}]'.format(*spearman(points))


def spearman(points: list[Point]) -> tuple[float, float, float]:
  """Rank correlation and its interval, whole settings resampled."""
  settings, x, y = zip(*points, strict=True)
  return rank_correlation.spearman(
    np.array(x), np.array(y), settings, num_resamples=_RESAMPLES
  )


def figure(found: list[Row]) -> Figure:
  """Rho of every relation with its interval, a panel a network.

  The paper expects all of them left of the line at 0.
  """
  drawn, panels = panel_each(frames.group(found, 'panel'), size=(6.0, 3.4))
  for ax, (panel, own) in panels:
    rho, low, high = (
      np.array([row[name] for row in own]) for name in ('rho', 'low', 'high')
    )
    place = np.arange(len(own))[::-1]
    ax.errorbar(rho, place, xerr=[rho - low, high - rho], fmt='o', ms=4)
    ax.axvline(0, color='grey', lw=0.8, ls='--')
    names = [f'{row["figure"]}: {row["what"]}' for row in own]
    ax.set_yticks(place, names, fontsize='x-small')
    describe(ax, panel, xlim=(-1.05, 1.05), xlabel="Spearman's rho")
  return drawn
