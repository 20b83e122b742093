"""Lines that are found in points, beside those on which the points are."""

import numpy as np
from mixed_lines import SEARCH, choose, points
from scipy import stats

from htjax import line_mixture
from statistical import seeds
from statistical.checks import check_at_most, check_within, refused


def _check_lines(mixture, slopes, intercepts, x, own):
  """Against the errors of least squares on each line's own points.

  The lines must be so far apart that nearly every point shows whose it is.
  """
  assert len(mixture.slopes) == len(slopes)
  for j, (slope, intercept) in enumerate(zip(slopes, intercepts, strict=True)):
    xs = x[own == j]
    design = np.stack([xs, np.ones_like(xs)], axis=1)
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    freedom = len(x) - 2 * len(slopes)
    # The fit divides squares by the number of points.
    errors *= float(mixture.deviation) * np.sqrt(len(x) / freedom)
    found = [float(mixture.slopes[j]), float(mixture.intercepts[j])]
    check_within(found, [slope, intercept], errors, freedom=freedom)


def test_two_known_lines_are_found():
  slopes, intercepts = (-3.0, 3.0), (8.0, -8.0)
  x, y, own = points(slopes, intercepts, 0.1, 200, seeds.seed(1))
  mixture = choose(seeds.key(1), x, y)
  _check_lines(mixture, slopes, intercepts, x, own)
  # Squares of 200 normals, less two lines; the fit divides by their number.
  mean, deviation = 0.1 * np.sqrt(1 - 4 / 200), 0.1 / np.sqrt(2 * 196)
  check_within(float(mixture.deviation), mean, deviation)
  share = np.mean(own == 0)
  np.testing.assert_allclose(mixture.weights, [share, 1 - share], atol=1e-3)
  np.testing.assert_array_equal(mixture.responsibilities.argmax(1), own)
  # Controls: the slopes of other lines, and one line for all points.
  refused(_check_lines, mixture, (-3.1, 3.0), intercepts, x, own)
  one = line_mixture.fit(seeds.key(2), x, y, 1, **SEARCH)
  assert one.bic > mixture.bic + 100


def test_crossing_lines_are_found():
  slopes, intercepts = (-4.0, 4.0), (0.0, 1.0)
  x, y, own = points(slopes, intercepts, 0.02, 200, seeds.seed(2))
  mixture = choose(seeds.key(3), x, y)
  _check_lines(mixture, slopes, intercepts, x, own)
  refused(_check_lines, mixture, slopes, (0.05, 1.0), x, own)


def test_one_line_is_enough_for_one_line():
  """A second line gains three parameters and must be worth 3 log n."""
  chosen = []
  for i in range(20):
    x, y, own = points((1.5,), (2.0,), 1.0, 200, seeds.seed(100 + i))
    mixture = choose(seeds.key(i), x, y, 2)
    chosen.append(len(mixture.slopes))
    if chosen[-1] == 1:
      _check_lines(mixture, (1.5,), (2.0,), x, own)
      slope, intercept = np.polyfit(x, y, 1)
      np.testing.assert_allclose(mixture.slopes, [slope], rtol=1e-4)
      np.testing.assert_allclose(mixture.intercepts, [intercept], rtol=1e-4)
  # Twice the gain in log-likelihood would have to exceed 15.9: of a chi-square
  # with even twice the three degrees of freedom that is rare.
  rare = float(stats.chi2.sf(3 * np.log(200), 6))
  check_at_most(chosen.count(2), 20, rare)
  refused(check_at_most, 20 - chosen.count(2), 20, rare)
