"""Compression of pytrees of weights: each kernel returns `Pruned`.

All kernels have the form `(params, amount, *, select=None, ..) -> Pruned`,
with `key` first where they draw, act on each selected leaf, leave the other
leaves alone, and run under jit and vmap with `amount` traced, so that a
pruning schedule is one compiled program. A leaf is [fan_in, fan_out], or
[h, w, in, out] for a convolution: its columns, or filters, are the indices of
the last axis, the incoming weights of one unit; its rows those of the axis
before, the outgoing weights of one input; its kernels the [:, :, i, o].

Masked entries are zeros in arrays as large as before. `compact` and
`thin_factors` make smaller arrays that compute the same.
"""

from htjax.compressibility import AllBut
from htjax.pruning.adapting import linen_apply, nnx_apply, nnx_module
from htjax.pruning.costs import multiply_adds
from htjax.pruning.errors import METHODS, to_error
from htjax.pruning.gradual import cubic_schedule, gradual_magnitude
from htjax.pruning.grids import discretize
from htjax.pruning.holding import hold
from htjax.pruning.magnitudes import (
  columns,
  columns_to_error,
  filters,
  kernels,
  magnitude,
  rows,
)
from htjax.pruning.networks import Compacted, compact
from htjax.pruning.per_layer import per_layer
from htjax.pruning.randomized import (
  gaussian_replacement,
  keep_probability,
  random_columns,
  randomized_magnitude,
  strength_for,
)
from htjax.pruning.results import Left, Pruned
from htjax.pruning.rewinding import Round, iterative_magnitude
from htjax.pruning.spectra import (
  Factored,
  SingularValueCounts,
  ThinFactors,
  singular_value_counts,
  singular_values,
  thin_factors,
)
from htjax.pruning.whole_units import CRITERIA, units

__all__ = [
  'CRITERIA',
  'METHODS',
  'AllBut',
  'Compacted',
  'Factored',
  'Left',
  'Pruned',
  'Round',
  'SingularValueCounts',
  'ThinFactors',
  'columns',
  'columns_to_error',
  'compact',
  'cubic_schedule',
  'discretize',
  'filters',
  'gaussian_replacement',
  'gradual_magnitude',
  'hold',
  'iterative_magnitude',
  'keep_probability',
  'kernels',
  'linen_apply',
  'magnitude',
  'multiply_adds',
  'nnx_apply',
  'nnx_module',
  'per_layer',
  'random_columns',
  'randomized_magnitude',
  'rows',
  'singular_value_counts',
  'singular_values',
  'strength_for',
  'thin_factors',
  'to_error',
  'units',
]
