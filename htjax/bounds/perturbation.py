"""Bounds from the size of weights and how well few of them stand for all.

"Heavy Tails in SGD and Compressibility of Overparametrized Neural Networks":
how far an output moves when weights move, the risk of a compressed network and
that of the network itself; the covering numbers beneath are in `covering`.
Networks are f = W_L phi(.. phi(W_1 x)) without biases, phi(t) = max(0, t), with
L layers, d weights in all and inputs |x| <= B; kappa is the kept fraction.
"""

import math
from collections.abc import Sequence

import numpy as np

from htjax.bounds.common import (
  VARIANTS,
  Assumption,
  Bound,
  empirical_margin_loss,
  exp,
  like,
  log,
  log_product,
  log_sum,
  make_bound,
  number,
  positive,
  probability,
  vector,
)
from htjax.bounds.covering import (
  concentration_exponent as concentration_exponent,
)
from htjax.bounds.covering import covering_radius as covering_radius
from htjax.bounds.covering import (
  entropy_excess,
  kept_fraction,
  log_rate,
  volume_factor,
)
from htjax.bounds.covering import (
  log_binomial_bound as log_binomial_bound,
)
from htjax.bounds.covering import (
  log_covering_compressible as log_covering_compressible,
)
from htjax.bounds.covering import log_covering_sparse as log_covering_sparse
from htjax.bounds.covering import (
  log_gamma_ratio_bound as log_gamma_ratio_bound,
)
from htjax.checks import check_choice, check_count
from htjax.types import ArrayLike


def output_change(
  norms: ArrayLike, changes: ArrayLike, *, input_norm: float
) -> Bound:
  """Change of the output when each layer moves by at most `changes`.

  |f_w - f_w'| <= B prod_l (n_l + u_l) - B prod_l n_l, for Frobenius norms, and
  sharper for spectral ones; u_l = epsilon_l n_l for a relative change.

  Args:
    norms: n_l >= 0, norms of the layers, [L].
    changes: u_l >= 0, norms of what is added to each, [L] or one number.
    input_norm: B >= 0.

  Returns:
    Bound, deterministic: B ((prod (n_l + u_l)) - prod n_l).

  Raises:
    ValueError: for negative or non-finite numbers or different lengths.

  Source: "Heavy Tails in SGD ...", Lemmas S1 (S3) and S3 (i).
  """
  norms = vector('norms', norms)
  changes = like('changes', changes, norms.size)
  size = number('input_norm', input_norm, 0, math.inf, open_high=True)
  if np.all(norms > 0):
    growth = float(np.sum(np.log1p(changes / norms)))
    # log(e^g - 1), whatever the size of g.
    gain = growth + log(-math.expm1(-growth))
    change = log_product(norms) + gain
  else:
    change = log_product(norms + changes)
  return make_bound({'change': log(size) + change})


def radius_output_change(
  radius: float, *, num_layers: int, change: float, input_norm: float
) -> Bound:
  """The same for |w| <= R and layers that move by at most `change`.

  |f_w - f_w'| <= B L (2R / sqrt(L))^(L-1) u for u <= R / sqrt(L).

  Args:
    radius: R > 0, bound on the norm of all weights.
    num_layers: L >= 1.
    change: u >= 0.
    input_norm: B > 0.

  Returns:
    Bound, deterministic, with the premise on u.

  Raises:
    ValueError: for numbers out of range.

  Source: "Heavy Tails in SGD ...", Lemma S3 (ii).
  """
  radius = positive('radius', radius)
  check_count('num_layers', num_layers)
  change = number('change', change, 0, math.inf, open_high=True)
  limit = radius / math.sqrt(num_layers)
  slope = _log_slope(radius, num_layers, positive('input_norm', input_norm))
  premise = Assumption(
    'small change',
    change <= limit,
    f'change = {change:.4g} must be <= R / sqrt(L) = {limit:.4g}',
  )
  return make_bound({'change': slope + log(change)}, [premise])


def relative_output_change(
  radius: float, *, num_layers: int, epsilon: float, input_norm: float
) -> Bound:
  """B ((1 + epsilon)^L - 1) (R / sqrt(L))^L, for |w| <= R.

  Args:
    radius: R > 0.
    num_layers: L >= 1.
    epsilon: relative change of every layer, >= 0.
    input_norm: B > 0.

  Returns:
    Bound, deterministic.

  Raises:
    ValueError: for numbers out of range.

  Source: "Heavy Tails in SGD ...", Lemma S1, eq. (S4).
  """
  radius = positive('radius', radius)
  check_count('num_layers', num_layers)
  # The product of norms is largest when all are equal, so this covers all w.
  norms = np.full(num_layers, radius / math.sqrt(num_layers))
  epsilon = number('epsilon', epsilon, 0, math.inf, open_high=True)
  return output_change(norms, epsilon * norms, input_norm=input_norm)


