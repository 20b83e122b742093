"""The experiments of "Heavy Tails in SGD and Compressibility of
Overparametrized Neural Networks".

Networks are trained by plain SGD over a range of step size / batch size, to
accuracy 1 and a tiny loss; the tail index of every layer is estimated from an
average of iterates, and the last iterate is pruned in five ways. Beside them,
random networks and matrices with exactly stable weights, and what the theorems
say of such weights.

  python -m experiments.heavy_tails_sgd \
    --config=experiments/configs/heavy_tails_sgd.py:cpu --workdir=runs/ht

Every panel and batch size is a run in a directory of its own, so a program
that was killed goes on where it was.
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy import stats
from tqdm import tqdm

from experiments import heavy_tails_reports, heavy_tails_synthetic, program
from htjax import (
  compressibility,
  data,
  models,
  pruning,
  records,
  stable,
  tail_index,
  training,
)

Row = dict[str, Any]

_BINS = 80


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Train, prune, simulate and report; returns the rows of results.json."""
  workdir = Path(workdir)
  with records.open_run(workdir, config.to_dict()) as output:
    rows = output.read_results()
    for name, cells in heavy_tails_synthetic.cells(config).items():
      if name not in config.studies:
        continue
      done = {row['cell'] for row in rows if row['study'] == name}
      for cell in tqdm([c for c in cells if c.name not in done], desc=name):
        rows += [
          {'study': name, 'cell': cell.name} | row for row in cell.measure()
        ]
        output.write_results(rows)
    if 'training' in config.studies:
      rows = [row for row in rows if row['study'] != 'training']
      for panel in config.panels:
        rows += train_panel(config, panel, workdir)
        output.write_results(rows)
    if jax.process_index() == 0:
      print(heavy_tails_reports.write(config, rows, workdir))
  return rows


def train_panel(
  config: ConfigDict, panel: Mapping[str, Any], workdir: Path
) -> list[Row]:
  """Train and analyse one network at all its step and batch sizes."""
  dataset = load_data(panel)
  network = make_network(panel, dataset)
  analyse = make_analysis(config, panel, network, dataset)
  rows = []
  for batch_size, rates in panel['rates']:
    lanes = [
      training.Lane(seed, 2.0, 0.0, rate)
      for rate in rates
      for seed in config.seeds
    ]
    name = f'{panel["name"]}_b{batch_size}'
    about = {'panel': panel, 'batch_size': batch_size} | {
      key: value
      for key, value in config.to_dict().items()
      if key
      not in ('preset', 'panels', 'studies', *heavy_tails_synthetic.STUDIES)
    }
    with records.open_run(workdir / name, about) as output:
      done = {row['lane']: row for row in output.read_results()}
      finished = training.train(
        training.make_program(
          network.init, network.apply, make_recipe(config, batch_size)
        ),
        lanes,
        training.Examples(*dataset.train),
        at_once=config.at_once or None,
        done=frozenset(done),
        run=output,
        checkpoint_every=config.checkpoint_every,
      )
      with tqdm(total=len(lanes), initial=len(done), desc=name) as bar:
        for lane in finished:
          row = make_row(panel, batch_size, lane)
          done[lane.lane_index] = row | analyse(lane)
          output.write_results([done[i] for i in sorted(done)])
          bar.update(len(done) - bar.n)
      rows += [done[i] for i in sorted(done)]
  return rows


def load_data(panel: Mapping[str, Any]) -> data.Dataset:
  """The data set of a panel, or its first `limit` training examples."""
  dataset = data.load(panel['dataset'])
  if not panel['limit']:
    return dataset
  first = data.Split(*(a[: panel['limit']] for a in dataset.train))
  return dataset._replace(train=first)


def make_network(
  panel: Mapping[str, Any], dataset: data.Dataset
) -> models.Network:
  """The network of a panel, of as many parameters as it promises."""
  if panel['network'] == 'cnn':
    network = models.cnn(
      dataset.input_shape[-1],
      dataset.num_classes,
      channels=tuple(panel['channels']),
    )
  else:
    network = models.fcn(
      int(np.prod(dataset.input_shape)),
      panel['width'],
      dataset.num_classes,
      hidden_layers=panel['hidden_layers'],
    )
  shapes = jax.eval_shape(network.init, jax.random.key(0))
  found = models.num_params(shapes)
  if panel['num_params'] not in (0, found):
    raise ValueError(
      f'{panel["name"]} must have {panel["num_params"]} parameters, got {found}'
    )
  return network


def make_recipe(config: ConfigDict, batch_size: int) -> training.Recipe:
  """Plain SGD to the paper's stopping rule, and the averaging after it."""
  return training.Recipe(
    learning_rate=0.0,  # every lane has its own
    batch_size=batch_size,
    eval_every=config.eval_every,
    target_accuracy=config.target_accuracy,
    target_loss=config.target_loss,
    average_steps=config.average_steps,
    average_delay=config.average_delay,
    max_steps=config.max_steps,
    eval_batch=config.eval_batch,
  )


def make_row(
  panel: Mapping[str, Any], batch_size: int, lane: training.Finished
) -> Row:
  """What is known of a lane before it is analysed."""
  return {
    'study': 'training',
    'panel': panel['name'],
    'dataset': panel['dataset'],
    'width': panel['width'] if panel['network'] == 'fcn' else None,
    'lane': lane.lane_index,
    'seed': lane.lane.seed,
    'batch_size': batch_size,
    'learning_rate': lane.lane.learning_rate,
    'eta_over_b': lane.lane.learning_rate / batch_size,
    'alpha': None,
    'sigma': 0.0,
    'steps': lane.steps,
    'status': lane.status,
    'diverged': lane.status == 'diverged',
    'train_loss': lane.train_loss,
    'train_accuracy': lane.train_accuracy,
  }


