"""Training lanes: order of operations, stopping rule, batches, resume."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from htjax import models, noise, records, selection, training
from htjax.training import Examples, Lane, Recipe, engine, evaluation, keys

NETWORK = models.fcn(6, 16, 3)
HIDDEN = selection.exclude(*NETWORK.excluded)


def make_data(num=40, dim=6, classes=3, seed=0) -> Examples:
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(num, dim)).astype(np.float32)
  teacher = rng.normal(size=(dim, classes))
  return Examples(x, (x @ teacher).argmax(1).astype(np.int32))


def recipe(**changes) -> Recipe:
  base = Recipe(
    learning_rate=0.3,
    batch_size=40,
    eval_every=5,
    target_accuracy=0.9,
    max_steps=500,
  )
  return base._replace(**changes)


def resumed_recipe() -> Recipe:
  """Lanes that end at different steps, saved at each of few evaluations."""
  return recipe(batch_size=16, target_accuracy=0.99, eval_every=10)


# A program that is made once is traced and compiled once.
@functools.cache
def program(rec: Recipe, network=NETWORK, select=HIDDEN) -> training.Program:
  return training.make_program(network.init, network.apply, rec, select=select)


def run_all(rec, lanes, data, **options) -> dict[int, training.Finished]:
  finished = list(training.train(program(rec), lanes, data, **options))
  return {f.lane_index: f for f in finished}


def assert_same_params(a, b, rtol=0.0, atol=0.0):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), a, b
  )


def slow_reference(rec: Recipe, lane: Lane, data: Examples):
  """The papers' loop, step by step in Python, full batches."""
  params = NETWORK.init(training.init_key(lane.seed))
  key = keys.child(lane.seed, keys.NOISE)
  kick = noise.add_stable_noise(
    rec.learning_rate,
    lane.alpha,
    lane.sigma,
    key=key,
    kind=rec.kind,
    select=HIDDEN,
  )
  state = kick.init(params)

  def loss(p):
    logits = NETWORK.apply(p, data.inputs)
    picked = jax.nn.log_softmax(logits)[
      np.arange(len(data.labels)), data.labels
    ]
    return -picked.mean()

  @jax.jit
  def step(params):
    return jax.tree.map(
      lambda p, g: p - rec.learning_rate * g, params, jax.grad(loss)(params)
    )

  for i in itertools.count():
    params = step(params)
    if i % rec.eval_every == 0:
      hits = NETWORK.apply(params, data.inputs).argmax(-1) == data.labels
      if hits.mean() >= rec.target_accuracy:
        return params, i + 1
    # Step 0's draw falls before the first step, with scale zero.
    state = state._replace(count=jnp.asarray(i + 1, jnp.int32))
    zero = jax.tree.map(jnp.zeros_like, params)
    added, state = kick.update(zero, state)
    params = optax.apply_updates(params, added)


@pytest.mark.parametrize('kind', ['type1', 'type2', 'type3'])
def test_order_is_step_evaluation_noise(kind):
  data, lane = make_data(), Lane(3, 1.8, 0.02)
  rec = recipe(kind=kind, target_accuracy=0.97)
  ours = run_all(rec, [lane], data)[0]
  params, steps = slow_reference(rec, lane, data)
  assert ours.steps == steps > 6
  assert ours.status == 'converged'
  # Same operations in another fusion: float32 rounding over ~50 steps.
  assert_same_params(ours.params, params, rtol=1e-4, atol=1e-5)


def test_negative_control_noise_after_the_last_step_is_seen():
  data, lane = make_data(), Lane(3, 1.8, 0.02)
  rec = recipe(target_accuracy=0.97)
  params, steps = slow_reference(rec, lane, data)
  key = keys.child(lane.seed, keys.NOISE)
  kick = noise.add_stable_noise(
    rec.learning_rate, lane.alpha, lane.sigma, key=key, select=HIDDEN
  )
  state = noise.AddStableNoiseState(jnp.asarray(steps, jnp.int32), key)
  late, _ = kick.update(params, state)
  ours = run_all(rec, [lane], data)[0]
  with pytest.raises(AssertionError):
    assert_same_params(ours.params, late, rtol=1e-4, atol=1e-5)


