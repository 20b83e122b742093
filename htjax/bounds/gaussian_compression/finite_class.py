"""Risk from the number of networks that a compression can produce."""

import math
from collections.abc import Sequence

import numpy as np

from htjax.bounds import binomial
from htjax.bounds.arguments import counts, number, probability
from htjax.bounds.logarithms import log
from htjax.bounds.margins import empirical_margin_loss
from htjax.bounds.premises import fixed_code, fixed_margin
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.types import ArrayLike


def code_length_nats(
  kept: Sequence[int],
  sizes: Sequence[int],
  num_values: int | Sequence[int],
  *,
  positions: bool = True,
) -> float:
  """Length of a code for sparse networks in nats, the ln of their number.

  sum_l k_l ln r_l + ln C(N_l, k_l) for networks with k_l entries of r_l values.

  Args:
    kept: k_l, entries that are not zero, [L].
    sizes: N_l, entries of each layer, [L].
    num_values: r_l, values that an entry can take, one number or [L].
    positions: whether positions are counted; the printed bounds leave them out,
      as if they were known before the data.

  Returns:
    float, in nats. The counts k_l themselves are taken as known beforehand.

  Raises:
    ValueError: for k_l > N_l, counts out of range, or different lengths.

  Source: [SH], eq. (2); [SK], Lemma E.1.
  """
  if not isinstance(positions, bool | np.bool_):
    raise ValueError(f'positions must be True or False, got {positions!r}')
  kept, sizes = counts('kept', kept, least=0), counts('sizes', sizes)
  if isinstance(num_values, int | np.integer):
    num_values = [int(num_values)] * len(kept)
  values = counts('num_values', num_values)
  if not len(kept) == len(sizes) == len(values) or not kept:
    raise ValueError(
      'kept, sizes and num_values must have one entry per layer, got '
      f'{len(kept)}, {len(sizes)} and {len(values)}'
    )
  total = 0.0
  for k, n, r in zip(kept, sizes, values, strict=True):
    number('kept', k, 0, n)
    total += k * math.log(r) + (
      binomial.log_coefficient(n, k) if positions else 0.0
    )
  return total


def finite_class(
  margins: ArrayLike, *, gamma: float, log_count: float, delta: float
) -> Bound:
  """Risk of a function that is one of J fixed before the data.

  R_0(g) <= R^_gamma(f) + sqrt((ln J + ln(1 / delta)) / (2 n)).

  g is one of J functions that were fixed before the data, and no margin of g
  falls short of that of f by gamma or more.

  Args:
    margins: of f on its n training examples, [n].
    gamma: >= 0; 0 if they are the margins of g itself.
    log_count: ln J >= 0.
    delta: in (0, 1).

  Returns:
    Bound with terms empirical and complexity; it fails with probability delta.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: [SK], Theorems 3.1 and E.1; [SH], Theorem 1, eq. (2).
  """
  gamma = number('gamma', gamma, 0, math.inf, open_high=True)
  empirical, n = empirical_margin_loss(margins, log(gamma))
  nats = number('log_count', log_count, 0, math.inf, open_high=True)
  nats -= math.log(probability('delta', delta))
  terms = {
    'empirical': log(empirical),
    'complexity': 0.5 * math.log(nats / (2 * n)),
  }
  premises = [
    fixed_code(),
    *([fixed_margin()] if gamma > 0 else []),
    Assumption(
      'compressible', None, f'compression costs less than {gamma:.4g} of margin'
    ),
  ]
  details = {'log_count': float(log_count), 'num_samples': float(n)}
  return make_bound(terms, premises, failure=delta, details=details)
