"""Numbers that NumPy computes, against the programs of the device.

Traced arrays take the device's way; everything else here takes NumPy's.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htjax import compressibility as C
from htjax import host
from htjax import tail_index as T
from htjax.tail_index import layers

_N = 600
_GENERATOR = np.random.default_rng(0)
_HEAVY = _GENERATOR.standard_t(1.5, _N)
SAMPLES = {
  'heavy': _HEAVY,
  'ties': np.round(_HEAVY, 1),
  'zeros': np.where(np.arange(_N) % 3, _HEAVY, 0),
  'negative': -np.abs(_HEAVY),
  'tiny': 1e-30 * _HEAVY,
  'subnormal': 1e-38 * _HEAVY,
  'huge': 1e35 * np.clip(_HEAVY, -900, 900),
}
SAMPLES = {n: jnp.asarray(x, jnp.float32) for n, x in SAMPLES.items()}

# A float32 sum of n terms is off by n / 2 roundings at the most, and much less
# where they are added in pairs; an estimate is a ratio of two.
_RTOL = _N / 2 * np.finfo(np.float32).eps

ESTIMATORS = {
  'hill': lambda x: T.hill(x, 60),
  'hill_plot': lambda x: T.hill_plot(x, [20, 60]),
  'moment': lambda x: T.moment(x, 60),
  'pickands': lambda x: T.pickands(x, 60),
  'de_haan_resnick': lambda x: T.de_haan_resnick(x, 60),
  'mmo': lambda x: T.mmo(x.reshape(-1, 5), 12),
  'mmo_univariate': lambda x: T.mmo_univariate(x, 12),
  'max_ratio': lambda x: T.max_ratio(x, 30),
  'power_law': T.power_law,
  'layer_protocol': lambda x: T.layer_protocol(
    jax.random.key(0), x.reshape(6, 100), num_permutations=2
  ),
  'layer_protocol_hill': lambda x: T.layer_protocol(
    jax.random.key(0), x.reshape(6, 100), estimator='hill'
  ),
}
MEASURES = {
  'samples': lambda x: T.layer_samples(x.reshape(20, 30)),
  'stable_rank': lambda x: layers._stable_rank(x.reshape(20, 30)),
  'error': lambda x: C.compression_error(x, np.float32([0.01, 0.1, 0.5, 1])),
  'error_p': lambda x: C.compression_error(x, 0.2, p=0.7),
  'kappa': lambda x: C.smallest_kappa(x, np.float32([0.01, 0.1, 0.5, 1])),
  'ratio': lambda x: C.pruning_ratio(x.reshape(20, 30)),
  'invisible': lambda x: C.invisible_noise_ratios(
    *(jax.random.key(0), x.reshape(20, 30), jnp.max(jnp.abs(x)) / 20, 1.5, 5)
  ),
  'norms': lambda x: C.column_norms(x.reshape(20, 30), 1.5),
  'removable': lambda x: C.num_removable(jnp.abs(x), 0.3, p=1),
  'median': C.median,
  'largest': lambda x: C.largest(jnp.abs(x), 100),
}


@functools.cache
def _program(call):
  return jax.jit(call)


def _on_device(call, x):
  """The result of the device's way; traced values are not looked at."""
  return _program(call)(x)


@pytest.mark.parametrize('sample', SAMPLES)
@pytest.mark.parametrize('estimator', ESTIMATORS)
def test_estimates(estimator, sample):
  x, call = SAMPLES[sample], ESTIMATORS[estimator]
  expected = _on_device(call, x)
  try:
    found = call(x)
  except ValueError:
    alpha = np.asarray(expected.alpha)
    assert not np.isfinite(alpha) or alpha == 0
    return
  for name, value in expected._asdict().items():
    ours = np.asarray(getattr(found, name))
    assert ours.dtype == value.dtype
    # A p-value moves with the exponential of a square.
    rtol, atol = (0.02, 1e-30) if name == 'p_value' else (_RTOL, 0)
    np.testing.assert_allclose(ours, value, rtol, atol, err_msg=name)


