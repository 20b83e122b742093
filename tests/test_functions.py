"""Functions that are written out again, and what must keep them apart."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htjax import functions, mean_field

FACTOR = 2.0
LIST = [1.0]
ONES = np.ones(2)


def helper(x):
  return FACTOR * x


def times(c):
  return lambda x: c * x


class Settings:
  factor = 2.0


SETTINGS = types.ModuleType('settings')
SETTINGS.factor = 2.0


def twice(make):
  """Two evaluations of a function expression, as shared."""
  first, second = make(), make()
  assert first is not second
  return functions.shared(first), functions.shared(second)


def recursive():
  def power(x, k=3):
    return x * power(x, k - 1) if k else 1.0

  return power


@pytest.mark.parametrize(
  'make',
  [
    lambda: lambda x: jnp.tanh(x),
    lambda: lambda x, y=(1, 'a', None), *, z=0.5: jax.nn.relu(x) * z + y[0],
    lambda: lambda x: FACTOR * helper(x),
    lambda: lambda x: (lambda t: FACTOR * t)(x),
    lambda: lambda x: max(SETTINGS.factor, x),
    lambda: lambda x: x.astype(jnp.float32) @ np.float64(1),
    recursive,
  ],
  ids=lambda f: f'line {f.__code__.co_firstlineno}',
)
def test_the_same_function_again_is_one_object(make):
  first, second = twice(make)
  assert first is second


@pytest.mark.parametrize(
  'make',
  [
    lambda: lambda x: LIST[0] * x,
    lambda: lambda x: Settings.factor * x,
    lambda: lambda x, f=LIST.__getitem__: f(0) * x,
    lambda: lambda x, s=LIST.copy: s()[0] * x,
    lambda: lambda x, a=ONES: a * x,
    lambda: lambda x: ONES * x,
    lambda: jnp.vectorize(lambda x: LIST[0] * x),
  ],
  ids=lambda f: f'line {f.__code__.co_firstlineno}',
)
def test_what_may_change_unseen_is_never_shared(make):
  first, second = twice(make)
  assert first is not second


def test_equal_numbers_of_other_type_or_sign_are_other_functions():
  made = [
    functions.shared(times(c))
    for c in (1, 1.0, True, 0.0, -0.0, np.float32(1), float('nan'), 1j)
  ]
  assert len(set(map(id, made))) == len(made)


def test_changes_of_all_that_it_reaches_are_seen(monkeypatch):
  def make():
    return functions.shared(lambda x: helper(SETTINGS.factor * x))

  before = make()
  monkeypatch.setattr(SETTINGS, 'factor', 3.0)
  attribute = make()
  monkeypatch.setitem(globals(), 'FACTOR', 5.0)
  glob = make()
  monkeypatch.setitem(globals(), 'helper', lambda x: x)
  other = make()
  assert len({id(f) for f in (before, attribute, glob, other)}) == 4
  assert make() is other


def test_a_function_whose_own_closure_changed_is_not_handed_out():
  def counted(start):
    count = start

    def set_to(value):
      nonlocal count
      count = value

    return lambda x: count * x, set_to

  first, set_to = counted(1.0)
  assert functions.shared(first) is first
  set_to(2.0)
  second, _ = counted(1.0)
  assert functions.shared(second) is second
  assert functions.shared(counted(2.0)[0])(1.0) == 2.0


def test_a_problem_in_a_loop_compiles_once():
  compiled = []

  def solve(factor):
    problem = mean_field.Problem(
      lambda theta, x: factor * jnp.tanh(theta @ x),
      lambda f, y: (f - y) ** 2,
      jnp.ones((4, 3)),
      jnp.zeros(4),
    )
    return risk(problem)

  @jax.jit
  def risk(problem):
    compiled.append(problem.unit)
    return mean_field.risk(problem, jnp.ones((2, 3)))

  values = [float(solve(factor)) for factor in (1.0, 1.0, 2.0, 1.0, 2.0)]
  assert len(compiled) == 2
  exact = [(factor * np.tanh(3.0)) ** 2 for factor in (1, 1, 2, 1, 2)]
  np.testing.assert_allclose(values, exact, rtol=1e-5)
