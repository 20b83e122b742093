"""The tables and the figures of `experiments/heavy_tails_sgd.py`."""

import functools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from experiments.heavy_tails_synthetic import STRUCTURES
from htjax import plotting, records, stable
from htjax.bounds import heavy_tails

Row = dict[str, Any]

# How each way of pruning is called, and in which figure the paper shows it.
METHODS = {
  'magnitude': ('magnitude, layer by layer', 'F4'),
  'singular': ('singular values', 'F5'),
  'kernels': ('kernels', 'F6'),
  'global': ('magnitude, global', 'FS2'),
  'nodes': ('nodes', 'FS3'),
}
_CAP = 2.0  # the paper's, on every layer's tail index
_RESAMPLES = 2000
_PRUNED = (0.5, 0.8, 0.9, 0.95)  # shares of the parameters, for a table
_EPSILONS = (0.001, 0.01, 0.05, 0.1, 0.3)
_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00')


def write(config: ConfigDict, rows: list[Row], workdir: Path) -> str:
  """Write tables and figures into `workdir`; returns the tables' text."""
  of = {
    study: [row for row in rows if row['study'] == study]
    for study in ('training', 'networks', 'matrices', 'limits')
  }
  usable = admitted(of['training'], config.target_loss)
  parts = []
  if of['training']:
    parts += [
      training_table(of['training'], usable),
      relations_table(usable),
      survival_table(usable),
    ]
  if of['networks']:
    parts.append(networks_table(config, of['networks']))
  if of['matrices']:
    parts.append(matrices_table(of['matrices']))
  if of['limits']:
    parts.append(limits_table(of['limits']))
  for name, figure in figures(config, usable, of).items():
    plotting.save(figure, workdir / f'{name}.png')
  text = '\n\n'.join(parts)
  records.atomic_write(workdir / 'table.txt', text + '\n')
  return f'{text}\n\nwritten to {workdir}'


def admitted(rows: Iterable[Row], target_loss: float) -> list[Row]:
  """Networks that met the rule and whose average meets it too, as the paper."""
  return [
    row
    for row in rows
    if row['status'] == 'converged'
    and row.get('average_train_loss') is not None
    and row['average_train_loss'] < target_loss
  ]


def model_alpha(row: Row) -> float:
  """Mean tail index over layers, each capped at 2."""
  return float(np.mean(np.minimum(row['layer_alphas'], _CAP)))


def survival(row: Row, method: str) -> np.ndarray:
  """Test accuracy after pruning over that before."""
  return np.asarray(row[f'{method}_accuracies']) / row['test_accuracy']


def survival_at(row: Row, method: str, share: float) -> float:
  """`survival` with this share of all parameters pruned, interpolated."""
  ratios = np.asarray(row[f'{method}_ratios'])
  return float(np.interp(share, ratios, survival(row, method)))


def _mean_survival(method: str, row: Row) -> float:
  return float(survival(row, method).mean())


def _layer_ratio(layer: int, row: Row) -> float:
  return row['layer_ratios'][layer]


def _layer_alpha(layer: int, row: Row) -> float:
  return min(row['layer_alphas'][layer], _CAP)


# Tables.


def training_table(rows: list[Row], usable: list[Row]) -> str:
  """One line per network, step and batch size: mean +- sd over seeds."""
  lines = []
  kept = set(map(id, usable))
  for key, group in _settings(rows).items():
    good = [row for row in group if id(row) in kept]
    columns: list[Callable[[Row], Any]] = [
      lambda row: row['steps'],
      lambda row: 100 * row['test_accuracy'],
      model_alpha,
      lambda row: np.mean(row['layer_alphas']),
      lambda row: np.mean(row['layer_stable_alphas']),
      lambda row: 100 * np.mean(row['layer_ratios']),
      lambda row: survival(row, 'magnitude').mean(),
    ]
    lines.append(
      [
        *(key[0], key[1], f'{key[2]:g}', f'{key[2] / key[1]:.3g}'),
        f'{len(good)}/{len(group)}',
        *(_mean_sd([column(row) for row in good]) for column in columns),
      ]
    )
  headers = [
    *('network', 'b', 'eta', 'eta/b', 'met', 'steps', 'test acc.'),
    *('alpha', 'uncapped', 'stable ML', 'prunable', 'rel. acc.'),
  ]
  title = (
    'trained networks: alpha is the mean over layers of the capped protocol;\n'
    'prunable is the mean over layers of the % of entries within the error;\n'
    'rel. acc. the mean of the curve of layer-wise magnitude pruning'
  )
  return f'{title}\n' + records.table(headers, lines)


