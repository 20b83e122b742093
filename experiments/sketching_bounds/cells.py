"""Measurements, cell by cell.

A row of the studies `bounds`, `trace` (one per epoch) and `pruned` (the network
after Algorithm 1) holds a network's errors and, for each method,

  complexity, bound    natural logarithms, without and with the empirical term
  failure, broken      probability; names of the premises that do not hold

`strengths` has a row for each pruning strength, `weights` one for each layer,
`counts` one for each network, `recovery` one for each kind of sketch.
"""

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.common.cells import Cell, Row, cell, run_cells
from experiments.sketching_bounds import authors, lemmas, methods, networks
from experiments.sketching_bounds.networks import Network
from experiments.sketching_bounds.report import report
from experiments.sketching_bounds.sketch_sizes import recovery
from htjax import bounds, training
from htjax.bounds.magnitude_sketching import pruning_strength
from htjax.types import PRNGKey


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Measure what is not measured yet and report; returns all rows."""
  if config.get('protocol') == 'authors':
    return authors.run(config, workdir)
  return run_cells(config, workdir, cells(config), report)


def cells(config: ConfigDict) -> list[Cell]:
  """Everything that the config asks for, in the order of the tables."""
  plans: dict[str, tuple[Callable[..., list[Row]], Any]] = {
    'network': (_network, config.networks),
    'trace': (_trace, config.traced),
    'recovery': (recovery, itertools.product(config.sides, config.sparsities)),
  }

  def of(kind: str, study: Callable[..., list[Row]], pair: Any) -> Cell:
    name = ' '.join(map(str, (kind, *pair)))
    return cell(
      name, study, config, training.named_key(config.seed, name), *pair
    )

  return [
    of(k, study, pair) for k, (study, pairs) in plans.items() for pair in pairs
  ]


def _network(
  config: ConfigDict, key: PRNGKey, name: str, width: int
) -> list[Row]:
  ((_, net),) = networks.train(config, key, name, width, [config.epochs])
  rows: list[Row] = [{'study': 'bounds'} | _measured(net)]
  asked = (name, width) in [tuple(pair) for pair in config.pruned]
  if asked and rows[0]['methods']:
    pruned = lemmas.prune(net, pruning_strength(config.kept))
    after = _measured(dataclasses.replace(net, layers=pruned.params))
    rows += [
      {'study': 'pruned', 'kept_fraction': float(1 - pruned.ratio)} | after,
      lemmas.counts(net, pruned.mask),
      *lemmas.weights(net),
      *lemmas.strengths(net),
    ]
  common = {'dataset': name, 'width': width, 'epoch': config.epochs}
  return [common | row for row in rows]


def _trace(
  config: ConfigDict, key: PRNGKey, name: str, width: int
) -> list[Row]:
  trained = networks.train(config, key, name, width, config.trace_epochs)
  return [
    {'study': 'trace', 'dataset': name, 'width': width, 'epoch': epoch}
    | _measured(net)
    for epoch, net in trained
  ]


def _measured(net: Network) -> Row:
  """Errors of a network, and all bounds if it has a margin."""
  row = {
    'status': 'trained',
    'train_error': net.train_error,
    'test_error': net.test_error,
    'num_samples': len(net.task.y),
    'shapes': net.shapes,
  }
  if not bool(jnp.all(jnp.isfinite(net.logits))):
    return row | {'status': 'diverged', 'methods': {}}
  if not np.any(net.margins > 0):
    return row | {'status': 'no margin', 'methods': {}}
  norms = ('spectral', 'frobenius', 'two_one')
  return row | {
    'gamma': net.gamma,
    'norms': {name: getattr(net.norms, name).tolist() for name in norms},
    'methods': {k: _summary(b) for k, b in methods.evaluate(net).items()},
  }


def _summary(bound: bounds.Bound) -> Row:
  return {
    'complexity': bound.terms['complexity'],
    'bound': bound.log_value,
    'failure': bound.failure,
    'broken': [a.name for a in bound.assumptions if a.holds is False],
  }
