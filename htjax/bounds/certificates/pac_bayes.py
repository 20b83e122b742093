"""The risk of a network whose weights are drawn anew for each example."""

import math

from htjax.bounds.arguments import number, probability
from htjax.bounds.certificates.inversions import check_errors, invert_kl
from htjax.bounds.logarithms import log
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.checks import check_count, checked


@checked
def gibbs_certificate(
  errors: int,
  draws: int,
  n: int,
  divergence_nats: float,
  delta: float,
  *,
  draws_delta: float | None = None,
  log_settings: float = 0.0,
) -> Bound:
  """A bound on the risk of random weights, from their mean error on a sample.

  Two inversions of kl: of the share of wrong draws, for the mean error r on the
  sample, kl(errors / draws || r) <= ln(1 / draws_delta) / draws; and
    n kl(r || R) <= divergence + ln(2 sqrt(n) / delta) + log_settings.

  Args:
    errors: wrong ones among the draws, in [0, draws].
    draws: each of them new weights on one example, all of them independent and
      every example the same number of times.
    n: examples, >= 8, independent and from the law of the risk.
    divergence_nats: relative entropy of the weights' law to one that does not
      depend on these examples, >= 0; see `shift_divergence`.
    delta: probability of failure over the sample, in (0, 1).
    draws_delta: over the draws, in (0, 1); None is delta / 5.
    log_settings: ln of the number of prior laws (scales, tails) among which
      this one was chosen, >= 0.

  Returns:
    Bound on the probability that a new example, with new weights, is classified
    wrongly, with terms empirical, draws and complexity; it fails with
    probability delta + draws_delta.

  Raises:
    ValueError: for numbers out of range.

  Source: [Maurer2004], Theorem 5; [Langford2005], section 6.

  Examples:
    >>> from htjax.bounds import certificates
    >>> certified = certificates.gibbs_certificate
    >>> f'{certified(2400, 300_000, 30_000, 12.0, 0.04).value:.4f}'
    '0.0124'
  """
  check_count('draws', draws)
  check_errors(errors, draws)
  check_count('n', n, 8)
  divergence = number('divergence_nats', divergence_nats, 0, math.inf)
  extra = number('log_settings', log_settings, 0, math.inf)
  delta = probability('delta', delta)
  if draws_delta is None:
    draws_delta = delta / 5
  draws_delta = probability('draws_delta', draws_delta)
  rate = errors / draws
  mean = invert_kl(rate, -math.log(draws_delta) / draws)
  nats = divergence + extra + math.log(2 * math.sqrt(n) / delta)
  value = invert_kl(mean, nats / n)
  premises = [
    Assumption('prior', None, 'the prior law does not depend on the sample'),
    Assumption('draws', None, 'every example has its own draws of the weights'),
    Assumption('sample', None, 'the examples are independent, of one law'),
  ]
  return make_bound(
    {
      'empirical': log(rate),
      'draws': log(mean - rate),
      'complexity': log(value - mean),
    },
    premises,
    failure=delta + draws_delta,
    details={'divergence_nats': divergence, 'num_samples': float(n)},
    value=value,
  )
