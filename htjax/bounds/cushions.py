"""Cushions, contraction and smoothness: how a network passes its inputs on.

A network is a list of matrices as in `networks`. Jacobians are never formed:
an activation acts on each entry by itself, so that they are products with
matrices and slopes, one layer after another. Each layer's is a program of its
own, which all pairs of layers of these shapes share. Everything here is JAX,
runs in the dtype of its arrays, and may be jitted.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.bounds.arguments import as_array, check_callable, probability
from htjax.bounds.networks import Activation, check_network, pre_activations
from htjax.checks import check_count, check_key, check_range, is_concrete
from htjax.products import full_precision
from htjax.types import Array, ArrayLike, PRNGKey

# Numbers in the states of those draws that are passed on at a time: 32 MiB in
# float32.
_BLOCK = 2**23

_with_activation = functools.partial(jax.jit, static_argnames='activation')


@full_precision
def layer_cushions(
  layers: Sequence[ArrayLike],
  x: ArrayLike,
  *,
  activation: Activation = jax.nn.relu,
) -> Array:
  """Layer cushions mu_i = min_x |phi(x^{i-1}) W_i| / (|W_i|_F |phi(x^{i-1})|).

  mu_i is the largest number with mu_i |W_i|_F |phi(x^{i-1})| <= |phi(x^{i-1})
  W_i|, so an input that a layer sees as zero bounds nothing and is left out, as
  is a layer of zeros. The first layer sees the input itself. 1 / mu_i is at
  least the square root of the stable rank.

  Args:
    layers: matrices [fan_in, fan_out], first to last.
    x: inputs [m, fan_in].
    activation: phi, elementwise.

  Returns:
    [L]; infinite where a layer is zero or sees nothing but zeros; NaN for NaN.

  Raises:
    ValueError: if shapes do not fit.

  Source: [SH], eqs. (17) and (50).
  """
  layers, x = check_network(layers, x)
  check_callable('activation', activation)
  return _layer_cushions(layers, x, activation=activation)


@_with_activation
def _layer_cushions(
  layers: list[Array], x: Array, *, activation: Activation
) -> Array:
  states = pre_activations(layers, x, activation=activation)
  seen = [x, *(activation(s) for s in states[:-1])]
  return jnp.stack(
    [
      _smallest_ratio(out, jnp.linalg.norm(w) * _norms(into))
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


@full_precision
def interlayer_cushions(
  layers: Sequence[ArrayLike],
  x: ArrayLike,
  *,
  activation: Activation = jax.nn.relu,
  key: PRNGKey | None = None,
  num_probes: int | None = None,
) -> InterlayerCushions:
  """Cushions mu_ij = min_x |J x^i| / (|J|_F |x^i|), J that of x^i -> x^j.

  J is the Jacobian. Inputs with x^i = 0 or J = 0, whose units are all dead
  between i and j, bound nothing and are left out; mu_ij is infinite if that is
  all of them. |J|_F^2 is the sum of |J^T z|^2 over unit vectors z, one reverse
  product each, or without bias its mean over `num_probes` Gaussian z, with
  relative standard error at most sqrt(2 / num_probes).

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

  Source: [SH], eqs. (51)-(52).
  """
  layers, x = check_network(layers, x)
  check_callable('activation', activation)
  if (key is None) != (num_probes is None):
    raise ValueError('key and num_probes must be given together or not at all')
  if key is not None:
    key = check_key(key)
    check_count('num_probes', num_probes)
  states, slopes = _passage(layers, x, activation=activation)
  depth, dtype = len(layers), x.dtype
  images, squares = {}, {}
  for i in range(depth - 1):
    image = states[i]
    for j in range(i + 1, depth):
      image, images[i, j] = _push(image, slopes[j - 1], layers[j])
  for i, j in itertools.combinations(range(depth), 2):
    size = layers[j].shape[1]
    if key is None or num_probes is None:
      probes = jnp.eye(size, dtype=dtype)
    else:
      probes = _probes(key, i * depth + j, (num_probes, size), dtype)
    pull = functools.partial(_pull_all, layers[i + 1 : j + 1], slopes[i:j])
    numbers = len(x) * max(w.shape[0] for w in layers[i + 1 : j + 1])
    squares[i, j] = _in_blocks(pull, probes, numbers)
  return _gathered(images, squares, states)


@_with_activation
def _passage(
  layers: list[Array], x: Array, *, activation: Activation
) -> tuple[list[Array], list[Array]]:
  """States of all layers, and the slopes of the activation in the hidden."""
  states = pre_activations(layers, x, activation=activation)
  return states, [
    jax.jvp(activation, (s,), (jnp.ones_like(s),))[1] for s in states[:-1]
  ]


@jax.jit
def _push(v: Array, slopes: Array, w: Array) -> tuple[Array, Array]:
  """J v of one layer for each input, and its norms."""
  image = (v * slopes) @ w
  return image, _norms(image)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _probes(
  key: PRNGKey, draw: ArrayLike, shape: tuple[int, int], dtype: Any
) -> Array:
  normal = jax.random.normal(jax.random.fold_in(key, draw), shape, dtype)
  return normal / math.sqrt(shape[0])


def _pull_all(layers: list[Array], slopes: list[Array], z: Array) -> Array:
  """|J^T z|^2 of several layers, for each probe and input."""
  for w, slope in zip(layers[::-1], slopes[::-1], strict=True):
    z, squares = _pull(z, slope, w)
  return squares


@jax.jit
def _pull(z: Array, slopes: Array, w: Array) -> tuple[Array, Array]:
  """J^T z of one layer for each input, and its squared norms.

  Probes [n, fan_out] are those of all inputs, [n, m, fan_out] of each.
  """
  back = z @ w.T
  back = (back[:, None] if z.ndim == 2 else back) * slopes[None]
  return back, jnp.sum(back**2, axis=-1)


@jax.jit
def _gathered(
  images: dict[tuple[int, int], Array],
  squares: dict[tuple[int, int], Array],
  states: list[Array],
) -> InterlayerCushions:
  """Cushions of all pairs from |J x^i| and |J^T z|^2."""
  depth, dtype = len(states), states[0].dtype
  pairs = jnp.full((depth, depth), jnp.nan, dtype)
  for i, state in enumerate(states):
    pairs = pairs.at[i, i].set(jnp.asarray(state.shape[1], dtype) ** -0.5)
  for (i, j), image in images.items():
    sizes = jnp.sqrt(jnp.sum(squares[i, j], axis=0)) * _norms(states[i])
    pairs = pairs.at[i, j].set(jnp.min(_ratio(image, sizes)))
  minimal = [jnp.min(pairs[i, i:]) for i in range(depth)]
  return InterlayerCushions(pairs, jnp.stack(minimal))


def _in_blocks(
  function: Callable[[Array], Array], rows: Array, numbers: int
) -> Array:
  """function(rows), for so many rows at a time as `_BLOCK` allows.

  Args:
    function: from [n, ...] to [n, ...], of each row by itself.
    rows: [n, ...].
    numbers: what it holds for one row.
  """
  n = len(rows)
  count = min(n, math.ceil(n * numbers / _BLOCK))
  if count <= 1:
    return function(rows)
  size = math.ceil(n / count)
  # Of one size, so that they share their programs; the last row comes again.
  index = np.minimum(np.arange(count * size), n - 1).reshape(count, size)
  if is_concrete(rows):
    found = jnp.stack([function(rows[part]) for part in index])
  else:
    found = lax.map(function, rows[index])
  return found.reshape(count * size, *found.shape[2:])[:n]


@full_precision
def activation_contraction(
  layers: Sequence[ArrayLike],
  x: ArrayLike,
  *,
  activation: Activation = jax.nn.relu,
) -> Array:
  """Contraction c = max over hidden layers and inputs of |x^i| / |phi(x^i)|.

  Args:
    layers: matrices [fan_in, fan_out], first to last; at least two.
    x: inputs [m, fan_in].
    activation: phi, elementwise.

  Returns:
    []; infinite if an activation kills a whole non-zero layer.

  Raises:
    ValueError: if shapes do not fit, or there is no hidden layer.

  Source: [SH], eq. (53).
  """
  layers, x = check_network(layers, x)
  check_callable('activation', activation)
  if len(layers) < 2:
    raise ValueError('layers must have a hidden layer, got one matrix')
  return _contraction(layers, x, activation=activation)


@_with_activation
def _contraction(
  layers: list[Array], x: Array, *, activation: Activation
) -> Array:
  states = pre_activations(layers, x, activation=activation)[:-1]
  # No state is contracted if it is zero.
  ratios = [
    jnp.where(_norms(s) == 0, 0, _ratio(_norms(s), _norms(activation(s))))
    for s in states
  ]
  return jnp.max(jnp.stack([jnp.max(r) for r in ratios]))


@full_precision
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
    []; infinite where the network is linear. Inputs that reach a layer as zero
    have no noise there and are left out.

  Raises:
    ValueError: if shapes do not fit, or a number is out of range.

  Source: [SH], eq. (54).
  """
  key = check_key(key)
  layers, x = check_network(layers, x)
  check_callable('activation', activation)
  delta = probability('delta', delta)
  noise_scale = as_array('noise_scale', noise_scale)
  check_range('noise_scale', noise_scale, 0, math.inf, open_low=True)
  if noise_scale.ndim:
    raise ValueError(
      f'noise_scale must be one number, got shape {noise_scale.shape}'
    )
  check_count('num_draws', num_draws, math.ceil(1 / delta))
  if len(layers) < 2:
    raise ValueError('layers must have a hidden layer, got one matrix')
  states, slopes = _passage(layers, x, activation=activation)
  found = {}
  for i, j in itertools.combinations(range(len(layers)), 2):
    move = functools.partial(_moved, states[i], noise_scale)
    depart = functools.partial(
      _departures, activation, layers[i + 1 : j + 1], slopes[i:j], move
    )
    keys = _draw_keys(key, i * len(layers) + j, num_draws)
    sides = [n for w in layers[i + 1 : j + 1] for n in w.shape]
    found[i, j] = _in_blocks(depart, keys, len(x) * max(sides))
  return _smoothness(found, states, delta)


