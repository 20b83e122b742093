"""Training, pruning, and the measurements of a network."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.common import published, tasks
from experiments.common.cells import Row, publish, train_lanes
from experiments.implicit_compressibility.report import report
from htjax import compressibility, data, models, plotting, training
from htjax.io import records
from htjax.noise import StableNoise
from htjax.selection import exclude


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Train, prune and report; returns the rows of results.json."""
  dataset = load_data(config)
  network = tasks.network(config, dataset)
  lanes = make_lanes(config)
  program = training.make_program(
    network.init,
    network.apply,
    tasks.recipe(config),
    select=exclude(*network.excluded),
  )
  analyse = make_analysis(config, network, dataset)
  examples = jax.device_put(training.Examples(*dataset.train))

  @functools.cache
  def initial(seed: int) -> Any:
    # By the program that training has compiled.
    lane = training.Lane(seed, 2.0, 0.0)
    ((_, state),) = training.epochs(program, lane, examples, [0])
    return state.params

  def measure(lane: training.Finished) -> Row:
    row = make_row(config, lane, analyse(lane.params))
    return row | law_draws(config, initial, lane) if config.law_draws else row

  with records.open_run(workdir, config.to_dict()) as output:
    rows = train_lanes(output, program, lanes, examples, measure, config)
    publish(report(config, rows), Path(workdir))
  return rows


def load_data(config: ConfigDict) -> data.Dataset:
  """The data set of the config, or its first `limit` examples."""
  dataset = data.load(config.dataset, **config.dataset_options)
  return tasks.first(dataset, config.limit)


def make_lanes(config: ConfigDict) -> list[training.Lane]:
  """Lanes in the table's order: without noise first, then alpha by alpha."""
  if len(config.alphas) != len(config.sigmas):
    raise ValueError(
      'config.sigmas must have one entry for each of config.alphas, got '
      f'{len(config.sigmas)} and {len(config.alphas)}'
    )
  settings = [(2.0, 0.0)] if config.clean else []
  for alpha, sigma in zip(config.alphas, config.sigmas, strict=True):
    settings += [(alpha, sigma * f) for f in config.sweep or (1.0,)]
  seeds = range(config.first_seed, config.first_seed + config.num_seeds)
  return [training.Lane(s, a, sigma) for a, sigma in settings for s in seeds]


def make_analysis(
  config: ConfigDict, network: models.Network, dataset: data.Dataset
) -> Callable[[Any], Row]:
  """A function from weights to all that is measured of them.

  Columns are ranked outside of what is compiled, on a CPU by NumPy.
  """
  prunable = exclude(*network.excluded)
  train, test = jax.device_put((dataset.train, dataset.test))

  def accuracy(params, examples):
    return training.evaluate(
      network.apply, params, *examples, batch_size=config.eval_batch
    )[1]

  @jax.jit
  def accuracies(params, masks, test, train):
    """On the test set after every cut, on the training set after one."""
    alone = jax.tree.map(lambda mask: mask[1:2], masks)
    return after(params, masks, test), after(params, alone, train)

  def after(params, masks, examples):
    """Without the columns that each of the masks [cuts, ..] prunes."""
    if config.network == 'fcn' and len(network.hidden) == 1:
      # What is not mapped over, the hidden layer, is computed once for all.
      output = params['output']['kernel']
      kept = masks['hidden_0']['kernel'][:, 0, :, None]
      cut = jnp.where(kept, output, 0)
      return jax.vmap(
        lambda v: accuracy(params | {'output': {'kernel': v}}, examples)
      )(cut)

    def one(mask):
      return accuracy(jax.tree.map(jnp.multiply, params, mask), examples)

    return jax.lax.map(one, masks)

  def analyse(params):
    flags = prunable(params)
    norms = jax.tree.map(
      lambda leaf: np.asarray(compressibility.column_norms(leaf)), params
    )
    masks = jax.tree.map(functools.partial(_cuts, config), params, norms, flags)
    alone = jax.tree.map(lambda mask: mask[1:2], masks)
    found = jax.device_get(accuracies(params, masks, test, train))
    (whole, cut, *curve), (cut_train,) = (part.tolist() for part in found)
    counted = np.concatenate(_flagged(norms, flags))
    counts, _ = np.histogram(counted / np.median(counted), plotting.NORM_BINS)
    return {
      'test_accuracy': whole,
      'pruning_ratio': _pruned_share(params, alone, flags),
      'train_accuracy_pruned': cut_train,
      'test_accuracy_pruned': cut,
      'test_accuracy_curve': curve,
      'column_norm_counts': counts.tolist(),
    }

  return analyse


