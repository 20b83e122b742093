"""Pruning ratios: the columns that a share of the squared norm pays for.

A column is an index of the last axis: [fan_in, n] for dense layers, filters
[h, w, in, n] for convolutions.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax import stable
from htjax.checks import (
  check_count,
  check_key,
  check_number,
  check_range,
  checked,
)
from htjax.compressibility import host_costs
from htjax.compressibility.arguments import (
  check_matrix,
  columns_of,
  nonempty,
  or_nan,
)
from htjax.compressibility.costs import (
  last_true,
  num_removable_of_spread,
  raised,
  removal_cost,
  root,
)
from htjax.floats import as_floating, to_unit_peak
from htjax.host import is_spread, on_host, to_device
from htjax.types import Array, ArrayLike, PRNGKey

# Numbers of invisible noise that are drawn by one call.
_AT_ONCE = 1 << 22


@checked
def pruning_ratio(
  matrix: ArrayLike, *, tolerance: ArrayLike = 0.1, squared: bool = True
) -> Array:
  """Largest fraction of columns whose removal costs at most `tolerance`.

  The columns of smallest l_2 norm go first, for as long as the squared norm of
  what is removed is at most `tolerance` times the squared Frobenius norm;
  equality is removed too.

  Args:
    matrix: [fan_in, n] or filters [h, w, in, n]; real, not empty.
    tolerance: in [0, 1], traced.
    squared: whether `tolerance` is a share of the squared norm, as in the
      paper's tables; if False it is a relative error, of norms not squared.

  Returns:
    Array of shape [] and the matrix's dtype, in [0, 1], a multiple of 1/n. An
    all-zero matrix gives 1: everything can go at no cost.

  Raises:
    ValueError: matrix of rank below 2, empty or complex; a concrete tolerance
      outside [0, 1].

  Values: NaN or infinity in the matrix gives NaN, as does a traced tolerance
    outside [0, 1].

  Source: [IC], section 5, the pruning ratio of the tables.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import compressibility
    >>> matrix = jnp.array([[3.0, 0.1, -2.0, 0.5], [1.0, 0.2, 2.0, 0.5]])
    >>> float(compressibility.pruning_ratio(matrix))
    0.5
  """
  matrix = columns_of('matrix', matrix)
  check_number('tolerance', tolerance)
  check_range('tolerance', tolerance, 0.0, 1.0)
  if on_host(matrix, tolerance):
    norms = host_costs.column_norms(matrix)
    bound = np.asarray(tolerance, matrix.dtype)
    return to_device(_host_ratio(norms, bound, squared), matrix.dtype)
  matrix, _ = to_unit_peak(matrix)
  ratio = ratio_of_norms(
    column_norms(matrix), jnp.asarray(tolerance, matrix.dtype), squared
  )
  return or_nan(ratio, tolerance)


@checked
def invisible_noise_ratios(
  key: PRNGKey,
  columns: ArrayLike,
  scale: ArrayLike,
  alpha: ArrayLike,
  num_draws: int,
  *,
  tolerance: ArrayLike = 0.1,
  squared: bool = True,
) -> Array:
  """Pruning ratios under Type I noise that the network cannot see.

  Where every input sums to zero (series normalised to mean zero), adding one
  number to all incoming weights of a unit changes nothing, so the Type I noise
  of K steps stays in the weights as it fell: column i ends as theta_i + s Z_i 1
  with s = sigma (eta K)^(1/alpha) and Z_i independent standard symmetric
  stable. A draw costs O(n log n), whatever the fan-in, by
  |theta + s Z 1|^2 = |theta - mean(theta)|^2 + fan_in (mean(theta) + s Z)^2.

  Args:
    key: typed key.
    columns: weights without the noise, [fan_in, n] (or filters).
    scale: s >= 0, the scale of the sum of all noise on one weight, traced.
    alpha: tail index in (0, 2], traced.
    num_draws: static, independent draws of all n numbers Z_i.
    tolerance: share of the norm that may be lost, in [0, 1], traced.
    squared: whether `tolerance` is a share of the squared norm.

  Returns:
    Array [num_draws] of pruning ratios. Their law is wide, one large Z_i can
    own the whole norm: use quantiles rather than a mean of a few.

  Raises:
    ValueError: as `pruning_ratio` and `htjax.stable.sample`; num_draws < 1.

  Values: NaN or infinity in the columns, a traced alpha or tolerance out of
    range and a traced NaN scale give NaN; the sign of a traced scale does not
    matter.

  Source: after [IC], section 2, Type I.

  Examples:
    >>> import jax
    >>> from htjax import compressibility
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> columns = jax.random.normal(keys[0], (20, 50))
    >>> ratios = compressibility.invisible_noise_ratios(
    ...   keys[1], columns, 10.0, 1.5, 8
    ... )
    >>> ratios.shape, bool((ratios > 0.2).all())
    ((8,), True)
  """
  key = check_key(key)
  columns = check_matrix('columns', columns)
  check_count('num_draws', num_draws)
  for name, value in {
    'scale': scale,
    'alpha': alpha,
    'tolerance': tolerance,
  }.items():
    check_number(name, value)
  check_range('scale', scale, 0.0, np.inf, open_high=True)
  scale = as_floating('scale', scale)
  check_range('alpha', alpha, 0.0, 2.0, open_low=True)
  check_range('tolerance', tolerance, 0.0, 1.0)
  if on_host(key, columns, scale, alpha, tolerance):
    drawn = _host_invisible(key, columns, scale, alpha, num_draws)
    bound = np.asarray(tolerance, columns.dtype)
    with np.errstate(all='ignore'):
      found = [_host_ratio(norms, bound, squared) for norms in drawn]
    return to_device(found, columns.dtype)
  tolerance = jnp.asarray(tolerance, columns.dtype)
  ratios = _invisible(key, columns, scale, alpha, num_draws, tolerance, squared)
  return or_nan(ratios, tolerance)


@checked
def column_norms(matrix: Array, p: float = 2) -> Array:
  """l_p norm of each column: [..., n] -> [n], over all axes but the last.

  Args:
    matrix: floating array of rank >= 1.
    p: static, 0 < p < infinity.

  Returns:
    Array [n]; no overflow or underflow on the way to a norm that fits the
    dtype. Infinity in a column gives NaN.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import compressibility
    >>> matrix = jnp.array([[3.0, 1.0], [4.0, 0.0]])
    >>> compressibility.column_norms(matrix).tolist()
    [5.0, 1.0]
  """
  check_range('p', p, 0, math.inf, open_low=True, open_high=True)
  matrix = nonempty('matrix', matrix)
  if matrix.ndim < 1:
    raise ValueError(f'matrix must be [..., n], got shape {matrix.shape}')
  if on_host(matrix):
    with np.errstate(all='ignore'):
      return to_device(host_costs.column_norms(matrix, p))
  return _column_norms(matrix, p)


@functools.partial(jax.jit, static_argnames='p')
def _column_norms(matrix: Array, p: float) -> Array:
  magnitude, axes = jnp.abs(matrix), tuple(range(matrix.ndim - 1))
  peak = jnp.max(magnitude, axis=axes, keepdims=True)
  scaled = magnitude / jnp.where(peak == 0, 1, peak)
  return peak.reshape(-1) * root(jnp.sum(raised(scaled, p), axis=axes), p)


@checked
def num_removable(
  norms: Array, tolerance: ArrayLike, squared: bool = True, p: float = 2
) -> Array:
  """Number of the smallest columns that go, given all columns' l_p norms.

  Args:
    norms: [n], non-negative, any order; of columns, or of whatever goes whole.
    tolerance: share of the whole that may be lost, traced.
    squared: whether shares are of p-th powers of norms (the squared norm, for
      p = 2) or of norms.
    p: order of the norm, static.

  Returns:
    int32 array []: the largest m such that the m smallest columns cost at most
    `tolerance`; n if all are zero, 0 if one is NaN or infinite.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import compressibility
    >>> int(compressibility.num_removable(jnp.array([3.0, 1.0, 0.5]), 0.2))
    2
  """
  norms = nonempty('norms', norms)
  check_number('tolerance', tolerance)
  if is_spread(norms):
    return num_removable_of_spread(norms, tolerance, squared, p)
  if norms.ndim != 1:
    raise ValueError(f'norms must be [n], got shape {norms.shape}')
  if on_host(norms, tolerance):
    bound = np.asarray(tolerance, norms.dtype)
    cost = host_costs.Removal(np.sort(norms), p, power=squared)
    return to_device(cost.last_within(bound), np.int32)
  return _num_removable(norms, tolerance, squared, p)


@functools.partial(jax.jit, static_argnames=('squared', 'p'))
def _num_removable(
  norms: Array, tolerance: ArrayLike, squared: bool, p: float
) -> Array:
  norms, _ = to_unit_peak(norms)
  cost = removal_cost(jnp.sort(norms), p, power=squared)
  return last_true(lambda m: cost(m) <= tolerance, norms.size)


def ratio_of_norms(norms: Array, tolerance: Array, squared: bool) -> Array:
  """Pruning ratio of columns of these l_2 norms; NaN if one is not finite."""
  removed = num_removable(norms, tolerance, squared)
  ratio = removed.astype(norms.dtype) / norms.size
  return jnp.where(jnp.all(jnp.isfinite(norms)), ratio, jnp.nan)


def _host_ratio(norms: Any, bound: Any, squared: bool) -> float:
  """`ratio_of_norms` by NumPy."""
  if not np.all(np.isfinite(norms)):
    return math.nan
  cost = host_costs.Removal(np.sort(norms), 2, power=squared)
  return cost.last_within(bound) / norms.size


@functools.partial(jax.jit, static_argnames=('num_draws', 'squared'))
def _invisible(
  key: PRNGKey,
  columns: Array,
  scale: ArrayLike,
  alpha: ArrayLike,
  num_draws: int,
  tolerance: Array,
  squared: bool,
) -> Array:
  scale = jnp.asarray(scale, columns.dtype)
  columns, scale, _ = to_unit_peak(columns, scale)
  fan_in = columns[..., 0].size
  mean = jnp.mean(columns.reshape(fan_in, -1), axis=0)
  fixed = column_norms(columns.reshape(fan_in, -1) - mean[None, :])

  def draw(draw_key: PRNGKey) -> Array:
    z = stable.sample(draw_key, alpha, mean.shape, mean.dtype, scale=scale)
    moved = math.sqrt(fan_in) * jnp.abs(mean + z)
    return ratio_of_norms(jnp.hypot(fixed, moved), tolerance, squared)

  return lax.map(draw, jax.random.split(key, num_draws))


def _host_invisible(
  key: PRNGKey,
  columns: Array,
  scale: ArrayLike,
  alpha: ArrayLike,
  num_draws: int,
) -> Iterator[np.ndarray]:
  """Norms of the columns of each draw of `_invisible`, by NumPy."""
  columns, scale, _ = to_unit_peak(columns, jnp.asarray(scale, columns.dtype))
  flat = np.asarray(columns).reshape(-1, columns.shape[-1])
  mean = flat.mean(axis=0, dtype=np.float64)
  fixed = host_costs.column_norms(flat - mean[None])
  at_once = min(num_draws, max(1, _AT_ONCE // mean.size))
  for first in range(0, num_draws, at_once):
    z = _noise(key, first, alpha, scale, num_draws, at_once, mean.size)
    for row in np.asarray(z)[: num_draws - first]:
      moved = math.sqrt(len(flat)) * np.abs(mean + row)
      yield np.hypot(fixed, moved).astype(flat.dtype)


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _noise(
  key: PRNGKey,
  first: int,
  alpha: ArrayLike,
  scale: Array,
  num_draws: int,
  at_once: int,
  size: int,
) -> Array:
  """The noise of some of the draws, [at_once, size], from the first on."""
  place = (first + jnp.arange(at_once)) % num_draws
  keys = jax.random.split(key, num_draws)[place]

  def draw(own: PRNGKey) -> Array:
    return stable.sample(own, alpha, (size,), scale.dtype, scale=scale)

  return lax.map(draw, keys)
