"""When a lane stops: what a rule sees, and the rule of a recipe."""

import math
from typing import NamedTuple

from htjax.training.lanes import Recipe
from htjax.types import Array


class Progress(NamedTuple):
  """An evaluation on the training set, on which a stopping rule decides.

  Attributes:
    steps: [] int32, gradient steps made.
    loss: [] float32, mean over the training set.
    accuracy: [] float32 in [0, 1]; 0 where labels are not classes.
    hits: [] int32; counts are exact where a quotient is rounded either way.
    num_train: static, size of the training set.
  """

  steps: Array
  loss: Array
  accuracy: Array
  hits: Array
  num_train: int


def on_target(recipe: Recipe, progress: Progress) -> Array:
  """Whether accuracy and loss are what the recipe asks for.

  Source: [IC], section 5.
  """
  # Counts are compared, because a quotient may be rounded either way.
  needed = math.ceil(recipe.target_accuracy * progress.num_train - 1e-6)
  met = progress.hits >= needed
  if recipe.target_loss is not None:
    met &= progress.loss < recipe.target_loss
  return met
