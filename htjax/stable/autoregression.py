"""Dependent stable draws: a stationary autoregression."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax.checks import (
  check_count,
  check_floating,
  check_key,
  check_number,
  check_range,
  checked,
)
from htjax.stable.draws import sample
from htjax.types import Array, ArrayLike, PRNGKey


@checked
def autoregression(
  key: PRNGKey,
  alpha: ArrayLike,
  coefficient: ArrayLike,
  num_steps: int,
  shape: Sequence[int] = (),
  dtype: jax.typing.DTypeLike = jnp.float32,
) -> Array:
  """A stationary ergodic sequence whose every member has the unit stable law.

  X_t = c X_(t-1) + (1 - |c|^alpha)^(1/alpha) Z_t with independent Z_t and X_0
  of the law itself: entries that depend on each other, for which the limits of
  compression errors are those of independent ones.

  Args:
    key: typed key.
    alpha: tail index in (0, 2], traced, one number.
    coefficient: c in (-1, 1), traced, one number.
    num_steps: length of the sequence, static.
    shape: of independent sequences, static.
    dtype: float32 or float64.

  Returns:
    Array [num_steps, *shape].

  Raises:
    ValueError: concrete numbers out of range, a bad key, shape or dtype.

  Values: traced numbers out of range give NaN.

  Source: [HT], section 3.3 (ergodic entries).

  Examples:
    >>> import jax
    >>> from htjax import stable
    >>> x = stable.autoregression(jax.random.key(0), 1.5, 0.9, 100, (3,))
    >>> x.shape
    (100, 3)
  """
  key = check_key(key)
  for name, value in (('alpha', alpha), ('coefficient', coefficient)):
    check_number(name, value)
  check_range('alpha', alpha, 0.0, 2.0, open_low=True)
  check_range(
    'coefficient', coefficient, -1.0, 1.0, open_low=True, open_high=True
  )
  check_count('num_steps', num_steps)
  sides = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
  dtype = check_floating('dtype', dtype)
  law = jnp.asarray(alpha, dtype), jnp.asarray(coefficient, dtype)
  return _autoregression(key, *law, (num_steps, *sides))


@functools.partial(jax.jit, static_argnums=3)
def _autoregression(
  key: PRNGKey, alpha: Array, coefficient: Array, shape: tuple[int, ...]
) -> Array:
  draws = sample(key, alpha, shape, alpha.dtype)
  possible = jnp.abs(coefficient) < 1
  rest = (1 - jnp.abs(coefficient) ** alpha) ** (1 / alpha)
  rest = jnp.where(possible, rest, jnp.nan)

  def step(x: Array, z: Array) -> tuple[Array, Array]:
    x = coefficient * x + rest * z
    return x, x

  first = draws[0]
  _, others = lax.scan(step, first, draws[1:])
  return jnp.concatenate([first[None], others])
