"""Risk once small entries are replaced by noise: Theorem 2."""

import math
from collections.abc import Sequence

import numpy as np

from htjax.bounds.arguments import (
  as_list,
  as_numbers,
  like,
  number,
  positive,
  probability,
  vector,
)
from htjax.bounds.gaussian_compression.finite_class import (
  code_length_nats,
  finite_class,
)
from htjax.bounds.gaussian_compression.replacement import noise_budget
from htjax.bounds.margins import empirical_margin_loss
from htjax.bounds.premises import fixed_margin
from htjax.bounds.result import VARIANTS, Assumption, Bound, make_bound
from htjax.checks import check_choice
from htjax.types import ArrayLike


def compressed_risk(
  margins: ArrayLike,
  *,
  gamma: float,
  weights: Sequence[ArrayLike],
  cushions: ArrayLike,
  interlayer: ArrayLike,
  contraction: float,
  smoothness: float,
  output_norm: float,
  delta: float,
  num_values: int,
  noise_fraction: float = 0.5,
  positions: bool = True,
  variant: str = 'corrected',
) -> Bound:
  """Risk once small entries of a network are replaced by noise from a seed.

  epsilon = gamma / (sqrt(2) max |f|); epsilon_i = epsilon mu_i mu_i-> /
  (6 c d); tau_i^2 + t_i = `noise_budget`(epsilon_i, delta / (2 d^2 h m));
  k_i = #{|W_i| > tau_i}; then `finite_class` with the k_i counted. The
  thresholds are so low that k_i is nearly every entry unless the weights are
  small: the fraction kept is in the details.

  Args:
    margins: of the network on its m training examples, [m].
    gamma: > 0.
    weights: the layers, [fan_in, fan_out] or [height, width, in, out], [d]; h
      is the largest size of the last axis.
    cushions: mu_i > 0, [d], see `cushions.layer_cushions`.
    interlayer: mu_i-> > 0, [d], `cushions.interlayer_cushions(..).minimal`.
    contraction: c >= 1, see `cushions.activation_contraction`.
    smoothness: rho_delta, see `cushions.interlayer_smoothness`; premise
      rho >= 3 d. May be infinite.
    output_norm: max |f(x)| on the training set, > 0.
    delta: in (0, 1), half for the noise and half for the class.
    num_values: r, values that a kept entry can take.
    noise_fraction: t_i as a fraction of the budget, in [0, 1).
    positions: whether positions are counted; in print they are not.
    variant: 'corrected' or 'paper', the latter with the printed budget.

  Returns:
    Bound with terms empirical and complexity. The network is also assumed
    balanced, with |W_i|_F >= 1, which is checked.

  Raises:
    ValueError: for numbers out of range or different lengths.

  Source: [SH], Theorem 2.
  """
  check_choice('variant', variant, VARIANTS)
  arrays = [
    np.abs(as_numbers(f'weights[{i}]', w))
    for i, w in enumerate(as_list('weights', weights))
  ]
  cushions = vector('cushions', cushions, open_low=True)
  depth = cushions.size
  interlayer = like('interlayer', interlayer, depth, open_low=True)
  shapes = [w.shape for w in arrays]
  if len(arrays) != depth or any(
    len(s) not in (2, 4) or 0 in s for s in shapes
  ):
    raise ValueError(
      f'weights must be {depth} kernels, one per cushion, [fan_in, fan_out] or '
      f'[height, width, in, out], got shapes {shapes}'
    )
  c = number('contraction', contraction, 1, math.inf, open_high=True)
  rho = number('smoothness', smoothness, 0, math.inf)
  gamma, delta = positive('gamma', gamma), probability('delta', delta)
  part = number('noise_fraction', noise_fraction, 0, 1, open_high=True)
  epsilon = gamma / (math.sqrt(2) * positive('output_norm', output_norm))
  num_samples = empirical_margin_loss(margins, 0.0)[1]
  width = max(w.shape[-1] for w in arrays)
  eta = delta / (2 * depth**2 * width * num_samples)
  kept = []
  for i, w in enumerate(arrays):
    share = epsilon * cushions[i] * interlayer[i] / (6 * c * depth)
    budget = noise_budget(share, eta, variant=variant)
    kept.append(int(np.sum(w > math.sqrt(budget * (1 - part)))))
  sizes = [w.size for w in arrays]
  length = code_length_nats(kept, sizes, num_values, positions=positions)
  bound = finite_class(margins, gamma=gamma, log_count=length, delta=delta / 2)
  norms = np.array([np.linalg.norm(w) for w in arrays])
  premises = [
    Assumption(
      'small error', epsilon < 1, f'epsilon = {epsilon:.4g} must be < 1'
    ),
    Assumption(
      'smooth', rho >= 3 * depth, f'rho = {rho:.4g} must be >= {3 * depth}'
    ),
    Assumption(
      'balanced',
      bool(np.all(norms >= 1) and np.ptp(norms) <= 1e-4 * norms.max()),
      f'Frobenius norms {norms.min():.4g}..{norms.max():.4g} must be equal '
      'and >= 1',
    ),
    Assumption('symmetric weights', None, 'entries independent and symmetric'),
    Assumption('rounding', None, f'kept entries take {num_values} values'),
    Assumption('fixed code', None, 'seed, thresholds and counts known before'),
    fixed_margin(),
  ]
  details = bound.details | {
    f'kept_fraction_{i + 1}': k / n
    for i, (k, n) in enumerate(zip(kept, sizes, strict=True))
  }
  return make_bound(bound.terms, premises, failure=delta, details=details)
