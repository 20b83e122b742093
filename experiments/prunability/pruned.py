"""Networks with a share of their units: which stay, and the smaller arrays."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from htjax.types import Array, PyTree
from htjax.units import Family
from htjax.units.families import scaled, squared_norms

Apply = Callable[[PyTree, Array], Array]


def count(family: Family, share: float) -> int:
  """Number of units of a family that stay, as `htjax.pruning.units` counts."""
  return math.ceil(round(share * family.num_units, 6))


def scores(
  criterion: str,
  families: list[Family],
  apply: Apply,
  params: PyTree,
  inputs: Array,
) -> list[Array]:
  """Worth of units, [num_units] a family, as `htjax.pruning.units`.

  'activation' is from the derivatives of all outputs for each example at once,
  instead of one unit at a time.
  """
  leaves = jax.tree.leaves(params)
  if criterion == 'activation':
    return _effects(families, apply, params, inputs)
  if criterion == 'norm':
    return [squared_norms(f, leaves, 'incoming') for f in families]
  if criterion == 'in_out':
    return [
      squared_norms(f, leaves, 'incoming')
      * squared_norms(f, leaves, 'outgoing')
      for f in families
    ]
  if criterion != 'centred':
    raise ValueError(f'no criterion is called {criterion!r}')
  found = []
  for family in families:
    wide = list(leaves)
    for part in family.at('incoming'):
      wide[part.leaf] = leaves[part.leaf] - jnp.median(leaves[part.leaf])
    found.append(squared_norms(family, wide, 'incoming'))
  return found


def smaller(
  families: list[Family], params: PyTree, scores: list[Array], share: float
) -> PyTree:
  """The arrays of the network without the units of lowest score."""
  treedef: Any
  leaves, treedef = jax.tree.flatten(params)
  for family, score in zip(families, scores, strict=True):
    number = count(family, share)
    best = jnp.argsort(-score, stable=True)[:number]
    keep = jnp.zeros(family.num_units, bool).at[best].set(True)
    for part in family.parts:
      stays = (part.unit < 0) | keep[jnp.maximum(part.unit, 0)]
      each = (part.unit >= 0).sum() // family.num_units
      size = int((part.unit < 0).sum() + number * each)
      (index,) = jnp.nonzero(stays, size=size)
      leaves[part.leaf] = jnp.take(leaves[part.leaf], index, axis=part.axis)
  return treedef.unflatten(leaves)


def _effects(
  families: list[Family], apply: Apply, params: PyTree, inputs: Array
) -> list[Array]:
  """Mean square over outputs of the derivative by a factor of each unit."""
  treedef: Any
  leaves, treedef = jax.tree.flatten(params)

  def outputs(factors: list[Array], x: Array) -> Array:
    arrays = list(leaves)
    for family, own in zip(families, factors, strict=True):
      for part in family.at('outgoing'):
        arrays[part.leaf] = scaled(part, arrays[part.leaf], own)
    return apply(treedef.unflatten(arrays), x[None])[0]

  ones = [jnp.ones(f.num_units) for f in families]

  def squares(x: Array) -> Any:
    return jax.tree.map(
      lambda d: jnp.mean(d**2, axis=0), jax.jacrev(outputs)(ones, x)
    )

  total = lax.map(squares, inputs, batch_size=32)
  return [jnp.mean(own, axis=0) for own in total]