def spectral_output_change(
  spectral: ArrayLike,
  changes: ArrayLike,
  *,
  input_norm: float,
  lipschitz: ArrayLike = 1.0,
  gains: ArrayLike = 1.0,
) -> Bound:
  """e |x| (prod kappa_l L_l |A_l|) sum_l |U_l| / |A_l|, if |U_l| <= |A_l| / L.

  Args:
    spectral: |A_l|_2 > 0, [L].
    changes: |U_l|_2 >= 0, [L].
    input_norm: |x| > 0.
    lipschitz: L_l, Lipschitz constant of the activation before layer l, [L] or
      one number.
    gains: kappa_l, see `sketching.low_rank_gain`; 1 without it.

  Returns:
    Bound, deterministic, one premise per layer; one term per layer.

  Raises:
    ValueError: for numbers out of range or different lengths.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", Lemma 2.4;
    "Generalization Bounds for Magnitude-Based Pruning ...", Lemmas C.4, D.2
    (whose stray factors are dropped).
  """
  spectral = vector('spectral', spectral, open_low=True)
  depth = spectral.size
  changes = like('changes', changes, depth)
  lipschitz = like('lipschitz', lipschitz, depth, open_low=True)
  gains = like('gains', gains, depth, open_low=True)
  size = positive('input_norm', input_norm)
  whole = 1 + math.log(size) + log_product(gains * lipschitz)
  whole += log_product(spectral)
  terms = {
    f'layer_{i + 1}': whole + log(u / a)
    for i, (u, a) in enumerate(zip(changes, spectral, strict=True))
  }
  premises = [
    Assumption(
      f'small change of layer {i + 1}',
      bool(u <= a / depth),
      f'change {u:.4g} must be <= |A| / L = {a / depth:.4g}',
    )
    for i, (u, a) in enumerate(zip(changes, spectral, strict=True))
  ]
  return make_bound(terms, premises)


def norm_quantile(norms: ArrayLike, delta: float) -> float:
  """R(delta) = inf {R: P(|w| >= R) <= delta}, of an empirical law.

  Args:
    norms: |w| of independently trained networks, [runs].
    delta: in (0, 1).

  Returns:
    The quantile of these runs, not of the law: with fewer than 1 / delta runs
    it is the largest.

  Raises:
    ValueError: for other shapes, negative norms, or delta out of range.

  Source: "Heavy Tails in SGD ...", eq. (7).
  """
  ordered = np.sort(vector('norms', norms))[::-1]
  count = math.floor(probability('delta', delta) * ordered.size)
  return float(ordered[count])


