"""Which leaves of a pytree of parameters an operation acts on.

Noise and pruning share one notion of a selection: a pytree of booleans of the
structure of the parameters, a function that makes one, or None for every
weight, a weight being a floating-point leaf of rank 2 or more.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from htjax.types import PyTree

Selection = PyTree | Callable[[PyTree], PyTree] | None


def weights(params: PyTree) -> PyTree:
  """Select every weight: floating-point leaves of rank 2 or more.

  Args:
    params: any pytree of arrays.

  Returns:
    A pytree of Python booleans with the structure of `params`.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import selection
    >>> selection.weights({'kernel': jnp.ones((3, 2)), 'bias': jnp.ones(2)})
    {'bias': False, 'kernel': True}
  """
  return jax.tree.map(_is_weight, params)


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
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
    parts = [path_components(path) for path, _ in leaves]
    for name in names:
      if not any(name in p for p in parts):
        raise ValueError(
          f'exclude: no part of the parameters is called {name!r}; there are '
          f'{", ".join(sorted({c for p in parts for c in p})) or "none"}'
        )
    chosen = [
      _is_weight(leaf) and not set(names) & set(p)
      for (_, leaf), p in zip(leaves, parts, strict=True)
    ]
    return jax.tree.unflatten(treedef, chosen)

  return select


def resolve(
  selection: Selection, params: PyTree, name: str = 'select'
) -> PyTree:
  """Turn a selection into a pytree of booleans with `params`' structure.

  Args:
    selection: None (every weight), a pytree of booleans, or a function of the
      parameters that returns one.
    params: pytree of arrays, not empty.
    name: what the caller's argument is called, for messages.

  Returns:
    A pytree of Python booleans.

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
    chosen = weights(params)
  else:
    chosen = selection(params) if callable(selection) else selection
  if jax.tree.structure(chosen) != treedef:
    raise ValueError(
      f'{name} must have the structure of params, {treedef}, got '
      f'{jax.tree.structure(chosen)}'
    )
  for flag in jax.tree.leaves(chosen):
    if not isinstance(flag, bool) and not (
      getattr(flag, 'dtype', None) == np.bool_ and np.shape(flag) == ()
    ):
      raise ValueError(f'{name} must hold booleans, got {flag!r}')
  return jax.tree.map(bool, chosen)


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


def _is_weight(leaf: Any) -> bool:
  dtype = getattr(leaf, 'dtype', None)
  return (
    dtype is not None and jnp.issubdtype(dtype, jnp.floating) and leaf.ndim >= 2
  )
