"""Relative errors of compressed layers, as the theorems ask for them."""

import math
from collections.abc import Sequence

import numpy as np

from htjax.bounds.arguments import as_list, as_numbers, number
from htjax.bounds.logarithms import exp, log
from htjax.checks import checked
from htjax.types import ArrayLike


@checked
def relative_errors(
  layers: Sequence[ArrayLike], compressed: Sequence[ArrayLike], *, p: float = 2
) -> np.ndarray:
  """Relative l_p errors |w^ - w|_p / |w|_p of pairs of layers.

  For any compressed network, however it came about. `compressed_risk` asks that
  the largest of them, at p = 2, be at most its epsilon. For p < 1 these are no
  norms, but the ratio is used all the same.

  Args:
    layers: arrays w of any shapes, float or integer.
    compressed: arrays w^ of the same shapes.
    p: in (0, infinity).

  Returns:
    float64 [L]; 0 where both are zero, infinite where only w is.

  Raises:
    ValueError: for no layers, shapes that differ, entries that are not finite,
      or p out of range.

  Examples:
    >>> import numpy as np
    >>> from htjax.bounds import heavy_tails
    >>> heavy_tails.relative_errors([np.array([3.0, 4.0])],
    ...   [np.array([0.0, 4.0])])
    array([0.6])

  Source: [HT], section 3.2 (relative compression error).
  """
  p = number('p', p, 0, math.inf, open_low=True, open_high=True)
  pairs = [
    [as_numbers(f'{name}[{i}]', w) for i, w in enumerate(as_list(name, given))]
    for name, given in (('layers', layers), ('compressed', compressed))
  ]
  shapes = [[w.shape for w in own] for own in pairs]
  if shapes[0] != shapes[1] or not pairs[0]:
    raise ValueError(
      f'compressed must have the shapes of layers, {shapes[0]}, got {shapes[1]}'
    )
  for name, own in zip(('layers', 'compressed'), pairs, strict=True):
    if not all(np.all(np.isfinite(w)) and w.size for w in own):
      raise ValueError(
        f'{name} must hold finite numbers in every layer, got NaN, infinity or '
        'an empty array'
      )
  return np.array([_ratio(v - w, w, p) for w, v in zip(*pairs, strict=True)])


def _ratio(change: np.ndarray, w: np.ndarray, p: float) -> float:
  tops = [float(np.max(np.abs(x))) for x in (change, w)]
  if tops[0] == 0:
    return 0.0
  if tops[1] == 0:
    return math.inf
  # Over the largest entry, so that no power leaves the range of floats.
  above, below = (
    math.log(top) + log(float(np.sum((np.abs(x) / top) ** p))) / p
    for x, top in zip((change, w), tops, strict=True)
  )
  return exp(above - below)
