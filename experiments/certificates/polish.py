"""Weights changed one at a time, while errors and bits of the string fall.

The bound counts errors and bits, and training follows neither. A last word on
each weight is cheap: what one weight of the last layer changes is one row of
the outputs, what one of the convolution changes is one channel.
"""

import functools

import numpy as np
from scipy import special

from experiments.certificates.decoder import Design

_CHUNK = 2000


def polish(
  design: Design,
  layers: list[np.ndarray],
  inputs: np.ndarray,
  labels: np.ndarray,
  *,
  price: float,
  share: float,
  rounds: int,
  seed: int,
) -> list[np.ndarray]:
  """A network with fewer errors + price * bits, found from one that is given.

  Each weight in turn, in a random order, takes whichever value of its layer
  (or zero) is best while all others stay. Only examples near the boundary are
  looked at, those whose margins are smallest in absolute value: the rest hardly
  move. After each round they are chosen again.

  Args:
    design: of the network.
    layers: both, each of few values.
    inputs: `decoder.features` of the training pictures, [n, r, r, channels].
    labels: [n].
    price: errors that a bit is worth.
    share: of the examples that are looked at, in (0, 1].
    rounds: passes over all weights.
    seed: of the order.

  Returns:
    Both layers.
  """
  rng = np.random.default_rng(seed)
  kernel, readout = (np.array(w, np.float32) for w in layers)
  for _ in range(rounds):
    size = np.abs(margins(design, [kernel, readout], inputs, labels))
    near = np.sort(np.argsort(size, kind='stable')[: int(share * len(size))])
    examples = inputs[near], labels[near]
    search = _Search(design, (kernel, readout), examples, price)
    search.pass_over_readout(rng)
    search.pass_over_kernel(rng)
    search.pass_over_readout(rng)
  return [kernel, readout]


def string_bits(layer: np.ndarray) -> float:
  """Bits that `bounds.codes` takes for the entries of a layer, but rounding."""
  kept = layer[layer != 0]
  counts = np.unique(kept, return_counts=True)[1].tolist()
  flags = _adaptive((layer.size - kept.size, kept.size))
  return flags + _adaptive(tuple(counts))


# The same few counts come up for weight after weight.
@functools.lru_cache(maxsize=4096)
def _adaptive(counts: tuple[int, ...]) -> float:
  """Length by Krichevsky and Trofimov's counts: their order does not matter."""
  n, size = np.asarray(counts, float), len(counts)
  nats = special.gammaln(n.sum() + size / 2) - special.gammaln(size / 2)
  nats -= np.sum(special.gammaln(n + 0.5) - special.gammaln(0.5))
  return float(nats / np.log(2))


def margins(
  design: Design,
  layers: list[np.ndarray],
  inputs: np.ndarray,
  labels: np.ndarray,
) -> np.ndarray:
  """Output of each label less the largest of the others, [n]."""
  found = []
  for i in range(0, len(labels), _CHUNK):
    maps = _maps(design, layers[0], _last(inputs[i : i + _CHUNK]))
    outputs = layers[1].T @ _pooled(design, maps).reshape(len(layers[1]), -1)
    found.append(_margins(outputs, labels[i : i + _CHUNK]))
  return np.concatenate(found)


