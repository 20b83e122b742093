"""Compiled functions of one lane, or of a batch of lanes on all devices."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from htjax.training.lanes import Examples, Lane, LaneState
from htjax.training.programs import Program


class Engine:
  """Compiled functions of one lane or of a batch of lanes."""

  def __init__(self, program: Program, data: Examples, *, batched: bool):
    self.recipe, self.batched, self.data = program.recipe, batched, data
    init, advance = program.init, program.advance
    if batched:
      mesh = Mesh(np.array(jax.devices()), ('lanes',))
      self.sharding = NamedSharding(mesh, PartitionSpec('lanes'))
      self.data = jax.device_put(data, NamedSharding(mesh, PartitionSpec()))
      init = jax.vmap(init, in_axes=(0, None))
      advance = jax.vmap(advance, in_axes=(0, 0, None, None))
    self._init = jax.jit(init)
    self._advance = jax.jit(advance, donate_argnums=0)

  def init(self, lanes: list[Lane]) -> LaneState:
    return self._init(self.arrays(lanes), self.data)

  def abstract(self, lanes: list[Lane]) -> LaneState:
    """The state's shapes and dtypes."""
    return jax.eval_shape(self._init, self.arrays(lanes), self.data)

  def advance(self, state: LaneState, settings: Lane) -> LaneState:
    """On to the next point of the evaluation grid."""
    steps = int(np.max(np.asarray(state.steps)))
    num = 1 if steps == 0 else self.recipe.eval_every
    if steps < self.recipe.max_steps:
      num = min(num, self.recipe.max_steps - steps)
    return self._advance(state, settings, self.data, num)

  def place(self, state: LaneState) -> LaneState:
    return jax.device_put(state, self.sharding) if self.batched else state

  def take(self, state: LaneState, k: int) -> LaneState:
    """The state of the lane at position k."""
    return jax.tree.map(lambda a: a[k], state) if self.batched else state

  def padded(self, index: list[int]) -> list[int]:
    """`index` lengthened to a whole number of lanes per device."""
    missing = -len(index) % len(jax.devices()) if self.batched else 0
    return index + index[-1:] * missing

  def is_sparse(self, index: list[int], waiting: set[int]) -> bool:
    """Whether a batch of at most half the size would do."""
    return 0 < 2 * len(self.padded(sorted(waiting))) <= len(index)

  def compact(
    self, index: list[int], waiting: set[int], state: LaneState
  ) -> tuple[list[int], LaneState]:
    """The batch without the lanes that have stopped."""
    kept = self.padded([i for i in dict.fromkeys(index) if i in waiting])
    where = np.array([index.index(i) for i in kept])
    return kept, self.place(jax.tree.map(lambda a: a[where], state))

  def arrays(self, lanes: list[Lane]) -> Lane:
    """The settings of the lanes, as the compiled functions take them."""
    rates = [lane.learning_rate for lane in lanes]
    stacked = Lane(
      jnp.asarray([lane.seed for lane in lanes], jnp.uint32),
      jnp.asarray([lane.alpha for lane in lanes], jnp.float32),
      jnp.asarray([lane.sigma for lane in lanes], jnp.float32),
      None if rates[0] is None else jnp.asarray(rates, jnp.float32),
    )
    if self.batched:
      return jax.device_put(stacked, self.sharding)
    return jax.tree.map(lambda a: a[0], stacked)
