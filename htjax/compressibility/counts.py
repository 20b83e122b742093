"""Number of things that a kept fraction stands for."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from htjax.checks import check_choice, checked, is_concrete
from htjax.types import ArrayLike

ROUNDINGS = ('ceil', 'floor')


class AllBut(NamedTuple):
  """A kept fraction given as the share that goes, kappa = 1 - share.

  1 - share loses digits: of 5,000 columns, float32 keeps 501 at a share of 0.9
  that is known only at run time. Of the share itself the count is right:
  `pruning.columns(params, AllBut(0.9))`.

  Attributes:
    share: pruned fraction in [0, 1), traced.
  """

  share: ArrayLike


Kept = ArrayLike | AllBut


def kept_fraction(kappa: Kept) -> ArrayLike:
  """The kept fraction as a number, to be looked at but not counted with."""
  return 1 - kappa.share if isinstance(kappa, AllBut) else kappa


@checked
def kept_count(kappa: Kept, size: int, rounding: str = 'ceil') -> Any:
  """Number of `size` things that the kept fraction kappa stands for.

  Args:
    kappa: in [0, 1], any shape, or `AllBut` the share in [0, 1] that goes.
      Concrete numbers are counted in their own precision (a Python float in
      float64), traced ones in theirs.
    size: static. A float32 kappa tells at most 2^24 counts apart.
    rounding: 'ceil' or 'floor' of kappa * size. Products within two roundings
      of an integer are that integer, so that 0.1 of 10 is 1 and 0.29 of 100 is
      29 either way.

  Returns:
    int32 array of kappa's shape; meaningless where kappa is not in [0, 1].

  Raises:
    ValueError: unknown rounding.

  Examples:
    >>> from htjax import compressibility
    >>> int(compressibility.kept_count(0.25, 10))
    3
    >>> int(compressibility.kept_count(0.25, 10, 'floor'))
    2
  """
  check_choice('rounding', rounding, ROUNDINGS)
  if isinstance(kappa, AllBut):
    return size - _count(kappa.share, size, up=rounding == 'floor')
  return _count(kappa, size, up=rounding == 'ceil')


def _count(share: ArrayLike, size: int, up: bool) -> Any:
  xp: Any = np if is_concrete(share) else jnp
  fraction = xp.asarray(share)
  if not jnp.issubdtype(fraction.dtype, jnp.floating):
    fraction = fraction.astype(float)
  precision = float(jnp.finfo(fraction.dtype).eps)
  if fraction.dtype.itemsize < 4:
    fraction = fraction.astype(np.float32)
  exact = fraction * size
  nearest = xp.round(exact)
  rounded = xp.ceil(exact) if up else xp.floor(exact)
  near = xp.abs(exact - nearest) <= 2 * precision * exact
  return xp.where(near, nearest, rounded).astype(np.int32)
