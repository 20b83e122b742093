"""Studies of exactly stable weights: networks and matrices.

Parts of "Heavy Tails in SGD and Compressibility of Overparametrized Neural
Networks" that need no training: supplements S1.6.1 (networks) and S1.6.2
(matrices). The limits and rates behind both are in `limits`.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.common.cells import Cell, Row, cell
from htjax import compressibility, models, pruning, stable
from htjax.selection import exclude

STUDIES = ('networks', 'matrices', 'limits')
STRUCTURES = ('independent', 'columns', 'whole')
# The two readings of which layers of a random network are pruned: the output
# layer is the same for all alphas, and the text leaves open if it is kept.
AGREEMENTS = {
  'agreement': 'output layer kept',
  'agreement_all': 'all layers pruned',
}

_DRAWS_IN_A_CELL = 25


def cells(config: ConfigDict) -> Iterator[Cell]:
  """Both studies."""
  settings = config, _agreement(config)
  for i in range(config.networks.repeats):
    yield cell(f'repeat {i}', network_rows, *settings, i, study='networks')
  for i in range(0, config.matrices.draws, _DRAWS_IN_A_CELL):
    yield cell(f'draws from {i}', matrix_rows, config, i, study='matrices')


def make_key(study: str, *numbers: Any) -> Any:
  """A key of a study, and of the part of it that the numbers name."""
  key = jax.random.key(STUDIES.index(study))
  return functools.reduce(jax.random.fold_in, numbers, key)


# Networks.


def network_rows(
  config: ConfigDict, agreement: Callable[..., Row], repeat: int
) -> Iterator[Row]:
  """A row for each tail index."""
  settings, key = config.networks, make_key('networks', repeat)
  shape = (settings.num_inputs, settings.dim)
  inputs = jax.random.normal(jax.random.fold_in(key, 0), shape)
  for alpha in settings.alphas:
    # One key for all: the curves differ by alpha alone.
    curves = agreement(jax.random.fold_in(key, 1), alpha, inputs)
    row = {'alpha': alpha, 'seed': repeat, 'width': settings.width}
    yield row | {name: np.asarray(curves[name]).tolist() for name in AGREEMENTS}


def _agreement(config: ConfigDict) -> Callable[..., Row]:
  """(key, alpha, inputs) -> agreement with itself at each pruned fraction."""
  sizes = config.networks
  network = models.fcn(
    *(sizes.dim, sizes.width, sizes.num_classes),
    hidden_layers=sizes.hidden_layers,
  )

  @jax.jit
  def agreement(key, alpha, inputs):
    params = models.stable_params(key, network, alpha)

    def labels(params):
      return network.apply(params, inputs).argmax(-1)

    own = labels(params)

    def at(fraction, select):
      pruned = pruning.magnitude(params, 1 - fraction, select=select)
      return jnp.mean(labels(pruned.params) == own)

    selections = (exclude(*network.excluded), None)
    fractions = jnp.asarray(sizes.fractions)
    return {
      name: jax.lax.map(functools.partial(at, select=select), fractions)
      for name, select in zip(AGREEMENTS, selections, strict=True)
    }

  return agreement


# Matrices.


def matrix_rows(config: ConfigDict, first: int) -> Iterator[Row]:
  """Random tail indices, and what can be pruned at each."""
  settings = config.matrices
  for i in range(first, min(first + _DRAWS_IN_A_CELL, settings.draws)):
    alpha_key, key = (make_key('matrices', i, j) for j in (0, 1))
    alpha = jax.random.uniform(
      alpha_key, minval=settings.low, maxval=settings.high
    )
    ratios = matrix_ratios(key, alpha, config.error, settings.size)
    for name, ratio in ratios.items():
      row = {'structure': name, 'alpha': float(alpha)}
      yield row | {'pruning_ratio': float(ratio)}


@functools.partial(jax.jit, static_argnames='size')
def matrix_ratios(key: Any, alpha: Any, error: float, size: int) -> Any:
  """Prunable share of a square matrix of each structure."""
  keys = jax.random.split(key, 3)
  draw = functools.partial(stable.sample_vectors, kind='type3')
  matrices = {
    'independent': stable.sample(keys[0], alpha, (size, size)),
    'columns': draw(keys[1], alpha, (size, size), axis=0),
    'whole': draw(keys[2], alpha, (size * size,)),
  }
  return {
    name: 1 - compressibility.smallest_kappa(w, error)
    for name, w in matrices.items()
  }
