"""A noise scale in units of the weights that are there and the steps planned.

K steps of noise, sigma eta_t^(1/alpha) each, add up to the scale
sigma (sum_t eta_t)^(1/alpha) on every weight, whatever the schedule. It is r
times the root mean square c / sqrt(p) of a unit's p weights at the start for

  sigma = r c / (sqrt(p) (sum_t eta_t)^(1/alpha)).

Momentum changes nothing in this: noise is added behind the optimizer, whose
running sum holds gradients alone, so that increments add up as they fell. What
momentum changes is how soon the gradients undo them: against a curvature h the
noise of old steps fades like exp(-eta h k / (1 - momentum)) after k more. r is
therefore what noise amounts to in directions that the loss does not see, and
more than that in no direction.

r is a share of a unit's weights, not of its output. Against inputs whose mean
is not zero, as behind a ReLU, a shift that a unit's weights share (Type I)
moves the output sqrt(p) times as far as independent noise of the same r.
BatchNorm takes that away where its statistics follow, and not where they are
fixed.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from htjax import units as _units
from htjax.checks import check_range, is_concrete
from htjax.rounding import widened
from htjax.schedules import ScalarOrSchedule, at
from htjax.types import Array, ArrayLike


def check_num_steps(num_steps: Any) -> None:
  """Raise unless it is a whole number >= 1, of any numeric type, or traced."""
  if num_steps is None:
    raise ValueError(
      'num_steps must be given with relative: the steps planned, over which '
      'the noise adds up; got None'
    )
  check_range('num_steps', num_steps, 1, np.inf, open_high=True)
  if is_concrete(num_steps) and np.asarray(num_steps) % 1 != 0:
    raise ValueError(f'num_steps must be a whole number, got {num_steps}')


def time_shares(
  learning_rate: ScalarOrSchedule, num_steps: Any
) -> Callable[[ArrayLike], Any]:
  """eta_t / (sum of eta over the planned steps), as a function of the step.

  Args:
    learning_rate: a number or a schedule.
    num_steps: K, a number; traced only if the learning rate is one.

  Returns:
    A function, 0 wherever eta_t is. A constant rate gives 1 / K.

  Raises:
    ValueError: a schedule that is negative somewhere, or that is 0 throughout;
      a traced K with a schedule.
  """
  if not callable(learning_rate):
    # The rate itself, be it traced and another at each step, cancels.
    return lambda count: jnp.where(
      jnp.asarray(learning_rate) > 0, 1.0 / num_steps, 0.0
    )
  if not is_concrete(num_steps):
    raise ValueError(
      'num_steps must not be traced where learning_rate is a schedule; '
      "optax.inject_hyperparams leaves it alone with static_args=('num_steps',)"
    )
  with jax.ensure_compile_time_eval():
    rates = jax.vmap(learning_rate)(jnp.arange(int(num_steps)))
    total = jnp.sum(rates)
  check_range('learning_rate', rates, 0.0, np.inf, open_high=True)
  check_range('the sum of learning_rate', total, 0.0, np.inf, open_low=True)
  return lambda count: at(learning_rate, count) / total


def sizes(
  leaves: list[Array], reached: list[_units.Target | None], unit: str
) -> tuple[Array, ...]:
  """Root mean square of each unit's weights, of the leaves that are reached.

  Args:
    leaves: arrays.
    reached: where noise goes, for each leaf.
    unit: 'filter' or 'kernel'.

  Returns:
    For each leaf that is reached c / sqrt(p), of size 1 along the axes of a
    unit's vector; over the chosen entries alone where they are chosen one by
    one. 0 for a unit of zeros.
  """
  return tuple(
    _size(widened(leaf), target, target.leaf.vector_axes(unit))
    for leaf, target in zip(leaves, reached, strict=True)
    if target is not None
  )


def _size(leaf: Array, target: _units.Target, axes: tuple[int, ...]) -> Array:
  chosen = jnp.broadcast_to(target.flag, leaf.shape)
  weights = jnp.where(chosen, leaf, 0)
  # Numbers of a typical size, so that no square leaves the range.
  peak = jnp.max(jnp.abs(weights), axis=axes, keepdims=True, initial=0.0)
  scaled = weights / jnp.where(peak == 0, 1, peak)
  square = jnp.sum(scaled**2, axis=axes, keepdims=True)
  num = jnp.sum(chosen, axis=axes, keepdims=True, dtype=leaf.dtype)
  return peak * jnp.sqrt(square / jnp.maximum(num, 1))
