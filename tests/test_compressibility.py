"""Compressibility against brute force, closed forms and published numbers."""

import itertools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from htjax import compressibility as C

STUDENT = np.random.default_rng(0).standard_t(1.8, size=(2048, 64))
Z = 5.0

# Few lengths, so that few programs are compiled.
small_integers = st.sampled_from([1, 2, 7, 30]).flatmap(
  lambda d: st.lists(st.integers(-3, 3), min_size=d, max_size=d)
)


def _sorted_errors(x, p):
  """Relative error after removing the 0, 1, .., d smallest entries."""
  s = np.sort(np.abs(np.asarray(x, np.float64).ravel()))
  return (np.concatenate([[0.0], np.cumsum(s**p)]) / np.sum(s**p)) ** (1 / p)


def _uniform(key, fan_in, n):
  b = fan_in**-0.5
  return jax.random.uniform(key, (fan_in, n), minval=-b, maxval=b)


def _standard_error(samples):
  return np.std(samples, ddof=1) / math.sqrt(np.size(samples))


def _median_error(samples):
  """Standard error of a median, from the interquartile range."""
  low, high = np.quantile(samples, [0.25, 0.75])
  return 1.2533 * (high - low) / 1.349 / math.sqrt(np.size(samples))


# Best k-term approximation.


@pytest.mark.parametrize('k', range(7))
@pytest.mark.parametrize('p', [0.5, 1, 2])
def test_best_k_is_the_best_of_all_subsets(k, p):
  # Numbers that float32 holds exactly, so that kept entries cancel.
  x = np.float64(np.float32(np.random.default_rng(k).standard_cauchy(6)))
  ours = np.float64(C.best_k(x, k))
  assert np.count_nonzero(ours) == k
  assert np.all((ours == 0) | (ours == x))
  error = np.sum(np.abs(x - ours) ** p)
  best = min(
    np.sum(np.abs(np.delete(x, kept)) ** p)
    for kept in itertools.combinations(range(6), k)
  )
  np.testing.assert_allclose(error, best, rtol=1e-12)


@settings(deadline=None, max_examples=60)
@given(small_integers, st.data())
def test_mask_has_exact_count_and_index_order_under_ties(values, data):
  k = data.draw(st.integers(0, len(values)))
  scores = np.abs(np.asarray(values, np.float32))
  mask = np.asarray(C.largest(jnp.asarray(scores), k))
  expected = np.zeros(len(values), bool)
  expected[np.argsort(-scores, kind='stable')[:k]] = True
  np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize('x64', [False, True])
def test_mask_orders_extreme_numbers(x64):
  with jax.enable_x64(x64):
    dtype = np.float64 if x64 else np.float32
    tiny, huge = np.finfo(dtype).tiny, np.finfo(dtype).max
    scores = jnp.asarray([0.0, tiny, np.inf, 1.0, np.nan, huge, -0.0], dtype)
    order = [4, 2, 5, 3, 1, 0, 6]
    for k in range(8):
      mask = C.largest(scores, k)
      assert sorted(np.flatnonzero(mask)) == sorted(order[:k])


def test_mask_saturates_at_both_ends():
  scores = jnp.array([0.0, 2.0, 0.0])
  assert not np.any(C.largest(scores, -1))
  assert np.all(C.largest(scores, 4))


def test_best_k_ranks_over_the_whole_array():
  x = jnp.array([[1.0, -5.0], [3.0, 2.0]])
  np.testing.assert_array_equal(C.best_k(x, 2), [[0.0, -5.0], [3.0, 0.0]])


# Errors and fractions.


@pytest.mark.parametrize('rounding', ['ceil', 'floor'])
@pytest.mark.parametrize('p', [0.5, 1, 2, 3.7])
def test_compression_error_against_sorted_sums(p, rounding):
  x = np.random.default_rng(3).standard_t(1.5, size=(7, 30)).astype(np.float32)
  kappa = np.array([[0.004, 0.1, 0.25], [0.5, 0.999, 1.0]])
  rounded = np.ceil if rounding == 'ceil' else np.floor
  removed = 210 - rounded(kappa * 210).astype(int)
  expected = _sorted_errors(x, p)[removed]
  ours = C.compression_error(x, kappa, p=p, rounding=rounding)
  # 210 positive terms and a root, each good to a few roundings.
  np.testing.assert_allclose(ours, expected, rtol=1e-5)
  assert (ours[0, 0] == 1) == (rounding == 'floor')


