"""Pruning by magnitude: entries, columns, rows, filters and kernels.

A unit is what goes or stays as a whole. Each kernel ranks the units of a layer
by their l_p norms and keeps the largest.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_choice, check_range, checked
from htjax.compressibility import (
  Kept,
  check_kappa,
  check_order,
  column_norms,
  kept_count,
  largest,
  num_removable,
)
from htjax.compressibility.kth_largest import host_largest, largest_of_spread
from htjax.floats import times_power_of_two, to_unit_peak
from htjax.host import is_spread, on_host, to_device
from htjax.pruning.centers import (
  check_center,
  find_center,
  stored_medians,
)
from htjax.pruning.results import (
  Chosen,
  Pruned,
  check_scalar,
  choose,
  in_unit_interval,
)
from htjax.selection import Selection
from htjax.types import Array, ArrayLike, PyTree
from htjax.units import Given

# The least rank of a leaf that has such units.
MIN_RANKS = {'entries': 2, 'columns': 2, 'rows': 2, 'filters': 3, 'kernels': 3}

# [units], a leaf's norms -> how many units to keep.
CountKept = Callable[[Array], ArrayLike]


@checked
def magnitude(
  params: PyTree,
  kappa: Kept,
  *,
  scope: str = 'layer',
  center: str | None = None,
  protocol: str = 'paper',
  select: Selection = None,
  units: Given = None,
  rounding: str = 'ceil',
) -> Pruned:
  """Keep the fraction kappa of entries of largest magnitude.

  Args:
    params: pytree of arrays.
    kappa: kept fraction in (0, 1], traced; the pruning ratio is 1 - kappa. A
      share to prune that is known only at run time is `AllBut(share)`.
    scope: 'layer' keeps the fraction of each selected leaf; 'global' of all
      their entries together.
    center: 'median' prunes |w - median| of each leaf and puts its median where
      entries are pruned; a leaf that lost entries then stores one number
      more. None prunes |w| to zeros.
    protocol: 'paper', or 'authors' for the count of the authors' program,
      which leaves medians out of `kept`. That program also counts, but does
      not apply, the pruning of a network's last layer: leave it out with
      `select` and read `network_ratio`.
    select: which leaves, see `htjax.selection`; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.
    rounding: 'ceil' or 'floor' of kappa times the number of entries.

  Returns:
    Pruned, with exactly the rounded number of entries; of equal magnitudes the
    first in row-major order (and, with scope 'global', in the first leaf) is
    kept.

  Raises:
    ValueError: a concrete kappa outside (0, 1], an unknown option, bad
      selection, no leaf selected; naming the leaf, one of rank below 2, empty,
      not floating, or concretely NaN or infinite.

  Values: traced NaN and infinity rank highest; a traced kappa of 0 keeps
    nothing, one outside [0, 1] makes the selected leaves NaN.

  Source: [HT], Theorem 1 (global and layer-wise magnitude pruning); centring
    and counts as in the supplement, section S1.5, the median counted.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> params = {'w': jnp.array([[3.0, 0.5, -2.0], [1.0, 0.25, 2.0]])}
    >>> pruned = pruning.magnitude(params, 0.5)
    >>> pruned.params['w'].tolist()
    [[3.0, 0.0, -2.0], [0.0, 0.0, 2.0]]
    >>> int(pruned.kept), int(pruned.total)
    (3, 6)
  """
  check_choice('scope', scope, ('layer', 'global'))
  check_kappa(kappa)
  check_scalar('kappa', kappa)
  check_center(center, protocol)
  chosen = choose(params, select, units=units)
  leaves = chosen.wide
  masks, centers = [], []
  for group in [leaves] if scope == 'global' else [[w] for w in leaves]:
    size = sum(leaf.size for leaf in group)
    scores, middles = _scores(group, center, protocol)
    masks += _joint_masks(scores, kept_count(kappa, size, rounding))
    centers += middles
  return _finish(chosen, masks, centers, kappa, center, protocol)


@checked
def columns(
  params: PyTree,
  kappa: Kept,
  *,
  p: float = 2,
  center: str | None = None,
  select: Selection = None,
  units: Given = None,
  rounding: str = 'ceil',
) -> Pruned:
  """Keep the fraction kappa of columns of largest l_p norm in each leaf.

  Args:
    params: pytree of arrays.
    kappa: kept fraction in (0, 1], traced; the pruning ratio is 1 - kappa. A
      share to prune that is known only at run time is `AllBut(share)`.
    p: order of the norm, static.
    center: 'median' prunes by |w - median| of each leaf and puts its median in
      place of what is pruned; None prunes |w| to zeros.
    select: which leaves, see `htjax.selection`; None is every weight. Selected
      leaves are [fan_in, n] or [h, w, in, n], float, not empty.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.
    rounding: 'ceil' or 'floor' of kappa n, the latter as in "Implicit
      Compressibility ...". With 'floor', kappa < 1/n keeps no column at all,
      as does a traced kappa of 0: the end of a robustness curve.

  Returns:
    Pruned, each selected leaf with exactly the rounded number of columns; of
    equal norms the one of lower index is kept.

  Raises:
    ValueError: a concrete kappa outside (0, 1], bad p, center, rounding or
      selection, no leaf selected; naming the leaf, one of rank below 2, empty,
      not floating, or concretely NaN or infinite.

  Values: traced NaN or infinity in a column keeps it; a traced kappa outside
    [0, 1] makes the selected leaves NaN.

  Source: [IC], section 3 (p = 2).

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> params = {'w': jnp.array([[3.0, 0.5, -2.0], [1.0, 0.25, 2.0]])}
    >>> pruned = pruning.columns(params, 2 / 3)
    >>> pruned.params['w'].tolist()
    [[3.0, 0.0, -2.0], [1.0, 0.0, 2.0]]
  """
  return _prune_fraction(
    params,
    kappa,
    rounding,
    unit='columns',
    p=p,
    center=center,
    select=select,
    units=units,
  )


@checked
def rows(
  params: PyTree,
  kappa: Kept,
  *,
  p: float = 2,
  center: str | None = None,
  protocol: str = 'paper',
  select: Selection = None,
  units: Given = None,
  rounding: str = 'ceil',
) -> Pruned:
  """Keep the fraction kappa of rows of largest l_p norm in each leaf.

  A row is the outgoing weights of one input unit: an index of the last axis
  but one. This is the paper's node pruning, whose matrices are transposed.

  Args:
    params: pytree of arrays.
    kappa: kept fraction in (0, 1], traced.
    p: order of the norm, static.
    center: 'median' prunes by |w - median| of each leaf and puts its median in
      place of what is pruned; None prunes |w| to zeros.
    protocol: which medians are taken and counted: 'paper', one a layer, or
      'authors', one for each output, none counted.
    select: which leaves; None is every weight, [fan_in, n] or [h, w, in, n].
    units: what a unit is in each leaf, see `htjax.units`; None asks names.
    rounding: 'ceil' or 'floor' of kappa times the number of rows.

  Returns:
    Pruned, each selected leaf with exactly the rounded number of rows; of
    equal norms the one of lower index is kept.

  Raises:
    ValueError: as `columns`; an unknown protocol.

  Values: traced NaN or infinity in a row keeps it; a traced kappa outside
    [0, 1] makes the selected leaves NaN.

  Source: [HT], Theorem 3 (k-best column approximation).

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> params = {'w': jnp.array([[3.0, 0.5, -2.0], [1.0, 0.25, 2.0]])}
    >>> pruned = pruning.rows(params, 0.5)
    >>> pruned.params['w'].tolist()
    [[3.0, 0.5, -2.0], [0.0, 0.0, 0.0]]
  """
  return _prune_fraction(
    params,
    kappa,
    rounding,
    unit='rows',
    p=p,
    center=center,
    protocol=protocol,
    select=select,
    units=units,
  )


@checked
def filters(
  params: PyTree,
  kappa: Kept,
  *,
  p: float = 2,
  center: str | None = None,
  select: Selection = None,
  units: Given = None,
  rounding: str = 'ceil',
) -> Pruned:
  """Keep the fraction kappa of filters of largest l_p norm: convolutions only.

  What `columns` does, for leaves [h, w, in, n] of rank 3 or more; a matrix
  among the selected leaves is an error.

  Args:
    params: pytree of arrays.
    kappa: kept fraction in (0, 1], traced.
    p: order of the norm, static.
    center: 'median' prunes by |w - median| of each leaf and puts its median in
      place of what is pruned; None prunes |w| to zeros.
    select: which leaves, of rank 3 or more; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.
    rounding: 'ceil' or 'floor' of kappa n.

  Returns:
    Pruned, each selected leaf with exactly the rounded number of filters; of
    equal norms the one of lower index is kept.

  Raises:
    ValueError: as `columns`, with rank below 3.

  Values: traced NaN or infinity in a filter keeps it; a traced kappa outside
    [0, 1] makes the selected leaves NaN.

  Source: [IC], section 5 (filters of the convolutional network).

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> kernel = jnp.ones((3, 3, 1, 4)).at[..., 1].set(5).at[..., 3].set(2)
    >>> pruned = pruning.filters({'conv': kernel}, 0.5)
    >>> pruned.params['conv'][0, 0, 0].tolist()
    [0.0, 5.0, 0.0, 2.0]
  """
  return _prune_fraction(
    params,
    kappa,
    rounding,
    unit='filters',
    p=p,
    center=center,
    select=select,
    units=units,
  )


@checked
def kernels(
  params: PyTree,
  kappa: Kept,
  *,
  p: float = 2,
  center: str | None = None,
  protocol: str = 'paper',
  select: Selection = None,
  units: Given = None,
  rounding: str = 'ceil',
) -> Pruned:
  """Keep the fraction kappa of kernels of largest l_p norm: convolutions only.

  A kernel is [:, :, i, o], the weights between two channels.

  Args:
    params: pytree of arrays.
    kappa: kept fraction in (0, 1], traced, of the in * out kernels of a leaf.
    p: order of the norm, static.
    center: 'median' prunes by |w - median| of each leaf and puts its median in
      place of what is pruned; None prunes |w| to zeros.
    protocol: which medians are taken and counted: 'paper', one a layer, or
      'authors', one for each position in the kernel, none counted.
    select: which leaves, of rank 3 or more; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.
    rounding: 'ceil' or 'floor' of kappa in * out.

  Returns:
    Pruned, each selected leaf with exactly the rounded number of kernels; of
    equal norms the first in order of (i, o) is kept.

  Raises:
    ValueError: as `rows`, with rank below 3.

  Values: traced NaN or infinity in a kernel keeps it; a traced kappa outside
    [0, 1] makes the selected leaves NaN.

  Source: [HT], section 5 (kernel pruning of convolutional layers).

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> one = jnp.array([[1.0, 4.0], [3.0, 2.0]])
    >>> kernel = jnp.broadcast_to(one, (3, 3, 2, 2))
    >>> pruned = pruning.kernels({'conv': kernel}, 0.5)
    >>> pruned.params['conv'][0, 0].tolist()
    [[0.0, 4.0], [3.0, 0.0]]
  """
  return _prune_fraction(
    params,
    kappa,
    rounding,
    unit='kernels',
    p=p,
    center=center,
    protocol=protocol,
    select=select,
    units=units,
  )


@checked
def columns_to_error(
  params: PyTree,
  tolerance: ArrayLike = 0.1,
  *,
  squared: bool = True,
  select: Selection = None,
  units: Given = None,
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
      paper's tables, or a share of the norm, which `to_error` takes.
    select: which leaves, [fan_in, n] or [h, w, in, n]; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.

  Returns:
    Pruned. A leaf of zeros loses all its columns, which costs nothing.

  Raises:
    ValueError: a concrete tolerance outside [0, 1]; otherwise as `columns`.

  Values: traced NaN or infinity in a leaf prunes nothing of it; a traced
    tolerance outside [0, 1] makes the selected leaves NaN.

  Source: [IC], section 5, the columns "a.p." of the tables.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> params = {'w': jnp.array([[3.0, 0.5, -2.0], [1.0, 0.25, 2.0]])}
    >>> pruned = pruning.columns_to_error(params, 0.1)
    >>> print(f"{pruned.leaf_ratios['w']:.3f}")
    0.333
  """
  check_range('tolerance', tolerance, 0.0, 1.0)
  check_scalar('tolerance', tolerance)
  count = affordable(tolerance, squared=squared)
  return prune_units(
    params,
    count,
    tolerance,
    unit='columns',
    select=select,
    units=units,
  )


