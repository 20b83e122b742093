"""Arguments of distribution functions: float64 on the host."""

import math
from typing import Any

import numpy as np

from htjax.checks import (
  check_number,
  check_range,
  check_real,
  is_concrete,
)


def numbers(name: str, value: Any) -> np.ndarray:
  """`value` as float64 of its shape, or a ValueError that names it."""
  if not is_concrete(value):
    raise ValueError(
      f'{name} must be concrete: these functions are evaluated on the host, '
      'outside jit and vmap'
    )
  check_real(name, value)
  return np.asarray(value).astype(np.float64)


def parameter(
  name: str,
  value: Any,
  low: float = -math.inf,
  high: float = math.inf,
  *,
  open_low: bool = False,
  open_high: bool = False,
) -> float:
  """`value` as one float in an interval, or a ValueError that names it."""
  array = numbers(name, value)
  check_number(name, value)
  check_range(name, array, low, high, open_low=open_low, open_high=open_high)
  return float(array)


def positive(name: str, value: Any) -> float:
  """`value` as one float above 0 and finite."""
  return parameter(name, value, 0, math.inf, open_low=True, open_high=True)


def probabilities(name: str, value: Any) -> np.ndarray:
  """`value` as float64 in [0, 1]."""
  array = numbers(name, value)
  check_range(name, array, 0.0, 1.0)
  return array
