"""The best of several margins, at the price of a union over them."""

import math
from collections.abc import Callable
from typing import NamedTuple

from htjax.bounds.arguments import probability, vector
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.checks import check_callable, checked
from htjax.types import ArrayLike

__all__ = ['BestMargin', 'best_margin']


class BestMargin(NamedTuple):
  """The margin of the smallest bound.

  Attributes:
    gamma: the margin.
    bound: at it, with the failure of all margins together.
    price: by how much its logarithm exceeds that of the bound at the same
      margin alone, at the whole of delta.
  """

  gamma: float
  bound: Bound
  price: float


@checked
def best_margin(
  bound_at: Callable[[float, float], Bound],
  gammas: ArrayLike,
  *,
  delta: float,
) -> BestMargin:
  """Choose the margin after seeing the data, from a list fixed before.

  Each of k margins takes delta / k, so that all k bounds hold at once and the
  smallest may be used. For a penalty sqrt((c + ln(1 / delta)) / n) that adds
  ln k to c.

  Args:
    bound_at: (gamma, delta) -> Bound that holds for a margin fixed before the
      data, with probability 1 - delta as far as delta is concerned.
    gammas: > 0, [k], fixed before the data were seen.
    delta: in (0, 1), for all of them.

  Returns:
    BestMargin. Its bound's failure is the sum of the failures at all margins,
    and its premise 'fixed margin' is that of the list. Bounds that are not
    valid are passed over; if none is, the smallest of all is returned.

  Raises:
    ValueError: for numbers out of range, or `bound_at` that is no function or
      returns no Bound.

  Source: [SK], Theorem 5.2; [HT], Theorem 4; by a union over margins.

  Examples:
    >>> import numpy as np
    >>> from htjax.bounds import baselines, margin_grid
    >>> margins = np.linspace(0, 20, 1000)
    >>> def at(gamma, delta):
    ...   return baselines.neyshabur_2015(
    ...     margins, gamma=gamma, frobenius=[1.0, 1.0], input_norm=1.0,
    ...     delta=delta,
    ...   )
    >>> best = margin_grid.best_margin(at, [0.1, 1.0, 10.0], delta=0.05)
    >>> best.gamma in (0.1, 1.0, 10.0), best.price > 0
    (True, True)
  """
  check_callable('bound_at', bound_at)
  levels = vector('gammas', gammas, open_low=True)
  each = probability('delta', delta) / levels.size
  found = [bound_at(float(gamma), each) for gamma in levels]
  if not all(isinstance(bound, Bound) for bound in found):
    raise ValueError(f'bound_at must return Bounds, got {found!r}')
  usable = [i for i, b in enumerate(found) if _is_usable(b)]
  place = min(usable or range(len(found)), key=lambda i: found[i].log_value)
  best = found[place]
  alone = bound_at(float(levels[place]), delta)
  rest = [
    a for a in best.assumptions if a.name not in ('fixed margin', 'confidence')
  ]
  premise = Assumption(
    'fixed margin',
    None,
    f'the list of {levels.size} margins was fixed before the data were seen; '
    f'each took delta / {levels.size}',
  )
  bound = make_bound(
    best.terms,
    [*rest, premise],
    failure=sum(b.failure for b in found),
    details=best.details,
    value=None if math.isinf(best.value) else best.value,
  )
  return BestMargin(
    float(levels[place]), bound, best.log_value - alone.log_value
  )


def _is_usable(bound: Bound) -> bool:
  """Whether no premise fails but that of confidence, which is judged later."""
  return all(
    a.holds is not False for a in bound.assumptions if a.name != 'confidence'
  )