@pytest.mark.parametrize('p', [0.5, 1, 2])
def test_smallest_kappa_against_all_counts(p):
  x = np.random.default_rng(5).standard_t(1.5, size=61).astype(np.float32)
  errors = _sorted_errors(x, p)
  # Away from the errors themselves, where rounding would decide.
  bounds = np.concatenate([[0.0], (errors[:-1] + errors[1:]) / 2, [1.0]])
  expected = [1 - np.flatnonzero(errors <= b).max() / 61 for b in bounds]
  ours = C.smallest_kappa(x, bounds, p=p)
  np.testing.assert_allclose(ours, expected, atol=1e-7)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 2**20), st.data())
def test_a_fraction_of_k_over_d_counts_k(d, data):
  k = data.draw(st.integers(0, d))
  for rounding in C.ROUNDINGS:
    assert C.kept_count(k / d, d, rounding) == k
    assert C.kept_count(np.float32(k / d), d, rounding) == k


@pytest.mark.parametrize(
  ('kappa', 'size', 'ceil', 'floor'),
  [(0.1, 10, 1, 1), (0.29, 100, 29, 29), (0.15, 10, 2, 1), (0.001, 10, 1, 0)],
)
def test_counts_by_hand(kappa, size, ceil, floor):
  for rounding, expected in (('ceil', ceil), ('floor', floor)):
    assert C.kept_count(kappa, size, rounding) == expected
    traced = jax.jit(lambda x, r=rounding: C.kept_count(x, size, r))(kappa)
    assert traced == expected
  # What the care is for: the bare product is above 29, or below it.
  assert math.floor(0.29 * 100) == 28


@settings(deadline=None, max_examples=30)
@given(small_integers, st.sampled_from([0.5, 1, 2]))
def test_error_falls_with_kappa_and_inverts(values, p):
  x = np.asarray(values, np.float32)
  d = x.size
  kappas = np.arange(1, d + 1) / d
  errors = np.asarray(C.compression_error(x, kappas, p=p))
  assert errors[-1] == 0
  assert np.all(np.diff(errors) <= 0)
  # The smallest fraction that reaches error(k) needs no more than k entries.
  counts = np.round(d * np.asarray(C.smallest_kappa(x, errors, p=p)))
  assert np.all(counts <= np.arange(1, d + 1))


@pytest.mark.parametrize('p', [1, 2, 8])
@pytest.mark.parametrize('unit', [1e-30, 1.0, 1e30])
def test_error_neither_overflows_nor_underflows(p, unit):
  x = np.float32([4.0, 1.0, 1.0, 4.0]) * np.float32(unit)
  ours = C.compression_error(x, 0.5, p=p)
  np.testing.assert_allclose(ours, (2 / (2 + 2 * 4**p)) ** (1 / p), rtol=1e-5)
  mixed = np.float32([1e18, 1e-3, 1e18, 1e-3])
  ours = C.compression_error(mixed, 0.5, p=p)
  np.testing.assert_allclose(ours, 1e-21, rtol=1e-5)
  assert C.smallest_kappa(mixed, 0.0, p=p) == 1
  assert C.smallest_kappa(mixed, 1e-20, p=p) == 0.5


def test_error_of_constant_and_zero_vectors():
  np.testing.assert_allclose(
    C.compression_error(np.full(100, -7.0), 0.75), 0.5, rtol=1e-6
  )
  assert C.compression_error(np.zeros(5), 0.2) == 0
  assert C.smallest_kappa(np.zeros(5), 0.0) == 0
  assert C.smallest_kappa(np.ones(5), 0.0) == 1
  assert C.smallest_kappa(np.ones(5), 1.0) == 0


# Pruning ratio.


@pytest.mark.parametrize('squared', [True, False])
@pytest.mark.parametrize('tolerance', [0.0, 0.02, 0.1, 0.4, 1.0])
def test_pruning_ratio_is_the_largest_of_all_subsets(squared, tolerance):
  matrix = np.random.default_rng(11).standard_t(1.5, size=(3, 2, 8))
  matrix[:, :, 5] = 0
  costs = np.sum(matrix**2, axis=(0, 1)) / np.sum(matrix**2)
  budget = tolerance if squared else tolerance**2
  sizes = [
    len(removed)
    for m in range(9)
    for removed in itertools.combinations(range(8), m)
    if np.sum(costs[list(removed)]) <= budget + 1e-12
  ]
  ours = C.pruning_ratio(matrix, tolerance=tolerance, squared=squared)
  assert ours == max(sizes) / 8