@functools.partial(jax.jit, static_argnums=2)
def _draw_keys(key: PRNGKey, draw: ArrayLike, num: int) -> PRNGKey:
  return jax.random.split(jax.random.fold_in(key, draw), num)


@jax.jit
def _moved(
  states: Array, noise_scale: Array, keys: PRNGKey
) -> tuple[Array, Array]:
  """States with noise, for each key, and the norms of the noise."""
  sizes = noise_scale * _norms(states)[:, None] / math.sqrt(states.shape[1])

  def draw(key: PRNGKey) -> Array:
    return sizes * jax.random.normal(key, states.shape, states.dtype)

  noise = jax.vmap(draw)(keys)
  return states[None] + noise, _norms(noise)


def _departures(
  activation: Activation,
  layers: list[Array],
  slopes: list[Array],
  move: Callable[[PRNGKey], tuple[Array, Array]],
  keys: PRNGKey,
) -> Array:
  """|e| and |M(x+e) - J(x+e)| for each key and input, [n, m, 2]."""
  moved, size = move(keys)
  linear = moved
  *before, last = zip(layers, slopes, strict=True)
  for w, slope in before:
    moved, linear = _onward(moved, linear, slope, w, activation=activation)
  w, slope = last
  return _departure(size, moved, linear, slope, w, activation=activation)


