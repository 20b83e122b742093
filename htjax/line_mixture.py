"""Mixtures of straight lines through points, by expectation maximization.

Each point lies on one of k lines, line j with probability w_j, and departs
from it by normal noise of one deviation for all lines: with a deviation of
its own, a line through two points would have an unbounded likelihood.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.checks import check_count, check_finite, check_key, checked
from htjax.types import Array, ArrayLike, PRNGKey

# Least deviation, in units of the spread of y: points that lie on the lines
# exactly have no largest likelihood.
_LEAST_DEVIATION = 1e-3
_TINY = 1e-12


class LineMixture(NamedTuple):
  """k lines y = slope x + intercept, by increasing slope.

  Attributes:
    weights: [k], the share of the points on each line; they sum to 1.
    slopes: [k], in units of y over those of x.
    intercepts: [k], in units of y.
    deviation: [], of the points from their lines, in units of y.
    log_likelihood: [], natural logarithm of the likelihood of the points.
    bic: [], 3 k log(n) - 2 log_likelihood: the smaller, the better.
    responsibilities: [n, k], probability of each line given the point.
  """

  weights: Array
  slopes: Array
  intercepts: Array
  deviation: Array
  log_likelihood: Any = None
  bic: Any = None
  responsibilities: Any = None


@checked
def choose(
  key: PRNGKey,
  x: ArrayLike,
  y: ArrayLike,
  max_lines: int = 3,
  *,
  num_restarts: int = 64,
  num_steps: int = 300,
) -> LineMixture:
  """Of the fits of 1, .. , max_lines lines the one of smallest BIC.

  Args:
    key: typed key.
    x: [n], as for `fit`.
    y: [n], as for `fit`.
    max_lines: at least 1; no more than (n - 1) / 3 lines are tried.
    num_restarts: of each number of lines.
    num_steps: of each restart.

  Returns:
    LineMixture of that fit.

  Raises:
    ValueError: as `fit`.

  Source: [SH], Figure 3 and Appendix D.

  Examples:
    >>> import jax
    >>> import numpy as np
    >>> from htjax import line_mixture
    >>> x = np.linspace(-1, 1, 20)
    >>> y = np.where(np.arange(20) % 2 == 0, 3 * x, 1 - x)
    >>> found = line_mixture.choose(jax.random.key(0), x, y, 2, num_restarts=8)
    >>> print(found.slopes.round(2))
    [-1.  3.]
  """
  check_count('max_lines', max_lines)
  most = max(1, min(max_lines, (np.size(x) - 1) // 3))
  fits = [
    fit(
      jax.random.fold_in(key, k),
      *(x, y, k),
      num_restarts=num_restarts,
      num_steps=num_steps,
    )
    for k in range(1, most + 1)
  ]
  return min(fits, key=lambda one: float(one.bic))


@checked
def fit(
  key: PRNGKey,
  x: ArrayLike,
  y: ArrayLike,
  num_lines: int,
  *,
  num_restarts: int = 64,
  num_steps: int = 300,
) -> LineMixture:
  """Fit a number of lines: of the local maxima that EM finds the most likely.

  Each restart begins with lines through random pairs of points. The deviation
  is at least 1e-3 of y's own, since points that lie on the lines exactly have
  no largest likelihood.

  Args:
    key: typed key.
    x: [n] with n > 3 num_lines, finite, not constant, in any units; on the
      host.
    y: [n], likewise.
    num_lines: k, static.
    num_restarts: static; they run in one batch.
    num_steps: static, steps of EM in each restart.

  Returns:
    LineMixture of k lines in the units of x and y, in JAX's default dtype.

  Raises:
    ValueError: x and y not vectors of one length, too short, not finite, or
      constant; a count below 1.

  Source: [Bishop2006], section 14.5.1; named in [SH], Figure 3 and Appendix D.

  Examples:
    >>> import jax
    >>> import numpy as np
    >>> from htjax import line_mixture
    >>> x = np.arange(10.0)
    >>> one = line_mixture.fit(jax.random.key(0), x, 2 * x + 1, 1)
    >>> print(one.slopes.round(2), one.intercepts.round(2))
    [2.] [1.]
  """
  key = check_key(key)
  check_count('num_lines', num_lines)
  check_count('num_restarts', num_restarts)
  check_count('num_steps', num_steps)
  if np.shape(x) != np.shape(y):
    raise ValueError(
      f'y must have the shape of x, {np.shape(x)}, got {np.shape(y)}'
    )
  x, x_mean, x_spread = _standardised('x', x, 3 * num_lines)
  y, y_mean, y_spread = _standardised('y', y, 3 * num_lines)
  state, log_likelihood = _fit(key, x, y, num_lines, num_restarts, num_steps)
  order = jnp.argsort(state.slopes)
  slopes = state.slopes * (y_spread / x_spread)
  log_likelihood = log_likelihood - x.size * np.log(y_spread)
  return LineMixture(
    weights=state.weights[order],
    slopes=slopes[order],
    intercepts=(y_mean + y_spread * state.intercepts - slopes * x_mean)[order],
    deviation=y_spread * state.deviation,
    log_likelihood=log_likelihood,
    bic=3 * num_lines * np.log(x.size) - 2 * log_likelihood,
    responsibilities=_expect(state, x, y)[0][:, order],
  )


def _standardised(
  name: str, values: ArrayLike, least: int
) -> tuple[Array, float, float]:
  """The values with mean 0 and variance 1, and their own mean and root."""
  v = np.asarray(values, np.float64)
  if v.ndim != 1 or v.size <= least:
    raise ValueError(
      f'{name} must be a vector of more than {least} numbers, got shape '
      f'{v.shape}'
    )
  check_finite(name, v)
  mean, spread = float(v.mean()), float(v.std())
  if spread == 0:
    raise ValueError(f'{name} must not be constant, got {v[0]:g} everywhere')
  return jnp.asarray((v - mean) / spread), mean, spread


@functools.partial(
  jax.jit, static_argnames=('num_lines', 'num_restarts', 'num_steps')
)
def _fit(
  key: PRNGKey,
  x: Array,
  y: Array,
  num_lines: int,
  num_restarts: int,
  num_steps: int,
) -> tuple[LineMixture, Array]:
  def restart(key: PRNGKey) -> tuple[LineMixture, Array]:
    state = _start(key, x, y, num_lines)
    state = lax.fori_loop(0, num_steps, lambda _, s: _step(s, x, y), state)
    return state, _expect(state, x, y)[1]

  keys = jax.random.split(key, num_restarts)
  states, log_likelihoods = jax.vmap(restart)(keys)
  best = jnp.argmax(log_likelihoods)
  return jax.tree.map(lambda a: a[best], states), log_likelihoods[best]


def _start(key: PRNGKey, x: Array, y: Array, num_lines: int) -> LineMixture:
  """Lines through pairs of points."""
  pairs = jax.random.permutation(key, x.size)[: 2 * num_lines]
  (x0, x1), (y0, y1) = (a[pairs.reshape(2, num_lines)] for a in (x, y))
  run = x1 - x0
  slopes = jnp.where(run == 0, 0, (y1 - y0) / jnp.where(run == 0, 1, run))
  weights = jnp.full(num_lines, 1 / num_lines, x.dtype)
  deviation = jnp.asarray(1 / num_lines, x.dtype)
  return LineMixture(weights, slopes, y0 - slopes * x0, deviation)


def _step(state: LineMixture, x: Array, y: Array) -> LineMixture:
  """Weighted least squares with the responsibilities of `state`."""
  shares, _ = _expect(state, x, y)
  mass = jnp.sum(shares, axis=0) + _TINY
  x_mean, y_mean = x @ shares / mass, y @ shares / mass
  x_rest = x[:, None] - x_mean[None, :]
  covariance = jnp.sum(shares * x_rest * (y[:, None] - y_mean[None, :]), axis=0)
  variance = jnp.sum(shares * x_rest**2, axis=0)
  slopes = jnp.where(variance > _TINY, covariance / (variance + _TINY), 0)
  intercepts = y_mean - slopes * x_mean
  square = jnp.sum(shares * _residuals(slopes, intercepts, x, y) ** 2) / x.size
  deviation = jnp.maximum(jnp.sqrt(square), _LEAST_DEVIATION)
  return LineMixture(mass / jnp.sum(mass), slopes, intercepts, deviation)


def _expect(state: LineMixture, x: Array, y: Array) -> tuple[Array, Array]:
  """Responsibilities [n, k], and the log-likelihood."""
  z = _residuals(state.slopes, state.intercepts, x, y) / state.deviation
  log_density = jax.scipy.stats.norm.logpdf(z) - jnp.log(state.deviation)
  log_joint = jnp.log(state.weights)[None, :] + log_density
  total = jax.nn.logsumexp(log_joint, axis=1, keepdims=True)
  return jnp.exp(log_joint - total), jnp.sum(total)


def _residuals(slopes: Array, intercepts: Array, x: Array, y: Array) -> Array:
  return y[:, None] - slopes[None, :] * x[:, None] - intercepts[None, :]