def affordable(
  tolerance: ArrayLike, *, squared: bool = False, p: float = 2
) -> CountKept:
  """The count that keeps what cannot be removed within a tolerance."""

  def count(norms: Array) -> Array:
    budget = jnp.asarray(tolerance, norms.dtype)
    flat = norms if is_spread(norms) else norms.reshape(-1)
    return norms.size - num_removable(flat, budget, squared, p)

  return count


def prune_units(
  params: PyTree,
  count: CountKept,
  amount: Kept,
  *,
  unit: str,
  p: float = 2,
  center: str | None = None,
  protocol: str = 'paper',
  select: Selection = None,
  units: Given = None,
) -> Pruned:
  """Keep in each leaf as many of the largest units as `count` says.

  Args:
    params: pytree of arrays.
    count: from a leaf's norms [units], how many to keep.
    amount: in [0, 1], or else the selected leaves become NaN.
    unit: a key of `MIN_RANKS`.
    p: order of the units' norm, static.
    center: None or 'median'.
    protocol: 'paper' or 'authors'.
    select: which leaves; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.

  Returns:
    Pruned.
  """
  check_order(p)
  check_center(center, protocol)
  chosen = choose(params, select, MIN_RANKS[unit], units)
  masks, centers = [], []
  for leaf in chosen.wide:
    scaled, exponent = to_unit_peak(leaf)
    middle = find_center(scaled, center, protocol, unit)
    norms = _norms(scaled, middle, unit, p)
    masks.append(_mask(norms, count(norms), leaf, unit))
    centers.append(times_power_of_two(middle, exponent))
  return _finish(chosen, masks, centers, amount, center, protocol)


