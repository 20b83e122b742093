"""Heavy-tailed noise in optax: the recursion, its law, and the contract."""

import dataclasses
import math
from typing import Any

import chex
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx, serialization

from htjax import noise, stable, units
from htjax.selection import exclude

ETA, ALPHA, SIGMA = 0.04, 1.5, 0.7
SCALE = SIGMA * ETA ** (1 / ALPHA)
# Two ways to compile one formula: a power with |exponent log(base)| < 16.
RTOL = 2e-6


def _params():
  rng = np.random.default_rng(0)

  def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  # Two of one shape: what is drawn for both is compiled once.
  return {
    'hidden': {'kernel': draw(5, 6), 'bias': draw(6)},
    'output': draw(5, 6),
  }


def _conv_params():
  return {'conv': {'kernel': jnp.ones((3, 3, 2, 4)), 'bias': jnp.ones(4)}} | (
    _params()
  )


def _zeros():
  return jax.tree.map(jnp.zeros_like, _params())


def _add(key=1, **changes):
  arguments = {'learning_rate': ETA, 'alpha': ALPHA, 'sigma': SIGMA}
  return noise.add_stable_noise(key=key, **(arguments | changes))


def _run(tx, num_steps, updates=None, params=None, state=None, jit=False):
  """The updates of `num_steps` steps, and the last state.

  Called as it is, a transformation draws with programs that all calls share.
  """
  params = _params() if params is None else params
  updates = jax.tree.map(jnp.zeros_like, params) if updates is None else updates
  state = tx.init(params) if state is None else state
  update = jax.jit(tx.update) if jit else tx.update
  made = []
  for _ in range(num_steps):
    new, state = update(updates, state, params)
    made.append(new)
  return made, state


def _assert_close(first, second, rtol=RTOL, atol=0.0):
  chex.assert_trees_all_close(first, second, rtol=rtol, atol=atol)


def _kernel(tree):
  return np.asarray(tree['hidden']['kernel'])


# The recursion.


@pytest.mark.parametrize('kind', stable.KINDS)
@pytest.mark.parametrize('unit', noise.UNITS)
def test_recursion(kind, unit):
  """u_t + sigma eta_t^(1/alpha) X_t, with X_t redrawn by its own key."""
  gradients = _conv_params()
  tx = _add(kind=kind, unit=unit)
  made, state = _run(tx, 3, gradients, gradients, jit=True)
  assert int(state.count) == 3
  leaves = jax.tree.leaves(gradients)
  axes = (0, 1) if unit == 'kernel' else (0, 1, 2)
  for step, new in enumerate(made):
    key = jax.random.fold_in(jax.random.key(1), step)
    for i, (before, after) in enumerate(
      zip(leaves, jax.tree.leaves(new), strict=True)
    ):
      if before.ndim < 2:
        np.testing.assert_array_equal(before, after)
        continue
      axis = axes if before.ndim == 4 else 0
      shape = before.shape
      if kind == 'type1':
        taken = np.zeros(shape).max(axis=axis, keepdims=True)
        shape = taken.shape
      x = stable.sample_vectors(
        jax.random.fold_in(key, i), ALPHA, shape, kind=kind, axis=axis
      )
      # The sum is rounded once more than its terms.
      np.testing.assert_allclose(
        after,
        before + SCALE * x,
        rtol=RTOL,
        atol=RTOL * (1.0 + SCALE * np.abs(x).max()),
      )


@pytest.mark.parametrize('kind', stable.KINDS)
def test_heavy_tailed_sgd_recursion(kind):
  params = _params()
  tx = noise.heavy_tailed_sgd(ETA, ALPHA, SIGMA, key=2, kind=kind)
  (update,), _ = _run(tx, 1, params)
  (drawn,), _ = _run(_add(key=2, kind=kind), 1)
  _assert_close(
    update, jax.tree.map(lambda g, x: -ETA * g + x, params, drawn), atol=1e-6
  )


def test_schedule_is_evaluated_at_every_step():
  def schedule(count):
    return jnp.where(count < 2, 0.5, 0.01)

  made, _ = _run(_add(learning_rate=schedule), 4, jit=True)
  for step, eta in enumerate((0.5, 0.5, 0.01, 0.01)):
    steady, _ = _run(_add(learning_rate=eta), 4)
    _assert_close(made[step], steady[step])


def test_sgd_and_noise_share_the_schedule():
  schedule = optax.linear_schedule(0.5, 0.1, 4)
  gradients = _params()
  tx = noise.heavy_tailed_sgd(schedule, ALPHA, SIGMA, key=3)
  made, _ = _run(tx, 4, gradients, jit=True)
  drawn, _ = _run(_add(key=3, learning_rate=schedule), 4)
  for step in range(4):
    eta = 0.5 - 0.1 * step
    _assert_close(
      made[step],
      jax.tree.map(lambda g, x, e=eta: -e * g + x, gradients, drawn[step]),
      atol=1e-6,
    )


