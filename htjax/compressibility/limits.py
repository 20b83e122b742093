"""Limits and rates of the relative error, as entries grow in number.

For i.i.d. entries with E |X|^p finite the relative l_p error of keeping the
largest kappa n tends to (E[|X|^p; |X| <= q] / E |X|^p)^(1/p), q the quantile of
|X| at 1 - kappa: it depends on the whole law. Where E |X|^p is infinite it
vanishes, like n^(1/p - 1/alpha).

That a heavier tail makes the error smaller is true within one family of laws
(`pareto_limit`, `stable_limit`) and false in general: where p is below both
tail indices the error is made by the bulk of a law, which its tail says nothing
of. `diluted_pareto_limit` is a law of index 1.5 that compresses worse than
stable entries of index 1.9.
"""

import math

from htjax.checks import check_range, checked


@checked
def error_rate(alpha: float, *, p: float = 2.0) -> float:
  """Exponent of the decay of a relative l_p error, min(0, 1/p - 1/alpha).

  For any kept fraction: in the number of entries for magnitude pruning, global
  or of each layer (then of the largest index that matters), and with p = 2 in
  the number of columns for node pruning and for singular values, whose squares
  have the index alpha / 2.

  Args:
    alpha: tail index, > 0.
    p: order of the norm, > 0.

  Returns:
    float <= 0; 0 where p <= alpha, for the error then tends to a positive
    limit, or falls slower than any power.

  Raises:
    ValueError: numbers out of range.

  Source: [HT], Theorems 1 to 3 (rate); [IC], Theorem 3.1 (rate);
    [Gribonval2012], Proposition 1.2.

  Examples:
    >>> from htjax import compressibility
    >>> print(f'{compressibility.error_rate(1.5):.4f}')
    -0.1667
  """
  for name, value in (('alpha', alpha), ('p', p)):
    check_range(name, value, 0.0, math.inf, open_low=True, open_high=True)
  return min(0.0, 1 / float(p) - 1 / float(alpha))


@checked
def pareto_limit(kappa: float, alpha: float, *, p: float = 1.0) -> float:
  """Limit of the relative l_p error of Pareto entries.

  (1 - kappa^(1 - p / alpha))^(1 / p) for p < alpha, which increases with
  alpha; else 0.

  Args:
    kappa: kept fraction in (0, 1].
    alpha: tail index, > 0.
    p: order of the norm, > 0.

  Returns:
    float in [0, 1).

  Raises:
    ValueError: numbers out of range.

  Source: [HT], Proposition S1 (within one family); [Gribonval2012],
    Proposition 1.1.

  Examples:
    >>> from htjax import compressibility
    >>> print(f'{compressibility.pareto_limit(0.3, 1.5):.4f}')
    0.3306
  """
  return diluted_pareto_limit(kappa, alpha, weight=1.0, p=p)


@checked
def diluted_pareto_limit(
  kappa: float, alpha: float, *, weight: float, p: float = 1.0
) -> float:
  """Limit for entries that are 1, but with probability `weight` Pareto.

  |X| = 1 with probability 1 - w, and else Pareto of index alpha from 1 on, so
  that the tail index is alpha for every w > 0. As w falls the error tends to
  (1 - kappa)^(1 / p), that of equal entries, whatever alpha: the order of tail
  indices is no order of errors, nor of the fractions that reach an error.

  Args:
    kappa: kept fraction in (0, 1].
    alpha: tail index, > 0.
    weight: w in (0, 1].
    p: order of the norm, > 0.

  Returns:
    float in [0, 1); 0 for p >= alpha.

  Raises:
    ValueError: numbers out of range.

  Source: [HT], Proposition S1 (a case that it does not cover);
    [Gribonval2012], Proposition 1.1.

  Examples:
    >>> from htjax import compressibility
    >>> rare = compressibility.diluted_pareto_limit(0.3, 1.5, weight=1e-4)
    >>> rare > compressibility.stable_limit(0.3, 1.9)
    True
  """
  check_range('kappa', kappa, 0.0, 1.0, open_low=True)
  check_range('weight', weight, 0.0, 1.0, open_low=True)
  for name, value in (('alpha', alpha), ('p', p)):
    check_range(name, value, 0.0, math.inf, open_low=True, open_high=True)
  kappa, alpha, weight, p = map(float, (kappa, alpha, weight, p))
  if p >= alpha or kappa == 1:
    return 0.0
  whole = weight * alpha / (alpha - p)
  if kappa >= weight:
    # All that is kept beyond the Pareto part is ones.
    left = 1 - kappa
  else:
    share = kappa / weight
    left = 1 - weight + whole * (1 - share ** (1 - p / alpha))
  return (left / (1 - weight + whole)) ** (1 / p)