@pytest.mark.parametrize('x64', [False, True])
def test_pruning_ratio_golden(x64):
  with jax.enable_x64(x64):
    assert C.pruning_ratio(STUDENT.T) * 2048 == 1034
    assert C.pruning_ratio(STUDENT.T, squared=False) * 2048 == 177
    centred = STUDENT - np.median(STUDENT, axis=0)
    removed = 1 - C.smallest_kappa(centred, 0.1)
    np.testing.assert_allclose(removed, 0.600655, atol=5e-7)


@pytest.mark.parametrize('x64', [False, True])
@pytest.mark.parametrize('value', [0.7, 1e-25, 3e25])
def test_equality_is_pruned(x64, value):
  with jax.enable_x64(x64):
    assert round(10 * float(C.pruning_ratio(np.full((140, 10), value)))) == 1
    ratio = C.pruning_ratio(np.full((140, 100), value), squared=False)
    assert round(100 * float(ratio)) == 10**2 // 100
    just_less = C.pruning_ratio(np.full((140, 10), value), tolerance=0.0999)
    assert just_less == 0


def test_pruning_ratio_in_float32_keeps_small_columns_beside_large():
  columns = np.ones((4, 10001), np.float32)
  columns[:, 0] = 49.5
  # m columns cost m / (10^4 + 49.5^2) <= 0.1 up to m = 1245.025.
  assert round(float(C.pruning_ratio(columns)) * 10001) == 1245
  mixed = np.array([[1e18, 1e-3] * 5] * 3, np.float32)
  assert C.pruning_ratio(mixed) == 0.5
  assert C.pruning_ratio(mixed, tolerance=0.0) == 0
  with np.errstate(over='ignore'):
    assert np.isinf(np.sum((mixed * np.float32(1e12)) ** 2))
  assert C.pruning_ratio(mixed * np.float32(1e12)) == 0.5


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=8))
def test_pruning_ratio_grows_with_the_tolerance(tolerances):
  matrix = STUDENT[:20].T
  ratios = [C.pruning_ratio(matrix, tolerance=t) for t in sorted(tolerances)]
  assert np.all(np.diff(ratios) >= 0)


def test_column_norms_against_numpy():
  x = np.random.default_rng(2).standard_cauchy((3, 3, 4, 6))
  for p in (0.7, 1, 2, 3):
    expected = np.sum(np.abs(x) ** p, axis=(0, 1, 2)) ** (1 / p)
    ours = C.column_norms(jnp.asarray(x, jnp.float32), p)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_zero_matrix_can_be_removed_altogether():
  assert C.pruning_ratio(np.zeros((3, 4))) == 1


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_not_finite_gives_nan(bad):
  x = np.ones((3, 4), np.float32)
  x[1, 2] = bad
  assert np.isnan(C.pruning_ratio(x))
  assert np.isnan(C.smallest_kappa(x, 0.5))
  assert np.all(np.isnan(C.compression_error(x, np.array([0.5, 1.0]))))
  ratios = C.invisible_noise_ratios(jax.random.key(1), x, 1.0, 1.5, 2)
  assert np.all(np.isnan(ratios))


@pytest.mark.parametrize(
  ('fan_in', 'uniform', 'num_units'),
  [(140, 0.1144, 10_000), (784, 0.1057, 2_000), (3072, 0.1028, 2_000)],
)
def test_ratio_of_bare_initialisation(fan_in, uniform, num_units):
  """The published no-noise ratios are those of the initialisation itself."""
  keys = jax.random.split(jax.random.key(fan_in), (2, 8))
  flat = [C.pruning_ratio(_uniform(k, fan_in, num_units)) for k in keys[0]]
  normal = [
    C.pruning_ratio(jax.random.normal(k, (fan_in, num_units))) for k in keys[1]
  ]
  limit = stats.chi2.cdf(stats.chi2.ppf(0.1, fan_in + 2), fan_in)
  # A count is cut to a multiple of 1/n; the quoted numbers to 1e-4.
  tolerance = Z * _standard_error(flat) + 1 / num_units + 1e-4
  assert abs(np.mean(flat) - uniform) < tolerance
  tolerance = Z * _standard_error(normal) + 1 / num_units
  assert abs(np.mean(normal) - limit) < tolerance
  # Control: the two initialisations are told apart.
  assert abs(np.mean(flat) - limit) > tolerance


