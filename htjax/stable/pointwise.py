"""The symmetric stable law by an integral for every point, alpha of any kind.

What `table.Table` is for one known alpha, a hundred times as slow.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from htjax.stable import integrals
from htjax.types import Array

_BLOCK = 1024


class Pointwise(NamedTuple):
  """Laws of unit scale, x >= 0; alpha of the shape of x."""

  alpha: Array

  def tail(self, x: Array) -> Array:
    """P(X > x), x >= 0."""
    return _tail(x, _hidden(self.alpha, x))

  def pdf(self, x: Array) -> Array:
    """Density at x >= 0."""
    return jnp.exp(self.log_density(x))

  def log_density(self, x: Array) -> Array:
    """Its logarithm at x >= 0."""
    return _log_density(x, _hidden(self.alpha, x))

  def quantile(self, excess: Array, tail: Array) -> Array:
    """The x >= 0 with P(0 < X < x) = excess and P(X > x) = tail."""
    alpha = _hidden(self.alpha, excess)
    flat = lax.map(
      lambda point: _solve(*point),
      (excess.ravel(), tail.ravel(), alpha.ravel()),
      batch_size=_BLOCK,
    )
    return flat.reshape(excess.shape) + 0.0 * alpha


def _hidden(alpha: Array, x: Array) -> Array:
  """alpha, NaN where impossible.

  The maximum changes nothing. It hides constants from the compiler, which would
  fold them into others, with other roundings than where they are arguments.
  """
  alpha = jnp.maximum(alpha, -jnp.abs(lax.stop_gradient(x)))
  possible = (alpha >= integrals.LOW) & (alpha <= 2.0)
  return jnp.where(possible, alpha, jnp.nan)


def _choose(
  x: Array, alpha: Array, near: Array, far: Array, positive: Array
) -> Array:
  """The form that is precise at (x, alpha); NaN and infinity come through."""
  outside = jnp.where(alpha < integrals.GAUSSIAN, far, positive)
  return jnp.where(x < integrals.NEAR, near, outside) + 0.0 * alpha


def _elementwise(
  kernel: Callable[[Array, Array], Array],
) -> Callable[[Array, Array], Array]:
  """Map a scalar kernel over arrays of one shape, block by block.

  Both partial derivatives are taken in forward mode where the value is, so
  that reverse mode keeps two numbers per point and not one per node.
  """

  def mapped(function: Callable, x: Array, alpha: Array) -> Any:
    def one(pair: tuple[Array, Array]) -> Any:
      return function(*pair)

    flat = lax.map(one, (x.ravel(), alpha.ravel()), batch_size=_BLOCK)
    return jax.tree.map(lambda a: a.reshape(x.shape), flat)

  def with_partials(x: Array, alpha: Array) -> tuple[Array, Array, Array]:
    value, by_x = jax.jvp(lambda x: kernel(x, alpha), (x,), (jnp.ones_like(x),))
    # At alpha = 2 the power tail leaves the integral, but its derivative stays.
    below = jnp.minimum(alpha, 2.0 - 64.0 * jnp.finfo(alpha.dtype).eps)
    _, by_alpha = jax.jvp(
      lambda a: kernel(x, a), (below,), (jnp.ones_like(alpha),)
    )
    return value, by_x, by_alpha

  @jax.custom_jvp
  def function(x: Array, alpha: Array) -> Array:
    return mapped(kernel, x, alpha)

  @function.defjvp
  def _(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
  ) -> tuple[Array, Array]:
    value, by_x, by_alpha = mapped(with_partials, *primals)
    return value, by_x * tangents[0] + by_alpha * tangents[1]

  return jax.jit(function)


def _limits(x: Array, alpha: Array) -> tuple[tuple[Array, Array], ...]:
  """Arguments that each form can take, whichever of them is chosen."""
  # Selections, because the derivative of a minimum at a tie is one half.
  outside = jnp.clip(x, None, jnp.finfo(x.dtype).max)
  outside = jnp.where(x < integrals.NEAR, integrals.NEAR, outside)
  return (
    (jnp.where(x < integrals.NEAR, x, integrals.NEAR), alpha),
    (outside, jnp.where(alpha < integrals.GAUSSIAN, alpha, integrals.GAUSSIAN)),
    (outside, jnp.where(alpha < integrals.GAUSSIAN, integrals.GAUSSIAN, alpha)),
  )


def _tail_kernel(
  x: Float[Array, ''], alpha: Float[Array, '']
) -> Float[Array, '']:
  near, far, positive = _limits(x, alpha)
  tail = _choose(
    x,
    alpha,
    0.5 - integrals.near(*near, jnp)[0],
    integrals.far(*far, jnp)[0],
    jnp.exp(integrals.log_positive(*positive, jnp)[0]),
  )
  return jnp.where(x == jnp.inf, 0.0 * alpha, tail + 0.0 * x)


def _log_density_kernel(
  x: Float[Array, ''], alpha: Float[Array, '']
) -> Float[Array, '']:
  near, far, positive = _limits(x, alpha)
  value = _choose(
    x,
    alpha,
    jnp.log(integrals.near(*near, jnp)[1]),
    jnp.log(integrals.far(*far, jnp)[1]),
    integrals.log_positive(*positive, jnp)[1],
  )
  return jnp.where(x == jnp.inf, -jnp.inf + 0.0 * alpha, value + 0.0 * x)


_tail = _elementwise(_tail_kernel)
_log_density = _elementwise(_log_density_kernel)


# Count, log x, its bracket, and the last move.
_Search = tuple[int, Array, Array, Array, Array]


def _solve(
  excess: Float[Array, ''], tail: Float[Array, ''], alpha: Float[Array, '']
) -> Float[Array, '']:
  """The x >= 0 with P(0 < X < x) = excess and P(X > x) = tail, scalars.

  Newton's method on log x: for P(0 < X < x) near 0, where that has the
  digits, and for log P(X > x) beyond, which is nearly linear there.
  """
  tiny = jnp.finfo(excess.dtype).tiny
  log_peak = jax.scipy.special.gammaln(1.0 + 1.0 / alpha) - math.log(math.pi)
  # The density is largest at 0, and x^alpha P(X > x) is always below 2.
  low = jnp.log(jnp.maximum(excess, tiny)) - log_peak
  high = jnp.maximum(jnp.log(2.0 / jnp.maximum(tail, tiny)) / alpha, low)

  def step(carry: _Search) -> _Search:
    i, z, low, high, _ = carry
    x = jnp.exp(z)
    slope = x * jnp.exp(_log_density_kernel(x, alpha))
    inner, _ = integrals.near(jnp.minimum(x, integrals.NEAR), alpha, jnp)
    p = _tail_kernel(x, alpha)
    is_near = x < integrals.NEAR
    too_low = jnp.where(is_near, inner < excess, p > tail)
    move = jnp.where(
      is_near,
      (excess - inner) / slope,
      (jnp.log(p) - jnp.log(tail)) * p / slope,
    )
    low, high = jnp.where(too_low, z, low), jnp.where(too_low, high, z)
    new = z + move
    inside = (new >= low) & (new <= high)
    new = jnp.where(inside, new, 0.5 * (low + high))
    return i + 1, new, low, high, jnp.abs(new - z)

  def go_on(carry: _Search) -> Array:
    i, _, _, _, moved = carry
    return (i < 60) & (moved > 16.0 * jnp.finfo(excess.dtype).eps)

  first = jnp.where(excess < 0.2, low, high)
  start = (0, first, low, high, jnp.full_like(excess, jnp.inf))
  x = jnp.exp(lax.while_loop(go_on, step, start)[1])
  return jnp.where(excess <= 0.0, 0.0, jnp.where(tail <= 0.0, jnp.inf, x))
