"""Arrays that lie in parts on the devices of a mesh: places, sums, a sort.

What is given to these functions holds `htjax.host.is_spread` and is not moved.
Kernels see one part; what they send is said where they are.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from htjax.host import Working, on_host
from htjax.types import Array

Axes = tuple[str, ...]


def layout(x: Array) -> tuple[Mesh, PartitionSpec]:
  """The mesh of an array, and which of its axes split which axis."""
  sharding: Any = x.sharding
  entries = (*sharding.spec, *(None,) * (x.ndim - len(sharding.spec)))
  return sharding.mesh, PartitionSpec(*entries)


def axes_of(entry: Any) -> Axes:
  """Names of the axes of a mesh in a part of a PartitionSpec, or in all."""
  if entry is None:
    return ()
  if isinstance(entry, str):
    return (entry,)
  return tuple(name for part in entry for name in axes_of(part))


def on_parts(
  kernel: Callable[..., Any],
  mesh: Mesh,
  spec: PartitionSpec,
  x: Array,
  *others: Any,
  result: PartitionSpec | None = None,
) -> Any:
  """Run a kernel on the part of x that each device has.

  Args:
    kernel: (part, *others) -> pytree of arrays.
    mesh: of x.
    spec: of x, an entry for each axis.
    x: spread over the mesh.
    *others: arrays, whole on each device.
    result: how the result is spread; None says that all devices have the same.
  """
  whole = PartitionSpec()
  return jax.shard_map(
    kernel,
    mesh=mesh,
    in_specs=(spec, *(whole for _ in others)),
    out_specs=whole if result is None else result,
    check_vma=False,
  )(x, *others)


def here(tree: Any) -> Any:
  """Results that all devices have, on one of each host.

  Args:
    tree: of arrays; they become those of NumPy where that is to do the work.
  """

  def one(x: Array) -> Working:
    own: Any = x.addressable_data(0)
    working: Any = np.asarray(own) if on_host(own) else own
    return working

  return jax.tree.map(one, tree)


def places(part: Array, spec: PartitionSpec) -> Array:
  """In a kernel: row-major places of a part's entries in the whole.

  Args:
    part: of an array that is split by `spec`, an entry for each axis.
    spec: of that array.

  Returns:
    Integers of the part's shape, ascending in row-major order.
  """
  integer = jnp.int64 if jax.config.read('jax_enable_x64') else jnp.int32
  found, step = jnp.zeros(part.shape, integer), 1
  for axis in reversed(range(part.ndim)):
    names, own = axes_of(spec[axis]), part.shape[axis]
    first = own * lax.axis_index(names) if names else 0
    at = lax.broadcasted_iota(integer, part.shape, axis) + first
    found, step = found + step * at, step * own * _num(names)
  return found


def _num(names: Axes) -> int:
  """Number of devices along axes of the mesh, in a kernel."""
  return int(np.prod([lax.axis_size(name) for name in names], dtype=int))


def sums(values: Array, segment: Array, num: int, names: Axes) -> Array:
  """In a kernel: sums over segments that may lie on several devices.

  Args:
    values: [n, ..].
    segment: [n], ascending integers, of each row; those from `num` on are left
      out.
    num: of segments.
    names: axes of the mesh over which rows are split.

  Returns:
    [num, ..], the same on all devices along these axes; so many are sent.
  """
  own = jax.ops.segment_sum(
    values, segment, num_segments=num, indices_are_sorted=True
  )
  return lax.psum(own, names)


def descending(x: Array) -> Array:
  """The sorted |x|, largest first: [x.size], split as evenly as x.

  No device has more than two parts at a time. The parts are merged pairwise,
  along a network that sorts them, in about log2(parts)^2 / 2 rounds; in each a
  device sends its part to one other.

  Args:
    x: floating, spread over a mesh, without NaN.
  """
  return _descending(x, *layout(x))


@functools.partial(jax.jit, static_argnames=('mesh', 'spec'))
def _descending(x: Array, mesh: Mesh, spec: PartitionSpec) -> Array:
  names = axes_of(spec)
  num = math.prod(mesh.shape[name] for name in names)
  rounds = _rounds(num)

  def kernel(part: Array) -> Array:
    own, me = jnp.sort(jnp.abs(part.reshape(-1))), lax.axis_index(names)
    for pairs in rounds:
      both = [(b, a) for a, b in pairs] + pairs
      # A part meets itself where it has no partner, and stays.
      both += [(i, i) for i in set(range(num)) - {a for a, _ in both}]
      partner = np.zeros(num, np.int32)
      for source, target in both:
        partner[target] = source
      other = jnp.asarray(partner)[me]
      merged = jnp.sort(jnp.concatenate([own, lax.ppermute(own, names, both)]))
      low, high = jnp.split(merged, 2)
      own = jnp.where(me < other, high, jnp.where(me > other, low, own))
    return own[::-1]

  return on_parts(kernel, mesh, spec, x, result=PartitionSpec(names))


def _rounds(num: int) -> list[list[tuple[int, int]]]:
  """Batcher's merge exchange: pairs (a, b), a < b, that meet in each round."""
  found = []
  top = 1 << max(0, (num - 1).bit_length() - 1)
  p = top
  while p > 0 and num > 1:
    q, r, d = top, 0, p
    while True:
      found.append([(i, i + d) for i in range(num - d) if i & p == r])
      if q == p:
        break
      d, q, r = q - p, q >> 1, p
    p >>= 1
  return [pairs for pairs in found if pairs]
