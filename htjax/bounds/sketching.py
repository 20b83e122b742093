"""Bounds for networks that were pruned by magnitude, rounded and sketched.

"Generalization Bounds for Magnitude-Based Pruning via Sparse Matrix Sketching":
an entry a of a Gaussian layer of variance Psi is pruned with probability
exp(-a^2 / (strength Psi)), those on the diagonal never; what is left is rounded
to a grid, and counted either as it stands or as a dense sketch of it. Shapes
are (d_1, d_2), rows and columns; which is the input does not matter here.
"""

import math
from collections.abc import Sequence

import numpy as np

from htjax.bounds.common import (
  VARIANTS,
  Assumption,
  Bound,
  binomial_log_sf,
  empirical_margin_loss,
  exp,
  like,
  log,
  log_sum,
  make_bound,
  number,
  positive,
  probability,
  vector,
)
from htjax.bounds.compression import code_length
from htjax.bounds.counting import (
  Shape,
  check_shape,
  check_shapes,
  check_values,
  constant_premise,
  margin_premise,
)
from htjax.bounds.counting import filter_risk as filter_risk
from htjax.bounds.counting import lottery_parameters as lottery_parameters
from htjax.bounds.counting import lottery_risk as lottery_risk
from htjax.bounds.counting import naive_risk as naive_risk
from htjax.bounds.counting import prunable_tail as prunable_tail
from htjax.bounds.counting import pruned_tail as pruned_tail
from htjax.bounds.perturbation import spectral_output_change
from htjax.checks import check_choice, check_count
from htjax.types import ArrayLike


def kept_probability(strength: float) -> float:
  """chi = 1 - sqrt(d / (d + 2)): a Gaussian entry off the diagonal is kept.

  (In print this is called the probability of being pruned.)

  Args:
    strength: d > 0; a larger one prunes more.

  Returns:
    float in (0, 1]; it rounds to 1 for strengths below 1e-32.

  Raises:
    ValueError: if strength is not positive.

  Source: "Generalization Bounds for Magnitude-Based Pruning ...", eqs. (9) to
    (11).
  """
  d = positive('strength', strength)
  # 1 - (1 + 2 / d)^(-1/2), without the cancellation at large d.
  return -math.expm1(-0.5 * math.log1p(2 / d))


def pruning_strength(kept: float) -> float:
  """d with `kept_probability`(d) = chi: 2 (1 - chi)^2 / (1 - (1 - chi)^2).

  Args:
    kept: chi in (0, 1).

  Returns:
    float > 0.

  Raises:
    ValueError: if `kept` is out of range.

  Source: the inverse of `kept_probability`.
  """
  chi = probability('kept', kept)
  return 2 * (1 - chi) ** 2 / (chi * (2 - chi))


def pruning_moment(order: float, *, variance: float, strength: float) -> float:
  """E |A^ - A|^q of an entry off the diagonal.

  (d / (d + 2))^((q + 1) / 2) Psi^(q / 2) E |G|^q, G standard normal.

  Args:
    order: q > -1.
    variance: Psi > 0.
    strength: d > 0.

  Returns:
    float > 0.

  Raises:
    ValueError: for numbers out of range.

  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Lemma C.1
    (orders 2 and 4).
  """
  q = number('order', order, -1, math.inf, open_low=True, open_high=True)
  d = positive('strength', strength)
  gaussian = (q / 2) * math.log(2) + math.lgamma((q + 1) / 2)
  gaussian -= 0.5 * math.log(math.pi)
  shrink = -(q + 1) / 2 * math.log1p(2 / d)
  spread = q / 2 * math.log(positive('variance', variance))
  return math.exp(gaussian + shrink + spread)


