"""Parts of arrays that indices point to."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from htjax.units.following.known import (
  Shapes,
  Value,
  unknown,
)
from htjax.units.following.walk import Rule, Walk
from htjax.units.ties import Labels, fixed


def _iota(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  return [unknown(out[0])]


def _gather(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  p, value = eqn.params, operands[0]
  numbers, sizes = p['dimension_numbers'], p['slice_sizes']
  gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
  kept = [d for d in range(len(shapes[0])) if d not in gone]
  labels: list[Labels] = [fixed(n) for n in out[0]]
  through: set[int] = set()
  for d, axis in zip(kept, numbers.offset_dims, strict=True):
    if sizes[d] == shapes[0][d]:
      labels[axis] = value.labels[d]
      through.add(d)
  for d, own in enumerate(value.labels):
    if d not in through:
      walk.ties.freeze(own, 'indices point into an axis')
  walk.stay(operands[1], 'indices that point into an axis')
  if 'FILL' in str(p['mode']).upper():
    value = unknown(shapes[0], value.labels)._replace(turn=value.fixed)
  places = dict(zip(kept, numbers.offset_dims, strict=True))
  return [_picked(value, labels, {d: places[d] for d in through})]


def _picked(
  value: Value, labels: Sequence[Labels], places: dict[int, int]
) -> Value:
  """A part of an array: all of some axes, some of the others.

  Args:
    value: the array.
    labels: of the part.
    places: whole axes of the array -> those of the part.

  Returns:
    Value; what is the same wherever the part is taken from is known. A part
    of stacked matrices is the parameters' like the whole.
  """
  others = tuple(d for d in range(value.known.ndim) if d not in places)
  entries = np.broadcast_to(value.value, value.known.shape)
  first = np.take(entries, [0], others[0]) if others else entries
  for d in others[1:]:
    first = np.take(first, [0], d)
  same = value.known.all(axis=others) & (entries == first).all(axis=others)
  shape = [1] * len(labels)
  for d, axis in places.items():
    shape[axis] = value.known.shape[d]
  return Value(
    tuple(labels),
    first.reshape(shape),
    same.reshape(shape),
    turn=value.fixed and len(places) > 1,
  )


def _dynamic_slice(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  value = operands[0]
  labels = []
  for d, n in enumerate(out[0]):
    if n == shapes[0][d]:
      labels.append(value.labels[d])
    else:
      walk.ties.freeze(value.labels[d], 'indices point into an axis')
      labels.append(fixed(n))
  whole = [d for d, n in enumerate(out[0]) if n == shapes[0][d]]
  return [_picked(value, labels, {d: d for d in whole})]


def _dynamic_update_slice(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  value, update = operands[:2]
  labels = []
  for d, n in enumerate(out[0]):
    if shapes[1][d] == n:
      labels.append(
        walk.ties.tie(value.labels[d], update.labels[d], 'an update')
      )
    else:
      walk.ties.freeze(value.labels[d], 'indices point into an axis')
      walk.ties.freeze(update.labels[d], 'indices point into an axis')
      labels.append(fixed(n))
  return [unknown(out[0], labels)]


RULES: dict[str, Rule] = {
  'iota': _iota,
  'gather': _gather,
  'dynamic_slice': _dynamic_slice,
  'dynamic_update_slice': _dynamic_update_slice,
}
