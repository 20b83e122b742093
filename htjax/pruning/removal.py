"""Smaller arrays for any JAX function, from its jaxpr.

A unit goes if no sum reads it, or if it is a constant whose share can be added
to the bias behind that sum. Whatever goes with it, along the ties that the
computation makes, is cut out of every leaf; and so on with the zeros that this
leaves behind. In the end the function is traced with the small arrays: where
that fails, or where it would be another computation, the units concerned stay.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.pruning.sameness import Network
from htjax.units.jaxprs import Followed, follow
from htjax.units.ties import Resolved

# Final atoms of each index of each axis of each leaf.
Members = list[list[list[tuple[int, ...]]]]


class Cut(NamedTuple):
  """Leaves without the units that do nothing.

  Attributes:
    leaves: smaller arrays, with constants folded into biases.
    kept: of each leaf, for each axis, the indices that are left.
    reasons: position of a leaf -> why units of it could not go.
  """

  leaves: list[np.ndarray]
  kept: list[list[np.ndarray]]
  reasons: dict[int, str]


def remove_units(
  apply: Callable[..., Any], params: Any, inputs: Sequence[Any]
) -> Cut:
  """Cut every unit that does nothing out of the leaves of `params`.

  Args:
    apply: the network, `apply(params, *inputs)`; a pure function that takes
      its sizes from the arrays.
    params: pytree of concrete arrays.
    inputs: example inputs, arrays or `jax.ShapeDtypeStruct`; their entries are
      not looked at.

  Returns:
    Cut.
  """
  leaves = [np.array(leaf) for leaf in jax.tree.leaves(params)]
  network = Network(apply, params, inputs)
  stuck: dict[int, str] = {}
  while True:
    arrays = [leaf.copy() for leaf in leaves]
    gone: set[int] = set()
    while True:
      followed = follow(network.closed, arrays)
      resolved = followed.ties.resolve()
      members = _members(followed, resolved, arrays)
      more = _idle(followed, members) - gone - set(stuck)
      more = _spare_one(members, gone, more)
      if not more:
        break
      _fold(followed, more, arrays)
      gone |= more
      _clear(members, gone, arrays)
    kept = _kept(members, gone)
    small = _cut(arrays, kept)
    why = network.difference(small, followed, resolved, gone)
    if why is None:
      why_not = _reasons(followed, members, arrays, kept, stuck)
      return Cut(small, kept, why_not)
    found: dict[int, str] = {}
    for family in _families(members):
      own = family & gone
      if own:
        small = _cut(arrays, _kept(members, own))
        reason = network.difference(small, followed, resolved, own)
        if reason is not None:
          found |= dict.fromkeys(own, reason)
    stuck |= found or dict.fromkeys(gone, why)


def _members(
  followed: Followed, resolved: Resolved, arrays: Sequence[np.ndarray]
) -> Members:
  """Final atoms of the leaves; note those of the sums over units too."""
  for read in followed.reads:
    read.rows = resolved.of(read.labels, len(read.unread))
  return [
    [resolved.of(x, n) for x, n in zip(labels, array.shape, strict=True)]
    for labels, array in zip(followed.labels, arrays, strict=True)
  ]


def _atoms(members: Members) -> set[int]:
  return {a for leaf in members for axis in leaf for row in axis for a in row}


def _idle(followed: Followed, members: Members) -> set[int]:
  """Atoms that every sum can do without."""
  blocked: set[int] = set()
  for read in followed.reads:
    free = read.unread
    if read.fold is not None and read.weights is not None:
      free = free | np.isfinite(read.constant)
    blocked |= {
      a for row, ok in zip(read.rows, free, strict=True) if not ok for a in row
    }
  return _atoms(members) - blocked


def _spare_one(members: Members, gone: set[int], more: set[int]) -> set[int]:
  """`more` without what would leave an axis of no length."""
  for leaf in members:
    for axis in leaf:
      if axis and all(set(row) & (gone | more) for row in axis):
        more = more - set(axis[0])
  return more


def _fold(followed: Followed, more: set[int], arrays: list[np.ndarray]) -> None:
  """Add to biases what units that go have always contributed."""
  for read in followed.reads:
    if read.fold is None or read.weights is None:
      continue
    share = np.zeros(read.weights.shape[1])
    for i, row in enumerate(read.rows):
      if not read.unread[i] and set(row) & more:
        share += read.constant[i] * read.weights[i]
    leaf, sign = read.fold
    if share.any():
      bias = arrays[leaf]
      exact = bias.astype(np.float64) + sign * share.reshape(bias.shape)
      arrays[leaf] = exact.astype(bias.dtype)


def _clear(members: Members, gone: set[int], arrays: list[np.ndarray]) -> None:
  """Zero what goes, so that what hangs on it is seen to do nothing."""
  for leaf, array in zip(members, arrays, strict=True):
    for d, axis in enumerate(leaf):
      index = [i for i, row in enumerate(axis) if set(row) & gone]
      if index:
        array[(slice(None),) * d + (index,)] = 0


def _kept(members: Members, gone: set[int]) -> list[list[np.ndarray]]:
  return [
    [
      np.array([i for i, row in enumerate(axis) if not set(row) & gone], int)
      for axis in leaf
    ]
    for leaf in members
  ]


def _cut(
  arrays: list[np.ndarray], kept: list[list[np.ndarray]]
) -> list[np.ndarray]:
  return [
    array[np.ix_(*axes)] if axes else array
    for array, axes in zip(arrays, kept, strict=True)
  ]


def _families(members: Members) -> list[set[int]]:
  """Atoms that meet in an axis, such as all units of a layer."""
  families: list[set[int]] = []
  for leaf in members:
    for axis in leaf:
      own = {a for row in axis for a in row}
      touched = [f for f in families if f & own]
      families = [f for f in families if not f & own]
      if own:
        families.append(own.union(*touched))
  return families


def _reasons(
  followed: Followed,
  members: Members,
  arrays: list[np.ndarray],
  kept: list[list[np.ndarray]],
  stuck: dict[int, str],
) -> dict[int, str]:
  """Why units stay that have no incoming, or no outgoing weights."""
  reasons: dict[int, str] = {}
  frozen = followed.ties.frozen
  blocked: dict[int, str] = {}
  for read in followed.reads:
    for row, ok in zip(read.rows, read.unread, strict=True):
      if not ok:
        blocked |= dict.fromkeys(row, f'{read.where} needs what it contributes')
  rows = zip(followed.labels, members, arrays, kept, strict=True)
  for place, (labels, leaf, array, left) in enumerate(rows):
    if array.ndim < 2:  # a bias may be zero and its unit alive
      continue
    for d, (own, axis) in enumerate(zip(labels, leaf, strict=True)):
      others = tuple(e for e in range(array.ndim) if e != d)
      empty = ~np.asarray(array.any(axis=others))
      for i in left[d][empty[left[d]]]:
        for a in () if own is None else own[i].tolist():
          if a in frozen:
            reasons.setdefault(place, frozen[a])
        for a in axis[i]:
          why = stuck.get(a) or blocked.get(a)
          if why:
            reasons.setdefault(place, why)
  return reasons


def as_arrays(leaves: Sequence[np.ndarray]) -> list[jax.Array]:
  """The leaves as arrays of JAX."""
  return [jnp.asarray(leaf) for leaf in leaves]
