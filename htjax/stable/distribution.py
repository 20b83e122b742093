"""Distribution functions of the symmetric alpha-stable law.

With f(x) = (1/pi) Re int_0^inf exp(itx - t^alpha) dt, x >= 0, the path of
integration is turned to the ray t = r exp(i pi / (4 alpha)), where the
integrand decays without oscillating much, smoothly in alpha through 1. Up to
`_NEAR` that integral is used as it stands. Beyond, exp(-t^alpha) is replaced
by exp(-t^alpha) - 1, which changes nothing (the rest is imaginary) and leaves
no cancellation in the power tail. Near alpha = 2 the tail begins as a normal
one, too small for any oscillating integral: there Zolotarev's integral of a
positive function serves, in logarithms. All are sums over fixed nodes of
doubly exponential rules, with errors near rounding in float32 and float64.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from htjax.checks import check_range, checked
from htjax.floats import as_floating, result_dtype
from htjax.types import Array, ArrayLike

_LOW = 0.5
_NEAR = 1.5
_GAUSSIAN = 1.7
_BLOCK = 1024


class LogMoment(NamedTuple):
  """Mean and variance of log|X|, arrays of the shape of alpha and scale."""

  mean: Array
  variance: Array


@checked
def characteristic_function(
  t: ArrayLike, alpha: ArrayLike, *, scale: ArrayLike = 1.0
) -> Float[Array, '...']:
  """E exp(itX) = exp(-|scale t|^alpha), which is real.

  Args:
    t: real, any shape; broadcasts against alpha and scale.
    alpha: tail index in (0, 2], traced.
    scale: > 0, traced.

  Returns:
    Array of the broadcast shape, in (0, 1].

  Raises:
    ValueError: concrete alpha outside (0, 2] or scale not positive.

  Values: traced alpha or scale out of range gives NaN.

  Source: [Samorodnitsky1994], definition 1.1.6.

  Examples:
    >>> from htjax import stable
    >>> print(f'{stable.characteristic_function(1.0, 1.5):.4f}')
    0.3679
  """
  return _evaluate(_characteristic_function, 't', t, alpha, scale, low=0.0)


@checked
def cdf(
  x: ArrayLike, alpha: ArrayLike, *, scale: ArrayLike = 1.0
) -> Float[Array, '...']:
  """P(X <= x).

  Args:
    x: real, any shape; broadcasts against alpha and scale. Infinities are
      allowed.
    alpha: tail index in [0.5, 2], traced.
    scale: > 0, traced; E exp(itX) = exp(-|scale t|^alpha).

  Returns:
    Array of the broadcast shape, with relative precision in the lower tail;
    of a narrower dtype than float32, computed in float32 and then rounded.
    Differentiable in all three, in forward and reverse mode.

  Raises:
    ValueError: concrete alpha outside [0.5, 2] or scale not positive.

  Values: NaN in x, and traced alpha or scale out of range, give NaN.

  Source: [Nolan2020], section 3.3.

  Examples:
    >>> from htjax import stable
    >>> print(f'{stable.cdf(1.0, 1.0):.4f}')  # Cauchy
    0.7500
  """
  return _evaluate(_cdf, 'x', x, alpha, scale)


@checked
def sf(x: ArrayLike, alpha: ArrayLike, *, scale: ArrayLike = 1.0) -> Array:
  """P(X > x).

  Args:
    x: real, any shape; broadcasts against alpha and scale. Infinities are
      allowed.
    alpha: tail index in [0.5, 2], traced.
    scale: > 0, traced; E exp(itX) = exp(-|scale t|^alpha).

  Returns:
    Array of the broadcast shape, with relative precision in the upper tail.
    Differentiable in all three, in forward and reverse mode.

  Raises:
    ValueError: concrete alpha outside [0.5, 2] or scale not positive.

  Values: NaN in x, and traced alpha or scale out of range, give NaN.

  Source: [Nolan2020], section 3.3.

  Examples:
    >>> from htjax import stable
    >>> print(f'{stable.sf(1e6, 1.5):.3g}')
    1.99e-10
  """
  return _evaluate(_sf, 'x', x, alpha, scale)


@checked
def pdf(x: ArrayLike, alpha: ArrayLike, *, scale: ArrayLike = 1.0) -> Array:
  """Density at x.

  Args:
    x: real, any shape; broadcasts against alpha and scale. Infinities are
      allowed.
    alpha: tail index in [0.5, 2], traced.
    scale: > 0, traced; E exp(itX) = exp(-|scale t|^alpha).

  Returns:
    Array of the broadcast shape, with relative precision in the tails.
    Differentiable in all three, in forward and reverse mode.

  Raises:
    ValueError: concrete alpha outside [0.5, 2] or scale not positive.

  Values: NaN in x, and traced alpha or scale out of range, give NaN.

  Source: [Nolan2020], section 3.3.

  Examples:
    >>> from htjax import stable
    >>> print(f'{stable.pdf(0.0, 1.0):.4f}')  # 1 / pi
    0.3183
  """
  return _evaluate(_pdf, 'x', x, alpha, scale)


@checked
def logpdf(x: ArrayLike, alpha: ArrayLike, *, scale: ArrayLike = 1.0) -> Array:
  """Logarithm of the density at x.

  Args:
    x: real, any shape; broadcasts against alpha and scale. Infinities are
      allowed.
    alpha: tail index in [0.5, 2], traced.
    scale: > 0, traced; E exp(itX) = exp(-|scale t|^alpha).

  Returns:
    Array of the broadcast shape, -inf only at infinite x. Differentiable in all
    three, in forward and reverse mode.

  Raises:
    ValueError: concrete alpha outside [0.5, 2] or scale not positive.

  Values: NaN in x, and traced alpha or scale out of range, give NaN.

  Source: [Nolan2020], section 3.3.

  Examples:
    >>> from htjax import stable
    >>> print(f'{stable.logpdf(100.0, 1.5):.3f}')
    -12.716
  """
  return _evaluate(_logpdf, 'x', x, alpha, scale)


@checked
def quantile(
  q: ArrayLike, alpha: ArrayLike, *, scale: ArrayLike = 1.0
) -> Float[Array, '...']:
  """The x with P(X <= x) = q.

  Args:
    q: probability in [0, 1], any shape; broadcasts against alpha and scale.
      Of Python and NumPy numbers all digits count; for the far upper tail of
      float32 arrays take -quantile(1 - q), where 1 - q has the digits.
    alpha: tail index in [0.5, 2], traced.
    scale: > 0, traced.

  Returns:
    Array of the broadcast shape; -inf at q = 0 and inf at q = 1. Derivatives
    in all three are those of the implicit function.

  Raises:
    ValueError: concrete q outside [0, 1]; otherwise as `cdf`.

  Values: traced q, alpha or scale out of range gives NaN.

  Source: Newton's method on `sf` and `cdf`, kept within a bracket.

  Examples:
    >>> from htjax import stable
    >>> print(f'{stable.quantile(0.75, 1.0):.4f}')  # Cauchy
    1.0000
  """
  check_range('q', q, 0.0, 1.0)
  _check_law(alpha, scale)
  dtype = result_dtype(q, alpha, scale)
  offset, tail = _offset_and_tail(q)
  arrays = _wide(dtype, q=offset, tail=tail, alpha=alpha, scale=scale)
  return _quantile(*arrays).astype(dtype)


@checked
def log_moment(alpha: ArrayLike, *, scale: ArrayLike = 1.0) -> LogMoment:
  """Mean and variance of log|X|, which exist for every alpha.

  Args:
    alpha: tail index in (0, 2], traced.
    scale: > 0, traced.

  Returns:
    LogMoment: mean gamma (1/alpha - 1) + log(scale) with Euler's gamma, and
    variance pi^2 (1/(6 alpha^2) + 1/12).

  Raises:
    ValueError: concrete alpha outside (0, 2] or scale not positive.

  Values: traced alpha or scale out of range gives NaN.

  Source: [Zolotarev1986], section 3.6.

  Examples:
    >>> from htjax import stable
    >>> mean, variance = stable.log_moment(1.0)
    >>> print(f'{mean:.3f} {variance:.3f}')
    0.000 2.467
  """
  _check_law(alpha, scale, low=0.0)
  dtype = result_dtype(alpha, scale)
  moment = _log_moment(*_wide(dtype, alpha=alpha, scale=scale))
  return LogMoment(*(m.astype(dtype) for m in moment))


@jax.jit
def _log_moment(alpha: Array, scale: Array) -> LogMoment:
  alpha, scale = _possible(alpha, scale, low=0.0)
  mean = np.euler_gamma * (1.0 / alpha - 1.0) + jnp.log(scale)
  variance = np.pi**2 * (1.0 / (6.0 * alpha**2) + 1.0 / 12.0) + 0.0 * scale
  return LogMoment(mean, variance)


def _check_law(alpha: ArrayLike, scale: ArrayLike, low: float = _LOW) -> None:
  check_range('alpha', alpha, low, 2.0, open_low=low == 0.0)
  check_range('scale', scale, 0.0, np.inf, open_low=True, open_high=True)


def _wide(dtype: np.dtype, **values: ArrayLike) -> list[Array]:
  """Arrays of one shape, in float32 if the dtype of the result is narrower."""
  with jax.numpy_dtype_promotion('standard'):
    wide = jnp.promote_types(dtype, jnp.float32)
  # What vanishes for x, but not for a scale.
  arrays = [
    as_floating(name, v, vanish=name != 'scale').astype(wide)
    for name, v in values.items()
  ]
  return jnp.broadcast_arrays(*arrays)


def _evaluate(
  kernel: Callable[[Array, Array, Array], Array],
  name: str,
  x: ArrayLike,
  alpha: ArrayLike,
  scale: ArrayLike,
  low: float = _LOW,
) -> Array:
  _check_law(alpha, scale, low)
  dtype = result_dtype(x, alpha, scale)
  arrays = _wide(dtype, **{name: x}, alpha=alpha, scale=scale)
  return kernel(*arrays).astype(dtype)


def _possible(
  alpha: Array, scale: Array, low: float = _LOW
) -> tuple[Array, Array]:
  """alpha and scale, NaN where impossible."""
  above = alpha > low if low == 0.0 else alpha >= low
  alpha = jnp.where(above & (alpha <= 2.0), alpha, jnp.nan)
  return alpha, jnp.where((scale > 0.0) & (scale < jnp.inf), scale, jnp.nan)


def _arguments(
  x: Array, alpha: Array, scale: Array
) -> tuple[Array, Array, Array]:
  """x over scale, for the law of unit scale, then alpha and scale.

  The maxima change nothing. They hide constants from the compiler, which would
  fold them into others, with other roundings than where they are arguments.
  """
  never = -jnp.abs(lax.stop_gradient(x))
  alpha = jnp.maximum(alpha, never)
  scale = jnp.maximum(scale, jnp.where(jnp.isnan(never), 0.0, never))
  alpha, scale = _possible(alpha, scale)
  # The reciprocal of a large scale would vanish.
  unit = jnp.where(scale > 1.0, jnp.asarray(2.0**-64, x.dtype), 1.0)
  return x * unit / (scale * unit), alpha, scale


@jax.jit
def _characteristic_function(t: Array, alpha: Array, scale: Array) -> Array:
  alpha, scale = _possible(alpha, scale, low=0.0)
  alpha = jnp.maximum(alpha, -jnp.abs(lax.stop_gradient(t)))
  at_zero = t == 0.0
  magnitude = jnp.where(at_zero, 1.0, jnp.abs(scale * t))
  return jnp.where(
    at_zero, 1.0 + 0.0 * alpha * scale, jnp.exp(-(magnitude**alpha))
  )


@jax.jit
def _cdf(x: Array, alpha: Array, scale: Array) -> Array:
  x, alpha, _ = _arguments(x, alpha, scale)
  return _upper_tail(-x, alpha)


@jax.jit
def _sf(x: Array, alpha: Array, scale: Array) -> Array:
  x, alpha, _ = _arguments(x, alpha, scale)
  return _upper_tail(x, alpha)


@jax.jit
def _pdf(x: Array, alpha: Array, scale: Array) -> Array:
  x, alpha, scale = _arguments(x, alpha, scale)
  return jnp.exp(_log_density(_absolute(x), alpha)) / scale


@jax.jit
def _logpdf(x: Array, alpha: Array, scale: Array) -> Array:
  x, alpha, scale = _arguments(x, alpha, scale)
  return _log_density(_absolute(x), alpha) - jnp.log(scale)


@jax.jit
def _quantile(offset: Array, tail: Array, alpha: Array, scale: Array) -> Array:
  alpha = jnp.maximum(alpha, -jnp.abs(lax.stop_gradient(offset)))
  alpha, scale = _possible(alpha, scale)
  return scale * _standard_quantile(offset, tail, alpha)


def _offset_and_tail(q: ArrayLike) -> tuple[ArrayLike, ArrayLike]:
  """q - 1/2, and the smaller of q and 1 - q, with the digits that q has."""
  if isinstance(q, jax.Array):
    q = as_floating('q', q)
    return q - 0.5, jnp.minimum(q, 1.0 - q)
  exact = np.asarray(q)
  if exact.dtype != np.longdouble:
    exact = exact.astype(np.float64)
  return exact - 0.5, np.minimum(exact, 1.0 - exact)


def _absolute(x: Array) -> Array:
  # Its derivative at 0 is 1 and not 0.
  return jnp.where(x >= 0.0, x, -x)


def _upper_tail(
  x: Float[Array, '*shape'], alpha: Float[Array, '*shape']
) -> Float[Array, '*shape']:
  tail = _tail(_absolute(x), alpha)
  return jnp.where(x >= 0.0, tail, 1.0 - tail)


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


def _near(
  x: Float[Array, ''], alpha: Float[Array, '']
) -> tuple[Float[Array, ''], Float[Array, '']]:
  """P(0 < X < x) and the density, for scalar x up to a few units."""
  r, weight = (jnp.asarray(a, x.dtype) for a in _NEAR_RULE)
  angle = np.pi / (4.0 * alpha)
  # t^alpha = (1 + i) q on the ray, and itx = -decay + i turn.
  q = math.sqrt(0.5) * r**alpha
  decay, turn = r * x * jnp.sin(angle), r * x * jnp.cos(angle)
  size = jnp.exp(-decay - q)
  density = jnp.sum(weight * r * size * jnp.cos(turn - q + angle))
  # The imaginary part of e^(-(1 + i) q) (e^(i turn - decay) - 1), every term of
  # it small where x is.
  lost = -jnp.expm1(-decay) * jnp.exp(-q)
  lost = lost + 2.0 * size * jnp.sin(0.5 * turn) ** 2
  inner = jnp.sum(
    weight * (size * jnp.cos(q) * jnp.sin(turn) + lost * jnp.sin(q))
  )
  return inner / np.pi, density / np.pi


def _far(
  x: Float[Array, ''], alpha: Float[Array, '']
) -> tuple[Float[Array, ''], Float[Array, '']]:
  """P(X > x) and the density, for scalar x away from 0; t = s / x."""
  r, weight = (jnp.asarray(a, x.dtype) for a in _FAR_RULE)
  angle = np.pi / (4.0 * alpha)
  q = math.sqrt(0.5) * jnp.exp(alpha * (jnp.log(r) - jnp.log(x)))
  size, turn = jnp.exp(-r * jnp.sin(angle)), r * jnp.cos(angle)
  # 1 - exp(-(1 + i) q) = real + i imaginary, without cancellation.
  shrink = jnp.exp(-q)
  real = -jnp.expm1(-q) + 2.0 * shrink * jnp.sin(0.5 * q) ** 2
  imaginary = shrink * jnp.sin(q)
  tail = jnp.sum(
    weight * size * (jnp.sin(turn) * real + jnp.cos(turn) * imaginary)
  )
  turned = jnp.cos(turn + angle) * real - jnp.sin(turn + angle) * imaginary
  density = -jnp.sum(weight * r * size * turned) / x
  return tail / np.pi, density / np.pi


def _positive(
  x: Float[Array, ''], alpha: Float[Array, '']
) -> tuple[Float[Array, ''], Float[Array, '']]:
  """log P(X > x) and log density by Zolotarev's integral, alpha well above 1.

  The angle is kept as its distances v from pi/2 and u from 0. As functions of
  the logit of v the integrands change over a few units, wherever that is; the
  nodes reach down to where the power tail lies.
  """
  low = -30.0 - 1.7 * jnp.maximum(jnp.log(x), 0.0) - 10.0
  fraction = jnp.asarray(np.linspace(0.0, 1.0, _NUM_POSITIVE), x.dtype)
  y = low + (9.0 - low) * fraction
  step = (9.0 - low) / (_NUM_POSITIVE - 1)
  log_v, log_u = jax.nn.log_sigmoid(y), jax.nn.log_sigmoid(-y)
  v, u = 0.5 * np.pi * jnp.exp(log_v), 0.5 * np.pi * jnp.exp(log_u)
  gap = 0.5 * np.pi * (2.0 - alpha)
  log_g = (
    alpha * jnp.log(x)
    + jnp.log(jnp.sin(v))
    - alpha * jnp.log(jnp.sin(jnp.minimum(gap + alpha * v, alpha * u)))
  ) / (alpha - 1.0) + jnp.log(jnp.sin(gap + (alpha - 1.0) * v))
  log_g = jnp.minimum(log_g, 80.0)
  g = jnp.exp(log_g)
  log_weight = jnp.log(0.5 * np.pi * step) + log_v + log_u
  log_tail = jax.nn.logsumexp(log_weight - g) - np.log(np.pi)
  log_density = jax.nn.logsumexp(log_weight + log_g - g) + jnp.log(
    alpha / (np.pi * (alpha - 1.0) * x)
  )
  return log_tail, log_density


def _choose(
  x: Array, alpha: Array, near: Array, far: Array, positive: Array
) -> Array:
  """The form that is precise at (x, alpha); NaN and infinity come through."""
  outside = jnp.where(alpha < _GAUSSIAN, far, positive)
  return jnp.where(x < _NEAR, near, outside) + 0.0 * alpha


def _elementwise(
  kernel: Callable[[Array, Array], Array],
) -> Callable[[Array, Array], Array]:
  """Map a scalar kernel over arrays of one shape, block by block.

  Both partial derivatives are taken in forward mode where the value is, so
  that reverse mode keeps two numbers per point and not one per node.
  """

  def mapped(function: Callable, x: Array, alpha: Array) -> Any:
    def one(pair: tuple[Array, Array]) -> Any:
      return function(*pair)

    flat = lax.map(one, (x.ravel(), alpha.ravel()), batch_size=_BLOCK)
    return jax.tree.map(lambda a: a.reshape(x.shape), flat)

  def with_partials(x: Array, alpha: Array) -> tuple[Array, Array, Array]:
    value, by_x = jax.jvp(lambda x: kernel(x, alpha), (x,), (jnp.ones_like(x),))
    # At alpha = 2 the power tail leaves the integral, but its derivative stays.
    below = jnp.minimum(alpha, 2.0 - 64.0 * jnp.finfo(alpha.dtype).eps)
    _, by_alpha = jax.jvp(
      lambda a: kernel(x, a), (below,), (jnp.ones_like(alpha),)
    )
    return value, by_x, by_alpha

  @jax.custom_jvp
  def function(x: Array, alpha: Array) -> Array:
    return mapped(kernel, x, alpha)

  @function.defjvp
  def _(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
  ) -> tuple[Array, Array]:
    value, by_x, by_alpha = mapped(with_partials, *primals)
    return value, by_x * tangents[0] + by_alpha * tangents[1]

  return jax.jit(function)


def _limits(x: Array, alpha: Array) -> tuple[tuple[Array, Array], ...]:
  """Arguments that each form can take, whichever of them is chosen."""
  # Selections, because the derivative of a minimum at a tie is one half.
  outside = jnp.clip(x, None, jnp.finfo(x.dtype).max)
  outside = jnp.where(x < _NEAR, _NEAR, outside)
  return (
    (jnp.where(x < _NEAR, x, _NEAR), alpha),
    (outside, jnp.where(alpha < _GAUSSIAN, alpha, _GAUSSIAN)),
    (outside, jnp.where(alpha < _GAUSSIAN, _GAUSSIAN, alpha)),
  )


def _tail_kernel(
  x: Float[Array, ''], alpha: Float[Array, '']
) -> Float[Array, '']:
  near, far, positive = _limits(x, alpha)
  tail = _choose(
    x,
    alpha,
    0.5 - _near(*near)[0],
    _far(*far)[0],
    jnp.exp(_positive(*positive)[0]),
  )
  return jnp.where(x == jnp.inf, 0.0 * alpha, tail + 0.0 * x)


def _log_density_kernel(
  x: Float[Array, ''], alpha: Float[Array, '']
) -> Float[Array, '']:
  near, far, positive = _limits(x, alpha)
  value = _choose(
    x,
    alpha,
    jnp.log(_near(*near)[1]),
    jnp.log(_far(*far)[1]),
    _positive(*positive)[1],
  )
  return jnp.where(x == jnp.inf, -jnp.inf + 0.0 * alpha, value + 0.0 * x)


_tail = _elementwise(_tail_kernel)
_log_density = _elementwise(_log_density_kernel)


# Count, log x, its bracket, and the last move.
_Search = tuple[int, Array, Array, Array, Array]


def _solve(
  excess: Float[Array, ''], tail: Float[Array, ''], alpha: Float[Array, '']
) -> Float[Array, '']:
  """The x >= 0 with P(0 < X < x) = excess and P(X > x) = tail, scalars.

  Newton's method on log x: for P(0 < X < x) near 0, where that has the
  digits, and for log P(X > x) beyond, which is nearly linear there.
  """
  tiny = jnp.finfo(excess.dtype).tiny
  log_peak = jax.scipy.special.gammaln(1.0 + 1.0 / alpha) - math.log(math.pi)
  # The density is largest at 0, and x^alpha P(X > x) is always below 2.
  low = jnp.log(jnp.maximum(excess, tiny)) - log_peak
  high = jnp.maximum(jnp.log(2.0 / jnp.maximum(tail, tiny)) / alpha, low)

  def step(carry: _Search) -> _Search:
    i, z, low, high, _ = carry
    x = jnp.exp(z)
    slope = x * jnp.exp(_log_density_kernel(x, alpha))
    inner = _near(jnp.minimum(x, _NEAR), alpha)[0]
    p = _tail_kernel(x, alpha)
    is_near = x < _NEAR
    too_low = jnp.where(is_near, inner < excess, p > tail)
    move = jnp.where(
      is_near,
      (excess - inner) / slope,
      (jnp.log(p) - jnp.log(tail)) * p / slope,
    )
    low, high = jnp.where(too_low, z, low), jnp.where(too_low, high, z)
    new = z + move
    inside = (new >= low) & (new <= high)
    new = jnp.where(inside, new, 0.5 * (low + high))
    return i + 1, new, low, high, jnp.abs(new - z)

  def go_on(carry: _Search) -> Array:
    i, _, _, _, moved = carry
    return (i < 60) & (moved > 16.0 * jnp.finfo(excess.dtype).eps)

  first = jnp.where(excess < 0.2, low, high)
  start = (0, first, low, high, jnp.full_like(excess, jnp.inf))
  x = jnp.exp(lax.while_loop(go_on, step, start)[1])
  return jnp.where(excess <= 0.0, 0.0, jnp.where(tail <= 0.0, jnp.inf, x))


@jax.custom_jvp
@jax.jit
def _standard_quantile(offset: Array, tail: Array, alpha: Array) -> Array:
  """The x with P(X <= x) = 1/2 + offset, and `tail` beyond it."""

  def one(triple: tuple[Array, Array, Array]) -> Array:
    return _solve(*triple)

  flat = lax.map(
    one,
    (jnp.abs(offset).ravel(), tail.ravel(), alpha.ravel()),
    batch_size=_BLOCK,
  ).reshape(offset.shape)
  valid = (tail >= 0.0) & (tail <= 0.5)
  x = jnp.where(offset < 0.0, -flat, flat)
  return jnp.where(valid, x, jnp.nan) + 0.0 * alpha


@_standard_quantile.defjvp
def _(
  primals: tuple[Array, ...], tangents: tuple[Array, ...]
) -> tuple[Array, Array]:
  alpha, x = primals[2], _standard_quantile(*primals)
  _, by_alpha = jax.jvp(
    lambda a: _upper_tail(-x, a), (alpha,), (jnp.ones_like(alpha),)
  )
  density = jnp.exp(_log_density(_absolute(x), alpha))
  return x, (tangents[0] - by_alpha * tangents[2]) / density
