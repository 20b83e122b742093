"""Arithmetic on natural logarithms, which neither overflows nor fails at 0."""

import math

import numpy as np


def log(value: float) -> float:
  """Natural logarithm, -inf at 0."""
  return math.log(value) if value > 0 else -math.inf


def exp(value: float) -> float:
  """Exponential, infinite where it overflows."""
  return math.exp(value) if value < 709.78 else math.inf


def power(base: float, exponent: float) -> float:
  """base^exponent of a base > 0, infinite where it overflows."""
  try:
    return base**exponent
  except OverflowError:
    return math.inf


def log_sum(values: np.ndarray) -> float:
  """Logarithm of the sum of exp(values)."""
  return float(np.logaddexp.reduce(values))


def log_product(values: np.ndarray) -> float:
  """Logarithm of a product of numbers >= 0, -inf if one is 0."""
  return -math.inf if np.any(values == 0) else float(np.sum(np.log(values)))


def binary_entropy_nats(kappa: float) -> float:
  """h_b = -kappa ln kappa - (1 - kappa) ln(1 - kappa), in nats."""
  return -sum(q * math.log(q) for q in (kappa, 1 - kappa) if q > 0)
