"""Lanes to their stopping rules: groups, logs, checkpoints, resuming."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from htjax import multihost
from htjax.checks import check_count, checked
from htjax.io import checkpoints, records
from htjax.training.batches import steps_per_epoch
from htjax.training.engine import Engine
from htjax.training.lanes import (
  STATUS,
  Examples,
  Finished,
  LaneState,
  check_examples,
  check_lanes,
  is_going,
)
from htjax.training.layout import Rule, check_batches, layout_of
from htjax.training.programs import Program

CHECKPOINTS = 'checkpoints'


@checked
def train(
  program: Program,
  lanes: Sequence[Any],
  data: Examples,
  *,
  at_once: int | None = None,
  done: frozenset[int] = frozenset(),
  run: records.Run | None = None,
  checkpoint_every: float = 60.0,
  devices: Sequence[jax.Device] | None = None,
  mesh: Mesh | None = None,
  rule: Rule | None = None,
) -> Iterator[Finished]:
  """Train lanes to their stopping rule, giving each as it stops.

  Lanes are trained in groups. The lanes of a group are one vmapped batch; when
  half of them have stopped, the batch is compacted, so that stopped lanes cost
  nothing. With several devices, of one host or more, the batch is sharded over
  them. A lane's result does not depend on what the other lanes do.

  With a `run`, each evaluation is logged, the state of the group is saved
  every `checkpoint_every` seconds, and a training that was killed goes on from
  there, on any number of devices and hosts, to the same numbers (those of
  another size of batch but for rounding). A lane that stopped after the last
  checkpoint is then given a second time, so that a caller who stores results by
  index loses nothing.

  Args:
    program: from `make_program`.
    lanes: the settings of each lane: `Lane`s, or NamedTuples of one type that
      the program's functions understand, with a `seed`.
    data: the training set.
    at_once: lanes in a group. None: 1 on a CPU, where a batch of networks is
      slower than one after another, otherwise all.
    done: indices of lanes whose results are stored already.
    run: where evaluations are logged and checkpoints kept, or None.
    checkpoint_every: seconds.
    devices: over which the lanes of a batch are split; None is all, of every
      host.
    mesh: in place of `devices`, with axes of 'lanes', 'data' and 'model': the
      lanes of a batch, the examples of each step, the weights with their
      optimizer state are split over them. It serves one lane at a time too.
    rule: (shape of a weight, devices of 'model') -> PartitionSpec with that
      name; None splits the last axis that can be, the units in Flax's layout,
      of leaves of 2^14 entries and more.

  Yields:
    A Finished for each lane; split over 'model', its weights stay so.

  Raises:
    ValueError: no lanes, impossible settings of a lane, at_once < 1, inputs
      and labels of different lengths, a mesh with other axes or beside devices,
      a batch size that is no multiple of the devices of 'data'.
  """
  check_lanes(lanes)
  check_examples(data)
  if at_once is None:
    at_once = 1 if jax.default_backend() == 'cpu' else len(lanes)
  check_count('at_once', at_once)
  data = jax.device_put(Examples(data.inputs, data.labels))
  layout = layout_of(mesh, devices, at_once > 1, rule)
  if layout:
    check_batches(layout, program.recipe, len(data.labels))
  engine = Engine(program, data, batched=at_once > 1, layout=layout)
  for first in range(0, len(lanes), at_once):
    group = list(range(first, min(first + at_once, len(lanes))))
    if set(group) <= done:
      continue
    saved = time.monotonic()
    index, waiting, state = _start(engine, lanes, group, run)
    settings = engine.arrays([lanes[i] for i in index])
    while waiting:
      state = engine.advance(state, settings)
      log(run, index, waiting, state)
      for i, k in _stopped(index, waiting, state):
        waiting.discard(i)
        yield finished(i, lanes[i], engine.take(state, k))
      if engine.is_sparse(index, waiting):
        index, state = engine.compact(index, waiting, state)
        settings = engine.arrays([lanes[i] for i in index])
      if (
        run
        and waiting
        and multihost.from_first(time.monotonic() - saved > checkpoint_every)
      ):
        _save(run, group, index, waiting, state)
        saved = time.monotonic()


@checked
def epochs(
  program: Program,
  lane: Any,
  data: Examples,
  at: Sequence[int],
  *,
  state: LaneState | None = None,
) -> Iterator[tuple[int, LaneState]]:
  """Train one lane for given numbers of epochs, whatever the stopping rule.

  Args:
    program: from `make_program`; the recipe's rule, evaluations and limit of
      steps are not looked at.
    lane: its settings, as in `train`.
    data: the training set.
    at: numbers of epochs, each >= 0, at which the state is given. They count
      from the first step of all, also where `state` has some behind it.
    state: to go on from, for example of another program whose states have the
      same structure; None is the program's initial one.

  Yields:
    (epoch, LaneState): in ascending order; the state is the caller's to keep.

  Raises:
    ValueError: as `train`; an epoch that is not an integer >= 0, or is over.
  """
  check_lanes([lane])
  check_examples(data)
  for epoch in at:
    check_count('every entry of at', epoch, 0)
  data = jax.device_put(Examples(data.inputs, data.labels))
  engine = Engine(program, data, batched=False)
  recipe, settings = program.recipe, engine.arrays([lane])
  length = steps_per_epoch(
    len(data.labels), recipe.batch_size, recipe.drop_last
  )
  # The engine takes over what it is given.
  state = engine.init([lane]) if state is None else _copy(state)
  for epoch in sorted(at):
    missing = epoch * length - int(state.steps)
    if missing < 0:
      raise ValueError(
        f'every entry of at must lie ahead of the {int(state.steps)} steps '
        f'made, of {length} an epoch, got {epoch}'
      )
    if missing:
      state = engine.move(state, settings, missing)
    yield epoch, _copy(state)


# One program, where each leaf's own copy would be one.
@jax.jit
def _copy(state: LaneState) -> LaneState:
  return jax.tree.map(jnp.copy, state)


def _start(
  engine: Engine,
  lanes: Sequence[Any],
  group: list[int],
  run: records.Run | None,
) -> tuple[list[int], set[int], LaneState]:
  """The group's positions, waiting lanes and state, saved or initial."""
  index, waiting, steps = engine.padded(group), set(group), 0
  settings = [lanes[i] for i in index]
  saved = run and checkpoints.restore(
    run.workdir / CHECKPOINTS, engine.abstract(settings), strict_shapes=False
  )
  if saved and saved[2]['group'] == group:
    state, steps, meta = saved
    waiting = set(meta['waiting'])
    # It may have been padded for another number of devices.
    index, state = engine.compact(meta['index'], set(meta['index']), state)
  else:
    state = engine.init(settings)
  if run:
    # What was logged after the checkpoint will be logged again.
    run.truncate_from(lambda r: r['lane'] in waiting and r['steps'] > steps)
  return index, waiting, state