def relations_table(rows: list[Row]) -> str:
  """Spearman's rho of what each figure sets against each other."""
  lines = []
  for panel, group in _panels(rows).items():
    for figure, what, expected, points in relations(group):
      rho, low, high = spearman(points)
      lines.append(
        [
          *(panel, figure, what, expected, len(points)),
          *(f'{v:.2f}' for v in (rho, low, high)),
        ]
      )
  headers = ['network', 'figure', 'what', 'paper', 'n', 'rho', 'low', 'high']
  title = (
    "Spearman's rho with 95 % bootstrap intervals (settings are resampled, "
    'with their seeds)'
  )
  return f'{title}\n' + records.table(headers, lines)


def survival_table(rows: list[Row]) -> str:
  """Spearman's rho of alpha and relative accuracy at equal shares pruned."""
  lines = []
  for panel, group in _panels(rows).items():
    for method, (title, figure) in METHODS.items():
      if f'{method}_ratios' not in group[0]:
        continue
      cells = []
      for share in _PRUNED:
        rho, low, high = spearman(
          [
            (_setting(row), model_alpha(row), survival_at(row, method, share))
            for row in group
          ]
        )
        cells.append(f'{rho:.2f} [{low:.2f}, {high:.2f}]')
      lines.append([panel, figure, title, *cells])
  headers = ['network', 'figure', 'pruned', *(f'{s:.0%}' for s in _PRUNED)]
  title = 'the same of alpha and relative accuracy, by the parameters pruned'
  return f'{title}\n' + records.table(headers, lines)


Point = tuple[Any, float, float]


def relations(
  rows: list[Row],
) -> list[tuple[str, str, str, list[Point]]]:
  """(figure, what, the paper's sign, points) of one panel."""

  def points(x: Callable[[Row], float], y: Callable[[Row], float]):
    return [(_setting(row), x(row), y(row)) for row in rows]

  if not rows:
    return []
  found = [
    (
      *('F1', 'eta/b, alpha', '-'),
      points(lambda r: r['eta_over_b'], model_alpha),
    ),
    (
      *('F3', 'prunable entries, alpha; all layers', '-'),
      [
        (_setting(row), ratio, min(alpha, _CAP))
        for row in rows
        for ratio, alpha in zip(
          row['layer_ratios'], row['layer_alphas'], strict=True
        )
      ],
    ),
  ]
  for i, layer in enumerate(rows[0]['layers']):
    found.append(
      (
        *('F3', f'prunable entries, alpha; {layer}', '-'),
        points(
          functools.partial(_layer_ratio, i),
          functools.partial(_layer_alpha, i),
        ),
      )
    )
  for method, (title, figure) in METHODS.items():
    if f'{method}_ratios' in rows[0]:
      found.append(
        (
          *(figure, f'alpha, relative accuracy; {title}', '-'),
          points(model_alpha, functools.partial(_mean_survival, method)),
        )
      )
  accuracy = points(model_alpha, lambda r: r['test_accuracy'])
  return [*found, ('F7', 'alpha, test accuracy', '-', accuracy)]


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


# The two readings of which layers are pruned.
_AGREEMENTS = {
  'agreement': 'output layer kept',
  'agreement_all': 'all layers pruned',
}


def networks_table(config: ConfigDict, rows: list[Row]) -> str:
  """Agreement of random networks with themselves, and how alpha moves it.

  The repeats share their random numbers across alpha, and differ much more
  from each other than alphas do: the slope is taken within each repeat.
  """
  fractions = config.networks.fractions
  shown = [i for i, f in enumerate(fractions) if f in (0.5, 0.7, 0.8, 0.9)]
  headers = [*(f'{100 * fractions[i]:g} %' for i in shown), 'all fractions']
  lines = []
  for name, title in _AGREEMENTS.items():
    for alpha, group in _by(rows, 'alpha').items():
      curves = np.array([row[name] for row in group])
      cells = [*curves[:, shown].T, curves.mean(axis=1)]
      lines.append([title, f'{alpha:g}', *map(_mean_reach, cells)])
    slopes = _slopes(rows, name)
    cells = [*slopes[:, shown].T, slopes.mean(axis=1)]
    lines.append([title, 'slope', *map(_mean_reach, cells)])
  title = (
    'random networks with stable weights: agreement after pruning, mean with '
    '95 % interval\nover repeats; last, the change of agreement per unit of '
    'alpha within a repeat'
  )
  return f'{title}\n' + records.table(['pruned', 'alpha', *headers], lines)


