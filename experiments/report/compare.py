"""Printed numbers and claims beside rows of results, and whether they agree."""

import math
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.common import frames, published, tasks
from experiments.common.frames import Row, where
from experiments.heavy_tails_sgd import networks, rank_correlations
from experiments.heavy_tails_sgd import report as heavy_tails
from experiments.heavy_tails_sgd.config import BASE, PANELS
from experiments.heavy_tails_sgd.synthetic import AGREEMENTS
from experiments.implicit_compressibility.config import get_config
from experiments.sketching_bounds import numbers as sketching
from htjax import models, plotting

Item = dict[str, Any]
# Standard errors of the difference within which two numbers agree.
ALLOWED = 3.0


class Comparison(NamedTuple):
  """A number or a claim; `agrees` is None where there is nothing to judge."""

  what: str
  published: str
  ours: str  # with the spread, and in brackets the number of values
  agrees: bool | None = None
  apart: float | None = None  # in standard errors of the difference


def comparisons(item: Item, rows: list[Row]) -> list[Comparison]:
  """All that an item of `items.json` compares; empty without its rows."""
  measure = item.get('measure')
  if measure in CLAIMS:
    return [Comparison(*found) for found in CLAIMS[measure](item, rows)]
  return [
    compare(
      item, f'{" ".join(map(_word, key))}: {column}', printed, own[column]
    )
    for key, own in (NUMBERS[measure](item, rows) if measure else ())
    for column, printed in published.row(item['table'], *key).items()
    if column in own
  ]


def compare(
  item: Item, what: str, printed: Any, found: Sequence[float]
) -> Comparison:
  """A printed number, or (mean, sd) of the item's `repeats`, beside ours.

  A single value of ours is taken to spread as the printed ones do. Numbers
  without any spread agree within the item's `tolerance`.
  """
  mean, theirs = (*np.atleast_1d(printed), 0.0)[:2]
  values = np.asarray(found, float)
  own = values.std(ddof=1) if values.size > 1 else theirs
  error = math.hypot(
    own / math.sqrt(values.size), theirs / math.sqrt(item.get('repeats', 1))
  )
  gap, unit = abs(values.mean() - mean), item.get('unit', 1)
  ours = _number(unit * values.mean(), unit * own * (values.size > 1))
  return Comparison(
    what.replace('_', ' '),
    _number(unit * mean, unit * theirs),
    f'{ours} ({values.size})',
    bool(gap <= max(ALLOWED * error, item.get('tolerance', 1e-9))),
    float(gap / error) if error else None,
  )


def _number(mean: float, spread: float) -> str:
  if spread:
    return f'{mean:.2f}+-{spread:.2f}'
  return f'{mean:,.0f}' if abs(mean) >= 10_000 else f'{mean:.4g}'


def _word(part: Any) -> str:
  return part if isinstance(part, str) else frames.tail(part)


# Each gives keys of the printed table with {column: values}.
Numbers = Iterator[tuple[tuple[Any, ...], dict[str, Sequence[float]]]]


def _accuracies(item: Item, rows: list[Row]) -> Numbers:
  del item
  for alpha, own in frames.group(plotting.finished(rows), 'alpha').items():
    names = [name for name in own[0] if isinstance(own[0][name], float)]
    yield (alpha,), {name: [row[name] for row in own] for name in names}


def _settings(item: Item, rows: list[Row]) -> Numbers:
  """Type III's sigma in the paper's convention."""
  del rows
  for name in published.keys(item['table']):
    config = get_config(name)
    unit = math.sqrt(2) if config.kind == 'type3' else 1.0
    pairs = zip(config.alphas, config.sigmas, strict=True)
    ours = {f'sigma at {alpha:g}': [unit * sigma] for alpha, sigma in pairs}
    yield (
      (name,),
      ours | {k: [config[k]] for k in ('learning_rate', 'batch_size')},
    )


