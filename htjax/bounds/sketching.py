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
from htjax.bounds.compression import code_length, finite_class
from htjax.bounds.perturbation import spectral_output_change
from htjax.types import ArrayLike, check_choice, check_count

Shape = tuple[int, int]


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
  return make_bound(terms, [_constant('C')])


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
      on all shapes and strengths that were tried.
  Returns:
    Bound with terms rows, columns and fourth.
  Raises:
    ValueError: for numbers out of range.
  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Lemma C.2.
  """
  rows, columns = _shape('shape', shape)
  shrink = -math.log1p(2 / positive('strength', strength))
  scale = 0.5 * math.log(positive('variance', variance))
  times = number('multiplier', multiplier, 1, math.inf, open_high=True)
  front = scale + math.log(positive('constant', constant) * times)
  terms = {
    'rows': front + 0.75 * shrink + 0.5 * math.log(columns),
    'columns': front + 0.75 * shrink + 0.5 * math.log(rows),
    'fourth': front + 0.625 * shrink + 0.25 * math.log(3 * rows * columns),
  }
  premises = [_constant('C'), _gaussian()]
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
  d1, d2 = _shape('shape', shape)
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
  d1, d2 = _shape('shape', shape)
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
  pairs = _shapes(shapes)
  lams = like('factors', factors, len(pairs), low=1.0)
  values = _values(num_values, len(pairs))
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
    _margin(gamma, output_error, variant),
    _constant('C'),
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


def naive_risk(
  margins: ArrayLike,
  *,
  gamma: float,
  output_error: Bound,
  nonzeros: Sequence[int],
  shapes: Sequence[Shape],
  num_values: int | Sequence[int],
  delta: float,
  variant: str = 'corrected',
) -> Bound:
  """Risk of the pruned network, positions and values counted directly.

  ln J = sum_l (ln C(d_1 d_2, a_l) + a_l ln r_l). corrected: `finite_class` with
  it. paper: sqrt(ln J / n), the O with constant 1 and no delta.

  Args:
    margins: of the network before pruning on its n examples, [n].
    gamma: > 0.
    output_error: as in `sketched_risk`.
    nonzeros: a_l, entries that are left, [L].
    shapes: (d_1, d_2) of the layers, [L].
    num_values: r_l >= 2.
    delta: in (0, 1).
    variant: 'corrected' or 'paper'.
  Returns:
    Bound with terms empirical and complexity.
  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.
  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Lemma E.1 and
    Theorem E.1.
  """
  check_choice('variant', variant, VARIANTS)
  pairs = _shapes(shapes)
  values = _values(num_values, len(pairs))
  length = code_length(nonzeros, [a * b for a, b in pairs], values)
  bound = finite_class(
    margins, gamma=positive('gamma', gamma), log_count=length, delta=delta
  )
  terms, failure = bound.terms, bound.failure + output_error.failure
  if variant == 'paper':
    n = bound.details['num_samples']
    terms = terms | {'complexity': 0.5 * (log(length) - math.log(n))}
  premises = [
    *(a for a in output_error.assumptions if a.name != 'confidence'),
    _margin(gamma, output_error, variant),
    *(a for a in bound.assumptions if a.name == 'fixed code'),
  ]
  return make_bound(terms, premises, failure=failure, details=bound.details)


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
  pairs = _shapes(shapes)
  values = _values(num_values, len(pairs))
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


def prunable_tail(
  count: int,
  *,
  num_entries: int,
  strength: float,
  level: float,
  variant: str = 'corrected',
) -> float:
  """P(at least tau entries have a pruning probability of at least kappa).

  Each has one with probability erf(sqrt(-d ln(kappa) / 2)), for Gaussian
  entries. The printed formula is P(more than tau).

  Args:
    count: tau in [0, num_entries].
    num_entries: d_1 d_2.
    strength: d > 0.
    level: kappa in (0, 1).
    variant: 'corrected' or 'paper'.
  Returns:
    float in [0, 1].
  Raises:
    ValueError: for numbers out of range.
  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Lemma E.2.
  """
  kappa = probability('level', level)
  d = positive('strength', strength)
  rate = math.erf(math.sqrt(-d * math.log(kappa) / 2))
  return _at_least(count, num_entries, rate, variant)


def pruned_tail(
  count: int, *, num_prunable: int, level: float, variant: str = 'corrected'
) -> float:
  """P(at least alpha entries are pruned), given the event of `prunable_tail`.

  Args:
    count: alpha in [0, num_prunable], here the number of pruned entries.
    num_prunable: tau, entries pruned with probability at least kappa.
    level: kappa in (0, 1).
    variant: 'corrected', or 'paper', which is P(more than alpha).
  Returns:
    float in [0, 1].
  Raises:
    ValueError: for numbers out of range.
  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Lemma E.3.
  """
  return _at_least(count, num_prunable, probability('level', level), variant)


def lottery_parameters(
  target_width: int, *, input_dimension: int, num_layers: int
) -> int:
  """Active weights d_0 n_M + L n_M^2 of the subnetwork that imitates a target.

  The order of magnitude, with constant 1. (In print the width D_G of the random
  network stands for n_M in one place.)

  Args:
    target_width: n_M, largest hidden width of the target.
    input_dimension: d_0.
    num_layers: L, depth of the target; the random network has 2 L.
  Returns:
    int.
  Raises:
    ValueError: for counts below 1.
  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Appendix F.5,
    after Malach et al. (2020), Theorem 2.1.
  """
  check_count('target_width', target_width)
  check_count('input_dimension', input_dimension)
  check_count('num_layers', num_layers)
  return target_width * (input_dimension + num_layers * target_width)


def lottery_risk(
  margins: ArrayLike,
  *,
  gamma: float,
  target_width: int,
  input_dimension: int,
  num_layers: int,
  random_width: int,
  num_values: int,
  delta: float,
  spectral: ArrayLike,
  largest_entries: ArrayLike,
  fan_in: ArrayLike,
  recovery_exponent: float = 2.0,
  constant: float = 1.0,
) -> Bound:
  """Risk of a subnetwork of a random network that imitates a target network.

  R_0(G~) <= R^_gamma(M) + C sqrt((n_M d_0 + L n_M^2) ln^2(D_G) ln(r) / n), the
  margin loss being that of the target M (in print its argument is lost).

  Args:
    margins: of the target on its n training examples, [n].
    gamma: epsilon + epsilon_rho > 0, the margin that imitation and rounding
      cost.
    target_width: n_M.
    input_dimension: d_0.
    num_layers: L of the target.
    random_width: D_G >= 2, width of the random network.
    num_values: r >= 2.
    delta: probability that no subnetwork imitates the target, in (0, 1).
    spectral: |A^i|_2 of the target, [L]; premise <= 1.
    largest_entries: max |A^i_kl| of the target, [L]; premise <= fan_in^(-1/2).
    fan_in: input dimensions of the target's layers, [L].
    recovery_exponent: c >= 0, as in `sketched_risk`.
    constant: C, of the O in print.
  Returns:
    Bound with terms empirical and complexity; it fails with probability delta +
    L D_G^-c.
  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.
  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Theorem 6.1.
  """
  size = lottery_parameters(
    target_width, input_dimension=input_dimension, num_layers=num_layers
  )
  gamma = positive('gamma', gamma)
  empirical, n = empirical_margin_loss(margins, math.log(gamma))
  check_count('random_width', random_width, 2)
  check_count('num_values', num_values, 2)
  c = number('recovery_exponent', recovery_exponent, 0, math.inf)
  norms = like('spectral', spectral, num_layers)
  entries = like('largest_entries', largest_entries, num_layers)
  sides = like('fan_in', fan_in, num_layers, low=1.0)
  total = math.log(size) + 2 * math.log(math.log(random_width))
  total += math.log(math.log(num_values))
  front = math.log(positive('constant', constant))
  failure = probability('delta', delta) + num_layers * random_width**-c
  premises = [
    Assumption(
      'small target',
      bool(np.all(norms <= 1)),
      f'the largest spectral norm {norms.max():.4g} must be <= 1',
    ),
    Assumption(
      'flat target',
      bool(np.all(entries <= sides**-0.5)),
      'entries must be <= fan_in^(-1/2); the largest ratio is '
      f'{np.max(entries * np.sqrt(sides)):.4g}',
    ),
    Assumption('wide network', None, 'D_G is the polynomial of the theorem'),
    _constant('C'),
  ]
  return make_bound(
    {
      'empirical': log(empirical),
      'complexity': front + 0.5 * (total - math.log(n)),
    },
    premises,
    failure=failure,
    details={'log_count': total, 'parameters': float(size)},
  )


def filter_risk(
  margins: ArrayLike,
  *,
  gamma: float,
  channels: Sequence[int],
  sides: Sequence[int],
  exponent: float,
  num_values: int | Sequence[int],
  lipschitz: float = 1.0,
  beta_1: float = 1.0,
  beta_2: float | None = None,
  constant: float = 1.0,
  variant: str = 'corrected',
) -> Bound:
  """Risk of a convolutional network after d_k^alpha filters of each layer go.

  corrected, as in the proof: C sqrt(sum_k p_k^4 d_{k-1} (d_k - d_k^alpha)
  ln^2(p_k^2 d_k) ln(r_k) / n), for gamma at least sqrt(2) times the change of
  the output. paper: p_k^2 d_{k-1} d_k^alpha, and no sqrt(2).

  Args:
    margins: of the network on its n training examples, [n].
    gamma: > 0.
    channels: d_0, d_1, .., d_K.
    sides: p_0, p_1, .., p_K, spatial sides of the maps, >= 1.
    exponent: alpha in [0, 1); d_k^alpha filters are removed.
    num_values: r_k >= 2, one number or [K].
    lipschitz: of the activations, > 0.
    beta_1: of the premise on gamma.
    beta_2: of the premise on gamma; None is alpha / 4.
    constant: C, of the O in print.
    variant: 'corrected' or 'paper'.
  Returns:
    Bound with terms empirical and complexity.
  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.
  Source: "Generalization Bounds for Magnitude-Based Pruning ...", Theorem H.1,
    with the premise of Qian and Klabjan (2021).
  """
  check_choice('variant', variant, VARIANTS)
  gamma = positive('gamma', gamma)
  empirical, n = empirical_margin_loss(margins, math.log(gamma))
  for name, counts in (('channels', channels), ('sides', sides)):
    if len(counts) != len(channels) or len(counts) < 3:
      raise ValueError(
        f'{name} must have K + 1 entries for K >= 2 layers, got {len(counts)}'
      )
    for count in counts:
      check_count(name, count)
  depth = len(channels) - 1
  alpha = number('exponent', exponent, 0, 1, open_high=True)
  d, p = np.asarray(channels, float), np.asarray(sides, float)
  removed = d[1:] ** alpha
  factor = p[1:] ** 4 * (d[1:] - removed)
  if variant == 'paper':
    factor = p[1:] ** 2 * removed
  factor = factor * d[:-1] * np.log(p[1:] ** 2 * d[1:]) ** 2
  total = float(np.dot(factor, np.log(_values(num_values, depth))))
  b1 = positive('beta_1', beta_1)
  b2 = alpha / 4 if beta_2 is None else number('beta_2', beta_2, 0, math.inf)
  side, widest = p[1:].max() ** -b1, d[1:].max() ** -b2
  change = side * (side + widest) ** (depth - 2) - side ** (depth - 1)
  needed = side * positive('lipschitz', lipschitz) ** (depth - 1) * p[0]
  needed *= math.sqrt(depth) * change
  if variant == 'corrected':
    needed *= math.sqrt(2)
  premises = [
    Assumption(
      'margin',
      bool(gamma >= needed),
      f'gamma = {gamma:.4g} must be >= {needed:.4g}',
    ),
    Assumption('probability', None, 'the source gives none; failure is left 0'),
    _constant('C'),
  ]
  front = math.log(positive('constant', constant))
  return make_bound(
    {
      'empirical': log(empirical),
      'complexity': front + 0.5 * (log(total) - math.log(n)),
    },
    premises,
    details={'log_count': log(total)},
  )


def _at_least(count: int, trials: int, rate: float, variant: str) -> float:
  check_choice('variant', variant, VARIANTS)
  check_count('trials', trials)
  check_count('count', count, 0)
  number('count', count, 0, trials)
  return exp(binomial_log_sf(count + (variant == 'paper'), trials, rate))


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


def _margin(gamma: float, output_error: Bound, variant: str) -> Assumption:
  shift = 0.0 if variant == 'paper' else 0.5 * math.log(2)
  needed = output_error.log_value + shift
  return Assumption(
    'margin',
    math.log(gamma) >= needed,
    f'ln gamma = {math.log(gamma):.4g} must be >= that of the output error, '
    f'{needed:.4g}',
  )


def _constant(name: str) -> Assumption:
  return Assumption(
    'constant', None, f'{name} is not given in the source; the caller sets it'
  )


def _gaussian() -> Assumption:
  return Assumption(
    'Gaussian weights', None, 'entries are independent N(0, Psi)'
  )


def _shape(name: str, shape: Shape) -> Shape:
  if len(shape) != 2:
    raise ValueError(f'{name} must be (rows, columns), got {shape!r}')
  for side in shape:
    check_count(name, side)
  return int(shape[0]), int(shape[1])


def _shapes(shapes: Sequence[Shape]) -> list[Shape]:
  pairs = [_shape('shapes', shape) for shape in shapes]
  if not pairs or any(max(pair) < 2 for pair in pairs):
    raise ValueError(f'shapes must be of matrices, not numbers, got {shapes!r}')
  return pairs


def _values(num_values: int | Sequence[int], depth: int) -> list[int]:
  if isinstance(num_values, int | np.integer):
    num_values = [int(num_values)] * depth
  for value in num_values:
    check_count('num_values', value, 2)
  if len(num_values) != depth:
    raise ValueError(
      f'num_values must have {depth} entries, got {len(num_values)}'
    )
  return list(num_values)
