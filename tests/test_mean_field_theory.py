"""Assumption 1 and the explicit constants, against closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from test_mean_field_chaos import tanh_problem, tanh_regularity

from htjax import mean_field, stable
from htjax.mean_field import Problem, Regularity


def flat_regularity(unit, gradient, hessian, slope, curvature):
  numbers = (unit, gradient, hessian, slope, curvature)
  return Regularity(*(np.full(3, float(v)) for v in numbers), True, '')


def test_suprema_of_tanh_and_log_cosh():
  problem = tanh_problem()
  found = tanh_regularity()
  length = np.linalg.norm(np.asarray(problem.inputs, np.float64), axis=1)
  # |tanh''| is at most 4 / (3 sqrt 3), and estimates are from below.
  exact = {
    'unit': np.ones(16),
    'gradient': length,
    'hessian': 4 / (3 * math.sqrt(3)) * length**2,
    'slope': np.ones(16),
    'curvature': np.ones(16),
  }
  for name, value in exact.items():
    estimate = getattr(found, name)
    assert np.all(estimate <= value * (1 + 1e-5)), name
    assert np.all(estimate >= value * (1 - 1e-3)), name
  assert found.holds
  assert found.reason == ''
  psi = exact['unit'] + exact['gradient'] + exact['hessian']
  np.testing.assert_allclose(found.psi, psi, rtol=1e-3)
  np.testing.assert_allclose(found.phi, 2, rtol=1e-3)
  bound = math.sqrt(np.mean(psi**2 * 5))
  np.testing.assert_allclose(found.bound, bound, rtol=2e-3)


def test_suprema_of_two_outputs():
  """h = (sin, cos)(theta): |h| = 1, |h'| = 1, |h''| = 1 exactly."""
  problem = Problem(
    lambda t, x: jnp.stack([jnp.sin(t[0]), jnp.cos(t[0])]) * x,
    lambda f, y: jnp.sqrt(1 + f @ f) + y,
    jnp.array([1.0, 2.0]),
    jnp.zeros(2),
  )
  found = mean_field.regularity(problem, num_parameters=1)
  for name in ('unit', 'gradient', 'hessian'):
    np.testing.assert_allclose(getattr(found, name), [1, 2], rtol=1e-3)
  np.testing.assert_allclose(found.slope, 1, rtol=1e-3)
  np.testing.assert_allclose(found.curvature, 1, rtol=1e-3)
  assert found.holds


@pytest.mark.parametrize(
  ('unit', 'loss', 'reason'),
  [
    (
      lambda t, x: jax.nn.relu(t @ x),
      lambda f, y: jnp.logaddexp(f - y, y - f),
      'the unit grows without bound; the gradient of the unit jumps',
    ),
    (
      lambda t, x: jnp.tanh(t @ x),
      lambda f, y: (f - y) ** 2,
      'the slope of the loss grows without bound',
    ),
    (
      lambda t, x: jnp.minimum(jnp.abs(t @ x), 1.0),
      lambda f, y: jnp.logaddexp(f - y, y - f),
      'the gradient of the unit jumps',
    ),
    (
      # Its derivatives are bounded; float32 finds 10^9 for them far out.
      lambda t, x: jax.nn.gelu(t @ x),
      lambda f, y: jnp.logaddexp(f - y, y - f),
      'the unit grows without bound',
    ),
    (
      lambda t, x: jnp.tanh(t @ x) + 0.3 * jnp.sign(x @ t),
      lambda f, y: jnp.logaddexp(f - y, y - f),
      'the unit jumps',
    ),
    (
      lambda t, x: jnp.tanh(t @ x),
      lambda f, y: jnp.abs(f - y - 20.0),
      'the slope of the loss jumps',
    ),
    *(
      pytest.param(
        *(lambda t, x: jnp.tanh(t @ x), loss, 'the slope of the loss jumps'),
        marks=pytest.mark.slow,
      )
      for loss in (
        lambda f, y: jnp.abs(f - y),
        lambda f, y: jnp.maximum(0.0, 1 - f * y),
        lambda f, y: jnp.maximum(0.3 * (f - y), -0.7 * (f - y)),
        lambda f, y: jnp.maximum(jnp.abs(f - y) - 0.1, 0.0),
        lambda f, y: jnp.minimum((f - y) ** 2, 1.0),
      )
    ),
  ],
)
def test_outside_the_assumption(unit, loss, reason):
  smooth = tanh_problem()
  problem = Problem(unit, loss, smooth.inputs, smooth.targets)
  found = mean_field.regularity(problem)
  assert not found.holds
  assert found.reason == reason
  constant = mean_field.gronwall_constant(found, 1.0)
  assert (constant.value, constant.log_value) == (math.inf, math.inf)
  assert not constant.valid
  assert constant.reason == f'Assumption 1 does not hold: {reason}'
  # The simulation takes it all the same.
  theta = jnp.ones((4, 3))
  assert np.all(np.isfinite(mean_field.drift(problem, theta, theta)))