def _panels(item: Item, rows: list[Row]) -> Numbers:
  """Parameters of the presets' networks; step size / batch size."""
  del item, rows
  for name, panel in PANELS.items():
    shape = (28, 28, 1) if panel['dataset'] == 'mnist' else (32, 32, 3)
    task: Any = SimpleNamespace(input_shape=shape, num_classes=10)
    params = jax.eval_shape(tasks.network(panel, task).init, jax.random.key(0))
    ratios = [eta / b for b, rates in panel['rates'] for eta in rates or ()]
    ours = {'num_params': [models.num_params(params)]}
    yield (name,), ours | {'least': [min(ratios)], 'largest': [max(ratios)]}


def _compressed(item: Item, rows: list[Row]) -> Numbers:
  del item
  for original in where(rows, study='original'):
    own = where(rows, weights=original['weights'])
    (layer,) = where(own, study='layer', final=True)
    trials = where(own, study='trial', variant='experiment')
    yield (
      (original['dataset'], f'resnet{original["depth"]}'),
      {
        'pdf_exponent': [layer['pdf_exponent_positive']],
        'accuracy': [100 * original['accuracy']],
        'compressed': [100 * row['accuracy'] for row in trials],
      },
    )


def _bounds(item: Item, rows: list[Row]) -> Numbers:
  """Natural logarithms by width."""
  only = {k: item[k] for k in ('dataset', 'width') if k in item}
  for row in where(rows, **only):
    if row.get('study', 'bounds') == 'bounds':
      # The rows by the paper's own protocol have the logarithms as columns.
      found = sketching.complexities(row) if 'methods' in row else row
      yield (str(row['width']),), {name: [x] for name, x in found.items()}


def _pruned(item: Item, rows: list[Row]) -> Numbers:
  """Not in logarithms."""
  del item
  for row in where(rows, study='pruned'):
    found = sketching.complexities(row).items()
    yield (row['dataset'],), {k: [math.exp(min(v, 700))] for k, v in found}


# Each gives entries of comparisons.
Claims = Iterator[tuple[str, str, str, bool | None]]


def _correlations(item: Item, rows: list[Row]) -> Claims:
  """Two quantities of trained networks, of which one falls with the other."""
  good = networks.admitted(where(rows, study='training'), BASE['target_loss'])
  for panel, own in frames.group(good, 'panel').items():
    for figure, what, pairs in rank_correlations.relations(own[0]):
      if figure == item['figure']:
        points = rank_correlations.pairs_of(own, pairs)
        yield f'{panel}: {what}', 'falls', *_rho(points)


def _rho(points: list[rank_correlations.Point]) -> tuple[str, bool]:
  rho, low, high = rank_correlations.spearman(points)
  return f'rho {rho:.2f} [{low:.2f}, {high:.2f}] ({len(points)})', high < 0


def _halves(item: Item, rows: list[Row]) -> Claims:
  """Two random halves of a layer, and the law that is fitted to it."""
  del item
  for row in where(rows, study='training', status='converged'):
    found, name = row['histogram'], f'eta / b {row["eta_over_b"]:.2g}'
    p, alpha = found['halves_p_value'], found['law_alpha']
    yield f'{name}: two halves', 'alike', f'p = {p:.2f} (1)', p > 1e-3
    yield f'{name}: fitted alpha', 'about 1.95', f'{alpha:.2f} (1)', None


def _random_networks(item: Item, rows: list[Row]) -> Claims:
  """Slope of the agreement after pruning against alpha, within repeats."""
  del item
  own = where(rows, study='networks')
  for name, title in AGREEMENTS.items() if own else ():
    slopes = heavy_tails.slopes(own, name).mean(axis=1)
    mean, error = slopes.mean(), slopes.std(ddof=1) / math.sqrt(len(slopes))
    text = f'slope {mean:.2f}, standard error {error:.2f} ({len(slopes)})'
    yield title, 'falls with alpha', text, bool(mean + ALLOWED * error < 0)


def _random_matrices(item: Item, rows: list[Row]) -> Claims:
  """Prunable shares against alpha; one vector has no alpha to tell it by."""
  del item
  groups = frames.group(where(rows, study='matrices'), 'structure')
  for name, own in groups.items():
    pairs = ((row['alpha'], row['pruning_ratio']) for row in own)
    text, falls = _rho([(i, *pair) for i, pair in enumerate(pairs)])
    yield name, 'falls with alpha', text, None if name == 'whole' else falls


