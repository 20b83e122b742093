"""Positions of kept weights, and which of a few values they take.

A flag for each entry, in row-major order, followed by the index of its value if
it is kept, both predicted by their counts in the layer so far. The decoder
keeps the counts as well (Krichevsky & Trofimov 1981), so no table is sent.
"""

import math

import numpy as np

from htjax.bounds.codes.arithmetic import Decoder, Encoder, refusal


class Counts:
  """Probabilities (2 n_s + 1) / (2 n + size) of symbols, from what was seen."""

  def __init__(self, size: int) -> None:
    self.weights = [1] * size

  def write(self, coder: Encoder, symbol: int) -> None:
    """Code one symbol, and count it."""
    start = sum(self.weights[:symbol])
    coder.write(start, start + self.weights[symbol], sum(self.weights))
    self.weights[symbol] += 2

  def read(self, coder: Decoder) -> int:
    """The symbol that was written, counted too."""
    total = sum(self.weights)
    target, start, symbol = coder.target(total), 0, 0
    while start + self.weights[symbol] <= target:
      start += self.weights[symbol]
      symbol += 1
    coder.read(start, start + self.weights[symbol], total)
    self.weights[symbol] += 2
    return symbol


def write_entries(
  coder: Encoder, array: np.ndarray, book: np.ndarray
) -> list[float]:
  """Code the entries of a layer whose values are 0 and those of the codebook.

  Args:
    coder: what the events go to.
    array: float32, of any shape.
    book: the values other than 0 in it, rising, [r].

  Returns:
    Ideal length of each flag, in bits.
  """
  entries = array.ravel()
  symbols = np.searchsorted(book, entries).tolist()
  flags, values, lengths = Counts(2), Counts(len(book)), []
  for entry, symbol in zip(entries.tolist(), symbols, strict=True):
    before = coder.ideal
    flags.write(coder, int(entry != 0))
    lengths.append(coder.ideal - before)
    if entry != 0:
      values.write(coder, symbol)
  return lengths


def read_entries(
  coder: Decoder, shape: tuple[int, ...], book: list[float]
) -> np.ndarray:
  """The layer that was written, float32 of `shape`.

  Args:
    coder: where the events come from.
    shape: of the layer.
    book: its values other than 0.

  Returns:
    Float32 array.

  Raises:
    ValueError: a codebook that is not that of the layer.
  """
  array = np.zeros(math.prod(shape), np.float32)
  flags, values = Counts(2), Counts(len(book))
  for i in range(array.size):
    if flags.read(coder):
      if not book:
        raise refusal('no values')
      array[i] = book[values.read(coder)]
  if not np.array_equal(np.unique(array[array != 0]), book):
    raise refusal('values that no layer has')
  return array.reshape(shape)
