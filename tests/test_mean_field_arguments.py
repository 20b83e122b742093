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
