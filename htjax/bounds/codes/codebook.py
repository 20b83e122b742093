"""Few values for many weights: k-means, and a grid of short floats."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.bounds.arguments import as_array, as_numbers
from htjax.checks import check_count, checked
from htjax.floats import as_floating
from htjax.types import Array, ArrayLike


@checked
def to_grid(x: ArrayLike, mantissa_bits: int = 3) -> Array:
  """The nearest numbers +-(1 + f / 2^m) 2^e, f in 0..2^m - 1, e any integer.

  Args:
    x: float32, any shape, traced or not.
    mantissa_bits: m in [0, 7].

  Returns:
    Array like `x`; a relative change of at most 2^-(m + 1) / (1 + 2^-(m + 1)),
    zeros stay zeros. Halfway cases go to the even f.

  Raises:
    ValueError: mantissa_bits out of range.
  """
  check_mantissa(mantissa_bits)
  x = as_array('x', x)
  if not any(jnp.issubdtype(x.dtype, d) for d in (jnp.integer, jnp.floating)):
    raise ValueError(f'x must be real, got {x.dtype}')
  return round_mantissa(jnp, x.astype(jnp.float32), mantissa_bits)


@checked
def fit_codebook(
  weights: ArrayLike, num_values: int, *, num_iterations: int = 100
) -> np.ndarray:
  """Values that stand for many weights: k-means in one dimension.

  Lloyd's iteration from the quantiles (i + 1/2) / num_values; the same weights
  give the same values.

  Args:
    weights: of any shape, finite; zeros are not left out.
    num_values: at least 1.
    num_iterations: at most so many steps.

  Returns:
    Rising float32 [num_values]; fewer if the weights have fewer values.

  Raises:
    ValueError: no weights, weights not finite, or counts below 1.

  Source: [Lloyd1982].
  """
  check_count('num_values', num_values)
  check_count('num_iterations', num_iterations)
  x = np.sort(as_numbers('weights', weights).ravel())
  if x.size == 0 or not np.all(np.isfinite(x)):
    raise ValueError('weights must be finite and at least one')
  centres = np.quantile(x, (np.arange(num_values) + 0.5) / num_values)
  total = np.concatenate([[0.0], np.cumsum(x)])
  for _ in range(num_iterations):
    centres = np.unique(centres)
    middles = (centres[1:] + centres[:-1]) / 2
    ends = np.concatenate([[0], np.searchsorted(x, middles), [x.size]])
    counts = np.diff(ends)
    means = np.diff(total[ends])[counts > 0] / counts[counts > 0]
    if np.array_equal(means, centres):
      break
    centres = means
  return np.unique(centres.astype(np.float32))


@checked
def tie(weights: ArrayLike, values: ArrayLike, mantissa_bits: int = 3) -> Array:
  """Weights at the nearest of few values, with gradients for training.

  Zeros stay zeros. Gradients pass straight through: of a weight that is not
  zero as if it were left alone, and of a value as the sum over its weights.

  Args:
    weights: float32, any shape, traced or not.
    values: [num_values], moved to the grid of `to_grid` first.
    mantissa_bits: of the grid, in [0, 7].

  Returns:
    Array like `weights` whose entries are 0 or on the grid.

  Raises:
    ValueError: as `to_grid`; values that are no vector.

  Source: the straight-through estimator of [Bengio2013].
  """
  layer, book = as_floating('weights', weights), as_floating('values', values)
  if book.ndim != 1 or not book.size:
    raise ValueError(f'values must be a vector, got shape {book.shape}')
  on_grid = to_grid(lax.stop_gradient(book), mantissa_bits)
  book = book - lax.stop_gradient(book) + on_grid
  distances = layer[..., None] - book.reshape((1,) * layer.ndim + (-1,))
  nearest = book[jnp.argmin(jnp.abs(distances), axis=-1)]
  return jnp.where(layer != 0, layer - lax.stop_gradient(layer) + nearest, 0)


def round_mantissa(xp: Any, x: Any, mantissa_bits: int) -> Any:
  """`to_grid` with NumPy or JAX; NumPy compiles nothing for a new shape."""
  fraction, exponent = xp.frexp(x)
  step = 2.0 ** (mantissa_bits + 1)
  return xp.ldexp(xp.round(fraction * step) / step, exponent)


def check_mantissa(mantissa_bits: int) -> None:
  """Raise unless the count lies in [0, 7]."""
  check_count('mantissa_bits', mantissa_bits, 0)
  if mantissa_bits > 7:
    raise ValueError(f'mantissa_bits must be at most 7, got {mantissa_bits}')
