"""Going through a jaxpr, operation by operation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from htjax.units.following.known import (
  Read,
  Shapes,
  Value,
  constant,
  is_variable,
  unknown,
)
from htjax.units.ties import Labels, Ties

# Labels of the axes of several arrays.
Axes = list[tuple[Labels, ...]]

_CALLS = {
  'jit': 'jaxpr',
  'pjit': 'jaxpr',
  'closed_call': 'call_jaxpr',
  'core_call': 'call_jaxpr',
  'remat': 'jaxpr',
  'remat2': 'jaxpr',
  'checkpoint': 'jaxpr',
  'custom_jvp_call': 'call_jaxpr',
  'custom_vjp_call': 'call_jaxpr',
  'custom_vjp_call_jaxpr': 'fun_jaxpr',
  'custom_lin': 'call_jaxpr',
}


class Walk:
  """Goes through jaxprs, by rules.

  Attributes:
    ties: between the axes that were met.
    reads: the sums over units.
    multiplied: atoms of the parameters that are a factor of such a sum.
    steps: id of an equation -> labels of what it was given and of what it
      gave, for each time it was met.
  """

  def __init__(self, rules: Mapping[str, 'Rule']) -> None:
    self._rules = rules
    self.ties = Ties()
    self.reads: list[Read] = []
    self.multiplied: set[int] = set()
    self.steps: dict[int, list[tuple[Axes, Axes]]] = {}

  def stay(self, value: Value, reason: str) -> None:
    """No axis of this array loses anything."""
    for labels in value.labels:
      self.ties.freeze(labels, reason)

  def jaxpr(
    self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Value]
  ) -> list[Value]:
    """Follow the equations of a jaxpr; returns what it returns."""
    env: dict[Any, Value] = {}
    env |= zip(jaxpr.constvars, map(constant, consts), strict=True)
    env |= zip(jaxpr.invars, arguments, strict=True)
    uses: dict[Any, int] = {}
    for eqn in jaxpr.eqns:
      for var in eqn.invars:
        if is_variable(var):
          uses[var] = uses.get(var, 0) + 1
    for var in jaxpr.outvars:
      if is_variable(var):
        uses[var] = uses.get(var, 0) + 1

    def read(var: Any) -> Value:
      if not is_variable(var):
        return constant(var.val)
      value = env[var]
      # A sum or leaf of two uses is more than the one that it is added to.
      return value if uses[var] == 1 else value._replace(read=None, leaf=None)

    for eqn in jaxpr.eqns:
      operands = [read(v) for v in eqn.invars]
      shapes = [tuple(v.aval.shape) for v in eqn.invars]
      results = self.equation(eqn, operands, shapes)
      self.steps.setdefault(id(eqn), []).append(
        ([v.labels for v in operands], [v.labels for v in results])
      )
      env |= zip(eqn.outvars, results, strict=True)
    return [read(v) for v in jaxpr.outvars]

  def equation(
    self, eqn: Any, operands: list[Value], shapes: list[tuple[int, ...]]
  ) -> list[Value]:
    """Follow one equation."""
    name = eqn.primitive.name
    out = [tuple(v.aval.shape) for v in eqn.outvars]
    if name in _CALLS:
      inner = eqn.params[_CALLS[name]]
      consts = getattr(inner, 'consts', ())
      return self.jaxpr(getattr(inner, 'jaxpr', inner), consts, operands)
    if name in self._rules:
      return self._rules[name](self, eqn, operands, shapes, out)
    for value in operands:
      self.stay(value, f'units are not followed through {name}')
    return [unknown(shape) for shape in out]


# (walk, equation, operands, their shapes, shapes of the results) -> results.
Rule = Callable[[Walk, Any, list[Value], Shapes, Shapes], list[Value]]
