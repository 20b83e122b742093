"""Sizes of sketches from which their sparse matrices come back."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments.common.cells import Row
from htjax import sketching
from htjax.types import PRNGKey


def recovery(config: ConfigDict, key: PRNGKey, p: int, j: int) -> list[Row]:
  """Count of X that come back from A X B^T, for sketches of many sizes."""

  def row(i: int, m: int, ones: int) -> Row:
    own = jax.random.fold_in(jax.random.fold_in(key, i), ones)
    error, found = sketching.recovery_trials(
      *(own, p, j, m, ones, config.draws),
      max_iterations=config.max_iterations,
      # Batched products are slower on a CPU.
      at_once=1 if jax.default_backend() == 'cpu' else config.draws,
    )
    return {
      'study': 'recovery',
      'p': p,
      'j': j,
      'm': m,
      'ones': ones,
      'draws': config.draws,
      'recovered': int(jnp.sum(error < 1e-3)),
      'converged': int(jnp.sum(found.converged)),
      'iterations': float(jnp.median(found.num_iterations)),
      'theorem': sketching.sketch_dimension(j, j, (p, p)),
    }

  sizes = enumerate(round(fraction * p) for fraction in config.fractions)
  return [row(i, m, n) for i, m in sizes for n in config.ones if n <= m]
