"""The error of the Euler scheme: closed forms, its order, and a control."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_mean_field_chaos import scalar_normal, tanh_problem

from htjax import mean_field
from htjax.mean_field import Problem

STEPS = (1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)
FINE = 1 / 512


def errors(**changes):
  settings = {
    'step_sizes': STEPS,
    'fine_step_size': FINE,
    'horizon': 1.0,
    'num_particles': 8,
    'num_replicas': 32,
    'alpha': 1.5,
    'sigma': 0.5,
    'kind': 'type3',
  }
  return mean_field.euler_error(
    jax.random.key(31), tanh_problem(), **(settings | changes)
  )


def test_linear_decay_without_noise():
  decay = Problem(
    lambda theta, x: 0.5 * theta @ theta + 0 * x,
    lambda f, y: 0.7 * f + 0 * y,
    jnp.zeros(1),
    jnp.zeros(1),
  )
  with jax.enable_x64(True):
    decay = jax.tree.map(lambda x: x.astype(jnp.float64), decay)
    found = mean_field.euler_error(
      jax.random.key(0),
      decay,
      step_sizes=STEPS,
      fine_step_size=FINE,
      horizon=2.0,
      num_particles=1,
      num_replicas=4,
      alpha=1.5,
      sigma=0.0,
      initial=lambda key, n: jnp.ones((n, 1), jnp.float64),
    )
  fine = (1 - 0.7 * FINE) ** (2 / FINE)
  for h, row in zip(STEPS, np.asarray(found.largest), strict=True):
    np.testing.assert_allclose(row, abs((1 - 0.7 * h) ** (2 / h) - fine))


def free_walks(key, n, fine, steps):
  """Particles of two replicas as the noise alone moves them."""
  still = Problem(lambda t, x: 0 * t[0] + x, lambda f, y: f, *2 * [jnp.ones(1)])
  for one in jax.random.split(key, 2):
    start_key, noise_key = jax.random.split(one)
    yield mean_field.simulate(
      noise_key,
      still,
      scalar_normal(start_key, n),
      alpha=1.8,
      sigma=0.3,
      step_size=fine,
      num_steps=steps,
      save_every=1,
    ).particles


def test_coarse_steps_sum_the_fine_increments():
  """Under the drift -mean, by hand from the fine noise."""
  pull = Problem(
    lambda theta, x: theta[0] + 0 * x,
    lambda f, y: 0.5 * (f - y) ** 2,
    jnp.zeros(1),
    jnp.zeros(1),
  )
  key, fine, ratio, steps, n = jax.random.key(3), 1 / 32, 8, 32, 5
  found = mean_field.euler_error(
    key,
    pull,
    step_sizes=[ratio * fine],
    fine_step_size=fine,
    horizon=1.0,
    num_particles=n,
    num_replicas=2,
    alpha=1.8,
    sigma=0.3,
    initial=scalar_normal,
  )
  # The study's own keys are split here once more.
  with jax.debug_key_reuse(False):
    walks = list(free_walks(key, n, fine, steps))
  for r, walk in enumerate(walks):
    means = np.asarray(walk.mean(axis=(1, 2)), np.float64)

    def moved(ratio, means=means):
      d = 0.0
      for k in range(0, steps, ratio):
        d -= ratio * fine * (means[k] + d)
      return d

    expected = abs(moved(ratio) - moved(1))
    np.testing.assert_allclose(found.largest[0, r], expected, rtol=1e-3)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'step_sizes': (0.3,)}, 'step_sizes must be a multiple'),
    ({'step_sizes': (3 / 512,)}, 'step_sizes must divide the horizon'),
    ({'step_sizes': ()}, 'step_sizes must not be empty'),
    ({'step_sizes': (-0.25,)}, 'step_sizes must be positive'),
    ({'step_sizes': (1 / 1024,)}, 'step_sizes must be a multiple'),
    ({'fine_step_size': 0.0}, 'fine_step_size must be positive'),
    ({'horizon': 0.0}, 'horizon must be positive'),
    ({'horizon': 0.999}, 'horizon must be a multiple'),
    ({'num_particles': 0}, 'num_particles'),
    ({'num_replicas': 0}, 'num_replicas'),
    ({'at_once': -1}, 'at_once'),
    ({'sigma': -1.0}, 'sigma'),
  ],
)
def test_bad_input(changes, message):
  with pytest.raises(ValueError, match=message):
    errors(**changes)
