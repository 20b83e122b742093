"""Figure 2: many entries of one size in a row, the bound and the truth."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.common.figures import Figure, describe
from experiments.common.frames import listing
from htjax import plotting
from htjax.bounds import gaussian_compression
from htjax.bounds.gaussian_compression import BracketTails, bracket_tails


def bracket_values(
  config: ConfigDict, alphas: np.ndarray, indices: np.ndarray
) -> BracketTails:
  """Of the figure's c, M and N, each array [i, a]."""
  return bracket_tails(
    indices[:, None],
    alphas,
    base=config.base,
    top=config.top,
    row_length=config.row_length,
  )


def as_computed(config: ConfigDict, alpha: float, index: float) -> float:
  """The value that the paper's program draws for (16).

  (N p / k)^k (1 - p / (1 - k / N))^(N - k), k = c^(M - i): not the text's
  ((1 - p) / (1 - k / N))^(N - k). NaN where the last base is negative.
  """
  n, k = config.row_length, config.base ** (config.top - index)
  p = gaussian_compression.bracket_rate(index, alpha, base=config.base)
  rest = 1 - p / (1 - k / n)
  return (n * p / k) ** k * rest ** (n - k) if rest >= 0 else float('nan')


def bracket_table(config: ConfigDict, alpha: float = 1.75) -> str:
  """Figure 2 at one alpha and whole i."""
  indices = np.arange(config.top + 1)
  values = bracket_values(config, np.array([alpha]), indices)

  bound, valid, binomial, exact = (array[:, 0] for array in values)
  starred = (
    f'{b:.3f}' if ok else f'{b:.3f}*'
    for b, ok in zip(bound, valid, strict=True)
  )
  title = (
    f'P(c^(M - i) entries of size c^i in a row), c = {config.base:g}, M = '
    f'{config.top}, N = {config.row_length}, alpha = {alpha:g}; * no bound: '
    'c^(M - i) <= N p'
  )
  spec = (
    'i; c^(M - i):.2f; bound (16); program:.3g; binomial:.3f; and exact p:.3f'
  )
  powers = config.base ** (config.top - indices)
  drawn = [as_computed(config, alpha, int(i)) for i in indices]
  lines = zip(indices, powers, starred, drawn, binomial, exact, strict=True)
  return listing(title, spec, lines)


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
    drawn = ax.pcolormesh(
      alphas, indices, getattr(values, name), vmin=0, vmax=1
    )
    describe(ax, title, xlabel='alpha')
  invalid = (values.valid == 0).astype(float)
  if invalid.any():
    style: dict[str, Any] = {'colors': 'none', 'hatches': ['///']}
    axes[0].contourf(alphas, indices, invalid, [0.5, 1.5], **style)
  axes[0].set_ylabel('i')
  figure.colorbar(drawn, ax=axes, label='probability')
  return figure
