"""Fine-tuning of a pruned network: what was pruned stays as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from htjax.checks import checked
from htjax.types import PyTree
from htjax.units import named_leaves


@checked
def hold(mask: PyTree) -> optax.GradientTransformation:
  """Leave pruned entries alone, whatever moves them.

  Last in a chain, behind momentum, weight decay and noise: it makes updates of
  pruned entries zero.

  Args:
    mask: pytree of boolean arrays of the parameters' shapes, True where an
      entry is free to move: `Pruned.mask`. It may hold more than is trained,
      such as the statistics of normalisations: leaves are found by their names.

  Returns:
    An optax transformation without a state. It raises ValueError for updates
    that the mask does not know, or of other shapes.

  Raises:
    ValueError: a mask with entries that are not boolean.

  Values: a NaN or infinity in the update of a pruned entry is dropped.

  Examples:
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from htjax import pruning
    >>> params = {'w': jnp.array([[3.0, 0.5], [1.0, 0.25]])}
    >>> pruned = pruning.columns(params, 0.5)
    >>> tx = optax.chain(optax.sgd(1.0), pruning.hold(pruned.mask))
    >>> gradients = {'w': jnp.ones((2, 2))}
    >>> updates, _ = tx.update(gradients, tx.init(pruned.params))
    >>> updates['w'].tolist()
    [[-1.0, 0.0], [-1.0, 0.0]]
  """
  for leaf in jax.tree.leaves(mask):
    dtype = getattr(leaf, 'dtype', type(leaf))
    if dtype not in (bool, np.dtype(bool)):
      raise ValueError(f'mask must hold booleans, got {dtype}')

  masks = dict(named_leaves(mask))

  def held(updates: PyTree, params: PyTree | None = None) -> PyTree:
    del params
    named, treedef = named_leaves(updates), jax.tree.structure(updates)
    unknown = [name for name, _ in named if name not in masks]
    if unknown:
      raise ValueError(
        f'mask must have an entry for each update, got none for '
        f'{", ".join(unknown)}; it has {", ".join(masks) or "no leaf"}'
      )
    return jax.tree.unflatten(
      treedef, [_where(name, masks[name], update) for name, update in named]
    )

  return optax.stateless(held)


def _where(name: str, mask: jax.Array, update: jax.Array) -> jax.Array:
  if jnp.shape(mask) != jnp.shape(update):
    raise ValueError(
      f'mask must have the shapes of the updates, {jnp.shape(update)} for '
      f'{name}, got {jnp.shape(mask)}'
    )
  return jnp.where(mask, update, jnp.zeros_like(update))
