"""Strength of pruning that a margin pays for, chosen on measured networks."""

import math
from collections.abc import Callable

from htjax.bounds.arguments import check_callable, number, positive, probability
from htjax.checks import check_count, checked


@checked
def affordable_strength(
  needed: Callable[[float], float],
  *,
  gamma: float,
  high: float = 10.0,
  tolerance: float = 1e-3,
) -> float:
  """Largest strength d in [0, high] whose pruned network needs at most gamma.

  By bisection, as if what is needed grew with d. It is 0, nothing is pruned,
  where gamma is not positive, as the smallest margin of a network that errs on
  an example is not, or where no strength that is tried fits.

  Args:
    needed: the margin that the network pruned at d > 0 needs, such as the value
      of `pruned_output_error` at measured norms.
    gamma: the margin at hand; may be negative.
    high: > 0.
    tolerance: > 0, of d.

  Returns:
    float; if it is positive, `needed` was at most gamma there.

  Raises:
    ValueError: for numbers out of range, or `needed` that is no function.

  Examples:
    >>> from htjax.bounds import magnitude_sketching
    >>> def needed(d):
    ...   return d**2
    >>> strength = magnitude_sketching.affordable_strength(needed, gamma=4.0)
    >>> abs(strength - 2) < 1e-3
    True
    >>> magnitude_sketching.affordable_strength(needed, gamma=-0.1)
    0.0

  Source: the program behind [SK], Table 2.
  """
  check_callable('needed', needed)
  gamma = number('gamma', gamma)
  high, tolerance = positive('high', high), positive('tolerance', tolerance)
  if gamma <= 0:
    return 0.0
  if needed(high) <= gamma:
    return high
  low = 0.0
  # Floats may be coarser than the tolerance.
  while high - low > tolerance and low < (middle := (low + high) / 2) < high:
    if needed(middle) <= gamma:
      low = middle
    else:
      high = middle
  return low


@checked
def narrowing_gain(
  *, fan_in: int, fan_out: int, num_inputs: int, failure: float = 0.01
) -> float:
  """Gain min(1, t sqrt(fan_out)) of a layer that has fewer outputs than inputs.

  t in (0, 1] solves num_inputs exp(-t^2 fan_in) = failure; other layers have 1.
  For `pruned_output_error(gains=)`. It is `low_rank_gain` with a = b = 1 and
  without the union over the rank.

  Args:
    fan_in: inputs of the layer.
    fan_out: its outputs.
    num_inputs: examples.
    failure: in (0, 1).

  Returns:
    float in (0, 1].

  Raises:
    ValueError: for numbers out of range.

  Examples:
    >>> from htjax.bounds import magnitude_sketching
    >>> gain = magnitude_sketching.narrowing_gain
    >>> gain(fan_in=784, fan_out=784, num_inputs=60_000)
    1.0
    >>> round(gain(fan_in=784, fan_out=10, num_inputs=60_000), 4)
    0.4462

  Source: the program behind [SK], Table 2.
  """
  for name, count in (
    ('fan_in', fan_in),
    ('fan_out', fan_out),
    ('num_inputs', num_inputs),
  ):
    check_count(name, count)
  events = math.log(num_inputs / probability('failure', failure))
  if fan_out >= fan_in:
    return 1.0
  t = min(1.0, math.sqrt(events / fan_in))
  return min(1.0, t * math.sqrt(fan_out))
