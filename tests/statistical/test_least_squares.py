"""The index that theory gives SGD on least squares, and its iterates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htjax import tail_index
from statistical import seeds
from statistical.checks import check_within, refused


@pytest.mark.parametrize(('dim', 'batch_size'), [(1, 1), (2, 1), (10, 5)])
def test_the_index_is_two_where_second_moments_are_kept(dim, batch_size):
  # E |M u|^2 = 1 - 2 eta + eta^2 (d + b + 1) / b.
  step_size = 2 * batch_size / (dim + batch_size + 1)
  found = tail_index.least_squares_index(
    seeds.key(900),
    step_size=step_size / 3,
    curvature=3.0,
    batch_size=batch_size,
    dim=dim,
    num_samples=200_000,
  )
  check_within(found.alpha, 2.0, found.standard_error)
  other = tail_index.least_squares_index(
    seeds.key(901),
    step_size=0.9 * step_size,
    batch_size=batch_size,
    dim=dim,
    num_samples=200_000,
  )
  refused(check_within, other.alpha, 2.0, other.standard_error)


def test_iterates_have_the_index_of_theory():
  setting = {'batch_size': 1, 'dim': 1}
  x = tail_index.least_squares_chain(
    seeds.key(902), step_size=1.0, num_chains=20_000, num_steps=100, **setting
  )
  measured = tail_index.hill(jnp.abs(x[:, 0]), 200)
  theory, other = (
    tail_index.least_squares_index(
      seeds.key(903), step_size=eta, num_samples=200_000, **setting
    )
    for eta in (1.0, 0.6)
  )
  error = np.hypot(measured.standard_error, theory.standard_error)
  check_within(measured.alpha, theory.alpha, error)
  refused(check_within, measured.alpha, other.alpha, error)


def test_no_law_and_light_tails():
  index = tail_index.least_squares_index
  few = {'num_samples': 1000, 'dim': 3, 'batch_size': 2}
  assert np.isnan(index(seeds.key(904), step_size=5.0, **few).alpha)
  assert index(seeds.key(904), step_size=1e-3, **few).alpha == np.inf
  alphas = jax.vmap(
    lambda eta: index(seeds.key(904), step_size=eta, **few).alpha
  )(jnp.array([0.3, 0.5, -1.0]))
  assert alphas[0] > alphas[1] > 0
  assert np.isnan(alphas[2])
  with pytest.raises(ValueError, match='step_size'):
    index(seeds.key(904), step_size=0.0, **few)
