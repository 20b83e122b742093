"""Risk of a compressed network and of the network itself: Theorems 4 and S6."""

import math

import numpy as np

from htjax.bounds.arguments import number, positive, probability, vector
from htjax.bounds.heavy_tails.covering import (
  entropy_excess,
  log_rate,
  volume_factor,
)
from htjax.bounds.heavy_tails.output_change import (
  log_slope,
  relative_output_change,
)
from htjax.bounds.logarithms import exp, log
from htjax.bounds.margins import empirical_margin_loss
from htjax.bounds.premises import fixed_margin
from htjax.bounds.result import VARIANTS, Assumption, Bound, make_bound
from htjax.checks import check_choice, check_count
from htjax.types import ArrayLike


def norm_quantile(norms: ArrayLike, delta: float) -> float:
  """Quantile R(delta) = inf {R: P(|w| >= R) <= delta}, of an empirical law.

  Args:
    norms: |w| of independently trained networks, [runs].
    delta: in (0, 1).

  Returns:
    The quantile of these runs, not of the law: with fewer than 1 / delta runs
    it is the largest.

  Raises:
    ValueError: for other shapes, negative norms, or delta out of range.

  Source: [HT], eq. (7).
  """
  ordered = np.sort(vector('norms', norms))[::-1]
  count = math.floor(probability('delta', delta) * ordered.size)
  return float(ordered[count])


def log_lipschitz_constant(
  radius: float, *, num_layers: int, input_norm: float, tau: float
) -> float:
  """Logarithm of the Lipschitz constant sqrt(2) B L (2R / sqrt(L))^(L-1) / tau.

  Times a change of each layer this bounds the change of the ramp loss.

  Args:
    radius: R > 0.
    num_layers: L >= 1.
    input_norm: B > 0.
    tau: width of the ramp, > 0.

  Returns:
    float, a logarithm.

  Raises:
    ValueError: for numbers out of range.

  Source: [HT], eq. (7).
  """
  check_count('num_layers', num_layers)
  slope = log_slope(
    positive('radius', radius), num_layers, positive('input_norm', input_norm)
  )
  return 0.5 * math.log(2) + slope - math.log(positive('tau', tau))


def compressed_risk(
  margins: ArrayLike,
  *,
  radius: float,
  kappa: float,
  epsilon: float,
  tau: float,
  delta: float,
  input_norm: float,
  num_layers: int,
  num_weights: int,
  compression_failure: float = 0.0,
  variant: str = 'corrected',
) -> Bound:
  """Risk of the compressed network by the margins of the network itself.

  R_0(w^) <= R^_gamma(w) + (12 Lip R + sqrt(d)) sqrt((kappa + eps) ln n / n),
  gamma = tau + sqrt(2) B (R / sqrt(L))^L ((1 + epsilon)^L - 1). In print the
  second part of gamma is divided by tau, although a margin moves by at most
  sqrt(2) times the output; that is unsafe for tau > 1.

  Args:
    margins: of the uncompressed network on its n training examples, [n].
    radius: R(delta), see `norm_quantile` and `stable_norm_quantile`.
    kappa: kept fraction of all weights, in (0, 1], see `kept_fraction`.
    epsilon: relative error that the compression keeps to in each layer, >= 0.
    tau: width of the ramp, > 0.
    delta: P(|w| >= R), in (0, 1).
    input_norm: B > 0.
    num_layers: L >= 2.
    num_weights: d.
    compression_failure: probability that some layer misses epsilon, in [0, 1).
    variant: 'corrected' or 'paper'.

  Returns:
    Bound with terms empirical, lipschitz and dimension; it fails with
    probability 2 e^(-kappa d / 2) + delta + compression_failure.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: [HT], Theorem 4.
  """
  check_choice('variant', variant, VARIANTS)
  check_count('num_layers', num_layers, 2)
  check_count('num_weights', num_weights)
  kappa = number('kappa', kappa, 0, 1, open_low=True)
  log_lipschitz = log_lipschitz_constant(
    radius, num_layers=num_layers, input_norm=input_norm, tau=tau
  )
  moved = relative_output_change(
    radius, num_layers=num_layers, epsilon=epsilon, input_norm=input_norm
  )
  shift = 0.5 * math.log(2) + moved.log_value
  if variant == 'paper':
    shift -= math.log(tau)
  log_gamma = float(np.logaddexp(math.log(tau), shift))
  empirical, n = empirical_margin_loss(margins, log_gamma)
  rate = log_rate(kappa, n)
  terms = {
    'empirical': log(empirical),
    'lipschitz': math.log(12) + log_lipschitz + math.log(radius) + rate,
    'dimension': 0.5 * math.log(num_weights) + rate,
  }
  missed = number(
    'compression_failure', compression_failure, 0, 1, open_high=True
  )
  failure = 2 * math.exp(-kappa * num_weights / 2)
  failure += probability('delta', delta) + missed
  premises = [
    _enough_samples(n, 10 * num_layers, f'10 L = {10 * num_layers}'),
    _trusted_compression(epsilon, missed),
    fixed_margin(),
  ]
  return make_bound(
    terms,
    premises,
    failure=failure,
    details={
      'log_margin': log_gamma,
      'log_lipschitz': log_lipschitz,
      'entropy_excess': entropy_excess(kappa, n),
    },
  )


