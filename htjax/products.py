"""Products of matrices in the precision of their arrays, on every device.

GPUs and TPUs may multiply float32 matrices with 8 to 11 bits of a factor unless
they are told otherwise. A network is trained well by that; a norm that enters a
bound, or the distance of two particle systems, is wrong in its third digit.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec('P')
R = TypeVar('R')


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
  """Make all products inside, also those of functions that it is given.

  Args:
    function: traced or run eagerly.

  Returns:
    The function, under `jax.default_matmul_precision('highest')`.
  """

  @functools.wraps(function)
  def call(*args: P.args, **kwargs: P.kwargs) -> R:
    with jax.default_matmul_precision('highest'):
      return function(*args, **kwargs)

  return call
