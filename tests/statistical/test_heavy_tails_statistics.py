"""Statistics of the heavy-tails experiment."""

import math

import numpy as np
import pytest
from scipy import stats

from experiments.heavy_tails_sgd import limits
from htjax import compressibility, stable
from statistical import seeds
from statistical.checks import check_count, check_mean, refused


def test_median_interval_covers():
  """The share of intervals that hold the median, against the binomial law."""
  generator = seeds.generator(1)
  num = 40
  held = 0
  for _ in range(2000):
    _, low, high = limits.median_interval(generator.standard_cauchy(num))
    held += low <= 0 <= high
  reach = math.ceil(1.5 * math.sqrt(num))
  # As many as num // 2 - reach + 1 on either side make it miss.
  miss = 2 * stats.binom.cdf(num // 2 - reach, num, 0.5)
  check_count(held, 2000, 1 - miss)
  refused(check_count, held, 2000, 1 - 20 * miss)


@pytest.mark.parametrize('alpha', [1.4, 1.8])
def test_stable_limit_against_draws(alpha):
  """A ratio of means truncated at the quantile, which keeps a variance."""
  kappa, num = 0.3, 10**6
  x = np.abs(np.asarray(stable.sample(seeds.key(3), alpha, (num,))))
  q = float(stable.quantile(1 - kappa / 2, alpha))
  inside = np.where(x <= q, x, 0).astype(np.float64)
  mean = 2 * math.gamma(1 - 1 / alpha) / math.pi
  inside = inside / mean
  ours = compressibility.stable_limit(kappa, alpha)
  check_mean(inside, ours, inside.var())
  # A neighbour is told apart.
  refused(check_mean, inside, ours * 1.01, inside.var())
