"""Movement of an output when weights move: Lemmas S1 and S3."""

import math

import numpy as np

from htjax.bounds.arguments import like, number, positive, vector
from htjax.bounds.logarithms import log, log_product
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.checks import check_count
from htjax.types import ArrayLike


def output_change(
  norms: ArrayLike, changes: ArrayLike, *, input_norm: float
) -> Bound:
  """Change of the output when each layer moves by at most `changes`.

  |f_w - f_w'| <= B prod_l (n_l + u_l) - B prod_l n_l, for Frobenius norms, and
  sharper for spectral ones; u_l = epsilon_l n_l for a relative change.

  Args:
    norms: n_l >= 0, norms of the layers, [L].
    changes: u_l >= 0, norms of what is added to each, [L] or one number.
    input_norm: B >= 0.

  Returns:
    Bound, deterministic: B ((prod (n_l + u_l)) - prod n_l).

  Raises:
    ValueError: for negative or non-finite numbers or different lengths.

  Source: [HT], Lemmas S1 (S3) and S3 (i).
  """
  norms = vector('norms', norms)
  changes = like('changes', changes, norms.size)
  size = number('input_norm', input_norm, 0, math.inf, open_high=True)
  if np.all(norms > 0):
    growth = float(np.sum(np.log1p(changes / norms)))
    # log(e^g - 1), whatever the size of g.
    gain = growth + log(-math.expm1(-growth))
    change = log_product(norms) + gain
  else:
    change = log_product(norms + changes)
  return make_bound({'change': log(size) + change})


def radius_output_change(
  radius: float, *, num_layers: int, change: float, input_norm: float
) -> Bound:
  """Movement of the output for |w| <= R, layers moving by at most `change`.

  |f_w - f_w'| <= B L (2R / sqrt(L))^(L-1) u for u <= R / sqrt(L).

  Args:
    radius: R > 0, bound on the norm of all weights.
    num_layers: L >= 1.
    change: u >= 0.
    input_norm: B > 0.

  Returns:
    Bound, deterministic, with the premise on u.

  Raises:
    ValueError: for numbers out of range.

  Source: [HT], Lemma S3 (ii).
  """
  radius = positive('radius', radius)
  check_count('num_layers', num_layers)
  change = number('change', change, 0, math.inf, open_high=True)
  limit = radius / math.sqrt(num_layers)
  slope = log_slope(radius, num_layers, positive('input_norm', input_norm))
  premise = Assumption(
    'small change',
    change <= limit,
    f'change = {change:.4g} must be <= R / sqrt(L) = {limit:.4g}',
  )
  return make_bound({'change': slope + log(change)}, [premise])


def relative_output_change(
  radius: float, *, num_layers: int, epsilon: float, input_norm: float
) -> Bound:
  """Change of the output when each layer moves by a fraction epsilon of it.

  B ((1 + epsilon)^L - 1) (R / sqrt(L))^L, for |w| <= R.

  Args:
    radius: R > 0.
    num_layers: L >= 1.
    epsilon: relative change of every layer, >= 0.
    input_norm: B > 0.

  Returns:
    Bound, deterministic.

  Raises:
    ValueError: for numbers out of range.

  Source: [HT], Lemma S1, eq. (S4).
  """
  radius = positive('radius', radius)
  check_count('num_layers', num_layers)
  # The product of norms is largest when all are equal, so this covers all w.
  norms = np.full(num_layers, radius / math.sqrt(num_layers))
  epsilon = number('epsilon', epsilon, 0, math.inf, open_high=True)
  return output_change(norms, epsilon * norms, input_norm=input_norm)


def log_slope(radius: float, num_layers: int, input_norm: float) -> float:
  """ln(B L (2R / sqrt(L))^(L-1))."""
  single = math.log(2 * radius) - 0.5 * math.log(num_layers)
  return math.log(input_norm * num_layers) + (num_layers - 1) * single
