"""Gaussian inputs whose labels are those of a random ReLU network."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from htjax import stable
from htjax.checks import (
  check_choice,
  check_count,
  check_key,
  check_range,
  checked,
)
from htjax.data.structures import Dataset, Split
from htjax.types import Array, PRNGKey

# One child of the key for each part, so that the training set does not change
# with the size of the test set.
_TEACHER, _TRAIN, _TEST = range(3)
_BATCH = 4096


@checked
def synthetic(
  key: PRNGKey,
  *,
  num_train: int = 60_000,
  num_test: int = 10_000,
  dim: int = 784,
  num_classes: int = 10,
  width: int = 2048,
  hidden_layers: int = 6,
  teacher: str = 'uniform',
  alpha: float | None = None,
) -> Dataset:
  """Independent N(0, 1) inputs, labelled by the argmax of a random network.

  The teacher is a ReLU network without biases. Its output layer is always
  drawn from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

  Args:
    key: a typed key; the teacher, the training and the test inputs are drawn
      from independent children of it.
    num_train: number of training examples.
    num_test: number of test examples.
    dim: number of inputs.
    num_classes: number of outputs of the teacher. Classes are not balanced,
      and some may be absent.
    width: neurons in each hidden layer of the teacher.
    hidden_layers: hidden layers of the teacher; 0 is a linear teacher.
    teacher: law of the hidden weights: 'uniform', the law of the output
      layer; or 'stable', independent symmetric alpha-stable entries, each
      layer divided by its Euclidean norm (which no label depends on).
    alpha: stable index in (0, 2]; given with teacher='stable' and only then.

  Returns:
    Dataset with inputs [n, dim].

  Raises:
    ValueError: if an argument is not as described.

  Source: [HT], Section S1.6.1.
  """
  check_key(key)
  counts = {
    'num_train': num_train,
    'num_test': num_test,
    'dim': dim,
    'width': width,
  }
  for name, value in counts.items():
    check_count(name, value)
  check_count('num_classes', num_classes, 2)
  check_count('hidden_layers', hidden_layers, 0)
  check_choice('teacher', teacher, ('uniform', 'stable'))
  if (alpha is None) != (teacher == 'uniform'):
    raise ValueError(
      "alpha must be given with teacher='stable' and only then, got "
      f'alpha={alpha!r} and teacher={teacher!r}'
    )
  if alpha is not None:
    check_range('alpha', alpha, 0.0, 2.0, open_low=True)
  sizes = (dim, *[width] * hidden_layers, num_classes)
  weights = _teacher(jax.random.fold_in(key, _TEACHER), sizes, alpha)
  train = _draw(jax.random.fold_in(key, _TRAIN), weights, num_train)
  test = _draw(jax.random.fold_in(key, _TEST), weights, num_test)
  law = teacher if alpha is None else f'{alpha:g}-stable'
  return Dataset(
    'synthetic',
    train,
    test,
    num_classes,
    f'drawn from N(0, 1), labels by a {law} network of layers {sizes}',
  )


def _teacher(
  key: PRNGKey, sizes: tuple[int, ...], alpha: float | None
) -> list[Array]:
  weights = []
  last = len(sizes) - 2
  for layer, shape in enumerate(itertools.pairwise(sizes)):
    layer_key = jax.random.fold_in(key, layer)
    if alpha is None or layer == last:
      bound = 1.0 / math.sqrt(shape[0])
      w = jax.random.uniform(layer_key, shape, minval=-bound, maxval=bound)
    else:
      w = stable.sample(layer_key, alpha, shape)
      # By the largest entry first: squares of the tail overflow.
      w = w / jnp.max(jnp.abs(w))
      w = w / jnp.linalg.norm(w)
    weights.append(w)
  return weights


def _draw(key: PRNGKey, weights: list[Array], num_examples: int) -> Split:
  inputs = jax.random.normal(key, (num_examples, weights[0].shape[0]))
  labels = jax.lax.map(lambda x: _label(weights, x), inputs, batch_size=_BATCH)
  return Split(np.asarray(inputs, np.float32), np.asarray(labels, np.int32))


def _label(weights: list[Array], x: Array) -> Array:
  for w in weights[:-1]:
    x = jax.nn.relu(x @ w)
    # Labels do not depend on the scale; small layers would underflow.
    x = x / jnp.maximum(jnp.max(x), jnp.finfo(x.dtype).tiny)
  return jnp.argmax(x @ weights[-1])
