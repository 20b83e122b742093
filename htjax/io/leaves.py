"""Leaves of a pytree by name, as files hold them: kind, shape, dtype, bits."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.io.faults import Refused
from htjax.types import PyTree

NUMBERS = {'bool': bool, 'int': int, 'float': float, 'complex': complex}
_ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)
Names = tuple[str, ...]


class Leaf(NamedTuple):
  """Facts that are kept of a leaf besides its bits."""

  kind: str
  shape: tuple[int, ...]
  dtype: str


def named(tree: PyTree) -> dict[Names, Any]:
  """Leaves by the names that lead to them."""
  by_name = {}
  for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    path = tuple(jax.tree_util.keystr((k,), simple=True) for k in keys)
    by_name[path or ('value',)] = leaf
  names = [joined(path) for path in by_name]
  if len(set(names)) < len(jax.tree.leaves(tree)):
    raise ValueError(f'two leaves have the same name, among {sorted(names)}')
  return by_name


def joined(path: Iterable[str]) -> str:
  """The name that files give to a leaf."""
  return '.'.join(path)


def nested_dict(arrays: Mapping[Names, Any]) -> dict[str, Any]:
  """Nested dictionaries of `arrays`."""
  tree: dict[str, Any] = {}
  for path, array in arrays.items():
    node = tree
    for name in path[:-1]:
      node = node.setdefault(name, {})
      if not isinstance(node, dict):
        raise Refused(f'{joined(path)} lies in an array; pass nested=False')
    if path[-1] in node:
      raise Refused(f'{joined(path)} is there twice; pass nested=False')
    node[path[-1]] = array
  return tree


def leaf_of(path: Names, value: Any) -> Leaf:
  """Kind, shape and dtype of an array, a key, a number or an abstract array."""
  if type(value) in NUMBERS.values():
    return Leaf('number', (), type(value).__name__)
  if isinstance(value, _ARRAYS):
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
      # An abstract key has no `key_impl`; an array of its dtype has.
      impl = jax.random.key_impl(jnp.empty((), value.dtype))
      return Leaf('key', tuple(value.shape), str(impl))
    if value.dtype == np.bool_ or jnp.issubdtype(value.dtype, np.number):
      return Leaf('array', tuple(value.shape), value.dtype.name)
  raise ValueError(
    f'{joined(path)} must be an array of numbers, a typed key or a number, got '
    f'{value!r}'
  )


def bits_of(path: Names, value: Any) -> Any:
  """The stored form of a leaf: a numpy array, or one spread over hosts."""
  if leaf_of(path, value).kind == 'key':
    value = jax.random.key_data(value)
  if isinstance(value, jax.Array) and not (
    value.is_fully_addressable or value.is_fully_replicated
  ):
    return value
  array = np.asarray(value)
  if array.dtype.hasobject:
    raise ValueError(f'{joined(path)} has no value of a fixed size: {value!r}')
  return np.asarray(array, array.dtype.newbyteorder('='), order='C')
