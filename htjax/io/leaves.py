"""Leaves of a pytree as files hold them: kind, shape, dtype, bits."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.io.names import Path, joined, named
from htjax.types import PyTree

NUMBERS = {'bool': bool, 'int': int, 'float': float, 'complex': complex}
_ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)


class Leaf(NamedTuple):
  """Facts that are kept of a leaf besides its bits."""

  kind: str
  shape: tuple[int, ...]
  dtype: str


def leaf_of(path: Path, value: Any) -> Leaf:
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


def check_leaves(name: str, tree: PyTree) -> None:
  """Refuse a tree with a leaf that cannot be saved, by an argument's name."""
  for path, value in named(tree).items():
    try:
      leaf_of(path, value)
    except ValueError as error:
      raise ValueError(f'{name}: {error}') from None


def bits_of(path: Path, value: Any) -> Any:
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
