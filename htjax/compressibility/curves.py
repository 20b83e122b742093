"""Error curves expected of Gaussian and of stable weights."""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax import stable
from htjax.checks import (
  check_count,
  check_key,
  check_number,
  check_range,
  checked,
)
from htjax.compressibility.arguments import (
  check_kappa,
  check_order,
  or_nan,
)
from htjax.compressibility.costs import root
from htjax.compressibility.counts import kept_count
from htjax.compressibility.errors import errors_of_removal
from htjax.floats import as_floating, as_working
from htjax.host import on_host, to_device
from htjax.types import Array, ArrayLike, PRNGKey


@checked
def gaussian_limit(kappa: ArrayLike, *, p: float = 2, dim: int = 1) -> Array:
  """Limit of the relative error for Gaussian columns, as their number grows.

  For columns theta_i ~ N(0, s^2 I_dim) and the norm (sum_i |theta_i|^p)^(1/p),
  |theta_i| Euclidean, which for p = 2 is the Frobenius norm:
    error^p -> E[|theta|^p; |theta| <= q] / E |theta|^p,  q the quantile of
    |theta| at 1 - kappa;  at p = 2, F_{dim+2}(F_dim^{-1}(1 - kappa)) with the
    chi-squared distribution functions.

  Args:
    kappa: kept fraction in (0, 1], traced, any shape.
    p: order of the norm, static, 0 < p < infinity.
    dim: dimension of a column, static; 1 for i.i.d. Gaussian entries.

  Returns:
    Array of kappa's shape, accurate to about 5e-6 in float32 (2e-5 for dim in
    the thousands) and 1e-11 in float64. Strictly positive for kappa < 1:
    Gaussian weights are not compressible. Not differentiable.

  Raises:
    ValueError: p not a positive number, dim < 1, a concrete kappa outside
      (0, 1].

  Values: a traced kappa outside [0, 1] gives NaN.

  Source: [IC], Proposition A.1; [Gribonval2012], Proposition 1.1.

  Examples:
    >>> from htjax import compressibility
    >>> print(f'{compressibility.gaussian_limit(0.1):.3f}')
    0.749
  """
  check_order(p)
  check_count('dim', dim)
  check_kappa(kappa)
  kappa = as_working('kappa', kappa)
  if on_host(kappa):
    return to_device(_host_gaussian_limit(kappa, p, dim), kappa.dtype)
  return or_nan(_gaussian_limit(kappa, p, dim), kappa)


@checked
def gaussian_ratio(epsilon: float, *, p: float = 2, dim: int = 1) -> float:
  """Fraction of Gaussian columns that can go at a relative error.

  The inverse of `gaussian_limit`: its value at kappa = 1 - ratio is epsilon.

  Args:
    epsilon: relative error, not squared, in [0, 1]; a number on the host.
    p: order of the norm, 0 < p < infinity.
    dim: dimension of a column; 1 for i.i.d. Gaussian entries.

  Returns:
    float in [0, 1], to about 1e-11.

  Raises:
    ValueError: epsilon outside [0, 1]; as `gaussian_limit`.

  Source: the inverse of [IC], Proposition A.1.

  Examples:
    >>> from htjax import compressibility
    >>> print(f'{compressibility.gaussian_ratio(0.1):.4f}')
    0.2653
  """
  check_range('epsilon', epsilon, 0.0, 1.0)
  low, high = 0.0, 1.0
  # As many halvings as leave 1 - middle above 0.
  for _ in range(52):
    middle = (low + high) / 2
    with jax.enable_x64(True):
      error = float(gaussian_limit(1.0 - middle, p=p, dim=dim))
    low, high = (low, middle) if error >= epsilon else (middle, high)
  return low


@checked
def stable_limit(kappa: float, alpha: float) -> float:
  """Limit of the relative l_1 error of stable weights, as their number grows.

  E[|X|; |X| <= q] / E |X| with q the quantile of |X| at 1 - kappa; a limit
  below 1 that falls with alpha, since E |X| is finite. For p = 2 the errors of
  alpha < 2 vanish instead, see `stable_curve`.

  Args:
    kappa: kept fraction in (0, 1]; a number on the host.
    alpha: tail index in (1, 2], likewise; the scale does not matter.

  Returns:
    float in [0, 1), to about 1e-9.

  Raises:
    ValueError: a number out of range.

  Source: [Gribonval2012], Proposition 1.1.

  Examples:
    >>> from htjax import compressibility
    >>> print(f'{compressibility.stable_limit(0.3, 1.5):.3f}')
    0.280
  """
  check_range('kappa', kappa, 0.0, 1.0, open_low=True)
  check_range('alpha', alpha, 1.0, 2.0, open_low=True)
  nodes, weights = np.polynomial.legendre.leggauss(64)
  inside = 0.0
  with jax.enable_x64(True):
    q = float(stable.quantile(1 - kappa / 2, alpha))
    for low, high in itertools.pairwise(_panels(q)):
      x = low + (high - low) * (nodes + 1) / 2
      density = np.asarray(stable.pdf(x, alpha))
      inside += float(np.sum(weights * x * density)) * (high - low)
  return inside / (2 * math.gamma(1 - 1 / alpha) / math.pi)


def _panels(end: float) -> list[float]:
  """From 0 to an end, in pieces that grow as a stable density widens."""
  powers = (2.0**i for i in itertools.count(2))
  inner = itertools.takewhile(lambda power: power < end, powers)
  return [0.0, *inner, end]


