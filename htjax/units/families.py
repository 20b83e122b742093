"""Units of a network with all that belongs to them: in, out and between.

A family is the units that stand in one place, such as those of a hidden layer:
removing one takes its column in one kernel, its bias and normalisation, and its
row in the next. Found by following the network's computation.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import checked
from htjax.types import Array, PyTree
from htjax.units.jaxprs import Followed, follow, trace
from htjax.units.leaf import named_leaves
from htjax.units.ties import Resolved

PLACES = ('incoming', 'outgoing', 'partner')


class Part(NamedTuple):
  """An axis of a leaf that has something of the units of a family.

  Attributes:
    leaf: position of the leaf in the flattened parameters.
    name: its name.
    axis: the axis.
    unit: [length of the axis], the unit to which each index belongs, or -1.
    place: 'incoming', the units' own weights; 'outgoing', weights that are
      multiplied with their outputs; 'partner', biases and normalisations.
  """

  leaf: int
  name: str
  axis: int
  unit: np.ndarray
  place: str


class Family(NamedTuple):
  """Units that stand in one place.

  Attributes:
    name: of the first leaf with incoming weights, or of the first leaf.
    num_units: how many units there are.
    parts: the axes of leaves that belong to them.
    atoms: of each unit, what stands for it while a computation is followed.
  """

  name: str
  num_units: int
  parts: tuple[Part, ...]
  atoms: tuple[int, ...] = ()

  def at(self, place: str) -> tuple[Part, ...]:
    """The parts in one place."""
    return tuple(p for p in self.parts if p.place == place)

  @property
  def is_plain(self) -> bool:
    """Whether the units are a hidden layer's: one leaf in, one leaf out."""
    return len(self.at('incoming')) == 1 and len(self.at('outgoing')) == 1


@checked
def families(
  apply: Callable[..., Any], params: PyTree, inputs: Any
) -> list[Family]:
  """Families of the units that could be removed from a network.

  Args:
    apply: the network, `apply(params, *inputs)`, a pure function.
    params: pytree of concrete arrays.
    inputs: example inputs, one or a tuple, arrays or `jax.ShapeDtypeStruct`;
      their entries are not looked at.

  Returns:
    The families, in the order of their first leaf. Units that have to stay,
    such as a network's outputs or those that a normalisation averages over,
    are in none.

  Raises:
    ValueError: `apply` cannot be traced.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import units
    >>> params = {'a': jnp.ones((3, 5)), 'b': jnp.ones((5, 2))}
    >>> apply = lambda p, x: jax.nn.relu(x @ p['a']) @ p['b']
    >>> (hidden,) = units.families(apply, params, jnp.ones((1, 3)))
    >>> hidden.name, hidden.num_units
    ('a', 5)
    >>> [(part.name, part.axis, part.place) for part in hidden.parts]
    [('a', 1, 'incoming'), ('b', 0, 'outgoing')]
  """
  if not isinstance(inputs, tuple | list):
    inputs = (inputs,)
  try:
    closed = trace(apply, params, inputs)
  except Exception as error:  # whatever the user's function raises
    kind = type(error).__name__
    raise ValueError(
      f'apply(params, *inputs) cannot be traced: {kind}: {error}'
    ) from error
  followed = follow(closed, jax.tree.leaves(params))
  return group(followed, followed.ties.resolve(), params)


def group(
  followed: Followed, resolved: Resolved, params: PyTree
) -> list[Family]:
  """Families of a network that has been followed, and its ties resolved."""
  named = named_leaves(params)
  outgoing: set[int] = set()
  for read in followed.reads:
    outgoing |= read.by_weights
  axes: list[_Axis] = []
  for i, (labels, (_, leaf)) in enumerate(
    zip(followed.labels, named, strict=True)
  ):
    for d, own in enumerate(labels):
      rows = resolved.of(own, np.shape(leaf)[d])
      if own is not None and any(rows):
        here, place = set(own.ravel().tolist()), 'partner'
        if here & outgoing:
          place = 'outgoing'
        elif here & followed.multiplied:
          place = 'incoming'
        axes.append(_Axis(i, d, rows, place))
  found = []
  for atoms in _together(axes):
    ordered = tuple(sorted(atoms))
    number = {atom: u for u, atom in enumerate(ordered)}
    parts = []
    for axis in axes:
      unit = np.array([_first(row, number) for row in axis.rows])
      if (unit >= 0).any():
        name = named[axis.leaf][0]
        parts.append(Part(axis.leaf, name, axis.axis, unit, axis.place))
    incoming = [p.name for p in parts if p.place == 'incoming']
    name = (incoming or [parts[0].name])[0]
    found.append(Family(name, len(ordered), tuple(parts), ordered))
  return found


