"""Stable draws: the law at every alpha, and its tail."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from htjax import stable
from statistical import seeds
from statistical.checks import (
  check_cosine,
  check_count,
  check_law,
  check_law_at,
  check_log_moments,
  check_mean,
  check_same_law,
  check_stable,
  stable_tail,
  stable_threshold,
)

ALPHAS = (0.3, 0.7, 1 - 1e-6, 1.0, 1 + 1e-6, 1.2, 1.5, 1.8, 1.95, 2.0)
# A cosine has standard deviation at most 1, so limits are below 0.005, which
# a scale wrong by 3 % exceeds twice at alpha = 1 and t = 1.
MANY = 1 << 20
FEW = 1 << 17
FLOATS = (jnp.float32, jnp.float64)


def _precision(dtype):
  return jax.enable_x64(dtype == jnp.float64)


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('alpha', ALPHAS)
def test_symmetric_law(alpha, dtype):
  with _precision(dtype):
    x = np.asarray(stable.sample(seeds.key(1), alpha, (MANY,), dtype))
  assert x.dtype == dtype
  check_stable(x, alpha)
  check_log_moments(x, alpha)
  check_count(np.sum(x > 0), x.size, 0.5)


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize(
  ('alpha', 'cdf'),
  [
    (1.0, stats.cauchy.cdf),
    (1 + 1e-6, stats.cauchy.cdf),
    (2.0, stats.norm(scale=math.sqrt(2)).cdf),
    (2 - 1e-6, stats.norm(scale=math.sqrt(2)).cdf),
  ],
)
def test_closed_form_laws(alpha, cdf, dtype):
  with _precision(dtype):
    check_law(stable.sample(seeds.key(2), alpha, (FEW,), dtype), cdf)


@pytest.mark.parametrize('alpha', [1.3, 1.75])
def test_law_agrees_with_scipy(alpha):
  # 1.36 / sqrt(MANY) would be the 5 % limit; this one is 0.0026.
  x = stable.sample(seeds.key(3), alpha, (MANY,))
  points = stats.cauchy.ppf(np.linspace(0.01, 0.99, 41))
  values = stats.levy_stable.cdf(points, alpha, 0.0)
  check_law_at(x, points, values)
  with pytest.raises(AssertionError, match='error='):
    check_law_at(x, points, stats.levy_stable.cdf(points, alpha - 0.1, 0.0))


def test_variance_one_at_alpha_two_is_refused():
  x = stable.sample(seeds.key(4), 2.0, (MANY,))
  check_mean(np.square(np.float64(x)), 2.0, 8.0)
  with pytest.raises(AssertionError, match='error='):
    check_stable(x / math.sqrt(2), 2.0)
  with pytest.raises(AssertionError, match='error='):
    check_log_moments(x / math.sqrt(2), 2.0)
  with pytest.raises(AssertionError, match='pvalue'):
    check_law(x, stats.norm.cdf)


def test_alpha_off_by_four_percent_is_refused():
  x = stable.sample(seeds.key(5), 1.5, (MANY,))
  with pytest.raises(AssertionError, match='error='):
    check_stable(x, 1.56)
  with pytest.raises(AssertionError, match='error='):
    check_log_moments(x, 1.56)


def test_neighbours_are_uncorrelated():
  sign = np.sign(stable.sample(seeds.key(6), 1.5, (MANY,)))
  for lag in (1, 2, 8, 1024):
    agree = np.sum(sign[lag:] == sign[:-lag])
    check_count(agree, sign.size - lag, 0.5)


@functools.partial(jax.jit, static_argnames=('draw', 'chunks', 'size'))
def _count(key, alpha, tails, centre, draw, chunks, size):
  """Counts of chunks * size draws that are far out, near 0, not finite."""

  def step(counts, k):
    x = jnp.abs(draw(jax.random.fold_in(key, k), alpha, (size,)))
    new = [jnp.sum(x > t) for t in tails]
    new += [jnp.sum(x < centre), jnp.sum(~jnp.isfinite(x)), jnp.sum(x == 0)]
    return counts + jnp.stack(new), None

  zero = jnp.zeros(len(tails) + 3, jnp.int32)
  return jax.lax.scan(step, zero, jnp.arange(chunks))[0]


def _check_tails(key, alpha, probabilities, num_draws, draw=stable.sample):
  size = 1 << 20
  chunks = num_draws // size
  # Thresholds as float32 holds them, so that both sides mean the same.
  tails = [np.float32(stable_threshold(p, alpha)) for p in probabilities]
  # Near 0 the density is Gamma(1 + 1/alpha) / pi.
  density = 2.0 * math.gamma(1.0 + 1.0 / alpha) / math.pi
  centre = np.float32(probabilities[-1] / density)
  *far, near, broken, zeros = _count(
    key, alpha, tails, centre, draw, chunks, size
  )
  total = chunks * size
  for threshold, count in zip(tails, far, strict=True):
    check_count(count, total, stable_tail(float(threshold), alpha))
  check_count(near, total, float(centre) * density)
  # X = 0 would need |X| below the smallest float32, about 1e-38.
  assert broken == zeros == 0, f'{broken=} {zeros=}'


def _textbook(key, alpha, shape):
  """Chambers, Mallows & Stuck in float32 as it stands in books."""
  angle_key, exponential_key = jax.random.split(key)
  u = jax.random.uniform(angle_key, shape, minval=-np.pi / 2, maxval=np.pi / 2)
  w = jax.random.exponential(exponential_key, shape)
  rest = jnp.cos((1 - alpha) * u) / w
  return (
    jnp.sin(alpha * u)
    / jnp.cos(u) ** (1 / alpha)
    * rest ** ((1 - alpha) / alpha)
  )


@pytest.mark.parametrize('alpha', [0.5, 1.0, 1.5, 1.8, 2.0])
def test_tail_to_one_in_a_million(alpha):
  _check_tails(seeds.key(7), alpha, (1e-3, 1e-4, 1e-5, 1e-6), 20 * (1 << 20))


def test_tail_check_refuses_another_alpha():
  # 3 % in alpha at P = 1e-4: x^0.045 = 1.28 on a count of 2097 +- 46.
  def wrong(key, alpha, shape):
    return stable.sample(key, 0.97 * alpha, shape)

  with pytest.raises(AssertionError, match='count='):
    _check_tails(seeds.key(8), 1.5, (1e-3, 1e-4), 20 * (1 << 20), draw=wrong)


def test_textbook_sampler_is_refused():
  # It gives NaN (cos < 0) or 0 (u = 0) once per 3 million draws: 11 here.
  with pytest.raises(AssertionError, match='broken='):
    _check_tails(seeds.key(12), 1.8, (1e-3,), 1 << 25, draw=_textbook)


@pytest.mark.slow
@pytest.mark.parametrize('alpha', [0.5, 1.0, 1.5, 1.8, 2.0])
def test_tail_of_a_billion_draws(alpha):
  _check_tails(seeds.key(9), alpha, (1e-4, 1e-6, 1e-7, 1e-8), 954 * (1 << 20))


@pytest.mark.slow
@pytest.mark.parametrize('impl', ['rbg', 'unsafe_rbg'])
def test_tail_of_a_billion_draws_of_other_generators(impl):
  _check_tails(
    seeds.key(10, impl=impl), 1.5, (1e-4, 1e-6, 1e-8), 954 * (1 << 20)
  )


@pytest.mark.slow
def test_textbook_sampler_fails_the_tail_check():
  # 27 values are expected beyond the threshold; it has next to none there.
  with pytest.raises(AssertionError, match='count='):
    _check_tails(seeds.key(11), 1.8, (1e-7,), 1 << 28, draw=_textbook)


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('alpha', [0.15, 0.5, 0.75, 0.9, 0.975, 1 - 1e-6, 1.0])
def test_positive_law(alpha, dtype):
  with _precision(dtype):
    a = np.asarray(stable.sample_positive(seeds.key(20), alpha, (MANY,), dtype))
  assert a.dtype == dtype
  assert np.all(np.isfinite(a) & (a >= 0))
  for s in (0.1, 0.5, 1.0, 3.0):
    mean = math.exp(-(s**alpha))
    # The last term is the rounding of s A where the law is nearly a point.
    variance = math.exp(-((2 * s) ** alpha)) - mean**2 + 1e-12
    check_mean(np.exp(-s * np.float64(a)), mean, variance)


def test_positive_law_at_one_half():
  # A = 1 / (2 Z^2) with Z standard normal.
  a = stable.sample_positive(seeds.key(21), 0.5, (FEW,))
  check_law(a, stats.levy(scale=0.5).cdf)
  with pytest.raises(AssertionError, match='pvalue'):
    check_law(a, stats.levy(scale=0.5 * 1.1).cdf)


@pytest.mark.parametrize('alpha', [0.5, 0.75, 0.9])
def test_positive_tail(alpha):
  num_draws = 1 << 22
  a = stable.sample_positive(seeds.key(23), alpha, (num_draws,))
  for p in (1e-3, 1e-5):
    # P(A > x) = sum_k (-1)^(k+1) x^(-k alpha) / (k! Gamma(1 - k alpha)); the
    # next terms are below 3 % of the standard error of the count.
    x = float(np.float32((p * math.gamma(1 - alpha)) ** (-1 / alpha)))
    second = -math.sin(2 * math.pi * alpha) * math.gamma(2 * alpha)
    exact = x**-alpha / math.gamma(1 - alpha) + (
      second / (2 * math.pi) * x ** (-2 * alpha)
    )
    check_count(np.sum(np.asarray(a) > x), num_draws, exact)


def _phi(kind, u, alpha):
  if kind == 'type1':
    exponent = abs(u.sum()) ** alpha
  elif kind == 'type2':
    exponent = np.sum(np.abs(u) ** alpha)
  else:
    exponent = np.linalg.norm(u) ** alpha
  return math.exp(-exponent)


@pytest.mark.parametrize('kind', stable.KINDS)
@pytest.mark.parametrize('alpha', [0.6, 1.0, 1.5, 1.9, 2.0])
def test_vector_law(kind, alpha):
  x = stable.sample_vectors(seeds.key(30), alpha, (FEW, 3), kind=kind)
  x = np.float64(x)
  for u in seeds.generator(0).normal(size=(6, 3)):
    check_cosine(x @ u, _phi(kind, u, alpha), _phi(kind, 2 * u, alpha))


def test_vector_kinds_are_told_apart():
  # Exponents 0.09, 1.26 and 1.02.
  u = np.array([0.7, -0.7, 0.2])
  for made in stable.KINDS:
    x = stable.sample_vectors(seeds.key(31), 1.5, (FEW, 3), kind=made)
    for kind in set(stable.KINDS) - {made}:
      with pytest.raises(AssertionError, match='error='):
        check_cosine(x @ u, _phi(kind, u, 1.5), _phi(kind, 2 * u, 1.5))


def test_type3_is_rotation_invariant():
  x = np.float64(
    stable.sample_vectors(seeds.key(32), 1.4, (FEW, 3), kind='type3')
  )
  # On the sphere in three dimensions every coordinate is uniform, also among
  # the vectors that are long.
  radius = np.linalg.norm(x, axis=1)
  for part in (radius > 0, radius > np.quantile(radius, 0.9)):
    direction = x[part] / radius[part, None]
    for u in seeds.generator(1).normal(size=(4, 3)):
      check_law(direction @ (u / np.linalg.norm(u)), stats.uniform(-1, 2).cdf)


def test_type2_is_not_rotation_invariant():
  x = np.float64(
    stable.sample_vectors(seeds.key(33), 1.4, (FEW, 3), kind='type2')
  )
  direction = x / np.linalg.norm(x, axis=1, keepdims=True)
  with pytest.raises(AssertionError, match='pvalue'):
    check_law(direction[:, 0], stats.uniform(-1, 2).cdf)


@pytest.mark.parametrize('kind', ['type2', 'type3'])
def test_normal_vectors_at_alpha_two(kind):
  x = np.float64(stable.sample_vectors(seeds.key(34), 2.0, (FEW, 3), kind=kind))
  check_law(x, stats.norm(scale=math.sqrt(2)).cdf)
  check_law(np.sum(x**2, axis=1) / 2, stats.chi2(3).cdf)


@pytest.mark.parametrize('alpha', [0.3, 0.5])
def test_type3_reaches_beyond_the_square_root_of_the_largest_number(alpha):
  # A^(1/2) is drawn directly: A itself leaves float32 once in 10^6 draws.
  n = 1 << 23
  x = stable.sample_vectors(seeds.key(35), alpha, (n, 1), kind='type3')
  assert jnp.all(jnp.isfinite(x))
  for p in (1e-4, 2e-6):
    x_p = float(np.float32(stable_threshold(p, alpha)))
    check_count(jnp.sum(jnp.abs(x) > x_p), n, stable_tail(x_p, alpha))


@pytest.mark.parametrize('kind', stable.KINDS)
@pytest.mark.parametrize('alpha', [0.8, 1.0, 1.5, 2.0])
def test_increments_add_up(kind, alpha):
  # One component of each of FEW vectors; 16 fine steps make a coarse one.
  def path(key, step_size, num_steps):
    shape = (2, FEW)
    return stable.levy_increments(
      key, alpha, step_size, num_steps, shape, kind=kind, axis=0
    )

  fine = path(seeds.key(40), 0.3 / 16, 16)
  coarse = path(seeds.key(41), 0.3, 1)
  assert fine.shape == (16, 2, FEW)
  assert coarse.shape == (1, 2, FEW)
  total = np.sum(np.float64(fine), axis=0)
  check_same_law(total[0], coarse[0, 0])
  check_stable(total[0], alpha, 0.3 ** (1 / alpha))
  u = np.array([0.4, -1.0]) / 0.3 ** (1 / alpha)
  check_cosine(
    u @ total,
    _phi(kind, 0.3 ** (1 / alpha) * u, alpha),
    _phi(kind, 0.3 ** (1 / alpha) * 2 * u, alpha),
  )


def test_increments_with_square_root_scaling_are_refused():
  x = stable.sample(seeds.key(42), 1.5, (17, FEW))
  fine = (0.3 / 16) ** 0.5 * x[1:].sum(axis=0)
  coarse = 0.3**0.5 * x[0]
  with pytest.raises(AssertionError, match='pvalue'):
    check_same_law(fine, coarse)


def test_alpha_broadcasts():
  alphas = jnp.array([[0.5], [1.0], [2.0]])
  x = stable.sample(seeds.key(58), alphas, (3, FEW))
  for row, alpha in zip(np.asarray(x), (0.5, 1.0, 2.0), strict=True):
    check_stable(row, alpha)
  a = stable.sample_positive(seeds.key(59), alphas[:2], (2, FEW))
  np.testing.assert_array_equal(a[1], 1.0)
  check_law(a[0], stats.levy(scale=0.5).cdf)


@pytest.mark.parametrize('impl', ['threefry2x32', 'rbg', 'unsafe_rbg'])
def test_every_kind_of_key_gives_the_law(impl):
  x = stable.sample(seeds.key(64, impl=impl), 1.5, (FEW,))
  check_stable(x, 1.5)


def test_other_keys_and_other_alphas():
  x, y = (stable.sample(seeds.key(s), 1.5, (FEW,)) for s in (65, 66))
  check_count(np.sum(np.sign(x) == np.sign(y)), FEW, 0.5)


@pytest.mark.parametrize('alpha', [1.0, 2.0])
def test_no_jump_at_one_or_two(alpha):
  x = stable.sample(seeds.key(67), alpha, (FEW,))
  y = stable.sample(seeds.key(67), alpha - 1e-6, (FEW,))
  far = np.abs(np.asarray(y / x) - 1.0) > 1e-4
  # Below 2 the power tail sets in at angles within 1e-4 of the end: on
  # average 8 of these draws.
  assert np.sum(far) <= (0 if alpha == 1 else 40)
