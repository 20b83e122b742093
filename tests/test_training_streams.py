"""Training on batches as they come, and data sets that are streamed."""

import functools
import itertools
import os
import sys
import time

import jax
import numpy as np
import pytest
import several_hosts

from htjax import data, models, records, training
from htjax.training.keys import BATCHES, child

LANE = training.Lane(3, 1.8, 0.01)


@functools.cache
def make_program(**changes):
  network = models.fcn(6, 16, 3)
  recipe = training.Recipe(
    learning_rate=0.3,
    batch_size=16,
    eval_every=5,
    target_accuracy=1.0,
    target_loss=1e-9,
    max_steps=12,
  )._replace(**changes)
  return training.make_program(network.init, network.apply, recipe)


def make_split(num=48):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(num, 6)).astype(np.float32)
  return data.Split(x, (x @ rng.normal(size=(6, 3))).argmax(1).astype(np.int32))


SPLIT = make_split()


def train(batches, run=None, **options):
  program = options.pop('program', None) or make_program()
  parts = [
    (x, y) for x, y in zip(*(np.split(a, 3) for a in SPLIT), strict=True)
  ]
  return training.train_batches(
    *(program, LANE, batches, lambda: parts), run=run, **options
  )


def stream():
  return data.batches(SPLIT, 16, seed=7)


def by_hand(epoch_of):
  """Batches of arrays in memory, epoch by epoch in an order."""
  for epoch in itertools.count():
    for index in epoch_of(epoch).reshape(-1, 16):
      yield SPLIT.inputs[index], SPLIT.labels[index]


def assert_same(a, b):
  assert (a.steps, a.status) == (b.steps, b.status)
  jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
  assert a.train_loss == b.train_loss


def test_the_same_batches_give_the_same_weights():
  places = data.Split(SPLIT.inputs, np.arange(48, dtype=np.int32))
  shuffled = data.batches(places, 48, seed=7)
  orders = [next(shuffled)[1] for _ in range(4)]
  assert all(sorted(order) == list(range(48)) for order in orders)
  assert (orders[0] != orders[1]).any()
  assert_same(train(stream()), train(by_hand(lambda epoch: orders[epoch])))


def test_the_numbers_are_those_of_a_training_set_in_memory():
  key = child(LANE.seed, BATCHES)

  def order(epoch):
    return np.asarray(
      jax.random.permutation(jax.random.fold_in(key, epoch), 48)
    )

  found = train(by_hand(order))
  (expected,) = training.train(
    make_program(), [LANE], training.Examples(*SPLIT), at_once=1
  )
  assert (found.steps, found.status) == (12, 'out of steps')
  for a, b in [
    (found.params, expected.params),
    (found.train_loss, expected.train_loss),
  ]:
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b
    )


class Killed(Exception):
  pass


class Dying:
  """An iterator that does not outlive so many batches."""

  def __init__(self, batches, num):
    self.batches, self.left = batches, num
    for name in ('get_state', 'set_state'):
      if hasattr(batches, name):
        setattr(self, name, getattr(batches, name))

  def __iter__(self):
    return self

  def __next__(self):
    self.left -= 1
    if self.left < 0:
      raise Killed
    return next(self.batches)


@pytest.mark.parametrize('has_state', [True, False])
def test_a_run_that_was_killed_goes_on(tmp_path, has_state):
  def source():
    return stream() if has_state else map(tuple, stream())

  with (
    records.open_run(tmp_path, {'a': 1}) as run,
    pytest.raises(Killed),
  ):
    train(Dying(source(), 9), run, checkpoint_every=0.0)
  with records.open_run(tmp_path, {'a': 1}) as run:
    # From the checkpoint at step 6, not from the start.
    found = train(Dying(source(), 6 if has_state else 12), run)
  assert_same(found, train(stream()))
  assert [r['steps'] for r in records.read_metrics(tmp_path)] == [1, 6, 11, 12]


def test_batches_that_end_leave_the_lane_out_of_steps():
  done = train(itertools.islice(stream(), 4))
  assert (done.steps, done.status) == (4, 'out of steps')
  met = train(
    stream(), program=make_program(target_accuracy=0.01, target_loss=None)
  )
  assert (met.steps, met.status) == (1, 'converged')


def test_a_mesh_splits_the_examples_of_a_step():
  mesh = jax.make_mesh((4,), ('data',), devices=jax.devices()[:4])
  found, alone = train(stream(), mesh=mesh), train(stream())
  assert (found.steps, found.status) == (alone.steps, alone.status)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    found.params,
    alone.params,
  )


