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
from jaxtyping import Float

from htjax.checks import check_count, check_key, check_range, checked
from htjax.mean_field.problem import (
  Problem,
  block_velocity,
  by_blocks,
  check_particles,
  loss_slopes,
  mean_output,
  num_data,
  rows_of,
)
from htjax.mean_field.short_forms import gathers
from htjax.noise import StableNoise
from htjax.noise.process import KERNEL
from htjax.products import full_precision
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


@checked
@gathers(noise=StableNoise)
@full_precision
def euler_step(
  key: PRNGKey,
  problem: Problem,
  particles: ArrayLike,
  noise: StableNoise,
  *,
  step_size: ArrayLike,
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
    noise: what drives the particles, one vector for each, traced but for its
      kind. In its place alpha=, sigma= and kind= may be given.
    step_size: eta > 0, in units of time, traced.

  Returns:
    Array [n, p].

  Raises:
    ValueError: as `htjax.noise.StableNoise`; an alpha or sigma that is an
      array; step_size not positive; otherwise as `predict`.

  Values: as `htjax.noise.StableNoise.draw` for traced alpha and sigma out of
    range.

  Source: [IC], eqs. (2) to (4).

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
  check_process(noise, step_size)
  return _euler_step(key, problem, particles, noise, step_size)


@checked
@gathers(noise=StableNoise)
@full_precision
def simulate(
  key: PRNGKey,
  problem: Problem,
  particles: ArrayLike,
  noise: StableNoise,
  *,
  step_size: ArrayLike,
  num_steps: int,
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
    noise: the process, `htjax.noise.StableNoise`, or in its place alpha=,
      sigma= and kind=.
    step_size: eta > 0, traced.
    num_steps: static.
    save_every: static, a divisor of num_steps; None keeps the two ends only.
    batch_size: static; the drift of each step uses that many data, drawn
      without replacement anew in each step. None uses all of them.

  Returns:
    Trajectory of num_steps / save_every + 1 states.

  Raises:
    ValueError: as `euler_step`; num_steps or save_every not a positive
      integer, or one not dividing the other; batch_size not in [1, m].

  Source: [IC], eqs. (2) to (4).

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
  check_process(noise, step_size)
  check_count('num_steps', num_steps)
  save_every = num_steps if save_every is None else save_every
  check_count('save_every', save_every)
  if num_steps % save_every:
    raise ValueError(
      f'save_every must divide num_steps = {num_steps}, got {save_every}'
    )
  if batch_size is not None:
    check_batch(problem, batch_size)
  return _simulate(
    *(key, problem, particles, noise, step_size),
    *(num_steps, save_every, batch_size),
  )


def check_batch(problem: Problem, batch_size: Any) -> None:
  """Raise unless the problem has that many data."""
  check_count('batch_size', batch_size)
  check_range('batch_size', batch_size, 1, num_data(problem))


def check_process(noise: Any, step_size: Any) -> None:
  """Raise if what drives the particles is out of range."""
  if not isinstance(noise, StableNoise):
    raise ValueError(f'noise must be a noise.StableNoise, got {noise!r}')
  noise.check_scalar()
  check_range(
    'step_size', step_size, 0.0, np.inf, open_low=True, open_high=True
  )
  if np.shape(step_size) != ():
    raise ValueError(
      'step_size must be a scalar, got an array of shape '
      f'{np.shape(step_size)}; vmap over it instead'
    )


def increments(
  key: PRNGKey, noise: StableNoise, particles: Array, step_size: ArrayLike
) -> Array:
  """The noise of one step for n particles, [n, p], or [n, 1] for Type I.

  Drawn as for the first leaf of a pytree, a kernel [p, n], so that an optimizer
  meets the same noise.
  """
  kernel: Any = jax.ShapeDtypeStruct(particles.shape[::-1], particles.dtype)
  (x,) = noise.draw_leaves(key, [kernel], [KERNEL], step_size)
  return x.T


@jax.jit
def _euler_step(
  key: PRNGKey,
  problem: Problem,
  particles: Float[Array, 'n p'],
  noise: StableNoise,
  step_size: ArrayLike,
) -> Float[Array, 'n p']:
  eta = jnp.asarray(step_size, particles.dtype)
  slopes = loss_slopes(problem, mean_output(problem, particles))

  def moved(block: Array, x: Array) -> Array:
    return block + eta * block_velocity(problem, block, slopes) + x

  if noise.kind != 'type2':
    x = increments(key, noise, particles, eta)
    return by_blocks(moved, problem, particles, x)
  # All numbers of Type II would be read and written again: each block of
  # particles draws its own.
  noise.check_scalar()

  def driven(block: Array, rows: Array) -> Array:
    return moved(block, _entries(key, noise, particles, eta, rows))

  rows = jnp.arange(len(particles), dtype=jnp.uint32)
  return by_blocks(driven, problem, particles, rows)


def _entries(
  key: PRNGKey,
  noise: StableNoise,
  particles: Array,
  step_size: ArrayLike,
  rows: Array,
) -> Array:
  """Some rows of the `increments` of Type II."""
  n, p = particles.shape
  kernel: Any = jax.ShapeDtypeStruct((p, n), particles.dtype)
  starts = jnp.arange(p, dtype=jnp.uint32) * np.uint32(n)
  index = starts[:, None] + rows[None]
  key = jax.random.fold_in(key, 0)
  # Along the particles, not the few coordinates, the draws are vector
  # instructions: the transpose must not fuse with them. A branch ends the
  # fusion; that it is always taken, the compiler does not see.
  words = jax.random.key_data(key).reshape(-1)
  return lax.cond(
    lax.population_count(words[0]) <= 32,
    lambda: noise.draw_entries(key, kernel, index, step_size),
    lambda: jnp.zeros(index.shape, particles.dtype),
  ).T


@functools.partial(jax.jit, static_argnums=(5, 6, 7))
def _simulate(
  key: PRNGKey,
  problem: Problem,
  particles: Float[Array, 'n p'],
  noise: StableNoise,
  step_size: ArrayLike,
  num_steps: int,
  save_every: int,
  batch_size: int | None,
) -> Trajectory:
  def step(theta: Array, t: Array) -> tuple[Array, None]:
    step_key = jax.random.fold_in(key, t)
    data = problem
    if batch_size is not None:
      data = batch_of(jax.random.fold_in(step_key, 1), problem, batch_size)
    return _euler_step(step_key, data, theta, noise, step_size), None

  def stretch(theta: Array, t: Array) -> tuple[Array, Array]:
    steps = t * save_every + jnp.arange(save_every, dtype=jnp.int32)
    theta, _ = lax.scan(step, theta, steps)
    return theta, theta

  saves = jnp.arange(num_steps // save_every, dtype=jnp.int32)
  _, kept = lax.scan(stretch, particles, saves)
  steps = (jnp.arange(len(saves) + 1) * save_every).astype(particles.dtype)
  times = steps * jnp.asarray(step_size, particles.dtype)
  return Trajectory(times, jnp.concatenate([particles[None], kept]))


def batch_of(key: PRNGKey, problem: Problem, size: int) -> Problem:
  """The problem with so many of its data, drawn without replacement."""
  rows = jax.random.choice(key, num_data(problem), (size,), replace=False)
  return dataclasses.replace(
    problem,
    inputs=rows_of(problem.inputs, rows),
    targets=rows_of(problem.targets, rows),
  )
