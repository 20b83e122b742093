"""Compiled functions of one lane, or of a batch of lanes on all devices."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax import multihost
from htjax.training import evaluation
from htjax.training.lanes import Examples, LaneState, is_going
from htjax.training.layout import Layout
from htjax.training.programs import Program
from htjax.types import Array


class Engine:
  """A program with its data, on the devices it runs on.

  Attributes:
    recipe: of the program.
    layout: the mesh, or None for one device.
    batched: whether states and settings are of a batch of lanes.
    from_host: whether each step is started by the host instead of a loop on
      the device.
  """

  def __init__(
    self,
    program: Program,
    data: Examples,
    *,
    batched: bool,
    layout: Layout | None = None,
  ):
    self.recipe, self.batched, self.data = program.recipe, batched, data
    self.layout = layout
    self._program = program
    if layout:
      self.data = jax.device_put(data, layout.everywhere)
    self.from_host = _is_slow_in_loops(program, data)

  def init(self, lanes: Sequence[Any]) -> LaneState:
    """States before the first step."""
    return self._call(_init, self.arrays(lanes), self.data)

  def abstract(self, lanes: Sequence[Any]) -> LaneState:
    """The state's shapes and dtypes."""
    init = functools.partial(_init, self._program, self.batched, self.layout)
    return jax.eval_shape(init, self.arrays(lanes), self.data)

  def advance(self, state: LaneState, settings: Any) -> LaneState:
    """On to the next point of the evaluation grid."""
    steps = int(np.max(np.asarray(multihost.local(state.steps))))
    num = 1 if steps == 0 else self.recipe.eval_every
    if steps < self.recipe.max_steps:
      num = min(num, self.recipe.max_steps - steps)
    if not self.from_host:
      return self._call(_advance, state, settings, self.data, num)
    if not np.any(is_going(np.asarray(multihost.local(state.status)))):
      return state
    state = self.move(state, settings, num)
    return self._call(_judge, state, self._totals(state), self._num_train)

  def move(self, state: LaneState, settings: Any, num: int) -> LaneState:
    """So many steps, without an evaluation."""
    if not self.from_host:
      return self._call(_move, state, settings, self.data, num)
    for _ in range(num):
      state = self._call(_step, state, settings, self.data)
    return state

  def step(self, state: LaneState, settings: Any, batch: Examples) -> LaneState:
    """One step on a batch that is at hand."""
    return self._call(_step, state, settings, batch)

  def add(
    self, totals: tuple[Array, Array], state: LaneState, batch: Examples
  ) -> tuple[Array, Array]:
    """Sums of losses and hits, with those over a batch that is at hand."""
    num = batch.labels.shape[0]
    return self._call(_add, totals, state.params, batch, 0, num)

  def judge(
    self, state: LaneState, totals: tuple[Array, Array], num: int
  ) -> LaneState:
    """Verdict of the sums over so many examples."""
    return self._call(_judge, state, totals, num)

  def compiled_step(self, lane: Any) -> Any:
    """The program of one step of a lane, to be looked into and not run."""
    abstract = self.abstract([lane])
    if self.layout:
      abstract = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        abstract,
        self.layout.state(abstract),
      )
    return _step.lower(
      *(self._program, self.batched, self.layout),
      *(abstract, self.arrays([lane]), self.data),
    ).compile()

  def place(self, state: LaneState) -> LaneState:
    """A state that was restored, where the devices want it."""
    if self.layout is None:
      return state
    return jax.device_put(state, self.layout.state(state))

  def take(self, state: LaneState, k: int) -> LaneState:
    """The state of the lane at position k, on this host."""
    if not self.batched:
      return state
    if jax.process_count() == 1:
      return _at(state, k)
    assert self.layout
    at = jax.jit(_at, out_shardings=self.layout.everywhere)
    return multihost.local(at(state, k))

  def padded(self, index: list[int]) -> list[int]:
    """`index` lengthened to a whole number of lanes per device."""
    missing = -len(index) % self.layout.num_lanes if self.layout else 0
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
    if kept == index:
      return index, self.place(state)
    if state.status.is_fully_addressable:
      return kept, self.place(_at(state, where))
    assert self.layout
    at = jax.jit(_at, out_shardings=self.layout.state(state))
    return kept, at(state, where)

  def arrays(self, lanes: Sequence[Any]) -> Any:
    """The settings of the lanes, as the compiled functions take them."""
    stacked = jax.tree_util.tree_map_with_path(_column, *lanes)
    if not self.batched:
      stacked = jax.tree.map(lambda a: a[0], stacked)
    return jax.device_put(stacked, self.layout.lanes if self.layout else None)

  @property
  def _num_train(self) -> int:
    return self.data.labels.shape[0]

  def _call(self, function: Any, *args: Any) -> Any:
    return function(self._program, self.batched, self.layout, *args)

  def _totals(self, state: LaneState) -> tuple[Array, Array]:
    """Sums over the training set, batch by batch from the host."""
    size, whole, rest = evaluation.pieces(
      self._num_train, self.recipe.eval_batch
    )
    pieces = [(i * size, size) for i in range(whole)]
    if rest:
      pieces.append((whole * size, rest))
    totals = jnp.zeros_like(state.loss), jnp.zeros_like(state.steps)
    for start, length in pieces:
      totals = self._call(_add, totals, state.params, self.data, start, length)
    return totals


