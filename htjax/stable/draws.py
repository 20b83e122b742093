"""Draws of alpha-stable variables, vectors and Lévy increments.

Symmetric: E exp(itX) = exp(-|scale t|^alpha). One-sided: E exp(-sA) =
exp(-s^alpha). Both come from Chambers, Mallows & Stuck (1976) and Kanter
(1975), rearranged so that float32 loses nothing: the angle is kept as its
distances from both ends of its interval, every sine is taken in [0, pi/2], and
the exponential keeps full relative precision at both ends. The textbook form
gives a NaN every 10^7 float32 draws and no value beyond about 4400 at alpha
1.8; this one has the law's tail down to probability 1e-8.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, UInt

from htjax.checks import (
  check_choice,
  check_count,
  check_floating,
  check_integer,
  check_key,
  check_number,
  check_range,
  checked,
)
from htjax.stable.elementary import exponential, power, sine, to_float
from htjax.stable.words import word_pairs
from htjax.types import Array, ArrayLike, PRNGKey

_Shape = tuple[int, ...]

KINDS = ('type1', 'type2', 'type3')

_HALF_PI = np.pi / 2


@checked
def sample(
  key: PRNGKey,
  alpha: ArrayLike,
  shape: Sequence[int] = (),
  dtype: jax.typing.DTypeLike = jnp.float32,
  *,
  scale: ArrayLike = 1.0,
) -> Float[Array, '...']:
  """Symmetric alpha-stable draws, E exp(itX) = exp(-|scale t|^alpha).

  alpha = 2 is normal with variance 2 scale^2, alpha = 1 is Cauchy; both are
  members of the same code path.

  A jitted caller gets the numbers of an eager call, to the last bit, where the
  key is an argument of what is jitted. Of a key that it closes over the
  compiler folds what it can: at alpha = 0.5 one draw in twenty then differs, by
  at most 1e-6 of itself.

  Args:
    key: typed key.
    alpha: tail index in (0, 2], traced; broadcasts against `shape`.
    shape: static.
    dtype: float32 or float64.
    scale: >= 0, traced; broadcasts against `shape`.

  Returns:
    Array of shape `shape`, always finite for alpha in (0, 2] and finite scale.
    A draw beyond the largest number of the dtype, which happens in float32
    below alpha of about 0.2, is that number. Differentiable in alpha and scale
    for fixed randomness.

  Raises:
    ValueError: concrete alpha outside (0, 2], concrete scale negative, infinite
      or NaN, either one not broadcasting to `shape`, a negative entry of
      `shape`, dtype or key of another kind.

  Values: traced alpha outside (0, 2] (or so small that the dtype holds 0), or a
    traced scale that is negative, infinite or NaN, gives NaN.

  Source: [Chambers1976], eq. (2.3) with beta = 0.

  Examples:
    >>> import jax
    >>> from htjax import stable
    >>> x = stable.sample(jax.random.key(0), 1.5, (1000,))
    >>> x.shape, bool(abs(x).max() > 20)
    ((1000,), True)
  """
  key, dtype, shape = _check(key, alpha, 2.0, shape, dtype, scale)
  return _sample(key, alpha, scale, shape, dtype)


@functools.partial(jax.jit, static_argnums=(3, 4), inline=True)
def _sample(
  key: PRNGKey,
  alpha: ArrayLike,
  scale: ArrayLike,
  shape: _Shape,
  dtype: np.dtype,
  index: Array | None = None,
) -> Float[Array, '...']:
  alpha = _alpha(key, alpha, 2.0, shape, dtype)
  sign, near, far, w = angle_and_exponential(key, shape, dtype, index)
  # |U| = near in (0, pi/2); far = pi/2 - |U|, both to full precision.
  near, far = near * _HALF_PI, far * _HALF_PI
  gap = 2.0 - alpha
  sin_alpha = _positive(
    sine(jnp.minimum(alpha * near, gap * _HALF_PI + alpha * far))
  )
  cosine = sine(far)
  cos_rest = sine(far + jnp.minimum(alpha, gap) * near)
  magnitude = (sin_alpha / cosine) * power(
    cos_rest / (cosine * w), (1.0 - alpha) / alpha
  )
  # Overflow is cut before the scale too, because 0 * inf is NaN.
  x = _finite(_finite(magnitude) * _scale(scale, shape, dtype))
  return jnp.where(sign == 0, x, -x)


@checked
def sample_positive(
  key: PRNGKey,
  alpha: ArrayLike,
  shape: Sequence[int] = (),
  dtype: jax.typing.DTypeLike = jnp.float32,
) -> Float[Array, '...']:
  """One-sided alpha-stable draws, E exp(-sA) = exp(-s^alpha), s >= 0.

  Args:
    key: typed key.
    alpha: in (0, 1], traced; broadcasts against `shape`. alpha = 1 is A = 1.
    shape: static.
    dtype: float32 or float64.

  Returns:
    Array of shape `shape`, non-negative and finite; a draw beyond the largest
    number of the dtype is that number.

  Raises:
    ValueError: concrete alpha outside (0, 1], alpha not broadcasting to
      `shape`, dtype or key of another kind.

  Values: traced alpha outside (0, 1] gives NaN.

  Source: [Kanter1975], corollary 4.1.

  Examples:
    >>> import jax
    >>> from htjax import stable
    >>> a = stable.sample_positive(jax.random.key(0), 0.8, (1000,))
    >>> a.shape, bool((a >= 0).all())
    ((1000,), True)
  """
  key, dtype, shape = _check(key, alpha, 1.0, shape, dtype, 1.0)
  return _sample_positive(key, alpha, shape, dtype)


@functools.partial(jax.jit, static_argnums=(2, 3, 4), inline=True)
def _sample_positive(
  key: PRNGKey,
  alpha: ArrayLike,
  shape: _Shape,
  dtype: np.dtype,
  exponent: float = 1.0,
) -> Float[Array, '...']:
  """A^exponent, which may be in range where A is not."""
  alpha = _alpha(key, alpha, 1.0, shape, dtype)
  _, near, far, w = angle_and_exponential(key, shape, dtype)
  # The angle pi * near in (0, pi), and its distance from pi.
  near, far = near * np.pi, far * np.pi
  rest = 1.0 - alpha
  sin_alpha = _positive(
    sine(jnp.minimum(alpha * near, rest * np.pi + alpha * far))
  )
  middle = sine(jnp.minimum(near, far))
  sin_rest = sine(jnp.minimum(rest * near, alpha * np.pi + rest * far))
  # At alpha = 1 the last factor is 0^0 = 1.
  degenerate = rest == 0.0
  base = jnp.where(degenerate, 1.0, sin_rest / (middle * w))
  log_a = jnp.log(sin_alpha / middle) + (rest / alpha) * jnp.log(base)
  return _finite(jnp.where(degenerate, 1.0, jnp.exp(exponent * log_a)))


@checked
def sample_vectors(
  key: PRNGKey,
  alpha: ArrayLike,
  shape: Sequence[int],
  dtype: jax.typing.DTypeLike = jnp.float32,
  *,
  kind: str,
  axis: int | tuple[int, ...] = -1,
  scale: ArrayLike = 1.0,
) -> Float[Array, '...']:
  """Symmetric alpha-stable vectors of Type I, II or III.

  With Z a symmetric stable scalar of unit scale, a vector X along `axis` is
    'type1'  X = (1, .., 1) Z        E exp(i<u, X>) = exp(-|sum_i u_i|^alpha)
    'type2'  independent components                   exp(-sum_i |u_i|^alpha)
    'type3'  rotation invariant                       exp(-|u|^alpha)
  and scale multiplies X. At alpha = 2 Types II and III are N(0, 2 I), while
  Type I stays rank one.

  Args:
    key: typed key.
    alpha: in (0, 2], traced, a scalar.
    shape: static, of the whole array.
    dtype: float32 or float64.
    kind: 'type1', 'type2' or 'type3', static.
    axis: axis (or axes) along which one vector lies.
    scale: >= 0, traced; broadcasts against `shape`.

  Returns:
    Array of shape `shape`; vectors are independent of each other.

  Raises:
    ValueError: as `sample`; alpha not a scalar; unknown kind; an axis that
      `shape` does not have.

  Source: [IC], section 2; [Samorodnitsky1994], sec. 2.5.

  Examples:
    >>> import jax
    >>> from htjax import stable
    >>> x = stable.sample_vectors(jax.random.key(0), 1.5, (4, 3), kind='type1')
    >>> x.shape, bool((x[:, 0] == x[:, 2]).all())
    ((4, 3), True)
  """
  key, dtype, shape = _check(key, alpha, 2.0, shape, dtype, scale)
  axes = _check_vectors(alpha, shape, kind, axis)
  return _sample_vectors(key, alpha, scale, shape, dtype, kind, axes)


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6), inline=True)
def _sample_vectors(
  key: PRNGKey,
  alpha: ArrayLike,
  scale: ArrayLike,
  shape: _Shape,
  dtype: np.dtype,
  kind: str,
  axes: _Shape,
) -> Float[Array, '...']:
  one_each = tuple(1 if i in axes else s for i, s in enumerate(shape))
  if kind == 'type1':
    x = jnp.broadcast_to(_sample(key, alpha, 1.0, one_each, dtype), shape)
  elif kind == 'type2':
    return _sample(key, alpha, scale, shape, dtype)
  else:
    radius_key, normal_key = jax.random.split(key)
    half = jnp.asarray(alpha, dtype) / 2.0
    radius = _sample_positive(radius_key, half, one_each, dtype, 0.5)
    # Stable draws at alpha = 2 are sqrt(2) times a standard normal.
    x = _finite(radius * _sample(normal_key, 2.0, 1.0, shape, dtype))
  return _finite(x * _scale(scale, shape, dtype))


def sample_components(
  key: PRNGKey, alpha: ArrayLike, shape: _Shape, scale: Array, index: Array
) -> Float[Array, '...']:
  """Entries of `sample_vectors` of Type II, in the dtype of the scale.

  Args:
    key: typed key.
    alpha: in (0, 2], a scalar.
    shape: static, of the whole array.
    scale: >= 0, a scalar.
    index: uint32, flat indices of the entries.

  Returns:
    Array of the shape of `index`.
  """
  return _sample(key, alpha, scale, shape, scale.dtype, index)


@checked
def levy_increments(
  key: PRNGKey,
  alpha: ArrayLike,
  step_size: ArrayLike,
  num_steps: int,
  shape: Sequence[int],
  *,
  kind: str,
  axis: int | tuple[int, ...] = -1,
  dtype: jax.typing.DTypeLike = jnp.float32,
) -> Float[Array, 'num_steps ...']:
  """Increments of a stable Lévy process over consecutive equal steps.

  Each increment is step_size^(1/alpha) X with X from `sample_vectors`; sums
  of m neighbours are increments of the same path over steps m times as long.

  Args:
    key: typed key. The increment of step k depends on (key, k) alone.
    alpha: in (0, 2], traced.
    step_size: > 0, in units of time, traced.
    num_steps: static.
    shape: static, of one increment.
    kind: 'type1', 'type2' or 'type3'.
    axis: axis (or axes) of `shape` along which one vector lies.
    dtype: float32 or float64.

  Returns:
    Array of shape [num_steps, *shape].

  Raises:
    ValueError: as `sample_vectors`; num_steps < 1; concrete step_size <= 0 or
      infinite.

  Values: as `sample`; a traced step_size < 0 gives NaN.

  Source: [IC], section 2, definition of L_t.

  Examples:
    >>> import jax
    >>> from htjax import stable
    >>> steps = stable.levy_increments(
    ...   jax.random.key(0), 1.5, 0.01, 100, (2,), kind='type3'
    ... )
    >>> steps.shape, steps.reshape(50, 2, 2).sum(axis=1).shape
    ((100, 2), (50, 2))
  """
  check_count('num_steps', num_steps)
  check_number('step_size', step_size)
  check_range(
    'step_size', step_size, 0.0, np.inf, open_low=True, open_high=True
  )
  key, dtype, shape = _check(key, alpha, 2.0, shape, dtype, 1.0)
  axes = _check_vectors(alpha, shape, kind, axis)
  return _levy_increments(
    key, alpha, step_size, num_steps, shape, dtype, kind, axes
  )


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6, 7), inline=True)
def _levy_increments(
  key: PRNGKey,
  alpha: ArrayLike,
  step_size: ArrayLike,
  num_steps: int,
  shape: _Shape,
  dtype: np.dtype,
  kind: str,
  axes: _Shape,
) -> Float[Array, 'num_steps ...']:
  alpha = _alpha(key, alpha, 2.0, (), dtype)
  step_size = _argument(key, step_size, dtype)
  scale = step_size ** (1.0 / alpha)
  scale = jnp.where(step_size >= 0, scale, jnp.nan)

  def increment(k: Array) -> Array:
    step_key = jax.random.fold_in(key, k)
    return _sample_vectors(step_key, alpha, scale, shape, dtype, kind, axes)

  return jax.vmap(increment)(jnp.arange(num_steps))


def as_shape(shape: int | Sequence[int]) -> _Shape:
  """A shape as a tuple of counts, or a ValueError that names it."""
  sides = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
  for side in sides:
    check_count('every entry of shape', side, 0)
  return sides


def _check(
  key: Any,
  alpha: ArrayLike,
  highest: float,
  shape: int | Sequence[int],
  dtype: jax.typing.DTypeLike,
  scale: ArrayLike,
) -> tuple[PRNGKey, np.dtype, _Shape]:
  check_range('alpha', alpha, 0.0, highest, open_low=True)
  check_range('scale', scale, 0.0, np.inf, open_high=True)
  shape = as_shape(shape)
  for name, value in (('alpha', alpha), ('scale', scale)):
    _check_broadcast(name, np.shape(value), shape)
  return check_key(key), check_floating('dtype', dtype), shape


def _check_broadcast(name: str, given: _Shape, shape: _Shape) -> None:
  # One that is larger than `shape` would share randomness between entries.
  wide = len(given) - len(shape)
  if wide > 0 or any(
    g not in (1, s) for g, s in zip(given, shape[-wide:], strict=True)
  ):
    raise ValueError(
      f'{name} must broadcast to shape {shape}, got an array of shape {given}'
    )


def _check_vectors(
  alpha: ArrayLike, shape: _Shape, kind: str, axis: int | Sequence[int]
) -> _Shape:
  """The vector's axes, counted from the front."""
  check_choice('kind', kind, KINDS)
  if np.shape(alpha) != ():
    raise ValueError(
      f'alpha must be a scalar, got an array of shape {np.shape(alpha)}; vmap '
      'over it instead'
    )
  axes = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
  for a in axes:
    check_integer('axis', a)
    if not -len(shape) <= a < len(shape):
      raise ValueError(f'axis must be an axis of shape {shape}, got {axis}')
  return tuple(int(a) % len(shape) for a in axes)


