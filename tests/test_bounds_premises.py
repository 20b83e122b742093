"""Premises that can be looked at, and pieces that the bounds are made of."""

import math

import jax
import numpy as np
import pytest

from htjax import stable
from htjax.bounds import (
  Assumption,
  baselines,
  gaussian_compression,
  magnitude_sketching,
  make_bound,
  margin_grid,
  weight_laws,
)

MARGINS = np.linspace(0.1, 20, 2000)


def names(bound):
  return [a.name for a in bound.assumptions]


def forward(layers, x):
  for w in layers[:-1]:
    x = np.maximum(x @ np.asarray(w, np.float64), 0)
  return x @ np.asarray(layers[-1], np.float64)


def test_rebalanced_layers_compute_the_same():
  rng = np.random.default_rng(0)
  layers = [3 * rng.normal(size=(6, 5)), rng.normal(size=(5, 4)) / 9]
  same = gaussian_compression.rebalance(layers)
  sizes = [np.linalg.norm(w) for w in same]
  assert sizes[0] == pytest.approx(sizes[1])
  x = rng.normal(size=(7, 6))
  np.testing.assert_allclose(forward(same, x), forward(layers, x))
  huge = gaussian_compression.rebalance([1e300 * np.eye(2), np.eye(2) / 1e300])
  np.testing.assert_allclose(huge[0], np.eye(2))


@pytest.mark.parametrize('variant', ['corrected', 'paper'])
def test_brackets_add_up(variant):
  rng = np.random.default_rng(1)
  w = rng.standard_t(1.5, size=(30, 20)) * 2
  parts = gaussian_compression.power_brackets(
    w, base=1.3, top=5, variant=variant
  )
  assert parts.brackets.shape == (6, 30, 20)
  total = parts.brackets.sum(axis=0) + parts.large + parts.small
  np.testing.assert_array_equal(total, w)
  third = parts.brackets[3]
  inside = np.abs(third[third != 0])
  assert inside.min() > 1.3**3
  assert inside.max() <= 1.3**4
  assert (parts.large.min() < 0) == (variant == 'corrected')


def test_subnetwork_imitates_its_target():
  rng = np.random.default_rng(2)
  target = [rng.uniform(-0.5, 0.5, (4, 6)), rng.uniform(-0.5, 0.5, (6, 3))]
  found = magnitude_sketching.lottery_subnetwork(
    jax.random.key(0), target, num_candidates=400
  )
  assert len(found.weights) == 4
  # Of 400 candidates, half of a sign, the closest product is within 1/20.
  assert found.errors.max() < 0.05
  assert found.active <= 4 * (24 + 18)
  x = rng.normal(size=(50, 4))
  # Layer by layer: |W x - W' x| <= error |x|_1, and ReLU adds nothing.
  first = np.maximum(x @ target[0], 0)
  size = found.errors[0] * np.abs(x).sum(axis=1, keepdims=True)
  second = size * np.abs(target[1]).sum(axis=0)[None]
  hidden = (np.abs(first) + size).sum(axis=1, keepdims=True)
  limit = second + found.errors[1] * hidden
  difference = np.abs(forward(found.layers, x) - forward(target, x))
  assert np.all(difference <= limit + 1e-5)
  assert np.any(difference > 1e-3 * limit)


def test_norm_of_what_is_pruned():
  """Against Algorithm 1 itself: at strength 1, and a control by half."""
  rng = np.random.default_rng(3)
  bound = magnitude_sketching.pruning_error_tail(
    (60, 40), variance=2.0, strength=1.0, delta=1e-3
  )
  a = rng.normal(scale=math.sqrt(2), size=(200, 60, 40))
  gone = rng.random(a.shape) < np.exp(-(a**2) / 2.0)
  norms = np.linalg.norm(np.where(gone, a, 0), 2, axis=(1, 2))
  assert norms.max() < bound.value
  assert norms.min() > bound.value / 2
  markov = magnitude_sketching.pruning_error(
    (60, 40), variance=2.0, strength=1.0, multiplier=1000.0
  )
  assert markov.failure == bound.failure
  assert bound.value < markov.value / 100


