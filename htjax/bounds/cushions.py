"""Cushions, contraction and smoothness: how a network passes its inputs on.

A network is a list of matrices as in `networks`. Jacobians are never formed:
they act through forward and reverse products. Everything here is JAX, runs in
the dtype of its arrays, and may be jitted.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.bounds.arguments import as_array, check_callable, probability
from htjax.bounds.networks import Activation, check_network, pre_activations
from htjax.checks import check_count, check_key, check_range
from htjax.types import Array, ArrayLike, PRNGKey


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


@functools.partial(jax.jit, static_argnames='activation')
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
  states = pre_activations(layers, x, activation=activation)
  depth, dtype = len(layers), x.dtype
  found = {}
  for i, j in itertools.combinations(range(depth), 2):
    size = layers[j].shape[1]
    if key is None or num_probes is None:
      probes = jnp.eye(size, dtype=dtype)
    else:
      draw = jax.random.fold_in(key, i * depth + j)
      probes = _probes(draw, (num_probes, size), dtype)
    found[i, j] = _cushion(
      layers[i + 1 : j + 1], states[i], probes, activation=activation
    )
  return _table(found, tuple(w.shape[1] for w in layers), dtype)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _probes(key: PRNGKey, shape: tuple[int, int], dtype: np.dtype) -> Array:
  return jax.random.normal(key, shape, dtype) / math.sqrt(shape[0])


@functools.partial(jax.jit, static_argnums=(1, 2))
def _table(
  found: dict[tuple[int, int], Array],
  fan_out: tuple[int, ...],
  dtype: np.dtype,
) -> InterlayerCushions:
  pairs = jnp.full((len(fan_out),) * 2, jnp.nan, dtype)
  for i, size in enumerate(fan_out):
    pairs = pairs.at[i, i].set(jnp.asarray(size, dtype) ** -0.5)
  for place, cushion in found.items():
    pairs = pairs.at[place].set(cushion)
  minimal = [jnp.min(pairs[i, i:]) for i in range(len(fan_out))]
  return InterlayerCushions(pairs, jnp.stack(minimal))


# One program for each pair of shapes: layers of one width share theirs.
@functools.partial(jax.jit, static_argnames='activation')
def _cushion(
  between: list[Array], states: Array, probes: Array, *, activation: Activation
) -> Array:
  def function(state: Array) -> Array:
    return _onward(between, state, activation)

  def image_and_size(state: Array) -> tuple[Array, Array]:
    image = jax.jvp(function, (state,), (state,))[1]
    back = jax.vjp(function, state)[1]
    squares = lax.map(lambda z: jnp.sum(back(z)[0] ** 2), probes)
    return image, jnp.sqrt(jnp.sum(squares))

  images, sizes = jax.vmap(image_and_size)(states)
  return _smallest_ratio(images, sizes * _norms(states))


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


@functools.partial(jax.jit, static_argnames='activation')
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
    smallest.append(_least_quantile(ratios, delta))
  return jnp.min(jnp.stack(smallest))


@jax.jit
def _least_quantile(ratios: Array, delta: ArrayLike) -> Array:
  return jnp.min(jnp.quantile(ratios, delta, axis=0, method='lower'))


@functools.partial(jax.jit, static_argnames='activation')
def _smoothness(
  keys: PRNGKey,
  between: list[Array],
  states: Array,
  noise_scale: Array,
  *,
  activation: Activation,
) -> Array:
  def function(state: Array) -> Array:
    return _onward(between, state, activation)

  # The point of linearization is the same for all draws.
  images, linear = jax.linearize(function, states)

  def ratios(key: PRNGKey) -> Array:
    noise = jax.random.normal(key, states.shape, states.dtype)
    noise *= noise_scale * _norms(states)[:, None] / math.sqrt(states.shape[1])
    moved = states + noise
    error = _norms(function(moved) - linear(moved))
    return _ratio(_norms(noise) * _norms(images), error * _norms(states))

  return lax.map(ratios, keys)


def _onward(
  between: list[Array], state: Array, activation: Activation
) -> Array:
  for w in between:
    state = activation(state) @ w
  return state


def _norms(x: Array) -> Array:
  return jnp.linalg.norm(x, axis=-1)


def _smallest_ratio(vectors: Array, sizes: Array) -> Array:
  """min |v| / size; a size of 0 bounds nothing."""
  return jnp.min(_ratio(_norms(vectors), sizes))


def _ratio(numerator: Array, denominator: Array) -> Array:
  """Their ratio, infinite where the denominator is 0."""
  none = denominator == 0
  return jnp.where(none, jnp.inf, numerator / jnp.where(none, 1, denominator))
