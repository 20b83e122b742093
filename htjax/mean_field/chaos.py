"""Propagation of chaos: finite systems against independent limit processes.

Each particle of a finite system is paired with a copy of the limit process
that meets the same initial value and the same noise, so that what differs is
the measure in the drift alone.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from htjax import multihost
from htjax.checks import check_count, check_key, checked
from htjax.mean_field.problem import (
  Problem,
  loss_slopes,
  mean_output,
  velocity,
)
from htjax.mean_field.short_forms import gathers
from htjax.mean_field.simulation import increments
from htjax.mean_field.studies import (
  STUDY,
  Initial,
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


class ReferencePath(NamedTuple):
  """The path of the law mu_t of a very large system, as the drift sees it.

  Attributes:
    outputs: [num_steps, m] or [num_steps, m, l], mu_t(h_x) at the start of
      each step.
    size: number of particles behind it.
  """

  outputs: Array
  size: int


class ChaosErrors(NamedTuple):
  """Distances of particles to their mean-field limits, per width and replica.

  Attributes:
    widths: [k].
    typical: [k, R], the mean over particles of sup_t |theta^i - theta^i,inf|.
    largest: [k, R], sup over particles and times, as in the theorem.
    correlation: [k, R], contributions to the correlation between two
      particles, see `propagation_of_chaos`.
  """

  widths: np.ndarray
  typical: Array
  largest: Array
  correlation: Array


@checked
@gathers(noise=StableNoise)
@full_precision
def reference_path(
  key: PRNGKey,
  problem: Problem,
  noise: StableNoise,
  *,
  size: int,
  step_size: ArrayLike,
  num_steps: int,
  initial: Initial | None = None,
) -> ReferencePath:
  """The limit law's path, from one system of `size` particles.

  Its outputs differ from the limit's by O(size^(-1/2)), an error that all
  replicas of a study share.

  Args:
    key: typed key.
    problem: see `Problem`.
    noise: the process, `htjax.noise.StableNoise`, or in its place alpha=,
      sigma= and kind=.
    size: static, number of particles.
    step_size: eta > 0, traced.
    num_steps: static.
    initial: `initial(key, n)` draws n independent initial values [n, p]; None
      is N(0, I_p) with p the size of one input.

  Returns:
    ReferencePath.

  Raises:
    ValueError: as `simulate`; size not a positive integer.

  Source: [IC], eq. (5).

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
    >>> path = mean_field.reference_path(
    ...   keys[1],
    ...   problem,
    ...   size=64,
    ...   alpha=1.5,
    ...   sigma=0.1,
    ...   step_size=0.25,
    ...   num_steps=4,
    ... )
    >>> path.outputs.shape, path.size
    ((4, 8), 64)
  """
  key = check_key(key)
  check_count('size', size)
  initial = check_start(problem, noise, step_size, num_steps, initial)
  outputs = _reference(key, problem, noise, step_size, size, num_steps, initial)
  return ReferencePath(outputs, size)


@checked
@gathers(noise=StableNoise, study=Study)
@full_precision
def propagation_of_chaos(
  key: PRNGKey,
  problem: Problem,
  noise: StableNoise,
  *,
  step_size: ArrayLike,
  num_steps: int,
  widths: Sequence[int] = (16, 64, 256, 1024, 4096),
  reference: int | ReferencePath = 65_536,
  study: Study = STUDY,
) -> ChaosErrors:
  """Distance between particles of finite systems and of the limit.

  In each replica, independent copies of the limit process (drift at the
  reference's law) and systems of every width start from the same values and
  meet the same noise: particle i of a system of width n and copy i. Theorem
  4.2 bounds the mean of `largest` by C n^(-1/2), for the continuous processes
  and, by the discrete Gronwall inequality with the same constant, for their
  Euler schemes, which is what is compared here.

  `correlation` shows the independence itself. Particles are exchangeable, so
  the variance of the network's output over replicas is
  (v + (n - 1) c) / n, with v the variance of h_x of one particle and c the
  covariance of h_x between two. Row n holds, per replica, estimates of c / v,
  averaged over inputs and outputs, whose mean over replicas is the estimate, up
  to O(n^-2).
  The outputs of the independent copies serve as control variates.

  Args:
    key: typed key.
    problem: see `Problem`.
    noise: the process, `htjax.noise.StableNoise`, or in its place alpha=,
      sigma= and kind=.
    step_size: eta > 0, traced.
    num_steps: static; the horizon is step_size num_steps.
    widths: static, numbers of particles.
    reference: static, size of the reference system, at least the largest
      width; or a ReferencePath for these settings.
    study: replicas, initial values and devices. Without common noise the
      copies have noise of their own: the distances then do not decay. In its
      place num_replicas=, initial=, common_noise=, at_once=, mesh= and
      batch_size= may be given. With a batch_size a part of the distances is
      due to the batches, which all particles share: it is of order
      step_size^(1/2) and does not decay with the width.

  Returns:
    ChaosErrors.

  Raises:
    ValueError: as `simulate`; a width or num_replicas not a positive integer;
      a reference smaller than the largest width, or of another length.

  Source: [IC], Theorem 4.2.

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
    >>> errors = mean_field.propagation_of_chaos(
    ...   keys[1],
    ...   problem,
    ...   widths=(4, 16),
    ...   reference=64,
    ...   num_replicas=4,
    ...   alpha=1.5,
    ...   sigma=0.1,
    ...   step_size=0.25,
    ...   num_steps=4,
    ... )
    >>> errors.widths.tolist(), errors.typical.shape
    ([4, 16], (2, 4))
  """
  key = check_key(key)
  check_study(study, problem)
  initial = check_start(problem, noise, step_size, num_steps, study.initial)
  widths = _check_counts('widths', widths)
  reference_key, replica_key = jax.random.split(key)
  if not isinstance(reference, ReferencePath):
    check_count('reference', reference)
    _check_reference(reference, widths)
    reference = reference_path(
      reference_key,
      problem,
      noise,
      size=reference,
      step_size=step_size,
      num_steps=num_steps,
      initial=initial,
    )
  _check_reference(reference.size, widths)
  if len(reference.outputs) != num_steps:
    raise ValueError(
      f'reference must have num_steps = {num_steps} steps, got '
      f'{len(reference.outputs)}'
    )
  typical, largest, own, copies, variance = multihost.local(
    _chaos(
      *(replica_key, problem, reference.outputs, noise, step_size),
      *(widths, study._replace(initial=initial)),
    )
  )
  return ChaosErrors(
    np.array(widths),
    typical.T,
    largest.T,
    _correlation(jnp.array(widths), own, copies, variance),
  )


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _reference(
  key: PRNGKey,
  problem: Problem,
  noise: StableNoise,
  step_size: ArrayLike,
  size: int,
  num_steps: int,
  initial: Initial,
) -> Float[Array, 'num_steps m ...']:
  start_key, noise_key = jax.random.split(key)
  theta = initial(start_key, size)
  eta = jnp.asarray(step_size, theta.dtype)

  def step(theta: Array, t: Array) -> tuple[Array, Array]:
    outputs = mean_output(problem, theta)
    b = velocity(problem, theta, loss_slopes(problem, outputs))
    step_key = jax.random.fold_in(noise_key, t)
    x = increments(step_key, noise, theta, eta)
    return theta + eta * b + x, outputs

  return lax.scan(step, theta, jnp.arange(num_steps))[1]


@functools.partial(jax.jit, static_argnums=(5, 6))
def _chaos(
  key: PRNGKey,
  problem: Problem,
  path: Float[Array, 'num_steps m ...'],
  noise: StableNoise,
  step_size: ArrayLike,
  widths: tuple[int, ...],
  study: Any,
) -> tuple[Array, ...]:
  def replica(replica_key: PRNGKey) -> tuple[Array, ...]:
    start_key, noise_key, other_key = jax.random.split(replica_key, 3)
    start = study.initial(start_key, max(widths))
    eta = jnp.asarray(step_size, start.dtype)

    def draw(key: PRNGKey) -> Array:
      return increments(key, noise, start, eta)

    def step(state: Any, at: tuple[Array, Array]) -> Any:
      # A particle is what the noise made of it plus what the drift did. The
      # first part is common and can be huge; it must not round the second.
      fallen, own, copies, systems, far = state
      t, outputs = at
      slopes = loss_slopes(problem, outputs)
      copies = copies + eta * velocity(problem, own + copies, slopes)
      step_key = jax.random.fold_in(noise_key, t)
      data = data_of(study, problem, step_key)
      systems = tuple(
        d + eta * own_drift(data, fallen[: len(d)] + d) for d in systems
      )
      x = draw(step_key)
      fallen = fallen + x
      if study.common_noise:
        own, limit = fallen, copies
      else:
        own = own + draw(jax.random.fold_in(other_key, t))
        limit = copies + (own - fallen)
      far = tuple(
        jnp.maximum(f, norm(d - limit[: len(d)]))
        for f, d in zip(far, systems, strict=True)
      )
      return (fallen, own, copies, systems, far), None

    still = jnp.zeros_like(start)
    systems = tuple(still[:n] for n in widths)
    far = tuple(still[:n, 0] for n in widths)
    steps = (jnp.arange(path.shape[0]), path)
    state = (start, start, still, systems, far)
    (fallen, own, copies, systems, far), _ = lax.scan(step, state, steps)
    limits = own + copies
    return (
      jnp.stack([f.mean() for f in far]),
      jnp.stack([f.max() for f in far]),
      jnp.stack([mean_output(problem, fallen[: len(d)] + d) for d in systems]),
      jnp.stack([mean_output(problem, limits[:n]) for n in widths]),
      _spread(problem, limits),
    )

  return over_replicas(replica, key, study)


def _spread(problem: Problem, particles: Float[Array, 'n p']) -> Array:
  """Variance of h_x over particles, [m] or [m, l]."""
  mean = mean_output(problem, particles)

  def squared(theta: Array, x_and_mean: Any) -> Array:
    x, centre = x_and_mean
    return (problem.unit(theta, x) - centre) ** 2

  around = Problem(squared, problem.loss, (problem.inputs, mean), mean)
  n = particles.shape[0]
  return mean_output(around, particles) * (n / max(n - 1, 1))


def _correlation(n: Array, own: Array, copies: Array, variance: Array) -> Array:
  """Per width and replica, what adds up to c / v.

  own and copies: [R, k, m, ..] outputs of the systems and of as many
  independent copies; variance: [R, m, ..] of h_x of one copy.
  """
  num = own.shape[0]

  def squares(f: Array) -> Array:
    centred = f - f.mean(axis=0, keepdims=True)
    return centred**2 * (num / max(num - 1, 1))

  v = variance.mean(axis=0)[None, None]
  # Var of the copies' outputs is v / n exactly, so it is subtracted as drawn.
  excess = (squares(own) - squares(copies)) / v
  excess = excess.reshape(num, len(n), -1).mean(axis=-1)
  return (excess * (n / jnp.maximum(n - 1, 1))[None, :]).T


def _check_counts(name: str, values: Sequence[int]) -> tuple[int, ...]:
  for value in values:
    check_count(f'every entry of {name}', value)
  if not len(values):
    raise ValueError(f'{name} must not be empty')
  return tuple(int(v) for v in values)


def _check_reference(size: int, widths: tuple[int, ...]) -> None:
  if size < max(widths):
    raise ValueError(
      f'reference must be at least the largest width {max(widths)}, got {size}'
    )
