"""Sums over units: products and convolutions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from htjax.units.following.known import (
  Read,
  Shape,
  Shapes,
  Value,
  all_zero,
  atoms,
  not_finite,
  product,
  uniform,
  unknown,
)
from htjax.units.following.walk import Rule, Walk
from htjax.units.ties import Labels, fixed


def _dot_general(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  (ca, cb), (ba, bb) = eqn.params['dimension_numbers']
  a, b = operands
  free_a = [d for d in range(len(shapes[0])) if d not in (*ca, *ba)]
  free_b = [d for d in range(len(shapes[1])) if d not in (*cb, *bb)]
  batch = [
    walk.ties.tie(a.labels[i], b.labels[j], 'a batch axis')
    for i, j in zip(ba, bb, strict=True)
  ]
  for i, j in zip(ca, cb, strict=True):
    walk.ties.tie(a.labels[i], b.labels[j], 'a sum over units')
  labels = [
    *batch,
    *(a.labels[d] for d in free_a),
    *(b.labels[d] for d in free_b),
  ]
  for side in (a, b):
    if side.fixed:
      walk.multiplied |= set().union(*map(atoms, side.labels))
  value, known = product(a, b, shapes, (ca, cb), (ba, bb), (free_a, free_b))
  found = None
  for i, j in zip(ca, cb, strict=True):
    size = shapes[0][i]
    found = _note(walk, a, i, b, j, size, len(ca) == 1 and not ba)
    if len(ca) > 1 or found is None:
      found = None
  return [Value(tuple(labels), value, known, read=found)]


def _note(
  walk: Walk, a: Value, i: int, b: Value, j: int, size: int, foldable: bool
) -> 'Read | None':
  """Note which units a sum over axis i of a and j of b reads."""
  labels = b.labels[j] if a.labels[i] is None else a.labels[i]
  if labels is None or (labels < 0).all():
    return None
  unread = all_zero(a, i, size) | all_zero(b, j, size)
  spoilt = not_finite(a, i, size) | not_finite(b, j, size)
  constant, weights = np.full(size, np.nan), None
  out: Sequence[Labels] | None = None
  if foldable:
    for this, axis, other, across in ((a, i, b, j), (b, j, a, i)):
      if other.known.all() and np.isnan(constant).all():
        constant = uniform(this, axis, size)
        weights = np.moveaxis(
          np.broadcast_to(
            other.value,
            [
              size if d == across else n
              for d, n in enumerate(other.value.shape)
            ],
          ),
          across,
          0,
        ).reshape(size, -1)
        out = [x for d, x in enumerate(other.labels) if d != across]
  found = Read(labels, unread & ~spoilt, constant, weights, 'a sum over units')
  found.spoilt = spoilt
  found.out = out
  for side, axis in ((a, i), (b, j)):
    if side.fixed:
      found.by_weights |= atoms(side.labels[axis])
  walk.reads.append(found)
  return found if foldable else None


def _conv_general_dilated(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  p = eqn.params
  numbers = p['dimension_numbers']
  (ln, lc, *ls), (ro, ri, *rs) = numbers.lhs_spec, numbers.rhs_spec
  on, oc, *os = numbers.out_spec
  x, kernel = operands
  groups = p['feature_group_count']
  labels: list[Labels] = [None] * len(out[0])
  labels[on] = x.labels[ln]
  for d in ls:
    walk.ties.freeze(x.labels[d], 'a window slides over an axis')
  for d in rs:
    walk.ties.freeze(kernel.labels[d], 'the window of a convolution')
  for d in os:
    labels[d] = fixed(out[0][d])
  labels[oc] = kernel.labels[ro]
  if p['batch_group_count'] != 1:
    walk.stay(x, 'a convolution groups its batch')
    walk.stay(kernel, 'a convolution groups its batch')
    return [unknown(out[0])]
  channels, units = shapes[0][lc], shapes[1][ro]
  walk.multiplied |= set().union(*map(atoms, kernel.labels))
  if groups == 1:
    walk.ties.tie(x.labels[lc], kernel.labels[ri], 'a convolution')
  elif groups == channels:
    walk.ties.freeze(kernel.labels[ri], 'one input a group')
    repeated = x.labels[lc]
    if repeated is not None:
      repeated = np.repeat(repeated, units // groups, axis=0)
    labels[oc] = walk.ties.tie(
      repeated, kernel.labels[ro], 'a convolution of each channel'
    )
  else:
    reason = 'a convolution has groups of a fixed size'
    for fed in (x.labels[lc], kernel.labels[ri], kernel.labels[ro]):
      walk.ties.freeze(fed, reason)
  return [_convolved(walk, eqn, operands, shapes, out[0], tuple(labels))]


def _convolved(
  walk: Walk,
  eqn: Any,
  operands: list[Value],
  shapes: Shapes,
  out: Shape,
  labels: tuple[Labels, ...],
) -> Value:
  """The channels that a convolution reads, and its filters of zeros."""
  numbers = eqn.params['dimension_numbers']
  lc, (ro, ri, *_) = numbers.lhs_spec[1], numbers.rhs_spec
  oc, groups = numbers.out_spec[1], eqn.params['feature_group_count']
  x, kernel = operands
  channels, per_group = shapes[0][lc], shapes[1][ri]
  units = shapes[1][ro]
  silent = all_zero(x, lc, channels)
  others = tuple(d for d in range(len(shapes[1])) if d not in (ro, ri))
  zero = np.asarray(
    np.broadcast_to(kernel.zero, shapes[1]).all(axis=others, keepdims=True)
  )
  zero = np.transpose(zero, (ro, ri, *others)).reshape(units, per_group)
  group = np.arange(units) // (units // groups)
  # [units, channels]: whether a filter reads a channel.
  reads = np.zeros((units, channels), bool)
  for i in range(per_group):
    reads[np.arange(units), group * per_group + i] = ~zero[:, i]
  idle = ~(reads & ~silent).any(axis=1)
  found = None
  if x.labels[lc] is not None and (x.labels[lc] >= 0).any():
    constant, weights = np.full(channels, np.nan), None
    unpadded = all(lo == hi == 0 for lo, hi in eqn.params['padding'])
    if groups == 1 and unpadded and kernel.known.all():
      constant = uniform(x, lc, channels)
      total = np.broadcast_to(kernel.value, shapes[1]).sum(axis=others)
      weights = total if ri < ro else total.T
    unread = silent | ~reads.any(axis=0)
    found = Read(x.labels[lc], unread, constant, weights, 'a convolution')
    found.by_weights = atoms(kernel.labels[ri])
    found.out = [kernel.labels[ro]]
    walk.reads.append(found)
  shape = [1] * len(out)
  shape[oc] = units
  return Value(labels, np.zeros(shape), idle.reshape(shape), read=found)


RULES: dict[str, Rule] = {
  'dot_general': _dot_general,
  'conv_general_dilated': _conv_general_dilated,
}
