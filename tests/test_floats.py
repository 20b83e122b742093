"""Conversion to floating-point arrays, and exact powers of two."""

import decimal
import fractions
import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from htjax import floats

INTEGERS = [2**31, 2**31 + 5, 3 * 10**9, 2**53 + 1, 2**63 - 1, -(2**40)]


def as_host(x):
  return np.asarray(floats.as_floating('x', x))


@pytest.mark.parametrize(
  'convert',
  [
    list,
    lambda v: np.asarray(v, np.int64),
    lambda v: np.asarray(v, np.int64).astype('>i8'),
    lambda v: np.asarray(v, object),
    lambda v: np.asarray(v, np.longdouble),
    lambda v: np.asarray(v, np.float64).astype('>f8'),
    lambda v: np.asfortranarray(np.asarray(v, np.int64).reshape(2, 3)).ravel(),
    lambda v: np.ma.masked_array(v),
    lambda v: [fractions.Fraction(i) for i in v],
    lambda v: [decimal.Decimal(i) for i in v],
  ],
)
@pytest.mark.parametrize('x64', [False, True])
def test_wide_numbers_are_rounded_once_and_never_wrap(convert, x64):
  with jax.enable_x64(x64):
    got = as_host(convert(INTEGERS))
  dtype = np.float64 if x64 else np.float32
  assert got.dtype == dtype
  assert np.array_equal(got, np.asarray(INTEGERS, np.longdouble).astype(dtype))


def test_unsigned_numbers_and_integers_beyond_64_bits_keep_their_size():
  unsigned = np.asarray([2**64 - 1, 2**63, 7], np.uint64)
  assert np.array_equal(as_host(unsigned), unsigned.astype(np.float32))
  assert as_host([10**30, 1])[0] == np.float32(1e30)
  assert as_host(3 * 10**9) == np.float32(3e9)


def test_integers_of_jax_become_floats_in_the_width_that_is_enabled():
  with jax.enable_x64(True):
    got = floats.as_floating('x', jnp.asarray([2**53 + 1, 2**40]))
    assert got.dtype == jnp.float64
    assert np.array_equal(got, np.float64([2**53 + 1, 2**40]))
  assert floats.as_floating('x', jnp.arange(3)).dtype == jnp.float32


@pytest.mark.parametrize(
  'name',
  [
    'float16',
    'bfloat16',
    'float8_e4m3fn',
    'float8_e5m2',
    'int8',
    'uint16',
    'bool',
  ],
)
def test_narrow_numbers_become_float32_exactly(name):
  dtype = np.dtype(getattr(ml_dtypes, name, name))
  x = np.asarray([0, 1, 1, 0]).astype(dtype)
  for given in (x, jnp.asarray(x), list(x)):
    got = floats.as_floating('x', given)
    assert got.dtype == jnp.float32
    assert np.array_equal(got, x.astype(np.float32))


@pytest.mark.parametrize(
  'x',
  [
    1e60,
    [1.0, -1e39],
    np.longdouble('1e400'),
    [10**400],
    [1e-60, 1e-70],
    np.asarray([3.5e38, 1.0]),
    1e-45,
  ],
)
def test_numbers_out_of_range_are_refused_with_what_to_do(x):
  with pytest.raises(
    ValueError,
    match=r'^x must be in the range of float32'
    r'.*enable_x64',
  ):
    floats.as_floating('x', x)


def test_float64_holds_what_float32_does_not():
  with jax.enable_x64(True):
    assert as_host([1e60, 1e-60]).tolist() == [1e60, 1e-60]
    with pytest.raises(ValueError, match='range of float64'):
      floats.as_floating('x', np.longdouble('1e400'))


def test_small_numbers_may_vanish_beside_others_or_where_allowed():
  assert as_host([1.0, 1e-60]).tolist() == [1.0, 0.0]
  assert floats.as_floating('x', 1e-60, vanish=True) == 0.0
  assert np.isinf(as_host([np.inf, 1.0])[0])


