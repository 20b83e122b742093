"""Spectral norms, of matrices and of linear maps, and the norms of a network.

Everything here is JAX and runs in the dtype of its arrays. Only `layer_norms`,
which gathers what the bounds ask for, ends on the host. Power iteration starts
at a Gaussian vector from `jax.random.key(0)` unless it is given a key, so that
a norm is a function of the matrix alone.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.bounds.arguments import as_array, check_callable, counts
from htjax.bounds.networks import check_layers, check_matrix
from htjax.checks import (
  check_choice,
  check_count,
  check_finite,
  check_floating,
  check_key,
  check_range,
)
from htjax.host import chunks, is_spread, on_host, placed_freely
from htjax.products import full_precision
from htjax.types import Array, ArrayLike, PRNGKey

PADDINGS = ('CIRCULAR', 'SAME', 'VALID')

# Steps done, the vector, the length of its image, and the residual.
_State = tuple[Array, Array, Array, Array]


class SpectralNorm(NamedTuple):
  """Largest singular value by power iteration, and how far to trust it.

  Attributes:
    value: [], |W v| for the last unit vector v: never above the norm.
    residual: [], |W^T W v - value^2 v| / value^2. Some squared singular value
      lies within this fraction of value^2.
    upper: [], a certain upper bound, min of |W|_F and sqrt(|W|_1 |W|_inf);
      infinite for a map that is given as a function.
    num_iterations: int32 [].
  """

  value: Array
  residual: Array
  upper: Array
  num_iterations: Array


@full_precision
def spectral_norm(
  matrix: ArrayLike,
  *,
  tolerance: float | None = None,
  max_iterations: int = 1000,
  key: PRNGKey | None = None,
) -> SpectralNorm:
  """Spectral norm of a matrix by power iteration on W^T W.

  Args:
    matrix: [fan_in, fan_out], float32 or float64.
    tolerance: relative residual at which to stop, > 0; None is the square root
      of the precision, at which the norm itself is right to about the precision
      over the relative gap to the second singular value.
    max_iterations: static, >= 1.
    key: of the random start; None is `jax.random.key(0)`.

  Returns:
    SpectralNorm; NaN for NaN or infinity in `matrix`.

  Raises:
    ValueError: if `matrix` is not a non-empty floating matrix.
  """
  matrix = _matrix(matrix)
  tolerance = _check_stopping(tolerance, max_iterations, matrix.dtype)
  return _spectral_norm(_start_key(key), matrix, tolerance, max_iterations)


@jax.jit
def _spectral_norm(
  key: PRNGKey, matrix: Array, tolerance: float, max_iterations: int
) -> SpectralNorm:
  matrix, peak = _scaled(matrix)
  found = _power_iteration(
    key,
    lambda v: v @ matrix,
    matrix.shape[:1],
    matrix.dtype,
    tolerance,
    max_iterations,
  )
  size = jnp.abs(matrix)
  sides = jnp.max(jnp.sum(size, axis=0)) * jnp.max(jnp.sum(size, axis=1))
  upper = jnp.minimum(jnp.sqrt(sides), jnp.linalg.norm(matrix))
  return found._replace(value=found.value * peak, upper=upper * peak)


@full_precision
def operator_norm(
  function: Callable[[Array], Array],
  shape: Sequence[int],
  *,
  dtype: jax.typing.DTypeLike = jnp.float32,
  tolerance: float | None = None,
  max_iterations: int = 1000,
  key: PRNGKey | None = None,
) -> SpectralNorm:
  """Norm of a linear map that is given as a function, e.g. a convolution.

  Power iteration with the transpose that autodiff gives: exact in the limit for
  any stride and padding.

  Args:
    function: linear, from an array of `shape` to an array.
    shape: of its argument.
    dtype: float32 or float64, of its argument.
    tolerance: relative residual at which to stop, > 0; None is the square root
      of the precision.
    max_iterations: static, >= 1.
    key: of the random start; None is `jax.random.key(0)`.

  Returns:
    SpectralNorm, whose `upper` is infinite.

  Raises:
    ValueError: for another dtype, or a count or tolerance out of range.
  """
  dtype = check_floating('dtype', dtype)
  tolerance = _check_stopping(tolerance, max_iterations, dtype)
  check_callable('function', function)
  sides = tuple(counts('shape', shape))
  image = jax.eval_shape(function, jax.ShapeDtypeStruct(sides, dtype))
  if jnp.result_type(image) != dtype:
    raise ValueError(
      f'function must return an array of {dtype.name}, got '
      f'{jnp.result_type(image).name}'
    )
  key = _start_key(key)
  return _power_iteration(
    key, function, sides, dtype, tolerance, max_iterations
  )


def _check_stopping(
  tolerance: float | None, max_iterations: int, dtype: np.dtype
) -> float:
  check_count('max_iterations', max_iterations)
  if tolerance is None:
    return math.sqrt(jnp.finfo(dtype).eps)
  check_range('tolerance', tolerance, 0, math.inf, open_low=True)
  if jnp.ndim(tolerance):
    raise ValueError(f'tolerance must be one number, got {tolerance!r}')
  return tolerance


def _start_key(key: PRNGKey | None) -> PRNGKey:
  return jax.random.key(0) if key is None else check_key(key)


def _power_iteration(
  key: PRNGKey,
  function: Callable[[Array], Array],
  shape: tuple[int, ...],
  dtype: np.dtype,
  tolerance: float,
  max_iterations: int,
) -> SpectralNorm:
  start = jax.random.normal(key, shape, dtype)
  transpose = jax.linear_transpose(function, start)

  def step(state: _State) -> _State:
    count, v, _, _ = state
    image = function(v)
    square = jnp.sum(image**2)
    (back,) = transpose(image)
    residual = jnp.linalg.norm(back - square * v) / jnp.where(
      square > 0, square, 1
    )
    length = jnp.linalg.norm(back)
    v = jnp.where(length > 0, back / jnp.where(length > 0, length, 1), v)
    return count + 1, v, jnp.sqrt(square), residual

  def unfinished(state: _State) -> Array:
    count, _, _, residual = state
    return (count < max_iterations) & (residual > tolerance)

  infinity = jnp.asarray(jnp.inf, dtype)
  first = start / jnp.linalg.norm(start)
  state = (jnp.int32(0), first, jnp.zeros((), dtype), infinity)
  count, _, value, residual = lax.while_loop(unfinished, step, state)
  return SpectralNorm(value, residual, infinity, count)


@full_precision
def conv_spectral_norm(
  kernel: ArrayLike, image_shape: tuple[int, int], *, padding: str
) -> Array:
  """Spectral norm of a convolution from its Fourier transform.

  With circular padding and stride 1 the map is block diagonal in the Fourier
  basis, and the result is exact. A convolution with zero padding, or none, is
  cut out of the circular one on a torus larger by the kernel less one, so the
  result is an upper bound; leaving out outputs (a stride) only lowers the norm.
  For the exact value of such a map see `operator_norm`.

  Args:
    kernel: [height, width, in, out], float.
    image_shape: (height, width) of the input, static.
    padding: 'CIRCULAR', exact; 'SAME' or 'VALID', an upper bound.

  Returns:
    [], dtype of `kernel`; NaN for NaN in `kernel`.

  Raises:
    ValueError: if `kernel` is not of rank 4 and floating, or for another
      padding or shape.

  Source: [Sedghi2019], Theorem 6.
  """
  kernel = as_array('kernel', kernel)
  if kernel.ndim != 4 or 0 in kernel.shape:
    raise ValueError(
      f'kernel must be [height, width, in, out], got shape {kernel.shape}'
    )
  check_floating('kernel', kernel.dtype)
  check_choice('padding', padding, PADDINGS)
  sides = np.asarray(counts('image_shape', image_shape))
  if sides.shape != (2,):
    raise ValueError(f'image_shape must be (height, width), got {image_shape}')
  if padding != 'CIRCULAR':
    sides = sides + np.asarray(kernel.shape[:2]) - 1
  height, width = (int(s) for s in sides)
  # A real kernel has the same singular values at a frequency and its negative.
  rows, columns = jnp.meshgrid(
    jnp.arange(height), jnp.arange(width // 2 + 1), indexing='ij'
  )

  def norm(frequency: tuple[Array, Array]) -> Array:
    phases = [
      jnp.exp(-2j * jnp.pi * f * jnp.arange(taps) / side)
      for f, taps, side in zip(
        frequency, kernel.shape[:2], (height, width), strict=True
      )
    ]
    transfer = jnp.einsum('a,b,abio->io', *phases, kernel)
    return jnp.linalg.norm(transfer, 2)

  return jnp.max(lax.map(norm, (rows.ravel(), columns.ravel())))


@full_precision
def stable_rank(matrix: ArrayLike) -> Array:
  """Stable rank |W|_F^2 / |W|_2^2, between 1 and the rank.

  Args:
    matrix: [fan_in, fan_out], float.

  Returns:
    [], dtype of `matrix`; NaN for a zero matrix.

  Raises:
    ValueError: if `matrix` is not a non-empty floating matrix.
  """
  matrix = _scaled(_matrix(matrix))[0]
  return (jnp.linalg.norm(matrix) / spectral_norm(matrix).value) ** 2


class LayerNorms(NamedTuple):
  """Norms of the layers of a network, on the host in float64, each [L].

  Attributes:
    spectral: largest singular values, by power iteration.
    residual: their residuals, see `SpectralNorm`.
    frobenius: Frobenius norms.
    distance: Frobenius norms of the layers less the reference.
    two_one: sum over units of the l_2 norm of the incoming weights less the
      reference, |(A - M)^T|_{2,1} for A acting from the left.
    fan_in: input dimensions.
    fan_out: output dimensions.
  """

  spectral: np.ndarray
  residual: np.ndarray
  frobenius: np.ndarray
  distance: np.ndarray
  two_one: np.ndarray
  fan_in: np.ndarray
  fan_out: np.ndarray


@full_precision
def layer_norms(
  layers: Sequence[ArrayLike], reference: Sequence[ArrayLike] | None = None
) -> LayerNorms:
  """Norms of all layers that the bounds ask for, computed once.

  Args:
    layers: matrices [fan_in, fan_out], first to last.
    reference: matrices of the same shapes, e.g. at initialisation; None is 0.

  Returns:
    LayerNorms.

  Raises:
    ValueError: if shapes do not chain or match, or a layer is not finite.
  """
  layers = check_layers(layers)
  if reference is None:
    reference = [jnp.zeros_like(w) for w in layers]
  reference = check_layers(reference, 'reference')
  shapes = [w.shape for w in layers]
  if [w.shape for w in reference] != shapes:
    raise ValueError(
      f'reference must have the shapes {shapes}, got '
      f'{[w.shape for w in reference]}'
    )
  rows = []
  for w, start in zip(layers, reference, strict=True):
    check_finite('layers', w)
    host = on_host(w, start)
    found = _host_norms(w, start) if host else _device_norms(w, start)
    top = spectral_norm(w)
    (whole, peak), (moved, moved_peak, sums) = found
    rows.append(
      [
        float(top.value),
        float(top.residual),
        float(whole) * float(peak),
        float(moved) * float(moved_peak),
        float(sums) * float(moved_peak),
        *w.shape,
      ]
    )
  return LayerNorms(*np.asarray(rows, np.float64).T)


@jax.jit
def _device_norms(w: Array, start: Array) -> tuple[Any, Any]:
  """Frobenius norm over the peak, and the peak; the same of what has moved,
  and between them the sum of its columns' norms.
  """
  whole, peak = _scaled(w)
  moved, moved_peak = _scaled(w - start)
  sums = jnp.sum(jnp.linalg.norm(moved, axis=0))
  return (
    (jnp.linalg.norm(whole), peak),
    (jnp.linalg.norm(moved), moved_peak, sums),
  )


def _host_norms(w: Array, start: Array) -> tuple[Any, Any]:
  whole, peak = _host_scaled(np.asarray(w))
  moved, moved_peak = _host_scaled(np.asarray(w) - np.asarray(start))
  squares = _column_squares(moved)
  return (
    (np.sqrt(np.sum(_column_squares(whole))), peak),
    (np.sqrt(np.sum(squares)), moved_peak, np.sum(np.sqrt(squares))),
  )


def _column_squares(w: np.ndarray) -> np.ndarray:
  """Sums of squares over the columns of [n, k], in float64."""
  total = np.zeros(w.shape[1])
  for part in chunks(*w.shape):
    rows = w[part].astype(np.float64)
    total += np.einsum('ij,ij->j', rows, rows)
  return total


def _host_scaled(w: np.ndarray) -> tuple[np.ndarray, Any]:
  peak = max(np.max(w), -np.min(w))
  peak = peak if peak > 0 else w.dtype.type(1)
  return w / peak, peak


def _matrix(matrix: ArrayLike) -> Array:
  """One that is spread over devices stays; vectors alone are sent."""
  matrix = check_matrix('matrix', matrix)
  return placed_freely(matrix) if is_spread(matrix) else matrix


def _scaled(matrix: Array) -> tuple[Array, Array]:
  """A matrix over its largest magnitude: squares of it do not overflow."""
  peak = jnp.max(jnp.abs(matrix))
  peak = jnp.where(peak > 0, peak, 1)
  return matrix / peak, peak