def _slopes(rows: list[Row], name: str) -> np.ndarray:
  """[repeats, fractions], least-squares slopes of agreement against alpha."""
  slopes = []
  for group in _by(rows, 'seed').values():
    alphas = np.array([row['alpha'] for row in group])
    curves = np.array([row[name] for row in group])
    slopes.append(np.polyfit(alphas, curves, 1)[0])
  return np.array(slopes)


def _mean_reach(values: np.ndarray) -> str:
  """Mean and half width of Student's 95 % interval."""
  num = len(values)
  reach = stats.t.ppf(0.975, num - 1) * values.std(ddof=1) / math.sqrt(num)
  return f'{values.mean():.3f}+-{reach:.3f}'


def matrices_table(rows: list[Row]) -> str:
  """Median pruning ratio in windows of alpha, and its correlation with it."""
  lines = []
  centres = np.arange(1.775, 2.0, 0.05)
  for name in STRUCTURES:
    own = [row for row in rows if row['structure'] == name]
    medians = []
    for centre in centres:
      near = [
        row['pruning_ratio']
        for row in own
        if abs(row['alpha'] - centre) <= 0.025
      ]
      medians.append(f'{np.median(near):.3f}' if near else '')
    points = [
      (i, row['alpha'], row['pruning_ratio']) for i, row in enumerate(own)
    ]
    rho = '{:.2f} [{:.2f}, {:.2f}]'.format(*spearman(points))
    lines.append([name, *medians, rho])
  windows = [f'{c - 0.025:.2f}-{c + 0.025:.2f}' for c in centres]
  title = 'random matrices: median pruning ratio by alpha'
  return f'{title}\n' + records.table(['drawn', *windows, 'rho'], lines)


def limits_table(rows: list[Row]) -> str:
  """What theorems, and another program, say of stable weights."""
  lines = [
    [
      *(row['statement'], row['what'], f'{row["alpha"]:g}'),
      *(_number(row[key]) for key in ('value', 'low', 'high', 'predicted')),
      {None: '', True: 'yes', False: 'NO'}[row['holds']],
    ]
    for row in rows
  ]
  headers = [
    *('statement', 'what', 'alpha', 'measured', 'low', 'high'),
    *('expected', 'holds'),
  ]
  return 'independent stable weights\n' + records.table(headers, lines)


# Figures.


def figures(
  config: ConfigDict, usable: list[Row], of: dict[str, list[Row]]
) -> dict[str, Any]:
  """All that there is something to draw for, by file name."""
  drawn: dict[str, Any] = {
    'FS4_volume_factor': volume_factors(),
    'FS5_stable_draws': stable_draws(),
  }
  panels = _panels(usable)
  if panels:
    drawn |= {
      'F1_tail_index': grid(panels, _draw_tail_index),
      'F2_weights': weights(usable),
      'F3_layers': grid(panels, _draw_layers),
      'F7_accuracy': grid(panels, _draw_accuracy),
    }
    for method, (title, figure) in METHODS.items():
      own = {
        name: group
        for name, group in panels.items()
        if f'{method}_ratios' in group[0]
      }
      if own:
        drawn[f'{figure}_{method}'] = grid(
          own,
          functools.partial(_draw_survival, method=method),
          f'pruned: {title}',
        )
  if of['networks']:
    drawn['FS0_random_networks'] = random_networks(config, of['networks'])
  if of['matrices']:
    drawn['FS1_random_matrices'] = random_matrices(of['matrices'], config)
  return drawn


