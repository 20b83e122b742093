"""Assumption 1 for a given problem: the suprema Psi, Phi and the constant B.

The theory wants a unit and a loss whose values and first two derivatives are
bounded. The suprema are searched for numerically, so they are estimates from
below, and a search that keeps finding more as its radius grows says that there
is no supremum: that is how ReLU, unbounded and with a kink, is told.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.checks import check_count, check_key, checked
from htjax.host import to_cpu
from htjax.mean_field.problem import (
  Problem,
  check_particles,
  check_problem,
  drift,
  flat_inputs,
  rows_of,
)
from htjax.products import full_precision
from htjax.types import Array, PRNGKey

# Radii at which suprema are looked for, and directions at each.
_RADII = np.geomspace(1e-3, 1e3, 49)
_DIRECTIONS = 16
_ASCENTS = 60
_POWER_STEPS = 20
# Segments that jumps are looked for on, halved to this length relative to where
# they lie.
_SEGMENTS, _HALVINGS, _APART = 512, 24, 1e-4


class Regularity(NamedTuple):
  """The suprema of Assumption 1, over theta and over predictions, per datum.

  Attributes:
    unit: [m], sup |h_x|.
    gradient: [m], sup of the spectral norm of grad h_x.
    hessian: [m], sup |grad^2 h_x|, the spectral norms of the outputs'
      Hessians put together as a Euclidean norm.
    slope: [m], sup |d_1 l(., y)|.
    curvature: [m], sup |d_1^2 l(., y)|, a spectral norm.
    holds: whether the search found every supremum to be finite.
    reason: what was found not to be, or ''.
  """

  unit: np.ndarray
  gradient: np.ndarray
  hessian: np.ndarray
  slope: np.ndarray
  curvature: np.ndarray
  holds: bool
  reason: str

  @property
  def psi(self) -> np.ndarray:
    """Psi(x), [m]."""
    return self.unit + self.gradient + self.hessian

  @property
  def phi(self) -> np.ndarray:
    """Phi(y), [m]."""
    return self.slope + self.curvature

  @property
  def bound(self) -> float:
    """B = (E Psi^2 (1 + Phi^2))^(1/2)."""
    return math.sqrt(np.mean(self.psi**2 * (1 + self.phi**2)))


@checked
@full_precision
def regularity(
  problem: Problem, num_parameters: int | None = None
) -> Regularity:
  """Look for the suprema of Assumption 1.

  For each datum, candidates over directions (of the input, and fixed random
  ones) and radii from 1e-3 to 1e3, then gradient ascent from the best one. A
  supremum that is still 1.5 times larger at the outermost radii than inside
  them counts as infinite, in float64 if float32 finds one. The unit, the loss
  and their first derivatives must not jump, as those of ReLU, |f - y| and the
  hinge do, whose second derivatives are 0 wherever they are looked at.

  Args:
    problem: see `Problem`. Predictions are looked at like parameters: the
      suprema of the loss are over all outputs.
    num_parameters: p; None is the size of one input.

  Returns:
    Regularity, estimates from below, on the host in float64. No randomness:
    the directions are fixed.

  Raises:
    ValueError: as `predict`.

  Source: [IC], Assumption 1.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import mean_field
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> problem = mean_field.Problem(
    ...   unit=lambda theta, x: jnp.tanh(theta @ x),
    ...   loss=lambda f, y: jnp.logaddexp(f - y, y - f),
    ...   inputs=jax.random.normal(keys[0], (8, 2)),
    ...   targets=jnp.ones(8),
    ... )
    >>> found = mean_field.regularity(problem)
    >>> found.holds, found.unit.shape
    (True, (8,))
  """
  check_problem(problem)
  problem = to_cpu(problem)
  flat = flat_inputs(problem)
  p = flat.shape[1] if num_parameters is None else num_parameters
  check_count('num_parameters', p)
  dtype = flat.dtype
  check_particles(problem, jnp.zeros((1, p), dtype))
  functions = _functions(problem, p)
  found = _search(functions, problem, p)
  if not all(_bounded(*pair) for pair in found.values()):
    # Derivatives cancel at large radii: those of GELU are 10^9 in float32 where
    # they are 0.
    found = _search_in_float64(problem, p) or found
  reasons = []
  suprema: list[np.ndarray] = []
  for name, (inner, outer) in found.items():
    suprema.append(np.maximum(inner, outer).astype(np.float64))
    if not np.all(np.isfinite(inner) & np.isfinite(outer)):
      reasons.append(f'{name} is not finite everywhere')
    elif not _bounded(inner, outer):
      reasons.append(f'{name} grows without bound')
  for name, (function, data, size), slope in (
    ('the unit', functions.unit, suprema[1]),
    ('the gradient of the unit', functions.gradient, suprema[2]),
    ('the loss', functions.loss, suprema[3]),
    ('the slope of the loss', functions.slope, suprema[4]),
  ):
    if _jumps(function, data, size, slope, dtype):
      reasons.append(f'{name} jumps')
  unit, gradient, hessian, slope, curvature = suprema
  return Regularity(
    unit, gradient, hessian, slope, curvature, not reasons, '; '.join(reasons)
  )


@checked
@full_precision
def lipschitz_ratios(
  key: PRNGKey,
  problem: Problem,
  particles: Array,
  num_pairs: int,
  *,
  shift: float = 1.0,
) -> tuple[Array, Array]:
  """Ratios of the distance of drifts to the distance that caused it.

  Two systems, the second one the first with every particle shifted by
  independent N(0, shift^2) amounts, differ in the drift of particle i by at
  most a |theta_1^i - theta_2^i| + c mean_j |theta_1^j - theta_2^j|. Either
  argument of the drift is moved alone here, which gives lower bounds of a and
  of c.

  Args:
    key: typed key.
    problem: see `Problem`.
    particles: [n, p].
    num_pairs: static, independent shifts.
    shift: > 0, standard deviation of each coordinate's shift.

  Returns:
    (own, mean): [num_pairs] each, the largest ratio over particles.

  Raises:
    ValueError: as `drift`.

  Source: [IC], Lemma C.1, with the constant of its last line corrected.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import mean_field
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> problem = mean_field.Problem(
    ...   unit=lambda theta, x: jnp.tanh(theta @ x),
    ...   loss=lambda f, y: jnp.logaddexp(f - y, y - f),
    ...   inputs=jax.random.normal(keys[0], (8, 2)),
    ...   targets=jnp.ones(8),
    ... )
    >>> particles = jax.random.normal(keys[1], (16, 2))
    >>> own, mean = mean_field.lipschitz_ratios(keys[2], problem, particles, 4)
    >>> own.shape, mean.shape
    ((4,), (4,))
  """
  key = check_key(key)
  particles = check_particles(problem, particles)
  check_count('num_pairs', num_pairs)
  if not 0 < shift < math.inf:
    raise ValueError(f'shift must be positive, got {shift!r}')
  return _ratios(key, problem, particles, num_pairs, shift)


@functools.partial(jax.jit, static_argnums=3)
def _ratios(
  key: PRNGKey, problem: Problem, particles: Array, num_pairs: int, shift: float
) -> tuple[Array, Array]:
  def pair(pair_key: PRNGKey) -> tuple[Array, Array]:
    step = shift * jax.random.normal(pair_key, particles.shape, particles.dtype)
    length = jnp.linalg.norm(step, axis=-1)
    here = drift(problem, particles, particles)
    own = drift(problem, particles + step, particles) - here
    other = drift(problem, particles, particles + step) - here
    return (
      jnp.max(jnp.linalg.norm(own, axis=-1) / length),
      jnp.max(jnp.linalg.norm(other, axis=-1)) / length.mean(),
    )

  return lax.map(pair, jax.random.split(key, num_pairs))


class _Functions(NamedTuple):
  """Functions of (point, datum), the data, and the size of a point."""

  unit: tuple[Callable, Any, int]
  gradient: tuple[Callable, Any, int]
  loss: tuple[Callable, Any, int]
  slope: tuple[Callable, Any, int]


def _functions(problem: Problem, p: int) -> _Functions:
  inputs, targets = jax.tree.map(jnp.asarray, (problem.inputs, problem.targets))
  theta = jnp.zeros(p, flat_inputs(problem).dtype)
  output = jax.eval_shape(problem.unit, theta, rows_of(inputs, 0))
  size = math.prod(output.shape)

  def unit(theta: Array, x: Any) -> Array:
    return problem.unit(theta, x).reshape(size)

  def loss(f: Array, y: Any) -> Array:
    return problem.loss(f.reshape(output.shape), y)

  return _Functions(
    (unit, inputs, p),
    (jax.jacobian(unit), inputs, p),
    (loss, targets, size),
    (jax.grad(loss), targets, size),
  )


def _bounded(inner: np.ndarray, outer: np.ndarray) -> bool:
  """True if both are finite, and the outermost radii find no more."""
  finite = np.all(np.isfinite(inner) & np.isfinite(outer))
  return bool(finite and not np.any(outer > 1.5 * inner))


def _search_in_float64(
  problem: Problem, p: int
) -> dict[str, tuple[np.ndarray, np.ndarray]] | None:
  """The search where rounding is smaller; None for a float32 unit or loss."""
  with jax.enable_x64(True):

    def wide(data: Any) -> Array:
      data = np.asarray(data)
      floating = jnp.issubdtype(data.dtype, jnp.floating)
      return jnp.asarray(data, jnp.float64 if floating else data.dtype)

    data = jax.tree.map(wide, (problem.inputs, problem.targets))
    wider = Problem(problem.unit, problem.loss, *to_cpu(data))
    try:
      return _search(_functions(wider, p), wider, p)
    except TypeError:
      return None


def _search(
  functions: _Functions, problem: Problem, p: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Suprema of each quantity: inside the outermost radii, and at them."""
  unit = functions.unit[0]
  gradient, slope = functions.gradient[0], functions.slope[0]
  size = functions.loss[2]
  along = flat_inputs(problem)
  if along.shape[1] != p:
    along = jnp.ones((len(along), p), along.dtype)
  everywhere = _over_data(_starts(p, along), problem.inputs)
  outputs = jnp.ones((len(along), size), along.dtype)
  everything = _over_data(_starts(size, outputs), problem.targets)
  found = {
    'the unit': everywhere(lambda t, x: jnp.linalg.norm(unit(t, x))),
    'the gradient of the unit': everywhere(
      lambda t, x: _spectral_norm(gradient(t, x))
    ),
    'the Hessian of the unit': everywhere(
      lambda t, x: _root_sum(_spectral_norm(jax.hessian(unit)(t, x)))
    ),
    'the slope of the loss': everything(
      lambda f, y: jnp.linalg.norm(slope(f, y))
    ),
    'the curvature of the loss': everything(
      lambda f, y: _spectral_norm(jax.jacobian(slope)(f, y))
    ),
  }
  return {
    name: (np.asarray(inner), np.asarray(outer))
    for name, (inner, outer) in found.items()
  }


