"""Expected curves and the law of invisible noise, by draws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from htjax import compressibility as C
from statistical import seeds
from statistical.checks import (
  Z,
  check_median,
  check_same_law,
  check_within,
  median_levels,
  refused,
)


def _uniform(key, fan_in, n):
  b = fan_in**-0.5
  return jax.random.uniform(key, (fan_in, n), minval=-b, maxval=b)


@pytest.mark.parametrize(
  ('fan_in', 'uniform', 'num_units'),
  [(140, 0.1144, 10_000), (784, 0.1057, 2_000), (3072, 0.1028, 2_000)],
)
def test_ratio_of_bare_initialisation(fan_in, uniform, num_units):
  """The published no-noise ratios are those of the initialisation itself."""
  keys = jax.random.split(seeds.key(fan_in), (2, 8))
  flat = [C.pruning_ratio(_uniform(k, fan_in, num_units)) for k in keys[0]]
  normal = [
    C.pruning_ratio(jax.random.normal(k, (fan_in, num_units))) for k in keys[1]
  ]
  limit = stats.chi2.cdf(stats.chi2.ppf(0.1, fan_in + 2), fan_in)
  # A count is cut to a multiple of 1/n; the quoted numbers to 1e-4.
  # Larger than either, so that eight numbers are not too few for Student's law.
  deviation = math.hypot(np.std(flat, ddof=1), np.std(normal, ddof=1))
  error = deviation / math.sqrt(len(flat))
  cut = 1 / num_units
  check_within(np.mean(flat), uniform, error, allowed=cut + 1e-4, freedom=14)
  check_within(np.mean(normal), limit, error, allowed=cut, freedom=14)
  # The two initialisations are told apart.
  refused(
    check_within, np.mean(flat), limit, error, allowed=cut + 1e-4, freedom=14
  )


def test_gaussian_limit_is_the_limit():
  """Proposition A.1: sums over draws against the closed form."""
  kappas = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
  known = [0.7488, 0.5257, 0.2671, 0.0914, 0.0229]
  limit = C.gaussian_limit(kappas)
  np.testing.assert_allclose(limit, known, atol=5.1e-5)
  keys = jax.random.split(seeds.key(17), 30)
  x = jax.vmap(lambda k: jax.random.normal(k, (10_000,)))(keys)
  errors = np.asarray(jax.lax.map(lambda v: C.compression_error(v, kappas), x))
  for i in range(5):
    mean, error = errors[:, i].mean(), stats.sem(errors[:, i])
    check_within(mean, limit[i], error, allowed=1e-4, freedom=29)
    # The limit for pairs instead of single entries.
    other = C.gaussian_limit(kappas[i], dim=2)
    refused(check_within, mean, other, error, allowed=1e-4, freedom=29)


def bracket(alpha, kappas, n, number, num_draws=200, p=2):
  """Between the two curves lies what the curve of medians tends to."""

  @jax.jit
  def curves(key, alpha, levels):
    # One set of draws for both levels.
    return jax.vmap(
      lambda level: C.stable_curve(
        alpha, kappas, n, key=key, level=level, num_draws=num_draws, p=p
      )
    )(levels)

  levels = jnp.asarray(median_levels(num_draws))
  return np.asarray(curves(seeds.key(number), alpha, levels), np.float64)


def check_between(curves, limits, allowed=0.0):
  """The limits lie between the two curves, or so little outside."""
  middle, reach = curves.mean(axis=0), np.ptp(curves, axis=0) / 2.0
  check_within(middle, limits, 0.0, allowed=reach + allowed)


def test_stable_curve_at_alpha_2_is_gaussian():
  kappas = np.array([0.1, 0.5, 0.9], np.float32)
  limits = np.asarray(C.gaussian_limit(kappas))
  # Order 1/n: the bias of a ratio and the cut to a count.
  cut = 1 / 5000
  check_between(bracket(2.0, kappas, 5000, 23), limits, cut)
  heavy = bracket(1.8, kappas, 5000, 24)
  for i in range(3):
    refused(check_between, heavy[:, i], limits[i], cut)


@pytest.mark.parametrize('kappa', [0.2, 0.6])
def test_stable_curve_below_alpha_tends_to_truncated_moment(kappa):
  """Cauchy entries, p = 0.3: E[|X|^p; |X| <= q] / E |X|^p by quadrature."""
  p, n = 0.3, 20_000
  q = math.tan(math.pi * (1 - kappa) / 2)
  below = integrate.quad(lambda x: x**p / (1 + x * x), 0, q)[0]
  limit = (below / (math.pi / 2 / math.cos(math.pi * p / 2))) ** (1 / p)
  check_between(bracket(1.0, kappa, n, 29, 100, p), limit)
  refused(check_between, bracket(1.5, kappa, n, 30, 100, p), limit)


def test_error_of_cauchy_entries_falls_like_root_n():
  """Lemma S2: slope 1/2 - 1/alpha of the median log error against log n."""

  def slopes(alpha, number):
    """The least and the largest that two intervals of medians admit."""
    near, far = (
      np.log(bracket(alpha, 0.5, n, number + i))
      for i, n in enumerate((1000, 30_000))
    )
    return (far - near[::-1]) / math.log(30)

  check_between(slopes(1.0, 31), -0.5)
  refused(check_between, slopes(2.0, 33), -0.5)


def _with_visible_noise(key, columns, scale, num_draws):
  """Ratios with Cauchy noise added to whole columns, entry by entry."""

  def ratio(key):
    z = jax.random.cauchy(key, (columns.shape[1],))
    return C.pruning_ratio(columns + scale * z[None, :])

  return jax.vmap(ratio)(jax.random.split(key, num_draws))


def test_invisible_noise_has_the_law_of_noise_added_to_columns():
  columns = _uniform(seeds.key(41), 20, 300)
  scale = 0.003
  brute = _with_visible_noise(seeds.key(42), columns, scale, 400)

  def ours(s, alpha):
    return C.invisible_noise_ratios(seeds.key(43), columns, s, alpha, 400)

  check_same_law(ours(scale, 1.0), brute)
  refused(check_same_law, ours(2 * scale, 1.0), brute)
  refused(check_same_law, ours(scale, 1.2), brute)


@pytest.mark.parametrize(
  ('alpha', 'sigma', 'quartiles'),
  [
    (1.75, 1.25, (0.484, 0.549, 0.653)),
    (1.8, 1.0, (0.371, 0.428, 0.502)),
    (1.9, 0.75, (0.255, 0.280, 0.314)),
  ],
)
def test_published_law_at_ten_thousand_units(alpha, sigma, quartiles):
  """ECG5000, n = 10K, step 1e-4, K = 40: quartiles of 1,000 reference draws."""
  columns = _uniform(seeds.key(53), 140, 10_000)
  scale = sigma * (1e-4 * 40) ** (1 / alpha)
  ours = C.invisible_noise_ratios(seeds.key(54), columns, scale, alpha, 200)
  low, median, high = quartiles
  # The quartiles tell the error of their median.
  theirs = Z * 1.2533 * (high - low) / 1.349 / math.sqrt(1000)
  check_median(ours, median, allowed=theirs)
  # The exponent 1/2 in place of 1/alpha.
  wrong = sigma * (1e-4 * 40) ** 0.5
  other = C.invisible_noise_ratios(seeds.key(55), columns, wrong, alpha, 200)
  refused(check_median, other, median, allowed=theirs)
