"""Tables 1-6 and Figure 2 of "Implicit Compressibility of Overparametrized
Neural Networks Trained with Heavy-Tailed SGD".

Networks trained with heavy-tailed noise lose far more columns at the same
error than those trained without. Each preset trains its lanes (alpha x sigma x
seed, and seeds without noise) to the stopping rule, prunes every network, and
writes the paper's table beside the published one, and the figures.

  python -m experiments.implicit_compressibility \
    --config=experiments/configs/implicit_compressibility.py:demo \
    --workdir=runs/demo

Run it again and it goes on where it was killed, or draws its figures anew.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments import program, published, reports
from htjax import (
  compressibility,
  data,
  models,
  plotting,
  pruning,
  records,
  selection,
  training,
)


def run(config: ConfigDict, workdir: str | Path) -> list[dict[str, Any]]:
  """Train, prune and report; returns the rows of results.json."""
  dataset = load_data(config)
  network = make_network(config, dataset)
  lanes = make_lanes(config)
  with records.open_run(workdir, config.to_dict()) as output:
    rows = {row['lane']: row for row in output.read_results()}
    mask = selection.exclude(*network.excluded)
    recipe = training.Recipe(
      learning_rate=config.learning_rate,
      batch_size=config.batch_size,
      kind=config.kind,
      unit=config.unit,
      eval_every=config.eval_every,
      target_accuracy=config.target_accuracy,
      max_steps=config.max_steps,
      eval_batch=config.eval_batch,
    )
    finished = training.train(
      training.make_program(network.init, network.apply, recipe, select=mask),
      lanes,
      training.Examples(*dataset.train),
      at_once=config.at_once or None,
      done=frozenset(rows),
      run=output,
      checkpoint_every=config.checkpoint_every,
    )
    analyse = make_analysis(config, network, dataset)
    with reports.progress(len(lanes), len(rows)) as bar:
      for lane in finished:
        rows[lane.lane_index] = make_row(config, lane, analyse(lane.params))
        if config.law_draws:
          rows[lane.lane_index] |= law_draws(config, network, lane)
        output.write_results([rows[i] for i in sorted(rows)])
        bar.update(len(rows) - bar.n)
    ordered = [rows[i] for i in sorted(rows)]
    print(reports.write(config, ordered, Path(workdir)))
  return ordered


def load_data(config: ConfigDict) -> data.Dataset:
  """The data set of the config, or its first `limit` examples."""
  dataset = data.load(config.dataset, **config.dataset_options)
  if not config.limit:
    return dataset
  first = [
    data.Split(*(a[: config.limit] for a in split))
    for split in (dataset.train, dataset.test)
  ]
  return dataset._replace(train=first[0], test=first[1])


def make_network(config: ConfigDict, dataset: data.Dataset) -> models.Network:
  """The network of the config, for the shape of the data."""
  shape = dataset.train.inputs.shape[1:]
  if config.network == 'cnn':
    return models.cnn(
      shape[-1], dataset.num_classes, channels=tuple(config.channels)
    )
  if config.network != 'fcn':
    raise ValueError(
      f"config.network must be 'fcn' or 'cnn', got {config.network!r}"
    )
  return models.fcn(
    int(np.prod(shape)),
    config.width,
    dataset.num_classes,
    hidden_layers=config.hidden_layers,
  )


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
) -> Callable[[Any], dict[str, Any]]:
  """What is measured on a trained network, as one compiled function."""
  prunable = selection.exclude(*network.excluded)
  train = jax.tree.map(jnp.asarray, dataset.train)
  test = jax.tree.map(jnp.asarray, dataset.test)
  fractions = jnp.asarray(config.fractions)

  def accuracy(params, examples):
    return training.evaluate(
      network.apply, params, *examples, batch_size=config.eval_batch
    )[1]

  def measure(params, train, test):
    pruned = pruning.columns_to_error(params, config.tolerance, select=prunable)

    def curve(fraction):
      kept = pruning.columns(params, 1.0 - fraction, select=prunable)
      return accuracy(kept.params, test)

    return {
      'test_accuracy': accuracy(params, test),
      'pruning_ratio': pruned.ratio,
      'train_accuracy_pruned': accuracy(pruned.params, train),
      'test_accuracy_pruned': accuracy(pruned.params, test),
      'test_accuracy_curve': jax.lax.map(curve, fractions),
    }

  compiled = jax.jit(measure)

  def analyse(params):
    measured = jax.tree.map(np.asarray, compiled(params, train, test))
    norms = np.concatenate(
      [
        np.asarray(compressibility.column_norms(leaf)).ravel()
        for leaf, flag in zip(
          jax.tree.leaves(params),
          jax.tree.leaves(prunable(params)),
          strict=True,
        )
        if flag
      ]
    )
    counts, _ = np.histogram(norms / np.median(norms), plotting.NORM_BINS)
    return {k: v.tolist() for k, v in measured.items()} | {
      'column_norm_counts': counts.tolist()
    }

  return analyse


def make_row(
  config: ConfigDict, lane: training.Finished, measured: Mapping[str, Any]
) -> dict[str, Any]:
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
  for column, (mean, sd) in (published.row(config.table, alpha) or {}).items():
    row[f'published_{column}'], row[f'published_{column}_sd'] = mean, sd
  return row


def law_draws(
  config: ConfigDict, network: models.Network, lane: training.Finished
) -> dict[str, Any]:
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
  alpha, injections = lane.lane.alpha, lane.steps - 1
  scale = lane.lane.sigma * (config.learning_rate * injections) ** (1 / alpha)
  ratios = compressibility.invisible_noise_ratios(
    jax.random.fold_in(jax.random.key(lane.lane_index), 1),
    columns,
    scale,
    alpha,
    config.law_draws,
    tolerance=config.tolerance,
  )
  return {'law_pruning_ratios': np.asarray(ratios).round(6).tolist()}


if __name__ == '__main__':
  program.main(run)
