"""Random kernels of pruning against their laws."""

import jax
import numpy as np
import pytest
from test_pruning_units import _draw

from htjax import pruning
from statistical import seeds
from statistical.checks import (
  check_count,
  check_mean,
  refused,
)


def _normal(*shape, number=0, scale=1.0):
  rng = seeds.generator(number)
  return (scale * rng.normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize('strength', [0.1, 1.0, 10.0])
@pytest.mark.parametrize('shape', [(300, 400), (3, 3, 60, 100)])
def test_entries_go_with_their_probability(strength, shape):
  leaf = _normal(*shape, scale=0.01)
  pruned = pruning.randomized_magnitude(seeds.key(1), {'w': leaf}, strength)
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
  wrong = np.exp(-(matrix**2) / (0.8 * strength * np.mean(matrix**2)))
  refused(check_mean, (~kept - wrong)[off], 0.0, spread**2)
  np.testing.assert_array_equal(
    pruned.params['w'], np.where(pruned.mask['w'], leaf, 0)
  )
  assert pruned.kept == kept.sum()


@pytest.mark.parametrize('strength', [0.1, 1.0, 10.0, 58.504])
def test_kept_share_and_moments_of_normal_weights(strength):
  size = 400_000
  leaf = _normal(1000, 400, number=3, scale=2.0)
  pruned = pruning.randomized_magnitude(
    seeds.key(2), {'w': leaf}, strength, keep_diagonal=False
  )
  share = float(pruning.keep_probability(strength))
  check_count(pruned.kept, size, share)
  refused(check_count, pruned.kept, size, 1.15 * share)
  # The lemma's moments of what is removed: variance 4, d / (d + 2) to 3/2.
  delta = np.float64(leaf) - np.float64(pruned.params['w'])
  ratio = strength / (strength + 2)
  second, fourth = 4 * ratio**1.5, 3 * 16 * ratio**2.5
  check_mean(delta, 0.0, second)
  check_mean(delta**2, second, fourth - second**2)


def test_random_columns_are_uniform_and_exact():
  leaf = np.ones((2, 6), np.float32)
  keys = jax.random.split(seeds.key(5), 10_000)
  masks = jax.vmap(
    lambda key: pruning.random_columns(key, {'w': leaf}, 0.5).mask['w']
  )(keys)
  columns = np.asarray(masks)[:, 0]
  np.testing.assert_array_equal(columns.sum(axis=1), 3)
  np.testing.assert_array_equal(masks[:, 0], masks[:, 1])
  for j in range(6):
    check_count(columns[:, j].sum(), 10_000, 0.5)
  # A pair is kept in 4 of 20 sets.
  check_count((columns[:, 0] & columns[:, 1]).sum(), 10_000, 0.2)
  refused(check_count, (columns[:, 0] & columns[:, 1]).sum(), 10_000, 0.25)


def _replaced(variant, leaf, **options):
  return pruning.gaussian_replacement(
    seeds.key(0), {'w': leaf}, variant=variant, **options
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
  refused(
    check_mean, (noise - mean) ** 2, 1.05 * deviation**2, 2 * deviation**4
  )
  # The mean and the deviation are stored as well.
  assert pruned.kept == mask.sum() + 2


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
  refused(check_mean, noise[close] ** 2, 0.26, 2 * 0.26**2)
  assert pruned.kept == mask.sum() + 1