def _shapes(item: Item, rows: list[Row]) -> Claims:
  for row in where(rows, study='weights'):
    if row['layer'] in item['layers']:
      what = f'{row["dataset"]}, layer {row["layer"]}: excess kurtosis'
      near = abs(row['kurtosis']) <= item['tolerance']
      yield what, 'drawn normal, 0', f'{row["kurtosis"]:.2f} (1)', near


def _pruning(item: Item, rows: list[Row]) -> Claims:
  """A measured quantity below its bound, where the premise of that holds."""
  for row in where(rows, study='strengths'):
    most, bound = max(row['most_nonzeros']), max(row['most_claimed'])
    premise, digits = True, 0
    if item['quantity'] == 'change':
      most, bound = math.log(max(row['change_max'], 1e-30)), row['bound_markov']
      premise, bound, digits = bound['premise'], bound['log'], 1
    text = f'{most:.{digits}f} below {bound:.{digits}f} (1)'
    what = f'{row["dataset"]}, d = {row["strength"]:.4g}'
    yield what, 'below the bound', text, most <= bound if premise else None


def _curves(item: Item, rows: list[Row]) -> Claims:
  """Relative accuracy with half of the columns pruned, over that unnoised."""
  del item
  kept = {
    alpha: np.array(
      [r['test_accuracy_curve'][5] / r['test_accuracy'] for r in own]
    )
    for alpha, own in frames.group(plotting.finished(rows), 'alpha').items()
  }
  clean = kept.pop(None, np.array([np.nan])).mean()
  for alpha, own in kept.items():
    text = f'{own.mean():.3f}, without noise {clean:.3f} ({own.size})'
    yield f'{alpha:g}', 'above no noise', text, bool(own.mean() > clean)
  for alpha, runs in frames.group(rows, 'alpha').items():
    if alpha is not None and all(row['diverged'] for row in runs):
      yield f'{alpha:g}', 'above no noise', f'diverged ({len(runs)})', False


def _statements(item: Item, rows: list[Row]) -> Claims:
  """The number of a theorem beside what came out; controls are not claims.

  A row may say apart from its number whether the print's claim was found.
  """
  for row in rows:
    if (
      row.get('statement') not in item['statements']
      or row['study'] == 'controls'
    ):
      continue
    what = f'{row["what"]}, alpha = {row["alpha"]:g}'
    if kind := row.get('kind'):
      what = f'{what}, {plotting.KINDS[kind]}'
    value, expected = row.get('value', row.get('slope')), row['predicted']
    ours = f'{value:.4g}'
    if row.get('low') is not None:
      ours = f'{ours} [{row["low"]:.4g}, {row["high"]:.4g}]'
    text = '-' if expected is None else f'{expected:.4g}'
    yield what, text, ours, row.get('claim', row['holds'])
    if 'bound_holds' in row:
      found = 'yes' if row['bound_holds'] else 'no'
      yield f'{what}: below the bound', 'yes', found, row['bound_holds']


def _epochs(item: Item, rows: list[Row]) -> Claims:
  del item
  trace = [row for row in where(rows, study='trace') if row['methods']]
  for name in trace[0]['methods'] if len(trace) > 1 else ():
    first, last = (trace[i]['methods'][name]['complexity'] for i in (0, -1))
    text = f'ln {first:.2f} to {last:.2f} (1)'
    yield f'{sketching.LABELS[name]}, first to last epoch', '-', text, None


NUMBERS: dict[str, Callable[[Item, list[Row]], Numbers]] = {
  'accuracies': _accuracies,
  'settings': _settings,
  'panels': _panels,
  'compressed': _compressed,
  'bounds': _bounds,
  'pruned': _pruned,
}
CLAIMS: dict[str, Callable[[Item, list[Row]], Claims]] = {
  'correlations': _correlations,
  'halves': _halves,
  'random_networks': _random_networks,
  'random_matrices': _random_matrices,
  'shapes': _shapes,
  'pruning': _pruning,
  'curves': _curves,
  'epochs': _epochs,
  'statements': _statements,
}
