"""Convolutional networks after whole filters have gone: appendix H."""

import math
from collections.abc import Sequence

import numpy as np

from htjax.bounds.arguments import counts, number, positive
from htjax.bounds.logarithms import log
from htjax.bounds.magnitude_sketching.premises import (
  check_values,
  constant_premise,
  gaussian_premise,
)
from htjax.bounds.margins import empirical_margin_loss
from htjax.bounds.premises import fixed_code, fixed_margin
from htjax.bounds.result import VARIANTS, Assumption, Bound, make_bound
from htjax.checks import check_choice, check_count, checked
from htjax.types import ArrayLike


def filter_risk(
  margins: ArrayLike,
  *,
  gamma: float,
  channels: Sequence[int],
  sides: Sequence[int],
  exponent: float,
  num_values: int | Sequence[int],
  lipschitz: float = 1.0,
  beta_1: float = 1.0,
  beta_2: float | None = None,
  constant: float = 1.0,
  variant: str = 'corrected',
) -> Bound:
  """Risk of a convolutional network after d_k^alpha filters of each layer go.

  corrected, as in the proof: C sqrt(sum_k p_k^4 d_{k-1} (d_k - d_k^alpha)
  ln^2(p_k^2 d_k) ln(r_k) / n), for gamma at least sqrt(2) times the change of
  the output. paper: p_k^2 d_{k-1} d_k^alpha, and no sqrt(2).

  Args:
    margins: of the network on its n training examples, [n].
    gamma: > 0.
    channels: d_0, d_1, .., d_K.
    sides: p_0, p_1, .., p_K, spatial sides of the maps, >= 1.
    exponent: alpha in [0, 1); d_k^alpha filters are removed.
    num_values: r_k >= 2, one number or [K].
    lipschitz: of the activations, > 0.
    beta_1: of the premise on gamma.
    beta_2: of the premise on gamma; None is alpha / 4.
    constant: C, of the O in print.
    variant: 'corrected' or 'paper'.

  Returns:
    Bound with terms empirical and complexity.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: [SK], Theorem H.1; its premise is that of [Qian2021].
  """
  check_choice('variant', variant, VARIANTS)
  gamma = positive('gamma', gamma)
  empirical, n = empirical_margin_loss(margins, math.log(gamma))
  channels, sides = counts('channels', channels), counts('sides', sides)
  for name, found in (('channels', channels), ('sides', sides)):
    if len(found) != len(channels) or len(found) < 3:
      raise ValueError(
        f'{name} must have K + 1 entries for K >= 2 layers, got {len(found)}'
      )
  depth = len(channels) - 1
  alpha = number('exponent', exponent, 0, 1, open_high=True)
  d, p = np.asarray(channels, float), np.asarray(sides, float)
  removed = d[1:] ** alpha
  factor = p[1:] ** 4 * (d[1:] - removed)
  if variant == 'paper':
    factor = p[1:] ** 2 * removed
  factor = factor * d[:-1] * np.log(p[1:] ** 2 * d[1:]) ** 2
  values = np.array(check_values(num_values, depth), float)
  total = float(np.dot(factor, np.log(values)))
  b1 = positive('beta_1', beta_1)
  b2 = alpha / 4 if beta_2 is None else number('beta_2', beta_2, 0, math.inf)
  side, widest = p[1:].max() ** -b1, d[1:].max() ** -b2
  change = side * (side + widest) ** (depth - 2) - side ** (depth - 1)
  needed = side * positive('lipschitz', lipschitz) ** (depth - 1) * p[0]
  needed *= math.sqrt(depth) * change
  if variant == 'corrected':
    needed *= math.sqrt(2)
  premises = [
    Assumption(
      'margin',
      bool(gamma >= needed),
      f'gamma = {gamma:.4g} must be >= {needed:.4g}',
    ),
    Assumption('probability', None, 'the source gives none; failure is left 0'),
    gaussian_premise(),
    Assumption('recovery', None, 'one sketch serves the whole class'),
    constant_premise('C'),
    fixed_code(),
    fixed_margin(),
  ]
  front = math.log(positive('constant', constant))
  return make_bound(
    {
      'empirical': log(empirical),
      'complexity': front + 0.5 * (log(total) - math.log(n)),
    },
    premises,
    details={'log_count': log(total)},
  )


@checked
def filter_sketch_dimension(
  *, in_channels: int, out_channels: int, side: int, exponent: float
) -> float:
  """Side m = p^2 sqrt((d_k - d_k^alpha) d_(k-1)) ln(p^2 d_k) of a sketch.

  Of a convolution as the matrix [p^2 d_k, p^2 d_(k-1)], p the side of its maps,
  after d_k^alpha of its d_k filters are gone. The sketch has m^2 entries, no
  fewer than those p^4 d_(k-1) (d_k - d_k^alpha) that are left.

  Args:
    in_channels: d_(k-1) >= 1.
    out_channels: d_k >= 1.
    side: p >= 1.
    exponent: alpha in [0, 1).

  Returns:
    float >= 0.

  Raises:
    ValueError: for numbers out of range.

  Source: [SK], Theorem H.1 (size of the sketch).

  Examples:
    >>> from htjax.bounds import magnitude_sketching
    >>> size = magnitude_sketching.filter_sketch_dimension(
    ...   in_channels=16, out_channels=32, side=8, exponent=0.5
    ... )
    >>> round(size)
    10018
  """
  for name, count in (
    ('in_channels', in_channels),
    ('out_channels', out_channels),
    ('side', side),
  ):
    check_count(name, count)
  alpha = number('exponent', exponent, 0, 1, open_high=True)
  left = max(0.0, out_channels - out_channels**alpha)
  return (
    side**2
    * math.sqrt(left)
    * math.sqrt(in_channels)
    * (2 * math.log(side) + math.log(out_channels))
  )