def make_analysis(
  config: ConfigDict,
  panel: Mapping[str, Any],
  network: models.Network,
  dataset: data.Dataset,
) -> Callable[[training.Finished], Row]:
  """What is measured on a lane that met the rule; nothing of the others."""
  train, test = (
    jax.tree.map(jnp.asarray, split) for split in (dataset.train, dataset.test)
  )
  layers = (*network.hidden, 'output')
  kernels = methods(config, panel['network'])

  def evaluate(params, examples):
    return training.evaluate(
      network.apply, params, *examples, batch_size=config.eval_batch
    )

  @functools.partial(jax.jit, static_argnames='method')
  def curve(params, test, method):
    fractions = jnp.asarray(config.fractions[method])
    pruned = jax.vmap(lambda q: kernels[method](params, 1 - q))(fractions)
    kept = jax.lax.map(lambda p: evaluate(p, test)[1], pruned.params)
    return jax.vmap(lambda p: p.network_ratio)(pruned), kept

  evaluate = jax.jit(evaluate)

  def analyse(lane: training.Finished) -> Row:
    if lane.average is None:
      return {}
    key = training.analysis_key(lane.lane.seed)
    curves = {}
    for method in kernels:
      ratios, accuracies = curve(lane.params, test, method)
      curves[f'{method}_ratios'] = np.asarray(ratios).round(6).tolist()
      curves[f'{method}_accuracies'] = np.asarray(accuracies).tolist()
    tails = [
      layer_tails(
        jax.random.fold_in(key, i), lane.average[name]['kernel'], name
      )
      for i, name in enumerate(layers)
    ]
    centred = [
      lane.params[name]['kernel']
      - compressibility.median(lane.params[name]['kernel'])
      for name in layers
    ]
    return {
      'test_accuracy': float(evaluate(lane.params, test)[1]),
      'average_train_loss': float(evaluate(lane.average, train)[0]),
      'layers': layers,
      **{key: [tail[key] for tail in tails] for key in tails[0]},
      'layer_ratios': [
        float(1 - compressibility.smallest_kappa(w, config.error))
        for w in centred
      ],
      **curves,
      'histogram': histogram(
        jax.random.fold_in(key, len(layers)), centred[len(layers) // 2]
      ),
    }

  return analyse


def methods(
  config: ConfigDict, network: str
) -> dict[str, Callable[..., pruning.Pruned]]:
  """The five ways of pruning; nodes for matrices, kernels for convolutions."""
  both = {'center': 'median', 'protocol': config.protocol}
  ways: dict[str, Callable[..., pruning.Pruned]] = {
    'magnitude': pruning.magnitude,
    'global': functools.partial(pruning.magnitude, scope='global'),
    'singular': pruning.singular_values,
  }
  if network == 'fcn':
    ways['nodes'] = pruning.rows
  else:
    ways['kernels'] = functools.partial(pruning.kernels, select=convolutions)
  found: dict[str, Callable[..., pruning.Pruned]] = {
    name: functools.partial(way, **both) for name, way in ways.items()
  }
  if config.protocol == 'authors':
    for name in found.keys() - {'nodes'}:
      found[name] = _without_output(found[name])
  return found


def _without_output(way: Callable[..., pruning.Pruned]) -> Any:
  """What the authors' program does: the output layer's pruning is counted, but
  never reaches the network."""

  def prune(params: Any, kappa: Any) -> pruning.Pruned:
    pruned = way(params, kappa)
    return pruned._replace(params={**pruned.params, 'output': params['output']})

  return prune


def convolutions(params: Any) -> Any:
  """Selects the leaves that are kernels of convolutions."""
  return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 2, params)


def layer_tails(key: Any, kernel: Any, name: str) -> Row:
  """Tail indices of one layer; the samples of the last are its inputs."""
  samples = 'inputs' if name == 'output' else 'units'
  protocol = tail_index.layer_protocol(key, kernel, samples=samples)
  entries = kernel.ravel() - compressibility.median(kernel)
  fitted = tail_index.stable_mle(entries)
  return {
    'layer_alphas': float(protocol.alpha),
    'layer_alpha_errors': float(protocol.standard_error),
    'layer_stable_alphas': float(fitted.alpha),
    'layer_stable_distances': float(fitted.ks_distance),
  }


def histogram(key: Any, weights: Any) -> Row:
  """Two random halves of a layer, and draws of the stable law fitted to it."""
  first, second = jax.random.split(key)
  w = jax.random.permutation(first, weights.ravel())
  halves = np.split(np.asarray(w[: w.size // 2 * 2]), 2)
  fitted = tail_index.stable_mle(w)
  law = np.asarray(stable.sample(second, fitted.alpha, w.shape)) * float(
    fitted.scale
  )
  edges = np.linspace(-1, 1, _BINS + 1) * float(np.abs(w).max())
  return {
    'edges': edges.tolist(),
    'halves': [np.histogram(half, edges)[0].tolist() for half in halves],
    'layer': np.histogram(w, edges)[0].tolist(),
    'law': np.histogram(law, edges)[0].tolist(),
    'law_alpha': float(fitted.alpha),
    'law_distance': float(fitted.ks_distance),
    'halves_p_value': float(stats.ks_2samp(*halves).pvalue),
  }


if __name__ == '__main__':
  program.main(run)
