"""Proximal penalties on weights and on units, as optax transformations.

The last link of a chain: with w + u the weight after the optimizer's update, it
becomes the point v that minimises

  |v - (w + u)|^2 / 2 + eta_t strength penalty(v),

which has entries, or whole units, that are exactly zero. In the loss itself
such a penalty leaves numbers near zero instead.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from htjax import selection
from htjax import units as _units
from htjax.checks import check_choice, check_range, checked
from htjax.rounding import widened
from htjax.schedules import ScalarOrSchedule, at
from htjax.types import Array, PyTree


@checked
def l1(
  learning_rate: ScalarOrSchedule,
  strength: ScalarOrSchedule,
  *,
  select: selection.Selection = None,
  units: _units.Given = None,
) -> optax.GradientTransformation:
  """Soft thresholding of every weight at learning_rate * strength.

  Args:
    learning_rate: eta_t >= 0, a number or a schedule of the step count; the
      one that the optimizer in front uses.
    strength: >= 0, likewise.
    select: the weights that are penalised, see `htjax.selection`; None for
      every weight, which embeddings, norms and biases are not.
    units: what is a weight, see `htjax.units`; None asks the leaves' names.

  Returns:
    An optax transformation, whose `update` needs `params`.

  Raises:
    ValueError: a negative number; from `init` and `update` a selection that
      does not fit, or of nothing; from `update` no `params`.

  Values: a traced negative threshold enlarges weights. NaN stays NaN.

  Source: [Parikh2014], section 6.5.2.

  Examples:
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from htjax import regularizers
    >>> params = {'kernel': jnp.array([[0.5, -0.02], [0.01, -0.3]])}
    >>> tx = optax.chain(optax.sgd(0.1), regularizers.l1(0.1, 1.0))
    >>> zero = {'kernel': jnp.zeros((2, 2))}
    >>> updates, _ = tx.update(zero, tx.init(params), params)
    >>> jnp.round(optax.apply_updates(params, updates)['kernel'], 3).tolist()
    [[0.4000000059604645, 0.0], [0.0, -0.20000000298023224]]
  """

  def shrink(weights: Array, threshold: Any, leaf: _units.Leaf) -> Array:
    del leaf
    return jnp.sign(weights) * jnp.maximum(jnp.abs(weights) - threshold, 0)

  return _proximal(shrink, learning_rate, strength, select, units)


@checked
def group_lasso(
  learning_rate: ScalarOrSchedule,
  strength: ScalarOrSchedule,
  *,
  select: selection.Selection = None,
  unit: str = 'filter',
  units: _units.Given = None,
) -> optax.GradientTransformation:
  """Shrink every unit's norm by learning_rate * strength, to zero at least.

  The groups are what is pruned: columns, filters, (head, dim) pairs of an
  attention projection, those of each stacked layer or expert by itself. A unit
  v becomes v max(0, 1 - threshold / |v|).

  Args:
    learning_rate: eta_t >= 0, a number or a schedule of the step count; the
      one that the optimizer in front uses.
    strength: >= 0, likewise.
    select: the weights that are penalised, see `htjax.selection`; None for
      every weight, which embeddings, norms and biases are not.
    unit: 'filter' or 'kernel', what convolutions are made of.
    units: what a unit is in each leaf, see `htjax.units`; None asks the leaves'
      names.

  Returns:
    An optax transformation, whose `update` needs `params`. Where entries are
    selected one by one, a unit's norm is that of its selected ones.

  Raises:
    ValueError: a negative number, an unknown unit; from `init` and `update` a
      selection that does not fit, or of nothing; from `update` no `params`.

  Values: a traced negative threshold enlarges weights. NaN stays NaN.

  Source: [Parikh2014], section 6.5.4.

  Examples:
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from htjax import regularizers
    >>> params = {'kernel': jnp.array([[3.0, 0.03], [4.0, 0.04]])}
    >>> tx = optax.chain(optax.sgd(0.1), regularizers.group_lasso(0.1, 1.0))
    >>> zero = {'kernel': jnp.zeros((2, 2))}
    >>> updates, _ = tx.update(zero, tx.init(params), params)
    >>> params = optax.apply_updates(params, updates)
    >>> jnp.linalg.norm(params['kernel'], axis=0).round(4).tolist()
    [4.900000095367432, 0.0]
  """
  check_choice('unit', unit, _units.UNITS)

  def shrink(weights: Array, threshold: Any, leaf: _units.Leaf) -> Array:
    axes = leaf.vector_axes(unit)
    # Of a typical size, so that no square leaves the range.
    peak = jnp.max(jnp.abs(weights), axis=axes, keepdims=True, initial=0.0)
    scaled = weights / jnp.where(peak == 0, 1, peak)
    norm = peak * jnp.sqrt(jnp.sum(scaled**2, axis=axes, keepdims=True))
    # Also at norm 0, where it would be 0 / 0.
    kept = jnp.where(norm > threshold, 1 - threshold / norm, 0)
    return weights * jnp.where(jnp.isnan(norm), jnp.nan, kept)

  return _proximal(shrink, learning_rate, strength, select, units)


def _proximal(
  shrink: Callable[[Array, Any, _units.Leaf], Array],
  learning_rate: ScalarOrSchedule,
  strength: ScalarOrSchedule,
  select: selection.Selection,
  units: _units.Given,
) -> optax.GradientTransformation:
  """A transformation that puts `shrink` of the updated weights in place."""
  for name, value in (('learning_rate', learning_rate), ('strength', strength)):
    if not callable(value):
      check_range(name, value, 0.0, np.inf, open_high=True)

  def init(params: PyTree) -> optax.ScaleByScheduleState:
    _units.targets(select, params, units=units)
    return optax.ScaleByScheduleState(count=jnp.zeros((), jnp.int32))

  def update(
    updates: Any, state: Any, params: Any = None
  ) -> tuple[Any, optax.ScaleByScheduleState]:
    if params is None:
      raise ValueError(
        'params must be given to update, got None: weights are shrunk, not '
        'updates'
      )
    treedef: Any
    leaves, treedef = jax.tree.flatten(updates)
    reached = _units.targets(select, updates, units=units)
    threshold = at(learning_rate, state.count) * at(strength, state.count)
    shrunk = [
      u if to is None else _moved(shrink, u, w, threshold, to)
      for u, w, to in zip(
        leaves, treedef.flatten_up_to(params), reached, strict=True
      )
    ]
    count = optax.safe_increment(state.count)
    return jax.tree.unflatten(treedef, shrunk), optax.ScaleByScheduleState(
      count=count
    )

  return optax.GradientTransformation(init, update)


def _moved(
  shrink: Callable[[Array, Any, _units.Leaf], Array],
  update: Array,
  weight: Array,
  threshold: Any,
  to: _units.Target,
) -> Array:
  """The update that leads to the shrunk weights."""
  start = widened(weight)
  end = start + widened(update)
  chosen = jnp.broadcast_to(to.flag, end.shape)
  threshold = jnp.asarray(threshold, end.dtype)
  shrunk = shrink(jnp.where(chosen, end, 0), threshold, to.leaf)
  return jnp.where(chosen, (shrunk - start).astype(update.dtype), update)