# Expected curves.


@pytest.mark.parametrize(
  ('dim', 'p'),
  [(1, 1), (1, 2), (2, 3.5), (10, 0.5), (140, 2), (3072, 1), (3072, 2)],
)
@pytest.mark.parametrize('x64', [False, True])
def test_gaussian_limit_against_scipy(dim, p, x64):
  dtype, atol = (np.float64, 1e-11) if x64 else (np.float32, 3e-5)
  kappa = np.array([1e-4, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1], dtype)
  square = stats.gamma.isf(kappa.astype(np.float64), dim / 2)
  expected = stats.gamma.cdf(square, (dim + p) / 2) ** (1 / p)
  with jax.enable_x64(x64):
    ours = C.gaussian_limit(kappa, p=p, dim=dim)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, expected, atol=atol)
    assert np.all(ours[:-1] > 0)
    assert ours[-1] == 0


def test_gaussian_limit_is_the_limit():
  """HT-X1 and Proposition A.1: sums over draws against the closed form."""
  kappas = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
  known = [0.7488, 0.5257, 0.2671, 0.0914, 0.0229]
  limit = C.gaussian_limit(kappas)
  np.testing.assert_allclose(limit, known, atol=5.1e-5)
  keys = jax.random.split(jax.random.key(17), 30)
  x = jax.vmap(lambda k: jax.random.normal(k, (10_000,)))(keys)
  errors = np.asarray(jax.lax.map(lambda v: C.compression_error(v, kappas), x))
  for i in range(5):
    tolerance = Z * _standard_error(errors[:, i]) + 1e-4
    assert abs(errors[:, i].mean() - limit[i]) < tolerance
    # Control: the limit for pairs instead of single entries.
    other = C.gaussian_limit(kappas[i], dim=2)
    assert abs(errors[:, i].mean() - other) > tolerance


def test_stable_curve_at_alpha_2_is_gaussian():
  kappas = np.array([0.1, 0.5, 0.9], np.float32)
  run = jax.jit(
    lambda level: C.stable_curve(
      2.0, kappas, 5000, key=jax.random.key(23), level=level
    )
  )
  low, median, high = run(0.25), run(0.5), run(0.75)
  limit = C.gaussian_limit(kappas)
  error = 1.2533 * (high - low) / 1.349 / math.sqrt(200)
  # Order 1/n: the bias of a ratio and the cut to a count.
  assert np.all(np.abs(median - limit) < Z * error + 1 / 5000)
  heavy = C.stable_curve(1.8, kappas, 5000, key=jax.random.key(24))
  assert np.all(np.abs(heavy - limit) > Z * error + 1 / 5000)


@pytest.mark.parametrize('kappa', [0.2, 0.6])
def test_stable_curve_below_alpha_tends_to_truncated_moment(kappa):
  """Cauchy entries, p = 0.3: E[|X|^p; |X| <= q] / E |X|^p by quadrature."""
  p, n = 0.3, 20_000
  q = math.tan(math.pi * (1 - kappa) / 2)
  below = integrate.quad(lambda x: x**p / (1 + x * x), 0, q)[0]
  limit = (below / (math.pi / 2 / math.cos(math.pi * p / 2))) ** (1 / p)

  def curve(alpha, level):
    return C.stable_curve(
      alpha, kappa, n, p=p, level=level, num_draws=100, key=jax.random.key(29)
    )

  low, median, high = (curve(1.0, level) for level in (0.25, 0.5, 0.75))
  tolerance = Z * 1.2533 * (high - low) / 1.349 / 10
  assert abs(median - limit) < tolerance
  assert abs(curve(1.5, 0.5) - limit) > tolerance


def test_error_of_cauchy_entries_falls_like_root_n():
  """HT-L2: slope 1/2 - 1/alpha of the median log error against log n."""

  def log_error(alpha, n, key):
    levels = jnp.array([0.25, 0.5, 0.75])
    curve = jax.vmap(
      lambda level: C.stable_curve(
        alpha, 0.5, n, key=jax.random.key(key), level=level
      )
    )
    low, median, high = np.log(curve(levels))
    return median, 1.2533 * (high - low) / 1.349 / math.sqrt(200)

  near, near_error = log_error(1.0, 1000, 31)
  far, far_error = log_error(1.0, 30_000, 32)
  slope = (far - near) / math.log(30)
  tolerance = Z * math.hypot(near_error, far_error) / math.log(30)
  assert abs(slope + 0.5) < tolerance
  gaussian = log_error(2.0, 30_000, 33)[0] - log_error(2.0, 1000, 34)[0]
  assert abs(gaussian / math.log(30) + 0.5) > tolerance


