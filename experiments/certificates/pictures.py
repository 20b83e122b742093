"""Pictures made upright and of one size; edges in them. Nothing is learnt."""

import jax
import jax.numpy as jnp
import numpy as np

from htjax import data
from htjax.types import Array

# Standard deviations of the ink over rows and over columns, in sides of the
# picture, that all pictures get; narrower ones than LEAST are widened no more.
HEIGHT, WIDTH, LEAST = 0.2, 0.11, 0.07
_CHUNK = 2000


def features(pixels: np.ndarray, orientations: int, cells: int) -> Array:
  """Edges by their direction in straightened pictures, in overlapping windows.

  Args:
    pixels: [n, side, side], in [0, 1].
    orientations: of `data.edge_features`.
    cells: windows along a side, each twice as wide as their distance.

  Returns:
    float32 [n, cells, cells, orientations + 1].
  """
  tents = _tents(pixels.shape[1], cells)
  return jnp.concatenate(
    [
      _windowed(
        data.edge_features(
          np.asarray(straighten(pixels[i : i + _CHUNK])), orientations, 1
        ),
        tents,
      )
      for i in range(0, len(pixels), _CHUNK)
    ]
  )


@jax.jit
def straighten(pixels: Array) -> Array:
  """Each picture centred, sheared upright and brought to one size.

  Moments of the ink decide: after the shear its rows and columns are not
  correlated, and their standard deviations are `HEIGHT` and `WIDTH`. Rows and
  then columns are interpolated linearly; an empty picture stays empty.

  Args:
    pixels: [n, side, side], none below 0.

  Returns:
    float32 array like it.
  """
  x = jnp.asarray(pixels, jnp.float32)
  side = x.shape[1]
  at = jnp.arange(side, dtype=jnp.float32)
  mass = x.sum((1, 2)) + 1e-6
  rows, columns = x.sum(2), x.sum(1)
  row, column = rows @ at / mass, columns @ at / mass
  down, right = at[None] - row[:, None], at[None] - column[:, None]
  height = jnp.sum(rows * down**2, axis=1) / mass
  width = jnp.sum(columns * right**2, axis=1) / mass
  both = jnp.einsum('nij,ni,nj->n', x, down, right) / mass
  slope = both / jnp.maximum(height, 1e-3)
  width = jnp.sqrt(jnp.maximum(width - slope * both, 0))
  width = jnp.maximum(width, LEAST * side) / (WIDTH * side)
  # Where the pixels of the new picture lie in the old one.
  grid = (at - (side - 1) / 2)[None]
  down = (jnp.sqrt(height) / (HEIGHT * side))[:, None] * grid
  lean = column[:, None] + slope[:, None] * down
  right = lean[:, :, None] + (width[:, None] * grid)[:, None]
  x = jnp.einsum('nir,nrc->nic', _shares(row[:, None] + down, at), x)
  return jnp.einsum('nijc,nic->nij', _shares(right, at), x)


def _shares(places: Array, at: Array) -> Array:
  """Weights of linear interpolation at places between the integers `at`."""
  at = at.reshape((1,) * places.ndim + (-1,))
  return jax.nn.relu(1 - jnp.abs(places[..., None] - at))


def _tents(side: int, cells: int) -> np.ndarray:
  """Overlapping averages over one axis, [cells, side]."""
  step = side / cells
  centres = (np.arange(cells) + 0.5) * step - 0.5
  distances = np.abs(np.arange(side) - centres[:, None]) / step
  return (np.maximum(1 - distances, 0) / step).astype(np.float32)


@jax.jit
def _windowed(maps: Array, tents: Array) -> Array:
  return jnp.einsum('nijc,pi,qj->npqc', maps, tents, tents)
