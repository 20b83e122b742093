"""Checks of random quantities, with tolerances that follow from the law.

One failure rate is declared for the whole suite: with fresh keys, a correct
library fails any of its statistical comparisons with at most this probability.
Each comparison gets an equal share of it, whatever its kind, so a failure is a
finding and never a reason to choose another key.
"""

import collections
import math
from collections.abc import Callable

import numpy as np
from scipy import special, stats

SUITE_FAILURE_RATE = 1e-3
MAX_COMPARISONS = 2000
FAILURE_RATE = SUITE_FAILURE_RATE / MAX_COMPARISONS
# How many standard errors that is: 5.03.
Z = float(stats.norm.isf(FAILURE_RATE / 2))

_SPENT = collections.Counter[str]()


def comparisons() -> int:
  """Number of comparisons in this process; the controls count as well."""
  return _SPENT.total()


def _spend(num: int = 1) -> None:
  _SPENT['comparisons'] += num


def refused(check: Callable, *arguments, **options) -> None:
  """A negative control: what is wrong must fail the check.

  Args:
    check: one of the checks of this file.
    *arguments: of the check, one of them wrong.
    **options: of the check.
  """
  try:
    check(*arguments, **options)
  except AssertionError:
    return
  raise AssertionError(f'{check.__name__} does not refuse what is wrong')


def check_within(
  value, expected, error, *, allowed=0.0, freedom: float | None = None
) -> None:
  """Estimates, normal about their expectation.

  Args:
    value: the estimates, a number or an array: one comparison each.
    expected: what they estimate.
    error: their standard errors.
    allowed: how far off they may be in the mean: the bias of a ratio, the
      digits of a printed number.
    freedom: degrees of freedom of `error` where it is itself estimated from so
      few independent numbers that Student's law is another.
  """
  value, expected, error, allowed = np.broadcast_arrays(
    *(np.asarray(x, np.float64) for x in (value, expected, error, allowed))
  )
  z = Z if freedom is None else float(stats.t.isf(FAILURE_RATE / 2, freedom))
  far = np.abs(value - expected)
  limit = z * error + allowed
  _spend(value.size)
  assert np.all(far <= limit), f'error={far} {limit=}'


def median_levels(num: int) -> tuple[float, float]:
  """Levels of the quantiles of a sample between which its median's truth lies.

  Exact for every continuous law: fewer of the samples than the lower rank are
  below the true median with probability below half of the failure rate.

  Args:
    num: independent samples, at least 25.
  """
  rank = stats.binom.ppf(FAILURE_RATE / 2, num, 0.5) - 1
  return rank / (num - 1), 1.0 - rank / (num - 1)


def check_median(samples, median: float, allowed: float = 0.0) -> None:
  """The median of independent samples, exactly, by counting.

  Args:
    samples: of a continuous law.
    median: expected.
    allowed: how far from it the law's median may be.
  """
  samples = np.asarray(samples, np.float64).ravel()
  _spend()
  low, high = np.quantile(samples, median_levels(samples.size)) - median
  inside = low <= allowed and high >= -allowed
  assert inside, f'error=[{low}, {high}] {allowed=} n={samples.size}'


def check_mean(samples, mean: float, variance: float) -> None:
  """The mean of independent samples of a law with this mean and variance.

  Args:
    samples: array of any shape; each entry is one independent sample.
    mean: exact mean of the law.
    variance: exact variance of the law, of one sample.
  """
  samples = np.asarray(samples, np.float64)
  check_within(samples.mean(), mean, math.sqrt(variance / samples.size))


def check_cosine(projections, phi: float, phi_double: float) -> None:
  """The characteristic function at one point, by the mean of a cosine.

  Args:
    projections: samples of <u, X>.
    phi: exact E exp(i<u, X>), real.
    phi_double: the same at 2u, which gives the variance of the cosine.
  """
  cosine = np.cos(np.asarray(projections, np.float64))
  check_mean(cosine, phi, (1.0 + phi_double) / 2.0 - phi**2)


def check_stable(samples, alpha: float, scale: float = 1.0) -> None:
  """Symmetric stable samples, at five points of the characteristic function.

  Args:
    samples: independent samples, expected to have E exp(itX) =
      exp(-|scale t|^alpha).
    alpha: tail index in (0, 2].
    scale: > 0.
  """
  samples = np.asarray(samples, np.float64) / scale
  for t in (0.1, 0.5, 1.0, 1.5, 3.0):
    check_cosine(
      t * samples, math.exp(-(t**alpha)), math.exp(-((2 * t) ** alpha))
    )