# Noise that the network cannot see.


def _with_visible_noise(key, columns, scale, num_draws):
  """Ratios with Cauchy noise added to whole columns, entry by entry."""

  def ratio(key):
    z = jax.random.cauchy(key, (columns.shape[1],))
    return C.pruning_ratio(columns + scale * z[None, :])

  return jax.vmap(ratio)(jax.random.split(key, num_draws))


def test_invisible_noise_has_the_law_of_noise_added_to_columns():
  columns = _uniform(jax.random.key(41), 20, 300)
  scale = 0.003
  brute = _with_visible_noise(jax.random.key(42), columns, scale, 400)

  def p_value(s, alpha):
    ours = C.invisible_noise_ratios(jax.random.key(43), columns, s, alpha, 400)
    return stats.ks_2samp(ours, brute).pvalue

  assert p_value(scale, 1.0) > 1e-6
  assert p_value(2 * scale, 1.0) < 1e-6
  assert p_value(scale, 1.2) < 1e-6


def test_no_noise_is_the_plain_ratio():
  columns = _uniform(jax.random.key(47), 140, 500) + 0.01
  ratios = C.invisible_noise_ratios(jax.random.key(48), columns, 0.0, 1.5, 3)
  # Norms by another formula: a tie of two columns may fall the other way.
  np.testing.assert_allclose(ratios, C.pruning_ratio(columns), atol=1.5 / 500)
  filters = columns.reshape(5, 7, 4, 500)
  again = C.invisible_noise_ratios(jax.random.key(48), filters, 0.0, 1.5, 3)
  np.testing.assert_array_equal(again, ratios)


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
  columns = _uniform(jax.random.key(53), 140, 10_000)
  scale = sigma * (1e-4 * 40) ** (1 / alpha)
  ours = C.invisible_noise_ratios(
    jax.random.key(54), columns, scale, alpha, 200
  )
  low, median, high = quartiles
  theirs = 1.2533 * (high - low) / 1.349 / math.sqrt(1000)
  tolerance = Z * math.hypot(_median_error(ours), theirs)
  assert abs(np.median(ours) - median) < tolerance
  # Control: the exponent 1/2 in place of 1/alpha.
  wrong = sigma * (1e-4 * 40) ** 0.5
  other = C.invisible_noise_ratios(
    jax.random.key(55), columns, wrong, alpha, 50
  )
  assert abs(np.median(other) - median) > tolerance


# Transformations.


def test_jit_and_vmap_change_nothing():
  x = jnp.asarray(STUDENT[:6].reshape(3, 2, 64), jnp.float32)
  kappa, epsilon = 0.3, 0.2
  functions = [
    lambda v: C.best_k(v, 17),
    lambda v: C.compression_error(v, kappa),
    lambda v: C.smallest_kappa(v, epsilon),
    lambda v: C.pruning_ratio(v, tolerance=epsilon),
    lambda v: C.invisible_noise_ratios(jax.random.key(3), v, 0.1, 1.5, 4),
  ]
  for f in functions:
    loop = np.stack([f(v) for v in x])
    np.testing.assert_allclose(jax.vmap(f)(x), loop, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(f)(x[0]), loop[0], rtol=1e-6)


def test_a_sweep_is_one_program():
  x = jnp.asarray(STUDENT[:4], jnp.float32)

  @jax.jit
  @chex.assert_max_traces(n=1)
  def all_of_them(kappa, alpha, k):
    return (
      C.compression_error(x, kappa),
      C.smallest_kappa(x, kappa),
      C.pruning_ratio(x, tolerance=kappa),
      C.gaussian_limit(kappa, dim=3),
      C.stable_curve(alpha, kappa, 50, key=jax.random.key(2), num_draws=5),
      C.invisible_noise_ratios(jax.random.key(5), x, kappa, alpha, 2),
      C.best_k(x, k).sum(),
    )

  for kappa, alpha, k in ((0.1, 1.2, 3), (0.5, 1.8, 20), (0.9, 2.0, 100)):
    compiled = all_of_them(kappa, alpha, k)
    np.testing.assert_allclose(
      compiled[0], C.compression_error(x, kappa), rtol=1e-6
    )
    assert all(np.all(np.isfinite(v)) for v in compiled)