def _prune_fraction(
  params: PyTree, kappa: Kept, rounding: str, **options: Any
) -> Pruned:
  check_kappa(kappa)
  check_scalar('kappa', kappa)
  return prune_units(
    params,
    lambda norms: kept_count(kappa, norms.size, rounding),
    kappa,
    **options,
  )


def _finish(
  chosen: Chosen,
  masks: list[Array],
  centers: list[Array],
  amount: Kept,
  center: str | None,
  protocol: str,
) -> Pruned:
  lost = [~jnp.all(m) for m in masks] if center else []
  extra = stored_medians(center, protocol, lost)
  return chosen.replaced(masks, centers, in_unit_interval(amount), extra)


@functools.partial(jax.jit, static_argnames=('unit', 'p'))
def _norms(leaf: Array, middle: Array, unit: str, p: float) -> Array:
  """Norms of a leaf's units, [units]; of entries of the leaf's shape."""
  leaf = leaf - middle
  if unit == 'entries':
    return jnp.abs(leaf)
  if unit == 'rows':
    return column_norms(jnp.swapaxes(leaf, -2, -1), p)
  if unit == 'kernels':
    return column_norms(leaf.reshape(-1, leaf.shape[-2] * leaf.shape[-1]), p)
  return column_norms(leaf, p)


