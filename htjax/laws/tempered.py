"""One-sided stable laws with an exponentially cut tail, alpha in (0, 1).

Of A with E exp(-sA) = exp(-(scale s)^alpha) the density is multiplied by
exp(-rate x), so that E exp(-sX) =
exp(scale^alpha (rate^alpha - (rate + s)^alpha)) and all moments exist. For
alpha >= 1 a law of one side does not exist, and the two-sided one has no
sampler here.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax import stable
from htjax.checks import (
  check_floating,
  check_key,
  check_range,
  checked,
  is_concrete,
)
from htjax.laws.arguments import numbers, parameter, positive
from htjax.stable.draws import as_shape
from htjax.types import Array, ArrayLike, PRNGKey

__all__ = ['Moments', 'laplace', 'moments', 'sample']

# More pieces than that are a matter of minutes.
_MOST_PIECES = 1e5


class Moments(NamedTuple):
  """Mean and variance, floats."""

  mean: float
  variance: float


@checked
def sample(
  key: PRNGKey,
  alpha: ArrayLike,
  rate: ArrayLike,
  shape: Sequence[int] = (),
  dtype: jax.typing.DTypeLike = jnp.float32,
  *,
  scale: ArrayLike = 1.0,
) -> Array:
  """Exact draws, by rejection of stable ones.

  A stable draw A is taken with probability exp(-rate A), and else drawn again:
  that is the law itself. One in exp((rate scale)^alpha) would be taken, so the
  sum of m = ceil((rate scale)^alpha) independent pieces is drawn instead, each
  a draw of scale m^(-1/alpha), of which at least one in e is taken.

  Args:
    key: typed key.
    alpha: in (0, 1), traced, one number.
    rate: >= 0, traced, one number; 0 is the stable law.
    shape: static.
    dtype: float32 or float64.
    scale: > 0, traced, one number.

  Returns:
    Array of shape `shape`, non-negative and finite.

  Raises:
    ValueError: concrete numbers out of range, or more than 1e5 pieces; a bad
      key, shape or dtype.

  Values: traced numbers out of range give NaN.

  Source: [Hofert2011], algorithm 2.

  Examples:
    >>> import jax
    >>> from htjax import laws
    >>> x = laws.tempered.sample(jax.random.key(0), 0.5, 1.0, (1000,))
    >>> bool((x >= 0).all()), bool(x.max() < 30)
    (True, True)
  """
  key = check_key(key)
  check_range('alpha', alpha, 0.0, 1.0, open_low=True, open_high=True)
  check_range('rate', rate, 0.0, np.inf, open_high=True)
  check_range('scale', scale, 0.0, np.inf, open_low=True, open_high=True)
  if all(map(is_concrete, (alpha, rate, scale))):
    pieces = float(np.asarray(rate) * scale) ** float(np.asarray(alpha))
    if pieces > _MOST_PIECES:
      raise ValueError(
        f'rate must be so that (rate scale)^alpha <= {_MOST_PIECES:g}, got '
        f'{pieces:.3g}'
      )
  sides = as_shape(shape)
  dtype = check_floating('dtype', dtype)
  law = [jnp.asarray(a, dtype) for a in (alpha, rate, scale)]
  return _sample(key, *law, sides, dtype)


@checked
def laplace(
  s: ArrayLike, alpha: float, rate: float, *, scale: float = 1.0
) -> np.ndarray:
  """E exp(-sX) = exp(scale^alpha (rate^alpha - (rate + s)^alpha)).

  Args:
    s: >= 0, any shape.
    alpha: in (0, 1).
    rate: >= 0.
    scale: > 0.

  Returns:
    float64 of s's shape, in (0, 1].

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [Hofert2011], section 1.

  Examples:
    >>> from htjax import laws
    >>> print(f'{laws.tempered.laplace(3.0, 0.5, 1.0):.4f}')  # exp(1 - 2)
    0.3679
  """
  s = numbers('s', s)
  check_range('s', s, 0.0, np.inf)
  alpha, rate, scale = _law(alpha, rate, scale)
  return np.exp(scale**alpha * (rate**alpha - (rate + s) ** alpha))


@checked
def moments(alpha: float, rate: float, *, scale: float = 1.0) -> Moments:
  """Mean and variance, from the first two derivatives of ln `laplace` at 0.

  Args:
    alpha: in (0, 1).
    rate: > 0.
    scale: > 0.

  Returns:
    Moments: scale^alpha alpha rate^(alpha - 1), and
    scale^alpha alpha (1 - alpha) rate^(alpha - 2).

  Raises:
    ValueError: numbers out of range, or traced.

  Source: [Hofert2011], section 1.

  Examples:
    >>> from htjax import laws
    >>> laws.tempered.moments(0.5, 1.0)
    Moments(mean=0.5, variance=0.25)
  """
  alpha, rate, scale = _law(alpha, rate, scale)
  rate = positive('rate', rate)
  mean = scale**alpha * alpha * rate ** (alpha - 1)
  return Moments(mean, mean * (1 - alpha) / rate)


def _law(alpha: float, rate: float, scale: float) -> tuple[float, float, float]:
  return (
    parameter('alpha', alpha, 0, 1, open_low=True, open_high=True),
    parameter('rate', rate, 0, math.inf, open_high=True),
    positive('scale', scale),
  )


@functools.partial(jax.jit, static_argnums=(4, 5))
def _sample(
  key: PRNGKey,
  alpha: Array,
  rate: Array,
  scale: Array,
  shape: tuple[int, ...],
  dtype: np.dtype,
) -> Array:
  possible = (alpha > 0) & (alpha < 1) & (rate >= 0) & (scale > 0)
  possible &= jnp.isfinite(rate) & jnp.isfinite(scale)
  index = jnp.where(possible, alpha, 0.5)
  cut = jnp.where(possible, rate * scale, 0.0)
  pieces = jnp.clip(jnp.ceil(cut**index), 1, _MOST_PIECES)
  size = pieces ** (-1 / index)

  def piece(number: Array, total: Array) -> Array:
    return total + _taken(
      jax.random.fold_in(key, number), index, size, cut, shape, dtype
    )

  zero = jnp.zeros(shape, dtype)
  total = lax.fori_loop(0, pieces.astype(jnp.int32), piece, zero)
  total = jnp.minimum(total * scale, jnp.finfo(dtype).max)
  return jnp.where(possible, total, jnp.nan)


def _taken(
  key: PRNGKey,
  alpha: Array,
  size: Array,
  cut: Array,
  shape: tuple[int, ...],
  dtype: np.dtype,
) -> Array:
  """One piece of each draw: stable ones until every one has been taken."""

  def unfinished(state: Any) -> Array:
    _, _, is_taken = state
    return ~jnp.all(is_taken)

  def draw(state: Any) -> Any:
    trial, x, is_taken = state
    keys = jax.random.split(jax.random.fold_in(key, trial))
    new = size * stable.sample_positive(keys[0], alpha, shape, dtype)
    # -ln of the uniform number that decides.
    cost = jax.random.exponential(keys[1], shape, dtype)
    x = jnp.where(is_taken, x, new)
    return trial + 1, x, is_taken | (cut * new <= cost)

  start = (0, jnp.zeros(shape, dtype), jnp.zeros(shape, bool))
  return lax.while_loop(unfinished, draw, start)[1]
