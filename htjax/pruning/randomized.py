"""Random pruning, and Gaussian noise in place of small weights.

Leaf number i of those selected draws from `fold_in(key, i)`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_choice, check_key, check_range, checked
from htjax.compressibility import Kept, check_kappa, kept_count, num_true
from htjax.floats import as_floating, times_power_of_two, to_unit_peak
from htjax.pruning.results import (
  Pruned,
  check_scalar,
  choose,
  in_unit_interval,
)
from htjax.selection import Selection
from htjax.types import Array, ArrayLike, PRNGKey, PyTree
from htjax.units import Given

VARIANTS = ('experiment', 'experiment_signed', 'theory')


@checked
def randomized_magnitude(
  key: PRNGKey,
  params: PyTree,
  strength: ArrayLike,
  *,
  keep_diagonal: bool = True,
  select: Selection = None,
  units: Given = None,
) -> Pruned:
  """Prune each entry a with probability exp(-a^2 / (strength Psi)).

  Psi is the variance of a normal law of mean zero fitted to the leaf: the mean
  of its squares. Of normal entries `keep_probability(strength)` are kept.

  Args:
    key: typed key.
    params: pytree of arrays.
    strength: the paper's d > 0, traced; larger prunes more.
    keep_diagonal: whether the entries with equal indices of the matrix
      [fan_in, fan_out] are never pruned, as in the paper, whose sketches need
      them. A convolution is the matrix [h w in, out].
    select: which leaves; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.

  Returns:
    Pruned. With one key, the entries kept at a larger strength are among those
    kept at a smaller one.

  Raises:
    ValueError: a key not typed, a concrete strength not in (0, infinity), a
      bad selection, no leaf selected; naming the leaf, one of rank below 2,
      empty, not floating, or concretely NaN or infinite.

  Values: an entry of 0 is pruned with probability 1. Traced NaN and infinity
    are kept, and so is all of their leaf; a traced strength that is not
    positive, or NaN, makes the selected leaves NaN.

  Source: [SK], Algorithm 1, with a variance for each layer.

  Examples:
    >>> import jax
    >>> from htjax import pruning
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> params = {'w': jax.random.normal(keys[0], (50, 50))}
    >>> pruned = pruning.randomized_magnitude(keys[1], params, 1.0)
    >>> bool(0.3 < pruned.kept / pruned.total < 0.6)
    True
  """
  key = check_key(key)
  _check_strength(strength)
  check_scalar('strength', strength)
  chosen = choose(params, select, units=units)
  masks = [
    _random_mask(jax.random.fold_in(key, i), w, strength, keep_diagonal)
    for i, w in enumerate(chosen.wide)
  ]
  zeros = [0] * len(masks)
  return chosen.replaced(masks, zeros, jnp.asarray(strength) > 0)


@checked
def keep_probability(strength: ArrayLike) -> Array:
  """Probability that randomized pruning keeps a normal entry.

  Args:
    strength: d > 0, traced, any shape.

  Returns:
    1 - sqrt(d / (d + 2)), without cancellation for large d.

  Raises:
    ValueError: a concrete strength not in (0, infinity).

  Values: a traced d that is not positive gives NaN.

  Source: [SK], section 4; the paper calls it the probability of being pruned.

  Examples:
    >>> from htjax import pruning
    >>> print(f'{pruning.keep_probability(1.0):.4f}')
    0.4226
  """
  _check_strength(strength)
  d = as_floating('strength', strength)
  outer = jnp.sqrt(d + 2)
  return jnp.where(d > 0, 2 / (outer * (outer + jnp.sqrt(d))), jnp.nan)


@checked
def strength_for(kappa: ArrayLike) -> Array:
  """The strength at which a normal entry is kept with probability kappa.

  Args:
    kappa: in (0, 1), traced, any shape.

  Returns:
    d = 2 (1 - kappa)^2 / (kappa (2 - kappa)), inverse of `keep_probability`.

  Raises:
    ValueError: a concrete kappa not in (0, 1).

  Values: a traced kappa not in (0, 1) gives NaN.

  Source: [SK], section 4, solved for the strength.

  Examples:
    >>> from htjax import pruning
    >>> strength = pruning.strength_for(0.1)
    >>> print(f'{strength:.3f} {pruning.keep_probability(strength):.3f}')
    8.526 0.100
  """
  check_range('kappa', kappa, 0.0, 1.0, open_low=True, open_high=True)
  kappa = as_floating('kappa', kappa)
  d = 2 * (1 - kappa) ** 2 / (kappa * (2 - kappa))
  return jnp.where((kappa > 0) & (kappa < 1), d, jnp.nan)


@checked
def random_columns(
  key: PRNGKey,
  params: PyTree,
  kappa: Kept,
  *,
  select: Selection = None,
  units: Given = None,
  rounding: str = 'ceil',
) -> Pruned:
  """Keep the fraction kappa of columns, or filters, of each leaf at random.

  The baseline that ranks nothing: every set of columns is as likely as another.

  Args:
    key: typed key.
    params: pytree of arrays.
    kappa: kept fraction in (0, 1], traced.
    select: which leaves, [fan_in, n] or [h, w, in, n]; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.
    rounding: 'ceil' or 'floor' of kappa n. To remove n^a filters, kappa is
      1 - n^(a - 1).

  Returns:
    Pruned, each selected leaf with exactly the rounded number of columns. With
    one key, the columns kept at a smaller kappa are among those kept at a
    larger one.

  Raises:
    ValueError: a key not typed; otherwise as `columns`.

  Values: a traced kappa outside [0, 1] makes the selected leaves NaN.

  Source: [SK], Appendix H (random filter pruning).

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> params = {'w': jnp.ones((2, 4))}
    >>> pruned = pruning.random_columns(jax.random.key(0), params, 0.5)
    >>> int(pruned.params['w'][0].sum())
    2
  """
  key = check_key(key)
  check_kappa(kappa)
  check_scalar('kappa', kappa)
  chosen = choose(params, select, units=units)
  masks = []
  for i, leaf in enumerate(chosen.wide):
    n = leaf.shape[-1]
    rank = jax.random.permutation(jax.random.fold_in(key, i), n)
    kept = rank < kept_count(kappa, n, rounding)
    aligned = kept.reshape((1,) * (leaf.ndim - 1) + (n,))
    masks.append(jnp.broadcast_to(aligned, leaf.shape))
  return chosen.replaced(masks, [0] * len(masks), in_unit_interval(kappa))


@checked
def gaussian_replacement(
  key: PRNGKey,
  params: PyTree,
  *,
  variant: str = 'experiment',
  threshold: ArrayLike | None = None,
  variance: ArrayLike | None = None,
  select: Selection = None,
  units: Given = None,
) -> Pruned:
  """Replace the small entries of each leaf by Gaussian draws.

  With m and s the mean and standard deviation of all entries of the leaf:
    'experiment'         keeps |w| > threshold; the others become N(m, s^2);
    'experiment_signed'  keeps w > threshold, as the paper's text reads, so
                         that every negative entry is replaced;
    'theory'             sqrt(variance) G everywhere, G standard normal, plus w
                         where |w| > threshold.

  Args:
    key: typed key.
    params: pytree of arrays.
    variant: which of the three, static.
    threshold: tau >= 0 in units of the weights, traced. None is s for the
      experiments; 'theory' needs it.
    variance: t >= 0, traced; for 'theory' only, which needs it.
    select: which leaves; None is every weight. The paper replaces in the last
      layer only.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.

  Returns:
    Pruned, whose mask is True at kept entries. `kept` counts them and what the
    noise is made of: m and s for each layer with replaced entries, or t for
    each layer ('theory'). The noise itself comes from the key.

  Raises:
    ValueError: an unknown variant, an argument missing or out of place, a
      concrete threshold or variance that is negative or not finite, a key not
      typed, a bad selection, no leaf selected; naming the leaf, one of rank
      below 2, empty, not floating, or concretely NaN or infinite.

  Values: traced NaN in a leaf makes its replaced entries NaN; a traced negative
    or NaN threshold or variance makes the selected leaves NaN.

  Source: [SH], Appendix E (experiments), Algorithm 1 (theory).

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> params = {'w': jnp.array([[5.0, 0.1], [0.2, -5.0]])}
    >>> key = jax.random.key(0)
    >>> pruned = pruning.gaussian_replacement(key, params, threshold=1.0)
    >>> pruned.mask['w'].tolist()
    [[True, False], [False, True]]
  """
  key = check_key(key)
  check_choice('variant', variant, VARIANTS)
  theory = variant == 'theory'
  for name, value in (('threshold', threshold), ('variance', variance)):
    if value is None and theory:
      raise ValueError(f"variant 'theory' needs {name}, got None")
    if value is not None:
      check_range(name, value, 0.0, np.inf, open_high=True)
      check_scalar(name, value)
  if variance is not None and not theory:
    raise ValueError(f'variance is for the variant theory, got {variant!r}')
  chosen = choose(params, select, units=units)
  masks, values = [], []
  for i, leaf in enumerate(chosen.wide):
    leaf_key = jax.random.fold_in(key, i)
    mask, value = _replace(leaf_key, leaf, variant, threshold, variance)
    masks.append(mask)
    values.append(value)
  valid = jnp.asarray(True)
  for number in (threshold, variance):
    if number is not None:
      valid &= jnp.asarray(number) >= 0
  kept = jnp.stack([num_true(m) for m in masks])
  replaced = jnp.stack([~jnp.all(m) for m in masks])
  stored = len(masks) if theory else 2 * jnp.sum(replaced, dtype=jnp.int32)
  return chosen.rewritten(
    values, masks, jnp.sum(kept, dtype=jnp.int32) + stored, valid
  )


def _check_strength(strength: ArrayLike) -> None:
  check_range('strength', strength, 0.0, np.inf, open_low=True, open_high=True)


@functools.partial(jax.jit, static_argnames='keep_diagonal')
def _random_mask(
  key: PRNGKey, leaf: Array, strength: ArrayLike, keep_diagonal: bool
) -> Array:
  leaf, _ = to_unit_peak(leaf)
  matrix = leaf.reshape(-1, leaf.shape[-1])
  _, deviation = _moments(matrix, about_mean=False)
  scaled = jnp.where(matrix == 0, 0, matrix / deviation)
  exponent = scaled**2 / jnp.asarray(strength, matrix.dtype)
  # P(E >= x) = exp(-x): uniform numbers would stop short of small ones.
  kept = ~(jax.random.exponential(key, matrix.shape, matrix.dtype) >= exponent)
  if keep_diagonal:
    kept |= jnp.eye(matrix.shape[0], matrix.shape[1], dtype=bool)
  return kept.reshape(leaf.shape)


@functools.partial(jax.jit, static_argnames='variant')
def _replace(
  key: PRNGKey, leaf: Array, variant: str, threshold: Any, variance: Any
) -> tuple[Array, Array]:
  """Mask of what is kept, and the new leaf."""
  noise = jax.random.normal(key, leaf.shape, leaf.dtype)
  scaled, exponent = to_unit_peak(leaf)
  if threshold is not None:
    threshold = times_power_of_two(
      jnp.asarray(threshold, leaf.dtype), -exponent
    )
  if variant == 'theory':
    mask = jnp.abs(scaled) > threshold
    noise = jnp.sqrt(jnp.asarray(variance, leaf.dtype)) * noise
    return mask, noise + jnp.where(mask, leaf, 0)
  mean, deviation = _moments(scaled, about_mean=True)
  size = scaled if variant == 'experiment_signed' else jnp.abs(scaled)
  mask = size > (deviation if threshold is None else threshold)
  drawn = times_power_of_two(mean + deviation * noise, exponent)
  return mask, jnp.where(mask, leaf, drawn)


def _moments(x: Array, about_mean: bool) -> tuple[Array, Array]:
  """Mean, and root mean square about it or about zero, without overflow."""
  peak = jnp.max(jnp.abs(x))
  scaled = x / jnp.where(peak == 0, 1, peak)
  mean = jnp.mean(scaled)
  centered = scaled - mean if about_mean else scaled
  return peak * mean, peak * jnp.sqrt(jnp.mean(centered**2))
