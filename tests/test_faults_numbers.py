"""Whole kinds of input that numerical libraries get wrong.

Wide integers, narrow floats, numbers near the ends of the range, and counts.
The right values are those of NumPy in double or extended precision, of SciPy
and of closed forms.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from htjax import compressibility, pruning, stable, tail_index
from htjax.pruning import AllBut

RNG = np.random.default_rng(5)
WEIGHTS = RNG.normal(size=(64, 32)) * np.exp(RNG.normal(size=32))
PARETO = RNG.pareto(1.5, 2000) + 1
# Powers of two, so that scaled float32 arrays have the same digits.
EXTREMES = [-140, -134, -127, -120, 100, 120]


def slow(*values):
  """More like those that every run has."""
  return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def hill(x, k):
  y = np.sort(np.abs(np.asarray(x, np.longdouble)).ravel())[::-1]
  return float(1 / np.mean(np.log(y[:k] / y[k])))


def error(x, kept, p):
  y = np.sort(np.abs(np.asarray(x, np.longdouble)).ravel())
  return float((np.sum(y[: y.size - kept] ** p) / np.sum(y**p)) ** (1 / p))


def fewest(x, epsilon, p):
  y = np.sort(np.abs(np.asarray(x, np.longdouble)).ravel())
  lost = (np.cumsum(y**p) / np.sum(y**p)) ** (1 / p)
  return y.size - int(np.sum(lost <= epsilon))


# Wide numbers.


WIDE = {
  'int64': lambda x: x.astype(np.int64),
  'uint64': lambda x: x.astype(np.uint64),
  'list': lambda x: [int(v) for v in x],
  'big-endian int64': lambda x: x.astype('>i8'),
  'big-endian float64': lambda x: x.astype('>f8'),
  'float64': lambda x: x.astype(np.float64),
  'longdouble': lambda x: x.astype(np.longdouble),
  'objects': lambda x: np.asarray([int(v) for v in x], object),
  'strided': lambda x: np.repeat(x.astype(np.int64), 2)[::2],
}


@pytest.mark.parametrize('kind', WIDE)
def test_wide_integers_do_not_wrap(kind):
  x = WIDE[kind]((1e9 * PARETO).astype(np.int64))
  assert float(tail_index.hill(x, 100).alpha) == pytest.approx(
    hill(x, 100), rel=1e-5
  )
  assert float(compressibility.compression_error(x, 0.1)) == pytest.approx(
    error(x, 200, 2), rel=1e-5
  )
  best = np.asarray(compressibility.best_k(x, 3))
  y = np.asarray(x, np.float64)
  top = np.argsort(y)[-3:]
  np.testing.assert_allclose(best[top], y[top], rtol=1e-6)
  assert np.sum(best != 0) == 3


@pytest.mark.parametrize(
  'f',
  [
    lambda x: tail_index.hill(x, 50),
    lambda x: tail_index.mmo_univariate(x),
    lambda x: tail_index.power_law(x, 1.0),
    lambda x: tail_index.stable_mle(x),
    lambda x: compressibility.compression_error(x, 0.5),
    lambda x: compressibility.pruning_ratio(x[:, None]),
    lambda x: stable.cdf(x, 1.5),
    lambda x: pruning.magnitude({'w': x[:, None]}, 0.5),
  ],
)
@pytest.mark.parametrize('factor', [1e60, 1e39])
def test_what_float32_cannot_hold_is_refused_with_what_to_do(f, factor):
  with pytest.raises(ValueError, match=r'range of float32.*enable_x64'):
    f(PARETO * factor)


def test_float64_holds_it():
  with jax.enable_x64(True):
    for factor in (1e60, 1e-60, 1e300, 1e-300):
      got = tail_index.hill(PARETO * factor, 100)
      assert float(got.alpha) == pytest.approx(hill(PARETO, 100), rel=1e-12)


# Narrow numbers.


def law(x, alpha):
  """Density and distribution function, from the characteristic function."""

  def density(v):
    return np.exp(-(v**alpha)) * np.cos(v * x) / np.pi

  def mass(v):
    return np.exp(-(v**alpha)) * (np.sin(v * x) / v if v else x) / np.pi

  f, F = (integrate.quad(g, 0, 60, limit=800)[0] for g in (density, mass))
  return f, 0.5 + F


@pytest.mark.parametrize('dtype', [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize('alpha', [1.2, 1.5, 1.8, 1.95, 2.0])
def test_laws_are_right_to_the_rounding_of_narrow_numbers(dtype, alpha):
  x = jnp.asarray([-2.0, -0.75, 0.0, 0.25, 1.0, 3.0], dtype)
  pdf, cdf = np.transpose([law(v, alpha) for v in np.float64(x)])
  rounding = float(jnp.finfo(dtype).eps)
  for f, right in (
    (stable.pdf, pdf),
    (stable.logpdf, np.log(pdf)),
    (stable.cdf, cdf),
    (stable.sf, 1 - cdf),
  ):
    got = f(x, alpha)
    assert got.dtype == dtype
    np.testing.assert_allclose(np.float64(got), right, rtol=rounding)


@pytest.mark.parametrize('dtype', [jnp.float16, jnp.bfloat16])
def test_quantiles_of_narrow_numbers(dtype):
  q = jnp.asarray([0.01, 0.2, 0.5, 0.7, 0.96], dtype)
  exact = np.float64(q)
  for alpha, right in (
    (1.0, np.tan(np.pi * (exact - 0.5))),
    (2.0, np.sqrt(2) * special.ndtri(exact)),
  ):
    got = stable.quantile(q, alpha)
    assert got.dtype == dtype
    np.testing.assert_allclose(
      np.float64(got), right, rtol=float(jnp.finfo(dtype).eps), atol=1e-7
    )


FLOAT8 = ['float8_e4m3fn', 'float8_e5m2', 'float8_e4m3b11fnuz', 'float8_e3m4']
PRUNERS = {
  'magnitude': lambda p: pruning.magnitude(p, 0.5),
  'global': lambda p: pruning.magnitude(p, 0.5, scope='global'),
  'centred': lambda p: pruning.magnitude(p, 0.5, center='median'),
  'columns': lambda p: pruning.columns(p, 0.5),
  'rows': lambda p: pruning.rows(p, 0.5),
  'columns_to_error': lambda p: pruning.columns_to_error(p, 0.3),
  'to_error': lambda p: pruning.to_error(p, 0.5, method='magnitude'),
  'singular_values': lambda p: pruning.singular_values(p, 0.5),
  'randomized': lambda p: pruning.randomized_magnitude(
    jax.random.key(0), p, 1.0
  ),
  'random_columns': lambda p: pruning.random_columns(jax.random.key(0), p, 0.5),
  'gaussian': lambda p: pruning.gaussian_replacement(jax.random.key(0), p),
  'discretize': lambda p: pruning.discretize(p, 0.5),
  'iterative': lambda p: (
    pruning.iterative_magnitude(lambda w, m, r: w, p, [0.5])[-1].pruned
  ),
}


@pytest.mark.parametrize('name', PRUNERS)
@pytest.mark.parametrize('dtype', [*FLOAT8, 'bfloat16', 'float16'])
def test_pruners_take_narrow_leaves(name, dtype):
  leaf = jnp.asarray(RNG.normal(size=(16, 12)), getattr(jnp, dtype))
  narrow = PRUNERS[name]({'k': leaf})
  wide = PRUNERS[name]({'k': leaf.astype(jnp.float32)})
  assert narrow.params['k'].dtype == leaf.dtype
  assert narrow.kept == wide.kept
  np.testing.assert_array_equal(narrow.mask['k'], wide.mask['k'])
  np.testing.assert_array_equal(
    narrow.params['k'], wide.params['k'].astype(leaf.dtype)
  )


def test_a_dtype_without_zero_is_refused_by_name():
  leaf = jnp.ones((4, 4), jnp.float8_e8m0fnu)
  with pytest.raises(ValueError, match=r'^k must be able to hold 0 and NaN'):
    pruning.magnitude({'k': leaf}, 0.5)


# The ends of the range.


def scaled(x, power):
  """float32 numbers times a power of two, rounded where that is subnormal."""
  y = np.ldexp(np.asarray(x, np.float32).astype(np.float64), power)
  return y.astype(np.float32)


@pytest.mark.parametrize('power', EXTREMES)
@pytest.mark.parametrize('p', [0.5, 1, 2, 3])
def test_errors_and_ratios_at_the_ends_of_the_range(power, p):
  x = scaled(WEIGHTS, power)
  for kept in (0.05, 0.25, 0.5):
    got = float(compressibility.compression_error(x, kept, p=p))
    right = error(x, int(np.ceil(kept * x.size)), p)
    assert got == pytest.approx(right, rel=2e-5)
    # The fraction for an error between those of two neighbouring counts.
    middle = (right + error(x, int(np.ceil(kept * x.size)) + 1, p)) / 2
    kappa = float(compressibility.smallest_kappa(x, middle, p=p))
    assert abs(kappa * x.size - fewest(x, middle, p)) <= 2
  norms = np.sort(np.sum(np.asarray(x, np.longdouble) ** 2, axis=0))
  shares = np.cumsum(norms) / norms.sum()
  right = np.mean(shares <= 0.1)
  assert float(compressibility.pruning_ratio(x)) == pytest.approx(right)


def test_four_numbers_near_the_largest():
  x = [1e38, 1e38, 1e38, 2e38]
  assert float(compressibility.compression_error(x, 0.25, p=1)) == np.float32(
    0.6
  )
  assert float(compressibility.smallest_kappa(x, 0.61, p=1)) == 0.25
  assert float(compressibility.smallest_kappa([1e-41, 1.0], 0.0)) == 1.0


METHODS = ['magnitude', 'columns', 'rows', 'singular_values']


@pytest.mark.parametrize('power', EXTREMES)
@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('center', [None, 'median'])
def test_pruning_at_the_ends_of_the_range(power, method, center):
  x = scaled(WEIGHTS, power)
  # The same digits in the middle of the range.
  plain = np.ldexp(x.astype(np.float64), -power).astype(np.float32)
  for f in (
    lambda w: getattr(pruning, method)({'w': w}, 0.3, center=center),
    lambda w: pruning.to_error({'w': w}, 0.2, method=method, center=center),
  ):
    got, right = f(x), f(plain)
    assert got.kept == right.kept
    np.testing.assert_array_equal(got.mask['w'], right.mask['w'])
    np.testing.assert_allclose(
      np.float64(got.params['w']),
      np.ldexp(np.float64(right.params['w']), power),
      # Singular vectors are good to the rounding of the largest entries.
      rtol=1e-5,
      atol=2.0**-148 + 1e-5 * float(np.max(np.abs(x))),
    )


@pytest.mark.parametrize('power', EXTREMES)
def test_other_pruners_at_the_ends_of_the_range(power):
  x = scaled(WEIGHTS, power)
  plain = np.ldexp(x.astype(np.float64), -power).astype(np.float32)
  step = 0.5
  for f in (
    lambda w, s: pruning.randomized_magnitude(jax.random.key(0), {'w': w}, 1.0),
    lambda w, s: pruning.gaussian_replacement(jax.random.key(0), {'w': w}),
    lambda w, s: pruning.discretize({'w': w}, np.float32(s)),
  ):
    got = f(x, np.ldexp(step, power))
    right = f(plain, step)
    np.testing.assert_array_equal(got.mask['w'], right.mask['w'])
    np.testing.assert_allclose(
      np.float64(got.params['w']),
      np.ldexp(np.float64(right.params['w']), power),
      rtol=1e-5,
      atol=2.0**-148,
    )


ESTIMATORS = {
  'hill': lambda x: tail_index.hill(x, 100),
  'moment': lambda x: tail_index.moment(x, 100),
  'pickands': lambda x: tail_index.pickands(x, 100),
  'de_haan_resnick': lambda x: tail_index.de_haan_resnick(x, 100),
  'power_law': tail_index.power_law,
  'max_ratio': tail_index.max_ratio,
  'mmo': lambda x: tail_index.mmo(x.reshape(-1, 10)),
  'mmo_univariate': tail_index.mmo_univariate,
  'stable_mle': lambda x: tail_index.stable_mle(x[:400]),
}
JITTED = {name: jax.jit(estimate) for name, estimate in ESTIMATORS.items()}
STABLE = np.asarray(stable.sample(jax.random.key(2), 1.5, (2000,)))


@pytest.mark.parametrize('name', ESTIMATORS)
@pytest.mark.parametrize('power', [-138, -127, 116, *slow(-100, 90)])
def test_tail_indices_at_the_ends_of_the_range(name, power):
  x = scaled(STABLE, power)
  plain = np.ldexp(x.astype(np.float64), -power).astype(np.float32)
  right = ESTIMATORS[name](plain)
  for f in (ESTIMATORS[name], JITTED[name]):
    got = f(jnp.asarray(x))
    assert float(got.alpha) == pytest.approx(float(right.alpha), rel=1e-4)
    assert float(got.standard_error) == pytest.approx(
      float(right.standard_error), rel=1e-3
    )
    assert float(got.scale) == pytest.approx(
      np.ldexp(float(right.scale), power), rel=1e-4, abs=2.0**-149, nan_ok=True
    )


@pytest.mark.parametrize('power', [-138, 116])
def test_layers_at_the_ends_of_the_range(power):
  x = scaled(STABLE.reshape(50, 40), power)
  plain = np.ldexp(x.astype(np.float64), -power).astype(np.float32)
  key = jax.random.key(0)
  got, right = (tail_index.layer_protocol(key, w) for w in (x, plain))
  assert float(got.alpha) == pytest.approx(float(right.alpha), rel=1e-4)
  (row,), (other,) = (
    tail_index.layer_table({'w': w}, key=key) for w in (x, plain)
  )
  assert row['note'] == other['note'] == ''
  for name, value in other.items():
    if isinstance(value, float):
      assert row[name] == pytest.approx(value, rel=1e-3, nan_ok=True), name


# Counts.


@pytest.mark.parametrize('p', [0.5, 1, 2, 3])
@pytest.mark.parametrize('method', ['magnitude', 'columns', 'rows'])
def test_the_whole_can_go_at_error_one(p, method):
  for seed in range(12):
    leaf = np.random.default_rng(seed).standard_cauchy((37, 23))
    leaf = leaf.astype(np.float32)
    assert pruning.to_error({'w': leaf}, 1.0, method=method, p=p).kept == 0
    assert compressibility.smallest_kappa(leaf, 1.0, p=p) == 0


SIZES = [10, 100, 1797, 5000, 50_000]


@pytest.mark.parametrize('size', SIZES)
def test_a_share_that_goes_is_counted_exactly(size):
  traced = jax.jit(
    lambda s: compressibility.kept_count(AllBut(s), size, 'ceil')
  )
  for percent in range(0, 100):
    share = percent / 100
    right = size - percent * size // 100
    assert int(traced(share)) == right
    assert int(compressibility.kept_count(AllBut(share), size)) == right
    assert int(compressibility.kept_count(AllBut(share), size, 'floor')) == (
      (100 - percent) * size // 100
    )


def test_pruners_take_the_share_that_goes():
  x = RNG.normal(size=(3, 5000)).astype(np.float32)
  kept = jax.jit(lambda s: pruning.columns({'w': x}, AllBut(s)).kept)(0.9)
  assert kept == 3 * 500
  for f in (pruning.magnitude, pruning.rows, pruning.singular_values):
    same = f({'w': x}, AllBut(0.25)).params['w'], f({'w': x}, 0.75).params['w']
    np.testing.assert_array_equal(*same)
  for share in (-0.1, 1.0, np.nan):
    with pytest.raises(ValueError, match='AllBut must lie in'):
      pruning.columns({'w': x}, AllBut(share))
  got = jax.jit(lambda s: pruning.columns({'w': x}, AllBut(s)).params)(1.5)
  assert np.all(np.isnan(got['w']))


# Arguments of laws and estimators.


@pytest.mark.parametrize('cap', [-1, 0, np.nan, 'two', -np.inf])
@pytest.mark.parametrize(
  'f',
  [
    lambda cap: tail_index.mmo(WEIGHTS, cap=cap),
    lambda cap: tail_index.mmo_univariate(WEIGHTS, cap=cap),
    lambda cap: tail_index.layer_protocol(jax.random.key(0), WEIGHTS, cap=cap),
    lambda cap: tail_index.hill(WEIGHTS, 20).capped(cap),
  ],
)
def test_caps_are_positive_numbers(f, cap):
  with pytest.raises(ValueError, match=r'^cap must'):
    f(cap)


@pytest.mark.parametrize('scale', [np.inf, -1.0, 0.0, np.nan, -np.inf])
@pytest.mark.parametrize(
  'f',
  [
    stable.cdf,
    stable.sf,
    stable.pdf,
    stable.logpdf,
    stable.characteristic_function,
    lambda x, a, scale: stable.quantile(x / 2, a, scale=scale),
    lambda x, a, scale: stable.log_moment(a, scale=scale).mean,
  ],
)
def test_impossible_scales(f, scale):
  assert np.isnan(jax.jit(lambda s: f(1.0, 1.5, scale=s))(scale))
  with pytest.raises(ValueError, match=r'^scale must'):
    f(1.0, 1.5, scale=scale)


@pytest.mark.parametrize('scale', [1e-37, 1e30, 2e38])
def test_laws_at_extreme_scales(scale):
  x = np.float64([-1.5, 0.25, 1.0])
  right = [law(v, 1.5)[1] for v in x]
  np.testing.assert_allclose(
    stable.cdf(x * scale, 1.5, scale=scale), right, rtol=1e-6
  )


NEAR_HALF = [0.499999, 0.4999999, 0.50001, 0.5000001, 0.49, 1 - 1e-9, 1e-9]


@pytest.mark.parametrize('q', NEAR_HALF)
@pytest.mark.parametrize('scale', [1.0, 0.25])
def test_quantiles_where_float32_has_few_digits(q, scale):
  # tan(pi (q - 1/2)), and the normal quantile near 0, without cancellation.
  tail = min(q, 1 - q)
  cauchy = np.sign(q - 0.5) / np.tan(np.pi * tail)
  if abs(q - 0.5) < 0.1:
    cauchy = np.tan(np.pi * (q - 0.5))
  for alpha, right in ((1.0, cauchy), (2.0, np.sqrt(2) * special.ndtri(q))):
    got = float(stable.quantile(q, alpha, scale=scale))
    assert got == pytest.approx(right * scale, rel=3e-6)
  single = np.float32(q)
  got = float(stable.quantile(jnp.asarray(single), 1.0))
  if single < 1:
    assert got == pytest.approx(np.tan(np.pi * (float(single) - 0.5)), rel=3e-6)


# The same under jit.

DRAWS = {
  'sample': lambda k, a: stable.sample(k, a, (5000,), scale=0.3),
  'positive': lambda k, a: stable.sample_positive(k, a / 2, (5000,)),
  'increments': lambda k, a: stable.levy_increments(
    k, a, 0.01, 3, (500,), kind='type2'
  ),
  'type1': lambda k, a: stable.sample_vectors(k, a, (500, 10), kind='type1'),
  'type3': lambda k, a: stable.sample_vectors(
    k, a, (500, 10), kind='type3', scale=0.7
  ),
}


@pytest.mark.parametrize('name', DRAWS)
@pytest.mark.parametrize('alpha', [0.3, 1.0, 1.8, 2.0, *slow(0.5, 0.75, 1.3)])
def test_draws_are_the_same_under_jit(name, alpha):
  ours = DRAWS[name](jax.random.key(11), alpha)
  compiled = jax.jit(lambda key: DRAWS[name](key, alpha))
  np.testing.assert_array_equal(ours, compiled(jax.random.key(11)))


@pytest.mark.parametrize(
  'f',
  [
    stable.characteristic_function,
    stable.cdf,
    stable.sf,
    stable.pdf,
    stable.logpdf,
    stable.quantile,
  ],
)
@pytest.mark.parametrize('alpha', [0.7, 1.0, 1.8, *slow(1.3, 2.0)])
def test_laws_are_the_same_under_jit(f, alpha):
  x = jnp.asarray(RNG.standard_cauchy(500), jnp.float32)
  if f is stable.quantile:
    x = jnp.asarray(RNG.uniform(size=500), jnp.float32)
  compiled = jax.jit(lambda x: f(x, alpha, scale=0.3))
  np.testing.assert_array_equal(f(x, alpha, scale=0.3), compiled(x))


# Many numbers of largest values.


def test_one_sort_serves_all_numbers_of_largest_values():
  tops = np.arange(1, PARETO.size)
  plot = tail_index.hill_plot(PARETO)
  right = [hill(PARETO, k) for k in tops]
  np.testing.assert_allclose(plot.alpha, right, rtol=2e-5)
  np.testing.assert_allclose(
    plot.standard_error, right / np.sqrt(tops), rtol=2e-5
  )
  y = np.sort(PARETO)[::-1]
  np.testing.assert_allclose(plot.scale, y[tops], rtol=1e-6)
  for k in (1, 7, 64, 65, 700):
    one = tail_index.hill(PARETO, k)
    some = tail_index.hill_plot(PARETO, [k])
    assert float(some.alpha[0]) == pytest.approx(float(one.alpha), rel=1e-5)
    assert one.num_used == some.num_used[0] == k


@pytest.mark.parametrize('tops', [[0], [2000], [1.5], [], [[1]], ['a']])
def test_numbers_of_largest_values_are_checked(tops):
  with pytest.raises(ValueError, match=r'^num_tops must'):
    tail_index.hill_plot(PARETO, tops)
