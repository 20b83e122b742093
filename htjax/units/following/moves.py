"""Operations that move axes around."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from htjax.units.following.known import (
  Shape,
  Shapes,
  Value,
  unknown,
)
from htjax.units.following.walk import Rule, Walk
from htjax.units.ties import Labels, fixed


def _moved(
  value: Value,
  labels: Sequence[Labels],
  change: Callable[[np.ndarray], np.ndarray],
) -> Value:
  return value._replace(
    labels=tuple(labels), value=change(value.value), known=change(value.known)
  )


def _broadcast_in_dim(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  value, dims = operands[0], eqn.params['broadcast_dimensions']
  labels: list[Labels] = [None] * len(out[0])
  for d, axis in enumerate(dims):
    if shapes[0][d] == out[0][axis]:
      labels[axis] = value.labels[d]
  sizes = [1] * len(out[0])

  def change(x: np.ndarray) -> np.ndarray:
    for d, axis in enumerate(dims):
      sizes[axis] = x.shape[d]
    return x.reshape(sizes)

  moved = _moved(value, labels, change)
  if math.prod(out[0]) != math.prod(shapes[0]):
    moved = moved._replace(leaf=None, read=None)
  return [moved]


def _transpose(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  order = [int(d) for d in eqn.params['permutation']]
  value = operands[0]
  moved = _moved(
    value, [value.labels[d] for d in order], lambda x: x.transpose(order)
  )
  return [moved._replace(leaf=None)]


def _squeeze(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  gone = {int(d) % len(shapes[0]) for d in eqn.params['dimensions']}
  value = operands[0]
  keep = [d for d in range(len(shapes[0])) if d not in gone]
  return [
    _moved(
      value,
      [value.labels[d] for d in keep],
      lambda x: x.reshape([x.shape[d] for d in keep]),
    )
  ]


def _rev(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  value, dims = operands[0], tuple(int(d) for d in eqn.params['dimensions'])
  labels = [
    x[::-1] if d in dims and x is not None else x
    for d, x in enumerate(value.labels)
  ]
  moved = _moved(value, labels, lambda x: np.flip(x, dims))
  return [moved._replace(leaf=None, read=None)]


def _reshape(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  value, (before,), (after,) = operands[0], shapes, out
  labels: list[Labels] = [fixed(1)] * len(after)
  reason = 'a reshape takes units apart'
  for old, new in _blocks(before, after):
    sizes = [after[d] for d in new]
    if len(old) == 1 and len(new) == 1:
      parts = [value.labels[old[0]]]
    else:
      flat = walk.ties.merge([(value.labels[d], before[d]) for d in old])
      parts = [flat] if len(new) == 1 else walk.ties.split(flat, sizes, reason)
    for d, part in zip(new, parts, strict=True):
      labels[d] = part
  return [_moved(value, labels, lambda x: _reshaped(x, before, after))]


def _slice(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  p, value = eqn.params, operands[0]
  strides = p['strides'] or (1,) * len(shapes[0])
  cuts = [
    slice(a, b, s)
    for a, b, s in zip(
      p['start_indices'], p['limit_indices'], strides, strict=True
    )
  ]
  labels = [
    x if x is None else x[c] for x, c in zip(value.labels, cuts, strict=True)
  ]

  def change(x: np.ndarray) -> np.ndarray:
    return x[
      tuple(
        c if n > 1 else slice(None) for c, n in zip(cuts, x.shape, strict=True)
      )
    ]

  moved = _moved(value, labels, change)
  whole = out[0] == shapes[0]
  return [moved if whole else moved._replace(leaf=None, read=None)]


def _split(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  axis, value = eqn.params['axis'], operands[0]
  results, start = [], 0
  for shape in out:
    stop = start + shape[axis]
    labels = list(value.labels)
    if labels[axis] is not None:
      labels[axis] = labels[axis][start:stop]

    def change(
      x: np.ndarray, start: int = start, stop: int = stop
    ) -> np.ndarray:
      cut = slice(start, stop) if x.shape[axis] > 1 else slice(None)
      return x[(slice(None),) * axis + (cut,)]

    part = _moved(value, labels, change)
    results.append(part._replace(leaf=None, read=None))
    start = stop
  return results


def _concatenate(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  axis, rank = eqn.params['dimension'], len(out[0])
  labels: list[Labels] = [None] * rank
  for d in range(rank):
    if d != axis:
      for value in operands:
        labels[d] = walk.ties.tie(labels[d], value.labels[d], 'concatenation')
  parts = [
    fixed(s[axis]) if v.labels[axis] is None else v.labels[axis]
    for v, s in zip(operands, shapes, strict=True)
  ]
  width = max(p.shape[1] for p in parts)
  labels[axis] = np.concatenate(
    [np.pad(p, ((0, 0), (0, width - p.shape[1])), mode='edge') for p in parts]
  )

  def joined(field: str) -> np.ndarray:
    arrays = [getattr(v, field) for v in operands]
    others = np.broadcast_shapes(
      *((*a.shape[:axis], 1, *a.shape[axis + 1 :]) for a in arrays)
    )
    return np.concatenate(
      [
        np.broadcast_to(a, (*others[:axis], s[axis], *others[axis + 1 :]))
        for a, s in zip(arrays, shapes, strict=True)
      ],
      axis=axis,
    )

  return [Value(tuple(labels), joined('value'), joined('known'))]


def _pad(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  value = operands[0]
  labels = []
  for d, (low, high, inner) in enumerate(eqn.params['padding_config']):
    if low == high == inner == 0:
      labels.append(value.labels[d])
    else:
      walk.ties.freeze(value.labels[d], 'a padding has a fixed size')
      labels.append(fixed(out[0][d]))
  return [unknown(out[0], labels)]


def _blocks(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
  """Axes that a reshape makes of axes, in runs of equal products."""
  blocks, i, j = [], 0, 0
  while i < len(before) or j < len(after):
    old: list[int] = []
    new: list[int] = []
    a = b = 1
    while True:
      if old and new and a == b:
        break
      if (a <= b and i < len(before)) or j >= len(after):
        if i >= len(before):
          break
        a *= before[i]
        old.append(i)
        i += 1
      else:
        b *= after[j]
        new.append(j)
        j += 1
    # Axes of length 1 at the end of a run belong to nothing else.
    blocks.append((old, new))
  return [(o, n) for o, n in blocks if o and n]


def _reshaped(x: np.ndarray, before: Shape, after: Shape) -> np.ndarray:
  """Reshape an array some of whose axes are of length 1 for many."""
  result = [1] * len(after)
  full = list(x.shape)
  for old, new in _blocks(before, after):
    if any(x.shape[d] > 1 for d in old):
      for d in old:
        full[d] = before[d]
      for d in new:
        result[d] = after[d]
  return np.broadcast_to(x, full).reshape(result)


RULES: dict[str, Rule] = {
  'broadcast_in_dim': _broadcast_in_dim,
  'transpose': _transpose,
  'squeeze': _squeeze,
  'expand_dims': _reshape,
  'rev': _rev,
  'reshape': _reshape,
  'slice': _slice,
  'split': _split,
  'concatenate': _concatenate,
  'pad': _pad,
}
