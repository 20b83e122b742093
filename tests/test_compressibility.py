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
from scipy import stats

from htjax import compressibility as C
from htjax import stable

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


@pytest.mark.parametrize(('p', 'dim'), [(2, 1), (1, 3)])
def test_gaussian_ratio_inverts_the_limit(p, dim):
  for epsilon in (0.0, 0.1, 0.7):
    ratio = C.gaussian_ratio(epsilon, p=p, dim=dim)
    # The errors of entries up to a quantile, in the units of `epsilon`.
    square = stats.gamma.ppf(ratio, dim / 2)
    error = stats.gamma.cdf(square, (dim + p) / 2) ** (1 / p)
    assert error == pytest.approx(epsilon, abs=1e-8)
  assert C.gaussian_ratio(1.0) == pytest.approx(1.0, abs=1e-9)
  with pytest.raises(ValueError, match=r'epsilon must lie in \[0, 1\]'):
    C.gaussian_ratio(1.1)


@pytest.mark.parametrize('kappa', [0.9, 0.3, 1e-4])
@pytest.mark.parametrize('alpha', [1.2, 1.8])
def test_stable_limit_by_the_survival_function(alpha, kappa):
  """E[|X|; |X| <= q] is the integral of P(|X| > t) up to q, less q kappa."""
  with jax.enable_x64(True):
    q = float(stable.quantile(1 - kappa / 2, alpha))
    # t = q v^6 is fine near 0, where most of the law is.
    v, weights = np.polynomial.legendre.leggauss(200)
    v, weights = (v + 1) / 2, weights / 2
    above = 2 * np.asarray(stable.sf(q * v**6, alpha))
  inside = q * (np.sum(weights * above * 6 * v**5) - kappa)
  mean = 2 * math.gamma(1 - 1 / alpha) / math.pi
  assert C.stable_limit(kappa, alpha) == pytest.approx(inside / mean, rel=1e-7)


def test_stable_limit_of_gaussians_and_its_ends():
  limit = float(C.gaussian_limit(0.3, p=1))
  assert C.stable_limit(0.3, 2.0) == pytest.approx(limit, abs=1e-5)
  assert C.stable_limit(1.0, 1.5) == 0
  for kappa, alpha, name in ((0.0, 1.5, 'kappa'), (0.5, 1.0, 'alpha')):
    with pytest.raises(ValueError, match=f'{name} must lie in'):
      C.stable_limit(kappa, alpha)


# Noise that the network cannot see.


def test_no_noise_is_the_plain_ratio():
  columns = _uniform(jax.random.key(47), 140, 500) + 0.01
  ratios = C.invisible_noise_ratios(jax.random.key(48), columns, 0.0, 1.5, 3)
  # Norms by another formula: a tie of two columns may fall the other way.
  np.testing.assert_allclose(ratios, C.pruning_ratio(columns), atol=1.5 / 500)
  filters = columns.reshape(5, 7, 4, 500)
  again = C.invisible_noise_ratios(jax.random.key(48), filters, 0.0, 1.5, 3)
  np.testing.assert_array_equal(again, ratios)


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
    assert np.all(np.isnan(jax.jit(jax.vmap(f))(bad)))
  alphas = jnp.array([-1.0, 2.1])
  for f in (lambda a: curve(a, 0.5), hidden):
    assert np.all(np.isnan(jax.jit(jax.vmap(f))(alphas)))
  best = jax.jit(jax.vmap(lambda k: C.best_k(x, k)))
  counts = best(jnp.array([-1, 7]))
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
