"""The risk of one network that can be sent in few bits.

A prefix-free code fixed before the data gives every network h a length bits(h),
and the failures delta 2^-bits(h) sum to at most delta (Kraft). So with
probability 1 - delta every network that can be encoded, trained and chosen in
whatever way, obeys the test-set bound for failure delta 2^-bits(h) with its
training error in place of a test error.
"""

import math

import numpy as np

from htjax.bounds.arguments import number, probability
from htjax.bounds.certificates.inversions import (
  check_errors,
  invert_binomial,
  invert_kl,
)
from htjax.bounds.gaussian_compression.finite_class import finite_class
from htjax.bounds.logarithms import log
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.checks import check_choice

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
  check_errors(errors, n)
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
