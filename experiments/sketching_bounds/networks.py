"""The trained networks, and what the bounds read of them."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from ml_collections import ConfigDict

from experiments.common.cells import key_for
from htjax import bounds, data, models
from htjax.bounds import spectral
from htjax.bounds.networks import dense_layers, pre_activations
from htjax.types import Array, PRNGKey

_CHUNK = 5000
# What the children of a key are for.
TRAINING, PRUNING, PROBES, SMOOTHNESS = range(4)


class Task(NamedTuple):
  """A data set on the device: inputs [n, d], labels [n]."""

  x: Array
  y: Array
  test_x: Array
  test_y: Array
  num_classes: int


@functools.lru_cache(maxsize=1)
def load_task(name: str) -> Task:
  """A data set, flattened."""
  found = data.load(name, flatten=True)
  x, y, test_x, test_y = map(jnp.asarray, (*found.train, *found.test))
  return Task(x, y, test_x, test_y, found.num_classes)


@dataclasses.dataclass(frozen=True)
class Network:
  """A network of dense layers without biases.

  Attributes:
    config: of the run.
    key: for what is drawn after the training.
    task: what it is trained on.
    layers: weights [fan_in, fan_out], as trained.
    start: as initialised.
  """

  config: ConfigDict
  key: PRNGKey
  task: Task
  layers: Sequence[Array]
  start: Sequence[Array]

  @functools.cached_property
  def logits(self) -> Array:
    """Of the training set, [n, k]."""
    return outputs(self.layers, self.task.x)

  @functools.cached_property
  def margins(self) -> np.ndarray:
    """Of the training set, float64 [n]."""
    return np.asarray(bounds.margins(self.logits, self.task.y), np.float64)

  @functools.cached_property
  def gamma(self) -> float:
    """The margin at which bounds are taken."""
    positive = self.margins[self.margins > 0]
    return float(np.quantile(positive, self.config.margin_quantile))

  @functools.cached_property
  def norms(self) -> spectral.LayerNorms:
    """Of the layers."""
    return spectral.layer_norms(list(self.layers), list(self.start))

  @functools.cached_property
  def input_norms(self) -> Array:
    """Lengths of the training inputs, [n]."""
    return jnp.linalg.norm(self.task.x, axis=1)

  @property
  def shapes(self) -> list[tuple[int, ...]]:
    """Of the layers."""
    return [w.shape for w in self.layers]

  @property
  def train_error(self) -> float:
    """Share of the training set that it gets wrong."""
    return _share_wrong(self.logits, self.task.y)

  @property
  def test_error(self) -> float:
    """Share of the test set that it gets wrong."""
    logits = outputs(self.layers, self.task.test_x)
    return _share_wrong(logits, self.task.test_y)


def _share_wrong(logits: Array, y: Array) -> float:
  return float(jnp.mean(jnp.argmax(logits, axis=1) != y))


@jax.jit
def _apply(layers: list[Array], x: Array) -> Array:
  return pre_activations(layers, x)[-1]


def outputs(layers: Sequence[Array], x: Array) -> Array:
  """Outputs [n, k], some thousand inputs at a time."""
  parts = [x[i : i + _CHUNK] for i in range(0, len(x), _CHUNK)]
  return jnp.concatenate([_apply(list(layers), part) for part in parts])


def train(
  config: ConfigDict, key: PRNGKey, name: str, width: int, epochs: Sequence[int]
) -> Iterator[tuple[int, Network]]:
  """Train with Adam and give the network after each of these epochs.

  The config's seed, not the key, fixes initialisation and batches: a trace and
  a table are of the same network. The last incomplete batch of an epoch is
  left out. A network's arrays are reused for the next one.
  """
  task = load_task(name)
  setting = _setting(
    *(task.x.shape[1], width, task.num_classes, config.hidden_layers),
    *(len(task.y), config.batch_sizes[name], config.learning_rate),
  )
  own = key_for(config.seed, f'{name} {width}')
  params = setting.init(jax.random.fold_in(own, TRAINING))
  start = dense_layers(params)
  state = jax.tree.map(jnp.copy, params), setting.optimizer.init(params)
  for epoch in range(1, max(epochs) + 1):
    state = setting.advance(
      state, jax.random.fold_in(own, 1000 + epoch), task.x, task.y
    )
    if epoch in epochs:
      layers = dense_layers(state[0])
      yield epoch, Network(config, key, task, layers, start)


class _Setting(NamedTuple):
  """Functions of one architecture and optimizer, compiled once."""

  init: Callable[[Array], Any]
  optimizer: optax.GradientTransformation
  advance: Callable[..., Any]


@functools.lru_cache
def _setting(dim, width, classes, hidden, num_samples, batch_size, rate):
  network = models.fcn(dim, width, classes, hidden_layers=hidden)
  optimizer = optax.adam(rate)
  size = min(batch_size, num_samples)
  steps = num_samples // size

  def loss(params, x, y):
    logits = network.apply(params, x)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    return jnp.mean(losses)

  # One pass over the data in a random order, as one program.
  @functools.partial(jax.jit, donate_argnums=0)
  def advance(state, key, x, y):
    order = jax.random.permutation(key, num_samples)[: steps * size]

    def step(state, batch):
      params, opt_state = state
      gradient = jax.grad(loss)(params, x[batch], y[batch])
      updates, opt_state = optimizer.update(gradient, opt_state, params)
      return (optax.apply_updates(params, updates), opt_state), None

    return lax.scan(step, state, order.reshape(steps, size))[0]

  return _Setting(jax.jit(network.init), optimizer, advance)
