"""Balanced networks, and matrices split by the sizes of their entries."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from htjax.bounds.arguments import as_list, as_numbers, number
from htjax.bounds.result import VARIANTS
from htjax.checks import check_choice, check_count, checked
from htjax.types import ArrayLike


@checked
def rebalance(layers: Sequence[ArrayLike]) -> list[np.ndarray]:
  """Layers of equal Frobenius norm that compute the same function.

  Each is scaled by beta / |W_l|_F, beta the geometric mean of the norms, so
  that the factors multiply to 1: a network of ReLU or another positively
  homogeneous activation, without biases, does not change.

  Args:
    layers: weights, arrays of any shapes, none zero.

  Returns:
    float64 arrays of the same shapes, each of the norm that `balanced_norm`
    bounds.

  Raises:
    ValueError: for no layers, entries that are not finite, or a layer of
      zeros.

  Source: [SH], eq. (96).

  Examples:
    >>> import numpy as np
    >>> from htjax.bounds import gaussian_compression
    >>> a, b = gaussian_compression.rebalance([np.eye(1), 4 * np.eye(1)])
    >>> float(a[0, 0]), float(b[0, 0])
    (2.0, 2.0)
  """
  arrays = [
    as_numbers(f'layers[{i}]', w)
    for i, w in enumerate(as_list('layers', layers))
  ]
  if not arrays or not all(w.size and np.all(np.isfinite(w)) for w in arrays):
    raise ValueError(
      'layers must be at least one array of finite numbers, got NaN, infinity '
      'or an empty one'
    )
  peaks = [float(np.max(np.abs(w))) for w in arrays]
  if min(peaks) == 0:
    raise ValueError('layers must not be zero everywhere, got one that is')
  # Norms in units of the largest entry, which no square leaves the floats in.
  unit = [w / peak for w, peak in zip(arrays, peaks, strict=True)]
  sizes = [float(np.linalg.norm(w)) for w in unit]
  logs = [math.log(s) + math.log(p) for s, p in zip(sizes, peaks, strict=True)]
  mean = math.exp(sum(logs) / len(logs))
  return [w * (mean / size) for w, size in zip(unit, sizes, strict=True)]


class PowerBrackets(NamedTuple):
  """A matrix as a sum of matrices whose entries are of one size.

  Attributes:
    brackets: C^i for i = 0, .., M, those entries with c^i < |W| <= c^(i + 1),
      zero elsewhere, [M + 1, rows, columns].
    large: D, the entries beyond c^(M + 1).
    small: those up to 1, which the source leaves out; with `paper` also the
      negative ones.
  """

  brackets: np.ndarray
  large: np.ndarray
  small: np.ndarray


@checked
def power_brackets(
  matrix: ArrayLike, *, base: float, top: int, variant: str = 'corrected'
) -> PowerBrackets:
  """Split a matrix by the sizes of its entries, in powers of a base.

  Args:
    matrix: [rows, columns], finite.
    base: c > 1, the scale of the stable law.
    top: M >= 0.
    variant: 'corrected', by |W|; or 'paper', by W itself, so that negative
      entries are nowhere but in `small`.

  Returns:
    PowerBrackets of float64 matrices, which add up to the matrix.

  Raises:
    ValueError: for another shape, entries that are not finite, or numbers out
      of range.

  Source: [SH], eq. (13).

  Examples:
    >>> import numpy as np
    >>> from htjax.bounds import gaussian_compression
    >>> w = np.array([[0.5, -1.5], [3.0, 9.0]])
    >>> parts = gaussian_compression.power_brackets(w, base=2.0, top=1)
    >>> parts.brackets.sum(axis=(1, 2)), float(parts.large.sum())
    (array([-1.5,  3. ]), 9.0)
  """
  check_choice('variant', variant, VARIANTS)
  array = as_numbers('matrix', matrix)
  if array.ndim != 2 or not np.all(np.isfinite(array)):
    raise ValueError(
      f'matrix must be [rows, columns] of finite numbers, got {array.shape}'
    )
  c = number('base', base, 1, math.inf, open_low=True, open_high=True)
  check_count('top', top, 0)
  number('top', top, 0, 10**6)
  size = np.abs(array) if variant == 'corrected' else array
  with np.errstate(over='ignore'):
    edges = c ** np.arange(top + 2, dtype=np.float64)
  inside = [
    (low < size) & (size <= high) for low, high in itertools.pairwise(edges)
  ]
  return PowerBrackets(
    np.stack([np.where(part, array, 0.0) for part in inside]),
    np.where(size > edges[-1], array, 0.0),
    np.where(size <= 1, array, 0.0),
  )
