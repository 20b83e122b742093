"""Units of any model, and how an operation matches them to its leaves."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from htjax import selection
from htjax.checks import check_choice, checked
from htjax.types import PyTree
from htjax.units import modules, names
from htjax.units.leaf import Leaf, Units, named_leaves

# What the argument `units` of an operation may be.
Given = Units | Mapping[str, Leaf] | None


@checked
def infer(
  model: Any,
  *inputs: Any,
  layout: str = 'flax',
  given: Mapping[str, Leaf] | None = None,
  **options: Any,
) -> Units:
  """Find out what one neuron is in every leaf of a model.

  Args:
    model: an NNX module; a Linen module; an Equinox module or a pytree of
      some; or any pytree of arrays (parameters of Flax or Haiku, a state
      dict), of which names, ranks and biases tell.
    *inputs: of a Linen module alone: what its `init` takes after the key,
      arrays or `jax.ShapeDtypeStruct`.
    layout: of a plain pytree: 'flax', kernels [.., in, out], or 'torch',
      weights [out, in, ..].
    given: name -> `Leaf`, descriptions of your own that come first.
    **options: of a Linen module alone: keywords of its `init`.

  Returns:
    Units, printable as a table. Embeddings, norms and biases are described
    too; they are no weights.

  Raises:
    ValueError: naming it, a leaf of rank 3 or more of which nothing tells
      what its axes are; a Linen module without inputs; inputs for another
      model; an unknown layout; an entry of `given` that is no leaf's name.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import units
    >>> params = {'kernel': jnp.ones((3, 2)), 'bias': jnp.ones(2)}
    >>> print(units.infer(params))
    leaf    role   units  inputs  window  stacked  groups
    bias    bias
    kernel  dense  1      0                        1
  """
  check_choice('layout', layout, names.LAYOUTS)
  found = _describe(model, inputs, layout, options)
  for name in given or {}:
    if name not in found:
      raise ValueError(
        f'given: no leaf is called {name!r}; there are {", ".join(found)}'
      )
  units = Units(tuple(found.items())).replace(given or {})
  for name, leaf in units.leaves:
    if leaf.reason:
      raise ValueError(ambiguity(name, leaf, 'given'))
  return units


def match(
  units: Given, params: PyTree, select: selection.Selection = None
) -> list[Leaf | None]:
  """Descriptions of the leaves of `params` that an operation acts on.

  Args:
    units: Units of the model that holds `params`; a mapping name -> Leaf for
      some leaves; or None. Leaves that are not in it are described by name.
    params: pytree of arrays, not empty.
    select: see `htjax.selection`; None is every weight.

  Returns:
    For each leaf of `params`, in order, its Leaf, or None where the operation
    does not act.

  Raises:
    ValueError: naming it, a selected leaf that is ambiguous, or that its
      description does not fit; `units` of another model; bad `select`.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import units
    >>> params = {'kernel': jnp.ones((3, 2)), 'bias': jnp.ones(2)}
    >>> [leaf and leaf.role for leaf in units.match(None, params)]
    [None, 'dense']
  """
  described = describe(units, params)
  if select is None:
    flags = default_flags(described)
  else:
    flags = jax.tree.leaves(selection.resolve(select, params))
  return fitting(described, params, flags)


def describe(units: Given, params: PyTree) -> list[Leaf]:
  """Descriptions of all leaves of `params`; ambiguous ones have a reason.

  Args:
    units: Units of the model that holds `params`; a mapping name -> Leaf for
      some leaves; or None, for the leaves' names to tell.
    params: pytree of arrays, not empty.

  Returns:
    A Leaf for each leaf, in order.

  Raises:
    ValueError: `units` of another model.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import units
    >>> params = {'kernel': jnp.ones((3, 2)), 'bias': jnp.ones(2)}
    >>> [leaf.role for leaf in units.describe(None, params)]
    ['bias', 'dense']
  """
  leaves = named_leaves(params)
  known = _known(units, [name for name, _ in leaves])
  if not isinstance(units, Units):
    known = _guessed(params, leaves) | known
  return [known[name] for name, _ in leaves]


@checked
def default_flags(described: Sequence[Leaf]) -> list[bool]:
  """The weights: what is selected where nothing is said.

  Args:
    described: of every leaf.

  Returns:
    True where a leaf is a weight, or may be one.

  Raises:
    ValueError: entries that are no Leaf.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import units
    >>> params = {'kernel': jnp.ones((3, 2)), 'bias': jnp.ones(2)}
    >>> units.default_flags(units.describe(None, params))
    [False, True]
  """
  _check_described(described, len(described))
  return [leaf.is_weight or bool(leaf.reason) for leaf in described]


def _check_described(described: Sequence[Leaf], num: int) -> None:
  if len(described) != num or any(not isinstance(x, Leaf) for x in described):
    raise ValueError(
      f'described must be a units.Leaf for each of {num} leaves of params, got '
      f'{described!r}'
    )


@checked
def fitting(
  described: Sequence[Leaf], params: PyTree, flags: Sequence[Any]
) -> list[Leaf | None]:
  """The descriptions of flagged leaves, checked; None for the others.

  Args:
    described: of every leaf.
    params: the pytree.
    flags: of every leaf, False where the operation does not act.

  Returns:
    For each leaf its Leaf or None.

  Raises:
    ValueError: naming it, a flagged leaf that is ambiguous, or that its
      description does not fit.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import units
    >>> params = {'kernel': jnp.ones((3, 2)), 'bias': jnp.ones(2)}
    >>> described = units.describe(None, params)
    >>> found = units.fitting(described, params, [True, False])
    >>> [leaf and leaf.role for leaf in found]
    ['bias', None]
  """
  leaves = named_leaves(params)
  _check_described(described, len(leaves))
  if len(flags) != len(leaves):
    raise ValueError(
      f'flags must be one for each of {len(leaves)} leaves of params, got '
      f'{len(flags)}'
    )
  return [
    None if flag is False else _fitting(name, array, leaf)
    for (name, array), leaf, flag in zip(leaves, described, flags, strict=True)
  ]


def ambiguity(name: str, leaf: Leaf, argument: str) -> str:
  """One line that says why a leaf is refused and what to give."""
  return (
    f'{leaf.reason}; say which axes are units with '
    f"{argument}={{'{name}': htjax.units.Leaf(..)}}, or hand the model itself "
    'to htjax.units.infer'
  )


def _describe(
  model: Any, inputs: tuple[Any, ...], layout: str, options: dict[str, Any]
) -> dict[str, Leaf]:
  if isinstance(model, Units):
    raise ValueError('model must be a model or its parameters, got Units')
  linen = sys.modules.get('flax.linen')
  if linen is not None and isinstance(model, linen.Module):
    if not inputs:
      raise ValueError(
        'inputs must be given with a Linen module, as for its init; got none'
      )
    return modules.from_linen(model, inputs, options)
  if inputs or options:
    raise ValueError(
      'inputs and options are for a Linen module alone, got a '
      f'{type(model).__name__}'
    )
  nnx = sys.modules.get('flax.nnx')
  if nnx is not None and isinstance(model, nnx.Module):
    return modules.from_nnx(model)
  if modules.is_equinox(model):
    return modules.from_equinox(model)
  leaves = named_leaves(model)
  if not leaves:
    raise ValueError('model must have at least one leaf, got an empty pytree')
  return names.describe(_signature(leaves), layout)


def _guessed(params: PyTree, leaves: list[tuple[str, Any]]) -> dict[str, Leaf]:
  """Descriptions of parameters that come without any."""
  if modules.is_equinox(params):
    return modules.from_equinox(params)
  return names.describe(_signature(leaves), 'flax')


def _signature(leaves: list[tuple[str, Any]]) -> names.Signature:
  return tuple(
    (name, tuple(jax.numpy.shape(leaf)), names.is_floating(leaf))
    for name, leaf in leaves
  )


def _known(units: Given, present: list[str]) -> dict[str, Leaf]:
  """The descriptions that were given, checked against the leaves there are."""
  if units is None:
    return {}
  if isinstance(units, Units):
    known = dict(units.leaves)
    missing = [name for name in present if name not in known]
  elif isinstance(units, Mapping):
    known = dict(Units(()).replace(units).leaves)
    missing = [name for name in known if name not in present]
  else:
    raise ValueError(
      f'units must be htjax.units.Units or a mapping of names, got {units!r}'
    )
  if missing:
    raise ValueError(
      f'units are of another model: {", ".join(missing)} '
      f'{"is" if len(missing) == 1 else "are"} not in both; the parameters '
      f'hold {", ".join(present)}'
    )
  return known


def _fitting(name: str, array: Any, leaf: Leaf) -> Leaf:
  if leaf.reason:
    raise ValueError(ambiguity(name, leaf, 'units'))
  leaf.check(name, jax.numpy.shape(array))
  return leaf
