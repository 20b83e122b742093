"""Tables and figures of `experiments/gaussian_compression.py`."""

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import line_mixture
from htjax import plotting, records, stable
from htjax.bounds import gaussian_compression

if TYPE_CHECKING:
  from matplotlib.figure import Figure

Row = dict[str, Any]

# Table 1: density exponent, accuracy before and after in %, sd of the latter.
# Other weights than those in PyTorch's layout that are read here.
PUBLISHED = {
  ('cifar10', 20): (3.22, 93.90, 89.19, 3.03),
  ('cifar10', 56): (3.02, 95.32, 94.74, 0.30),
  ('cifar10', 110): (2.98, 96.26, 95.63, 0.63),
  ('svhn_cropped', 20): (3.34, 96.60, 94.60, 0.71),
  ('svhn_cropped', 56): (2.63, 97.19, 96.58, 0.39),
  ('svhn_cropped', 110): (2.33, 97.48, 97.16, 0.14),
}

# Okabe and Ito's colours for the colour-blind.
_COLOURS = ('#D55E00', '#E69F00', '#009E73', '#0072B2', '#CC79A7', '#56B4E9')
_GREY = '#888888'


def write(config: ConfigDict, rows: list[Row], workdir: Path) -> str:
  """Write the figures and tables into `workdir`; returns the tables' text."""
  texts = []
  if any(row['study'] == 'original' for row in rows):
    texts.append(accuracy_table(rows))
  if any(row.get('final') for row in rows):
    texts.append(layer_table(rows))
  points = layer_points(config, rows)
  mixture = fit_points(config, points)
  if points:
    texts.append(mixture_text(points, mixture))
    plotting.save(rank_figure(points, mixture), workdir / 'stable_rank.png')
  texts.append(bracket_table(config))
  plotting.save(density_figure(config), workdir / 'densities.png')
  plotting.save(bracket_figure(config), workdir / 'brackets.png')
  text = '\n\n'.join(texts)
  records.atomic_write(workdir / 'table.txt', text + '\n')
  return f'{text}\n\nwritten to {workdir}'


def accuracy_table(rows: list[Row]) -> str:
  """Table 1: accuracies in %, before and after, ours above the published."""
  exponents = {
    row['weights']: row['pdf_exponent']
    for row in rows
    if row['study'] == 'layer' and row['final']
  }
  lines = []
  for original in (row for row in rows if row['study'] == 'original'):
    name, depth = original['weights'], original['depth']
    exponent = exponents.get(name)
    trials = [
      row for row in rows if row['study'] == 'trial' and row['weights'] == name
    ]
    for variant, group in itertools.groupby(trials, lambda r: r['variant']):
      own = list(group)
      lines.append(
        [
          name,
          variant,
          *_exponents(exponent),
          original['errors'],
          f'{100 * original["accuracy"]:.2f}',
          _mean_sd([100 * row['accuracy'] for row in own]),
          f'{100 * own[0]["replaced"]:.1f}',
        ]
      )
    if (original['dataset'], depth) in PUBLISHED:
      exponent, before, after, sd = PUBLISHED[original['dataset'], depth]
      lines.append(
        [
          f'published, another ResNet-{depth}',
          '',
          *_exponents(exponent),
          '',
          f'{before:.2f}',
          f'{after:.2f}+-{sd:.2f}',
          '',
        ]
      )
  headers = [
    *('weights', 'variant', 'density exponent', 'tail index', 'errors'),
    *('accuracy', 'compressed', 'replaced %'),
  ]
  return 'last layer compressed, accuracies in %\n' + records.table(
    headers, lines
  )


def layer_table(rows: list[Row]) -> str:
  """The power law of each file's final dense layer."""
  lines = [
    [
      row['weights'],
      row['layer'],
      'x'.join(map(str, row['shape'])),
      *_exponents(row['pdf_exponent'], row.get('tail_index_se')),
      _number(row.get('pdf_exponent_positive')),
      f'{row["num_tail"]}/{math.prod(row["shape"])}'
      if 'num_tail' in row
      else '',
      _number(row['stable_rank']),
      row.get('fault') or row['note'],
    ]
    for row in rows
    if row.get('final')
  ]
  headers = [
    *('weights', 'final layer', 'shape', 'density exponent', 'tail index'),
    *('exponent of w > 0', 'in the tail', 'stable rank', 'note'),
  ]
  return 'power law of |w| in the final layers\n' + records.table(
    headers, lines
  )


