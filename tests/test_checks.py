"""Argument checks: what passes, and messages that name what did not."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htjax.checks import (
  check_choice,
  check_count,
  check_finite,
  check_floating,
  check_key,
  check_range,
  is_concrete,
)


def test_concrete_and_traced_values():
  seen = []

  def look(x):
    seen.append(is_concrete(x))
    return x

  jax.jit(look)(1.0)
  jax.vmap(look)(jnp.ones(2))
  jax.grad(look)(1.0)
  assert seen == [False, False, False]
  assert all(is_concrete(x) for x in (1, 1.0, np.ones(2), jnp.ones(2)))


@pytest.mark.parametrize(
  'value',
  [0, 0.5, 1, np.float16(0.5), jnp.bfloat16(0.5), np.array([0.0, 1.0]), [0, 1]],
)
def test_range_accepts(value):
  check_range('x', value, 0.0, 1.0)


@pytest.mark.parametrize(
  ('value', 'message'),
  [
    (-1e-9, r'kappa must lie in \[0, 1\], got -1e-09'),
    (2, r'kappa must lie in \[0, 1\], got 2'),
    (math.nan, r'kappa must lie in \[0, 1\], got nan'),
    (math.inf, r'kappa must lie in \[0, 1\], got inf'),
    (np.array([0.5, 3.0]), r'got an array with 0.5..3.0'),
    (np.array([0.5, math.nan]), r'kappa must lie in \[0, 1\]'),
    (jnp.float32(7.0), r'got 7.0'),
    ('0.5', r"kappa must be a real number, got '0.5'"),
    (None, r'kappa must be a real number, got None'),
    (0.5j, r'kappa must be a real number, got 0.5j'),
    (True, r'kappa must be a real number, got True'),
  ],
)
def test_range_refuses(value, message):
  with pytest.raises(ValueError, match=message):
    check_range('kappa', value, 0.0, 1.0)


def test_open_ends():
  check_range('x', 0.0, 0.0, 1.0, open_high=True)
  check_range('x', 1.0, 0.0, 1.0, open_low=True)
  with pytest.raises(ValueError, match=r'\(0, 1\]'):
    check_range('x', 0.0, 0.0, 1.0, open_low=True)
  with pytest.raises(ValueError, match=r'\[0, 1\)'):
    check_range('x', 1.0, 0.0, 1.0, open_high=True)
  with pytest.raises(ValueError, match=r'\[0, inf\)'):
    check_range('x', math.inf, 0.0, math.inf, open_high=True)


def test_traced_values_are_not_looked_at():
  def f(x):
    check_range('x', x, 0.0, 1.0)
    return x

  assert jax.jit(f)(5.0) == 5.0


def test_choice():
  check_choice('kind', 'a', ('a', 'b'))
  for value in ('c', None, 3):
    with pytest.raises(ValueError, match=r"kind must be one of 'a', 'b', got"):
      check_choice('kind', value, ('a', 'b'))


@pytest.mark.parametrize('value', [1, 5, np.int32(2)])
def test_count_accepts(value):
  check_count('k', value)


@pytest.mark.parametrize('value', [0, -1, 1.0, True, '3', None, jnp.int32(3)])
def test_count_refuses(value):
  with pytest.raises(ValueError, match='k must be an integer >= 1, got'):
    check_count('k', value)


def test_count_has_a_lower_end():
  check_count('k', 0, 0)
  with pytest.raises(ValueError, match='k must be an integer >= 2, got 1'):
    check_count('k', 1, 2)


@pytest.mark.parametrize('impl', ['threefry2x32', 'rbg', 'unsafe_rbg'])
def test_key_accepts(impl):
  key = jax.random.key(0, impl=impl)
  assert check_key(key) is key
  jax.jit(check_key)(key)
  jax.vmap(check_key)(jax.random.split(key, 3))


@pytest.mark.parametrize(
  ('key', 'message'),
  [
    (np.zeros(2, np.uint32), 'seed must be a typed key .* legacy uint32 key'),
    (jnp.zeros(2, jnp.uint32), 'legacy uint32 key; wrap it with'),
    (0, r'seed must be a typed key from jax.random.key\(seed\), got 0'),
    (None, 'got None'),
    (jnp.zeros(2), 'seed must be a typed key'),
  ],
)
def test_key_refuses(key, message):
  with pytest.raises(ValueError, match=message):
    check_key(key, 'seed')


def test_key_refuses_an_array_of_keys():
  keys = jax.random.split(jax.random.key(1), 3)
  with pytest.raises(ValueError, match=r'array of keys of shape \(3,\); vmap'):
    check_key(keys)


def test_floating():
  for dtype in (jnp.float32, 'float32', np.dtype(np.float32)):
    assert check_floating('dtype', dtype) == np.float32
  with jax.enable_x64(True):
    assert check_floating('dtype', float) == np.float64
  with pytest.raises(ValueError, match='dtype is float64, which needs'):
    check_floating('dtype', jnp.float64)
  for dtype in (jnp.float16, jnp.bfloat16, jnp.int32, jnp.complex64, bool):
    with pytest.raises(ValueError, match='dtype must be float32 or float64'):
      check_floating('dtype', dtype)


def test_check_finite():
  check_finite('x', jnp.ones(3))
  check_finite('x', np.zeros(0))
  for bad in (jnp.array([1.0, jnp.nan]), np.inf):
    with pytest.raises(ValueError, match='x must be finite'):
      check_finite('x', bad)


def test_check_finite_looks_at_constants_but_not_at_traced_values():
  bad, good = jnp.array([1.0, jnp.nan]), jnp.ones(2)

  def f(x, constant):
    check_finite('constant', constant)
    check_finite('x', x)
    return x

  assert jnp.isnan(jax.jit(lambda x: f(x, good))(bad)[1])
  with pytest.raises(ValueError, match='constant must be finite'):
    jax.jit(lambda x: f(x, bad))(good)
