"""A prefix-free code for sparse, quantised networks.

`encode` turns arrays with few distinct values into a string of bits, `decode`
turns the string back into the same arrays. No string is the beginning of
another, so their lengths obey Kraft's inequality, and 2^-length is a prior over
networks that can be fixed before any data are seen. All parts go through one
integer arithmetic coder (Witten, Neal & Cleary 1987), which costs less than 3
bits over the ideal length; where weights are kept, and which of their layer's
values they take, is coded with counts that the decoder keeps as well
(Krichevsky & Trofimov 1981), so that no table is sent.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from htjax.checks import check_count, check_range, is_concrete
from htjax.types import Array, ArrayLike

Shapes = Callable[[tuple[int, ...]], Sequence[tuple[int, ...]]]

_WORD = 32
_TOP, _QUARTER = 1 << _WORD, 1 << (_WORD - 2)
_HALF = 2 * _QUARTER
# Integers of the header are below 2^_WORD, so that damaged strings end.
_MAX_VALUES = 1 << 16


class Code(NamedTuple):
  """A network as a string of bits.

  Attributes:
    bits: uint8 [length] of zeros and ones.
    header: ideal length of settings and codebooks, in bits.
    positions: ideal length of where the kept weights are.
    values: ideal length of which value each of them has.
  """

  bits: np.ndarray
  header: float
  positions: float
  values: float

  @property
  def length(self) -> int:
    """Number of bits."""
    return len(self.bits)


class Decoded(NamedTuple):
  """What a string of bits stands for.

  Attributes:
    layers: float32 arrays of the shapes that the settings imply.
    settings: the integers that were sent in front.
    length: number of bits that were read; any that follow are not part of it.
  """

  layers: list[np.ndarray]
  settings: tuple[int, ...]
  length: int


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
  _check_mantissa(mantissa_bits)
  arrays = [_check_layer(i, w, mantissa_bits) for i, w in enumerate(layers)]
  for value in settings:
    check_count('settings', value, 0)
    check_range('settings', value, 0, _TOP - 1)
  coder = _Encoder()
  for value in (len(settings), *settings):
    _write_integer(coder, int(value))
  _write_uniform(coder, mantissa_bits, 3)
  books = [np.unique(w[w != 0]) for w in arrays]
  for book in books:
    _write_integer(coder, len(book))
    for value in book:
      _write_value(coder, float(value), mantissa_bits)
  header, positions = coder.ideal, 0.0
  for array, book in zip(arrays, books, strict=True):
    symbols = np.searchsorted(book, array.ravel()).tolist()
    flag_model, value_model = _Counts(2), _Counts(len(book))
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
  coder = _Decoder(_check_bits(bits))
  settings = tuple(_read_integer(coder) for _ in range(_read_integer(coder)))
  mantissa_bits = _read_uniform(coder, 3)
  sizes = [tuple(int(n) for n in shape) for shape in shapes(settings)]
  books = []
  for _ in sizes:
    count = _read_integer(coder)
    if count > _MAX_VALUES:
      raise ValueError('bits do not begin with a codeword: too many values')
    books.append([_read_value(coder, mantissa_bits) for _ in range(count)])
  layers = []
  for shape, book in zip(sizes, books, strict=True):
    array = np.zeros(math.prod(shape), np.float32)
    flag_model, value_model = _Counts(2), _Counts(len(book))
    for i in range(array.size):
      if flag_model.read(coder):
        if not book:
          raise ValueError('bits do not begin with a codeword: no values')
        array[i] = book[value_model.read(coder)]
    layers.append(array.reshape(shape))
  return Decoded(layers, settings, coder.length())


def to_grid(x: ArrayLike, mantissa_bits: int = 3) -> Array:
  """The nearest numbers +-(1 + f / 2^m) 2^e, f in 0..2^m - 1, e any integer.

  Args:
    x: float32, any shape, traced or not.
    mantissa_bits: m in [0, 7].

  Returns:
    Array like `x`; a relative change of at most 2^-(m + 1) / (1 + 2^-(m + 1)),
    zeros stay zeros. Halfway cases go to the even f.

  Raises:
    ValueError: mantissa_bits out of range.
  """
  _check_mantissa(mantissa_bits)
  return _round_mantissa(jnp, jnp.asarray(x, jnp.float32), mantissa_bits)


def fit_codebook(
  weights: ArrayLike, num_values: int, *, num_iterations: int = 100
) -> np.ndarray:
  """Values that stand for many weights: k-means in one dimension.

  Lloyd's iteration from the quantiles (i + 1/2) / num_values; the same weights
  give the same values.

  Args:
    weights: of any shape, finite; zeros are not left out.
    num_values: at least 1.
    num_iterations: at most so many steps.

  Returns:
    Rising float32 [num_values]; fewer if the weights have fewer values.

  Raises:
    ValueError: no weights, weights not finite, or counts below 1.

  Source: Lloyd (1982), "Least squares quantization in PCM".
  """
  check_count('num_values', num_values)
  check_count('num_iterations', num_iterations)
  x = np.sort(np.asarray(weights, np.float64).ravel())
  if x.size == 0 or not np.all(np.isfinite(x)):
    raise ValueError('weights must be finite and at least one')
  centres = np.quantile(x, (np.arange(num_values) + 0.5) / num_values)
  total = np.concatenate([[0.0], np.cumsum(x)])
  for _ in range(num_iterations):
    centres = np.unique(centres)
    middles = (centres[1:] + centres[:-1]) / 2
    ends = np.concatenate([[0], np.searchsorted(x, middles), [x.size]])
    counts = np.diff(ends)
    means = np.diff(total[ends])[counts > 0] / counts[counts > 0]
    if np.array_equal(means, centres):
      break
    centres = means
  return np.unique(centres.astype(np.float32))


def _round_mantissa(xp: Any, x: Any, mantissa_bits: int) -> Any:
  """With NumPy or JAX; NumPy compiles nothing for a new shape."""
  fraction, exponent = xp.frexp(x)
  step = 2.0 ** (mantissa_bits + 1)
  return xp.ldexp(xp.round(fraction * step) / step, exponent)


# Arithmetic coding ---------------------------------------------------------


class _Encoder:
  """Narrows an interval of integers, and emits the bits that are settled."""

  def __init__(self) -> None:
    self.low, self.high = 0, _TOP - 1
    self.pending = 0
    self.bits: list[int] = []
    self.ideal = 0.0

  def write(self, start: int, stop: int, total: int) -> None:
    """Code an event of probability (stop - start) / total."""
    self.ideal += math.log2(total / (stop - start))
    width = self.high - self.low + 1
    self.high = self.low + width * stop // total - 1
    self.low += width * start // total
    while True:
      if self.high < _HALF or self.low >= _HALF:
        self._emit(int(self.low >= _HALF))
      elif self.low >= _QUARTER and self.high < 3 * _QUARTER:
        self.pending += 1
        self.low -= _QUARTER
        self.high -= _QUARTER
      else:
        return
      self.low = self.low * 2 % _TOP
      self.high = (self.high * 2 + 1) % _TOP

  def finish(self) -> np.ndarray:
    """All bits, with two that keep any continuation inside the interval."""
    self.pending += 1
    self._emit(int(self.low >= _QUARTER))
    return np.array(self.bits, np.uint8)

  def _emit(self, bit: int) -> None:
    self.bits += [bit] + [1 - bit] * self.pending
    self.pending = 0


class _Decoder:
  """Follows the encoder's interval with the bits in hand."""

  def __init__(self, bits: list[int]) -> None:
    self.low, self.high = 0, _TOP - 1
    self.bits, self.position = bits, 0
    self.word = 0
    for _ in range(_WORD):
      self.word = self.word * 2 + self._next()

  def target(self, total: int) -> int:
    """Where the word lies among `total` equal parts of the interval."""
    width = self.high - self.low + 1
    return ((self.word - self.low + 1) * total - 1) // width

  def read(self, start: int, stop: int, total: int) -> None:
    """Take the event [start, stop) as decoded."""
    width = self.high - self.low + 1
    self.high = self.low + width * stop // total - 1
    self.low += width * start // total
    while True:
      if self.high < _HALF or self.low >= _HALF:
        pass
      elif self.low >= _QUARTER and self.high < 3 * _QUARTER:
        self.low -= _QUARTER
        self.high -= _QUARTER
        self.word -= _QUARTER
      else:
        return
      self.low = self.low * 2 % _TOP
      self.high = (self.high * 2 + 1) % _TOP
      self.word = self.word * 2 % _TOP + self._next()

  def length(self) -> int:
    """Bits of the codeword: those shifted out, and the two of its end."""
    length = self.position - _WORD + 2
    if length > len(self.bits):
      raise ValueError(
        f'bits do not begin with a codeword: {len(self.bits)} bits, and it '
        f'would have {length}'
      )
    return length

  def _next(self) -> int:
    # What follows the codeword does not matter, so zeros will do.
    bit = self.bits[self.position] if self.position < len(self.bits) else 0
    self.position += 1
    return bit