@pytest.mark.parametrize('kind', stable.KINDS)
def test_sigma_zero_and_rate_zero_are_the_identity(kind):
  gradients = _params()

  @jax.jit
  def step(alpha, sigma, eta):
    tx = _add(kind=kind, alpha=alpha, sigma=sigma, learning_rate=eta)
    return tx.update(gradients, tx.init(gradients))[0]

  for alpha in (0.05, 1.0, 2.0):
    chex.assert_trees_all_equal(step(alpha, 0.0, ETA), gradients)
    chex.assert_trees_all_equal(step(alpha, SIGMA, 0.0), gradients)
    assert np.any(_kernel(step(alpha, SIGMA, 1.0)) != _kernel(gradients))


def test_noise_is_not_scaled_by_what_stands_in_front():
  tx = optax.chain(optax.adam(ETA), _add(key=4))
  adam, _ = _run(optax.adam(ETA), 3, _params())
  drawn, _ = _run(_add(key=4), 3)
  made, _ = _run(tx, 3, _params())
  _assert_close(made, jax.tree.map(lambda u, x: u + x, adam, drawn), atol=1e-6)


@pytest.mark.parametrize('nesterov', [False, True])
def test_momentum_does_not_carry_noise(nesterov):
  tx = noise.heavy_tailed_sgd(
    ETA, ALPHA, SIGMA, key=5, momentum=0.9, nesterov=nesterov
  )
  plain = optax.sgd(ETA, momentum=0.9, nesterov=nesterov)
  quiet, _ = _run(plain, 4, _params())
  drawn, _ = _run(_add(key=5), 4)
  made, _ = _run(tx, 4, _params())
  _assert_close(made, jax.tree.map(lambda u, x: u + x, quiet, drawn), atol=1e-6)


# The law.


def test_everything_differs_that_should():
  made, _ = _run(_add(kind='type2'), 2)
  other, _ = _run(_add(kind='type2', key=7), 1)
  values = np.concatenate(
    [np.ravel(x) for t in (*made, *other) for x in jax.tree.leaves(t)]
  )
  values = values[values != 0]
  # 2 times 30 weights, three times.
  assert len(values) == len(np.unique(values)) == 180
  again, _ = _run(_add(kind='type2', key=jax.random.key(7)), 1)
  chex.assert_trees_all_equal(other, again)


def test_numpy_seeds_are_seeds():
  (first,), _ = _run(_add(key=8), 1)
  (second,), _ = _run(_add(key=np.int64(8)), 1)
  chex.assert_trees_all_equal(first, second)


# Units.


def test_type1_units():
  (filters,), _ = _run(_add(), 1, params=_conv_params())
  (kernels,), _ = _run(_add(unit='kernel'), 1, params=_conv_params())
  by_filter = np.asarray(filters['conv']['kernel'])
  by_kernel = np.asarray(kernels['conv']['kernel'])
  assert len(np.unique(by_filter)) == 4
  assert np.ptp(by_filter.reshape(-1, 4), axis=0).max() == 0
  assert len(np.unique(by_kernel)) == 8
  assert np.ptp(by_kernel.reshape(9, 8), axis=0).max() == 0
  for new in (filters, kernels):
    assert len(np.unique(_kernel(new))) == 6
    assert np.ptp(_kernel(new), axis=0).max() == 0


@pytest.mark.parametrize(
  ('shape', 'unit', 'num_units'),
  [
    ((7,), 'filter', 7),
    ((), 'filter', 1),
    ((7,), 'kernel', 7),
    ((4, 3, 5), 'filter', 5),
    ((4, 3, 5), 'kernel', 15),
    ((2, 2, 2, 3, 5), 'kernel', 15),
    ((6, 5), 'kernel', 5),
  ],
)
def test_units_of_every_rank(shape, unit, num_units):
  params = {'conv': jnp.zeros(shape)}
  tx = _add(unit=unit, select={'conv': True})
  (new,), _ = _run(tx, 1, params=params)
  assert len(np.unique(new['conv'])) == num_units


@pytest.mark.parametrize(
  ('params', 'name', 'num_units'),
  [
    ({'query': {'kernel': (16, 4, 4)}}, 'query.kernel', 16),
    ({'experts': {'kernel': (6, 8, 4)}}, 'experts.kernel', 24),
    (
      {'layers': {'query': {'kernel': (2, 8, 4, 4)}}},
      'layers.query.kernel',
      32,
    ),
  ],
)
def test_type1_draws_one_number_for_each_neuron(params, name, num_units):
  params = jax.tree.map(
    jnp.zeros, params, is_leaf=lambda x: isinstance(x, tuple)
  )
  (new,), _ = _run(_add(), 1, params=params)
  (leaf,) = jax.tree.leaves(new)
  found = units.infer(params)[name].canonical(leaf)
  assert len(np.unique(leaf)) == num_units
  assert np.all(np.asarray(found) == np.asarray(found)[:, :1, :1])