@pytest.mark.parametrize(
  'x',
  [
    'a',
    None,
    [1, 'b'],
    1j,
    np.datetime64('2020-01-01'),
    [[1], [1, 2]],
    [None, 1.0],
    {},
    np.ma.masked_array([1.0, 2.0], [True, False]),
  ],
)
def test_what_is_no_real_number_is_refused_by_name(x):
  with pytest.raises(ValueError, match=r'^x must'):
    floats.as_floating('x', x)


def test_traced_numbers_pass():
  assert jax.jit(lambda v: floats.as_floating('x', [v, 2]))(1.0).shape == (2,)


POWERS = [-149, -148, -130, -127, -126, -125, -60, -1, 0, 1, 60, 126, 127]
FRACTIONS = np.float64([1.0, 1.5, 1.9999999, -1.25, 1.0000001])


def test_powers_of_two_are_exact_also_among_subnormal_numbers():
  for start, move in itertools.product(POWERS, [-300, -23, -2, 0, 1, 22, 277]):
    x = (FRACTIONS * 2.0**start).astype(np.float32)
    right = np.ldexp(x.astype(np.float64), move)
    with np.errstate(over='ignore'):
      right = right.astype(np.float32)
    got = floats.times_power_of_two(jnp.asarray(x), move)
    assert np.array_equal(np.asarray(got).view(np.int32), right.view(np.int32))


def test_powers_of_two_of_float64():
  with jax.enable_x64(True):
    x = np.float64([5e-324, 2e-310, 1.5, -1e308, 0.0, -0.0])
    for move in (-1100, -60, 3, 1074, 2000):
      got = np.asarray(floats.times_power_of_two(jnp.asarray(x), move))
      with np.errstate(over='ignore'):
        right = np.ldexp(x.astype(np.longdouble), move).astype(np.float64)
      assert np.array_equal(got.view(np.int64), right.view(np.int64))


def test_special_numbers_stay():
  x = jnp.asarray([0.0, -0.0, jnp.inf, -jnp.inf, jnp.nan])
  got = floats.times_power_of_two(x, 7)
  assert np.array_equal(got, x, equal_nan=True)
  assert np.signbit(got[1])


@pytest.mark.parametrize('scale', [1e-41, 3e-39, 1e-30, 1.0, 1e30, 1e37])
def test_extreme_peaks_are_moved_exactly(scale):
  x = (np.random.default_rng(0).normal(size=200) * scale).astype(np.float32)
  scaled, exponent = floats.to_unit_peak(jnp.asarray(x))
  back = np.ldexp(np.asarray(scaled, np.float64), int(exponent))
  assert np.array_equal(back, x.astype(np.float64))
  if scale == 1.0:
    assert exponent == 0
  else:
    assert 2.0**60 <= np.max(np.abs(scaled)) < 2.0**61


def test_only_zeros_are_zero_after_scaling():
  x = np.float32([3e38, 1e-45, 0.0, -1e-44])
  scaled, _ = floats.to_unit_peak(jnp.asarray(x))
  tiny = np.finfo(np.float32).tiny
  assert np.asarray(scaled)[1:].tolist() == [tiny, 0.0, -tiny]


def test_arrays_share_the_scale_of_the_larger():
  x, y, exponent = floats.to_unit_peak(jnp.float32([1e-40]), jnp.float32(1.0))
  assert exponent == -60
  assert y == 2.0**60
  assert np.ldexp(np.float64(x[0]), -60) == np.float64(np.float32(1e-40))


@pytest.mark.parametrize('x', [[0.0, -0.0], [jnp.nan, 1e38], [jnp.inf, 1e-41]])
def test_what_has_no_peak_comes_back_as_it_is(x):
  x = jnp.asarray(x, jnp.float32)
  scaled, exponent = floats.to_unit_peak(x)
  assert exponent == 0
  assert np.array_equal(np.asarray(scaled), np.asarray(x), equal_nan=True)
