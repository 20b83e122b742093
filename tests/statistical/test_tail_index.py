"""Tail indices of known laws."""

import math

import jax
import numpy as np
import pytest
from scipy import stats

from htjax import stable
from htjax import tail_index as T
from statistical import seeds
from statistical.checks import (
  check_at_most,
  check_p_value,
  check_within,
  refused,
)


def _close(ours, expected, rtol=1e-5):
  np.testing.assert_allclose(np.float64(ours), expected, rtol=rtol)


def _pareto(seed, alpha, n, xmin=1.0):
  return xmin * (1 + seeds.generator(seed).pareto(alpha, n))


def _brute_search(x, candidates):
  best = (math.inf, None)
  for xmin in candidates:
    tail = x[x >= xmin]
    alpha = tail.size / np.log(tail / xmin).sum()
    law = stats.pareto(alpha, scale=xmin)
    best = min(best, (stats.kstest(tail, law.cdf).statistic, xmin))
  return best


def test_search_on_large_samples_is_near_the_best():
  rng = seeds.generator(6)
  x = np.concatenate([rng.uniform(0, 1, 8000), _pareto(7, 1.5, 4000)])
  with jax.enable_x64(True):
    ours = T.power_law(x)
  tail = x[x >= float(ours.scale)]
  law = stats.pareto(float(ours.alpha), scale=float(ours.scale))
  distance = stats.kstest(tail, law.cdf).statistic
  _close(ours.ks_distance, distance, 1e-6)
  # What the tail's share can do within 1/2048 of the tail.
  wiggle = math.sqrt(1 / 2048 / tail.size)
  candidates = np.sort(x)[::-1][
    np.unique(np.geomspace(10, 12000, 60)).astype(int) - 1
  ]
  best, _ = _brute_search(x, candidates)
  check_within(max(distance, best), best, wiggle)
  # A start that is not searched for, in the body.
  body = T.power_law(x, 0.5).ks_distance
  refused(check_within, max(body, best), best, wiggle)


def test_p_value_tells_power_laws_from_others():
  right, flat = 0, 0
  for i in range(20):
    body = seeds.generator(800 + i).uniform(0, 1, 150)
    x = np.concatenate([body, _pareto(900 + i, 1.5, 150)])
    right += T.power_law_p_value(seeds.key(100 + i), x, 49) <= 0.1
    # No power law from 1 on.
    key, x = seeds.key(150 + i), 1 + body
    flat += T.power_law_p_value(key, x, 49, xmin=1.0) <= 0.1
  # Under the law the p-value is uniform, up to what the search adds.
  check_at_most(right, 20, 0.15)
  refused(check_at_most, flat, 20, 0.15)
  light = seeds.generator(10).exponential(1, 6000) + 5
  fixed = T.power_law_p_value(seeds.key(2), light, 99, xmin=5.0)
  assert fixed == pytest.approx(0.01)


def test_ratios_favour_power_laws_where_they_are():
  x = _pareto(13, 3.0, 10_000)
  ours = T.power_law_against(x, 'exponential', xmin=1.0)
  assert ours.log_ratio > 0
  assert ours.p_value < 1e-3
  # Heavier than a power law in its logarithms: the best lognormal is the limit.
  heavy = np.exp(seeds.generator(14).pareto(2.5, 1000))
  ours = T.power_law_against(heavy, 'lognormal', xmin=1.0)
  assert (ours.log_ratio, ours.p_value) == (0, 1)


@pytest.mark.parametrize(
  ('law', 'alpha'), [(stats.cauchy(), 1.0), (stats.norm(scale=2**0.5), 2.0)]
)
def test_stable_fit_of_closed_forms(law, alpha):
  n = 4000
  x = 3 * law.rvs(n, random_state=seeds.generator(16))
  ours = T.stable_mle(x)
  if ours.alpha < 2:
    check_within(ours.alpha, alpha, ours.standard_error)
  refused(check_within, ours.alpha, 1.5, ours.standard_error)
  if ours.alpha == 2:
    # The likelihood is largest at the bound, where it is the normal one; the
    # shares between nodes add h^2 / 8 of the second derivative.
    _close(ours.scale, math.sqrt(np.mean(x**2) / 2), 1e-3)
    check_within(ours.scale, 3.0, 3.0 / math.sqrt(2 * n))
  fitted = stable.cdf(np.abs(x), float(ours.alpha), scale=float(ours.scale))
  exact = stats.kstest(2.0 * np.asarray(fitted) - 1.0, 'uniform').statistic
  # Between two of 256 nodes the sample may stray from the law by so much.
  check_within(ours.ks_distance, exact, math.sqrt(1 / 256 / n))
  check_p_value(ours.p_value)


@pytest.mark.parametrize('alpha', [0.6, 1.3, 1.9])
def test_binning_error_is_far_below_the_standard_error(alpha):
  x = stable.sample(seeds.key(3), alpha, (5000,))
  coarse, fine = T.stable_mle(x), T.stable_mle(x, num_nodes=2048)
  assert abs(coarse.alpha - fine.alpha) < 0.1 * fine.standard_error
  _close(coarse.standard_error, fine.standard_error, 0.05)


def test_stable_fit_says_when_it_is_poor():
  x = seeds.generator(17).uniform(-1, 1, 6000)
  ours = T.stable_mle(x)
  assert ours.alpha == 2
  refused(check_p_value, ours.p_value)
  gaussian = seeds.generator(18).standard_normal(3000)
  check_p_value(T.stable_mle(gaussian).p_value)


def test_gaussian_weights_have_no_tail_below_1_9():
  x = jax.random.normal(seeds.key(4), (256, 256))
  # Sums of Gaussians are what these are made for.
  for estimate in (
    T.mmo(x, 16),
    T.mmo_univariate(x, 16),
    T.layer_protocol(seeds.key(5), x),
  ):
    check_within(estimate.alpha, 2.0, estimate.standard_error, freedom=15)
    refused(
      check_within, estimate.alpha, 1.5, estimate.standard_error, freedom=15
    )
  # The likelihood leaves 2 only for what lies far out, and not by much.
  assert T.stable_mle(x[:64, :64]).alpha > 1.9
  # The others see a tail that gets steeper without end.
  assert T.hill(x, 100).alpha > 4
  assert T.power_law(x).alpha > 4
  # Negative here: the moment estimate is of 1 / alpha, which is 0.
  assert 1 / T.moment(x, 100).alpha < 1 / 1.9


def test_mmo_needs_centred_vectors():
  x = 1 + stable.sample(seeds.key(6), 1.8, (4096, 16))
  shifted = T.mmo(x, 16)
  centred = T.mmo(T.layer_samples(x, 'inputs'), 16)
  check_within(centred.alpha, 1.8, centred.standard_error, freedom=255)
  refused(check_within, shifted.alpha, 1.8, shifted.standard_error, freedom=255)


def test_stability_test_refuses_other_laws():
  heavy = seeds.generator(19).standard_t(1.8, (60000, 10))
  refused(check_p_value, T.mmo(heavy, 16).p_value)
  law = stable.sample(seeds.key(7), 1.8, (60000, 10))
  check_p_value(T.mmo(law, 16).p_value)
