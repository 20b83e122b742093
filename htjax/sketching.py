"""Sketches Y = A X B^T of a sparse matrix, and recovery by least l_1 norm.

A and B are adjacency matrices of sparse random bipartite graphs, m x p with m <
p. X is recovered as the matrix of least l_1 norm with that sketch, by a method
that only multiplies by A, B and their pseudo-inverses, never by their Kronecker
product. The setting is that of "Generalization Bounds for Magnitude-Based
Pruning via Sparse Matrix Sketching" and of Dasarathy, Shah, Bhaskar, Nowak
(2013), Sketching Sparse Matrices.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int, Shaped

from htjax.checks import (
  check_choice,
  check_count,
  check_finite,
  check_floating,
  check_key,
  check_number,
  check_range,
  check_several,
  checked,
)
from htjax.floats import as_floating, result_dtype, to_unit_peak
from htjax.types import Array, ArrayLike, PRNGKey

VARIANTS = ('corrected', 'paper')

# The duality gap costs about as much as an iteration.
_CHECK_EVERY = 10


class Recovery(NamedTuple):
  """A matrix recovered from its sketch.

  Attributes:
    x: [p_1, p_2], with the sketch y up to `residual`.
    gap: [], relative duality gap: |x|_1 exceeds the least possible l_1 norm by
      at most gap |x|_1, whatever the state of the iteration.
    residual: [], |A x B^T - y|_F / |y|_F; above rounding only if no matrix has
      the sketch y.
    num_iterations: int32 [].
    converged: bool [], whether gap and residual reached the tolerance.
  """

  x: Array
  gap: Array
  residual: Array
  num_iterations: Array
  converged: Array


@checked
def bipartite_ensemble(
  key: PRNGKey,
  m: int,
  p: int,
  delta: int,
  *,
  dtype: jax.typing.DTypeLike = jnp.float32,
  variant: str = 'corrected',
) -> Float[Array, 'm p']:
  """Random 0-1 matrix [m, p] in which each of the p columns picks delta rows.

  Rows are picked uniformly with replacement, so a column has at least 1 and at
  most delta ones. In print ('paper') each of the m rows picks delta columns:
  then some columns stay empty, and what they multiply is lost.

  Args:
    key: typed key.
    m: rows, 1 <= m <= p: a sketch larger than the matrix is refused.
    p: columns.
    delta: ones per column before collisions, 1 <= delta <= m ('paper': per
      row, at most p).
    dtype: float32 or float64.
    variant: 'corrected' or 'paper'.

  Returns:
    [m, p] of zeros and ones.

  Raises:
    ValueError: for counts out of range or another dtype.

  Source: [Dasarathy2013], Definition 2; [SK], Definition F.1.

  Examples:
    >>> import jax
    >>> from htjax import sketching
    >>> a = sketching.bipartite_ensemble(jax.random.key(0), 6, 8, 2)
    >>> a.shape, int(a.sum(axis=0).max())
    ((6, 8), 2)
  """
  key = check_key(key)
  dtype = check_floating('dtype', dtype)
  check_choice('variant', variant, VARIANTS)
  check_count('p', p)
  check_count('m', m)
  check_range('m', m, 1, p)
  check_count('delta', delta)
  left, right = (m, p) if variant == 'corrected' else (p, m)
  check_range('delta', delta, 1, left)
  picks = jax.random.randint(key, (right, delta), 0, left)
  matrix = jnp.zeros((left, right), dtype)
  matrix = matrix.at[picks, jnp.arange(right)[:, None]].set(1)
  return matrix if variant == 'corrected' else matrix.T


@checked
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
def recover(
  y: Float[ArrayLike, 'm_1 m_2'],
  a: Shaped[ArrayLike, 'm_1 p_1'],
  b: Shaped[ArrayLike, 'm_2 p_2'],
  *,
  tolerance: float | None = None,
  max_iterations: int = 20_000,
  step_size: ArrayLike = 0.03,
) -> Recovery:
  """Matrix of least l_1 norm with A X B^T = Y, by Douglas-Rachford splitting.

  Each iteration shrinks entries towards 0 and projects on the matrices with
  sketch Y: two products with A and B and two with their pseudo-inverses. It
  stops when the duality gap, |x|_1 less a lower bound on the least l_1 norm
  made from the iteration's own dual variable, is at most `tolerance` |x|_1.

  Args:
    y: [m_1, m_2], finite.
    a: [m_1, p_1].
    b: [m_2, p_2].
    tolerance: relative duality gap at which to stop, > 0; None is the square
      root of the precision.
    max_iterations: >= 1; rounded up to a multiple of 10.
    step_size: > 0, amount of shrinking relative to the largest entry of the
      least-squares solution; it affects speed, not the result.

  Returns:
    Recovery; `converged` is False if the iterations ran out or no matrix has
    this sketch. NaN for traced NaN in `y`. Where the solution is the only one,
    some hundred iterations are usual; where it is not, one of them comes, after
    up to ten thousands.

  Raises:
    ValueError: for shapes that do not fit, sketches larger than the matrix,
      concrete y that is not finite, or numbers out of range.

  Source: [SK], problem (1).

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import sketching
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> a, b = (sketching.bipartite_ensemble(k, 18, 20, 4) for k in keys)
    >>> x = jnp.eye(20)
    >>> found = sketching.recover(sketching.sketch(x, a, b), a, b)
    >>> bool(found.converged), bool(jnp.abs(found.x - x).max() < 0.01)
    (True, True)
  """
  y = as_floating('y', y)
  check_finite('y', y)
  a, b = (as_floating(n, v).astype(y.dtype) for n, v in (('a', a), ('b', b)))
  if y.ndim != 2 or a.ndim != 2 or b.ndim != 2:
    raise ValueError(
      f'y, a and b must be matrices, got {y.shape}, {a.shape}, {b.shape}'
    )
  if (a.shape[0], b.shape[0]) != y.shape:
    raise ValueError(
      f'a and b must have {y.shape[0]} and {y.shape[1]} rows, got {a.shape} '
      f'and {b.shape}'
    )
  for name, matrix in (('a', a), ('b', b)):
    if not 1 <= matrix.shape[0] <= matrix.shape[1]:
      raise ValueError(
        f'{name} must have at most as many rows as columns, got {matrix.shape}'
      )
  if tolerance is None:
    tolerance = math.sqrt(jnp.finfo(y.dtype).eps)
  for name, value in (('tolerance', tolerance), ('step_size', step_size)):
    check_number(name, value)
    check_range(name, value, 0, math.inf, open_low=True)
  check_count('max_iterations', max_iterations)
  return _recover(y, a, b, tolerance, max_iterations, step_size)


# Count, iterate, its gap and its solution.
_Iteration = tuple[Array, Array, Array, Array]


@jax.jit
def _recover(
  y: Float[Array, 'm n'],
  a: Float[Array, 'm p'],
  b: Float[Array, 'n q'],
  tolerance: ArrayLike,
  max_iterations: ArrayLike,
  step_size: ArrayLike,
) -> Recovery:
  a_inverse, b_inverse = _pseudo_inverse(a), _pseudo_inverse(b)

  def lift(sketched: Float[Array, 'm n']) -> Float[Array, 'p q']:
    return a_inverse @ sketched @ b_inverse.T

  def project(x: Float[Array, 'p q']) -> Float[Array, 'p q']:
    return x - lift(a @ x @ b.T - y)

  least_squares = lift(y)
  peak = jnp.max(jnp.abs(least_squares))
  shrink = step_size * jnp.where(peak > 0, peak, 1)

  def soft(z: Float[Array, 'p q']) -> Float[Array, 'p q']:
    return jnp.sign(z) * jnp.maximum(jnp.abs(z) - shrink, 0)

  def iterate(_: Any, z: Float[Array, 'p q']) -> Float[Array, 'p q']:
    x = soft(z)
    return z + project(2 * x - z) - x

  def gap_and_solution(
    z: Float[Array, 'p q'],
  ) -> tuple[Float[Array, ''], Float[Array, 'p q']]:
    x = soft(z)
    solution = project(x)
    # A dual point is any combination of rows with entries in [-1, 1].
    dual = lift(a @ ((z - x) / shrink) @ b.T)
    dual = dual / jnp.maximum(1, jnp.max(jnp.abs(dual)))
    size = jnp.sum(jnp.abs(solution))
    gap = size - jnp.sum(dual * solution)
    return gap / jnp.where(size > 0, size, 1), solution

  def unfinished(state: _Iteration) -> Array:
    count, _, gap, _ = state
    return (count < max_iterations) & (gap > tolerance)

  def advance(state: _Iteration) -> _Iteration:
    count, z, _, _ = state
    z = lax.fori_loop(0, _CHECK_EVERY, iterate, z)
    return count + _CHECK_EVERY, z, *gap_and_solution(z)

  start = (
    jnp.int32(0),
    least_squares,
    jnp.asarray(jnp.inf, y.dtype),
    least_squares,
  )
  count, _, gap, solution = lax.while_loop(unfinished, advance, start)
  scale = jnp.linalg.norm(y)
  residual = jnp.linalg.norm(a @ solution @ b.T - y)
  residual = residual / jnp.where(scale > 0, scale, 1)
  converged = (gap <= tolerance) & (residual <= tolerance)
  return Recovery(solution, gap, residual, count, converged)


def _pseudo_inverse(matrix: Float[Array, 'm p']) -> Float[Array, 'p m']:
  """Of an m x p matrix through its m x m Gram matrix."""
  values, vectors = jnp.linalg.eigh(matrix @ matrix.T)
  rounding = jnp.finfo(matrix.dtype).eps * matrix.shape[1]
  keep = values > rounding * jnp.max(values)
  inverse = jnp.where(keep, 1 / jnp.where(keep, values, 1), 0)
  return matrix.T @ (vectors * inverse[None, :]) @ vectors.T


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
  for size in shape:
    check_count('shape', size)
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