def layer_points(config: ConfigDict, rows: list[Row]) -> list[Row]:
  """The layers of Figure 3."""
  if config.points not in ('all', 'final'):
    raise ValueError(
      f"config.points must be 'all' or 'final', got {config.points!r}"
    )
  return [
    row
    for row in rows
    if row['study'] == 'layer'
    and row['pdf_exponent'] is not None
    and row['stable_rank'] is not None
    and (row['final'] or config.points == 'all')
  ]


def fit_points(
  config: ConfigDict, points: list[Row]
) -> line_mixture.LineMixture | None:
  """The mixture of lines with the smallest BIC, None for too few points."""
  x, y = _coordinates(points)
  if len(points) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
    return None
  return line_mixture.choose(
    jax.random.key(config.seed),
    x,
    y,
    config.max_lines,
    num_restarts=config.num_restarts,
  )


def mixture_text(
  points: list[Row], mixture: line_mixture.LineMixture | None
) -> str:
  """The lines of Figure 3 in words."""
  head = f'stable rank against density exponent, {len(points)} layers'
  if mixture is None:
    return f'{head}: too few for a line'
  x, y = _coordinates(points)
  lines = [
    [f'{w:.2f}', f'{slope:.3g}', f'{intercept:.3g}']
    for w, slope, intercept in zip(
      *(np.asarray(a) for a in mixture[:3]), strict=True
    )
  ]
  table = records.table(['share', 'slope', 'intercept'], lines)
  return (
    f'{head}: correlation {np.corrcoef(x, y)[0, 1]:.2f}, deviation '
    f'{float(mixture.deviation):.3g}\n{table}'
  )


def rank_figure(
  points: list[Row], mixture: line_mixture.LineMixture | None
) -> 'Figure':
  """Figure 3: stable ranks against density exponents, and the fitted lines."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(6.4, 4.4), layout='constrained')
  ax = figure.subplots()
  x, y = _coordinates(points)
  final = np.array([row['final'] for row in points])
  nearest = np.zeros(len(points), int)
  if mixture is not None:
    nearest = np.asarray(mixture.responsibilities.argmax(axis=1))
  colours = np.array(_COLOURS)[nearest % len(_COLOURS)]
  for chosen, marker, size, label in (
    (~final, 'o', 14, 'other layers'),
    (final, '*', 110, 'final dense layers'),
  ):
    if chosen.any():
      ax.scatter(
        x[chosen],
        y[chosen],
        s=size,
        c=colours[chosen],
        marker=marker,
        edgecolors='black' if marker == '*' else 'none',
        linewidths=0.6,
        label=label,
      )
  if mixture is not None:
    for j in np.unique(nearest):
      _draw_line(ax, mixture, j, x[nearest == j])
  ax.set_xlabel('density exponent of |w| (tail index + 1)')
  ax.set_ylabel('stable rank')
  ax.legend(fontsize='small')
  return figure


def _draw_line(
  ax: Any, mixture: line_mixture.LineMixture, j: int, own: np.ndarray
) -> None:
  weight, slope, intercept = (float(values[j]) for values in mixture[:3])
  ends = np.array([own.min(), own.max()])
  ax.plot(
    ends,
    intercept + slope * ends,
    color=_COLOURS[j % len(_COLOURS)],
    lw=1.5,
    label=f'slope {slope:.2g}, share {weight:.2f}',
  )


def density_figure(config: ConfigDict) -> 'Figure':
  """Figure 1: symmetric stable densities, and their tails."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(8.4, 3.4), layout='constrained')
  centre, tail = figure.subplots(1, 2)
  near, far = np.linspace(-5, 5, 401), np.geomspace(0.1, 100, 201)
  for alpha, colour in zip(
    config.density_alphas, itertools.cycle(_COLOURS), strict=False
  ):
    for ax, x in ((centre, near), (tail, far)):
      density = stable.pdf(jnp.asarray(x), alpha)
      ax.plot(x, density, color=colour, label=f'alpha {alpha:g}')
  centre.set_ylabel('density, scale 1')
  tail.set_xscale('log')
  tail.set_yscale('log')
  tail.set_ylim(1e-6, 1)
  for ax in (centre, tail):
    ax.set_xlabel('w')
  centre.legend(fontsize='small')
  return figure


