"""Zolotarev's integrals of stable laws of any skewness, in NumPy and float64.

With y the distance from the point where the law's two halves meet (see
`Angle`), P(X > x) and the density are integrals over an angle of exp(-g) or
-expm1(-g) and of g exp(-g), with g positive and monotone: no term cancels, so
that tails have relative precision. The angle is kept as its distances u and v
from both ends. As functions of the logit of u the integrands turn where g is
about 1, within any small part of it, and decay exponentially beyond: nodes lie
as a hyperbolic sine around that place.

Source: [Nolan2020], theorem 3.3.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_NODES = 700
# Logits: of the ends of the interval, beyond what matters, of a difference.
_FAR, _TAIL, _NUDGE = 690.0, 45.0, 1e-7
# ln g from which on exp(-g) is 0.
_VANISHED = math.log(745.0)
_HALVINGS = 60
_BLOCK = 256


class Angle(NamedTuple):
  """The interval of integration of one law, alpha other than 1.

  X lies beyond `corner` = -beta tan(pi alpha / 2), at scale 1 and in the
  0-parametrisation, with probability `length` / pi.

  Attributes:
    alpha: in (0, 2], other than 1.
    length: of the interval, T.
    complement: pi - T.
    turn: alpha T.
    rest: pi - alpha T.
    log_factor: ln cos(alpha theta_0) / (alpha - 1).
    corner: the point.
  """

  alpha: float
  length: float
  complement: float
  turn: float
  rest: float
  log_factor: float
  corner: float


def angle(alpha: float, beta: float) -> Angle:
  """The interval of a law; exact also at beta = 1 and -1.

  Args:
    alpha: in (0, 2], other than 1.
    beta: in [-1, 1].
  """
  half = math.pi * alpha / 2
  # From 2 where that is nearer: the sine is small there.
  sine = math.sin(min(half, math.pi - half))
  cosine = math.sin(math.pi / 2 * abs(1 - alpha))
  shift = math.atan2(abs(beta) * sine, cosine)
  if abs(beta) == 1:
    shift = min(half, math.pi - half)
  signed = math.copysign(shift, beta if alpha < 1 else -beta)
  turn = half + signed
  rest = math.pi - turn
  if alpha > 1 and beta == -1:
    turn, rest = math.pi, 0.0
  length = turn / alpha
  complement = math.pi - length
  if alpha < 1 and beta == 1:
    length, complement = math.pi, 0.0
  size = math.hypot(cosine, beta * sine)
  corner = math.copysign(
    abs(beta) * sine / cosine, -beta if alpha < 1 else beta
  )
  return Angle(
    alpha,
    length,
    complement,
    turn,
    rest,
    math.log(cosine / size) / (alpha - 1),
    corner,
  )


def log_v(u: np.ndarray, v: np.ndarray, a: Angle) -> np.ndarray:
  """Logarithm of Nolan's V at the distances u and v from both ends."""
  alpha = a.alpha
  turned = np.sin(np.minimum(alpha * u, a.rest + alpha * v))
  if alpha > 1:
    phase = np.minimum(a.length + (alpha - 1) * u, a.rest + (alpha - 1) * v)
  else:
    phase = np.minimum(a.turn + (1 - alpha) * v, a.complement + (1 - alpha) * u)
  cosine = np.sin(np.minimum(v, a.complement + u))
  ratio = np.log(cosine) - np.log(turned)
  value = alpha / (alpha - 1) * ratio + np.log(np.sin(phase))
  return a.log_factor + value - np.log(cosine)


