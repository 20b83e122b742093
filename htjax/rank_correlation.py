"""Rank correlation of points that come in clusters.

Runs of one setting with several seeds are one piece of evidence, and not
several: an interval draws the settings anew, each with all its seeds.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from htjax.checks import check_count, check_finite, checked
from htjax.types import ArrayLike


class RankCorrelation(NamedTuple):
  """Spearman's rho and its interval.

  Attributes:
    rho: in [-1, 1]; NaN where x or y does not vary.
    low: lower end of the 95 % interval.
    high: upper end.
  """

  rho: float
  low: float
  high: float


@checked
def spearman(
  x: ArrayLike,
  y: ArrayLike,
  clusters: Sequence[Hashable] | None = None,
  *,
  num_resamples: int = 2000,
  seed: int = 0,
) -> RankCorrelation:
  """Spearman's rho, with a 95 % bootstrap interval over clusters.

  Args:
    x: [n] finite numbers, on the host.
    y: [n], likewise.
    clusters: n labels, points of one label are drawn together; None draws each
      point by itself.
    num_resamples: at least 1; those in which x or y does not vary are left out.
    seed: of the resamples.

  Returns:
    RankCorrelation; equal values have the mean of their ranks.

  Raises:
    ValueError: x, y or clusters of other lengths, none, or not finite.

  Examples:
    >>> from htjax import rank_correlation
    >>> found = rank_correlation.spearman([1.0, 2.0, 3.0], [1.0, 4.0, 9.0])
    >>> found.rho, found.high
    (1.0, 1.0)
  """
  check_count('num_resamples', num_resamples)
  points = [np.asarray(v, np.float64) for v in (x, y)]
  labels = list(range(points[0].size)) if clusters is None else list(clusters)
  for name, value in zip(('x', 'y'), points, strict=True):
    if value.ndim != 1 or not value.size or value.size != len(labels):
      raise ValueError(
        f'{name} must be a vector of {len(labels) or "some"} numbers, got '
        f'shape {value.shape}'
      )
    check_finite(name, value)
  place = {label: i for i, label in enumerate(dict.fromkeys(labels))}
  num = len(place)
  resamples = np.random.default_rng(seed).integers(
    num, size=(num_resamples, num)
  )
  # How often each cluster was drawn, all of them once in the first line.
  times = np.array(
    [np.bincount(chosen, minlength=num) for chosen in (range(num), *resamples)]
  )
  rho = _spearman(times[:, [place[label] for label in labels]], *points)
  draws = rho[1:][~np.isnan(rho[1:])]
  low, high = np.quantile(draws if draws.size else math.nan, (0.025, 0.975))
  return RankCorrelation(float(rho[0]), float(low), float(high))


def _spearman(times: np.ndarray, *values: np.ndarray) -> np.ndarray:
  """Rank correlation of x and y where point j counts `times[i, j]` times.

  NaN where one of the two does not vary. All sums are of whole numbers, and so
  exact: ranks are doubled, because those of equal values are averaged.
  """
  times = times.astype(np.float64)

  def ranks(value: np.ndarray) -> np.ndarray:
    unique, code = np.unique(value, return_inverse=True)
    counts = times @ np.eye(unique.size)[code]
    return (2 * counts.cumsum(axis=1) - counts)[:, code]

  def covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    of_sums = (times * a).sum(axis=1) * (times * b).sum(axis=1)
    return times.sum(axis=1) * (times * a * b).sum(axis=1) - of_sums

  x, y = map(ranks, values)
  scale = np.sqrt(covariance(x, x)) * np.sqrt(covariance(y, y))
  return np.divide(
    covariance(x, y), scale, out=np.full(len(times), math.nan), where=scale > 0
  )
