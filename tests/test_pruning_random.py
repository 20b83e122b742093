"""Random kernels against their laws, and rounding to a grid."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stat_checks import check_count, check_mean
from test_pruning_units import _draw

from htjax import pruning


def _normal(*shape, seed=0, scale=1.0):
  rng = np.random.default_rng(seed)
  return (scale * rng.normal(size=shape)).astype(np.float32)


# Randomised magnitude.


@pytest.mark.parametrize('strength', [0.1, 1.0, 10.0])
@pytest.mark.parametrize('shape', [(300, 400), (3, 3, 60, 100)])
def test_entries_go_with_their_probability(strength, shape):
  leaf = _normal(*shape, scale=0.01)
  pruned = pruning.randomized_magnitude(
    jax.random.key(1), {'w': leaf}, strength
  )
  matrix = np.float64(leaf).reshape(-1, shape[-1])
  kept = np.asarray(pruned.mask['w']).reshape(matrix.shape)
  off = ~np.eye(*matrix.shape, dtype=bool)
  assert np.all(kept[~off])
  probability = np.exp(-(matrix**2) / (strength * np.mean(matrix**2)))
  # Given the weights, a sum of independent indicators.
  residual = (~kept - probability)[off]
  spread = np.sqrt(np.mean((probability * (1 - probability))[off]))
  check_mean(residual, 0.0, spread**2)
  # Bins of magnitude: the law of each entry, not of their sum alone.
  order = np.argsort(np.abs(matrix[off]))
  for part in np.array_split(order, 10):
    p = probability[off][part]
    check_mean((~kept)[off][part] - p, 0.0, np.mean(p * (1 - p)))
  wrong = np.exp(-(matrix**2) / (0.9 * strength * np.mean(matrix**2)))
  with pytest.raises(AssertionError, match='error='):
    check_mean((~kept - wrong)[off], 0.0, spread**2)
  np.testing.assert_array_equal(
    pruned.params['w'], np.where(pruned.mask['w'], leaf, 0)
  )
  assert pruned.kept == kept.sum()


@pytest.mark.parametrize('strength', [0.1, 1.0, 10.0, 58.504])
def test_kept_share_and_moments_of_normal_weights(strength):
  size = 400_000
  leaf = _normal(1000, 400, seed=3, scale=2.0)
  pruned = pruning.randomized_magnitude(
    jax.random.key(2), {'w': leaf}, strength, keep_diagonal=False
  )
  share = float(pruning.keep_probability(strength))
  check_count(pruned.kept, size, share)
  with pytest.raises(AssertionError):
    check_count(pruned.kept, size, min(1.1 * share, 1))
  # The lemma's moments of what is removed: variance 4, d / (d + 2) to 3/2.
  delta = np.float64(leaf) - np.float64(pruned.params['w'])
  ratio = strength / (strength + 2)
  second, fourth = 4 * ratio**1.5, 3 * 16 * ratio**2.5
  check_mean(delta, 0.0, second)
  check_mean(delta**2, second, fourth - second**2)


def test_published_probabilities():
  expected = {0.1: 0.782, 1.0: 0.423, 10.0: 0.0871, 58.5: 0.01667}
  for strength, share in expected.items():
    np.testing.assert_allclose(
      pruning.keep_probability(strength), share, rtol=1e-3
    )
  np.testing.assert_allclose(pruning.strength_for(1 / 60), 58.504, rtol=1e-5)
  kappas = jnp.array([1e-4, 0.01, 0.5, 0.99])
  np.testing.assert_allclose(
    pruning.keep_probability(pruning.strength_for(kappas)), kappas, rtol=1e-5
  )
  # 1 - sqrt(d / (d + 2)) in float32 would have no digits here.
  np.testing.assert_allclose(pruning.keep_probability(1e8), 1e-8, rtol=1e-6)
  assert np.isnan(jax.jit(pruning.keep_probability)(-1.0))
  assert np.isnan(jax.jit(pruning.strength_for)(1.0))


def test_randomized_masks_are_nested_and_reproducible():
  params = {'a': _normal(30, 40), 'b': _normal(40, 30)}
  key = jax.random.key(0)
  results = [
    pruning.randomized_magnitude(key, params, d) for d in (0.1, 1.0, 10.0)
  ]
  for more, less in itertools.pairwise(results):
    for a, b in zip(
      jax.tree.leaves(more.mask), jax.tree.leaves(less.mask), strict=True
    ):
      assert not np.any(b & ~a)
  chex.assert_trees_all_equal(
    results[1], pruning.randomized_magnitude(key, params, 1.0)
  )
  # Leaves of equal weights have draws of their own, and so do other keys.
  same = {
    'a': np.ones((30, 40), np.float32),
    'b': np.ones((30, 40), np.float32),
  }
  pruned = pruning.randomized_magnitude(key, same, 1.0)
  assert np.any(pruned.mask['a'] != pruned.mask['b'])
  other = pruning.randomized_magnitude(jax.random.key(1), same, 1.0)
  assert np.any(pruned.mask['a'] != other.mask['a'])


@pytest.mark.parametrize('scale', [1e-25, 1e25])
def test_randomized_magnitude_does_not_know_the_scale(scale):
  leaf = _draw(50, 60)
  key = jax.random.key(0)
  plain = pruning.randomized_magnitude(key, {'w': leaf}, 1.0)
  scaled = pruning.randomized_magnitude(
    key, {'w': leaf * np.float32(scale)}, 1.0
  )
  # The same draws; a threshold may fall between two roundings.
  assert np.sum(plain.mask['w'] != scaled.mask['w']) <= 1


def test_zeros_go_surely():
  leaf = np.zeros((5, 6), np.float32)
  pruned = pruning.randomized_magnitude(jax.random.key(0), {'w': leaf}, 1.0)
  np.testing.assert_array_equal(pruned.mask['w'], np.eye(5, 6, dtype=bool))


# Random columns.


def test_random_columns_are_uniform_and_exact():
  leaf = np.ones((2, 6), np.float32)
  keys = jax.random.split(jax.random.key(5), 3000)
  masks = jax.vmap(
    lambda key: pruning.random_columns(key, {'w': leaf}, 0.5).mask['w']
  )(keys)
  columns = np.asarray(masks)[:, 0]
  np.testing.assert_array_equal(columns.sum(axis=1), 3)
  np.testing.assert_array_equal(masks[:, 0], masks[:, 1])
  for j in range(6):
    check_count(columns[:, j].sum(), 3000, 0.5)
  # A pair is kept in 4 of 20 sets.
  check_count((columns[:, 0] & columns[:, 1]).sum(), 3000, 0.2)
  with pytest.raises(AssertionError):
    check_count((columns[:, 0] & columns[:, 1]).sum(), 3000, 0.25)


def test_random_columns_are_nested():
  params = {'conv': np.ones((3, 3, 2, 8)), 'w': np.ones((4, 10))}
  key = jax.random.key(0)
  few = pruning.random_columns(key, params, 0.3)
  many = pruning.random_columns(key, params, 0.7)
  for name in params:
    assert not np.any(few.mask[name] & ~many.mask[name])
  assert few.kept == 18 * 3 + 4 * 3
  assert few.removed == few.masked


# Gaussian replacement.


def _replaced(variant, leaf, seed=0, **options):
  return pruning.gaussian_replacement(
    jax.random.key(seed), {'w': leaf}, variant=variant, **options
  )


@pytest.mark.parametrize('variant', ['experiment', 'experiment_signed'])
def test_small_entries_become_normal(variant):
  leaf = _draw(600, 500) + np.float32(0.2)
  pruned = _replaced(variant, leaf)
  mean, deviation = leaf.mean(dtype=np.float64), leaf.std(dtype=np.float64)
  size = np.abs(leaf) if variant == 'experiment' else leaf
  mask = np.asarray(pruned.mask['w'])
  np.testing.assert_array_equal(mask, size > deviation)
  np.testing.assert_array_equal(pruned.params['w'][mask], leaf[mask])
  noise = np.float64(pruned.params['w'])[~mask]
  check_mean(noise, mean, deviation**2)
  check_mean((noise - mean) ** 2, deviation**2, 2 * deviation**4)
  check_mean(np.abs(noise - mean) < deviation, 0.6826895, 0.2166)
  with pytest.raises(AssertionError, match='error='):
    check_mean((noise - mean) ** 2, 1.05 * deviation**2, 2 * deviation**4)
  # The mean and the deviation are stored as well.
  assert pruned.kept == mask.sum() + 2


def test_signed_variant_replaces_every_negative_entry():
  leaf = _draw(100, 100)
  signed = np.asarray(_replaced('experiment_signed', leaf).mask['w'])
  assert not np.any(signed[leaf < 0])
  assert np.any(_replaced('experiment', leaf).mask['w'][leaf < 0])


def test_theory_adds_noise_everywhere():
  leaf = _draw(600, 500)
  pruned = _replaced('theory', leaf, threshold=3.0, variance=0.25)
  mask = np.asarray(pruned.mask['w'])
  np.testing.assert_array_equal(mask, np.abs(leaf) > 3)
  noise = np.float64(pruned.params['w']) - np.where(mask, np.float64(leaf), 0)
  # Beside a kept weight the noise is rounded: 2e-4 where weights reach 3000.
  close = np.abs(leaf) < 3000
  check_mean(noise[close], 0.0, 0.25)
  check_mean(noise[close] ** 2, 0.25, 2 * 0.25**2)
  near = mask & close
  check_mean(noise[near] ** 2, 0.25, 2 * 0.25**2)
  with pytest.raises(AssertionError, match='error='):
    check_mean(noise[close] ** 2, 0.26, 2 * 0.26**2)
  assert pruned.kept == mask.sum() + 1


def test_gaussian_replacement_at_its_ends():
  leaf = _draw(20, 30)
  whole = _replaced('experiment', leaf, threshold=0.0)
  np.testing.assert_array_equal(whole.params['w'], leaf)
  assert whole.kept == leaf.size
  silent = _replaced('theory', leaf, threshold=0.0, variance=0.0)
  np.testing.assert_array_equal(silent.params['w'], leaf)
  constant = np.full((4, 5), 7.0, np.float32)
  # Its deviation is 0, so that every entry is above it.
  np.testing.assert_array_equal(
    _replaced('experiment', constant).params['w'], constant
  )


def test_gaussian_replacement_is_traced_in_its_numbers():
  leaf = _draw(20, 30)
  traces = []

  @jax.jit
  def kernel(threshold, variance):
    traces.append(threshold)
    return _replaced('theory', leaf, threshold=threshold, variance=variance)

  for numbers in ((1.0, 0.5), (2.0, 0.1)):
    chex.assert_trees_all_close(
      kernel(*numbers),
      _replaced('theory', leaf, threshold=numbers[0], variance=numbers[1]),
      rtol=1e-6,
    )
  assert len(traces) == 1
  for bad in ((-1.0, 0.5), (1.0, -0.5), (jnp.nan, 0.5)):
    assert np.all(np.isnan(kernel(*bad).params['w']))


@pytest.mark.parametrize('scale', [1e-25, 1e25])
def test_moments_do_not_overflow(scale):
  leaf = _normal(50, 50) * np.float32(scale)
  mask = _replaced('experiment', leaf).mask['w']
  assert 0.2 < np.mean(mask) < 0.45


# Discretisation.


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.floats(1e-3, 10))
def test_entries_go_to_the_nearest_multiple(seed, resolution):
  resolution = float(np.float32(resolution))
  leaf = _draw(6, 7, seed=seed)
  pruned = pruning.discretize({'w': leaf}, resolution)
  rounded = np.float64(pruned.params['w'])
  multiples = rounded / resolution
  # One rounding of the product, one of the quotient.
  limit = 4 * np.finfo(np.float32).eps
  scale = np.maximum(np.abs(multiples), 1)
  assert np.all(np.abs(multiples - np.round(multiples)) <= limit * scale)
  moved = np.abs(rounded - np.float64(leaf))
  assert np.all(moved <= resolution * (0.5 + limit * scale))
  np.testing.assert_array_equal(pruned.mask['w'], rounded != 0)
  assert pruned.kept == np.sum(rounded != 0)
  # The bound of the lemma, and its sharper form.
  spectral = np.linalg.norm(rounded - leaf, 2)
  assert spectral <= resolution / 2 * np.sqrt(leaf.size) * 1.0001
  again = pruning.discretize(pruned.params, resolution)
  np.testing.assert_allclose(again.params['w'], pruned.params['w'], rtol=1e-6)


def test_zeros_stay_pruned_and_halves_go_to_even():
  leaf = np.float32([[0.0, 0.25, 0.75], [-0.25, 1.25, 0.0]])
  pruned = pruning.discretize({'w': leaf}, 0.5)
  np.testing.assert_array_equal(pruned.params['w'], [[0, 0, 1], [0, 1, 0]])
  assert pruned.kept == 2


def test_grids_finer_than_the_digits_change_nothing():
  leaf = np.float32([[1e30, -3.0], [7e-3, 0.0]])
  pruned = pruning.discretize({'w': leaf}, 1e-20)
  np.testing.assert_array_equal(pruned.params['w'], leaf)
  assert np.all(
    np.isnan(
      jax.jit(lambda r: pruning.discretize({'w': leaf}, r).params['w'])(0.0)
    )
  )


KEY = jax.random.key(0)
W = {'layer': np.ones((3, 4))}


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (
      lambda: pruning.randomized_magnitude(KEY, W, 0.0),
      r'strength must lie in \(0, inf\), got 0.0',
    ),
    (
      lambda: pruning.randomized_magnitude(KEY, W, np.ones(2)),
      'strength must be one number',
    ),
    (
      lambda: pruning.randomized_magnitude(0, W, 1.0),
      'key must be a typed key',
    ),
    (lambda: pruning.keep_probability(-1.0), 'strength must lie in'),
    (lambda: pruning.strength_for(1.0), r'kappa must lie in \(0, 1\)'),
    (lambda: pruning.random_columns(KEY, W, 0.0), 'kappa must lie in'),
    (lambda: pruning.random_columns(7, W, 0.5), 'key must be a typed key'),
    (
      lambda: pruning.gaussian_replacement(KEY, W, variant='signed'),
      "variant must be one of 'experiment', 'experiment_signed', 'theory'",
    ),
    (
      lambda: pruning.gaussian_replacement(KEY, W, variant='theory'),
      "variant 'theory' needs threshold, got None",
    ),
    (
      lambda: pruning.gaussian_replacement(
        KEY, W, variant='theory', threshold=1.0
      ),
      "variant 'theory' needs variance, got None",
    ),
    (
      lambda: pruning.gaussian_replacement(KEY, W, variance=1.0),
      "variance is for the variant theory, got 'experiment'",
    ),
    (
      lambda: pruning.gaussian_replacement(KEY, W, threshold=-1.0),
      r'threshold must lie in \[0, inf\)',
    ),
    (
      lambda: pruning.gaussian_replacement(None, W),
      'key must be a typed key',
    ),
    (
      lambda: pruning.discretize(W, 0.0),
      r'resolution must lie in \(0, inf\), got 0.0',
    ),
    (
      lambda: pruning.discretize(W, np.ones(3)),
      'resolution must be one number',
    ),
    (
      lambda: pruning.discretize({'layer': np.full((2, 2), np.inf)}, 0.1),
      'layer must be finite',
    ),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