def test_norms_and_biases_of_stacked_layers_get_no_noise():
  params = {
    'blocks': {
      'dense': {'kernel': jnp.zeros((3, 8, 4)), 'bias': jnp.zeros((3, 4))},
      'norm': {'scale': jnp.zeros((3, 8)), 'bias': jnp.zeros((3, 8))},
    },
    'embed': {'embedding': jnp.zeros((9, 8))},
  }
  for select in (None, exclude()):
    (new,), _ = _run(_add(select=select), 1, params=params)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), params, new)
    assert [n for n, m in units.named_leaves(moved) if m] == [
      'blocks.dense.kernel'
    ]


def test_a_leaf_that_may_be_anything_is_refused_by_name():
  params = {'w': jnp.zeros((4, 3, 5))}
  with pytest.raises(ValueError, match=r"units=\{'w': htjax"):
    _add().init(params)
  given = {'w': units.Leaf('dense', units=(2,), inputs=(1,), stacked=(0,))}
  (new,), _ = _run(_add(units=given), 1, params=params)
  assert len(np.unique(new['w'])) == 20


def test_type3_radius_belongs_to_a_column():
  # At alpha 0.1 the radii of columns differ by tens of decades.
  params = {'w': jnp.zeros((60, 40))}
  tx = _add(kind='type3', alpha=0.1, learning_rate=1.0)
  (new,), _ = _run(tx, 1, params=params)
  size = np.log10(np.abs(np.asarray(new['w'])))
  assert np.ptp(np.median(size, axis=0)) > 10
  within = size - np.median(size, axis=0, keepdims=True)
  assert np.mean(np.abs(within) > 2) < 0.03


# Selections.


def _touched(**changes):
  tx = _add(kind='type2', **changes)
  (new,), _ = _run(tx, 1, params=_conv_params())
  return {
    '/'.join(str(k.key) for k in path)
    for path, leaf in jax.tree_util.tree_leaves_with_path(new)
    if np.any(leaf != 0)
  }


def test_default_selection_takes_every_weight():
  assert _touched() == {'conv/kernel', 'hidden/kernel', 'output'}


def test_selections():
  assert _touched(select=exclude('output')) == {'conv/kernel', 'hidden/kernel'}
  assert _touched(select=exclude('output', 'conv')) == {'hidden/kernel'}
  tree = jax.tree.map(lambda x: x.ndim == 1, _conv_params())
  assert _touched(select=tree) == {'conv/bias', 'hidden/bias'}
  assert _touched(
    select=lambda p: jax.tree.map(lambda x: x.shape[0] == 3, p)
  ) == {'conv/kernel'}


def test_selection_does_not_move_the_draws_of_other_leaves():
  (every,), _ = _run(_add(kind='type2'), 1)
  tx = _add(kind='type2', mask=exclude('hidden'))
  (some,), _ = _run(tx, 1)
  assert np.all(_kernel(some) == 0)
  np.testing.assert_array_equal(every['output'], some['output'])


def test_integer_leaves_and_none_are_left_alone():
  params = {'w': jnp.ones((2, 2)), 'n': jnp.ones((2, 2), jnp.int32), 'x': None}
  (new,), _ = _run(_add(), 1, params=params)
  assert new['x'] is None
  np.testing.assert_array_equal(new['n'], 0)
  assert np.all(new['w'] != 0)


# The contract of an optax transformation.


DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16)


@pytest.mark.parametrize('kind', stable.KINDS)
@pytest.mark.parametrize('rate', [1.0, optax.constant_schedule(1.0)])
@pytest.mark.parametrize('made', [float, jnp.float32])
def test_dtypes_under_strict_promotion(kind, rate, made):
  # At this alpha and sigma many draws lie beyond the largest float16.
  params = {d.__name__: jnp.zeros((50, 10), d) for d in DTYPES}
  if made is not float and not callable(rate):
    rate = made(rate)
  with jax.numpy_dtype_promotion('strict'):
    tx = _add(kind=kind, alpha=made(0.1), sigma=made(1e4), learning_rate=rate)
    (new,), _ = _run(tx, 1, params=params, jit=True)
  for dtype in DTYPES:
    leaf = new[dtype.__name__]
    assert leaf.dtype == dtype
    assert jnp.all(jnp.isfinite(leaf))
    assert jnp.any(jnp.abs(leaf) > 6e4)


def test_low_precision_is_the_noise_rounded_to_a_neighbour():
  made = []
  for dtype in DTYPES:
    params = {'w': jnp.zeros((50, 10), dtype)}
    (new,), _ = _run(_add(kind='type2'), 1, params=params)
    made.append(np.float64(new['w']))
  for dtype, noise_ in zip(DTYPES, made, strict=True):
    spacing = float(jnp.finfo(dtype).eps) * np.abs(made[0])
    least = float(jnp.finfo(dtype).smallest_subnormal)
    assert np.all(np.abs(noise_ - made[0]) <= np.maximum(spacing, least))


