"""Bounds from the size of weights and how well few of them stand for all.

"Heavy Tails in SGD and Compressibility of Overparametrized Neural Networks":
how far an output moves when weights move, covering numbers, the risk of a
compressed network and that of the network itself. Networks are
f = W_L phi(.. phi(W_1 x)) without biases, phi(t) = max(0, t), with L layers, d
weights in all and inputs |x| <= B; kappa is the kept fraction.
"""

from htjax.bounds.heavy_tails.covering import (
  concentration_exponent,
  covering_radius,
  entropy_excess,
  kept_fraction,
  log_binomial_bound,
  log_covering_compressible,
  log_covering_sparse,
  log_gamma_ratio_bound,
  volume_factor,
)
from htjax.bounds.heavy_tails.output_change import (
  output_change,
  radius_output_change,
  relative_output_change,
)
from htjax.bounds.heavy_tails.pairs import relative_errors
from htjax.bounds.heavy_tails.risk import (
  compressed_risk,
  log_lipschitz_constant,
  norm_quantile,
  uncompressed_risk,
)
from htjax.bounds.heavy_tails.runs import (
  FailureRate,
  compression_failure,
  risk_table,
)
from htjax.bounds.heavy_tails.stable_weights import (
  normalized_scale,
  stable_compressed_risk,
  stable_norm_quantile,
)
from htjax.bounds.heavy_tails.tails import (
  element_tail,
  log_factorial_bounds,
  sharp_norm_quantile,
)

__all__ = [
  'FailureRate',
  'compressed_risk',
  'compression_failure',
  'concentration_exponent',
  'covering_radius',
  'element_tail',
  'entropy_excess',
  'kept_fraction',
  'log_binomial_bound',
  'log_covering_compressible',
  'log_covering_sparse',
  'log_factorial_bounds',
  'log_gamma_ratio_bound',
  'log_lipschitz_constant',
  'norm_quantile',
  'normalized_scale',
  'output_change',
  'radius_output_change',
  'relative_errors',
  'relative_output_change',
  'risk_table',
  'sharp_norm_quantile',
  'stable_compressed_risk',
  'stable_norm_quantile',
  'uncompressed_risk',
  'volume_factor',
]
