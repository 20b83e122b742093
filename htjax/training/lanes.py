"""Lanes of a program: their settings, the state they carry, the result."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from htjax import noise, stable
from htjax.checks import check_choice, check_count, check_range
from htjax.types import Array, PyTree

RUNNING = 0
CONVERGED = 1
DIVERGED = 2
OUT_OF_STEPS = 3
AVERAGING = 4
STATUS = ('running', 'converged', 'diverged', 'out of steps', 'averaging')


class Lane(NamedTuple):
  """One run's traced settings.

  Where a program's optimizer and noise are functions of other settings, any
  NamedTuple of numbers with a `seed` does in its place.

  Attributes:
    seed: integer; its key gives initialisation, batches and noise.
    alpha: tail index of the noise in (0, 2].
    sigma: scale of the noise; 0 is no noise.
    learning_rate: step size eta, or None for the recipe's. Either all lanes
      that are trained together have one or none has.
  """

  seed: Any
  alpha: Any
  sigma: Any
  learning_rate: Any = None


class Recipe(NamedTuple):
  """Settings that all lanes of a program share; static.

  Attributes:
    learning_rate: step size eta, constant, of lanes without one of their own;
      it is the step of the default optimizer and of the noise.
    batch_size: examples per step; batches are reshuffled every epoch without
      replacement. At least the size of the training set: full batches, not
      shuffled.
    drop_last: whether a last partial batch is left out.
    kind: type of the noise, as in `htjax.noise`; None adds none.
    unit: what a convolution is made of, as in `htjax.noise`.
    eval_every: steps between evaluations on the whole training set; the first
      follows the first step.
    target_accuracy: stop at this training accuracy, in [0, 1].
    target_loss: and only at a mean training loss below this; None is any.
    average_steps: having met the rule, make so many more steps and keep the
      mean of their iterates. 0 stops at once.
    average_delay: steps between the rule and the first that is averaged; in
      all a multiple of eval_every.
    max_steps: give up after this many steps without meeting the rule.
    momentum: of the default optimizer, which is SGD, or None.
    eval_batch: examples per evaluation batch.
  """

  learning_rate: float
  batch_size: int
  kind: str | None = 'type1'
  unit: str = 'filter'
  eval_every: int = 100
  target_accuracy: float = 0.95
  target_loss: float | None = None
  average_steps: int = 0
  average_delay: int = 0
  max_steps: int = 100_000
  momentum: float | None = None
  eval_batch: int = 5000
  drop_last: bool = False


class LaneState(NamedTuple):
  """Everything a lane needs to go on.

  Attributes:
    params: pytree of weights.
    opt_state: state of the gradient step.
    order: [num_train] int32, this epoch's order of the examples; [0] when
      batches are full.
    status: [] int32, one of RUNNING, CONVERGED, DIVERGED, OUT_OF_STEPS and
      AVERAGING.
    steps: [] int32, gradient steps made.
    loss, accuracy: [] float32, on the training set at the last evaluation.
    average: mean of `averaged` iterates, like params; () without averaging.
    averaged: [] int32; while it is negative, so many iterates are passed over.
  """

  params: PyTree
  opt_state: PyTree
  order: Array
  status: Array
  steps: Array
  loss: Array
  accuracy: Array
  average: PyTree
  averaged: Array


class Finished(NamedTuple):
  """A lane that has stopped.

  Attributes:
    lane_index: position of the lane in the list that was given.
    lane: its settings.
    params: its weights.
    steps: gradient steps made; steps - 1 times noise was added.
    status: 'converged', 'diverged' or 'out of steps'.
    train_loss, train_accuracy: at the last evaluation.
    average: mean of the iterates that the recipe averages, or None.
  """

  lane_index: int
  lane: Lane
  params: PyTree
  steps: int
  status: str
  train_loss: float
  train_accuracy: float
  average: PyTree = None


class Examples(NamedTuple):
  """A training set: inputs [num_train, ..] and labels [num_train, ..].

  Labels are integers for classes, otherwise whatever the losses take.
  """

  inputs: Any
  labels: Any


def is_going(status: Any) -> Any:
  """Whether a lane of this status has steps to make."""
  return (status == RUNNING) | (status == AVERAGING)


def check_recipe(recipe: Recipe) -> None:
  """Refuse a recipe with impossible entries."""
  check_range(
    'learning_rate', recipe.learning_rate, 0.0, np.inf, open_high=True
  )
  if recipe.kind is not None:
    check_choice('kind', recipe.kind, stable.KINDS)
  check_choice('unit', recipe.unit, noise.UNITS)
  check_range(
    'target_accuracy', recipe.target_accuracy, 0.0, 1.0, open_low=True
  )
  for name in ('batch_size', 'eval_every', 'max_steps', 'eval_batch'):
    check_count(name, getattr(recipe, name))
  if recipe.target_loss is not None:
    check_range('target_loss', recipe.target_loss, 0.0, np.inf, open_low=True)
  _check_averages(recipe)


def _check_averages(recipe: Recipe) -> None:
  check_count('average_steps', recipe.average_steps, 0)
  check_count('average_delay', recipe.average_delay, 0)
  if recipe.average_delay and not recipe.average_steps:
    raise ValueError(
      'average_delay must be 0 where average_steps is 0, got '
      f'{recipe.average_delay}'
    )
  if (recipe.average_delay + recipe.average_steps) % recipe.eval_every:
    raise ValueError(
      'average_delay + average_steps must be a multiple of eval_every = '
      f'{recipe.eval_every}, got {recipe.average_delay} and '
      f'{recipe.average_steps}'
    )


def check_lanes(lanes: Sequence[Any]) -> None:
  """Refuse no lanes, or impossible settings of one."""
  if not lanes:
    raise ValueError('lanes must hold at least one lane, got none')
  for lane in lanes:
    if not hasattr(lane, 'seed') or not hasattr(lane, '_fields'):
      raise ValueError(f'a lane must be a NamedTuple with a seed, got {lane!r}')
    check_count('seed', lane.seed, 0)
    _check_settings(lane)
  if len({jax.tree.structure(lane) for lane in lanes}) > 1:
    raise ValueError(
      'a setting such as the learning_rate must be given for all lanes or for '
      f'none, got {list(lanes)}'
    )


def _check_settings(lane: Any) -> None:
  settings = lane._asdict()
  if settings.get('alpha') is not None:
    check_range('alpha', lane.alpha, 0.0, 2.0, open_low=True)
  for name in ('sigma', 'learning_rate'):
    if settings.get(name) is not None:
      check_range(name, settings[name], 0.0, np.inf, open_high=True)


def check_examples(data: Examples) -> None:
  """Refuse inputs and labels of different lengths, and none."""
  num_inputs, num_labels = data.inputs.shape[0], data.labels.shape[0]
  if num_inputs != num_labels or num_labels == 0:
    raise ValueError(
      'inputs and labels must have one equal, positive length, got '
      f'{num_inputs} and {num_labels}'
    )
