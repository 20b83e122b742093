"""Integrals of the symmetric alpha-stable law, of NumPy or JAX numbers.

With f(x) = (1/pi) Re int_0^inf exp(itx - t^alpha) dt, x >= 0, the path of
integration is turned to the ray t = r exp(i pi / (4 alpha)), where the
integrand decays without oscillating much, smoothly in alpha through 1. Up to
`NEAR` that integral is used as it stands. Beyond, exp(-t^alpha) is replaced
by exp(-t^alpha) - 1, which changes nothing (the rest is imaginary) and leaves
no cancellation in the power tail. Near alpha = 2 the tail begins as a normal
one, too small for any oscillating integral: there Zolotarev's integral of a
positive function serves, in logarithms. All are sums over fixed nodes of
doubly exponential rules, with errors near rounding in float32 and float64.

Each takes x and alpha that broadcast, and `xp`, which is `numpy` or
`jax.numpy`.
"""

import math
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

# Of alpha.
LOW = 0.5
NEAR = 1.5
# From here on the tail may begin as a normal one.
GAUSSIAN = 1.7


class _Rule(NamedTuple):
  """Nodes r and weights of an integral over dr / r on (0, inf)."""

  r: np.ndarray
  weight: np.ndarray


def _exp_rule(low: float, high: float, num: int) -> _Rule:
  """Trapezoid in y of r = exp(y - exp(-y)): doubly exponential at 0."""
  y, step = np.linspace(low, high, num, retstep=True)
  return _Rule(np.exp(y - np.exp(-y)), step * (1.0 + np.exp(-y)))


_NEAR_RULE = _exp_rule(-4.3, 8.2, 220)
_FAR_RULE = _exp_rule(-4.3, 4.9, 200)
_NUM_POSITIVE = 420


def near(x: Any, alpha: Any, xp: ModuleType) -> tuple[Any, Any]:
  """P(0 < X < x) and the density, for x up to a few units."""
  x, alpha = x[..., None], alpha[..., None]
  r, weight = (xp.asarray(a, x.dtype) for a in _NEAR_RULE)
  angle = np.pi / (4.0 * alpha)
  # t^alpha = (1 + i) q on the ray, and itx = -decay + i turn.
  q = math.sqrt(0.5) * r**alpha
  decay, turn = r * x * xp.sin(angle), r * x * xp.cos(angle)
  size = xp.exp(-decay - q)
  density = xp.sum(weight * r * size * xp.cos(turn - q + angle), axis=-1)
  # The imaginary part of e^(-(1 + i) q) (e^(i turn - decay) - 1), every term of
  # it small where x is.
  lost = -xp.expm1(-decay) * xp.exp(-q)
  lost = lost + 2.0 * size * xp.sin(0.5 * turn) ** 2
  inner = xp.sum(
    weight * (size * xp.cos(q) * xp.sin(turn) + lost * xp.sin(q)), axis=-1
  )
  return inner / np.pi, density / np.pi


def far(x: Any, alpha: Any, xp: ModuleType) -> tuple[Any, Any]:
  """P(X > x) and the density, for x away from 0; t = s / x."""
  x, alpha = x[..., None], alpha[..., None]
  r, weight = (xp.asarray(a, x.dtype) for a in _FAR_RULE)
  angle = np.pi / (4.0 * alpha)
  q = math.sqrt(0.5) * xp.exp(alpha * (xp.log(r) - xp.log(x)))
  size, turn = xp.exp(-r * xp.sin(angle)), r * xp.cos(angle)
  # 1 - exp(-(1 + i) q) = real + i imaginary, without cancellation.
  shrink = xp.exp(-q)
  real = -xp.expm1(-q) + 2.0 * shrink * xp.sin(0.5 * q) ** 2
  imaginary = shrink * xp.sin(q)
  tail = xp.sum(
    weight * size * (xp.sin(turn) * real + xp.cos(turn) * imaginary), axis=-1
  )
  turned = xp.cos(turn + angle) * real - xp.sin(turn + angle) * imaginary
  density = -xp.sum(weight * r * size * turned, axis=-1) / x[..., 0]
  return tail / np.pi, density / np.pi


def log_positive(
  x: Any,
  alpha: Any,
  xp: ModuleType,
  reach: float = 40.0,
  num: int = _NUM_POSITIVE,
) -> tuple[Any, Any]:
  """log P(X > x) and log density by Zolotarev's integral, alpha well above 1.

  The angle is kept as its distances v from pi/2 and u from 0. As functions of
  the logit of v the integrands change over a few units, wherever that is; the
  nodes reach down to where the power tail lies, of which the part nearer to
  pi/2 than e^-reach is left out: e^-reach / (2 - alpha) of P(X > x).
  """
  x, alpha = x[..., None], alpha[..., None]
  low = -reach - 1.7 * xp.maximum(xp.log(x), 0.0)
  fraction = xp.asarray(np.linspace(0.0, 1.0, num), x.dtype)
  y = low + (9.0 - low) * fraction
  step = (9.0 - low) / (num - 1)
  log_v, log_u = -xp.logaddexp(0.0, -y), -xp.logaddexp(0.0, y)
  v, u = 0.5 * np.pi * xp.exp(log_v), 0.5 * np.pi * xp.exp(log_u)
  gap = 0.5 * np.pi * (2.0 - alpha)
  log_g = (
    alpha * xp.log(x)
    + xp.log(xp.sin(v))
    - alpha * xp.log(xp.sin(xp.minimum(gap + alpha * v, alpha * u)))
  ) / (alpha - 1.0) + xp.log(xp.sin(gap + (alpha - 1.0) * v))
  log_g = xp.minimum(log_g, 80.0)
  g = xp.exp(log_g)
  log_weight = xp.log(0.5 * np.pi * step) + log_v + log_u
  log_tail = _log_sum_exp(log_weight - g, xp) - np.log(np.pi)
  factor = xp.log(alpha / (np.pi * (alpha - 1.0) * x))
  log_density = _log_sum_exp(log_weight + log_g - g, xp) + factor[..., 0]
  return log_tail, log_density


def _log_sum_exp(a: Any, xp: ModuleType) -> Any:
  if xp is np:
    from scipy.special import logsumexp

    return logsumexp(a, axis=-1)
  return jax.nn.logsumexp(a, axis=-1)