@_with_activation
def _onward(
  moved: Array,
  linear: Array,
  slopes: Array,
  w: Array,
  *,
  activation: Activation,
) -> tuple[Array, Array]:
  return activation(moved) @ w, (linear * slopes[None]) @ w


@_with_activation
def _departure(
  size: Array,
  moved: Array,
  linear: Array,
  slopes: Array,
  w: Array,
  *,
  activation: Activation,
) -> Array:
  error = _norms((activation(moved) - linear * slopes[None]) @ w)
  return jnp.stack([size, error], axis=-1)


@jax.jit
def _smoothness(
  found: dict[tuple[int, int], Array], states: list[Array], delta: float
) -> Array:
  """The least over pairs and inputs of the delta-quantile over draws."""
  lengths = [_norms(s) for s in states]
  smallest = []
  for (i, j), pair in found.items():
    noise, error = pair[..., 0], pair[..., 1]
    ratios = _ratio(noise * lengths[j][None], error * lengths[i][None])
    quantile = jnp.quantile(ratios, delta, axis=0, method='lower')
    smallest.append(jnp.min(quantile))
  return jnp.min(jnp.stack(smallest))


def _norms(x: Array) -> Array:
  return jnp.linalg.norm(x, axis=-1)


def _smallest_ratio(vectors: Array, sizes: Array) -> Array:
  """min |v| / size; a size of 0 bounds nothing."""
  return jnp.min(_ratio(_norms(vectors), sizes))


def _ratio(numerator: Array, denominator: Array) -> Array:
  """Their ratio, infinite where the denominator is 0."""
  none = denominator == 0
  return jnp.where(none, jnp.inf, numerator / jnp.where(none, 1, denominator))
