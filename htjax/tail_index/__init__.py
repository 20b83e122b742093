"""Tail indices of samples and of weights, each with its standard error.

A tail index is the alpha in P(|X| > x) ~ c x^-alpha; the exponent of the
density is alpha + 1. Every estimator returns a `TailEstimate` that names both,
is not clamped at 2, and says how well its model fits. Which to use: `mmo` and
`stable_mle` assume a strictly stable law, all of it; `hill`, `moment`,
`pickands` and `power_law` look at the largest values only.
"""

from htjax.tail_index.block_sums import max_ratio, mmo, mmo_univariate
from htjax.tail_index.estimate import TailEstimate
from htjax.tail_index.gradient_noise import GradientNoise, gradient_noise
from htjax.tail_index.homogeneity import (
  Dependence,
  Halves,
  halves,
  magnitude_dependence,
)
from htjax.tail_index.layers import (
  layer_protocol,
  layer_samples,
  layer_table,
  protocol_blocks,
)
from htjax.tail_index.least_squares import (
  least_squares_chain,
  least_squares_index,
)
from htjax.tail_index.order_statistics import (
  de_haan_resnick,
  hill,
  hill_plot,
  moment,
  pickands,
)
from htjax.tail_index.power_laws import (
  Comparison,
  power_law,
  power_law_against,
  power_law_p_value,
  power_law_standard_error,
)
from htjax.tail_index.stable_fit import stable_mle

__all__ = [
  'Comparison',
  'Dependence',
  'GradientNoise',
  'Halves',
  'TailEstimate',
  'de_haan_resnick',
  'gradient_noise',
  'halves',
  'hill',
  'hill_plot',
  'layer_protocol',
  'layer_samples',
  'layer_table',
  'least_squares_chain',
  'least_squares_index',
  'magnitude_dependence',
  'max_ratio',
  'mmo',
  'mmo_univariate',
  'moment',
  'pickands',
  'power_law',
  'power_law_against',
  'power_law_p_value',
  'power_law_standard_error',
  'protocol_blocks',
  'stable_mle',
]
