"""Layers counted by dense sketches of them: Lemma 5.1 and Theorem 5.2."""

import math
from collections.abc import Sequence

import numpy as np

from htjax.bounds import binomial
from htjax.bounds.arguments import like, number, positive, probability
from htjax.bounds.gaussian_compression.finite_class import code_length_nats
from htjax.bounds.logarithms import exp, log, log_sum
from htjax.bounds.magnitude_sketching.premises import (
  Shape,
  check_error,
  check_shape,
  check_shapes,
  check_values,
  constant_premise,
  gaussian_premise,
  margin_premise,
)
from htjax.bounds.margins import empirical_margin_loss
from htjax.bounds.premises import fixed_code, fixed_margin
from htjax.bounds.result import VARIANTS, Assumption, Bound, make_bound
from htjax.checks import check_choice, check_count
from htjax.types import ArrayLike


def balls_in_bins(
  num_balls: int, num_bins: int, *, variant: str = 'corrected'
) -> Bound:
  """Bound on P(some of n bins holds more than 3 N / n of N balls).

  corrected: n P(Bin(N, 1 / n) > 3 N / n), a union bound. paper: n^(-1/3), said
  of all N but false for few balls; it needs N of order n ln n.

  Args:
    num_balls: N.
    num_bins: n.
    variant: 'corrected' or 'paper'.

  Returns:
    Bound on a probability, not clipped at 1.

  Raises:
    ValueError: for counts out of range.

  Source: [SK], Lemma F.1.
  """
  check_choice('variant', variant, VARIANTS)
  check_count('num_balls', num_balls)
  check_count('num_bins', num_bins)
  if variant == 'corrected':
    above = 3 * num_balls // num_bins + 1
    tail = binomial.log_sf(above, num_balls, 1 / num_bins)
    return make_bound({'tail': math.log(num_bins) + tail})
  needed = num_bins * math.log(num_bins)
  premise = Assumption(
    'many balls',
    num_balls >= needed,
    f'N = {num_balls} must be >= n ln n = {needed:.4g}, which is not printed',
  )
  return make_bound({'tail': -math.log(num_bins) / 3}, [premise])


def distributed_sparsity(
  shape: Shape, *, kept: float, factor: float, variant: str = 'corrected'
) -> Bound:
  """Bound 3 lambda chi max(d_1, d_2) on nonzeros in any row or column.

  corrected: one more for the diagonal, which is never pruned, and the exact
  failure by a union over rows and columns of binomial counts. paper: failure
  1 / lambda + d_1^(-1/3) + d_2^(-1/3), above 1 on many layers.

  Args:
    shape: (d_1, d_2).
    kept: chi in (0, 1), see `kept_probability`.
    factor: lambda >= 1.
    variant: 'corrected' or 'paper'.

  Returns:
    Bound on max(j_r, j_c), with its failure probability; in the details `rows`,
    the bound on nonzeros in a row, and `columns`.

  Raises:
    ValueError: for numbers out of range.

  Source: [SK], Lemma 5.1.
  """
  check_choice('variant', variant, VARIANTS)
  d1, d2 = check_shape('shape', shape)
  chi = probability('kept', kept)
  lam = number('factor', factor, 1, math.inf, open_high=True)
  if variant == 'paper':
    extra, failure = 0, 1 / lam + d1 ** (-1 / 3) + d2 ** (-1 / 3)
  else:
    extra = 1
    failure = sum(
      count * exp(_longer(length, 3 * lam * chi * length, chi))
      for count, length in ((d1, d2), (d2, d1))
    )
  rows, columns = (3 * lam * chi * d + extra for d in (d2, d1))
  return make_bound(
    {'nonzeros': math.log(max(rows, columns))},
    [gaussian_premise()],
    failure=failure,
    details={'rows': rows, 'columns': columns},
  )


