"""Bounds for networks that were pruned by magnitude, rounded and sketched.

"Generalization Bounds for Magnitude-Based Pruning via Sparse Matrix Sketching":
an entry a of a Gaussian layer of variance Psi is pruned with probability
exp(-a^2 / (strength Psi)), those on the diagonal never; what is left is rounded
to a grid, and counted either as it stands or as a dense sketch of it. Shapes
are (d_1, d_2), rows and columns; which is the input does not matter here.
"""

from htjax.bounds.magnitude_sketching.affordable import (
  affordable_strength,
  narrowing_gain,
)
from htjax.bounds.magnitude_sketching.budget import (
  Budget,
  least_factor,
)
from htjax.bounds.magnitude_sketching.concentration import (
  pruning_error_tail,
)
from htjax.bounds.magnitude_sketching.counting import (
  naive_risk,
  prunable_tail,
  pruned_tail,
)
from htjax.bounds.magnitude_sketching.filters import (
  filter_risk,
  filter_sketch_dimension,
)
from htjax.bounds.magnitude_sketching.lottery import (
  lottery_parameters,
  lottery_risk,
)
from htjax.bounds.magnitude_sketching.magnitude import (
  expected_nonzeros,
  kept_probability,
  latala_norm,
  pruning_error,
  pruning_moment,
  pruning_strength,
)
from htjax.bounds.magnitude_sketching.output_error import (
  low_rank_gain,
  pruned_output_error,
)
from htjax.bounds.magnitude_sketching.rounding import (
  num_grid_values,
  rounding_error,
)
from htjax.bounds.magnitude_sketching.sketches import (
  balls_in_bins,
  count_lengths_nats,
  distributed_sparsity,
  sketched_risk,
)
from htjax.bounds.magnitude_sketching.subnetworks import (
  Subnetwork,
  lottery_subnetwork,
)

__all__ = [
  'Budget',
  'Subnetwork',
  'affordable_strength',
  'balls_in_bins',
  'count_lengths_nats',
  'distributed_sparsity',
  'expected_nonzeros',
  'filter_risk',
  'filter_sketch_dimension',
  'kept_probability',
  'latala_norm',
  'least_factor',
  'lottery_parameters',
  'lottery_risk',
  'lottery_subnetwork',
  'low_rank_gain',
  'naive_risk',
  'narrowing_gain',
  'num_grid_values',
  'prunable_tail',
  'pruned_output_error',
  'pruned_tail',
  'pruning_error',
  'pruning_error_tail',
  'pruning_moment',
  'pruning_strength',
  'rounding_error',
  'sketched_risk',
]
