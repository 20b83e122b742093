"""Stochastic rounding, and noise in weights narrower than float32."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from statistical.checks import check_count, check_mean

from htjax import noise
from htjax.rounding import landing, nearest, stochastic_round

DTYPES = [jnp.bfloat16, jnp.float16, jnp.float8_e5m2, jnp.float8_e4m3fn]
NUM = 4000


def rounded(x, dtype):
  keys = jax.random.split(jax.random.key(3), NUM)
  return np.asarray(
    jax.vmap(lambda k: stochastic_round(k, x, dtype))(keys), np.float64
  )


@pytest.mark.parametrize('dtype', DTYPES)
def test_one_of_two_neighbours_with_the_number_as_mean(dtype):
  x = jnp.float32([1.0001, -0.7123, 3.1e-3, 100.3, -2.0009, 1e-6])
  # Every finite number of the dtype, in order.
  all_bits = np.arange(2 ** (8 * np.dtype(dtype).itemsize)).astype(
    f'u{np.dtype(dtype).itemsize}'
  )
  with np.errstate(invalid='ignore'):
    values = all_bits.view(np.dtype(dtype)).astype(np.float64)
  values = np.unique(values[np.isfinite(values)])
  for number, draws in zip(np.float64(x), rounded(x, dtype).T, strict=True):
    place = np.searchsorted(values, number)
    low, high = values[place - 1], values[place]
    assert set(draws) <= {low, high}
    share = (number - low) / (high - low)
    check_count(int(np.sum(draws == high)), NUM, share)


@pytest.mark.parametrize('dtype', DTYPES)
def test_what_the_dtype_holds_stays(dtype):
  x = jnp.float32([0.0, 1.0, -1.5, 0.25, jnp.nan])
  assert np.array_equal(
    rounded(x, dtype), np.tile(np.float64(x), (NUM, 1)), equal_nan=True
  )
  largest = float(ml_dtypes.finfo(dtype).max)
  assert np.all(
    rounded(jnp.float32([jnp.inf, -jnp.inf]), dtype)[:, 0] == largest
  )


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.int8, jnp.float64])
def test_only_narrower_dtypes(dtype):
  with pytest.raises(ValueError, match='dtype must be floating'):
    stochastic_round(jax.random.key(0), jnp.ones(3), dtype)


def trained(dtype, num_steps, gradient, sigma, kind='type2'):
  """Weights that start at 1 and drift under a constant gradient."""
  optimizer = noise.heavy_tailed_sgd(1e-3, 2.0, sigma, key=4, kind=kind)
  start = jnp.ones((40, 50), dtype)

  @jax.jit
  def step(carry, _):
    weights, state = carry
    grads = jnp.full_like(weights, gradient)
    updates, state = optimizer.update(grads, state, weights)
    return (optax.apply_updates(weights, updates), state), None

  carry = (start, optimizer.init(start))
  (weights, _), _ = jax.lax.scan(step, carry, length=num_steps)
  return np.asarray(weights, np.float64)


@pytest.mark.parametrize('dtype', DTYPES)
def test_nearest_is_the_conversion_there_and_back(dtype):
  rng = np.random.default_rng(0)
  x = rng.normal(size=5000) * 10.0 ** rng.integers(-9, 5, 5000)
  info = ml_dtypes.finfo(dtype)
  ties = np.array([1, 3, 5, -7]) * 2.0**-info.nmant / 2 + 1
  x = np.concatenate([x, ties, [0.0, -0.0, np.nan]]).astype(np.float32)
  x = x[~(np.abs(x) > float(info.max))]
  found = jax.jit(nearest, static_argnums=1)(x, dtype)
  np.testing.assert_array_equal(found, x.astype(dtype).astype(np.float32))
  largest = np.float32(info.max)
  beyond = nearest(jnp.float32([3.4e38, -jnp.inf]), dtype)
  np.testing.assert_array_equal(beyond, [largest, -largest])


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize('kind', ['type1', 'type2'])
def test_narrow_weights_are_those_of_float32_rounded(dtype, kind):
  """So that noise below half a spacing acts in law, and not only on average."""
  narrow = trained(dtype, 300, 0.1, 0.005, kind)
  wide = trained(jnp.float32, 300, 0.1, 0.005, kind)
  # Half a spacing of numbers in [1, 2), and what 300 sums in float32 lose.
  gap = float(jnp.finfo(dtype).eps)
  assert np.max(np.abs(narrow - wide)) <= gap / 2 + 300 * 2.0**-24
  assert np.mean(narrow == 1) < 0.25


def test_nothing_is_lost_for_good():
  """Weight and lost part together are the sum, jitted and not."""
  key = jax.random.key(5)
  weight = jax.random.normal(key, (200,)).astype(jnp.bfloat16)
  total, lost = np.float64(weight), jnp.zeros(200)
  for move in (landing, jax.jit(landing, static_argnums=3)):
    for step in range(20):
      update = 1e-3 * jax.random.normal(jax.random.fold_in(key, step), (200,))
      total = total + np.float64(update)
      change, lost = move(weight, update, lost, jnp.bfloat16)
      weight = weight + change
      assert change.dtype == weight.dtype == jnp.bfloat16
      # 40 sums of numbers below 4.
      np.testing.assert_allclose(
        np.float64(weight) + np.float64(lost), total, atol=40 * 2.0**-23
      )


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_kicks_below_the_spacing_act_on_average(dtype):
  process = noise.StableNoise(2.0, 1e-3, kind='type2')
  start = {'w': jnp.ones((40, 50), dtype), 'b': jnp.ones(50, dtype)}

  @jax.jit
  def end(key):
    keys = jax.random.split(key, 100)
    return jax.lax.scan(lambda w, k: (process.kick(k, w), None), start, keys)[0]

  moved = end(jax.random.key(6))
  assert np.array_equal(moved['b'], start['b'])
  weights = np.asarray(moved['w'], np.float64)
  # Variance 2 sigma^2 of the noise, and of rounding |x| gap at most.
  gap = float(jnp.finfo(dtype).eps)
  check_mean(weights.ravel(), 1.0, 100 * (2e-6 + gap * 2e-3))
  assert np.mean(weights == 1) < 0.3


def test_rounded_to_nearest_they_are_lost():
  weights = jnp.ones((), jnp.bfloat16)
  for _ in range(300):
    weights = (weights - jnp.bfloat16(1e-4)).astype(jnp.bfloat16)
  assert weights == 1


def test_narrow_weights_under_wide_updates_and_frozen_entries():
  weights = jnp.ones((6, 5), jnp.bfloat16)
  chosen = jnp.arange(30).reshape(6, 5) % 2 == 0
  tx = noise.add_stable_noise(0.1, 1.5, 0.5, key=0, kind='type2', select=chosen)
  zeros = jnp.zeros((6, 5), jnp.float32)
  updates, _ = tx.update(zeros, tx.init(weights), weights)
  assert updates.dtype == jnp.float32
  assert np.all(np.asarray(updates)[~np.asarray(chosen)] == 0)
  moved = np.float32(weights) + np.asarray(updates)
  assert np.array_equal(moved, moved.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize('kind', ['type1', 'type2', 'type3'])
def test_truncated_noise_is_the_noise_cut_off(kind):
  params = {'w': jnp.zeros((50, 40))}
  key = jax.random.key(1)
  plain = noise.StableNoise(0.3, 0.1, kind=kind)
  cut = noise.StableNoise(0.3, 0.1, kind=kind, truncation=10.0)
  whole, part = (p.draw(key, params)['w'] for p in (plain, cut))
  limit = np.float32(10) * np.float32(0.1)
  assert np.max(np.abs(whole)) > limit
  np.testing.assert_array_equal(part, np.clip(whole, -limit, limit))
  through = jax.jit(lambda p: p.draw(key, params)['w'])(cut)
  np.testing.assert_array_equal(through, part)


@pytest.mark.parametrize('truncation', [0.0, -1.0, np.inf, np.nan])
def test_a_truncation_is_positive_and_finite(truncation):
  with pytest.raises(ValueError, match='truncation must lie in'):
    noise.StableNoise(1.5, 0.1, truncation=truncation)
