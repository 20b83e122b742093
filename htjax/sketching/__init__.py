"""Sketches Y = A X B^T of a sparse matrix, and recovery by least l_1 norm.

A and B are adjacency matrices of sparse random bipartite graphs, m x p with m <
p. X is recovered as the matrix of least l_1 norm with that sketch, by a method
that only multiplies by A, B and their pseudo-inverses, never by their Kronecker
product. The setting is that of "Generalization Bounds for Magnitude-Based
Pruning via Sparse Matrix Sketching" and of Dasarathy, Shah, Bhaskar, Nowak
(2013), Sketching Sparse Matrices.
"""

from htjax.sketching.ensembles import bipartite_ensemble, sparse_mask
from htjax.sketching.l1_recovery import Recovery, recover
from htjax.sketching.sizes import (
  distributed_sparsity,
  sketch,
  sketch_dimension,
  useful_sparsity,
)
from htjax.sketching.trials import Trials, recovery_trials

__all__ = [
  'Recovery',
  'Trials',
  'bipartite_ensemble',
  'distributed_sparsity',
  'recover',
  'recovery_trials',
  'sketch',
  'sketch_dimension',
  'sparse_mask',
  'useful_sparsity',
]
