"""The tail that SGD gives itself on least squares: no input is heavy-tailed.

With Gaussian data a_i ~ N(0, s^2 I_d) a step of SGD on the mean of
(a_i x - y_i)^2 / 2 over b examples is a random affine map,
x' = (I - (eta / b) A^T A) x + q. Its stationary law has a power tail of the
index alpha > 0 at which E |(I - (eta / b) A^T A) u|^alpha = 1, u any unit
vector, whatever the noise of the targets. With s^2 = 1 it is 2 at
eta = 2 b / (d + b + 1).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.checks import check_count, check_key, check_range, checked
from htjax.products import full_precision
from htjax.tail_index.estimate import TailEstimate
from htjax.types import Array, ArrayLike, PRNGKey

# Beyond, the mean of |M u|^alpha is that of a handful of draws.
_LARGEST = 128.0
# Halvings of an interval of length 128 to the resolution of float32.
_HALVINGS = 40


@checked
def least_squares_index(
  key: PRNGKey,
  *,
  step_size: ArrayLike,
  batch_size: int,
  dim: int,
  curvature: ArrayLike = 1.0,
  num_samples: int = 10**6,
) -> TailEstimate:
  """Tail index of SGD's stationary law on least squares with Gaussian data.

  By Monte Carlo from the law of |M u|^2 = (1 - a X)^2 + a^2 X Y, with
  a = eta s^2 / b, X chi-squared of b and Y of d - 1 degrees of freedom. It
  depends on eta, s and b through a and b alone: a larger step or a smaller
  batch means a heavier tail.

  Args:
    key: typed key.
    step_size: eta > 0, traced.
    batch_size: b, examples of a step, drawn anew in each.
    dim: d.
    curvature: s^2 > 0, variance of an entry of the data, traced.
    num_samples: of the Monte Carlo mean.

  Returns:
    TailEstimate: `alpha`, and `standard_error` of the Monte Carlo (delta
    method); `num_used` is num_samples. alpha is NaN where E log |M u| >= 0, so
    that there is no stationary law, and infinite where it is above 128.

  Raises:
    ValueError: a concrete step size or curvature that is not positive,
      batch_size, dim or num_samples not a positive integer.

  Values: a traced step size or curvature that is not positive gives NaN.

  Source: [Gurbuzbalaban2021], theorems 2 and 3.

  Examples:
    >>> import jax
    >>> from htjax import tail_index
    >>> found = tail_index.least_squares_index(
    ...   jax.random.key(0),
    ...   step_size=0.6,
    ...   batch_size=5,
    ...   dim=10,
    ...   num_samples=20_000,
    ... )
    >>> bool(2 < found.alpha < 4), bool(found.standard_error < 0.1)
    (True, True)
  """
  key = check_key(key)
  _check(step_size, batch_size, dim, curvature)
  check_count('num_samples', num_samples)
  return _index(key, step_size, curvature, batch_size, dim, num_samples)


@checked
@full_precision
def least_squares_chain(
  key: PRNGKey,
  *,
  step_size: ArrayLike,
  batch_size: int,
  dim: int,
  curvature: ArrayLike = 1.0,
  num_chains: int = 10_000,
  num_steps: int = 1000,
) -> Array:
  """Last iterates of independent chains of SGD on least squares.

  x' = x - (eta / b) A^T (A x - y), A [b, d] of N(0, s^2) entries and targets y
  of N(0, 1), both new in each step, from x = 0.

  Args:
    key: typed key.
    step_size: eta > 0, traced.
    batch_size: b.
    dim: d.
    curvature: s^2 > 0, traced.
    num_chains: independent chains.
    num_steps: steps of each.

  Returns:
    Array [num_chains, dim], float32.

  Raises:
    ValueError: as `least_squares_index`; num_chains or num_steps not a positive
      integer.

  Source: [Gurbuzbalaban2021], eq. (4).

  Examples:
    >>> import jax
    >>> from htjax import tail_index
    >>> x = tail_index.least_squares_chain(
    ...   jax.random.key(0),
    ...   step_size=0.1,
    ...   batch_size=5,
    ...   dim=2,
    ...   num_chains=3,
    ...   num_steps=10,
    ... )
    >>> x.shape
    (3, 2)
  """
  key = check_key(key)
  _check(step_size, batch_size, dim, curvature)
  check_count('num_chains', num_chains)
  check_count('num_steps', num_steps)
  return _chain(
    *(key, step_size, curvature, batch_size, dim, num_chains, num_steps)
  )


def _check(
  step_size: ArrayLike, batch_size: int, dim: int, curvature: ArrayLike
) -> None:
  for name, value in (('step_size', step_size), ('curvature', curvature)):
    check_range(name, value, 0, np.inf, open_low=True, open_high=True)
    if np.shape(value) != ():
      raise ValueError(
        f'{name} must be a scalar, got shape {np.shape(value)}; vmap over it'
      )
  check_count('batch_size', batch_size)
  check_count('dim', dim)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _index(
  key: PRNGKey,
  step_size: ArrayLike,
  curvature: ArrayLike,
  batch_size: int,
  dim: int,
  num: int,
) -> TailEstimate:
  keys = jax.random.split(key)
  x = jax.random.chisquare(keys[0], batch_size, (num,))
  y = jnp.zeros(num)
  if dim > 1:
    y = jax.random.chisquare(keys[1], dim - 1, (num,))
  a = jnp.asarray(step_size, x.dtype) * curvature / batch_size
  logs = 0.5 * jnp.log((1 - a * x) ** 2 + a**2 * x * y)

  def log_moment(alpha: Array) -> Array:
    return jax.nn.logsumexp(alpha * logs) - jnp.log(num)

  def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
    low, high = ends
    middle = (low + high) / 2
    # Convex, 0 at 0 and falling there: negative up to the index.
    inside = log_moment(middle) < 0
    return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

  ends = jnp.zeros(()), jnp.full((), _LARGEST)
  low, high = lax.fori_loop(0, _HALVINGS, halve, ends)
  alpha = (low + high) / 2
  powers = jnp.exp(alpha * logs)
  slope = jnp.mean(powers * logs)
  error = powers.std() / jnp.sqrt(num) / jnp.abs(slope)
  is_far = log_moment(jnp.full((), _LARGEST)) < 0
  alpha = jnp.where(is_far, jnp.inf, alpha)
  has_law = (logs.mean() < 0) & (a > 0)
  nan = jnp.full((), jnp.nan, x.dtype)
  return TailEstimate(
    alpha=jnp.where(has_law, alpha, nan),
    standard_error=jnp.where(has_law & ~is_far, error, nan),
    num_used=jnp.asarray(num, jnp.int32),
    scale=nan,
    ks_distance=nan,
    p_value=nan,
  )


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _chain(
  key: PRNGKey,
  step_size: ArrayLike,
  curvature: ArrayLike,
  batch_size: int,
  dim: int,
  num_chains: int,
  num_steps: int,
) -> Array:
  def step(x: Array, t: Array) -> tuple[Array, None]:
    data, targets = jax.random.split(jax.random.fold_in(key, t))
    a = jax.random.normal(data, (num_chains, batch_size, dim))
    a *= jnp.sqrt(jnp.asarray(curvature, a.dtype))
    y = jax.random.normal(targets, (num_chains, batch_size))
    residual = jnp.einsum('cbd,cd->cb', a, x) - y
    gradient = jnp.einsum('cbd,cb->cd', a, residual) / batch_size
    return x - jnp.asarray(step_size, x.dtype) * gradient, None

  start = jnp.zeros((num_chains, dim))
  return lax.scan(step, start, jnp.arange(num_steps))[0]
