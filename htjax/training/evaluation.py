"""Loss and accuracy over a whole data set, batch by batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from htjax.checks import check_count, check_real, checked
from htjax.training.lanes import Examples
from htjax.types import Array, ArrayLike, PyTree

Apply = Callable[[PyTree, Array], Array]
Losses = Callable[[Array, Array], Array]


@checked
def cross_entropy(outputs: Array, labels: Array) -> Array:
  """Cross-entropy of each example, in nats.

  Args:
    outputs: logits [b, num_classes].
    labels: [b] integers.

  Returns:
    Array [b].

  Raises:
    ValueError: outputs that are no floating [b, num_classes], labels that are
      not [b] integers.
  """
  for name, value, rank, kind in (
    ('outputs', outputs, 2, jnp.floating),
    ('labels', labels, 1, jnp.integer),
  ):
    shape, dtype = np.shape(value), jnp.result_type(value)
    if len(shape) != rank or not jnp.issubdtype(dtype, kind):
      raise ValueError(
        f'{name} must be {kind.__name__} numbers of rank {rank}, got '
        f'{dtype.name} of shape {shape}'
      )
  if np.shape(outputs)[0] != np.shape(labels)[0]:
    raise ValueError(
      'outputs and labels must have one length, got shapes '
      f'{np.shape(outputs)} and {np.shape(labels)}'
    )
  return optax.softmax_cross_entropy_with_integer_labels(outputs, labels)


@checked
def evaluate(
  apply: Apply,
  params: PyTree,
  inputs: PyTree,
  labels: ArrayLike,
  *,
  losses: Losses = cross_entropy,
  batch_size: int = 5000,
) -> tuple[Array, Array]:
  """Mean loss and accuracy over a whole data set, batch by batch.

  Args:
    apply: (params, inputs [b, ..]) -> outputs, logits [b, num_classes] for
      classes.
    params: pytree of weights.
    inputs: [num_examples, ..].
    labels: [num_examples] integers, or whatever `losses` takes.
    losses: (outputs, labels) -> [b].
    batch_size: examples per batch; bounds the memory.

  Returns:
    (loss, accuracy): both [] float32; accuracy in [0, 1] is the number of hits
    over the number of examples, 0 where labels are not classes.

  Raises:
    ValueError: no labels, inputs of another number, batch_size < 1.
  """
  check_count('batch_size', batch_size)
  labels = jnp.asarray(labels)
  if labels.shape[:1] in ((), (0,)):
    raise ValueError(
      f'labels must be one for each example, got shape {labels.shape}'
    )
  for leaf in jax.tree.leaves(inputs):
    check_real('inputs', leaf)
    if np.shape(leaf)[:1] != labels.shape[:1]:
      raise ValueError(
        f'inputs must have {labels.shape[0]} rows, one for each of labels, got '
        f'shape {np.shape(leaf)}'
      )
  inputs = jax.tree.map(jnp.asarray, inputs)
  try:
    jax.eval_shape(lambda p, x: losses(apply(p, x), labels), params, inputs)
  except Exception as error:
    raise ValueError(
      f'losses(apply(params, inputs), labels) cannot be computed: {error}'
    ) from error
  data = Examples(inputs, labels)
  loss, hits = on_device(apply, losses, params, data, batch_size)
  return loss / labels.shape[0], hits / labels.shape[0]


def on_device(
  apply: Apply, losses: Losses, params: PyTree, data: Examples, size: int
) -> tuple[Array, Array]:
  """Sum of the losses and number of hits, in one loop over the batches."""
  size, whole, rest = pieces(data.labels.shape[0], size)

  def add(totals: Any, i: Array) -> Any:
    return add_batch(apply, losses, totals, params, data, i * size, size), None

  totals, _ = lax.scan(add, nothing(), jnp.arange(whole))
  if not rest:
    return totals
  return add_batch(apply, losses, totals, params, data, whole * size, rest)


def pieces(num_examples: int, size: int) -> tuple[int, int, int]:
  """(size of a batch, number of whole batches, examples that are left)."""
  size = min(size, num_examples)
  return size, num_examples // size, num_examples % size


def nothing() -> tuple[Array, Array]:
  """The sums over no examples."""
  return jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)


def add_batch(
  apply: Apply,
  losses: Losses,
  totals: tuple[Array, Array],
  params: PyTree,
  data: Examples,
  start: Array | int,
  size: int,
) -> tuple[Array, Array]:
  """The sums with those over `size` examples from `start` on."""
  batch = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, size), data)
  outputs = apply(params, batch.inputs)
  loss = losses(outputs, batch.labels).sum()
  return totals[0] + loss, totals[1] + _hits(outputs, batch.labels)


def _hits(outputs: Array, labels: Array) -> Array:
  if not jnp.issubdtype(labels.dtype, jnp.integer):
    return jnp.zeros((), jnp.int32)
  return jnp.sum(outputs.argmax(-1) == labels, dtype=jnp.int32)
