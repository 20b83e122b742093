"""Generalization bounds with every constant, in log space, premises checked.

One module per family: `perturbation` ("Heavy Tails in SGD and Compressibility
of Overparametrized Neural Networks"), `compression` ("Compressing Heavy-Tailed
Weight Matrices ..."), `sketching` ("Generalization Bounds for Magnitude-Based
Pruning ..."), `norms` and `hessian` (what they compare with), `codes` and
`certificates` (a bound below 1, from bits counted one by one). `ingredients`
measures a network in JAX; the bounds are functions of what it measures, on the
host in float64, and each returns a `Bound`.
"""

from htjax.bounds import (
  certificates,
  codes,
  compression,
  hessian,
  ingredients,
  norms,
  perturbation,
  sketching,
)
from htjax.bounds.common import (
  Assumption,
  Bound,
  margin_loss,
  margins,
  ramp_loss,
)

__all__ = [
  'Assumption',
  'Bound',
  'certificates',
  'codes',
  'compression',
  'hessian',
  'ingredients',
  'margin_loss',
  'margins',
  'norms',
  'perturbation',
  'ramp_loss',
  'sketching',
]
