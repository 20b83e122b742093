"""Which examples a step sees."""

import jax
import jax.numpy as jnp
from jax import lax

from htjax.training.keys import BATCHES, child
from htjax.training.lanes import Examples, Lane, LaneState
from htjax.types import Array


def next_batch(
  state: LaneState, lane: Lane, data: Examples, size: int
) -> tuple[Array, Examples, Array | None]:
  """The epoch's order, the step's examples and their weights.

  Batches have one static size; the places of a last partial batch that are
  left over have weight 0.
  """
  num_train = data.labels.shape[0]
  if size >= num_train:
    return state.order, data, None
  per_epoch = -(-num_train // size)
  epoch, place = state.steps // per_epoch, state.steps % per_epoch

  def reshuffled() -> Array:
    key = jax.random.fold_in(child(lane.seed, BATCHES), epoch)
    return jax.random.permutation(key, num_train).astype(jnp.int32)

  order = lax.cond(place == 0, reshuffled, lambda: state.order)
  position = place * size + jnp.arange(size)
  index = order[jnp.minimum(position, num_train - 1)]
  batch = jax.tree.map(lambda a: a[index], data)
  if num_train % size == 0:
    return order, batch, None
  return order, batch, (position < num_train).astype(jnp.float32)


def weighted_mean(losses: Array, weight: Array | None) -> Array:
  """Mean of the losses, of those of weight 1."""
  if weight is None:
    return jnp.mean(losses)
  return jnp.sum(losses * weight) / jnp.sum(weight)
