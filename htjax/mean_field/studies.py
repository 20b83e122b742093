"""Parts that the studies of coupled systems share.

A study runs replicas, each with initial values and noise of its own, and
follows how far the drift has moved each particle: where two systems meet the
same noise, their distance is that between what the drifts did, and the noise,
which can be huge, must not round it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from htjax.checks import check_count
from htjax.mean_field.problem import (
  Problem,
  check_particles,
  check_problem,
  flat_inputs,
  loss_slopes,
  mean_output,
  velocity,
)
from htjax.mean_field.simulation import batch_of, check_batch, check_process
from htjax.noise import StableNoise
from htjax.types import Array, PRNGKey

Initial = Callable[[PRNGKey, int], Array]


class Study(NamedTuple):
  """Replicas, initial values and devices of a study of coupled systems; static.

  Attributes:
    num_replicas: repetitions, each with initial values and noise of its own.
    initial: `initial(key, n)` draws n independent initial values [n, p]; None
      is N(0, I_p) with p the size of one input.
    common_noise: False drives what is compared by noises of their own, as a
      control.
    at_once: replicas per batch: 1 is best on a CPU.
    mesh: devices over which the replicas are split evenly.
    batch_size: data that the drift of a system's step uses, drawn without
      replacement anew in each step, for all systems alike; the process that
      they are compared with uses all data, as None does.
  """

  num_replicas: int = 64
  initial: Initial | None = None
  common_noise: bool = True
  at_once: int = 1
  mesh: Mesh | None = None
  batch_size: int | None = None


STUDY = Study()


def check_start(
  problem: Problem,
  noise: StableNoise,
  step_size: Any,
  num_steps: int,
  initial: Initial | None,
) -> Initial:
  """Raise if a study cannot run; returns how its particles start."""
  check_process(noise, step_size)
  check_count('num_steps', num_steps)
  check_problem(problem)
  if initial is None:
    inputs = flat_inputs(problem)
    initial = _standard_normal(inputs.shape[1], inputs.dtype)
    start = jnp.zeros((1, inputs.shape[1]), inputs.dtype)
    try:
      check_particles(problem, start)
    except ValueError as error:
      raise ValueError(
        'initial must be given where the unit does not take as many parameters '
        f'as one of inputs has numbers: {error}'
      ) from error
  example = jax.eval_shape(lambda: initial(jax.random.key(0), 2))
  if getattr(example, 'shape', ())[:1] != (2,):
    raise ValueError(
      f'initial(key, n) must return [n, p], got {example} for n = 2'
    )
  check_particles(problem, jnp.zeros(example.shape, example.dtype))
  return initial


def over_replicas(f: Callable, key: PRNGKey, study: Study) -> Any:
  """f of the replicas' keys, some in a batch on each device of the mesh."""
  num, at_once, mesh = study.num_replicas, study.at_once, study.mesh
  batch = None if at_once == 1 else at_once
  keys = jax.random.split(key, num)
  if mesh is None:
    return lax.map(f, keys, batch_size=batch)
  # `jax.make_mesh` gives axes of a type that would bind the keys as well.
  mesh = Mesh(mesh.devices, mesh.axis_names)
  spec = PartitionSpec(mesh.axis_names)
  found = jax.shard_map(
    lambda own: lax.map(f, own, batch_size=batch),
    mesh=mesh,
    in_specs=spec,
    out_specs=spec,
    check_vma=False,
  )(keys)
  # A few numbers a replica, which every host wants to look at.
  return lax.with_sharding_constraint(
    found, NamedSharding(mesh, PartitionSpec())
  )


def check_study(study: Study, problem: Problem) -> None:
  """Raise unless the replicas can be made and spread like that."""
  if not isinstance(study, Study):
    raise ValueError(f'study must be a mean_field.Study, got {study!r}')
  num, mesh = study.num_replicas, study.mesh
  check_count('num_replicas', num)
  check_count('at_once', study.at_once)
  if mesh is not None and num % mesh.size:
    raise ValueError(
      f'num_replicas must be a multiple of the {mesh.size} devices of mesh, '
      f'got {num}'
    )
  if study.batch_size is not None:
    check_batch(problem, study.batch_size)


def own_drift(problem: Problem, theta: Array) -> Array:
  """The drift of every particle of a system."""
  slopes = loss_slopes(problem, mean_output(problem, theta))
  return velocity(problem, theta, slopes)


def data_of(study: Study, problem: Problem, step_key: PRNGKey) -> Problem:
  """The data of one step of the systems; as in `simulate`."""
  if study.batch_size is None:
    return problem
  return batch_of(jax.random.fold_in(step_key, 1), problem, study.batch_size)


def norm(x: Array) -> Array:
  """Euclidean norms of the rows."""
  return jnp.sqrt(jnp.sum(x * x, axis=-1))


@functools.lru_cache
def _standard_normal(p: int, dtype: np.dtype) -> Initial:
  """N(0, I_p) initial values; one object per p, as jit caches by it."""
  return lambda key, n: jax.random.normal(key, (n, p), dtype)
