"""Which leaves of a pytree of parameters an operation acts on.

Noise and pruning share one notion of a selection: a pytree of booleans of the
structure of the parameters, a function that makes one, or None for every
weight: a leaf that holds the incoming weights of units.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import checked
from htjax.types import PyTree

Selection = PyTree | Callable[[PyTree], PyTree] | None


@checked
def weights(params: PyTree) -> PyTree:
  """Select every weight: leaves that hold the incoming weights of units.

  Kernels of dense layers, convolutions and attention are weights; embeddings,
  biases and normalisations are not, whatever their rank. `htjax.units` tells
  them apart.

  Args:
    params: any pytree of arrays.

  Returns:
    A pytree of Python booleans with the structure of `params`. True also for
    a leaf of rank 3 or more that may be one thing or another: what acts on it
    refuses it by name.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import selection
    >>> selection.weights({'kernel': jnp.ones((3, 2)), 'bias': jnp.ones(2)})
    {'bias': False, 'kernel': True}
  """
  # Descriptions of leaves are made of paths, which are named below.
  from htjax import units

  flags = units.default_flags(units.describe(None, params))
  return jax.tree.unflatten(jax.tree.structure(params), flags)


@checked
def exclude(*names: str) -> Callable[[PyTree], PyTree]:
  """Make a selection of every weight outside the named subtrees.

  The papers neither disturb nor prune the last linear layer: for a network
  whose last layer is stored under `'output'`, that is `exclude('output')`.

  Args:
    *names: keys or attribute names; a leaf whose path contains one of them as
      a whole component is left out.

  Returns:
    A function from a pytree to a pytree of booleans. It raises `ValueError`
    if a name occurs nowhere in the pytree, so that a typo is not silent.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import selection
    >>> params = {'hidden': jnp.ones((3, 2)), 'output': jnp.ones((2, 1))}
    >>> selection.exclude('output')(params)
    {'hidden': True, 'output': False}
  """

  def select(params: PyTree) -> PyTree:
    if _is_step_count(params):
      raise ValueError(
        'exclude was called with a step count instead of parameters; '
        'optax.inject_hyperparams takes functions for schedules unless they '
        "are named: static_args=('select',)"
      )
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
    parts = [path_components(path) for path, _ in leaves]
    for name in names:
      if not any(name in p for p in parts):
        raise ValueError(
          f'exclude: no part of the parameters is called {name!r}; there are '
          f'{", ".join(sorted({c for p in parts for c in p})) or "none"}'
        )
    chosen = [
      flag and not set(names) & set(p)
      for flag, p in zip(jax.tree.leaves(weights(params)), parts, strict=True)
    ]
    return jax.tree.unflatten(treedef, chosen)

  return select


@checked
def resolve(
  selection: Selection,
  params: PyTree,
  name: str = 'select',
  *,
  by_entry: bool = False,
) -> PyTree:
  """Turn a selection into a pytree of booleans with `params`' structure.

  Args:
    selection: None (every weight), a pytree of booleans, or a function of the
      parameters that returns one. A pytree that can also be called, such as a
      module of booleans, is taken as it is if its structure fits.
    params: pytree of arrays, not empty.
    name: what the caller's argument is called, for messages.
    by_entry: whether arrays of booleans are allowed, of their leaves' shapes.

  Returns:
    A pytree of Python booleans, and of such arrays.

  Raises:
    ValueError: if `params` has no leaves, or the selection has another
      structure or entries that are not booleans.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import selection
    >>> params = {'hidden': jnp.ones((3, 2)), 'output': jnp.ones((2, 1))}
    >>> selection.resolve(selection.exclude('output'), params)
    {'hidden': True, 'output': False}
  """
  treedef: Any = jax.tree.structure(params)
  if treedef.num_leaves == 0:
    raise ValueError('params must have at least one leaf, got an empty pytree')
  if selection is None:
    return weights(params)
  chosen = selection
  if callable(selection) and not _is_tree(selection, treedef):
    chosen = selection(params)
  if jax.tree.structure(chosen) != treedef:
    raise ValueError(
      f'{name} must have the structure of params, {treedef}, got '
      f'{jax.tree.structure(chosen)}'
    )
  return jax.tree.map(
    lambda flag, leaf: _flag(flag, leaf, name, by_entry), chosen, params
  )


@checked
def one_name(select: Selection, mask: Selection) -> tuple[Selection, str]:
  """The selection that was given under one of its two names, and that name.

  Raises:
    ValueError: it was given under both.

  Examples:
    >>> from htjax import selection
    >>> selection.one_name(None, selection.weights)[1]
    'mask'
  """
  if mask is None:
    return select, 'select'
  if select is not None:
    raise ValueError(
      'mask is another name of select: one of them must be None, got both'
    )
  return mask, 'mask'


@checked
def path_components(path: tuple[Any, ...]) -> list[str]:
  """The names along a leaf's path, outermost first.

  Examples:
    >>> import jax
    >>> from htjax import selection
    >>> ((path, _),) = jax.tree.leaves_with_path({'hidden': {'kernel': 1}})
    >>> selection.path_components(path)
    ['hidden', 'kernel']
  """
  return [jax.tree_util.keystr((entry,), simple=True) for entry in path]


def _is_tree(selection: Any, treedef: Any) -> bool:
  """Whether what can be called is a pytree of this structure nevertheless."""
  leaves, structure = jax.tree.flatten(selection)
  return structure == treedef and leaves[0] is not selection


def _flag(flag: Any, leaf: Any, name: str, by_entry: bool) -> Any:
  """A boolean, or an array of them that fits the leaf."""
  is_boolean = (
    isinstance(flag, bool) or getattr(flag, 'dtype', None) == np.bool_
  )
  shape = np.shape(flag)
  if is_boolean and shape == ():
    return bool(flag)
  if is_boolean and by_entry and shape == np.shape(leaf):
    return flag
  raise ValueError(
    f'{name} must hold booleans, got '
    + (f'an array of shape {shape}' if is_boolean else repr(flag))
  )


def _is_step_count(params: Any) -> bool:
  dtype = getattr(params, 'dtype', None)
  return (
    dtype is not None
    and jnp.issubdtype(dtype, jnp.integer)
    and np.shape(params) == ()
  )
