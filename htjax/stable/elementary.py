"""Sines, logarithms and powers of draws.

In float32 they are short series without the special cases that XLA's have to
look after: a draw is bound by the length of its chain of operations. Other
dtypes go to `jax.numpy`. The coefficients are minimax, by Remez's algorithm.
Series are written in `lax`, which traces faster than operators do.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int32, UInt

from htjax.types import Array

# (sin(x) / x - 1) / x^2 in x^2 on [0, pi/2], error of the sine below 7e-9 of
# itself. All series have the lowest power first.
_SIN = (-1.666665955e-01, 8.333066242e-03, -1.98096027e-04, 2.6057802e-06)
# log(1 + f) / f on [-1/3, 1/3], relative error 2.6e-8.
_LOG = (
  *(1.0, -0.49999931, 0.33333167, -0.25008029, 0.20011945),
  *(-0.16412792, 0.13987650, -0.15403198, 0.14056116),
)
# log2(1 + f) / f on [-1/3, 1/3], absolute error of the logarithm 4.5e-8.
_LOG2 = (
  *(1.44269407, -0.72134393, 0.48101974, -0.36092767),
  *(0.28458792, -0.23467967, 0.25202674, -0.23198201),
)
# 2^f on [-1/2, 1/2], relative error 1.9e-9.
_EXP2 = (
  *(1.0, 0.69314718, 0.24022646, 0.05550329),
  *(0.00961849, 0.00133999, 0.00015345812),
)
# The last bits of this number plus an integer n are those of n.
_SHIFT = 1.5 * 2**23
_TWO_THIRDS = np.float32(2 / 3).view(np.int32)


def sine(x: Array) -> Array:
  """Sine on [0, pi/2], without the reduction of large arguments."""
  if x.dtype != jnp.float32:
    return jnp.sin(x)
  z = lax.mul(x, x)
  series = jnp.float32(_SIN[-1])
  for c in _SIN[-2::-1]:
    series = lax.add(lax.mul(series, z), np.float32(c))
  return lax.add(x, lax.mul(lax.mul(x, z), series))


def power(x: Float[Array, '*shape'], exponent: Array) -> Array:
  """x^exponent of positive x that are neither subnormal nor infinite."""
  if x.dtype != jnp.float32:
    return jnp.exp(exponent * jnp.log(x))
  return _short_power(x, exponent)


@jax.custom_jvp
def _short_power(x: Array, exponent: Array) -> Array:
  e, f = _reduced(x)
  t = exponent * (e.astype(jnp.float32) + f * _series(_LOG2, f))
  t = jnp.clip(t, -126.0, 129.0)
  n = jnp.floor(t + 0.5)
  # 2^(n - 1) times twice the rest: n = 128 belongs to finite numbers too.
  shifted = lax.bitcast_convert_type(n + (_SHIFT + 126.0), jnp.int32)
  scale = lax.bitcast_convert_type(shifted << 23, jnp.float32)
  return 2.0 * _series(_EXP2, t - n) * scale


@_short_power.defjvp
def _short_power_jvp(
  primals: Sequence[Array], tangents: Sequence[Array]
) -> tuple[Array, Array]:
  # Bits have no derivatives.
  (x, exponent), (dx, d_exponent) = primals, tangents
  value = _short_power(x, exponent)
  return value, value * (exponent * (dx / x) + jnp.log(x) * d_exponent)


def exponential(
  k: UInt[Array, '*shape'], bits: int, dtype: np.dtype
) -> Float[Array, '*shape']:
  """-log((k + 1/2) / 2^bits), precise also where that is close to 0."""
  top = k.dtype.type(1 << (bits - 1))
  low = k < top
  q = (to_float(jnp.where(low, k, ~k), dtype) + 0.5) * dtype.type(2.0**-bits)
  y = jnp.where(low, q, 1.0 - q)
  if dtype == jnp.float32:
    e, f = _reduced(y)
    # Above 2/3, where the logarithm is small, 1 + f = 1 - q without rounding.
    f = jnp.where(e == 0, -q, f)
    return e.astype(dtype) * -math.log(2.0) - f * _series(_LOG, f)
  # log(1 - q) from log(y): (1 - y) - q is exactly what 1 - q was rounded by.
  lost = jnp.where(low, 0.0, ((1.0 - y) - q) / y)
  return -(jnp.log(y) + lost)


def to_float(k: Array, dtype: np.dtype) -> Array:
  """Integers whose top bit is 0, as floating-point numbers."""
  # Signed conversions are vector instructions; unsigned ones are not.
  signed = jnp.int32 if k.dtype == jnp.uint32 else jnp.int64
  return k.astype(signed).astype(dtype)


def _reduced(
  x: Float[Array, '*shape'],
) -> tuple[Int32[Array, '*shape'], Float[Array, '*shape']]:
  """(e, f) with x = 2^e (1 + f) and f in [-1/3, 1/3], of positive float32."""
  word = lax.bitcast_convert_type(x, jnp.int32)
  e = (word - _TWO_THIRDS) >> 23
  return e, lax.bitcast_convert_type(word - (e << 23), jnp.float32) - 1.0


def _series(coefficients: Sequence[float], x: Array) -> Array:
  """A polynomial by pairs of terms, a shorter chain than one after another."""
  c = [np.float32(value) for value in coefficients]
  pairs = [
    lax.add(a, lax.mul(b, x)) for a, b in zip(c[::2], c[1::2], strict=False)
  ]
  if len(c) % 2:
    pairs.append(lax.full_like(x, c[-1]))
  square = lax.mul(x, x)
  total = pairs[-1]
  for pair in pairs[-2::-1]:
    total = lax.add(lax.mul(total, square), pair)
  return total
