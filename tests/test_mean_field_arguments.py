"""Arguments of the laboratory: processes and studies, whole or by field."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htjax import mean_field
from htjax.mean_field.short_forms import gathers
from htjax.noise import StableNoise

NOISE = StableNoise(1.7, 0.3, kind='type2')
FIELDS = {'alpha': 1.7, 'sigma': 0.3, 'kind': 'type2'}
STUDY = mean_field.Study(num_replicas=2, common_noise=False, at_once=2)


def make_problem():
  rng = np.random.default_rng(0)
  return mean_field.Problem(
    lambda theta, x: jnp.tanh(theta @ x),
    lambda f, y: (f - y) ** 2,
    jnp.asarray(rng.normal(size=(5, 3)), jnp.float32),
    jnp.asarray(rng.normal(size=5), jnp.float32),
  )


def assert_equal(first, second):
  jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize('name', mean_field.__all__)
def test_no_function_has_more_than_eight_arguments(name):
  value = getattr(mean_field, name)
  if not inspect.isclass(value):
    assert len(inspect.signature(value).parameters) <= 8


def test_both_forms_of_the_process_are_one():
  problem, start = make_problem(), jnp.ones((4, 3))
  common = {'step_size': 0.1}
  for function, options in (
    (mean_field.euler_step, {}),
    (mean_field.simulate, {'num_steps': 4, 'save_every': 2}),
  ):
    long = function(
      jax.random.key(0), problem, start, NOISE, **common, **options
    )
    short = function(
      jax.random.key(0), problem, start, **FIELDS, **common, **options
    )
    assert_equal(long, short)


def test_both_forms_of_a_study_are_one():
  problem = make_problem()
  whole = {'noise': NOISE, 'study': STUDY}
  parts = FIELDS | STUDY._asdict()
  chaos = {'step_size': 0.1, 'num_steps': 3, 'widths': [2, 4], 'reference': 8}
  euler = {
    'step_sizes': [0.2],
    'fine_step_size': 0.1,
    'horizon': 0.4,
    'num_particles': 3,
  }
  for function, options in (
    (mean_field.propagation_of_chaos, chaos),
    (mean_field.euler_error, euler),
  ):
    assert_equal(
      function(jax.random.key(1), problem, **whole, **options),
      function(jax.random.key(1), problem, **parts, **options),
    )


def test_an_argument_is_given_once():
  problem, start = make_problem(), jnp.ones((4, 3))
  with pytest.raises(ValueError, match='noise holds alpha, which must not be'):
    mean_field.euler_step(
      jax.random.key(2), problem, start, NOISE, step_size=0.1, alpha=1.5
    )
  with pytest.raises(ValueError, match='noise must be a StableNoise'):
    mean_field.euler_step(jax.random.key(2), problem, start, 1.5, step_size=0.1)
  with pytest.raises(ValueError, match='study must be a Study'):
    mean_field.euler_error(
      *(jax.random.key(2), problem, NOISE),
      step_sizes=[0.2],
      fine_step_size=0.1,
      horizon=0.4,
      num_particles=3,
      study=3,
    )


def test_gathering_by_position_and_by_name():
  @gathers(noise=StableNoise)
  def show(first, noise, *, last=0):
    """Doc."""
    return first, noise, last

  assert show(1, NOISE) == (1, NOISE, 0)
  assert show(1, noise=NOISE, last=2) == (1, NOISE, 2)
  assert show(1, **FIELDS, last=2) == (1, NOISE, 2)
  assert show.__doc__ == 'Doc.'
  with pytest.raises(TypeError, match='sigma'):
    show(1, alpha=1.5)


def split_unit(theta, x):
  return jnp.tanh(theta[:2] @ x['left'] + theta[2] * x['right'][0])


def split_loss(f, y):
  return jnp.logaddexp(f - y['of'][0], y['of'][0] - f)


def make_split(problem):
  x, y = problem.inputs, problem.targets
  inputs = {'left': x[:, :2], 'right': [x[:, 2]]}
  return mean_field.Problem(split_unit, split_loss, inputs, {'of': (y,)})


START = jnp.asarray(np.random.default_rng(3).normal(size=(4, 3)), jnp.float32)
STEPS = {'step_size': 0.1, 'num_steps': 3}
OF_PROBLEMS = {
  'predict': lambda p: mean_field.predict(p, START),
  'risk': lambda p: mean_field.risk(p, START),
  'drift': lambda p: mean_field.drift(p, START[0], START),
  'euler_step': lambda p: mean_field.euler_step(
    jax.random.key(0), p, START, NOISE, step_size=0.1
  ),
  'simulate': lambda p: mean_field.simulate(
    jax.random.key(0), p, START, NOISE, batch_size=2, **STEPS
  ),
  'chaos': lambda p: mean_field.propagation_of_chaos(
    *(jax.random.key(0), p, NOISE),
    **(STEPS | {'widths': [2, 4], 'reference': 8, 'num_replicas': 2}),
  ),
  'euler_error': lambda p: mean_field.euler_error(
    *(jax.random.key(0), p, NOISE),
    **{'step_sizes': [0.2], 'fine_step_size': 0.1, 'horizon': 0.4},
    **{'num_particles': 3, 'num_replicas': 2},
  ),
  'regularity': lambda p: mean_field.regularity(p)[:5],
  'lipschitz_ratios': lambda p: mean_field.lipschitz_ratios(
    jax.random.key(0), p, START, 2
  ),
}


@pytest.mark.parametrize('name', OF_PROBLEMS)
def test_data_may_be_pytrees(name):
  whole = make_problem()
  whole = mean_field.Problem(
    *(whole.unit, lambda f, y: jnp.logaddexp(f - y, y - f)),
    *(whole.inputs, whole.targets),
  )
  of = OF_PROBLEMS[name]
  # Products in another order: 3 terms and the steps after them, each relative
  # to numbers of order one.
  eps = np.finfo(np.float32).eps
  for ours, theirs in zip(
    *(jax.tree.leaves(of(p)) for p in (make_split(whole), whole)), strict=True
  ):
    np.testing.assert_allclose(ours, theirs, rtol=200 * eps, atol=50 * eps)


BAD_DATA = {
  'rows of one leaf': ({'a': jnp.ones((5, 2)), 'b': jnp.ones(4)}, 'inputs'),
  'no leaf': ({}, 'inputs'),
  'a leaf without rows': ({'a': jnp.ones((5, 2)), 'b': jnp.ones(())}, 'inputs'),
  'a leaf that is a number': ([1.0, jnp.ones(5)], 'inputs'),
  'no rows': ({'a': jnp.ones((0, 2))}, 'inputs'),
  'not what the unit takes': ({'other': jnp.ones((5, 2))}, 'unit'),
}


@pytest.mark.parametrize('name', BAD_DATA)
def test_bad_pytrees_are_refused(name):
  inputs, word = BAD_DATA[name]
  problem = mean_field.Problem(
    split_unit, split_loss, inputs, {'of': [jnp.ones(5)]}
  )
  with pytest.raises(ValueError, match=rf'\b{word}\b'):
    mean_field.risk(problem, START)


def test_initial_values_where_a_unit_has_other_parameters():
  problem = make_problem()
  second = mean_field.Problem(
    lambda theta, x: theta[0] * jnp.tanh(theta[1:] @ x),
    *(problem.loss, problem.inputs, problem.targets),
  )
  key, rest = jax.random.key(0), {'size': 4, 'step_size': 0.1, 'num_steps': 2}
  with pytest.raises(ValueError, match='initial must be given'):
    mean_field.reference_path(key, second, NOISE, **rest)
  path = mean_field.reference_path(
    *(key, second, NOISE),
    initial=lambda key, n: jax.random.normal(key, (n, 4)),
    **rest,
  )
  assert path.outputs.shape == (2, 5)
  with pytest.raises(ValueError, match=r'unit\(theta, x\) of problem'):
    mean_field.regularity(second)
