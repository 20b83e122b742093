"""Power laws of whole numbers: the zeta law.

P(X = k) = k^-(alpha + 1) / zeta(alpha + 1, k_0) from k_0 on, where zeta(s, q) =
sum_n (q + n)^-s is Hurwitz' function; alpha is the tail index, one less than
the exponent. Draws are traced; the functions are evaluated on the host, in
float64.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from htjax import tail_index
from htjax.checks import check_count, check_floating, check_key, checked
from htjax.laws.arguments import numbers, parameter
from htjax.stable.draws import as_shape
from htjax.tail_index import discrete_power_laws
from htjax.types import Array, ArrayLike, PRNGKey

__all__ = ['fit', 'pmf', 'sample', 'sf']

# Of alpha: beyond, the terms of the sum leave the range of float32.
_HIGH = 30.0


@checked
def sample(
  key: PRNGKey,
  alpha: float,
  shape: Sequence[int] = (),
  dtype: jax.typing.DTypeLike = jnp.float32,
  *,
  xmin: int = 1,
) -> Array:
  """Draws, exact but for rounding: numbers above 2^24 are not all float32.

  Args:
    key: typed key.
    alpha: tail index in (0, 30], one number.
    shape: static.
    dtype: float32 or float64, of the whole numbers.
    xmin: k_0 >= 1.

  Returns:
    Array of shape `shape`, whole numbers.

  Raises:
    ValueError: numbers out of range, a bad key, shape or dtype.

  Source: [Clauset2009], appendix D.

  Examples:
    >>> import jax
    >>> from htjax import laws
    >>> k = laws.zeta.sample(jax.random.key(0), 1.5, (1000,))
    >>> float(k.min()), bool((k == k.round()).all())
    (1.0, True)
  """
  key = check_key(key)
  alpha = parameter('alpha', alpha, 0, _HIGH, open_low=True)
  check_count('xmin', xmin)
  sides = as_shape(shape)
  dtype = check_floating('dtype', dtype)
  law = jnp.asarray(alpha, dtype), jnp.asarray(xmin, dtype)
  return _sample(key, *law, sides)


@checked
def pmf(k: ArrayLike, alpha: float, *, xmin: int = 1) -> np.ndarray:
  """P(X = k).

  Args:
    k: real, any shape.
    alpha: tail index in (0, 30].
    xmin: k_0 >= 1.

  Returns:
    float64 of k's shape, 0 below k_0 and where k is not whole.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [Clauset2009], Table 2.1.

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.zeta.pmf(1, 1.0):.4f}')  # 6 / pi^2
    0.6079
  """
  from scipy import special

  k = numbers('k', k)
  alpha = parameter('alpha', alpha, 0, _HIGH, open_low=True)
  check_count('xmin', xmin)
  inside = (k >= xmin) & (k == np.round(k))
  size = np.where(inside, k, xmin) ** -(alpha + 1)
  value = size / special.zeta(alpha + 1, xmin)
  return np.where(np.isnan(k), k, np.where(inside, value, 0.0))


@checked
def sf(k: ArrayLike, alpha: float, *, xmin: int = 1) -> np.ndarray:
  """P(X > k), with relative precision.

  Args:
    k: real, any shape.
    alpha: tail index in (0, 30].
    xmin: k_0 >= 1.

  Returns:
    float64 of k's shape.

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [Clauset2009], Table 2.1.

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.zeta.sf(1, 1.0):.4f}')  # 1 - 6 / pi^2
    0.3921
  """
  from scipy import special

  k = numbers('k', k)
  alpha = parameter('alpha', alpha, 0, _HIGH, open_low=True)
  check_count('xmin', xmin)
  first = np.maximum(np.floor(k) + 1, xmin)
  tail = special.zeta(alpha + 1, np.where(np.isfinite(first), first, xmin))
  tail = np.where(first == math.inf, 0.0, tail / special.zeta(alpha + 1, xmin))
  return np.where(np.isnan(k), k, tail)


@checked
def fit(k: ArrayLike, *, xmin: int | None = None) -> tail_index.TailEstimate:
  """Tail index of whole numbers by maximum likelihood.

  Args:
    k: samples, whole numbers > 0, any shape.
    xmin: k_0 >= 1; None searches for the one of least Kolmogorov-Smirnov
      distance.

  Returns:
    TailEstimate, with k_0 as its scale: `tail_index.power_law`, discrete.

  Raises:
    ValueError: too few samples, or some that are not whole.

  Source: [Clauset2009], eq. (3.5).

  Examples:
    >>> import jax
    >>> from htjax import laws
    >>> k = laws.zeta.sample(jax.random.key(0), 1.5, (4000,))
    >>> estimate = laws.zeta.fit(k, xmin=1)
    >>> bool(abs(estimate.alpha - 1.5) < 5 * estimate.standard_error)
    True
  """
  return tail_index.power_law(numbers('k', k), xmin, discrete=True)


@functools.partial(jax.jit, static_argnums=3)
def _sample(
  key: PRNGKey, alpha: Array, xmin: Array, shape: tuple[int, ...]
) -> Array:
  size = math.prod(shape)
  if size == 0:
    return jnp.zeros(shape, alpha.dtype)
  return discrete_power_laws.draw(key, alpha, xmin, size).reshape(shape)
