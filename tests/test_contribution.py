"""Noise in what units contribute: conservation, and what it reaches."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from htjax import noise, pruning, units

# Sums of squares of at most a hundred float32 numbers, and one exponential.
RTOL = 1e-5


def _params(*sizes):
  rng = np.random.default_rng(0)
  params = {}
  for i, (a, b) in enumerate(itertools.pairwise(sizes)):
    kernel = jnp.asarray(rng.normal(size=(a, b)), jnp.float32)
    bias = jnp.asarray(rng.normal(size=b), jnp.float32)
    params[f'layer_{i}'] = {'kernel': kernel, 'bias': bias}
  return params


def _apply(params, x):
  for layer in params.values():
    x = jax.nn.relu(x) @ layer['kernel'] + layer['bias'][None]
  return x


def _families(params):
  size = params['layer_0']['kernel'].shape[0]
  return units.families(_apply, params, jnp.ones((1, size)))


def _noise(params, scale=2.0, num_steps=4, key=0, **more):
  families = more.pop('families', None) or _families(params)
  return noise.contribution_noise(
    scale, num_steps, key=key, families=families, **more
  )


def _step(tx, params, updates=None, num_steps=1):
  """The parameters after so many steps."""
  state = tx.init(params)
  updates = jax.tree.map(jnp.zeros_like, params) if updates is None else updates
  for _ in range(num_steps):
    moved, state = tx.update(updates, state, params)
    params = optax.apply_updates(params, moved)
  return params


def _quotients(after, before):
  return jax.tree.map(lambda a, b: np.float64(a) / np.float64(b), after, before)


@pytest.mark.parametrize('side', ['both', 'incoming', 'outgoing'])
@pytest.mark.parametrize('alpha', [1.2, 2.0])
def test_a_layer_conserves_its_sum(alpha, side):
  params = _params(3, 7, 2)
  updates = jax.tree.map(lambda a: 0.1 * jnp.cos(a), params)
  moved = optax.apply_updates(params, updates)
  after = _step(_noise(params, alpha=alpha, side=side), params, updates)
  (before,), (now,) = (
    noise.contributions(_families(p), p).values() for p in (moved, after)
  )
  assert np.abs(now / before - 1).min() > 1e-3
  np.testing.assert_allclose(now.sum(), before.sum(), rtol=RTOL)
  free = _noise(params, alpha=alpha, side=side, conserve=False)
  (lost,) = noise.contributions(
    _families(params), _step(free, params, updates)
  ).values()
  assert abs(lost.sum() / before.sum() - 1) > 1e-3


def test_a_unit_has_one_factor():
  params = _params(3, 7, 2)
  found = _quotients(_step(_noise(params), params), params)
  factors = found['layer_0']['bias']
  assert np.unique(factors).size == 7
  np.testing.assert_allclose(
    found['layer_0']['kernel'], np.tile(factors, (3, 1)), rtol=RTOL
  )
  np.testing.assert_allclose(
    found['layer_1']['kernel'], np.tile(factors[:, None], (1, 2)), rtol=RTOL
  )
  np.testing.assert_array_equal(found['layer_1']['bias'], 1.0)


def test_factors_are_those_of_the_law_and_cut():
  params = _params(3, 400, 2)
  heavy = _noise(params, 1e6, alpha=1.0, conserve=False)
  factors = _quotients(_step(heavy, params), params)['layer_0']['bias']
  # Of a Cauchy variable of scale 10^5, next to nothing is within 2.
  np.testing.assert_allclose(np.abs(np.log(factors)), 1.0, rtol=RTOL)


@pytest.mark.parametrize('num_steps', [1, 4])
def test_without_noise_the_update_is_what_it_was(num_steps):
  params = _params(3, 7, 2)
  updates = jax.tree.map(jnp.sin, params)
  still = _noise(params, 0.0)
  over = _noise(params, on=0.25, num_steps=num_steps)
  for tx, count in ((still, 0), (over, num_steps)):
    state = tx.init(params)._replace(count=jnp.int32(count))
    got, _ = tx.update(updates, state, params)
    chex.assert_trees_all_equal(got, updates)


def test_noise_is_on_for_its_share_of_the_steps():
  params = _params(2, 5, 2)
  tx = _noise(params, num_steps=4, on=0.5)
  state, zero = tx.init(params), jax.tree.map(jnp.zeros_like, params)
  moved = []
  for _ in range(4):
    updates, state = tx.update(zero, state, params)
    moved.append(bool(updates['layer_0']['bias'].any()))
  assert moved == [True, True, False, False]


def test_schedules_and_their_numbers_agree():
  params = _params(2, 5, 2)
  fixed = _step(_noise(params, 2.0, alpha=1.5), params)
  # Eagerly one operation after another, and under jit all in one.
  tx = _noise(params, lambda count: 2.0 - count, alpha=lambda count: 1.5)
  scheduled = jax.jit(lambda p: _step(tx, p))(params)
  chex.assert_trees_all_close(fixed, scheduled, rtol=RTOL)


def test_seeds_and_settings_are_mapped_over():
  params = _params(2, 5, 2)
  families = _families(params)

  def step(seed, scale, alpha):
    tx = _noise(
      params,
      scale,
      key=jax.random.key(seed),
      alpha=alpha,
      families=families,
    )
    return _step(tx, params, num_steps=2)

  settings = jnp.arange(3), jnp.array([1.0, 2.0, 3.0]), jnp.array([2, 1.5, 1.2])
  mapped = jax.jit(jax.vmap(step))(*settings)
  for i in range(3):
    one = step(*(s[i] for s in settings))
    each = jax.tree.map(lambda a, i=i: a[i], mapped)
    chex.assert_trees_all_close(each, one, rtol=RTOL)
  assert np.unique(mapped['layer_0']['bias'][:, 0]).size == 3


def test_layers_share_the_kernel_between_them():
  params = _params(2, 5, 4, 3)
  found = _quotients(_step(_noise(params), params), params)
  first, second = (found[f'layer_{i}']['bias'] for i in (0, 1))
  between = first[:, None] * second
  np.testing.assert_allclose(found['layer_1']['kernel'], between, rtol=RTOL)
  chosen = {'layer_0': False, 'layer_1': True, 'layer_2': True}
  select = jax.tree.map(lambda a: a, params)
  select = {n: dict.fromkeys(own, chosen[n]) for n, own in select.items()}
  alone = _quotients(_step(_noise(params, select=select), params), params)
  np.testing.assert_array_equal(alone['layer_0']['bias'], 1.0)
  assert (alone['layer_1']['bias'] != 1).all()


class Normalised(nnx.Module):
  """Convolutions with BatchNorm, as residual networks have them."""

  def __init__(self, rngs):
    self.first = nnx.Conv(1, 6, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(6, rngs=rngs)
    self.second = nnx.Conv(6, 2, (3, 3), rngs=rngs)

  def __call__(self, x):
    x = nnx.relu(self.norm(self.first(x)))
    return self.second(x).mean((1, 2))


def _trained(model, example):
  """Families of all arrays, and those that are trained, none of them zero."""
  families = units.families(*pruning.nnx_apply(model), example)
  params = nnx.state(model, nnx.Param)
  return families, jax.tree.map(lambda a: a + 0.5, params)


def test_a_normalisation_is_scaled_in_place_of_the_kernel():
  model = Normalised(nnx.Rngs(0))
  model.eval()
  families, params = _trained(model, jnp.ones((1, 4, 4, 1)))
  after = _step(_noise(params, families=families), params)
  found = _quotients(after, params)
  np.testing.assert_array_equal(found['first']['kernel'][...], 1.0)
  np.testing.assert_array_equal(found['first']['bias'][...], 1.0)
  scale = found['norm']['scale'][...]
  assert np.unique(scale).size == 6
  np.testing.assert_allclose(found['norm']['bias'][...], scale, rtol=RTOL)
  kernel = found['second']['kernel'][...]
  rows = np.broadcast_to(scale[:, None], kernel.shape)
  np.testing.assert_allclose(kernel, rows, rtol=RTOL)
  before, now = (
    noise.contributions(families, p).values() for p in (params, after)
  )
  np.testing.assert_allclose(
    sum(x.sum() for x in now), sum(x.sum() for x in before), rtol=RTOL
  )


def test_of_attention_heads_the_values_and_not_the_scores():
  model = nnx.MultiHeadAttention(4, 8, 16, decode=False, rngs=nnx.Rngs(0))
  families, params = _trained(model, jnp.ones((1, 3, 8)))
  found = _quotients(_step(_noise(params, families=families), params), params)
  for name in ('query', 'key'):
    np.testing.assert_array_equal(found[name]['kernel'][...], 1.0)
    np.testing.assert_array_equal(found[name]['bias'][...], 1.0)
  heads = found['value']['bias'][..., 0]
  assert np.unique(heads).size == 4
  for leaf in (
    np.moveaxis(found['value']['kernel'][...], 1, 0),
    found['value']['bias'][...],
    found['out']['kernel'][...],
  ):
    each = heads.reshape(4, *[1] * (leaf.ndim - 1))
    np.testing.assert_allclose(leaf, np.broadcast_to(each, leaf.shape), RTOL)


def test_narrow_weights_move_by_less_than_their_spacing():
  wide = {'a': jnp.ones((4000, 2)), 'b': jnp.ones((2, 1))}
  narrow = {'a': wide['a'].astype(jnp.bfloat16), 'b': wide['b']}
  families = units.families(
    lambda p, x: jax.nn.relu(x @ p['a']) @ p['b'], wide, jnp.ones((1, 4000))
  )
  tx = _noise(wide, 0.01, num_steps=100, families=families)
  moved = _step(tx, narrow)
  assert moved['a'].dtype == jnp.bfloat16
  np.testing.assert_array_equal(
    moved['a'], (moved['a'] - narrow['a']) + narrow['a']
  )
  # Rounded at random to a multiple of 2^-8, with a variance of at most its
  # fourth; the factor itself is that of the other side.
  error = 2.0**-9 / np.sqrt(4000)
  np.testing.assert_allclose(
    np.float64(moved['a']).mean(0), moved['b'][:, 0], atol=5.1 * error
  )


def test_units_that_do_nothing_stay_so():
  params = _params(3, 4, 2)
  dead = jax.tree.map(jnp.zeros_like, params)
  chex.assert_trees_all_equal(_step(_noise(params), dead), dead)


def test_families_are_found_from_the_network():
  params = _params(3, 4, 2)
  given = _step(_noise(params), params)
  tx = noise.contribution_noise(
    2.0, 4, key=0, apply=_apply, params=params, inputs=jnp.ones((1, 3))
  )
  chex.assert_trees_all_equal(_step(tx, params), given)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'scale': -1.0}, 'scale must lie in'),
    ({'num_steps': 0}, 'num_steps must be an integer >= 1'),
    ({'alpha': 2.5}, 'alpha must lie in'),
    ({'on': 1.5}, 'on must lie in'),
    ({'side': 'in'}, 'side must be one of'),
    ({'families': None}, 'families must be given, or apply'),
    ({'apply': _apply}, 'families must be given, or apply'),
  ],
)
def test_bad_arguments_are_refused(changes, message):
  params = _params(3, 4, 2)
  given = {'scale': 1.0, 'num_steps': 3, 'families': _families(params)}
  with pytest.raises(ValueError, match=message):
    noise.contribution_noise(**(given | changes), key=0)


def test_parameters_that_do_not_fit_are_refused():
  params = _params(3, 4, 2)
  tx = _noise(params)
  with pytest.raises(
    ValueError, match=r'axis 0 of layer_0.bias must have 4 entries'
  ):
    tx.init(_params(3, 5, 2))
  with pytest.raises(ValueError, match='must have incoming and outgoing'):
    tx.init({'other': jnp.ones(3)})
  with pytest.raises(ValueError, match='params must be given'):
    tx.update(params, tx.init(params))