def uncompressed_risk(
  margins: ArrayLike,
  *,
  radius: float,
  kappa: float,
  epsilon: float,
  tau: float,
  delta: float,
  input_norm: float,
  num_layers: int,
  num_weights: int,
  compression_failure: float = 0.0,
  variant: str = 'corrected',
) -> Bound:
  """Risk of the network itself, smaller if it could be compressed.

  R_0(w) <= R^_tau(w) + max(2, 24 rho Lip R / sqrt(d)) sqrt(d ln n / n). The
  proof gives the factor (12 rho Lip R + sqrt(d)) / sqrt(d), which is smaller:
  variant 'sharp'.

  Args:
    margins: of the network on its n training examples, [n].
    radius: R(delta), see `norm_quantile`.
    kappa: kept fraction of all weights, in (0, 1].
    epsilon: relative error that the compression keeps to, in (0, 1].
    tau: width of the ramp, > 0.
    delta: P(|w| >= R), in (0, 1).
    input_norm: B > 0.
    num_layers: L >= 2.
    num_weights: d; at least 12 ('paper': 10).
    compression_failure: probability that some layer misses epsilon, in [0, 1).
    variant: 'corrected', 'paper' or 'sharp'.

  Returns:
    Bound with terms empirical and complexity (for 'sharp', lipschitz and
    dimension); it fails with probability 2 e^(-d/2) + delta +
    compression_failure.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: [HT], Theorem S6 and its proof.
  """
  check_choice('variant', variant, (*VARIANTS, 'sharp'))
  check_count('num_layers', num_layers, 2)
  check_count('num_weights', num_weights)
  kappa = number('kappa', kappa, 0, 1, open_low=True)
  log_lipschitz = log_lipschitz_constant(
    radius, num_layers=num_layers, input_norm=input_norm, tau=tau
  )
  rho = volume_factor(epsilon, kappa, num_weights)
  empirical, n = empirical_margin_loss(margins, math.log(tau))
  # (kappa + epsilon_kappa) is 1 at kappa = 1, where all weights are kept.
  rate = log_rate(1.0, n)
  size = math.log(12 * rho) + log_lipschitz + math.log(radius)
  root = 0.5 * math.log(num_weights)
  terms = {'empirical': log(empirical)}
  if variant == 'sharp':
    terms |= {'lipschitz': size + rate, 'dimension': root + rate}
  else:
    terms['complexity'] = math.log(2) + max(root, size) + rate
  least = 10 if variant == 'paper' else 12
  needed = max(9.0 * num_layers, 81 * exp(-2 * kappa * math.log(epsilon)))
  missed = number(
    'compression_failure', compression_failure, 0, 1, open_high=True
  )
  premises = [
    _enough_samples(n, needed, f'max(9 L, 81 epsilon^(-2 kappa)) = {needed:g}'),
    Assumption(
      'enough weights',
      num_weights >= least,
      f'd = {num_weights} must be >= {least}',
    ),
    _trusted_compression(epsilon, missed),
    fixed_margin(),
  ]
  failure = 2 * math.exp(-num_weights / 2) + missed
  failure += probability('delta', delta)
  return make_bound(
    terms,
    premises,
    failure=failure,
    details={'log_lipschitz': log_lipschitz, 'volume_factor': rho},
  )


def _enough_samples(n: int, needed: float, formula: str) -> Assumption:
  ratio = n / math.log(n)
  return Assumption(
    'enough samples',
    bool(ratio >= needed),
    f'n / ln n = {ratio:.4g} must be >= {formula}',
  )


def _trusted_compression(epsilon: float, missed: float) -> Assumption:
  return Assumption(
    'compressible',
    None,
    f'every layer is compressed to relative error {epsilon:.4g} with '
    f'probability at least {1 - missed:.6g}',
  )
