"""Training in three stages: dense, pruned in rounds, tied to few values."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from ml_collections import ConfigDict

from experiments.certificates.decoder import Design, Images, apply, features
from htjax import noise, pruning
from htjax.bounds import codes
from htjax.types import Array, PRNGKey

STAGES = ('dense', 'prune', 'quantise')


class Lane(NamedTuple):
  """One network to be trained.

  Attributes:
    study: 'main', 'size', 'alpha' or 'random'.
    alpha: tail index of the noise, None without noise.
    sigma: its scale.
    kappa: kept fraction of the weights.
    seed: of initial weights, batches, noise and random labels.
    epochs: of each of `STAGES`.
  """

  study: str
  alpha: float | None
  sigma: float
  kappa: float
  seed: int
  epochs: tuple[int, int, int]

  @property
  def name(self) -> str:
    alpha = 'none' if self.alpha is None else f'{self.alpha:g}'
    return f'{self.study}_alpha{alpha}_kappa{self.kappa:g}_seed{self.seed}'


def relabel(images: Images, lane: Lane, split: int) -> Images:
  """Uniform labels in place of the true ones, if the lane is about them."""
  if lane.study != 'random':
    return images
  generator = np.random.default_rng((lane.seed, split))
  labels = generator.integers(10, size=len(images.labels), dtype=np.int32)
  return images._replace(labels=labels)


class State(NamedTuple):
  """What training moves.

  Attributes:
    layers: weights, those that are masked zero.
    books: for each layer the values that its weights will take.
    masks: booleans of the layers' shapes.
    optimizer: optax state of layers and books.
    step: number of updates made.
  """

  layers: list[Array]
  books: list[Array]
  masks: list[Array]
  optimizer: Any
  step: Array


class Knobs(NamedTuple):
  """Numbers of a lane that one compiled program takes; steps are updates."""

  alpha: Array
  sigma: Array
  kappa: Array
  prune_start: Array
  prune_steps: Array
  total_steps: Array


def make_trainer(
  config: ConfigDict, train: Images
) -> Callable[[Lane], codes.Code]:
  """A function that trains, prunes and quantises a network, to a codeword."""
  design = Design(*(config[name] for name in Design._fields))
  inputs = features(design, train.pixels)
  epoch = jax.jit(
    functools.partial(_epoch, config, design), static_argnames='stage'
  )
  steps = len(train.labels) // config.batch_size

  def train_lane(lane: Lane) -> codes.Code:
    labels = jnp.asarray(relabel(train, lane, 0).labels)
    shuffles = jax.random.fold_in(jax.random.key(lane.seed), 1)
    dense, prune, _ = lane.epochs
    numbers = (
      *(2.0 if lane.alpha is None else lane.alpha, lane.sigma, lane.kappa),
      *(dense * steps, prune * steps, sum(lane.epochs) * steps),
    )
    knobs = Knobs(*(jnp.float32(x) for x in numbers))
    state = _start(config, design, inputs.shape, lane, knobs)
    done = 0
    for stage, count in zip(STAGES, lane.epochs, strict=True):
      if stage == 'quantise':
        state = state._replace(books=_fit_books(config, state))
      for _ in range(count):
        key = jax.random.fold_in(shuffles, done)
        state = epoch(state, knobs, key, inputs, labels, stage=stage)
        done += 1
    layers = [_tied(config, *x) for x in zip(*state[:3], strict=True)]
    return codes.encode(layers, design, mantissa_bits=config.mantissa_bits)

  return train_lane


def _start(
  config: ConfigDict,
  design: Design,
  inputs: tuple[int, ...],
  lane: Lane,
  knobs: Knobs,
) -> State:
  """He's initial weights, and nothing pruned."""
  key = jax.random.fold_in(jax.random.key(lane.seed), 0)
  shapes = design.shapes(design.cell * inputs[1])
  layers = [
    jax.random.normal(jax.random.fold_in(key, i), shape)
    * math.sqrt(2 / math.prod(shape[:-1]))
    for i, shape in enumerate(shapes)
  ]
  books = [jnp.zeros(config.num_values) for _ in layers]
  masks = [jnp.ones(shape, bool) for shape in shapes]
  noise_key = jax.random.fold_in(jax.random.key(lane.seed), 2)
  optimizer = _optimizer(config, knobs, knobs.sigma, noise_key)
  moments = optimizer.init((layers, books))
  return State(layers, books, masks, moments, jnp.int32(0))


