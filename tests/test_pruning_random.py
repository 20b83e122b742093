"""Random kernels against their laws, and rounding to a grid."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pruning_units import _draw

from htjax import pruning


def _normal(*shape, seed=0, scale=1.0):
  rng = np.random.default_rng(seed)
  return (scale * rng.normal(size=shape)).astype(np.float32)


# Randomised magnitude.


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


def test_signed_variant_replaces_every_negative_entry():
  leaf = _draw(100, 100)
  signed = np.asarray(_replaced('experiment_signed', leaf).mask['w'])
  assert not np.any(signed[leaf < 0])
  assert np.any(_replaced('experiment', leaf).mask['w'][leaf < 0])


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
