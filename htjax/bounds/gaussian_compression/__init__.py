"""Bounds by counting what a compression can produce.

"Compressing Heavy-Tailed Weight Matrices for Non-Vacuous Generalization
Bounds": entries up to a threshold tau are replaced by Gaussian noise of
variance t, the larger ones are kept and counted. Tail indices are exponents of
the survival function: the density of a power law falls as w^-(alpha + 1).
"""

from htjax.bounds.gaussian_compression.brackets import (
  BracketTails,
  bracket_tails,
)
from htjax.bounds.gaussian_compression.discretization import (
  balanced_norm,
  discretization_change,
  dudley_integral,
  log_covering,
)
from htjax.bounds.gaussian_compression.finite_class import (
  code_length_nats,
  finite_class,
)
from htjax.bounds.gaussian_compression.kept_entries import (
  bracket_rate,
  bracket_tail,
  heavy_fraction,
  heavy_second_moment,
  nonzero_tail,
  stable_density_tail,
)
from htjax.bounds.gaussian_compression.matrices import (
  PowerBrackets,
  power_brackets,
  rebalance,
)
from htjax.bounds.gaussian_compression.output_error import (
  accumulated_error,
  margin_change,
  spectral_output_change,
)
from htjax.bounds.gaussian_compression.replacement import (
  bilinear_tail,
  layer_error,
  noise_budget,
)
from htjax.bounds.gaussian_compression.risk import compressed_risk

__all__ = [
  'BracketTails',
  'PowerBrackets',
  'accumulated_error',
  'balanced_norm',
  'bilinear_tail',
  'bracket_rate',
  'bracket_tail',
  'bracket_tails',
  'code_length_nats',
  'compressed_risk',
  'discretization_change',
  'dudley_integral',
  'finite_class',
  'heavy_fraction',
  'heavy_second_moment',
  'layer_error',
  'log_covering',
  'margin_change',
  'noise_budget',
  'nonzero_tail',
  'power_brackets',
  'rebalance',
  'spectral_output_change',
  'stable_density_tail',
]