@pytest.mark.parametrize(
  ('loss', 'slope', 'curvature'),
  [
    # Huber: its curvature jumps, but is bounded.
    (
      lambda f, y: jnp.where(
        jnp.abs(f - y) < 1, 0.5 * (f - y) ** 2, jnp.abs(f - y) - 0.5
      ),
      1.0,
      1.0,
    ),
    (lambda f, y: 5 * jax.nn.softplus(10 * (y - f)), 50.0, 125.0),
    (lambda f, y: 1 - jnp.exp(-((f - y) ** 2)), math.sqrt(2 / math.e), 2.0),
  ],
)
def test_losses_without_a_kink(loss, slope, curvature):
  smooth = tanh_problem()
  problem = Problem(smooth.unit, loss, smooth.inputs, smooth.targets)
  found = mean_field.regularity(problem)
  assert found.reason == ''
  assert found.holds
  np.testing.assert_allclose(found.slope, slope, rtol=1e-3)
  np.testing.assert_allclose(found.curvature, curvature, rtol=2e-2)


@pytest.mark.parametrize('shift', [0.01, 0.3, 3.0])
def test_drifts_are_lipschitz_with_the_constants(shift):
  problem = tanh_problem()
  found = tanh_regularity()
  theta = jax.random.normal(jax.random.key(0), (50, 3))
  own, mean = mean_field.lipschitz_ratios(
    jax.random.key(1), problem, theta, 20, shift=shift
  )
  assert np.max(own) <= np.mean(found.slope * found.hessian)
  assert np.max(mean) <= np.mean(found.curvature * found.gradient**2)
  assert np.min(own) > 0
  assert np.min(mean) > 0
  b = mean_field.drift(problem, 10 * theta, theta)
  assert np.linalg.norm(b, axis=1).max() <= np.mean(
    found.slope * found.gradient
  )


def test_the_printed_lipschitz_constant_fails():
  """Phi = 1 and Psi = c: the mean's constant is c^2/2, more than B if B > 2.

  With l(f) = log cosh(f) and h = c/2 sin: |h'| = c/2, and moving all particles
  moves the drift by (c/2)^2 near 0.
  """
  problem = Problem(
    lambda t, x: 20 * jnp.sin(t[0]) * x,
    lambda f, y: 0.001 * jnp.logaddexp(f, -f) + y,
    jnp.ones(1),
    jnp.zeros(1),
  )
  found = mean_field.regularity(problem, num_parameters=1)
  _, mean = mean_field.lipschitz_ratios(
    jax.random.key(1), problem, jnp.zeros((2, 1)), 50, shift=1e-3
  )
  small = Problem(
    problem.unit, lambda f, y: jnp.logaddexp(f, -f) + y, *2 * [jnp.ones(1)]
  )
  wide = mean_field.regularity(small, num_parameters=1)
  _, ratio = mean_field.lipschitz_ratios(
    jax.random.key(1), small, jnp.zeros((2, 1)), 50, shift=1e-4
  )
  assert np.max(ratio) > wide.bound
  assert np.max(ratio) <= wide.bound**2 / 2
  assert np.max(mean) <= found.bound**2 / 2


