"""Reductions over axes and windows."""

import math
from typing import Any

import numpy as np

from htjax.units.following.known import (
  Shapes,
  Value,
  unknown,
)
from htjax.units.following.walk import Rule, Walk
from htjax.units.ties import fixed


def _reduced(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  axes = {int(d) for d in eqn.params['axes']}
  value = operands[0]
  reason = f'{eqn.primitive.name} over units depends on their number'
  for d in axes:
    walk.ties.freeze(value.labels[d], reason)
  labels = [x for d, x in enumerate(value.labels) if d not in axes]
  keep = [d for d in range(len(shapes[0])) if d not in axes]
  whole = tuple(axes)
  known = np.asarray(value.known.all(axis=whole))
  same = all(value.value.shape[d] == 1 for d in axes)
  if same and eqn.primitive.name in ('reduce_max', 'reduce_min'):
    total = value.value.reshape([value.value.shape[d] for d in keep])
  elif eqn.primitive.name == 'reduce_sum':
    count = math.prod(shapes[0][d] for d in axes if value.value.shape[d] == 1)
    total = value.value.sum(axis=whole) * count
  else:
    return [unknown(out[0], labels)]
  return [Value(tuple(labels), total, np.asarray(known))]


def _windows(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  """A maximum or sum over windows; an axis of window 1 is left alone."""
  value, p = operands[0], eqn.params
  still = [
    w == s == 1 and tuple(pad) == (0, 0)
    for w, s, pad in zip(
      p['window_dimensions'], p['window_strides'], p['padding'], strict=True
    )
  ]
  labels = []
  for d, ok in enumerate(still):
    if not ok:
      walk.ties.freeze(value.labels[d], 'a window slides over an axis')
    labels.append(value.labels[d] if ok else fixed(out[0][d]))
  moving = [d for d, ok in enumerate(still) if not ok]
  if any(value.value.shape[d] > 1 for d in moving):
    return [unknown(out[0], labels)]
  known = value.known
  if eqn.primitive.name != 'reduce_window_max':
    known = value.zero  # sums at a border have fewer terms
  return [Value(tuple(labels), value.value, known)]


def _cumulated(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  axis = eqn.params['axis']
  walk.ties.freeze(
    operands[0].labels[axis], f'{eqn.primitive.name} runs over units'
  )
  return [unknown(out[0], operands[0].labels)]


RULES: dict[str, Rule] = {
  'reduce_sum': _reduced,
  'reduce_max': _reduced,
  'reduce_min': _reduced,
  'reduce_prod': _reduced,
  'reduce_and': _reduced,
  'reduce_or': _reduced,
  'argmax': _reduced,
  'argmin': _reduced,
  'reduce_window_max': _windows,
  'reduce_window_min': _windows,
  'reduce_window_sum': _windows,
  'cumsum': _cumulated,
  'cumprod': _cumulated,
  'cummax': _cumulated,
  'cummin': _cumulated,
  'cumlogsumexp': _cumulated,
}
