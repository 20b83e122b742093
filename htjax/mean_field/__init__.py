"""The mean-field laboratory of heavy-tailed noisy gradient descent.

Particles theta^1, .., theta^n, the units of a one-hidden-layer network, under
d theta^i = b(theta^i, mu^n) dt + sigma dL^i: the drift, the Euler scheme,
systems coupled by common noise, rates with intervals, and the explicit
constants of the theorems, of "Implicit Compressibility of Overparametrized
Neural Networks Trained with Heavy-Tailed SGD". Particles are rows, [n, p]: the
transpose of a Flax kernel, whose columns are the units.
"""

from htjax.mean_field.assumption import (
  Regularity,
  lipschitz_ratios,
  regularity,
)
from htjax.mean_field.chaos import (
  ChaosErrors,
  ReferencePath,
  propagation_of_chaos,
  reference_path,
)
from htjax.mean_field.closed_forms import (
  norm_tail_supremum,
  ornstein_uhlenbeck_scale,
)
from htjax.mean_field.euler import EulerErrors, euler_error
from htjax.mean_field.gradients import GradientNorms, gradient_norms
from htjax.mean_field.pieces import (
  EulerPieces,
  Thresholds,
  compressibility_thresholds,
  euler_pieces,
  largest_path_norm,
  mean_norm,
)
from htjax.mean_field.problem import Problem, drift, predict, risk
from htjax.mean_field.rates import Rate, fit_rate
from htjax.mean_field.simulation import Trajectory, euler_step, simulate
from htjax.mean_field.studies import Study
from htjax.mean_field.theory import (
  euler_bound,
  gradient_norm_bound,
  gronwall_constant,
  largest_norm_bound,
  mean_largest_norm,
  norm_tail_constant,
)

__all__ = [
  'ChaosErrors',
  'EulerErrors',
  'EulerPieces',
  'GradientNorms',
  'Problem',
  'Rate',
  'ReferencePath',
  'Regularity',
  'Study',
  'Thresholds',
  'Trajectory',
  'compressibility_thresholds',
  'drift',
  'euler_bound',
  'euler_error',
  'euler_pieces',
  'euler_step',
  'fit_rate',
  'gradient_norm_bound',
  'gradient_norms',
  'gronwall_constant',
  'largest_norm_bound',
  'largest_path_norm',
  'lipschitz_ratios',
  'mean_largest_norm',
  'mean_norm',
  'norm_tail_constant',
  'norm_tail_supremum',
  'ornstein_uhlenbeck_scale',
  'predict',
  'propagation_of_chaos',
  'reference_path',
  'regularity',
  'risk',
  'simulate',
]
