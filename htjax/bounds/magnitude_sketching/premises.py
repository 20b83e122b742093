"""Premises and shapes that several of these bounds share."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from htjax.bounds.arguments import as_list, counts
from htjax.bounds.result import Assumption, Bound

Shape = tuple[int, int]


def gaussian_premise() -> Assumption:
  """The law of the entries, taken on trust."""
  return Assumption(
    'Gaussian weights', None, 'entries are independent N(0, Psi)'
  )


def constant_premise(name: str) -> Assumption:
  """A constant of an O in print, taken on trust."""
  return Assumption(
    'constant', None, f'{name} is not given in the source; the caller sets it'
  )


def margin_premise(
  gamma: float, output_error: Bound, variant: str
) -> Assumption:
  """gamma covers sqrt(2) times the error of the output; `paper`: once."""
  shift = 0.0 if variant == 'paper' else 0.5 * math.log(2)
  needed = output_error.log_value + shift
  return Assumption(
    'margin',
    math.log(gamma) >= needed,
    f'ln gamma = {math.log(gamma):.4g} must be >= that of the output error, '
    f'{needed:.4g}',
  )


def check_error(output_error: Any) -> Bound:
  """Return `output_error` if it is a Bound, or raise."""
  if not isinstance(output_error, Bound):
    raise ValueError(
      'output_error must be a Bound, such as pruned_output_error returns, got '
      f'{output_error!r}'
    )
  return output_error


def check_shape(name: str, shape: Shape) -> Shape:
  """A pair of counts, or a ValueError that names it."""
  sides = counts(name, shape)
  if len(sides) != 2:
    raise ValueError(f'{name} must be (rows, columns), got {shape!r}')
  return sides[0], sides[1]


def check_shapes(shapes: Sequence[Shape]) -> list[Shape]:
  """At least one pair of counts, none of them (1, 1)."""
  pairs = [check_shape('shapes', shape) for shape in as_list('shapes', shapes)]
  if not pairs or any(max(pair) < 2 for pair in pairs):
    raise ValueError(f'shapes must be of matrices, not numbers, got {shapes!r}')
  return pairs


def check_values(num_values: int | Sequence[int], depth: int) -> list[int]:
  """Counts of at least 2, [depth]; one number stands for all of them."""
  if isinstance(num_values, int | np.integer):
    num_values = [int(num_values)] * depth
  values = counts('num_values', num_values, least=2)
  if len(values) != depth:
    raise ValueError(f'num_values must have {depth} entries, got {len(values)}')
  return values
