"""Rates: exact powers, the coverage of the intervals, and bad input."""

import numpy as np
import pytest
from scipy import stats
from stat_checks import check_count

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


@pytest.mark.parametrize('statistic', ['mean', 'median'])
@pytest.mark.parametrize('shared', [0.0, 0.9])
def test_intervals_cover(statistic, shared):
  """95 % intervals over 1000 studies, widths dependent or not.

  The delta method and the estimated density are not exact at 64 replicas:
  coverage may be off by two points, so each side is tested there.
  """
  generator = np.random.default_rng(3)
  draws = generator.normal(size=(1000, 4, 64))
  common = generator.normal(size=(1000, 1, 64))
  errors = np.exp(
    0.5 * (np.sqrt(1 - shared) * draws + np.sqrt(shared) * common)
  )
  errors *= X[:, None] ** -0.5
  rates = [fit_rate(X, e, statistic=statistic) for e in errors]
  covered = sum(r.covers(-0.5) for r in rates)
  assert stats.binomtest(covered, 1000, 0.93, 'less').pvalue > 1e-6
  if statistic == 'mean':
    check_count(covered, 1000, 0.945)
  # A slope five standard errors away is not covered that often.
  far = sum(r.covers(-0.5 + 5 * r.standard_error) for r in rates)
  assert far < 500


def test_ignoring_that_widths_share_noise_would_not_cover():
  """Control: the spread of each row alone overstates the slope's error."""
  generator = np.random.default_rng(4)
  common = generator.normal(size=(1, 64))
  errors = np.exp(0.5 * common + 0.02 * generator.normal(size=(4, 64)))
  errors *= X[:, None] ** -0.5
  rate = fit_rate(X, errors)
  centred = np.log(X) - np.log(X).mean()
  weights = centred / np.sum(centred**2)
  apart = np.sqrt(np.sum((weights * rate.level_errors / rate.levels) ** 2))
  assert rate.standard_error < apart / 5


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
