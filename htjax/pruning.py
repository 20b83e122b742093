"""Compression of pytrees of weights: each kernel returns `Pruned`.

All kernels have the form `(params, amount, *, select=None, ..) -> Pruned`, act
on each selected leaf, leave the other leaves alone, and run under jit and vmap
with `amount` traced, so that a pruning schedule is one compiled program. A
leaf is [fan_in, fan_out], or [h, w, in, out] for a convolution: its columns,
or filters, are the indices of the last axis, the incoming weights of one unit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from htjax.compressibility import (
  check_kappa,
  check_order,
  column_norms,
  kept_count,
  largest,
  num_removable,
)
from htjax.selection import Selection, path_components, resolve
from htjax.types import Array, ArrayLike, PyTree, check_finite, check_range


class Pruned(NamedTuple):
  """Pruned parameters and what was removed from them.

  Attributes:
    params: the parameters, same structure, shapes and dtypes, with zeros at
      pruned entries; leaves not selected are those that came in.
    mask: pytree of boolean arrays of the leaves' shapes: whether an entry was
      kept. All True in leaves not selected.
    kept: int32 [], parameters left in the selected leaves: the number of True
      in their masks.
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
  def leaf_ratios(self) -> PyTree:
    """Pruned fraction of each leaf, as a pytree like `params`."""
    return jax.tree.map(
      lambda m: jnp.sum(~m, dtype=jnp.int32) / m.size, self.mask
    )


def columns(
  params: PyTree,
  kappa: ArrayLike,
  *,
  p: float = 2,
  select: Selection = None,
  rounding: str = 'ceil',
) -> Pruned:
  """Keep the fraction kappa of columns of largest l_p norm in each leaf.

  Args:
    params: pytree of arrays.
    kappa: kept fraction in (0, 1], traced; the pruning ratio is 1 - kappa.
    p: order of the norm, static.
    select: which leaves, see `htjax.selection`; None is every weight. Selected
      leaves are [fan_in, n] or [h, w, in, n], float, not empty.
    rounding: 'ceil' or 'floor' of kappa n, the latter as in "Implicit
      Compressibility ...". With 'floor', kappa < 1/n keeps no column at all,
      as does a traced kappa of 0: the end of a robustness curve.
  Returns:
    Pruned, each selected leaf with exactly the rounded number of columns; of
    equal norms the one of lower index is kept.
  Raises:
    ValueError: a concrete kappa outside (0, 1], bad p, rounding or selection,
      no leaf selected; naming the leaf, one of rank below 2, empty, not
      floating, or concretely NaN or infinite.
  Values: traced NaN or infinity in a column keeps it; a traced kappa outside
    [0, 1] makes the selected leaves NaN.
  Source: "Heavy Tails in SGD and Compressibility of Overparametrized Neural
    Networks", Theorem 3 (k-best column approximation); "Implicit
    Compressibility of Overparametrized Neural Networks Trained with
    Heavy-Tailed SGD", section 3 (p = 2).
  """
  check_kappa(kappa)
  _check_scalar('kappa', kappa)
  check_order(p)
  return _prune(
    params,
    select,
    lambda leaf: _column_mask(
      leaf, column_norms(leaf, p), kept_count(kappa, leaf.shape[-1], rounding)
    ),
    kappa,
  )


