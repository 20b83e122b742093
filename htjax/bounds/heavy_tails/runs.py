"""Compression that fails in some runs, and each statement on a network."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from htjax.bounds.arguments import as_numbers, number, probability
from htjax.bounds.certificates import invert_binomial
from htjax.bounds.heavy_tails.covering import kept_fraction
from htjax.bounds.heavy_tails.pairs import relative_errors
from htjax.bounds.heavy_tails.risk import compressed_risk, uncompressed_risk
from htjax.bounds.heavy_tails.stable_weights import stable_compressed_risk
from htjax.bounds.result import Bound
from htjax.checks import checked
from htjax.types import ArrayLike


class FailureRate(NamedTuple):
  """Estimate of the probability that a compression misses its error.

  Attributes:
    share: of the runs that failed.
    upper: bound on the probability, at the given confidence.
    failures: number of runs that failed.
    runs: number of runs.
  """

  share: float
  upper: float
  failures: int
  runs: int


@checked
def compression_failure(
  errors: ArrayLike, epsilon: float, *, delta: float = 0.05
) -> FailureRate:
  """Probability that some layer misses epsilon, estimated from runs.

  The premise of the risk bounds is that |w^_l - w_l| <= epsilon |w_l| in all
  layers at once but for a probability over training set and weights; a run
  that fails is one with a layer beyond epsilon.

  Args:
    errors: relative errors of the layers, [runs, L], of independent training
      sets and seeds, see `relative_errors`.
    epsilon: >= 0.
    delta: probability with which `upper` may be too small, in (0, 1).

  Returns:
    FailureRate; `upper` is Clopper and Pearson's. With 0 of n failures it is
    1 - delta^(1/n), about 3 / n: few runs say little.

  Raises:
    ValueError: for another shape, or numbers out of range or not finite.

  Source: [HT], section 4 (H1); [Clopper1934].

  Examples:
    >>> from htjax.bounds import heavy_tails
    >>> rate = heavy_tails.compression_failure(
    ...   [[0.1, 0.2], [0.1, 0.4], [0.2, 0.1]], 0.3
    ... )
    >>> rate.failures, round(rate.upper, 3)
    (1, 0.865)
  """
  array = as_numbers('errors', errors)
  if array.ndim != 2 or array.size == 0:
    raise ValueError(f'errors must be [runs, L], got shape {array.shape}')
  if np.any(np.isnan(array)) or np.any(array < 0):
    raise ValueError('errors must be >= 0, got NaN or a negative number')
  epsilon = number('epsilon', epsilon, 0, math.inf)
  runs = len(array)
  failures = int(np.sum(np.any(array > epsilon, axis=1)))
  upper = invert_binomial(failures, runs, math.log(probability('delta', delta)))
  return FailureRate(failures / runs, upper, failures, runs)


@checked
def risk_table(
  margins: ArrayLike,
  layers: Sequence[ArrayLike],
  compressed: Sequence[ArrayLike],
  *,
  radius: float,
  tau: float,
  delta: float,
  input_norm: float,
  compression_failure: float = 0.0,
  alphas: ArrayLike | None = None,
  scales: ArrayLike | None = None,
  beta: float = 1.0,
  variant: str = 'corrected',
) -> list[dict[str, Any]]:
  """Every statement on the risk, with each of its terms, on one network.

  Kept fractions and the error epsilon are those of the compressed layers: the
  share of their entries that are not zero, and the largest relative error.

  Args:
    margins: of the network on its n training examples, [n].
    layers: weights w_l, arrays of any shapes, L >= 2.
    compressed: compressed weights, of the same shapes.
    radius: R(delta), see `norm_quantile`.
    tau: width of the ramp, > 0.
    delta: P(|w| >= R), in (0, 1).
    input_norm: B > 0.
    compression_failure: probability that some layer misses epsilon, in [0, 1),
      see `compression_failure`.
    alphas: tail indices of the layers, in (1, 2), [L] or one number; None
      leaves the corollaries out.
    scales: of the layers as stable weights, [L] or one number; None likewise.
    beta: of Corollary S2, > 0.
    variant: 'corrected' or 'paper'.

  Returns:
    A list of dicts with the same keys, without Theorem S6 where epsilon is 0 or
    above 1: 'statement'; 'log_value', and
    'log_empirical', 'log_lipschitz', 'log_dimension', 'log_complexity', natural
    logarithms of the bound and of its terms, NaN for a term that a statement
    does not have; 'log_margin', NaN likewise; 'kappa', 'epsilon'; 'failure';
    'valid', and 'reason', the first premise that fails, or ''.

  Raises:
    ValueError: for numbers out of range, shapes that differ.

  Source: [HT], Theorems 4 and S6, Corollaries 1 and S2 (all terms).

  Examples:
    >>> import numpy as np
    >>> from htjax.bounds import heavy_tails
    >>> layers = [np.diag([3.0, 0.1]), np.diag([0.1, 2.0])]
    >>> small = [np.diag([3.0, 0.0]), np.diag([0.0, 2.0])]
    >>> rows = heavy_tails.risk_table(
    ...   np.ones(1000), layers, small,
    ...   radius=4.0, tau=1.0, delta=0.1, input_norm=1.0,
    ... )
    >>> [row['statement'] for row in rows]
    ['Theorem 4', 'Theorem S6', 'Theorem S6, sharp']
  """
  epsilon = float(np.max(relative_errors(layers, compressed)))
  sizes = [int(np.size(w)) for w in layers]
  kappas = np.array([np.count_nonzero(w) / np.size(w) for w in compressed])
  kappa = kept_fraction(sizes, kappas)
  common: dict[str, Any] = {
    'tau': tau,
    'input_norm': input_norm,
    'compression_failure': compression_failure,
    'epsilon': epsilon,
  }
  network = common | {
    'radius': radius,
    'delta': delta,
    'kappa': kappa,
    'num_layers': len(sizes),
    'num_weights': sum(sizes),
  }
  bounds = {'Theorem 4': compressed_risk(margins, **network, variant=variant)}
  # It says nothing of an error of 0, nor of one above 1.
  if 0 < epsilon <= 1:
    for name, form in (('', variant), (', sharp', 'sharp')):
      bounds[f'Theorem S6{name}'] = uncompressed_risk(
        margins, **network, variant=form
      )
  if alphas is not None and scales is not None:
    for name, power in (('Corollary 1', None), ('Corollary S2', beta)):
      bounds[name] = stable_compressed_risk(
        margins,
        **common,
        alphas=alphas,
        scales=scales,
        layer_sizes=sizes,
        kappas=kappas,
        beta=power,
        variant=variant,
      )
  return [
    {'statement': name}
    | _cells(bound)
    | {
      'kappa': kappa,
      'epsilon': epsilon,
      'failure': bound.failure,
      'valid': bound.valid,
      'reason': bound.reason,
    }
    for name, bound in bounds.items()
  ]


def _cells(bound: Bound) -> dict[str, float]:
  terms = ('empirical', 'lipschitz', 'dimension', 'complexity')
  return (
    {'log_value': bound.log_value}
    | {f'log_{t}': bound.terms.get(t, math.nan) for t in terms}
    | {'log_margin': bound.details.get('log_margin', math.nan)}
  )
