"""Layers counted directly, by positions and values: appendix E."""

import math
from collections.abc import Sequence

from htjax.bounds import binomial
from htjax.bounds.arguments import counts, number, positive, probability
from htjax.bounds.gaussian_compression.finite_class import (
  code_length_nats,
  finite_class,
)
from htjax.bounds.logarithms import exp, log
from htjax.bounds.magnitude_sketching.premises import (
  Shape,
  check_error,
  check_shapes,
  check_values,
  margin_premise,
)
from htjax.bounds.result import VARIANTS, Bound, make_bound
from htjax.checks import check_choice, check_count
from htjax.types import ArrayLike


def naive_risk(
  margins: ArrayLike,
  *,
  gamma: float,
  output_error: Bound,
  nonzeros: Sequence[int],
  shapes: Sequence[Shape],
  num_values: int | Sequence[int],
  delta: float,
  variant: str = 'corrected',
) -> Bound:
  """Risk of the pruned network, positions and values counted directly.

  ln J = sum_l (ln C(d_1 d_2, a_l) + a_l ln r_l). corrected: `finite_class` with
  it. paper: sqrt(ln J / n), the O with constant 1 and no delta.

  Args:
    margins: of the network before pruning on its n examples, [n].
    gamma: > 0.
    output_error: of `pruned_output_error` at the largest input; premise gamma
      >= sqrt(2) times it ('paper': without the sqrt(2)).
    nonzeros: a_l, entries that are left, [L].
    shapes: (d_1, d_2) of the layers, [L].
    num_values: r_l >= 2.
    delta: in (0, 1).
    variant: 'corrected' or 'paper'.

  Returns:
    Bound with terms empirical and complexity.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: [SK], Lemma E.1 and Theorem E.1.
  """
  check_choice('variant', variant, VARIANTS)
  check_error(output_error)
  pairs = check_shapes(shapes)
  values = check_values(num_values, len(pairs))
  nonzeros = counts('nonzeros', nonzeros, least=0)
  length = code_length_nats(nonzeros, [a * b for a, b in pairs], values)
  bound = finite_class(
    margins, gamma=positive('gamma', gamma), log_count=length, delta=delta
  )
  terms, failure = bound.terms, bound.failure + output_error.failure
  if variant == 'paper':
    n = bound.details['num_samples']
    terms = terms | {'complexity': 0.5 * (log(length) - math.log(n))}
  premises = [
    *(a for a in output_error.assumptions if a.name != 'confidence'),
    margin_premise(gamma, output_error, variant),
    *(a for a in bound.assumptions if a.name.startswith('fixed')),
  ]
  return make_bound(terms, premises, failure=failure, details=bound.details)


def prunable_tail(
  count: int,
  *,
  num_entries: int,
  strength: float,
  level: float,
  variant: str = 'corrected',
) -> float:
  """Probability that at least tau entries are pruned with probability kappa.

  Each has one with probability erf(sqrt(-d ln(kappa) / 2)), for Gaussian
  entries. The printed formula is P(more than tau).

  Args:
    count: tau in [0, num_entries].
    num_entries: d_1 d_2.
    strength: d > 0.
    level: kappa in (0, 1).
    variant: 'corrected' or 'paper'.

  Returns:
    float in [0, 1].

  Raises:
    ValueError: for numbers out of range.

  Source: [SK], Lemma E.2.
  """
  kappa = probability('level', level)
  d = positive('strength', strength)
  rate = math.erf(math.sqrt(-d * math.log(kappa) / 2))
  check_count('num_entries', num_entries)
  return _at_least(count, num_entries, rate, variant)


def pruned_tail(
  count: int, *, num_prunable: int, level: float, variant: str = 'corrected'
) -> float:
  """Probability that at least alpha entries are pruned, if tau may be.

  Args:
    count: alpha in [0, num_prunable], here the number of pruned entries.
    num_prunable: tau, entries pruned with probability at least kappa.
    level: kappa in (0, 1).
    variant: 'corrected', or 'paper', which is P(more than alpha).

  Returns:
    float in [0, 1].

  Raises:
    ValueError: for numbers out of range.

  Source: [SK], Lemma E.3.
  """
  check_count('num_prunable', num_prunable)
  return _at_least(count, num_prunable, probability('level', level), variant)


def _at_least(count: int, trials: int, rate: float, variant: str) -> float:
  check_choice('variant', variant, VARIANTS)
  check_count('count', count, 0)
  number('count', count, 0, trials)
  return exp(binomial.log_sf(count + (variant == 'paper'), trials, rate))