def _over_data(starts: Array, data: Any) -> Callable:
  """The search of one quantity, mapped over the data."""

  @functools.partial(jax.jit, static_argnums=0)
  def search(quantity: Callable[[Array, Array], Array]) -> tuple[Array, Array]:
    def of_one(start_and_datum: tuple[Array, Any]) -> tuple[Array, Array]:
      start, datum = start_and_datum
      # Traced once, where it is mapped and where it is differentiated.
      value = jax.jit(lambda t: quantity(t, datum))
      values = jax.vmap(value)(start).reshape(len(_RADII), -1)
      inner, outer = values[:-8], values[-8:]
      return _ascend(value, start[jnp.argmax(inner)]), jnp.max(outer)

    return lax.map(of_one, (starts, data))

  return search


def _starts(p: int, along: Array) -> Array:
  """Candidates [m, radii x directions, p]."""
  fixed = np.random.default_rng(0).normal(size=(_DIRECTIONS, p))
  fixed /= np.linalg.norm(fixed, axis=1, keepdims=True)
  length = jnp.linalg.norm(along, axis=1, keepdims=True)
  along = along / jnp.where(length == 0, 1, length)
  directions = jnp.concatenate(
    [
      jnp.broadcast_to(
        jnp.asarray(fixed, along.dtype), (len(along), *fixed.shape)
      ),
      along[:, None],
      -along[:, None],
    ],
    axis=1,
  )
  radii = jnp.asarray(_RADII, along.dtype)
  starts = radii[None, :, None, None] * directions[:, None, :, :]
  return starts.reshape(len(along), -1, p)


