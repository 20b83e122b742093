"""The part of every leaf that an operation reaches, entry by entry."""

from typing import Any, NamedTuple

import jax
import numpy as np

from htjax import selection
from htjax.checks import is_concrete
from htjax.types import PyTree
from htjax.units.inference import Given, default_flags, describe, fitting
from htjax.units.leaf import Leaf


class Target(NamedTuple):
  """A leaf that is reached: where, and what its axes are.

  Attributes:
    flag: True for all of it, or booleans of its shape.
    leaf: its description.
  """

  flag: Any
  leaf: Leaf


def targets(
  select: selection.Selection,
  params: PyTree,
  name: str = 'select',
  units: Given = None,
) -> list[Target | None]:
  """The part of each leaf that an operation reaches; None for none of it.

  Args:
    select: None for every weight, a pytree of booleans (or of boolean arrays),
      or a function of the parameters that returns one.
    params: pytree of arrays.
    name: what the caller's argument is called, for messages.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.

  Returns:
    For each leaf of `params`, in order, its Target or None.

  Raises:
    ValueError: a selection of another structure, or of nothing; a leaf that is
      ambiguous, or that its description does not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import units
    >>> params = {'kernel': jnp.ones((3, 2)), 'bias': jnp.ones(2)}
    >>> [target and target.flag for target in units.targets(None, params)]
    [None, True]
  """
  selection.resolve(None, params, name)  # refuses an empty pytree
  described = describe(units, params)
  flags: list[Any] = default_flags(described)
  if select is not None:
    flags = jax.tree.leaves(
      selection.resolve(select, params, name, by_entry=True)
    )
  if all(is_concrete(flag) and not np.any(np.asarray(flag)) for flag in flags):
    raise ValueError(
      f'{name} must choose at least one leaf, got none'
      + (': params hold no weight; see htjax.units' if select is None else '')
    )
  return [
    None if leaf is None else Target(flag, leaf)
    for flag, leaf in zip(flags, fitting(described, params, flags), strict=True)
  ]
