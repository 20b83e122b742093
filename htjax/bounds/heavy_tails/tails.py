"""Tails of single stable weights and of their norm, sharp and as proved."""

import math
from collections.abc import Sequence

import jax
import numpy as np

from htjax import stable
from htjax.bounds.arguments import (
  counts,
  like,
  number,
  positive,
  probability,
  vector,
)
from htjax.bounds.heavy_tails.stable_weights import normalized_scale
from htjax.bounds.logarithms import log
from htjax.bounds.result import VARIANTS, Assumption, Bound, make_bound
from htjax.checks import check_choice, check_range, checked
from htjax.types import ArrayLike

_HALVINGS = 80


@checked
def element_tail(
  level: float,
  *,
  alpha: float,
  scale: float = 1.0,
  variant: str = 'corrected',
) -> Bound:
  """Bound on P(|w| >= a) of one stable weight.

  With sigma = scale / sigma_alpha, see `normalized_scale`: (16 / 3)
  (2 sigma / a)^alpha, and in the form in which Lemma S5 uses it 4 (3 sigma /
  a)^alpha ('paper'), which is larger for alpha > 0.71. The tail itself is
  (2 / alpha) (sigma / a)^alpha for large a.

  Args:
    level: a > 0.
    alpha: tail index in (1, 2).
    scale: > 0, E exp(itX) = exp(-|scale t|^alpha).
    variant: 'corrected' or 'paper'.

  Returns:
    Bound, with the premise a >= 4 sigma / (2 - alpha); in the details the
    exact probability, 'log_exact'.

  Raises:
    ValueError: for numbers out of range.

  Source: [HT], Lemma S5 (its proof, for one element).

  Examples:
    >>> from htjax.bounds import heavy_tails
    >>> bound = heavy_tails.element_tail(100.0, alpha=1.5)
    >>> bound.valid, bound.log_value > bound.details['log_exact']
    (True, True)
  """
  check_choice('variant', variant, VARIANTS)
  level = positive('level', level)
  sigma = positive('scale', scale) / normalized_scale(alpha)
  front, times = (4.0, 3.0) if variant == 'paper' else (16 / 3, 2.0)
  value = math.log(front)
  value += alpha * (math.log(times * sigma) - math.log(level))
  least = 4 * sigma / (2 - alpha)
  premise = Assumption(
    'far level',
    level >= least,
    f'a = {level:.4g} must be >= 4 sigma / (2 - alpha) = {least:.4g}',
  )
  exact = log(_two_sided(level / scale, alpha))
  return make_bound({'tail': value}, [premise], details={'log_exact': exact})


@checked
def sharp_norm_quantile(
  delta: float,
  *,
  alphas: ArrayLike,
  scales: ArrayLike,
  layer_sizes: Sequence[int],
) -> float:
  """R(delta) of independent stable weights as one of them makes it.

  The R with 1 - prod_l P(|w_l| <= R)^(d_l) = delta: the quantile of the
  largest weight. That is never above R(delta) = inf {R: P(|w| >= R) <= delta},
  and tends to it as delta falls, for then one weight is the norm; of one alpha
  it is about scale (C d / delta)^(1 / alpha). `stable_norm_quantile` is a bound
  above, some hundred times as large.

  Args:
    delta: in (0, 1).
    alphas: alpha_l in [0.5, 2), [L] or one number.
    scales: [L] or one number, > 0; E exp(itX) = exp(-|scale t|^alpha).
    layer_sizes: d_l, [L].

  Returns:
    float > 0, a lower bound of R(delta).

  Raises:
    ValueError: for numbers out of range or different lengths.

  Source: [HT], eq. (7) and Lemma S5, sharpened.

  Examples:
    >>> from htjax.bounds import heavy_tails
    >>> law = {'alphas': 1.5, 'scales': 1.0, 'layer_sizes': [1000]}
    >>> sharp = heavy_tails.sharp_norm_quantile(0.01, **law)
    >>> proved = heavy_tails.stable_norm_quantile(0.01, **law)
    >>> 100 < proved.value / sharp < 1000
    True
  """
  delta = probability('delta', delta)
  sizes = vector('layer_sizes', counts('layer_sizes', layer_sizes))
  alphas = like('alphas', alphas, sizes.size)
  check_range('alphas', alphas, 0.5, 2, open_high=True)
  scales = like('scales', scales, sizes.size, open_low=True)
  wanted = -math.log1p(-delta)
  low, high = -200.0, 600.0
  for _ in range(_HALVINGS):
    middle = (low + high) / 2
    tails = [
      _two_sided(math.exp(middle - math.log(s)), a)
      for a, s in zip(alphas, scales, strict=True)
    ]
    # -ln of the probability that no weight is beyond.
    with np.errstate(divide='ignore'):
      cost = float(-np.sum(sizes * np.log1p(-np.array(tails))))
    low, high = (middle, high) if cost > wanted else (low, middle)
  return math.exp((low + high) / 2)


@checked
def log_factorial_bounds(
  a: float, *, half: bool = False
) -> tuple[float, float]:
  """Bounds on ln Gamma(a + 1), or ln Gamma(a + 1/2), by Robbins' formula.

  sqrt(2 pi a) a^a e^(-a) e^(r) with 1 / (12 a + 1) < r < 1 / (12 a); and
  sqrt(2 pi) a^a e^(-a) e^(s) with 1 / (24 a + 1) - 1 / (12 a) < s <
  1 / (24 a) - 1 / (12 a + 1).

  Args:
    a: a whole number >= 1.
    half: whether of Gamma(a + 1/2).

  Returns:
    (low, high), logarithms.

  Raises:
    ValueError: for a that is no whole number from 1 on.

  Source: [HT], eqs. (S50) and (S51).

  Examples:
    >>> import math
    >>> from htjax.bounds import heavy_tails
    >>> low, high = heavy_tails.log_factorial_bounds(5)
    >>> low < math.log(120) < high < low + 1e-3
    True
  """
  a = number('a', a, 1, 2.0**53)
  if a != round(a):
    raise ValueError(f'a must be a whole number, got {a}')
  common = 0.5 * math.log(2 * math.pi) + a * math.log(a) - a
  if half:
    low = 1 / (24 * a + 1) - 1 / (12 * a)
    return common + low, common + 1 / (24 * a) - 1 / (12 * a + 1)
  common += 0.5 * math.log(a)
  return common + 1 / (12 * a + 1), common + 1 / (12 * a)


def _two_sided(x: float, alpha: float) -> float:
  """P(|X| > x) at unit scale."""
  with jax.enable_x64(True):
    return 2 * float(stable.sf(np.float64(x), float(alpha)))
