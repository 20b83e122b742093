"""Whether the entries of a layer are as if independent and of one law.

The theorems on pruning assume that any few entries of a wide layer tend to
independent ones of one law. Two things of that can be tested on one matrix: two
random halves of the entries have one law, and magnitudes do not depend on each
other over rows or over columns. What cannot be tested is the limit itself.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_count, check_key, checked, is_concrete
from htjax.floats import as_floating
from htjax.types import Array, ArrayLike, PRNGKey


class Halves(NamedTuple):
  """Distance of two halves, floats.

  Attributes:
    distance: of Kolmogorov and Smirnov, between the two halves.
    p_value: of that distance if the halves are samples of one law.
  """

  distance: float
  p_value: float


class Dependence(NamedTuple):
  """Dependence of magnitudes along one axis, floats.

  Attributes:
    share: of the variance of ln|w| that lies between rows (or columns), less
      what independent entries would show: about 0 if they are independent, 1
      if all entries of a row are of one size.
    p_value: of the share under permutations of all entries.
  """

  share: float
  p_value: float


@checked
def halves(key: PRNGKey, leaf: ArrayLike, *, split: str = 'entries') -> Halves:
  """Two-sample distance between random halves of a layer.

  Of single entries the halves always have one law, whatever the layer, since
  they are chosen at random: the distance says how well an empirical law of so
  many entries is known, as in the paper's figure. Of whole columns or rows the
  distance is large where these differ in size.

  Args:
    key: typed key.
    leaf: [rows, columns], or [.., in, out].
    split: 'entries', 'columns' (the last axis) or 'rows' (all others), static.

  Returns:
    Halves; the p-value is that of independent entries, so a small one with
    'columns' or 'rows' means entries that are not.

  Raises:
    ValueError: fewer than two things to split, traced or not finite entries.

  Source: [HT], eqs. (3) and (4), and the figure of two halves.

  Examples:
    >>> import jax
    >>> from htjax import stable, tail_index
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> leaf = stable.sample(keys[0], 1.8, (100, 50))
    >>> tail_index.halves(keys[1], leaf, split='columns').p_value > 1e-4
    True
  """
  from scipy import stats

  key = check_key(key)
  if split not in ('entries', 'columns', 'rows'):
    raise ValueError(
      f"split must be 'entries', 'columns' or 'rows', got {split!r}"
    )
  matrix = _matrix(leaf)
  parts = {'entries': matrix.reshape(-1, 1), 'rows': matrix}.get(
    split, matrix.T
  )
  if len(parts) < 2:
    raise ValueError(f'leaf must have at least two {split}, got {len(parts)}')
  order = np.asarray(jax.random.permutation(key, len(parts)))
  first, second = np.array_split(parts[order], 2)
  result = stats.ks_2samp(first.ravel(), second.ravel(), method='asymp')
  return Halves(float(result.statistic), float(result.pvalue))


@checked
def magnitude_dependence(
  key: PRNGKey, leaf: ArrayLike, *, num_permutations: int = 199
) -> dict[str, Dependence]:
  """Dependence of |w| over the rows and over the columns of a layer.

  A one-way analysis of variance of ln|w|, whose variance is finite for every
  stable law: the variance of the row means beyond the one that independent
  entries have, as a share of the whole.

  Args:
    key: typed key, of the permutations.
    leaf: [rows, columns], or [.., in, out], whose rows are all axes but the
      last. Zeros are left at the smallest magnitude that is not zero.
    num_permutations: of all entries, under which the share is compared.

  Returns:
    {'rows': Dependence, 'columns': Dependence}. Permutations are of entries, so
    that the p-values are exact for independent entries of any one law; the
    least is 1 / (num_permutations + 1).

  Raises:
    ValueError: a side of length 1, zeros only, traced or not finite entries.

  Source: [HT], eqs. (3) and (4) (independence in the limit).

  Examples:
    >>> import jax
    >>> from htjax import stable, tail_index
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> columns = stable.sample_vectors(
    ...   keys[0], 1.5, (50, 40), kind='type3', axis=0
    ... )
    >>> found = tail_index.magnitude_dependence(
    ...   keys[1], columns, num_permutations=49
    ... )
    >>> found['columns'].p_value, found['columns'].share > 0.05
    (0.02, True)
  """
  key = check_key(key)
  check_count('num_permutations', num_permutations)
  matrix = np.abs(_matrix(leaf))
  if min(matrix.shape) < 2:
    raise ValueError(f'leaf must have two sides above 1, got {matrix.shape}')
  if not matrix.any():
    raise ValueError('leaf must not be zero everywhere')
  logs = np.log(np.maximum(matrix, matrix[matrix > 0].min()))
  spread = float(np.var(logs))
  if spread == 0:
    raise ValueError('leaf must not have one magnitude everywhere')
  scores = jnp.asarray((logs - logs.mean()) / np.sqrt(spread), jnp.float32)
  observed, others = _shares(key, scores, num_permutations)
  more = np.sum(np.asarray(others) >= np.asarray(observed), axis=0)
  p_values = (1 + more) / (num_permutations + 1)
  return {
    name: Dependence(float(observed[i]), float(p_values[i]))
    for i, name in enumerate(('rows', 'columns'))
  }


def _matrix(leaf: ArrayLike) -> np.ndarray:
  array = as_floating('leaf', leaf)
  if not is_concrete(array):
    raise ValueError('leaf must be concrete, got a traced array')
  if array.ndim < 2 or array.size == 0:
    raise ValueError(
      f'leaf must be of rank 2 or more and not empty, got {array.shape}'
    )
  matrix = np.asarray(array, np.float64).reshape(-1, array.shape[-1])
  if not np.all(np.isfinite(matrix)):
    raise ValueError('leaf must be finite, got NaN or infinity')
  return matrix


@functools.partial(jax.jit, static_argnums=2)
def _shares(
  key: PRNGKey, scores: Array, num_permutations: int
) -> tuple[Array, Array]:
  """Shares of rows and columns, observed [2] and permuted [permutations, 2]."""

  def share(x: Array) -> Array:
    return jnp.stack([_excess(x), _excess(x.T)])

  def permuted(own: PRNGKey) -> Array:
    order = jax.random.permutation(own, scores.reshape(-1))
    return share(order.reshape(scores.shape))

  keys = jax.random.split(key, num_permutations)
  return share(scores), jax.lax.map(permuted, keys)


def _excess(x: Array) -> Array:
  """Variance between rows beyond that of independent entries, of variance 1."""
  rows, length = x.shape
  between = jnp.sum(jnp.mean(x, axis=1) ** 2) / (rows - 1)
  within = (x.size - length * jnp.sum(jnp.mean(x, axis=1) ** 2)) / (
    rows * (length - 1)
  )
  component = between - within / length
  return component / (component + within)
