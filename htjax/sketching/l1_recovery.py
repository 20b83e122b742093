"""Recovery of a matrix from its sketch by least l_1 norm.

Only products with A, B and their pseudo-inverses are taken, never with their
Kronecker product.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Shaped

from htjax.checks import (
  check_count,
  check_finite,
  check_number,
  check_range,
  checked,
)
from htjax.floats import as_floating
from htjax.products import full_precision
from htjax.types import Array, ArrayLike

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
@full_precision
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
