"""Sizes of sketches from which their sparse matrices come back."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from ml_collections import ConfigDict

from experiments.common.cells import Row
from htjax import sketching
from htjax.types import Array, PRNGKey


def recovery(config: ConfigDict, key: PRNGKey, p: int, j: int) -> list[Row]:
  """Count of X that come back from A X B^T, for sketches of many sizes."""

  def row(i: int, m: int, ones: int) -> Row:
    own = jax.random.fold_in(jax.random.fold_in(key, i), ones)
    keys = jax.random.split(own, config.draws)
    errors, found = recover_many(
      *draw_many(keys, p=p, j=j, m=m, delta=ones),
      max_iterations=config.max_iterations,
      # Batched products are slower on a CPU.
      at_once=1 if jax.default_backend() == 'cpu' else config.draws,
    )
    return {
      'study': 'recovery',
      'p': p,
      'j': j,
      'm': m,
      'ones': ones,
      'draws': config.draws,
      'recovered': int(jnp.sum(errors < 1e-3)),
      'converged': int(jnp.sum(found.converged)),
      'iterations': float(jnp.median(found.num_iterations)),
      'theorem': sketching.sketch_dimension(j, j, (p, p)),
    }

  sizes = enumerate(round(fraction * p) for fraction in config.fractions)
  return [row(i, m, n) for i, m in sizes for n in config.ones if n <= m]


@functools.partial(jax.jit, static_argnames=('p', 'j', 'm', 'delta'))
def draw_many(
  keys: Array, *, p: int, j: int, m: int, delta: int
) -> tuple[Array, Array, Array]:
  """X [n, p, p] with j nonzeros a row, and A and B [n, m, p] to sketch it."""

  def one(key):
    values, places, left, right = jax.random.split(key, 4)
    a, b = (sketching.bipartite_ensemble(k, m, p, delta) for k in (left, right))
    entries = jax.random.normal(values, (p, p))
    return jnp.where(sketching.sparse_mask(places, p, j), entries, 0.0), a, b

  return jax.vmap(one)(keys)


# Apart from the draws: its one program for each p and m takes seconds to make.
@functools.partial(jax.jit, static_argnames=('max_iterations', 'at_once'))
def recover_many(
  x: Array, a: Array, b: Array, *, max_iterations: int, at_once: int
) -> tuple[Array, sketching.Recovery]:
  """Of each matrix the error over the largest entry, and the recovery."""

  def one(triple):
    x, a, b = triple
    found = sketching.recover(
      sketching.sketch(x, a, b), a, b, max_iterations=max_iterations
    )
    return jnp.max(jnp.abs(found.x - x)) / jnp.max(jnp.abs(x)), found

  return lax.map(one, (x, a, b), batch_size=at_once)
