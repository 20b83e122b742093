"""The particle system and its Euler scheme.

n particles, coupled through their empirical measure mu and driven by
independent stable Lévy processes L^i,

  d theta^i = b(theta^i, mu) dt + sigma dL^i,

advance by the Euler scheme, which is noisy gradient descent on the risk of a
mean-field network with learning rate n times the step size:

  theta^i <- theta^i + eta b(theta^i, mu) + sigma eta^(1/alpha) X^i.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax import stable
from htjax.checks import check_choice, check_count, check_key, check_range
from htjax.mean_field.problem import (
  Problem,
  check_particles,
  loss_slopes,
  mean_output,
  velocity,
)
from htjax.types import Array, ArrayLike, PRNGKey


class Trajectory(NamedTuple):
  """States of a particle system.

  Attributes:
    times: [s], time of each saved state, in units of the process; the first
      is 0.
    particles: [s, n, p], the first is the initial state.
  """

  times: Array
  particles: Array


def euler_step(
  key: PRNGKey,
  problem: Problem,
  particles: ArrayLike,
  *,
  alpha: ArrayLike,
  sigma: ArrayLike,
  step_size: ArrayLike,
  kind: str = 'type1',
) -> Array:
  """One step theta + eta b(theta, mu) + sigma eta^(1/alpha) X.

  With key = fold_in(root, t) this is, to rounding, update t of
  `optax.chain(optax.scale(n), htjax.noise.heavy_tailed_sgd(eta, alpha, sigma,
  key=root, kind=kind))` on `htjax.models.mean_field`, whose kernel [p, n] is
  the transpose of `particles`.

  Args:
    key: typed key.
    problem: see `Problem`.
    particles: [n, p].
    alpha: tail index in (0, 2], traced; 2 is Gaussian noise of variance
      2 sigma^2 eta per coordinate.
    sigma: >= 0, traced.
    step_size: eta > 0, in units of time, traced.
    kind: 'type1', 'type2' or 'type3', static.

  Returns:
    Array [n, p].

  Raises:
    ValueError: a concrete alpha outside (0, 2], sigma negative or infinite,
      step_size not positive, unknown kind; otherwise as `predict`.

  Values: as `htjax.stable.sample` for traced alpha and sigma out of range.

  Source: [IC], eqs. (2) and (3).

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import mean_field
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> problem = mean_field.Problem(
    ...   unit=lambda theta, x: jnp.tanh(theta @ x),
    ...   loss=lambda f, y: (f - y) ** 2,
    ...   inputs=jax.random.normal(keys[0], (8, 2)),
    ...   targets=jnp.ones(8),
    ... )
    >>> particles = jax.random.normal(keys[1], (16, 2))
    >>> moved = mean_field.euler_step(
    ...   keys[2], problem, particles, alpha=1.5, sigma=0.1, step_size=0.01
    ... )
    >>> moved.shape
    (16, 2)
  """
  key = check_key(key)
  particles = check_particles(problem, particles)
  check_process(alpha, sigma, step_size, kind)
  return _euler_step(key, problem, particles, alpha, sigma, step_size, kind)


def simulate(
  key: PRNGKey,
  problem: Problem,
  particles: ArrayLike,
  *,
  alpha: ArrayLike,
  sigma: ArrayLike,
  step_size: ArrayLike,
  num_steps: int,
  kind: str = 'type1',
  save_every: int | None = None,
  batch_size: int | None = None,
) -> Trajectory:
  """Run the Euler scheme and keep every `save_every`-th state.

  The noise of step t depends on (key, t) alone. Memory grows with the number
  of saved states, not of steps. Particles sharded over devices, e.g. by
  `jax.device_put(particles, NamedSharding(mesh, PartitionSpec('n')))`, stay
  where they are: a step exchanges the m network outputs, nothing else.

  Args:
    key: typed key.
    problem: see `Problem`.
    particles: [n, p], the state at time 0.
    alpha: tail index in (0, 2], traced.
    sigma: >= 0, traced.
    step_size: eta > 0, traced.
    num_steps: static.
    kind: 'type1', 'type2' or 'type3', static.
    save_every: static, a divisor of num_steps; None keeps the two ends only.
    batch_size: static; the drift of each step uses that many data, drawn
      without replacement anew in each step. None uses all of them.

  Returns:
    Trajectory of num_steps / save_every + 1 states.

  Raises:
    ValueError: as `euler_step`; num_steps or save_every not a positive
      integer, or one not dividing the other; batch_size not in [1, m].

  Source: [IC], eqs. (2) and (3).

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import mean_field
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> problem = mean_field.Problem(
    ...   unit=lambda theta, x: jnp.tanh(theta @ x),
    ...   loss=lambda f, y: (f - y) ** 2,
    ...   inputs=jax.random.normal(keys[0], (8, 2)),
    ...   targets=jnp.ones(8),
    ... )
    >>> particles = jax.random.normal(keys[1], (16, 2))
    >>> trajectory = mean_field.simulate(
    ...   keys[2],
    ...   problem,
    ...   particles,
    ...   alpha=1.5,
    ...   sigma=0.1,
    ...   step_size=0.25,
    ...   num_steps=4,
    ...   save_every=2,
    ... )
    >>> trajectory.times.tolist(), trajectory.particles.shape
    ([0.0, 0.5, 1.0], (3, 16, 2))
  """
  key = check_key(key)
  particles = check_particles(problem, particles)
  check_process(alpha, sigma, step_size, kind)
  check_count('num_steps', num_steps)
  save_every = num_steps if save_every is None else save_every
  check_count('save_every', save_every)
  if num_steps % save_every:
    raise ValueError(
      f'save_every must divide num_steps = {num_steps}, got {save_every}'
    )
  if batch_size is not None:
    check_count('batch_size', batch_size)
    check_range('batch_size', batch_size, 1, len(problem.inputs))
  return _simulate(
    key,
    problem,
    particles,
    alpha,
    sigma,
    step_size,
    num_steps,
    kind,
    save_every,
    batch_size,
  )


def check_process(alpha: Any, sigma: Any, step_size: Any, kind: Any) -> None:
  """Raise if what drives the particles is out of range."""
  check_range('alpha', alpha, 0.0, 2.0, open_low=True)
  check_range('sigma', sigma, 0.0, np.inf, open_high=True)
  check_range(
    'step_size', step_size, 0.0, np.inf, open_low=True, open_high=True
  )
  check_choice('kind', kind, stable.KINDS)
  for name, value in (
    ('alpha', alpha),
    ('sigma', sigma),
    ('step_size', step_size),
  ):
    if np.shape(value) != ():
      raise ValueError(
        f'{name} must be a scalar, got an array of shape {np.shape(value)}; '
        'vmap over it instead'
      )


def noise(
  key: PRNGKey,
  shape: tuple[int, int],
  dtype: Any,
  alpha: ArrayLike,
  scale: ArrayLike,
  kind: str,
) -> Array:
  """scale X for n particles, [n, p], or [n, 1] for Type I.

  Drawn as `htjax.noise` draws it for the first leaf of a pytree, a kernel
  [p, n], so that both routes meet the same noise.
  """
  n, p = shape
  rows = 1 if kind == 'type1' else p
  leaf_key = jax.random.fold_in(key, 0)
  x = stable.sample_vectors(
    leaf_key, alpha, (rows, n), dtype, kind=kind, axis=0, scale=scale
  )
  return x.T


def noise_scale(alpha: ArrayLike, sigma: ArrayLike, step_size: ArrayLike):
  """sigma eta^(1/alpha)."""
  return sigma * step_size ** (1.0 / alpha)


@functools.partial(jax.jit, static_argnums=6)
def _euler_step(key, problem, particles, alpha, sigma, step_size, kind):
  alpha, sigma, eta = (
    jnp.asarray(v, particles.dtype) for v in (alpha, sigma, step_size)
  )
  slopes = loss_slopes(problem, mean_output(problem, particles))
  b = velocity(problem, particles, slopes)
  scale = noise_scale(alpha, sigma, eta)
  x = noise(key, particles.shape, particles.dtype, alpha, scale, kind)
  return particles + eta * b + x


@functools.partial(jax.jit, static_argnums=(6, 7, 8, 9))
def _simulate(
  key,
  problem,
  particles,
  alpha,
  sigma,
  step_size,
  num_steps,
  kind,
  save_every,
  batch_size,
):
  def step(theta, t):
    step_key = jax.random.fold_in(key, t)
    data = problem
    if batch_size is not None:
      data = _batch(jax.random.fold_in(step_key, 1), problem, batch_size)
    theta = _euler_step(step_key, data, theta, alpha, sigma, step_size, kind)
    return theta, None

  def stretch(theta, t):
    steps = t * save_every + jnp.arange(save_every, dtype=jnp.int32)
    theta, _ = lax.scan(step, theta, steps)
    return theta, theta

  saves = jnp.arange(num_steps // save_every, dtype=jnp.int32)
  _, kept = lax.scan(stretch, particles, saves)
  steps = (jnp.arange(len(saves) + 1) * save_every).astype(particles.dtype)
  times = steps * jnp.asarray(step_size, particles.dtype)
  return Trajectory(times, jnp.concatenate([particles[None], kept]))


def _batch(key: PRNGKey, problem: Problem, size: int) -> Problem:
  m = problem.inputs.shape[0]
  rows = jax.random.choice(key, m, (size,), replace=False)
  return dataclasses.replace(
    problem, inputs=problem.inputs[rows], targets=problem.targets[rows]
  )