def upper(y: np.ndarray, a: Angle) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Law beyond the corner, at distances y >= 0 from it, scale 1.

  Returns:
    P(0 < X - corner <= y), P(X - corner > y) and the density, of the shape of
    y; the density at y = 0 is left NaN, which `density_at_corner` knows.
  """
  y = np.asarray(y, np.float64)
  if a.length <= 0:
    return np.zeros_like(y), np.zeros_like(y), np.zeros_like(y)
  power = a.alpha / (a.alpha - 1)
  with np.errstate(divide='ignore'):
    offset = power * np.log(y)
  # V falls with the angle above alpha = 1, and rises below it.
  below, above, density = _integrals(
    lambda u, v: log_v(u, v, a), offset, a.length, rising=a.alpha < 1
  )
  with np.errstate(divide='ignore', invalid='ignore'):
    density = abs(power) * density / y
  lower, tail = (below, above) if a.alpha < 1 else (above, below)
  return lower, tail, np.where(y == 0, np.nan, density)


def density_at_corner(a: Angle) -> float:
  """Density where the halves meet, Gamma(1 + 1 / alpha) cos(theta_0) ..

  (cos alpha theta_0)^(1 / alpha) / pi.
  """
  front = math.gamma(1 + 1 / a.alpha) * math.sin(min(a.length, a.complement))
  size = math.exp(a.log_factor * (a.alpha - 1) / a.alpha)
  return front * size / math.pi


def at_one(
  x: np.ndarray, beta: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """P(X <= x), P(X > x) and the density at alpha = 1, scale 1, beta > 0."""
  rate = math.pi / (2 * beta)

  def log_size(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    # pi / 2 + beta theta, theta = u - pi / 2 = pi / 2 - v.
    lean = (1 - beta) * math.pi / 2 + beta * u
    near = np.minimum(u, v)
    sine, cosine = np.sin(near), np.cos(near)
    slope = np.where(u < v, -cosine, cosine) / sine
    return np.log(2 / math.pi) + np.log(lean / sine) + lean * slope / beta

  lower, upper_tail, density = _integrals(
    log_size, -rate * np.asarray(x, np.float64), math.pi, rising=True
  )
  return lower, upper_tail, rate * density


def _integrals(
  log_size: Callable[[np.ndarray, np.ndarray], np.ndarray],
  offset: np.ndarray,
  length: float,
  *,
  rising: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(1 / pi) times the integrals of e^-g, 1 - e^-g and g e^-g.

  ln g = offset + log_size(u, v), monotone in u over (0, length).

  Args:
    log_size: of the distances from both ends.
    offset: any shape; infinite ones are limits.
    length: of the interval.
    rising: whether log_size increases with u.
  """
  flat = np.ravel(offset)
  # Ends of the interval, and impossible x, are infinite on the way.
  with np.errstate(all='ignore'):
    parts = [
      _of_block(log_size, flat[i : i + _BLOCK], length, rising)
      for i in range(0, flat.size, _BLOCK)
    ]
  if not parts:
    return (np.zeros_like(offset),) * 3
  joined = np.concatenate(parts, axis=1).reshape(3, *np.shape(offset))
  return joined[0], joined[1], joined[2]


def _of_block(
  log_size: Callable[[np.ndarray, np.ndarray], np.ndarray],
  offset: np.ndarray,
  length: float,
  rising: bool,
) -> np.ndarray:
  finite = np.where(np.isfinite(offset), offset, 0.0)

  def log_g(logit: np.ndarray, shift: np.ndarray) -> np.ndarray:
    u = length * np.exp(-np.logaddexp(0, -logit))
    v = length * np.exp(-np.logaddexp(0, logit))
    return np.minimum(shift + log_size(u, v), 700.0)

  centre, width = _turn(log_g, finite, rising)
  low = (np.minimum(centre, 0) - _TAIL - centre) / width
  high = (np.maximum(centre, 0) + _TAIL - centre) / width
  low, high = np.arcsinh(low), np.arcsinh(high)
  share = np.linspace(0, 1, _NODES)
  t = low[:, None] + (high - low)[:, None] * share
  logit = centre[:, None] + width[:, None] * np.sinh(t)
  step = (high - low) / (_NODES - 1) * width
  weight = np.cosh(t) * np.exp(
    -np.logaddexp(0, logit) - np.logaddexp(0, -logit)
  )
  g = np.exp(log_g(logit, finite[:, None]))
  shrunk = np.exp(-g)
  full = length / math.pi
  below, above, density = (
    full * step * np.sum(value * weight, axis=1)
    for value in (shrunk, -np.expm1(-g), np.where(shrunk > 0, g * shrunk, 0.0))
  )
  # Away from the turn nodes are far apart, and the larger is the rest.
  is_below_small = (centre < 0) == rising
  is_apart = np.abs(centre) > 3
  below, above = (
    np.where(is_apart & ~is_below_small, full - above, below),
    np.where(is_apart & is_below_small, full - below, above),
  )
  least = log_g(np.full_like(finite, -_FAR if rising else _FAR), finite)
  nothing = (least > _VANISHED) | (offset == np.inf)
  total = np.stack([below, above, density])
  limits = ((full, 0.0), (0.0, full), (0.0, 0.0))
  for part, (small, large) in zip(total, limits, strict=True):
    part[offset == -np.inf] = small
    part[nothing] = large
    part[np.isnan(offset)] = np.nan
  return total


def _turn(
  log_g: Callable[[np.ndarray, np.ndarray], np.ndarray],
  offset: np.ndarray,
  rising: bool,
) -> tuple[np.ndarray, np.ndarray]:
  """Logits where g is 1 more than its least, and over how much it changes."""
  end = np.full_like(offset, -_FAR if rising else _FAR)
  target = np.log1p(np.exp(log_g(end, offset)))
  low, high = np.full_like(offset, -_FAR), np.full_like(offset, _FAR)
  for _ in range(_HALVINGS):
    middle = (low + high) / 2
    before = (log_g(middle, offset) < target) == rising
    low, high = np.where(before, middle, low), np.where(before, high, middle)
  centre = (low + high) / 2
  ends = np.exp(log_g(centre + np.array([[-_NUDGE], [_NUDGE]]), offset))
  slope = np.abs(ends[1] - ends[0]) / (2 * _NUDGE)
  return centre, 1 / np.clip(slope, 1.0, 1 / _NUDGE)
