"""Training many lanes of one network, each to its stopping rule.

A lane is one run: a seed with its noise's alpha and sigma. Lanes share the
network, the data and the compiled program; on an accelerator they are one
vmapped batch, on a CPU they run one after another, which is faster there. The
order within a step is that of the papers' programs: noise (but not before the
first step), gradient step, and on the evaluation grid the stopping rule, so
that a network that has met the rule carries no noise after its last step.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from htjax import checkpoints, noise, records, selection, stable
from htjax.types import (
  Array,
  ArrayLike,
  PRNGKey,
  PyTree,
  check_choice,
  check_count,
  check_range,
)

_CHECKPOINTS = 'checkpoints'

RUNNING, CONVERGED, DIVERGED, OUT_OF_STEPS, AVERAGING = range(5)
STATUS = ('running', 'converged', 'diverged', 'out of steps', 'averaging')


class Lane(NamedTuple):
  """One run's traced settings.

  Attributes:
    seed: integer; its key gives initialisation, batches and noise.
    alpha: tail index of the noise in (0, 2].
    sigma: scale of the noise; 0 is no noise.
    learning_rate: step size eta, or None for the recipe's. Either all lanes
      that are trained together have one or none has.
  """

  seed: Any
  alpha: Any
  sigma: Any
  learning_rate: Any = None


class Recipe(NamedTuple):
  """What all lanes of a program share; static.

  Attributes:
    learning_rate: step size eta, constant, of lanes without one of their own.
    batch_size: examples per step; batches are reshuffled every epoch without
      replacement and a last partial batch is kept. At least the size of the
      training set: full batches, not shuffled.
    kind: type of the noise, as in `htjax.noise`.
    unit: what a convolution is made of, as in `htjax.noise`.
    eval_every: steps between evaluations on the whole training set; the first
      follows the first step.
    target_accuracy: stop at this training accuracy, in [0, 1].
    target_loss: and only at a mean training loss below this; None is any.
    average_steps: having met the rule, make so many more steps and keep the
      mean of their iterates. 0 stops at once.
    average_delay: steps between the rule and the first that is averaged; in
      all a multiple of eval_every.
    max_steps: give up after this many steps without meeting the rule.
    momentum: of the SGD step, or None.
    eval_batch: examples per evaluation batch.
  """

  learning_rate: float
  batch_size: int
  kind: str = 'type1'
  unit: str = 'filter'
  eval_every: int = 100
  target_accuracy: float = 0.95
  target_loss: float | None = None
  average_steps: int = 0
  average_delay: int = 0
  max_steps: int = 100_000
  momentum: float | None = None
  eval_batch: int = 5000


class LaneState(NamedTuple):
  """Everything a lane needs to go on.

  Attributes:
    params: pytree of weights.
    opt_state: state of the gradient step.
    order: [num_train] int32, this epoch's order of the examples; [0] when
      batches are full.
    status: [] int32, one of RUNNING, CONVERGED, DIVERGED, OUT_OF_STEPS and
      AVERAGING.
    steps: [] int32, gradient steps made.
    loss, accuracy: [] float32, on the training set at the last evaluation.
    average: mean of `averaged` iterates, like params; () without averaging.
    averaged: [] int32; while it is negative, so many iterates are passed over.
  """

  params: PyTree
  opt_state: PyTree
  order: Array
  status: Array
  steps: Array
  loss: Array
  accuracy: Array
  average: PyTree
  averaged: Array


class Finished(NamedTuple):
  """A lane that has stopped.

  Attributes:
    lane_index: position of the lane in the list that was given.
    lane: its settings.
    params: its weights.
    steps: gradient steps made; steps - 1 times noise was added.
    status: 'converged', 'diverged' or 'out of steps'.
    train_loss, train_accuracy: at the last evaluation.
    average: mean of the iterates that the recipe averages, or None.
  """

  lane_index: int
  lane: Lane
  params: PyTree
  steps: int
  status: str
  train_loss: float
  train_accuracy: float
  average: PyTree = None


class Examples(NamedTuple):
  """A training set: inputs [num_train, ..] and integer labels [num_train]."""

  inputs: Any
  labels: Any


class Program(NamedTuple):
  """Pure functions of one lane, to be jitted or vmapped.

  Attributes:
    init: (Lane of arrays, Examples) -> LaneState.
    advance: (LaneState, Lane of arrays, Examples, num_steps) -> LaneState: so
      many steps, then the stopping rule. A lane that is not running comes back
      as it was.
    recipe: the Recipe.
  """

  init: Callable[[Lane, Examples], LaneState]
  advance: Callable[[LaneState, Lane, Examples, Array], LaneState]
  recipe: Recipe


def evaluate(
  apply: Callable[[PyTree, Array], Array],
  params: PyTree,
  inputs: Array,
  labels: Array,
  *,
  batch_size: int = 5000,
) -> tuple[Array, Array]:
  """Mean loss and accuracy over a whole data set, batch by batch.

  Args:
    apply: (params, inputs [b, ..]) -> logits [b, num_classes].
    params: pytree of weights.
    inputs: [num_examples, ..].
    labels: [num_examples] integers.
    batch_size: examples per batch; bounds the memory.

  Returns:
    (loss, accuracy): both [] float32; accuracy in [0, 1] is the number of hits
    over the number of examples.
  """
  loss, hits = _totals(apply, params, Examples(inputs, labels), batch_size)
  return loss / labels.shape[0], hits / labels.shape[0]


def make_program(
  init: Callable[[PRNGKey], PyTree],
  apply: Callable[[PyTree, Array], Array],
  recipe: Recipe,
  *,
  mask: selection.Selection = None,
) -> Program:
  """Build the pure functions that train one lane.

  Args:
    init: key -> params.
    apply: (params, inputs) -> logits.
    recipe: what all lanes share.
    mask: which leaves get noise, as in `htjax.noise.add_stable_noise`.

  Returns:
    A Program.

  Raises:
    ValueError: a recipe with impossible entries.

  Source: [IC], section 5 and appendix E.
  """
  _check_recipe(recipe)
  averaging = recipe.average_steps > 0

  def rate(lane: Lane) -> Any:
    own = lane.learning_rate
    return recipe.learning_rate if own is None else own

  def optimizer(lane: Lane) -> optax.GradientTransformation:
    return optax.sgd(rate(lane), momentum=recipe.momentum)

  def kicked(params: PyTree, lane: Lane, steps: Array) -> PyTree:
    """The parameters with the noise that follows so many steps."""
    key = _child(lane.seed, _NOISE)
    transform = noise.add_stable_noise(
      rate(lane),
      lane.alpha,
      # No noise before the first step, and so none after the last one.
      jnp.where(steps > 0, lane.sigma, 0.0),
      key=key,
      kind=recipe.kind,
      unit=recipe.unit,
      mask=mask,
    )
    kick, _ = transform.update(
      jax.tree.map(jnp.zeros_like, params),
      noise.AddStableNoiseState(steps, key),
    )
    return optax.apply_updates(params, kick)

  def init_lane(lane: Lane, data: Examples) -> LaneState:
    params = init(init_key(lane.seed))
    num_train = data.labels.shape[0]
    shuffled = recipe.batch_size < num_train
    return LaneState(
      params=params,
      opt_state=optimizer(lane).init(params),
      order=jnp.arange(num_train if shuffled else 0, dtype=jnp.int32),
      status=jnp.asarray(RUNNING, jnp.int32),
      steps=jnp.zeros((), jnp.int32),
      loss=jnp.full((), jnp.nan, jnp.float32),
      accuracy=jnp.zeros((), jnp.float32),
      average=jax.tree.map(jnp.zeros_like, params) if averaging else (),
      averaged=jnp.asarray(-recipe.average_delay, jnp.int32),
    )

  def step(state: LaneState, lane: Lane, data: Examples) -> LaneState:
    params = kicked(state.params, lane, state.steps)
    order, batch, weight = _next_batch(state, lane, data, recipe.batch_size)

    def loss(params: PyTree) -> Array:
      losses = _losses(apply(params, batch.inputs), batch.labels)
      return _weighted_mean(losses, weight)

    updates, opt_state = optimizer(lane).update(
      jax.grad(loss)(params), state.opt_state, params
    )
    state = state._replace(
      params=optax.apply_updates(params, updates),
      opt_state=opt_state,
      order=order,
      steps=state.steps + 1,
    )
    return averaged(state) if averaging else state

  def averaged(state: LaneState) -> LaneState:
    """With this iterate in the mean, if the lane is averaging."""
    num = state.averaged + (state.status == AVERAGING)
    counts = (state.status == AVERAGING) & (num > 0)
    share = jnp.where(counts, 1 / jnp.maximum(num, 1), 0)
    average = optax.incremental_update(state.params, state.average, share)
    return state._replace(average=average, averaged=num)

  def judge(state: LaneState, data: Examples) -> LaneState:
    num_train = data.labels.shape[0]
    loss, hits = _totals(apply, state.params, data, recipe.eval_batch)
    # Counts are compared, because a quotient may be rounded either way.
    needed = math.ceil(recipe.target_accuracy * num_train - 1e-6)
    met = hits >= needed
    if recipe.target_loss is not None:
      met &= loss / num_train < recipe.target_loss
    status = jnp.where(state.steps >= recipe.max_steps, OUT_OF_STEPS, RUNNING)
    status = jnp.where(met, AVERAGING if averaging else CONVERGED, status)
    if averaging:
      enough = state.averaged >= recipe.average_steps
      further = jnp.where(enough, CONVERGED, AVERAGING)
      status = jnp.where(state.status == AVERAGING, further, status)
    status = jnp.where(jnp.isnan(loss), DIVERGED, status)
    return state._replace(
      status=status.astype(jnp.int32),
      loss=loss / num_train,
      accuracy=hits / num_train,
    )

  def advance(
    state: LaneState, lane: Lane, data: Examples, num_steps: Array
  ) -> LaneState:
    def run(state: LaneState) -> LaneState:
      state = lax.fori_loop(
        0, num_steps, lambda _, s: step(s, lane, data), state
      )
      return judge(state, data)

    return lax.cond(_is_going(state.status), run, lambda s: s, state)

  return Program(init_lane, advance, recipe)


def train(
  program: Program,
  lanes: Sequence[Lane],
  data: Examples,
  *,
  at_once: int | None = None,
  done: frozenset[int] = frozenset(),
  run: records.Run | None = None,
  checkpoint_every: float = 60.0,
) -> Iterator[Finished]:
  """Train lanes to their stopping rule, giving each as it stops.

  Lanes are trained in groups. The lanes of a group are one vmapped batch; when
  half of them have stopped, the batch is compacted, so that stopped lanes cost
  nothing. With several devices the batch is sharded over them. A lane's result
  does not depend on what the other lanes do.

  With a `run`, each evaluation is logged, the state of the group is saved
  every `checkpoint_every` seconds, and a training that was killed goes on from
  there, to the same numbers. A lane that stopped after the last checkpoint is
  then given a second time, so that a caller who stores results by index loses
  nothing.

  Args:
    program: from `make_program`.
    lanes: the settings of each lane.
    data: the training set.
    at_once: lanes in a group. None: 1 on a CPU, where a batch of networks is
      slower than one after another, otherwise all.
    done: indices of lanes whose results are stored already.
    run: where evaluations are logged and checkpoints kept, or None.
    checkpoint_every: seconds.

  Yields:
    A Finished for each lane.

  Raises:
    ValueError: no lanes, impossible settings of a lane, at_once < 1, inputs
      and labels of different lengths.
  """
  _check_lanes(lanes)
  _check_examples(data)
  if at_once is None:
    at_once = 1 if jax.default_backend() == 'cpu' else len(lanes)
  check_count('at_once', at_once)
  data = Examples(jnp.asarray(data.inputs), jnp.asarray(data.labels))
  engine = _Engine(program, data, batched=at_once > 1)
  for first in range(0, len(lanes), at_once):
    group = list(range(first, min(first + at_once, len(lanes))))
    if set(group) <= done:
      continue
    saved = time.monotonic()
    index, waiting, state = _start(engine, lanes, group, run)
    settings = engine.arrays([lanes[i] for i in index])
    while waiting:
      state = engine.advance(state, settings)
      _log(run, index, waiting, state)
      for i, k in _stopped(index, waiting, state):
        waiting.discard(i)
        yield _finished(i, lanes[i], engine.take(state, k))
      if engine.is_sparse(index, waiting):
        index, state = engine.compact(index, waiting, state)
        settings = engine.arrays([lanes[i] for i in index])
      if run and waiting and time.monotonic() - saved > checkpoint_every:
        _save(run, group, index, waiting, state)
        saved = time.monotonic()


class _Engine:
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


def _start(
  engine: _Engine,
  lanes: Sequence[Lane],
  group: list[int],
  run: records.Run | None,
) -> tuple[list[int], set[int], LaneState]:
  """The group's positions, waiting lanes and state, saved or initial."""
  index, waiting, steps = engine.padded(group), set(group), 0
  settings = [lanes[i] for i in index]
  saved = run and checkpoints.restore(
    run.workdir / _CHECKPOINTS, engine.abstract(settings), strict_shapes=False
  )
  if saved and saved[2]['group'] == group:
    state, steps, meta = saved
    index, waiting = meta['index'], set(meta['waiting'])
    state = engine.place(state)
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
  steps = int(np.max(np.asarray(state.steps)))
  meta = {'group': group, 'index': index, 'waiting': sorted(waiting)}
  checkpoints.save(run.workdir / _CHECKPOINTS, steps, state, meta)


