"""What every estimator of a tail index returns, and the checks they share."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import is_concrete
from htjax.compressibility import as_floating
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
    """The same with alpha at most `cap`, as the papers plot it.

    The standard error stays that of the estimate before the cap.
    """
    return self._replace(alpha=jnp.minimum(self.alpha, cap))


def make_estimate(
  alpha: Array,
  standard_error: ArrayLike,
  num_used: ArrayLike,
  *,
  scale: ArrayLike = jnp.nan,
  ks_distance: ArrayLike = jnp.nan,
  p_value: ArrayLike = jnp.nan,
) -> TailEstimate:
  """A `TailEstimate` of arrays of alpha's dtype."""
  numbers = (scale, ks_distance, p_value)
  return TailEstimate(
    alpha,
    jnp.asarray(standard_error, alpha.dtype),
    jnp.asarray(num_used, jnp.int32),
    *(jnp.asarray(x, alpha.dtype) for x in numbers),
  )


def check_samples(
  name: str, x: ArrayLike, ndim: int, least: int, *, finite: bool = True
) -> Array:
  """Return `x` as floating with `ndim` axes and enough, usable samples.

  Args:
    name: what to call it in messages.
    x: samples along the first axis.
    ndim: 1 for numbers, for which x of any shape is flattened; 2 for vectors.
    least: how many samples are needed.
    finite: whether to look for NaN and infinity; False leaves that to
      `check_determined`, where they would make alpha NaN.

  Raises:
    ValueError: another rank, too few samples; concrete x that holds NaN or
      infinity, or has no two values of |x| that differ.
  """
  x = as_floating(name, x)
  if ndim == 1:
    x = x.reshape(-1)
  elif x.ndim != ndim or x.shape[-1] == 0:
    raise ValueError(f'{name} must be of shape [K, d], d >= 1, got {x.shape}')
  if x.shape[0] < least:
    raise ValueError(
      f'{name} must have at least {least} samples, got {x.shape[0]}'
    )
  if is_concrete(x):
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
    if x is not None and not np.all(np.isfinite(x)):
      raise ValueError(f'{name} must be finite, got NaN or infinity')
    raise ValueError(
      f'{name} has too many equal or zero values where the tail is looked '
      f'for, the estimate is {float(alpha)}'
    )
  return estimate


@jax.jit
def kolmogorov_p_value(distance: Array, num: ArrayLike) -> Array:
  """Limit of P(D > distance) for `num` samples of a continuous known law.

  2 sum_j (-1)^(j-1) exp(-2 j^2 num distance^2). Where the law was fitted to
  the same samples distances are smaller, so that this is too large: a small
  value is a clear sign of a poor fit, a large one is no proof of a good one.
  """
  statistic = jnp.sqrt(jnp.asarray(num, distance.dtype)) * distance
  j = jnp.arange(1, _KOLMOGOROV_TERMS + 1, dtype=distance.dtype)
  safe = jnp.maximum(statistic, _NO_DISTANCE)
  terms = jnp.exp(-2 * (j * safe) ** 2)
  total = 2 * jnp.sum(jnp.where(j % 2 == 1, terms, -terms))
  p_value = jnp.where(statistic < _NO_DISTANCE, 1.0, total)
  return jnp.where(jnp.isnan(statistic), jnp.nan, jnp.clip(p_value, 0, 1))


def two_sided_p_value(z: Array) -> Array:
  """P(|N(0, 1)| > |z|)."""
  return jax.scipy.special.erfc(jnp.abs(z) / np.sqrt(2.0).astype(z.dtype))
