"""Generalization bounds with every constant, in log space, premises checked.

By paper: `heavy_tails` ("Heavy Tails in SGD and Compressibility of
Overparametrized Neural Networks"), `gaussian_compression` ("Compressing
Heavy-Tailed Weight Matrices ..."), `magnitude_sketching` ("Generalization
Bounds for Magnitude-Based Pruning ..."), and `baselines`, what they compare
with. A bound below 1, from bits counted one by one: `codes` and `certificates`.
By quantity, measured on a network in JAX: `networks`, `spectral`, `cushions`
and the margins. The bounds are functions of what is measured, on the host in
float64, and each returns a `Bound`; `binomial` has the exact tails.

Records and margins are used from here (`bounds.Bound`, `bounds.margin_loss`),
everything else from its module (`bounds.heavy_tails.compressed_risk`). Older
addresses (`bounds.ingredients`) answer with a DeprecationWarning.
"""

from types import ModuleType

from htjax.bounds import (
  baselines,
  binomial,
  certificates,
  codes,
  cushions,
  gaussian_compression,
  heavy_tails,
  magnitude_sketching,
  margin_grid,
  networks,
  spectral,
  weight_laws,
)
from htjax.bounds.margins import margin_loss, margins, ramp_loss
from htjax.bounds.older_addresses import older
from htjax.bounds.result import Assumption, Bound, make_bound

__all__ = [
  'Assumption',
  'Bound',
  'baselines',
  'binomial',
  'certificates',
  'codes',
  'cushions',
  'gaussian_compression',
  'heavy_tails',
  'magnitude_sketching',
  'make_bound',
  'margin_grid',
  'margin_loss',
  'margins',
  'networks',
  'ramp_loss',
  'spectral',
  'weight_laws',
]


def __getattr__(name: str) -> ModuleType:
  return older(name)
