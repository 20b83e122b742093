"""The result of every estimator of a tail index, and the checks they share."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_finite, check_range, is_concrete
from htjax.floats import as_working
from htjax.host import Working, is_spread, placed_freely, to_device
from htjax.types import Array, ArrayLike

# Below, Kolmogorov's law has probability less than 1e-12.
_NO_DISTANCE = 0.2
_KOLMOGOROV_TERMS = 50

# Samples that tell whether all are equal, unless they are.
_FEW = 64


class TailEstimate(NamedTuple):
  """A tail index, its standard error, and signs of a poor fit.

  All fields have shape [] and the dtype of the samples, `num_used` int32; what
  an estimator does not know is NaN.

  Attributes:
    alpha: tail index, P(|X| > x) ~ c x^-alpha. Not clamped: above 2, negative
      or infinite where the samples say so.
    standard_error: of alpha, under the estimator's own model; the 95 % interval
      is alpha +- 1.96 standard_error.
    num_used: how many independent terms the estimate averages over: blocks,
      or values in the tail, or samples.
    scale: scale of the fitted law: the threshold of a power law, or the scale
      of a stable one.
    ks_distance: Kolmogorov-Smirnov distance of the fitted law to the samples it
      was fitted to.
    p_value: of a test that the model holds; a small one says that alpha is not
      to be believed. Each estimator says which test it is.
  """

  alpha: Array
  standard_error: Array
  num_used: Array
  scale: Array
  ks_distance: Array
  p_value: Array

  @property
  def tail_index(self) -> Array:
    """alpha itself, P(|X| > x) ~ c x^-alpha."""
    return self.alpha

  @property
  def pdf_exponent(self) -> Array:
    """Exponent of the density, f(x) ~ c x^-(alpha + 1)."""
    return self.alpha + 1

  def capped(self, cap: ArrayLike = 2.0) -> 'TailEstimate':
    """This estimate with alpha at most `cap`, as the papers plot it.

    The standard error stays that of the estimate before the cap.

    Args:
      cap: > 0, traced.

    Raises:
      ValueError: a concrete cap that is not positive, or no number.

    Values: a traced cap that is not positive gives NaN.
    """
    check_cap(cap)
    cap = jnp.asarray(cap, self.alpha.dtype)
    cap = jnp.where(cap > 0, cap, jnp.nan)
    return self._replace(alpha=jnp.minimum(self.alpha, cap))


def check_cap(cap: ArrayLike | None) -> None:
  """Raise if a concrete largest alpha is not a positive number."""
  if cap is not None:
    check_range('cap', cap, 0.0, np.inf, open_low=True)


def make_estimate(
  alpha: Array,
  standard_error: Array,
  num_used: ArrayLike,
  *,
  scale: Array | None = None,
  ks_distance: Array | None = None,
  p_value: Array | None = None,
) -> TailEstimate:
  """A `TailEstimate` of arrays of alpha's dtype and shape; None is not known.

  To be called outside of compiled functions: what they return may be looked at
  for NaN, by `jax.debug_nans`, and what is not known is no fault.
  """

  def known(x: Array | None) -> Array:
    return unknown(alpha) if x is None else x

  return TailEstimate(
    alpha,
    standard_error,
    _count(num_used),
    known(scale),
    known(ks_distance),
    known(p_value),
  )


def host_estimate(
  kernel: Callable[..., dict[str, Any]],
  *args: Any,
  num_used: ArrayLike,
  dtype: Any,
) -> TailEstimate:
  """The `TailEstimate` of what a kernel returns that computes by NumPy.

  Args:
    kernel: (*args, xp) -> fields by name; it may divide by zero.
    *args: its arguments.
    num_used: of the estimate.
    dtype: of the samples.
  """
  with np.errstate(all='ignore'):
    known = kernel(*args, np)
    fields = {n: to_device(x, dtype) for n, x in known.items()}
  return make_estimate(**fields, num_used=num_used)


def unknown(like: Array) -> Array:
  """NaN of an array's shape and dtype that no computation has made."""
  return to_device(np.full(jnp.shape(like), np.nan, like.dtype))


def known_where(valid: Array, x: Array) -> Array:
  """`x` where it is valid, and what is not known elsewhere; shapes []."""
  if not is_concrete(valid):
    return jnp.where(valid, x, jnp.nan)
  return x if valid else unknown(x)


