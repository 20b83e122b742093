"""Operations on entries, one by one.

An axis of the result is that axis of each operand.
"""

import math
from typing import Any

import numpy as np

from htjax.units.following.known import (
  Read,
  Shape,
  Shapes,
  Value,
  computed,
)
from htjax.units.following.walk import Rule, Walk
from htjax.units.ties import Labels, fixed

_ENTRYWISE = frozenset(
  """
  add sub mul div rem max min pow atan2 nextafter and or xor not eq ne ge gt le
  lt neg sign abs floor ceil round is_finite exp exp2 expm1 log log1p sqrt rsqrt
  cbrt logistic tanh sin cos tan sinh cosh asin acos atan asinh acosh atanh erf
  erfc erf_inv lgamma digamma square integer_pow select_n clamp
  convert_element_type stop_gradient copy copy_p real imag conj reduce_precision
  shift_left shift_right_logical optimization_barrier add_any population_count
  clz sharding_constraint name
  """.split()  # noqa: SIM905
)


def _entrywise(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  if len(out) > 1:  # optimization_barrier
    return list(operands)
  (shape,) = out
  labels: list[Labels] = [None] * len(shape)
  reason = f'two operands of {eqn.primitive.name} meet'
  for value, own in zip(operands, shapes, strict=True):
    if len(own) == len(shape):
      for d, n in enumerate(own):
        if n == shape[d] and n > 1:
          labels[d] = walk.ties.tie(labels[d], value.labels[d], reason)
  labels = [
    fixed(1) if n == 1 else x for x, n in zip(labels, shape, strict=True)
  ]
  result = Value(tuple(labels), *_evaluate(eqn, operands, shape))
  if eqn.primitive.name in ('convert_element_type', 'copy', 'copy_p'):
    first = operands[0]
    return [result._replace(leaf=first.leaf, read=first.read, turn=first.turn)]
  _fold(eqn.primitive.name, operands, shapes)
  return [result]


def _evaluate(
  eqn: Any, operands: list[Value], shape: Shape
) -> tuple[np.ndarray, np.ndarray]:
  """The result where all operands are known, or where a factor is zero."""
  known = np.ones((1,) * len(shape), bool)
  for value in operands:
    known = known & value.known
  if eqn.primitive.name == 'mul':
    known = known | operands[0].zero | operands[1].zero
  if not known.any():
    return np.zeros((1,) * len(shape)), np.zeros((1,) * len(shape), bool)
  # Unknown entries are computed too, from zeros, and not looked at.
  result = computed(eqn, [v.value for v in operands])
  if eqn.primitive.name == 'mul':
    zero = operands[0].zero | operands[1].zero
    both = operands[0].known & operands[1].known  # 0 times infinity is NaN
    result = np.where(zero & ~both, np.zeros((), result.dtype), result)
  return result, known


def _fold(name: str, operands: list[Value], shapes: Shapes) -> None:
  """Note the leaf that a sum over units is added to."""
  if name not in ('add', 'add_any', 'sub'):
    return
  for this, other in ((0, 1), (1, 0)):
    found, leaf = operands[this].read, operands[other].leaf
    if found is None or found.weights is None or leaf is None:
      continue
    if _along(found, operands[this], shapes[other]) and (
      name != 'sub' or this == 0
    ):
      found.fold = (leaf, -1 if name == 'sub' else 1)


def _along(found: Read, total: Value, shape: Shape) -> bool:
  """Whether an array of this shape lies along the outputs of a sum."""
  if found.weights is None or found.out is None:
    return False
  if math.prod(shape) != found.weights.shape[1]:
    return False
  own = [total.labels[d] for d, n in enumerate(shape) if n > 1]
  out = [x for x in found.out if x is None or len(x) > 1]
  # Two axes of equal labels could be taken for one another.
  ends = {x[0].tobytes() for x in out if x is not None}
  return len(own) == len(out) == len(ends) and all(
    a is not None and b is not None and np.array_equal(a, b)
    for a, b in zip(own, out, strict=True)
  )


RULES: dict[str, Rule] = dict.fromkeys(_ENTRYWISE, _entrywise)
