"""Pruning while a network trains: more and more, in rounds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from htjax.checks import check_count, checked
from htjax.pruning.magnitudes import magnitude
from htjax.selection import Selection, resolve
from htjax.types import Array, ArrayLike, PyTree

# step -> kept fraction.
Schedule = Callable[[Array], ArrayLike]


@checked
def cubic_schedule(
  kappa: ArrayLike, *, start: ArrayLike, steps: ArrayLike
) -> Schedule:
  """Kept fraction that falls from 1 to kappa, fast at first.

  kappa + (1 - kappa) (1 - t)^3 with t = (step - start) / steps, within [0, 1].

  Args:
    kappa: kept fraction at the end, in [0, 1], traced.
    start: step up to which everything is kept, traced.
    steps: > 0, how many it takes, traced.

  Returns:
    A function of the step.

  Source: [Zhu2017], eq. (1).

  Examples:
    >>> from htjax import pruning
    >>> kept = pruning.cubic_schedule(0.2, start=10, steps=100)
    >>> [round(float(kept(step)), 3) for step in (0, 10, 60, 110, 500)]
    [1.0, 1.0, 0.3, 0.2, 0.2]
  """

  def kept(step: Array) -> Array:
    part = jnp.clip((step - start) / steps, 0, 1)
    return jnp.asarray(kappa + (1 - kappa) * (1 - part) ** 3)

  return kept


@checked
def gradual_magnitude(
  kappa: Schedule | None, *, every: int = 1, select: Selection = None
) -> optax.GradientTransformation:
  """Prune the smallest magnitudes of all layers together while training.

  Last in a chain, behind momentum, weight decay and noise: entries that are
  pruned become zero and stay zero.

  Args:
    kappa: function of the step, counted from 0, that gives the kept fraction
      of the selected entries, in [0, 1], traced; None prunes no more, and
      holds what is zero.
    every: static; entries are pruned at each so manieth step.
    select: which leaves are pruned; None is every weight.

  Returns:
    An optax transformation, whose updates need params. Its state counts steps.
    Of the selected leaves, what is zero already counts as pruned.

  Raises:
    ValueError: every below 1; in the update as `magnitude`, and without params.

  Values: a NaN or infinity in the update of a pruned entry is dropped.

  Source: [Zhu2017], section 3.

  Examples:
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from htjax import pruning
    >>> half = pruning.gradual_magnitude(lambda step: 0.5)
    >>> tx = optax.chain(optax.sgd(0.5), half)
    >>> params = {'w': jnp.array([[3.0, 0.5], [1.0, 0.25]])}
    >>> gradients = {'w': jnp.ones((2, 2))}
    >>> updates, _ = tx.update(gradients, tx.init(params), params)
    >>> optax.apply_updates(params, updates)['w'].tolist()
    [[2.5, 0.0], [0.5, 0.0]]
  """
  check_count('every', every)

  def update(
    updates: PyTree, step: Any, params: PyTree | None = None
  ) -> tuple[PyTree, Array]:
    if params is None:
      raise ValueError('params must be given to the update, got None')
    flags = resolve(select, params)
    mask = jax.tree.map(lambda flag, w: (w != 0) | (not flag), flags, params)
    if kappa is not None:
      mask = lax.cond(
        step % every == 0,
        lambda: (
          magnitude(params, kappa(step), scope='global', select=flags).mask
        ),
        lambda: mask,
      )
    moves = jax.tree.map(
      lambda free, move, w: jnp.where(free, move, -w), mask, updates, params
    )
    return moves, step + 1

  return optax.GradientTransformation(lambda params: jnp.int32(0), update)
