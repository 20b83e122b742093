"""Pick-to-learn: training on few examples that make the others right.

What is trained on the picked examples, and nothing else of the sample, is known
from them: the sample is compressed. With the examples that stay wrong counted
as if they had been picked, an example more changes the compressed set if and
only if it is wrong or was picked, so that the size of that set bounds the risk.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from htjax.bounds.arguments import (
  as_numbers,
  check_callable,
  number,
  probability,
)
from htjax.bounds.certificates.inversions import check_errors, largest
from htjax.bounds.logarithms import log, log_sum
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.checks import check_count, checked


class Picked(NamedTuple):
  """The end of `pick_to_learn`.

  Attributes:
    model: of the last training.
    indices: the examples that it was trained on, in the order in which they
      were picked, int [k].
    errors: examples that were not picked and that the model gets wrong.
    rounds: trainings after the first.
  """

  model: Any
  indices: np.ndarray
  errors: int
  rounds: int

  @property
  def size(self) -> int:
    """Examples that count: the picked ones and those that stay wrong."""
    return len(self.indices) + self.errors


@checked
def pick_to_learn(
  learn: Callable[[Any, np.ndarray], Any],
  margins: Callable[[Any], Any],
  *,
  at_once: int = 1,
  max_rounds: int = 1000,
) -> Picked:
  """Train on more and more of the examples that are still wrong.

  Starting from `learn(None, [])`, each round picks of the examples that were
  not picked and are wrong those of the smallest margins, at most `at_once`, and
  trains again; it ends when none is wrong, or after `max_rounds`.

  Args:
    learn: (the model so far, None at first; indices of all examples picked so
      far, int [k]) -> a model. It may look at these examples, and at whatever
      was fixed or seen before the sample, and at nothing else; a number that
      it draws comes from a fixed seed.
    margins: model -> margins [n] of all examples, such as `bounds.margins`; an
      example is wrong if its margin is not positive.
    at_once: examples picked in a round, >= 1, fixed before the data.
    max_rounds: >= 0, fixed before the data.

  Returns:
    Picked; its `size` is for `compression_certificate`.

  Raises:
    ValueError: for arguments that are no functions or counts, or margins of
      another shape than [n] or NaN.

  Source: [Paccagnan2023], Algorithm 1; several at once, and the stop before
    all are right, keep the property of preference that the bound asks for.

  Examples:
    >>> import numpy as np
    >>> from htjax.bounds import certificates
    >>> # A threshold below 1/2 is sought; it is learnt from the picked points.
    >>> x = np.array([0.1, 0.35, 0.48, 0.2, 0.9, 0.7])
    >>> picked = certificates.pick_to_learn(
    ...   lambda t, k: max([0.0, *x[k][x[k] < 0.5]]),
    ...   lambda t: np.where(x < 0.5, t - x + 1e-9, x - t),
    ... )
    >>> float(picked.model), picked.size
    (0.48, 1)
  """
  check_callable('learn', learn)
  check_callable('margins', margins)
  check_count('at_once', at_once)
  check_count('max_rounds', max_rounds, 0)
  picked = np.zeros(0, int)
  model, rounds = learn(None, picked), 0
  while True:
    found = as_numbers('margins', margins(model))
    if found.ndim != 1 or np.any(np.isnan(found)):
      raise ValueError(f'margins must be [n] and no NaN, got {found}')
    found[picked] = np.inf
    wrong = np.flatnonzero(found <= 0)
    if not len(wrong) or rounds == max_rounds:
      return Picked(model, picked, len(wrong), rounds)
    # Ties go to the example that stands first.
    worst = wrong[np.argsort(found[wrong], kind='stable')[:at_once]]
    picked, rounds = np.concatenate([picked, worst]), rounds + 1
    model = learn(model, picked)


@checked
def compression_certificate(
  size: int, n: int, delta: float, *, log_settings: float = 0.0
) -> Bound:
  """A bound on the risk from the size of the compressed sample alone.

  The largest p with
    delta / n sum_{m=k}^{n-1} C(m, k) / C(n, k) (1 - p)^-(n - m) <= 1,
  1 for k = n.

  Args:
    size: k, examples picked and examples that stay wrong (`Picked.size`), in
      [0, n].
    n: examples of the sample that was compressed; those of a part that served
      for a first training are not counted.
    delta: probability of failure, in (0, 1).
    log_settings: ln of the number of runs among which this one was chosen, >=
      0.

  Returns:
    Bound on the probability that a new example is classified wrongly, with
    terms kept (k / n) and complexity; it fails with probability delta.

  Raises:
    ValueError: for numbers out of range.

  Source: [Paccagnan2023]; [Campi2023], under the property of preference. Given
    that property each m < n bounds by 1 the sum over k of C(m, k) times the
    mean of (1 - risk)^(m - k), and their mean with weights delta / n is this.

  Examples:
    >>> from htjax.bounds import certificates
    >>> f'{certificates.compression_certificate(60, 10_000, 0.05).value:.5f}'
    '0.00862'
  """
  check_errors(size, n)
  extra = number('log_settings', log_settings, 0, math.inf, open_high=True)
  log_delta = math.log(probability('delta', delta)) - extra
  value = 1.0
  if size < n:
    weights = _log_weights(size, n)
    gaps = np.arange(n - size, 0, -1.0)

    def allowed(p: float) -> bool:
      sum_nats = log_sum(weights - gaps * math.log1p(-p))
      return log_delta - math.log(n) + sum_nats <= 0

    value = largest(allowed, 0.0)
  rate = size / n
  premises = [
    Assumption(
      'compression', None, 'the model is learnt from the counted examples alone'
    ),
    Assumption('sample', None, 'the examples are independent, of one law'),
  ]
  return make_bound(
    {'kept': log(rate), 'complexity': log(value - rate)},
    premises,
    failure=delta,
    details={'num_samples': float(n)},
    value=value,
  )


def _log_weights(k: int, n: int) -> np.ndarray:
  """ln C(m, k) / C(n, k) for m = k .. n - 1."""
  m = np.arange(k, n, dtype=np.float64)
  # C(m, k) / C(m + 1, k) = (m + 1 - k) / (m + 1).
  ratios = np.log1p(-k / (m + 1))
  return np.cumsum(ratios[::-1])[::-1]
