"""Random bipartite graphs to sketch with, and sparse places to be sketched."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from htjax.checks import (
  check_choice,
  check_count,
  check_floating,
  check_key,
  check_range,
  checked,
)
from htjax.types import Array, PRNGKey

VARIANTS = ('corrected', 'paper')


@checked
def bipartite_ensemble(
  key: PRNGKey,
  m: int,
  p: int,
  delta: int,
  *,
  dtype: jax.typing.DTypeLike = jnp.float32,
  variant: str = 'corrected',
) -> Float[Array, 'm p']:
  """Random 0-1 matrix [m, p] in which each of the p columns picks delta rows.

  Rows are picked uniformly with replacement, so a column has at least 1 and at
  most delta ones. In print ('paper') each of the m rows picks delta columns:
  then some columns stay empty, and what they multiply is lost.

  Args:
    key: typed key.
    m: rows, 1 <= m <= p: a sketch larger than the matrix is refused.
    p: columns.
    delta: ones per column before collisions, 1 <= delta <= m ('paper': per
      row, at most p).
    dtype: float32 or float64.
    variant: 'corrected' or 'paper'.

  Returns:
    [m, p] of zeros and ones.

  Raises:
    ValueError: for counts out of range or another dtype.

  Source: [Dasarathy2013], Definition 2; [SK], Definition F.1.

  Examples:
    >>> import jax
    >>> from htjax import sketching
    >>> a = sketching.bipartite_ensemble(jax.random.key(0), 6, 8, 2)
    >>> a.shape, int(a.sum(axis=0).max())
    ((6, 8), 2)
  """
  key = check_key(key)
  dtype = check_floating('dtype', dtype)
  check_choice('variant', variant, VARIANTS)
  check_count('p', p)
  check_count('m', m)
  check_range('m', m, 1, p)
  check_count('delta', delta)
  left, right = (m, p) if variant == 'corrected' else (p, m)
  check_range('delta', delta, 1, left)
  picks = jax.random.randint(key, (right, delta), 0, left)
  matrix = jnp.zeros((left, right), dtype)
  matrix = matrix.at[picks, jnp.arange(right)[:, None]].set(1)
  return matrix if variant == 'corrected' else matrix.T


@checked
def sparse_mask(key: PRNGKey, p: int, j: int) -> Bool[Array, 'p p']:
  """Random places with at most j in any row and in any column.

  A full diagonal and j - 1 random permutations, which may meet.

  Args:
    key: typed key.
    p: side of the matrix.
    j: at least 1.

  Returns:
    Booleans [p, p].

  Raises:
    ValueError: for counts below 1.

  Source: [SK], section 5, the matrices for which sketches are meant.

  Examples:
    >>> import jax
    >>> from htjax import sketching
    >>> mask = sketching.sparse_mask(jax.random.key(0), 50, 3)
    >>> int(mask.sum(axis=0).max()), int(mask.sum(axis=1).max())
    (3, 3)
  """
  key = check_key(key)
  check_count('p', p)
  check_count('j', j)
  mask = jnp.eye(p, dtype=bool)
  for own in jax.random.split(key, j - 1) if j > 1 else ():
    mask |= jnp.eye(p, dtype=bool)[jax.random.permutation(own, p)]
  return mask