def _log(run, index, waiting, state) -> None:
  if run is None:
    return
  columns = [
    np.atleast_1d(a) for a in (state.steps, state.loss, state.accuracy)
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
  status = np.atleast_1d(state.status)
  return [
    (i, index.index(i))
    for i in sorted(waiting)
    if not _is_going(status[index.index(i)])
  ]


def _is_going(status: Any) -> Any:
  return (status == RUNNING) | (status == AVERAGING)


def _finished(i: int, lane: Lane, state: LaneState) -> Finished:
  return Finished(
    lane_index=i,
    lane=lane,
    params=state.params,
    steps=int(state.steps),
    status=STATUS[int(state.status)],
    train_loss=float(state.loss),
    train_accuracy=float(state.accuracy),
    average=state.average if state.averaged > 0 else None,
  )


def _losses(logits: Array, labels: Array) -> Array:
  return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def _totals(
  apply: Callable[[PyTree, Array], Array],
  params: PyTree,
  data: Examples,
  batch_size: int,
) -> tuple[Array, Array]:
  """Sum of the losses and number of hits, at most `batch_size` at a time."""

  def of_batch(batch: Examples) -> tuple[Array, Array]:
    logits = apply(params, batch.inputs)
    hits = logits.argmax(-1) == batch.labels
    return _losses(logits, batch.labels).sum(), hits.sum(dtype=jnp.int32)

  num_examples = data.labels.shape[0]
  batch_size = min(batch_size, num_examples)
  num_whole = num_examples // batch_size

  def add(carry, i):
    batch = jax.tree.map(
      lambda a: lax.dynamic_slice_in_dim(a, i * batch_size, batch_size), data
    )
    return jax.tree.map(jnp.add, carry, of_batch(batch)), None

  totals = (jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32))
  totals, _ = lax.scan(add, totals, jnp.arange(num_whole))
  if num_examples % batch_size:
    rest = jax.tree.map(lambda a: a[num_whole * batch_size :], data)
    totals = jax.tree.map(jnp.add, totals, of_batch(rest))
  return totals


