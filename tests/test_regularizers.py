"""Proximal penalties: closed forms, groups of every kind, optimality."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from htjax import regularizers, units

RATE, STRENGTH = 0.1, 2.0
CUT = RATE * STRENGTH
BOTH = [regularizers.l1, regularizers.group_lasso]


def _after(tx, params, updates=None, steps=1):
  """Parameters after updates that are always the same."""
  updates = updates or jax.tree.map(jnp.zeros_like, params)
  state = tx.init(params)
  for _ in range(steps):
    new, state = jax.jit(tx.update)(updates, state, params)
    params = optax.apply_updates(params, new)
  return params


def _weights(*shape):
  return 0.3 * jax.random.normal(jax.random.key(len(shape)), shape)


def test_l1_is_soft_thresholding_of_what_the_optimizer_made():
  params = {'kernel': _weights(40, 30), 'bias': jnp.full(30, 0.01)}
  updates = jax.tree.map(lambda x: 0.5 * x, params)
  new = _after(regularizers.l1(RATE, STRENGTH), params, updates)
  moved = 1.5 * np.float64(params['kernel'])
  expected = np.sign(moved) * np.maximum(np.abs(moved) - CUT, 0)
  # Three roundings of numbers below 2.
  np.testing.assert_allclose(new['kernel'], expected, atol=3 * 2.0**-23)
  gone = np.abs(moved) < CUT - 1e-6
  assert gone.mean() > 0.2
  assert not np.any(np.asarray(new['kernel'])[gone])
  np.testing.assert_allclose(new['bias'], 0.015, rtol=1e-6)


@pytest.mark.parametrize(
  ('shape', 'leaf', 'unit'),
  [
    ((9, 7), units.Leaf('dense', units=(1,), inputs=(0,)), 'filter'),
    ((7, 9), units.Leaf('dense', units=(0,), inputs=(1,)), 'filter'),
    (
      (3, 3, 2, 8),
      units.Leaf('convolution', units=(3,), inputs=(2,), window=(0, 1)),
      'filter',
    ),
    (
      (3, 3, 2, 8),
      units.Leaf('convolution', units=(3,), inputs=(2,), window=(0, 1)),
      'kernel',
    ),
    ((8, 2, 4), units.Leaf('attention', units=(1, 2), inputs=(0,)), 'filter'),
    (
      (3, 8, 5),
      units.Leaf('dense', units=(2,), inputs=(1,), stacked=(0,)),
      'filter',
    ),
  ],
)
def test_group_lasso_shrinks_the_norm_of_each_unit(shape, leaf, unit):
  params = {'w': _weights(*shape)}
  w = np.float64(params['w'])
  axes = leaf.vector_axes(unit)
  norm = np.sqrt(np.sum(w**2, axis=axes, keepdims=True))
  # A threshold in the middle of the norms.
  strength = float(np.median(norm)) / RATE
  tx = regularizers.group_lasso(RATE, strength, unit=unit, units={'w': leaf})
  new = np.asarray(_after(tx, params)['w'])
  kept = np.maximum(1 - RATE * strength / norm, 0)
  np.testing.assert_allclose(new, w * kept, atol=1e-6)
  gone = np.all(new == 0, axis=axes).mean()
  assert 0.2 < gone < 0.8


def test_group_lasso_ends_where_the_penalised_loss_is_least():
  """Orthogonal least squares, whose solution is the shrunk target."""
  target = {'w': _weights(6, 8)}
  tx = optax.chain(
    optax.sgd(0.2), regularizers.group_lasso(lambda count: 0.2, 0.7)
  )
  params, state = jax.tree.map(jnp.zeros_like, target), tx.init(target)
  for _ in range(150):
    gradients = jax.tree.map(jnp.subtract, params, target)
    updates, state = tx.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
  w = np.float64(target['w'])
  norm = np.linalg.norm(w, axis=0)
  np.testing.assert_allclose(
    params['w'], w * np.maximum(1 - 0.7 / norm, 0), atol=1e-5
  )


@pytest.mark.parametrize('make', BOTH)
def test_zeros_are_exact_in_every_dtype_and_nothing_overflows(make):
  for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
    params = {'w': _weights(5, 40).astype(dtype)}
    new = _after(make(RATE, 100.0), params)['w']
    assert new.dtype == dtype
    assert not np.any(new)
  large = {'w': jnp.full((4, 2), 1e30)}
  np.testing.assert_allclose(_after(make(0.1, 1.0), large)['w'], 1e30)
  zero = {'w': jnp.zeros((4, 2))}
  assert not np.any(_after(make(0.0, 1.0), zero)['w'])
  bad = {'w': jnp.array([[jnp.nan, 1.0], [1.0, 1.0]])}
  new = np.asarray(_after(make(0.1, 1.0), bad)['w'])
  assert np.isnan(new[0, 0])
  assert np.all(np.isfinite(new[:, 1]))


@pytest.mark.parametrize('make', BOTH)
def test_schedules_and_selections(make):
  params = {'a': _weights(4, 3), 'b': _weights(4, 3)}
  falling = optax.linear_schedule(RATE, 0.0, 1)
  tx = make(falling, STRENGTH, select={'a': True, 'b': False})
  once = _after(make(RATE, STRENGTH), params)
  new = _after(tx, params, steps=3)
  np.testing.assert_allclose(new['a'], once['a'], atol=1e-6)
  np.testing.assert_array_equal(new['b'], params['b'])
  chosen = {'a': jnp.arange(12).reshape(4, 3) < 6, 'b': False}
  new = np.asarray(_after(make(RATE, STRENGTH, select=chosen), params)['a'])
  np.testing.assert_array_equal(new[2:], params['a'][2:])
  alone = _after(make(RATE, STRENGTH), {'a': params['a'][:2]})['a']
  np.testing.assert_allclose(new[:2], alone, atol=1e-6)


@pytest.mark.parametrize('make', BOTH)
def test_bad_calls(make):
  params = {'w': jnp.ones((2, 2))}
  with pytest.raises(ValueError, match='strength must lie in'):
    make(0.1, -1.0)
  with pytest.raises(ValueError, match='learning_rate must lie in'):
    make(-0.1, 1.0)
  tx = make(0.1, 1.0)
  with pytest.raises(ValueError, match='params must be given to update'):
    tx.update(params, tx.init(params))
  with pytest.raises(ValueError, match='at least one leaf'):
    tx.init({'bias': jnp.ones(3)})
