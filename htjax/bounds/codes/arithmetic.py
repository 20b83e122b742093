"""Arithmetic coding with integers (Witten, Neal & Cleary 1987).

An interval of integers is narrowed by each event; bits that are settled leave.
"""

import math

import numpy as np

WORD = 32


TOP, _QUARTER = 1 << WORD, 1 << (WORD - 2)


_HALF = 2 * _QUARTER


class Encoder:
  """Narrows an interval of integers, and emits the bits that are settled."""

  def __init__(self) -> None:
    self.low, self.high = 0, TOP - 1
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
      self.low = self.low * 2 % TOP
      self.high = (self.high * 2 + 1) % TOP

  def finish(self) -> np.ndarray:
    """All bits, with two that keep any continuation inside the interval."""
    self.pending += 1
    self._emit(int(self.low >= _QUARTER))
    return np.array(self.bits, np.uint8)

  def _emit(self, bit: int) -> None:
    self.bits += [bit] + [1 - bit] * self.pending
    self.pending = 0


class Decoder:
  """Follows the encoder's interval with the bits in hand."""

  def __init__(self, bits: list[int]) -> None:
    self.low, self.high = 0, TOP - 1
    self.bits, self.position = bits, 0
    self.word = 0
    for _ in range(WORD):
      self.word = self.word * 2 + self._next()

  def target(self, total: int) -> int:
    """Place of the word among `total` equal parts of the interval."""
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
      self.low = self.low * 2 % TOP
      self.high = (self.high * 2 + 1) % TOP
      self.word = self.word * 2 % TOP + self._next()

  def finish(self) -> int:
    """Number of bits of the codeword, if it ends as the encoder ends it."""
    # The encoder's last two bits name a quarter inside the interval. Another
    # quarter that overlaps with it decodes too, but is no codeword.
    if self.word // _QUARTER != (1 if self.low < _QUARTER else 2):
      raise refusal('they end otherwise')
    return self._num_bits()

  def _num_bits(self) -> int:
    """Those shifted out, and the two of the end."""
    return self.position - WORD + 2

  def _next(self) -> int:
    self.position += 1
    if self._num_bits() > len(self.bits):
      raise refusal(f'there are {len(self.bits)} bits, and it goes on')
    # What follows the codeword does not matter, so zeros will do.
    if self.position > len(self.bits):
      return 0
    return self.bits[self.position - 1]


def refusal(reason: str) -> ValueError:
  """The error of `decode`."""
  return ValueError(f'bits do not begin with a codeword: {reason}')
