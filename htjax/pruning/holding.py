"""Fine-tuning of a pruned network: what was pruned stays as it is."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from htjax.checks import checked
from htjax.types import PyTree


@checked
def hold(mask: PyTree) -> optax.GradientTransformation:
  """Leave pruned entries alone, whatever moves them.

  Last in a chain, behind momentum, weight decay and noise: it makes updates of
  pruned entries zero.

  Args:
    mask: pytree of boolean arrays of the parameters' shapes, True where an
      entry is free to move: `Pruned.mask`.

  Returns:
    An optax transformation without a state. It raises ValueError for updates
    of another structure, or of other shapes.

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

  def held(updates: PyTree, params: PyTree | None = None) -> PyTree:
    del params
    ours: Any = jax.tree.structure(mask)
    theirs: Any = jax.tree.structure(updates)
    if ours != theirs:
      raise ValueError(
        f'mask must have the structure of the updates, {theirs}, got {ours}'
      )
    return jax.tree.map(_where, mask, updates)

  return optax.stateless(held)


def _where(mask: jax.Array, update: jax.Array) -> jax.Array:
  if jnp.shape(mask) != jnp.shape(update):
    raise ValueError(
      f'mask must have the shapes of the updates, {jnp.shape(update)}, got '
      f'{jnp.shape(mask)}'
    )
  return jnp.where(mask, update, jnp.zeros_like(update))