def test_batches_cover_each_epoch_once_with_a_partial_batch():
  # One-hot inputs and a linear map: row i of the weights moves when example i
  # is in the batch, by lr * 0.5 / (size of its batch) while the logits are 0.
  num, lr = 7, 1e-4
  data = Examples(np.eye(num, dtype=np.float32), np.zeros(num, np.int32))
  linear = models.Network(
    lambda key: {'w': jnp.zeros((num, 2))}, lambda p, x: x @ p['w'], (), ()
  )
  rec = Recipe(lr, 3, eval_every=3, target_accuracy=1.0, max_steps=7)
  prog = training.make_program(linear.init, linear.apply, rec)
  lane = Lane(jnp.uint32(5), jnp.float32(2.0), jnp.float32(0.0))
  data = jax.tree.map(jnp.asarray, data)
  state = prog.init(lane, data)
  moved = []
  for epoch in range(2):
    before = state.params['w']
    for _ in range(3):
      state = state._replace(status=jnp.int32(training.RUNNING))
      state = prog.advance(state, lane, data, 1)
    moved.append(np.sort(np.asarray((state.params['w'] - before)[:, 0])) / lr)
    # Logits are at most 1e-4, so each gradient is 0.5 within 1e-4.
    expected = [0.5 / 3] * 6 + [0.5]
    np.testing.assert_allclose(moved[epoch], expected, rtol=1e-3)
  orders = np.asarray(state.order)
  assert sorted(orders) == list(range(num))


def test_epochs_and_seeds_are_shuffled_differently():
  data = jax.tree.map(jnp.asarray, make_data(num=64))
  prog = program(recipe(batch_size=16, target_accuracy=1.0))

  def orders(seed):
    lane = Lane(jnp.uint32(seed), jnp.float32(2.0), jnp.float32(0.0))
    state = prog.init(lane, data)
    first = prog.advance(state, lane, data, 1).order
    second = prog.advance(state, lane, data, 5).order
    return np.asarray(first), np.asarray(second)

  first, second = orders(0)
  assert (first != second).any()
  assert (first != orders(1)[0]).any()
  np.testing.assert_array_equal(np.sort(second), np.arange(64))


@pytest.mark.parametrize('batch_size', [1, 7, 39, 40, 1000])
def test_evaluate_equals_numpy(batch_size):
  data = make_data()
  params = NETWORK.init(jax.random.key(1))
  loss, accuracy = training.evaluate(
    NETWORK.apply, params, *data, batch_size=batch_size
  )
  logits = np.asarray(NETWORK.apply(params, data.inputs), np.float64)
  log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
  expected = -log_p[np.arange(40), data.labels].mean()
  # 40 losses of order 1 summed in float32.
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  assert accuracy == np.float32((logits.argmax(1) == data.labels).mean())


def test_stopping_grid_and_statuses():
  data = make_data()
  fast = run_all(recipe(target_accuracy=0.9), [Lane(0, 2.0, 0.0)], data)[0]
  assert fast.status == 'converged'
  assert fast.steps % 5 == 1
  assert fast.train_accuracy >= np.float32(0.9)
  never = recipe(target_accuracy=1.0, learning_rate=1e-6, max_steps=13)
  slow = run_all(never, [Lane(0, 2.0, 0.0)], data)[0]
  assert (slow.status, slow.steps) == ('out of steps', 13)
  wild = Lane(0, 1.2, 1e30)
  lost = run_all(recipe(target_accuracy=1.0), [wild], data)[0]
  assert lost.status == 'diverged'
  assert np.isnan(lost.train_loss)


