"""Rounding of weights to a grid."""

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_range, checked
from htjax.compressibility import num_true
from htjax.floats import as_floating, times_power_of_two, to_unit_peak
from htjax.pruning.results import Pruned, check_scalar, choose
from htjax.selection import Selection
from htjax.types import Array, ArrayLike, PyTree
from htjax.units import Given


@checked
def discretize(
  params: PyTree,
  resolution: ArrayLike,
  *,
  select: Selection = None,
  units: Given = None,
) -> Pruned:
  """Round every entry of each leaf to the nearest multiple of `resolution`.

  An entry moves by at most resolution / 2, so a leaf with J entries that are
  not zero moves by at most resolution sqrt(J) / 2 in spectral norm.

  Args:
    params: pytree of arrays, pruned before or not: zeros stay zeros.
    resolution: the paper's rho > 0, traced.
    select: which leaves; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.

  Returns:
    Pruned, whose mask is True where the rounded entry is not zero. Each kept
    entry is one of 2 round(max |w| / rho) + 1 multiples, zero among them.

  Raises:
    ValueError: a concrete resolution not in (0, infinity), a bad selection, no
      leaf selected; naming the leaf, one of rank below 2, empty, not floating,
      or concretely NaN or infinite.

  Values: halves round to even multiples; the multiples are rounded to the
    leaf's dtype. Entries beyond the reach of the dtype's digits, 2^23
    multiples in float32, stay as they are. Traced NaN and infinity stay, and
    are kept; a traced resolution that is not positive, or NaN, makes the
    selected leaves NaN.

  Source: [SK], Lemma 4.2 (discretization).

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> params = {'w': jnp.array([[0.9, 0.2], [-0.4, 1.6]])}
    >>> pruning.discretize(params, 0.5).params['w'].tolist()
    [[1.0, 0.0], [-0.5, 1.5]]
  """
  check_range(
    'resolution', resolution, 0.0, np.inf, open_low=True, open_high=True
  )
  check_scalar('resolution', resolution)
  chosen = choose(params, select, units=units)
  # Backends take subnormal numbers for zero.
  step, _ = to_unit_peak(as_floating('resolution', resolution))
  pairs = [_round(w, resolution) for w in chosen.wide]
  rounded, masks = [list(column) for column in zip(*pairs, strict=True)]
  kept = jnp.stack([num_true(m) for m in masks])
  return chosen.rewritten(
    rounded,
    masks,
    jnp.sum(kept, dtype=jnp.int32),
    step > 0,
  )


@jax.jit
def _round(leaf: Array, resolution: ArrayLike) -> tuple[Array, Array]:
  """The rounded leaf, and where it is not zero."""
  leaf, step, exponent = to_unit_peak(leaf, jnp.asarray(resolution, leaf.dtype))
  multiple = leaf / step
  on_grid = jnp.abs(multiple) < 2.0 ** jnp.finfo(leaf.dtype).nmant
  rounded = jnp.where(on_grid, jnp.round(multiple) * step, leaf)
  return times_power_of_two(rounded, exponent), rounded != 0