@pytest.mark.parametrize(
  ('batch', 'message'),
  [
    (3, r'pairs \(inputs, labels\), got int'),
    ((np.ones((2, 6), np.float32), np.ones(3, int)), 'one equal, positive'),
    (tuple(SPLIT), 'at most batch_size = 16 examples, got 48'),
  ],
)
def test_bad_batches_are_refused(batch, message):
  with pytest.raises(ValueError, match=message):
    train(iter([batch]))


def test_bad_calls():
  mesh = jax.make_mesh((8,), ('data',))
  twelve = data.batches(SPLIT, 12)
  with pytest.raises(ValueError, match='multiple of the 8 devices of the mesh'):
    train(twelve, mesh=mesh)
  with pytest.raises(ValueError, match='source must be one of'):
    data.batches('minst', 4)
  with pytest.raises(ValueError, match='batch_size must be an integer >= 1'):
    data.batches(SPLIT, 0)


def test_grain_is_asked_for_by_its_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, 'grain', None)
  with pytest.raises(ImportError, match=r"pip install 'htjax\[streams\]'"):
    data.batches(SPLIT, 4)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['mnist', 'cifar10'])
def test_streamed_pictures_are_those_of_the_set_in_memory(name):
  try:
    whole = data.load(name, flatten=True).train
  except FileNotFoundError as error:
    pytest.skip(str(error))
  row = {x.tobytes(): i for i, x in enumerate(whole.inputs)}
  streamed = data.batches(name, 64, seed=1, flatten=True)
  batches = [next(streamed) for _ in range(12)]
  places = [[row[x.tobytes()] for x in inputs] for inputs, _ in batches]
  kept = [(whole.inputs[at], whole.labels[at]) for at in places]
  network = models.fcn(whole.inputs.shape[1], 32, 10)
  program = training.make_program(
    *(network.init, network.apply),
    training.Recipe(0.05, batch_size=64, max_steps=12, target_accuracy=1.0),
  )
  ends = [
    training.train_batches(program, LANE, iter(b), lambda: kept[:2])
    for b in (batches, kept)
  ]
  assert ends[0].steps == 12
  assert_same(*ends)


def on_hosts(workdir, die):
  """A run on the devices of all hosts; one may die at its ninth batch."""
  mesh = jax.make_mesh((jax.device_count(),), ('data',))
  here = jax.process_index()
  num = jax.process_count()
  mine = [(SPLIT.inputs[here::num], SPLIT.labels[here::num])]
  batches = stream()
  if die == 'all' or (die == 'one' and here == 1):
    batches = Dying(batches, 9)
  with records.open_run(workdir, {'a': 1}) as run:
    try:
      done = training.train_batches(
        *(make_program(), LANE, batches, lambda: mine),
        run=run,
        checkpoint_every=0.0,
        mesh=mesh,
      )
    except Killed:
      # As a machine that loses its power: nothing is said to the others.
      os._exit(3 if die == 'one' else 0)
    run.write_results([{'loss': done.train_loss}])


@pytest.mark.slow
@pytest.mark.parametrize(('before', 'after'), [(2, 1), (1, 2)])
def test_a_run_goes_on_on_another_number_of_hosts(tmp_path, before, after):
  several_hosts.run(on_hosts, tmp_path, 'all', num=before)
  assert records.read_metrics(tmp_path)[-1]['steps'] == 6
  several_hosts.run(on_hosts, tmp_path, 'none', num=after)
  check_end(tmp_path)


@pytest.mark.slow
def test_a_host_that_dies_stops_the_others_and_the_run_goes_on(tmp_path):
  processes = several_hosts.start(on_hosts, tmp_path, 'one', timeout=10)
  start = time.monotonic()
  first, second = several_hosts.ends(processes)
  assert second.status == 3
  assert first.status != 0
  assert 'heartbeat' in first.errors or 'Gloo' in first.errors
  assert time.monotonic() - start < 60
  several_hosts.run(on_hosts, tmp_path, 'none', num=1)
  check_end(tmp_path)


def check_end(workdir):
  """The numbers are those of a run that nothing has happened to."""
  (row,) = records.read_results(workdir)
  np.testing.assert_allclose(row['loss'], train(stream()).train_loss, rtol=1e-5)
  steps = [r['steps'] for r in records.read_metrics(workdir)]
  assert steps == [1, 6, 11, 12]