def test_low_precision_needs_the_weights():
  tx = _add()
  params = {'w': jnp.zeros((5, 3), jnp.bfloat16)}
  with pytest.raises(ValueError, match=r'params must be given.*bfloat16'):
    tx.update(params, tx.init(params))


def test_state_is_stable_and_step_two_does_not_compile():
  tx = _add()
  params = _params()
  state = tx.init(params)
  assert isinstance(state, noise.AddStableNoiseState)
  update = jax.jit(chex.assert_max_traces(tx.update, n=1))
  for step in range(3):
    assert int(state.count) == step
    updates, new_state = update(params, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(new_state, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_structs(new_state, state)
    state = new_state


def test_extra_arguments_and_missing_params():
  tx = _add()
  assert isinstance(tx, optax.GradientTransformationExtraArgs)
  params = _params()
  first, _ = tx.update(params, tx.init(params), params, value=1.0, loss=None)
  second, _ = tx.update(params, tx.init(params))
  chex.assert_trees_all_equal(first, second)


@pytest.mark.parametrize('kind', stable.KINDS)
def test_jit_equals_eager(kind):
  compiled, _ = _run(_add(kind=kind), 2, jit=True)
  eager, _ = _run(_add(kind=kind), 2)
  _assert_close(compiled, eager)


def test_count_saturates():
  tx = _add()
  most = jnp.iinfo(jnp.int32).max
  state = tx.init(_params())._replace(count=jnp.asarray(most, jnp.int32))
  (new,), state = _run(tx, 1, state=state, jit=True)
  assert state.count == most
  assert np.all(np.isfinite(_kernel(new)))
  assert np.all(_kernel(new) != 0)


def test_restored_state_continues_with_the_same_noise(tmp_path):
  tx = noise.heavy_tailed_sgd(ETA, ALPHA, SIGMA, key=9, momentum=0.9)
  unbroken, _ = _run(tx, 5, _params(), jit=True)
  begun, state = _run(tx, 2, _params(), jit=True)
  leaves, treedef = jax.tree.flatten(state)
  np.savez(tmp_path / 'state.npz', *leaves)
  with np.load(tmp_path / 'state.npz') as file:
    restored = treedef.unflatten(jnp.asarray(file[n]) for n in file.files)
  # A transformation built with another key: the state's is the one in use.
  fresh = noise.heavy_tailed_sgd(ETA, ALPHA, SIGMA, key=10, momentum=0.9)
  rest, _ = _run(fresh, 3, _params(), state=restored, jit=True)
  chex.assert_trees_all_equal([*begun, *rest], unbroken)


@pytest.mark.parametrize('kind', stable.KINDS)
def test_vmap_over_keys_alphas_and_sigmas_equals_a_loop(kind):
  params = {'w': jnp.ones((3, 4))}

  def two_steps(key, alpha, sigma):
    tx = _add(key=key, kind=kind, alpha=alpha, sigma=sigma)
    _, state = tx.update(params, tx.init(params), params)
    return tx.update(params, state, params)[0]

  def keys():
    return jax.random.split(jax.random.key(11), 3)

  alphas = jnp.array([1.2, 1.5, 2.0])
  sigmas = jnp.array([0.1, 0.0, 2.0])
  mapped = jax.jit(jax.vmap(two_steps))(keys(), alphas, sigmas)
  for i in range(3):
    one = two_steps(keys()[i], alphas[i], sigmas[i])
    _assert_close(jax.tree.map(lambda x, i=i: x[i], mapped), one, atol=1e-6)
  # One axis at a time, where the other arguments stay plain numbers.
  swept = jax.vmap(lambda a: two_steps(jax.random.key(12), a, SIGMA))(alphas)
  one = two_steps(jax.random.key(12), 1.5, SIGMA)
  _assert_close(jax.tree.map(lambda x: x[1], swept), one, atol=1e-6)


def test_one_compilation_serves_a_sweep():
  params = _params()

  @jax.jit
  @chex.assert_max_traces(n=1)
  def step(alpha, sigma, eta):
    tx = _add(alpha=alpha, sigma=sigma, learning_rate=eta)
    return tx.update(params, tx.init(params), params)[0]

  for alpha, sigma, eta in ((1.2, 0.1, 0.5), (2.0, 0.0, 0.1)):
    _assert_close(
      step(alpha, sigma, eta),
      _run(_add(alpha=alpha, sigma=sigma, learning_rate=eta), 1, params)[0][0],
      atol=1e-6,
    )


def test_the_key_in_the_state_can_be_set():
  tx = optax.chain(optax.adam(ETA), _add(key=13))
  params = _params()
  state = tx.init(params)

  def step(key):
    return tx.update(params, optax.tree.set(state, key=key), params)[0]

  def keys():
    return jax.random.split(jax.random.key(14), 3)

  mapped = jax.vmap(step)(keys())
  for i in range(3):
    built = optax.chain(optax.adam(ETA), _add(key=keys()[i]))
    (one,), _ = _run(built, 1, params)
    _assert_close(jax.tree.map(lambda x, i=i: x[i], mapped), one, atol=1e-6)


def test_multi_steps():
  tx = optax.MultiSteps(_add(key=15), 3).gradient_transformation()
  made, state = _run(tx, 9)
  direct, _ = _run(_add(key=15), 3)
  for step, new in enumerate(made):
    if step % 3 == 2:
      chex.assert_trees_all_equal(new, direct[step // 3])
    else:
      chex.assert_trees_all_equal(new, _zeros())
  assert int(state.inner_opt_state.count) == 3


def test_injected_hyperparameters():
  tx = optax.inject_hyperparams(noise.heavy_tailed_sgd)(
    ETA, ALPHA, SIGMA, key=jax.random.key(16)
  )
  (injected,), state = _run(tx, 1, _params(), jit=True)
  plain = noise.heavy_tailed_sgd(ETA, ALPHA, SIGMA, key=16)
  (direct,), _ = _run(plain, 1, _params())
  _assert_close(injected, direct, atol=1e-6)
  assert float(state.hyperparams['sigma']) == np.float32(SIGMA)
  state.hyperparams['sigma'] = jnp.float32(0.0)
  (quiet,), _ = _run(tx, 1, _params(), state=state, jit=True)
  _assert_close(quiet, jax.tree.map(lambda g: -ETA * g, _params()))


def test_optax_masked():
  mask = {'hidden': True, 'output': False}
  (new,), _ = _run(optax.masked(_add(), mask), 1)
  assert np.all(_kernel(new) != 0)
  np.testing.assert_array_equal(new['output'], 0)


@pytest.mark.parametrize('kind', stable.KINDS)
def test_eight_devices_equal_one(kind):
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ('d',))
  spread = jax.sharding.NamedSharding(
    mesh, jax.sharding.PartitionSpec(None, 'd')
  )
  assert mesh.size == 8
  rng = np.random.default_rng(3)
  params = {'w': jnp.asarray(rng.normal(size=(16, 64)), jnp.float32)}
  one, _ = _run(_add(kind=kind), 2, params, params, jit=True)
  sharded = jax.device_put(params, spread)
  eight, _ = _run(_add(kind=kind), 2, sharded, sharded, jit=True)
  assert eight[1]['w'].sharding.is_equivalent_to(spread, 2)
  _assert_close(one, jax.device_get(eight), rtol=1e-6, atol=1e-6)


def test_the_state_may_be_donated_and_the_key_shared():
  key, params = jax.random.key(21), _params()
  tx = noise.heavy_tailed_sgd(ETA, ALPHA, SIGMA, key=key)
  other = noise.heavy_tailed_sgd(ETA, ALPHA, SIGMA, key=key)
  step = jax.jit(lambda s: tx.update(params, s), donate_argnums=0)
  both = jax.jit(lambda s, t: (s, t), donate_argnums=(0, 1))
  jax.block_until_ready(both(tx.init(params), other.init(params)))
  first, _ = step(tx.init(params))
  again, _ = step(tx.init(params))
  chex.assert_trees_all_equal(first, again)
  jax.block_until_ready(jax.random.normal(key))


@pytest.mark.parametrize('impl', ['threefry2x32', 'rbg'])
def test_the_state_is_saved_by_flax(impl):
  key = jax.random.key(22, impl=impl)
  tx = noise.heavy_tailed_sgd(ETA, ALPHA, SIGMA, key=key, momentum=0.9)
  _, state = _run(tx, 2, _params())
  restored = serialization.from_bytes(
    tx.init(_params()), serialization.to_bytes(state)
  )
  ours, _ = _run(tx, 2, _params(), state=restored)
  chex.assert_trees_all_equal(ours, _run(tx, 2, _params(), state=state)[0])


@pytest.mark.parametrize('seed', [23, jnp.int32(23), np.uint32(23)])
def test_injected_seed(seed):
  make = optax.inject_hyperparams(noise.heavy_tailed_sgd)
  (injected,), _ = _run(
    make(ETA, ALPHA, SIGMA, key=seed), 1, _params(), jit=True
  )
  plain = noise.heavy_tailed_sgd(ETA, ALPHA, SIGMA, key=23)
  _assert_close(injected, _run(plain, 1, _params())[0][0], atol=1e-6)


def test_injected_selection():
  chosen = {'select': exclude('output')}
  make = optax.inject_hyperparams(noise.heavy_tailed_sgd)
  with pytest.raises(ValueError, match="static_args=\\('select',\\)"):
    make(ETA, ALPHA, SIGMA, key=24, **chosen).init(_params())
  make = optax.inject_hyperparams(
    noise.heavy_tailed_sgd, static_args=('select',)
  )
  (injected,), _ = _run(make(ETA, ALPHA, SIGMA, key=24, **chosen), 1, jit=True)
  plain = noise.heavy_tailed_sgd(ETA, ALPHA, SIGMA, key=24, **chosen)
  _assert_close(injected, _run(plain, 1)[0][0], atol=1e-6)


def test_alpha_and_sigma_may_be_schedules():
  alphas, sigmas = (1.9, 1.4, 1.1), (0.5, 0.0, 2.0)

  def schedule(values):
    return lambda count: jnp.asarray(values)[jnp.minimum(count, 2)]

  tx = _add(alpha=schedule(alphas), sigma=schedule(sigmas))
  made, _ = _run(tx, 3, jit=True)
  for t, (alpha, sigma) in enumerate(zip(alphas, sigmas, strict=True)):
    steady, _ = _run(_add(alpha=alpha, sigma=sigma), 3)
    _assert_close(made[t], steady[t], atol=1e-6)
  # One that leaves the range is found where its numbers can be looked at.
  tx = _add(alpha=lambda count: 3.0)
  with pytest.raises(ValueError, match='alpha must lie in'):
    tx.update(_params(), tx.init(_params()))


@pytest.mark.parametrize('kind', stable.KINDS)
@pytest.mark.parametrize('scale', [{}, {'relative': 0.1, 'num_steps': 9}])
def test_eager_calls_do_not_compile_again(kind, scale):
  params = _params()
  tx = _add(kind=kind, **(scale and {'sigma': None, 'monitor': True} | scale))
  state = tx.init(params)
  _, state = tx.update(params, state)
  with jax.log_compiles(False), _CountCompilations() as count:
    for _ in range(3):
      _, state = tx.update(params, state)
  assert count.number == 0


class _CountCompilations:
  """Number of programs that XLA is asked for."""

  def __enter__(self):
    self.number = 0
    self._active = True
    jax.monitoring.register_event_duration_secs_listener(self._listen)
    return self

  def _listen(self, event, seconds, **kwargs):
    del seconds, kwargs
    if self._active and event.endswith('backend_compile_duration'):
      self.number += 1

  def __exit__(self, *error):
    self._active = False


def test_compilations_are_counted():
  with _CountCompilations() as count:
    jax.jit(lambda x: x * 3.25 + 1)(jnp.ones(17))
  assert count.number > 0


# The process.


@pytest.mark.parametrize('kind', stable.KINDS)
def test_the_process_is_what_the_transformation_adds(kind):
  process = noise.StableNoise(ALPHA, SIGMA, kind=kind, unit='kernel')
  params = _conv_params()
  key = jax.random.fold_in(jax.random.key(25), 0)
  drawn = process.draw(key, params, step_size=ETA, select=exclude('output'))
  chex.assert_trees_all_equal_shapes_and_dtypes(drawn, params)
  for arguments in (
    {'noise': process},
    {'alpha': ALPHA, 'sigma': SIGMA, 'kind': kind, 'unit': 'kernel'},
  ):
    tx = noise.add_stable_noise(
      ETA, key=25, select=exclude('output'), **arguments
    )
    zeros = jax.tree.map(jnp.zeros_like, params)
    (added,), _ = _run(tx, 1, zeros, params)
    chex.assert_trees_all_equal(added, drawn)
  tx = noise.heavy_tailed_sgd(ETA, key=25, noise=process)
  assert np.any(_kernel(_run(tx, 1)[0][0]) != 0)


def test_scale():
  process = noise.StableNoise(ALPHA, SIGMA)
  assert process.scale(ETA) == SCALE
  assert process.scale(1.0) == SIGMA
  assert process.scale(0.0) == 0.0


def test_the_process_is_a_pytree():
  process = noise.StableNoise(ALPHA, SIGMA, kind='type3')
  leaves, treedef = jax.tree.flatten(process)
  assert leaves == [ALPHA, SIGMA]
  assert treedef.unflatten(leaves) == process
  # Placeholders of any kind can stand in for the numbers.
  assert treedef.unflatten([None, object]).kind == 'type3'
  names = [
    jax.tree_util.keystr(path, simple=True)
    for path, _ in jax.tree_util.tree_leaves_with_path(process)
  ]
  assert names == ['alpha', 'sigma']

  @jax.jit
  @chex.assert_max_traces(n=1)
  def scale(process):
    return process.scale(0.25)

  for alpha in (1.0, 2.0):
    np.testing.assert_allclose(
      scale(noise.StableNoise(alpha, 3.0)), 3 * 0.25 ** (1 / alpha), rtol=1e-6
    )
  many = noise.StableNoise(jnp.array([1.0, 2.0]), jnp.array([3.0, 1.0]))
  scales = jax.vmap(lambda p: p.scale(0.25))(many)
  np.testing.assert_allclose(scales, [0.75, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda p: noise.StableNoise(2.5, 1.0), 'alpha must lie in'),
    (lambda p: noise.StableNoise(1.5, -1.0), 'sigma must lie in'),
    (lambda p: noise.StableNoise(1.5, 1.0, kind='x'), 'kind must be one of'),
    (lambda p: noise.StableNoise(1.5, 1.0, unit='x'), 'unit must be one of'),
    (
      lambda p: noise.StableNoise(1.5, np.ones(2)).draw(jax.random.key(0), p),
      'sigma must be a scalar',
    ),
    (
      lambda p: noise.StableNoise(1.5, 1.0).draw(
        jax.random.key(0), p, step_size=-1.0
      ),
      'step_size must lie in',
    ),
    (lambda p: noise.StableNoise(1.5, 1.0).draw(0, p), 'key must be a typed'),
    (
      lambda p: noise.add_stable_noise(
        0.1, 1.5, key=0, noise=noise.StableNoise(1.5, 1.0)
      ),
      'noise holds alpha, sigma, kind and unit',
    ),
    (
      lambda p: noise.add_stable_noise(0.1, key=0, noise=1.5),
      'noise must be a StableNoise, got 1.5',
    ),
    (
      lambda p: noise.add_stable_noise(0.1, 1.5, key=0),
      'sigma must be a real number, got None',
    ),
  ],
)
def test_bad_processes(call, message):
  with pytest.raises(ValueError, match=message):
    call(_params())


# Flax and scan.


def test_nnx_optimizer():
  class Net(nnx.Module):
    def __init__(self, rngs):
      self.hidden = nnx.Linear(3, 4, rngs=rngs)
      self.output = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
      return self.output(jax.nn.relu(self.hidden(x)))

  def train(tx):
    net = Net(nnx.Rngs(0))
    optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)

    @nnx.jit
    def step(net, optimizer, x):
      gradients = nnx.grad(lambda net: jnp.sum(net(x) ** 2))(net)
      optimizer.update(net, gradients)

    for _ in range(2):
      step(net, optimizer, jnp.ones((5, 3)))
    return nnx.to_pure_dict(nnx.state(net))

  def tx(sigma):
    hidden = exclude('output')
    return noise.heavy_tailed_sgd(ETA, ALPHA, sigma, key=17, select=hidden)

  plain, quiet, noisy = train(optax.sgd(ETA)), train(tx(0.0)), train(tx(0.5))
  _assert_close(plain, quiet, atol=1e-6)
  moved = noisy['hidden']['kernel'] - quiet['hidden']['kernel']
  assert np.all(np.abs(moved) > 1e-4)


def test_linen_inside_scan_equals_a_loop():
  net = flax.linen.Dense(4)
  x = jnp.ones((2, 3))
  params = net.init(jax.random.key(18), x)
  tx = noise.heavy_tailed_sgd(ETA, ALPHA, SIGMA, key=19, kind='type3')

  def step(carry, _):
    params, state = carry
    gradients = jax.grad(lambda p: jnp.sum(net.apply(p, x) ** 2))(params)
    updates, state = tx.update(gradients, state, params)
    return (optax.apply_updates(params, updates), state), None

  carry = params, tx.init(params)
  scanned = jax.lax.scan(step, carry, length=4)[0][0]
  for _ in range(4):
    carry, _ = step(carry, None)
  _assert_close(scanned, carry[0], rtol=1e-5, atol=1e-5)


# Refusals.


@pytest.mark.parametrize('make', [_add, None])
@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'alpha': 0.0}, r'alpha must lie in \(0, 2\], got 0.0'),
    ({'alpha': -1.0}, 'alpha must lie in'),
    ({'alpha': 2.1}, 'alpha must lie in'),
    ({'alpha': math.nan}, 'alpha must lie in'),
    ({'alpha': '1.5'}, 'alpha must be a real number'),
    ({'alpha': jnp.array([1.5, 1.8])}, 'alpha must be a scalar'),
    ({'sigma': -0.1}, r'sigma must lie in \[0, inf\), got -0.1'),
    ({'sigma': math.nan}, 'sigma must lie in'),
    ({'sigma': math.inf}, 'sigma must lie in'),
    ({'sigma': np.ones(3)}, 'sigma must be a scalar'),
    ({'learning_rate': -0.1}, 'learning_rate must lie in'),
    ({'learning_rate': math.nan}, 'learning_rate must lie in'),
    ({'learning_rate': None}, 'learning_rate must be a real number'),
    ({'kind': 'type4'}, 'kind must be one of'),
    ({'kind': None}, 'kind must be one of'),
    ({'unit': 'row'}, "unit must be one of 'filter', 'kernel', got 'row'"),
    ({'key': np.zeros(2, np.uint32)}, 'got a legacy uint32 key'),
    ({'key': None}, 'key must be a typed key'),
    ({'key': 1.0}, 'key must be a typed key'),
  ],
)
def test_bad_arguments(make, changes, message):
  good = {
    'learning_rate': ETA,
    'alpha': ALPHA,
    'sigma': SIGMA,
    'key': 1,
  }
  make = make or noise.heavy_tailed_sgd
  with pytest.raises(ValueError, match=message):
    make(**(good | changes))


