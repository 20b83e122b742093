"""The error of the Euler scheme: coarse steps against a fine grid.

Schemes of different step sizes meet the same initial values and the same
path of noise, of which a coarse step takes the sum over its own time.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from htjax.checks import check_count, check_key
from htjax.mean_field.problem import Problem
from htjax.mean_field.simulation import noise, noise_scale
from htjax.mean_field.studies import (
  Initial,
  cast,
  check_replicas,
  check_study,
  norm,
  over_replicas,
  own_drift,
)
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


def euler_error(
  key: PRNGKey,
  problem: Problem,
  *,
  step_sizes: Sequence[float],
  fine_step_size: float,
  horizon: float,
  num_particles: int,
  num_replicas: int,
  alpha: ArrayLike,
  sigma: ArrayLike,
  kind: str = 'type1',
  initial: Initial | None = None,
  common_noise: bool = True,
  at_once: int = 1,
  mesh: Mesh | None = None,
) -> EulerErrors:
  """Distance at the horizon between Euler schemes and a much finer one.

  A coarse step is driven by the sum of the fine scheme's increments over it.
  The fine scheme has an error of its own, a fraction fine_step_size / step of
  that of order one: keep that small. Memory holds the fine increments of the
  replicas of one batch, horizon / fine_step_size times n p numbers each.

  Args:
    key: typed key.
    problem: see `Problem`.
    step_sizes: static, each a multiple of fine_step_size that divides the
      horizon.
    fine_step_size: static, of the reference scheme, in units of time.
    horizon: static, T.
    num_particles: static, n.
    num_replicas: static.
    alpha: tail index in (0, 2], traced.
    sigma: >= 0, traced.
    kind: 'type1', 'type2' or 'type3', static.
    initial: `initial(key, n)` draws n independent initial values [n, p]; None
      is N(0, I_p) with p the size of one input.
    common_noise: False gives every scheme noise of its own, as a control.
    at_once: static, replicas per batch: 1 is best on a CPU.
    mesh: static, devices over which the replicas are split evenly.

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
  initial = check_study(
    problem, alpha, sigma, fine_step_size, num_steps, kind, initial
  )
  check_count('num_particles', num_particles)
  check_replicas(num_replicas, at_once, mesh)
  typical, largest = _euler(
    key,
    problem,
    alpha,
    sigma,
    fine_step_size,
    tuple(ratios),
    num_steps,
    num_particles,
    num_replicas,
    kind,
    initial,
    common_noise,
    at_once,
    mesh,
  )
  return EulerErrors(np.array(step_sizes), typical.T, largest.T)


@functools.partial(jax.jit, static_argnums=(5, 6, 7, 8, 9, 10, 11, 12, 13))
def _euler(
  key,
  problem,
  alpha,
  sigma,
  fine,
  ratios,
  num_steps,
  num_particles,
  num_replicas,
  kind,
  initial,
  common_noise,
  at_once,
  mesh,
):
  def replica(replica_key):
    start_key, noise_key = jax.random.split(replica_key)
    start = initial(start_key, num_particles)
    a, s, eta = cast(start.dtype, alpha, sigma, fine)
    scale = noise_scale(a, s, eta)

    def increments(noise_key):
      def draw(k):
        step_key = jax.random.fold_in(noise_key, k)
        return noise(step_key, start.shape, start.dtype, a, scale, kind)

      return lax.map(draw, jnp.arange(num_steps))

    def at_horizon(ratio, increments):
      """The part of each particle at the horizon that is due to the drift."""
      coarse = increments.reshape(-1, ratio, *increments.shape[1:]).sum(axis=1)

      def step(state, x):
        fallen, moved = state
        moved = moved + ratio * eta * own_drift(problem, fallen + moved)
        return (fallen + x, moved), None

      state = (start, jnp.zeros_like(start))
      return lax.scan(step, state, coarse)[0][1]

    shared = increments(noise_key)
    exact = at_horizon(1, shared)
    errors = []
    for i, ratio in enumerate(ratios):
      if common_noise:
        error = at_horizon(ratio, shared) - exact
      else:
        other = increments(jax.random.fold_in(noise_key, num_steps + i))
        error = at_horizon(ratio, other) - exact
        error = error + (other - shared).sum(axis=0)
      errors.append(norm(error))
    return (
      jnp.stack([e.mean() for e in errors]),
      jnp.stack([e.max() for e in errors]),
    )

  return over_replicas(replica, key, num_replicas, at_once, mesh)


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