def sketched_risk(
  margins: ArrayLike,
  *,
  gamma: float,
  output_error: Bound,
  shapes: Sequence[Shape],
  kept: float,
  num_values: int | Sequence[int],
  factors: ArrayLike = 1.0,
  recovery_exponent: float = 2.0,
  constant: float = 1.0,
  variant: str = 'corrected',
) -> Bound:
  """Risk of the pruned network, each layer counted by its dense sketch.

  R_0(g) <= R^_gamma(f) + C sqrt(sum_l 3 lambda_l chi d_1 d_2 ln^2(p_l) ln(r_l)
  / n), p_l = max(d_1, d_2). It exceeds `naive_risk` always: the sketch has
  3 lambda ln^2(p) times as many entries as there are nonzeros.

  authors: R^_m(f) + sqrt(sum_l chi d_1 d_2 ln^2(p_l) / n), every other factor 1
  and m the needed margin, the value of `output_error`. At strength 0, chi = 1,
  nothing is pruned.

  Args:
    margins: of the network before pruning on its n examples, [n].
    gamma: > 0; with 'authors' it is only a premise.
    output_error: of `pruned_output_error` at the largest input; premise gamma
      >= sqrt(2) times it ('paper': without the sqrt(2)).
    shapes: (d_1, d_2) of the layers, [L].
    kept: chi in (0, 1), with 'authors' also 1.
    num_values: r_l >= 2, values of an entry, see `num_grid_values`. Sums of
      entries take more. Not used by 'authors', nor are the next three.
    factors: lambda_l >= 1, [L] or one number.
    recovery_exponent: c >= 0; a sketch is not recovered with probability at
      most p^-c for one fixed matrix. The proof gives 2.
    constant: C, of the O in print.
    variant: 'corrected' or 'paper': the margin, and the failure of
      `distributed_sparsity`, for which print has 1 / lambda only; or 'authors',
      what the program behind Tables 2 and 3 computes.

  Returns:
    Bound with terms empirical and complexity.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: [SK], Theorem 5.2.
  """
  check_choice('variant', variant, (*VARIANTS, 'authors'))
  check_error(output_error)
  gamma = positive('gamma', gamma)
  if variant == 'authors':
    return _as_computed(margins, gamma, output_error, shapes, kept)
  empirical, n = empirical_margin_loss(margins, math.log(gamma))
  pairs = check_shapes(shapes)
  lams = like('factors', factors, len(pairs), low=1.0)
  values = check_values(num_values, len(pairs))
  chi = probability('kept', kept)
  c = number('recovery_exponent', recovery_exponent, 0, math.inf)
  sizes = _sketch_sizes(pairs, chi, lams)
  total = log_sum(
    np.array(
      [
        math.log(size * math.log(r))
        for size, r in zip(sizes, values, strict=True)
      ]
    )
  )
  failure = output_error.failure
  failure += sum(float(max(pair)) ** -c for pair in pairs)
  for pair, lam in zip(pairs, lams, strict=True):
    if variant == 'paper':
      failure += 1 / lam
    else:
      failure += distributed_sparsity(pair, kept=chi, factor=lam).failure
  # Sparsity is that of Gaussian entries too, whatever the error rests on.
  premises = [
    *(
      a
      for a in output_error.assumptions
      if a.name not in ('confidence', 'Gaussian weights')
    ),
    gaussian_premise(),
    margin_premise(gamma, output_error, variant),
    constant_premise('C'),
    Assumption('recovery', None, 'one sketch serves the whole class'),
    fixed_code(),
    fixed_margin(),
  ]
  front = math.log(positive('constant', constant))
  return make_bound(
    {
      'empirical': log(empirical),
      'complexity': front + 0.5 * (total - math.log(n)),
    },
    premises,
    failure=failure,
    details={'log_count': total, 'num_samples': float(n)},
  )


def _as_computed(
  margins: ArrayLike,
  gamma: float,
  output_error: Bound,
  shapes: Sequence[Shape],
  kept: float,
) -> Bound:
  """`sketched_risk`, variant 'authors'."""
  empirical, n = empirical_margin_loss(margins, output_error.log_value)
  pairs = check_shapes(shapes)
  chi = number('kept', kept, 0, 1, open_low=True)
  # 3 chi d_1 d_2 ln^2(p) with every factor but chi at 1.
  sizes = _sketch_sizes(pairs, chi, np.full(len(pairs), 1 / 3))
  total = log_sum(np.log(sizes))
  premises = [
    *(a for a in output_error.assumptions if a.name != 'confidence'),
    margin_premise(gamma, output_error, 'paper'),
    Assumption(
      'a bound',
      False,
      'the factors 3 lambda ln r of the theorem are left out',
    ),
  ]
  return make_bound(
    {'empirical': log(empirical), 'complexity': 0.5 * (total - math.log(n))},
    premises,
    details={'log_count': total, 'num_samples': float(n)},
  )


def count_lengths_nats(
  shapes: Sequence[Shape],
  *,
  kept: float,
  num_values: int | Sequence[int],
  factors: ArrayLike = 1.0,
) -> dict[str, float]:
  """Lengths in nats of three counts: nonzeros with positions, sketch, dense.

  Args:
    shapes: (d_1, d_2) of the layers, [L].
    kept: chi in (0, 1); nonzeros are chi d_1 d_2, rounded up.
    num_values: r_l >= 2, one number or [L].
    factors: lambda_l >= 1, [L] or one number.

  Returns:
    {'naive': .., 'sketch': .., 'dense': ..}.

  Raises:
    ValueError: for numbers out of range.

  Source: [SK], Theorem 5.2 and Lemma E.1.
  """
  pairs = check_shapes(shapes)
  values = check_values(num_values, len(pairs))
  chi = probability('kept', kept)
  lams = like('factors', factors, len(pairs), low=1.0)
  entries = [a * b for a, b in pairs]
  nonzeros = [math.ceil(chi * e) for e in entries]
  weights = np.log(np.array(values, float))
  return {
    'naive': code_length_nats(nonzeros, entries, values),
    'sketch': float(np.dot(_sketch_sizes(pairs, chi, lams), weights)),
    'dense': float(np.dot(entries, weights)),
  }


def _longer(length: int, limit: float, chi: float) -> float:
  """ln P(1 + Bin(length - 1, chi) > 1 + limit)."""
  return binomial.log_sf(math.floor(limit) + 1, length - 1, chi)


def _sketch_sizes(
  pairs: list[Shape], chi: float, lams: np.ndarray
) -> np.ndarray:
  return np.array(
    [
      3 * lam * chi * a * b * math.log(max(a, b)) ** 2
      for (a, b), lam in zip(pairs, lams, strict=True)
    ]
  )
