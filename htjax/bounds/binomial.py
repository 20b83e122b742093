"""Binomial coefficients and exact binomial tails, in logarithms.

scipy.stats.binom.logsf is the logarithm of a number that underflows: it gives
-inf for P(Bin(60000, 0.01) >= 3000) = e^-2482.1, and certificates ask for
tails of e^-1000 and less.
"""

import math

import numpy as np

from htjax.bounds.arguments import number
from htjax.bounds.logarithms import log_sum
from htjax.checks import check_count


def log_coefficient(n: int, k: int) -> float:
  """Logarithm of the binomial coefficient n over k.

  Args:
    n: >= 0.
    k: in [0, n].

  Returns:
    float >= 0, a natural logarithm.

  Raises:
    ValueError: for counts out of range.
  """
  check_count('n', n, 0)
  check_count('k', k, 0)
  number('k', k, 0, n)
  return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def log_sf(k: int, n: int, p: float) -> float:
  """Logarithm of P(X >= k) for X binomial(n, p), exact, in O(n) time.

  Args:
    k: count, any integer.
    n: trials, >= 0.
    p: success probability in [0, 1].

  Returns:
    float <= 0, a natural logarithm; -inf where the probability is 0.

  Raises:
    ValueError: for another type of count, n < 0, or p out of range.
  """
  check_count('n', n, 0)
  check_count('k', k, -(2**63))
  p = number('p', p, 0, 1)
  if k <= 0:
    return 0.0
  if k > n or p == 0:
    return -math.inf
  if p == 1:
    return 0.0
  if k > n * p:
    return _log_upper_tail(k, n, p)
  # The other tail is the smaller one.
  lower = _log_upper_tail(n - k + 1, n, 1 - p)
  return math.log1p(-math.exp(lower))


def _log_upper_tail(k: int, n: int, p: float) -> float:
  """log P(X >= k): the first term, and the ratios of those that follow."""
  start = log_coefficient(n, k) + k * math.log(p) + (n - k) * math.log1p(-p)
  j = np.arange(k, n, dtype=np.float64)
  ratios = np.log((n - j) / (j + 1)) + (math.log(p) - math.log1p(-p))
  return min(start + log_sum(np.concatenate([[0.0], np.cumsum(ratios)])), 0.0)
