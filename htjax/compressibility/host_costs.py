"""`costs` by NumPy: one pass over sorted entries serves all of their costs."""

from typing import Any

import numpy as np

from htjax.host import chunks, sum_of_squares


class Removal:
  """Costs of removing the m smallest of ascending entries, see `costs`.

  Args:
    ascending: [n], sorted magnitudes.
    p: order of the norm.
    power: whether costs are p-th powers.
  """

  def __init__(self, ascending: Any, p: float, *, power: bool = False):
    self.entries, self.p, self.power = ascending, p, power
    self.highest = np.float64(ascending[-1])
    self.parts = list(chunks(ascending.size))
    with np.errstate(all='ignore'):
      sums = [self._sum(part) for part in self.parts]
    self.before = np.concatenate([[0.0], np.cumsum(sums)])

  def __call__(self, m: int) -> Any:
    """The cost of the m smallest, in the entries' dtype."""
    entries, p, dtype = self.entries, self.p, self.entries.dtype.type
    if not np.isfinite(self.highest):
      return dtype(np.nan)
    total = self.before[-1]
    if m >= entries.size:
      return dtype(np.sign(total))
    place, start = self._part_of(m)
    share = (self.before[place] + self._sum(slice(start, m))) / (total or 1)
    peak: Any = np.float64(entries[max(m - 1, 0)]) / (self.highest or 1)
    # Powers of what is far below the largest leave the range.
    if peak > 0 and peak**p < 1e-200:
      own = np.asarray(entries[:m], np.float64) / entries[m - 1]
      share = np.sum(own**p) / total
    else:
      peak = 1.0
    value = peak**p * share if self.power else peak * share ** (1 / p)
    least = np.finfo(dtype).tiny if m > 0 and entries[m - 1] > 0 else 0
    return dtype(np.clip(value, least, 1))

  def last_within(self, bound: Any) -> int:
    """The largest m whose cost is at most a bound >= 0."""
    low, high = 0, self.entries.size
    while low < high:
      middle = low + (high - low + 1) // 2
      if self(middle) <= bound:
        low = middle
      else:
        high = middle - 1
    return low

  def _part_of(self, m: int) -> tuple[int, int]:
    place = min(m // max(self.parts[0].stop, 1), len(self.parts) - 1)
    return place, self.parts[place].start

  def _sum(self, part: slice) -> Any:
    """Sum of the p-th powers of entries relative to the largest."""
    share = self.entries[part].astype(np.float64) / (self.highest or 1)
    return sum_of_squares(share) if self.p == 2 else np.sum(share**self.p)


def column_norms(matrix: Any, p: float = 2) -> np.ndarray:
  """l_p norms over all axes but the last, [..., n] -> [n]."""
  flat = matrix.reshape(-1, matrix.shape[-1])
  parts = list(chunks(*flat.shape))
  peak, total = np.zeros(flat.shape[1], flat.dtype), np.zeros(flat.shape[1])
  with np.errstate(all='ignore'):
    for part in parts:
      peak = np.maximum(peak, np.max(np.abs(flat[part]), axis=0))
    unit = np.where(peak == 0, 1, peak).astype(np.float64)
    for part in parts:
      share = np.abs(flat[part] / unit)
      if p == 2:
        total += np.einsum('ij,ij->j', share, share)
      else:
        total += np.sum(share**p, axis=0)
    return (peak * total ** (1 / p)).astype(flat.dtype)
