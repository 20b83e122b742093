"""Multiply-adds of a network, counted in its computation."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

from htjax.checks import checked
from htjax.types import PyTree
from htjax.units import jaxprs


@checked
def multiply_adds(
  apply: Callable[..., Any], params: PyTree, inputs: Sequence[Any]
) -> int:
  """Multiply-adds of the products and convolutions of one call.

  Args:
    apply: the network, `apply(params, *inputs)`.
    params: pytree of arrays.
    inputs: the other arguments, arrays or `jax.ShapeDtypeStruct`.

  Returns:
    The sum over products and convolutions of the size of the result times the
    terms of each entry, padding counted; the body of a scan as often as it
    runs, of a `while` once, of a `cond` the dearest branch. Operations on
    single entries are not counted.

  Raises:
    ValueError: `apply` that cannot be traced.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> product = lambda w, x: x @ w
    >>> pruning.multiply_adds(product, jnp.ones((3, 5)), (jnp.ones((2, 3)),))
    30
  """
  return _count(trace(apply, params, inputs).jaxpr)


def trace(apply: Callable[..., Any], params: PyTree, inputs: Any) -> Any:
  """The jaxpr of a pure function; raise ValueError if there is none."""
  try:
    closed = jaxprs.trace(apply, params, inputs)
  except Exception as error:  # whatever the user's function raises
    line = (str(error).splitlines() or [''])[0]
    raise ValueError(
      'apply must be a function of arrays that can be traced with `inputs`, '
      f'got {type(error).__name__}: {line}'
    ) from error
  if closed.effects:
    raise ValueError(
      f'apply must be free of side effects, got {closed.effects}'
    )
  return closed


def _count(jaxpr: Any) -> int:
  total = 0
  for eqn in jaxpr.eqns:
    name, p = eqn.primitive.name, eqn.params
    inner = [_count(j) for j in _inside(p)]
    if name == 'dot_general':
      (contract, _), _ = p['dimension_numbers']
      shape = eqn.invars[0].aval.shape
      terms = math.prod(shape[d] for d in contract)
      total += math.prod(eqn.outvars[0].aval.shape) * terms
    elif name == 'conv_general_dilated':
      units = p['dimension_numbers'].rhs_spec[0]
      kernel = eqn.invars[1].aval.shape
      terms = math.prod(kernel) // kernel[units]
      total += math.prod(eqn.outvars[0].aval.shape) * terms
    elif name == 'scan':
      total += p['length'] * sum(inner)
    elif name == 'cond':
      total += max(inner, default=0)
    else:
      total += sum(inner)
  return total


def _inside(params: dict[str, Any]) -> list[Any]:
  """The jaxprs among the parameters of an equation."""
  found = jax.tree.leaves(
    list(params.values()),
    is_leaf=lambda p: hasattr(p, 'jaxpr') or hasattr(p, 'eqns'),
  )
  return [
    getattr(p, 'jaxpr', p)
    for p in found
    if hasattr(p, 'jaxpr') or hasattr(p, 'eqns')
  ]
