"""Fractional moments of the symmetric alpha-stable law."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln

from htjax.checks import check_range, checked
from htjax.floats import as_floating, result_dtype
from htjax.types import Array, ArrayLike


@checked
def absolute_moment(
  order: ArrayLike, alpha: ArrayLike, *, scale: ArrayLike = 1.0
) -> Array:
  """E |X|^p, which exists for -1 < p < alpha, at alpha = 2 for all p > -1.

  scale^p 2^p Gamma((1 + p) / 2) Gamma(1 - p / alpha) / (sqrt(pi)
  Gamma(1 - p / 2)).

  Args:
    order: p, real, any shape, traced; broadcasts against alpha and scale.
    alpha: tail index in (0, 2], traced.
    scale: > 0, traced.

  Returns:
    Array of the broadcast shape; infinite where the moment does not exist.

  Raises:
    ValueError: concrete alpha outside (0, 2] or scale not positive.

  Values: NaN in p, and traced alpha or scale out of range, give NaN.

  Source: [Samorodnitsky1994], property 1.2.17; [HT], section 2 (moments).

  Examples:
    >>> from htjax import stable
    >>> print(f'{stable.absolute_moment(1.0, 1.5):.4f}')
    1.7055
    >>> float(stable.absolute_moment(1.5, 1.5))
    inf
  """
  check_range('alpha', alpha, 0.0, 2.0, open_low=True)
  check_range('scale', scale, 0.0, np.inf, open_low=True, open_high=True)
  dtype = result_dtype(order, alpha, scale)
  with jax.numpy_dtype_promotion('standard'):
    wide = jnp.promote_types(dtype, jnp.float32)
  law = (
    as_floating(name, value, vanish=name == 'order').astype(wide)
    for name, value in (('order', order), ('alpha', alpha), ('scale', scale))
  )
  return _absolute_moment(*law).astype(dtype)


@jax.jit
def _absolute_moment(p: Array, alpha: Array, scale: Array) -> Array:
  p, alpha, scale = jnp.broadcast_arrays(p, alpha, scale)
  exists = (p > -1) & ((p < alpha) | (alpha == 2))
  safe = jnp.where(exists, p, 0.0)
  # At alpha = 2 both are one, also at their poles.
  stable = jnp.where(alpha < 2, safe, 0.0)
  log = safe * jnp.log(2 * scale) + gammaln((1 + safe) / 2)
  log += gammaln(1 - stable / alpha) - gammaln(1 - stable / 2)
  value = jnp.where(exists, jnp.exp(log) / np.sqrt(np.pi), jnp.inf)
  possible = (alpha > 0) & (alpha <= 2) & (scale > 0) & (scale < jnp.inf)
  return jnp.where(possible & ~jnp.isnan(p), value, jnp.nan)
