"""The prunability experiment: a smoke run, its cuts, its settings."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.prunability import cells as study
from experiments.prunability import config as configs
from experiments.prunability import methods, pruned
from experiments.prunability import report as reports
from htjax import models, pruning, units


def test_smoke_run_writes_everything(tmp_path):
  config = configs.get_config('smoke')
  rows = study.run(config, tmp_path / 'run')
  assert json.loads((tmp_path / 'run' / 'results.json').read_text()) == rows
  names = {p.name for p in (tmp_path / 'run').iterdir()}
  assert names >= {'table.txt', 'accuracy_against_size.png'}
  trained = [row for row in rows if 'accuracy_in_out' in row]
  assert len(trained) == len(config.methods) * config.num_seeds
  for row in trained:
    assert not row['diverged']
    assert row['test_accuracy'] > 0.5
    assert all(0 <= a <= 1 for a in row['accuracy_in_out'] + row['tuned'])
  whole, half, _ = (row for row in rows if row['cell'] == 'sizes')
  # Pictures of 64 pixels, one hidden layer, ten classes.
  assert whole['parameters'] == 64 * config.width + config.width * 10
  assert (half['parameters'], half['multiply_adds']) == (37 * config.width,) * 2
  # Everything is there: nothing is trained a second time.
  assert study.run(config, tmp_path / 'run') == rows


@pytest.mark.parametrize(
  'criterion', ['norm', 'centred', 'in_out', 'activation']
)
def test_small_arrays_are_those_of_pruned_and_compacted_units(criterion):
  network = models.fcn(6, (8, 5), 3)
  params = network.init(jax.random.key(0))
  inputs = jax.random.normal(jax.random.key(1), (4, 6))
  families = units.families(network.apply, params, inputs)
  worth = pruned.scores(criterion, families, network.apply, params, inputs)
  small = pruned.smaller(families, params, worth, 0.5)
  gone = pruning.units(
    params, 0.5, apply=network.apply, inputs=inputs, criterion=criterion
  )
  compacted = pruning.compact(gone, apply=network.apply, inputs=(inputs,))
  shapes = [leaf.shape for leaf in jax.tree.leaves(small)]
  assert shapes == [(6, 4), (4, 3), (3, 3)]
  for ours, theirs in zip(
    jax.tree.leaves(small), jax.tree.leaves(compacted.params), strict=True
  ):
    np.testing.assert_array_equal(ours, theirs)


def test_penalties_are_their_proximal_steps():
  params = {'a': jnp.array([[3.0, 0.3], [4.0, 0.4]]), 'b': jnp.ones((2, 1))}
  families = units.families(
    lambda p, x: jax.nn.relu(x @ p['a']) @ p['b'], params, jnp.ones((1, 2))
  )
  still = jax.tree.map(jnp.zeros_like, params)

  def after(kind):
    setting = methods.Setting(0, 0.1, 10.0, 2.0, 1.0)
    tx = methods.optimizer(kind, setting, families, 5)
    updates, _ = tx.update(still, tx.init(params), params)
    return optax.apply_updates(params, updates)

  # Columns of norm 5 and .5 lose 1 of it, entries lose 1 each.
  np.testing.assert_allclose(
    after('group_lasso')['a'], [[2.4, 0.0], [3.2, 0.0]], rtol=1e-6
  )
  np.testing.assert_allclose(after('l1')['a'], [[2.0, 0.0], [3.0, 0.0]])
  np.testing.assert_array_equal(after('l1')['b'], params['b'])


def test_intervals_are_students_and_pairs_are_by_seed():
  mean, half = reports.interval([0.1, 0.2, 0.3])
  assert mean == pytest.approx(20.0)
  # t_{0.975, 2} = 4.3027, sd 10, over sqrt 3.
  assert half == pytest.approx(4.3027 * 10 / np.sqrt(3), rel=1e-4)
  rows = [{'seed': s, 'y': s / 10} for s in (1, 2)]
  others = [{'seed': s, 'y': s / 5} for s in (2, 1, 3)]
  assert reports.paired(others, rows, 'y', None) == pytest.approx([0.2, 0.1])


@pytest.mark.parametrize('name', configs.PRESETS)
def test_every_preset_is_whole(name):
  config = configs.get_config(name)
  assert config.num_steps > 0
  methods_ = [own['name'] for own in config.methods]
  assert len(set(methods_)) == len(methods_)
  assert config.baseline in methods_
  assert {own['kind'] for own in config.methods} <= set(methods.KINDS)
  assert set(config.tuned_shares) <= set(config.shares)
  assert 'in_out' in config.criteria
  reported = range(1, 1 + configs.get_config('digits').num_seeds)
  assert config.tuning == (config.first_seed not in reported)


def test_unknown_kinds_are_refused():
  setting = methods.Setting(0, 0.1, 0.0, 2.0, 1.0)
  with pytest.raises(ValueError, match='kind must be one of'):
    methods.optimizer('sdg', setting, [], 5)
