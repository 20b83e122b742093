"""The form of every data set once it is in memory."""

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
  """Examples in a fixed order.

  Attributes:
    inputs: float32, shape [num_examples, *input_shape].
    labels: int32, shape [num_examples], in 0..num_classes-1.
  """

  inputs: np.ndarray
  labels: np.ndarray


class Dataset(NamedTuple):
  """A data set as numpy arrays.

  Attributes:
    name: name it was loaded by.
    train: training examples.
    test: test examples.
    num_classes: number of labels.
    preprocessing: what was done to the raw values, in one sentence.
  """

  name: str
  train: Split
  test: Split
  num_classes: int
  preprocessing: str

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Shape of one input."""
    return self.train.inputs.shape[1:]