@checked
def stable_curve(
  alpha: ArrayLike,
  kappa: ArrayLike,
  n: int,
  *,
  key: PRNGKey,
  p: float = 2,
  num_draws: int = 200,
  level: ArrayLike = 0.5,
  rounding: str = 'ceil',
) -> Array:
  """Compression error expected of n independent symmetric stable weights.

  The median over simulated vectors: for p >= alpha the error tends to zero like
  n^(1/p - 1/alpha), and at finite n its law is too wide for a mean. For
  p < alpha it tends to a limit between 0 and 1 which depends on alpha alone.

  Args:
    alpha: tail index in (0, 2], traced. The scale does not matter.
    kappa: kept fraction in (0, 1], traced; an array gives a curve.
    n: static, entries per vector.
    key: typed key.
    p: order of the norm, static.
    num_draws: static, simulated vectors; their cost is a sort of n each.
    level: which quantile of the error to return, in [0, 1], traced; 0.05 and
      0.95 make a band around the median.
    rounding: 'ceil' or 'floor' of kappa n.

  Returns:
    Array of kappa's shape and dtype.

  Raises:
    ValueError: as `compression_error` and `htjax.stable.sample`; n or
      num_draws < 1; a concrete level outside [0, 1].

  Values: traced alpha, kappa or level out of range gives NaN.

  Source: [HT], Lemma S2; [Gribonval2012], Proposition 1.2.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import compressibility
    >>> curve = compressibility.stable_curve(
    ...   1.5, jnp.array([0.1, 0.5]), 1000, key=jax.random.key(0), num_draws=20
    ... )
    >>> bool(0.9 > curve[0] > curve[1] > 0)
    True
  """
  key = check_key(key)
  check_count('n', n)
  check_count('num_draws', num_draws)
  check_order(p)
  check_range('alpha', alpha, 0.0, 2.0, open_low=True)
  check_number('level', level)
  check_range('level', level, 0.0, 1.0)
  check_kappa(kappa)
  removed = n - kept_count(kappa, n, rounding)
  dtype = as_floating('kappa', kappa).dtype
  errors = _stable_errors(key, alpha, removed, n, p, num_draws, dtype)
  level = jnp.asarray(level, dtype)
  return or_nan(or_nan(jnp.quantile(errors, level, axis=0), kappa), level)


@functools.partial(jax.jit, static_argnames=('n', 'p', 'num_draws', 'dtype'))
def _stable_errors(
  key: PRNGKey,
  alpha: ArrayLike,
  removed: Array,
  n: int,
  p: float,
  num_draws: int,
  dtype: np.dtype,
) -> Array:
  def draw(draw_key: PRNGKey) -> Array:
    x = stable.sample(draw_key, alpha, (n,), dtype)
    return errors_of_removal(x, removed, p)

  return lax.map(draw, jax.random.split(key, num_draws))


def _host_gaussian_limit(kappa: Any, p: float, dim: int) -> np.ndarray:
  from scipy import special

  a, b = dim / 2, (dim + p) / 2
  # Gamma's quantile, as the distribution function of the other law takes it.
  place = special.gammainccinv(a, kappa.astype(np.float64))
  return special.gammainc(b, place) ** (1 / p)


@functools.partial(jax.jit, static_argnames=('p', 'dim'))
def _gaussian_limit(kappa: Array, p: float, dim: int) -> Array:
  # |theta|^2 / (2 s^2) is Gamma(a); weighted by |theta|^p it is Gamma(b).
  a, b = dim / 2, (dim + p) / 2
  t = _log_gamma_quantile(1 - kappa, a)
  error = root(_gamma_cdf(t + math.log(a / b), b), p)
  return jnp.where(kappa == 1, 0, error)


def _log_gamma_quantile(q: Array, a: float) -> Array:
  """t with P(Gamma(a) <= a e^t) = q, by bisection; a static, a >= 1/2."""
  # Beyond these ends the probability is below 1e-16 or above 1 - 1e-16.
  low = jnp.full_like(q, -40 / a - 9 / math.sqrt(a))
  high = jnp.full_like(q, math.log1p(9 / math.sqrt(a) + 40 / a))

  def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
    low, high = bounds
    middle = (low + high) / 2
    below = _gamma_cdf(middle, a) < q
    return jnp.where(below, middle, low), jnp.where(below, high, middle)

  halvings = 8 + jnp.finfo(q.dtype).nmant
  return lax.fori_loop(0, halvings, halve, (low, high))[0]


def _gamma_cdf(t: Array, a: float) -> Array:
  """P(Gamma(a) <= a e^t), the series x^a e^-x / Gamma(a+1) sum_j x^j / (a+1)_j.

  In terms of t the leading factor is exp(a (t + 1 - e^t)) times a constant of
  a, which keeps the digits that a log x - x - log Gamma(a) cancels in float32.
  """
  constant = math.exp(a * math.log(a) - a - math.lgamma(a + 1))
  x = a * jnp.exp(t)
  eps = jnp.finfo(t.dtype).eps

  def unfinished(state: Any) -> Array:
    _, term, total = state
    return jnp.any(term > eps * total / 4)

  def add(state: Any) -> Any:
    j, term, total = state
    term = term * x / (a + j)
    return j + 1, term, total + term

  start = (jnp.ones((), t.dtype), jnp.ones_like(x), jnp.ones_like(x))
  series = lax.while_loop(unfinished, add, start)[2]
  return jnp.minimum(constant * jnp.exp(a * (t - jnp.expm1(t))) * series, 1)
