"""Arguments of the functions on weights: real, not empty, fractions."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from htjax.checks import check_range, checked
from htjax.compressibility.counts import AllBut, Kept, kept_fraction
from htjax.floats import as_working
from htjax.host import Working, on_host, to_device
from htjax.types import Array, ArrayLike


@checked
def check_matrix(name: str, matrix: ArrayLike) -> Array:
  """Return `matrix` as floating, or raise if it has no columns to speak of.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import compressibility
    >>> compressibility.check_matrix('matrix', jnp.ones((3, 2))).shape
    (3, 2)
  """
  return jnp.asarray(columns_of(name, matrix))


def columns_of(name: str, matrix: ArrayLike) -> Working:
  """`check_matrix`, of NumPy where that is to do the work."""
  array = nonempty(name, matrix)
  if array.ndim < 2:
    raise ValueError(
      f'{name} must be [..., n] of rank 2 or more, one column per index of the '
      f'last axis, got shape {array.shape}'
    )
  return array


@checked
def check_order(p: Any) -> None:
  """Raise unless `p` is a finite positive Python number.

  Examples:
    >>> from htjax import compressibility
    >>> compressibility.check_order(2)  # raises unless in (0, inf)
  """
  if (
    isinstance(p, bool)
    or not isinstance(p, int | float | np.number)
    or not 0 < p < math.inf
  ):
    raise ValueError(f'p must be a static number in (0, inf), got {p!r}')


@checked
def check_kappa(kappa: Kept) -> None:
  """Raise if a concrete kept fraction is not in (0, 1].

  Examples:
    >>> from htjax import compressibility
    >>> compressibility.check_kappa(0.5)  # raises outside (0, 1]
  """
  if isinstance(kappa, AllBut):
    check_range('the share of AllBut', kappa.share, 0.0, 1.0, open_high=True)
  else:
    check_range('kappa', kappa, 0.0, 1.0, open_low=True)


def nonempty(name: str, x: ArrayLike) -> Working:
  """Return `x` as floating, or raise if it has no entries.

  It is an array of NumPy where that is to do the work.
  """
  array = as_working(name, x)
  if array.size == 0:
    raise ValueError(f'{name} must not be empty, got shape {array.shape}')
  return array


def or_nan(value: Array, fraction: Kept) -> Array:
  """NaN where a fraction, known only at run time, is not in [0, 1]."""
  fraction = kept_fraction(fraction)
  if on_host(value, fraction):
    inside = (np.asarray(fraction) >= 0) & (np.asarray(fraction) <= 1)
    return (
      value
      if np.all(inside)
      else to_device(np.where(inside, value, np.nan), value.dtype)
    )
  fraction = jnp.asarray(fraction)
  return jnp.where((fraction >= 0) & (fraction <= 1), value, jnp.nan)
