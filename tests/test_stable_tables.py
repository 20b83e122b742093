"""The tables of a known alpha against the integrals and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from test_stable_distribution import GOLDEN

from htjax import stable
from htjax.stable import table as tables

ALPHAS = (0.5, 0.51, 0.75, 0.9999999, 1.0, 1.0000001, 1.3, 1.699, 1.7, 1.949)
ALPHAS += (1.95, 1.99, 1.9999, 2 - 1e-7, 2 - 1e-10)
RNG = np.random.default_rng(0)
# Both sides of every joint, and the whole range of numbers.
POINTS = np.concatenate(
  [
    [0.0, 5e-324, 1e-300, 2.0**-27, 2.0**-11, 0.125, 1.0, 1.5, 32.0],
    np.nextafter([2.0**-27, 2.0**-11, 0.125, 1.0, 1.5, 32.0], 0.0),
    np.exp(RNG.uniform(-20.0, np.log(32.0), 80)),
    np.geomspace(33.0, 1e8, 12),
  ]
)


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


def relative(ours, exact):
  ours, exact = np.asarray(ours), np.asarray(exact)
  return np.max(np.abs(ours - exact) / np.abs(exact))


def test_tables_equal_the_integrals(x64):
  alphas, x = np.meshgrid(ALPHAS, POINTS, indexing='ij')
  exact = {f: f(x, alphas) for f in (stable.sf, stable.pdf, stable.logpdf)}
  for i, alpha in enumerate(ALPHAS):
    # Of the integrals' tail nearest to 2, e^-40 / (2 - alpha) is left out.
    tolerance = 1e-10 + 2 * np.exp(-40) / (2 - alpha)
    # Far out its nodes near 2 are too far apart for more than 8 digits.
    last = 40.0 if alpha > 1.6999 else np.inf
    some = last > POINTS
    for f in (stable.sf, stable.pdf):
      error = relative(f(POINTS[some], alpha), exact[f][i][some])
      assert error < tolerance, (f, alpha)
    log = stable.logpdf(POINTS[some], alpha)
    assert np.abs(log - exact[stable.logpdf][i][some]).max() < 1e-10
    cdf = np.asarray(stable.cdf(POINTS, alpha))
    assert np.abs(cdf - (1 - np.asarray(exact[stable.sf][i]))).max() < 1e-12


def test_negative_control_the_next_alpha_fails(x64):
  exact = stable.sf(POINTS, np.full_like(POINTS, 1.3))
  assert relative(stable.sf(POINTS, 1.3 + 1e-9), exact) > 1e-10


def test_tables_equal_quadrature(x64):
  for alpha in np.unique(GOLDEN[:, 0]):
    _, x, tail, density = GOLDEN[GOLDEN[:, 0] == alpha].T
    # The golden numbers have 15 digits, alpha as near to 2 as 1.999 loses 3.
    assert relative(stable.sf(x, alpha), tail) < 1e-11
    assert relative(stable.pdf(x, alpha), density) < 1e-11


def test_tables_in_float32():
  for alpha in np.unique(GOLDEN[:, 0]):
    _, x, tail, density = GOLDEN[GOLDEN[:, 0] == alpha].T
    # Rounding alpha moves a tail that is proportional to 2 - alpha; rounding x
    # moves all by 2^-24 x f'/f; the rest is the table's.
    tolerance = 2e-6 + 2.0**-24 / (2.0 - alpha)
    x = x.astype(np.float32)
    assert relative(stable.sf(x, alpha), tail) < tolerance
    assert relative(stable.pdf(x, alpha), density) < tolerance


def test_the_law_of_one_half(x64):
  # The density by Fresnel integrals, the only other closed form.
  x = np.geomspace(1e-2, 1e6, 200)
  sine, cosine = special.fresnel(1 / np.sqrt(2 * np.pi * x))
  angle = 1 / (4 * x)
  exact = np.sin(angle) * (0.5 - sine) + np.cos(angle) * (0.5 - cosine)
  exact /= np.sqrt(2 * np.pi) * x**1.5
  # 1/2 - S loses 1e-16 of 1/2 where it is small.
  np.testing.assert_allclose(stable.pdf(x, 0.5), exact, rtol=1e-11)


@pytest.mark.parametrize('alpha', [0.5, 1.0, 1.6, 1.97, 2.0])
def test_derivatives_are_those_of_the_table(x64, alpha):
  x = np.array([-60.0, -3.3, -0.2, 0.0, 1e-5, 0.41, 1.47, 9.07, 31.9, 32.1])
  if alpha == 2.0:
    x = x[np.abs(x) < 20]
  step = 1e-6 * np.maximum(np.abs(x), 1e-2)

  def by_x(f, x):
    return jax.vmap(jax.grad(lambda x: f(x, alpha)))(x)

  density = np.asarray(stable.pdf(x, alpha))
  np.testing.assert_allclose(by_x(stable.cdf, x), density, rtol=1e-12)
  np.testing.assert_allclose(by_x(stable.sf, x), -density, rtol=1e-12)
  log = np.asarray(by_x(stable.logpdf, x))
  np.testing.assert_allclose(by_x(stable.pdf, x), density * log, rtol=1e-11)
  difference = stable.logpdf(x + step, alpha) - stable.logpdf(x - step, alpha)
  # Second order in a step of 1e-6, and rounding over it.
  size = 1 + np.abs(np.asarray(stable.logpdf(x, alpha)))
  error = np.abs(log - np.asarray(difference) / (2 * step))
  assert (error < 1e-9 * size / step * 1e-6 + 1e-9 * size).all()
  twice = jax.vmap(jax.grad(jax.grad(lambda x: stable.cdf(x, alpha))))(x)
  np.testing.assert_allclose(twice, density * log, rtol=1e-10)
  reverse, forward = (
    d(lambda s: stable.logpdf(x, alpha, scale=s))(1.3)
    for d in (jax.jacrev, jax.jacfwd)
  )
  np.testing.assert_allclose(reverse, forward, rtol=1e-12)
  np.testing.assert_allclose(
    forward, -(1 + x / 1.3 * np.asarray(by_x(stable.logpdf, x / 1.3))) / 1.3,
    rtol=1e-9, atol=1e-12,
  )  # fmt: skip


@pytest.mark.parametrize('alpha', [0.5, 0.8, 1.0, 1.5, 1.97, 2 - 1e-7, 2.0])
def test_quantiles_invert_the_table(x64, alpha):
  tail = np.concatenate([np.geomspace(1e-300, 0.4, 60), [0.4999, 0.5]])
  tail = tail[tail > (1e-290 if alpha == 2.0 else 0)]
  x = -np.asarray(stable.quantile(tail, alpha))
  with np.errstate(divide='ignore'):
    finite = np.isfinite(x)
  # x^-alpha beyond the numbers is where x would be infinite.
  assert (tail[~finite] < 1e-153).all()
  sf = np.asarray(stable.sf(x, alpha))[finite]
  # Relative error e in x is e x f / P(X > x) there.
  slope = x[finite] * np.asarray(stable.pdf(x[finite], alpha)) / tail[finite]
  error = np.abs(sf / tail[finite] - 1)
  assert (error < 1e-11 * (1 + slope)).all()
  near = np.geomspace(1e-12, 0.2, 30)
  centre = np.asarray(stable.quantile(0.5 + near, alpha))
  # What 1/2 + near is in float64.
  kept = (0.5 + near) - 0.5
  inner = 0.5 - np.asarray(stable.sf(centre, alpha))
  assert (np.abs(inner - kept) < 2e-16 + 1e-13 * kept).all()
  peak = float(stable.pdf(0.0, alpha))
  assert centre[0] == pytest.approx(kept[0] / peak, rel=1e-12)


def test_edges_of_the_numbers(x64):
  x = np.array([-np.inf, np.inf, np.nan, 1e300, -1e300])
  for alpha in (0.5, 1.3, 1.99, 2.0):
    np.testing.assert_array_equal(stable.cdf(x, alpha)[:3], [0, 1, np.nan])
    np.testing.assert_array_equal(stable.pdf(x, alpha)[:3], [0, 0, np.nan])
    log = np.asarray(stable.logpdf(x, alpha))
    np.testing.assert_array_equal(log[:3], [-np.inf, -np.inf, np.nan])
    if alpha < 2:
      # Also where the density itself is too small for a number.
      size = special.gamma(alpha + 1) * np.sin(np.pi * alpha / 2) / np.pi
      exact = np.log(size) - (alpha + 1) * np.log(1e300)
      np.testing.assert_allclose(log[3:], exact, rtol=1e-12)
  ends = stable.quantile(np.array([0.0, 0.5, 1.0]), 1.3)
  np.testing.assert_array_equal(ends, [-np.inf, 0.0, np.inf])


def test_one_program_serves_every_alpha():
  x = np.linspace(-3, 3, 7, dtype=np.float32)
  stable.cdf(x, 1.23)
  programs = stable.distribution._cdf._cache_size()
  for alpha in (0.6, 1.1, 1.5, 1.96):
    stable.cdf(x, alpha)
  assert stable.distribution._cdf._cache_size() == programs


def test_tables_are_kept_and_bounded():
  dtype = np.dtype(np.float32)
  assert tables.table(1.375, dtype) is tables.table(1.375, dtype)
  assert tables.table.cache_info().maxsize < 1000


def test_a_known_alpha_under_transformations():
  x = jnp.linspace(-40.0, 40.0, 9)
  whole = stable.cdf(x, 1.5)
  compiled = jax.jit(lambda x: stable.cdf(x, 1.5))(x)
  np.testing.assert_array_equal(compiled, whole)
  mapped = jax.vmap(lambda x: stable.cdf(x, 1.5))(x)
  np.testing.assert_allclose(mapped, whole, rtol=1e-6)
  # Traced, the integrals: float32 rounding of sums of hundreds of terms.
  traced = jax.jit(stable.cdf)(x, 1.5)
  np.testing.assert_allclose(traced, whole, rtol=2e-6)
  assert stable.cdf(x.astype(jnp.bfloat16), 1.5).dtype == jnp.bfloat16
  scales = jnp.array([0.5, 2.0])
  rows = stable.cdf(x[None], 1.5, scale=scales[:, None])
  np.testing.assert_allclose(rows[1], stable.cdf(x / 2, 1.5), rtol=1e-6)
  assert stats.norm(0, np.sqrt(2)).sf(3.0) == pytest.approx(
    float(stable.sf(3.0, jnp.float32(2.0))), rel=1e-6
  )
