"""Tail index of the noise of stochastic gradients.

Minibatch gradient minus full gradient, at fixed weights. Two questions are
asked of it, with an estimator each: whether its coordinates, taken together,
look like draws of one stable law (`mmo_univariate`, the estimator of the
paper), and how its norm falls off (`hill`). The first takes strict stability
for granted: of Gaussian coordinates whose variances differ between weights, as
they do in a network, it finds an index below 2 although no tail is heavy. The
second asks for no law, but sees little of the tail in few batches. So both are
returned, and the first also with each coordinate in units of its own spread,
which undoes that effect. On a finite training set gradient noise is bounded: an
index describes it over the sizes that occur, not beyond.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from htjax.checks import check_callable, check_count, check_key, checked
from htjax.tail_index.block_sums import mmo_univariate
from htjax.tail_index.estimate import TailEstimate
from htjax.tail_index.order_statistics import hill
from htjax.types import Array, ArrayLike, PRNGKey, PyTree


class GradientNoise(NamedTuple):
  """Indices of gradient noise at one point of a training.

  Attributes:
    coordinates: `mmo_univariate` of all coordinates of all batches.
    scaled: likewise, each coordinate over its mean magnitude over batches.
    norms: `hill` of the norms, of their largest tenth.
    samples: the noise itself, [batches, weights].
  """

  coordinates: TailEstimate
  scaled: TailEstimate
  norms: TailEstimate
  samples: Array


@checked
def gradient_noise(
  key: PRNGKey,
  loss: Callable[[PyTree, Any, Any], Array],
  params: PyTree,
  x: ArrayLike,
  y: ArrayLike,
  *,
  batch_size: int,
  num_batches: int = 200,
) -> GradientNoise:
  """Noise of minibatch gradients at fixed weights, and its tail index.

  Call it along a training, at weights of several steps.

  Args:
    key: typed key, of the batches.
    loss: (params, x, y) -> mean loss of a batch.
    params: pytree of arrays.
    x: inputs of all n examples, [n, ..].
    y: targets, [n, ..].
    batch_size: b < n, drawn without replacement.
    num_batches: at least 20; memory is that of as many gradients.

  Returns:
    GradientNoise. Coordinates are taken in a random order, since the block sums
    of the estimator ask for independent ones. Standard errors take coordinates
    for independent; those of a gradient are not, and the true ones are larger.

  Raises:
    ValueError: a loss that is no function, b or the number of batches out of
      range, weights that no batch has a gradient in.

  Source: [Simsekli2019], section 4; [Mohammadi2015], corollary 2.4;
    [Hill1975].

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import tail_index
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> x, w = jax.random.normal(keys[0], (500, 20)), jnp.zeros(20)
    >>> y = x[:, 0] + jax.random.normal(keys[1], (500,))
    >>> def loss(w, x, y):
    ...   return jnp.mean((x @ w - y) ** 2)
    >>> noise = tail_index.gradient_noise(keys[2], loss, w, x, y, batch_size=50)
    >>> noise.samples.shape, bool(noise.scaled.alpha > 1.8)
    ((200, 20), True)
  """
  key = check_key(key)
  check_callable('loss', loss)
  x, y = jnp.asarray(x), jnp.asarray(y)
  if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
    raise ValueError(
      f'x and y must have as many examples, got shapes {x.shape} and {y.shape}'
    )
  check_count('batch_size', batch_size)
  check_count('num_batches', num_batches, 20)
  if batch_size >= len(x):
    raise ValueError(
      f'batch_size must be below the {len(x)} examples, got {batch_size}'
    )
  keys = jax.random.split(key, 3)
  samples = _samples(keys[0], loss, params, x, y, batch_size, num_batches)
  spread = jnp.mean(jnp.abs(samples), axis=0)
  seen = spread > 0
  if not bool(jnp.any(seen)):
    raise ValueError('loss must have a gradient that differs between batches')
  used = samples[:, seen]
  scaled = used / spread[seen][None]
  return GradientNoise(
    mmo_univariate(jax.random.permutation(keys[1], used.reshape(-1))),
    mmo_univariate(jax.random.permutation(keys[2], scaled.reshape(-1))),
    hill(jnp.linalg.norm(used, axis=1), max(2, num_batches // 10)),
    samples,
  )


@functools.partial(
  jax.jit, static_argnames=('loss', 'batch_size', 'num_batches')
)
def _samples(
  key: PRNGKey,
  loss: Callable[[PyTree, Any, Any], Array],
  params: PyTree,
  x: Array,
  y: Array,
  batch_size: int,
  num_batches: int,
) -> Array:
  def gradient(x: Array, y: Array) -> Array:
    tree = jax.grad(loss)(params, x, y)
    return jnp.concatenate([g.reshape(-1) for g in jax.tree.leaves(tree)])

  full = gradient(x, y)

  def noise(own: PRNGKey) -> Array:
    chosen = jax.random.permutation(own, len(x))[:batch_size]
    return gradient(x[chosen], y[chosen]) - full

  return jax.lax.map(noise, jax.random.split(key, num_batches))