def test_target_accuracy_is_compared_exactly():
  # 95 % of 40 is 38 hits: 38 must do and 37 must not.
  labels = np.zeros(40, np.int32)
  for wrong, status in ((2, 'converged'), (3, 'out of steps')):
    labels[:] = 0
    labels[:wrong] = 1
    constant = models.Network(
      lambda key: {'w': jnp.zeros((1, 2))},
      lambda p, x: (
        jnp.tile(jnp.array([[1.0, 0.0]]), (x.shape[0], 1))
        + 0.0 * (x[:, :1] @ p['w'])
      ),
      (),
      (),
    )
    rec = recipe(target_accuracy=0.95, max_steps=1)
    prog = training.make_program(constant.init, constant.apply, rec)
    data = Examples(np.zeros((40, 3), np.float32), labels)
    (only,) = training.train(prog, [Lane(0, 2.0, 0.0)], data)
    assert only.status == status


LANES = [
  Lane(seed, alpha, sigma)
  for alpha, sigma in ((2.0, 0.0), (1.5, 0.01), (1.8, 0.05), (1.2, 1e30))
  for seed in (0, 1, 2)
]


@pytest.mark.parametrize('at_once', [12, 5, 3])
def test_a_batch_of_lanes_equals_one_lane_at_a_time(at_once):
  data, rec = make_data(), recipe()
  one = run_all(rec, LANES, data, at_once=1)
  many = run_all(rec, LANES, data, at_once=at_once)
  assert one.keys() == many.keys() == set(range(len(LANES)))
  for i in one:
    assert one[i].steps == many[i].steps
    assert one[i].status == many[i].status
    if one[i].status == 'converged':
      # Batched products sum in another order: float32 rounding over the steps.
      assert_same_params(one[i].params, many[i].params, rtol=1e-3, atol=1e-4)
  assert {f.status for f in one.values()} == {'converged', 'diverged'}


def test_a_lane_does_not_depend_on_its_company():
  data, rec = make_data(), recipe()
  together = run_all(rec, LANES[:6], data, at_once=1)
  alone = run_all(rec, [LANES[4]], data, at_once=1)[0]
  assert_same_params(together[4].params, alone.params)


@pytest.mark.parametrize('at_once', [1, 3])
def test_lanes_with_learning_rates_of_their_own(at_once):
  data, rates = make_data(), (0.1, 0.3, 0.5)
  lanes = [Lane(1, 1.8, 0.01, rate) for rate in rates]
  together = run_all(recipe(), lanes, data, at_once=at_once)
  for i, rate in enumerate(rates):
    alone = run_all(recipe(learning_rate=rate), [Lane(1, 1.8, 0.01)], data)[0]
    assert together[i].steps == alone.steps
    assert_same_params(together[i].params, alone.params, rtol=1e-4, atol=1e-5)
  assert len({f.steps for f in together.values()}) > 1


def test_loss_target_comes_on_top_of_the_accuracy():
  data, lane = make_data(), Lane(1, 2.0, 0.0)
  loose = run_all(recipe(), [lane], data)[0]
  strict = run_all(recipe(target_loss=0.2), [lane], data)[0]
  assert strict.train_loss < 0.2 < loose.train_loss
  # The first point of the grid at which both hold, and no later one.
  before = recipe(max_steps=strict.steps - 5, target_accuracy=1.0)
  earlier = run_all(before._replace(target_loss=1e-9), [lane], data)[0]
  assert earlier.train_loss >= 0.2 or earlier.train_accuracy < 0.9
  assert earlier.status == 'out of steps'


