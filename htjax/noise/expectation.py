"""Pruning ratios that noise of a given size brings about by itself.

A column of p weights and norm 1 that gets a noise vector of norm b in a random
direction has the squared norm 1 + b^2 + 2 b u, with u of variance 1/p. With the
scale r / sqrt(p) on every weight, b^2 is r^2 Q, where Q is

  Type I     Z^2, Z standard symmetric stable;
  Type III   2 A chi^2_p / p, A positive stable of index alpha/2;
  Type II    the mean of p independent Z_i^2, which for large p is t A with
             t = 2 p^(2/alpha - 1) (E |G|^alpha)^(2/alpha), G standard normal.

The sorted columns of a layer are put at the median ranks of this law.
"""

import functools
import math

import jax.numpy as jnp
import numpy as np

from htjax import stable
from htjax.checks import check_choice, check_count, check_range, checked

# Quantiles are found at these log-odds, and between them by interpolation.
_LOG_ODDS = np.linspace(-24.0, 24.0, 769)
# Equal shares of the direction's law, by which columns of one Q are spread.
_NUM_DIRECTIONS = 15
# Layers of a network share few laws; 6 kB each.
_CACHED = 64


@checked
def expected_pruning_ratio(
  alpha: float,
  relative: float,
  fan_in: int,
  num_units: int,
  *,
  kind: str = 'type1',
  tolerance: float = 0.1,
) -> float:
  """Median pruning ratio of a layer with noise of r, without any training.

  Of columns in random directions and of equal norm, to which noise of the scale
  of `htjax.noise.add_stable_noise(relative=r)` was added: the share of them
  that `tolerance` of the squared norm pays for. What a trained network has
  beyond it, training has brought about; without noise it is about `tolerance`.

  Args:
    alpha: tail index in (0, 2].
    relative: r >= 0.
    fan_in: p, weights of a column.
    num_units: n, columns of the layer.
    kind: 'type1', 'type2' or 'type3'.
    tolerance: share of the squared norm that may be lost, in [0, 1].

  Returns:
    A number in [0, 1]. Ratios of single networks scatter about it, the more
    the smaller alpha is; compared with the median of simulated layers it is
    off by at most 0.03 for alpha >= 1.75, p >= 20 and r <= 1.5.

  Raises:
    ValueError: a number out of its range, an unknown kind.

  Source: after [IC], section 5, the pruning ratio of the tables.

  Examples:
    >>> from htjax import noise
    >>> for r in (0.0, 0.1, 1.0):
    ...   print(round(noise.expected_pruning_ratio(1.75, r, 100, 500), 2))
    0.1
    0.11
    0.4
  """
  check_range('alpha', alpha, 0.0, 2.0, open_low=True)
  check_range('relative', relative, 0.0, np.inf, open_high=True)
  check_count('fan_in', fan_in)
  check_count('num_units', num_units)
  check_choice('kind', kind, stable.KINDS)
  check_range('tolerance', tolerance, 0.0, 1.0)
  norms = np.sort(
    _squared_norms(float(alpha), float(relative), fan_in, num_units, kind)
  )
  cost = np.cumsum(norms)
  return float(np.mean(cost <= tolerance * cost[-1]))


def _squared_norms(
  alpha: float, r: float, p: int, n: int, kind: str
) -> np.ndarray:
  """Squared norms that stand for those of n columns, in no order."""
  rank = np.arange(1, n + 1)
  log_odds = np.log((rank - 1 / 3) / (n + 2 / 3 - rank))
  added = r**2 * np.exp(np.interp(log_odds, _LOG_ODDS, _log_q(alpha, p, kind)))
  mean = 1 + added
  variance = 4 * added / p
  if kind != 'type1':
    variance = variance + 2 * added**2 / p
  from scipy import special

  z = special.ndtri((np.arange(_NUM_DIRECTIONS) + 0.5) / _NUM_DIRECTIONS)
  # A cube root of such a norm is nearly normal (Wilson & Hilferty, 1931).
  c = (variance / mean**2 / 9)[:, None]
  roots = 1 - c + np.sqrt(c) * z / np.std(z)
  return np.ravel(mean[:, None] * np.maximum(roots, 0.0) ** 3)


def _log_q(alpha: float, p: int, kind: str) -> np.ndarray:
  """log Q at the log-odds, without the fluctuations of chi^2_p / p."""
  if kind == 'type1':
    tail = 1 / (1 + np.exp(_LOG_ODDS))
    z = np.abs(np.asarray(stable.quantile(jnp.asarray(tail / 2), alpha)))
    return 2 * np.log(np.maximum(z, np.finfo(np.float32).tiny))
  factor = 2.0
  if kind == 'type2':
    moment = 2 ** (alpha / 2) * math.gamma((alpha + 1) / 2) / math.sqrt(math.pi)
    factor *= p ** (2 / alpha - 1) * moment ** (2 / alpha)
  return math.log(factor) + _log_positive(alpha / 2)


@functools.lru_cache(_CACHED)
def _log_positive(a: float) -> np.ndarray:
  """log of the quantiles of the positive stable law of index a <= 1.

  P(A <= x) is the mean of exp(-x^(-a/(1-a)) U(phi)) over phi in (0, pi), with
  U(phi) = (sin(a phi) / sin(phi))^(1/(1-a)) sin((1-a) phi) / sin(a phi).

  Source: [Kanter1975], theorem 4.1.
  """
  if a == 1:
    return np.zeros_like(_LOG_ODDS)
  node, weight = np.polynomial.legendre.leggauss(400)
  phi = (node + 1) * math.pi / 2
  sine, rest = np.log(np.sin(phi)), np.log(np.sin((1 - a) * phi))
  log_u = (a * np.log(np.sin(a * phi)) - sine) / (1 - a) + rest
  # Half of the law lies near U's; its tail is x^-a.
  log_x = np.linspace(-60 * (1 - a) - 3, 30 / a, 3000)
  with np.errstate(over='ignore'):
    exponent = np.exp(log_u - (a / (1 - a)) * log_x[:, None])
  below = np.exp(-exponent) @ weight / 2
  above = -np.expm1(-exponent) @ weight / 2
  inner = (below > 0) & (above > 0)
  log_odds = np.log(below[inner]) - np.log(above[inner])
  found = np.interp(_LOG_ODDS, log_odds, log_x[inner])
  found.flags.writeable = False
  return found