def _cuts(
  config: ConfigDict, leaf: jax.Array, norms: Any, flag: bool
) -> np.ndarray:
  """Masks of a leaf's columns, [cuts, 1, .., columns].

  The first prunes nothing, the second what the tolerance pays for, the others
  the fractions of the curve; of a leaf that is not pruned all are True.
  """
  rest, size = (1,) * (leaf.ndim - 1), norms.size
  num_cuts = 2 + len(config.fractions)
  if not flag:
    return np.ones((num_cuts, *rest, 1), bool)
  removable = compressibility.num_removable(norms, config.tolerance)
  shares = 1 - np.asarray(config.fractions, np.float32)
  counts = compressibility.kept_count(shares, size)
  kept = [size, size - int(removable), *counts.tolist()]
  rows = [np.asarray(compressibility.largest(norms, k)) for k in kept]
  return np.stack(rows).reshape(num_cuts, *rest, size)


def _flagged(tree: Any, flags: Any) -> list[Any]:
  """The leaves of a pytree that are flagged."""
  pairs = zip(*map(jax.tree.leaves, (tree, flags)), strict=True)
  return [leaf for leaf, flag in pairs if flag]


def _pruned_share(params: Any, masks: Any, flags: Any) -> float:
  """Share of the entries of the prunable leaves that the masks prune."""
  sizes = [leaf.size for leaf in _flagged(params, flags)]
  shares = [np.mean(~mask) for mask in _flagged(masks, flags)]
  return float(np.float32(np.dot(sizes, shares) / sum(sizes)))


def make_row(
  config: ConfigDict, lane: training.Finished, measured: Mapping[str, Any]
) -> Row:
  """One row of results.json; fractions in [0, 1], null where diverged."""
  noisy = lane.lane.sigma > 0
  alpha = lane.lane.alpha if noisy else None
  row = {
    'lane': lane.lane_index,
    'table': config.table or None,
    'dataset': config.dataset,
    'kind': config.kind if noisy else None,
    'alpha': alpha,
    'sigma': lane.lane.sigma,
    'width': config.width,
    'seed': lane.lane.seed,
    'steps': lane.steps,
    'status': lane.status,
    'diverged': lane.status == 'diverged',
    'train_accuracy': lane.train_accuracy,
    **measured,
  }
  if row['diverged']:
    row |= dict.fromkeys(('train_accuracy', *measured))
  for column, (mean, sd) in published.row(config.table, alpha).items():
    row[f'published_{column}'], row[f'published_{column}_sd'] = mean, sd
  return row


def law_draws(
  config: ConfigDict, initial: Callable[[int], Any], lane: training.Finished
) -> Row:
  """Draws of the pruning ratio's closed-form law at this lane's own steps.

  On inputs that sum to zero no gradient has a component along the vector of
  ones: without noise each column would have ended with the mean it started
  from, `initial(seed)` being the first weights, and the rest of it as it is
  now.
  """
  if lane.lane.sigma == 0 or lane.status == 'diverged':
    return {}
  first, last = (
    np.asarray(params['hidden_0']['kernel'], np.float64)
    for params in (initial(lane.lane.seed), lane.params)
  )
  columns = last - last.mean(0, keepdims=True) + first.mean(0, keepdims=True)
  noise = StableNoise(lane.lane.alpha, lane.lane.sigma)
  time = config.learning_rate * (lane.steps - 1)
  ratios = compressibility.invisible_noise_ratios(
    jax.random.fold_in(jax.random.key(lane.lane_index), 1),
    columns.astype(np.float32),
    noise.scale(time),
    noise.alpha,
    config.law_draws,
    tolerance=config.tolerance,
  )
  return {'law_pruning_ratios': np.asarray(ratios).round(6).tolist()}