def _count(num: ArrayLike) -> Array:
  if is_concrete(num):
    return to_device(num, np.int32)
  return jnp.asarray(num, jnp.int32)


def working_samples(
  name: str,
  x: ArrayLike,
  ndim: int,
  least: int,
  *,
  finite: bool = True,
  stays: bool = False,
) -> Working:
  """Return `x` as floating with `ndim` axes and enough, usable samples.

  It is an array of NumPy where that is to do the work.

  Args:
    name: what to call it in messages.
    x: samples along the first axis.
    ndim: 1 for numbers, for which x of any shape is flattened; 2 for vectors.
    least: how many samples are needed.
    finite: whether to look for NaN and infinity; False leaves that to
      `check_determined`, where they would make alpha NaN.
    stays: whether an array that is spread over devices keeps its shape, and
      with it its place, though `ndim` is 1.

  Raises:
    ValueError: another rank, too few samples; concrete x that holds NaN or
      infinity, or has no two values of |x| that differ.
  """
  x = as_working(name, x)
  spread = is_spread(x)
  if spread:
    x = placed_freely(x)
  if ndim == 1 and not (spread and stays):
    x = x.reshape(-1)
  elif ndim == 2 and (x.ndim != 2 or x.shape[-1] == 0):
    raise ValueError(f'{name} must be of shape [K, d], d >= 1, got {x.shape}')
  num = x.size if ndim == 1 else x.shape[0]
  if num < least:
    raise ValueError(f'{name} must have at least {least} samples, got {num}')
  if spread:
    # Looked at where it lies.
    if finite:
      check_finite(name, x)
    low, high = (float(f(jnp.abs(x))) for f in (jnp.min, jnp.max))
    if low == high:
      raise ValueError(f'{name} must not be constant, got only +-{high:g}')
  elif is_concrete(x):
    values = np.asarray(x)
    if finite and not np.all(np.isfinite(values)):
      raise ValueError(f'{name} must be finite, got NaN or infinity')
    # Nearly always the first few settle it.
    for part in (values.flat[:_FEW], values):
      size = np.abs(part)
      if np.any(size != size.flat[0]):
        return x
    raise ValueError(
      f'{name} must not be constant, got only +-{size.flat[0]:g}'
    )
  return x


def check_determined(
  name: str, estimate: Any, x: ArrayLike | None = None
) -> Any:
  """Return a concrete estimate, or raise if ties or zeros left none.

  Args:
    name: of the samples, for the message.
    estimate: a `TailEstimate`.
    x: samples that have not been looked at for NaN and infinity.

  Raises:
    ValueError: alpha is NaN, infinite or 0.
  """
  alpha = estimate.alpha
  if is_concrete(alpha) and not (np.isfinite(alpha) and alpha != 0):
    if x is not None:
      check_finite(name, x)
    raise ValueError(
      f'{name} has too many equal or zero values where the tail is looked '
      f'for, the estimate is {float(alpha)}'
    )
  return estimate


def kolmogorov_p_value(distance: Any, num: Any, xp: Any = jnp) -> Any:
  """Limit of P(D > distance) for `num` samples of a continuous known law.

  2 sum_j (-1)^(j-1) exp(-2 j^2 num distance^2). Where the law was fitted to
  the same samples distances are smaller, so that this is too large: a small
  value is a clear sign of a poor fit, a large one is no proof of a good one.
  """
  statistic = xp.sqrt(xp.asarray(num, distance.dtype)) * distance
  j = xp.arange(1, _KOLMOGOROV_TERMS + 1, dtype=distance.dtype)
  safe = xp.maximum(statistic, _NO_DISTANCE)
  terms = xp.exp(-2 * (j * safe) ** 2)
  total = 2 * xp.sum(xp.where(j % 2 == 1, terms, -terms))
  p_value = xp.where(statistic < _NO_DISTANCE, 1.0, total)
  return xp.where(xp.isnan(statistic), xp.nan, xp.clip(p_value, 0, 1))


def two_sided_p_value(z: Any, xp: Any = jnp) -> Any:
  """P(|N(0, 1)| > |z|)."""
  if xp is np:
    return math.erfc(abs(z) / math.sqrt(2))
  return jax.scipy.special.erfc(jnp.abs(z) / np.sqrt(2.0).astype(z.dtype))