class _Counts:
  """Probabilities (2 n_s + 1) / (2 n + size) of symbols, from what was seen."""

  def __init__(self, size: int) -> None:
    self.weights = [1] * size

  def write(self, coder: _Encoder, symbol: int) -> None:
    start = sum(self.weights[:symbol])
    coder.write(start, start + self.weights[symbol], sum(self.weights))
    self.weights[symbol] += 2

  def read(self, coder: _Decoder) -> int:
    total = sum(self.weights)
    target, start, symbol = coder.target(total), 0, 0
    while start + self.weights[symbol] <= target:
      start += self.weights[symbol]
      symbol += 1
    coder.read(start, start + self.weights[symbol], total)
    self.weights[symbol] += 2
    return symbol


def _write_uniform(coder: _Encoder, value: int, num_bits: int) -> None:
  for i in reversed(range(num_bits)):
    bit = value >> i & 1
    coder.write(bit, bit + 1, 2)


def _read_uniform(coder: _Decoder, num_bits: int) -> int:
  value = 0
  for _ in range(num_bits):
    bit = coder.target(2)
    coder.read(bit, bit + 1, 2)
    value = value * 2 + bit
  return value


def _write_integer(coder: _Encoder, value: int) -> None:
  """Elias gamma code of value + 1: 2 floor(log2(value + 1)) + 1 bits."""
  size = (value + 1).bit_length()
  _write_uniform(coder, 0, size - 1)
  _write_uniform(coder, value + 1, size)