def _ascend(quantity: Callable, start: Array) -> Array:
  """Highest value met by normalised gradient ascent with shrinking steps."""
  radius = jnp.linalg.norm(start)

  def step(
    state: tuple[Array, Array, Array], i: Array
  ) -> tuple[tuple[Array, Array, Array], None]:
    theta, best, g = state
    length = jnp.linalg.norm(g)
    direction = jnp.where(length > 0, g / jnp.where(length > 0, length, 1), 0)
    there = theta + radius * 0.5 * 0.85**i * direction
    value, slope = jax.value_and_grad(quantity)(there)
    # The first one is the start's, as nothing is known of the slope before.
    better = (i < 0) | (value > best)
    return jax.tree.map(
      functools.partial(jnp.where, better), (there, value, slope), state
    ), None

  nothing = jnp.zeros((), jax.eval_shape(quantity, start).dtype)
  state = (start, nothing, jnp.zeros_like(start))
  steps = jnp.arange(-1, _ASCENTS, dtype=start.dtype)
  return lax.scan(step, state, steps)[0][1]


def _spectral_norm(matrix: Array) -> Array:
  """Largest singular value over the last two axes."""
  # The root of the Gram matrix' largest eigenvalue: differentiable, unlike
  # the singular vectors of a matrix with equal singular values.
  gram = matrix @ jnp.swapaxes(matrix, -1, -2)
  if gram.shape[-1] == 1:
    return _root(gram[..., 0, 0])
  # Not quite equal entries, which an eigenvector may be orthogonal to.
  first = 1 + 1e-3 * jnp.arange(gram.shape[-1], dtype=gram.dtype)
  v = jnp.broadcast_to(first, gram.shape[:-1])

  def turn(v: Array, _: None) -> tuple[Array, None]:
    v = jnp.einsum('...ij,...j->...i', gram, v)
    square = jnp.sum(v * v, axis=-1, keepdims=True)
    v = v / jnp.sqrt(jnp.where(square > 0, square, 1))
    return v, None

  v, _ = lax.scan(turn, v, length=_POWER_STEPS)
  square = jnp.einsum('...i,...ij,...j->...', v, gram, v)
  return _root(square)


