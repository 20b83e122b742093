"""Several processes that run one program, as several hosts do."""

import contextlib
import itertools
import json
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
import several_hosts
from numpy.testing import assert_allclose, assert_array_equal

from experiments.common.cells import Report, run_cells
from experiments.heavy_tails_sgd import cells as heavy_tails_cells
from experiments.heavy_tails_sgd import config as heavy_tails_config
from experiments.mean_field import cells as mean_field_cells
from experiments.mean_field import config as mean_field_config
from htjax import mean_field, models, multihost, records, training
from htjax.io import checkpoints


def train(workdir, **options):
  """Five lanes in one batch, logged, with checkpoints at every evaluation."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(40, 6)).astype(np.float32)
  data = training.Examples(x, (x @ rng.normal(size=(6, 3))).argmax(1))
  network = models.fcn(6, 16, 3)
  recipe = training.Recipe(
    learning_rate=0.3,
    batch_size=16,
    eval_every=5,
    target_accuracy=0.8,
    max_steps=40,
  )
  program = training.make_program(network.init, network.apply, recipe)
  lanes = [training.Lane(seed, 1.8, 0.01) for seed in range(5)]
  rows = {}
  with records.open_run(workdir, {'a': 1}) as run:
    for lane in training.train(
      program, lanes, data, at_once=5, run=run, checkpoint_every=0.0, **options
    ):
      weights = [np.asarray(w).tolist() for w in jax.tree.leaves(lane.params)]
      rows[lane.lane_index] = {'steps': lane.steps, 'weights': weights}
      run.write_results([rows[i] for i in sorted(rows)])
  return rows


def make_problem():
  rng = np.random.default_rng(0)
  return mean_field.Problem(
    lambda theta, x: jax.numpy.tanh(theta @ x),
    lambda f, y: (f - y) ** 2,
    rng.normal(size=(8, 2)).astype(np.float32),
    np.ones(8, np.float32),
  )


def over_all_devices():
  """What both studies of coupled systems take."""
  mesh = jax.make_mesh((jax.device_count(),), ('replicas',))
  return {'num_replicas': 24, 'mesh': mesh, 'alpha': 1.5, 'sigma': 0.1}


def chaos(workdir):
  found = mean_field.propagation_of_chaos(
    jax.random.key(0),
    make_problem(),
    widths=(4, 16),
    reference=64,
    step_size=0.25,
    num_steps=4,
    **over_all_devices(),
  )
  rate = mean_field.fit_rate(found.widths, found.typical)
  write(workdir, found, rate=rate.slope)


def euler(workdir):
  found = mean_field.euler_error(
    jax.random.key(1),
    make_problem(),
    step_sizes=(0.25, 0.125),
    fine_step_size=0.03125,
    horizon=0.5,
    num_particles=8,
    **over_all_devices(),
  )
  write(workdir, found)


def write(workdir, found, **more):
  rows = [np.asarray(a).tolist() for a in found]
  with records.open_run(workdir, {'a': 1}) as run:
    run.write_results([{**more, 'rows': rows}])


def most(workdir):
  train(f'{workdir}/train')
  chaos(f'{workdir}/chaos')


def everything(workdir):
  most(workdir)
  euler(f'{workdir}/euler')


class Stopped(Exception):
  """All hosts of a program end here."""


def coupled(path, stops):
  """The first of two studies of the mean-field program, and then the other."""
  config = mean_field_config.get_config('smoke')
  config.update(
    studies=('chaos', 'euler'),
    widths=(8, 32),
    reference=256,
    step_sizes=(1 / 4, 1 / 8),
    fine_step_size=1 / 32,
  )
  plan = mean_field_cells.cells(config)
  if stops:
    plan[1] = plan[1]._replace(measure=stop)
  run_cells(config, f'{path}/coupled', plan, no_report)


def networks(path, stops):
  """A batch of lanes of the program of heavy tails, which may stop half-way."""
  config = heavy_tails_config.get_config('smoke')
  (panel,) = config.to_dict()['panels']
  rates = ((32, (0.1, 0.2)),)
  config.update(
    panels=(panel | {'limit': 200, 'width': 32, 'rates': rates},),
    seeds=(0, 1),
    at_once=4,
    checkpoint_every=0.0,
    eval_every=10,
    max_steps=200,
    target_accuracy=0.9,
    target_loss=2.0,
    average_steps=10,
  )
  plan = list(heavy_tails_cells.panel_cells(config, Path(path)))
  save, saved = checkpoints.save, itertools.count(1)

  def save_and_stop(*args, **options):
    save(*args, **options)
    if next(saved) == 2:
      stop()

  with mock.patch.object(checkpoints, 'save', save_and_stop if stops else save):
    run_cells(config, f'{path}/networks', plan, no_report)


def stop():
  raise Stopped


def no_report(*_):
  return Report([], {})


def experiments(path, stops):
  """Both programs, which stop in the middle if there is something to stop."""
  for program in (coupled, networks):
    with contextlib.suppress(Stopped):
      program(path, bool(stops))


def other_config(workdir):
  """Host 1 was started with another config."""
  with records.open_run(workdir, {'a': jax.process_index()}):
    pass


def locked(workdir):
  """Somebody else writes there."""
  with records.open_run(workdir, {'a': 1}):
    pass


def exchange():
  """Values of each, of the first, and an array whose shards are apart."""
  i = jax.process_index()
  assert multihost.from_each(('x' * i, i)) == [('x' * j, j) for j in range(3)]
  assert multihost.from_first(['first', None][min(i, 1)]) == 'first'
  mesh = jax.make_mesh((jax.device_count(),), ('n',))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('n'))
  x = jax.make_array_from_callback((6,), rows, lambda at: np.arange(6.0)[at])
  assert np.asarray(multihost.local({'x': x})['x']).tolist() == list(range(6))


def compare(one, many, name):
  """Rows of both, which were summed in other orders."""
  found, expected = (
    json.loads((path / name / 'results.json').read_text())
    for path in (many, one)
  )
  assert len(found) == len(expected)
  for a, b in zip(found, expected, strict=True):
    assert a.keys() == b.keys()
    for column, value in b.items():
      flat = [
        np.hstack([[]] + [np.ravel(v) for v in jax.tree.leaves(c)])
        for c in (a[column], value)
      ]
      if flat[1].dtype.kind == 'U':
        assert_array_equal(*flat, err_msg=column)
      else:
        assert_allclose(*flat, rtol=1e-5, atol=1e-5, err_msg=column)


@pytest.mark.parametrize(
  ('run', 'num', 'devices'),
  [
    (most, 2, 1),
    pytest.param(everything, 3, 1, marks=pytest.mark.slow),
    pytest.param(everything, 2, 4, marks=pytest.mark.slow),
  ],
)
def test_several_hosts_equal_one(tmp_path, run, num, devices):
  alone, many = tmp_path / 'alone', tmp_path / 'many'
  several_hosts.run(run, many, num=num, devices=devices)
  run(alone)
  for path in alone.iterdir():
    compare(alone, many, path.name)
  logs = [records.read_metrics(p / 'train') for p in (alone, many)]
  assert [r['steps'] for r in logs[0]] == [r['steps'] for r in logs[1]]


@pytest.mark.slow
@pytest.mark.parametrize(('before', 'after'), [(2, 1), (1, 2)])
def test_an_experiment_goes_on_on_another_number_of_hosts(
  tmp_path, before, after
):
  several_hosts.run(experiments, tmp_path / 'b', 'stops', num=before)
  kept = tmp_path / 'b'
  studies = {row['study'] for row in records.read_results(kept / 'coupled')}
  assert studies == {'chaos'}
  assert not records.read_results(kept / 'networks')
  several_hosts.run(experiments, kept, '', num=after)
  experiments(tmp_path / 'whole', '')
  for name in ('coupled', 'networks'):
    compare(tmp_path / 'whole', kept, name)


@pytest.mark.slow
def test_hosts_exchange_values():
  several_hosts.run(exchange, num=3)


@pytest.mark.slow
def test_hosts_that_disagree_all_stop_with_a_line(tmp_path):
  ends = several_hosts.ends(several_hosts.start(other_config, tmp_path))
  for i, (_, errors, status) in enumerate(ends):
    assert status != 0
    last = errors.strip().splitlines()[-1]
    assert last.startswith('ValueError: all hosts must have one config'), errors
    assert f'a was {i}, is {1 - i}' in last
  with records.open_run(tmp_path / 'held', {'a': 1}):
    processes = several_hosts.start(locked, tmp_path / 'held')
    for _, errors, status in several_hosts.ends(processes):
      assert status != 0
      assert 'another process is writing to workdir' in errors


def test_one_host_exchanges_with_itself():
  value = {'x': [1, None]}
  assert multihost.from_first(value) is value
  assert multihost.from_each(value) == [value]
  x = jax.numpy.arange(3)
  assert multihost.local([x, 2])[0] is x