def test_size_of_a_sketch_of_filters():
  """With one layer of full filters it is the matrix' own sketch."""
  size = magnitude_sketching.filter_sketch_dimension(
    in_channels=9, out_channels=17, side=4, exponent=0.0
  )
  # One filter of 17 goes: 16 are left.
  assert size == pytest.approx(16 * math.sqrt(16 * 9) * math.log(16 * 17))


def test_premises_of_the_error_are_those_of_the_risk():
  shapes = [(50, 40), (40, 10)]
  changes = [
    magnitude_sketching.pruning_error(s, variance=0.1, strength=0.01).value
    for s in shapes
  ]
  common = {'input_norm': 1.0}
  assumed = magnitude_sketching.pruned_output_error(
    [5.0, 5.0], changes, multipliers=3.0, **common
  )
  measured = magnitude_sketching.pruned_output_error(
    [5.0, 5.0], changes, multipliers=None, **common
  )
  assert {'Gaussian weights', 'constant'} <= set(names(assumed))
  assert 'Gaussian weights' not in names(measured)
  for error in (assumed, measured):
    options = {
      'gamma': 1.0,
      'output_error': error,
      'shapes': shapes,
      'num_values': 16,
    }
    naive = magnitude_sketching.naive_risk(
      MARGINS, nonzeros=[5, 5], delta=0.1, **options
    )
    assert ('Gaussian weights' in names(naive)) == (error is assumed)
    sketched = magnitude_sketching.sketched_risk(MARGINS, kept=0.5, **options)
    assert names(sketched).count('Gaussian weights') == 1


def test_laws_of_weights_can_be_refuted():
  rng = np.random.default_rng(4)
  gaussian = rng.normal(size=(40, 50))
  heavy = np.asarray(stable.sample(jax.random.key(1), 1.7, (40, 50)))
  trusted = weight_laws.gaussian_weights([gaussian, 7 * gaussian])
  assert trusted.holds is None
  refuted = weight_laws.gaussian_weights([gaussian, heavy])
  assert refuted.holds is False
  assert 'layer 1' in refuted.reason
  bound = magnitude_sketching.pruning_error(
    (40, 50), variance=1.0, strength=1.0, multiplier=2.0
  )
  again = weight_laws.with_premise(bound, refuted)
  assert bound.valid
  assert not again.valid
  assert sorted(names(again)) == sorted(names(bound))
  assert (again.log_value, again.failure) == (bound.log_value, bound.failure)
  assert weight_laws.heavy_tailed_weights([1.9, 2.2], 0.1).holds is None
  assert weight_laws.heavy_tailed_weights([1.9, 2.3], 0.1).holds is False


def test_best_of_several_margins():
  def at(gamma, delta):
    return baselines.neyshabur_2015(
      MARGINS,
      gamma=gamma,
      frobenius=[1.0, 1.0],
      input_norm=1.0,
      delta=delta,
    )

  gammas = [0.2, 1.0, 5.0]
  best = margin_grid.best_margin(at, gammas, delta=0.03)
  single = [at(g, 0.01) for g in gammas]
  assert best.bound.value == min(b.value for b in single)
  assert best.bound.failure == pytest.approx(0.03)
  assert best.price > 0
  assert 'of 3 margins' in next(
    a.reason for a in best.bound.assumptions if a.name == 'fixed margin'
  )


def test_invalid_margins_are_passed_over():
  def at(gamma, delta):
    premise = Assumption('margin', gamma > 1, 'it must exceed 1')
    return make_bound({'x': math.log(gamma)}, [premise], failure=delta)

  best = margin_grid.best_margin(at, [0.5, 2.0, 3.0], delta=0.3)
  assert best.gamma == 2
  assert margin_grid.best_margin(at, [0.5, 0.7], delta=0.3).gamma == 0.5
