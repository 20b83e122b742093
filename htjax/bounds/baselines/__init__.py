"""Bounds that the papers compare with: norms, cushions, the Hessian."""

from htjax.bounds.baselines.hessian import (
  Curvatures,
  curvatures_with_residuals,
  ju_2022,
  layer_curvatures,
)
from htjax.bounds.baselines.norms import (
  arora_2018,
  bartlett_2017,
  log_norm_products,
  neyshabur_2015,
  neyshabur_2017,
)

__all__ = [
  'Curvatures',
  'arora_2018',
  'bartlett_2017',
  'curvatures_with_residuals',
  'ju_2022',
  'layer_curvatures',
  'log_norm_products',
  'neyshabur_2015',
  'neyshabur_2017',
]
