"""Spectral norm of what pruning removes, without Markov and without Latala."""

import math

from htjax.bounds.arguments import positive, probability
from htjax.bounds.magnitude_sketching.premises import (
  Shape,
  check_shape,
  gaussian_premise,
)
from htjax.bounds.result import Bound, make_bound
from htjax.checks import checked


@checked
def pruning_error_tail(
  shape: Shape, *, variance: float, strength: float, delta: float
) -> Bound:
  """Bound on |A^ - A|_2 that fails with probability delta, however small.

  sqrt(Psi d / (d + 2)) (sqrt(d_1) + sqrt(d_2) + sqrt(2 ln(1 / delta))). An
  entry is pruned with probability sqrt(d / (d + 2)), and given that it is
  N(0, Psi d / (d + 2)), independently: what is removed is a Gaussian matrix
  under an independent mask. A mask does not increase the mean of the norm,
  which Gordon's inequality bounds, and given the mask the norm is a Lipschitz
  function of Gaussian numbers. No constant is unknown. `pruning_error` takes
  Markov's inequality, so that confidence in L layers costs a factor above L;
  its mean is smaller for weak pruning, by (d / (d + 2))^(1 / 4).

  Args:
    shape: (d_1, d_2).
    variance: Psi > 0 of this layer's entries.
    strength: d > 0.
    delta: in (0, 1).

  Returns:
    Bound with terms rows, columns and deviation. For `pruned_output_error` its
    value is a norm as if measured, `multipliers` None; its failure is to be
    added.

  Raises:
    ValueError: for numbers out of range.

  Source: in place of [SK], Lemma C.2; [Davidson2001], theorem 2.13.

  Examples:
    >>> from htjax.bounds import magnitude_sketching
    >>> bound = magnitude_sketching.pruning_error_tail(
    ...   (784, 784), variance=1e-3, strength=0.1, delta=1e-6
    ... )
    >>> round(bound.value, 3), bound.failure
    (0.423, 1e-06)
  """
  rows, columns = check_shape('shape', shape)
  shrink = -math.log1p(2 / positive('strength', strength))
  front = 0.5 * (math.log(positive('variance', variance)) + shrink)
  delta = probability('delta', delta)
  terms = {
    'rows': front + 0.5 * math.log(columns),
    'columns': front + 0.5 * math.log(rows),
    'deviation': front + 0.5 * math.log(-2 * math.log(delta)),
  }
  return make_bound(terms, [gaussian_premise()], failure=delta)
