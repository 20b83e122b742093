"""Best k-term approximation, its error, and the fraction an error needs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.checks import (
  check_range,
  checked,
  is_concrete,
)
from htjax.compressibility.arguments import (
  check_kappa,
  check_order,
  nonempty,
  or_nan,
)
from htjax.compressibility.costs import (
  last_true,
  num_removable_of_spread,
  removal_cost,
)
from htjax.compressibility.counts import Kept, kept_count
from htjax.compressibility.host_costs import Removal
from htjax.compressibility.kth_largest import largest
from htjax.floats import as_floating, to_unit_peak
from htjax.host import is_spread, on_host, to_device
from htjax.types import Array, ArrayLike


@checked
def best_k(x: ArrayLike, k: ArrayLike) -> Array:
  """Best k-term approximation: the k largest magnitudes, zero elsewhere.

  Args:
    x: real array of any shape; entries are ranked over the whole array.
    k: how many entries to keep, an integer in [0, x.size], traced.

  Returns:
    Array of x's shape with exactly min(k, x.size) entries of x, and zeros. Of
    equal magnitudes the first in row-major order is kept.

  Raises:
    ValueError: k of another shape than [] or not an integer; a concrete k out
      of range; x complex.

  Values: NaN ranks above everything. A traced k out of range gives NaN.

  Source: [HT], section 3.2; [IC], Definition D.1;
    [Gribonval2012], section I.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import compressibility
    >>> compressibility.best_k(jnp.array([3.0, -1.0, 0.5, -2.0]), 2).tolist()
    [3.0, 0.0, 0.0, -2.0]
  """
  x = as_floating('x', x)
  if jnp.shape(k) != () or not jnp.issubdtype(jnp.result_type(k), jnp.integer):
    raise ValueError(f'k must be one integer, got {k!r}')
  check_range('k', k, 0, x.size)
  return _best_k(x, k)


@checked
def compression_error(
  x: ArrayLike, kappa: Kept, *, p: float = 2, rounding: str = 'ceil'
) -> Array:
  """Relative l_p error of keeping the fraction kappa of largest magnitudes.

  |x - best_k(x, k)|_p / |x|_p with k = ceil(kappa d), d = x.size. A kappa d
  within two roundings of an integer is that integer: kappa = 0.1 of 10 is 1.

  Args:
    x: real array of any shape, not empty, taken as one vector.
    kappa: kept fraction in (0, 1], traced, or `AllBut` the share that goes; an
      array gives a curve, at the cost of one sort and one pass over x per
      entry.
    p: order of the norm, static, 0 < p < infinity.
    rounding: 'ceil' or 'floor'; with 'floor', kappa < 1/d keeps nothing.

  Returns:
    Array of kappa's shape and x's dtype, in [0, 1]; 0 for x = 0.

  Raises:
    ValueError: x empty or complex, p not a positive number, unknown rounding,
      a concrete kappa outside (0, 1].

  Values: NaN or infinity in x gives NaN, as does a traced kappa outside [0, 1].

  Source: [HT], eq. (S43).

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import compressibility
    >>> x = jnp.array([3.0, 4.0, 0.0, 0.0])
    >>> kappas = jnp.array([0.25, 0.5])
    >>> print(compressibility.compression_error(x, kappas).round(3))
    [0.6 0. ]
  """
  x = nonempty('x', x)
  check_order(p)
  check_kappa(kappa)
  removed = x.size - kept_count(kappa, x.size, rounding)
  if on_host(x, removed):
    costs = curve_of(Removal(ascending(x), p), removed)
    return or_nan(to_device(costs, x.dtype), kappa)
  return or_nan(errors_of_removal(x, removed, p), kappa)


@checked
def smallest_kappa(x: ArrayLike, epsilon: ArrayLike, *, p: float = 2) -> Array:
  """Smallest kept fraction whose relative l_p error is at most epsilon.

  Args:
    x: real array of any shape, not empty, taken as one vector.
    epsilon: relative error, not squared, in [0, 1], traced; an array gives a
      curve.
    p: order of the norm, static, 0 < p < infinity.

  Returns:
    Array of epsilon's shape and x's dtype: a multiple of 1 / x.size. It is 0
    for x = 0 and for epsilon = 1.

  Raises:
    ValueError: x empty or complex, p not a positive number, a concrete epsilon
      outside [0, 1].

  Values: NaN or infinity in x gives NaN, as does a traced epsilon outside
    [0, 1].

  Source: [HT], eq. (S5).

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import compressibility
    >>> x = jnp.array([3.0, 4.0, 0.0, 0.0])
    >>> float(compressibility.smallest_kappa(x, 0.7))
    0.25
  """
  x = nonempty('x', x)
  check_order(p)
  check_range('epsilon', epsilon, 0.0, 1.0)
  if is_spread(x) and is_concrete(epsilon):
    return or_nan(
      _kappas_of_spread(x, np.asarray(epsilon, x.dtype), p), epsilon
    )
  if on_host(x, epsilon):
    bounds = np.asarray(epsilon, x.dtype)
    kappas = kappas_of(Removal(ascending(x), p), bounds)
    return or_nan(to_device(kappas, x.dtype), epsilon)
  return or_nan(_smallest_kappa(x, jnp.asarray(epsilon, x.dtype), p), epsilon)


def curve_of(cost: Removal, removed: ArrayLike) -> np.ndarray:
  """Errors without so many smallest entries, by NumPy."""
  counts = np.asarray(removed)
  costs = [cost(int(m)) for m in counts.flat]
  return np.reshape(costs, counts.shape)


def kappas_of(cost: Removal, bounds: np.ndarray) -> np.ndarray:
  """Smallest kept fractions for bounds on the error, by NumPy."""
  n = cost.entries.size
  if not np.isfinite(cost.highest):
    return np.full(bounds.shape, np.nan)
  kept = [n - cost.last_within(bound) for bound in bounds.flat]
  return np.reshape(kept, bounds.shape) / n


def ascending(x: ArrayLike) -> np.ndarray:
  """The sorted magnitudes of an array that is not empty, by NumPy."""
  # In place, for x may be large.
  sizes = np.abs(x).reshape(-1)
  sizes.sort()
  return sizes


def _kappas_of_spread(x: Array, bounds: np.ndarray, p: float) -> Array:
  """`_smallest_kappa` of an array that is spread over devices, by counts."""
  sizes = jnp.abs(x)
  going = [num_removable_of_spread(sizes, b, False, p) for b in bounds.flat]
  kept = [x.size - int(num) for num in going]
  kappas = np.reshape(kept, bounds.shape) / x.size
  # A largest one over devices may lose a NaN.
  finite = bool(jnp.all(jnp.isfinite(x)))
  return to_device(kappas if finite else np.full(bounds.shape, np.nan), x.dtype)


@jax.jit
def _best_k(x: Array, k: Array) -> Array:
  kept = jnp.where(largest(jnp.abs(x), k), x, 0)
  return jnp.where((k >= 0) & (k <= x.size), kept, jnp.nan)


@functools.partial(jax.jit, static_argnames='p')
def errors_of_removal(x: Array, removed: Array, p: float) -> Array:
  """Relative l_p errors without so many smallest entries, at each count."""
  x, _ = to_unit_peak(x)
  ascending = jnp.sort(jnp.abs(x).reshape(-1))
  removed = jnp.asarray(removed)
  errors = lax.map(removal_cost(ascending, p), removed.reshape(-1))
  return errors.reshape(removed.shape)


@functools.partial(jax.jit, static_argnames='p')
def _smallest_kappa(x: Array, epsilon: Array, p: float) -> Array:
  x, _ = to_unit_peak(x)
  ascending = jnp.sort(jnp.abs(x).reshape(-1))
  cost, d = removal_cost(ascending, p), ascending.size

  def kept(bound: Array) -> Array:
    m = last_true(lambda m: cost(m) <= bound, d)
    return (d - m).astype(x.dtype) / d

  kappa = lax.map(kept, epsilon.reshape(-1)).reshape(epsilon.shape)
  return jnp.where(jnp.isfinite(ascending[-1]), kappa, jnp.nan)
