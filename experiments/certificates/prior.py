"""A convolutional network trained on the first part of a training set."""

import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from ml_collections import ConfigDict, FrozenConfigDict

from htjax import data, training
from htjax.types import Array, PRNGKey

Params = list[dict[str, Array]]


class Lane(NamedTuple):
  """The one setting of a network."""

  seed: Any


class Parts(NamedTuple):
  """Data that train the network, data that certify it, and unseen ones."""

  first: data.Split
  rest: data.Split
  test: data.Split


def load_parts(config: ConfigDict, random: bool) -> Parts:
  """The training set in an order fixed beforehand, cut in two; the test set.

  No number computed from the data is taken off the pictures. With `random` all
  labels are drawn uniformly, whatever the example.
  """
  series = config.dataset == 'ecg5000'
  options: dict[str, Any] = {'labels': 'all', 'split': 0} if series else {}
  found = data.load(config.dataset, **options)
  rng = np.random.default_rng(0)

  def inputs(split: data.Split) -> np.ndarray:
    if series:
      return split.inputs[:, :, None, None]
    levels = data.pixels(split, config.levels)
    return levels / np.float32(config.levels / 2) - config.offset

  splits = [data.Split(inputs(s), s.labels) for s in (found.train, found.test)]
  if random:
    classes = config.num_classes
    splits = [
      s._replace(labels=rng.integers(classes, size=len(s.labels), dtype='i4'))
      for s in splits
    ]
  order = rng.permutation(len(splits[0].labels))
  cut = order[: config.num_first], order[config.num_first :]
  first, rest = (data.Split(*(a[i] for a in splits[0])) for i in cut)
  return Parts(first, rest, splits[1])


def hidden(params: Params, x: Array) -> Array:
  """Outputs of the last hidden layer, and a one for the biases of the next."""
  for layer in params[:2]:
    x = lax.conv_general_dilated(
      *(x, layer['w'], (1, 1), 'VALID'),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    x = jax.nn.relu(x + layer['b'][None, None, None])
    n, height, width, channels = x.shape
    tall, wide = (2 if side > 1 else 1 for side in (height, width))
    rows, columns = height // tall, width // wide
    x = x[:, : rows * tall, : columns * wide]
    x = x.reshape(n, rows, tall, columns, wide, channels).max((2, 4))
  x = x.reshape(len(x), -1) @ params[2]['w'] + params[2]['b'][None]
  return jnp.concatenate([jax.nn.relu(x), jnp.ones((len(x), 1))], axis=1)


def head(params: Params) -> Array:
  """Weights of the last layer, the biases in the last row."""
  return jnp.concatenate([params[3]['w'], params[3]['b'][None]])


def train(
  config: ConfigDict, first: data.Split, seed: int, path: Path
) -> Params:
  """The trained network, from its file if it was trained before."""
  if not path.exists():
    program = _program(FrozenConfigDict(config), first.inputs.shape[1:])
    state = None
    for epoch in range(config.prior_epochs):
      moved = data.shifted(first.inputs, config.shift, (seed, epoch))
      examples = training.Examples(moved, first.labels)
      ((_, state),) = training.epochs(
        program, Lane(seed), examples, [epoch + 1], state=state
      )
    assert state is not None
    layers = enumerate(state.params)
    np.savez(
      path, **{f'{k}{i}': w for i, own in layers for k, w in own.items()}
    )
  with np.load(path) as kept:
    return [{k: kept[f'{k}{i}'] for k in 'wb'} for i in range(4)]


@functools.cache
def _program(config: Any, shape: tuple[int, ...]) -> training.Program:
  size, (c1, c2) = config.size, config.filters
  kernel = [min(size, side) for side in shape[:2]]
  pooled = [((s - size + 1) // 2 - size + 1) // 2 for s in shape[:2] if s > 1]
  fans = math.prod(pooled) * c2, config.hidden, config.num_classes
  shapes = [(*kernel, shape[2], c1), (*kernel, c1, c2), fans[:2], fans[1:]]
  total = config.num_first // config.batch_size * config.prior_epochs

  def init(key: PRNGKey) -> Params:
    # He's initial weights.
    layers = [
      jax.random.normal(jax.random.fold_in(key, i), s)
      * math.sqrt(2 / math.prod(s[:-1]))
      for i, s in enumerate(shapes)
    ]
    return [{'w': w, 'b': jnp.zeros(w.shape[-1])} for w in layers]

  def step_size(count: Array) -> Array:
    rise = jnp.minimum((count + 1) / config.warmup_steps, 1)
    fall = (1 + jnp.cos(jnp.pi * count / total)) / 2
    return config.learning_rate * rise * fall

  recipe = training.Recipe(
    config.learning_rate, config.batch_size, kind=None, drop_last=True
  )
  return training.make_program(
    init,
    lambda params, x: hidden(params, x) @ head(params),
    recipe,
    optimizer=lambda lane: optax.adamw(
      step_size, weight_decay=config.weight_decay
    ),
  )
