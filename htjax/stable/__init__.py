"""Alpha-stable laws: draws, distribution functions, Lévy increments.

One convention throughout: a symmetric alpha-stable variable X of unit scale
has characteristic function E exp(itX) = exp(-|t|^alpha), so that alpha = 2 is
the normal law of variance 2 and alpha = 1 the standard Cauchy law.
"""

from htjax.stable.autoregression import autoregression
from htjax.stable.distribution import (
  LogMoment,
  cdf,
  characteristic_function,
  log_moment,
  logpdf,
  pdf,
  quantile,
  sf,
)
from htjax.stable.draws import (
  KINDS,
  levy_increments,
  sample,
  sample_positive,
  sample_vectors,
)
from htjax.stable.moments import absolute_moment

__all__ = [
  'KINDS',
  'LogMoment',
  'absolute_moment',
  'autoregression',
  'cdf',
  'characteristic_function',
  'levy_increments',
  'log_moment',
  'logpdf',
  'pdf',
  'quantile',
  'sample',
  'sample_positive',
  'sample_vectors',
  'sf',
]
