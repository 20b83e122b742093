"""Gradients of the risk along the Euler scheme, measured."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from htjax import multihost
from htjax.checks import check_count, check_key, checked
from htjax.mean_field.problem import Problem, drift, risk
from htjax.mean_field.short_forms import gathers
from htjax.mean_field.simulation import simulate
from htjax.mean_field.studies import (
  STUDY,
  Initial,
  Study,
  check_start,
  check_study,
  over_replicas,
)
from htjax.noise import StableNoise
from htjax.products import full_precision
from htjax.types import Array, ArrayLike, PRNGKey


class GradientNorms(NamedTuple):
  """Squared gradient norms of the risk along paths, and where they started.

  Attributes:
    squares: [R, num_steps], |grad R|^2 before each step, of each replica.
    least: [R], the same at the step at which the mean over replicas is least.
    risk: [], mean over replicas of the risk at time 0.
  """

  squares: Array
  least: Array
  risk: Array


@checked
@gathers(noise=StableNoise, study=Study)
@full_precision
def gradient_norms(
  key: PRNGKey,
  problem: Problem,
  noise: StableNoise,
  *,
  step_size: ArrayLike,
  num_steps: int,
  num_particles: int,
  study: Study = STUDY,
) -> GradientNorms:
  """Run the Euler scheme, and measure the gradient of the risk on the way.

  The gradient in particle i is -b(theta^i, mu^n) / n, so that its squared norm
  is sum_i |b|^2 / n^2. Its mean over replicas, least over the steps, is what
  `gradient_norm_bound` has a curve for.

  Args:
    key: typed key.
    problem: see `Problem`.
    noise: the process, `htjax.noise.StableNoise`, or in its place alpha=,
      sigma= and kind=.
    step_size: eta > 0, traced.
    num_steps: K, static.
    num_particles: n, static.
    study: replicas, initial values and devices, or its fields in its place;
      with a batch_size the particles move by batches, and the gradients are
      those of all data along the way.

  Returns:
    GradientNorms of `study.num_replicas` replicas.

  Raises:
    ValueError: as `simulate`; a count below 1, replicas that cannot be spread
      over the mesh.

  Source: [IC], Proposition B.1.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import mean_field
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> problem = mean_field.Problem(
    ...   unit=lambda theta, x: jnp.tanh(theta @ x),
    ...   loss=lambda f, y: (f - y) ** 2,
    ...   inputs=jax.random.normal(keys[0], (8, 2)),
    ...   targets=jnp.ones(8),
    ... )
    >>> found = mean_field.gradient_norms(
    ...   keys[1],
    ...   problem,
    ...   alpha=1.8,
    ...   sigma=0.1,
    ...   step_size=0.1,
    ...   num_steps=4,
    ...   num_particles=16,
    ...   num_replicas=3,
    ... )
    >>> found.squares.shape, bool(found.least.mean() <= found.squares.mean())
    ((3, 4), True)
  """
  key = check_key(key)
  check_count('num_particles', num_particles)
  check_study(study, problem)
  initial = check_start(problem, noise, step_size, num_steps, study.initial)
  sizes = num_particles, num_steps, initial, study
  return multihost.local(
    _gradient_norms(key, problem, noise, step_size, *sizes)
  )


@functools.partial(
  jax.jit, static_argnames=('num_particles', 'num_steps', 'initial', 'study')
)
def _gradient_norms(
  key: PRNGKey,
  problem: Problem,
  noise: StableNoise,
  step_size: ArrayLike,
  num_particles: int,
  num_steps: int,
  initial: Initial,
  study: Study,
) -> GradientNorms:
  def square(theta: Array) -> Array:
    b = drift(problem, theta, theta)
    return jnp.sum(b * b) / num_particles**2

  def replica(own: PRNGKey) -> tuple[Array, Array]:
    start_key, noise_key = jax.random.split(own)
    theta = initial(start_key, num_particles)
    path = simulate(
      noise_key,
      *(problem, theta, noise),
      step_size=step_size,
      num_steps=num_steps,
      batch_size=study.batch_size,
      save_every=1,
    ).particles[:-1]
    return jax.lax.map(square, path), risk(problem, theta)

  squares, risks = over_replicas(replica, key, study)
  least = squares[:, jnp.argmin(squares.mean(axis=0))]
  return GradientNorms(squares, least, risks.mean())
