"""Power laws of real numbers, P(X > x) = (x_min / x)^alpha from x_min on.

The density is alpha x_min^alpha x^-(alpha + 1): alpha is the tail index, one
less than the exponent of the density. Symmetrised, |X| has the law and the sign
is random. `zeta` has whole numbers. Draws are traced; the functions are
evaluated on the host, in float64.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from htjax import tail_index
from htjax.checks import check_floating, check_key, check_range, checked
from htjax.laws.arguments import numbers, positive, probabilities
from htjax.stable.draws import as_shape
from htjax.types import Array, ArrayLike, PRNGKey

__all__ = ['cdf', 'fit', 'pdf', 'quantile', 'sample', 'sf']


@checked
def sample(
  key: PRNGKey,
  alpha: ArrayLike,
  shape: Sequence[int] = (),
  dtype: jax.typing.DTypeLike = jnp.float32,
  *,
  xmin: ArrayLike = 1.0,
  symmetric: bool = False,
) -> Array:
  """Draws, x_min e^(E / alpha) with E exponential.

  Args:
    key: typed key.
    alpha: tail index > 0, traced, one number.
    shape: static.
    dtype: float32 or float64.
    xmin: x_min > 0, traced, one number.
    symmetric: whether signs are random, static.

  Returns:
    Array of shape `shape`, finite; a draw beyond the largest number of the
    dtype is that number.

  Raises:
    ValueError: concrete numbers out of range, a bad key, shape or dtype.

  Values: traced numbers out of range give NaN.

  Source: [SH], section 1 (power laws).

  Examples:
    >>> import jax
    >>> from htjax import laws
    >>> x = laws.pareto.sample(jax.random.key(0), 1.5, (1000,), xmin=2.0)
    >>> bool(x.min() >= 2), bool(x.max() > 40)
    (True, True)
  """
  key = check_key(key)
  for name, value in (('alpha', alpha), ('xmin', xmin)):
    check_range(name, value, 0.0, np.inf, open_low=True, open_high=True)
  sides = as_shape(shape)
  dtype = check_floating('dtype', dtype)
  law = jnp.asarray(alpha, dtype), jnp.asarray(xmin, dtype)
  return _sample(key, *law, sides, dtype, symmetric)


@checked
def pdf(
  x: ArrayLike, alpha: float, *, xmin: float = 1.0, symmetric: bool = False
) -> np.ndarray:
  """Density at x.

  Args:
    x: real, any shape.
    alpha: tail index > 0.
    xmin: x_min > 0.
    symmetric: whether signs are random.

  Returns:
    float64 of x's shape, 0 below x_min.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [SH], section 1 (power laws).

  Examples:
    >>> from htjax import laws
    >>> float(laws.pareto.pdf(2.0, 1.0))
    0.25
  """
  x, alpha, xmin = _arguments(x, alpha, xmin)
  size = np.abs(x) if symmetric else x
  ratio = xmin / np.maximum(size, xmin)
  value = alpha / np.maximum(size, xmin) * ratio**alpha
  return np.where(np.isnan(x), x, np.where(size < xmin, 0.0, value)) / (
    2 if symmetric else 1
  )


@checked
def sf(
  x: ArrayLike, alpha: float, *, xmin: float = 1.0, symmetric: bool = False
) -> np.ndarray:
  """P(X > x).

  Args:
    x: real, any shape; infinities are allowed.
    alpha: tail index > 0.
    xmin: x_min > 0.
    symmetric: whether signs are random.

  Returns:
    float64 of x's shape, with relative precision in the upper tail.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [SH], section 1 (power laws).

  Examples:
    >>> from htjax import laws
    >>> float(laws.pareto.sf(4.0, 1.5))
    0.125
  """
  x, alpha, xmin = _arguments(x, alpha, xmin)
  if symmetric:
    half = _beyond(np.abs(x), alpha, xmin) / 2
    return np.where(x >= 0, half, 1 - half)
  return _beyond(x, alpha, xmin)


@checked
def cdf(
  x: ArrayLike, alpha: float, *, xmin: float = 1.0, symmetric: bool = False
) -> np.ndarray:
  """P(X <= x).

  Args:
    x: real, any shape; infinities are allowed.
    alpha: tail index > 0.
    xmin: x_min > 0.
    symmetric: whether signs are random.

  Returns:
    float64 of x's shape; of a symmetric law with relative precision in the
    lower tail, else near x_min.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [SH], section 1 (power laws).

  Examples:
    >>> from htjax import laws
    >>> float(laws.pareto.cdf(4.0, 1.5))
    0.875
  """
  x, alpha, xmin = _arguments(x, alpha, xmin)
  if symmetric:
    half = _beyond(np.abs(x), alpha, xmin) / 2
    return np.where(x >= 0, 1 - half, half)
  log_ratio = np.log(np.maximum(x, xmin) / xmin)
  return np.where(np.isnan(x), x, -np.expm1(-alpha * log_ratio))


@checked
def quantile(
  q: ArrayLike, alpha: float, *, xmin: float = 1.0, symmetric: bool = False
) -> np.ndarray:
  """The x with P(X <= x) = q.

  Args:
    q: probability in [0, 1], any shape.
    alpha: tail index > 0.
    xmin: x_min > 0.
    symmetric: whether signs are random; 1/2 is then x_min.

  Returns:
    float64 of q's shape; infinite at q = 1, and at q = 0 of a symmetric law.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: the inverse of `cdf`.

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.pareto.quantile(0.875, 1.5):.4f}')
    4.0000
  """
  q = probabilities('q', q)
  alpha, xmin = positive('alpha', alpha), positive('xmin', xmin)
  tail = 2 * np.minimum(q, 1 - q) if symmetric else 1 - q
  with np.errstate(divide='ignore', over='ignore'):
    size = xmin * tail ** (-1 / alpha)
  return np.where(q < 0.5, -size, size) if symmetric else size


@checked
def fit(
  x: ArrayLike, *, xmin: float | None = None, symmetric: bool = False
) -> tail_index.TailEstimate:
  """Tail index of samples by maximum likelihood.

  `tail_index.power_law` under the sign convention of this module: without
  `symmetric` only positive samples count, as in the authors' fits of the
  positive weights alone.

  Args:
    x: samples, any shape.
    xmin: x_min > 0; None searches for the one of least Kolmogorov-Smirnov
      distance.
    symmetric: whether to fit |x|.

  Returns:
    TailEstimate, with x_min as its scale.

  Raises:
    ValueError: too few samples, or traced ones.

  Source: [SH], Table 1; [Clauset2009], eq. (3.1).

  Examples:
    >>> import jax
    >>> from htjax import laws
    >>> x = laws.pareto.sample(jax.random.key(0), 1.5, (4000,))
    >>> estimate = laws.pareto.fit(x, xmin=1.0)
    >>> bool(abs(estimate.alpha - 1.5) < 5 * estimate.standard_error)
    True
  """
  values = np.ravel(numbers('x', x))
  values = np.abs(values) if symmetric else values[values > 0]
  return tail_index.power_law(values, xmin, discrete=False)


def _arguments(
  x: ArrayLike, alpha: float, xmin: float
) -> tuple[np.ndarray, float, float]:
  return numbers('x', x), positive('alpha', alpha), positive('xmin', xmin)


def _beyond(x: np.ndarray, alpha: float, xmin: float) -> np.ndarray:
  return np.where(np.isnan(x), x, (xmin / np.maximum(x, xmin)) ** alpha)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _sample(
  key: PRNGKey,
  alpha: Array,
  xmin: Array,
  shape: tuple[int, ...],
  dtype: np.dtype,
  symmetric: bool,
) -> Array:
  size_key, sign_key = jax.random.split(key)
  possible = (alpha > 0) & (xmin > 0) & jnp.isfinite(alpha + xmin)
  log = jax.random.exponential(size_key, shape, dtype) / alpha
  size = jnp.minimum(xmin * jnp.exp(log), jnp.finfo(dtype).max)
  if symmetric:
    size *= jax.random.rademacher(sign_key, shape, dtype)
  return jnp.where(possible, size, jnp.nan)
