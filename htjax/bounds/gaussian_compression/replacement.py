"""Small entries replaced by noise: what that changes, and what it may."""

import math

from htjax.bounds.arguments import number, positive, probability
from htjax.bounds.result import VARIANTS, Assumption, Bound, make_bound
from htjax.checks import check_choice, check_count

P1_VARIANTS = (*VARIANTS, 'centred', 'centred_positive')


BUDGET_VARIANTS = (*VARIANTS, 'paper_appendix')


def bilinear_tail(
  epsilon: float,
  *,
  threshold: float,
  noise_variance: float,
  variant: str = 'corrected',
) -> Bound:
  """Bound on the probability that replacing small entries changes u^T A v.

  P(|u^T (A - sqrt(t) G) v| > epsilon |u| |v|), A the entries up to tau.

  corrected: 2 exp(-epsilon^2 / (2 (tau^2 + t))), for entries symmetric about 0.
  centred: the same for any law on [-tau, tau], once the mean is subtracted.
  centred_positive: with tau^2 / 4, for entries in [0, tau].
  paper: 3 exp(-epsilon^2 / (2 (tau^2 + t))), claimed of positive entries too,
  for which u^T A v grows with the size of the matrix.

  Args:
    epsilon: > 0.
    threshold: tau > 0.
    noise_variance: t >= 0.
    variant: 'corrected', 'centred', 'centred_positive' or 'paper'.

  Returns:
    Bound on a probability, not clipped at 1.

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], Propositions 1.1 and 2.1.
  """
  check_choice('variant', variant, P1_VARIANTS)
  tau, t = positive('threshold', threshold), noise_variance
  t = number('noise_variance', t, 0, math.inf, open_high=True)
  proxy = tau * tau * (0.25 if variant == 'centred_positive' else 1.0) + t
  error = positive('epsilon', epsilon)
  exponent = -error * error / (2 * proxy)
  front = 3 if variant == 'paper' else 2
  meaning = {
    'corrected': 'the law of the entries is symmetric about 0',
    'centred': 'the mean matrix has been subtracted',
    'centred_positive': 'entries were >= 0, and the mean matrix was subtracted',
    'paper': 'as printed, any power law; false unless it has mean 0',
  }
  premises = [
    Assumption('independent entries', None, 'entries are independent'),
    Assumption('mean zero', None, meaning[variant]),
  ]
  return make_bound({'tail': math.log(front) + exponent}, premises)


def noise_budget(
  epsilon: float, eta: float, *, variant: str = 'corrected'
) -> float:
  """Budget tau^2 + t that keeps the probability of `bilinear_tail` at eta.

  corrected: epsilon^2 / (2 ln(2 / eta)). paper: epsilon^2 / ln(3 / eta), twice
  what the printed inequality allows; paper_appendix: twice that again.

  Args:
    epsilon: > 0.
    eta: in (0, 1).
    variant: 'corrected', 'paper' or 'paper_appendix'.

  Returns:
    float > 0.

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], Proposition 1.1, Algorithm 1 and Appendix A.
  """
  check_choice('variant', variant, BUDGET_VARIANTS)
  error = positive('epsilon', epsilon)
  square = error * error
  eta = probability('eta', eta)
  if variant == 'corrected':
    return square / (2 * math.log(2 / eta))
  return square * (1 if variant == 'paper' else 2) / math.log(3 / eta)


def layer_error(
  *,
  threshold: float,
  noise_variance: float,
  delta: float,
  num_pairs: int,
  num_rows: int,
) -> float:
  """Error epsilon of a layer whose small entries are replaced.

  |U (W - W(t)) x| <= epsilon |U|_F |x| for all pairs (U, x).

  Args:
    threshold: tau > 0.
    noise_variance: t >= 0.
    delta: failure probability, in (0, 1).
    num_pairs: m, pairs of a matrix U and a vector x, fixed beforehand.
    num_rows: n, rows of U.

  Returns:
    float: sqrt(2 (tau^2 + t) ln(2 m n / delta)).

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], Lemma 2.1.
  """
  check_count('num_pairs', num_pairs)
  check_count('num_rows', num_rows)
  t = number('noise_variance', noise_variance, 0, math.inf, open_high=True)
  tau = positive('threshold', threshold)
  proxy = tau * tau + t
  events = num_pairs * num_rows / probability('delta', delta)
  return math.sqrt(2 * proxy * math.log(2 * events))
