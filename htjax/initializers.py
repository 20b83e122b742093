"""Initialisation with a law of column scales.

Networks whose columns start at different sizes prune better or worse without
any noise; this makes the spread a choice of its own, beside noise and
penalties.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from htjax import selection, stable
from htjax import units as _units
from htjax.checks import check_choice, check_key, check_range, checked
from htjax.rounding import widened
from htjax.types import Array, ArrayLike, PRNGKey, PyTree

LAWS = ('stable', 'half_normal', 'pareto')


@checked
def scale_units(
  key: PRNGKey,
  params: PyTree,
  law: str,
  *,
  alpha: ArrayLike | None = None,
  scale: ArrayLike = 1.0,
  select: selection.Selection = None,
  unit: str = 'filter',
  units: _units.Given = None,
) -> PyTree:
  """Multiply every unit's incoming weights by a random size of a given law.

  The sizes are independent, one for each unit:
    'stable'       scale |Z|, Z standard symmetric stable: E exp(itZ) =
                   exp(-|t|^alpha), so P(size > s) ~ s^-alpha for alpha < 2
    'half_normal'  scale |G|, G standard normal
    'pareto'       scale U^(-1/alpha), U uniform: P(size > s) ~ s^-alpha

  Args:
    key: typed key; leaf number i draws from fold_in(key, i).
    params: pytree of arrays, such as an `init` gives.
    law: 'stable', 'half_normal' or 'pareto', static.
    alpha: tail index, in (0, 2] of 'stable' and > 0 of 'pareto', traced; None
      for 'half_normal'.
    scale: >= 0, traced.
    select: the weights that are scaled, see `htjax.selection`; None for every
      weight, which embeddings, norms and biases are not.
    unit: 'filter' or 'kernel', what convolutions are made of.
    units: what a unit is in each leaf, see `htjax.units`; None asks the leaves'
      names.

  Returns:
    Pytree of the arrays' shapes and dtypes; what is not selected is as it was.

  Raises:
    ValueError: a legacy key; an unknown law or unit; a law without its alpha,
      'half_normal' with one, a number out of its range; a selection that does
      not fit, or of nothing; an ambiguous leaf, by name.

  Values: a traced alpha or scale out of range gives NaN or infinity.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import initializers
    >>> params = {'kernel': jnp.ones((4, 3)), 'bias': jnp.zeros(3)}
    >>> params = initializers.scale_units(
    ...   jax.random.key(0), params, 'pareto', alpha=1.5
    ... )
    >>> column = params['kernel'][:, 0]
    >>> bool((column == column[0]).all()), bool(column[0] > 1)
    (True, True)
  """
  key = check_key(key)
  check_choice('law', law, LAWS)
  check_choice('unit', unit, _units.UNITS)
  check_range('scale', scale, 0.0, np.inf, open_high=True)
  _check_alpha(law, alpha)
  leaves, treedef = jax.tree.flatten(params)
  scaled = [
    leaf
    if to is None
    else _scaled(jax.random.fold_in(key, i), leaf, to, law, alpha, scale, unit)
    for i, (leaf, to) in enumerate(
      zip(leaves, _units.targets(select, params, units=units), strict=True)
    )
  ]
  return jax.tree.unflatten(treedef, scaled)


def _check_alpha(law: str, alpha: Any) -> None:
  if law == 'half_normal':
    if alpha is not None:
      raise ValueError(f'alpha must be None for law half_normal, got {alpha}')
    return
  if alpha is None:
    raise ValueError(f'alpha must be given with law {law}, got None')
  most = 2.0 if law == 'stable' else np.inf
  check_range('alpha', alpha, 0.0, most, open_low=True, open_high=most > 2)


def _scaled(
  key: PRNGKey,
  leaf: Array,
  to: _units.Target,
  law: str,
  alpha: Any,
  scale: Any,
  unit: str,
) -> Array:
  axes = to.leaf.vector_axes(unit)
  shape = tuple(1 if i in axes else n for i, n in enumerate(leaf.shape))
  wide = widened(leaf)
  size = scale * _sizes(key, shape, wide.dtype, law, alpha)
  moved = (wide * size.astype(wide.dtype)).astype(leaf.dtype)
  return moved if to.flag is True else jnp.where(to.flag, moved, leaf)


def _sizes(
  key: PRNGKey, shape: tuple[int, ...], dtype: Any, law: str, alpha: Any
) -> Array:
  if law == 'stable':
    return jnp.abs(stable.sample(key, alpha, shape, dtype))
  if law == 'half_normal':
    return jnp.abs(jax.random.normal(key, shape, dtype))
  # U^(-1/alpha) = exp(E / alpha), E exponential.
  return jnp.exp(jax.random.exponential(key, shape, dtype) / alpha)
