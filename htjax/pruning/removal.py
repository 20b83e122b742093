"""Smaller arrays for any JAX function, from its jaxpr.

A unit goes if no sum reads it, or if it is a constant whose share can be added
to the bias behind that sum. Whatever goes with it, along the ties that the
computation makes, is cut out of every leaf; and so on with the zeros that this
leaves behind. In the end the function is traced with the small arrays: where
that fails, or where a number in it has changed (a mean over units divides by
their number), the units concerned stay.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.units import named_leaves
from htjax.units.jaxprs import Followed, follow, is_variable

# Final atoms of each index of each axis of each leaf.
Members = list[list[list[tuple[int, ...]]]]


class Cut(NamedTuple):
  """Leaves without the units that do nothing.

  Attributes:
    leaves: smaller arrays, with constants folded into biases.
    kept: of each leaf, for each axis, the indices that are left.
    reasons: name of a leaf -> why units of it could not go.
  """

  leaves: list[np.ndarray]
  kept: list[list[np.ndarray]]
  reasons: dict[str, str]


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
  treedef = jax.tree.structure(params)
  names = [name for name, _ in named_leaves(params)]
  leaves = [np.array(leaf) for leaf in jax.tree.leaves(params)]
  before = signature(apply, params, inputs)
  stuck: dict[int, str] = {}
  while True:
    arrays = [leaf.copy() for leaf in leaves]
    gone: set[int] = set()
    while True:
      followed = follow(apply, jax.tree.unflatten(treedef, arrays), inputs)
      members = _members(followed, arrays)
      more = _idle(followed, members) - gone - set(stuck)
      more = _spare_one(members, gone, more)
      if not more:
        break
      _fold(followed, more, arrays)
      gone |= more
      _clear(members, gone, arrays)
    kept = _kept(members, gone)
    small = _cut(arrays, kept)
    why = difference(apply, treedef, small, inputs, before)
    if why is None:
      why_not = _reasons(followed, names, members, arrays, kept, stuck)
      return Cut(small, kept, why_not)
    found = _culprits(apply, treedef, arrays, members, gone, inputs, before)
    stuck |= found or dict.fromkeys(gone, why)


def _members(followed: Followed, arrays: Sequence[np.ndarray]) -> Members:
  """Resolve all ties, also those of the sums over units."""
  resolved = followed.ties.resolve()
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


def _culprits(
  apply: Any,
  treedef: Any,
  arrays: list[np.ndarray],
  members: Members,
  gone: set[int],
  inputs: Sequence[Any],
  before: Any,
) -> dict[int, str]:
  """Atoms of the families that cannot go, with the reason."""
  found: dict[int, str] = {}
  for family in _families(members):
    own = family & gone
    if own:
      small = _cut(arrays, _kept(members, own))
      why = difference(apply, treedef, small, inputs, before)
      if why is not None:
        found |= dict.fromkeys(own, why)
  return found


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


def difference(
  apply: Any,
  treedef: Any,
  small: list[np.ndarray],
  inputs: Sequence[Any],
  before: Any,
) -> str | None:
  """Why the function is another one with small arrays, or None."""
  try:
    after = signature(apply, jax.tree.unflatten(treedef, small), inputs)
  except Exception as error:  # whatever the user's function raises
    return f'{type(error).__name__}: {str(error).splitlines()[0]}'
  if after != before:
    return 'a number in the computation depends on how many units there are'
  return None


def signature(
  apply: Any, params: Any, inputs: Sequence[Any]
) -> list[tuple[Any, ...]]:
  """Operations and numbers of a computation, without its shapes."""
  shapes = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), params
  )
  closed = jax.make_jaxpr(apply)(shapes, *inputs)
  found: list[tuple[Any, ...]] = [
    ('outputs', *(v.aval.shape for v in closed.jaxpr.outvars))
  ]

  def walk(jaxpr: Any) -> None:
    for eqn in jaxpr.eqns:
      numbers = [
        np.asarray(v.val).tobytes() for v in eqn.invars if not is_variable(v)
      ]
      found.append((eqn.primitive.name, *numbers))
      for value in jax.tree.leaves(
        eqn.params, is_leaf=lambda p: hasattr(p, 'jaxpr') or hasattr(p, 'eqns')
      ):
        if hasattr(value, 'jaxpr') or hasattr(value, 'eqns'):
          walk(getattr(value, 'jaxpr', value))

  walk(closed.jaxpr)
  return found


def _reasons(
  followed: Followed,
  names: list[str],
  members: Members,
  arrays: list[np.ndarray],
  kept: list[list[np.ndarray]],
  stuck: dict[int, str],
) -> dict[str, str]:
  """Why units stay that have no incoming, or no outgoing weights."""
  reasons: dict[str, str] = {}
  frozen = followed.ties.frozen
  blocked: dict[int, str] = {}
  for read in followed.reads:
    for row, ok in zip(read.rows, read.unread, strict=True):
      if not ok:
        blocked |= dict.fromkeys(row, f'{read.where} needs what it contributes')
  for name, labels, leaf, array, left in zip(
    names, followed.labels, members, arrays, kept, strict=True
  ):
    if array.ndim < 2:  # a bias may be zero and its unit alive
      continue
    for d, (own, axis) in enumerate(zip(labels, leaf, strict=True)):
      others = tuple(e for e in range(array.ndim) if e != d)
      empty = ~np.asarray(array.any(axis=others))
      for i in left[d][empty[left[d]]]:
        for a in () if own is None else own[i].tolist():
          if a in frozen:
            reasons.setdefault(name, frozen[a])
        for a in axis[i]:
          why = stuck.get(a) or blocked.get(a)
          if why:
            reasons.setdefault(name, why)
  return reasons


def as_arrays(leaves: Sequence[np.ndarray]) -> list[jax.Array]:
  """The leaves as arrays of JAX."""
  return [jnp.asarray(leaf) for leaf in leaves]