def _root(square: Array) -> Array:
  """The square root, with a slope of 0 at 0."""
  return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _root_sum(x: Array) -> Array:
  return jnp.sqrt(jnp.sum(x * x) + jnp.finfo(x.dtype).tiny)


def _jumps(
  function: Callable, data: Any, size: int, slope: np.ndarray, dtype: Any
) -> bool:
  """True if `function(point, datum)` changes by more than its slope allows.

  Segments between points at all radii are halved, the half with the larger
  change kept, until they are short: where a function is smooth the change
  shrinks with them, across a jump it stays.

  Args:
    function: of a point [size] and a datum, to an array.
    data: [m, ...], an array or a pytree of them.
    size: of a point.
    slope: bound of the function's derivative, [m].
    dtype: of points.

  Returns:
    True if some segment kept a change that neither slope nor rounding explains.
  """
  generator = np.random.default_rng(1)
  ends = generator.normal(size=(2, _SEGMENTS, size)) / math.sqrt(size)
  ends *= 10 ** generator.uniform(-2, 2, size=(2, _SEGMENTS, 1))
  start, stop = (jnp.asarray(end, dtype) for end in ends)

  def of_datum(datum: Any) -> tuple[Array, ...]:
    value = jax.vmap(jax.jit(lambda point: function(point, datum).reshape(-1)))

    def halve(_: Array, ends: tuple[Array, ...]) -> tuple[Array, ...]:
      a, b, at_a, at_b = ends
      middle = (a + b) / 2
      at_middle = value(middle)
      # Below this the change drowns in rounding.
      short = _lengths(b - a) <= _APART * (1 + _lengths(a))
      left = _lengths(at_middle - at_a) >= _lengths(at_b - at_middle)
      move_a, move_b = (~short & ~left)[:, None], (~short & left)[:, None]
      return (
        jnp.where(move_a, middle, a),
        jnp.where(move_b, middle, b),
        jnp.where(move_a, at_middle, at_a),
        jnp.where(move_b, at_middle, at_b),
      )

    ends = start, stop, value(start), value(stop)
    a, b, at_a, at_b = lax.fori_loop(0, _HALVINGS, halve, ends)
    return _lengths(at_b - at_a), _lengths(b - a), _lengths(at_a), _lengths(a)

  found = lax.map(of_datum, data)
  jump, length, value, point = (np.asarray(v, np.float64) for v in found)
  # A point is known to a rounding of its own, and so is what it is mapped to.
  eps = float(jnp.finfo(dtype).eps)
  allowed = 2 * slope[:, None] * (length + 10 * eps * point)
  return bool(np.any(jump > allowed + 100 * eps * (1 + value)))


def _lengths(x: Array) -> Array:
  return jnp.linalg.norm(x, axis=-1)
