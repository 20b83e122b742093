"""The risk when weights are independent and stable: Corollaries 1 and S2."""

import math
from collections.abc import Sequence

import numpy as np

from htjax.bounds.arguments import (
  counts,
  like,
  number,
  positive,
  probability,
  vector,
)
from htjax.bounds.heavy_tails.covering import kept_fraction
from htjax.bounds.heavy_tails.risk import compressed_risk
from htjax.bounds.logarithms import log_sum
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.checks import check_range
from htjax.types import ArrayLike


def normalized_scale(alpha: float) -> float:
  """Scale of the stable law whose Levy density is |x|^(-1 - alpha).

  sigma_alpha = (2 Gamma(-alpha) cos((2 - alpha) pi / 2))^(1 / alpha).

  Args:
    alpha: tail index in (1, 2).

  Returns:
    float > 0.

  Raises:
    ValueError: for alpha out of range.

  Source: [HT], Corollary 1.
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

  Source: [HT], Lemma S5.
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
  """Risk of the compressed network for independent stable weights.

  That of `compressed_risk`, with R and delta explicit.

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
    Bound with terms empirical, lipschitz and dimension; it fails with
    probability 3 d^(-beta), plus `compression_failure` unless 'paper'.

  Raises:
    ValueError: for numbers out of range, or margins empty or not finite.

  Source: [HT], Corollaries 1 and S2.
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


def _stable_quantile(
  log_delta: float,
  alphas: ArrayLike,
  scales: ArrayLike,
  layer_sizes: Sequence[int],
) -> Bound:
  sizes = vector('layer_sizes', counts('layer_sizes', layer_sizes))
  alphas = like('alphas', alphas, sizes.size)
  check_range('alphas', alphas, 1, 2, open_low=True, open_high=True)
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
