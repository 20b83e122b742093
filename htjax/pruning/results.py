"""The result of every pruning kernel, and the leaves that it acts on."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_finite
from htjax.compressibility import Kept, num_true
from htjax.compressibility.counts import kept_fraction
from htjax.floats import as_floating
from htjax.selection import Selection, resolve
from htjax.types import Array, ArrayLike, PyTree
from htjax.units import Given, describe, fitting, named_leaves
from htjax.units.views import View, views_of


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Left:
  """Layers whose units have to stay; a pytree without leaves.

  Attributes:
    reasons: pairs (name of the layer, why).
  """

  reasons: tuple[tuple[str, str], ...] = ()


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
    errors: name of a leaf -> float32 [], the relative l_2 error of it; of
      `units` alone, else None.
    left: layers whose units have to stay; of `units` alone, else None.
  """

  params: PyTree
  mask: PyTree
  kept: Array
  total: Array
  errors: dict[str, Array] | None = None
  left: Left | None = None

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
  """The leaves of a pytree, and the layers of them that a kernel acts on."""

  treedef: Any
  leaves: list[Any]
  views: list[View]

  @property
  def wide(self) -> list[Array]:
    """The chosen layers; narrower ones as float32, which holds their norms."""
    return [as_floating('leaf', v.of(self.leaves[v.place])) for v in self.views]

  def unflatten(self, values: Sequence[Any]) -> PyTree:
    """The pytree with `values` in place of the chosen layers."""
    leaves = list(self.leaves)
    for views, parts in self._by_leaf(values):
      leaves[views[0].place] = self._whole(views, parts)
    return jax.tree.unflatten(self.treedef, leaves)

  def _by_leaf(
    self, values: Sequence[Any]
  ) -> Iterator[tuple[list[View], list[Any]]]:
    pairs = zip(self.views, values, strict=True)
    for _, group in itertools.groupby(pairs, lambda pair: pair[0].place):
      views, parts = zip(*group, strict=True)
      yield list(views), list(parts)

  def _whole(self, views: list[View], parts: list[Any]) -> Any:
    """A leaf from what its layers have become."""
    if views[0].is_whole:
      return parts[0]
    shape, leaf = jnp.shape(self.leaves[views[0].place]), views[0].leaf
    layers = [
      jnp.broadcast_to(x, v.shape) for v, x in zip(views, parts, strict=True)
    ]
    return leaf.restore(jnp.stack(layers), shape)

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
    triples = zip(self.views, masks, others, strict=True)
    values = [
      _where(m, v.of(self.leaves[v.place]), o, valid) for v, m, o in triples
    ]
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
      valid: whether the amount was one, [] boolean; if not, leaves are NaN.

    Returns:
      Pruned.
    """
    pairs = zip(self.views, values, strict=True)
    return self.pruned(
      [
        _where(True, x.astype(self.leaves[v.place].dtype), 0, valid)
        for v, x in pairs
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
    chosen = {v.place for v in self.views}
    all_true = [
      leaf if i in chosen else jnp.ones_like(leaf, bool)
      for i, leaf in enumerate(self.leaves)
    ]
    mask = self._replace(leaves=all_true).unflatten(masks)
    return Pruned(
      self.unflatten(values), mask, kept.astype(jnp.int32), jnp.int32(total)
    )


def choose(
  params: PyTree,
  select: Selection,
  min_rank: int = 2,
  units: Given = None,
) -> Chosen:
  """Resolve a selection and check the leaves that it chooses.

  Args:
    params: pytree of arrays.
    select: see `htjax.selection`.
    min_rank: least rank of a leaf, 2 for matrices and 3 for convolutions.
    units: what a unit is in each leaf, see `htjax.units`.

  Returns:
    Chosen.

  Raises:
    ValueError: no leaf chosen; naming the leaf, one not floating, of a lower
      rank, empty, or concretely NaN or infinite, or one that may be a layer
      of one kind or another.
  """
  flags = jax.tree.leaves(resolve(select, params))
  if not any(flags):
    raise ValueError('select must choose at least one leaf, got none')
  named, treedef = named_leaves(params), jax.tree.structure(params)
  leaves = [leaf for _, leaf in named]
  views: list[View] = []
  described = describe(units, params)
  for i, flag in enumerate(flags):
    if flag:
      leaves[i] = _as_leaf(named[i][0], leaves[i], min_rank)
  for i, leaf in enumerate(fitting(described, params, flags)):
    if leaf is not None:
      found = views_of(i, leaf, jnp.shape(leaves[i]))
      if len(found[0].shape) < min_rank:
        raise ValueError(
          f'{named[i][0]} must be a convolution, [..., in, out], got a leaf of '
          f'shape {jnp.shape(leaves[i])} and role {leaf.role!r}; leave it out '
          'with `select`'
        )
      views += found
  return Chosen(treedef, leaves, views)


def check_scalar(name: str, value: Kept) -> None:
  """Raise unless an amount is one number."""
  value = kept_fraction(value)
  if jnp.shape(value) != ():
    raise ValueError(
      f'{name} must be one number, got shape {jnp.shape(value)}; vmap over it'
    )


def in_unit_interval(amount: Kept) -> Array:
  """Whether a fraction, perhaps known only at run time, is in [0, 1]."""
  amount = jnp.asarray(kept_fraction(amount))
  return (amount >= 0) & (amount <= 1)


@jax.jit
def _where(mask: Array, leaf: Array, other: Array, valid: Array) -> Array:
  kept = jnp.where(mask, leaf, jnp.asarray(other, leaf.dtype))
  return jnp.where(valid, kept, jnp.asarray(jnp.nan, leaf.dtype))


def _as_leaf(name: str, leaf: Any, min_rank: int) -> Array:
  """The leaf as an array of JAX in its own dtype, or raise naming it."""
  dtype = leaf.dtype if hasattr(leaf, 'dtype') else np.asarray(leaf).dtype
  if not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(f'{name} must be floating, got dtype {dtype.name}')
  if jnp.ndim(leaf) < min_rank or jnp.size(leaf) == 0:
    axes = '[..., fan_out]' if min_rank == 2 else '[..., in, out]'
    raise ValueError(
      f'{name} must be of rank {min_rank} or more, {axes}, and not empty, got '
      f'shape {jnp.shape(leaf)}; leave it out with `select`'
    )
  special = np.asarray([0, np.nan]).astype(dtype).astype(np.float32)
  if special[0] != 0 or not np.isnan(special[1]):
    raise ValueError(f'{name} must be able to hold 0 and NaN, got {dtype.name}')
  wide = as_floating(name, leaf)
  check_finite(name, wide)
  return wide if dtype.itemsize >= 4 else jnp.asarray(leaf)


def _sum(counts: Any) -> Array:
  return jnp.sum(jnp.stack(list(counts)), dtype=jnp.int32)


def _dense_size(mask: Array) -> Array:
  """Size of the smallest array, cut along axes, that holds the True."""
  size = jnp.int32(1)
  for axis in range(mask.ndim):
    others = tuple(i for i in range(mask.ndim) if i != axis)
    size = size * num_true(jnp.any(mask, axis=others))
  return size
