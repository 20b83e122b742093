"""Pieces of the mean-field proofs against their sums and closed forms."""

import math

import numpy as np
import pytest

from htjax import mean_field

REGULARITY = mean_field.Regularity(
  *(np.full(3, 0.5) for _ in range(5)), True, ''
)
LAW = {'alpha': 1.6, 'sigma': 0.3, 'largest_norm': 6.0, 'mean_norm': 2.0}


def test_pieces_add_up_to_the_theorem():
  gaps = []
  for steps in (10, 1000):
    options = LAW | {'step_size': 2.0 / steps}
    pieces = mean_field.euler_pieces(REGULARITY, num_steps=steps, **options)
    bound = mean_field.euler_bound(REGULARITY, horizon=2.0, **options)
    assert pieces.total <= bound.value
    gaps.append(1 - pieces.total / bound.value)
    assert pieces.growth[-1] == 1
  assert gaps[1] < 0.01 * (1 + gaps[0])


def test_error_of_one_step():
  """int_0^eta ((B + B^2 / 2) B t + sigma t^(1/alpha) (B M + B^2 m / 2)) dt."""
  b, eta, alpha = REGULARITY.bound, 0.1, 1.6
  t = (np.arange(200_000) + 0.5) / 200_000 * eta
  noise = 0.3 * (b * 6.0 + b**2 / 2 * 2.0)
  integrand = (b + b**2 / 2) * b * t + noise * t ** (1 / alpha)
  pieces = mean_field.euler_pieces(
    REGULARITY, step_size=eta, num_steps=5, **LAW
  )
  assert pieces.one_step == pytest.approx(np.mean(integrand) * eta, rel=1e-6)


def test_mean_norms():
  for alpha in (1.2, 1.7, 2.0):
    single = 2 * math.gamma(1 - 1 / alpha) / math.pi
    for kind in ('type1', 'type2', 'type3'):
      assert mean_field.mean_norm(alpha, 1, kind) == pytest.approx(single)
  # Of a normal vector, variance 2 in each coordinate.
  chi = math.sqrt(2) * math.gamma(4) / math.gamma(3.5) * math.sqrt(2)
  assert mean_field.mean_norm(2.0, 7, 'type3') == pytest.approx(chi)


def test_largest_norm_of_a_path():
  """Of Brownian motion of variance 2 t from 0 it is sqrt(pi T)."""
  bound = mean_field.largest_path_norm(
    0.0,
    alpha=2.0,
    sigma=1.0,
    horizon=4.0,
    initial_norm=0.0,
    dim=1,
    kind='type3',
  )
  exact = math.sqrt(math.pi * 4)
  assert exact < bound.value < 2 * exact
  with pytest.raises(ValueError, match='alpha must lie in'):
    mean_field.mean_norm(1.0, 1, 'type3')


def test_thresholds_hold_for_vectors():
  """Best k-term errors of vectors that are close, as in the proof."""
  rng = np.random.default_rng(0)
  n, epsilon, constant, kappa = 400, 0.3, 2.0, 0.25
  copies = np.abs(rng.standard_t(1.6, size=n))
  far = constant / (epsilon * math.sqrt(n))
  particles = copies + far * rng.choice([-1, 1], size=n)

  def residual(x):
    return np.linalg.norm(np.sort(np.abs(x))[: n - int(kappa * n)])

  found = mean_field.compressibility_thresholds(
    constant, epsilon, kappa=kappa, num_particles=n
  )
  lost = residual(particles) - epsilon * np.linalg.norm(particles)
  kept = residual(copies) - epsilon * np.linalg.norm(copies)
  assert kept >= lost - found.residual
  assert found.residual < found.paper