def _argument(key: PRNGKey, value: ArrayLike, dtype: np.dtype) -> Array:
  """A non-negative number as an array of `dtype` that is no constant.

  The compiler folds constants into others, with other roundings than where
  they are arguments. It does not see that this maximum is `value`.
  """
  words = lax.optimization_barrier(jax.random.key_data(key)).reshape(-1)
  never = -1 - (words[0] >> np.uint32(1)).astype(jnp.int32).astype(dtype)
  return jnp.maximum(jnp.asarray(value, dtype), never)


def _alpha(
  key: PRNGKey,
  alpha: ArrayLike,
  highest: float,
  shape: _Shape,
  dtype: np.dtype,
) -> Float[Array, '...']:
  """As an array of `dtype`; an impossible alpha becomes NaN."""
  alpha = _argument(key, alpha, dtype)
  alpha = jnp.where((alpha > 0.0) & (alpha <= highest), alpha, jnp.nan)
  return _spread(alpha, shape)


def _scale(
  scale: ArrayLike, shape: _Shape, dtype: np.dtype
) -> Float[Array, '...']:
  """As an array of `dtype`; an impossible scale becomes NaN."""
  scale = jnp.asarray(scale, dtype)
  scale = jnp.where((scale >= 0.0) & (scale < jnp.inf), scale, jnp.nan)
  return _spread(scale, shape)


