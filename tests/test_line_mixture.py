"""Mixtures of lines: fixed points of the likelihood, units, bad input."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixed_lines import SEARCH, choose, points
from scipy import stats

from htjax import line_mixture


def test_a_fit_is_a_fixed_point_with_the_likelihood_it_says():
  x, y, _ = points((-1.0, 0.5, 2.0), (0.0, 5.0, -5.0), 0.5, 200, seed=5)
  mixture = line_mixture.fit(jax.random.key(5), x, y, 3, **SEARCH)
  assert np.all(np.diff(mixture.slopes) > 0)
  shares = np.float64(mixture.responsibilities)
  np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
  density = np.zeros(len(x))
  square = 0.0
  for j in range(3):
    line = float(mixture.slopes[j]) * x + float(mixture.intercepts[j])
    normal = stats.norm(line, float(mixture.deviation))
    density += float(mixture.weights[j]) * normal.pdf(y)
    # numpy.polyfit weighs residuals, not their squares.
    slope, intercept = np.polyfit(x, y, 1, w=np.sqrt(shares[:, j]))
    np.testing.assert_allclose(mixture.slopes[j], slope, atol=1e-3)
    np.testing.assert_allclose(mixture.intercepts[j], intercept, atol=1e-3)
    square += np.sum(shares[:, j] * (y - line) ** 2)
  np.testing.assert_allclose(mixture.weights, shares.mean(0), atol=1e-4)
  np.testing.assert_allclose(
    mixture.deviation, np.sqrt(square / len(x)), rtol=1e-4
  )
  likelihood = np.log(density).sum()
  np.testing.assert_allclose(mixture.log_likelihood, likelihood, rtol=1e-5)
  np.testing.assert_allclose(
    mixture.bic, 9 * math.log(200) - 2 * likelihood, rtol=1e-5
  )


def test_no_step_lowers_the_likelihood():
  x, y, _ = points((-1.0, 2.0), (0.0, 1.0), 1.0, 100, seed=6)
  x, y = (jnp.asarray((v - v.mean()) / v.std()) for v in (x, y))
  state = line_mixture._start(jax.random.key(6), x, y, 3)
  levels = []
  for _ in range(60):
    levels.append(float(line_mixture._expect(state, x, y)[1]))
    state = jax.jit(line_mixture._step)(state, x, y)
  # Sums of 100 float32 numbers of size 1.
  assert np.diff(levels).min() > -1e-4
  assert levels[-1] > levels[0] + 1


def test_lines_do_not_depend_on_units():
  x, y, _ = points((-1.0, 2.0), (0.0, 9.0), 0.3, 200, seed=7)
  one, other = (
    line_mixture.fit(jax.random.key(7), *xy, 2, **SEARCH)
    for xy in ((x, y), (1e3 * x + 5e3, 1e-3 * y))
  )
  np.testing.assert_allclose(other.slopes, 1e-6 * one.slopes, rtol=1e-3)
  np.testing.assert_allclose(other.weights, one.weights, rtol=1e-3)
  np.testing.assert_allclose(
    other.log_likelihood, one.log_likelihood + 200 * math.log(1e3), rtol=1e-5
  )


def test_points_on_the_lines_exactly():
  x = np.linspace(-1, 1, 200)
  y = np.where(np.arange(200) % 2 == 0, 2 * x + 3, -x)
  mixture = choose(8, x, y)
  np.testing.assert_allclose(mixture.slopes, [-1, 2], atol=1e-3)
  np.testing.assert_allclose(mixture.deviation, 1e-3 * y.std(), rtol=1e-4)


@pytest.mark.parametrize(
  ('x', 'y', 'message'),
  [
    (np.arange(7.0), np.arange(6.0), r'y must have the shape of x, \(7,\)'),
    (np.arange(6.0), np.arange(6.0), 'x must be a vector of more than 6'),
    (np.arange(7.0), np.full(7, 2.0), 'y must not be constant, got 2'),
    (np.arange(7.0), np.full(7, np.nan), 'y must be finite'),
    (np.ones((7, 7)), np.ones((7, 7)), 'x must be a vector'),
  ],
)
def test_points_that_have_no_lines(x, y, message):
  with pytest.raises(ValueError, match=message):
    line_mixture.fit(jax.random.key(0), x, y, 2, **SEARCH)
