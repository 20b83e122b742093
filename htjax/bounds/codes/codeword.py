"""The codeword of a network, there and back."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from htjax.bounds.arguments import as_list, as_numbers, check_callable, counts
from htjax.bounds.codes.arithmetic import TOP, Decoder, Encoder, refusal
from htjax.bounds.codes.codebook import check_mantissa, round_mantissa
from htjax.bounds.codes.integers import (
  read_integer,
  read_uniform,
  read_value,
  write_integer,
  write_uniform,
  write_value,
)
from htjax.bounds.codes.positions import read_entries, write_entries
from htjax.checks import check_range, checked
from htjax.types import ArrayLike

Shapes = Callable[[tuple[int, ...]], Sequence[tuple[int, ...]]]

MAX_VALUES = 1 << 16


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
  """Network that a string of bits stands for.

  Attributes:
    layers: float32 arrays of the shapes that the settings imply.
    settings: the integers that were sent in front.
    num_bits: number of bits that were read.
  """

  layers: list[np.ndarray]
  settings: tuple[int, ...]
  num_bits: int


@checked
def encode(
  layers: Sequence[ArrayLike],
  settings: Sequence[int] = (),
  *,
  mantissa_bits: int = 3,
) -> Code:
  """The codeword of a network.

  In order: the settings and `mantissa_bits`; for each layer the number of its
  values other than zero, and the values, rising; then the entries of each layer
  (see `positions`).

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
  arrays = [
    _check_layer(i, w, mantissa_bits)
    for i, w in enumerate(as_list('layers', layers))
  ]
  settings = counts('settings', settings, least=0)
  check_range('settings', settings, 0, TOP - 1)
  coder = Encoder()
  for value in (len(settings), *settings):
    write_integer(coder, value)
  write_uniform(coder, mantissa_bits, 3)
  books = [np.unique(w[w != 0]) for w in arrays]
  for book in books:
    write_integer(coder, len(book))
    for value in book:
      write_value(coder, float(value), mantissa_bits)
  header_bits, position_bits = coder.ideal, 0.0
  for array, book in zip(arrays, books, strict=True):
    for length in write_entries(coder, array, book):
      position_bits += length
  value_bits = coder.ideal - header_bits - position_bits
  return Code(coder.finish(), header_bits, position_bits, value_bits)


@checked
def decode(bits: ArrayLike, shapes: Shapes) -> Decoded:
  """The network whose codeword stands at the beginning of `bits`.

  It is the only one: `encode` gives back the first `num_bits` bits, and every
  other beginning, or a codeword that was cut short, is refused.

  Args:
    bits: zeros and ones, [at least the length of a codeword].
    shapes: `shapes(settings)` gives the shapes of all layers; fixed beforehand.

  Returns:
    Decoded; what follows the codeword does not matter.

  Raises:
    ValueError: `bits` is not a list of zeros and ones, or does not begin with a
      codeword; shapes that are none.
  """
  check_callable('shapes', shapes)
  coder = Decoder(_check_bits(bits))
  settings = tuple(read_integer(coder) for _ in range(read_integer(coder)))
  mantissa_bits = read_uniform(coder, 3)
  sizes = _check_shapes(shapes(settings))
  books = []
  for _ in sizes:
    count = read_integer(coder)
    if count > MAX_VALUES:
      raise refusal('too many values')
    books.append([read_value(coder, mantissa_bits) for _ in range(count)])
  layers = [
    read_entries(coder, shape, book)
    for shape, book in zip(sizes, books, strict=True)
  ]
  return Decoded(layers, settings, coder.finish())


def _check_layer(i: int, layer: ArrayLike, mantissa_bits: int) -> np.ndarray:
  given = as_numbers(f'layers[{i}]', layer)
  with np.errstate(over='ignore'):
    array = given.astype(np.float32)
  exact = np.all(np.isfinite(array)) and np.array_equal(array, given)
  if array.size == 0 or not exact:
    raise ValueError(
      f'layers[{i}] must be finite float32 and not empty, got shape '
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
  array = as_numbers('bits', bits)
  if array.ndim != 1 or not np.isin(array, (0, 1)).all():
    raise ValueError('bits must be a list of zeros and ones')
  return array.astype(int).tolist()


def _check_shapes(shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
  found = []
  for shape in as_list('shapes', shapes):
    found.append(tuple(counts('shapes', shape)))
    if math.prod(found[-1]) >= TOP:
      raise ValueError(f'shapes must have fewer than 2^32 entries, got {shape}')
  return found
