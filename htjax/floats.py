"""Numbers as floating-point arrays: conversion, and exact powers of two.

Everything that a caller hands over becomes float32 or float64 here and nowhere
else, before JAX narrows 64-bit integers (which wraps) and floats (which
overflows). Backends flush subnormal numbers to zero, and divide by large ones
through reciprocals that are subnormal: what does not depend on the unit is
computed after `to_unit_peak`, which reads bits and loses nothing.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.host import Working, is_extreme, on_host
from htjax.types import Array, ArrayLike

# An exponent that changes nothing.
_NOTHING: Any = np.int32(0)
# Largest exponent of a peak that is left where it is.
_PEAK = 60


def as_floating(name: str, x: ArrayLike, *, vanish: bool = False) -> Array:
  """`x` as a float32 or float64 array.

  float64 stays what it is under `jax.enable_x64(True)`, and 64-bit integers,
  Python numbers and wider floats become float64 there; everything else is
  float32.

  Args:
    name: what to call it in messages.
    x: array of JAX or NumPy (any byte order), number, or nested sequence.
    vanish: whether numbers that are all too small for the dtype may become
      zero, for arguments of functions that are smooth at zero.

  Returns:
    Array of x's shape.

  Raises:
    ValueError: not real numbers; masked entries; numbers too large, or all too
      small, for float32 where float64 is not enabled.

  Values: rounded to nearest. NaN and infinity stay. Of numbers of which some
    fit, those that are too small become zero.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import compressibility
    >>> compressibility.as_floating('x', [1, 2]).dtype.name
    'float32'
  """
  if isinstance(x, jax.Array):
    return _from_jax(name, x)
  if callable(getattr(x, '__jax_array__', None)):
    return _from_jax(name, jnp.asarray(x))
  return jnp.asarray(_host_floating(name, x, vanish))


def as_working(name: str, x: ArrayLike) -> Working:
  """`as_floating`, but as an array of NumPy where that is to do the work.

  Args:
    name: what to call it in messages.
    x: array, number, or nested sequence.

  Returns:
    Array of x's shape, of JAX or NumPy; x itself if it is one already.

  Raises:
    ValueError: as `as_floating`.
  """
  if not on_host(x):
    return as_floating(name, x)
  if isinstance(x, jax.Array):
    dtype = _target(_check_real(name, x.dtype))
    host: Any = np.asarray(x).astype(dtype, copy=False)
    return host
  return _host_floating(name, x, vanish=False)


def result_dtype(*values: Any) -> np.dtype:
  """Floating dtype of what is computed from `values`, under any promotion.

  The widest of their floating dtypes, float64 only where it is enabled; Python
  numbers, lists and integers have no say unless there is nothing else.
  """
  floating = []
  for value in values:
    dtype = getattr(value, 'dtype', None)
    if dtype is not None and jnp.issubdtype(dtype, jnp.floating):
      floating.append(_target(dtype) if dtype.itemsize >= 8 else dtype)
  with jax.numpy_dtype_promotion('standard'):
    return functools.reduce(
      jnp.promote_types, floating or [jnp.result_type(float)]
    )


def to_unit_peak(*arrays: Working) -> tuple[Working, ...]:
  """Arrays times one power of two, if their common peak is an extreme number.

  Nothing changes where the largest magnitude lies within 2^-60..2^60 and no
  number is subnormal. Otherwise that magnitude comes to lie in [2^60, 2^61),
  exactly; what is then still too small for a normal number becomes the least
  of them, so that none but zeros are zero.

  Args:
    *arrays: of one dtype, float32 or float64, none empty.

  Returns:
    (*scaled, exponent), scaled = array * 2^-exponent and exponent int32 []. All
    zeros, and arrays with NaN or infinity, come back as they are.
  """
  # Nearly always there is nothing to do, which needs no program to be seen.
  if on_host(*arrays) and not is_extreme(arrays, _PEAK):
    return (*arrays, _NOTHING)
  return _to_unit_peak(arrays)


def times_power_of_two(x: Working, exponent: ArrayLike) -> Working:
  """x 2^exponent, rounded once, also where x or the result is subnormal.

  Args:
    x: float32 or float64.
    exponent: integers that broadcast to x's shape.

  Returns:
    Array of x's shape and dtype; infinity where it overflows.
  """
  if on_host(exponent) and not np.any(exponent):
    return x
  return _times_power_of_two(x, exponent)


@jax.jit
def _times_power_of_two(x: Working, exponent: ArrayLike) -> Array:
  fraction, own = split(x)
  exponent = jnp.broadcast_to(jnp.asarray(exponent, jnp.int32), x.shape)
  return _joined(fraction, own + exponent)


def split(x: Array) -> tuple[Array, Array]:
  """(fraction, exponent) of x = fraction 2^exponent, 1 <= |fraction| < 2.

  Args:
    x: float32 or float64; subnormal numbers are read as they stand.

  Returns:
    Array of x's dtype, and int32. Zeros, NaN and infinity have exponent 0 and
    themselves as fraction.
  """
  bias, digits = _layout(x.dtype)
  magnitude = magnitude_bits(x)
  # As an integer a subnormal number is a normal one, scaled.
  subnormal = magnitude < (1 << digits)
  bits = jnp.where(
    subnormal,
    lax.bitcast_convert_type(magnitude.astype(x.dtype), magnitude.dtype),
    magnitude,
  )
  own = (bits >> digits).astype(jnp.int32) - bias
  own = own - jnp.where(subnormal, bias - 1 + digits, 0).astype(jnp.int32)
  mantissa = bits & ((1 << digits) - 1)
  fraction = lax.bitcast_convert_type(mantissa | (bias << digits), x.dtype)
  plain = (magnitude == 0) | ~jnp.isfinite(x)
  fraction = jnp.where(plain, jnp.abs(x), fraction)
  return (
    jnp.where(jnp.signbit(x), -fraction, fraction),
    jnp.where(plain, 0, own),
  )


@jax.jit
def _to_unit_peak(arrays: tuple[Working, ...]) -> tuple[Array, ...]:
  bits = [magnitude_bits(a) for a in arrays]
  digits = _layout(arrays[0].dtype)[1]
  peak = functools.reduce(jnp.maximum, [jnp.max(b) for b in bits])
  subnormal = [jnp.any((b > 0) & (b < (1 << digits))) for b in bits]
  peak = lax.bitcast_convert_type(peak, arrays[0].dtype)
  exponent = split(peak)[1]
  extreme = jnp.isfinite(peak) & (
    (jnp.abs(exponent) > _PEAK) | jnp.any(jnp.stack(subnormal))
  )
  exponent = jnp.where(extreme, exponent - _PEAK, 0)

  def scaled(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(_raised(times_power_of_two(a, -exponent), a) for a in arrays)

  return (*lax.cond(extreme, scaled, lambda a: a, arrays), exponent)


def _raised(scaled: Array, x: Array) -> Array:
  """At least the smallest normal number, where x is not zero."""
  digits, tiny = _layout(x.dtype)[1], jnp.finfo(x.dtype).tiny
  lost = (magnitude_bits(scaled) < (1 << digits)) & (magnitude_bits(x) > 0)
  least = jnp.where(jnp.signbit(x), -tiny, tiny).astype(x.dtype)
  return jnp.where(lost, least, scaled)


def _joined(fraction: Array, exponent: Array) -> Array:
  """fraction 2^exponent, for what `split` returns."""
  bias, digits = _layout(fraction.dtype)
  integer = _integer(fraction.dtype)
  lowest = 1 - bias

  def power(k: Array) -> Array:
    field = (jnp.clip(k, lowest, bias) + bias).astype(integer) << digits
    return lax.bitcast_convert_type(field, fraction.dtype)

  normal = fraction * power(exponent)
  normal = jnp.where(exponent > bias, fraction * jnp.inf, normal)
  # Below, the bits of a number are its multiple of the smallest subnormal one.
  multiple = jnp.abs(fraction) * power(
    jnp.maximum(exponent - lowest + digits, -2)
  )
  low = lax.bitcast_convert_type(
    jnp.round(multiple).astype(integer), fraction.dtype
  )
  low = jnp.where(jnp.signbit(fraction), -low, low)
  plain = (fraction == 0) | ~jnp.isfinite(fraction)
  return jnp.where(plain, fraction, jnp.where(exponent < lowest, low, normal))


def _layout(dtype: Any) -> tuple[int, int]:
  """Exponent bias, and stored digits of the fraction."""
  limits = jnp.finfo(dtype)
  return 1 - int(limits.minexp), int(limits.nmant)


def _integer(dtype: Any) -> Any:
  return jnp.int64 if dtype == jnp.float64 else jnp.int32


def magnitude_bits(x: Array) -> Array:
  """Bits of |x|, whose order as integers is that of the magnitudes."""
  integer = _integer(x.dtype)
  return lax.bitcast_convert_type(x, integer) & jnp.iinfo(integer).max


def _host_floating(name: str, x: Any, vanish: bool) -> Any:
  """An array of NumPy of anything but an array of JAX, unless it is traced."""
  if np.ma.is_masked(x):
    raise ValueError(
      f'{name} must not have masked entries: take {name}.compressed()'
    )
  try:
    host = np.asarray(x)
  except jax.errors.TracerArrayConversionError:
    return _from_jax(name, jnp.asarray(x))
  except ValueError as error:
    raise ValueError(f'{name} must be an array of numbers: {error}') from error
  return _narrowed(name, _real(name, host), vanish)


def _from_jax(name: str, x: Array) -> Array:
  return x.astype(_target(_check_real(name, x.dtype)))


def _check_real(name: str, dtype: Any) -> Any:
  if not _is_real(dtype):
    raise ValueError(f'{name} must be real, got dtype {dtype}')
  return dtype


def _real(name: str, x: np.ndarray) -> np.ndarray:
  """A native array of real numbers."""
  if x.dtype == object:
    if any(v is None for v in x.flat):
      raise ValueError(f'{name} must be an array of real numbers, got None')
    try:
      return x.astype(np.longdouble)
    except (TypeError, ValueError, OverflowError) as error:
      raise ValueError(
        f'{name} must be an array of real numbers: {error}'
      ) from error
  if not _is_real(x.dtype):
    raise ValueError(f'{name} must be real, got dtype {x.dtype}')
  return np.asarray(x, x.dtype.newbyteorder('='))


def _is_real(dtype: Any) -> bool:
  return dtype == np.bool_ or any(
    jnp.issubdtype(dtype, kind) for kind in (jnp.integer, jnp.floating)
  )


def _target(dtype: Any) -> Any:
  wide = jnp.dtype(dtype).itemsize >= 8
  if wide and jax.config.read('jax_enable_x64'):
    return jnp.float64
  return jnp.float32


def _narrowed(name: str, x: np.ndarray, vanish: bool) -> np.ndarray:
  target = np.dtype(_target(x.dtype))
  if x.dtype == target:
    return x
  with np.errstate(over='ignore', under='ignore', invalid='ignore'):
    narrow = x.astype(target)
  if x.dtype.itemsize <= target.itemsize or x.size == 0:
    return narrow
  wide = np.abs(x)
  peak = wide.max(initial=0, where=np.isfinite(wide))
  limits = np.finfo(target)
  lost = 0 < peak < limits.smallest_normal and not vanish
  if np.any(np.isinf(narrow) & np.isfinite(x)) or lost:
    hint = '; float64 has it, under jax.enable_x64(True)'
    raise ValueError(
      f'{name} must be in the range of {target.name}, '
      f'{limits.smallest_normal:.3g} to {limits.max:.3g}, got {peak:.6g}'
      f'{hint if target == np.float32 else ""}'
    )
  return narrow
