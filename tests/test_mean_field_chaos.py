"""Propagation of chaos: closed forms, the rate, and controls that must fail."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htjax import mean_field
from htjax.mean_field import Problem

WIDTHS = (16, 64, 256, 1024)


def tanh_problem():
  generator = np.random.default_rng(3)
  return Problem(
    lambda theta, x: jnp.tanh(theta @ x),
    lambda f, y: jnp.logaddexp(f - y, y - f),
    jnp.asarray(generator.normal(size=(16, 3)), jnp.float32),
    jnp.asarray(generator.normal(size=16), jnp.float32),
  )


@functools.cache
def tanh_regularity():
  return mean_field.regularity(tanh_problem())


def mean_problem(target=0.0):
  """h = theta, l = (f - y)^2 / 2: every particle drifts by y - mean."""
  return Problem(
    lambda theta, x: theta[0] + 0 * x,
    lambda f, y: 0.5 * (f - y) ** 2,
    jnp.zeros(1),
    jnp.full(1, target),
  )


def scalar_normal(key, n):
  return jax.random.normal(key, (n, 1))


SETTINGS = {
  'alpha': 1.5,
  'sigma': 0.5,
  'step_size': 1 / 4,
  'num_steps': 16,
  'kind': 'type2',
}


def free_walks(key, num_replicas, n, settings):
  """Particles of each replica as the noise alone moves them."""
  still = Problem(lambda t, x: 0 * t[0] + x, lambda f, y: f, *2 * [jnp.ones(1)])
  settings = {k: v for k, v in settings.items() if k != 'initial'}
  _, replica_key = jax.random.split(key)
  for one in jax.random.split(replica_key, num_replicas):
    start_key, noise_key, _ = jax.random.split(one, 3)
    yield mean_field.simulate(
      noise_key, still, scalar_normal(start_key, n), save_every=1, **settings
    ).particles


@pytest.mark.parametrize('alpha', [1.3, 1.8, 2.0])
def test_distance_under_a_mean_drift_against_its_closed_form(alpha):
  """theta^i - copy i is the same for all i, and known path by path.

  With e = mean over the system of what copies have, the drift y - mean gives
  d_{k+1} = (1 - eta) d_k - eta (mean of copies - limit's mean); the copies'
  mean is the initial values' plus the noise's, and the limit's mean is 0 here.
  """
  eta, steps, n = 0.25, 8, 40
  path = mean_field.ReferencePath(jnp.zeros((steps, 1)), 10**6)
  key = jax.random.key(5)
  settings = {
    'alpha': alpha,
    'sigma': 0.3,
    'step_size': eta,
    'num_steps': steps,
    'initial': scalar_normal,
  }
  errors = mean_field.propagation_of_chaos(
    key,
    mean_problem(),
    widths=(n,),
    reference=path,
    num_replicas=5,
    **settings,
  )
  # The study's own keys are split here once more.
  with jax.debug_key_reuse(False):
    walks = list(free_walks(key, 5, n, settings))
  for r, walk in enumerate(walks):
    means = np.asarray(walk.mean(axis=(1, 2)), np.float64)
    d, far = 0.0, 0.0
    for k in range(steps):
      d = (1 - eta) * d - eta * means[k]
      far = max(far, abs(d))
    rounding = 1e-5 * (1 + np.abs(means).max())
    assert abs(errors.typical[0, r] - far) < rounding
    assert abs(errors.largest[0, r] - far) < rounding


def test_a_network_without_interaction_is_its_own_limit():
  linear = Problem(
    lambda theta, x: jnp.tanh(theta @ x),
    lambda f, y: y * f,
    tanh_problem().inputs,
    tanh_problem().targets,
  )
  errors = mean_field.propagation_of_chaos(
    jax.random.key(2),
    linear,
    widths=(3, 9),
    reference=32,
    num_replicas=4,
    **SETTINGS,
  )
  assert np.all(np.asarray(errors.largest) == 0)
  # Outputs are means of n = 9 numbers below 1, summed in any order: two differ
  # by n eps at most, centred ones by twice that, their squares by four times
  # that, times 4 / 3 for 4 replicas and 9 / 8 for pairs, over v > 0.1.
  rounding = 12 * 9 * np.finfo(np.float32).eps / 0.1
  assert np.all(np.abs(errors.correlation) <= rounding)


def test_huge_particles_do_not_round_the_distances():
  """At |theta| = 1e6 a float32 has a grain of 0.06; the errors are 1e-3."""
  start = functools.partial(_far_away, scalar_normal)
  settings = SETTINGS | {'alpha': 2.0, 'sigma': 0.0, 'kind': 'type1'}
  sine = Problem(
    lambda theta, x: jnp.sin(1e-6 * theta[0] + x),
    lambda f, y: 1e3 * f * y,
    jnp.linspace(0, 3, 4),
    jnp.ones(4),
  )
  errors = mean_field.propagation_of_chaos(
    jax.random.key(1),
    sine,
    widths=(4,),
    reference=mean_field.ReferencePath(jnp.zeros((16, 4)), 100),
    num_replicas=4,
    initial=start,
    **settings,
  )
  # The loss is linear: copies and system move alike, so nothing but rounding.
  assert np.all(np.asarray(errors.largest) == 0)


def _far_away(initial, key, n):
  return 1e6 + initial(key, n)


def test_batches_and_devices_change_nothing():
  settings = SETTINGS | {'num_steps': 4}
  mesh = jax.make_mesh((2,), ('r',), axis_types=(jax.sharding.AxisType.Auto,))
  runs = [
    mean_field.propagation_of_chaos(
      jax.random.key(4),
      tanh_problem(),
      widths=(4,),
      reference=64,
      num_replicas=6,
      at_once=at_once,
      mesh=devices,
      **settings,
    )
    for at_once, devices in ((1, None), (4, None), (2, mesh))
  ]
  assert len(runs[2].largest.sharding.device_set) == 2
  for run in runs[1:]:
    np.testing.assert_allclose(
      runs[0].largest, run.largest, rtol=1e-4, atol=1e-6
    )


def test_batches_of_all_data_or_of_equal_ones_change_nothing():
  problem = tanh_problem()
  equal = dataclasses.replace(
    problem,
    inputs=jnp.ones_like(problem.inputs),
    targets=jnp.ones_like(problem.targets),
  )

  def found(problem, batch_size):
    return mean_field.propagation_of_chaos(
      jax.random.key(5),
      problem,
      **(SETTINGS | {'widths': (4, 8), 'reference': 16, 'num_replicas': 4}),
      batch_size=batch_size,
    ).typical

  for data, size in ((problem, len(problem.targets)), (equal, 1)):
    np.testing.assert_allclose(
      found(data, size), found(data, None), rtol=1e-4, atol=1e-6
    )
  assert (found(problem, 1) > 1.1 * found(problem, None)).any()


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'widths': (0, 4)}, 'every entry of widths'),
    ({'widths': ()}, 'widths must not be empty'),
    ({'reference': 5}, 'reference must be at least the largest width 8, got 5'),
    ({'reference': 2.5}, 'reference'),
    ({'num_replicas': 0}, 'num_replicas'),
    ({'at_once': 0}, 'at_once'),
    ({'batch_size': 0}, 'batch_size'),
    ({'batch_size': 17}, r'batch_size must lie in .*16.*, got 17'),
    (
      {'mesh': jax.make_mesh((8,), ('r',)), 'num_replicas': 12},
      'num_replicas must be a multiple of the 8 devices',
    ),
    ({'step_size': -0.1}, 'step_size'),
    ({'num_steps': 0}, 'num_steps'),
    ({'alpha': 2.5}, 'alpha'),
    ({'kind': 'typeI'}, 'kind'),
    ({'initial': lambda key, n: jnp.zeros(3)}, 'initial'),
    (
      {'reference': mean_field.ReferencePath(jnp.zeros((3, 16)), 100)},
      'reference must have num_steps = 16 steps, got 3',
    ),
  ],
)
def test_bad_input(changes, message):
  settings = SETTINGS | {'widths': (4, 8), 'reference': 16, 'num_replicas': 4}
  with pytest.raises(ValueError, match=message):
    mean_field.propagation_of_chaos(
      jax.random.key(0), tanh_problem(), **(settings | changes)
    )
