"""Pictures as they were before they were standardised, and moved about."""

from collections.abc import Sequence

import numpy as np

from htjax.checks import check_count, check_finite, checked
from htjax.data.structures import Split


@checked
def pixels(split: Split, num_levels: int = 255) -> np.ndarray:
  """Undo the standardisation of pictures: the integers of the files.

  Black and white both occur in every channel, which tells what any mean and
  deviation were.

  Args:
    split: pictures of `load`, not flattened: inputs [n, height, width, c].
    num_levels: of grey, from 0 to this: 255, or 16 of `digits`; at most 255.

  Returns:
    uint8 array of the inputs' shape.

  Raises:
    ValueError: inputs of another rank, not finite, or no such levels; a count
      out of range.

  Examples:
    >>> from htjax import data
    >>> grey = data.pixels(data.load('digits').train, 16)
    >>> grey.shape, int(grey.min()), int(grey.max())
    ((1437, 8, 8, 1), 0, 16)
  """
  check_count('num_levels', num_levels)
  inputs = np.asarray(split.inputs)
  if inputs.ndim != 4 or not inputs.size or num_levels > 255:
    raise ValueError(
      'split must have inputs [n, height, width, channels] and num_levels be '
      f'at most 255, got shape {inputs.shape} and {num_levels}'
    )
  check_finite('split', inputs)
  low, high = (f(inputs, axis=(0, 1, 2)) for f in (np.min, np.max))
  levels = num_levels * (inputs - low) / np.where(high > low, high - low, 1)
  whole = np.rint(levels)
  if np.max(np.abs(levels - whole)) > 0.05:
    raise ValueError(
      f'split must have pictures of {num_levels} levels, black and white among '
      'them, got numbers between the levels'
    )
  return whole.astype(np.uint8)


@checked
def shifted(
  inputs: np.ndarray, most: int, seed: int | Sequence[int]
) -> np.ndarray:
  """Each picture moved by up to so many pixels along each axis.

  What comes in repeats the border; an axis of length 1 is left alone, so that
  series [n, length, 1, c] move in time.

  Args:
    inputs: [n, height, width, channels].
    most: >= 0 and below every side that is moved; all moves are equally likely.
    seed: as of `numpy.random.default_rng`.

  Returns:
    Array like `inputs`.

  Raises:
    ValueError: inputs of another rank, a count out of range.

  Examples:
    >>> import numpy as np
    >>> from htjax import data
    >>> row = np.arange(5.0).reshape(1, 1, 5, 1)
    >>> data.shifted(row, 1, seed=0).ravel()
    array([1., 2., 3., 4., 4.])
  """
  check_count('most', most, 0)
  if np.ndim(inputs) != 4:
    raise ValueError(
      f'inputs must be [n, height, width, channels], got {np.shape(inputs)}'
    )
  n, *sides, _ = inputs.shape
  edges = [most if side > 1 else 0 for side in sides]
  if any(most >= side > 1 for side in sides):
    raise ValueError(f'most must be below the sides {sides}, got {most}')
  padded = np.pad(inputs, ((0, 0), *((e, e) for e in edges), (0, 0)), 'edge')
  rng = np.random.default_rng(seed)
  rows, columns = (
    rng.integers(2 * edge + 1, size=(n, 1)) + np.arange(side)
    for edge, side in zip(edges, sides, strict=True)
  )
  return padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None]]