@pytest.mark.parametrize('sample', SAMPLES)
def test_stable_fits(sample):
  found = T.stable_mle(SAMPLES[sample])
  expected = _on_device(T.stable_mle, SAMPLES[sample])
  # The device's scores are in float32, good to 1e-6, which is 2e-5 of the
  # standard error of a mean of 600; steps below 1e-3 of one end the search.
  atol = 1e-3 * np.nan_to_num(expected.standard_error)
  np.testing.assert_allclose(found.alpha, expected.alpha, 0, atol)
  for name, value in expected._asdict().items():
    ours = np.asarray(getattr(found, name))
    assert ours.dtype == value.dtype
    np.testing.assert_allclose(ours, value, 1e-3, err_msg=name)


# What depends on the unit: the device takes subnormal numbers for zero.
IN_UNITS = ('stable_rank', 'norms', 'median')


@pytest.mark.parametrize(
  ('measure', 'sample'),
  [
    (measure, sample)
    for measure in MEASURES
    for sample in SAMPLES
    if not (sample == 'subnormal' and measure in IN_UNITS)
  ],
)
def test_measures(measure, sample):
  x, call = SAMPLES[sample], MEASURES[measure]
  found, expected = np.asarray(call(x)), _on_device(call, x)
  assert found.dtype == expected.dtype
  np.testing.assert_allclose(found, expected, _RTOL)


@pytest.mark.parametrize('sample', ['heavy', 'ties'])
def test_what_is_taken_for_finite_is(sample):
  x = SAMPLES[sample].at[7].set(jnp.nan)
  for call in (MEASURES['error'], MEASURES['kappa'], MEASURES['ratio']):
    assert np.all(np.isnan(call(x)))
  assert bool(MEASURES['largest'](x)[7])
  with pytest.raises(ValueError, match='x must be finite'):
    T.mmo_univariate(x, 12)


def test_power_law_from_a_given_start():
  x = SAMPLES['heavy']
  found = T.power_law(x, 1.5)
  expected = jax.jit(T.power_law)(x, 1.5)
  for ours, value in zip(found, expected, strict=True):
    np.testing.assert_allclose(ours, value, 0.02 if ours < 1e-3 else _RTOL)


def test_p_value_is_that_of_the_same_draws():
  x, keys = SAMPLES['heavy'][:200], jax.random.key(3)
  call = functools.partial(T.power_law_p_value, num_draws=12)
  assert float(call(keys, x)) == pytest.approx(float(jax.jit(call)(keys, x)))


@pytest.mark.parametrize('num', [5, 1000, 5000])
def test_permutations_are_those_of_jax(num):
  key = jax.random.key(4)
  for i, order in enumerate(layers.permutations(key, num, 2)):
    expected = jax.random.permutation(jax.random.fold_in(key, i), num)
    np.testing.assert_array_equal(order, expected)
  other = jax.random.key(4, impl='rbg')
  (order,) = layers.permutations(other, num, 1)
  assert sorted(order) == list(range(num))


def test_who_is_on_the_host():
  x = jnp.ones(3)
  assert host.on_host(x, np.ones(3), 1.0, [1], None)
  jax.jit(lambda y: pytest.fail('traced') if host.on_host(y) else y)(x)


def test_many_shapes_need_few_programs():
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda name, *_, **__: (
      compiled.append(name)
      if name.endswith('backend_compile_duration')
      else None
    )
  )
  generator = np.random.default_rng(1)
  shapes = [(10 + i, 60 + i) for i in range(25)]
  params = {
    f'layer_{i}': generator.standard_normal(shape, np.float32)
    for i, shape in enumerate(shapes)
  }
  rows = T.layer_table(params, key=jax.random.key(0))
  # Rows are in the order of the names.
  assert {row['shape'] for row in rows} == {f'{a}x{b}' for a, b in shapes}
  assert len(compiled) <= 20


def test_to_cpu_leaves_an_accelerator(monkeypatch):
  far = jax.device_put(jnp.arange(3.0), jax.devices()[3])
  assert host.to_cpu({'x': far})['x'] is far
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  near = host.to_cpu({'x': far})['x']
  assert near.devices() == {jax.local_devices(backend='cpu')[0]}
  # Programs run where it lies.
  assert jax.jit(jnp.add)(near, jnp.ones(3)).devices() == near.devices()