def latala_norm(
  second: ArrayLike, fourth: ArrayLike, *, constant: float = 1.0
) -> Bound:
  """Bound on E |A|_2 for independent entries of mean zero.

  C (max_i (sum_j E A_ij^2)^(1/2) + max_j (sum_i E A_ij^2)^(1/2) +
  (sum_ij E A_ij^4)^(1/4)). (In print the last sum is over one index.)

  Args:
    second: E A_ij^2 >= 0, [d_1, d_2].
    fourth: E A_ij^4 >= 0, [d_1, d_2].
    constant: C, universal and unknown.

  Returns:
    Bound with terms rows, columns and fourth.

  Raises:
    ValueError: for negative or non-finite moments, or different shapes.

  Source: Latala (2005), Some estimates of norms of random matrices, Theorem 2.
  """
  moments = [np.asarray(m, np.float64) for m in (second, fourth)]
  for name, moment in zip(('second', 'fourth'), moments, strict=True):
    good = moment.ndim == 2 and moment.size and np.all(np.isfinite(moment))
    if not good or np.any(moment < 0) or moment.shape != moments[0].shape:
      raise ValueError(
        f'{name} must be a matrix of numbers >= 0, of one shape with the other '
        f'moments, got shape {moment.shape}'
      )
  front = math.log(positive('constant', constant))
  terms = {
    'rows': front + 0.5 * log(moments[0].sum(axis=1).max()),
    'columns': front + 0.5 * log(moments[0].sum(axis=0).max()),
    'fourth': front + 0.25 * log(moments[1].sum()),
  }
  return make_bound(terms, [constant_premise('C')])


def pruning_error(
  shape: Shape,
  *,
  variance: float,
  strength: float,
  multiplier: float = 1.0,
  constant: float = 1.0,
) -> Bound:
  """|A^ - A|_2 <= epsilon Gamma, by Markov with probability 1 - 1 / epsilon.

  Gamma = C (sqrt(Psi) (d/(d+2))^(3/4) (sqrt(d_1) + sqrt(d_2)) +
  (3 d_1 d_2)^(1/4) sqrt(Psi) (d/(d+2))^(5/8)).

  Args:
    shape: (d_1, d_2).
    variance: Psi > 0 of this layer's entries.
    strength: d > 0.
    multiplier: epsilon >= 1; at 1 it bounds the mean only.
    constant: C of `latala_norm`; with 1 the bound held by a factor of 1.4 to 2
      on all shapes and strengths that were tried, for Gaussian weights. Those
      of trained networks are not, and exceeded it up to six times.

  Returns:
    Bound with terms rows, columns and fourth.

  Raises:
    ValueError: for numbers out of range.

  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Lemma C.2.
  """
  rows, columns = check_shape('shape', shape)
  shrink = -math.log1p(2 / positive('strength', strength))
  scale = 0.5 * math.log(positive('variance', variance))
  times = number('multiplier', multiplier, 1, math.inf, open_high=True)
  front = scale + math.log(positive('constant', constant) * times)
  terms = {
    'rows': front + 0.75 * shrink + 0.5 * math.log(columns),
    'columns': front + 0.75 * shrink + 0.5 * math.log(rows),
    'fourth': front + 0.625 * shrink + 0.25 * math.log(3 * rows * columns),
  }
  premises = [constant_premise('C'), _gaussian()]
  return make_bound(terms, premises, failure=1 / times)


def rounding_error(
  resolution: float, nonzeros: int, *, variant: str = 'corrected'
) -> float:
  """|A~ - A^|_2 once every kept entry is rounded to a multiple of rho.

  corrected: rho sqrt(J) / 2, the Frobenius norm. paper: rho J.

  Args:
    resolution: rho > 0.
    nonzeros: J >= 0, entries that are rounded.
    variant: 'corrected' or 'paper'.

  Returns:
    float >= 0.

  Raises:
    ValueError: for numbers out of range.

  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Lemma 4.2.
  """
  check_choice('variant', variant, VARIANTS)
  check_count('nonzeros', nonzeros, 0)
  rho = positive('resolution', resolution)
  if variant == 'paper':
    return rho * nonzeros
  return rho / 2 * math.sqrt(nonzeros)


def num_grid_values(largest: float, resolution: float) -> int:
  """Values 2 floor(w_max / rho + 1/2) + 1 that rounding to the nearest takes.

  (With floor(w_max / rho) those that round up are missed.)

  Args:
    largest: w_max >= 0, the largest magnitude that can occur.
    resolution: rho > 0.

  Returns:
    int >= 1.

  Raises:
    ValueError: for numbers out of range.

  Source: "Generalization Bounds for Magnitude-Based Pruning ...", section 4.
  """
  top = number('largest', largest, 0, math.inf, open_high=True)
  return 2 * math.floor(top / positive('resolution', resolution) + 0.5) + 1


