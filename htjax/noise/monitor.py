"""Whether a training drowns in its noise: shares of norms, and the loss."""

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from htjax import units as _units
from htjax.checks import check_choice, check_count, checked
from htjax.noise.process import UNITS
from htjax.types import Array, ArrayLike, PyTree


class NoiseWarning(UserWarning):
  """The noise is more than the training bears."""


@checked
def shares(
  state: Any,
  params: PyTree,
  *,
  unit: str = 'filter',
  units: _units.Given = None,
) -> dict[str, Array]:
  """The share of each unit's squared norm that is noise.

  With N the sum of the noise that a unit w got, |N|^2 / (|N|^2 + |w - N|^2):
  0 without noise, 1/2 where it is as large as what training made, and near 1
  where it is nearly all. Gradients undo a part of the noise, which then is in
  both N and w - N; the share counts what was added. After K steps with
  `relative=r` and without training a share is near r^2 |Z|^2 / (1 + r^2 |Z|^2)
  with Z standard stable, for Type I.

  Args:
    state: of `add_stable_noise` with monitor=True, or of a chain that holds it.
    params: the weights now.
    unit: 'filter' or 'kernel', what shares of convolutions are of.
    units: what a unit is in each leaf, see `htjax.units`; None asks the leaves'
      names.

  Returns:
    Name of each leaf with noise -> its shares in [0, 1], an array of the leaf's
    shape without the axes of a unit's vector. A unit of zeros has share 0.

  Raises:
    ValueError: a state without the sum of the noise, or of other parameters; an
      unknown unit; a leaf that may be one thing or another, by name.

  Values: NaN where a weight is NaN or infinite.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import noise
    >>> optimizer = noise.heavy_tailed_sgd(
    ...   0.1, 1.8, key=0, relative=0.1, num_steps=1, monitor=True
    ... )
    >>> params = {'kernel': jnp.ones((3, 2)), 'bias': jnp.zeros(2)}
    >>> gradients = jax.tree.map(jnp.zeros_like, params)
    >>> updates, state = optimizer.update(gradients, optimizer.init(params))
    >>> params = jax.tree.map(jnp.add, params, updates)
    >>> found = noise.shares(state, params)
    >>> found['kernel'].shape, bool((found['kernel'] < 0.5).all())
    ((2,), True)
  """
  check_choice('unit', unit, UNITS)
  totals = optax.tree.get(state, 'total', ())
  leaves = _units.named_leaves(params)
  if not totals:
    raise ValueError(
      'state must hold the sum of the noise: give monitor=True to '
      'add_stable_noise; got a state without it'
    )
  if len(totals) != len(leaves):
    raise ValueError(
      f'state is of {len(totals)} leaves, and params have {len(leaves)}'
    )
  flags = [np.shape(total) != () for total in totals]
  described = _units.fitting(_units.describe(units, params), params, flags)
  return {
    name: _share(jnp.asarray(total), jnp.asarray(leaf), meaning, unit)
    for total, (name, leaf), meaning in zip(
      totals, leaves, described, strict=True
    )
    if meaning is not None
  }


def _share(total: Array, leaf: Array, meaning: _units.Leaf, unit: str) -> Array:
  axes = meaning.vector_axes(unit)
  leaf = leaf.astype(total.dtype)
  total = jnp.broadcast_to(total, leaf.shape)
  # Both by the larger of the two, so that no square leaves the range.
  peak = jnp.maximum(jnp.abs(total), jnp.abs(leaf))
  peak = jnp.max(peak, axis=axes, keepdims=True, initial=0.0)
  peak = jnp.where(peak == 0, 1, peak)
  noise = jnp.sum((total / peak) ** 2, axis=axes)
  rest = jnp.sum(((leaf - total) / peak) ** 2, axis=axes)
  whole = noise + rest
  return jnp.where(whole == 0, 0.0, noise / jnp.where(whole == 0, 1, whole))


@checked
def check_loss(
  losses: ArrayLike, clean: ArrayLike, *, window: int = 20
) -> bool:
  """Warn when the loss of a noisy training leaves the range of a clean one.

  The mean of the last losses is compared with the largest loss of the clean
  training at those steps: where even that is less, the noise, and no batch, is
  what the loss comes from.

  Args:
    losses: [t], of the noisy training so far, one for each step.
    clean: [s] or [runs, s], of trainings without noise; where they are
      shorter, their last steps serve.
    window: how many of the last losses are looked at.

  Returns:
    Whether the loss is in the range; if not, a `NoiseWarning` was issued that
    says both numbers. NaN and infinity are outside of it.

  Raises:
    ValueError: losses that are empty or not [t], clean losses that are not [s]
      or [runs, s], or not finite.

  Examples:
    >>> import numpy as np
    >>> from htjax import noise
    >>> clean = np.linspace(2.3, 0.5, 100)
    >>> noise.check_loss(clean[:50] + 0.01, clean)
    True
  """
  losses = np.asarray(losses, np.float64)
  clean = np.atleast_2d(np.asarray(clean, np.float64))
  check_count('window', window)
  if losses.ndim != 1 or losses.size == 0:
    raise ValueError(f'losses must be [t], t >= 1, got shape {losses.shape}')
  if clean.ndim != 2 or clean.size == 0 or not np.all(np.isfinite(clean)):
    raise ValueError(
      f'clean must hold finite losses [s] or [runs, s], got shape {clean.shape}'
    )
  now = float(np.mean(losses[-window:]))
  end = min(len(losses), clean.shape[1])
  most = float(np.max(clean[:, max(end - window, 0) : end]))
  if now <= most:
    return True
  warnings.warn(
    f'the mean of the last {min(window, len(losses))} losses is {now:.4g}, '
    f'more than {most:.4g}, the largest of clean training there: the noise is '
    'too large; give a smaller relative or sigma, or anneal it',
    NoiseWarning,
    stacklevel=2,
  )
  return False