def test_arrays_of_keys_are_refused():
  keys = jax.random.split(jax.random.key(20), 2)
  with pytest.raises(ValueError, match='key must be a single key'):
    _add(key=keys)


@pytest.mark.parametrize('name', ['select', 'mask'])
@pytest.mark.parametrize(
  ('chosen', 'params', 'message'),
  [
    ({'w': True}, _params(), 'NAME must have the structure of params'),
    (lambda p: True, _params(), 'NAME must have the structure of params'),
    ({'w': 1.0}, {'w': jnp.ones((2, 2))}, 'NAME must hold booleans, got 1.0'),
    (
      {'w': np.ones((1, 2), bool)},
      {'w': jnp.ones((2, 2))},
      r'NAME must hold booleans, got an array of shape \(1, 2\)',
    ),
    (exclude('outptu'), _params(), "called 'outptu'; there are bias, hid"),
    ({'w': False}, {'w': jnp.ones((2, 2))}, 'NAME must choose at least one'),
    (
      {'w': np.zeros((2, 2), bool)},
      {'w': jnp.ones((2, 2))},
      'NAME must choose at least one',
    ),
  ],
)
def test_bad_selections(name, chosen, params, message):
  with pytest.raises(ValueError, match=message.replace('NAME', name)):
    _add(**{name: chosen}).init(params)


