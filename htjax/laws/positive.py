"""One-sided stable laws, E exp(-sA) = exp(-(scale s)^alpha), alpha in (0, 1).

Those that `htjax.stable.sample_positive` draws, times the scale. In SciPy's
words they are `levy_stable(alpha, 1, scale=scale cos(pi alpha / 2)^(1/alpha))`
of parametrization S1. Evaluated on the host, in float64.
"""

import math

import numpy as np

from htjax.checks import checked
from htjax.laws import quadrature
from htjax.laws.arguments import numbers, parameter, positive, probabilities
from htjax.types import ArrayLike

__all__ = ['cdf', 'moment', 'pdf', 'quantile', 'sf']

_HALVINGS = 70


@checked
def cdf(x: ArrayLike, alpha: float, *, scale: float = 1.0) -> np.ndarray:
  """P(A <= x), with relative precision also near 0.

  Args:
    x: real, any shape; infinity is allowed.
    alpha: in (0, 1).
    scale: > 0.

  Returns:
    float64 of x's shape, to about 1e-12 of itself.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [Zolotarev1986], theorem 2.5.1; [Kanter1975], corollary 4.1.

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.positive.cdf(1.0, 0.5):.4f}')  # erfc(1 / 2)
    0.4795
  """
  return _law(x, alpha, scale)[0]


@checked
def sf(x: ArrayLike, alpha: float, *, scale: float = 1.0) -> np.ndarray:
  """P(A > x), about (x / scale)^-alpha / Gamma(1 - alpha) for large x.

  Args:
    x: real, any shape; infinity is allowed.
    alpha: in (0, 1).
    scale: > 0.

  Returns:
    float64 of x's shape, to about 1e-12 of itself.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [Zolotarev1986], theorem 2.5.1.

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.positive.sf(1e8, 0.5):.4g}')
    5.642e-05
  """
  return _law(x, alpha, scale)[1]


@checked
def pdf(x: ArrayLike, alpha: float, *, scale: float = 1.0) -> np.ndarray:
  """Density at x, 0 for x <= 0.

  Args:
    x: real, any shape; infinity is allowed.
    alpha: in (0, 1).
    scale: > 0.

  Returns:
    float64 of x's shape, to about 1e-12 of itself.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [Zolotarev1986], theorem 2.5.1.

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.positive.pdf(1.0, 0.5):.4f}')
    0.2197
  """
  return _law(x, alpha, scale)[2]


@checked
def quantile(q: ArrayLike, alpha: float, *, scale: float = 1.0) -> np.ndarray:
  """The x with P(A <= x) = q.

  Args:
    q: probability in [0, 1], any shape.
    alpha: in (0, 1).
    scale: > 0.

  Returns:
    float64 of q's shape, to about 1e-12 of itself; 0 at q = 0, infinity at 1.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: bisection of ln x on `cdf` and `sf`.

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.positive.quantile(0.5, 0.5):.4f}')
    1.0991
  """
  q = probabilities('q', q)
  alpha, scale = _parameters(alpha, scale)
  # Beyond these ends every float64 probability has been met.
  span = 800.0 / alpha
  low, high = np.full(q.shape, -span), np.full(q.shape, span)
  reach = math.log(np.finfo(np.float64).max)
  low, high = np.maximum(low, -reach), np.minimum(high, reach)
  for _ in range(_HALVINGS):
    middle = (low + high) / 2
    below, above, _ = _unit_law(np.exp(middle), alpha)
    # By the smaller of both, which has the digits.
    short = np.where(q < 0.5, below < q, above > 1 - q)
    low, high = np.where(short, middle, low), np.where(short, high, middle)
  x = np.exp((low + high) / 2) * scale
  return np.where(q == 0, 0.0, np.where(q == 1, np.inf, x))


@checked
def moment(order: ArrayLike, alpha: float, *, scale: float = 1.0) -> np.ndarray:
  """Fractional moment E A^p = scale^p Gamma(1 - p / alpha) / Gamma(1 - p).

  Args:
    order: p, real, any shape; negative orders exist, however low.
    alpha: in (0, 1).
    scale: > 0.

  Returns:
    float64 of p's shape; infinite from p = alpha on.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [Zolotarev1986], section 2.6.

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.positive.moment(-1.0, 0.5):.4f}')
    2.0000
  """
  from scipy import special

  p = numbers('order', order)
  alpha, scale = _parameters(alpha, scale)
  below = np.minimum(p, np.nextafter(alpha, 0))
  log = special.gammaln(1 - below / alpha) - special.gammaln(1 - below)
  value = np.exp(log + below * math.log(scale))
  return np.where(p >= alpha, np.inf, value)


def _parameters(alpha: float, scale: float) -> tuple[float, float]:
  alpha = parameter('alpha', alpha, 0, 1, open_low=True, open_high=True)
  return alpha, positive('scale', scale)


def _law(
  x: ArrayLike, alpha: float, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """P(A <= x), P(A > x) and the density."""
  x = numbers('x', x)
  alpha, scale = _parameters(alpha, scale)
  below, above, density = _unit_law(np.maximum(x, 0) / scale, alpha)
  return below, above, density / scale


def _unit_law(
  x: np.ndarray, alpha: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  # This scale takes away the one factor of V that is not of the angle.
  angle = quadrature.angle(alpha, 1.0)._replace(log_factor=0.0)
  below, above, density = quadrature.upper(x, angle)
  return below, above, np.where(x == 0, 0.0, density)
