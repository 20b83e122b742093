"""Arrays of a file that are read when their numbers are asked for."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Unread:
  """An array that is still in its file; `numpy.asarray` reads it each time.

  Attributes:
    shape: of the array.
    dtype: of the array.
    read: gives the array.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[], np.ndarray]

  @property
  def ndim(self) -> int:
    """Number of axes."""
    return len(self.shape)

  @property
  def size(self) -> int:
    """Number of entries."""
    return math.prod(self.shape)

  @property
  def nbytes(self) -> int:
    """Bytes of the array once it is read."""
    return self.size * self.dtype.itemsize

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
    return np.asarray(self.read(), dtype, copy=copy)

  def moveaxis(self, source: Sequence[int], to: Sequence[int]) -> 'Unread':
    """The array with its axes in another order, as `numpy.moveaxis` has it."""
    # A view of one number, to see where the axes come to lie.
    shape = np.moveaxis(np.broadcast_to(0, self.shape), source, to).shape
    return Unread(
      shape, self.dtype, lambda: np.moveaxis(self.read(), source, to)
    )


def already(array: np.ndarray) -> Unread:
  """An array that has been read, as one that has not."""
  return Unread(array.shape, array.dtype, lambda: array)
