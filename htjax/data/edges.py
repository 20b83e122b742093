"""Features of pictures that are fixed before any data are seen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.checks import check_count, check_range, checked
from htjax.types import Array

# Derivatives of a Gaussian of unit width, cut at three pixels.
_RADIUS = 3
_CHUNK = 2000


@checked
def edge_features(
  pixels: np.ndarray, orientations: int = 8, cell: int = 4
) -> Array:
  """Edges by their direction, averaged over cells; nothing is learnt.

  The pictures are filtered with derivatives of a Gaussian in so many
  directions, and with the Gaussian itself, each filter's absolute values
  summing to one; what is negative becomes zero, and the rest is averaged over
  squares. No number comes from data, so that what is trained on these
  features can be certified as if they were the pictures.

  Args:
    pixels: grey pictures [n, side, side], in [0, 1].
    orientations: static, directions of the derivatives, counted from the one
      that grows with the column, 2 pi / orientations apart.
    cell: static, side of the squares in pixels, at most the pictures'; what
      does not fill a square is left out.

  Returns:
    float32 [n, side // cell, side // cell, orientations + 1], times 4; the
    last channel is the Gaussian's.

  Raises:
    ValueError: pixels of another rank, no such squares, counts below 1.

  Examples:
    >>> import numpy as np
    >>> from htjax import data
    >>> ramp = np.tile(np.linspace(0, 1, 8), (8, 1))
    >>> found = data.edge_features(ramp[None], orientations=4, cell=4)
    >>> found.shape, bool(found[0, 0, 0, 0] > found[0, 0, 0, 2])
    ((1, 2, 2, 5), True)
  """
  check_count('orientations', orientations)
  n, side, width = pixels.shape if np.ndim(pixels) == 3 else (0, 0, 0)
  if n < 1 or side != width:
    raise ValueError(
      f'pixels must be [n, side, side], got shape {np.shape(pixels)}'
    )
  check_range('cell', cell, 1, side)
  bank = jnp.asarray(_bank(orientations))
  parts = [
    _rectified(bank, np.float32(pixels[i : i + _CHUNK]), cell)
    for i in range(0, len(pixels), _CHUNK)
  ]
  return jnp.concatenate(parts)


def _bank(orientations: int) -> np.ndarray:
  """[7, 7, 1, orientations + 1], absolute values that sum to one."""
  offsets = np.arange(-_RADIUS, _RADIUS + 1)
  v, u = np.meshgrid(offsets, offsets, indexing='ij')
  gaussian = np.exp(-(u**2 + v**2) / 2)
  angles = 2 * np.pi * np.arange(orientations) / orientations
  filters = [(u * np.cos(a) + v * np.sin(a)) * gaussian for a in angles]
  stacked = np.stack([*filters, gaussian], axis=-1)[:, :, None]
  return (stacked / np.abs(stacked).sum((0, 1))).astype(np.float32)


@functools.partial(jax.jit, static_argnums=2)
def _rectified(bank: Array, pixels: Array, cell: int) -> Array:
  x, layout = jnp.asarray(pixels)[..., None], ('NHWC', 'HWIO', 'NHWC')
  outputs = lax.conv_general_dilated(
    x, bank, (1, 1), 'SAME', dimension_numbers=layout
  )
  n, side, _, c = outputs.shape
  cells = side // cell
  outputs = jax.nn.relu(outputs)[:, : cells * cell, : cells * cell]
  return 4 * outputs.reshape(n, cells, cell, cells, cell, c).mean((2, 4))