def test_parameters_that_no_noise_can_reach_are_refused():
  with pytest.raises(ValueError, match='at least one leaf, got an empty'):
    _add().init({})
  with pytest.raises(ValueError, match='params hold no weight'):
    _add().init({'bias': jnp.ones(3)})
  # Flattened parameters have lost their columns.
  with pytest.raises(ValueError, match='params hold no weight'):
    optax.flatten(_add()).init(_params())


def test_a_selection_has_one_of_two_names():
  with pytest.raises(ValueError, match='mask is another name of select'):
    _add(select=exclude('output'), mask=exclude('output'))
  old, _ = _run(_add(mask=exclude('output')), 1)
  new, _ = _run(_add(select=exclude('output')), 1)
  chex.assert_trees_all_equal(old, new)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _Net:
  w: Any
  v: Any

  def __call__(self, x):
    return jnp.tanh(x @ self.w) @ self.v


def test_a_module_of_booleans_is_not_called():
  params = _Net(jnp.zeros((4, 3)), jnp.zeros((3, 2)))
  (new,), _ = _run(_add(select=_Net(True, False)), 1, params=params)
  assert np.all(new.w != 0)
  assert np.all(new.v == 0)
  # A module of another structure that makes a selection is.
  params = {'w': params.w, 'v': params.v}
  chooser = jax.tree_util.Partial(lambda p: {'w': False, 'v': True})
  (new,), _ = _run(_add(select=chooser), 1, params=params)
  assert np.all(new['w'] == 0)
  assert np.all(new['v'] != 0)
  # A function is a leaf, like the only parameter here.
  (new,), _ = _run(_add(select=lambda p: True), 1, params=jnp.ones((2, 2)))
  assert np.all(new != 0)


@pytest.mark.parametrize('kind', stable.KINDS)
def test_entries_can_be_selected_one_by_one(kind):
  params = {'w': jnp.zeros((6, 5)), 'v': jnp.zeros((2, 5))}
  entries = np.random.default_rng(0).random((6, 5)) < 0.5
  every, _ = _run(_add(kind=kind), 1, params=params)
  tx = _add(kind=kind, select={'w': entries, 'v': False})
  some, _ = _run(tx, 1, params=params, jit=True)
  np.testing.assert_array_equal(some[0]['w'], every[0]['w'] * entries)
  assert np.all(some[0]['v'] == 0)


def test_traced_bad_values_give_nan():
  params = _params()

  @jax.jit
  def step(alpha, sigma):
    tx = _add(alpha=alpha, sigma=sigma)
    return _kernel_of(tx.update(params, tx.init(params))[0])

  def _kernel_of(tree):
    return tree['hidden']['kernel']

  for alpha, sigma in ((0.0, 1.0), (2.1, 1.0), (math.nan, 1.0)):
    assert jnp.all(jnp.isnan(step(alpha, sigma)))
  for sigma in (-1.0, math.nan, math.inf):
    assert jnp.all(jnp.isnan(step(ALPHA, sigma)))