def _at(state: LaneState, where: Any) -> LaneState:
  return jax.tree.map(lambda a: a[where], state)


def _is_slow_in_loops(program: Program, data: Examples) -> bool:
  """Whether steps are faster one by one than in a loop on the device.

  XLA's CPU backend computes a convolution inside a loop about ten times slower
  than outside.
  """
  if jax.default_backend() != 'cpu':
    return False
  params = jax.eval_shape(lambda: program.init_params(jax.random.key(0)))
  one = jax.make_jaxpr(lambda params, x: program.apply(params, x[:1]))
  jaxpr = one(params, data.inputs)
  return 'conv_general_dilated[' in str(jaxpr)


def _column(path: tuple[Any, ...], *values: Any) -> np.ndarray:
  """One setting of all lanes."""
  name = jax.tree_util.keystr(path[-1:], simple=True)
  return np.asarray(values, np.uint32 if name == 'seed' else np.float32)


_compiled = functools.partial(jax.jit, static_argnums=(0, 1, 2))


@_compiled
def _init(
  program: Program,
  batched: bool,
  layout: Layout | None,
  settings: Any,
  data: Examples,
) -> LaneState:
  init = _mapped(program.init, batched, layout, (0, None))
  return _settled(layout, init(settings, data))


@functools.partial(_compiled, donate_argnums=3)
def _advance(
  program: Any,
  batched: bool,
  layout: Layout | None,
  state: Any,
  settings: Any,
  data: Any,
  num_steps: int,
) -> Any:
  advance = _split(program, layout).advance
  mapped = _mapped(advance, batched, layout, (0, 0, None, None))
  return _settled(layout, mapped(state, settings, data, num_steps))


@functools.partial(_compiled, donate_argnums=3)
def _move(
  program: Any,
  batched: bool,
  layout: Layout | None,
  state: Any,
  settings: Any,
  data: Any,
  num_steps: int,
) -> Any:
  move = _split(program, layout).move
  mapped = _mapped(move, batched, layout, (0, 0, None, None))
  return _settled(layout, mapped(state, settings, data, num_steps))


@functools.partial(_compiled, donate_argnums=3)
def _step(
  program: Any,
  batched: bool,
  layout: Layout | None,
  state: Any,
  settings: Any,
  data: Any,
) -> Any:
  step = _mapped(_split(program, layout).step, batched, layout, (0, 0, None))
  return _settled(
    layout, _where_going(batched, state, step(state, settings, data))
  )


@functools.partial(_compiled, donate_argnums=3, static_argnums=(0, 1, 2, 5))
def _judge(
  program: Any,
  batched: bool,
  layout: Layout | None,
  state: Any,
  totals: Any,
  num_train: int,
) -> Any:
  judge = _mapped(program.judge, batched, layout, (0, 0, None))
  return _where_going(batched, state, judge(state, totals, num_train))


@functools.partial(_compiled, donate_argnums=3, static_argnums=(0, 1, 2, 7))
def _add(
  program: Any,
  batched: bool,
  layout: Layout | None,
  totals: Any,
  params: Any,
  data: Any,
  start: Array,
  length: int,
) -> Any:
  apply = _split(program, layout).apply

  def add(totals: Any, params: Any) -> Any:
    return evaluation.add_batch(
      *(apply, program.losses, totals, params, data, start, length)
    )

  return _mapped(add, batched, layout, (0, 0))(totals, params)


def _split(program: Program, layout: Layout | None) -> Program:
  """The program with each step's examples over the devices of `data`."""
  if layout is None:
    return program
  return dataclasses.replace(
    program,
    apply=lambda params, inputs: program.apply(params, layout.split(inputs)),
  )


def _settled(layout: Layout | None, state: LaneState) -> LaneState:
  """The state with every leaf where the layout wants it."""
  if layout is None:
    return state
  return lax.with_sharding_constraint(state, layout.state(state))


def _mapped(
  function: Any, batched: bool, layout: Layout | None, in_axes: tuple[Any, ...]
) -> Any:
  if not batched:
    return function
  axis = layout.lane_axis if layout else None
  return jax.vmap(function, in_axes, spmd_axis_name=axis)


def _where_going(batched: bool, old: LaneState, new: LaneState) -> LaneState:
  """Lanes of a batch that have stopped as they were."""
  if not batched:
    return new
  choose = jax.vmap(lambda going, *values: lax.select(going, *values))
  going = is_going(old.status)
  return jax.tree.map(lambda o, n: choose(going, n, o), old, new)
