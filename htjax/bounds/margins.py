"""Margins of a classifier, and losses that ask for a margin.

Their names are used from the package: `bounds.margins`, `bounds.margin_loss`
and `bounds.ramp_loss`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from htjax.bounds.arguments import as_array, as_numbers
from htjax.checks import check_finite, check_range, checked
from htjax.types import Array, ArrayLike


@checked
def margins(logits: ArrayLike, labels: ArrayLike) -> Array:
  """Margins f[y] - max_{j != y} f[j] of a classifier's outputs.

  Args:
    logits: [n, k], k >= 2 classes, n >= 1, float, finite.
    labels: integers in [0, k), [n].

  Returns:
    [n], dtype of `logits`. A traced label out of range gives NaN.

  Raises:
    ValueError: for other shapes or types, labels out of range, logits that are
      not finite.

  Source: [HT], before eq. (6).
  """
  logits, labels = as_array('logits', logits), as_array('labels', labels)
  if logits.ndim != 2 or logits.shape[0] < 1 or logits.shape[1] < 2:
    raise ValueError(
      f'logits must be [n, k] with n >= 1 and k >= 2, got {logits.shape}'
    )
  if labels.shape != logits.shape[:1] or not jnp.issubdtype(
    labels.dtype, jnp.integer
  ):
    raise ValueError(
      f'labels must be {logits.shape[0]} integers, got {labels.dtype} '
      f'{labels.shape}'
    )
  if not jnp.issubdtype(logits.dtype, jnp.floating):
    raise ValueError(f'logits must be floating, got {logits.dtype}')
  check_finite('logits', logits)
  check_range('labels', labels, 0, logits.shape[1] - 1)
  return _margins(logits, labels)


@jax.jit
def _margins(logits: Array, labels: Array) -> Array:
  own = jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
  true = jnp.max(jnp.where(own, logits, -jnp.inf), axis=1)
  rival = jnp.max(jnp.where(own, -jnp.inf, logits), axis=1)
  return jnp.where(jnp.any(own, axis=1), true - rival, jnp.nan)


@checked
def margin_loss(
  logits: ArrayLike, labels: ArrayLike, gamma: ArrayLike = 0.0
) -> Array:
  """Fraction of examples whose margin is at most gamma.

  Args:
    logits: [n, k], finite.
    labels: integers in [0, k), [n].
    gamma: >= 0, traced; 0 counts ties as errors.

  Returns:
    Float [], in [0, 1]; NaN for a traced NaN in `logits` or `gamma`.

  Raises:
    ValueError: for other shapes or types, labels out of range, logits that are
      not finite, or if gamma is concrete and negative.

  Source: [HT], eq. (6); [SH], eq. (1).
  """
  distance = margins(logits, labels)
  gamma = _threshold('gamma', gamma, distance.dtype)
  loss = jnp.where(distance <= gamma, 1, 0).astype(distance.dtype)
  return jnp.mean(jnp.where(jnp.isnan(distance - gamma), jnp.nan, loss))


@checked
def ramp_loss(
  logits: ArrayLike, labels: ArrayLike, gamma: ArrayLike, tau: ArrayLike
) -> Array:
  """Mean loss falling from 1 at margin gamma to 0 at gamma + tau.

  It lies between the margin losses at gamma and at gamma + tau, and moves by at
  most sqrt(2) / tau times the change of an output in l_2.

  Args:
    logits: [n, k], finite.
    labels: integers in [0, k), [n].
    gamma: >= 0, traced.
    tau: > 0, traced.

  Returns:
    Float [], in [0, 1]; NaN for a traced NaN.

  Raises:
    ValueError: for other shapes or types, labels out of range, logits that are
      not finite, or for a concrete gamma < 0 or tau <= 0.

  Source: [HT], eq. (S27).
  """
  distance = margins(logits, labels)
  gamma = _threshold('gamma', gamma, distance.dtype)
  tau = _threshold('tau', tau, distance.dtype, open_low=True)
  return jnp.mean(jnp.clip(1 - (distance - gamma) / tau, 0, 1))


def empirical_margin_loss(
  distances: ArrayLike, log_gamma: float
) -> tuple[float, int]:
  """Fraction of margins at most exp(log_gamma), and how many there are.

  Args:
    distances: margins on the host, finite, [n], n >= 1.
    log_gamma: logarithm of the threshold, -inf for 0.

  Returns:
    (fraction, n).

  Raises:
    ValueError: for no margins, or margins that are not finite real numbers.
  """
  array = as_numbers('margins', distances)
  if array.ndim != 1 or array.size == 0:
    raise ValueError(
      f'margins must be a list of at least one number, got {array.shape}'
    )
  if not np.all(np.isfinite(array)):
    raise ValueError('margins must be finite, got NaN or infinity')
  logs = np.log(array, where=array > 0, out=np.full(array.size, -math.inf))
  return float(np.mean(logs <= log_gamma)), array.size


def _threshold(
  name: str, value: ArrayLike, dtype: Any, *, open_low: bool = False
) -> Array:
  array = as_array(name, value)
  if array.ndim:
    raise ValueError(f'{name} must be one number, got shape {array.shape}')
  check_range(name, array, 0, math.inf, open_low=open_low)
  return array.astype(dtype)
