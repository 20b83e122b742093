"""Several hosts that run one program: what they must see alike.

Each host holds some of the devices and runs the same Python. What decides how
a program goes on (a clock, a file, a value read off an array) is looked at on
one host, or gathered, and here is where. With one host nothing is done.
"""

import pickle
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from htjax.types import PyTree


def from_first(value: Any) -> Any:
  """The first host's value, on all of them; anything that can be pickled."""
  if jax.process_count() == 1:
    return value
  from jax.experimental import multihost_utils

  is_first = jax.process_index() == 0
  data = np.frombuffer(pickle.dumps(value) if is_first else b'', np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
  sent = data if is_first else np.zeros(size, np.uint8)
  return pickle.loads(multihost_utils.broadcast_one_to_all(sent).tobytes())


def from_each(value: Any) -> list[Any]:
  """The values of all hosts, in their order; anything that can be pickled."""
  if jax.process_count() == 1:
    return [value]
  from jax.experimental import multihost_utils

  data = np.frombuffer(pickle.dumps(value), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(len(data)))
  padded = np.zeros(max(sizes), np.uint8)
  padded[: len(data)] = data
  every = multihost_utils.process_allgather(padded)
  return [
    pickle.loads(row[:size].tobytes())
    for row, size in zip(every, sizes, strict=True)
  ]


def local(tree: PyTree) -> PyTree:
  """Arrays whose shards lie on several hosts, whole on each of them.

  Arrays that this host has whole are given back as they are. All hosts must
  call it, with arrays that are sharded alike.
  """
  return jax.tree.map(_local, tree)


def _local(array: Any) -> Any:
  if not isinstance(array, jax.Array) or array.is_fully_addressable:
    return array
  if not array.is_fully_replicated:
    # Arrays that are spread over hosts are spread over a mesh.
    sharding = cast(NamedSharding, array.sharding)
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    array = jax.jit(_same, out_shardings=everywhere)(array)
  return array.addressable_data(0)


def _same(array: jax.Array) -> jax.Array:
  return array
