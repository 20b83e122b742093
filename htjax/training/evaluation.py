"""Loss and accuracy over a whole data set, batch by batch."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax

from htjax.training.lanes import Examples
from htjax.types import Array, PyTree


def evaluate(
  apply: Callable[[PyTree, Array], Array],
  params: PyTree,
  inputs: Array,
  labels: Array,
  *,
  batch_size: int = 5000,
) -> tuple[Array, Array]:
  """Mean loss and accuracy over a whole data set, batch by batch.

  Args:
    apply: (params, inputs [b, ..]) -> logits [b, num_classes].
    params: pytree of weights.
    inputs: [num_examples, ..].
    labels: [num_examples] integers.
    batch_size: examples per batch; bounds the memory.

  Returns:
    (loss, accuracy): both [] float32; accuracy in [0, 1] is the number of hits
    over the number of examples.
  """
  loss, hits = totals_of(apply, params, Examples(inputs, labels), batch_size)
  return loss / labels.shape[0], hits / labels.shape[0]


def cross_entropy(logits: Array, labels: Array) -> Array:
  """Cross-entropy of each example, in nats."""
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def totals_of(
  apply: Callable[[PyTree, Array], Array],
  params: PyTree,
  data: Examples,
  batch_size: int,
) -> tuple[Array, Array]:
  """Sum of the losses and number of hits, at most `batch_size` at a time."""

  def of_batch(batch: Examples) -> tuple[Array, Array]:
    logits = apply(params, batch.inputs)
    hits = logits.argmax(-1) == batch.labels
    return cross_entropy(logits, batch.labels).sum(), hits.sum(dtype=jnp.int32)

  num_examples = data.labels.shape[0]
  batch_size = min(batch_size, num_examples)
  num_whole = num_examples // batch_size

  def add(carry, i):
    batch = jax.tree.map(
      lambda a: lax.dynamic_slice_in_dim(a, i * batch_size, batch_size), data
    )
    return jax.tree.map(jnp.add, carry, of_batch(batch)), None

  totals = (jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32))
  totals, _ = lax.scan(add, totals, jnp.arange(num_whole))
  if num_examples % batch_size:
    rest = jax.tree.map(lambda a: a[num_whole * batch_size :], data)
    totals = jax.tree.map(jnp.add, totals, of_batch(rest))
  return totals
