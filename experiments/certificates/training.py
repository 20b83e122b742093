"""Training in three stages: dense, pruned in rounds, tied to few values."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from experiments.certificates.decoder import Design, Images, apply, features
from htjax import noise, pruning, training
from htjax.bounds import codes
from htjax.types import Array, PRNGKey

STAGES = ('dense', 'prune', 'quantise')

# Layers, and for each the values that its weights will take. Pruned weights
# are zero and stay it, others never are: masks need no place of their own.
Params = tuple[list[Array], list[Array]]


class Lane(NamedTuple):
  """One network to be trained."""

  study: str  # 'main', 'size', 'alpha' or 'random'
  alpha: float | None  # tail index of the noise, None without noise
  sigma: float  # its scale
  kappa: float  # kept fraction of the weights
  seed: int  # of initial weights, batches, noise and random labels
  epochs: tuple[int, int, int]  # of each of `STAGES`

  @property
  def name(self) -> str:
    """A name of its own."""
    alpha = 'none' if self.alpha is None else f'{self.alpha:g}'
    return f'{self.study}_alpha{alpha}_kappa{self.kappa:g}_seed{self.seed}'


def relabel(images: Images, lane: Lane, split: int) -> Images:
  """Uniform labels in place of the true ones, if the lane is about them."""
  if lane.study != 'random':
    return images
  generator = np.random.default_rng((lane.seed, split))
  labels = generator.integers(10, size=len(images.labels), dtype=np.int32)
  return images._replace(labels=labels)


class Knobs(NamedTuple):
  """Numbers of a lane that the compiled programs take; steps are updates."""

  seed: Any
  alpha: Any
  sigma: Any
  kappa: Any
  prune_start: Any
  prune_steps: Any
  total_steps: Any


def make_trainer(
  config: ConfigDict, train: Images
) -> Callable[[Lane], codes.Code]:
  """A function that trains, prunes and quantises a network, to a codeword."""
  design = Design(*(config[name] for name in Design._fields))
  inputs = features(design, train)
  shapes = design.shapes(train.pixels.shape[1])
  programs = {s: _program(config, design, shapes, s) for s in STAGES}
  steps = len(train.labels) // config.batch_size

  def train_lane(lane: Lane) -> codes.Code:
    examples = training.Examples(inputs, relabel(train, lane, 0).labels)
    ends = list(itertools.accumulate(lane.epochs))
    alpha = 2.0 if lane.alpha is None else lane.alpha
    times = [float(steps * n) for n in (ends[0], lane.epochs[1], ends[-1])]
    knobs = Knobs(lane.seed, alpha, lane.sigma, lane.kappa, *times)
    state: Any = None
    for stage, end in zip(STAGES, ends, strict=True):
      if stage == 'quantise':
        state = state._replace(params=_with_books(config, state.params[0]))
      ((_, state),) = training.epochs(
        programs[stage], knobs, examples, [end], state=state
      )
    layers = _all_tied(config, state.params)
    return codes.encode(layers, design, mantissa_bits=config.mantissa_bits)

  return train_lane


def _program(
  config: ConfigDict,
  design: Design,
  shapes: list[tuple[int, ...]],
  stage: str,
) -> training.Program:
  """The training of one stage; the states of all stages are alike."""

  def init(key: PRNGKey) -> Params:
    # He's initial weights.
    layers = [
      jax.random.normal(jax.random.fold_in(key, i), shape)
      * math.sqrt(2 / math.prod(shape[:-1]))
      for i, shape in enumerate(shapes)
    ]
    return layers, [jnp.zeros(config.num_values) for _ in layers]

  def logits(params: Params, inputs: Array) -> Array:
    tied = stage == 'quantise'
    layers = _all_tied(config, params) if tied else params[0]
    return apply(design, layers, inputs)

  recipe = training.Recipe(
    config.learning_rate, config.batch_size, kind=None, drop_last=True
  )
  optimizer = functools.partial(_optimizer, config, stage)
  return training.make_program(init, logits, recipe, optimizer=optimizer)


def _optimizer(
  config: ConfigDict, stage: str, knobs: Knobs
) -> optax.GradientTransformation:
  """Adam, the step rising at first and falling to zero; noise; pruning."""

  def step_size(count):
    rise = jnp.minimum((count + 1) / config.warmup_steps, 1)
    fall = jnp.cos(jnp.pi * count / knobs.total_steps)
    return config.learning_rate * rise * (1 + fall) / 2

  sigma = knobs.sigma if stage == 'dense' else jnp.zeros_like(knobs.sigma)
  key = jax.random.fold_in(jax.random.key(knobs.seed), 2)
  # Down to kappa in four fifths of the stage.
  start, steps = knobs.prune_start, knobs.prune_steps / 1.25
  kept = pruning.cubic_schedule(knobs.kappa, start=start, steps=steps)
  prune = pruning.gradual_magnitude(
    kept if stage == 'prune' else None, every=config.prune_every
  )
  return optax.chain(
    optax.scale_by_adam(),
    optax.scale_by_learning_rate(step_size),
    noise.add_stable_noise(
      step_size, knobs.alpha, sigma, key=key, kind=config.kind
    ),
    # Layers, not the values that they will take.
    optax.masked(prune, (True, False)),
  )


def _all_tied(config: ConfigDict, params: Params) -> list[Array]:
  pairs = zip(*params, strict=True)
  return [codes.tie(*pair, config.mantissa_bits) for pair in pairs]


def _with_books(config: ConfigDict, layers: list[Array]) -> Params:
  """Values by k-means from the kept weights; a value too many is repeated."""
  books = []
  for layer in map(np.asarray, layers):
    book = codes.fit_codebook(layer[layer != 0], config.num_values)
    spare = config.num_values - len(book)
    books.append(jnp.asarray(np.pad(book, (0, spare), mode='edge')))
  return layers, books