def grid(
  panels: dict[str, list[Row]],
  draw: Callable[[Any, list[Row]], Any],
  title: str = '',
) -> Any:
  """One panel per network, each with its own colour bar or legend."""
  columns = min(3, len(panels))
  lines = -(-len(panels) // columns)
  figure = _figure(5.2 * columns, 4.0 * lines)
  axes = np.ravel(figure.subplots(lines, columns, squeeze=False))
  for ax in axes[len(panels) :]:
    ax.set_visible(False)
  for ax, (name, rows) in zip(axes, panels.items(), strict=False):
    draw(ax, rows)
    ax.set_title(f'{name}, {len(rows)} networks', fontsize='medium')
  figure.suptitle(title)
  return figure


def _draw_tail_index(ax: Any, rows: list[Row]) -> None:
  for i, (b, group) in enumerate(_by(rows, 'batch_size').items()):
    ax.plot(
      [row['eta_over_b'] for row in group],
      [model_alpha(row) for row in group],
      'os'[i % 2],
      color=_COLOURS[i % len(_COLOURS)],
      label=f'b = {b}',
    )
  ax.set(xscale='log', xlabel='step size / batch size')
  ax.set_ylabel('mean tail index of the layers')
  ax.legend(frameon=False)


def _draw_layers(ax: Any, rows: list[Row]) -> None:
  layers = rows[0]['layers']
  colours = _colour_map('viridis', range(len(layers)))
  for i, layer in enumerate(layers):
    ax.plot(
      [100 * row['layer_ratios'][i] for row in rows],
      [min(row['layer_alphas'][i], _CAP) for row in rows],
      *('o',),
      color=colours(i),
      ms=4,
      label=layer,
    )
  ax.set_xlabel('prunable entries (%)')
  ax.set_ylabel('tail index of the layer')
  ax.legend(fontsize='x-small', frameon=False)


def _draw_survival(ax: Any, rows: list[Row], method: str) -> None:
  alphas = [model_alpha(row) for row in rows]
  colours = _colour_map('plasma', alphas)
  for row, alpha in zip(rows, alphas, strict=True):
    ax.plot(
      100 * np.asarray(row[f'{method}_ratios']),
      survival(row, method),
      color=colours(alpha),
      lw=1,
    )
  ax.set_xlabel('pruned parameters (%)')
  ax.set_ylabel('test accuracy, pruned / unpruned')
  if method == 'singular':
    ax.set_xlim(left=-10)
  _colour_bar(ax, colours, 'mean tail index')


def _draw_accuracy(ax: Any, rows: list[Row]) -> None:
  logs = [math.log10(row['eta_over_b']) for row in rows]
  colours = _colour_map('viridis', logs)
  ax.scatter(
    [model_alpha(row) for row in rows],
    [100 * row['test_accuracy'] for row in rows],
    c=[colours(value) for value in logs],
  )
  ax.set_xlabel('mean tail index of the layers')
  ax.set_ylabel('test accuracy (%)')
  _colour_bar(ax, colours, 'log10 of step size / batch size')


def weights(rows: list[Row]) -> Any:
  """A middle layer's weights: two random halves, and a fitted stable law."""
  row = max(rows, key=lambda row: row['eta_over_b'])
  parts = row['histogram']
  figure = _figure(10, 4)
  halves, law = figure.subplots(1, 2)
  for counts, label, colour in zip(
    parts['halves'], ('one half', 'the other'), _COLOURS, strict=False
  ):
    halves.stairs(counts, parts['edges'], color=colour, label=label)
  halves.set_title(
    f'random halves, Kolmogorov-Smirnov p = {parts["halves_p_value"]:.2f}',
    fontsize='medium',
  )
  law.stairs(
    parts['layer'],
    parts['edges'],
    fill=True,
    facecolor='#bbbbbb',
    label='the layer',
  )
  law.stairs(
    parts['law'],
    parts['edges'],
    color=_COLOURS[1],
    label=f'stable, alpha = {parts["law_alpha"]:.2f}',
  )
  law.set_title(
    f'fitted law, distance {parts["law_distance"]:.3f}', fontsize='medium'
  )
  for ax in (halves, law):
    ax.set(yscale='log', xlabel='weight less the median', ylabel='count')
    ax.legend(frameon=False)
  layer = row['layers'][len(row['layers']) // 2]
  figure.suptitle(f'{row["panel"]}, {layer}, eta/b = {row["eta_over_b"]:.2g}')
  return figure


def random_networks(config: ConfigDict, rows: list[Row]) -> Any:
  """Mean agreement after pruning, a curve for each alpha."""
  groups = _by(rows, 'alpha')
  colours = _colour_map('plasma', groups)
  figure = _figure(11, 4.2)
  axes = figure.subplots(1, 2, sharey=True)
  x = 100 * np.asarray(config.networks.fractions)
  for ax, (name, title) in zip(axes, _AGREEMENTS.items(), strict=True):
    for alpha, group in groups.items():
      mean = np.mean([row[name] for row in group], axis=0)
      ax.plot(x, mean, color=colours(alpha))
    ax.set_title(title, fontsize='medium')
    ax.set_xlabel('pruned parameters of each layer (%)')
  axes[0].set_ylabel('agreement with the unpruned network')
  repeats = len({row['seed'] for row in rows})
  figure.suptitle(
    f'random networks, width {config.networks.width}, mean of {repeats} repeats'
  )
  _colour_bar(axes[1], colours, 'tail index of the weights')
  return figure


def random_matrices(rows: list[Row], config: ConfigDict) -> Any:
  """Pruning ratio against tail index for three kinds of dependence."""
  titles = ('independent entries', 'independent columns', 'one vector')
  figure = _figure(13, 4)
  axes = figure.subplots(1, 3, sharex=True, sharey=True)
  for ax, name, title in zip(axes, STRUCTURES, titles, strict=True):
    own = [row for row in rows if row['structure'] == name]
    ax.plot(
      [100 * row['pruning_ratio'] for row in own],
      [row['alpha'] for row in own],
      'o',
      ms=3,
      color=_COLOURS[0],
    )
    size = config.matrices['size']
    ax.set_title(f'{title}, {size} x {size}', fontsize='medium')
    ax.set_xlabel(f'prunable entries (%) at error {config.error:g}')
  axes[0].set_ylabel('tail index')
  return figure


def volume_factors(num_weights: int = 10_000) -> Any:
  """rho_epsilon of Theorem S6, and the simpler bound on it."""
  kappas = np.linspace(0, 1, 201)
  figure = _figure(7, 4.5)
  ax = figure.subplots()
  for epsilon, colour in zip(_EPSILONS, _COLOURS, strict=True):
    factor = [
      heavy_tails.volume_factor(epsilon, kappa, num_weights) for kappa in kappas
    ]
    ax.plot(kappas, factor, color=colour, label=f'epsilon = {epsilon:g}')
    ax.plot(
      kappas,
      np.minimum(3 * epsilon ** (1 - kappas), 1),
      *(':',),
      color=colour,
    )
  ax.set(xlabel='kept fraction kappa', ylabel='rho(kappa)')
  ax.set_title('dotted: min(3 epsilon^(1 - kappa), 1)', fontsize='medium')
  ax.legend(frameon=False)
  return figure


def stable_draws(alpha: float = 1.7, num: int = 10_000) -> Any:
  """Histogram of the magnitudes of stable draws."""
  sizes = np.abs(np.asarray(stable.sample(jax.random.key(0), alpha, (num,))))
  figure = _figure(7, 4)
  ax = figure.subplots()
  ax.hist(sizes, np.linspace(0, sizes.max(), 200), color=_COLOURS[0])
  ax.set(yscale='log', xlabel='|x|', ylabel='count')
  ax.set_title(f'{num} stable draws, alpha = {alpha:g}', fontsize='medium')
  return figure


def _figure(width: float, height: float) -> Any:
  from matplotlib.figure import Figure

  return Figure(figsize=(width, height), layout='constrained')


def _colour_map(name: str, values: Iterable[float]) -> Any:
  """value -> colour, over the range of the values."""
  from matplotlib import colormaps
  from matplotlib.cm import ScalarMappable
  from matplotlib.colors import Normalize

  values = list(values)
  norm = Normalize(min(values), max(values))
  mappable = ScalarMappable(norm, colormaps[name])

  def colour(value: float) -> Any:
    return mappable.to_rgba(np.asarray(value))

  colour.mappable = mappable  # type: ignore[attr-defined]
  return colour


def _colour_bar(ax: Any, colours: Any, label: str) -> None:
  ax.figure.colorbar(colours.mappable, ax=ax, label=label)


# Rows.


def _panels(rows: list[Row]) -> dict[str, list[Row]]:
  return _by(rows, 'panel')


def _by(rows: Iterable[Row], column: str) -> dict[Any, list[Row]]:
  groups: dict[Any, list[Row]] = {}
  for row in rows:
    groups.setdefault(row[column], []).append(row)
  return groups


def _setting(row: Row) -> tuple[str, int, float]:
  return row['panel'], row['batch_size'], row['learning_rate']


def _settings(rows: Iterable[Row]) -> dict[tuple[str, int, float], list[Row]]:
  groups: dict[tuple[str, int, float], list[Row]] = {}
  for row in rows:
    groups.setdefault(_setting(row), []).append(row)
  return groups


def _mean_sd(values: list[float]) -> str:
  if not values:
    return '-'
  x = np.asarray(values, float)
  sd = x.std(ddof=1) if len(x) > 1 else 0.0
  digits = 0 if x.mean() >= 1000 else 3 if x.mean() < 10 else 2
  return f'{x.mean():.{digits}f}+-{sd:.{digits}f}'


def _number(value: float | None) -> str:
  return '' if value is None else f'{value:.4g}'
