"""Number of balls that cover compressible weights, and of samples it needs.

The lemmas beneath Theorems 4 and S6. d weights in all, of which the fraction
kappa is kept.
"""

import math
from collections.abc import Sequence

import numpy as np

from htjax.bounds.arguments import counts, like, number, positive, snap, vector
from htjax.bounds.logarithms import binary_entropy_nats, exp, log
from htjax.checks import check_count
from htjax.compressibility import kept_count
from htjax.types import ArrayLike


def kept_fraction(layer_sizes: Sequence[int], kappas: ArrayLike) -> float:
  """Kept fraction of all layers, kappa = sum_l ceil(kappa_l d_l) / d.

  Args:
    layer_sizes: d_l, weights in each layer, [L].
    kappas: kappa_l in [0, 1], [L] or one number.

  Returns:
    float in [0, 1].

  Raises:
    ValueError: for sizes below 1 or fractions outside [0, 1].

  Source: [HT], Theorem 4.
  """
  sizes = vector('layer_sizes', counts('layer_sizes', layer_sizes))
  kappas = like('kappas', kappas, sizes.size)
  for kappa in kappas:
    number('kappas', kappa, 0, 1)
  kept = sum(
    int(kept_count(float(kappa), int(size)))
    for kappa, size in zip(kappas, sizes, strict=True)
  )
  return kept / float(np.sum(sizes))


def entropy_excess(kappa: float, num_samples: int) -> float:
  """Excess epsilon_kappa = (2 h_b(kappa) - kappa ln kappa) / ln n over kappa.

  Args:
    kappa: kept fraction in [0, 1].
    num_samples: n >= 2.

  Returns:
    float >= 0.

  Raises:
    ValueError: for numbers out of range.

  Source: [HT], Theorem 4.
  """
  kappa = number('kappa', kappa, 0, 1)
  check_count('num_samples', num_samples, 2)
  own = kappa * log(kappa) if kappa > 0 else 0.0
  return (2 * binary_entropy_nats(kappa) - own) / math.log(num_samples)


def volume_factor(epsilon: float, kappa: float, num_weights: int) -> float:
  """Factor rho_epsilon(kappa, d) of the radius that compressible weights fill.

  min(epsilon^(1-kappa) exp(h_b(kappa) + h_b^(1)(kappa, d)), 1): rho is epsilon
  at kappa = 0 and 1 at kappa = 1, increasing between.

  Args:
    epsilon: relative error of the compression, in (0, 1].
    kappa: kept fraction in [0, 1].
    num_weights: d >= 1.

  Returns:
    float in (0, 1].

  Raises:
    ValueError: for numbers out of range.

  Source: [HT], Theorem S6 and Lemma S8.
  """
  epsilon = number('epsilon', epsilon, 0, 1, open_low=True)
  kappa = number('kappa', kappa, 0, 1)
  check_count('num_weights', num_weights)
  spread = log_gamma_ratio_bound(num_weights, kappa * num_weights) / num_weights
  power = (1 - kappa) * math.log(epsilon) + binary_entropy_nats(kappa) + spread
  return min(exp(power), 1.0)


def log_binomial_bound(n: int, m: int) -> float:
  """Upper bound n h_b(m / n) of the logarithm of a binomial coefficient.

  Args:
    n: >= 1.
    m: 0 <= m <= n.

  Returns:
    float, a logarithm.

  Raises:
    ValueError: for counts out of range.

  Source: [HT], Lemma S7.
  """
  check_count('n', n)
  check_count('m', m, 0)
  return n * binary_entropy_nats(number('m', m, 0, n) / n)


def log_gamma_ratio_bound(n: int, m: float) -> float:
  """Bound on ln(Gamma(n/2+1) / (Gamma(m/2+1) Gamma((n-m)/2+1))), n >= 10.

  ceil(n/2) max h_b over the two roundings of m/2, relative to ceil(n/2). It
  fails for some n below 10, for instance at (2, 1).

  Args:
    n: >= 1.
    m: in [0, n].

  Returns:
    float, a logarithm.

  Raises:
    ValueError: for numbers out of range.

  Source: [HT], Lemma S8.
  """
  check_count('n', n)
  half, part = math.ceil(n / 2), float(snap(number('m', m, 0, n))) / 2
  rounded = (math.ceil(part) / half, math.floor(part) / half)
  return half * max(binary_entropy_nats(min(q, 1.0)) for q in rounded)


