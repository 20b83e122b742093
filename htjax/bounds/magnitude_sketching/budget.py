"""The pruning and the rounding of a network that its margin pays for."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from htjax.bounds.arguments import positive, probability
from htjax.bounds.magnitude_sketching.magnitude import (
  expected_nonzeros,
  kept_probability,
  pruning_error,
)
from htjax.bounds.magnitude_sketching.output_error import pruned_output_error
from htjax.bounds.magnitude_sketching.premises import Shape
from htjax.bounds.magnitude_sketching.rounding import (
  num_grid_values,
  rounding_error,
)
from htjax.bounds.magnitude_sketching.sketches import (
  distributed_sparsity,
  sketched_risk,
)
from htjax.bounds.result import Bound
from htjax.types import ArrayLike


class Budget(NamedTuple):
  """Cost of Algorithm 1 and of a grid to a network, and what a margin allows.

  The methods put Lemmas C.2, 4.1 and 4.2 together; none of them looks at more
  than these numbers, each [L] where not said.

  Attributes:
    shapes: (d_1, d_2) of the layers.
    spectral: |A_l|_2 > 0.
    variances: mean squares of the entries, > 0.
    largest: largest magnitudes of the entries.
    input_norm: |x| > 0 of the longest input, one number.
    multiplier: Markov's epsilon >= 1 of every layer, one number; each layer's
      error exceeds its mean that many times with probability 1 / epsilon.
  """

  shapes: Sequence[Shape]
  spectral: Sequence[float] | np.ndarray
  variances: Sequence[float]
  largest: Sequence[float]
  input_norm: float
  multiplier: float

  @staticmethod
  def kept(strength: float) -> float:
    """The kept fraction; where it rounds to 1, the largest number below."""
    return min(kept_probability(strength), 1 - 2**-53)

  def changes(self, strength: float) -> list[float]:
    """Mean spectral norms of what pruning takes from each layer."""
    return [
      pruning_error(shape, variance=variance, strength=strength).value
      for shape, variance in zip(self.shapes, self.variances, strict=True)
    ]

  def output_error(
    self,
    changes: Sequence[float],
    multipliers: float | None = None,
    rounding: Sequence[float] | float = 0.0,
  ) -> Bound:
    """The error of the output where the layers change by so much."""
    return pruned_output_error(
      np.asarray(self.spectral),
      np.array(changes),
      input_norm=self.input_norm,
      multipliers=multipliers,
      rounding=np.array(rounding),
    )

  def error(self, strength: float, steps: Sequence[float] = ()) -> Bound:
    """Of pruning at a strength, and rounding each layer to a grid if given."""
    pairs = zip(steps, self.nonzeros(strength), strict=True) if steps else ()
    rounding = [rounding_error(*pair) for pair in pairs] or 0.0
    return self.output_error(self.changes(strength), self.multiplier, rounding)

  def nonzeros(self, strength: float) -> list[int]:
    """Of each layer after pruning, at least the expected number."""
    kept = self.kept(strength)
    return [math.ceil(expected_nonzeros(s, kept=kept)) for s in self.shapes]

  def num_values(self, steps: Sequence[float]) -> list[int]:
    """Points of each layer's grid, at least 2."""
    pairs = zip(self.largest, steps, strict=True)
    return [max(2, num_grid_values(*pair)) for pair in pairs]

  def within(self, gamma: float) -> tuple[float, list[float]]:
    """Strength and grids that a margin pays for, half and half.

    The error of pruning grows with the strength, so that the largest one is
    where it meets its half; each layer takes an equal part of the other.
    """
    from scipy import optimize

    # A hair less, or rounding decides whether it is enough.
    half = math.log(positive('gamma', gamma) / (2 * math.sqrt(2))) - 1e-9

    def excess(log: float) -> float:
      return self.error(math.exp(log)).log_value - half

    high = 10.0
    log = high if excess(high) <= 0 else optimize.brentq(excess, -200.0, high)
    strength = math.exp(log)
    # The lemma's error is this much times the sum of the relative changes.
    front = math.log(math.e * self.input_norm) + np.sum(np.log(self.spectral))
    share = math.exp(half - front) / len(self.spectral)
    pairs = zip(self.spectral, self.nonzeros(strength), strict=True)
    return strength, [2 * share * top / math.sqrt(n) for top, n in pairs]

  def sketched_risk(
    self,
    margins: ArrayLike,
    *,
    gamma: float,
    strength: float,
    steps: Sequence[float],
    sparsity_failure: float,
    constant: float = 1.0,
  ) -> Bound:
    """Theorem 5.2 at this strength and these grids.

    Each layer's lambda is the least at which its sparsity fails with at most
    `sparsity_failure`; the other arguments are those of the theorem.
    """
    kept = self.kept(strength)
    factors = [
      least_factor(shape, kept=kept, failure=sparsity_failure)
      for shape in self.shapes
    ]
    return sketched_risk(
      margins,
      gamma=gamma,
      output_error=self.error(strength, steps),
      shapes=self.shapes,
      kept=kept,
      num_values=self.num_values(steps),
      factors=np.array(factors),
      constant=constant,
    )


def least_factor(shape: Shape, *, kept: float, failure: float) -> float:
  """Least lambda of `distributed_sparsity` that fails rarely enough.

  Args:
    shape: (d_1, d_2).
    kept: chi in (0, 1).
    failure: in (0, 1), the probability that is allowed.

  Returns:
    float, a power of 1.1.

  Raises:
    ValueError: for numbers out of range.

  Source: [SK], Lemma 5.1.
  """
  allowed = probability('failure', failure)
  factor = 1.0
  while distributed_sparsity(shape, kept=kept, factor=factor).failure > allowed:
    factor *= 1.1
  return factor
