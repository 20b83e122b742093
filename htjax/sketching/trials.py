"""Random sparse matrices, sketched, and which of them come back."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from htjax.checks import check_count, check_key, checked
from htjax.sketching.ensembles import bipartite_ensemble, sparse_mask
from htjax.sketching.l1_recovery import Recovery, recover
from htjax.sketching.sizes import sketch
from htjax.types import Array, PRNGKey


class Trials(NamedTuple):
  """Recoveries of n random matrices.

  Attributes:
    error: [n], largest error of an entry over the largest entry.
    recovery: of each, its arrays with an axis n in front.
  """

  error: Array
  recovery: Recovery


@checked
def recovery_trials(
  key: PRNGKey,
  p: int,
  j: int,
  m: int,
  delta: int,
  num_draws: int,
  *,
  max_iterations: int = 20_000,
  at_once: int = 1,
) -> Trials:
  """Draw sparse matrices and sketches of one size, and recover each.

  Entries are N(0, 1) in the places of `sparse_mask`, A and B of
  `bipartite_ensemble`. The share of errors near 0 says whether sketches of m
  rows are enough.

  Args:
    key: typed key.
    p: side of the matrices.
    j: most nonzeros in a row and in a column, at least 1.
    m: side of the sketches, 1 <= m <= p.
    delta: ones per column of A and B before collisions, 1 <= delta <= m.
    num_draws: n, matrices drawn.
    max_iterations: of `recover`.
    at_once: matrices in a batch, at least 1; on a CPU one by one is faster.

  Returns:
    Trials.

  Raises:
    ValueError: for counts out of range.

  Source: [SK], section 5.

  Examples:
    >>> import jax
    >>> from htjax import sketching
    >>> key = jax.random.key(0)
    >>> found = sketching.recovery_trials(key, 8, 1, 8, 2, num_draws=3)
    >>> found.error.shape, found.recovery.x.shape
    ((3,), (3, 8, 8))
  """
  key = check_key(key)
  counts = {'num_draws': num_draws, 'at_once': at_once}
  for name, count in counts.items():
    check_count(name, count)
  drawn = _draw(jax.random.split(key, num_draws), p=p, j=j, m=m, delta=delta)
  return _recover(*drawn, max_iterations=max_iterations, at_once=at_once)


@functools.partial(jax.jit, static_argnames=('p', 'j', 'm', 'delta'))
def _draw(
  keys: Array, *, p: int, j: int, m: int, delta: int
) -> tuple[Array, Array, Array]:
  """X [n, p, p] with j nonzeros a row, and A and B [n, m, p] to sketch it."""

  def one(key: PRNGKey) -> tuple[Array, Array, Array]:
    values, places, left, right = jax.random.split(key, 4)
    a, b = (bipartite_ensemble(k, m, p, delta) for k in (left, right))
    entries = jax.random.normal(values, (p, p))
    return jnp.where(sparse_mask(places, p, j), entries, 0.0), a, b

  return jax.vmap(one)(keys)


# Apart from the draws: its one program for each p and m takes seconds to make.
@functools.partial(jax.jit, static_argnames=('max_iterations', 'at_once'))
def _recover(
  x: Array, a: Array, b: Array, *, max_iterations: int, at_once: int
) -> Trials:
  def one(triple: tuple[Array, Array, Array]) -> Trials:
    x, a, b = triple
    found = recover(sketch(x, a, b), a, b, max_iterations=max_iterations)
    return Trials(jnp.max(jnp.abs(found.x - x)) / jnp.max(jnp.abs(x)), found)

  return lax.map(one, (x, a, b), batch_size=at_once)
