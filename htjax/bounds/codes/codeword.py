"""The codeword of a network, there and back."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from htjax.bounds.codes.arithmetic import TOP, Decoder, Encoder
from htjax.bounds.codes.codebook import check_mantissa, round_mantissa
from htjax.bounds.codes.integers import (
  read_integer,
  read_uniform,
  read_value,
  write_integer,
  write_uniform,
  write_value,
)
from htjax.bounds.codes.positions import Counts
from htjax.checks import check_count, check_range, is_concrete
from htjax.types import ArrayLike

Shapes = Callable[[tuple[int, ...]], Sequence[tuple[int, ...]]]


class Code(NamedTuple):
  """A network as a string of bits.

  Attributes:
    bits: uint8 [num_bits] of zeros and ones.
    header_bits: ideal length of settings and codebooks.
    position_bits: ideal length of where the kept weights are.
    value_bits: ideal length of which value each of them has.
  """

  bits: np.ndarray
  header_bits: float
  position_bits: float
  value_bits: float

  @property
  def num_bits(self) -> int:
    """Number of bits."""
    return len(self.bits)


class Decoded(NamedTuple):
  """What a string of bits stands for.

  Attributes:
    layers: float32 arrays of the shapes that the settings imply.
    settings: the integers that were sent in front.
    num_bits: number of bits that were read.
  """

  layers: list[np.ndarray]
  settings: tuple[int, ...]
  num_bits: int


def encode(
  layers: Sequence[ArrayLike],
  settings: Sequence[int] = (),
  *,
  mantissa_bits: int = 3,
) -> Code:
  """The codeword of a network.

  In order: the settings and `mantissa_bits`; for each layer the number of its
  values other than zero, and the values, rising; then for each layer a flag for
  each entry, in row-major order, followed by the index of its value if it is
  kept. Flags and values are predicted by their counts in the layer so far.

  Args:
    layers: float32 arrays, each of any shape that is not empty, whose entries
      are zero or numbers that `to_grid` leaves alone.
    settings: integers in [0, 2^32) from which the decoder knows the shapes and
      all else that was chosen: what is not here must be fixed before the data.
    mantissa_bits: of the values, in [0, 7].

  Returns:
    Code.

  Raises:
    ValueError: a layer that is empty, not finite, not on the grid, or with
      more than 65,536 values; settings out of range.
  """
  check_mantissa(mantissa_bits)
  arrays = [_check_layer(i, w, mantissa_bits) for i, w in enumerate(layers)]
  for value in settings:
    check_count('settings', value, 0)
    check_range('settings', value, 0, TOP - 1)
  coder = Encoder()
  for value in (len(settings), *settings):
    write_integer(coder, int(value))
  write_uniform(coder, mantissa_bits, 3)
  books = [np.unique(w[w != 0]) for w in arrays]
  for book in books:
    write_integer(coder, len(book))
    for value in book:
      write_value(coder, float(value), mantissa_bits)
  header, positions = coder.ideal, 0.0
  for array, book in zip(arrays, books, strict=True):
    symbols = np.searchsorted(book, array.ravel()).tolist()
    flag_model, value_model = Counts(2), Counts(len(book))
    for entry, symbol in zip(array.ravel().tolist(), symbols, strict=True):
      before = coder.ideal
      flag_model.write(coder, int(entry != 0))
      positions += coder.ideal - before
      if entry != 0:
        value_model.write(coder, symbol)
  values = coder.ideal - header - positions
  return Code(coder.finish(), header, positions, values)


def decode(bits: ArrayLike, shapes: Shapes) -> Decoded:
  """The network whose codeword stands at the beginning of `bits`.

  Args:
    bits: zeros and ones, [at least the length of a codeword].
    shapes: `shapes(settings)` gives the shapes of all layers; fixed beforehand.

  Returns:
    Decoded; what follows the codeword does not matter.

  Raises:
    ValueError: `bits` is not a list of zeros and ones, or does not begin with a
      codeword.
  """
  coder = Decoder(_check_bits(bits))
  settings = tuple(read_integer(coder) for _ in range(read_integer(coder)))
  mantissa_bits = read_uniform(coder, 3)
  sizes = [tuple(int(n) for n in shape) for shape in shapes(settings)]
  books = []
  for _ in sizes:
    count = read_integer(coder)
    if count > MAX_VALUES:
      raise ValueError('bits do not begin with a codeword: too many values')
    books.append([read_value(coder, mantissa_bits) for _ in range(count)])
  layers = []
  for shape, book in zip(sizes, books, strict=True):
    array = np.zeros(math.prod(shape), np.float32)
    flag_model, value_model = Counts(2), Counts(len(book))
    for i in range(array.size):
      if flag_model.read(coder):
        if not book:
          raise ValueError('bits do not begin with a codeword: no values')
        array[i] = book[value_model.read(coder)]
    layers.append(array.reshape(shape))
  return Decoded(layers, settings, coder.length())


# Integers of the header are below 2^WORD, so that damaged strings end.
MAX_VALUES = 1 << 16


def _check_layer(i: int, layer: ArrayLike, mantissa_bits: int) -> np.ndarray:
  if not is_concrete(layer):
    raise ValueError(f'layers[{i}] must be concrete: encode outside jit')
  given = np.asarray(layer)
  array = given.astype(np.float32)
  if array.size == 0 or not np.array_equal(array, given):
    raise ValueError(
      f'layers[{i}] must be finite float32 and not empty, got {given.dtype} '
      f'{given.shape}'
    )
  off = array != round_mantissa(np, array, mantissa_bits)
  if np.any(off):
    raise ValueError(
      f'layers[{i}] must lie on the grid of {mantissa_bits} mantissa bits (see '
      f'to_grid), got {array[off].flat[0]!r}'
    )
  if len(np.unique(array)) > MAX_VALUES:
    raise ValueError(f'layers[{i}] has more than {MAX_VALUES} values')
  return array


def _check_bits(bits: ArrayLike) -> list[int]:
  array = np.asarray(bits)
  if array.ndim != 1 or not np.isin(array, (0, 1)).all():
    raise ValueError('bits must be a list of zeros and ones')
  return array.astype(int).tolist()
