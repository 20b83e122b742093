"""Bounds that the papers compare with: norms, cushions, the Hessian."""

from htjax.bounds.baselines.hessian import ju_2022, layer_curvatures
from htjax.bounds.baselines.norms import (
  arora_2018,
  bartlett_2017,
  log_norm_products,
  neyshabur_2015,
  neyshabur_2017,
)

__all__ = [
  'arora_2018',
  'bartlett_2017',
  'ju_2022',
  'layer_curvatures',
  'log_norm_products',
  'neyshabur_2015',
  'neyshabur_2017',
]
