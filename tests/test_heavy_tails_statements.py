"""Statements on heavy-tailed layers: tails, limits, homogeneity, tables."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from htjax import compressibility, laws, pruning, stable, tail_index
from htjax.bounds import heavy_tails


def test_element_bound_covers_the_tail():
  for alpha in (1.1, 1.5, 1.9):
    sigma = 2.0 / heavy_tails.normalized_scale(alpha)
    level = 4 * sigma / (2 - alpha)
    for times in (1, 10, 1000):
      for variant in ('corrected', 'paper'):
        bound = heavy_tails.element_tail(
          times * level, alpha=alpha, scale=2.0, variant=variant
        )
        assert bound.valid
        assert bound.details['log_exact'] < bound.log_value
    # Far out the tail is (2 / alpha) (sigma / a)^alpha.
    exact = math.log(2 / alpha) + alpha * math.log(sigma / 1e8 / level)
    far = heavy_tails.element_tail(1e8 * level, alpha=alpha, scale=2.0)
    assert far.details['log_exact'] == pytest.approx(exact, abs=1e-4)
    near = heavy_tails.element_tail(0.9 * level, alpha=alpha, scale=2.0)
    assert not near.valid


def test_sharp_norm_quantile():
  """The largest of independent weights, by its own distribution function."""
  sizes, alphas, scales = [300, 700], [1.2, 1.7], [0.5, 2.0]
  radius = heavy_tails.sharp_norm_quantile(
    0.02, alphas=alphas, scales=scales, layer_sizes=sizes
  )
  inside = 1.0
  for d, a, s in zip(sizes, alphas, scales, strict=True):
    inside *= (1 - 2 * float(laws.skewed.sf(radius, a, beta=0.0, scale=s))) ** d
  assert 1 - inside == pytest.approx(0.02, rel=1e-6)
  assert (
    radius
    < heavy_tails.stable_norm_quantile(
      0.02, alphas=alphas, scales=scales, layer_sizes=sizes
    ).value
  )


@pytest.mark.parametrize('half', [False, True])
def test_bounds_on_factorials(half):
  for a in (1, 2, 10, 10**6):
    low, high = heavy_tails.log_factorial_bounds(a, half=half)
    exact = special.gammaln(a + (0.5 if half else 1.0))
    slack = 1e-14 * abs(exact)
    assert low - slack < exact < high + slack
    assert high - low < 0.02 / a


def test_compression_failure_from_runs():
  errors = np.full((40, 3), 0.1)
  errors[:4, 1] = 0.5
  rate = heavy_tails.compression_failure(errors, 0.2, delta=0.1)
  assert (rate.share, rate.failures, rate.runs) == (0.1, 4, 40)
  exact = stats.binomtest(4, 40).proportion_ci(0.8, 'exact').high
  assert rate.upper == pytest.approx(exact, rel=1e-9)
  none = heavy_tails.compression_failure(errors, 0.6)
  assert none.upper == pytest.approx(1 - 0.05 ** (1 / 40))


def test_risk_table_has_the_terms_of_each_statement():
  rng = np.random.default_rng(0)
  layers = [rng.standard_normal((30, 20)), rng.standard_normal((20, 5))]
  small = [np.where(np.abs(w) > 1, w, 0) for w in layers]
  margins = rng.uniform(0, 100, 20_000)
  rows = heavy_tails.risk_table(
    margins,
    layers,
    small,
    radius=25.0,
    tau=2.0,
    delta=0.05,
    input_norm=1.0,
    compression_failure=0.01,
    alphas=1.8,
    scales=1.0,
  )
  names = [row['statement'] for row in rows]
  assert names[0] == 'Theorem 4'
  assert names[-1] == 'Corollary S2'
  kept = sum(np.count_nonzero(w) for w in small) / 700
  for row in rows:
    assert row['kappa'] == pytest.approx(kept)
    parts = ('empirical', 'lipschitz', 'dimension', 'complexity')
    terms = [row[f'log_{t}'] for t in parts]
    total = np.logaddexp.reduce([t for t in terms if not math.isnan(t)])
    assert row['log_value'] == pytest.approx(total)
  # The square root of d in Theorem 4, by hand.
  kappa = rows[0]['kappa']
  entropy = -kappa * math.log(kappa) - (1 - kappa) * math.log(1 - kappa)
  excess = (2 * entropy - kappa * math.log(kappa)) / math.log(20_000)
  rate = math.sqrt((kappa + excess) * math.log(20_000) / 20_000)
  assert rows[0]['log_dimension'] == pytest.approx(
    math.log(math.sqrt(700) * rate)
  )


def test_heavier_tails_err_less_within_a_family():
  for kappa, p in itertools.product((0.05, 0.5), (0.5, 1.0)):
    errors = [
      compressibility.pareto_limit(kappa, a, p=p) for a in (1.1, 1.5, 2.5)
    ]
    assert errors == sorted(errors)
  # And in general they do not.
  rare = compressibility.diluted_pareto_limit(0.3, 1.5, weight=1e-4)
  light = compressibility.stable_limit(0.3, 1.9)
  assert rare == pytest.approx(0.7, abs=5e-4)
  assert light == pytest.approx(0.395, abs=1e-3)


@pytest.mark.parametrize('weight', [1.0, 0.2])
def test_limits_by_many_quantiles(weight):
  n = 400_000
  u = (np.arange(n) + 0.5) / n
  x = np.where(u < 1 - weight, 1.0, ((1 - u) / weight) ** (-1 / 3.5))
  with jax.enable_x64(True):
    for kappa in (0.1, 0.4):
      exact = float(compressibility.compression_error(x, kappa, p=1.5))
      limit = compressibility.diluted_pareto_limit(
        kappa, 3.5, weight=weight, p=1.5
      )
      assert limit == pytest.approx(exact, rel=1e-3)


def test_error_rates():
  assert compressibility.error_rate(1.5) == pytest.approx(-1 / 6)
  assert compressibility.error_rate(2.5) == 0


@pytest.mark.parametrize('scope', ['layer', 'global'])
def test_networks_are_pruned_as_layers_are(scope):
  """One draw again, through the kernels of pruning."""
  found = compressibility.network_errors(
    jax.random.key(3),
    [1.3, 1.8],
    [300, 200],
    0.1,
    scales=[1.0, 0.3],
    scope=scope,
    num_draws=1,
  )
  keys = jax.random.split(jax.random.split(jax.random.key(3), 1)[0])
  params = {
    'a': stable.sample(keys[0], 1.3, (300,))[:, None],
    'b': 0.3 * stable.sample(keys[1], 1.8, (200,))[:, None],
  }
  pruned = pruning.magnitude(params, 0.1, scope=scope)
  errors = heavy_tails.relative_errors(
    list(params.values()), list(pruned.params.values())
  )
  np.testing.assert_allclose(found.layers[0], errors, rtol=1e-4)
  joined = [np.concatenate(list(t.values())) for t in (params, pruned.params)]
  whole = heavy_tails.relative_errors([joined[0]], [joined[1]])
  np.testing.assert_allclose(found.whole[0], whole[0], rtol=1e-4)


def test_global_pruning_is_the_best_of_all():
  """With one law and key, no layer-wise choice of as many errs less."""
  whole = {
    scope: compressibility.network_errors(
      jax.random.key(5), [1.5, 1.5], [300, 200], 0.1, scope=scope, num_draws=5
    ).whole
    for scope in ('layer', 'global')
  }
  assert np.all(whole['global'] <= whole['layer'])


def test_layers_are_pruned_by_their_own_amounts():
  key = jax.random.key(1)
  leaves = jax.random.normal(key, (2, 6, 8))
  params = {'a': leaves[0], 'b': {'c': leaves[1]}, 'd': jnp.ones(3)}
  both = pruning.per_layer(pruning.columns, params, {'a': 0.25, 'b.c': 0.75})
  single = pruning.columns({'w': leaves[1]}, 0.75)
  np.testing.assert_array_equal(both.params['b']['c'], single.params['w'])
  np.testing.assert_array_equal(both.mask['b']['c'], single.mask['w'])
  assert (int(both.kept), int(both.total)) == (6 * (2 + 6), 96)
  assert bool(both.mask['d'].all())
  reached = pruning.per_layer(
    functools.partial(pruning.to_error, method='magnitude'),
    params,
    {'a': 0.5, 'b.c': 0.1},
  )
  errors = heavy_tails.relative_errors(
    list(leaves), [reached.params['a'], reached.params['b']['c']]
  )
  assert 0.3 < errors[0] <= 0.5
  assert 0.02 < errors[1] <= 0.1
  with pytest.raises(ValueError, match='amounts must name leaves'):
    pruning.per_layer(pruning.columns, params, {'e': 0.5})
  with pytest.raises(ValueError, match='global'):
    pruning.per_layer(pruning.magnitude, params, {'a': 0.5}, scope='global')


def test_autoregression_recursion():
  key = jax.random.key(2)
  z = stable.sample(key, 1.5, (50,))
  x = np.asarray(stable.autoregression(jax.random.key(2), 1.5, -0.6, 50))
  rest = (1 - 0.6**1.5) ** (1 / 1.5)
  np.testing.assert_allclose(
    x[1:], -0.6 * x[:-1] + rest * np.asarray(z[1:]), rtol=1e-4, atol=1e-5
  )
  assert x[0] == z[0]


def test_dependence_by_hand():
  """One-way analysis of variance, and a layer of columns of one size each."""
  rng = np.random.default_rng(5)
  w = np.exp(rng.standard_normal((12, 9)))
  keys = jax.random.split(jax.random.key(4), 3)
  found = tail_index.magnitude_dependence(keys[0], w, num_permutations=9)
  logs = np.log(w)
  between = 9 * np.var(logs.mean(axis=1), ddof=1)
  within = np.mean(np.var(logs, axis=1, ddof=1))
  component = (between - within) / 9
  assert found['rows'].share == pytest.approx(
    component / (component + within), rel=1e-3
  )
  sizes = np.repeat(np.arange(1.0, 10.0)[None], 12, axis=0)
  found = tail_index.magnitude_dependence(keys[1], sizes, num_permutations=19)
  assert found['columns'].share == pytest.approx(1, abs=1e-5)
  assert found['columns'].p_value == 0.05
  apart = tail_index.halves(keys[2], sizes, split='columns')
  assert apart.distance > 0.1