def test_gronwall_constants():
  r = flat_regularity(0.2, 0.3, 0.5, 0.4, 0.6)
  b = math.sqrt(1 + 1)
  rate = b + b**2 / 2
  corrected = mean_field.gronwall_constant(r, 0.7)
  np.testing.assert_allclose(
    float(corrected), b**2 / rate * (math.exp(rate * 0.7) - 1)
  )
  paper = mean_field.gronwall_constant(r, 0.7, variant='paper')
  printed = (1 + b) * (
    b * 0.7 + 0.5 * b**2 * 0.49 * math.exp(b * 0.7 * (1 + 1))
  )
  np.testing.assert_allclose(paper.value, printed)
  # Sharp: D' = L D + F from 0, by a solver.
  own, mean, force = 0.4 * 0.5, 0.6 * 0.09, 0.6 * 0.3 * 0.2
  solved = integrate.solve_ivp(
    lambda t, d: (own + mean) * d + force, (0, 0.7), [0.0], rtol=1e-10
  )
  sharp = mean_field.gronwall_constant(r, 0.7, variant='sharp')
  np.testing.assert_allclose(sharp.value, solved.y[0, -1], rtol=1e-6)
  assert sharp.value < corrected.value
  for found in (corrected, paper, sharp):
    assert found.valid
    assert found.reason == ''
    check_sum(found)


def check_sum(bound):
  """The terms add up to the value, in logarithms and out of them."""
  total = np.logaddexp.reduce(list(bound.terms.values()))
  np.testing.assert_allclose(bound.log_value, total, rtol=1e-12)
  np.testing.assert_allclose(math.log(bound.value), total, atol=1e-12)


def test_constants_beyond_the_floats():
  """At T = 1000 the value is infinite, and its logarithm known."""
  r = flat_regularity(0.2, 0.3, 0.5, 0.4, 0.6)
  b = math.sqrt(2)
  rate = b + b * b / 2
  found = mean_field.gronwall_constant(r, 1000.0)
  assert found.value == math.inf
  assert found.valid
  np.testing.assert_allclose(
    found.log_value, 2 * math.log(b) + rate * 1000 - math.log(rate), rtol=1e-12
  )
  paper = mean_field.gronwall_constant(r, 1000.0, variant='paper')
  square = 2 * math.log(1000 * b) - math.log(2)
  np.testing.assert_allclose(
    paper.log_value, math.log(1 + b) + square + 2000 * b, rtol=1e-12
  )
  # Where B itself is infinite there is no constant at all.
  huge = mean_field.gronwall_constant(flat_regularity(*5 * [math.inf]), 1.0)
  assert huge.value == math.inf
  assert not huge.valid


def test_euler_bounds():
  r = flat_regularity(0.2, 0.3, 0.5, 0.4, 0.6)
  settings = {
    'alpha': 1.5,
    'sigma': 0.8,
    'step_size': 0.01,
    'horizon': 0.7,
    'largest_norm': 9.0,
    'mean_norm': 2.0,
  }
  b = math.sqrt(2)
  rate = b + b * b / 2
  factor = 1.5 / 2.5 * 0.01 ** (1 / 1.5)
  corrected = mean_field.euler_bound(r, **settings)
  np.testing.assert_allclose(
    corrected.value,
    math.expm1(rate * 0.7)
    / rate
    * (rate * b / 2 * 0.01 + 0.8 * factor * (b * 9 + b * b / 2 * 2)),
  )
  paper = mean_field.euler_bound(r, variant='paper', **settings)
  np.testing.assert_allclose(
    paper.value,
    0.7 * math.exp(1.4 * b) * (2 * 0.01 + 2 * b * factor * (9 + 2)),
  )
  sharp = mean_field.euler_bound(r, variant='sharp', **settings)
  assert sharp.value < corrected.value
  for found in (corrected, paper, sharp):
    assert found.valid
    assert [a.name for a in found.assumptions] == [
      'Assumption 1',
      'tail index',
      'finite norms',
    ]
    check_sum(found)
  outside = mean_field.euler_bound(r, **(settings | {'alpha': 0.9}))
  assert not outside.valid
  assert 'alpha' in outside.reason
  assert outside.value == math.inf
  endless = mean_field.euler_bound(r, **(settings | {'largest_norm': math.inf}))
  assert not endless.valid
  assert 'M = inf' in endless.reason


