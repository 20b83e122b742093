"""The trained networks, and what the bounds read of them."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from htjax import bounds, data, models, training
from htjax.bounds import spectral
from htjax.bounds.networks import dense_layers, outputs
from htjax.types import Array, PRNGKey

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
  """A network of dense layers without biases, weights [fan_in, fan_out].

  `start` has the layers as initialised; the key is for draws after training.
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
  def shapes(self) -> list[tuple[int, int]]:
    """Of the layers."""
    return [(w.shape[0], w.shape[1]) for w in self.layers]

  @property
  def train_error(self) -> float:
    """Share of the training set that it gets wrong."""
    return float(jnp.mean(self.logits.argmax(1) != self.task.y))

  @property
  def test_error(self) -> float:
    """Share of the test set that it gets wrong."""
    logits = outputs(self.layers, self.task.test_x)
    return float(jnp.mean(logits.argmax(1) != self.task.test_y))


def train(
  config: ConfigDict, key: PRNGKey, name: str, width: int, epochs: Sequence[int]
) -> Iterator[tuple[int, Network]]:
  """Train with Adam and give the network after each of these epochs.

  The config's seed, not the key, fixes initialisation and batches: a trace and
  a table are of the same network.
  """
  task = load_task(name)
  sizes = width, config.hidden_layers, config.batch_sizes[name]
  program = _program(config.seed, name, *sizes, config.learning_rate)
  lane = training.Lane(config.seed, alpha=2.0, sigma=0.0)
  data = training.Examples(task.x, task.y)
  states = training.epochs(program, lane, data, [0, *epochs])
  start = dense_layers(next(states)[1].params)
  for epoch, state in states:
    yield epoch, Network(config, key, task, dense_layers(state.params), start)


@functools.lru_cache
def _program(
  seed: int, name: str, width: int, hidden: int, batch_size: int, rate: float
) -> training.Program:
  """Adam, the last incomplete batch of an epoch left out."""
  task = load_task(name)
  key = training.named_key(seed, f'{name} {width}')
  network = models.fcn(
    task.x.shape[1], width, task.num_classes, hidden_layers=hidden
  )
  return training.make_program(
    lambda _: network.init(jax.random.fold_in(key, TRAINING)),
    network.apply,
    training.Recipe(rate, batch_size, kind=None, drop_last=True),
    optimizer=lambda lane: optax.adam(rate),
    epoch_key=lambda lane, epoch: jax.random.fold_in(key, 1001 + epoch),
  )
