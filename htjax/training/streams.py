"""Training on batches of an iterator: data that need not fit anywhere."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from htjax import multihost
from htjax.checks import check_count, checked
from htjax.io import checkpoints, records
from htjax.training import evaluation
from htjax.training.engine import Engine
from htjax.training.lanes import (
  OUT_OF_STEPS,
  Examples,
  Finished,
  LaneState,
  check_examples,
  check_lanes,
  is_going,
)
from htjax.training.layout import Rule, layout_of
from htjax.training.loop import CHECKPOINTS, finished, log
from htjax.training.programs import Program
from htjax.types import Array


@checked
def train_batches(
  program: Program,
  lane: Any,
  batches: Iterable[Any],
  examples: Callable[[], Iterable[Any]],
  *,
  run: records.Run | None = None,
  checkpoint_every: float = 60.0,
  mesh: Mesh | None = None,
  rule: Rule | None = None,
) -> Finished:
  """Train one lane on batches as they come, to its stopping rule.

  A batch is a step, in the order that the iterator has; the program's order
  of the examples has no say. Noise, gradient step, evaluations and stopping
  are those of `train`. If the batches end first, the lane is out of steps.

  With a `run`, evaluations are logged and the state is saved, with that of
  the iterator if it has `get_state` and `set_state`, as those of grain do; of
  another, a run that goes on passes over the batches that it has seen.

  Args:
    program: from `make_program`; the recipe's batch_size is the most that a
      batch may hold.
    lane: its settings, as in `train`.
    batches: of pairs (inputs [b, ..], labels [b, ..]). Another size compiles
      another program. Each of several hosts gives its own part of each batch.
    examples: () -> batches over which an evaluation goes; on each of several
      hosts as many, of equal sizes.
    run: where evaluations are logged and checkpoints kept, or None.
    checkpoint_every: seconds.
    mesh: with axes of 'data' and 'model', over which the examples of a step,
      and weights with their optimizer state, are split; needed on several
      hosts.
    rule: (shape of a weight, devices of 'model') -> PartitionSpec; None splits
      the last axis that can be, of leaves of 2^14 entries and more.

  Returns:
    Finished, with lane_index 0; split over 'model', its weights stay so.

  Raises:
    ValueError: impossible settings of the lane; a batch that is no pair, is
      empty, holds more than batch_size, or does not go evenly over 'data';
      several hosts without a mesh, or a run that goes on although the hosts'
      iterators were not at one place.

  Examples:
    >>> import jax, numpy as np
    >>> from htjax import models, training
    >>> network = models.fcn(2, 4, 2)
    >>> recipe = training.Recipe(0.1, batch_size=8, max_steps=3)
    >>> program = training.make_program(network.init, network.apply, recipe)
    >>> x = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    >>> batch = (x, (x[:, 0] > 0).astype(np.int32))
    >>> lane = training.Lane(0, 1.8, 0.01)
    >>> done = training.train_batches(
    ...   program, lane, iter([batch] * 3), lambda: [batch]
    ... )
    >>> done.steps
    3
  """
  check_lanes([lane])
  if mesh is None and jax.process_count() > 1:
    raise ValueError('mesh must be given on several hosts, got None')
  layout = layout_of(mesh, None, False, rule)
  feed = _Feed(mesh, program.recipe.batch_size)
  shapes = feed.like(next(iter(examples())))
  engine = Engine(program, shapes, batched=False, layout=layout)
  settings, source = engine.arrays([lane]), iter(batches)
  state = _start(engine, lane, source, run)
  saved, ended = time.monotonic(), False
  while is_going(int(multihost.local(state.status))) and not ended:
    state, ended = _advance(engine, state, settings, source, feed)
    state = _judged(engine, state, examples, feed)
    if ended and is_going(int(multihost.local(state.status))):
      state = state._replace(status=jnp.full_like(state.status, OUT_OF_STEPS))
    log(run, [0], {0}, state)
    late = time.monotonic() - saved > checkpoint_every
    if run and multihost.from_first(late):
      _save(run, state, source)
      saved = time.monotonic()
  return finished(0, lane, state)


class _Feed:
  """Batches of the caller as arrays on the devices that want them."""

  def __init__(self, mesh: Mesh | None, most: int):
    self.mesh, self.most = mesh, most

  def __call__(self, batch: Any, *, is_step: bool = False) -> Examples:
    """The batch, of all hosts together."""
    inputs, labels = _pair(batch)
    if self.mesh is None:
      placed = Examples(jnp.asarray(inputs), jnp.asarray(labels))
    else:
      placed = Examples(self._spread(inputs), self._spread(labels))
    check_examples(placed)
    if is_step and placed.labels.shape[0] > self.most:
      raise ValueError(
        f'batches must hold at most batch_size = {self.most} examples, got '
        f'{placed.labels.shape[0]}'
      )
    return placed

  def like(self, batch: Any) -> Examples:
    """Zeros that tell shapes, no more than a step has, alike on all hosts."""
    parts = (np.asarray(a)[: self.most] for a in _pair(batch))
    return Examples(*map(np.zeros_like, parts))

  def _spread(self, array: Any) -> Array:
    assert self.mesh
    array, num = np.asarray(array), dict(self.mesh.shape).get('data', 1)
    total = array.shape[0] * jax.process_count()
    if total % num:
      raise ValueError(
        f"batches must hold a multiple of the {num} devices of the mesh's axis "
        f"'data', got {total} examples"
      )
    spec = PartitionSpec('data' if num > 1 else None)
    place = NamedSharding(Mesh(self.mesh.devices, self.mesh.axis_names), spec)
    return jax.make_array_from_process_local_data(place, array)


def _pair(batch: Any) -> tuple[Any, Any]:
  """Inputs and labels of a batch."""
  try:
    inputs, labels = batch
  except (TypeError, ValueError):
    raise ValueError(
      f'batches must be of pairs (inputs, labels), got {type(batch).__name__}'
    ) from None
  return inputs, labels


def _advance(
  engine: Engine,
  state: LaneState,
  settings: Any,
  source: Iterator[Any],
  feed: _Feed,
) -> tuple[LaneState, bool]:
  """On to the next point of the evaluation grid; whether batches ended."""
  steps = int(multihost.local(state.steps))
  recipe = engine.recipe
  num = min(
    1 if steps == 0 else recipe.eval_every, max(recipe.max_steps - steps, 1)
  )
  for _ in range(num):
    batch = next(source, None)
    if not all(multihost.from_each(batch is not None)):
      return state, True
    state = engine.step(state, settings, feed(batch, is_step=True))
  return state, False


def _judged(
  engine: Engine,
  state: LaneState,
  examples: Callable[[], Iterable[Any]],
  feed: _Feed,
) -> LaneState:
  """The state with the verdict of an evaluation."""
  totals, num = evaluation.nothing(), 0
  for batch in map(feed, examples()):
    totals, num = engine.add(totals, state, batch), num + len(batch.labels)
  check_count('the number of examples to evaluate on', num)
  return engine.judge(state, totals, num)


def _start(
  engine: Engine, lane: Any, source: Any, run: records.Run | None
) -> LaneState:
  """The state that was saved, with the iterator where it was, or the first."""
  saved = run and checkpoints.restore(
    run.workdir / CHECKPOINTS, engine.abstract([lane])
  )
  if run:
    steps = saved[1] if saved else 0
    run.truncate_from(lambda r: r['steps'] > steps)
  if not saved:
    return engine.init([lane])
  state, steps, meta = saved
  places = meta['iterators']
  if not hasattr(source, 'set_state'):
    for _ in range(steps):
      next(source, None)
  elif any(place != places[0] for place in places):
    raise ValueError(
      'batches must be at one place on all hosts for a run to go on, got '
      f'{places}'
    )
  else:
    source.set_state(_parsed(source.get_state(), places[0]))
  return engine.place(state)


def _save(run: records.Run, state: LaneState, source: Any) -> None:
  place = source.get_state() if hasattr(source, 'get_state') else None
  if isinstance(place, bytes):
    place = place.decode()
  meta = {'iterators': multihost.from_each(json.loads(json.dumps(place)))}
  steps = int(multihost.local(state.steps))
  checkpoints.save(run.workdir / CHECKPOINTS, steps, state, meta)


def _parsed(like: Any, place: Any) -> Any:
  """The place of an iterator, as that is given: bytes or JSON."""
  return place.encode() if isinstance(like, bytes) else place
