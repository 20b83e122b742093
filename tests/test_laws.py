"""Laws against scipy, closed forms and each other."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from htjax import laws, stable

X = np.array([-30.0, -5.0, -1.0, -0.3, 0.0, 0.2, 1.5, 8.0, 200.0])


@pytest.fixture
def levy_stable():
  stats.levy_stable.parameterization = 'S0'
  yield stats.levy_stable
  stats.levy_stable.parameterization = 'S1'


@pytest.mark.parametrize(
  ('alpha', 'beta'),
  # SciPy takes alpha within 0.005 of 1 for 1.
  [
    *((1.5, 0.5), (1.5, 1.0), (1.2, -0.7), (0.8, 0.4), (0.5, 1.0)),
    *((1.0, 0.5), (1.02, 0.5), (0.3, -0.6), (1.9, -1.0)),
  ],
)
def test_skewed_law_is_that_of_scipy(levy_stable, alpha, beta):
  # Farther out it is SciPy that is wrong, by 3e-4 at 200.
  x = X[1:-1]
  law = levy_stable(alpha, beta, loc=0.5, scale=2.0)
  options = {'beta': beta, 'location': 0.5, 'scale': 2.0}
  below = laws.skewed.cdf(x, alpha, **options)
  np.testing.assert_allclose(below, law.cdf(x), rtol=1e-9, atol=1e-13)
  np.testing.assert_allclose(
    laws.skewed.pdf(x, alpha, **options), law.pdf(x), rtol=1e-9, atol=1e-13
  )
  np.testing.assert_allclose(below + laws.skewed.sf(x, alpha, **options), 1)
  other = laws.skewed.cdf(x, alpha, **(options | {'beta': beta / 2}))
  assert np.max(np.abs(other - below)) > 1e-3


def test_skewed_law_is_continuous_at_alpha_one():
  at = laws.skewed.cdf(X, 1.0, beta=0.7)
  for gap in (1e-8, 1e-6, 1e-4):
    for alpha in (1 - gap, 1 + gap):
      near = laws.skewed.cdf(X, alpha, beta=0.7)
      np.testing.assert_allclose(near, at, rtol=0, atol=gap)


def test_without_skewness_it_is_the_symmetric_law():
  x = np.array([0.0, 1e-3, 0.7, 30.0, 1e6])
  with jax.enable_x64(True):
    for alpha in (0.5, 0.9, 1.1, 1.7, 1.99, 2.0):
      sf, pdf = (
        np.asarray(f(x, alpha), np.float64) for f in (stable.sf, stable.pdf)
      )
      for own, other in (
        (laws.skewed.sf(x, alpha, beta=0.0), sf),
        (laws.skewed.pdf(x, alpha, beta=0.0), pdf),
      ):
        np.testing.assert_allclose(own, other, rtol=1e-10)


@pytest.mark.parametrize('alpha', [0.05, 0.2, 0.45])
def test_alpha_below_one_half(alpha):
  """The convergent series in x^-alpha, and the density at 0."""
  x = 10.0 ** np.array([2.0, 8.0, 30.0]) ** 1.0
  x = x ** (0.2 / alpha)
  k = np.arange(1, 120)
  size = special.gammaln(k * alpha) - special.gammaln(k + 1)
  terms = np.exp(size - k * alpha * np.log(x)[:, None]) / np.pi
  signs = -((-1.0) ** k) * np.sin(np.pi * k * alpha / 2)
  np.testing.assert_allclose(
    laws.skewed.sf(x, alpha, beta=0.0), terms @ signs, rtol=1e-11
  )
  centre = math.gamma(1 + 1 / alpha) / math.pi
  assert laws.skewed.pdf(0.0, alpha, beta=0.0) == pytest.approx(centre)


def test_ends_of_a_skewed_law():
  x = np.array([-np.inf, np.inf, np.nan])
  for alpha in (0.6, 1.0, 1.6):
    np.testing.assert_array_equal(
      laws.skewed.cdf(x, alpha, beta=0.3), [0, 1, np.nan]
    )
    np.testing.assert_array_equal(
      laws.skewed.pdf(x, alpha, beta=0.3), [0, 0, np.nan]
    )
  # The support of |beta| = 1, alpha < 1.
  corner = -math.tan(math.pi * 0.3)
  assert laws.skewed.cdf(corner - 1e-3, 0.6, beta=1.0) == 0
  assert laws.skewed.sf(corner - 1e-3, 0.6, beta=1.0) == 1
  assert laws.skewed.pdf(corner - 1e-3, 0.6, beta=1.0) == 0


def test_one_sided_law_is_levys_at_one_half():
  x = np.geomspace(2e-3, 1e9, 12)
  ratio = 1 / (2 * np.sqrt(x))
  np.testing.assert_allclose(
    laws.positive.cdf(x, 0.5), special.erfc(ratio), rtol=1e-11
  )
  np.testing.assert_allclose(
    laws.positive.sf(x, 0.5), special.erf(ratio), rtol=1e-11
  )
  np.testing.assert_allclose(
    laws.positive.pdf(3 * x, 0.5, scale=3.0),
    stats.levy.pdf(x, scale=0.5) / 3,
    rtol=1e-11,
  )
  np.testing.assert_array_equal(laws.positive.cdf([-1, 0.0], 0.5), [0, 0])


@pytest.mark.parametrize('alpha', [0.1, 0.7, 0.9])
def test_one_sided_quantiles_and_transform(alpha):
  q = np.array([1e-300, 1e-3, 0.5, 0.9, 1 - 1e-10])
  x = laws.positive.quantile(q, alpha, scale=2.0)
  below = laws.positive.cdf(x, alpha, scale=2.0)
  above = laws.positive.sf(x, alpha, scale=2.0)
  np.testing.assert_allclose(below[:3], q[:3], rtol=1e-10)
  np.testing.assert_allclose(above[3:], (1 - q)[3:], rtol=1e-10)
  assert laws.positive.quantile(1.0, alpha) == np.inf
  # E exp(-A) = int P(A <= x) exp(-x) dx = exp(-1), by the trapezoid in ln x.
  y = np.linspace(-30, 4, 800)
  part = laws.positive.cdf(np.exp(y), alpha) * np.exp(y - np.exp(y))
  assert np.trapezoid(part, y) == pytest.approx(math.exp(-1), abs=1e-9)


def test_fractional_moments_by_quadrature():
  # E A^p = int P(A > x) p x^(p - 1) dx, by the trapezoid in ln x.
  y = np.linspace(-60, 120, 800)
  part = 0.4 * np.exp(0.4 * y) * laws.positive.sf(np.exp(y), 0.7)
  assert laws.positive.moment(0.4, 0.7) == pytest.approx(
    np.trapezoid(part, y), rel=1e-7
  )
  assert laws.positive.moment(0.7, 0.7) == np.inf
  # E |X| = 2 Gamma(1 - 1/alpha) / pi, and a normal law of variance 2.
  first = stable.absolute_moment(1.0, jnp.array([1.3, 1.8]))
  expected = [2 * math.gamma(1 - 1 / a) / math.pi for a in (1.3, 1.8)]
  np.testing.assert_allclose(first, expected, rtol=2e-6)
  assert float(stable.absolute_moment(4.0, 2.0, scale=2.0)) == pytest.approx(
    12 * 16, rel=1e-5
  )
  # A Cauchy variable, E |X|^p = 1 / cos(pi p / 2).
  half = stable.absolute_moment(jnp.array([-0.5, 0.5, -1.0, 1.0]), 1.0)
  np.testing.assert_allclose(half, [2**0.5, 2**0.5, np.inf, np.inf], rtol=2e-6)


@pytest.mark.parametrize('symmetric', [False, True])
def test_pareto_is_that_of_scipy(symmetric):
  law = stats.pareto(1.7, scale=0.5)
  x = np.array([-3.0, -0.4, 0.2, 0.5, 0.9, 40.0])
  options = {'xmin': 0.5, 'symmetric': symmetric}
  pdf, cdf = law.pdf(x), law.cdf(x)
  if symmetric:
    pdf = (law.pdf(x) + law.pdf(-x)) / 2
    cdf = (1 + law.cdf(x) - law.cdf(-x)) / 2
  np.testing.assert_allclose(laws.pareto.pdf(x, 1.7, **options), pdf)
  np.testing.assert_allclose(laws.pareto.cdf(x, 1.7, **options), cdf)
  np.testing.assert_allclose(laws.pareto.sf(x, 1.7, **options), 1 - cdf)
  q = np.array([0.01, 0.4, 0.8])
  back = laws.pareto.cdf(
    laws.pareto.quantile(q, 1.7, **options), 1.7, **options
  )
  np.testing.assert_allclose(back, q)


def test_zeta_is_that_of_scipy():
  k = np.array([0, 1, 2, 2.5, 7, 1000])
  law = stats.zipf(2.3)
  np.testing.assert_allclose(laws.zeta.pmf(k, 1.3), law.pmf(k), atol=1e-300)
  np.testing.assert_allclose(laws.zeta.sf(k, 1.3), law.sf(k), rtol=1e-9)
  # From 5 on: the same law, given that it is at least 5.
  tail = law.sf(4)
  assert laws.zeta.sf(20, 1.3, xmin=5) == pytest.approx(law.sf(20) / tail)
  assert laws.zeta.pmf(20, 1.3, xmin=5) == pytest.approx(law.pmf(20) / tail)


def test_eigenvalue_law_has_the_tail_of_a_largest_square():
  """P(lambda > y) ~ P(X^2 > y) for large y, X an entry of the matrix."""
  alpha, scale = 1.5, 0.7
  y = 1e12
  constant = 2 / math.pi * math.gamma(alpha) * math.sin(math.pi * alpha / 2)
  expected = constant * scale**alpha * y ** (-alpha / 2)
  size = laws.gram.eigenvalue_scale(alpha, scale=scale)
  assert laws.positive.sf(y, alpha / 2, scale=size) == pytest.approx(
    expected, rel=1e-6
  )
  assert 1 - laws.gram.eigenvalue_cdf(y, alpha, scale=scale) == pytest.approx(
    expected, rel=1e-5
  )


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: laws.skewed.cdf(0.0, 2.5, beta=0.0), 'alpha must lie in'),
    (lambda: laws.skewed.pdf(0.0, 1.5, beta=1.5), 'beta must lie in'),
    (lambda: laws.skewed.sf(0.0, 1.5, beta=0.0, scale=0.0), 'scale must'),
    (lambda: laws.positive.cdf(1.0, 1.0), 'alpha must lie in'),
    (lambda: laws.positive.quantile(1.5, 0.5), 'q must lie in'),
    (lambda: laws.pareto.pdf(1.0, 0.0), 'alpha must lie in'),
    (lambda: laws.zeta.pmf(1, 1.0, xmin=0), 'xmin must be an integer'),
    (lambda: laws.tempered.moments(0.5, 0.0), 'rate must lie in'),
    (
      lambda: laws.tempered.sample(jax.random.key(0), 0.9, 1e9),
      'rate must be so that',
    ),
    (
      lambda: jax.jit(lambda x: laws.pareto.sf(x, 1.0))(2.0),
      'x must be concrete',
    ),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_draws_of_impossible_laws_are_nan():
  draws = jax.jit(
    lambda keys, a: (
      laws.pareto.sample(keys[0], -a),
      laws.skewed.sample(keys[1], a, beta=2 * a),
      laws.tempered.sample(keys[2], 3 * a, 1.0),
    )
  )(jax.random.split(jax.random.key(0), 3), 0.9)
  assert np.all(np.isnan(draws))
