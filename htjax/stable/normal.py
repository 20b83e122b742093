"""The symmetric stable law of index 2: normal, of variance 2."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from htjax.types import Array

_LOG_PEAK = -0.5 * math.log(4.0 * math.pi)


class Normal(NamedTuple):
  """What `table.Table` is for other alpha."""

  def hidden(self, x: Array) -> 'Normal':
    """This law, which has no numbers of its own."""
    del x
    return self

  def tail(self, x: Array) -> Array:
    """P(X > x), x >= 0."""
    return 0.5 * lax.erfc(0.5 * x)

  def pdf(self, x: Array) -> Array:
    """Density at x >= 0."""
    return jnp.exp(self.log_density(x))

  def log_density(self, x: Array) -> Array:
    """Its logarithm at x >= 0."""
    return _LOG_PEAK - 0.25 * x * x

  def quantile(self, excess: Array, tail: Array) -> Array:
    """The x >= 0 with P(0 < X < x) = excess and P(X > x) = tail."""
    near = 2.0 * lax.erf_inv(2.0 * jnp.minimum(excess, 0.25))
    far = -math.sqrt(2.0) * jax.scipy.special.ndtri(tail)
    return jnp.where(excess < 0.25, near, far)