def test_gradient_norm_curve():
  r = flat_regularity(0.2, 0.3, 0.5, 0.4, 0.6)
  settings = {
    'excess_risk': 0.5,
    'alpha': 1.8,
    'sigma': 2.0,
    'step_size': 0.1,
    'num_steps': 100,
    'num_particles': 50,
    'gamma': 0.6,
  }
  found = mean_field.gradient_norm_bound(r, **settings)
  b = math.sqrt(2)
  noise = (2 * b) ** 2.6 * 2**1.6 / (1.6 * 2500) * 0.1 ** (-0.2 / 1.8)
  np.testing.assert_allclose(found.value, 0.5 / (100 * 50 * 0.1) + noise)
  assert found.valid
  check_sum(found)
  for change, reason in (
    ({'gamma': 0.9}, 'gamma must be below'),
    ({'sigma': 0.1}, 'must exceed 1'),
    ({'alpha': 0.8}, 'alpha must lie in'),
  ):
    other = mean_field.gradient_norm_bound(r, **(settings | change))
    assert not other.valid
    assert reason in other.reason


@pytest.mark.parametrize('alpha', [0.5, 1.0, 1.3, 1.8])
def test_norm_tail_constant_of_one_coordinate(alpha):
  with jax.enable_x64(True):
    x = 1e3 if alpha > 1 else 1e7
    exact = 2 * float(stable.sf(x, alpha)) * x**alpha
  for kind in ('type1', 'type2', 'type3'):
    constant = mean_field.norm_tail_constant(alpha, 1, kind)
    # The next term of the tail's series is of order x^-alpha.
    assert abs(constant / exact - 1) < 10 * x**-alpha


def test_norm_tail_constant_at_two():
  for kind in ('type1', 'type2', 'type3'):
    assert mean_field.norm_tail_constant(2.0, 3, kind) == 0


def test_largest_norm_bounds():
  sharp, corrected, paper = (
    mean_field.largest_norm_bound(1.8, 1, 0.820860139895551, variant=v).value
    for v in ('sharp', 'corrected', 'paper')
  )
  np.testing.assert_allclose(
    [sharp, corrected, paper], [2.02, 5.55, 6.54], atol=6e-3
  )
  below = mean_field.largest_norm_bound(1.0, 5, 1.0)
  assert not below.valid
  assert (
    mean_field.mean_largest_norm(jax.random.key(0), 1.0, 5, 2, 'type1')
    == math.inf
  )


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda r: mean_field.gronwall_constant(r, 0.0), 'horizon'),
    (lambda r: mean_field.gronwall_constant(r, 1.0, variant='x'), 'variant'),
    (lambda r: mean_field.norm_tail_constant(2.5, 3, 'type1'), 'alpha'),
    (lambda r: mean_field.norm_tail_constant(1.5, 0, 'type1'), 'dim'),
    (lambda r: mean_field.norm_tail_constant(1.5, 3, 'I'), 'kind'),
    (lambda r: mean_field.largest_norm_bound(1.5, 3, -1.0), 'constant'),
    (
      lambda r: mean_field.mean_largest_norm(
        jax.random.key(0), 1.5, 3, 3, 'type1', num_samples=10
      ),
      'num_samples',
    ),
    (
      lambda r: mean_field.lipschitz_ratios(
        jax.random.key(0), tanh_problem(), jnp.ones((2, 3)), 2, shift=0.0
      ),
      'shift',
    ),
    (lambda r: mean_field.regularity(tanh_problem(), 0), 'num_parameters'),
  ],
)
def test_bad_input(call, message):
  with pytest.raises(ValueError, match=message):
    call(flat_regularity(1, 1, 1, 1, 1))
