"""Rates: exact powers, the coverage of the intervals, and bad input."""

import numpy as np
import pytest
from scipy import stats

from htjax.mean_field import fit_rate

X = np.array([16.0, 64.0, 256.0, 1024.0])


@pytest.mark.parametrize('statistic', ['mean', 'median'])
def test_exact_powers(statistic):
  spread = np.array([0.5, 1.0, 1.5, 1.0])
  errors = 3 * X[:, None] ** -0.5 * spread
  rate = fit_rate(X, errors, statistic=statistic)
  np.testing.assert_allclose(rate.slope, -0.5)
  np.testing.assert_allclose(rate.local_slopes, -0.5)
  np.testing.assert_allclose(rate.levels, 3 * X**-0.5)
  # The same factor in every row moves the level and not the slope.
  assert rate.standard_error < 1e-12


@pytest.mark.parametrize('statistic', ['mean', 'median'])
def test_slope_is_that_of_least_squares(statistic):
  errors = np.random.default_rng(0).lognormal(size=(4, 30))
  levels = getattr(np, statistic)(errors, axis=1)
  expected = stats.linregress(np.log(X), np.log(levels)).slope
  np.testing.assert_allclose(
    fit_rate(X, errors, statistic=statistic).slope, expected
  )


def test_level_errors_are_standard_errors_of_the_mean():
  errors = np.random.default_rng(1).lognormal(size=(4, 50))
  np.testing.assert_allclose(
    fit_rate(X, errors).level_errors, stats.sem(errors, axis=1)
  )


@pytest.mark.parametrize(
  ('x', 'errors', 'message'),
  [
    ([1.0, 1.0], np.ones((2, 5)), 'two different values'),
    ([1.0, -2.0], np.ones((2, 5)), 'x must be positive'),
    ([[1.0, 2.0]], np.ones((2, 5)), r'x must be \[k\]'),
    ([1.0, 2.0], np.ones((3, 5)), r'errors must be \[k, R\]'),
    ([1.0, 2.0], np.ones((2, 3)), 'R >= 4'),
    ([1.0, 2.0], np.ones(2), r'errors must be \[k, R\]'),
    ([1.0, 2.0], np.full((2, 5), np.nan), 'errors must be finite'),
    ([1.0, 2.0], -np.ones((2, 5)), 'the mean of each row of errors'),
  ],
)
def test_bad_input(x, errors, message):
  with pytest.raises(ValueError, match=message):
    fit_rate(x, errors)


def test_unknown_statistic():
  with pytest.raises(ValueError, match='statistic'):
    fit_rate(X, np.ones((4, 5)), statistic='mode')
