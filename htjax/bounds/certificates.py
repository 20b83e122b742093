"""Certificates: the risk of one network that can be sent in few bits.

A prefix-free code fixed before the data gives every network h a length bits(h),
and the failures delta 2^-bits(h) sum to at most delta (Kraft). So with
probability 1 - delta every network that can be encoded, trained and chosen in
whatever way, obeys the test-set bound for failure delta 2^-bits(h) with its
training error in place of a test error.
"""

import math
from collections.abc import Callable

import numpy as np

from htjax.bounds import binomial
from htjax.bounds.arguments import number, probability
from htjax.bounds.gaussian_compression.finite_class import finite_class
from htjax.bounds.logarithms import log
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.checks import check_choice, check_count

FORMS = ('binomial', 'kl', 'hoeffding')


def certificate(
  errors: int,
  n: int,
  bits: float,
  delta: float,
  *,
  log_settings: float = 0.0,
  form: str = 'binomial',
) -> Bound:
  """An upper bound on the risk of a network from its errors and its length.

  With ln(1/delta_h) = bits ln 2 + log_settings + ln(1/delta) and k errors:
    'binomial'   the largest p with P(Bin(n, p) <= k) >= delta_h;
    'kl'         the largest p with n kl(k/n || p) <= ln(1/delta_h);
    'hoeffding'  k/n + sqrt(ln(1/delta_h) / (2 n)).
  Each is at most the next, and they hold together: no price for choosing.

  Args:
    errors: k, training examples that the very network that was encoded gets
      wrong, in [0, n].
    n: training examples, independent and from the law of the risk.
    bits: length of its codeword, >= 0; see `codes.encode`.
    delta: probability of failure, in (0, 1).
    log_settings: ln of the number of codes among which this one was chosen
      after seeing the data (or of anything else that was searched and is not
      in the codeword), >= 0.
    form: 'binomial', 'kl' or 'hoeffding'.

  Returns:
    Bound on the probability that a new example is classified wrongly, with
    terms empirical and complexity; it fails with probability delta. The details
    have all three forms.

  Raises:
    ValueError: for numbers out of range or an unknown form.

  Source: [SK], Theorem E.1, for a class weighted by a prefix-free code
    (hoeffding); [Langford2005], Theorem 4.1 (binomial) and its relaxation (kl).
  """
  check_choice('form', form, FORMS)
  _check_errors(errors, n)
  bits = number('bits', bits, 0, math.inf, open_high=True)
  extra = number('log_settings', log_settings, 0, math.inf, open_high=True)
  log_count = bits * math.log(2) + extra
  log_failure = math.log(probability('delta', delta)) - log_count
  # Of the examples a margin is known by its sign alone.
  finite = finite_class(
    np.repeat([0.0, 1.0], [errors, n - errors]),
    gamma=0.0,
    log_count=log_count,
    delta=delta,
  )
  values = {
    'binomial': invert_binomial(errors, n, log_failure),
    'kl': invert_kl(errors / n, -log_failure / n),
    'hoeffding': finite.value,
  }
  empirical = errors / n
  premises = [
    Assumption('fixed code', None, 'the code was fixed before the data'),
    Assumption(
      'this network', None, 'the errors are those of the decoded network'
    ),
    Assumption('sample', None, 'the examples are independent, of one law'),
  ]
  return make_bound(
    {'empirical': log(empirical), 'complexity': log(values[form] - empirical)},
    premises,
    failure=delta,
    details=values | {'bits': bits, 'num_samples': float(n)},
  )


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
  _check_errors(errors, n)
  limit = number(
    'log_failure', log_failure, -math.inf, 0, open_low=True, open_high=True
  )
  if errors == n:
    return 1.0
  # P(Bin(n, p) <= k) = P(Bin(n, 1 - p) >= n - k).
  return _largest(lambda p: binomial.log_sf(n - errors, n, 1 - p) >= limit, 0.0)


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

  return _largest(within, rate)


def _largest(holds: Callable[[float], bool], low: float) -> float:
  """By bisection the upper end of where `holds` is true, between low and 1."""
  high = 1.0
  while low < (middle := (low + high) / 2) < high:
    if holds(middle):
      low = middle
    else:
      high = middle
  return high


def _check_errors(errors: int, n: int) -> None:
  check_count('n', n)
  number('n', n, 1, 2**40)  # terms of the tail are added one by one
  check_count('errors', errors, 0)
  number('errors', errors, 0, n)
