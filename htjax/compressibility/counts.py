"""How many things a kept fraction stands for."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from htjax.checks import check_choice, is_concrete
from htjax.types import ArrayLike

ROUNDINGS = ('ceil', 'floor')


def kept_count(kappa: ArrayLike, size: int, rounding: str = 'ceil') -> Any:
  """Number of `size` things that the kept fraction kappa stands for.

  Args:
    kappa: in [0, 1], any shape. Concrete numbers are counted in their own
      precision (a Python float in float64), traced ones in theirs.
    size: static. A float32 kappa tells at most 2^24 counts apart.
    rounding: 'ceil' or 'floor' of kappa * size. Products within two roundings
      of an integer are that integer, so that 0.1 of 10 is 1 and 0.29 of 100 is
      29 either way.

  Returns:
    int32 array of kappa's shape; meaningless where kappa is not in [0, 1].

  Raises:
    ValueError: unknown rounding.
  """
  check_choice('rounding', rounding, ROUNDINGS)
  xp: Any = np if is_concrete(kappa) else jnp
  fraction = xp.asarray(kappa)
  if not jnp.issubdtype(fraction.dtype, jnp.floating):
    fraction = fraction.astype(float)
  exact = fraction * size
  nearest = xp.round(exact)
  slack = 2 * jnp.finfo(fraction.dtype).eps * exact
  rounded = xp.ceil(exact) if rounding == 'ceil' else xp.floor(exact)
  count = xp.where(xp.abs(exact - nearest) <= slack, nearest, rounded)
  return count.astype(np.int32)