def columns_to_error(
  params: PyTree,
  tolerance: ArrayLike = 0.1,
  *,
  squared: bool = True,
  select: Selection = None,
) -> Pruned:
  """Remove as many columns of each leaf as `tolerance` pays for.

  In each selected leaf the columns of smallest l_2 norm are removed, for as
  long as their squared norm is at most `tolerance` times the leaf's; equality
  is removed too. The removed fraction of a leaf is what
  `htjax.compressibility.pruning_ratio` gives for it, see `leaf_ratios`.

  Args:
    params: pytree of arrays.
    tolerance: in [0, 1], traced.
    squared: whether `tolerance` is a share of the squared norm, as in the
      paper's tables, or a relative error.
    select: as in `columns`.
  Returns:
    Pruned. A leaf of zeros loses all its columns, which costs nothing.
  Raises:
    ValueError: a concrete tolerance outside [0, 1]; otherwise as `columns`.
  Values: traced NaN or infinity in a leaf prunes nothing of it; a traced
    tolerance outside [0, 1] makes the selected leaves NaN.
  Source: "Implicit Compressibility of Overparametrized Neural Networks Trained
    with Heavy-Tailed SGD", section 5, the columns "a.p." of the tables.
  """
  check_range('tolerance', tolerance, 0.0, 1.0)
  _check_scalar('tolerance', tolerance)

  def mask(leaf):
    norms = column_norms(leaf)
    removed = num_removable(norms, jnp.asarray(tolerance, norms.dtype), squared)
    return _column_mask(leaf, norms, norms.size - removed)

  return _prune(params, select, mask, tolerance)


def _prune(
  params: PyTree,
  select: Selection,
  make_mask: Callable[[Array], Array],
  amount: ArrayLike,
) -> Pruned:
  """Apply a mask of each selected leaf; `amount` in [0, 1], else NaN."""
  chosen = resolve(select, params)
  paths, _ = jax.tree_util.tree_flatten_with_path(params)
  flags = jax.tree.leaves(chosen)
  if not any(flags):
    raise ValueError('select must choose at least one leaf, got none')
  leaves, masks = [], []
  for (path, leaf), flag in zip(paths, flags, strict=True):
    if not flag:
      leaves.append(leaf)
      masks.append(jnp.ones(jnp.shape(leaf), bool))
      continue
    leaf = _check_leaf(path, leaf)
    # Norms of half precision are taken in float32.
    wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
    masks.append(make_mask(wide))
    leaves.append(_apply_mask(leaf, masks[-1], jnp.asarray(amount)))
  structure = jax.tree.structure(params)
  return Pruned(
    jax.tree.unflatten(structure, leaves),
    jax.tree.unflatten(structure, masks),
    *_count(masks, flags),
  )


@jax.jit
def _column_mask(leaf: Array, norms: Array, kept: ArrayLike) -> Array:
  return jnp.broadcast_to(largest(norms, kept), leaf.shape)


@jax.jit
def _apply_mask(leaf: Array, mask: Array, amount: Array) -> Array:
  valid = (amount >= 0) & (amount <= 1)
  return jnp.where(valid, jnp.where(mask, leaf, 0), jnp.nan)


def _count(masks: list[Array], flags: list[bool]) -> tuple[Array, Array]:
  selected = [m for m, flag in zip(masks, flags, strict=True) if flag]
  total = sum(m.size for m in selected)
  if total >= 2**31:
    raise ValueError(
      f'the selected leaves must have fewer than 2**31 entries, got {total}'
    )
  kept = jnp.stack([jnp.sum(m, dtype=jnp.int32) for m in selected])
  return jnp.sum(kept, dtype=jnp.int32), jnp.int32(total)


def _check_leaf(path: tuple[Any, ...], leaf: Any) -> Array:
  """Return a selected leaf as an array, or raise naming it."""
  name = '.'.join(path_components(path))
  leaf = jnp.asarray(leaf)
  if not jnp.issubdtype(leaf.dtype, jnp.floating):
    raise ValueError(f'{name} must be floating, got dtype {leaf.dtype.name}')
  if leaf.ndim < 2 or leaf.size == 0:
    raise ValueError(
      f'{name} must be of rank 2 or more, [..., fan_out], and not empty, got '
      f'shape {leaf.shape}; leave it out with `select`'
    )
  check_finite(name, leaf)
  return leaf


def _check_scalar(name: str, value: ArrayLike) -> None:
  if jnp.shape(value) != ():
    raise ValueError(
      f'{name} must be one number, got shape {jnp.shape(value)}; vmap over it'
    )
