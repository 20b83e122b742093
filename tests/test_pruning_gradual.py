"""Pruning while a network trains."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from htjax import pruning


def make_params():
  keys = jax.random.split(jax.random.key(0), 2)
  return {
    'first': {'kernel': jax.random.normal(keys[0], (6, 4))},
    'second': {'kernel': jax.random.normal(keys[1], (4, 4))},
    'bias': jnp.zeros(4),
  }


def run(transformation, params, num_steps):
  """The params after each step of a drift that moves everything."""
  tx = optax.chain(optax.sgd(0.1), transformation)
  state = tx.init(params)

  @jax.jit
  def step(params, state):
    gradients = jax.tree.map(lambda w: jnp.ones_like(w) + w, params)
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state

  for _ in range(num_steps):
    params, state = step(params, state)
    yield params


def kernels(params):
  return [np.asarray(params[name]['kernel']) for name in ('first', 'second')]


def test_pruned_entries_stay_zero_and_no_others_are():
  schedule = pruning.cubic_schedule(0.25, start=2, steps=4)
  masks = []
  for params in run(
    pruning.gradual_magnitude(schedule, every=2), make_params(), 8
  ):
    masks.append(np.concatenate([w.ravel() != 0 for w in kernels(params)]))
    # Biases are no weights: they move, from zero on.
    assert np.all(np.asarray(params['bias']) != 0)
  # 40 weights; pruned in the steps 0, 2, 4 and 6: t = 0, 0, 1/2 and 1.
  counts = [int(mask.sum()) for mask in masks]
  half = int(np.ceil(40 * (0.25 + 0.75 / 8)))
  assert counts == [40, 40, 40, 40, half, half, 10, 10]
  for before, after in itertools.pairwise(masks):
    assert not np.any(after & ~before)


def test_the_smallest_of_all_layers_go():
  params = make_params()
  (after,) = run(pruning.gradual_magnitude(lambda step: 0.5), params, 1)
  expected = pruning.magnitude(params, 0.5, scope='global').mask
  for name in ('first', 'second'):
    mask = np.asarray(expected[name]['kernel'])
    np.testing.assert_array_equal(after[name]['kernel'] != 0, mask)


def test_without_a_schedule_zeros_are_held():
  params = make_params()
  params['first']['kernel'] = params['first']['kernel'].at[0].set(0)
  *_, after = run(pruning.gradual_magnitude(None), params, 3)
  assert not np.any(kernels(after)[0][0])
  assert np.all(kernels(after)[0][1:])


def test_selected_leaves_alone_are_pruned():
  first = {name: name == 'first' for name in ('first', 'second')}
  select = {name: {'kernel': flag} for name, flag in first.items()}
  select['bias'] = False
  half = pruning.gradual_magnitude(lambda step: 0.5, select=select)
  (after,) = run(half, make_params(), 1)
  counts = [np.count_nonzero(w) for w in kernels(after)]
  assert counts == [12, 16]


def test_bad_arguments():
  with pytest.raises(ValueError, match='every must be an integer >= 1, got 0'):
    pruning.gradual_magnitude(None, every=0)
  with pytest.raises(ValueError, match='kappa must be a function'):
    pruning.gradual_magnitude(0.5)
  params = make_params()
  tx = pruning.gradual_magnitude(None)
  with pytest.raises(ValueError, match='params must be given'):
    tx.update(params, tx.init(params))
