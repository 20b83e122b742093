"""Draws against their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from htjax import laws, stable
from statistical.checks import (
  check_count,
  check_law,
  check_law_at,
  check_mean,
  check_median,
  refused,
)
from statistical.seeds import key

N = 20_000
POINTS = np.array([-50.0, -8.0, -2.0, -0.8, -0.2, 0.2, 0.8, 2.0, 8.0, 50.0])


@pytest.mark.parametrize(
  ('number', 'alpha', 'beta'),
  [
    (1, 1.6, 0.8),
    (2, 1.0, -0.6),
    (3, 0.9999, -0.6),
    (4, 0.7, 1.0),
    (5, 1.3, -1.0),
    (6, 0.3, 0.5),
    (7, 2.0, 0.5),
  ],
)
def test_skewed_draws(number, alpha, beta):
  x = laws.skewed.sample(
    key(9100 + number), alpha, (N,), beta=beta, scale=2.0, location=1.0
  )
  assert bool(jnp.all(jnp.isfinite(x)))
  options = {'beta': beta, 'scale': 2.0, 'location': 1.0}
  check_law_at(x, POINTS, laws.skewed.cdf(POINTS, alpha, **options))
  if number == 1:
    wrong = laws.skewed.cdf(POINTS, alpha, **(options | {'beta': -beta}))
    refused(check_law_at, x, POINTS, wrong)


def test_far_tails_of_skewed_draws():
  x = np.asarray(laws.skewed.sample(key(9110), 1.5, (10 * N,), beta=0.5))
  for far in (100.0, 1000.0):
    tail = float(laws.skewed.sf(far, 1.5, beta=0.5))
    check_count(np.sum(x > far), x.size, tail)
    check_count(np.sum(x < -far), x.size, tail / 3)


def test_pareto_draws():
  x = laws.pareto.sample(key(9120), 1.4, (N,), xmin=0.3)
  check_law(x, stats.pareto(1.4, scale=0.3).cdf)
  refused(check_law, x, stats.pareto(1.5, scale=0.3).cdf)
  both = laws.pareto.sample(key(9121), 1.4, (N,), xmin=0.3, symmetric=True)
  check_law(jnp.abs(both), stats.pareto(1.4, scale=0.3).cdf)
  check_count(np.sum(np.asarray(both) > 0), N, 0.5)


def test_zeta_draws():
  k = np.asarray(laws.zeta.sample(key(9130), 1.4, (N,), xmin=2))
  for value in (2, 3, 7):
    check_count(np.sum(k == value), N, laws.zeta.pmf(value, 1.4, xmin=2))
  check_count(np.sum(k > 40), N, laws.zeta.sf(40, 1.4, xmin=2))
  refused(check_count, np.sum(k == 2), N, laws.zeta.pmf(2, 1.4))


def test_tempered_draws():
  """At alpha = 1/2 the inverse Gaussian law; elsewhere two moments."""
  x = laws.tempered.sample(key(9140), 0.5, 3.0, (N,), scale=2.0)
  # exp(sqrt(2) (sqrt(3) - sqrt(3 + s))): shape (scale / 2), mean below.
  mean, _ = laws.tempered.moments(0.5, 3.0, scale=2.0)
  shape = 2.0 / 2
  check_law(x, stats.invgauss(mean / shape, scale=shape).cdf)
  refused(check_law, x, stats.invgauss(1.2 * mean / shape, scale=shape).cdf)
  for number, alpha, rate in ((1, 0.8, 20.0), (2, 0.2, 0.5)):
    x = laws.tempered.sample(key(9140 + number), alpha, rate, (N,))
    check_mean(x, *laws.tempered.moments(alpha, rate))
    s = 2.0
    exact = laws.tempered.laplace(np.array([s, 2 * s]), alpha, rate)
    check_mean(np.exp(-s * np.asarray(x)), exact[0], exact[1] - exact[0] ** 2)


def test_eigenvalues_of_many_rows():
  """The median over columns of many rows, of matrices far from square."""

  def eigenvalues(k):
    w = stable.sample(k, 1.2, (4000, 2))
    return jnp.linalg.eigvalsh(w.T @ w) * 4000 ** (-2 / 1.2)

  found = jax.lax.map(eigenvalues, jax.random.split(key(9150), 200))
  median = float(laws.gram.eigenvalue_quantile(0.5, 1.2))
  # Of one column: its squares are independent of the other's.
  each = np.asarray(found)[np.arange(200), np.arange(200) % 2]
  check_median(each, median, allowed=0.1 * median)
  refused(check_median, each, 3 * median, allowed=0.1 * median)