def _spread(x: Array, shape: _Shape) -> Array:
  # A scalar stays one, so that what depends on it alone is computed once.
  return x if x.ndim == 0 else jnp.broadcast_to(x, shape)


def angle_and_exponential(
  key: PRNGKey, shape: _Shape, dtype: np.dtype, index: Array | None = None
) -> tuple[
  UInt[Array, '*drawn'],
  Float[Array, '*drawn'],
  Float[Array, '*drawn'],
  Float[Array, '*drawn'],
]:
  """A sign bit, an angle as distances from both ends, an exponential.

  Returns (sign, near, far, w): sign has its top bit random, near and far are
  uniform on (0, 1) with near + far = 1 and neither ever 0, and w > 0 is
  exponential of mean 1 with full relative precision near 0. With an index,
  those of the elements of these flat indices.
  """
  if dtype == jnp.float32:
    ((a, b),) = word_pairs(key, shape, 1, index)
    sign, k = a & np.uint32(1 << 31), a & np.uint32((1 << 31) - 1)
    near, far = _both_ends(k, 31, dtype)
    return sign, near, far, exponential(b, 32, dtype)
  (a, b), (c, d) = word_pairs(key, shape, 2, index)
  sign = (a & np.uint32(1 << 31)).astype(jnp.uint64) << np.uint64(32)
  k = _join(a & np.uint32((1 << 31) - 1), b)
  near, far = _both_ends(k, 63, dtype)
  return sign, near, far, exponential(_join(c, d), 64, dtype)


def _join(high: Array, low: Array) -> Array:
  return (high.astype(jnp.uint64) << np.uint64(32)) | low.astype(jnp.uint64)


def _both_ends(
  k: UInt[Array, '*shape'], bits: int, dtype: np.dtype
) -> tuple[Float[Array, '*shape'], Float[Array, '*shape']]:
  """(k + 1/2) / 2^bits and its complement, each correctly rounded."""
  unit = dtype.type(2.0**-bits)
  mirrored = k.dtype.type((1 << bits) - 1) - k
  return (
    (to_float(k, dtype) + 0.5) * unit,
    (to_float(mirrored, dtype) + 0.5) * unit,
  )


def _positive(x: Array) -> Array:
  """Replace an underflow to 0, which would meet an infinite factor."""
  return jnp.maximum(x, jnp.finfo(x.dtype).tiny)


def _finite(value: Array) -> Array:
  """Replace overflow by the largest number; NaN stays NaN."""
  largest = jnp.finfo(value.dtype).max
  return jnp.clip(value, -largest, largest)
