"""Stable draws: the law at every alpha, its tail, its edges, its refusals."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from stat_checks import (
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

from htjax import stable
from htjax.stable import draws

ALPHAS = (0.3, 0.7, 1 - 1e-6, 1.0, 1 + 1e-6, 1.2, 1.5, 1.8, 1.95, 2.0)
# A cosine has standard deviation at most 1, so limits are below 0.005, which
# a scale wrong by 3 % exceeds twice at alpha = 1 and t = 1.
MANY = 1 << 20
FEW = 1 << 17
# The same draws compiled in another way may differ by the rounding of an
# exponent that stays below 16 for alpha >= 1: 16 * 2^-23.
RTOL = 2e-6

FLOATS = (jnp.float32, jnp.float64)


def _precision(dtype):
  return jax.enable_x64(dtype == jnp.float64)


# The symmetric law.


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('alpha', ALPHAS)
def test_symmetric_law(alpha, dtype):
  with _precision(dtype):
    x = np.asarray(stable.sample(jax.random.key(1), alpha, (MANY,), dtype))
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
    check_law(stable.sample(jax.random.key(2), alpha, (FEW,), dtype), cdf)


@pytest.mark.parametrize('alpha', [1.3, 1.75])
def test_law_agrees_with_scipy(alpha):
  # 1.36 / sqrt(MANY) would be the 5 % limit; this one is 0.0026.
  x = stable.sample(jax.random.key(3), alpha, (MANY,))
  points = stats.cauchy.ppf(np.linspace(0.01, 0.99, 41))
  values = stats.levy_stable.cdf(points, alpha, 0.0)
  check_law_at(x, points, values)
  with pytest.raises(AssertionError, match='error='):
    check_law_at(x, points, stats.levy_stable.cdf(points, alpha - 0.05, 0.0))


def test_variance_one_at_alpha_two_is_refused():
  x = stable.sample(jax.random.key(4), 2.0, (MANY,))
  check_mean(np.square(np.float64(x)), 2.0, 8.0)
  with pytest.raises(AssertionError, match='error='):
    check_stable(x / math.sqrt(2), 2.0)
  with pytest.raises(AssertionError, match='error='):
    check_log_moments(x / math.sqrt(2), 2.0)
  with pytest.raises(AssertionError, match='pvalue'):
    check_law(x, stats.norm.cdf)


def test_alpha_off_by_two_percent_is_refused():
  x = stable.sample(jax.random.key(5), 1.5, (MANY,))
  with pytest.raises(AssertionError, match='error='):
    check_stable(x, 1.53)
  with pytest.raises(AssertionError, match='error='):
    check_log_moments(x, 1.53)


def test_neighbours_are_uncorrelated():
  sign = np.sign(stable.sample(jax.random.key(6), 1.5, (MANY,)))
  for lag in (1, 2, 8, 1024):
    agree = np.sum(sign[lag:] == sign[:-lag])
    check_count(agree, sign.size - lag, 0.5)


# Tails.


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
  _check_tails(
    jax.random.key(7), alpha, (1e-3, 1e-4, 1e-5, 1e-6), 20 * (1 << 20)
  )


def test_tail_check_refuses_another_alpha():
  # 3 % in alpha at P = 1e-4: x^0.045 = 1.28 on a count of 2097 +- 46.
  def wrong(key, alpha, shape):
    return stable.sample(key, 0.97 * alpha, shape)

  with pytest.raises(AssertionError, match='count='):
    _check_tails(
      jax.random.key(8), 1.5, (1e-3, 1e-4), 20 * (1 << 20), draw=wrong
    )


def test_textbook_sampler_is_refused():
  # It gives NaN (cos < 0) or 0 (u = 0) once per 3 million draws: 11 here.
  with pytest.raises(AssertionError, match='broken='):
    _check_tails(jax.random.key(12), 1.8, (1e-3,), 1 << 25, draw=_textbook)


@pytest.mark.slow
@pytest.mark.parametrize('alpha', [0.5, 1.0, 1.5, 1.8, 2.0])
def test_tail_of_a_billion_draws(alpha):
  _check_tails(
    jax.random.key(9), alpha, (1e-4, 1e-6, 1e-7, 1e-8), 954 * (1 << 20)
  )


@pytest.mark.slow
@pytest.mark.parametrize('impl', ['rbg', 'unsafe_rbg'])
def test_tail_of_a_billion_draws_of_other_generators(impl):
  _check_tails(
    jax.random.key(10, impl=impl), 1.5, (1e-4, 1e-6, 1e-8), 954 * (1 << 20)
  )


@pytest.mark.slow
def test_textbook_sampler_fails_the_tail_check():
  # 27 values are expected beyond the threshold; it has next to none there.
  with pytest.raises(AssertionError, match='count='):
    _check_tails(jax.random.key(11), 1.8, (1e-7,), 1 << 28, draw=_textbook)


# The formula, word by word.


def _from_words(monkeypatch, draw, alpha, dtype):
  """Draws for all pairs of edge and random words, with angle and exponential.

  The angle u in (0, 1), its distance from 1 and w are in extended precision.
  """
  bits = np.dtype(dtype).itemsize * 8
  top = 2 ** (bits - 1)
  # The ends of every interval that a word stands for, and their neighbours.
  edges = [0, 1, 2, top // 2, top - 2, top - 1, top, 2 * top - 2, 2 * top - 1]
  random = np.random.default_rng(2).integers(0, 2**63, 40) >> (64 - bits)
  words = np.array([*edges, *(2 * int(r) + 1 for r in random)], np.uint64)
  a, b = (x.ravel() for x in np.meshgrid(words, words))
  low = 2**32 - 1
  pairs = [(a, b)]
  if bits == 64:
    pairs = [(a >> 32, a & low), (b >> 32, b & low)]
  pairs = [tuple(jnp.asarray(x, jnp.uint32) for x in p) for p in pairs]
  monkeypatch.setattr(draws, 'word_pairs', lambda key, shape, num=1: pairs)
  # Without the compiled functions, which would keep these words.
  x = draw(None, alpha, a.shape, np.dtype(dtype))
  k, m = a & np.uint64(top - 1), np.where(b < top, b, 2 * top - 1 - b)
  u, far, v = (
    (n.astype(np.longdouble) + np.longdouble(0.5)) / top
    for n in (k, top - 1 - k, m)
  )
  w = -np.where(b < top, np.log(v / 2), np.log1p(-v / 2))
  return np.asarray(x), u, far, w, a >= top


# A power of at most 1 of a number below e^45 (e^90), in roundings of 2^-24
# (2^-53).
FORMULA_RTOL = {jnp.float32: 1e-5, jnp.float64: 4e-14}
PI = np.longdouble('3.14159265358979323846')


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('alpha', [0.5, 1 - 1e-6, 1.0, 1.5, 1.8, 1.95, 2.0])
def test_symmetric_draws_follow_the_formula(monkeypatch, alpha, dtype):
  def draw(key, alpha, shape, dtype):
    return draws._sample.__wrapped__(key, alpha, 1.0, shape, dtype)

  with _precision(dtype):
    x, u, far, w, negative = _from_words(monkeypatch, draw, alpha, dtype)
  alpha = np.longdouble(np.dtype(dtype).type(alpha))
  u, far = u * PI / 2, far * PI / 2
  exact = np.sin(np.minimum(alpha * u, (2 - alpha) * PI / 2 + alpha * far))
  exact /= np.sin(far) ** (1 / alpha)
  rest = np.cos((1 - alpha) * u) if alpha < 2 else np.sin(far)
  exact *= (rest / w) ** ((1 - alpha) / alpha)
  exact = np.where(negative, -exact, exact)
  np.testing.assert_allclose(x, exact, rtol=FORMULA_RTOL[dtype])


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('alpha', [0.5, 0.75, 0.9, 0.975, 1 - 1e-6])
def test_positive_draws_follow_the_formula(monkeypatch, alpha, dtype):
  draw = draws._sample_positive.__wrapped__
  with _precision(dtype):
    a, u, far, w, _ = _from_words(monkeypatch, draw, alpha, dtype)
  alpha = np.longdouble(np.dtype(dtype).type(alpha))
  sine = np.sin(PI * np.minimum(u, far))
  exact = np.sin(PI * np.minimum(alpha * u, 1 - alpha + alpha * far))
  exact *= sine ** (-1 / alpha)
  exact *= (np.sin((1 - alpha) * PI * u) / w) ** ((1 - alpha) / alpha)
  np.testing.assert_allclose(a, exact, rtol=FORMULA_RTOL[dtype])


# The one-sided law.


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('alpha', [0.15, 0.5, 0.75, 0.9, 0.975, 1 - 1e-6, 1.0])
def test_positive_law(alpha, dtype):
  with _precision(dtype):
    a = np.asarray(
      stable.sample_positive(jax.random.key(20), alpha, (MANY,), dtype)
    )
  assert a.dtype == dtype
  assert np.all(np.isfinite(a) & (a >= 0))
  for s in (0.1, 0.5, 1.0, 3.0):
    mean = math.exp(-(s**alpha))
    # The last term is the rounding of s A where the law is nearly a point.
    variance = math.exp(-((2 * s) ** alpha)) - mean**2 + 1e-12
    check_mean(np.exp(-s * np.float64(a)), mean, variance)


def test_positive_law_at_one_half():
  # A = 1 / (2 Z^2) with Z standard normal.
  a = stable.sample_positive(jax.random.key(21), 0.5, (FEW,))
  check_law(a, stats.levy(scale=0.5).cdf)
  with pytest.raises(AssertionError, match='pvalue'):
    check_law(a, stats.levy(scale=0.5 * 1.05).cdf)


def test_positive_law_at_one_is_one():
  a = stable.sample_positive(jax.random.key(22), 1.0, (1000,))
  np.testing.assert_array_equal(a, 1.0)


@pytest.mark.parametrize('alpha', [0.5, 0.75, 0.9])
def test_positive_tail(alpha):
  num_draws = 1 << 22
  a = stable.sample_positive(jax.random.key(23), alpha, (num_draws,))
  for p in (1e-3, 1e-5):
    # P(A > x) = sum_k (-1)^(k+1) x^(-k alpha) / (k! Gamma(1 - k alpha)); the
    # next terms are below 3 % of the standard error of the count.
    x = float(np.float32((p * math.gamma(1 - alpha)) ** (-1 / alpha)))
    second = -math.sin(2 * math.pi * alpha) * math.gamma(2 * alpha)
    exact = x**-alpha / math.gamma(1 - alpha) + (
      second / (2 * math.pi) * x ** (-2 * alpha)
    )
    check_count(np.sum(np.asarray(a) > x), num_draws, exact)


# Vectors.


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
  x = stable.sample_vectors(jax.random.key(30), alpha, (FEW, 3), kind=kind)
  x = np.float64(x)
  for u in np.random.default_rng(0).normal(size=(6, 3)):
    check_cosine(x @ u, _phi(kind, u, alpha), _phi(kind, 2 * u, alpha))


def test_vector_kinds_are_told_apart():
  u = np.array([0.5, 0.7, -0.2])
  for made in stable.KINDS:
    x = stable.sample_vectors(jax.random.key(31), 1.5, (FEW, 3), kind=made)
    for kind in set(stable.KINDS) - {made}:
      with pytest.raises(AssertionError, match='error='):
        check_cosine(x @ u, _phi(kind, u, 1.5), _phi(kind, 2 * u, 1.5))


def test_type3_is_rotation_invariant():
  x = np.float64(
    stable.sample_vectors(jax.random.key(32), 1.4, (FEW, 3), kind='type3')
  )
  # On the sphere in three dimensions every coordinate is uniform, also among
  # the vectors that are long.
  radius = np.linalg.norm(x, axis=1)
  for part in (radius > 0, radius > np.quantile(radius, 0.9)):
    direction = x[part] / radius[part, None]
    for u in np.random.default_rng(1).normal(size=(4, 3)):
      check_law(direction @ (u / np.linalg.norm(u)), stats.uniform(-1, 2).cdf)


def test_type2_is_not_rotation_invariant():
  x = np.float64(
    stable.sample_vectors(jax.random.key(33), 1.4, (FEW, 3), kind='type2')
  )
  direction = x / np.linalg.norm(x, axis=1, keepdims=True)
  with pytest.raises(AssertionError, match='pvalue'):
    check_law(direction[:, 0], stats.uniform(-1, 2).cdf)


@pytest.mark.parametrize('kind', ['type2', 'type3'])
def test_normal_vectors_at_alpha_two(kind):
  x = np.float64(
    stable.sample_vectors(jax.random.key(34), 2.0, (FEW, 3), kind=kind)
  )
  check_law(x, stats.norm(scale=math.sqrt(2)).cdf)
  check_law(np.sum(x**2, axis=1) / 2, stats.chi2(3).cdf)


@pytest.mark.parametrize('alpha', [0.3, 0.5])
def test_type3_reaches_beyond_the_square_root_of_the_largest_number(alpha):
  # A^(1/2) is drawn directly: A itself leaves float32 once in 10^6 draws.
  n = 1 << 23
  x = stable.sample_vectors(jax.random.key(35), alpha, (n, 1), kind='type3')
  assert jnp.all(jnp.isfinite(x))
  for p in (1e-4, 2e-6):
    x_p = float(np.float32(stable_threshold(p, alpha)))
    check_count(jnp.sum(jnp.abs(x) > x_p), n, stable_tail(x_p, alpha))


def test_type1_is_constant_along_its_axes():
  def spread(axis):
    x = stable.sample_vectors(
      jax.random.key(36), 1.5, (4, 3, 5), kind='type1', axis=axis
    )
    return [len(np.unique(x)), *(np.ptp(x, axis=i).max() for i in range(3))]

  assert spread(0)[0] == 15
  assert spread(0)[1] == 0 < min(spread(0)[2:])
  assert spread(-3) == spread(0)
  assert spread(-1)[0] == 12
  assert spread(-1)[3] == 0 < min(spread(-1)[1:3])
  assert spread((0, 1))[0] == 5
  assert max(spread((0, -2))[1:3]) == 0 < spread((0, -2))[3]
  assert spread((0, 1, 2))[0] == 1
  assert spread(())[0] == 60


def test_type3_shares_its_radius_along_its_axes():
  # At alpha = 0.2 the radius spans tens of decades, the normals few.
  x = stable.sample_vectors(
    jax.random.key(37), 0.2, (50, 40, 30), kind='type3', axis=(0, -1)
  )
  size = np.log10(np.abs(np.asarray(x)))
  assert np.ptp(np.median(size, axis=(0, 2))) > 5
  within = size - np.median(size, axis=(0, 2), keepdims=True)
  assert np.mean(np.abs(within) > 2) < 0.02


@pytest.mark.parametrize('kind', stable.KINDS)
def test_vectors_scale(kind):
  def draw(scale):
    return stable.sample_vectors(
      jax.random.key(38), 1.5, (3, 4), kind=kind, scale=scale
    )

  scales = jnp.array([0.0, 1.0, 2.5, 4.0])
  np.testing.assert_allclose(draw(3.0), 3.0 * draw(1.0), rtol=RTOL)
  np.testing.assert_allclose(
    draw(scales), draw(1.0) * scales[None, :], rtol=RTOL
  )
  np.testing.assert_allclose(
    jax.vmap(draw)(scales), draw(1.0)[None] * scales[:, None, None], rtol=RTOL
  )
  np.testing.assert_array_equal(draw(0.0), 0.0)


# Lévy increments.


@pytest.mark.parametrize('kind', stable.KINDS)
@pytest.mark.parametrize('alpha', [0.8, 1.0, 1.5, 2.0])
def test_increments_add_up(kind, alpha):
  # One component of each of FEW vectors; 16 fine steps make a coarse one.
  def path(key, step_size, num_steps):
    shape = (2, FEW)
    return stable.levy_increments(
      key, alpha, step_size, num_steps, shape, kind=kind, axis=0
    )

  fine = path(jax.random.key(40), 0.3 / 16, 16)
  coarse = path(jax.random.key(41), 0.3, 1)
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
  x = stable.sample(jax.random.key(42), 1.5, (17, FEW))
  fine = (0.3 / 16) ** 0.5 * x[1:].sum(axis=0)
  coarse = 0.3**0.5 * x[0]
  with pytest.raises(AssertionError, match='pvalue'):
    check_same_law(fine, coarse)


def test_each_step_depends_on_key_and_number_alone():
  def path(num_steps):
    return stable.levy_increments(
      jax.random.key(43), 1.5, 0.1, num_steps, (3, 2), kind='type2'
    )

  np.testing.assert_allclose(path(7)[:4], path(4), rtol=RTOL)
  redrawn = stable.sample_vectors(
    jax.random.fold_in(jax.random.key(43), 5),
    1.5,
    (3, 2),
    kind='type2',
    scale=0.1 ** (1 / 1.5),
  )
  np.testing.assert_allclose(path(7)[5], redrawn, rtol=RTOL)
  assert len(np.unique(path(7))) == 42


def test_increments_take_traced_alpha_and_step_size():
  @jax.jit
  def path(alpha, step_size):
    return stable.levy_increments(
      jax.random.key(44), alpha, step_size, 3, (4,), kind='type3'
    )

  for alpha, step_size in ((1.2, 0.5), (2.0, 0.01)):
    eager = stable.levy_increments(
      jax.random.key(44), alpha, step_size, 3, (4,), kind='type3'
    )
    np.testing.assert_allclose(path(alpha, step_size), eager, rtol=RTOL)
  assert path._cache_size() == 1
  assert jnp.all(jnp.isnan(path(1.5, -0.1)))


# Shapes, transformations, devices.


@pytest.mark.parametrize('shape', [(), (0,), (3, 0), (1,), (2, 3, 4)])
@pytest.mark.parametrize('dtype', FLOATS)
def test_shapes(shape, dtype):
  with _precision(dtype):
    symmetric = stable.sample(jax.random.key(50), 1.5, shape, dtype)
    positive = stable.sample_positive(jax.random.key(51), 0.5, shape, dtype)
  assert symmetric.shape == positive.shape == shape
  assert symmetric.dtype == positive.dtype == dtype


def test_an_integer_is_a_shape():
  for shape in (5, np.int64(5), [5]):
    assert stable.sample(jax.random.key(52), 1.5, shape).shape == (5,)
  assert stable.sample(jax.random.key(52), 2).shape == ()


@pytest.mark.parametrize('alpha', [1e-37, 1e-20, 1e-3, 0.05, 0.2])
def test_tiny_alpha_stays_finite(alpha):
  # About half of the draws lie beyond the largest float32 at 0.001.
  x = np.asarray(stable.sample(jax.random.key(53), alpha, (FEW,)))
  a = np.asarray(stable.sample_positive(jax.random.key(54), alpha, (FEW,)))
  assert np.all(np.isfinite(x))
  assert np.all(np.isfinite(a) & (a >= 0))
  for scale in (0.0, 1e30):
    vectors = stable.sample_vectors(
      jax.random.key(55), alpha, (FEW // 4, 4), kind='type3', scale=scale
    )
    assert jnp.all(jnp.isfinite(vectors))
    assert jnp.all(vectors == 0) == (scale == 0)


@pytest.mark.parametrize('alpha', [1e-3, 0.05, 1.0, 2.0])
def test_scale_zero_is_zero(alpha):
  # Also where the unscaled draw has left float32.
  @jax.jit
  def draw(scale):
    return stable.sample(jax.random.key(56), alpha, (FEW,), scale=scale)

  np.testing.assert_array_equal(draw(0.0), 0.0)
  np.testing.assert_array_equal(
    stable.sample(jax.random.key(56), alpha, (FEW,), scale=0), 0.0
  )


def test_scale_multiplies():
  x = stable.sample(jax.random.key(57), 1.5, (2, 3))
  scales = jnp.array([0.5, 1.0, 3.0])
  np.testing.assert_allclose(
    stable.sample(jax.random.key(57), 1.5, (2, 3), scale=scales),
    x * scales[None, :],
    rtol=RTOL,
  )


def test_alpha_broadcasts():
  alphas = jnp.array([[0.5], [1.0], [2.0]])
  x = stable.sample(jax.random.key(58), alphas, (3, FEW))
  for row, alpha in zip(np.asarray(x), (0.5, 1.0, 2.0), strict=True):
    check_stable(row, alpha)
  a = stable.sample_positive(jax.random.key(59), alphas[:2], (2, FEW))
  np.testing.assert_array_equal(a[1], 1.0)
  check_law(a[0], stats.levy(scale=0.5).cdf)


@pytest.mark.parametrize('name', ['alpha', 'scale'])
def test_parameters_larger_than_the_shape_are_refused(name):
  # They would give several draws of the same randomness.
  wide = {'alpha': 1.5, 'scale': 1.0, name: jnp.ones(3)}
  for shape in ((), (1,), (2,), (3, 1)):
    with pytest.raises(ValueError, match=f'{name} must broadcast to shape'):
      stable.sample(
        jax.random.key(60), wide['alpha'], shape, scale=wide['scale']
      )


def _draws(key, alpha):
  keys = jax.random.split(key, 5)
  return (
    stable.sample(keys[0], alpha, (7, 3)),
    stable.sample_positive(keys[1], alpha / 2, (7, 3)),
    *(
      stable.sample_vectors(k, alpha, (7, 3), kind=kind)
      for k, kind in zip(keys[2:], stable.KINDS, strict=True)
    ),
  )


def test_jit_equals_eager():
  for alpha in (1.0, 1.5, 2.0):
    eager = _draws(jax.random.key(61), alpha)
    compiled = jax.jit(_draws)(jax.random.key(61), alpha)
    for a, b in zip(eager, compiled, strict=True):
      np.testing.assert_allclose(a, b, rtol=RTOL)


def test_one_compilation_serves_every_alpha_and_scale():
  @jax.jit
  def draw(alpha, scale):
    return stable.sample(jax.random.key(62), alpha, (5,), scale=scale)

  for alpha, scale in ((0.5, 1.0), (1.0, 2.0), (2.0, 0.0)):
    draw(alpha, scale)
  assert draw._cache_size() == 1


def test_vmap_equals_a_loop():
  def keys():
    return jax.random.split(jax.random.key(63), 4)

  alphas = jnp.array([0.7, 1.0, 1.6, 2.0])
  mapped = jax.vmap(_draws)(keys(), alphas)
  for i in range(4):
    one = _draws(keys()[i], alphas[i])
    for a, b in zip(mapped, one, strict=True):
      np.testing.assert_allclose(a[i], b, rtol=RTOL)


@pytest.mark.parametrize('impl', ['threefry2x32', 'rbg', 'unsafe_rbg'])
def test_every_kind_of_key_gives_the_law(impl):
  x = stable.sample(jax.random.key(64, impl=impl), 1.5, (FEW,))
  check_stable(x, 1.5)


def test_other_keys_and_other_alphas():
  x, y = (stable.sample(jax.random.key(s), 1.5, (FEW,)) for s in (65, 66))
  check_count(np.sum(np.sign(x) == np.sign(y)), FEW, 0.5)


@pytest.mark.parametrize('alpha', [1.0, 2.0])
def test_no_jump_at_one_or_two(alpha):
  x = stable.sample(jax.random.key(67), alpha, (FEW,))
  y = stable.sample(jax.random.key(67), alpha - 1e-6, (FEW,))
  far = np.abs(np.asarray(y / x) - 1.0) > 1e-4
  # Below 2 the power tail sets in at angles within 1e-4 of the end: on
  # average 8 of these draws.
  assert np.sum(far) <= (0 if alpha == 1 else 40)


@pytest.mark.parametrize('alpha', [0.5, 1.0, 1.5, 1.9])
def test_draws_can_be_differentiated(alpha):
  with jax.enable_x64(True):

    def draw(alpha, scale):
      return stable.sample(
        jax.random.key(68), alpha, (1000,), jnp.float64, scale=scale
      )

    x, by_scale = jax.jvp(lambda s: draw(alpha, s), (2.0,), (1.0,))
    np.testing.assert_allclose(by_scale, x / 2.0, rtol=1e-12)
    # The error is the curvature, log(1e6)^2 |x| h at most for these powers.
    h = 1e-6
    x, by_alpha = jax.jvp(lambda a: draw(a, 1.0), (alpha,), (1.0,))
    difference = (x - draw(alpha - h, 1.0)) / h
    np.testing.assert_allclose(
      by_alpha, difference, rtol=1e-3, atol=1e-3 * np.abs(x).max()
    )
    assert np.mean(by_alpha != 0) > 0.99


@pytest.mark.parametrize('kind', stable.KINDS)
def test_gradients_are_finite(kind):
  @jax.jit
  def gradient(alpha, scale):
    def size(alpha, scale):
      x = stable.sample_vectors(
        jax.random.key(69), alpha, (1000, 3), kind=kind, scale=scale
      )
      return jnp.sum(jnp.log1p(jnp.abs(x)))

    return jax.grad(size, argnums=(0, 1))(alpha, scale)

  for alpha in (0.5, 1.0, 1.5, 2.0):
    by_alpha, by_scale = gradient(alpha, 2.0)
    assert np.isfinite(by_alpha)
    # d/ds sum log(1 + s |z|) = sum |z| / (1 + s |z|) lies in (0, n / s).
    assert 0 < by_scale < 3000 / 2.0
    # A smaller alpha has larger values.
    if alpha < 2:
      assert by_alpha < 0


def test_eight_devices_equal_one():
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ('d',))
  spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('d'))
  assert mesh.size == 8

  for kind in stable.KINDS:

    def draw(key, kind=kind):
      return stable.sample_vectors(key, 1.5, (1 << 10, 8), kind=kind)

    one = jax.jit(draw)(jax.random.key(70))
    compiled = jax.jit(draw, out_shardings=spread)
    eight = compiled(jax.random.key(70))
    assert len(eight.sharding.device_set) == 8
    np.testing.assert_allclose(one, eight, rtol=RTOL)
    # Each device draws its own part.
    text = compiled.lower(jax.random.key(70)).compile().as_text()
    assert 'all-gather' not in text
    assert 'all-reduce' not in text


# Refusals.


@pytest.mark.parametrize('alpha', [0, -1.0, 2.1, math.nan, math.inf, 'a', 1j])
@pytest.mark.parametrize('made', [float, np.asarray])
def test_bad_alpha(alpha, made):
  if made is not float:
    alpha = made(alpha)
  with pytest.raises(ValueError, match='alpha must'):
    stable.sample(jax.random.key(80), alpha)
  with pytest.raises(ValueError, match='alpha must'):
    stable.sample_vectors(jax.random.key(80), alpha, (3,), kind='type3')
  with pytest.raises(ValueError, match='alpha must'):
    stable.sample_positive(jax.random.key(80), alpha)
  with pytest.raises(ValueError, match='alpha must'):
    stable.levy_increments(
      jax.random.key(80), alpha, 0.1, 3, (2,), kind='type1'
    )


def test_positive_alpha_above_one():
  with pytest.raises(ValueError, match=r'alpha must lie in \(0, 1\], got 1.5'):
    stable.sample_positive(jax.random.key(80), 1.5)


@pytest.mark.parametrize('scale', [-1.0, math.nan, math.inf])
def test_bad_scale(scale):
  with pytest.raises(ValueError, match='scale must lie in'):
    stable.sample(jax.random.key(80), 1.5, scale=scale)
  with pytest.raises(ValueError, match='scale must lie in'):
    stable.sample_vectors(
      jax.random.key(80), 1.5, (3,), kind='type1', scale=scale
    )


def test_traced_bad_values_give_nan():
  @jax.jit
  def draw(alpha, scale):
    return [
      stable.sample(jax.random.key(81), alpha, (3,), scale=scale),
      *(
        stable.sample_vectors(
          jax.random.key(82), alpha, (3,), kind=kind, scale=scale
        )
        for kind in stable.KINDS
      ),
    ]

  positive = jax.jit(
    lambda alpha: stable.sample_positive(jax.random.key(83), alpha, (3,))
  )
  for alpha in (0.0, -1.0, 2.001, math.nan, math.inf):
    assert jnp.all(jnp.isnan(jnp.stack(draw(alpha, 1.0))))
    assert jnp.all(jnp.isnan(positive(alpha)))
  assert jnp.all(jnp.isnan(positive(1.001)))
  for scale in (-1.0, math.nan, math.inf):
    assert jnp.all(jnp.isnan(jnp.stack(draw(1.5, scale))))


@pytest.mark.parametrize('shape', [(-1,), -1, (2.5,), ('a',), (True,)])
def test_bad_shape(shape):
  with pytest.raises(ValueError, match='shape must be an integer >= 0'):
    stable.sample(jax.random.key(84), 1.5, shape)


def test_bad_vectors():
  key = jax.random.key(85)
  with pytest.raises(ValueError, match="kind must be one of 'type1', 'type2'"):
    stable.sample_vectors(key, 1.5, (3,), kind='type4')
  for axis in (2, -3, (0, 2)):
    with pytest.raises(ValueError, match=r'axis must be an axis of shape'):
      stable.sample_vectors(key, 1.5, (3, 2), kind='type1', axis=axis)
  with pytest.raises(ValueError, match='axis must be an axis of shape'):
    stable.sample_vectors(key, 1.5, (), kind='type1')
  with pytest.raises(ValueError, match='alpha must be a scalar'):
    stable.sample_vectors(key, jnp.ones(3), (3,), kind='type2')


def test_bad_increments():
  def path(**changes):
    good = {
      'key': jax.random.key(86),
      'alpha': 1.5,
      'step_size': 0.1,
      'num_steps': 3,
      'shape': (2,),
      'kind': 'type1',
    }
    stable.levy_increments(**(good | changes))

  for step_size in (0.0, -1.0, math.nan, math.inf):
    with pytest.raises(ValueError, match='step_size must lie in'):
      path(step_size=step_size)
  for num_steps in (0, -1, 2.0, True):
    with pytest.raises(ValueError, match='num_steps must be an integer'):
      path(num_steps=num_steps)
  with pytest.raises(ValueError, match='kind must be one of'):
    path(kind='I')
  with pytest.raises(ValueError, match='axis must be an axis'):
    path(axis=1)
  with pytest.raises(ValueError, match='key must be a typed key'):
    path(key=3)


def _calls(key, dtype=jnp.float32):
  return (
    lambda: stable.sample(key, 1.5, (), dtype),
    lambda: stable.sample_positive(key, 0.5, (), dtype),
    lambda: stable.sample_vectors(key, 1.5, (2,), dtype, kind='type3'),
    lambda: stable.levy_increments(
      key, 1.5, 0.1, 2, (2,), kind='type1', dtype=dtype
    ),
  )


@pytest.mark.parametrize(
  ('key', 'message'),
  [
    (0, 'key must be a typed key'),
    (np.zeros(2, np.uint32), 'got a legacy uint32 key'),
    (None, 'got None'),
  ],
)
def test_bad_keys(key, message):
  for call in _calls(key):
    with pytest.raises(ValueError, match=message):
      call()


def test_arrays_of_keys_are_refused():
  for call in _calls(jax.random.split(jax.random.key(87), 2)):
    with pytest.raises(ValueError, match='key must be a single key'):
      call()


@pytest.mark.parametrize('dtype', [jnp.float16, jnp.bfloat16, jnp.int32])
def test_bad_dtypes(dtype):
  for call in _calls(jax.random.key(88), dtype):
    with pytest.raises(ValueError, match='dtype must be float32 or float64'):
      call()


def test_float64_needs_x64():
  for call in _calls(jax.random.key(89), jnp.float64):
    with pytest.raises(ValueError, match=r'needs jax\.enable_x64'):
      call()


@pytest.mark.parametrize('index', range(4))
def test_a_key_is_used_once(index):
  key = jax.random.key(90)
  call = _calls(key)[index]
  call()
  if index < 3:
    with pytest.raises(jax.errors.KeyReuseError):
      call()
  else:
    # Steps fold their number into the key and leave it as it is.
    call()


def test_strict_promotion():
  with jax.numpy_dtype_promotion('strict'):
    for call in _calls(jax.random.key(91))[:1] + _calls(jax.random.key(91))[3:]:
      call()
    for draw in _draws(jax.random.key(92), jnp.float32(1.5)):
      assert draw.dtype == jnp.float32