class _Axis(NamedTuple):
  """An axis of a leaf, the final atoms of its indices, and its place."""

  leaf: int
  axis: int
  rows: list[tuple[int, ...]]
  place: str


def squared_norms(family: Family, leaves: Sequence[Any], place: str) -> Array:
  """Squared l2 norm of what each unit of a family has in one place.

  Args:
    family: the family.
    leaves: the flattened parameters.
    place: see `Part`.

  Returns:
    Array [num_units], float32 or wider.
  """
  dtype = jnp.result_type(jnp.float32, *(leaves[p.leaf] for p in family.parts))
  total = jnp.zeros(family.num_units, dtype)
  for part in family.at(place):
    leaf = jnp.asarray(leaves[part.leaf], dtype)
    total = total + squares(part, leaf, family.num_units)
  return total


def squares(part: Part, leaf: Array, num_units: int) -> Array:
  """Sum of the squares of what belongs to each unit in one leaf.

  Args:
    part: of a family.
    leaf: the array.
    num_units: of the family.

  Returns:
    Array [num_units], of the leaf's dtype.
  """
  others = tuple(d for d in range(leaf.ndim) if d != part.axis)
  sums = jnp.sum(leaf * leaf, axis=others)
  if np.array_equal(part.unit, np.arange(num_units)):
    return sums
  return jax.ops.segment_sum(
    sums, jnp.where(part.unit < 0, num_units, part.unit), num_units + 1
  )[:-1]


def scaled(part: Part, leaf: Any, factors: Array) -> Array:
  """A leaf with what belongs to each unit multiplied by a factor.

  Args:
    part: which axis.
    leaf: the leaf.
    factors: [num_units].

  Returns:
    Array of the leaf's shape and dtype.
  """
  leaf = jnp.asarray(leaf)
  own = jnp.where(part.unit >= 0, factors[np.maximum(part.unit, 0)], 1.0)
  shape = [1] * leaf.ndim
  shape[part.axis] = -1
  return (leaf * own.reshape(shape)).astype(leaf.dtype)


def _together(axes: list[_Axis]) -> list[set[int]]:
  """Atoms of the same units, each set in the order of its first axis.

  Units are one layer's if they meet in an axis of incoming weights. What meets
  elsewhere may be layers that were concatenated.
  """
  sets: list[set[int]] = []
  for axis in axes:
    # Heads and their dimensions share a flattened axis and are two families.
    width = max(len(row) for row in axis.rows)
    columns = [
      {row[k] for row in axis.rows if len(row) > k} for k in range(width)
    ]
    if width == 1 or all(len(row) in (0, width) for row in axis.rows):
      for column in columns:
        _unite(sets, column, axis.place == 'incoming')
    else:
      _unite(sets, set().union(*columns), axis.place == 'incoming')
  return sets


def _unite(sets: list[set[int]], atoms: set[int], merge: bool) -> None:
  """Add atoms to the sets that they touch, or as a set of their own."""
  touched = [s for s in sets if s & atoms]
  if not touched:
    sets.append(set(atoms))
  elif merge:
    touched[0].update(atoms, *touched[1:])
    sets[:] = [s for s in sets if s is touched[0] or not s & atoms]
  elif rest := atoms.difference(*touched):
    sets.append(rest)


def _first(row: tuple[int, ...], number: dict[int, int]) -> int:
  return next((number[a] for a in row if a in number), -1)
