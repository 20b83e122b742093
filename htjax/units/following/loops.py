"""Loops and branches."""

from collections.abc import Mapping, Sequence
from typing import Any

from htjax.units.following.known import (
  Shape,
  Shapes,
  Value,
  unknown,
)
from htjax.units.following.walk import Rule, Walk
from htjax.units.ties import fixed


def _scan(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  c, k = _counts(eqn.params)
  layers = [_layer(walk, v) for v in operands[c + k :]]
  carry = _carry(walk, operands[c : c + k], shapes[c : c + k])
  body = eqn.params['jaxpr']
  inner = walk.jaxpr(body.jaxpr, body.consts, [*operands[:c], *carry, *layers])
  carried = [
    _carried(walk, a, b, s)
    for a, b, s in zip(carry, inner[:k], out[:k], strict=True)
  ]
  stacked = [
    unknown(s, (fixed(s[0]), *v.labels))
    for v, s in zip(inner[k:], out[k:], strict=True)
  ]
  return [*carried, *stacked]


def _counts(params: Mapping[str, Any]) -> tuple[int, int]:
  """Counts of a loop: its constants, and the arrays that it carries."""
  if 'ft_in' in params:  # since JAX 0.11
    consts, carry, _ = params['ft_in'].unpack()
    return len(consts), len(carry)
  return params['num_consts'], params['num_carry']


def _layer(walk: Walk, value: Value) -> Value:
  """One turn's part of an array that a loop goes through."""
  walk.ties.freeze(value.labels[0], 'a loop goes through its layers')
  # What is the same in all turns is known.
  same = value.known.all(axis=0) & (value.value == value.value[:1]).all(axis=0)
  whole = bool(value.known.all())
  return Value(value.labels[1:], value.value[0], same, turn=whole)


def _carry(
  walk: Walk, values: Sequence[Value], shapes: Sequence[Shape]
) -> list[Value]:
  """Values that a loop begins with: the first turn alone knows their entries.

  An axis of a repeated scalar is one of units from now on.
  """
  return [
    unknown(
      shape,
      tuple(
        walk.ties.fresh(n) if x is None else x
        for x, n in zip(value.labels, shape, strict=True)
      ),
    )
    for value, shape in zip(values, shapes, strict=True)
  ]


def _carried(walk: Walk, before: Value, after: Value, shape: Shape) -> Value:
  labels = [
    walk.ties.tie(a, b, 'a loop carries units')
    for a, b in zip(before.labels, after.labels, strict=True)
  ]
  return unknown(shape, labels)


def _while(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  p = eqn.params
  a, b = p['cond_nconsts'], p['body_nconsts']
  carry = _carry(walk, operands[a + b :], shapes[a + b :])
  for value in walk.jaxpr(
    p['cond_jaxpr'].jaxpr, p['cond_jaxpr'].consts, [*operands[:a], *carry]
  ):
    walk.stay(value, 'a condition')
  body = p['body_jaxpr']
  inner = walk.jaxpr(body.jaxpr, body.consts, [*operands[a : a + b], *carry])
  return [
    _carried(walk, x, y, s) for x, y, s in zip(carry, inner, out, strict=True)
  ]


def _cond(
  walk: Walk, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
) -> list[Value]:
  results: list[Value] | None = None
  for branch in eqn.params['branches']:
    # Another branch may use a sum or a bias without the other.
    given = [v._replace(read=None, leaf=None) for v in operands[1:]]
    found = walk.jaxpr(branch.jaxpr, branch.consts, given)
    if results is None:
      results = [unknown(s, v.labels) for v, s in zip(found, out, strict=True)]
    else:
      results = [
        _carried(walk, x, y, s)
        for x, y, s in zip(results, found, out, strict=True)
      ]
  return results or []


RULES: dict[str, Rule] = {
  'scan': _scan,
  'while': _while,
  'cond': _cond,
}