def _save(
  run: records.Run,
  group: list[int],
  index: list[int],
  waiting: set[int],
  state: LaneState,
) -> None:
  steps = int(np.max(np.asarray(multihost.local(state.steps))))
  meta = {'group': group, 'index': index, 'waiting': sorted(waiting)}
  checkpoints.save(run.workdir / CHECKPOINTS, steps, state, meta)


def log(
  run: records.Run | None,
  index: list[int],
  waiting: set[int],
  state: LaneState,
) -> None:
  """Log the last evaluation of the lanes that are waited for."""
  if run is None:
    return
  columns = [
    np.atleast_1d(multihost.local(a))
    for a in (state.steps, state.loss, state.accuracy)
  ]
  for k, i in enumerate(index):
    if i in waiting and index.index(i) == k:
      steps, loss, accuracy = (column[k] for column in columns)
      run.log(
        {
          'lane': i,
          'steps': steps,
          'train_loss': loss,
          'train_accuracy': accuracy,
        }
      )


def _stopped(
  index: list[int], waiting: set[int], state: LaneState
) -> list[tuple[int, int]]:
  """(lane, position) of the lanes that have just stopped."""
  status = np.atleast_1d(multihost.local(state.status))
  return [
    (i, index.index(i))
    for i in sorted(waiting)
    if not is_going(status[index.index(i)])
  ]


def finished(i: int, lane: Any, state: LaneState) -> Finished:
  """The result of a lane that has stopped."""
  return Finished(
    lane_index=i,
    lane=lane,
    params=state.params,
    steps=int(state.steps),
    status=STATUS[int(state.status)],
    train_loss=float(state.loss),
    train_accuracy=float(state.accuracy),
    average=state.average if int(state.averaged) > 0 else None,
  )