def _optimizer(
  config: ConfigDict, knobs: Knobs, sigma: Array, key: int | PRNGKey
) -> optax.GradientTransformation:
  """Adam, the step rising at first and falling to zero; then the noise."""

  def step_size(count):
    rise = jnp.minimum((count + 1) / config.warmup_steps, 1)
    fall = jnp.cos(jnp.pi * count / knobs.total_steps)
    return config.learning_rate * rise * (1 + fall) / 2

  return optax.chain(
    optax.scale_by_adam(),
    optax.scale_by_learning_rate(step_size),
    noise.add_stable_noise(
      step_size, knobs.alpha, sigma, key=key, kind=config.kind
    ),
  )


def _epoch(
  config: ConfigDict,
  design: Design,
  state: State,
  knobs: Knobs,
  key: PRNGKey,
  inputs: Array,
  labels: Array,
  *,
  stage: str,
) -> State:
  """One pass over the pictures in a new order."""
  size = config.batch_size
  order = jax.random.permutation(key, len(labels))
  order = order[: len(labels) // size * size].reshape(-1, size)
  sigma = knobs.sigma if stage == 'dense' else jnp.zeros_like(knobs.sigma)
  # The key of the noise is the one in the state.
  optimizer = _optimizer(config, knobs, sigma, key=0)

  def loss(trained, masks, batch):
    layers, books = trained
    if stage == 'quantise':
      layers = [
        _tied(config, *x) for x in zip(layers, books, masks, strict=True)
      ]
    logits = apply(design, layers, inputs[batch])
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, labels[batch]
    ).mean()

  def update(state, batch):
    masks = state.masks
    if stage == 'prune':
      kappa = _kept_fraction(state.step, knobs)
      due = state.step % config.prune_every == 0
      masks = lax.cond(
        due, lambda: _prune(state.layers, kappa), lambda: state.masks
      )
    trained = state.layers, state.books
    gradients = jax.grad(loss)(trained, masks, batch)
    updates, moments = optimizer.update(gradients, state.optimizer, trained)
    layers, books = optax.apply_updates(trained, updates)
    layers = [w * m for w, m in zip(layers, masks, strict=True)]
    return State(layers, books, masks, moments, state.step + 1), None

  return lax.scan(update, state, order)[0]


def _kept_fraction(step: Array, knobs: Knobs) -> Array:
  """From 1 to kappa in four fifths of the stage (Zhu & Gupta 2017)."""
  part = 1.25 * (step - knobs.prune_start) / knobs.prune_steps
  return knobs.kappa + (1 - knobs.kappa) * (1 - jnp.minimum(part, 1)) ** 3


def _prune(layers: list[Array], kappa: Array) -> list[Array]:
  return pruning.magnitude(layers, kappa, scope='global').mask


def _tied(config: ConfigDict, layer: Array, book: Array, mask: Array) -> Array:
  """Each kept weight at the nearest value; gradients pass straight through."""
  on_grid = codes.to_grid(lax.stop_gradient(book), config.mantissa_bits)
  values = book - lax.stop_gradient(book) + on_grid
  distances = layer[..., None] - values.reshape((1,) * layer.ndim + (-1,))
  nearest = values[jnp.argmin(jnp.abs(distances), axis=-1)]
  return jnp.where(mask, layer - lax.stop_gradient(layer) + nearest, 0)


def _fit_books(config: ConfigDict, state: State) -> list[Array]:
  """Values by k-means from the kept weights; a value too many is repeated."""
  books = []
  for layer, mask in zip(state.layers, state.masks, strict=True):
    kept = np.asarray(layer)[np.asarray(mask)]
    book = codes.fit_codebook(kept, config.num_values)
    spare = config.num_values - len(book)
    books.append(jnp.asarray(np.pad(book, (0, spare), mode='edge')))
  return books
