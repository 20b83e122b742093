"""Errors of a vector of weights that keeps few entries, or few columns.

Best k-term approximation, its relative l_p error, the smallest kept fraction
that reaches an error, the fraction of columns that 10 % of the squared norm
pays for, and the curves expected of Gaussian and stable weights. kappa is
always the kept fraction; a pruning ratio is 1 - kappa.
"""

from htjax.compressibility.arguments import (
  check_kappa,
  check_matrix,
  check_order,
)
from htjax.compressibility.counts import ROUNDINGS, AllBut, Kept, kept_count
from htjax.compressibility.curves import (
  gaussian_limit,
  gaussian_ratio,
  stable_curve,
  stable_limit,
)
from htjax.compressibility.errors import (
  best_k,
  compression_error,
  smallest_kappa,
)
from htjax.compressibility.kth_largest import largest, median, num_true
from htjax.compressibility.limits import (
  diluted_pareto_limit,
  error_rate,
  pareto_limit,
)
from htjax.compressibility.networks import NetworkErrors, network_errors
from htjax.compressibility.ratios import (
  column_norms,
  invisible_noise_ratios,
  num_removable,
  pruning_ratio,
)
from htjax.floats import as_floating

__all__ = [
  'ROUNDINGS',
  'AllBut',
  'Kept',
  'NetworkErrors',
  'as_floating',
  'best_k',
  'check_kappa',
  'check_matrix',
  'check_order',
  'column_norms',
  'compression_error',
  'diluted_pareto_limit',
  'error_rate',
  'gaussian_limit',
  'gaussian_ratio',
  'invisible_noise_ratios',
  'kept_count',
  'largest',
  'median',
  'network_errors',
  'num_removable',
  'num_true',
  'pareto_limit',
  'pruning_ratio',
  'smallest_kappa',
  'stable_curve',
  'stable_limit',
]
