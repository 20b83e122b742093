"""Following the axes of a network's leaves through its computation.

A jaxpr is gone through once, operation by operation. Each array carries the
labels of its axes (see `ties`), and what is known of its entries without the
inputs: a leaf is known, a unit whose incoming weights are zero is known to be
zero, and so on through biases, normalisations and activations. Where a sum
over units meets a kernel it is noted which of them the kernel reads.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.units.following import RULES
from htjax.units.following.known import Read, Value, is_variable, unknown
from htjax.units.following.walk import Axes, Walk
from htjax.units.ties import Labels, Ties, fixed


class Followed(NamedTuple):
  """A network, followed from its leaves to its outputs.

  Attributes:
    closed: its computation.
    labels: of each axis of each leaf.
    ties: between them.
    reads: the sums over units.
    multiplied: atoms of the parameters that are a factor of such a sum.
    steps: id of an equation -> labels of what it was given and of what it
      gave, for each time it was met.
  """

  closed: Any
  labels: list[tuple[Labels, ...]]
  ties: Ties
  reads: list[Read]
  multiplied: set[int]
  steps: dict[int, list[tuple[Axes, Axes]]]


def trace(apply: Callable[..., Any], params: Any, inputs: Sequence[Any]) -> Any:
  """The jaxpr of `apply(params, *inputs)`, from shapes alone."""
  shapes = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(np.shape(a), jnp.result_type(a)), params
  )
  return jax.make_jaxpr(apply)(shapes, *inputs)


def follow(closed: Any, leaves: Sequence[Any]) -> Followed:
  """Follow the leaves of a network's parameters through its computation.

  Args:
    closed: the computation, from `trace`.
    leaves: concrete arrays, the first arguments of the computation.

  Returns:
    Followed. What is known of the inputs is their shape.
  """
  walk = Walk(RULES)
  arguments = []
  used = {v for e in closed.jaxpr.eqns for v in e.invars if is_variable(v)}
  used |= {v for v in closed.jaxpr.outvars if is_variable(v)}
  for i, (var, leaf) in enumerate(
    zip(closed.jaxpr.invars[: len(leaves)], leaves, strict=True)
  ):
    array = np.asarray(leaf)
    new = walk.ties.fresh if var in used else fixed
    labels = tuple(new(n) for n in array.shape)
    arguments.append(Value(labels, array, np.ones_like(array, bool), leaf=i))
  own = list(arguments)
  for var in closed.jaxpr.invars[len(leaves) :]:
    arguments.append(unknown(var.aval.shape))
  outputs = walk.jaxpr(closed.jaxpr, closed.consts, arguments)
  for out in outputs:
    walk.stay(out, 'the outputs of the network stay')
  return Followed(
    closed,
    [v.labels for v in own],
    walk.ties,
    walk.reads,
    walk.multiplied,
    walk.steps,
  )