@pytest.mark.parametrize(('at_once', 'delay'), [(1, 0), (2, 0), (1, 13)])
def test_average_of_the_iterates_after_the_rule(at_once, delay):
  steps = 20 - delay
  data = make_data()
  rec = recipe(average_steps=steps, average_delay=delay)

  def loss(params):
    logits = NETWORK.apply(params, data.inputs)
    return evaluation.cross_entropy(logits, data.labels).mean()

  @jax.jit
  def plain_step(params, rate):
    return jax.tree.map(
      lambda p, g: p - rate * g, params, jax.grad(loss)(params)
    )

  lanes = [Lane(1, 2.0, 0.0, 0.3), Lane(2, 2.0, 0.0, 0.2)]
  found = run_all(rec, lanes, data, at_once=at_once)
  for i, lane in enumerate(lanes):
    plain = recipe(learning_rate=lane.learning_rate)
    met = run_all(plain, [Lane(lane.seed, 2.0, 0.0)], data)[0]
    assert met.average is None
    assert found[i].steps == met.steps + 20
    assert found[i].status == 'converged'
    iterates, params = [], met.params

    for _ in range(20):
      params = plain_step(params, lane.learning_rate)
      iterates.append(params)
    mean = jax.tree.map(lambda *leaves: sum(leaves[delay:]) / steps, *iterates)
    assert_same_params(found[i].params, iterates[-1], rtol=1e-4, atol=1e-5)
    assert_same_params(found[i].average, mean, rtol=1e-4, atol=1e-5)


def test_averaging_may_go_beyond_the_last_step_allowed():
  met = run_all(recipe(), [Lane(1, 2.0, 0.0)], make_data())[0]
  rec = recipe(average_steps=20, max_steps=met.steps)
  found = run_all(rec, [Lane(1, 2.0, 0.0)], make_data())[0]
  assert (found.status, found.steps) == ('converged', met.steps + 20)


def test_noise_of_scale_zero_is_plain_sgd_whatever_alpha():
  data, rec = make_data(), recipe()
  lanes = [Lane(0, 2.0, 0.0), Lane(0, 1.1, 0.0)]
  a, b = run_all(rec, lanes, data).values()
  assert_same_params(a.params, b.params)


def test_lanes_share_one_compiled_program():
  def traces(lanes):
    count = []

    def apply(params, x):
      count.append(1)
      return NETWORK.apply(params, x)

    prog = training.make_program(NETWORK.init, apply, recipe(), select=HIDDEN)
    list(training.train(prog, lanes, make_data(), at_once=1))
    return len(count)

  assert traces(LANES[:6]) == traces(LANES[:1])


def test_type1_noise_is_invisible_to_inputs_that_sum_to_zero():
  data = make_data(num=60)
  centred = data.inputs - data.inputs.mean(1, keepdims=True)
  lanes = [Lane(0, 2.0, 0.0), Lane(0, 1.8, 0.05)]

  def difference(inputs):
    rec = recipe(batch_size=60, target_accuracy=1.0, max_steps=21)
    clean, noisy = run_all(rec, lanes, Examples(inputs, data.labels)).values()
    outputs = [NETWORK.apply(f.params, inputs) for f in (clean, noisy)]
    return float(jnp.abs(outputs[0] - outputs[1]).max())

  # Rounding: sums of 6 products with weights up to ~10, over 21 steps.
  assert difference(centred) < 1e-3
  assert difference(data.inputs) > 0.1


# Any optimizer, losses, rule and order.


