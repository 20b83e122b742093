"""The program that is certified: from a codeword to the errors of its network.

Everything that is read besides the codeword is fixed before the data.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.certificates import pictures
from htjax import data
from htjax.bounds import codes
from htjax.types import Array

_CHUNK = 2000


class Design(NamedTuple):
  """Header that the decoder reads before a network, and builds it from."""

  orientations: int  # derivatives in the bank; a Gaussian comes with them
  cells: int  # windows along a side in which the bank's outputs are averaged
  channels: int  # filters of the convolution
  size: int  # side of a filter
  pool: int  # side of the squares over which the maximum is taken

  def shapes(self) -> list[tuple[int, ...]]:
    """Shapes of the two layers."""
    squares = (self.cells - self.size + 1) // self.pool
    outputs = squares**2 * self.channels
    inputs = self.orientations + 1
    return [(self.size, self.size, inputs, self.channels), (outputs, 10)]


class Images(NamedTuple):
  """Pixels in [0, 1], float32 [n, side, side], and labels, int32 [n]."""

  pixels: np.ndarray
  labels: np.ndarray


def load_images(name: str, num_levels: int) -> tuple[Images, Images]:
  """Training and test pictures as pixels between 0 and 1.

  The standardisation of `data.load` is undone, so that no number that was
  computed from the data enters.
  """
  dataset = data.load(name)

  def images(split: data.Split) -> Images:
    pixels = data.pixels(split, num_levels)[..., 0]
    return Images(pixels / np.float32(num_levels), split.labels)

  return images(dataset.train), images(dataset.test)


def evaluate(bits: np.ndarray, images: Images) -> tuple[int, int]:
  """Errors, and nonzero weights, of the network with which the bits begin."""
  decoded = codes.decode(bits, lambda settings: Design(*settings).shapes())
  design = Design(*decoded.settings)
  layers = [jnp.asarray(w) for w in decoded.layers]
  inputs = features(design, images)
  guesses = [
    np.argmax(_logits(design, layers, inputs[i : i + _CHUNK]), axis=1)
    for i in range(0, len(inputs), _CHUNK)
  ]
  errors = int(np.sum(np.concatenate(guesses) != images.labels))
  return errors, sum(int(np.count_nonzero(w)) for w in decoded.layers)


def features(design: Design, images: Images) -> Array:
  """Inputs of a network, float32 [n, cells, cells, orientations + 1]."""
  return pictures.features(images.pixels, design.orientations, design.cells)


def apply(design: Design, layers: Sequence[Array], inputs: Array) -> Array:
  """Convolution, maximum over squares, linear layer; no biases.

  The convolution is a product of matrices with the batch on the last axis,
  which is several times faster than `lax.conv` on a CPU for so few channels.
  """
  size, pool = design.size, design.pool
  x = jnp.transpose(inputs, (3, 1, 2, 0))
  c, side, _, n = x.shape
  q = (side - size + 1) // pool
  # What does not fill a square is not looked at.
  used = q * pool
  shifts = [
    x[:, i : i + used, j : j + used] for i in range(size) for j in range(size)
  ]
  kernel = layers[0].reshape(size * size, c, -1)
  x = jax.nn.relu(jnp.einsum('kchwb,kco->ohwb', jnp.stack(shifts), kernel))
  x = x.reshape(-1, q, pool, q, pool, n)
  return x.max((2, 4)).reshape(-1, n).T @ layers[1]


_logits = jax.jit(apply, static_argnums=0)
