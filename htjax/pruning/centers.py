"""The medians that are taken from a layer before it is pruned."""

import jax.numpy as jnp

from htjax.checks import check_choice
from htjax.compressibility import median
from htjax.types import Array

PROTOCOLS = ('paper', 'authors')

# Axes of [..., fan_in, fan_out] over which the authors' programs take medians,
# by what is pruned; where nothing is listed, over all.
_AUTHORS_AXES = {
  # One median for each position in the kernel.
  'kernels': (-2, -1),
  # One for each output.
  'rows': (-2,),
  # One for each input, and position in the kernel.
  'singular_values': (-1,),
}


def check_center(center: str | None, protocol: str = 'paper') -> None:
  """Raise unless both are names that are known."""
  if center is not None:
    check_choice('center', center, ('median',))
  check_choice('protocol', protocol, PROTOCOLS)


def find_center(
  leaf: Array, center: str | None, protocol: str, unit: str
) -> Array:
  """The center to subtract from a leaf before pruning, and to add back after.

  Args:
    leaf: [..., fan_in, fan_out], float32 or float64.
    center: 'median', or None for zero.
    protocol: 'paper', the median of the layer, or 'authors'.
    unit: what is pruned.

  Returns:
    Array broadcastable to the leaf, of its rank.
  """
  ones = (1,) * leaf.ndim
  if center is None:
    return jnp.zeros(ones, leaf.dtype)
  axes = _AUTHORS_AXES.get(unit)
  if protocol == 'paper' or axes is None:
    return median(leaf).reshape(ones)
  if unit == 'rows' and leaf.ndim > 2:
    axes = (*range(leaf.ndim - 2), *axes)
  return jnp.median(leaf, axis=axes, keepdims=True)


def stored_medians(
  center: str | None, protocol: str, pruned: list[Array]
) -> Array:
  """Number of numbers that the medians add to what is stored.

  One for each layer that lost something. The authors' programs count none.
  """
  if center is None or protocol == 'authors':
    return jnp.int32(0)
  return jnp.sum(jnp.stack(pruned), dtype=jnp.int32)
