"""Eigenvalues of heavy-tailed Gram matrices, in the limit of many rows.

For W of h x h' independent symmetric stable entries of index alpha < 2, the
eigenvalues of h^(-2/alpha) W^T W tend, as h grows and h' stays, to those of a
diagonal matrix: h' independent positive stable numbers of index alpha / 2, for
a sum of squares of one column is dominated by its largest, and products of two
columns are an order smaller. (The text divides by the number of columns in one
place; the proof, and the limit, have that of the rows.)
"""

import math

import numpy as np

from htjax.checks import checked
from htjax.laws import positive
from htjax.laws.arguments import parameter
from htjax.laws.arguments import positive as positive_number
from htjax.types import ArrayLike

__all__ = ['eigenvalue_cdf', 'eigenvalue_quantile', 'eigenvalue_scale']


@checked
def eigenvalue_scale(alpha: float, *, scale: float = 1.0) -> float:
  """Scale s with lambda = s A in the limit, E exp(-tA) = exp(-t^(alpha / 2)).

  s = scale^2 (C Gamma(1 - alpha / 2))^(2 / alpha), C x^-alpha the tail
  P(|X| > x) of an entry of unit scale, C = (2 / pi) Gamma(alpha)
  sin(pi alpha / 2): X^2 has the tail C y^(-alpha / 2), and A that of
  y^(-alpha / 2) / Gamma(1 - alpha / 2).

  Args:
    alpha: tail index of the entries, in (0, 2).
    scale: of the entries, E exp(itX) = exp(-|scale t|^alpha), > 0.

  Returns:
    float > 0.

  Raises:
    ValueError: numbers out of range.

  Source: [HT], Theorem 2 (law of the eigenvalues).

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.gram.eigenvalue_scale(1.0):.4f}')  # 4 / pi
    1.2732
  """
  alpha = _index(alpha)
  tail = 2 / math.pi * math.gamma(alpha) * math.sin(math.pi * alpha / 2)
  size = (tail * math.gamma(1 - alpha / 2)) ** (2 / alpha)
  return positive_number('scale', scale) ** 2 * size


@checked
def eigenvalue_cdf(
  x: ArrayLike, alpha: float, *, scale: float = 1.0
) -> np.ndarray:
  """P(lambda <= x) of an eigenvalue of h^(-2/alpha) W^T W, in the limit.

  Args:
    x: real, any shape.
    alpha: tail index of the entries, in (0, 2).
    scale: of the entries, > 0.

  Returns:
    float64 of x's shape.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [HT], Theorem 2 (law of the eigenvalues).

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.gram.eigenvalue_cdf(1.46, 1.5):.3f}')
    0.501
  """
  size = eigenvalue_scale(alpha, scale=scale)
  return positive.cdf(x, alpha / 2, scale=size)


@checked
def eigenvalue_quantile(
  q: ArrayLike, alpha: float, *, scale: float = 1.0
) -> np.ndarray:
  """The x with P(lambda <= x) = q, in the limit.

  Args:
    q: probability in [0, 1], any shape.
    alpha: tail index of the entries, in (0, 2).
    scale: of the entries, > 0.

  Returns:
    float64 of q's shape.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [HT], Theorem 2 (law of the eigenvalues).

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.gram.eigenvalue_quantile(0.5, 1.5):.3f}')
    1.458
  """
  size = eigenvalue_scale(alpha, scale=scale)
  return positive.quantile(q, alpha / 2, scale=size)


def _index(alpha: float) -> float:
  return parameter('alpha', alpha, 0, 2, open_low=True, open_high=True)
