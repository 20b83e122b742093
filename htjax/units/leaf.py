"""Descriptions of leaves: which axes count neurons, and which their weights."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from htjax.checks import check_choice, check_count
from htjax.selection import path_components
from htjax.types import Array, PyTree

# Roles whose leaves are made of units; the others are left alone by default.
WEIGHTS = ('dense', 'convolution', 'attention')
ROLES = (*WEIGHTS, 'embedding', 'norm', 'bias', 'other')
# What a convolution is made of: filters, or the kernels of one input each.
UNITS = ('filter', 'kernel')

# What stands around the parameters, or around an array, in a pytree.
_COLLECTIONS = ('params', 'batch_stats')
_BOXES = ('value', 'raw_value')


@dataclasses.dataclass(frozen=True)
class Leaf:
  """The meaning of the axes of one leaf; static and hashable.

  The axes of a leaf are of four kinds. One neuron is one index of the unit
  axes in one index of the stacked axes; its incoming weights lie along the
  input and window axes.

  Attributes:
    role: 'dense', 'convolution', 'attention', 'embedding', 'norm', 'bias' or
      'other'. Only the first three are weights.
    units: axes that count units: (1,) of a dense kernel [in, out], (1, 2) of a
      query projection [in, heads, head_dim].
    inputs: axes that count what a unit is fed: (0,) of [in, out].
    window: axes of a convolution's window: (0, 1) of [h, w, in, out].
    stacked: axes that count layers or experts, each a layer of its own.
    groups: groups of a convolution: unit j sees the inputs of its group alone.
    partners: names of the leaves that have an entry for each unit of this one
      and go with it, such as its bias.
    reason: why nothing is known of an ambiguous leaf, or ''.
  """

  role: str
  units: tuple[int, ...] = ()
  inputs: tuple[int, ...] = ()
  window: tuple[int, ...] = ()
  stacked: tuple[int, ...] = ()
  groups: int = 1
  partners: tuple[str, ...] = ()
  reason: str = ''

  def __post_init__(self) -> None:
    check_choice('role', self.role, ROLES)
    check_count('groups', self.groups)
    for field in ('units', 'inputs', 'window', 'stacked'):
      axes = getattr(self, field)
      if not isinstance(axes, Sequence) or not all(
        isinstance(a, int) and a >= 0 for a in axes
      ):
        raise ValueError(f'{field} must be axes >= 0, got {axes!r}')
      object.__setattr__(self, field, tuple(axes))
    object.__setattr__(self, 'partners', tuple(self.partners))
    if len(set(self.axes)) < len(self.axes):
      raise ValueError(
        'units, inputs, window and stacked must not share an axis, got '
        f'{self.units}, {self.inputs}, {self.window}, {self.stacked}'
      )
    if self.is_weight and not self.reason and not (self.units and self.inputs):
      raise ValueError(
        f'a leaf of role {self.role!r} must have unit and input axes, got '
        f'units={self.units}, inputs={self.inputs}'
      )

  @property
  def is_weight(self) -> bool:
    """Whether the leaf is made of units' incoming weights."""
    return self.role in WEIGHTS

  @property
  def axes(self) -> tuple[int, ...]:
    """All described axes, as [stacked, window, inputs, units]."""
    return (*self.stacked, *self.window, *self.inputs, *self.units)

  def vector_axes(self, unit: str = 'filter') -> tuple[int, ...]:
    """Axes along which the weights of one unit, or of one kernel, lie.

    Args:
      unit: 'filter' for all incoming weights of a unit, 'kernel' for those of
        one input of a convolution.

    Returns:
      The axes, rising. None for a leaf that is no weight, each entry of which
      is by itself.
    """
    if unit == 'kernel' and self.window:
      return tuple(sorted(self.window))
    return tuple(sorted((*self.window, *self.inputs)))

  def check(self, name: str, shape: Sequence[int]) -> None:
    """Raise unless the description fits a leaf of this shape.

    Args:
      name: the leaf's name, for the message.
      shape: its shape.

    Raises:
      ValueError: an axis that the leaf does not have, or one that is not
        described; units that the groups do not divide.
    """
    if self.is_weight and sorted(self.axes) != list(range(len(shape))):
      raise ValueError(
        f'units: {name} has shape {tuple(shape)}, so each of its '
        f'{len(shape)} axes must be one of units, inputs, window and stacked; '
        f'got {self.units}, {self.inputs}, {self.window}, {self.stacked}'
      )
    if self.is_weight and self.num_units(shape) % self.groups:
      raise ValueError(
        f'units: {name} has {self.num_units(shape)} units, which its '
        f'{self.groups} groups do not divide'
      )

  def num_layers(self, shape: Sequence[int]) -> int:
    """Number of layers or experts that are stacked in the leaf."""
    return math.prod(shape[a] for a in self.stacked)

  def num_units(self, shape: Sequence[int]) -> int:
    """Number of units of each stacked layer."""
    return math.prod(shape[a] for a in self.units)

  def fan_in(self, shape: Sequence[int]) -> int:
    """Number of incoming weights of one unit."""
    return math.prod(shape[a] for a in (*self.window, *self.inputs))

  def canonical(self, leaf: Any) -> Any:
    """The leaf as [layers, window, inputs, units].

    Args:
      leaf: array of JAX or NumPy that the description fits.

    Returns:
      Array of rank 4; a dense kernel [in, out] becomes [1, 1, in, out]. Axes
      of one kind are merged in row-major order.
    """
    kinds = (self.stacked, self.window, self.inputs, self.units)
    sizes = [math.prod(leaf.shape[a] for a in axes) for axes in kinds]
    return leaf.transpose(self.axes).reshape(sizes)

  def restore(self, array: Array, shape: Sequence[int]) -> Array:
    """Undo `canonical`.

    Args:
      array: [layers, window, inputs, units].
      shape: the leaf's shape.

    Returns:
      Array of that shape.
    """
    moved = array.reshape([shape[a] for a in self.axes])
    inverse = sorted(range(len(shape)), key=lambda i: self.axes[i])
    return jnp.transpose(moved, inverse)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Units:
  """Descriptions of all leaves of a model, by name.

  A pytree without leaves: it passes through `jit` and `vmap` as a static
  value. `print` shows it as a table.

  Attributes:
    leaves: pairs (name, Leaf), in the model's order. A name is the leaf's path
      joined by dots, without the collection ('params') around it.
  """

  leaves: tuple[tuple[str, Leaf], ...]

  def __getitem__(self, name: str) -> Leaf:
    for found, leaf in self.leaves:
      if found == name:
        return leaf
    raise KeyError(name)

  def __contains__(self, name: str) -> bool:
    return any(found == name for found, _ in self.leaves)

  def __iter__(self) -> Iterator[str]:
    return (name for name, _ in self.leaves)

  def replace(self, given: Mapping[str, Leaf]) -> 'Units':
    """Put descriptions of your own in place of some.

    Args:
      given: name -> Leaf; names may be new.

    Returns:
      Units.

    Raises:
      ValueError: an entry that is not a `Leaf`.
    """
    for name, leaf in given.items():
      if not isinstance(leaf, Leaf):
        raise ValueError(f'units: {name} must be a units.Leaf, got {leaf!r}')
    return Units(tuple({**dict(self.leaves), **given}.items()))

  def __str__(self) -> str:
    headers = ('leaf', 'role', 'units', 'inputs', 'window', 'stacked', 'groups')
    rows = [headers] + [
      (
        *(name, leaf.role if not leaf.reason else 'ambiguous'),
        *(_axes(leaf.units), _axes(leaf.inputs), _axes(leaf.window)),
        *(_axes(leaf.stacked), str(leaf.groups) if leaf.is_weight else ''),
      )
      for name, leaf in self.leaves
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
      '  '.join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
      for row in rows
    )


