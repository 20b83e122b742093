"""Knowledge of an array of a computation that needs none of its inputs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from htjax.units.ties import Labels, fixed

Shape = tuple[int, ...]
Shapes = list[Shape]

# Operations that numpy does to the same bit on floats, without a compilation.
_NUMPY: dict[str, Callable[..., Any]] = {
  'add': np.add,
  'sub': np.subtract,
  'mul': np.multiply,
  'div': np.divide,
  'max': np.maximum,
  'min': np.minimum,
  'neg': np.negative,
  'abs': np.abs,
  'sqrt': np.sqrt,
  'square': np.square,
  'eq': np.equal,
  'ne': np.not_equal,
  'lt': np.less,
  'le': np.less_equal,
  'gt': np.greater,
  'ge': np.greater_equal,
}


class Value(NamedTuple):
  """Knowledge of an array.

  Attributes:
    labels: of each axis.
    value: the entries that are known, broadcastable to the array; None for an
      array that is too strange to keep.
    known: where they are, likewise.
    leaf: the leaf that this array is, but for axes of length 1, or None.
    read: the reading whose sum this array is, or None.
    turn: whether this is a loop's part of an array that is all known.
  """

  labels: tuple[Labels, ...]
  value: np.ndarray
  known: np.ndarray
  leaf: int | None = None
  read: 'Read | None' = None
  turn: bool = False

  @property
  def fixed(self) -> bool:
    """Whether the array depends on no input."""
    return self.turn or bool(self.known.all())

  @property
  def zero(self) -> np.ndarray:
    """[..] boolean, true at known zeros; broadcastable to the array."""
    return self.known & (self.value == 0)


class Read:
  """A sum over an axis of units.

  Attributes:
    labels: of that axis.
    unread: [size], whether the sum is the same without the unit.
    spoilt: [size], whether it is known to have a NaN or infinity of the unit.
    constant: [size], its known value where it has one that is the same for all
      inputs and positions, else NaN.
    weights: [size, outputs], what the constants are multiplied with, or None.
    fold: (leaf, sign): adding sign times the constants' share to this leaf
      takes their place; None where there is no such leaf.
    out: labels of each axis of the outputs; None for a sum that no bias takes.
    by_weights: atoms of that axis of the parameters it is multiplied with.
    rows: of each index its final atoms, once the ties are resolved.
    where: which operation, for messages.
  """

  def __init__(
    self,
    labels: Labels,
    unread: np.ndarray,
    constant: np.ndarray,
    weights: np.ndarray | None,
    where: str,
  ) -> None:
    self.labels = labels
    self.unread = unread
    self.spoilt = np.zeros_like(unread)
    self.constant = constant
    self.weights = weights
    self.out: Sequence[Labels] | None = None
    self.fold: tuple[int, int] | None = None
    self.rows: list[tuple[int, ...]] = []
    self.by_weights: set[int] = set()
    self.where = where


def is_variable(var: Any) -> bool:
  """Whether an operand is computed, and not a number written in the jaxpr."""
  # By its value: `jax.extend` costs a twentieth of `import jax` to load.
  return not hasattr(var, 'val')


def unknown(shape: Sequence[int], labels: Any = None) -> Value:
  """An array of which nothing is known; of fixed axes without `labels`."""
  ones = (1,) * len(shape)
  if labels is None:
    labels = tuple(fixed(n) for n in shape)
  return Value(tuple(labels), np.zeros(ones), np.zeros(ones, bool))


def constant(value: Any) -> Value:
  """An array that the computation brings along: it keeps its size."""
  array = np.asarray(value)
  if array.dtype == object or not (
    np.issubdtype(array.dtype, np.number) or array.dtype == bool
  ):
    try:
      array = np.asarray(jnp.asarray(value).astype(jnp.float32))
    except (TypeError, ValueError):
      return unknown(np.shape(value))
  labels = tuple(fixed(n) for n in array.shape)
  return Value(labels, array, np.ones_like(array, bool))


def computed(eqn: Any, values: Sequence[np.ndarray]) -> np.ndarray:
  """The result of an operation on entries, at broadcastable operands."""
  name, dtypes = eqn.primitive.name, [v.aval.dtype for v in eqn.invars]
  if name in ('copy_p', 'sharding_constraint', 'name', 'stop_gradient', 'copy'):
    return values[0]
  new = eqn.params.get('new_dtype', dtypes[0])
  floats = all(jnp.issubdtype(d, jnp.floating) for d in (*dtypes, new))
  with np.errstate(all='ignore'):
    if floats and name == 'convert_element_type':
      return values[0].astype(new)
    arrays = [np.asarray(v, d) for v, d in zip(values, dtypes, strict=True)]
    if floats and name in _NUMPY:
      return np.asarray(_NUMPY[name](*arrays))
  common = np.broadcast_shapes(*(a.shape for a in arrays))
  full = [np.broadcast_to(a, common) if a.ndim else a for a in arrays]
  return np.asarray(eqn.primitive.bind(*map(jnp.asarray, full), **eqn.params))


def atoms(labels: Labels) -> set[int]:
  """The atoms of an axis: the removals that change it."""
  return set() if labels is None else set(labels[labels >= 0].tolist())


def all_zero(value: Value, axis: int, size: int) -> np.ndarray:
  """[size], whether an array is known to be zero at an index of an axis."""
  others = tuple(d for d in range(value.zero.ndim) if d != axis)
  return np.broadcast_to(value.zero.all(axis=others), (size,))


def not_finite(value: Value, axis: int, size: int) -> np.ndarray:
  """[size], whether an array is known to be NaN or infinite at an index."""
  entries = np.asarray(value.value, np.float64)
  wild = np.asarray(value.known & ~np.isfinite(entries))
  others = tuple(d for d in range(wild.ndim) if d != axis)
  return np.broadcast_to(wild.any(axis=others), (size,))


def uniform(value: Value, axis: int, size: int) -> np.ndarray:
  """[size], the known value at an index that is the same everywhere, or NaN."""
  if any(n > 1 for d, n in enumerate(value.value.shape) if d != axis):
    return np.full(size, np.nan)
  known = np.broadcast_to(value.known.ravel(), (size,))
  entries = np.broadcast_to(value.value.ravel(), (size,))
  return np.where(known, entries, np.nan)


def product(
  a: Value, b: Value, shapes: Shapes, contract: Any, batch: Any, free: Any
) -> tuple[np.ndarray, np.ndarray]:
  """The known entries of a product of two arrays.

  An entry is known if each of its terms is: both factors are, or one is zero.
  """
  (ca, cb), (ba, bb), (free_a, free_b) = contract, batch, free
  letters = iter('abcdefghijklmnopqrstuvwxyz')
  in_a = [next(letters) for _ in shapes[0]]
  in_b = [''] * len(shapes[1])
  for i, j in (*zip(ca, cb, strict=True), *zip(ba, bb, strict=True)):
    in_b[j] = in_a[i]
  for d in free_b:
    in_b[d] = next(letters)
  out = [in_a[d] for d in (*ba, *free_a)] + [in_b[d] for d in free_b]
  words = f'{"".join(in_a)},{"".join(in_b)}->{"".join(out)}'

  def spread(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with equal lengths along what they share."""
    shape_x, shape_y = list(x.shape), list(y.shape)
    for i, j in zip(ca, cb, strict=True):
      shape_x[i] = shape_y[j] = shapes[0][i]
    for i, j in zip(ba, bb, strict=True):
      shape_x[i] = shape_y[j] = max(x.shape[i], y.shape[j])
    return np.broadcast_to(x, shape_x), np.broadcast_to(y, shape_y)

  def product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = spread(x.astype(np.float64), y.astype(np.float64))
    return np.einsum(words, x, y, optimize=True)

  open_a, open_b = ~a.zero, ~b.zero
  # Terms that are not known: one factor is unknown, the other not zero.
  doubtful = product(~a.known, open_b) + product(open_a, ~b.known)
  known = doubtful == 0
  nans = [x.known & np.isnan(np.asarray(x.value, np.float64)) for x in (a, b)]
  if any(map(np.any, nans)):  # whatever the other factor is
    spoilt = product(nans[0], np.ones_like(b.known)) + product(
      np.ones_like(a.known), nans[1]
    )
    known = known | (spoilt > 0)
  if not known.any():
    ones = (1,) * known.ndim
    return np.zeros(ones), np.zeros(ones, bool)
  value = product(np.where(a.known, a.value, 0), np.where(b.known, b.value, 0))
  return value, known