def _margins(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Of outputs [classes, n]."""
  others, at = outputs.copy(), (labels, np.arange(len(labels)))
  own = others[at]
  others[at] = -np.inf
  return own - others.max(0)


def _last(inputs: np.ndarray) -> np.ndarray:
  """[channels, r, r, n], the examples last."""
  return np.ascontiguousarray(np.transpose(inputs, (3, 1, 2, 0)))


def _maps(design: Design, kernel: np.ndarray, inputs: np.ndarray) -> np.ndarray:
  """Outputs of the convolution, [filters, used, used, n]."""
  size, (c, side, _, n) = design.size, inputs.shape
  used = (side - size + 1) // design.pool * design.pool
  shifts = [
    inputs[:, i : i + used, j : j + used]
    for i in range(size)
    for j in range(size)
  ]
  matrix = kernel.reshape(size * size * c, -1)
  maps = matrix.T @ np.stack(shifts).reshape(len(matrix), -1)
  return maps.reshape(-1, used, used, n)


def _pooled(design: Design, maps: np.ndarray) -> np.ndarray:
  """Largest positive value of each square, [filters, squares, n]."""
  filters, used, _, n = maps.shape
  pool = design.pool
  maps = maps.reshape(filters, used // pool, pool, used // pool, pool, n)
  return np.maximum(maps.max((2, 4)), 0).reshape(filters, -1, n)


class _Search:
  """Both layers, which are changed in place, and what follows from them."""

  def __init__(
    self,
    design: Design,
    layers: tuple[np.ndarray, np.ndarray],
    examples: tuple[np.ndarray, np.ndarray],
    price: float,
  ) -> None:
    inputs, labels = examples
    kernel, readout = layers
    self.design, self.kernel, self.readout = design, kernel, readout
    self.labels, self.price = labels, price
    self.inputs = _last(inputs)
    self.maps = _maps(design, kernel, self.inputs)
    self.pooled = _pooled(design, self.maps)
    # [classes, n]
    self.outputs = readout.T @ self.pooled.reshape(len(readout), -1)

  def cost(self, errors: int) -> float:
    """Errors and the price of the bits, which are to fall."""
    bits = string_bits(self.kernel) + string_bits(self.readout)
    return errors + self.price * bits

  def pass_over_readout(self, rng: np.random.Generator) -> None:
    """Each weight of the last layer once, one class after another."""
    values = _values(self.readout)
    flat = self.pooled.reshape(len(self.readout), -1)
    for k in rng.permutation(self.readout.shape[1]):
      own = self.labels == k
      threshold, able = self._thresholds(k)
      lost = int(np.sum(~able))
      # Right if the sign times (output of k less the threshold) is positive.
      sign = np.where(own, 1, -1).astype(np.float32)[able]
      over = sign * (self.outputs[k] - threshold)[able]
      best = self.cost(lost + int(np.sum(over <= 0)))
      for j in rng.permutation(len(flat)):
        slope = sign * flat[j][able]
        for value in values:
          old = self.readout[j, k]
          if value == old:
            continue
          moved = over + (value - old) * slope
          self.readout[j, k] = value
          cost = self.cost(lost + int(np.sum(moved <= 0)))
          if cost < best:
            best, over = cost, moved
          else:
            self.readout[j, k] = old
      self.outputs[k] = self.readout[:, k] @ flat

  def _thresholds(self, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers that output k is compared with; where it decides, [n] each."""
    others, at = self.outputs.copy(), np.arange(len(self.labels))
    others[k] = -np.inf
    largest = others.max(0)
    target = others[self.labels, at].copy()
    others[self.labels, at] = -np.inf
    own = self.labels == k
    return np.where(own, largest, target), own | (target > others.max(0))

  def pass_over_kernel(self, rng: np.random.Generator) -> None:
    """Each weight of the convolution once."""
    values = _values(self.kernel)
    best = self.cost(int(np.sum(_margins(self.outputs, self.labels) <= 0)))
    used = self.maps.shape[1]
    readout = self.readout.reshape(len(self.maps), -1, self.readout.shape[1])
    for entry in rng.permutation(self.kernel.size):
      i, j, c, o = place = np.unravel_index(entry, self.kernel.shape)
      seen = self.inputs[c, i : i + used, j : j + used]
      for value in values:
        old = self.kernel[place]
        if value == old:
          continue
        maps = self.maps[o] + (value - old) * seen
        pooled = _pooled(self.design, maps[None])[0]
        outputs = self.outputs + readout[o].T @ (pooled - self.pooled[o])
        self.kernel[place] = value
        cost = self.cost(int(np.sum(_margins(outputs, self.labels) <= 0)))
        if cost < best:
          best, self.outputs = cost, outputs
          self.maps[o], self.pooled[o] = maps, pooled
        else:
          self.kernel[place] = old


def _values(layer: np.ndarray) -> np.ndarray:
  """Zero and those of the layer."""
  return np.unique(np.append(layer, np.float32(0)))
