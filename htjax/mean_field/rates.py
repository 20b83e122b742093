"""Rates of decay read off replicated errors.

The slope of log error against log x, by least squares, with the interval that
the spread over replicas gives. Particles of one system depend on each other
and widths of one replica share their noise, so the replica is the independent
unit: the slope is a smooth function of the columns of means (or medians), and
its variance is that of the sum of the replicas' influences on it.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from htjax.checks import check_choice, checked
from htjax.types import ArrayLike

STATISTICS = ('mean', 'median')


class Rate(NamedTuple):
  """A fitted rate error ~ x^slope.

  Attributes:
    slope: least-squares slope of log level against log x.
    standard_error: of the slope, from the replicas.
    low, high: 95 % interval, of Student's law with R - 1 degrees of freedom.
    levels: [k], the mean (or median) error at each x.
    level_errors: [k], standard errors of the levels.
    local_slopes: [k - 1], slopes between neighbouring x.
  """

  slope: float
  standard_error: float
  low: float
  high: float
  levels: np.ndarray
  level_errors: np.ndarray
  local_slopes: np.ndarray

  def covers(self, value: float) -> bool:
    """True if the interval holds `value`."""
    return self.low <= value <= self.high


@checked
def fit_rate(
  x: ArrayLike, errors: ArrayLike, *, statistic: str = 'mean'
) -> Rate:
  """Fit the rate at which errors change with x.

  Args:
    x: [k], positive, at least two different values: widths or step sizes.
    errors: [k, R], column r from replica r, R >= 4; finite, and each row of
      positive level. Concrete, as this runs on the host in float64.
    statistic: 'mean', or 'median' where the mean of an error is infinite.

  Returns:
    Rate.

  Raises:
    ValueError: shapes that do not fit, fewer than 4 replicas, x or a level
      not positive, anything not finite, an unknown statistic.

  Source: the delta method; for medians the Bahadur representation with the
    density estimated by Siddiqui's difference quotient and Bofinger's
    bandwidth, see [Koenker2005], section 3.4.2.

  Examples:
    >>> import numpy as np
    >>> from htjax import mean_field
    >>> widths = np.array([16, 64, 256])
    >>> errors = widths[:, None] ** -0.5 * np.array([0.9, 1.0, 1.0, 1.1])
    >>> rate = mean_field.fit_rate(widths, errors)
    >>> print(f'{rate.slope:.3f}')
    -0.500
  """
  check_choice('statistic', statistic, STATISTICS)
  x = _positive('x', x)
  errors = np.asarray(errors, np.float64)
  if not np.all(np.isfinite(errors)):
    raise ValueError(f'errors must be finite, got {errors!r}')
  if x.ndim != 1 or len(np.unique(x)) < 2:
    raise ValueError(f'x must be [k] with two different values, got {x!r}')
  if errors.ndim != 2 or len(errors) != len(x) or errors.shape[1] < 4:
    raise ValueError(
      f'errors must be [k, R] with k = {len(x)} and R >= 4 replicas, got shape '
      f'{errors.shape}'
    )
  num = errors.shape[1]
  levels, influences = _levels(errors, statistic)
  _positive(f'the {statistic} of each row of errors', levels)
  centred = np.log(x) - np.log(x).mean()
  weights = centred / np.sum(centred**2)
  slope = float(weights @ np.log(levels))
  relative = influences / levels[:, None]
  standard_error = float((weights @ relative).std(ddof=1) / math.sqrt(num))
  reach = float(special.stdtrit(num - 1, 0.975)) * standard_error
  return Rate(
    slope,
    standard_error,
    slope - reach,
    slope + reach,
    levels,
    influences.std(axis=1, ddof=1) / math.sqrt(num),
    np.diff(np.log(levels)) / np.diff(np.log(x)),
  )


def _levels(
  errors: np.ndarray, statistic: str
) -> tuple[np.ndarray, np.ndarray]:
  """The statistic of each row, and each replica's influence on it."""
  if statistic == 'mean':
    levels = errors.mean(axis=1)
    return levels, errors - levels[:, None]
  levels = np.median(errors, axis=1)
  num = errors.shape[1]
  # Bofinger's bandwidth at the median of a normal law.
  width = min(0.25, num ** (-1 / 5) * (4.5 / (2 * math.pi) ** 2) ** (1 / 5))
  high = np.quantile(errors, 0.5 + width, axis=1)
  low = np.quantile(errors, 0.5 - width, axis=1)
  sparsity = (high - low) / (2 * width)
  below = errors <= levels[:, None]
  return levels, (0.5 - below) * sparsity[:, None]


def _positive(name: str, value: Any) -> np.ndarray:
  value = np.asarray(value, np.float64)
  if not np.all((value > 0) & np.isfinite(value)):
    raise ValueError(f'{name} must be positive and finite, got {value!r}')
  return value
