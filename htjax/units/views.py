"""Layers of a leaf of any layout, as [.., fan_in, fan_out]."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from htjax.checks import check_several, checked
from htjax.types import Array
from htjax.units.leaf import Leaf


class View(NamedTuple):
  """A layer of a leaf, as [.., fan_in, fan_out].

  A leaf that stacks layers or experts has one view for each; a leaf of another
  layout is transposed, and its input and its unit axes are merged.

  Attributes:
    place: position of the leaf in the pytree.
    leaf: what its axes are.
    layer: which of its stacked layers.
    shape: of the view.
  """

  place: int
  leaf: Leaf
  layer: int
  shape: tuple[int, ...]

  @property
  def is_whole(self) -> bool:
    """Whether the view is the leaf itself."""
    axes = (*self.leaf.window, *self.leaf.inputs, *self.leaf.units)
    plain = len(self.leaf.inputs) == len(self.leaf.units) == 1
    return not self.leaf.is_weight or (
      plain and not self.leaf.stacked and axes == tuple(range(len(axes)))
    )

  def of(self, leaf: Array) -> Array:
    """The layer of an array of the leaf's shape."""
    if self.is_whole:
      return leaf
    return self.leaf.canonical(leaf)[self.layer].reshape(self.shape)


@checked
def views_of(place: int, leaf: Leaf, shape: Sequence[int]) -> list[View]:
  """The layers of a leaf, each [*window, inputs, units].

  Args:
    place: position of the leaf in its pytree.
    leaf: what its axes are.
    shape: its shape.

  Returns:
    A view for each stacked layer, one as a rule. A leaf without units, which
    is no weight, is one view of itself.

  Raises:
    ValueError: no Leaf, or a shape without its axes.

  Examples:
    >>> from htjax import units
    >>> query = units.Leaf('attention', units=(1, 2), inputs=(0,))
    >>> units.views_of(0, query, (8, 2, 4))[0].shape
    (8, 8)
  """
  check_several('shape', shape)
  shape = tuple(shape)
  axes = (*leaf.stacked, *leaf.window, *leaf.inputs, *leaf.units)
  if max(axes, default=-1) >= len(shape):
    raise ValueError(f'shape must have the axes of {leaf}, got {shape}')
  if not leaf.units:
    return [View(place, leaf, 0, shape)]
  window = tuple(shape[a] for a in leaf.window)
  inputs = math.prod(shape[a] for a in leaf.inputs)
  own = (*window, inputs, leaf.num_units(shape))
  return [View(place, leaf, k, own) for k in range(leaf.num_layers(shape))]
