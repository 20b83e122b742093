"""Bounds that count a pruned network directly: entries, subnetworks, filters.

"Generalization Bounds for Magnitude-Based Pruning via Sparse Matrix Sketching",
appendices E, F.5 and H, and what they share with the count by sketches in
`sketching`, where their names are found as well. Shapes are (d_1, d_2), rows
and columns; which is the input does not matter here.
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
  make_bound,
  number,
  positive,
  probability,
)
from htjax.bounds.compression import code_length, finite_class
from htjax.checks import check_choice, check_count
from htjax.types import ArrayLike

Shape = tuple[int, int]


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
  pairs = check_shapes(shapes)
  values = check_values(num_values, len(pairs))
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
    margin_premise(gamma, output_error, variant),
    *(a for a in bound.assumptions if a.name == 'fixed code'),
  ]
  return make_bound(terms, premises, failure=failure, details=bound.details)


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
    constant_premise('C'),
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
  total = float(np.dot(factor, np.log(check_values(num_values, depth))))
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
    constant_premise('C'),
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


# What both counts need ------------------------------------------------------


def _at_least(count: int, trials: int, rate: float, variant: str) -> float:
  check_choice('variant', variant, VARIANTS)
  check_count('trials', trials)
  check_count('count', count, 0)
  number('count', count, 0, trials)
  return exp(binomial_log_sf(count + (variant == 'paper'), trials, rate))


def margin_premise(
  gamma: float, output_error: Bound, variant: str
) -> Assumption:
  """Whether gamma covers sqrt(2) times the error; `paper`: once."""
  shift = 0.0 if variant == 'paper' else 0.5 * math.log(2)
  needed = output_error.log_value + shift
  return Assumption(
    'margin',
    math.log(gamma) >= needed,
    f'ln gamma = {math.log(gamma):.4g} must be >= that of the output error, '
    f'{needed:.4g}',
  )


def constant_premise(name: str) -> Assumption:
  """A constant of an O in print, taken on trust."""
  return Assumption(
    'constant', None, f'{name} is not given in the source; the caller sets it'
  )


def check_shape(name: str, shape: Shape) -> Shape:
  """A pair of counts, or a ValueError that names it."""
  if len(shape) != 2:
    raise ValueError(f'{name} must be (rows, columns), got {shape!r}')
  for side in shape:
    check_count(name, side)
  return int(shape[0]), int(shape[1])


def check_shapes(shapes: Sequence[Shape]) -> list[Shape]:
  """At least one pair of counts, none of them (1, 1)."""
  pairs = [check_shape('shapes', shape) for shape in shapes]
  if not pairs or any(max(pair) < 2 for pair in pairs):
    raise ValueError(f'shapes must be of matrices, not numbers, got {shapes!r}')
  return pairs


def check_values(num_values: int | Sequence[int], depth: int) -> list[int]:
  """Counts of at least 2, [depth]; one number stands for all of them."""
  if isinstance(num_values, int | np.integer):
    num_values = [int(num_values)] * depth
  for value in num_values:
    check_count('num_values', value, 2)
  if len(num_values) != depth:
    raise ValueError(
      f'num_values must have {depth} entries, got {len(num_values)}'
    )
  return list(num_values)
