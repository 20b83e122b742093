"""What bounds measure on a network: norms, ranks, cushions, smoothness.

A network is a list of layer matrices W_1, .., W_L, each [fan_in, fan_out], and
an activation: x^1 = x W_1 and x^i = phi(x^{i-1}) W_i, so that x^i is what
enters the i-th activation and x^L is the output. Jacobians are never formed:
they act through forward and reverse products. Everything here is JAX, runs in
the dtype of its arrays, and may be jitted.
"""

import functools
import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.checks import (
  check_choice,
  check_count,
  check_floating,
  check_key,
  check_range,
)
from htjax.types import Array, ArrayLike, PRNGKey, PyTree

Activation = Callable[[Array], Array]

PADDINGS = ('CIRCULAR', 'SAME', 'VALID')


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


def spectral_norm(
  matrix: ArrayLike,
  *,
  tolerance: float | None = None,
  max_iterations: int = 1000,
) -> SpectralNorm:
  """Spectral norm of a matrix by power iteration on W^T W.

  Args:
    matrix: [fan_in, fan_out], float32 or float64.
    tolerance: relative residual at which to stop, > 0; None is the square root
      of the precision, at which the norm itself is right to about the precision
      over the relative gap to the second singular value.
    max_iterations: static, >= 1.

  Returns:
    SpectralNorm; NaN for NaN or infinity in `matrix`.

  Raises:
    ValueError: if `matrix` is not a non-empty floating matrix.
  """
  matrix = _matrix('matrix', matrix)
  tolerance = _check_stopping(tolerance, max_iterations, matrix.dtype)
  return _spectral_norm(matrix, tolerance, max_iterations)


