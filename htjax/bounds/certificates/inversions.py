"""Rates that a count or a divergence still allows: inversions by bisection."""

import math
from collections.abc import Callable

from htjax.bounds import binomial
from htjax.bounds.arguments import number
from htjax.checks import check_count


def invert_binomial(errors: int, n: int, log_failure: float) -> float:
  """The largest p with P(Bin(n, p) <= errors) >= exp(log_failure).

  Args:
    errors: in [0, n].
    n: trials.
    log_failure: < 0 and finite; exp(log_failure) may underflow.

  Returns:
    p, rounded up by about 1e-15; 1 if errors = n. The logarithm of the
    probability is exact to about 1e-9, from the ratios of its terms.

  Raises:
    ValueError: for numbers out of range.

  Source: [Clopper1934].
  """
  check_errors(errors, n)
  limit = number(
    'log_failure', log_failure, -math.inf, 0, open_low=True, open_high=True
  )
  if errors == n:
    return 1.0
  # P(Bin(n, p) <= k) = P(Bin(n, 1 - p) >= n - k).
  return largest(lambda p: binomial.log_sf(n - errors, n, 1 - p) >= limit, 0.0)


def invert_kl(rate: float, divergence_nats: float) -> float:
  """The largest p with kl(rate || p) <= divergence_nats.

  kl(q || p) = q ln(q / p) + (1 - q) ln((1 - q) / (1 - p)).

  Args:
    rate: q in [0, 1].
    divergence_nats: >= 0.

  Returns:
    p >= rate, rounded up by about 1e-15.

  Raises:
    ValueError: for numbers out of range.

  Source: [Langford2005], Corollary 3.7.
  """
  rate = number('rate', rate, 0, 1)
  limit = number('divergence_nats', divergence_nats, 0, math.inf)
  if rate == 1:
    return 1.0

  def within(p: float) -> bool:
    if p == 1:
      return False
    divergence = (1 - rate) * (math.log1p(-rate) - math.log1p(-p))
    if rate > 0:
      divergence += rate * math.log(rate / p)
    return divergence <= limit

  return largest(within, rate)


def largest(holds: Callable[[float], bool], low: float) -> float:
  """By bisection the upper end of where `holds` is true, between low and 1."""
  high = 1.0
  while low < (middle := (low + high) / 2) < high:
    if holds(middle):
      low = middle
    else:
      high = middle
  return high


def check_errors(errors: int, n: int) -> None:
  """Raise unless n >= 1 and errors lies in [0, n]."""
  check_count('n', n)
  number('n', n, 1, 2**40)  # terms of the tail are added one by one
  check_count('errors', errors, 0)
  number('errors', errors, 0, n)