def _mask(norms: Array, kept: ArrayLike, leaf: Array, unit: str) -> Array:
  """Mask of a leaf whose largest units are kept, lying where the leaf does."""
  units = largest(norms, kept)
  if unit == 'entries':
    return units
  if is_spread(leaf):
    place = jax.jit(
      _of_units, static_argnums=(1, 2), out_shardings=leaf.sharding
    )
    return place(units, leaf.shape, unit)
  return _mask_of_units(units, leaf.shape, unit)


def _of_units(kept_units: Array, shape: tuple[int, ...], unit: str) -> Array:
  """Mask of a leaf from that of its units."""
  if unit == 'rows':
    kept_units = kept_units[:, None]
  if unit == 'kernels':
    kept_units = kept_units.reshape(shape[-2:])
  aligned = (1,) * (len(shape) - kept_units.ndim) + kept_units.shape
  return jnp.broadcast_to(kept_units.reshape(aligned), shape)


_mask_of_units = jax.jit(_of_units, static_argnums=(1, 2))


def _scores(
  leaves: list[Array], center: str | None, protocol: str
) -> tuple[list[Array], list[Array]]:
  """Magnitudes of the leaves' entries in one dtype and unit; the centers."""
  wide = max((leaf.dtype for leaf in leaves), key=lambda d: d.itemsize)
  if center is None:
    # Their bits are compared, so that their unit does not matter.
    scores = [jnp.abs(leaf).astype(wide) for leaf in leaves]
    return scores, [jnp.zeros((1,) * w.ndim, w.dtype) for w in leaves]
  *scaled, exponent = to_unit_peak(*(leaf.astype(wide) for leaf in leaves))
  middles = [find_center(w, center, protocol, 'entries') for w in scaled]
  scores = [jnp.abs(w - m) for w, m in zip(scaled, middles, strict=True)]
  return scores, [
    times_power_of_two(middle, exponent).astype(leaf.dtype)
    for middle, leaf in zip(middles, leaves, strict=True)
  ]


def _joint_masks(scores: list[Array], kept: ArrayLike) -> list[Array]:
  """Masks of the largest of several arrays of scores."""
  if is_spread(*scores):
    return largest_of_spread(scores, kept)
  if not on_host(*scores, kept):
    return _device_joint_masks(scores, kept)
  ends = np.cumsum([0, *(s.size for s in scores)])
  flat = np.concatenate([np.asarray(s).reshape(-1) for s in scores])
  mask = host_largest(flat, min(max(int(np.asarray(kept)), 0), flat.size))
  parts = [mask[a:b] for a, b in itertools.pairwise(ends)]
  pairs = zip(parts, scores, strict=True)
  return [to_device(part.reshape(s.shape)) for part, s in pairs]


@jax.jit
def _device_joint_masks(scores: list[Array], kept: ArrayLike) -> list[Array]:
  mask = largest(jnp.concatenate([s.reshape(-1) for s in scores]), kept)
  ends = np.cumsum([s.size for s in scores])[:-1]
  parts = jnp.split(mask, ends)
  return [p.reshape(s.shape) for p, s in zip(parts, scores, strict=True)]
