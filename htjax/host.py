"""Whether an eager call is worked on by NumPy, and the way there and back.

On CPU the sorts, partitions and searches of XLA take many times those of NumPy,
and need a program for each shape. What is traced, lies on an accelerator or is
spread over devices or hosts stays where it is.
"""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import numpy as np

from htjax.types import Array

if TYPE_CHECKING:
  # Of NumPy where `on_host` holds, else of JAX. Only what both have is used.
  Working = Array
else:
  Working = Any

T = TypeVar('T')

# Entries that are worked on at a time: they and what is made of them stay in
# the cache of a core.
_CHUNK = 1 << 17


def on_host(*arrays: Any) -> bool:
  """Whether NumPy is to do the work: all is concrete and lies on the CPU.

  Args:
    *arrays: arrays of JAX or NumPy, numbers, lists or None.
  """
  return jax.default_backend() == 'cpu' and all(map(_is_host, arrays))


def is_spread(*arrays: Any) -> bool:
  """Whether one of them lies in parts on several devices, and is concrete."""
  return any(
    isinstance(x, jax.Array)
    and not isinstance(x, jax.core.Tracer)
    and not x.is_fully_replicated
    for x in arrays
  )


def placed_freely(x: Array) -> Array:
  """An array whose mesh leaves shardings of results to the compiler.

  A mesh of `jax.make_mesh` has axes that refuse many a reshape.

  Args:
    x: spread over devices; nothing moves.
  """
  sharding = x.sharding
  if not isinstance(sharding, jax.NamedSharding):
    return x
  mesh = jax.sharding.Mesh(sharding.mesh.devices, sharding.mesh.axis_names)
  return jax.device_put(x, jax.NamedSharding(mesh, sharding.spec))


def to_device(x: Any, dtype: Any = None) -> Array:
  """An array of JAX that no computation has made: NaN in it is no fault."""
  return jax.device_put(np.asarray(x, dtype))


def to_cpu(tree: T) -> T:
  """Arrays on the CPU, where programs that meet them run.

  For searches of many small steps, which an accelerator's compiler takes long
  for, or gives up. Nothing moves where the CPU is the default, or is left out
  by `JAX_PLATFORMS`.

  Args:
    tree: pytree of concrete arrays.
  """
  if jax.default_backend() == 'cpu':
    return tree
  try:
    return jax.device_put(tree, jax.local_devices(backend='cpu')[0])
  except RuntimeError:
    return tree


def chunks(size: int, row: int = 1) -> Iterator[slice]:
  """Slices that cover `size` rows of `row` entries, each of a cache's size."""
  step = max(1, _CHUNK // max(row, 1))
  return (slice(i, min(i + step, size)) for i in range(0, size, step))


def median(x: Any) -> np.ndarray:
  """Medians over the last axis; NaN ranks highest."""
  size = x.shape[-1]
  low, high = (size - 1) // 2, size // 2

  def middle(part: Any) -> np.ndarray:
    parts = np.partition(part, sorted({low, high}), axis=-1)
    return parts[..., low] / 2 + parts[..., high] / 2

  if x.ndim != 2:
    return middle(x)
  # Row by row: a partition is a copy.
  return np.concatenate([middle(x[part]) for part in chunks(*x.shape)])


def sum_of_squares(x: Any) -> Any:
  """Of [n] that lies in the cache, where threads wait longer than they work."""
  return np.einsum('i,i->', x, x)


def top(x: Any, count: int) -> np.ndarray:
  """The `count` largest numbers of [n], in descending order."""
  rest = x.size - count
  return np.sort(np.partition(x, rest)[rest:] if rest else x)[::-1]


def is_extreme(arrays: Sequence[Any], reach: int) -> bool:
  """Whether their peak is outside 2^-reach..2^reach, or a number subnormal.

  Zeros, and arrays with NaN or infinity, are not extreme.
  """
  tiny = np.finfo(arrays[0].dtype).tiny
  peak, subnormal = 0.0, False
  for x in arrays:
    flat = np.asarray(x).reshape(-1)
    for part in chunks(flat.size):
      size = np.abs(flat[part])
      peak = np.maximum(peak, np.max(size))
      if np.min(size) < tiny:
        subnormal |= bool(np.any((size > 0) & (size < tiny)))
  if not np.isfinite(peak):
    return False
  return subnormal or bool(peak > 0 and abs(math.frexp(peak)[1] - 1) > reach)


def _is_host(x: Any) -> bool:
  if isinstance(x, jax.core.Tracer):
    return False
  if isinstance(x, jax.Array):
    devices: Any = x.sharding.device_set
    platforms = {d.platform for d in devices}
    whole = x.is_fully_addressable and x.is_fully_replicated
    return whole and platforms == {'cpu'}
  return not hasattr(x, '__jax_array__')
