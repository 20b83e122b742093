"""Kept entries rounded to a grid."""

import math

from htjax.bounds.arguments import number, positive
from htjax.bounds.result import VARIANTS
from htjax.checks import check_choice, check_count


def rounding_error(
  resolution: float, nonzeros: int, *, variant: str = 'corrected'
) -> float:
  """Spectral norm of what rounding kept entries to multiples of rho changes.

  corrected: rho sqrt(J) / 2, the Frobenius norm. paper: rho J.

  Args:
    resolution: rho > 0.
    nonzeros: J >= 0, entries that are rounded.
    variant: 'corrected' or 'paper'.

  Returns:
    float >= 0.

  Raises:
    ValueError: for numbers out of range.

  Source: [SK], Lemma 4.2.
  """
  check_choice('variant', variant, VARIANTS)
  check_count('nonzeros', nonzeros, 0)
  rho = positive('resolution', resolution)
  if variant == 'paper':
    return rho * nonzeros
  return rho / 2 * math.sqrt(nonzeros)


def num_grid_values(largest: float, resolution: float) -> int:
  """Number of values that rounding to the nearest takes.

  2 floor(w_max / rho + 1/2) + 1.

  (With floor(w_max / rho) those that round up are missed.)

  Args:
    largest: w_max >= 0, the largest magnitude that can occur.
    resolution: rho > 0.

  Returns:
    int >= 1.

  Raises:
    ValueError: for numbers out of range.

  Source: [SK], section 4.
  """
  top = number('largest', largest, 0, math.inf, open_high=True)
  steps = top / positive('resolution', resolution)
  if not math.isfinite(steps):
    raise ValueError(
      f'largest must be a finite multiple of resolution, got {top} and '
      f'{resolution}'
    )
  return 2 * math.floor(steps + 0.5) + 1
