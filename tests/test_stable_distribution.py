"""The distribution functions against closed forms, quadrature and scipy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from htjax import stable

X = np.concatenate([[0.0], np.geomspace(1e-3, 1e4, 120)])
GRID = (0.5, 0.6, 0.8, 0.95, 1.0, 1.05, 1.2, 1.5, 1.69, 1.71, 1.8, 1.9)
GRID += (1.95, 1.99, 1.999, 2.0)

# alpha, x, P(X > x), density: Zolotarev's integrals, tanh-sinh quadrature with
# 30 digits on 40 pieces, by mpmath.
GOLDEN = np.array(
  [
    (0.5, 0.01, 0.49364634946836, 0.632891292659253),
    (0.5, 0.3, 0.373269038826942, 0.259731597064457),
    (0.5, 1.4, 0.24275777816759, 0.0593787790714248),
    (0.5, 1.6, 0.231764284214023, 0.0509308044437156),
    (0.5, 4, 0.163772802979087, 0.0165057384221263),
    (0.5, 9, 0.11651906539753, 0.005625689218837),
    (0.5, 30, 0.0677332469896087, 0.00104718107132158),
    (0.5, 1000, 0.012457558894258, 6.1502531253012e-6),
    (0.5, 10000, 0.00397354055464671, 1.97884577486232e-7),
    (0.6, 0.01, 0.495212905165798, 0.47828681691114),
    (0.6, 0.3, 0.383277103581687, 0.285114038797462),
    (0.6, 1.4, 0.231597926204405, 0.0695087712796203),
    (0.6, 1.6, 0.218768763103734, 0.0592362776192295),
    (0.6, 4, 0.142124664187613, 0.0178585878350684),
    (0.6, 9, 0.092999980691326, 0.00558372693150247),
    (0.6, 30, 0.0475190715157965, 0.000904943484762474),
    (0.6, 1000, 0.00604312127957824, 3.60500084193769e-6),
    (0.6, 10000, 0.00152451528934549, 9.13388733509577e-8),
    (0.8, 0.01, 0.4963938323809, 0.360558124711042),
    (0.8, 0.3, 0.39854356483588, 0.299593823447907),
    (0.8, 1.4, 0.21254115825782, 0.0888231417488389),
    (0.8, 1.6, 0.196250212178936, 0.0746925847236609),
    (0.8, 4, 0.106131656569028, 0.0190598690055453),
    (0.8, 9, 0.0581147819277484, 0.00491668005209538),
    (0.8, 30, 0.0228227004679303, 0.000598408116265053),
    (0.8, 1000, 0.00140179381684794, 1.12037134468298e-6),
    (0.8, 10000, 0.000222346409478774, 1.77850490631434e-8),
    (1.2, 0.01, 0.497005858176309, 0.299402429076068),
    (1.2, 0.3, 0.411721892347301, 0.284193511141326),
    (1.2, 1.4, 0.185839485846683, 0.125562001034378),
    (1.2, 1.6, 0.16295543383782, 0.10396275662367),
    (1.2, 4, 0.0557787335801655, 0.0172848026432966),
    (1.2, 9, 0.02044891716894, 0.00279228278001186),
    (1.2, 30, 0.00472536203742059, 0.00019029258283863),
    (1.2, 1000, 6.98271873838003e-5, 8.38014187911187e-8),
    (1.2, 10000, 4.40536436204266e-6, 5.28647226017656e-10),
    (1.5, 0.01, 0.497126507852752, 0.287342141368264),
    (1.5, 0.3, 0.414737300063938, 0.27799930590478),
    (1.5, 1.4, 0.173658274996343, 0.148553330190078),
    (1.5, 1.6, 0.146410504856559, 0.124344268908228),
    (1.5, 4, 0.0305754562114095, 0.0136729417918039),
    (1.5, 9, 0.00784633233633456, 0.00138767874243521),
    (1.5, 30, 0.00122583027731897, 6.1890805710833e-5),
    (1.5, 1000, 6.30814962873496e-6, 9.46270194932687e-9),
    (1.5, 10000, 1.99471458511039e-7, 2.99207665232697e-11),
    (1.75, 0.01, 0.497165103337217, 0.28348414038393),
    (1.75, 0.3, 0.415691845094124, 0.276139287289863),
    (1.75, 1.4, 0.166584508219974, 0.162594908857825),
    (1.75, 1.6, 0.136532032489485, 0.138137228435994),
    (1.75, 4, 0.0148228622576903, 0.00970110597233145),
    (1.75, 9, 0.0025841065275495, 0.00054368331633845),
    (1.75, 30, 0.000293680245638531, 1.72824939417588e-5),
    (1.75, 1000, 6.29568522463309e-7, 1.10176561295647e-9),
    (1.75, 10000, 1.11952808213066e-8, 1.95917479824395e-12),
    (1.8, 0.01, 0.497169339020578, 0.283060776692),
    (1.8, 0.3, 0.415791901168376, 0.275982227634381),
    (1.8, 1.4, 0.165385450935606, 0.164904669334325),
    (1.8, 1.6, 0.134862614645552, 0.140497481826849),
    (1.8, 4, 0.0121007057232383, 0.00882802544602034),
    (1.8, 9, 0.00189840366235861, 0.000411943096514905),
    (1.8, 30, 0.000202669311119094, 1.22630437148955e-5),
    (1.8, 1000, 3.64726836742038e-7, 6.56518226456226e-10),
    (1.8, 10000, 5.78044484478323e-9, 1.04048032123744e-12),
    (1.9, 0.01, 0.497175459726252, 0.282449049994829),
    (1.9, 0.3, 0.415930064548792, 0.275819045575733),
    (1.9, 1.4, 0.163149839946922, 0.169107040170168),
    (1.9, 1.6, 0.131765765158091, 0.144848776841348),
    (1.9, 4, 0.00700973447009158, 0.00702461769996895),
    (1.9, 9, 0.000798737603540981, 0.000183694414922406),
    (1.9, 30, 7.53384786328886e-5, 4.80793919574318e-6),
    (1.9, 1000, 9.55555881791013e-8, 1.81557363878728e-10),
    (1.9, 10000, 1.20296215671349e-9, 2.28562837452357e-13),
    (1.95, 0.01, 0.497177540227094, 0.282241145158174),
    (1.95, 0.3, 0.415973254649514, 0.275800997841413),
    (1.95, 1.4, 0.162103533192789, 0.171019556596606),
    (1.95, 1.6, 0.130325405087625, 0.146851273338078),
    (1.95, 4, 0.00462528435882478, 0.00610077184305546),
    (1.95, 9, 0.000365914696177749, 8.64778593105614e-5),
    (1.95, 30, 3.24630265125753e-5, 2.12532447308049e-6),
    (1.95, 1000, 3.45676547187736e-8, 6.74074400578531e-11),
    (1.95, 10000, 3.87852544520555e-10, 7.56312526441431e-14),
    (1.99, 0.01, 0.497178808751077, 0.282114398332814),
    (1.99, 0.3, 0.415997327925415, 0.275812394278984),
    (1.99, 1.4, 0.161297028447463, 0.172467531583102),
    (1.99, 1.6, 0.129219783447465, 0.148375701832664),
    (1.99, 4, 0.00278861491752646, 0.00535419752138989),
    (1.99, 9, 6.81932889807486e-5, 1.64573097930303e-5),
    (1.99, 30, 5.76255749353328e-6, 3.84872664722369e-7),
    (1.99, 1000, 5.33497985129841e-9, 1.06166767425011e-11),
    (1.99, 10000, 5.45921347834499e-11, 1.0863835521797e-14),
    (1.999, 0.01, 0.49717904977284, 0.282090318724779),
    (1.999, 0.3, 0.416001568609852, 0.275817861218447),
    (1.999, 1.4, 0.16111909559146, 0.17278378636414),
    (1.999, 1.6, 0.12897643657226, 0.148709555000186),
    (1.999, 4, 0.00238367625452449, 0.00518550393251743),
    (1.999, 9, 6.71137898367817e-6, 1.62752765408296e-6),
    (1.999, 30, 5.60974288802164e-7, 3.76330820621343e-8),
    (1.999, 1000, 5.03256011439095e-10, 1.00601483215255e-12),
    (1.999, 10000, 5.04413125706504e-12, 1.00832189923979e-15),
  ]
)


@pytest.fixture
def x64():
  with jax.enable_x64(True):
    yield


def closed_form(alpha):
  return {
    1.0: stats.cauchy(),
    2.0: stats.norm(scale=np.sqrt(2.0)),
  }[alpha]


def relative_error(ours, exact):
  return np.max(np.abs(np.asarray(ours, np.float64) / exact - 1.0))


def check_golden(sf, pdf, tolerance):
  for ours, exact in ((sf, GOLDEN[:, 2]), (pdf, GOLDEN[:, 3])):
    error = np.abs(np.asarray(ours, np.float64) / exact - 1.0)
    assert (error < tolerance).all()


def test_float64_equals_quadrature(x64):
  alpha, x = GOLDEN[:, 0], GOLDEN[:, 1]
  # 1e-6 is what is promised; the quadratures are far better than that.
  check_golden(stable.sf(x, alpha), stable.pdf(x, alpha), 1e-9)
  error = np.abs(stable.cdf(x, alpha) - (1.0 - GOLDEN[:, 2]))
  assert error.max() < 1e-13


def test_float32_equals_quadrature():
  alpha, x = (jnp.asarray(GOLDEN[:, i], jnp.float32) for i in (0, 1))
  # The tail is proportional to 2 - alpha, which rounding alpha to float32
  # moves by up to 2^-24.
  tolerance = 1e-5 + 2.0**-24 / (2.0 - GOLDEN[:, 0])
  check_golden(stable.sf(x, alpha), stable.pdf(x, alpha), tolerance)
  assert stable.pdf(x, alpha).dtype == jnp.float32


def test_negative_control_another_scale_fails(x64):
  alpha, x = GOLDEN[:, 0], GOLDEN[:, 1]
  scale = 1.0 + 1e-6
  with pytest.raises(AssertionError):
    check_golden(
      stable.sf(x, alpha, scale=scale), stable.pdf(x, alpha, scale=scale), 1e-9
    )


@pytest.mark.parametrize('alpha', [1.0, 2.0])
def test_closed_forms(x64, alpha):
  law = closed_form(alpha)
  x = X[law.sf(X) > 1e-8]
  assert relative_error(stable.sf(x, alpha), law.sf(x)) < 1e-11
  assert relative_error(stable.cdf(-x, alpha), law.sf(x)) < 1e-11
  assert relative_error(stable.pdf(x, alpha), law.pdf(x)) < 1e-11


def test_the_normal_law_far_out(x64):
  x = np.array([8.0, 12.0, 20.0, 50.0])
  law = closed_form(2.0)
  np.testing.assert_allclose(stable.logpdf(x, 2.0), law.logpdf(x), rtol=1e-12)
  np.testing.assert_allclose(
    np.log(stable.sf(x, 2.0)), law.logsf(x), rtol=1e-12
  )


@pytest.mark.parametrize('alpha', [1.0, 2.0])
def test_closed_forms_in_float32(alpha):
  law = closed_form(alpha)
  x = X[law.sf(X) > 1e-8].astype(np.float32)
  exact = x.astype(np.float64)
  assert relative_error(stable.sf(x, alpha), law.sf(exact)) < 1e-5
  assert relative_error(stable.pdf(x, alpha), law.pdf(exact)) < 1e-5


@pytest.mark.parametrize('alpha', GRID)
def test_forms_join_without_a_step(x64, alpha):
  # The forms change at |x| = 1.5: neighbours must differ by their slope only.
  step = 1e-7
  x = np.array([1.5 - step, 1.5 + step])
  for function, rate in ((stable.sf, 0.3), (stable.logpdf, 2.0)):
    a, b = np.asarray(function(x, alpha))
    assert abs(a - b) < 2 * step * rate + 1e-12


@pytest.mark.parametrize('x', [0.0, 0.3, 1.6, 7.0, 300.0])
def test_smooth_in_alpha(x64, x):
  # Second differences of a smooth function are its second derivative, here at
  # most 10 (1 + log(x)^2), times step^2; a branch at alpha 1 or at the change
  # of forms would leave its own size.
  step = 1e-5
  for centre in (1.0, 1.7):
    alpha = centre + step * np.arange(-3, 4)
    for function in (stable.sf, stable.logpdf):
      values = np.asarray(function(x, alpha))
      bend = np.abs(np.diff(values, 2)).max()
      assert bend < 10 * step**2 * (1 + np.log1p(x) ** 2) + 1e-12
  near = stable.sf(x, np.array([1.0 - 1e-6, 1.0 + 1e-6]))
  np.testing.assert_allclose(near, stats.cauchy.sf(x), rtol=2e-5)


@pytest.mark.parametrize('alpha', [0.7, 1.3, 1.85])
def test_agrees_with_scipy_where_scipy_is_good(x64, alpha):
  x = np.array([0.1, 0.7, 2.0, 8.0, 25.0])
  law = stats.levy_stable(alpha, 0.0)
  np.testing.assert_allclose(stable.cdf(x, alpha), law.cdf(x), atol=1e-9)
  np.testing.assert_allclose(stable.pdf(x, alpha), law.pdf(x), rtol=1e-6)


@pytest.mark.parametrize('alpha', [0.5, 0.9, 1.2, 1.6, 1.8, 1.95])
def test_tail_constant(x64, alpha):
  from scipy.special import gamma

  x = np.array([1e6, 1e8])
  constant = gamma(alpha) * np.sin(np.pi * alpha / 2) / np.pi
  # The next term of the tail series is smaller by a factor O(x^-alpha).
  expected = constant * x**-alpha
  error = np.abs(np.asarray(stable.sf(x, alpha)) / expected - 1.0)
  second = gamma(2 * alpha) * abs(np.sin(np.pi * alpha)) / 2 / np.pi
  assert (error < 1.1 * second / constant * x**-alpha + 1e-9).all()


@pytest.mark.parametrize('alpha', GRID)
def test_symmetric_and_monotone(x64, alpha):
  law = np.asarray(stable.cdf(np.concatenate([-X[::-1], X]), alpha))
  assert (np.diff(law) >= -1e-15).all()
  np.testing.assert_allclose(law + law[::-1], 1.0, atol=1e-15)
  np.testing.assert_array_equal(stable.pdf(-X, alpha), stable.pdf(X, alpha))
  assert float(stable.cdf(0.0, alpha)) == pytest.approx(0.5, abs=1e-15)


@pytest.mark.parametrize('alpha', GRID)
def test_density_integrates_to_the_cdf(x64, alpha):
  # 40 Gauss-Legendre nodes are exact to rounding: the nearest singularity is
  # the branch point at 0 for alpha < 1, and the error falls like 1.7^-80.
  nodes, weights = np.polynomial.legendre.leggauss(40)
  low, high = 0.2, 3.0
  x = low + (high - low) * (nodes + 1) / 2
  mass = (weights * np.asarray(stable.pdf(x, alpha))).sum() * (high - low) / 2
  np.testing.assert_allclose(
    mass, stable.cdf(high, alpha) - stable.cdf(low, alpha), rtol=1e-9
  )


PROBABILITIES = np.concatenate(
  [np.geomspace(1e-8, 0.3, 12), [0.4, 0.49, 0.499]]
)


@pytest.mark.parametrize('alpha', [0.5, 0.9, 1.0, 1.3, 1.69, 1.75, 1.95, 2.0])
def test_quantile_inverts_the_cdf(x64, alpha):
  x = np.asarray(stable.quantile(PROBABILITIES, alpha))
  # Relative error e in x is relative error x f(x) / F(x) * e in q.
  q, slope = stable.cdf(x, alpha), stable.pdf(x, alpha)
  error = np.abs(np.asarray(q - PROBABILITIES) / (slope * np.abs(x)))
  assert error.max() < 1e-9
  mirrored = np.asarray(stable.quantile(1.0 - PROBABILITIES, alpha))
  # 1 - q is rounded by 1e-16, so by 1e-8 relative at q = 1e-8.
  np.testing.assert_allclose(mirrored, -x, rtol=1e-7)


@pytest.mark.parametrize('alpha', [1.0, 2.0])
def test_quantile_closed_forms(x64, alpha):
  law = closed_form(alpha)
  ours = stable.quantile(PROBABILITIES, alpha)
  assert relative_error(ours, law.ppf(PROBABILITIES)) < 1e-9
  far = float(stable.quantile(1e-8, alpha, scale=3.0))
  assert far == pytest.approx(3.0 * law.ppf(1e-8), rel=1e-9)


@pytest.mark.parametrize('alpha', [0.8, 1.5])
def test_quantile_equals_a_root_of_the_quadrature(x64, alpha):
  # An independent root finder on scipy's cdf, where scipy's cdf is good.
  law = stats.levy_stable(alpha, 0.0)
  for q in (0.6, 0.8, 0.95):
    root = optimize.brentq(lambda x, q=q: law.cdf(x) - q, 0.1, 100, xtol=1e-12)
    assert float(stable.quantile(q, alpha)) == pytest.approx(root, rel=1e-7)


def test_quantile_in_float32():
  q = PROBABILITIES.astype(np.float32)
  for alpha in (1.0, 2.0):
    exact = closed_form(alpha).ppf(q.astype(np.float64))
    assert relative_error(stable.quantile(q, alpha), exact) < 1e-5


def test_quantile_edges():
  q = jnp.array([0.0, 0.5, 1.0, jnp.nan])
  np.testing.assert_array_equal(
    jax.jit(stable.quantile)(q, 1.4), [-np.inf, 0.0, np.inf, np.nan]
  )
  outside = jax.jit(stable.quantile)(jnp.array([-0.1, 1.1]), 1.4)
  assert np.isnan(outside).all()


@functools.cache
def with_derivatives(name):
  function = getattr(stable, name)

  def at(x, alpha, scale):
    return function(x, alpha, scale=scale)

  forward, reverse = jax.jacfwd(at, (0, 1, 2)), jax.grad(at, (0, 1, 2))
  return at, jax.jit(forward), jax.jit(reverse)


@pytest.mark.parametrize('alpha', [0.6, 1.0, 1.3, 1.7, 1.9])
@pytest.mark.parametrize('x', [-3.0, 0.0, 0.7, 2.0, 40.0])
@pytest.mark.parametrize('name', ['cdf', 'sf', 'pdf', 'logpdf'])
def test_gradients_equal_finite_differences(x64, name, x, alpha):
  at, by_jvp, by_vjp = with_derivatives(name)
  point, step = (x, alpha, 1.3), 1e-5
  forward = [float(g) for g in by_jvp(*point)]
  reverse = [float(g) for g in by_vjp(*point)]
  size = max(abs(float(at(*point))), 1e-3)
  for i in range(3):
    low, high = (
      at(*(p + s * step * (i == j) for j, p in enumerate(point)))
      for s in (-1, 1)
    )
    difference = float(high - low) / (2 * step)
    # Central differences: step^2 times a third derivative, and rounding.
    tolerance = 1e-7 * size + 1e-6 * abs(difference)
    assert forward[i] == pytest.approx(difference, abs=tolerance)
    assert reverse[i] == pytest.approx(forward[i], rel=1e-12, abs=1e-300)


def test_gradient_at_alpha_2_from_below(x64):
  step = 1e-6
  for x in (0.3, 2.0, 6.0):
    slope = float(jax.grad(stable.logpdf, 1)(x, 2.0))
    values = [float(stable.logpdf(x, 2.0 - k * step)) for k in range(3)]
    difference = (3 * values[0] - 4 * values[1] + values[2]) / (2 * step)
    assert slope == pytest.approx(difference, rel=1e-3)


def test_derivative_of_the_cdf_is_the_density(x64):
  x = np.array([-20.0, -1.0, 0.0, 1.4, 1.6, 30.0])
  for alpha in (0.7, 1.0, 1.5, 1.9):
    slope = jax.vmap(jax.grad(stable.cdf), (0, None))(x, alpha)
    np.testing.assert_allclose(slope, stable.pdf(x, alpha), rtol=1e-9)


def test_quantile_gradients_are_those_of_the_inverse(x64):
  def at(q, alpha, scale=1.0):
    return float(stable.quantile(q, alpha, scale=scale))

  def scaled(q, alpha, scale):
    return stable.quantile(q, alpha, scale=scale)

  gradient = jax.jit(jax.grad(stable.quantile, (0, 1)))
  gradient_by_scale = jax.jit(jax.grad(scaled, 2))
  for q, alpha in ((0.01, 0.8), (0.3, 1.0), (0.9, 1.5), (0.99, 1.9)):
    by_q, by_alpha = map(float, gradient(q, alpha))
    step = 1e-6
    expected = (at(q + step, alpha) - at(q - step, alpha)) / (2 * step)
    assert by_q == pytest.approx(expected, rel=1e-5)
    expected = (at(q, alpha + step) - at(q, alpha - step)) / (2 * step)
    assert by_alpha == pytest.approx(expected, rel=1e-4, abs=1e-7)
    by_scale = gradient_by_scale(q, alpha, 2.0)
    assert float(by_scale) == pytest.approx(at(q, alpha), rel=1e-12)


def test_jit_vmap_and_blocks_agree():
  x = jnp.linspace(-30.0, 30.0, 2500)
  whole = stable.sf(x, 1.4)
  # Equal in jax 0.10.1; 0.12 rounds the last block, not full, otherwise.
  np.testing.assert_allclose(jax.jit(stable.sf)(x, 1.4), whole, rtol=1e-6)
  one = jax.vmap(lambda x: stable.sf(x, 1.4))(x[:7])
  np.testing.assert_allclose(one, whole[:7], rtol=1e-6)
  alphas = jnp.array([0.7, 1.0, 1.9])
  mapped = jax.vmap(stable.pdf, (None, 0))(x[:5], alphas)
  table = stable.pdf(x[:5][None, :], alphas[:, None])
  np.testing.assert_allclose(mapped, table, rtol=1e-6)
  assert stable.pdf(jnp.zeros((0, 3)), 1.5).shape == (0, 3)


def test_characteristic_function():
  t = jnp.array([-2.0, 0.0, 0.5])
  expected = np.exp(-(np.abs(3.0 * np.asarray(t, np.float64)) ** 0.3))
  ours = stable.characteristic_function(t, 0.3, scale=3.0)
  np.testing.assert_allclose(ours, expected, rtol=1e-6)
  slope = jax.grad(stable.characteristic_function, (0, 1))(0.0, 1.5)
  assert np.isfinite(slope).all()


def test_log_moment_against_the_density(x64):
  # log|X| has a density that a trapezoid in log x integrates to rounding.
  y = np.linspace(-60.0, 40.0, 4001)
  for alpha in (0.8, 1.0, 1.5, 1.9):
    mass = 2 * np.exp(y) * np.asarray(stable.pdf(np.exp(y), alpha)) * 0.025
    mean, variance = map(float, stable.log_moment(alpha))
    assert mean == pytest.approx((mass * y).sum(), abs=1e-8)
    assert variance == pytest.approx((mass * (y - mean) ** 2).sum(), rel=1e-8)
  scaled = stable.log_moment(1.5, scale=7.0)
  assert float(scaled.mean) == pytest.approx(
    float(stable.log_moment(1.5).mean) + np.log(7.0)
  )


def test_infinities_and_nan():
  x = jnp.array([-jnp.inf, jnp.inf, jnp.nan])
  for alpha in (0.8, 1.5, 1.9):
    np.testing.assert_array_equal(stable.cdf(x, alpha), [0.0, 1.0, np.nan])
    np.testing.assert_array_equal(stable.pdf(x, alpha), [0.0, 0.0, np.nan])
    np.testing.assert_array_equal(
      stable.logpdf(x, alpha), [-np.inf, -np.inf, np.nan]
    )


NAMES = ['cdf', 'sf', 'pdf', 'logpdf', 'quantile']


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('alpha', [0.49, 2.01, 0.0, -1.0, float('nan')])
def test_alpha_out_of_range(name, alpha):
  function = getattr(stable, name)
  with pytest.raises(ValueError, match='alpha'):
    function(0.5, alpha)
  assert np.isnan(jax.jit(function)(0.5, alpha))


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('scale', [0.0, -1.0, float('nan'), float('inf')])
def test_scale_out_of_range(name, scale):
  with pytest.raises(ValueError, match='scale'):
    getattr(stable, name)(0.5, 1.5, scale=scale)


@pytest.mark.parametrize('q', [-0.1, 1.1, float('nan')])
def test_probability_out_of_range(q):
  with pytest.raises(ValueError, match='q must lie in'):
    stable.quantile(q, 1.5)
