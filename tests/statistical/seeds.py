"""Keys and generators of the statistical tests, all shifted by one number.

`HTJAX_TEST_SEED=7 pytest tests/statistical` draws everything afresh. Keys are
arguments of what is compiled, so another number compiles nothing anew.
"""

import os

import jax
import numpy as np

SHIFT = int(os.environ.get('HTJAX_TEST_SEED', '0'))


def seed(number: int) -> int:
  """The number of a test's draws in this run: its own if nothing is shifted."""
  return number + 1_000_003 * SHIFT


def key(number: int, impl: str | None = None) -> jax.Array:
  """A typed key of that number."""
  return jax.random.key(seed(number), impl=impl)


def generator(number: int) -> np.random.Generator:
  """A NumPy generator of that number."""
  return np.random.default_rng(seed(number))