def low_rank_gain(
  t: float,
  *,
  input_dimension: int,
  rank: int,
  num_inputs: int,
  a: float,
  b: float,
  variant: str = 'corrected',
) -> tuple[float, float]:
  """kappa = sqrt(rank) t with |B x| <= kappa |B|_2 |x|, and its failure.

  For inputs with P(<x, v> >= t |x|) <= a e^(-b t^2 d_in) for every unit v. The
  printed failure |S| a e^(-b t^2 d_in) leaves out the union over the rank and
  the two signs.

  Args:
    t: > 0; useful only where sqrt(rank) t < 1.
    input_dimension: d_in.
    rank: of the matrix, at most d_in; without a smaller rank kappa is 1.
    num_inputs: |S|.
    a: > 0, of the condition.
    b: > 0, of the condition.
    variant: 'corrected' or 'paper'.

  Returns:
    (kappa, failure probability).

  Raises:
    ValueError: for numbers out of range.

  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Condition D.1
    and Lemma D.1.
  """
  check_choice('variant', variant, VARIANTS)
  check_count('input_dimension', input_dimension)
  check_count('rank', rank)
  number('rank', rank, 0, input_dimension)
  check_count('num_inputs', num_inputs)
  t, a, b = positive('t', t), positive('a', a), positive('b', b)
  events = num_inputs * (1 if variant == 'paper' else 2 * rank)
  failure = events * a * math.exp(-b * t**2 * input_dimension)
  return math.sqrt(rank) * t, failure


