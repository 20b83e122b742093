"""Error of the output of a network that was pruned and rounded."""

import math

import numpy as np

from htjax.bounds.arguments import like, number, positive, vector
from htjax.bounds.gaussian_compression.output_error import (
  spectral_output_change,
)
from htjax.bounds.magnitude_sketching.premises import (
  constant_premise,
  gaussian_premise,
)
from htjax.bounds.result import VARIANTS, Bound, make_bound
from htjax.checks import check_choice, check_count
from htjax.types import ArrayLike


def low_rank_gain(
  t: float,
  *,
  input_dimension: int,
  rank: int,
  num_inputs: int,
  a: float,
  b: float,
  variant: str = 'corrected',
) -> tuple[float, float]:
  """Gain kappa = sqrt(rank) t with |B x| <= kappa |B|_2 |x|, and its failure.

  For inputs with P(<x, v> >= t |x|) <= a e^(-b t^2 d_in) for every unit v. The
  printed failure |S| a e^(-b t^2 d_in) leaves out the union over the rank and
  the two signs.

  Args:
    t: > 0; useful only where sqrt(rank) t < 1.
    input_dimension: d_in.
    rank: of the matrix, at most d_in; without a smaller rank kappa is 1.
    num_inputs: |S|.
    a: > 0, of the condition.
    b: > 0, of the condition.
    variant: 'corrected' or 'paper'.

  Returns:
    (kappa, failure probability).

  Raises:
    ValueError: for numbers out of range.

  Source: [SK], Condition D.1 and Lemma D.1.
  """
  check_choice('variant', variant, VARIANTS)
  check_count('input_dimension', input_dimension)
  check_count('rank', rank)
  number('rank', rank, 0, input_dimension)
  check_count('num_inputs', num_inputs)
  t, a, b = positive('t', t), positive('a', a), positive('b', b)
  events = num_inputs * (1 if variant == 'paper' else 2 * rank)
  failure = events * a * math.exp(-b * t * t * input_dimension)
  return math.sqrt(rank) * t, failure


def pruned_output_error(
  spectral: ArrayLike,
  pruning: ArrayLike,
  *,
  input_norm: float,
  multipliers: ArrayLike | None,
  rounding: ArrayLike = 0.0,
  lipschitz: ArrayLike = 1.0,
  gains: ArrayLike = 1.0,
  gain_failure: float = 0.0,
) -> Bound:
  """Error |x~^L - x^L| of a network that was pruned and, if asked, rounded.

  e |x| (prod kappa_l L_l |A_l|) sum_l (epsilon_l Gamma_l + r_l) / |A_l|, where
  epsilon_l Gamma_l + r_l <= |A_l| / L is needed. With Markov's multipliers
  epsilon_l > L, as confidence requires, that leaves hardly anything pruned.

  Args:
    spectral: |A_l|_2 > 0, [L].
    pruning: Gamma_l >= 0, [L], values of `pruning_error` at multiplier 1; or
      measured norms |A^_l - A_l|_2, with `multipliers` None.
    input_norm: |x| > 0.
    multipliers: epsilon_l >= 1, [L] or one number; None if `pruning` was
      measured, so that nothing can fail.
    rounding: r_l >= 0, values of `rounding_error`, [L] or one number.
    lipschitz: L_l > 0, of the activation before layer l, [L] or one number.
    gains: kappa_l of `low_rank_gain`, [L] or one number.
    gain_failure: sum of the failures of `low_rank_gain`.

  Returns:
    Bound with one term and one premise per layer, and with multipliers those of
    `pruning_error`, Gaussian weights and Latala's constant, which the risk
    bounds take over; it fails with probability sum_l 1 / epsilon_l +
    gain_failure.

  Raises:
    ValueError: for numbers out of range or different lengths.

  Source: [SK], Lemmas 4.1, 4.2, C.5, D.3, D.4.
  """
  spectral = vector('spectral', spectral, open_low=True)
  depth = spectral.size
  changes = like('pruning', pruning, depth)
  failure = number('gain_failure', gain_failure, 0, math.inf)
  premises = []
  if multipliers is not None:
    # Those of Gamma_l, on which everything from here on rests.
    premises = [gaussian_premise(), constant_premise('C of Latala')]
    times = like('multipliers', multipliers, depth, low=1.0)
    changes = times * changes
    failure += float(np.sum(1 / times))
  changes = changes + like('rounding', rounding, depth)
  bound = spectral_output_change(
    spectral,
    changes,
    input_norm=input_norm,
    lipschitz=lipschitz,
    gains=gains,
  )
  return make_bound(
    bound.terms, [*bound.assumptions, *premises], failure=failure
  )
