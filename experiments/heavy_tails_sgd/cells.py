"""Networks trained over step and batch sizes, and what is measured of them."""

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy import stats

from experiments.common import tasks
from experiments.common.cells import Cell, Row, cell, run_cells, train_lanes
from experiments.heavy_tails_sgd import limits, synthetic, theorems
from experiments.heavy_tails_sgd.report import report
from htjax import (
  compressibility,
  data,
  models,
  pruning,
  stable,
  tail_index,
  training,
)
from htjax.io import records

_BINS = 80
_OTHER_SETTINGS = ('preset', 'panels', 'studies', *synthetic.STUDIES)


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Train, prune, simulate and report; returns the rows of results.json."""
  workdir = Path(workdir)
  plan = [
    *synthetic.cells(config),
    *limits.cells(config),
    *theorems.cells(config),
    *panel_cells(config, workdir),
  ]
  wanted = [own for own in plan if own.study in config.studies]
  return run_cells(config, workdir, wanted, report)


class Task(NamedTuple):
  """A panel's data, its network, and what is measured on a trained lane."""

  dataset: data.Dataset
  network: models.Network
  analyse: Callable[[training.Finished], Row]


def panel_cells(config: ConfigDict, workdir: Path) -> Iterator[Cell]:
  """A cell for each panel and batch size, a run in a directory of its own."""
  for panel in config.panels:
    # Read when it is needed, once for all batch sizes.
    task = functools.cache(functools.partial(make_task, config, panel))
    for batch_size, rates in panel['rates']:
      name = {'panel': panel['name'], 'batch_size': batch_size}
      settings = config, panel, batch_size, rates, task, workdir
      yield cell(name, train, *settings, study='training')


def make_task(config: ConfigDict, panel: Mapping[str, Any]) -> Task:
  """A panel's data, or its first `limit` training examples, and network."""
  dataset = data.load(panel['dataset'])
  dataset = tasks.first(dataset, panel['limit'], ('train',))
  network = make_network(panel, dataset)
  return Task(dataset, network, make_analysis(config, panel, network, dataset))


def make_network(
  panel: Mapping[str, Any], dataset: data.Dataset
) -> models.Network:
  """The network of a panel, of as many parameters as it promises."""
  network = tasks.network(panel, dataset)
  shapes = jax.eval_shape(network.init, jax.random.key(0))
  found = models.num_params(shapes)
  if panel['num_params'] not in (0, found):
    raise ValueError(
      f'{panel["name"]} must have {panel["num_params"]} parameters, got {found}'
    )
  return network


def train(
  config: ConfigDict,
  panel: Mapping[str, Any],
  batch_size: int,
  rates: tuple[float, ...],
  make: Callable[[], Task],
  workdir: Path,
) -> list[Row]:
  """Train and analyse one network at one batch size, all step sizes."""
  task = make()
  # Every lane has its own step size.
  recipe = tasks.recipe(config, learning_rate=0.0, batch_size=batch_size)
  lanes = [
    training.Lane(seed, 2.0, 0.0, rate)
    for rate in rates
    for seed in config.seeds
  ]

  def measure(lane: training.Finished) -> Row:
    return make_row(panel, batch_size, lane) | task.analyse(lane)

  name = f'{panel["name"]}_b{batch_size}'
  program = training.make_program(task.network.init, task.network.apply, recipe)
  about = {'panel': panel, 'batch_size': batch_size} | {
    key: value
    for key, value in config.to_dict().items()
    if key not in _OTHER_SETTINGS
  }
  plan = program, lanes, training.Examples(*task.dataset.train)
  with records.open_run(workdir / name, about) as output:
    return train_lanes(output, *plan, measure, config, name)


def make_row(
  panel: Mapping[str, Any], batch_size: int, lane: training.Finished
) -> Row:
  """Facts about a lane before it is analysed."""
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
  """A function from a lane that met the rule to all that is measured of it."""
  train, test = jax.tree.map(jnp.asarray, (dataset.train, dataset.test))
  layers = (*network.hidden, 'output')
  kernels = methods(config, panel['network'])

  @jax.jit
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

  def analyse(lane: training.Finished) -> Row:
    if lane.average is None:
      return {}
    key = training.analysis_key(lane.lane.seed)
    curves = {}
    for method in kernels:
      ratios, accuracies = curve(lane.params, test, method)
      curves[f'{method}_ratios'] = np.asarray(ratios).round(6).tolist()
      curves[f'{method}_accuracies'] = np.asarray(accuracies).tolist()
    keys = [jax.random.fold_in(key, i) for i in range(len(layers) + 1)]
    tails = [
      layer_tails(own, lane.average[name]['kernel'], name)
      for own, name in zip(keys, layers, strict=False)
    ]
    centred = [_centred(lane.params[name]['kernel']) for name in layers]
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
      'histogram': histogram(keys[-1], centred[len(layers) // 2]),
    }

  return analyse


def _centred(weights: Any) -> Any:
  return weights - compressibility.median(weights)


def methods(
  config: ConfigDict, network: str
) -> dict[str, Callable[..., pruning.Pruned]]:
  """The five ways of pruning; nodes for matrices, kernels for convolutions."""
  both = {'center': 'median', 'protocol': config.protocol}
  ways: dict[str, Any] = {
    'magnitude': pruning.magnitude,
    'global': functools.partial(pruning.magnitude, scope='global'),
    'singular': pruning.singular_values,
  }
  if network == 'fcn':
    ways['nodes'] = pruning.rows
  else:
    ways['kernels'] = functools.partial(pruning.kernels, select=convolutions)
  for name, way in ways.items():
    ways[name] = functools.partial(way, **both)
    if config.protocol == 'authors' and name != 'nodes':
      ways[name] = _without_output(ways[name])
  return ways


def _without_output(way: Callable[..., pruning.Pruned]) -> Any:
  """As the authors' program: the output layer's pruning is only counted."""

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
  fitted = tail_index.stable_mle(_centred(kernel).ravel())
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
  draws = np.asarray(stable.sample(second, fitted.alpha, w.shape))
  edges = np.linspace(-1, 1, _BINS + 1) * float(np.abs(w).max())

  def counts(values: Any) -> list[int]:
    return np.histogram(values, edges)[0].tolist()

  return {
    'edges': edges.tolist(),
    'halves': list(map(counts, halves)),
    'layer': counts(w),
    'law': counts(draws * float(fitted.scale)),
    'law_alpha': float(fitted.alpha),
    'law_distance': float(fitted.ks_distance),
    'halves_p_value': float(stats.ks_2samp(*halves).pvalue),
  }
