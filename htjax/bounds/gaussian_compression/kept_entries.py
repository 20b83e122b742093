"""Number and size of the entries that are large enough to be kept."""

import math

import numpy as np

from htjax.bounds import binomial
from htjax.bounds.arguments import number, positive, probability, vector
from htjax.bounds.logarithms import power
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.checks import check_choice, check_count
from htjax.types import ArrayLike

MOMENT_VARIANTS = ('corrected', 'symmetric', 'paper')


def heavy_fraction(alpha: float, threshold_ratio: float) -> float:
  """Fraction of entries above a threshold, for a power law.

  P(|W| > tau) = (w_m / tau)^alpha on [w_m, infinity).

  It falls with alpha at a fixed threshold, while the kept fraction at a fixed
  relative error rises with alpha: which of the two is meant decides whether
  heavy tails help.

  Args:
    alpha: tail index > 0.
    threshold_ratio: tau / w_m >= 1.

  Returns:
    float in (0, 1].

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], eq. (5).
  """
  ratio = number(
    'threshold_ratio', threshold_ratio, 1, math.inf, open_high=True
  )
  return ratio ** -positive('alpha', alpha)


def nonzero_tail(count: float, *, num_entries: int, rate: float) -> Bound:
  """Bound exp(-n D(k / n || p)) on P(at least k of n entries are kept).

  With n the entries of a matrix this is eq. (6), of a row eq. (11). It is a
  bound for k > n p only; `log_exact` in the details is the binomial
  probability itself, which is smaller and needs no premise.

  Args:
    count: k in (0, n], real.
    num_entries: n >= 1.
    rate: p in (0, 1), probability that one entry is kept.

  Returns:
    Bound on a probability, with the premise k > n p.

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], Proposition 1.2, eqs. (6), (11), (39), (48).
  """
  check_count('num_entries', num_entries)
  k = number('count', count, 0, num_entries, open_low=True)
  n, p = num_entries, probability('rate', rate)
  exponent = k * math.log(n * p / k)
  if k < n:
    exponent += (n - k) * (math.log1p(-p) - math.log1p(-k / n))
  premise = Assumption(
    'more than the mean', k > n * p, f'k = {k:.6g} must be > n p = {n * p:.6g}'
  )
  exact = binomial.log_sf(math.ceil(k), n, p)
  return make_bound({'tail': exponent}, [premise], details={'log_exact': exact})


def heavy_second_moment(
  x: ArrayLike,
  *,
  alpha: float,
  minimum: float,
  threshold: float,
  variant: str = 'corrected',
) -> float:
  """Second moment E (B x)_i^2 for B the power-law entries above tau.

  Infinite for alpha <= 2.

  corrected: E_2 |x|^2 + E_1^2 ((sum x)^2 - |x|^2) for positive entries, with
  E_q = alpha w_m^alpha tau^(q - alpha) / (alpha - q). symmetric: E_2 |x|^2.
  paper: E_2 |x|^2 for positive entries, without the cross terms.

  Args:
    x: [N_2].
    alpha: tail index > 0.
    minimum: w_m > 0.
    threshold: tau >= w_m.
    variant: 'corrected', 'symmetric' or 'paper'.

  Returns:
    float.

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], eq. (10).
  """
  check_choice('variant', variant, MOMENT_VARIANTS)
  x = vector('x', x, -math.inf)
  alpha, low = positive('alpha', alpha), positive('minimum', minimum)
  tau = number('threshold', threshold, low, math.inf, open_high=True)
  square = float(np.sum(x**2))
  if alpha <= 2:
    return math.inf if square > 0 else 0.0
  first, second = (
    alpha * power(tau, q) * (low / tau) ** alpha / (alpha - q) for q in (1, 2)
  )
  cross = float(np.sum(x)) ** 2 - square
  return second * square + (variant == 'corrected') * first**2 * cross


def stable_density_tail(w: float, alpha: float, *, scale: float = 1.0) -> float:
  """Power law to which the density of a stable law tends.

  alpha c^alpha c_alpha w^-(alpha + 1).

  c_alpha = sin(pi alpha / 2) Gamma(alpha) / pi; one side, symmetric law.

  Args:
    w: > 0, large beside the scale.
    alpha: in (0, 2).
    scale: c > 0, E exp(itX) = exp(-|c t|^alpha).

  Returns:
    float > 0.

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], eq. (12).
  """
  alpha = number('alpha', alpha, 0, 2, open_low=True, open_high=True)
  w, scale = positive('w', w), positive('scale', scale)
  return alpha * _tail_constant(alpha) * power(scale / w, alpha) / w


def bracket_rate(index: float, alpha: float, *, base: float) -> float:
  """Probability that a stable entry has the size c^i of a bracket.

  P(c^i < W < c^(i + 1)) = c_alpha c^(-alpha (i - 1)) (1 - c^-alpha).

  For a symmetric stable W of scale c, one side, in the limit of large c^i. At
  the values of the paper's figure, c^i <= 3.7, the limit is not reached.

  Args:
    index: i >= 0.
    alpha: in (0, 2).
    base: c > 1.

  Returns:
    float > 0, which may exceed 1 outside the limit.

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], eqs. (13)-(14).
  """
  alpha = number('alpha', alpha, 0, 2, open_low=True, open_high=True)
  index = number('index', index, 0, math.inf, open_high=True)
  c = number('base', base, 1, math.inf, open_low=True, open_high=True)
  size = power(c, -alpha * (index - 1))
  return _tail_constant(alpha) * size * -math.expm1(-alpha * math.log(c))


def bracket_tail(
  index: float, alpha: float, *, base: float, top: float, row_length: int
) -> Bound:
  """Bound on P(c^(M - i) entries of size c^i in a row), by `nonzero_tail`.

  Args:
    index: i in [0, M].
    alpha: in (0, 2).
    base: c > 1.
    top: M >= 0.
    row_length: N.

  Returns:
    Bound; for small c the premise c^(M - i) > N p fails for most i, and the
    number is then no bound on anything.

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], eqs. (15)-(16).
  """
  top = number('top', top, 0, math.inf, open_high=True)
  index = number('index', index, 0, top)
  rate = bracket_rate(index, alpha, base=base)
  check_count('row_length', row_length)
  count = power(float(base), top - index)
  return nonzero_tail(count, num_entries=row_length, rate=rate)


def _tail_constant(alpha: float) -> float:
  return math.sin(math.pi * alpha / 2) * math.gamma(alpha) / math.pi
