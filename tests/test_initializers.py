"""Laws of initial column scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from htjax import initializers, stable, units


def _sizes(law, num=4000, **options):
  params = {'w': jnp.full((2, num), 2.0)}
  new = initializers.scale_units(jax.random.key(1), params, law, **options)
  np.testing.assert_array_equal(new['w'][0], new['w'][1])
  return np.float64(new['w'][0]) / 2


def _stable_cdf(x):
  return 2 * np.float64(stable.cdf(jnp.asarray(x, jnp.float32), 1.5)) - 1


LAWS = {
  'stable': ({'alpha': 1.5}, _stable_cdf),
  'half_normal': ({}, stats.halfnorm.cdf),
  'pareto': ({'alpha': 1.5}, stats.pareto(1.5).cdf),
}


@pytest.mark.parametrize('law', initializers.LAWS)
def test_laws(law):
  options, cdf = LAWS[law]
  sizes = _sizes(law, scale=0.3, **options) / 0.3
  assert stats.kstest(sizes, cdf).pvalue > 1e-6
  # A size larger by a third is told from it.
  assert stats.kstest(1.3 * sizes, cdf).pvalue < 1e-6


def test_units_get_one_size_each():
  params = {
    'query': {'kernel': jnp.ones((6, 2, 4)), 'bias': jnp.ones((2, 4))},
    'conv': {'kernel': jnp.ones((3, 3, 2, 5), jnp.bfloat16)},
  }

  def scaled(**options):
    return initializers.scale_units(
      jax.random.key(2), params, 'half_normal', **options
    )

  new = scaled()
  assert len(np.unique(new['query']['kernel'])) == 8
  np.testing.assert_array_equal(new['query']['bias'], 1)
  assert new['conv']['kernel'].dtype == jnp.bfloat16
  assert np.ptp(np.float32(new['conv']['kernel']), axis=(0, 1, 2)).max() == 0
  by_kernel = np.float32(scaled(unit='kernel')['conv']['kernel'])
  assert (
    np.ptp(by_kernel, axis=(0, 1)).max() == 0 < np.ptp(by_kernel, axis=2).min()
  )
  given = {'w': units.Leaf('dense', units=(0,), inputs=(1,))}
  rows = initializers.scale_units(
    jax.random.key(3), {'w': jnp.ones((3, 4))}, 'half_normal', units=given
  )['w']
  assert np.ptp(rows, axis=1).max() == 0
  assert len(np.unique(rows)) == 3


@pytest.mark.parametrize(
  ('law', 'options', 'message'),
  [
    ('normal', {}, 'law must be one of'),
    ('stable', {}, 'alpha must be given with law stable'),
    ('stable', {'alpha': 2.5}, 'alpha must lie in'),
    ('pareto', {'alpha': 0.0}, 'alpha must lie in'),
    ('half_normal', {'alpha': 1.0}, 'alpha must be None'),
    ('half_normal', {'scale': -1.0}, 'scale must lie in'),
  ],
)
def test_bad_calls(law, options, message):
  with pytest.raises(ValueError, match=message):
    _sizes(law, **options)
