"""A network pruned by Algorithm 1, beside what the lemmas say of it."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from experiments.common.cells import Row
from experiments.sketching_bounds.methods import Code
from experiments.sketching_bounds.networks import (
  PRUNING,
  Task,
  error_rate,
  outputs,
)
from htjax import bounds, pruning, sketching
from htjax.bounds import compression, ingredients
from htjax.bounds import sketching as sketch_bounds
from htjax.types import Array, PRNGKey

# Edges of the histograms, in standard deviations of the layer.
BINS = np.linspace(-6, 6, 121)


def prune(key: PRNGKey, layers: list[Array], strength: float) -> pruning.Pruned:
  """By Algorithm 1; the same draws at every strength."""
  key = jax.random.fold_in(key, PRUNING)
  return pruning.randomized_magnitude(key, list(layers), strength)


def counts(
  config: ConfigDict, layers: list[Array], pruned: pruning.Pruned
) -> Row:
  """Nats of the three counts on the pruned network as it is."""
  sizes = [w.size for w in layers]
  nonzeros = [int(jnp.sum(m)) for m in pruned.mask]
  values = config.num_values
  measured = [
    sketching.sketch_dimension(*_fullest(mask), mask.shape) ** 2
    for mask in pruned.mask
  ]
  formula = sketch_bounds.count_lengths(
    [w.shape for w in layers], kept=config.kept, num_values=values
  )
  return {
    'study': 'counts',
    'nonzeros': sum(nonzeros),
    'entries': sum(sizes),
    'naive': compression.code_length(nonzeros, sizes, values),
    'sketch': formula['sketch'],
    'sketch_measured': sum(measured) * math.log(values),
    'dense': formula['dense'],
  }


def _fullest(mask: Array) -> tuple[int, int]:
  """Most nonzeros in a row, and in a column."""
  j_r, j_c = map(int, sketching.distributed_sparsity(mask))
  return j_r, j_c


def weights(layers: list[Array]) -> list[Row]:
  """Histograms in standard deviations, and the excess kurtosis."""
  rows = []
  for i, w in enumerate(layers):
    scaled = np.asarray(w, np.float64).ravel()
    deviation = scaled.std()
    scaled = (scaled - scaled.mean()) / deviation
    found, _ = np.histogram(scaled, BINS)
    rows.append(
      {
        'study': 'weights',
        'layer': i + 1,
        'deviation': float(deviation),
        'kurtosis': float(np.mean(scaled**4) - 3),
        'density': (found / scaled.size / np.diff(BINS)).tolist(),
      }
    )
  return rows


def strengths(
  config: ConfigDict, key: PRNGKey, task: Task, layers: list[Array]
) -> list[Row]:
  """Algorithm 1 at each strength: what it does, and what the lemmas say."""
  few = task.x[: config.output_inputs]
  before = outputs(layers, few)
  input_norm = float(jnp.max(jnp.linalg.norm(few, axis=1)))
  code = Code(
    config, layers, ingredients.layer_norms(layers).spectral, input_norm
  )

  def at(strength: float) -> Row:
    pruned = prune(key, layers, strength)
    kept = sketch_bounds.kept_probability(strength)
    change = jnp.linalg.norm(outputs(pruned.params, few) - before, axis=1)
    gammas = code.changes(strength)
    moved = [
      float(ingredients.spectral_norm(a - b).value)
      for a, b in zip(pruned.params, layers, strict=True)
    ]
    after = outputs(pruned.params, task.test_x)
    return {
      'study': 'strengths',
      'strength': strength,
      'kept_expected': kept,
      'kept_fraction': float(1 - pruned.ratio),
      'test_error': error_rate(after, task.test_y),
      'change_max': float(jnp.max(change)),
      'change_mean': float(jnp.mean(change)),
      'norm_ratio': max(m / g for m, g in zip(moved, gammas, strict=True)),
      'bound_markov': _summary(code.moved(gammas, code.multiplier)),
      'bound_mean': _summary(code.moved(gammas, 1.0)),
      'bound_measured': _summary(code.moved(moved, None)),
      **_sparsity(config, pruned.mask, kept),
    }

  return [at(strength) for strength in config.strengths]


def _summary(bound: bounds.Bound) -> dict[str, Any]:
  small = [a for a in bound.assumptions if a.name != 'confidence']
  return {
    'log': bound.log_value,
    'failure': bound.failure,
    'premise': all(a.holds is not False for a in small),
  }


def _sparsity(config: ConfigDict, masks: list[Array], kept: float) -> Row:
  """Most nonzeros in a row or column: measured, Lemma 5.1, and the law's."""

  def claimed(shape):
    return sketch_bounds.distributed_sparsity(shape, kept=kept, factor=1.0)

  def quantile(d1, d2):
    # The union bound over rows and columns, at the confidence of the config.
    share = config.delta / (d1 + d2)
    return 1 + max(int(stats.binom.isf(share, d - 1, kept)) for d in (d1, d2))

  return {
    'most_nonzeros': [max(_fullest(m)) for m in masks],
    'most_claimed': [claimed(m.shape).value for m in masks],
    'most_quantile': [quantile(*m.shape) for m in masks],
  }