def adam_by_hand(data, order_of, epochs, size):
  """Adam's recursion, batch by batch in Python."""
  params = NETWORK.init(training.init_key(4))
  optimizer = optax.chain(
    optax.add_decayed_weights(1e-3),
    optax.adam(optax.exponential_decay(0.01, 10, 0.9)),
  )
  state = optimizer.init(params)

  def loss(params, batch):
    outputs = NETWORK.apply(params, data.inputs[batch])
    wanted = jax.nn.one_hot(data.labels[batch], 3)
    return jnp.mean(jnp.sum((outputs - wanted) ** 2, axis=-1))

  found = []
  for epoch in range(epochs):
    order = order_of(epoch)
    for i in range(len(order) // size):
      batch = order[i * size : (i + 1) * size]
      updates, state = optimizer.update(
        jax.grad(loss)(params, batch), state, params
      )
      params = optax.apply_updates(params, updates)
    found.append(params)
  return found


def squares(outputs, labels):
  wanted = jax.nn.one_hot(labels, outputs.shape[-1])
  return jnp.sum((outputs - wanted) ** 2, axis=-1)


def epoch_key(lane, epoch):
  del lane
  return jax.random.fold_in(jax.random.key(99), 1000 + epoch)


class Decay(NamedTuple):
  """Settings of another optimizer than the papers'."""

  seed: int
  decay: float


def adam_program(**changes):
  options = {
    'optimizer': lambda lane: optax.chain(
      optax.add_decayed_weights(lane.decay),
      optax.adam(optax.exponential_decay(0.01, 10, 0.9)),
    ),
    'losses': squares,
    'epoch_key': epoch_key,
  }
  rec = Recipe(0.01, 16, kind=None, drop_last=True, eval_every=6, max_steps=60)
  return training.make_program(
    NETWORK.init, NETWORK.apply, rec, **(options | changes)
  )


def test_epochs_of_another_optimizer_loss_and_order():
  data = make_data()
  made = training.epochs(adam_program(), Decay(4, 1e-3), data, [3, 0, 1])
  found = dict(made)
  assert list(found) == [0, 1, 3]
  assert [int(s.steps) for s in found.values()] == [0, 2, 6]

  def order_of(epoch):
    return np.asarray(jax.random.permutation(epoch_key(None, epoch), 40))

  by_hand = adam_by_hand(data, order_of, 3, 16)
  assert_same_params(found[0].params, NETWORK.init(training.init_key(4)))
  for epoch in (1, 3):
    # Adam divides by roots of squares, which double a relative rounding.
    assert_same_params(
      *(found[epoch].params, by_hand[epoch - 1]), rtol=1e-4, atol=1e-5
    )
  with pytest.raises(AssertionError):
    assert_same_params(found[1].params, by_hand[1], rtol=1e-4, atol=1e-5)


def test_epochs_go_on_from_a_state_that_stays():
  data, prog = make_data(), adam_program()
  lane = Decay(4, 1e-3)
  ((_, half),) = training.epochs(prog, lane, data, [2])
  for _ in range(2):
    ((_, whole),) = training.epochs(prog, lane, data, [4], state=half)
  ((_, straight),) = training.epochs(prog, lane, data, [4])
  assert_same_params(whole, straight)
  with pytest.raises(ValueError, match='must lie ahead of the 4 steps'):
    next(training.epochs(prog, lane, data, [1], state=half))


def test_a_stopping_rule_of_ones_own():
  data, lane = make_data(), Decay(4, 0.0)
  seen = []

  def rule(progress):
    seen.append(progress)
    return progress.loss < 0.5

  prog = adam_program(stop=rule)
  (done,) = training.train(prog, [lane], data)
  assert done.status == 'converged'
  assert done.train_loss < 0.5
  assert seen[0].num_train == 40
  (never,) = training.train(adam_program(stop=lambda p: False), [lane], data)
  assert (never.status, never.steps) == ('out of steps', 60)


def test_noise_of_ones_own():
  data, lane = make_data(), Decay(4, 0.1)

  def process(lane):
    return noise.StableNoise(1.5, lane.decay, kind='type2')

  def end(**options):
    prog = training.make_program(
      NETWORK.init, NETWORK.apply, recipe(kind=None), **options
    )
    return next(training.epochs(prog, lane, data, [5]))[1].params['hidden_0']

  quiet, noisy = end(), end(noise=process)
  assert np.all(np.asarray(noisy['kernel'] != quiet['kernel']))


# Convolutions.


def conv_network():
  def init(key):
    return {
      'kernel': 0.3 * jax.random.normal(key, (3, 3, 1, 4)),
      'output': jax.random.normal(jax.random.fold_in(key, 1), (4, 3)),
    }

  def apply(params, x):
    maps = jax.lax.conv_general_dilated(
      *(x, params['kernel'], (1, 1), 'SAME'),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    return jax.nn.relu(maps).mean((1, 2)) @ params['output']

  return models.Network(init, apply, (), ())


CONV = conv_network()


@pytest.mark.parametrize('at_once', [1, 4])
def test_steps_from_the_host_give_the_same_numbers(at_once, monkeypatch):
  rng = np.random.default_rng(0)
  data = Examples(
    rng.normal(size=(20, 6, 6, 1)).astype(np.float32),
    rng.integers(3, size=20).astype(np.int32),
  )
  rec = recipe(batch_size=8, eval_batch=8, target_accuracy=0.5, max_steps=25)
  lanes = [Lane(0, 2.0, 0.0), Lane(1, 1.5, 0.01), Lane(2, 1.2, 1e30)]

  def run():
    found = list(training.train(prog, lanes, data, at_once=at_once))
    return sorted(found, key=lambda f: f.lane_index)

  prog = program(rec, CONV, None)
  assert engine.Engine(prog, data, batched=False).from_host
  dense = program(recipe())
  assert not engine.Engine(dense, make_data(), batched=False).from_host
  stepped = run()
  monkeypatch.setattr(engine, '_is_slow_in_loops', lambda *args: False)
  looped = run()
  for ours, theirs in zip(stepped, looped, strict=True):
    assert (ours.steps, ours.status) == (theirs.steps, theirs.status)
    if ours.status != 'diverged':
      # Two algorithms of a convolution round differently.
      assert_same_params(ours.params, theirs.params, rtol=1e-3, atol=1e-4)
  assert stepped[2].status == 'diverged'


class Interrupted(Exception):
  pass


@pytest.mark.parametrize('at_once', [1, 4])
def test_resume_gives_the_same_numbers_bit_for_bit(tmp_path, at_once):
  data, rec = make_data(num=50), resumed_recipe()
  rec = rec._replace(average_steps=20)
  lanes = LANES[1:6]
  whole = run_all(rec, lanes, data, at_once=at_once)
  done: dict[int, training.Finished] = {}
  for stop_after in (1, 2, 5, 9, 10**9):
    # Dies at some evaluation, whatever was going on.
    with records.open_run(tmp_path / 'run', {'a': 1}) as run:
      dying = _DiesAfter(run, stop_after)
      try:
        for f in training.train(
          program(rec),
          lanes,
          data,
          at_once=at_once,
          done=frozenset(done),
          run=dying,
          checkpoint_every=0.0,
        ):
          done[f.lane_index] = f
      except Interrupted:
        continue
      break
  assert done.keys() == whole.keys()
  for i in whole:
    assert done[i].steps == whole[i].steps
    assert_same_params(done[i].params, whole[i].params)
    assert (done[i].average is None) == (whole[i].average is None)
    assert_same_params(done[i].average, whole[i].average)


def test_the_log_of_a_resumed_run_is_that_of_an_uninterrupted_one(tmp_path):
  data, rec = make_data(num=50), resumed_recipe()
  lanes = LANES[:4]

  def go(path, stops):
    done = set()
    for stop in [*stops, 10**9]:
      with records.open_run(path, {'a': 1}) as run:
        try:
          for f in training.train(
            program(rec),
            lanes,
            data,
            done=frozenset(done),
            run=_DiesAfter(run, stop),
            checkpoint_every=0.0,
          ):
            done.add(f.lane_index)
        except Interrupted:
          continue
    return (path / 'metrics.jsonl').read_text()

  assert go(tmp_path / 'a', []) == go(tmp_path / 'b', [2, 3, 7])


def test_resume_on_other_numbers_of_devices(tmp_path):
  data, rec = make_data(num=50), resumed_recipe()
  lanes, all_devices = LANES[1:6], jax.devices()
  whole = run_all(rec, lanes, data, at_once=5, devices=all_devices)
  done: dict[int, training.Finished] = {}
  # 3 to 8, to 3, to 1; the last one finishes on 8.
  for stop_after, num in ((7, 3), (6, 8), (5, 3), (6, 1), (10**9, 8)):
    with records.open_run(tmp_path / 'run', {'a': 1}) as run:
      try:
        for f in training.train(
          program(rec),
          lanes,
          data,
          at_once=5,
          done=frozenset(done),
          run=_DiesAfter(run, stop_after),
          checkpoint_every=0.0,
          devices=all_devices[:num],
        ):
          done[f.lane_index] = f
      except Interrupted:
        continue
  assert done.keys() == whole.keys()
  for i in whole:
    assert done[i].steps == whole[i].steps
    # Batches of other sizes round differently.
    assert_same_params(done[i].params, whole[i].params, rtol=1e-5, atol=1e-6)


class _DiesAfter:
  """A run whose log raises after so many records."""

  def __init__(self, run, number):
    self._run, self._left = run, number

  def log(self, record):
    if self._left == 0:
      raise Interrupted
    self._left -= 1
    self._run.log(record)

  def __getattr__(self, name):
    return getattr(self._run, name)


@pytest.mark.parametrize(
  ('changes', 'named'),
  [
    ({'learning_rate': -1.0}, 'learning_rate'),
    ({'learning_rate': float('nan')}, 'learning_rate'),
    ({'batch_size': 0}, 'batch_size'),
    ({'eval_every': 0}, 'eval_every'),
    ({'eval_batch': 0}, 'eval_batch'),
    ({'max_steps': 0}, 'max_steps'),
    ({'target_accuracy': 1.5}, 'target_accuracy'),
    ({'kind': 'type4'}, 'kind'),
    ({'unit': 'row'}, 'unit'),
    ({'average_steps': -5}, 'average_steps'),
    ({'average_steps': 7}, 'average_steps must be a multiple of eval_every'),
    (
      {'average_steps': 10, 'average_delay': 3},
      'average_steps must be a multiple of eval_every = 5, got 3 and 10',
    ),
    ({'average_delay': -5}, 'average_delay'),
    ({'average_delay': 5}, 'average_delay must be 0 where average_steps is 0'),
    ({'target_loss': 0.0}, 'target_loss'),
  ],
)
def test_bad_recipes_are_named(changes, named):
  with pytest.raises(ValueError, match=named):
    program(recipe(**changes))


@pytest.mark.parametrize(
  ('lanes', 'named'),
  [
    ([], 'lanes'),
    ([Lane(-1, 1.5, 0.1)], 'seed'),
    ([Lane(0, 0.0, 0.1)], 'alpha'),
    ([Lane(0, 2.1, 0.1)], 'alpha'),
    ([Lane(0, 1.5, -0.1)], 'sigma'),
    ([Lane(0, 1.5, float('nan'))], 'sigma'),
    ([Lane(0, 1.5, 0.1, -1.0)], 'learning_rate'),
    ([Lane(0, 1.5, 0.1, 0.1), Lane(0, 1.5, 0.1)], 'learning_rate'),
  ],
)
def test_bad_lanes_are_named(lanes, named):
  with pytest.raises(ValueError, match=named):
    next(training.train(program(recipe()), lanes, make_data()))


def test_bad_data_and_group_size_are_named():
  data, lanes = make_data(), [Lane(0, 2.0, 0.0)]
  short = Examples(data.inputs, data.labels[:-1])
  with pytest.raises(ValueError, match='one equal, positive length'):
    next(training.train(program(recipe()), lanes, short))
  with pytest.raises(ValueError, match='at_once'):
    next(training.train(program(recipe()), lanes, data, at_once=0))


def test_named_keys_differ_and_stay():
  names = ('chaos 1.5 type1', 'chaos 1.5 type2', 'euler 1.5 type1', '')
  keys = [training.named_key(seed, name) for name in names for seed in (0, 1)]
  bits = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in keys}
  assert len(bits) == len(keys)
  again = training.named_key(0, names[0])
  assert jax.random.key_data(again).tolist() == (
    jax.random.key_data(keys[0]).tolist()
  )