def pruned_output_error(
  spectral: ArrayLike,
  pruning: ArrayLike,
  *,
  input_norm: float,
  multipliers: ArrayLike | None,
  rounding: ArrayLike = 0.0,
  lipschitz: ArrayLike = 1.0,
  gains: ArrayLike = 1.0,
  gain_failure: float = 0.0,
) -> Bound:
  """|x~^L - x^L| for a network that was pruned and, if asked, rounded.

  e |x| (prod kappa_l L_l |A_l|) sum_l (epsilon_l Gamma_l + r_l) / |A_l|, where
  epsilon_l Gamma_l + r_l <= |A_l| / L is needed. With Markov's multipliers
  epsilon_l > L, as confidence requires, that leaves hardly anything pruned.

  Args:
    spectral: |A_l|_2 > 0, [L].
    pruning: Gamma_l >= 0, [L], values of `pruning_error` at multiplier 1; or
      measured norms |A^_l - A_l|_2, with `multipliers` None.
    input_norm: |x| > 0.
    multipliers: epsilon_l >= 1, [L] or one number; None if `pruning` was
      measured, so that nothing can fail.
    rounding: r_l >= 0, values of `rounding_error`, [L] or one number.
    lipschitz: L_l > 0, of the activation before layer l, [L] or one number.
    gains: kappa_l of `low_rank_gain`, [L] or one number.
    gain_failure: sum of the failures of `low_rank_gain`.

  Returns:
    Bound with one term and one premise per layer; it fails with probability
    sum_l 1 / epsilon_l + gain_failure.

  Raises:
    ValueError: for numbers out of range or different lengths.

  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Lemmas 4.1,
    4.2, D.3, D.4.
  """
  spectral = vector('spectral', spectral, open_low=True)
  depth = spectral.size
  changes = like('pruning', pruning, depth)
  failure = number('gain_failure', gain_failure, 0, math.inf)
  if multipliers is not None:
    times = like('multipliers', multipliers, depth, low=1.0)
    changes = times * changes
    failure += float(np.sum(1 / times))
  changes = changes + like('rounding', rounding, depth)
  bound = spectral_output_change(
    spectral,
    changes,
    input_norm=input_norm,
    lipschitz=lipschitz,
    gains=gains,
  )
  return make_bound(bound.terms, bound.assumptions, failure=failure)


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

  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Lemma F.1.
  """
  check_choice('variant', variant, VARIANTS)
  check_count('num_balls', num_balls)
  check_count('num_bins', num_bins)
  if variant == 'corrected':
    above = 3 * num_balls // num_bins + 1
    tail = binomial_log_sf(above, num_balls, 1 / num_bins)
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

  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Lemma 5.1.
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
    [_gaussian()],
    failure=failure,
    details={'rows': rows, 'columns': columns},
  )


def expected_nonzeros(
  shape: Shape, *, kept: float, variant: str = 'corrected'
) -> float:
  """Expected number of kept entries, those on the diagonal always.

  Args:
    shape: (d_1, d_2).
    kept: chi in (0, 1).
    variant: 'corrected', chi (d_1 d_2 - min) + min with min = min(d_1, d_2), or
      'paper', chi d_1 d_2.

  Returns:
    float.

  Raises:
    ValueError: for numbers out of range.

  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Appendix F.
  """
  check_choice('variant', variant, VARIANTS)
  d1, d2 = check_shape('shape', shape)
  chi = probability('kept', kept)
  diagonal = min(d1, d2) if variant == 'corrected' else 0
  return chi * (d1 * d2 - diagonal) + diagonal


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

  Args:
    margins: of the network before pruning on its n examples, [n].
    gamma: > 0.
    output_error: of `pruned_output_error` at the largest input; premise gamma
      >= sqrt(2) times it ('paper': without the sqrt(2)).
    shapes: (d_1, d_2) of the layers, [L].
    kept: chi in (0, 1).
    num_values: r_l >= 2, values of an entry, see `num_grid_values`. Sums of
      entries take more.
    factors: lambda_l >= 1, [L] or one number.
    recovery_exponent: c >= 0; a sketch is not recovered with probability at
      most p^-c for one fixed matrix. The proof gives 2.
    constant: C, of the O in print.
    variant: 'corrected' or 'paper': the margin, and the failure of
      `distributed_sparsity`, for which print has 1 / lambda only.

  Returns:
    Bound with terms empirical and complexity.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Theorem 5.2.
  """
  check_choice('variant', variant, VARIANTS)
  gamma = positive('gamma', gamma)
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
  premises = [
    *(a for a in output_error.assumptions if a.name != 'confidence'),
    margin_premise(gamma, output_error, variant),
    constant_premise('C'),
    Assumption('recovery', None, 'one sketch serves the whole class'),
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


def count_lengths(
  shapes: Sequence[Shape],
  *,
  kept: float,
  num_values: int | Sequence[int],
  factors: ArrayLike = 1.0,
) -> dict[str, float]:
  """Nats of the three counts: nonzeros with positions, sketch, dense.

  Args:
    shapes: (d_1, d_2) of the layers, [L].
    kept: chi in (0, 1); nonzeros are chi d_1 d_2, rounded up.
    num_values: r_l >= 2, one number or [L].
    factors: lambda_l >= 1, [L] or one number.

  Returns:
    {'naive': .., 'sketch': .., 'dense': ..}.

  Raises:
    ValueError: for numbers out of range.

  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Theorem 5.2
    and Lemma E.1.
  """
  pairs = check_shapes(shapes)
  values = check_values(num_values, len(pairs))
  chi = probability('kept', kept)
  lams = like('factors', factors, len(pairs), low=1.0)
  entries = [a * b for a, b in pairs]
  nonzeros = [math.ceil(chi * e) for e in entries]
  weights = np.log(values)
  return {
    'naive': code_length(nonzeros, entries, values),
    'sketch': float(np.dot(_sketch_sizes(pairs, chi, lams), weights)),
    'dense': float(np.dot(entries, weights)),
  }


def _longer(length: int, limit: float, chi: float) -> float:
  """ln P(1 + Bin(length - 1, chi) > 1 + limit)."""
  return binomial_log_sf(math.floor(limit) + 1, length - 1, chi)


def _sketch_sizes(
  pairs: list[Shape], chi: float, lams: np.ndarray
) -> np.ndarray:
  return np.array(
    [
      3 * lam * chi * a * b * math.log(max(a, b)) ** 2
      for (a, b), lam in zip(pairs, lams, strict=True)
    ]
  )


def _gaussian() -> Assumption:
  return Assumption(
    'Gaussian weights', None, 'entries are independent N(0, Psi)'
  )