def lipschitz_constant(
  radius: float, *, num_layers: int, input_norm: float, tau: float
) -> float:
  """Logarithm of sqrt(2) B L (2R / sqrt(L))^(L-1) / tau.

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

  Source: "Heavy Tails in SGD ...", eq. (7).
  """
  check_count('num_layers', num_layers)
  slope = _log_slope(
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

  Source: "Heavy Tails in SGD ...", Theorem 4.
  """
  check_choice('variant', variant, VARIANTS)
  check_count('num_layers', num_layers, 2)
  check_count('num_weights', num_weights)
  kappa = number('kappa', kappa, 0, 1, open_low=True)
  log_lipschitz = lipschitz_constant(
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

  Source: "Heavy Tails in SGD ...", Theorem S6 and its proof.
  """
  check_choice('variant', variant, (*VARIANTS, 'sharp'))
  check_count('num_layers', num_layers, 2)
  check_count('num_weights', num_weights)
  kappa = number('kappa', kappa, 0, 1, open_low=True)
  log_lipschitz = lipschitz_constant(
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
  ]
  failure = 2 * math.exp(-num_weights / 2) + missed
  failure += probability('delta', delta)
  return make_bound(
    terms,
    premises,
    failure=failure,
    details={'log_lipschitz': log_lipschitz, 'volume_factor': rho},
  )


def normalized_scale(alpha: float) -> float:
  """sigma_alpha = (2 Gamma(-alpha) cos((2 - alpha) pi / 2))^(1 / alpha).

  The scale of the stable law whose Levy density is |x|^(-1 - alpha).

  Args:
    alpha: tail index in (1, 2).

  Returns:
    float > 0.

  Raises:
    ValueError: for alpha out of range.

  Source: "Heavy Tails in SGD ...", Corollary 1.
  """
  alpha = number('alpha', alpha, 1, 2, open_low=True, open_high=True)
  level = 2 * math.gamma(-alpha) * math.cos((2 - alpha) * math.pi / 2)
  return level ** (1 / alpha)


def stable_norm_quantile(
  delta: float,
  *,
  alphas: ArrayLike,
  scales: ArrayLike,
  layer_sizes: Sequence[int],
) -> Bound:
  """Bound on R(delta) for independent stable weights.

  R(delta) <= 3 sigma sqrt(d) (4 d / delta)^(1 / alpha), alpha the smallest
  index and sigma^2 = sum_l (d_l / d) (scale_l / sigma_alpha_l)^2. Some hundred
  times too large at a thousand weights.

  Args:
    delta: in (0, 1).
    alphas: alpha_l in (1, 2), [L] or one number.
    scales: in the library's convention E exp(itX) = exp(-|scale t|^alpha), [L]
      or one number, > 0.
    layer_sizes: d_l, [L].

  Returns:
    Bound, with the premise delta < 2 d (2 - max alpha)^alpha.

  Raises:
    ValueError: for numbers out of range or different lengths.

  Source: "Heavy Tails in SGD ...", Lemma S5.
  """
  delta = probability('delta', delta)
  return _stable_quantile(math.log(delta), alphas, scales, layer_sizes)


def stable_compressed_risk(
  margins: ArrayLike,
  *,
  alphas: ArrayLike,
  scales: ArrayLike,
  layer_sizes: Sequence[int],
  kappas: ArrayLike,
  epsilon: float,
  tau: float,
  input_norm: float,
  beta: float | None = None,
  compression_failure: float = 0.0,
  variant: str = 'corrected',
) -> Bound:
  """`compressed_risk` for independent stable weights, R and delta explicit.

  delta = d^(-beta) and R is that of `stable_norm_quantile`. Corollary 1 is
  beta = alpha / (2 L), the default; Corollary S2 leaves it free. In print the
  compression is taken to succeed always, and the last premise on d lacks a
  factor of 2.

  Args:
    margins: of the uncompressed network on its n training examples, [n].
    alphas: alpha_l in (1, 2), [L] or one number.
    scales: in the library's convention, [L] or one number, > 0.
    layer_sizes: d_l, [L], L >= 2.
    kappas: kept fractions in (0, 1], [L] or one number.
    epsilon: relative error that the compression keeps to, >= 0.
    tau: width of the ramp, > 0.
    input_norm: B > 0.
    beta: > 0; None is alpha / (2 L).
    compression_failure: probability that some layer misses epsilon, in [0, 1).
    variant: 'corrected' or 'paper'.

  Returns:
    Bound, as of `compressed_risk`; it fails with probability 3 d^(-beta), plus
    `compression_failure` unless 'paper'.

  Raises:
    ValueError: as in `compressed_risk`.

  Source: "Heavy Tails in SGD ...", Corollaries 1 and S2.
  """
  kappa = kept_fraction(layer_sizes, kappas)
  depth, d = len(layer_sizes), int(sum(layer_sizes))
  smallest = float(np.min(like('alphas', alphas, depth)))
  if beta is None:
    beta = smallest / (2 * depth)
  beta = positive('beta', beta)
  log_delta = -beta * math.log(d)
  quantile = _stable_quantile(log_delta, alphas, scales, layer_sizes)
  bound = compressed_risk(
    margins,
    radius=quantile.value,
    kappa=kappa,
    epsilon=epsilon,
    tau=tau,
    delta=math.exp(log_delta),
    input_norm=input_norm,
    num_layers=depth,
    num_weights=d,
    compression_failure=compression_failure,
    variant=variant,
  )
  factor = 1 if variant == 'paper' else 2
  premises = (
    *(a for a in bound.assumptions if a.name != 'confidence'),
    *quantile.assumptions,
    Assumption(
      'enough kept weights',
      d / math.log(d) >= factor * beta / kappa,
      f'd / ln d = {d / math.log(d):.4g} must be >= {factor} beta / kappa = '
      f'{factor * beta / kappa:.4g}',
    ),
  )
  failure = 3 * math.exp(log_delta)
  if variant != 'paper':
    failure += compression_failure
  return make_bound(
    bound.terms,
    premises,
    failure=failure,
    details=bound.details | {'log_radius': quantile.log_value, 'beta': beta},
  )


def _stable_quantile(log_delta, alphas, scales, layer_sizes) -> Bound:
  for size in layer_sizes:
    check_count('layer_sizes', size)
  sizes = vector('layer_sizes', list(layer_sizes))
  alphas = like('alphas', alphas, sizes.size)
  scales = like('scales', scales, sizes.size, open_low=True)
  normalized = scales / [normalized_scale(a) for a in alphas]
  d, alpha = float(np.sum(sizes)), float(np.min(alphas))
  log_sigma = 0.5 * log_sum(np.log(sizes / d) + 2 * np.log(normalized))
  value = math.log(3) + log_sigma + 0.5 * math.log(d)
  value += (math.log(4 * d) - log_delta) / alpha
  limit = 2 * d * (2 - float(np.max(alphas))) ** alpha
  premises = [
    Assumption(
      'small delta',
      log_delta < math.log(limit),
      f'delta = {math.exp(log_delta):.4g} must be < 2 d (2 - max alpha)^alpha '
      f'= {limit:.4g}',
    ),
    Assumption('stable weights', None, 'weights are independent and stable'),
  ]
  return make_bound({'quantile': value}, premises)


def _log_slope(radius: float, num_layers: int, input_norm: float) -> float:
  """ln(B L (2R / sqrt(L))^(L-1))."""
  single = math.log(2 * radius) - 0.5 * math.log(num_layers)
  return math.log(input_norm * num_layers) + (num_layers - 1) * single


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
