"""A network pruned by Algorithm 1, beside what the lemmas say of it."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from experiments.common.cells import Row
from experiments.sketching_bounds.methods import budget_of
from experiments.sketching_bounds.networks import PRUNING, Network
from htjax import bounds, pruning, sketching
from htjax.bounds import gaussian_compression, spectral
from htjax.bounds import magnitude_sketching as paper
from htjax.bounds.networks import outputs
from htjax.types import Array

# Edges of the histograms, in standard deviations of the layer.
BINS = np.linspace(-6, 6, 121)


def prune(net: Network, strength: float) -> pruning.Pruned:
  """By Algorithm 1; draws are equal at every strength."""
  key = jax.random.fold_in(net.key, PRUNING)
  return pruning.randomized_magnitude(key, list(net.layers), strength)


def counts(net: Network, masks: Sequence[Array]) -> Row:
  """Nats of the three counts on the pruned network as it is."""
  sizes = [w.size for w in net.layers]
  nonzeros = [int(jnp.sum(mask)) for mask in masks]
  values = net.config.num_values
  measured = [
    sketching.sketch_dimension(*_fullest(mask), shape) ** 2
    for mask, shape in zip(masks, net.shapes, strict=True)
  ]
  formula = paper.count_lengths_nats(
    net.shapes, kept=net.config.kept, num_values=values
  )
  return {
    'study': 'counts',
    'nonzeros': sum(nonzeros),
    'entries': sum(sizes),
    'naive': gaussian_compression.code_length_nats(nonzeros, sizes, values),
    'sketch': formula['sketch'],
    'sketch_measured': sum(measured) * math.log(values),
    'dense': formula['dense'],
  }


def _fullest(mask: Array) -> tuple[int, int]:
  """Most nonzeros in a row, and in a column."""
  j_r, j_c = map(int, sketching.distributed_sparsity(mask))
  return j_r, j_c


def weights(net: Network) -> list[Row]:
  """Histograms in standard deviations, and the excess kurtosis."""

  def of_layer(i: int, w: Array) -> Row:
    scaled = np.asarray(w, np.float64).ravel()
    deviation = scaled.std()
    scaled = (scaled - scaled.mean()) / deviation
    found, _ = np.histogram(scaled, BINS)
    return {
      'study': 'weights',
      'layer': i,
      'deviation': float(deviation),
      'kurtosis': float(np.mean(scaled**4) - 3),
      'density': (found / scaled.size / np.diff(BINS)).tolist(),
    }

  return [of_layer(i, w) for i, w in enumerate(net.layers, 1)]


def strengths(net: Network) -> list[Row]:
  """Algorithm 1 at each strength: what it does, and what the lemmas say."""
  few = net.task.x[: net.config.output_inputs]
  before = outputs(net.layers, few)
  budget = budget_of(net, float(jnp.max(jnp.linalg.norm(few, axis=1))))

  def at(strength: float) -> Row:
    pruned = prune(net, strength)
    kept = paper.kept_probability(strength)
    after = dataclasses.replace(net, layers=pruned.params)
    change = jnp.linalg.norm(outputs(after.layers, few) - before, axis=1)
    gammas = budget.changes(strength)
    moved = [
      float(spectral.spectral_norm(a - b).value)
      for a, b in zip(after.layers, net.layers, strict=True)
    ]
    return {
      'study': 'strengths',
      'strength': strength,
      'kept_expected': kept,
      'kept_fraction': float(1 - pruned.ratio),
      'test_error': after.test_error,
      'change_max': float(jnp.max(change)),
      'change_mean': float(jnp.mean(change)),
      'norm_ratio': max(m / g for m, g in zip(moved, gammas, strict=True)),
      'bound_markov': _summary(budget.output_error(gammas, budget.multiplier)),
      'bound_mean': _summary(budget.output_error(gammas, 1.0)),
      'bound_measured': _summary(budget.output_error(moved)),
      **_sparsity(pruned.mask, kept, net.config.delta),
    }

  return [at(strength) for strength in net.config.strengths]


def _summary(bound: bounds.Bound) -> Row:
  small = [a for a in bound.assumptions if a.name != 'confidence']
  return {
    'log': bound.log_value,
    'failure': bound.failure,
    'premise': all(a.holds is not False for a in small),
  }


def _sparsity(masks: Sequence[Array], kept: float, delta: float) -> Row:
  """Most nonzeros in a row or column: measured, Lemma 5.1, and the law's."""

  def claimed(shape):
    return paper.distributed_sparsity(shape, kept=kept, factor=1.0)

  def quantile(d1, d2):
    # The union bound over rows and columns, at the confidence 1 - delta.
    share = delta / (d1 + d2)
    return 1 + max(int(stats.binom.isf(share, d - 1, kept)) for d in (d1, d2))

  return {
    'most_nonzeros': [max(_fullest(m)) for m in masks],
    'most_claimed': [claimed(m.shape).value for m in masks],
    'most_quantile': [quantile(*m.shape) for m in masks],
  }
