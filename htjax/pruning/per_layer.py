"""Any kernel of pruning with an amount of its own for each layer."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from htjax.checks import check_callable, checked
from htjax.pruning.results import Pruned
from htjax.selection import path_components
from htjax.types import PyTree


@checked
def per_layer(
  kernel: Callable[..., Pruned],
  params: PyTree,
  amounts: Mapping[str, Any],
  **options: Any,
) -> Pruned:
  """Prune each named layer by its own amount: kappa_l, or epsilon_l.

  The kernel acts on one leaf at a time: `magnitude`, `columns`, `rows`,
  `filters`, `kernels`, `singular_values`, `to_error`, `columns_to_error`, or
  `functools.partial(randomized_magnitude, key)`, whose amount is then the
  strength.

  Args:
    kernel: (params, amount, select=, **options) -> Pruned.
    params: pytree of arrays.
    amounts: for each layer that is to be pruned the amount, traced or not, by
      its name: the components of its path joined by dots. Others stay.
    **options: passed on; of `select` the names take the place, and a scope
      'global' is refused.

  Returns:
    Pruned of all named layers: `kept` and `total` are their sums.

  Raises:
    ValueError: no amounts, a name that no leaf has, an option that is refused,
      and as the kernel.

  Source: [HT], Theorem 1 (layer-wise, kappa_l) and Theorems 2 and 3.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> params = {'a': jnp.arange(1.0, 9.0).reshape(2, 4), 'b': jnp.eye(2)}
    >>> pruned = pruning.per_layer(
    ...   pruning.magnitude, params, {'a': 0.25, 'b': 1.0}
    ... )
    >>> int(pruned.kept), int(pruned.total)
    (6, 12)
  """
  check_callable('kernel', kernel)
  if not amounts:
    raise ValueError('amounts must name at least one layer, got none')
  if 'select' in options or options.get('scope') == 'global':
    raise ValueError(
      f'options must be without select and a global scope, got {options}'
    )
  paths, treedef = jax.tree.flatten_with_path(params)
  names = ['.'.join(path_components(path)) for path, _ in paths]
  unknown = set(amounts) - set(names)
  if unknown:
    raise ValueError(
      f'amounts must name leaves among {names}, got {sorted(unknown)}'
    )
  leaves = [leaf for _, leaf in paths]
  masks: Any = None
  kept: Any = 0
  total: Any = 0
  for name, amount in amounts.items():
    place = names.index(name)
    flags = [i == place for i in range(len(names))]
    select = jax.tree.unflatten(treedef, flags)
    pruned = kernel(params, amount, select=select, **options)
    found = jax.tree.leaves(pruned.mask)
    masks = found if masks is None else masks
    masks[place] = found[place]
    leaves[place] = jax.tree.leaves(pruned.params)[place]
    kept, total = kept + pruned.kept, total + pruned.total
  return Pruned(
    jax.tree.unflatten(treedef, leaves),
    jax.tree.unflatten(treedef, masks),
    kept,
    total,
  )
