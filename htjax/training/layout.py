"""Devices of a mesh: which of them hold which part of a training."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from htjax.training.lanes import LaneState, Recipe

AXES = ('lanes', 'data', 'model')
# A smaller leaf is whole on each device: to gather it costs more than to hold.
_SMALLEST = 1 << 14

Rule = Callable[[tuple[int, ...], int], PartitionSpec]


def by_units(shape: tuple[int, ...], num: int) -> PartitionSpec:
  """Split a weight over `num` devices along its last axis that can be.

  The last axis counts the units in Flax's layout, so that a unit's weights, and
  with them its noise, lie on one device.

  Args:
    shape: of the leaf.
    num: devices of the axis `model`.

  Returns:
    PartitionSpec; leaves of fewer than 2^14 entries, and those of which no
    axis is a multiple of `num`, are whole on each device.
  """
  if math.prod(shape) >= _SMALLEST:
    for axis in reversed(range(len(shape))):
      if shape[axis] % num == 0:
        return PartitionSpec(*[None] * axis, 'model')
  return PartitionSpec()


@dataclasses.dataclass(frozen=True)
class Layout:
  """Places of states, settings and batches on a mesh; hashable.

  Attributes:
    mesh: with axes of `AXES`, at least one: `lanes` splits the lanes of a
      batch, `data` the examples of a step, `model` weights and optimizer state.
    batched: whether states have a first axis of lanes.
    rule: (shape of a weight, devices of `model`) -> PartitionSpec.
  """

  mesh: Mesh
  batched: bool
  rule: Rule = by_units

  @property
  def num_lanes(self) -> int:
    """Devices over which lanes are split."""
    return dict(self.mesh.shape).get('lanes', 1) if self.batched else 1

  @property
  def lane_axis(self) -> str | None:
    """Name of the axis of the lanes, if there is one."""
    has = self.batched and 'lanes' in self.mesh.axis_names
    return 'lanes' if has else None

  @property
  def everywhere(self) -> NamedSharding:
    """Of what each device has whole."""
    return NamedSharding(self.mesh, PartitionSpec())

  @property
  def lanes(self) -> NamedSharding:
    """Of arrays with an entry for each lane."""
    axis = self.lane_axis
    return NamedSharding(self.mesh, PartitionSpec(*[axis] if axis else []))

  def state(self, state: LaneState) -> LaneState:
    """The sharding of each leaf of a state, or of its shapes."""
    return LaneState(
      *(
        jax.tree.map(
          self._weight
          if name in ('params', 'opt_state', 'average')
          else self._own,
          part,
        )
        for name, part in state._asdict().items()
      )
    )

  def split(self, examples: Any) -> Any:
    """Examples of a step, over the devices of `data` if they go evenly."""
    num = dict(self.mesh.shape).get('data', 1)

    def place(a: Any) -> Any:
      if num == 1 or a.shape[0] % num:
        return a
      rows = NamedSharding(self.mesh, PartitionSpec('data'))
      return lax.with_sharding_constraint(a, rows)

    return jax.tree.map(place, examples)

  def _own(self, leaf: Any) -> NamedSharding:
    return self.lanes

  def _weight(self, leaf: Any) -> NamedSharding:
    shape = tuple(leaf.shape[1:] if self.batched else leaf.shape)
    spec = PartitionSpec()
    if 'model' in self.mesh.axis_names:
      spec = self.rule(shape, self.mesh.shape['model'])
    return NamedSharding(
      self.mesh,
      PartitionSpec(*[self.lane_axis] if self.batched else [], *spec),
    )


def layout_of(
  mesh: Mesh | None,
  devices: Sequence[jax.Device] | None,
  batched: bool,
  rule: Rule | None,
) -> Layout | None:
  """The layout that the arguments of `train` ask for; None is one device.

  Raises:
    ValueError: axes of other names, or both a mesh and devices.
  """
  if mesh is None:
    if not batched:
      return None
    mesh = Mesh(np.array(devices or jax.devices()), ('lanes',))
  elif devices is not None:
    raise ValueError('devices must not be given beside mesh')
  elif not isinstance(mesh, Mesh) or not set(mesh.axis_names) <= set(AXES):
    names = getattr(mesh, 'axis_names', mesh)
    raise ValueError(f'mesh must have axes of {AXES}, got {names}')
  # Axes of the compiler's own choice, whatever `jax.make_mesh` was asked for.
  mesh = Mesh(mesh.devices, mesh.axis_names)
  return Layout(mesh, batched, rule or by_units)


def check_batches(layout: Layout, recipe: Recipe, num_train: int) -> None:
  """Refuse batches that cannot be split evenly over the devices of `data`."""
  num = dict(layout.mesh.shape).get('data', 1)
  size = min(recipe.batch_size, num_train)
  if size % num:
    raise ValueError(
      f"batch_size must be a multiple of the {num} devices of the mesh's axis "
      f"'data', got {size}"
    )
