"""The drift against autodiff of the risk, closed forms, and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htjax import mean_field
from htjax.mean_field import Problem
from htjax.mean_field import problem as internals


def tanh_unit(theta, x):
  return jnp.tanh(theta @ x)


def two_outputs(theta, x):
  # A trained second layer: theta is (c, w) with two entries each.
  return theta[:2] * jax.nn.sigmoid(theta[2:] @ x)


def log_cosh(f, y):
  return jnp.logaddexp(f - y, y - f)


def cross_entropy(f, y):
  return -jax.nn.log_softmax(f)[y]


def make(unit=tanh_unit, loss=log_cosh, m=12, dim=3, labels=False):
  generator = np.random.default_rng(7)
  inputs = generator.normal(size=(m, dim))
  targets = np.arange(m) % 2 if labels else generator.normal(size=m)
  return Problem(unit, loss, jnp.asarray(inputs), jnp.asarray(targets))


PROBLEMS = {
  'tanh': (lambda: make(), 3),
  'two outputs': (lambda: make(two_outputs, cross_entropy, 9, 2, True), 4),
  'relu': (lambda: make(lambda t, x: jax.nn.relu(t @ x)), 3),
}


def particles(n, p, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=(n, p)))


@pytest.mark.parametrize('name', PROBLEMS)
@pytest.mark.parametrize('n', [1, 7, 64])
def test_drift_is_minus_n_times_the_gradient_of_the_risk(name, n):
  with jax.enable_x64(True):
    make_problem, p = PROBLEMS[name]
    problem, theta = make_problem(), particles(n, p)
    gradient = jax.grad(lambda t: mean_field.risk(problem, t))(theta)
    b = mean_field.drift(problem, theta, theta)
    np.testing.assert_allclose(b, -n * gradient, rtol=1e-12, atol=1e-13)
    # The drift is a function of the point and the measure, not of which
    # particle it is: the first order of the risk in one more unit's weight.
    np.testing.assert_allclose(
      mean_field.drift(problem, theta[0], theta), b[0], rtol=1e-13, atol=1e-14
    )


def test_drift_against_its_formula():
  with jax.enable_x64(True):
    problem, theta = make(), particles(20, 3)
    x, y, t = (np.asarray(v) for v in (problem.inputs, problem.targets, theta))
    h = np.tanh(t @ x.T)
    slopes = np.tanh(h.mean(axis=0) - y) / len(y)
    b = -((1 - h**2) * slopes) @ x
    np.testing.assert_allclose(
      mean_field.drift(problem, theta, theta), b, rtol=1e-12, atol=1e-14
    )
    risk = np.mean(np.log(2 * np.cosh(h.mean(axis=0) - y)))
    np.testing.assert_allclose(mean_field.risk(problem, theta), risk)


@pytest.mark.parametrize('devices', [1, 8])
@pytest.mark.parametrize('n', [48, 47, 5, 1])
def test_blocks_of_particles_change_nothing(monkeypatch, n, devices):
  monkeypatch.setattr(jax, 'device_count', lambda: devices)
  with jax.enable_x64(True):
    problem, theta = (
      make(two_outputs, cross_entropy, 9, 2, True),
      particles(n, 4),
    )
    whole = (
      mean_field.predict(problem, theta),
      mean_field.drift(problem, theta, theta),
    )
    # 18 numbers per particle: 4 particles a block, also where 47 is prime.
    monkeypatch.setattr(internals, '_BLOCK', 72)
    blocks = (
      mean_field.predict(problem, theta),
      mean_field.drift(problem, theta, theta),
    )
    for a, b in zip(whole, blocks, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)


def test_an_infinite_unit_beside_the_padding_is_seen(monkeypatch):
  # Padding is a particle at 0, where this unit is infinite: it must not leak.
  monkeypatch.setattr(internals, '_BLOCK', 24)
  problem = make(lambda t, x: 1 / jnp.sum(t * t) + 0 * x[0])
  theta = particles(5, 3).astype(jnp.float32)
  expected = np.mean(1 / np.sum(np.asarray(theta) ** 2, axis=1))
  np.testing.assert_allclose(
    mean_field.predict(problem, theta), expected, rtol=1e-5
  )


def test_jit_and_vmap_over_data_sets():
  problem = make()
  theta = particles(6, 3).astype(jnp.float32)
  half = [
    Problem(tanh_unit, log_cosh, problem.inputs[i::2], problem.targets[i::2])
    for i in (0, 1)
  ]
  stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), *half)
  mapped = jax.jit(jax.vmap(mean_field.drift, in_axes=(0, None, None)))(
    stacked, theta, theta
  )
  for i in (0, 1):
    np.testing.assert_allclose(
      mapped[i], mean_field.drift(half[i], theta, theta), rtol=1e-5, atol=1e-6
    )


def test_a_function_written_out_again_sees_what_has_changed():
  # Compiled steps are kept by function. By code and by what it closes over
  # they would be those of the old numbers: the array is the same object.
  scale, theta = np.ones(3, np.float32), jnp.ones((2, 3))

  def moved():
    problem = make(lambda t, x: jnp.tanh(t @ (scale * x)), dim=3)
    noise = {'alpha': 1.5, 'sigma': 0.0}
    step = mean_field.euler_step(
      jax.random.key(0), problem, theta, step_size=0.1, **noise
    )
    return step, theta + 0.1 * mean_field.drift(problem, theta, theta)

  before = moved()
  scale *= 2
  after = moved()
  for step, expected in (before, after):
    np.testing.assert_allclose(step, expected, rtol=1e-6)
  assert float(jnp.max(jnp.abs(after[0] - before[0]))) > 1e-3


def test_float32_stays_float32():
  theta = particles(6, 3).astype(jnp.float32)
  assert mean_field.drift(make(), theta, theta).dtype == jnp.float32


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'unit': lambda t, x: t[:, None]}, 'unit'),
    ({'unit': lambda t, x: 1}, 'unit'),
    ({'unit': 3}, 'unit must be a function'),
    ({'loss': lambda f, y: jnp.stack([f, y])}, 'loss'),
    ({'loss': None}, 'loss must be a function'),
    ({'targets': jnp.zeros(5)}, 'inputs and targets'),
    ({'inputs': jnp.zeros((0, 3)), 'targets': jnp.zeros(0)}, 'inputs'),
    ({'inputs': jnp.zeros(())}, 'inputs and targets'),
  ],
)
def test_bad_problems(fields, message):
  good = make()
  given = {
    name: fields.get(name, getattr(good, name))
    for name in ('unit', 'loss', 'inputs', 'targets')
  }
  with pytest.raises(ValueError, match=message):
    mean_field.predict(Problem(**given), jnp.ones((4, 3)))


@pytest.mark.parametrize(
  ('theta', 'message'),
  [
    (jnp.ones(3), r'particles must be \[n, p\]'),
    (jnp.ones((0, 3)), 'not empty'),
    (jnp.ones((4, 3), int), 'float32 or float64'),
    (jnp.full((4, 3), jnp.nan), 'finite'),
  ],
)
def test_bad_particles(theta, message):
  with pytest.raises(ValueError, match=message):
    mean_field.risk(make(), theta)


def test_bad_points_and_a_foreign_problem():
  theta = jnp.ones((4, 3))
  with pytest.raises(ValueError, match=r'theta must be \[p\] or \[k, p\]'):
    mean_field.drift(make(), jnp.ones(2), theta)
  with pytest.raises(ValueError, match='must be a Problem'):
    mean_field.predict({'unit': tanh_unit}, theta)
