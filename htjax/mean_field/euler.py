"""The error of the Euler scheme: coarse steps against a fine grid.

Schemes of different step sizes meet the same initial values and the same
path of noise, of which a coarse step takes the sum over its own time.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax import multihost
from htjax.checks import check_count, check_key, checked
from htjax.mean_field.problem import Problem
from htjax.mean_field.short_forms import gathers
from htjax.mean_field.simulation import increments
from htjax.mean_field.studies import (
  STUDY,
  Study,
  check_start,
  check_study,
  data_of,
  norm,
  over_replicas,
  own_drift,
)
from htjax.noise import StableNoise
from htjax.products import full_precision
from htjax.types import Array, ArrayLike, PRNGKey


class EulerErrors(NamedTuple):
  """Distances between Euler schemes and a fine one, per step and replica.

  Attributes:
    step_sizes: [k].
    typical: [k, R], the mean over particles of the distance at the horizon.
    largest: [k, R], the sup over particles of the distance at the horizon.
  """

  step_sizes: np.ndarray
  typical: Array
  largest: Array


@checked
@gathers(noise=StableNoise, study=Study)
@full_precision
def euler_error(
  key: PRNGKey,
  problem: Problem,
  noise: StableNoise,
  *,
  step_sizes: Sequence[float],
  fine_step_size: float,
  horizon: float,
  num_particles: int,
  study: Study = STUDY,
) -> EulerErrors:
  """Distance at the horizon between Euler schemes and a much finer one.

  A coarse step is driven by the sum of the fine scheme's increments over it.
  The fine scheme has an error of its own, a fraction fine_step_size / step of
  that of order one: keep that small. Memory holds the fine increments of the
  replicas of one batch, horizon / fine_step_size times n p numbers each.

  Args:
    key: typed key.
    problem: see `Problem`.
    noise: the process, `htjax.noise.StableNoise`, or in its place alpha=,
      sigma= and kind=.
    step_sizes: static, each a multiple of fine_step_size that divides the
      horizon.
    fine_step_size: static, of the reference scheme, in units of time.
    horizon: static, T.
    num_particles: static, n.
    study: replicas, initial values and devices, also in the short form of
      `propagation_of_chaos`. Without common noise every scheme has its own.
      With a batch_size the coarse steps use batches and the fine ones all data:
      the distances are then of order step^(1/2) for small steps.

  Returns:
    EulerErrors.

  Raises:
    ValueError: as `simulate`; step sizes or horizon that do not fit the fine
      grid.

  Source: [IC], Theorem 4.1.

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
    >>> errors = mean_field.euler_error(
    ...   keys[1],
    ...   problem,
    ...   step_sizes=(0.25, 0.125),
    ...   fine_step_size=0.03125,
    ...   horizon=0.5,
    ...   num_particles=8,
    ...   num_replicas=4,
    ...   alpha=1.5,
    ...   sigma=0.1,
    ... )
    >>> errors.step_sizes.tolist(), errors.typical.shape
    ([0.25, 0.125], (2, 4))
  """
  key = check_key(key)
  ratios = [_ratio('step_sizes', h, fine_step_size) for h in step_sizes]
  num_steps = _ratio('horizon', horizon, fine_step_size)
  for ratio, step in zip(ratios, step_sizes, strict=True):
    if num_steps % ratio:
      raise ValueError(
        f'step_sizes must divide the horizon {horizon}, got {step}'
      )
  if not ratios:
    raise ValueError('step_sizes must not be empty')
  check_study(study, problem)
  initial = check_start(
    problem, noise, fine_step_size, num_steps, study.initial
  )
  check_count('num_particles', num_particles)
  typical, largest = multihost.local(
    _euler(
      *(key, problem, noise, fine_step_size),
      *(tuple(ratios), num_steps, num_particles),
      study._replace(initial=initial),
    )
  )
  return EulerErrors(np.array(step_sizes), typical.T, largest.T)


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _euler(
  key: PRNGKey,
  problem: Problem,
  noise: StableNoise,
  fine: ArrayLike,
  ratios: tuple[int, ...],
  num_steps: int,
  num_particles: int,
  study: Any,
) -> tuple[Array, Array]:
  def replica(replica_key: PRNGKey) -> tuple[Array, Array]:
    start_key, noise_key = jax.random.split(replica_key)
    start = study.initial(start_key, num_particles)
    eta = jnp.asarray(fine, start.dtype)

    def path(noise_key: PRNGKey) -> Array:
      def draw(k: Array) -> Array:
        return increments(jax.random.fold_in(noise_key, k), noise, start, eta)

      return lax.map(draw, jnp.arange(num_steps))

    def at_horizon(ratio: int, path: Array, study: Study) -> Array:
      """The part of each particle at the horizon that is due to the drift."""
      coarse = path.reshape(-1, ratio, *path.shape[1:]).sum(axis=1)

      def step(state: tuple[Array, Array], at: tuple[Array, Array]) -> Any:
        (fallen, moved), (t, x) = state, at
        data = data_of(study, problem, jax.random.fold_in(noise_key, t))
        moved = moved + ratio * eta * own_drift(data, fallen + moved)
        return (fallen + x, moved), None

      state = (start, jnp.zeros_like(start))
      steps = (jnp.arange(len(coarse)), coarse)
      return lax.scan(step, state, steps)[0][1]

    shared = path(noise_key)
    exact = at_horizon(1, shared, study._replace(batch_size=None))
    errors = []
    for i, ratio in enumerate(ratios):
      if study.common_noise:
        error = at_horizon(ratio, shared, study) - exact
      else:
        other = path(jax.random.fold_in(noise_key, num_steps + i))
        error = at_horizon(ratio, other, study) - exact
        error = error + (other - shared).sum(axis=0)
      errors.append(norm(error))
    return (
      jnp.stack([e.mean() for e in errors]),
      jnp.stack([e.max() for e in errors]),
    )

  return over_replicas(replica, key, study)


def _ratio(name: str, value: float, fine: float) -> int:
  """value / fine, a positive integer."""
  for label, number in ((name, value), ('fine_step_size', fine)):
    if not isinstance(number, int | float | np.number) or not (
      0 < number < math.inf
    ):
      raise ValueError(f'{label} must be positive, got {number!r}')
  ratio = round(value / fine)
  if ratio < 1 or abs(ratio * fine - value) > 1e-6 * value:
    raise ValueError(
      f'{name} must be a multiple of fine_step_size = {fine}, got {value}'
    )
  return ratio
