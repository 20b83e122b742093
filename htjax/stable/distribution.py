"""Distribution functions of the symmetric alpha-stable law.

Three forms of one law have the same methods: of an alpha that is one known
number, a table; of 2, the normal law; of any other, traced or an array, the
integrals point by point. Laws of alpha below 0.5, and skewed ones, are in
`htjax.laws.skewed`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from htjax.checks import check_range, checked, is_concrete
from htjax.floats import as_floating, result_dtype
from htjax.stable.integrals import LOW
from htjax.stable.normal import Normal
from htjax.stable.pointwise import Pointwise
from htjax.stable.table import Table, table
from htjax.types import Array, ArrayLike


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
  _check_law(alpha, scale, low=0.0)
  dtype = result_dtype(t, alpha, scale)
  arrays = _floating(_wide(dtype), t=t, alpha=alpha, scale=scale)
  return _characteristic_function(*arrays).astype(dtype)


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
  return _evaluate(_cdf, x, alpha, scale)


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
  return _evaluate(_sf, x, alpha, scale)


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
  return _evaluate(_pdf, x, alpha, scale)


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
  return _evaluate(_logpdf, x, alpha, scale)


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
  wide = _wide(dtype)
  offset, tail = _offset_and_tail(q)
  offset, tail, scale = _floating(wide, q=offset, tail=tail, scale=scale)
  return _quantile(offset, tail, _law(alpha, wide), scale).astype(dtype)


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
  moment = _log_moment(*_floating(_wide(dtype), alpha=alpha, scale=scale))
  return LogMoment(*(m.astype(dtype) for m in moment))


@jax.jit
def _log_moment(alpha: Array, scale: Array) -> LogMoment:
  alpha, scale = jnp.broadcast_arrays(alpha, scale)
  alpha, scale = _possible_alpha(alpha), _possible_scale(scale)
  mean = np.euler_gamma * (1.0 / alpha - 1.0) + jnp.log(scale)
  variance = np.pi**2 * (1.0 / (6.0 * alpha**2) + 1.0 / 12.0) + 0.0 * scale
  return LogMoment(mean, variance)


def _check_law(alpha: ArrayLike, scale: ArrayLike, low: float = LOW) -> None:
  check_range('alpha', alpha, low, 2.0, open_low=low == 0.0)
  check_range('scale', scale, 0.0, np.inf, open_low=True, open_high=True)


# A law of unit scale at x >= 0, a tree of arrays.
_Law = Pointwise | Normal | Table


def _law(alpha: ArrayLike, dtype: np.dtype) -> _Law:
  """The law as numbers of `dtype` have it, in the fastest form there is."""
  if not is_concrete(alpha) or np.ndim(alpha) > 0:
    return Pointwise(_floating(dtype, alpha=alpha)[0])
  known = float(np.asarray(alpha).astype(dtype))
  return Normal() if known == 2.0 else table(known, dtype)


def _wide(dtype: np.dtype) -> np.dtype:
  """float32 for narrower results, which are computed in it."""
  with jax.numpy_dtype_promotion('standard'):
    return jnp.promote_types(dtype, jnp.float32)


def _floating(dtype: np.dtype, **values: ArrayLike) -> list[Array]:
  # What vanishes for x, but not for a scale.
  return [
    as_floating(name, v, vanish=name != 'scale').astype(dtype)
    for name, v in values.items()
  ]


def _evaluate(
  kernel: Callable[[Array, _Law, Array], Array],
  x: ArrayLike,
  alpha: ArrayLike,
  scale: ArrayLike,
) -> Array:
  _check_law(alpha, scale)
  dtype = result_dtype(x, alpha, scale)
  wide = _wide(dtype)
  x, scale = _floating(wide, x=x, scale=scale)
  return kernel(x, _law(alpha, wide), scale).astype(dtype)


def _possible_alpha(alpha: Array) -> Array:
  return jnp.where((alpha > 0.0) & (alpha <= 2.0), alpha, jnp.nan)


def _possible_scale(scale: Array) -> Array:
  return jnp.where((scale > 0.0) & (scale < jnp.inf), scale, jnp.nan)


def _arguments(x: Array, law: _Law, scale: Array) -> tuple[Array, _Law, Array]:
  """x over scale, for the law of unit scale; the law; scale; of one shape.

  The maximum changes nothing. It hides constants from the compiler, which would
  fold them into others, with other roundings than where they are arguments.
  """
  if isinstance(law, Pointwise):
    x, alpha, scale = jnp.broadcast_arrays(x, law.alpha, scale)
    law = Pointwise(alpha)
  else:
    x, scale = jnp.broadcast_arrays(x, scale)
    law = law.hidden(x)
  never = -jnp.abs(lax.stop_gradient(x))
  scale = jnp.maximum(scale, jnp.where(jnp.isnan(never), 0.0, never))
  scale = _possible_scale(scale)
  # The reciprocal of a large scale would vanish.
  unit = jnp.where(scale > 1.0, jnp.asarray(2.0**-64, x.dtype), 1.0)
  return x * unit / (scale * unit), law, scale


@jax.jit
def _characteristic_function(t: Array, alpha: Array, scale: Array) -> Array:
  t, alpha, scale = jnp.broadcast_arrays(t, alpha, scale)
  alpha, scale = _possible_alpha(alpha), _possible_scale(scale)
  alpha = jnp.maximum(alpha, -jnp.abs(lax.stop_gradient(t)))
  at_zero = t == 0.0
  magnitude = jnp.where(at_zero, 1.0, jnp.abs(scale * t))
  return jnp.where(
    at_zero, 1.0 + 0.0 * alpha * scale, jnp.exp(-(magnitude**alpha))
  )


@jax.jit
def _cdf(x: Array, law: _Law, scale: Array) -> Array:
  x, law, _ = _arguments(x, law, scale)
  return _upper_tail(-x, law)


@jax.jit
def _sf(x: Array, law: _Law, scale: Array) -> Array:
  x, law, _ = _arguments(x, law, scale)
  return _upper_tail(x, law)


@jax.jit
def _pdf(x: Array, law: _Law, scale: Array) -> Array:
  x, law, scale = _arguments(x, law, scale)
  return law.pdf(_absolute(x)) / scale


@jax.jit
def _logpdf(x: Array, law: _Law, scale: Array) -> Array:
  x, law, scale = _arguments(x, law, scale)
  return law.log_density(_absolute(x)) - jnp.log(scale)


@jax.jit
def _quantile(offset: Array, tail: Array, law: _Law, scale: Array) -> Array:
  if isinstance(law, Pointwise):
    offset, tail, alpha = jnp.broadcast_arrays(offset, tail, law.alpha)
    law = Pointwise(alpha)
  else:
    law = law.hidden(offset)
  x, scale = jnp.broadcast_arrays(_standard_quantile(offset, tail, law), scale)
  return _possible_scale(scale) * x


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


def _upper_tail(x: Array, law: _Law) -> Array:
  tail = law.tail(_absolute(x))
  return jnp.where(x >= 0.0, tail, 1.0 - tail)


@jax.custom_jvp
def _standard_quantile(offset: Array, tail: Array, law: _Law) -> Array:
  """The x with P(X <= x) = 1/2 + offset, and `tail` beyond it."""
  size = law.quantile(jnp.abs(offset), tail)
  valid = (tail >= 0.0) & (tail <= 0.5)
  return jnp.where(valid, jnp.where(offset < 0.0, -size, size), jnp.nan)


@_standard_quantile.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  law, x = primals[2], _standard_quantile(*primals)
  _, by_law = jax.jvp(lambda law: _upper_tail(-x, law), (law,), (tangents[2],))
  return x, (tangents[0] - by_law) / law.pdf(_absolute(x))
