"""Randomised pruning by magnitude: what is kept, how far a layer moves."""

import math

import numpy as np

from htjax.bounds.arguments import as_numbers, number, positive, probability
from htjax.bounds.logarithms import exp, log
from htjax.bounds.magnitude_sketching.premises import (
  Shape,
  check_shape,
  constant_premise,
  gaussian_premise,
)
from htjax.bounds.result import VARIANTS, Bound, make_bound
from htjax.checks import check_choice
from htjax.types import ArrayLike


def kept_probability(strength: float) -> float:
  """Probability chi that a Gaussian entry off the diagonal is kept.

  chi = 1 - sqrt(d / (d + 2)).

  (In print this is called the probability of being pruned.)

  Args:
    strength: d > 0; a larger one prunes more.

  Returns:
    float in (0, 1]; it rounds to 1 for strengths below 1e-32.

  Raises:
    ValueError: if strength is not positive.

  Source: [SK], eqs. (9) to (11).
  """
  d = positive('strength', strength)
  # 1 - (1 + 2 / d)^(-1/2), without the cancellation at large d.
  return -math.expm1(-0.5 * math.log1p(2 / d))


def pruning_strength(kept: float) -> float:
  """Strength d at which the fraction chi is kept.

  2 (1 - chi)^2 / (1 - (1 - chi)^2), the inverse of `kept_probability`.

  Args:
    kept: chi in (0, 1).

  Returns:
    float > 0.

  Raises:
    ValueError: if `kept` is out of range.

  Source: the inverse of `kept_probability`.
  """
  chi = probability('kept', kept)
  return 2 * (1 - chi) ** 2 / (chi * (2 - chi))


def pruning_moment(order: float, *, variance: float, strength: float) -> float:
  """Moment E |A^ - A|^q of what pruning does to an entry off the diagonal.

  (d / (d + 2))^((q + 1) / 2) Psi^(q / 2) E |G|^q, G standard normal.

  Args:
    order: q in (-1, 10^6].
    variance: Psi > 0.
    strength: d > 0.

  Returns:
    float > 0.

  Raises:
    ValueError: for numbers out of range.

  Source: [SK], Lemma C.1 (orders 2 and 4).
  """
  q = number('order', order, -1, 1e6, open_low=True)
  d = positive('strength', strength)
  gaussian = (q / 2) * math.log(2) + math.lgamma((q + 1) / 2)
  gaussian -= 0.5 * math.log(math.pi)
  shrink = -(q + 1) / 2 * math.log1p(2 / d)
  spread = q / 2 * math.log(positive('variance', variance))
  return exp(gaussian + shrink + spread)


def latala_norm(
  second: ArrayLike, fourth: ArrayLike, *, constant: float = 1.0
) -> Bound:
  """Bound on E |A|_2 for independent entries of mean zero.

  C (max_i (sum_j E A_ij^2)^(1/2) + max_j (sum_i E A_ij^2)^(1/2) +
  (sum_ij E A_ij^4)^(1/4)). (In print the last sum is over one index.)

  Args:
    second: E A_ij^2 >= 0, [d_1, d_2].
    fourth: E A_ij^4 >= 0, [d_1, d_2].
    constant: C, universal and unknown.

  Returns:
    Bound with terms rows, columns and fourth.

  Raises:
    ValueError: for negative or non-finite moments, or different shapes.

  Source: [SK], Lemma C.3; [Latala2005], Theorem 2.
  """
  moments = [as_numbers('second', second), as_numbers('fourth', fourth)]
  for name, moment in zip(('second', 'fourth'), moments, strict=True):
    good = moment.ndim == 2 and moment.size and np.all(np.isfinite(moment))
    if not good or np.any(moment < 0) or moment.shape != moments[0].shape:
      raise ValueError(
        f'{name} must be a matrix of numbers >= 0, of one shape with the other '
        f'moments, got shape {moment.shape}'
      )
  front = math.log(positive('constant', constant))
  terms = {
    'rows': front + 0.5 * log(moments[0].sum(axis=1).max()),
    'columns': front + 0.5 * log(moments[0].sum(axis=0).max()),
    'fourth': front + 0.25 * log(moments[1].sum()),
  }
  return make_bound(terms, [constant_premise('C')])


def pruning_error(
  shape: Shape,
  *,
  variance: float,
  strength: float,
  multiplier: float = 1.0,
  constant: float = 1.0,
) -> Bound:
  """Spectral norm of what pruning removes from a layer.

  |A^ - A|_2 <= epsilon Gamma, by Markov with probability 1 - 1 / epsilon.

  Gamma = C (sqrt(Psi) (d/(d+2))^(3/4) (sqrt(d_1) + sqrt(d_2)) +
  (3 d_1 d_2)^(1/4) sqrt(Psi) (d/(d+2))^(5/8)).

  Args:
    shape: (d_1, d_2).
    variance: Psi > 0 of this layer's entries.
    strength: d > 0.
    multiplier: epsilon >= 1; at 1 it bounds the mean only.
    constant: C of `latala_norm`; with 1 the bound held by a factor of 1.4 to 2
      on all shapes and strengths that were tried, for Gaussian weights. Those
      of trained networks are not, and exceeded it up to six times.

  Returns:
    Bound with terms rows, columns and fourth.

  Raises:
    ValueError: for numbers out of range.

  Source: [SK], Lemma C.2.
  """
  rows, columns = check_shape('shape', shape)
  shrink = -math.log1p(2 / positive('strength', strength))
  scale = 0.5 * math.log(positive('variance', variance))
  times = number('multiplier', multiplier, 1, math.inf, open_high=True)
  front = scale + math.log(positive('constant', constant) * times)
  terms = {
    'rows': front + 0.75 * shrink + 0.5 * math.log(columns),
    'columns': front + 0.75 * shrink + 0.5 * math.log(rows),
    'fourth': front + 0.625 * shrink + 0.25 * math.log(3 * rows * columns),
  }
  premises = [constant_premise('C'), gaussian_premise()]
  return make_bound(terms, premises, failure=1 / times)


def expected_nonzeros(
  shape: Shape, *, kept: float, variant: str = 'corrected'
) -> float:
  """Expected number of kept entries, those on the diagonal always.

  Args:
    shape: (d_1, d_2).
    kept: chi in (0, 1).
    variant: 'corrected', chi (d_1 d_2 - min) + min with min = min(d_1, d_2), or
      'paper', chi d_1 d_2.

  Returns:
    float.

  Raises:
    ValueError: for numbers out of range.

  Source: [SK], Appendix F.
  """
  check_choice('variant', variant, VARIANTS)
  d1, d2 = check_shape('shape', shape)
  chi = probability('kept', kept)
  diagonal = min(d1, d2) if variant == 'corrected' else 0
  return chi * (d1 * d2 - diagonal) + diagonal
