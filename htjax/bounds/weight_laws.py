"""The law of the weights, as a premise that a sample can refute.

The sketching bounds assume Gaussian entries, the rates of heavy-tailed pruning
a tail index below 2. Neither can be shown on a sample, but both can be refuted.
"""

import math
from collections.abc import Sequence

import numpy as np

from htjax.bounds.arguments import (
  as_list,
  as_numbers,
  like,
  probability,
  vector,
)
from htjax.bounds.magnitude_sketching.premises import gaussian_premise
from htjax.bounds.result import Assumption, Bound, make_bound
from htjax.checks import checked
from htjax.types import ArrayLike

__all__ = ['gaussian_weights', 'heavy_tailed_weights', 'with_premise']

# Fewest entries for which the test's law is known.
_LEAST = 20


@checked
def gaussian_weights(
  layers: Sequence[ArrayLike], *, level: float = 0.01
) -> Assumption:
  """Whether entries may be Gaussian, one variance for each layer.

  D'Agostino and Pearson's test of skewness and kurtosis, for each layer at the
  level over the number of layers. Trained layers are large enough to be
  refuted nearly always.

  Args:
    layers: weights, arrays of any shapes with at least 20 entries.
    level: probability with which Gaussian entries are refuted, in (0, 1).

  Returns:
    Assumption 'Gaussian weights': False where refuted, else None.

  Raises:
    ValueError: for too few entries, entries that are not finite, or all equal.

  Source: the premise of [SK], Assumption 3.1.

  Examples:
    >>> import jax
    >>> from htjax import stable
    >>> from htjax.bounds import weight_laws
    >>> heavy = stable.sample(jax.random.key(0), 1.5, (50, 50))
    >>> weight_laws.gaussian_weights([heavy]).holds
    False
  """
  from scipy import stats

  level = probability('level', level)
  arrays = [
    as_numbers(f'layers[{i}]', w).ravel()
    for i, w in enumerate(as_list('layers', layers))
  ]
  if not arrays or not all(
    w.size >= _LEAST and np.all(np.isfinite(w)) and np.ptp(w) > 0
    for w in arrays
  ):
    raise ValueError(
      f'layers must be arrays of at least {_LEAST} finite numbers that differ'
    )
  # In units of the largest entry, whose fourth power is a float.
  p_values = [
    float(stats.normaltest(w / np.max(np.abs(w))).pvalue) for w in arrays
  ]
  worst = int(np.argmin(p_values))
  if p_values[worst] * len(arrays) >= level:
    return gaussian_premise()
  return Assumption(
    'Gaussian weights',
    False,
    f'layer {worst} has the p-value {p_values[worst]:.3g} of a test that it is '
    f'Gaussian, below {level:g} / {len(arrays)} layers',
  )


@checked
def heavy_tailed_weights(
  alphas: ArrayLike, standard_errors: ArrayLike, *, level: float = 0.01
) -> Assumption:
  """Whether tail indices may be below 2, as rates of pruning errors ask.

  Args:
    alphas: estimates of the layers' tail indices, [L].
    standard_errors: of them, >= 0, [L] or one number.
    level: probability with which an index below 2 is refuted, in (0, 1), over
      the number of layers for each.

  Returns:
    Assumption 'heavy-tailed weights': False where an estimate exceeds 2 by more
    than its error explains, else None.

  Raises:
    ValueError: for numbers out of range or different lengths.

  Source: the premise of [HT], Theorems 1 to 3.

  Examples:
    >>> from htjax.bounds import weight_laws
    >>> weight_laws.heavy_tailed_weights([1.8, 2.9], 0.1).holds
    False
    >>> weight_laws.heavy_tailed_weights([1.8, 2.1], 0.1).holds is None
    True
  """
  from scipy import special

  estimates = vector('alphas', alphas)
  errors = like('standard_errors', standard_errors, estimates.size)
  each = probability('level', level) / estimates.size
  limits = estimates + float(special.ndtri(each)) * errors
  worst = int(np.argmax(limits))
  is_refuted = bool(limits[worst] > 2)
  return Assumption(
    'heavy-tailed weights',
    False if is_refuted else None,
    f'the largest lower limit of a tail index is {limits[worst]:.4g}, of layer '
    f'{worst}; it must not exceed 2',
  )


@checked
def with_premise(bound: Bound, premise: Assumption) -> Bound:
  """The bound under a premise of the weights' law that was looked at.

  Args:
    bound: of these weights.
    premise: takes the place of one of its name, or is added.

  Returns:
    Bound, `valid` only if the premise is not refuted.

  Raises:
    ValueError: for other types.

  Examples:
    >>> from htjax.bounds import magnitude_sketching, weight_laws
    >>> bound = magnitude_sketching.pruning_error(
    ...   (50, 50), variance=1.0, strength=0.1, multiplier=3.0
    ... )
    >>> refuted = weight_laws.heavy_tailed_weights([3.0], 0.1)
    >>> bound.valid, weight_laws.with_premise(bound, refuted).valid
    (True, False)
  """
  rest = [a for a in bound.assumptions if a.name not in _own(premise)]
  return make_bound(
    bound.terms,
    [*rest, premise],
    failure=bound.failure,
    details=bound.details,
    value=None if math.isinf(bound.value) else bound.value,
  )


def _own(premise: Assumption) -> tuple[str, str]:
  # That of confidence is made anew.
  return premise.name, 'confidence'