def log_covering_sparse(
  num_weights: int, kappa: float, *, radius: float, resolution: float
) -> float:
  """Logarithm of the covering number of weights with few non-zeros.

  d h_b + kappa d ln(3R / u).

  Args:
    num_weights: d.
    kappa: fraction that is not zero, in [0, 1].
    radius: R > 0.
    resolution: u in (0, R].

  Returns:
    float, a logarithm.

  Raises:
    ValueError: for numbers out of range.

  Source: [HT], Lemma S4.
  """
  check_count('num_weights', num_weights)
  kappa = number('kappa', kappa, 0, 1)
  radius = positive('radius', radius)
  step = number('resolution', resolution, 0, radius, open_low=True)
  single = binary_entropy_nats(kappa) + kappa * math.log(3 * radius / step)
  return num_weights * single


def log_covering_compressible(
  num_weights: int,
  kappa: float,
  *,
  epsilon: float,
  radius: float,
  resolution: float,
) -> float:
  """Logarithm of the covering number of weights near some with few non-zeros.

  d ln(3 rho R / u).

  Args:
    num_weights: d >= 10, as the lemma asks.
    kappa: kept fraction in [0, 1].
    epsilon: |w^(kappa d) - w| <= epsilon R, in (0, 1].
    radius: R > 0.
    resolution: u in (0, epsilon R).

  Returns:
    float, a logarithm.

  Raises:
    ValueError: for numbers out of range.

  Source: [HT], Lemma S6.
  """
  check_count('num_weights', num_weights, 10)
  rho = volume_factor(epsilon, kappa, num_weights)
  limit = epsilon * positive('radius', radius)
  step = number(
    'resolution', resolution, 0, limit, open_low=True, open_high=True
  )
  return num_weights * math.log(3 * rho * radius / step)


def covering_radius(radius: float, kappa: float, num_samples: int) -> float:
  """Radius u of the covering inside Theorem 4's proof.

  u = 3 R sqrt((kappa + epsilon_kappa) ln n / n).

  Args:
    radius: R > 0.
    kappa: kept fraction in [0, 1].
    num_samples: n >= 2.

  Returns:
    float; at most R / sqrt(L) once n / ln n >= 10 L.

  Raises:
    ValueError: for numbers out of range.

  Source: [HT], proof of Theorem 4.
  """
  return 3 * positive('radius', radius) * exp(log_rate(kappa, num_samples))


def concentration_exponent(
  kappa: float, *, num_weights: int, num_samples: int
) -> float:
  """The exponent of the union bound in Theorem 4's proof.

  At the radius of `covering_radius` the Lipschitz constant cancels, and what
  is left is at most -kappa d / 2 for n >= 16.

  Args:
    kappa: kept fraction in (0, 1].
    num_weights: d.
    num_samples: n >= 2.

  Returns:
    float, at most -kappa d / 2 for n >= 16.

  Raises:
    ValueError: for numbers out of range.

  Source: [HT], eqs. (S30)-(S34).
  """
  kappa = number('kappa', kappa, 0, 1, open_low=True)
  check_count('num_weights', num_weights)
  rate = log_rate(kappa, num_samples)
  single = -0.5 * exp(2 * rate) * num_samples - kappa * rate
  return num_weights * (single + binary_entropy_nats(kappa))


def log_rate(kappa: float, num_samples: int) -> float:
  """ln sqrt((kappa + epsilon_kappa) ln n / n), the covering radius over 3R."""
  total = kappa + entropy_excess(kappa, num_samples)
  ratio = log(total) + math.log(math.log(num_samples))
  return 0.5 * (ratio - math.log(num_samples))
