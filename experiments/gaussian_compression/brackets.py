"""Figure 2: many entries of one size in a row, the bound and the truth."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.common.figures import Figure, describe
from experiments.common.frames import Column, table
from htjax import plotting, stable
from htjax.bounds.gaussian_compression import bracket_tail, nonzero_tail


def bracket_values(
  config: ConfigDict, alphas: np.ndarray, indices: np.ndarray
) -> dict[str, np.ndarray]:
  """P(at least c^(M - i) entries of a row in bracket i), in three ways.

  Of tail indices [a] and i in [0, M], arrays [i, a]: 'bound', (16); 'valid',
  whether its premise c^(M - i) > N p holds; 'binomial', the probability itself
  with p of (14); 'exact', the same with the probability p of a stable entry
  instead of its limit (14). The config has c, M and N as `base`, `top`,
  `row_length`.
  """
  c, top, n = config.base, config.top, config.row_length
  x = jnp.asarray(c ** (indices[:, None] + np.arange(2))[..., None])
  above = np.asarray(stable.sf(x, jnp.asarray(alphas), scale=c), float)
  rates = above[:, 0] - above[:, 1]

  def at(i: float, alpha: float, rate: float) -> tuple[float, ...]:
    tail = bracket_tail(i, alpha, base=c, top=top, row_length=n)
    exact = nonzero_tail(c ** (top - i), num_entries=n, rate=rate)
    logs = tail.log_value, tail.details['log_exact'], exact.details['log_exact']
    return (*map(math.exp, logs), tail.valid)

  found = np.vectorize(at)(indices[:, None], alphas, rates)
  names = ('bound', 'binomial', 'exact', 'valid')
  return dict(zip(names, found, strict=True))


def bracket_table(config: ConfigDict, alpha: float = 1.75) -> str:
  """Figure 2 at one alpha and whole i."""
  indices = np.arange(config.top + 1)
  values = bracket_values(config, np.array([alpha]), indices)

  def bound(i):
    star = '' if values['valid'][i, 0] else '*'
    return f'{values["bound"][i, 0]:.3f}{star}'

  columns = (
    Column('i', int),
    Column('c^(M - i)', lambda i: config.base ** (config.top - i), '.2f'),
    Column('bound (16)', bound),
    Column('binomial', lambda i: values['binomial'][i, 0], '.3f'),
    Column('and exact p', lambda i: values['exact'][i, 0], '.3f'),
  )
  title = (
    f'P(c^(M - i) entries of size c^i in a row), c = {config.base:g}, M = '
    f'{config.top}, N = {config.row_length}, alpha = {alpha:g}; * no bound: '
    'c^(M - i) <= N p'
  )
  return table(title, columns, indices)


def bracket_figure(config: ConfigDict) -> Figure:
  """Figure 2, hatched where (16) is no bound, beside what it bounds."""
  alphas = np.linspace(0.5, 1.99, config.grid)
  indices = np.linspace(0, config.top, config.grid)
  values = bracket_values(config, alphas, indices)
  figure, axes = plotting.panels(3, size=(3.83, 3.6), sharey=True)
  titles = {
    'bound': 'bound (16); hatched: no bound',
    'binomial': 'exact binomial, p of (14)',
    'exact': 'exact binomial, exact p',
  }
  for ax, (name, title) in zip(axes, titles.items(), strict=True):
    ax.grid(visible=False)
    # No contours: the binomial jumps wherever c^(M - i) is a whole number.
    drawn = ax.pcolormesh(alphas, indices, values[name], vmin=0, vmax=1)
    describe(ax, title, xlabel='alpha')
  invalid = (values['valid'] == 0).astype(float)
  if invalid.any():
    style: dict[str, Any] = {'colors': 'none', 'hatches': ['///']}
    axes[0].contourf(alphas, indices, invalid, [0.5, 1.5], **style)
  axes[0].set_ylabel('i')
  figure.colorbar(drawn, ax=axes, label='probability')
  return figure
