"""The Euler scheme: its law, the route through optax, saves and sharding."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import several_hosts
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from htjax import mean_field, models, multihost, noise
from htjax.mean_field import Problem
from htjax.mean_field import problem as problems


def tanh_problem(m=16, p=3, dtype=jnp.float32):
  generator = np.random.default_rng(3)
  return Problem(
    lambda theta, x: jnp.tanh(theta @ x),
    lambda f, y: jnp.logaddexp(f - y, y - f),
    jnp.asarray(generator.normal(size=(m, p)), dtype),
    jnp.asarray(generator.normal(size=m), dtype),
  )


@pytest.mark.parametrize('kind', ['type1', 'type2', 'type3'])
@pytest.mark.parametrize('alpha', [1.5, 2.0])
def test_optax_route_gives_the_same_iterates(kind, alpha):
  with jax.enable_x64(True):
    problem, n, p, eta = tanh_problem(dtype=jnp.float64), 10, 3, 0.1
    network = models.mean_field(p, n)
    params = network.init(jax.random.key(0))
    params = jax.tree.map(lambda x: x.astype(jnp.float64), params)
    optimizer = optax.chain(
      optax.scale(n),
      noise.heavy_tailed_sgd(eta, alpha, 0.5, key=jax.random.key(9), kind=kind),
    )

    def risk(params):
      outputs = network.apply(params, problem.inputs)[:, 0]
      return jnp.mean(jax.vmap(problem.loss)(outputs, problem.targets))

    state = optimizer.init(params)
    expected = [params['hidden_0']['kernel'].T]
    for _ in range(6):
      updates, state = optimizer.update(jax.grad(risk)(params), state, params)
      params = optax.apply_updates(params, updates)
      expected.append(params['hidden_0']['kernel'].T)
    path = mean_field.simulate(
      jax.random.key(9),
      problem,
      expected[0],
      alpha=alpha,
      sigma=0.5,
      step_size=eta,
      num_steps=6,
      kind=kind,
      save_every=1,
    )
    np.testing.assert_allclose(
      path.particles, jnp.stack(expected), rtol=1e-11, atol=1e-12
    )
    np.testing.assert_allclose(path.times, 0.1 * np.arange(7))


def run(key=0, problem=None, particles=None, **changes):
  settings = {
    'alpha': 1.8,
    'sigma': 0.5,
    'step_size': 0.1,
    'num_steps': 6,
    'kind': 'type2',
  }
  problem = tanh_problem() if problem is None else problem
  if particles is None:
    particles = jax.random.normal(jax.random.key(1), (8, 3))
  return mean_field.simulate(
    jax.random.key(key), problem, particles, **(settings | changes)
  )


def test_saves_are_thinned_states_of_one_path():
  every = run(save_every=1)
  chex.assert_shape(every.particles, (7, 8, 3))
  for save_every in (2, 3, 6):
    thinned = run(save_every=save_every)
    np.testing.assert_array_equal(
      thinned.particles, every.particles[::save_every]
    )
    np.testing.assert_allclose(thinned.times, every.times[::save_every])
  np.testing.assert_array_equal(run().particles, every.particles[::6])


def test_steps_are_euler_steps_with_keys_of_their_own():
  path = run(save_every=1).particles
  for t in range(6):
    step = mean_field.euler_step(
      jax.random.fold_in(jax.random.key(0), t),
      tanh_problem(),
      path[t],
      alpha=1.8,
      sigma=0.5,
      step_size=0.1,
      kind='type2',
    )
    np.testing.assert_allclose(step, path[t + 1], rtol=1e-6, atol=1e-6)


def test_one_program_for_a_sweep_and_vmap_equals_a_loop():
  problem = tanh_problem()
  start = jax.random.normal(jax.random.key(1), (8, 3))

  @jax.jit
  @chex.assert_max_traces(n=1)
  def end(key, alpha, sigma, step_size):
    return mean_field.simulate(
      key,
      problem,
      start,
      alpha=alpha,
      sigma=sigma,
      step_size=step_size,
      num_steps=3,
      kind='type3',
    ).particles[-1]

  settings = [(1.2, 0.1, 0.2), (1.9, 0.5, 0.1), (2.0, 1.0, 0.05)]
  keys = jax.random.split(jax.random.key(4), 3)
  looped = [end(k, *s) for k, s in zip(keys, settings, strict=True)]
  # Tracing under vmap is another trace of the same function.
  mapped = jax.vmap(end.__wrapped__.__wrapped__)(
    keys, *(jnp.array(v) for v in zip(*settings, strict=True))
  )
  np.testing.assert_allclose(mapped, jnp.stack(looped), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
  ('devices', 'kind', 'truncation'),
  [(1, 'type1', None), (1, 'type2', 1.5), (8, 'type2', None)],
)
def test_a_step_in_blocks_is_drift_and_increments(
  monkeypatch, devices, kind, truncation
):
  monkeypatch.setattr(jax, 'device_count', lambda: devices)
  # 16 numbers per particle: four blocks of 12, one row of which is padding.
  monkeypatch.setattr(problems, '_BLOCK', 192)
  problem, key = tanh_problem(), jax.random.key(5)
  theta = jax.random.normal(jax.random.key(1), (47, 3))
  process = noise.StableNoise(1.3, 0.7, kind=kind, truncation=truncation)
  step = mean_field.simulation._euler_step.__wrapped__
  moved = jax.jit(step)(key, problem, theta, process, 0.1)
  x = mean_field.simulation.increments(key, process, theta, 0.1)
  expected = theta + 0.1 * mean_field.drift(problem, theta, theta) + x
  np.testing.assert_allclose(moved, expected, rtol=1e-5, atol=1e-5)


def test_eight_devices_equal_one():
  mesh = jax.make_mesh((8,), ('n',), axis_types=(jax.sharding.AxisType.Auto,))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('n'))
  start = jax.random.normal(jax.random.key(1), (4096, 3))
  problem = tanh_problem(m=512)  # eight blocks
  for kind in ('type1', 'type2', 'type3'):
    one = run(problem=problem, particles=start, kind=kind).particles
    eight = run(
      problem=problem, particles=jax.device_put(start, rows), kind=kind
    ).particles
    assert len(eight.sharding.device_set) == 8
    np.testing.assert_allclose(eight, one, rtol=1e-5, atol=1e-5)


def test_a_step_exchanges_the_outputs_only():
  mesh = jax.make_mesh((8,), ('n',), axis_types=(jax.sharding.AxisType.Auto,))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('n'))
  start = jax.device_put(jnp.ones((4096, 3)), rows)
  problem = tanh_problem(m=512)

  @jax.jit
  def step(start):
    return mean_field.euler_step(
      jax.random.key(0),
      problem,
      start,
      alpha=1.8,
      sigma=0.5,
      step_size=0.1,
      kind='type2',
    )

  text = step.lower(start).compile().as_text()
  assert 'all-reduce' in text
  for forbidden in ('all-gather', 'all-to-all', 'collective-permute'):
    assert forbidden not in text


def host_start():
  return np.random.default_rng(8).normal(size=(64, 3)).astype(np.float32)


def host_run(start):
  return run(particles=start, kind='type2').particles[-1]


def host_end(path):
  """The end of a run whose particles lie on the devices of all hosts."""
  mesh = jax.make_mesh(
    (jax.device_count(),), ('n',), axis_types=(AxisType.Auto,)
  )
  rows, whole = NamedSharding(mesh, PartitionSpec('n')), host_start()
  start = jax.make_array_from_callback(whole.shape, rows, lambda i: whole[i])
  end = multihost.local(host_run(start))
  np.save(f'{path}/{jax.process_index()}.npy', np.asarray(end))


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
  several_hosts.run(host_end, tmp_path, devices=2)
  expected = host_run(jnp.asarray(host_start()))
  for i in range(2):
    end = np.load(tmp_path / f'{i}.npy')
    np.testing.assert_allclose(end, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'alpha': 0.0}, 'alpha'),
    ({'alpha': 2.1}, 'alpha'),
    ({'alpha': jnp.array([1.5, 1.8])}, 'alpha must be a scalar'),
    ({'sigma': -1.0}, 'sigma'),
    ({'sigma': float('nan')}, 'sigma'),
    ({'step_size': 0.0}, 'step_size'),
    ({'step_size': float('inf')}, 'step_size'),
    ({'num_steps': 0}, 'num_steps'),
    ({'kind': 'type4'}, 'kind'),
    ({'save_every': 4}, 'save_every must divide num_steps = 6, got 4'),
    ({'save_every': 0}, 'save_every'),
    ({'batch_size': 17}, 'batch_size'),
    ({'batch_size': 0}, 'batch_size'),
  ],
)
def test_bad_input(changes, message):
  with pytest.raises(ValueError, match=message):
    run(**changes)


def test_a_key_of_another_kind():
  with pytest.raises(ValueError, match='key must be a typed key'):
    mean_field.simulate(
      3,
      tanh_problem(),
      jnp.ones((2, 3)),
      alpha=1.5,
      sigma=1.0,
      step_size=0.1,
      num_steps=1,
    )
