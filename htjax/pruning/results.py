"""What every pruning kernel returns, and what it does with the pytree."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from htjax.checks import check_finite
from htjax.compressibility import num_true
from htjax.selection import Selection, path_components, resolve
from htjax.types import Array, ArrayLike, PyTree


class Pruned(NamedTuple):
  """Pruned parameters and what was removed from them.

  The properties are of one result; `jax.vmap` them over a curve of results.

  Attributes:
    params: the parameters, same structure, shapes and dtypes, with zeros (the
      layer's median, Gaussian draws: see the kernel) at pruned entries; leaves
      not selected are those that came in.
    mask: pytree of boolean arrays of the leaves' shapes: whether an entry was
      kept. All True in leaves not selected.
    kept: int32 [], numbers to store for the selected leaves: the number of
      True in their masks, and what else the kernel needs, such as medians.
      Where the masks' entries lie is not counted.
    total: int32 [], entries of the selected leaves.
  """

  params: PyTree
  mask: PyTree
  kept: Array
  total: Array

  @property
  def ratio(self) -> Array:
    """Pruning ratio 1 - kept / total, so weighted by the leaves' sizes."""
    return (self.total - self.kept) / self.total

  @property
  def network_ratio(self) -> Array:
    """Pruning ratio of the whole pytree: leaves not selected count as kept."""
    size = sum(m.size for m in jax.tree.leaves(self.mask))
    return (self.total - self.kept) / size

  @property
  def leaf_ratios(self) -> PyTree:
    """Pruned fraction of each leaf's entries, as a pytree like `params`."""
    return jax.tree.map(lambda m: num_true(~m) / m.size, self.mask)

  @property
  def masked(self) -> Array:
    """int32 [], entries that the masks prune."""
    return _sum(num_true(~m) for m in self._masks())

  @property
  def removed(self) -> Array:
    """int32 [], those of the masked entries that a smaller array is without.

    They lie where nothing is kept at an index of some axis: in a pruned
    column, row or filter. The others still take their place in memory, unless
    a sparse format is used. `compact` can remove more, since a pruned column
    makes a row of the next layer useless.
    """
    return _sum(m.size - _dense_size(m) for m in self._masks())

  def _masks(self) -> list[Array]:
    return jax.tree.leaves(self.mask)


class Chosen(NamedTuple):
  """The leaves of a pytree, and which of them a kernel acts on."""

  treedef: Any
  leaves: list[Any]
  places: list[int]

  @property
  def wide(self) -> list[Array]:
    """The chosen leaves; half precision as float32, which holds their norms."""
    chosen = [jnp.asarray(self.leaves[i]) for i in self.places]
    return [w.astype(jnp.promote_types(w.dtype, jnp.float32)) for w in chosen]

  def unflatten(self, values: Sequence[Any]) -> PyTree:
    """The pytree with `values` in place of the chosen leaves."""
    leaves = list(self.leaves)
    for i, value in zip(self.places, values, strict=True):
      leaves[i] = value
    return jax.tree.unflatten(self.treedef, leaves)

  def replaced(
    self,
    masks: Sequence[Array],
    others: Sequence[ArrayLike],
    valid: ArrayLike = True,
    extra: ArrayLike = 0,
  ) -> Pruned:
    """Keep the entries of the masks and take the `others` elsewhere.

    Args:
      masks: of each chosen leaf.
      others: of each chosen leaf, broadcastable to it.
      valid: whether the amount was one, [] boolean; if not, leaves are NaN.
      extra: how many numbers to store besides the kept entries.

    Returns:
      Pruned.
    """
    triples = zip(self.places, masks, others, strict=True)
    values = [_where(m, self.leaves[i], o, valid) for i, m, o in triples]
    return self.pruned(values, masks, _sum(map(num_true, masks)) + extra)

  def rewritten(
    self,
    values: Sequence[Array],
    masks: Sequence[Array],
    kept: Array,
    valid: ArrayLike,
  ) -> Pruned:
    """Put new values in the chosen leaves, whatever the masks say of them.

    Args:
      values: of each chosen leaf, of any floating dtype.
      masks: of each chosen leaf.
      kept: int32 [], numbers to store.
      valid: as in `replaced`.

    Returns:
      Pruned.
    """
    pairs = zip(self.places, values, strict=True)
    return self.pruned(
      [
        _where(True, v.astype(self.leaves[i].dtype), 0, valid) for i, v in pairs
      ],
      masks,
      kept,
    )

  def pruned(
    self, values: Sequence[Array], masks: Sequence[Array], kept: Array
  ) -> Pruned:
    """`Pruned` from the chosen leaves' values and masks."""
    total = sum(m.size for m in masks)
    if total >= 2**31:
      raise ValueError(
        f'the selected leaves must have fewer than 2**31 entries, got {total}'
      )
    all_true = [jnp.ones(jnp.shape(leaf), bool) for leaf in self.leaves]
    mask = self._replace(leaves=all_true).unflatten(masks)
    return Pruned(
      self.unflatten(values), mask, kept.astype(jnp.int32), jnp.int32(total)
    )


def choose(params: PyTree, select: Selection, min_rank: int = 2) -> Chosen:
  """Resolve a selection and check the leaves that it chooses.

  Args:
    params: pytree of arrays.
    select: see `htjax.selection`.
    min_rank: least rank of a leaf, 2 for matrices and 3 for convolutions.

  Returns:
    Chosen.

  Raises:
    ValueError: no leaf chosen; naming the leaf, one not floating, of a lower
      rank, empty, or concretely NaN or infinite.
  """
  flags = jax.tree.leaves(resolve(select, params))
  if not any(flags):
    raise ValueError('select must choose at least one leaf, got none')
  paths, treedef = jax.tree_util.tree_flatten_with_path(params)
  places = [i for i, flag in enumerate(flags) if flag]
  for i in places:
    path, leaf = paths[i]
    _check_leaf('.'.join(path_components(path)), jnp.asarray(leaf), min_rank)
  return Chosen(treedef, [leaf for _, leaf in paths], places)


def check_scalar(name: str, value: ArrayLike) -> None:
  """Raise unless an amount is one number."""
  if jnp.shape(value) != ():
    raise ValueError(
      f'{name} must be one number, got shape {jnp.shape(value)}; vmap over it'
    )


def in_unit_interval(amount: ArrayLike) -> Array:
  """Whether a fraction, perhaps known only at run time, is in [0, 1]."""
  amount = jnp.asarray(amount)
  return (amount >= 0) & (amount <= 1)


@jax.jit
def _where(mask: Array, leaf: Array, other: Array, valid: Array) -> Array:
  leaf = jnp.asarray(leaf)
  return jnp.where(
    valid, jnp.where(mask, leaf, jnp.asarray(other, leaf.dtype)), jnp.nan
  )


def _check_leaf(name: str, leaf: Array, min_rank: int) -> None:
  if not jnp.issubdtype(leaf.dtype, jnp.floating):
    raise ValueError(f'{name} must be floating, got dtype {leaf.dtype.name}')
  if leaf.ndim < min_rank or leaf.size == 0:
    axes = '[..., fan_out]' if min_rank == 2 else '[..., in, out]'
    raise ValueError(
      f'{name} must be of rank {min_rank} or more, {axes}, and not empty, got '
      f'shape {leaf.shape}; leave it out with `select`'
    )
  check_finite(name, leaf)


def _sum(counts: Any) -> Array:
  return jnp.sum(jnp.stack(list(counts)), dtype=jnp.int32)


def _dense_size(mask: Array) -> Array:
  """Size of the smallest array, cut along axes, that holds the True."""
  size = jnp.int32(1)
  for axis in range(mask.ndim):
    others = tuple(i for i in range(mask.ndim) if i != axis)
    size = size * num_true(jnp.any(mask, axis=others))
  return size