def test_traced_numbers_out_of_range_give_nan():
  x = jnp.ones((2, 3))
  bad = jnp.array([-0.1, 1.1, jnp.nan])

  def curve(alpha, kappa, **options):
    key = jax.random.key(61)
    return C.stable_curve(alpha, kappa, 10, key=key, num_draws=2, **options)

  def hidden(alpha, **options):
    key = jax.random.key(62)
    return C.invisible_noise_ratios(key, x, 1.0, alpha, 2, **options)

  for f in (
    lambda v: C.compression_error(x, v),
    lambda v: C.smallest_kappa(x, v),
    lambda v: C.pruning_ratio(x, tolerance=v),
    C.gaussian_limit,
    lambda v: curve(1.5, v),
    lambda v: curve(1.5, 0.5, level=v),
    lambda v: hidden(1.5, tolerance=v),
  ):
    assert np.all(np.isnan(jax.vmap(f)(bad)))
  alphas = jnp.array([-1.0, 2.1])
  for f in (lambda a: curve(a, 0.5), hidden):
    assert np.all(np.isnan(jax.vmap(f)(alphas)))
  counts = jax.vmap(lambda k: C.best_k(x, k))(jnp.array([-1, 7]))
  assert np.all(np.isnan(counts))


@pytest.mark.parametrize('dtype', [jnp.int32, jnp.float16, jnp.bfloat16])
def test_narrow_inputs_are_computed_in_float32(dtype):
  x = jnp.array([[1, 2, 3], [4, 5, 6]], dtype)
  assert C.pruning_ratio(x).dtype == jnp.float32
  assert C.best_k(x, 2).dtype == jnp.float32
  np.testing.assert_allclose(
    C.compression_error(x, 0.5), math.sqrt(14 / 91), rtol=1e-6
  )


KEY = jax.random.key(0)
X = np.ones((2, 3))


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: C.best_k(X, 7), r'k must lie in \[0, 6\], got 7'),
    (lambda: C.best_k(X, 1.5), 'k must be one integer'),
    (lambda: C.best_k(X, np.array([1, 2])), 'k must be one integer'),
    (lambda: C.best_k(X * 1j, 1), 'x must be real'),
    (lambda: C.compression_error([], 0.5), 'x must not be empty'),
    (lambda: C.compression_error(X, 0.0), r'kappa must lie in \(0, 1\]'),
    (lambda: C.compression_error(X, 1.5), r'kappa must lie in \(0, 1\]'),
    (lambda: C.compression_error(X, np.nan), r'kappa must lie in \(0, 1\]'),
    (lambda: C.compression_error(X, 0.5, p=0), 'p must be a static number'),
    (lambda: C.compression_error(X, 0.5, p=np.inf), 'p must be a static'),
    (lambda: C.compression_error(X, 0.5, rounding='up'), 'rounding must be'),
    (lambda: C.smallest_kappa(X, -0.1), 'epsilon must lie in'),
    (lambda: C.smallest_kappa(X, 0.1, p=True), 'p must be a static number'),
    (lambda: C.pruning_ratio(np.ones(3)), r'matrix must be \[..., n\] of rank'),
    (lambda: C.pruning_ratio(np.ones((0, 3))), 'matrix must not be empty'),
    (lambda: C.pruning_ratio(X, tolerance=2.0), 'tolerance must lie in'),
    (lambda: C.gaussian_limit(0.0), 'kappa must lie in'),
    (lambda: C.gaussian_limit(0.5, dim=0), 'dim must be an integer >= 1'),
    (lambda: C.stable_curve(2.1, 0.5, 9, key=KEY), 'alpha must lie in'),
    (lambda: C.stable_curve(1.5, 0.5, 0, key=KEY), 'n must be an integer'),
    (lambda: C.stable_curve(1.5, 0.5, 9, key=0), 'key must be a typed key'),
    (
      lambda: C.stable_curve(1.5, 0.5, 9, key=KEY, level=2.0),
      'level must lie in',
    ),
    (
      lambda: C.invisible_noise_ratios(KEY, X, -1.0, 1.5, 2),
      'scale must lie in',
    ),
    (
      lambda: C.invisible_noise_ratios(KEY, X, 1.0, 0.0, 2),
      'alpha must lie in',
    ),
    (
      lambda: C.invisible_noise_ratios(KEY, X, 1.0, 1.5, 0),
      'num_draws must be an integer',
    ),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
