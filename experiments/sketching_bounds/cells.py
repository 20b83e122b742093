"""What is measured, cell by cell.

A row of the studies `bounds`, `trace` (one per epoch) and `pruned` (the network
after Algorithm 1) holds a network's errors and, for each method,

  complexity, bound    natural logarithms, without and with the empirical term
  failure, broken      probability; names of the premises that do not hold

`strengths` has a row for each pruning strength, `weights` one for each layer,
`counts` one for each network, `recovery` one for each kind of sketch.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.common.cells import Cell, Row, key_for, run_cells
from experiments.sketching_bounds import lemmas, methods, networks
from experiments.sketching_bounds.networks import Net
from experiments.sketching_bounds.recovery import recovery
from experiments.sketching_bounds.report import report
from htjax import bounds
from htjax.bounds import ingredients
from htjax.bounds import sketching as sketch_bounds
from htjax.types import PRNGKey


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Measure what is not measured yet and report; returns all rows."""
  return run_cells(config, workdir, cells(config), report)


def cells(config: ConfigDict) -> list[Cell]:
  """Everything that the config asks for, in the order of the tables."""
  sketches = [(p, j) for p in config.sides for j in config.sparsities]
  plans: list[tuple[str, Callable[..., list[Row]], Any]] = [
    ('network', _network, config.networks),
    ('trace', _trace, config.traced),
    ('recovery', recovery, sketches),
  ]
  return [
    Cell(
      name, functools.partial(study, config, key_for(config.seed, name), *of)
    )
    for kind, study, settings in plans
    for of in settings
    for name in (' '.join(map(str, (kind, *of))),)
  ]


def _network(
  config: ConfigDict, key: PRNGKey, name: str, width: int
) -> list[Row]:
  ((_, net),) = networks.train(config, name, width, [config.epochs])
  rows: list[Row] = [{'study': 'bounds'} | _measured(config, key, name, net)]
  asked = (name, width) in [tuple(pair) for pair in config.pruned]
  if asked and rows[0]['methods']:
    strength = sketch_bounds.pruning_strength(config.kept)
    pruned = lemmas.prune(key, net.layers, strength)
    after = _measured(config, key, name, net._replace(layers=pruned.params))
    task = networks.load_task(name)
    rows += [
      {'study': 'pruned', 'kept_fraction': float(1 - pruned.ratio)} | after,
      lemmas.counts(config, net.layers, pruned),
      *lemmas.weights(net.layers),
      *lemmas.strengths(config, key, task, net.layers),
    ]
  common = {'dataset': name, 'width': width, 'epoch': config.epochs}
  return [common | row for row in rows]


def _trace(
  config: ConfigDict, key: PRNGKey, name: str, width: int
) -> list[Row]:
  return [
    {'study': 'trace', 'dataset': name, 'width': width, 'epoch': epoch}
    | _measured(config, key, name, net)
    for epoch, net in networks.train(config, name, width, config.trace_epochs)
  ]


def _measured(config: ConfigDict, key: PRNGKey, name: str, net: Net) -> Row:
  """Errors of a network, and all bounds if it has a margin."""
  task = networks.load_task(name)
  logits = networks.outputs(net.layers, task.x)
  test_logits = networks.outputs(net.layers, task.test_x)
  row = {
    'status': 'trained',
    'train_error': networks.error_rate(logits, task.y),
    'test_error': networks.error_rate(test_logits, task.test_y),
    'num_samples': len(task.y),
    'shapes': [w.shape for w in net.layers],
  }
  if not bool(jnp.all(jnp.isfinite(logits))):
    return row | {'status': 'diverged', 'methods': {}}
  margins = np.asarray(bounds.margins(logits, task.y), np.float64)
  if not np.any(margins > 0):
    return row | {'status': 'no margin', 'methods': {}}
  gamma = float(np.quantile(margins[margins > 0], config.margin_quantile))
  norms = ingredients.layer_norms(*net)
  found = methods.evaluate(
    methods.Evidence(config, key, task, net, logits, margins, gamma, norms)
  )
  return row | {
    'gamma': gamma,
    'norms': {
      name: getattr(norms, name).tolist()
      for name in ('spectral', 'frobenius', 'two_one')
    },
    'methods': {k: methods.summary(bound) for k, bound in found.items()},
  }
