"""Lottery tickets: subnetworks of a random network that imitate a target."""

import math

import numpy as np

from htjax.bounds.arguments import like, number, positive, probability
from htjax.bounds.logarithms import log
from htjax.bounds.magnitude_sketching.premises import constant_premise
from htjax.bounds.margins import empirical_margin_loss
from htjax.bounds.premises import fixed_code, fixed_margin
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.checks import check_count
from htjax.types import ArrayLike


def lottery_parameters(
  target_width: int, *, input_dimension: int, num_layers: int
) -> int:
  """Active weights d_0 n_M + L n_M^2 of the subnetwork that imitates a target.

  The order of magnitude, with constant 1. (In print the width D_G of the random
  network stands for n_M in one place.)

  Args:
    target_width: n_M, largest hidden width of the target.
    input_dimension: d_0.
    num_layers: L, depth of the target; the random network has 2 L.

  Returns:
    int.

  Raises:
    ValueError: for counts below 1.

  Source: [SK], Theorem F.1; [Malach2020], Theorem 2.1.
  """
  check_count('target_width', target_width)
  check_count('input_dimension', input_dimension)
  check_count('num_layers', num_layers)
  return target_width * (input_dimension + num_layers * target_width)


def lottery_risk(
  margins: ArrayLike,
  *,
  gamma: float,
  target_width: int,
  input_dimension: int,
  num_layers: int,
  random_width: int,
  num_values: int,
  delta: float,
  spectral: ArrayLike,
  largest_entries: ArrayLike,
  fan_in: ArrayLike,
  recovery_exponent: float = 2.0,
  constant: float = 1.0,
) -> Bound:
  """Risk of a subnetwork of a random network that imitates a target network.

  R_0(G~) <= R^_gamma(M) + C sqrt((n_M d_0 + L n_M^2) ln^2(D_G) ln(r) / n), the
  margin loss being that of the target M (in print its argument is lost).

  Args:
    margins: of the target on its n training examples, [n].
    gamma: epsilon + epsilon_rho > 0, the margin that imitation and rounding
      cost.
    target_width: n_M.
    input_dimension: d_0.
    num_layers: L of the target.
    random_width: D_G >= 2, width of the random network.
    num_values: r >= 2.
    delta: probability that no subnetwork imitates the target, in (0, 1).
    spectral: |A^i|_2 of the target, [L]; premise <= 1.
    largest_entries: max |A^i_kl| of the target, [L]; premise <= fan_in^(-1/2).
    fan_in: input dimensions of the target's layers, [L].
    recovery_exponent: c >= 0; a sketch is not recovered with probability at
      most p^-c.
    constant: C, of the O in print.

  Returns:
    Bound with terms empirical and complexity; it fails with probability delta +
    L D_G^-c.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: [SK], Theorem 6.1.
  """
  size = lottery_parameters(
    target_width, input_dimension=input_dimension, num_layers=num_layers
  )
  gamma = positive('gamma', gamma)
  empirical, n = empirical_margin_loss(margins, math.log(gamma))
  check_count('random_width', random_width, 2)
  check_count('num_values', num_values, 2)
  c = number('recovery_exponent', recovery_exponent, 0, math.inf)
  norms = like('spectral', spectral, num_layers)
  entries = like('largest_entries', largest_entries, num_layers)
  sides = like('fan_in', fan_in, num_layers, low=1.0)
  total = math.log(size) + 2 * math.log(math.log(random_width))
  total += math.log(math.log(num_values))
  front = math.log(positive('constant', constant))
  failure = probability('delta', delta) + num_layers * random_width**-c
  premises = [
    Assumption(
      'small target',
      bool(np.all(norms <= 1)),
      f'the largest spectral norm {norms.max():.4g} must be <= 1',
    ),
    Assumption(
      'flat target',
      bool(np.all(entries <= sides**-0.5)),
      'entries must be <= fan_in^(-1/2); the largest ratio is '
      f'{np.max(entries * np.sqrt(sides)):.4g}',
    ),
    Assumption('wide network', None, 'D_G is the polynomial of the theorem'),
    Assumption(
      'random weights',
      None,
      'those of the random network are independent, uniform on [-1, 1]',
    ),
    Assumption('recovery', None, 'one sketch serves the whole class'),
    constant_premise('C'),
    fixed_code(),
    fixed_margin(),
  ]
  return make_bound(
    {
      'empirical': log(empirical),
      'complexity': front + 0.5 * (total - math.log(n)),
    },
    premises,
    failure=failure,
    details={'log_count': total, 'parameters': float(size)},
  )
