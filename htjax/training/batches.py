"""Which examples a step sees."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from htjax.training.lanes import Examples, LaneState
from htjax.types import Array, PRNGKey


def steps_per_epoch(num_train: int, size: int, drop_last: bool) -> int:
  """Number of batches of `size` that one pass over the examples takes."""
  if size >= num_train:
    return 1
  return num_train // size if drop_last else -(-num_train // size)


def next_batch(
  state: LaneState,
  data: Examples,
  size: int,
  drop_last: bool,
  epoch_key: Callable[[Array], PRNGKey],
) -> tuple[Array, Examples, Array | None]:
  """The epoch's order, the step's examples and their weights.

  Batches have one static size; the places of a last partial batch that are
  left over have weight 0.

  Args:
    state: of the lane, before the step.
    data: the training set.
    size: static. At least the size of the training set: all examples as they
      are.
    drop_last: static, whether a last partial batch is left out.
    epoch_key: number of the epoch -> key of its permutation.

  Returns:
    (order, examples, weights): [num_train] int32, what is to be kept for the
    next step; arrays [size, ..]; [size] float32, or None where all are 1.
  """
  num_train = data.labels.shape[0]
  if size >= num_train:
    return state.order, data, None
  per_epoch = steps_per_epoch(num_train, size, drop_last)
  epoch, place = state.steps // per_epoch, state.steps % per_epoch

  def reshuffled() -> Array:
    order = jax.random.permutation(epoch_key(epoch), num_train)
    return order.astype(jnp.int32)

  order = lax.cond(place == 0, reshuffled, lambda: state.order)
  position = place * size + jnp.arange(size)
  index = order[jnp.minimum(position, num_train - 1)]
  batch: Any = jax.tree.map(lambda a: a[index], data)
  if drop_last or num_train % size == 0:
    return order, batch, None
  return order, batch, (position < num_train).astype(jnp.float32)


def weighted_mean(losses: Array, weight: Array | None) -> Array:
  """Mean of the losses, of those of weight 1."""
  if weight is None:
    return jnp.mean(losses)
  return jnp.sum(losses * weight) / jnp.sum(weight)