def _next_batch(
  state: LaneState, lane: Lane, data: Examples, size: int
) -> tuple[Array, Examples, Array | None]:
  """The epoch's order, the step's examples and their weights.

  Batches have one static size; the places of a last partial batch that are
  left over have weight 0.
  """
  num_train = data.labels.shape[0]
  if size >= num_train:
    return state.order, data, None
  per_epoch = -(-num_train // size)
  epoch, place = state.steps // per_epoch, state.steps % per_epoch

  def reshuffled() -> Array:
    key = jax.random.fold_in(_child(lane.seed, _BATCHES), epoch)
    return jax.random.permutation(key, num_train).astype(jnp.int32)

  order = lax.cond(place == 0, reshuffled, lambda: state.order)
  position = place * size + jnp.arange(size)
  index = order[jnp.minimum(position, num_train - 1)]
  batch = jax.tree.map(lambda a: a[index], data)
  if num_train % size == 0:
    return order, batch, None
  return order, batch, (position < num_train).astype(jnp.float32)


def _weighted_mean(losses: Array, weight: Array | None) -> Array:
  if weight is None:
    return jnp.mean(losses)
  return jnp.sum(losses * weight) / jnp.sum(weight)


# One root key per lane, and named children of it.
_INIT, _BATCHES, _NOISE, _ANALYSIS = range(4)


def init_key(seed: ArrayLike) -> PRNGKey:
  """The key from which a lane with this seed draws its first weights."""
  return _child(seed, _INIT)


def analysis_key(seed: ArrayLike) -> PRNGKey:
  """A key of a lane for what is drawn after its training.

  It is independent of all that the training draws, which the children of
  `jax.random.key(seed)` in general are not.
  """
  return _child(seed, _ANALYSIS)


def _child(seed: ArrayLike, purpose: int) -> PRNGKey:
  return jax.random.fold_in(jax.random.key(seed), purpose)


def _check_recipe(recipe: Recipe) -> None:
  check_range(
    'learning_rate', recipe.learning_rate, 0.0, np.inf, open_high=True
  )
  check_choice('kind', recipe.kind, stable.KINDS)
  check_choice('unit', recipe.unit, noise.UNITS)
  check_range(
    'target_accuracy', recipe.target_accuracy, 0.0, 1.0, open_low=True
  )
  for name in ('batch_size', 'eval_every', 'max_steps', 'eval_batch'):
    check_count(name, getattr(recipe, name))
  check_count('average_steps', recipe.average_steps, 0)
  check_count('average_delay', recipe.average_delay, 0)
  if recipe.average_delay and not recipe.average_steps:
    raise ValueError(
      'average_delay must be 0 where average_steps is 0, got '
      f'{recipe.average_delay}'
    )
  if (recipe.average_delay + recipe.average_steps) % recipe.eval_every:
    raise ValueError(
      'average_delay + average_steps must be a multiple of eval_every = '
      f'{recipe.eval_every}, got {recipe.average_delay} and '
      f'{recipe.average_steps}'
    )
  if recipe.target_loss is not None:
    check_range('target_loss', recipe.target_loss, 0.0, np.inf, open_low=True)


def _check_lanes(lanes: Sequence[Lane]) -> None:
  if not lanes:
    raise ValueError('lanes must hold at least one lane, got none')
  for lane in lanes:
    check_count('seed', lane.seed, 0)
    check_range('alpha', lane.alpha, 0.0, 2.0, open_low=True)
    check_range('sigma', lane.sigma, 0.0, np.inf, open_high=True)
    if lane.learning_rate is not None:
      check_range(
        'learning_rate', lane.learning_rate, 0.0, np.inf, open_high=True
      )
  if len({lane.learning_rate is None for lane in lanes}) > 1:
    raise ValueError(
      'learning_rate must be given for all lanes or for none, got '
      f'{[lane.learning_rate for lane in lanes]}'
    )


def _check_examples(data: Examples) -> None:
  num_inputs, num_labels = data.inputs.shape[0], data.labels.shape[0]
  if num_inputs != num_labels or num_labels == 0:
    raise ValueError(
      'inputs and labels must have one equal, positive length, got '
      f'{num_inputs} and {num_labels}'
    )
