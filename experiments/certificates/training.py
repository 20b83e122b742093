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
from jax import lax
from ml_collections import ConfigDict

from experiments.certificates.decoder import Design, Images, apply, features
from experiments.certificates.polish import polish
from htjax import noise, pruning, training
from htjax.bounds import codes
from htjax.types import Array, PRNGKey

STAGES = ('dense', 'prune', 'quantise')


class Params(NamedTuple):
  """A network while it trains."""

  layers: list[Array]  # weights, kept or not: those left out may come back
  kept: Array  # fraction of the weights that is kept, the largest ones
  scale: Array  # logarithm of what outputs are multiplied with in the loss


# Noise moves the layers alone.
_NOISY: Any = (True, False, False)


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
  shapes = design.shapes()
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
      ((_, state),) = training.epochs(
        programs[stage], knobs, examples, [end], state=state
      )
    # The sizes of the values do not matter to which output is largest.
    seen = _seen(state.params, 'quantise')
    layers = [np.sign(np.asarray(w)) / np.float32(2) for w in seen]
    if config.rounds:
      layers = polish(
        design,
        layers,
        np.asarray(inputs),
        np.asarray(examples.labels),
        price=config.price,
        share=config.share,
        rounds=config.rounds,
        seed=lane.seed,
      )
    return codes.encode(layers, design, mantissa_bits=0)

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
    return Params(layers, jnp.ones(()), jnp.zeros(()))

  def logits(params: Params, inputs: Array) -> Array:
    layers = _seen(params, stage)
    return jnp.exp(params.scale) * apply(design, layers, inputs)

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
  return optax.chain(
    optax.scale_by_adam(),
    optax.scale_by_learning_rate(step_size),
    optax.masked(
      noise.add_stable_noise(
        step_size, knobs.alpha, sigma, key=key, kind=config.kind
      ),
      Params(*_NOISY),
    ),
    _follow(kept),
  )


def _follow(schedule: optax.Schedule) -> optax.GradientTransformation:
  """The kept fraction as the schedule has it, not the optimizer."""

  def update(updates, count, params):
    step = schedule(count + 1) - params.kept
    return updates._replace(kept=step), count + 1

  return optax.GradientTransformation(lambda _: jnp.zeros((), 'i4'), update)


def _seen(params: Params, stage: str) -> list[Array]:
  """Layers as the network has them, all gradients passed straight through.

  The largest weights of both layers together are kept; in the last stage all of
  a layer have one size, the mean of theirs.
  """
  if stage == 'dense':
    return params.layers
  sizes = [jnp.abs(w) for w in params.layers]
  together = jnp.sort(jnp.concatenate([a.ravel() for a in sizes]))
  left_out = ((1 - params.kept) * len(together)).astype(int)
  least = together[jnp.minimum(left_out, len(together) - 1)]
  layers = []
  for w, size in zip(params.layers, sizes, strict=True):
    flags = size >= least
    mean = jnp.sum(size * flags) / jnp.maximum(jnp.sum(flags), 1)
    value = mean * jnp.sign(w) if stage == 'quantise' else w
    layers.append(w + lax.stop_gradient(jnp.where(flags, value, 0) - w))
  return layers