def _read_integer(coder: _Decoder) -> int:
  size = 0
  while not _read_uniform(coder, 1):
    size += 1
    if size > _WORD:
      raise ValueError('bits do not begin with a codeword: an endless integer')
  return (1 << size | _read_uniform(coder, size)) - 1


def _write_value(coder: _Encoder, value: float, mantissa_bits: int) -> None:
  """Sign, exponent in the order 0, -1, 1, -2, .., and mantissa."""
  fraction, exponent = math.frexp(abs(value))
  _write_uniform(coder, int(value < 0), 1)
  _write_integer(coder, 2 * exponent if exponent >= 0 else -2 * exponent - 1)
  mantissa = int(fraction * 2 ** (mantissa_bits + 1)) - 2**mantissa_bits
  _write_uniform(coder, mantissa, mantissa_bits)


def _read_value(coder: _Decoder, mantissa_bits: int) -> float:
  negative = _read_uniform(coder, 1)
  index = _read_integer(coder)
  exponent = -(index + 1) // 2 if index % 2 else index // 2
  mantissa = _read_uniform(coder, mantissa_bits) + 2**mantissa_bits
  if not -148 <= exponent <= 128:  # those of float32
    raise ValueError('bits do not begin with a codeword: a value out of range')
  value = math.ldexp(mantissa, exponent - mantissa_bits - 1)
  return -value if negative else value


# Checks --------------------------------------------------------------------


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
  off = array != _round_mantissa(np, array, mantissa_bits)
  if np.any(off):
    raise ValueError(
      f'layers[{i}] must lie on the grid of {mantissa_bits} mantissa bits (see '
      f'to_grid), got {array[off].flat[0]!r}'
    )
  if len(np.unique(array)) > _MAX_VALUES:
    raise ValueError(f'layers[{i}] has more than {_MAX_VALUES} values')
  return array


def _check_mantissa(mantissa_bits: int) -> None:
  check_count('mantissa_bits', mantissa_bits, 0)
  if mantissa_bits > 7:
    raise ValueError(f'mantissa_bits must be at most 7, got {mantissa_bits}')


def _check_bits(bits: ArrayLike) -> list[int]:
  array = np.asarray(bits)
  if array.ndim != 1 or not np.isin(array, (0, 1)).all():
    raise ValueError('bits must be a list of zeros and ones')
  return array.astype(int).tolist()
