"""Numbers that are functions of the step count, as optax has them."""

from collections.abc import Callable
from typing import Any

from htjax.types import ArrayLike

ScalarOrSchedule = ArrayLike | Callable[[ArrayLike], ArrayLike]


def at(value: Any, count: ArrayLike) -> Any:
  """The value of a number or schedule at a step.

  Args:
    value: a number, or a function of the step count.
    count: updates made before this one.

  Returns:
    The number.
  """
  return value(count) if callable(value) else value