def bracket_values(
  config: ConfigDict, alphas: np.ndarray, indices: np.ndarray
) -> dict[str, np.ndarray]:
  """P(at least c^(M - i) entries of a row in bracket i), in three ways.

  Args:
    config: with `base` c, `top` M and `row_length` N.
    alphas: [a], tail indices in [0.5, 2).
    indices: [i], in [0, M].

  Returns:
    Dictionary of arrays [i, a]: 'bound', (16); 'valid', whether its premise
    c^(M - i) > N p holds; 'binomial', the probability itself with p of (14);
    'exact', the same with the probability p of a stable entry instead of its
    limit (14).
  """
  c, top, n = config.base, config.top, config.row_length
  shape = (len(indices), len(alphas))
  values = {k: np.zeros(shape) for k in ('bound', 'binomial', 'exact')}
  values['valid'] = np.zeros(shape, bool)
  low, high = (
    stable.sf(
      jnp.asarray(c ** (indices + j))[:, None],
      jnp.asarray(alphas)[None, :],
      scale=c,
    )
    for j in (0, 1)
  )
  rates = np.asarray(low - high, float)
  for i, index in enumerate(indices):
    for a, alpha in enumerate(alphas):
      tail = gaussian_compression.bracket_tail(
        float(index), float(alpha), base=c, top=top, row_length=n
      )
      count = c ** (top - float(index))
      exact = gaussian_compression.nonzero_tail(
        count, num_entries=n, rate=float(rates[i, a])
      )
      values['valid'][i, a] = tail.valid
      values['bound'][i, a] = math.exp(tail.log_value)
      values['binomial'][i, a] = math.exp(tail.details['log_exact'])
      values['exact'][i, a] = math.exp(exact.details['log_exact'])
  return values


def bracket_table(config: ConfigDict, alpha: float = 1.75) -> str:
  """Figure 2 at one alpha and whole i."""
  indices = np.arange(config.top + 1)
  values = bracket_values(config, np.array([alpha]), indices)
  lines = [
    [
      i,
      f'{config.base ** (config.top - i):.2f}',
      f'{values["bound"][i, 0]:.3f}' + ('' if values['valid'][i, 0] else '*'),
      f'{values["binomial"][i, 0]:.3f}',
      f'{values["exact"][i, 0]:.3f}',
    ]
    for i in indices
  ]
  headers = ['i', 'c^(M - i)', 'bound (16)', 'binomial', 'and exact p']
  return (
    f'P(c^(M - i) entries of size c^i in a row), c = {config.base:g}, M = '
    f'{config.top}, N = {config.row_length}, alpha = {alpha:g}; * no bound: '
    f'c^(M - i) <= N p\n{records.table(headers, lines)}'
  )


def bracket_figure(config: ConfigDict) -> 'Figure':
  """Figure 2, hatched where (16) is no bound, beside what it bounds."""
  from matplotlib.figure import Figure

  alphas = np.linspace(0.5, 1.99, config.grid)
  indices = np.linspace(0, config.top, config.grid)
  values = bracket_values(config, alphas, indices)
  figure = Figure(figsize=(11.5, 3.6), layout='constrained')
  axes = figure.subplots(1, 3, sharey=True)
  titles = {
    'bound': 'bound (16); hatched: no bound',
    'binomial': 'exact binomial, p of (14)',
    'exact': 'exact binomial, exact p',
  }
  for ax, (name, title) in zip(axes, titles.items(), strict=True):
    # No contours: the binomial jumps wherever c^(M - i) is a whole number.
    drawn = ax.pcolormesh(alphas, indices, values[name], vmin=0, vmax=1)
    ax.set_title(title, fontsize='medium')
    ax.set_xlabel('alpha')
  invalid = ~values['valid']
  if invalid.any():
    axes[0].contourf(
      alphas,
      indices,
      invalid.astype(float),
      [0.5, 1.5],
      colors='none',
      hatches=['///'],
    )
  axes[0].set_ylabel('i')
  figure.colorbar(drawn, ax=axes, label='probability')
  return figure


def _coordinates(points: list[Row]) -> tuple[np.ndarray, np.ndarray]:
  x, y = (
    np.array([row[name] for row in points], float)
    for name in ('pdf_exponent', 'stable_rank')
  )
  return x, y


def _exponents(exponent: float | None, error: float | None = None) -> list[str]:
  """Density exponent and tail index; one less."""
  if exponent is None:
    return ['', '']
  spread = '' if error is None else f'+-{error:.2f}'
  return [f'{exponent:.2f}{spread}', f'{exponent - 1:.2f}{spread}']


def _number(value: float | None) -> str:
  return '' if value is None else f'{value:.2f}'


def _mean_sd(values: list[float]) -> str:
  x = np.asarray(values)
  sd = f'+-{x.std(ddof=1):.2f}' if len(x) > 1 else ''
  return f'{x.mean():.2f}{sd}'
