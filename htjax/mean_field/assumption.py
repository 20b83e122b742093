"""Assumption 1 for a given problem: the suprema Psi, Phi and the constant B.

The theory wants a unit and a loss whose values and first two derivatives are
bounded. The suprema are searched for numerically, so they are estimates from
below, and a search that keeps finding more as its radius grows says that there
is no supremum: that is how ReLU, unbounded and with a kink, is told.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.checks import check_count, check_key, checked
from htjax.mean_field.problem import (
  Problem,
  check_particles,
  drift,
)
from htjax.types import Array, PRNGKey

# Radii at which suprema are looked for, and directions at each.
_RADII = np.geomspace(1e-3, 1e3, 49)
_DIRECTIONS = 16
_ASCENTS = 60
_POWER_STEPS = 20
# Pairs of points at which gradients are compared, and how far apart.
_PAIRS, _APART = 1024, 1e-3


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
def regularity(
  problem: Problem, num_parameters: int | None = None
) -> Regularity:
  """Look for the suprema of Assumption 1.

  For each datum, candidates over directions (of the input, and fixed random
  ones) and radii from 1e-3 to 1e3, then gradient ascent from the best one. A
  supremum that is still 1.5 times larger at the outermost radii than inside
  them counts as infinite, as does the Hessian of a unit whose gradient jumps.

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
  p = num_parameters
  if p is None:
    p = math.prod(np.shape(problem.inputs)[1:])
  check_count('num_parameters', p)
  dtype = jnp.asarray(problem.inputs).dtype
  check_particles(problem, jnp.zeros((1, p), dtype))
  found = _search(problem, p)
  reasons = []
  suprema: list[np.ndarray] = []
  for name, (inner, outer) in found.items():
    inside, beyond = (np.asarray(v, np.float64) for v in (inner, outer))
    suprema.append(np.maximum(inside, beyond))
    if not np.all(np.isfinite(inside) & np.isfinite(beyond)):
      reasons.append(f'{name} is not finite everywhere')
    elif np.any(beyond > 1.5 * inside):
      reasons.append(f'{name} grows without bound')
  if _has_kink(problem, p, suprema[2]):
    reasons.append('the gradient of the unit jumps')
  unit, gradient, hessian, slope, curvature = suprema
  return Regularity(
    unit, gradient, hessian, slope, curvature, not reasons, '; '.join(reasons)
  )


@checked
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
def _ratios(key, problem, particles, num_pairs, shift):
  def pair(pair_key):
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


def _search(problem: Problem, p: int) -> dict[str, tuple[Array, Array]]:
  """Suprema of each quantity: inside the outermost radii, and at them."""
  inputs = jnp.asarray(problem.inputs)
  output = jax.eval_shape(problem.unit, jnp.zeros(p, inputs.dtype), inputs[0])
  size = math.prod(output.shape)

  def unit(theta, x):
    return problem.unit(theta, x).reshape(size)

  def loss(f, y):
    return problem.loss(f.reshape(output.shape), y)

  def slope(f, y):
    return jax.grad(loss)(f, y)

  along = inputs.reshape(len(inputs), -1)
  if along.shape[1] != p:
    along = jnp.ones((len(inputs), p), inputs.dtype)
  everywhere = _over_data(_starts(p, along), problem.inputs)
  outputs = jnp.ones((len(inputs), size), inputs.dtype)
  everything = _over_data(_starts(size, outputs), problem.targets)
  return {
    'the unit': everywhere(lambda t, x: jnp.linalg.norm(unit(t, x))),
    'the gradient of the unit': everywhere(
      lambda t, x: _spectral_norm(jax.jacobian(unit)(t, x))
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


def _over_data(starts: Array, data: Array) -> Callable:
  """The search of one quantity, mapped over the data."""

  @functools.partial(jax.jit, static_argnums=0)
  def search(quantity):
    def of_one(start_and_datum):
      start, datum = start_and_datum
      values = jax.vmap(lambda t: quantity(t, datum))(start)
      values = values.reshape(len(_RADII), -1)
      inner, outer = values[:-8], values[-8:]
      best = start[jnp.argmax(inner)]
      return (
        _ascend(lambda t: quantity(t, datum), best),
        jnp.max(outer),
      )

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

  def step(state, i):
    theta, best = state
    g = jax.grad(quantity)(theta)
    length = jnp.linalg.norm(g)
    direction = jnp.where(length > 0, g / jnp.where(length > 0, length, 1), 0)
    there = theta + radius * 0.5 * 0.85**i * direction
    value = quantity(there)
    better = value > best
    return (
      jnp.where(better, there, theta),
      jnp.where(better, value, best),
    ), None

  state = (start, quantity(start))
  steps = jnp.arange(_ASCENTS, dtype=start.dtype)
  return lax.scan(step, state, steps)[0][1]


def _spectral_norm(matrix: Array) -> Array:
  """Largest singular value over the last two axes."""
  # The root of the Gram matrix' largest eigenvalue: differentiable, unlike
  # the singular vectors of a matrix with equal singular values.
  gram = matrix @ jnp.swapaxes(matrix, -1, -2)
  # Not quite equal entries, which an eigenvector may be orthogonal to.
  first = 1 + 1e-3 * jnp.arange(gram.shape[-1], dtype=gram.dtype)
  v = jnp.broadcast_to(first, gram.shape[:-1])

  def turn(v, _):
    v = jnp.einsum('...ij,...j->...i', gram, v)
    square = jnp.sum(v * v, axis=-1, keepdims=True)
    v = v / jnp.sqrt(jnp.where(square > 0, square, 1))
    return v, None

  v, _ = lax.scan(turn, v, length=_POWER_STEPS)
  square = jnp.einsum('...i,...ij,...j->...', v, gram, v)
  return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _root_sum(x: Array) -> Array:
  return jnp.sqrt(jnp.sum(x * x) + jnp.finfo(x.dtype).tiny)


def _has_kink(problem: Problem, p: int, hessian: np.ndarray) -> bool:
  """Whether gradients at close points differ by more than the Hessian says."""
  generator = np.random.default_rng(1)
  dtype = jnp.asarray(problem.inputs).dtype
  theta = jnp.asarray(generator.normal(size=(_PAIRS, p)), dtype)
  steps = generator.normal(size=(_PAIRS, p))
  steps *= _APART / np.linalg.norm(steps, axis=1, keepdims=True)
  there = theta + jnp.asarray(steps, dtype)

  def of_datum(x):
    gradient = jax.vmap(jax.jacobian(lambda t: problem.unit(t, x)))
    here = gradient(theta).reshape(_PAIRS, -1)
    change = gradient(there).reshape(_PAIRS, -1) - here
    return (
      jnp.max(jnp.linalg.norm(change, axis=1)),
      jnp.max(jnp.linalg.norm(here, axis=1)),
    )

  jumps, sizes = lax.map(of_datum, jnp.asarray(problem.inputs))
  rounding = 100 * float(jnp.finfo(dtype).eps) * (1 + np.asarray(sizes))
  # Frobenius norms of Jacobians are at most sqrt(p) spectral ones.
  smooth = 2 * _APART * math.sqrt(p) * hessian
  return bool(np.any(np.asarray(jumps) > smooth + rounding))
