"""The Hessian bound: curvature along the way that each layer has moved.

The Hessian of the loss in one layer is never formed. It acts by forward over
reverse differentiation, and the quadratic form of its positive part comes from
Lanczos steps that start at the direction asked about: Gauss quadrature of
max(0, .) over the spectrum.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.bounds.arguments import (
  as_array,
  as_list,
  check_callable,
  number,
  positive,
  vector,
)
from htjax.bounds.logarithms import log
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.checks import check_count
from htjax.products import full_precision
from htjax.types import Array, ArrayLike

Loss = Callable[[list[Array], Array, Array], Array]


class Curvatures(NamedTuple):
  """Curvatures of layers and how far they are settled.

  Attributes:
    values: H_i, [L].
    residuals: largest change over examples that the last step made, [L]; 0 for
      a layer on whose examples the steps ended early, so that they are exact,
      and NaN after one step, which says nothing.
  """

  values: Array
  residuals: Array


@full_precision
def layer_curvatures(
  loss: Loss,
  layers: Sequence[ArrayLike],
  reference: Sequence[ArrayLike],
  x: ArrayLike,
  y: ArrayLike,
  *,
  num_steps: int = 12,
  batch_size: int = 16,
) -> Array:
  """Largest curvature of the loss over examples, along the way of each layer.

  H_i = max over examples of v_i^T [Hessian of the loss in layer i]_+ v_i.

  `curvatures_with_residuals` without the residuals.

  One step gives v^T H v itself, negative if so: exact, and cheapest, for ReLU
  networks with a convex loss, whose output is linear in one layer around almost
  every point, so that H is positive semidefinite. With curved activations k
  steps are exact once k reaches the number of distinct eigenvalues that v
  meets; one was off by a third, two by a factor of 1.9.

  Args:
    loss: `loss(layers, x, y)`, a number, for one example; hashable, and
      compiled once if it is the same function again.
    layers: trained arrays A_1, .., A_L.
    reference: arrays of the same shapes, at initialisation; v_i is their
      difference.
    x: inputs [n, ...].
    y: targets [n, ...].
    num_steps: Lanczos steps, static, >= 1; at most the size of a layer matter.
      Each keeps a vector of the layer's size for every example at a time.
    batch_size: examples at a time, static, >= 1: memory against speed.

  Returns:
    [L]; zero for a layer that has not moved.

  Raises:
    ValueError: if shapes do not match, or there is no example.

  Source: [Ju2022], Theorem 2.1.
  """
  return curvatures_with_residuals(
    loss,
    layers,
    reference,
    x,
    y,
    num_steps=num_steps,
    batch_size=batch_size,
  ).values


@full_precision
def curvatures_with_residuals(
  loss: Loss,
  layers: Sequence[ArrayLike],
  reference: Sequence[ArrayLike],
  x: ArrayLike,
  y: ArrayLike,
  *,
  num_steps: int = 12,
  batch_size: int = 16,
) -> Curvatures:
  """Curvatures of `layer_curvatures`, and what their last step changed.

  Args:
    loss: `loss(layers, x, y)`, a number, for one example.
    layers: trained arrays A_1, .., A_L.
    reference: arrays of the same shapes, at initialisation.
    x: inputs [n, ...].
    y: targets [n, ...].
    num_steps: Lanczos steps, static, >= 1.
    batch_size: examples at a time, static, >= 1.

  Returns:
    Curvatures.

  Raises:
    ValueError: if shapes do not match, or there is no example.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax.bounds import baselines
    >>> def loss(layers, x, y):
    ...   return jnp.sum(jnp.tanh(x @ layers[0]) - y) ** 2
    >>> found = baselines.curvatures_with_residuals(
    ...   loss, [jnp.ones((2, 1))], [jnp.zeros((2, 1))], jnp.ones((3, 2)),
    ...   jnp.zeros(3))
    >>> found.values.shape, float(found.residuals[0])
    ((1,), 0.0)

  Source: [Ju2022], Theorem 2.1.
  """
  check_count('num_steps', num_steps)
  check_count('batch_size', batch_size)
  check_callable('loss', loss)
  arrays, starts = (
    [as_array(f'{name}[{i}]', w) for i, w in enumerate(as_list(name, given))]
    for name, given in (('layers', layers), ('reference', reference))
  )
  if [w.shape for w in starts] != [w.shape for w in arrays] or not arrays:
    raise ValueError(
      'reference must have the shapes of layers, '
      f'{[w.shape for w in arrays]}, got {[w.shape for w in starts]}'
    )
  x, y = as_array('x', x), as_array('y', y)
  if x.ndim < 1 or not x.shape[0] or y.shape[:1] != x.shape[:1]:
    raise ValueError(
      f'x and y must hold the same examples, got {x.shape} and {y.shape}'
    )
  rows = [jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for a in (x, y)]
  number = jax.eval_shape(loss, arrays, *rows)
  shape, dtype = jnp.shape(number), jnp.result_type(number)
  if shape != () or not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(
      f'loss must return one floating number, got {dtype} {shape}'
    )
  if num_steps == 1:
    return Curvatures(
      *_second_derivatives(loss, arrays, starts, x, y, batch_size)
    )
  found = [
    _curvatures(loss, arrays, i, w - start, x, y, num_steps, batch_size)
    for i, (w, start) in enumerate(zip(arrays, starts, strict=True))
  ]
  return Curvatures(*(jnp.stack(own) for own in zip(*found, strict=True)))


@functools.partial(
  jax.jit, static_argnames=('loss', 'index', 'num_steps', 'batch_size')
)
def _curvatures(
  loss: Loss,
  layers: list[Array],
  index: int,
  direction: Array,
  x: Array,
  y: Array,
  num_steps: int,
  batch_size: int,
) -> tuple[Array, Array]:
  """Largest v^T H_+ v in one layer, and largest change of the last step."""

  def one(example: tuple[Array, Array]) -> tuple[Array, Array]:
    def of_layer(w: Array) -> Array:
      changed = [*layers[:index], w, *layers[index + 1 :]]
      return loss(changed, *example)

    def product(v: Array) -> Array:
      tangent = v.reshape(direction.shape)
      gradient = jax.grad(of_layer)
      return jax.jvp(gradient, (layers[index],), (tangent,))[1].ravel()

    return _positive_form(product, direction.ravel(), num_steps)

  forms, residuals = lax.map(one, (x, y), batch_size=min(batch_size, len(x)))
  return jnp.max(forms), jnp.max(residuals)


@functools.partial(jax.jit, static_argnames=('loss', 'batch_size'))
def _second_derivatives(
  loss: Loss,
  layers: list[Array],
  starts: list[Array],
  x: Array,
  y: Array,
  batch_size: int,
) -> tuple[Array, Array]:
  """Largest v^T H v of every layer by going forward twice.

  Over a batch this multiplies matrices, where a Hessian times v would be a
  matrix of the layer's size for every example. All layers share one loop, the
  other layers of each having a direction of zeros.
  """
  n = len(x)
  num = math.ceil(n / batch_size)
  # Batches of one size; the last example comes again.
  rows = np.minimum(np.arange(num * math.ceil(n / num)), n - 1)
  batches = jnp.asarray(rows.reshape(num, -1))

  def of_layer(index: Array) -> Array:
    direction = [
      jnp.where(index == k, w - start, 0)
      for k, (w, start) in enumerate(zip(layers, starts, strict=True))
    ]

    def one(x: Array, y: Array) -> Array:
      def slope(at: list[Array]) -> Array:
        return jax.jvp(lambda at: loss(at, x, y), (at,), (direction,))[1]

      return jax.jvp(slope, (layers,), (direction,))[1]

    def batch(rows: Array) -> Array:
      return jnp.max(jax.vmap(one)(x[rows], y[rows]))

    return jnp.max(lax.map(batch, batches))

  forms = lax.map(of_layer, jnp.arange(len(layers)))
  return forms, jnp.full_like(forms, jnp.nan)


def _positive_form(
  product: Callable[[Array], Array], v: Array, num_steps: int
) -> tuple[Array, Array]:
  """v^T f(H) v, f = max(0, .), by Lanczos, and the last step's change."""
  length = jnp.linalg.norm(v)
  unit = v / jnp.where(length > 0, length, 1)
  steps = min(num_steps, v.size)
  rounding = jnp.finfo(v.dtype).eps

  def step(
    carry: tuple[Array, Array], k: Array
  ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    basis, scale = carry
    w = product(basis[k])
    diagonal = jnp.vdot(basis[k], w)
    # Twice is enough to keep the basis orthogonal.
    for _ in range(2):
      w = w - basis.T @ (basis @ w)
    off = jnp.linalg.norm(w)
    scale = jnp.maximum(scale, jnp.maximum(jnp.abs(diagonal), off))
    # An invariant subspace: what follows would be rounding.
    more = off > 100 * rounding * scale
    w = jnp.where(more, w / jnp.where(more, off, 1), 0)
    basis = basis.at[k + 1].set(w)
    return (basis, scale), (diagonal, jnp.where(more, off, 0))

  basis = jnp.zeros((steps + 1, v.size), v.dtype).at[0].set(unit)
  start = (basis, jnp.zeros((), v.dtype))
  _, (diagonal, off) = lax.scan(step, start, jnp.arange(steps))
  matrix = jnp.diag(diagonal) + jnp.diag(off[:-1], 1) + jnp.diag(off[:-1], -1)
  form, before = (_quadrature(part) for part in (matrix, matrix[:-1, :-1]))
  # In an invariant subspace, as all of space is, nothing is left to change.
  more = (steps < v.size) & jnp.all(off[:-1] > 0)
  change = jnp.where(more, jnp.abs(form - before), 0)
  return length**2 * form, length**2 * change


def _quadrature(matrix: Array) -> Array:
  """Gauss quadrature of max(0, .) from a tridiagonal matrix."""
  if not matrix.size:
    return jnp.zeros((), matrix.dtype)
  nodes, vectors = jnp.linalg.eigh(matrix)
  return jnp.sum(vectors[0] ** 2 * jnp.maximum(nodes, 0))


def ju_2022(
  training_loss: float,
  *,
  curvatures: ArrayLike,
  num_samples: int,
  loss_bound: float,
  epsilon: float = 0.0,
  remainder: float = 0.0,
) -> Bound:
  """Bound on the expected loss by curvatures of the layers.

  (1 + eps) L^(f) + (1 + eps) sqrt(C) sum_i sqrt(H_i) / sqrt(n) + xi.

  Args:
    training_loss: L^(f) in [0, C].
    curvatures: H_i, [L], see `layer_curvatures`; negative ones count as 0.
    num_samples: n.
    loss_bound: C > 0, an upper bound on the loss.
    epsilon: any small number >= 0, which the remainder depends on.
    remainder: xi >= 0, of order n^(-3/4) with a constant that is not given.

  Returns:
    Bound on the expected loss (not on the error) with terms empirical,
    complexity and remainder.

  Raises:
    ValueError: for numbers out of range.

  Source: [Ju2022], Theorem 2.1.
  """
  check_count('num_samples', num_samples)
  top = positive('loss_bound', loss_bound)
  empirical = number('training_loss', training_loss, 0, top)
  values = np.maximum(vector('curvatures', curvatures, -math.inf), 0)
  grow = math.log1p(number('epsilon', epsilon, 0, math.inf, open_high=True))
  size = log(float(np.sum(np.sqrt(values)))) + 0.5 * math.log(top / num_samples)
  rest = number('remainder', remainder, 0, math.inf, open_high=True)
  premises = [
    Assumption(
      'remainder',
      None if rest > 0 else False,
      f'xi = {rest:.4g} must cover terms of order n^(-3/4) = '
      f'{num_samples**-0.75:.4g}, whose constant is not given',
    ),
    Assumption(
      'smooth', None, 'activations and loss are smooth, as the theorem asks'
    ),
    Assumption('bounded loss', None, f'the loss is at most {top:.4g}'),
  ]
  terms = {
    'empirical': grow + log(empirical),
    'complexity': grow + size,
    'remainder': log(rest),
  }
  return make_bound(terms, premises)
