"""Where weights are kept, and which values they take: adaptive counts.

The decoder keeps the counts as well (Krichevsky & Trofimov 1981), so that no
table is sent.
"""

from htjax.bounds.codes.arithmetic import Decoder, Encoder


class Counts:
  """Probabilities (2 n_s + 1) / (2 n + size) of symbols, from what was seen."""

  def __init__(self, size: int) -> None:
    self.weights = [1] * size

  def write(self, coder: Encoder, symbol: int) -> None:
    start = sum(self.weights[:symbol])
    coder.write(start, start + self.weights[symbol], sum(self.weights))
    self.weights[symbol] += 2

  def read(self, coder: Decoder) -> int:
    total = sum(self.weights)
    target, start, symbol = coder.target(total), 0, 0
    while start + self.weights[symbol] <= target:
      start += self.weights[symbol]
      symbol += 1
    coder.read(start, start + self.weights[symbol], total)
    self.weights[symbol] += 2
    return symbol
