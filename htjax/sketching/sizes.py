"""Sketches, and how large they must be for so many nonzeros."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Shaped

from htjax.checks import check_count, check_range, check_several, checked
from htjax.floats import as_floating, result_dtype, to_unit_peak
from htjax.products import full_precision
from htjax.types import Array, ArrayLike


@checked
@full_precision
def sketch(
  x: Shaped[ArrayLike, 'p_1 p_2'],
  a: Shaped[ArrayLike, 'm_1 p_1'],
  b: Shaped[ArrayLike, 'm_2 p_2'],
) -> Shaped[Array, 'm_1 m_2']:
  """The sketch A X B^T.

  Args:
    x: [p_1, p_2].
    a: [m_1, p_1].
    b: [m_2, p_2].

  Returns:
    [m_1, m_2].

  Raises:
    ValueError: if these are not matrices of shapes that fit.

  Source: [SK], section 5.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import sketching
    >>> a, b = jnp.ones((2, 4)), jnp.ones((3, 5))
    >>> sketching.sketch(jnp.ones((4, 5)), a, b).shape
    (2, 3)
  """
  x, a, b = (as_floating(n, v) for n, v in (('x', x), ('a', a), ('b', b)))
  dtype = result_dtype(x, a, b)
  x, a, b = x.astype(dtype), a.astype(dtype), b.astype(dtype)
  if x.ndim != 2 or a.ndim != 2 or b.ndim != 2:
    raise ValueError(
      f'x, a and b must be matrices, got {x.shape}, {a.shape}, {b.shape}'
    )
  if (a.shape[1], b.shape[1]) != x.shape:
    raise ValueError(
      f'a and b must have {x.shape[0]} and {x.shape[1]} columns, got '
      f'{a.shape} and {b.shape}'
    )
  return a @ x @ b.T


@checked
def distributed_sparsity(
  x: Shaped[ArrayLike, 'p_1 p_2'],
) -> tuple[Int[Array, ''], Int[Array, '']]:
  """Most nonzeros in any column, and in any row.

  Args:
    x: [p_1, p_2], not empty.

  Returns:
    (j_r, j_c), int32 []: j_r of a column, j_c of a row. NaN counts as nonzero.

  Raises:
    ValueError: if x is not a non-empty matrix.

  Source: [SK], Definition 5.1, which also asks for a diagonal without zeros.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import sketching
    >>> x = jnp.array([[1, 1, 0], [1, 0, 0]])
    >>> j_r, j_c = sketching.distributed_sparsity(x)
    >>> int(j_r), int(j_c)
    (2, 2)
  """
  x = as_floating('x', x)
  if x.ndim != 2 or 0 in x.shape:
    raise ValueError(f'x must be a non-empty matrix, got shape {x.shape}')
  # Backends take subnormal numbers for zero.
  present = (to_unit_peak(x)[0] != 0).astype(jnp.int32)
  return jnp.max(jnp.sum(present, axis=0)), jnp.max(jnp.sum(present, axis=1))


@checked
def sketch_dimension(
  j_r: int, j_c: int, shape: tuple[int, int], *, constant: float = 1.0
) -> float:
  """m = C sqrt(max(j_c d_1, j_r d_2)) ln(max(d_1, d_2)).

  The sketch has m^2 entries, no fewer than the matrix unless the sparsity is
  below `useful_sparsity`, and always more than there are nonzeros.

  Args:
    j_r: most nonzeros in a column, >= 1.
    j_c: most nonzeros in a row, >= 1.
    shape: (d_1, d_2).
    constant: C > 0, of the O in print.

  Returns:
    float.

  Raises:
    ValueError: for numbers out of range.

  Source: [SK], Theorem 5.1.

  Examples:
    >>> from htjax import sketching
    >>> print(f'{sketching.sketch_dimension(2, 2, (100, 100)):.1f}')
    65.1
  """
  check_count('j_r', j_r)
  check_count('j_c', j_c)
  check_several('shape', shape)
  if len(shape) != 2:
    raise ValueError(f'shape must be (rows, columns), got {shape!r}')
  for length in shape:
    check_count('shape', length)
  rows, columns = shape
  check_range('j_r', j_r, 1, rows)
  check_range('j_c', j_c, 1, columns)
  check_range('constant', constant, 0, np.inf, open_low=True)
  size = math.sqrt(max(j_c * rows, j_r * columns))
  return float(constant) * size * math.log(max(rows, columns))


@checked
def useful_sparsity(p: int) -> float:
  """p / ln^2(p): below it sqrt(j p) ln p is less than p.

  Args:
    p: side of a square matrix, >= 2.

  Returns:
    float.

  Raises:
    ValueError: if p is below 2.

  Source: [SK], section 5.

  Examples:
    >>> from htjax import sketching
    >>> print(f'{sketching.useful_sparsity(1000):.1f}')
    21.0
  """
  check_count('p', p, 2)
  return p / math.log(p) ** 2
