"""Training, pruning, and the measurements of a network."""

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
from htjax import compressibility, data, models, plotting, pruning, training
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

  def measure(lane: training.Finished) -> Row:
    row = make_row(config, lane, analyse(lane.params))
    return row | law_draws(config, network, lane) if config.law_draws else row

  with records.open_run(workdir, config.to_dict()) as output:
    examples = training.Examples(*dataset.train)
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
  """A compiled function from weights to all that is measured of them."""
  prunable = exclude(*network.excluded)
  train, test = jax.tree.map(jnp.asarray, (dataset.train, dataset.test))
  fractions = jnp.asarray(config.fractions)

  def accuracy(params, examples):
    return training.evaluate(
      network.apply, params, *examples, batch_size=config.eval_batch
    )[1]

  def accuracies(params, masks, examples):
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

  def measure(params, train, test):
    pruned = pruning.columns_to_error(params, config.tolerance, select=prunable)
    masks = jax.lax.map(
      lambda share: pruning.columns(params, 1.0 - share, select=prunable).mask,
      fractions,
    )
    alone = jax.tree.map(lambda mask: mask[None], pruned.mask)
    all_true = jax.tree.map(jnp.ones_like, alone)
    together = jax.tree.map(
      lambda *parts: jnp.concatenate(parts), all_true, alone, masks
    )
    whole, cut, *curve = accuracies(params, together, test)
    return {
      'test_accuracy': whole,
      'pruning_ratio': pruned.ratio,
      'train_accuracy_pruned': accuracies(params, alone, train)[0],
      'test_accuracy_pruned': cut,
      'test_accuracy_curve': jnp.stack(curve),
    }

  compiled = jax.jit(measure)

  def analyse(params):
    measured = compiled(params, train, test)
    row = {name: np.asarray(value).tolist() for name, value in measured.items()}
    leaves = zip(*map(jax.tree.leaves, (params, prunable(params))), strict=True)
    all_norms = [
      np.asarray(compressibility.column_norms(leaf)).ravel()
      for leaf, flag in leaves
      if flag
    ]
    norms = np.concatenate(all_norms)
    counts, _ = np.histogram(norms / np.median(norms), plotting.NORM_BINS)
    return row | {'column_norm_counts': counts.tolist()}

  return analyse


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
  config: ConfigDict, network: models.Network, lane: training.Finished
) -> Row:
  """Draws of the pruning ratio's closed-form law at this lane's own steps.

  On inputs that sum to zero no gradient has a component along the vector of
  ones: without noise each column would have ended with the mean it started
  from, and the rest of it as it is now.
  """
  if lane.lane.sigma == 0 or lane.status == 'diverged':
    return {}
  initial = network.init(training.init_key(lane.lane.seed))
  first, last = (p['hidden_0']['kernel'] for p in (initial, lane.params))
  columns = last - last.mean(0, keepdims=True) + first.mean(0, keepdims=True)
  noise = StableNoise(lane.lane.alpha, lane.lane.sigma)
  time = config.learning_rate * (lane.steps - 1)
  ratios = compressibility.invisible_noise_ratios(
    jax.random.fold_in(jax.random.key(lane.lane_index), 1),
    columns,
    noise.scale(time),
    noise.alpha,
    config.law_draws,
    tolerance=config.tolerance,
  )
  return {'law_pruning_ratios': np.asarray(ratios).round(6).tolist()}