def check_log_moments(samples, alpha: float, scale: float = 1.0) -> None:
  """Mean and variance of log|X| for symmetric stable samples.

  The cumulants are the derivatives at 0 of log E|X|^s, with E|X|^s = 2^s
  Gamma((1+s)/2) Gamma(1-s/alpha) / (sqrt(pi) Gamma(1-s/2)).

  Args:
    samples: independent samples.
    alpha: tail index in (0, 2].
    scale: > 0.
  """
  log = np.log(np.abs(np.asarray(samples, np.float64)))
  mean = np.euler_gamma * (1.0 / alpha - 1.0) + math.log(scale)
  variance = math.pi**2 * (1.0 / (6.0 * alpha**2) + 1.0 / 12.0)
  half, one = special.polygamma(3, 0.5), special.polygamma(3, 1.0)
  fourth = half / 16.0 + one / alpha**4 - one / 16.0
  check_mean(log, mean, variance)
  check_mean((log - mean) ** 2, variance, fourth + 2.0 * variance**2)


def check_law(samples, cdf: Callable) -> None:
  """Kolmogorov-Smirnov against a distribution function in closed form."""
  samples = np.asarray(samples, np.float64).ravel()
  _spend()
  result = stats.kstest(samples, cdf)
  assert result.pvalue >= FAILURE_RATE, f'{result} n={samples.size}'


def check_law_at(samples, points, values) -> None:
  """Check of a law whose distribution function is costly: at some points.

  The largest difference over some points is at most the Kolmogorov-Smirnov
  statistic, so its limit holds with a smaller failure rate.
  """
  samples = np.sort(np.asarray(samples, np.float64).ravel())
  empirical = np.searchsorted(samples, points, side='right') / samples.size
  error = np.max(np.abs(empirical - values))
  limit = stats.kstwo.isf(FAILURE_RATE, samples.size)
  _spend()
  assert error <= limit, f'{error=:.3g} {limit=:.3g} n={samples.size}'


def check_same_law(first, second) -> None:
  """Two-sample Kolmogorov-Smirnov between independent samples."""
  first, second = (np.asarray(x, np.float64).ravel() for x in (first, second))
  _spend()
  result = stats.ks_2samp(first, second, method='asymp')
  assert result.pvalue >= FAILURE_RATE, f'{result} n={first.size, second.size}'


def check_count(count: int, trials: int, probability: float) -> None:
  """A number of successes, by the exact binomial test."""
  _spend()
  pvalue = stats.binomtest(int(count), int(trials), probability).pvalue
  expected = trials * probability
  assert pvalue >= FAILURE_RATE, f'{count=} {expected=:.6g} {pvalue=:.3g}'


def check_at_most(count: int, trials: int, probability: float) -> None:
  """Events of at most that probability, by the exact binomial tail."""
  _spend()
  limit = stats.binom.isf(FAILURE_RATE, int(trials), min(probability, 1.0))
  assert count <= limit, f'{count=} {limit=} {trials=}'


def check_share(count: int, trials: int, low: float, high: float) -> None:
  """A probability in [low, high], where its value is not known exactly.

  Args:
    count: how often the event came.
    trials: of how many independent trials.
    low: smallest probability that is right.
    high: largest.
  """
  check_at_most(count, trials, high)
  check_at_most(int(trials) - int(count), trials, 1.0 - low)


def check_p_value(p_value) -> None:
  """A p-value of a test whose null hypothesis is true."""
  _spend()
  assert p_value >= FAILURE_RATE, f'{p_value=}'


def stable_tail(x: float, alpha: float) -> float:
  """Exact P(|X| > x) of the symmetric stable law of unit scale.

  Closed forms at alpha 1 and 2; elsewhere the series in powers of x^-alpha
  (convergent below alpha = 1, asymptotic above), which is refused where its
  last term is not below 1e-4 of the sum.
  """
  if alpha == 2.0:
    return math.erfc(x / 2.0)
  if alpha == 1.0:
    return 2.0 / math.pi * math.atan2(1.0, x)
  k = np.arange(1, 13)
  log_size = special.gammaln(k * alpha) - special.gammaln(k + 1)
  size = 2.0 / math.pi * np.exp(log_size - k * alpha * math.log(x))
  terms = -((-1.0) ** k) * np.sin(math.pi * k * alpha / 2.0) * size
  last = int(np.argmin(size))
  total = terms[: last + 1].sum()
  if size[last] > 1e-4 * total:
    raise ValueError(f'the series has not settled at {x=}, {alpha=}')
  return float(total)


def stable_threshold(probability: float, alpha: float) -> float:
  """The x with P(|X| > x) = probability, to leading order in the tail."""
  if alpha == 2.0:
    return 2.0 * float(special.erfcinv(probability))
  constant = 2.0 / math.pi * math.gamma(alpha) * math.sin(math.pi * alpha / 2)
  return float((constant / probability) ** (1.0 / alpha))