@jax.jit
def _spectral_norm(matrix, tolerance, max_iterations):
  matrix, peak = _scaled(matrix)
  found = _power_iteration(
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


def operator_norm(
  function: Callable[[Array], Array],
  shape: Sequence[int],
  *,
  dtype: jax.typing.DTypeLike = jnp.float32,
  tolerance: float | None = None,
  max_iterations: int = 1000,
) -> SpectralNorm:
  """Norm of a linear map that is given as a function, e.g. a convolution.

  Power iteration with the transpose that autodiff gives, from a fixed Gaussian
  start: exact in the limit for any stride and padding.

  Args:
    function: linear, from an array of `shape` to an array.
    shape: of its argument.
    dtype: float32 or float64, of its argument.
    tolerance: as in `spectral_norm`.
    max_iterations: static, >= 1.

  Returns:
    SpectralNorm, whose `upper` is infinite.

  Raises:
    ValueError: for another dtype, or a count or tolerance out of range.
  """
  dtype = check_floating('dtype', dtype)
  tolerance = _check_stopping(tolerance, max_iterations, dtype)
  return _power_iteration(
    function, tuple(shape), dtype, tolerance, max_iterations
  )


def _check_stopping(tolerance, max_iterations, dtype) -> float:
  check_count('max_iterations', max_iterations)
  if tolerance is None:
    return math.sqrt(jnp.finfo(dtype).eps)
  check_range('tolerance', tolerance, 0, math.inf, open_low=True)
  return tolerance


def _power_iteration(function, shape, dtype, tolerance, max_iterations):
  start = jax.random.normal(jax.random.key(0), shape, dtype)
  transpose = jax.linear_transpose(function, start)

  def step(state):
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

  def unfinished(state):
    count, _, _, residual = state
    return (count < max_iterations) & (residual > tolerance)

  infinity = jnp.asarray(jnp.inf, dtype)
  first = start / jnp.linalg.norm(start)
  state = (jnp.int32(0), first, jnp.zeros((), dtype), infinity)
  count, _, value, residual = lax.while_loop(unfinished, step, state)
  return SpectralNorm(value, residual, infinity, count)


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

  Source: Sedghi, Gupta, Long (2019), The Singular Values of Convolutional
    Layers, Theorem 6.
  """
  kernel = jnp.asarray(kernel)
  if kernel.ndim != 4 or 0 in kernel.shape:
    raise ValueError(
      f'kernel must be [height, width, in, out], got shape {kernel.shape}'
    )
  check_floating('kernel', kernel.dtype)
  check_choice('padding', padding, PADDINGS)
  for side in image_shape:
    check_count('image_shape', side)
  sides = np.asarray(image_shape)
  if padding != 'CIRCULAR':
    sides = sides + np.asarray(kernel.shape[:2]) - 1
  height, width = (int(s) for s in sides)
  # A real kernel has the same singular values at a frequency and its negative.
  rows, columns = jnp.meshgrid(
    jnp.arange(height), jnp.arange(width // 2 + 1), indexing='ij'
  )

  def norm(frequency):
    phases = [
      jnp.exp(-2j * jnp.pi * f * jnp.arange(taps) / side)
      for f, taps, side in zip(
        frequency, kernel.shape[:2], (height, width), strict=True
      )
    ]
    transfer = jnp.einsum('a,b,abio->io', *phases, kernel)
    return jnp.linalg.norm(transfer, 2)

  return jnp.max(lax.map(norm, (rows.ravel(), columns.ravel())))


def stable_rank(matrix: ArrayLike) -> Array:
  """Stable rank |W|_F^2 / |W|_2^2, between 1 and the rank.

  Args:
    matrix: [fan_in, fan_out], float.

  Returns:
    [], dtype of `matrix`; NaN for a zero matrix.

  Raises:
    ValueError: as in `spectral_norm`.
  """
  matrix = _scaled(_matrix('matrix', matrix))[0]
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


def layer_norms(
  layers: Sequence[ArrayLike], reference: Sequence[ArrayLike] | None = None
) -> LayerNorms:
  """All norms that the bounds ask for, computed once.

  Args:
    layers: matrices [fan_in, fan_out], first to last.
    reference: matrices of the same shapes, e.g. at initialisation; None is 0.

  Returns:
    LayerNorms.

  Raises:
    ValueError: if shapes do not chain or match, or a layer is not finite.
  """
  layers = _layers(layers)
  if reference is None:
    reference = [jnp.zeros_like(w) for w in layers]
  reference = _layers(reference, 'reference')
  shapes = [w.shape for w in layers]
  if [w.shape for w in reference] != shapes:
    raise ValueError(
      f'reference must have the shapes {shapes}, got '
      f'{[w.shape for w in reference]}'
    )
  rows = []
  for w, start in zip(layers, reference, strict=True):
    if not bool(jnp.all(jnp.isfinite(w))):
      raise ValueError('layers must be finite, got NaN or infinity')
    top, (whole, peak), (moved, moved_peak, sums) = _all_norms(w, start)
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
def _all_norms(w, start):
  whole, peak = _scaled(w)
  moved, moved_peak = _scaled(w - start)
  sums = jnp.sum(jnp.linalg.norm(moved, axis=0))
  return (
    spectral_norm(w),
    (jnp.linalg.norm(whole), peak),
    (jnp.linalg.norm(moved), moved_peak, sums),
  )


def dense_layers(params: PyTree) -> list[Array]:
  """The matrices of a fully connected network, first to last.

  Args:
    params: nested dict {'hidden_0': {'kernel': [fan_in, fan_out]}, ..,
      'output': {'kernel': ..}}, as of `htjax.models.fcn`. Layers are taken in
      the order of the numbers in their names, those without one last.

  Returns:
    List of matrices [fan_in, fan_out].

  Raises:
    ValueError: for biases, leaves of another rank, or shapes that do not
      chain.
  """
  found = []
  for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if leaf.ndim != 2:
      raise ValueError(
        f'params must hold matrices only, got shape {leaf.shape} at {name!r}'
      )
    numbers = [int(n) for n in re.findall(r'\d+', name)]
    found.append(((not numbers, numbers, name), leaf))
  return _layers([leaf for _, leaf in sorted(found, key=lambda f: f[0])])


def pre_activations(
  layers: Sequence[ArrayLike],
  x: ArrayLike,
  *,
  activation: Activation = jax.nn.relu,
) -> list[Array]:
  """x^1 = x W_1 and x^i = phi(x^{i-1}) W_i; the last is the output.

  Args:
    layers: matrices [fan_in, fan_out], first to last.
    x: inputs [m, fan_in of the first].
    activation: phi, elementwise.

  Returns:
    List of L arrays [m, fan_out].

  Raises:
    ValueError: if shapes do not fit.
  """
  layers, x = _network(layers, x)
  states = [x @ layers[0]]
  for w in layers[1:]:
    states.append(activation(states[-1]) @ w)
  return states


def layer_cushions(
  layers: Sequence[ArrayLike],
  x: ArrayLike,
  *,
  activation: Activation = jax.nn.relu,
) -> Array:
  """mu_i = min_x |phi(x^{i-1}) W_i| / (|W_i|_F |phi(x^{i-1})|).

  The first layer sees the input itself. 1 / mu_i is at least the square root of
  the stable rank. Inputs that a layer sees as zero are left out.

  Args:
    layers: matrices [fan_in, fan_out], first to last.
    x: inputs [m, fan_in].
    activation: phi, elementwise.

  Returns:
    [L]; infinite where a layer sees nothing but zeros.

  Raises:
    ValueError: if shapes do not fit.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", eq. (50).
  """
  layers, x = _network(layers, x)
  states = pre_activations(layers, x, activation=activation)
  seen = [x, *(activation(s) for s in states[:-1])]
  return jnp.stack(
    [
      _smallest_ratio(out, jnp.linalg.norm(w) * _norms(into), _norms(into))
      for w, into, out in zip(layers, seen, states, strict=True)
    ]
  )


class InterlayerCushions(NamedTuple):
  """Interlayer cushions.

  Attributes:
    pairs: mu_ij in entry [i - 1, j - 1] for i <= j, NaN below; [L, L]. The
      diagonal is 1 / sqrt(h_i).
    minimal: min of mu_ij over j >= i, [L].
  """

  pairs: Array
  minimal: Array


def interlayer_cushions(
  layers: Sequence[ArrayLike],
  x: ArrayLike,
  *,
  activation: Activation = jax.nn.relu,
  key: PRNGKey | None = None,
  num_probes: int | None = None,
) -> InterlayerCushions:
  """mu_ij = min_x |J x^i| / (|J|_F |x^i|), J the Jacobian of x^i -> x^j.

  |J|_F^2 is the sum of |J^T z|^2 over unit vectors z, one reverse product each,
  or without bias its mean over `num_probes` Gaussian z, with relative standard
  error at most sqrt(2 / num_probes).

  Args:
    layers: matrices [fan_in, fan_out], first to last.
    x: inputs [m, fan_in].
    activation: phi, elementwise.
    key: typed key, needed with `num_probes`.
    num_probes: static; None is exact, at fan_out products per pair and input.

  Returns:
    InterlayerCushions.

  Raises:
    ValueError: if shapes do not fit, or one of key and num_probes is missing.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", eqs. (51)-(52).
  """
  layers, x = _network(layers, x)
  if (key is None) != (num_probes is None):
    raise ValueError('key and num_probes must be given together or not at all')
  if key is not None:
    key = check_key(key)
    check_count('num_probes', num_probes)
  states = pre_activations(layers, x, activation=activation)
  depth, dtype = len(layers), x.dtype
  pairs = np.full((depth, depth), None)
  for i in range(depth):
    pairs[i, i] = jnp.asarray(layers[i].shape[1], dtype) ** -0.5
  for i, j in itertools.combinations(range(depth), 2):
    size = layers[j].shape[1]
    if key is None or num_probes is None:
      probes = jnp.eye(size, dtype=dtype)
    else:
      draw = jax.random.fold_in(key, i * depth + j)
      probes = jax.random.normal(draw, (num_probes, size), dtype)
      probes = probes / math.sqrt(num_probes)
    pairs[i, j] = _cushion(
      layers[i + 1 : j + 1], states[i], probes, activation=activation
    )
  minimal = jnp.stack(
    [jnp.min(jnp.stack(list(pairs[i, i:]))) for i in range(depth)]
  )
  nan = jnp.asarray(jnp.nan, dtype)
  table = [[nan if p is None else p for p in row] for row in pairs]
  return InterlayerCushions(jnp.asarray(table), minimal)


# One program for each pair of shapes: layers of one width share theirs.
@functools.partial(jax.jit, static_argnames='activation')
def _cushion(between, states, probes, *, activation):
  def function(state):
    return _onward(between, state, activation)

  def image_and_size(state):
    image = jax.jvp(function, (state,), (state,))[1]
    back = jax.vjp(function, state)[1]
    squares = lax.map(lambda z: jnp.sum(back(z)[0] ** 2), probes)
    return image, jnp.sqrt(jnp.sum(squares))

  images, sizes = jax.vmap(image_and_size)(states)
  return _smallest_ratio(images, sizes * _norms(states), _norms(states))


def activation_contraction(
  layers: Sequence[ArrayLike],
  x: ArrayLike,
  *,
  activation: Activation = jax.nn.relu,
) -> Array:
  """c = max over hidden layers and inputs of |x^i| / |phi(x^i)|.

  Args:
    layers: matrices [fan_in, fan_out], first to last; at least two.
    x: inputs [m, fan_in].
    activation: phi, elementwise.

  Returns:
    []; infinite if an activation kills a whole non-zero layer.

  Raises:
    ValueError: if shapes do not fit, or there is no hidden layer.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", eq. (53).
  """
  states = pre_activations(layers, x, activation=activation)[:-1]
  if not states:
    raise ValueError('layers must have a hidden layer, got one matrix')
  ratios = [
    jnp.where(_norms(s) > 0, _norms(s) / _norms(activation(s)), 0)
    for s in states
  ]
  return jnp.max(jnp.stack([jnp.max(r) for r in ratios]))


def interlayer_smoothness(
  key: PRNGKey,
  layers: Sequence[ArrayLike],
  x: ArrayLike,
  *,
  delta: float,
  noise_scale: ArrayLike,
  num_draws: int,
  activation: Activation = jax.nn.relu,
) -> Array:
  """Largest rho with |M(x+e) - J(x+e)| <= |e| |x^j| / (rho |x^i|), mostly.

  M maps x^i to x^j and J is its Jacobian at x^i; e is Gaussian, of expected
  length about noise_scale |x^i|. The number is the minimum over pairs of layers
  and inputs of the delta-quantile over draws. (In print it is the smallest such
  number, which is 0.)

  Args:
    key: typed key.
    layers: matrices [fan_in, fan_out], first to last; at least two.
    x: inputs [m, fan_in].
    delta: probability that may be left out, in (0, 1).
    noise_scale: length of the noise relative to the layer's, > 0.
    num_draws: of noise per pair, static; at least 1 / delta, so that the
      quantile is not the smallest draw.
    activation: phi, elementwise.

  Returns:
    []; infinite where the network is linear.

  Raises:
    ValueError: if shapes do not fit, or a number is out of range.

  Source: "Compressing Heavy-Tailed Weight Matrices ...", eq. (54).
  """
  key = check_key(key)
  layers, x = _network(layers, x)
  check_range('delta', delta, 0, 1, open_low=True, open_high=True)
  check_range('noise_scale', noise_scale, 0, math.inf, open_low=True)
  check_count('num_draws', num_draws, math.ceil(1 / delta))
  if len(layers) < 2:
    raise ValueError('layers must have a hidden layer, got one matrix')
  states = pre_activations(layers, x, activation=activation)
  smallest = []
  for i, j in itertools.combinations(range(len(layers)), 2):
    draws = jax.random.split(
      jax.random.fold_in(key, i * len(layers) + j), num_draws
    )
    ratios = _smoothness(
      draws,
      layers[i + 1 : j + 1],
      states[i],
      noise_scale,
      activation=activation,
    )
    quantile = jnp.quantile(ratios, delta, axis=0, method='lower')
    smallest.append(jnp.min(quantile))
  return jnp.min(jnp.stack(smallest))


@functools.partial(jax.jit, static_argnames='activation')
def _smoothness(keys, between, states, noise_scale, *, activation):
  def function(state):
    return _onward(between, state, activation)

  images = function(states)

  def ratios(key):
    noise = jax.random.normal(key, states.shape, states.dtype)
    noise *= noise_scale * _norms(states)[:, None] / math.sqrt(states.shape[1])
    moved = states + noise
    linear = jax.jvp(function, (states,), (moved,))[1]
    error = _norms(function(moved) - linear)
    return _norms(noise) * _norms(images) / (error * _norms(states))

  return lax.map(ratios, keys)


def _onward(between, state, activation):
  for w in between:
    state = activation(state) @ w
  return state


def _scaled(matrix: Array) -> tuple[Array, Array]:
  """A matrix over its largest magnitude: squares of it do not overflow."""
  peak = jnp.max(jnp.abs(matrix))
  peak = jnp.where(peak > 0, peak, 1)
  return matrix / peak, peak


def _norms(x: Array) -> Array:
  return jnp.linalg.norm(x, axis=-1)


def _smallest_ratio(numerator, denominator, present):
  ratios = _norms(numerator) / jnp.where(present > 0, denominator, 1)
  return jnp.min(jnp.where(present > 0, ratios, jnp.inf))


def _matrix(name: str, matrix: ArrayLike) -> Array:
  matrix = jnp.asarray(matrix)
  if matrix.ndim != 2 or 0 in matrix.shape:
    raise ValueError(
      f'{name} must be a non-empty matrix [fan_in, fan_out], got shape '
      f'{matrix.shape}'
      + ('; see conv_spectral_norm' if matrix.ndim == 4 else '')
    )
  check_floating(name, matrix.dtype)
  return matrix


def _layers(layers: Sequence[ArrayLike], name: str = 'layers') -> list[Array]:
  found = [_matrix(f'{name}[{i}]', w) for i, w in enumerate(layers)]
  if not found:
    raise ValueError(f'{name} must have at least one matrix, got none')
  for left, right in itertools.pairwise(found):
    if left.shape[1] != right.shape[0]:
      raise ValueError(
        f'{name} must chain, got shapes {[w.shape for w in found]}'
      )
  return found


def _network(layers, x) -> tuple[list[Array], Array]:
  found, x = _layers(layers), jnp.asarray(x)
  if x.ndim != 2 or x.shape[0] < 1 or x.shape[1] != found[0].shape[0]:
    raise ValueError(
      f'x must be [m, {found[0].shape[0]}] with m >= 1, got shape {x.shape}'
    )
  return found, x.astype(found[0].dtype)
