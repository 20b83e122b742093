"""The front rooms under settings that people turn on for the whole program.

Clean, small inputs; every call must pass, and give the numbers that it gives
without the setting.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htjax import (
  compressibility,
  mean_field,
  noise,
  pruning,
  sketching,
  stable,
  tail_index,
)

RNG = np.random.default_rng(0)
SAMPLES = (RNG.pareto(1.5, (20, 16)) + 1).astype(np.float32)
SIGNED = RNG.standard_t(2, (32, 24)).astype(np.float32)
CONVOLUTION = RNG.standard_t(2, (3, 3, 4, 6)).astype(np.float32)
PARAMS = {'a': {'kernel': SIGNED, 'bias': np.zeros(24, np.float32)}}
FILTERS = {'conv': CONVOLUTION}
POINTS = np.float32([-3.0, 0.0, 0.4, 20.0])


def key():
  return jax.random.key(7)


PROBLEM = mean_field.Problem(
  lambda theta, x: jnp.tanh(theta @ x),
  lambda f, y: jnp.logaddexp(f - y, y - f),
  RNG.normal(size=(6, 3)).astype(np.float32),
  RNG.normal(size=6).astype(np.float32),
)
THETA = RNG.normal(size=(8, 3)).astype(np.float32)
PROCESS = {'alpha': 1.8, 'sigma': 0.1, 'step_size': 0.1, 'kind': 'type2'}


def updated(kind):
  optimizer = noise.heavy_tailed_sgd(0.1, 1.8, 0.01, key=0, kind=kind)
  params = jax.tree.map(jnp.asarray, PARAMS)
  state = optimizer.init(params)
  for _ in range(2):
    updates, state = optimizer.update(params, state, params)
  return updates


def recovered():
  a_key, b_key = jax.random.split(key())
  a = sketching.bipartite_ensemble(a_key, 6, 10, 3)
  b = sketching.bipartite_ensemble(b_key, 6, 10, 3)
  x = jnp.zeros((10, 10)).at[2, 3].set(1.5)
  y = sketching.sketch(x, a, b)
  return sketching.recover(y, a, b).x, sketching.distributed_sparsity(x)


CALLS = {
  'sample': lambda: stable.sample(key(), 1.8, (3,), scale=0.5),
  'sample_positive': lambda: stable.sample_positive(key(), 0.7, (3,)),
  **{
    f'vectors_{kind}': lambda kind=kind: stable.sample_vectors(
      key(), 1.5, (4, 3), kind=kind
    )
    for kind in stable.KINDS
  },
  'increments': lambda: stable.levy_increments(
    key(), 1.5, 0.1, 3, (4,), kind='type2'
  ),
  'characteristic': lambda: stable.characteristic_function(POINTS, 1.5),
  'cdf': lambda: stable.cdf(POINTS, 1.8),
  'sf': lambda: stable.sf(POINTS, 1.0, scale=2.0),
  'pdf': lambda: stable.pdf(POINTS, 1.2),
  'logpdf': lambda: stable.logpdf(POINTS, 2.0),
  'quantile': lambda: stable.quantile([0.1, 0.5, 0.999], 1.5),
  'log_moment': lambda: stable.log_moment(1.5),
  'best_k': lambda: compressibility.best_k(SIGNED, 5),
  'compression_error': lambda: compressibility.compression_error(
    SIGNED, [0.1, 0.5], p=1
  ),
  'smallest_kappa': lambda: compressibility.smallest_kappa(SIGNED, 0.1),
  'pruning_ratio': lambda: compressibility.pruning_ratio(SIGNED),
  'gaussian_limit': lambda: compressibility.gaussian_limit(0.3),
  'stable_curve': lambda: compressibility.stable_curve(
    1.5, [0.1, 0.5], 50, key=key(), num_draws=5
  ),
  'invisible': lambda: compressibility.invisible_noise_ratios(
    key(), SIGNED, 0.1, 1.8, 3
  ),
  'hill': lambda: tail_index.hill(SAMPLES, 30),
  'hill_plot': lambda: tail_index.hill_plot(SAMPLES, [5, 30]),
  'moment': lambda: tail_index.moment(SAMPLES, 30),
  'pickands': lambda: tail_index.pickands(SAMPLES, 32),
  'de_haan_resnick': lambda: tail_index.de_haan_resnick(SAMPLES, 30),
  'max_ratio': lambda: tail_index.max_ratio(SAMPLES),
  'mmo': lambda: tail_index.mmo(SIGNED),
  'mmo_prime': lambda: tail_index.mmo(SIGNED, 2),
  'mmo_univariate': lambda: tail_index.mmo_univariate(SIGNED),
  'power_law': lambda: tail_index.power_law(SAMPLES),
  'power_law_xmin': lambda: tail_index.power_law(SAMPLES, 1.0),
  'power_law_p': lambda: tail_index.power_law_p_value(key(), SAMPLES, 5),
  'power_law_se': lambda: tail_index.power_law_standard_error(
    key(), SAMPLES, 5
  ),
  'exponential': lambda: tail_index.power_law_against(SAMPLES, 'exponential'),
  'lognormal': lambda: tail_index.power_law_against(SAMPLES, 'lognormal'),
  'stable_mle': lambda: tail_index.stable_mle(SIGNED),
  'layer_protocol': lambda: tail_index.layer_protocol(key(), SIGNED),
  'layer_protocol_hill': lambda: tail_index.layer_protocol(
    key(), SIGNED, estimator='hill', cap=2
  ),
  'layer_table': lambda: tail_index.layer_table(PARAMS, key=key()),
  'magnitude': lambda: pruning.magnitude(PARAMS, 0.3),
  'magnitude_global': lambda: pruning.magnitude(
    PARAMS | FILTERS, 0.3, scope='global', center='median'
  ),
  'columns': lambda: pruning.columns(PARAMS, 0.3, p=1),
  'rows': lambda: pruning.rows(PARAMS, pruning.AllBut(0.3)),
  'filters': lambda: pruning.filters(FILTERS, 0.5),
  'kernels': lambda: pruning.kernels(FILTERS, 0.5, center='median'),
  'columns_to_error': lambda: pruning.columns_to_error(PARAMS, 0.1),
  'to_error': lambda: pruning.to_error(PARAMS, 0.1, method='magnitude'),
  'to_error_values': lambda: pruning.to_error(
    PARAMS, 0.1, method='singular_values'
  ),
  'singular_values': lambda: pruning.singular_values(FILTERS, 0.5),
  'thin_factors': lambda: (
    pruning.thin_factors(PARAMS, 0.5, center='median').kept
  ),
  'randomized': lambda: pruning.randomized_magnitude(key(), PARAMS, 0.5),
  'random_columns': lambda: pruning.random_columns(key(), PARAMS, 0.5),
  'gaussian_replacement': lambda: pruning.gaussian_replacement(key(), PARAMS),
  'gaussian_theory': lambda: pruning.gaussian_replacement(
    key(), PARAMS, variant='theory', threshold=1.0, variance=0.01
  ),
  'discretize': lambda: pruning.discretize(PARAMS, 0.1),
  'iterative': lambda: (
    pruning.iterative_magnitude(lambda p, mask, r: p, PARAMS, [0.5, 0.2])[
      -1
    ].pruned
  ),
  'ratios': lambda: pruning.columns(PARAMS, 0.3).leaf_ratios,
  'strength': lambda: pruning.keep_probability(pruning.strength_for(0.3)),
  'recover': recovered,
  'drift': lambda: mean_field.drift(PROBLEM, THETA, THETA),
  'euler_step': lambda: mean_field.euler_step(key(), PROBLEM, THETA, **PROCESS),
  'simulate': lambda: mean_field.simulate(
    key(), PROBLEM, THETA, num_steps=3, save_every=1, **PROCESS
  ),
  'chaos': lambda: mean_field.propagation_of_chaos(
    key(),
    PROBLEM,
    widths=[2, 4],
    reference=8,
    num_steps=2,
    num_replicas=2,
    **PROCESS,
  ),
  **{f'noise_{kind}': lambda kind=kind: updated(kind) for kind in stable.KINDS},
}


def strict():
  return jax.numpy_dtype_promotion('strict')


@contextlib.contextmanager
def nans_and_promotion():
  with jax.debug_nans(True), strict():
    yield


KEYLESS = {
  *('characteristic', 'cdf', 'sf', 'pdf', 'logpdf', 'quantile', 'log_moment'),
  *('best_k', 'compression_error', 'smallest_kappa', 'pruning_ratio'),
  *('gaussian_limit', 'hill', 'hill_plot', 'moment', 'pickands'),
  *('de_haan_resnick', 'max_ratio', 'mmo', 'mmo_prime', 'mmo_univariate'),
  *('power_law', 'power_law_xmin', 'exponential', 'lognormal', 'stable_mle'),
  *('magnitude', 'magnitude_global', 'columns', 'rows', 'filters', 'kernels'),
  *('columns_to_error', 'to_error', 'to_error_values', 'singular_values'),
  *('thin_factors', 'discretize', 'iterative', 'ratios', 'strength', 'drift'),
}


@contextlib.contextmanager
def x64_and_rbg():
  with jax.enable_x64(True), jax.default_prng_impl('rbg'):
    yield


FLAGS = {
  # Two at once, since neither changes a number; reused keys are refused in all
  # tests, with a flag or without.
  'nans_and_promotion': nans_and_promotion,
  'x64': lambda: jax.enable_x64(True),
  'rbg': lambda: jax.default_prng_impl('rbg'),
  'x64_and_rbg': x64_and_rbg,
  'unsafe_rbg': lambda: jax.default_prng_impl('unsafe_rbg'),
}


def numbers(result):
  return [
    np.asarray(leaf)
    for leaf in jax.tree.leaves(result)
    if not isinstance(leaf, str)
  ]


QUICK = {
  *('sample', 'randomized', 'simulate', 'noise_type1', 'best_k', 'hill'),
  *('power_law', 'characteristic', 'cdf', 'log_moment', 'columns'),
}


def pairs():
  assert CALLS.keys() >= KEYLESS
  for flag in FLAGS:
    for name in CALLS:
      # Another generator changes nothing where nothing is drawn. Where
      # something is, float64 and a generator come together, and each alone
      # with a few calls.
      few = name in ('sample', 'randomized', 'simulate')
      if 'rbg' in flag and name in KEYLESS:
        continue
      alone = 'rbg' in flag or (flag == 'x64' and name not in KEYLESS)
      quick = few or flag == 'x64_and_rbg' or not alone
      yield pytest.param(flag, name, marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize(('flag', 'name'), list(pairs()))
def test_front_rooms_pass_under_flags(flag, name):
  with FLAGS[flag]():
    got = numbers(CALLS[name]())
  # Other generators, and float64, make other draws.
  if flag == 'nans_and_promotion':
    # By the programs that are there.
    with strict():
      assert_same(got, numbers(CALLS[name]()))


def assert_same(ours, theirs):
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_array_equal(a, b)


# Strict promotion has every program traced again, only to refuse or do nothing.
@pytest.mark.parametrize(
  'name',
  [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in CALLS
  ],
)
def test_strict_promotion_changes_no_number(name):
  with strict():
    got = numbers(CALLS[name]())
  assert_same(got, numbers(CALLS[name]()))


def test_nans_are_found_in_a_program_that_is_there():
  function = jax.jit(jnp.log)
  function(jnp.float32(-1))
  with jax.debug_nans(True), pytest.raises(FloatingPointError):
    function(jnp.float32(-1))


def noisy_step(params):
  optimizer = noise.heavy_tailed_sgd(0.1, 1.8, 0.01, key=0)
  step = jax.jit(
    lambda p, state: optimizer.update(p, state, p), donate_argnums=(0, 1)
  )
  return step(params, optimizer.init(params))


OF_ARRAYS = {
  'best_k': lambda x: compressibility.best_k(x, 5),
  'pruning_ratio': compressibility.pruning_ratio,
  'hill': lambda x: tail_index.hill(x, 30),
  'mmo': tail_index.mmo,
  'power_law': tail_index.power_law,
  'cdf': lambda x: stable.cdf(x, 1.8),
  'magnitude': lambda x: pruning.magnitude({'a': x}, 0.3).params,
  'columns': lambda x: pruning.columns({'a': x}, 0.3).params,
  'predict': lambda x: mean_field.predict(PROBLEM, x[:, :3]),
  'euler_step': lambda x: mean_field.euler_step(
    key(), PROBLEM, x[:, :3], **PROCESS
  ),
}


@pytest.mark.parametrize('name', OF_ARRAYS)
@pytest.mark.filterwarnings('ignore:Some donated buffers were not usable')
def test_donated_arrays(name):
  function = OF_ARRAYS[name]
  given, kept = jnp.array(SIGNED), jnp.array(SIGNED)
  ours = numbers(jax.jit(function, donate_argnums=0)(given))
  theirs = numbers(function(kept))
  # Nobody gives away what belongs to the caller.
  np.testing.assert_array_equal(kept, SIGNED)
  for a, b in zip(ours, theirs, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_donated_states_of_noise():
  first = jax.tree.map(jnp.array, PARAMS)
  updates, state = noisy_step(first)
  second = jax.tree.map(jnp.array, PARAMS)
  again, _ = noisy_step(second)
  for a, b in zip(numbers(updates), numbers(again), strict=True):
    np.testing.assert_array_equal(a, b)
  assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_a_key_used_twice_is_found():
  with jax.debug_key_reuse(True):
    once = key()
    stable.sample(once, 1.8)
    with pytest.raises(jax.errors.KeyReuseError):
      jax.block_until_ready(stable.sample(once, 1.8))
