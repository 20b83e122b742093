"""The program that is certified: from a codeword to the errors of its network.

Everything that is read besides the codeword is fixed before the data.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax import data
from htjax.bounds import codes
from htjax.types import Array

# The bank: derivatives of a Gaussian of unit width, cut at three pixels.
_RADIUS = 3
_CHUNK = 2000


class Design(NamedTuple):
  """Header that the decoder reads before a network, and builds it from."""

  orientations: int  # derivatives in the bank; a Gaussian comes with them
  cell: int  # side of the squares over which the bank's outputs are averaged
  channels: int  # filters of the convolution
  size: int  # side of a filter
  pool: int  # side of the squares over which the maximum is taken

  def shapes(self, side: int) -> list[tuple[int, ...]]:
    """Shapes of the two layers for pictures of side x side pixels."""
    outputs = (side // self.cell // self.pool) ** 2 * self.channels
    inputs = self.orientations + 1
    return [(self.size, self.size, inputs, self.channels), (outputs, 10)]


class Images(NamedTuple):
  """Pixels in [0, 1], float32 [n, side, side], and labels, int32 [n]."""

  pixels: np.ndarray
  labels: np.ndarray


def load_images(name: str, num_levels: int) -> tuple[Images, Images]:
  """Training and test pictures as pixels between 0 and 1.

  The standardisation of `data.load` is undone, so that no number that was
  computed from the data enters: black and white both occur, which gives back
  the integers.
  """
  dataset = data.load(name)
  black, white = dataset.train.inputs.min(), dataset.train.inputs.max()

  def undo(split: data.Split) -> Images:
    levels = (split.inputs - black) / (white - black) * num_levels
    side = math.isqrt(math.prod(levels.shape[1:]))
    pixels = (np.rint(levels) / num_levels).astype(np.float32)
    return Images(pixels.reshape(-1, side, side), split.labels)

  return undo(dataset.train), undo(dataset.test)


def evaluate(bits: np.ndarray, images: Images) -> tuple[int, int]:
  """Errors, and nonzero weights, of the network with which the bits begin."""
  side = images.pixels.shape[1]
  decoded = codes.decode(bits, lambda settings: Design(*settings).shapes(side))
  design = Design(*decoded.settings)
  layers = [jnp.asarray(w) for w in decoded.layers]
  inputs = features(design, images.pixels)
  guesses = [
    np.argmax(_logits(design, layers, inputs[i : i + _CHUNK]), axis=1)
    for i in range(0, len(inputs), _CHUNK)
  ]
  errors = int(np.sum(np.concatenate(guesses) != images.labels))
  return errors, sum(int(np.count_nonzero(w)) for w in decoded.layers)


def features(design: Design, pixels: np.ndarray) -> Array:
  """The bank's rectified outputs, averaged over cells; nothing is learnt.

  Of pixels [n, side, side], float32 [n, side / cell, side / cell,
  orientations + 1].
  """
  bank = jnp.asarray(_bank(design.orientations))
  parts = [
    _rectified(bank, pixels[i : i + _CHUNK], design.cell)
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


def apply(design: Design, layers: Sequence[Array], inputs: Array) -> Array:
  """Convolution, maximum over squares, linear layer; no biases.

  The convolution is a product of matrices with the batch on the last axis,
  which is several times faster than `lax.conv` on a CPU for so few channels.
  """
  size, pool = design.size, design.pool
  x = jnp.transpose(inputs, (3, 1, 2, 0))
  c, side, _, n = x.shape
  q = side // pool
  # What does not fill a square is not looked at.
  used = q * pool
  edge = (size - 1) // 2, size // 2
  x = jnp.pad(x, ((0, 0), edge, edge, (0, 0)))
  shifts = [
    x[:, i : i + used, j : j + used] for i in range(size) for j in range(size)
  ]
  kernel = layers[0].reshape(size * size, c, -1)
  x = jax.nn.relu(jnp.einsum('kchwb,kco->ohwb', jnp.stack(shifts), kernel))
  x = x.reshape(-1, q, pool, q, pool, n)
  return x.max((2, 4)).reshape(-1, n).T @ layers[1]


_logits = jax.jit(apply, static_argnums=0)
