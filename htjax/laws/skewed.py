"""Stable laws of any skewness, in Nolan's 0-parametrisation.

With scale c and location d, ln E exp(iuX) is
  -|cu|^alpha [1 + i beta tan(pi alpha / 2) sign(u) (|cu|^(1 - alpha) - 1)]
  + i d u,
and at alpha = 1
  -|cu| [1 + i beta (2 / pi) sign(u) ln|cu|] + i d u,
which is continuous in all four. (The source prints gamma for c in one place.)
beta = 0 is the symmetric law of `htjax.stable`, here for every alpha in (0, 2].
Draws are traced; distribution functions are evaluated on the host, in float64.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_floating, check_key, check_range, checked
from htjax.laws import quadrature
from htjax.laws.arguments import numbers, parameter, positive
from htjax.stable.draws import angle_and_exponential, as_shape
from htjax.types import Array, ArrayLike, PRNGKey

__all__ = ['cdf', 'pdf', 'sample', 'sf']

# Where alpha is nearer to 1, it is taken to be 1: the laws differ by less than
# the integrals' rounding errors.
_NEAR_ONE = 1e-7


@checked
def sample(
  key: PRNGKey,
  alpha: ArrayLike,
  shape: Sequence[int] = (),
  dtype: jax.typing.DTypeLike = jnp.float32,
  *,
  beta: ArrayLike,
  scale: ArrayLike = 1.0,
  location: ArrayLike = 0.0,
) -> Array:
  """Draws, by the method of Chambers, Mallows and Stuck.

  In the form X = Q R^((1 - alpha) / alpha) - beta tan(pi alpha / 2), which near
  alpha = 1 is put together from terms that stay finite.

  Args:
    key: typed key.
    alpha: tail index in (0, 2], traced, one number.
    shape: static.
    dtype: float32 or float64.
    beta: skewness in [-1, 1], traced, one number.
    scale: > 0, traced, one number.
    location: finite, traced, one number.

  Returns:
    Array of shape `shape`, finite; a draw beyond the largest number of the
    dtype is that number. Rounding moves a draw of the thin tail of
    |beta| = 1 by about 1e-7 / p of itself in float32, p the probability beyond.

  Raises:
    ValueError: concrete numbers out of range, a bad key, shape or dtype.

  Values: traced numbers out of range give NaN.

  Source: [SH], section 2 (footnote on stable laws); [Chambers1976], eq. (4.1).

  Examples:
    >>> import jax
    >>> from htjax import laws
    >>> x = laws.skewed.sample(jax.random.key(0), 1.5, (1000,), beta=1.0)
    >>> bool(x.max() > 10), bool(x.min() > -10)
    (True, True)
  """
  key = check_key(key)
  check_range('alpha', alpha, 0.0, 2.0, open_low=True)
  check_range('beta', beta, -1.0, 1.0)
  check_range('scale', scale, 0.0, np.inf, open_low=True, open_high=True)
  check_range(
    'location', location, -np.inf, np.inf, open_low=True, open_high=True
  )
  sides = as_shape(shape)
  dtype = check_floating('dtype', dtype)
  law = [jnp.asarray(a, dtype) for a in (alpha, beta, scale, location)]
  return _sample(key, *law, sides, dtype)


@checked
def cdf(
  x: ArrayLike,
  alpha: float,
  *,
  beta: float,
  scale: float = 1.0,
  location: float = 0.0,
) -> np.ndarray:
  """P(X <= x), with relative precision in both tails.

  Args:
    x: real, any shape; infinities are allowed.
    alpha: tail index in (0, 2].
    beta: skewness in [-1, 1].
    scale: > 0.
    location: finite.

  Returns:
    float64 of x's shape, to about 1e-12 of itself, 1e-9 within 1e-3 of
    alpha = 1.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [SH], section 2 (footnote on stable laws); [Nolan2020], theorem 3.3.

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.skewed.cdf(0.0, 1.0, beta=0.0):.4f}')  # Cauchy
    0.5000
    >>> print(f'{laws.skewed.cdf(0.0, 1.5, beta=0.5):.4f}')
    0.4622
  """
  return _law(x, alpha, beta, scale, location)[0]


@checked
def sf(
  x: ArrayLike,
  alpha: float,
  *,
  beta: float,
  scale: float = 1.0,
  location: float = 0.0,
) -> np.ndarray:
  """P(X > x), with relative precision in both tails.

  Args:
    x: real, any shape; infinities are allowed.
    alpha: tail index in (0, 2].
    beta: skewness in [-1, 1].
    scale: > 0.
    location: finite.

  Returns:
    float64 of x's shape, as precise as `cdf`.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [Nolan2020], theorem 3.3.

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.skewed.sf(1e6, 0.3, beta=0.0):.3g}')  # alpha below 1/2
    0.0068
  """
  return _law(x, alpha, beta, scale, location)[1]


@checked
def pdf(
  x: ArrayLike,
  alpha: float,
  *,
  beta: float,
  scale: float = 1.0,
  location: float = 0.0,
) -> np.ndarray:
  """Density at x.

  Args:
    x: real, any shape; infinities are allowed.
    alpha: tail index in (0, 2].
    beta: skewness in [-1, 1].
    scale: > 0.
    location: finite.

  Returns:
    float64 of x's shape, as precise as `cdf`; 0 outside of the support, which
    is a half line at alpha < 1 and |beta| = 1.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [SH], section 2 (footnote on stable laws); [Nolan2020], theorem 3.3.

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.skewed.pdf(0.0, 2.0, beta=0.0):.4f}')  # normal
    0.2821
  """
  return _law(x, alpha, beta, scale, location)[2]


def _law(
  x: ArrayLike, alpha: float, beta: float, scale: float, location: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """P(X <= x), P(X > x) and the density."""
  alpha = parameter('alpha', alpha, 0, 2, open_low=True)
  beta = parameter('beta', beta, -1, 1)
  scale = positive('scale', scale)
  location = parameter(
    'location', location, -math.inf, math.inf, open_low=True, open_high=True
  )
  z = (numbers('x', x) - location) / scale
  if abs(alpha - 1) < _NEAR_ONE:
    below, above, density = _at_one(z, beta)
  else:
    below, above, density = _elsewhere(z, alpha, beta)
  return below, above, density / scale


def _at_one(
  z: np.ndarray, beta: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  if beta == 0:
    return (
      np.arctan2(1.0, -z) / np.pi,
      np.arctan2(1.0, z) / np.pi,
      1 / (np.pi * (1 + z * z)),
    )
  if beta > 0:
    return quadrature.at_one(z, beta)
  above, below, density = quadrature.at_one(-z, -beta)
  return below, above, density


def _elsewhere(
  z: np.ndarray, alpha: float, beta: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  right, left = quadrature.angle(alpha, beta), quadrature.angle(alpha, -beta)
  y = z - right.corner
  between, above, density = quadrature.upper(np.maximum(y, 0), right)
  mirrored, below, other = quadrature.upper(np.maximum(-y, 0), left)
  at_corner = quadrature.density_at_corner(right)
  is_right = y >= 0
  # What is close to 1 is the rest of what is close to 0.
  up_to = np.where(above < 0.5, 1 - above, left.length / np.pi + between)
  beyond = np.where(below < 0.5, 1 - below, right.length / np.pi + mirrored)
  return (
    np.where(is_right, up_to, below),
    np.where(is_right, above, beyond),
    np.where(y == 0, at_corner, np.where(is_right, density, other)),
  )


@functools.partial(jax.jit, static_argnums=(5, 6))
def _sample(
  key: PRNGKey,
  alpha: Array,
  beta: Array,
  scale: Array,
  location: Array,
  shape: tuple[int, ...],
  dtype: np.dtype,
) -> Array:
  possible = (alpha > 0) & (alpha <= 2) & (jnp.abs(beta) <= 1) & (scale > 0)
  alpha = jnp.where(possible, alpha, jnp.nan)
  sign, near, far, w = angle_and_exponential(key, shape, dtype)
  theta = jnp.where(sign == 0, near, -near) * np.pi / 2
  cosine = jnp.sin(far * np.pi / 2)
  rest = 1 - alpha
  near_one = jnp.abs(rest) < _half_step(dtype)
  safe = jnp.where(near_one, _half_step(dtype), rest)
  # (1 - alpha) beta tan(pi alpha / 2), and sines over 1 - alpha.
  turn = beta * safe / jnp.tan(safe * np.pi / 2)
  skew = turn / safe
  lean = jnp.sin(safe * theta) / safe
  top = jnp.cos(safe * theta) + turn * lean
  log_r = jnp.log(jnp.maximum(top, jnp.finfo(dtype).tiny) / (cosine * w))
  exponent = safe / alpha * log_r
  q = (jnp.sin(alpha * theta) + skew * jnp.cos(alpha * theta)) / cosine
  plain = q * jnp.exp(exponent) - skew
  # Without what cancels: cos(alpha theta) - cos(theta), and e^z - 1.
  half = jnp.sin(safe * theta / 2) / safe
  gain = _mean_growth(exponent) * log_r / alpha
  joined = jnp.sin(alpha * theta) * (1 + safe * gain)
  joined += 2 * turn * jnp.sin((1 + alpha) * theta / 2) * half
  joined = (joined + turn * jnp.cos(alpha * theta) * gain) / cosine
  x = jnp.where(jnp.abs(exponent) < 0.5, joined, plain)
  largest = jnp.finfo(dtype).max
  x = jnp.clip(x, -largest, largest) * scale + location
  return jnp.clip(x, -largest, largest)


def _half_step(dtype: np.dtype) -> float:
  """Distance of alpha from 1 within which they are one."""
  return float(jnp.finfo(dtype).eps) / 2


def _mean_growth(z: Array) -> Array:
  """(e^z - 1) / z."""
  small = jnp.abs(z) < 1e-4
  safe = jnp.where(small, 1.0, z)
  return jnp.where(small, 1 + z / 2, jnp.expm1(safe) / safe)