def leaf_name(path: tuple[Any, ...]) -> str:
  """The name of a leaf: its path without collections and boxes.

  Args:
    path: as `jax.tree_util.tree_flatten_with_path` gives it.

  Returns:
    The components joined by dots.

  Examples:
    >>> import jax
    >>> from htjax import units
    >>> tree = {'params': {'hidden': {'kernel': 1.0}}}
    >>> ((path, _),) = jax.tree.leaves_with_path(tree)
    >>> units.leaf_name(path)
    'hidden.kernel'
  """
  parts = path_components(path)
  if len(parts) > 1 and parts[0] in _COLLECTIONS:
    parts = parts[1:]
  while len(parts) > 1 and parts[-1] in _BOXES:
    parts = parts[:-1]
  return '.'.join(parts)


def named_leaves(params: PyTree) -> list[tuple[str, Any]]:
  """(name, leaf) of every leaf of a pytree, in its order.

  Args:
    params: any pytree.

  Returns:
    A list of pairs.

  Examples:
    >>> from htjax import units
    >>> units.named_leaves({'hidden': {'kernel': 1.0}})
    [('hidden.kernel', 1.0)]
  """
  return [
    (leaf_name(path), leaf)
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
  ]


def _axes(axes: tuple[int, ...]) -> str:
  return ' '.join(map(str, axes))
