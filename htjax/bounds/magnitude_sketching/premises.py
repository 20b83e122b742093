"""Premises and shapes that several of these bounds share."""

import math
from collections.abc import Sequence

import numpy as np

from htjax.bounds.result import Assumption, Bound
from htjax.checks import check_count


def gaussian_premise() -> Assumption:
  return Assumption(
    'Gaussian weights', None, 'entries are independent N(0, Psi)'
  )


def margin_premise(
  gamma: float, output_error: Bound, variant: str
) -> Assumption:
  """Whether gamma covers sqrt(2) times the error; `paper`: once."""
  shift = 0.0 if variant == 'paper' else 0.5 * math.log(2)
  needed = output_error.log_value + shift
  return Assumption(
    'margin',
    math.log(gamma) >= needed,
    f'ln gamma = {math.log(gamma):.4g} must be >= that of the output error, '
    f'{needed:.4g}',
  )


def constant_premise(name: str) -> Assumption:
  """A constant of an O in print, taken on trust."""
  return Assumption(
    'constant', None, f'{name} is not given in the source; the caller sets it'
  )


Shape = tuple[int, int]


def check_shape(name: str, shape: Shape) -> Shape:
  """A pair of counts, or a ValueError that names it."""
  if len(shape) != 2:
    raise ValueError(f'{name} must be (rows, columns), got {shape!r}')
  for side in shape:
    check_count(name, side)
  return int(shape[0]), int(shape[1])


def check_shapes(shapes: Sequence[Shape]) -> list[Shape]:
  """At least one pair of counts, none of them (1, 1)."""
  pairs = [check_shape('shapes', shape) for shape in shapes]
  if not pairs or any(max(pair) < 2 for pair in pairs):
    raise ValueError(f'shapes must be of matrices, not numbers, got {shapes!r}')
  return pairs


def check_values(num_values: int | Sequence[int], depth: int) -> list[int]:
  """Counts of at least 2, [depth]; one number stands for all of them."""
  if isinstance(num_values, int | np.integer):
    num_values = [int(num_values)] * depth
  for value in num_values:
    check_count('num_values', value, 2)
  if len(num_values) != depth:
    raise ValueError(
      f'num_values must have {depth} entries, got {len(num_values)}'
    )
  return list(num_values)
