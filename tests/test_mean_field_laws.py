"""Gradients along paths, and laws in closed form."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from test_mean_field_arguments import FIELDS, NOISE, make_problem

from htjax import mean_field

SETTINGS = {'step_size': 0.1, 'num_steps': 3, 'num_particles': 4}


def test_gradients_are_those_of_the_risk():
  """By autodiff of the risk, along the path of one replica."""
  problem, key = make_problem(), jax.random.key(3)
  found = mean_field.gradient_norms(
    jax.random.clone(key), problem, NOISE, num_replicas=2, **SETTINGS
  )
  risks = []
  for i, own in enumerate(jax.random.split(key, 2)):
    start_key, noise_key = jax.random.split(own)
    theta = jax.random.normal(start_key, (4, 3))
    path = mean_field.simulate(
      *(noise_key, problem, theta, NOISE),
      step_size=0.1,
      num_steps=3,
      save_every=1,
    ).particles
    risks.append(float(mean_field.risk(problem, theta)))
    for k in range(3):
      gradient = jax.grad(lambda t: mean_field.risk(problem, t))(path[k])
      np.testing.assert_allclose(
        found.squares[i, k], jnp.sum(gradient**2), rtol=1e-4
      )
  assert float(found.risk) == pytest.approx(np.mean(risks), rel=1e-5)
  best = np.argmin(np.mean(found.squares, axis=0))
  np.testing.assert_array_equal(found.least, found.squares[:, best])


def test_both_forms_of_the_process_are_one():
  problem, key = make_problem(), jax.random.key(3)
  study = mean_field.Study(num_replicas=2)
  whole = mean_field.gradient_norms(
    jax.random.clone(key), problem, NOISE, study=study, **SETTINGS
  )
  parts = mean_field.gradient_norms(
    key, problem, **FIELDS, num_replicas=2, **SETTINGS
  )
  jax.tree.map(np.testing.assert_array_equal, whole, parts)
  spread = mean_field.gradient_norms(
    jax.random.clone(key),
    *(problem, NOISE),
    study=study._replace(mesh=jax.make_mesh((2,), ('r',))),
    **SETTINGS,
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), whole, spread
  )


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'num_particles': 0}, 'num_particles must be an integer >= 1'),
    ({'num_replicas': 0}, 'num_replicas must be an integer >= 1'),
    ({'num_steps': 1.5}, 'num_steps must be an integer'),
    ({'step_size': -1.0}, 'step_size must'),
  ],
)
def test_bad_gradients(changes, message):
  with pytest.raises(ValueError, match=message):
    mean_field.gradient_norms(
      jax.random.key(0), make_problem(), NOISE, **SETTINGS | changes
    )


def scale(alpha=1.5, sigma=0.5, decay=0.7, horizon=2.0, **more):
  return mean_field.ornstein_uhlenbeck_scale(
    alpha, sigma, decay=decay, horizon=horizon, **more
  )


@pytest.mark.parametrize('alpha', [1.2, 1.5, 2.0])
def test_scale_of_the_scheme_tends_to_that_of_the_process(alpha):
  exact = scale(alpha)
  # The sum of a rectangle rule, wrong by the order of a step.
  gaps = [scale(alpha, num_steps=k) / exact - 1 for k in (1000, 2000)]
  assert 0 < gaps[1] < gaps[0] < 1e-2
  assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.01)
  one, eta = scale(alpha, num_steps=1), 2.0
  assert one == pytest.approx(0.5 * eta ** (1 / alpha), rel=1e-12)


def test_scale_at_two_is_a_variance():
  """The variance of Ornstein and Uhlenbeck; 2 scale^2 is the noise's."""
  sigma, decay, horizon = 0.5, 0.7, 2.0
  variance = 2 * sigma**2 * (1 - math.exp(-2 * decay * horizon)) / (2 * decay)
  assert 2 * scale(2.0) ** 2 == pytest.approx(variance, rel=1e-12)
  assert scale(1.5, sigma=0.0) == 0
  for name, value in (('decay', 0.0), ('horizon', -1.0), ('num_steps', 0)):
    with pytest.raises(ValueError, match=f'{name} must'):
      scale(**{name: value})


def test_tail_supremum_of_one_cauchy_coordinate():
  """P(|X| > r) r of Cauchy's law rises to its limit 2 / pi."""
  key = jax.random.key(1)
  found = mean_field.norm_tail_supremum(key, 1.0, 1, 'type2', num_samples=10**5)
  r = np.geomspace(0.01, 60, 400)
  exact = max(np.max(2 * stats.cauchy.sf(r) * r), 2 / math.pi)
  # A thousand draws and more behind each point: 3 % is a standard error, and
  # the largest of many points lies a few of them above.
  assert exact <= found < 1.15 * exact
  with pytest.raises(ValueError, match='num_samples must be an integer >='):
    mean_field.norm_tail_supremum(key, 1.5, 1, 'type2', num_samples=10)
