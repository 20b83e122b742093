"""Table 1 and Figures 1-3 of "Compressing Heavy-Tailed Weight Matrices for
Non-Vacuous Generalization Bounds".

In the last layer of trained networks the small weights are replaced by Gaussian
noise, in three readings of the paper, or by zeros; the table has the accuracies
before and after beside the published ones. Weights of any network get tail
indices and stable ranks, Figure 3; residual networks for CIFAR-10 in PyTorch's
layout get accuracies as well.

  python -m experiments.gaussian_compression \
    --config=experiments/configs/gaussian_compression.py:cpu \
    --config.weights=resnet20.npz,resnet56.safetensors \
    --workdir=runs/gaussian_compression

Run it again and it goes on where it was killed, or draws its figures anew.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from experiments import gaussian_compression_reports as reports
from experiments import program
from htjax import checkpoints, data, pruning, records, resnets, tail_index
from htjax.bounds import spectral
from htjax.types import Array, PyTree

Row = dict[str, Any]


class Model(NamedTuple):
  """The weights of one file.

  Attributes:
    name: of the file, without its ending.
    layers: matrices [fan_in, fan_out] by the names in the file.
    final: which of them is the final dense layer, None if there is no layer.
    network: how to run it, None for networks that are not known here.
    params: of `network`.
    note: why there is no network, or ''.
  """

  name: str
  layers: dict[str, np.ndarray]
  final: str | None
  network: resnets.ResidualNetwork | None
  params: PyTree
  note: str


class Cell(NamedTuple):
  """What is measured and written as a whole."""

  name: str
  measure: Callable[[], list[Row]]


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Measure what is not measured yet and report; returns all rows."""
  models = load_models(config)
  todo = list(cells(config, models))
  with records.open_run(workdir, config.to_dict()) as output:
    rows = output.read_results()
    done = {row['cell'] for row in rows}
    left = [cell for cell in todo if cell.name not in done]
    bar = tqdm(left, desc='measuring', unit='cell')
    for cell in bar:
      bar.set_postfix_str(cell.name)
      rows += [{'cell': cell.name} | row for row in cell.measure()]
      output.write_results(rows)
    if jax.process_index() == 0:
      print(reports.write(config, rows, Path(workdir)))
  return rows


def load_models(config: ConfigDict) -> list[Model]:
  """All files of `config.weights`, read before anything is measured.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a damaged file, two of one name, or no such final layer.
  """
  paths = [Path(name) for name in config.weights.split(',') if name]
  names = [path.stem for path in paths]
  if len(set(names)) < len(names):
    raise ValueError(
      f'config.weights must name files of different names, got {names}'
    )
  models = [load_model(path, config.final_layer) for path in paths]
  if config.final_layer and not any(
    config.final_layer in model.layers for model in models
  ):
    layers = sorted({name for model in models for name in model.layers})
    raise ValueError(
      'config.final_layer must be the name of a layer, which are '
      f'{", ".join(layers) or "none"}, got {config.final_layer!r}'
    )
  return models


def load_model(path: Path, final: str = '') -> Model:
  """One file, and the network it belongs to if that is known."""
  weights = checkpoints.load_weights(path, nested=False)
  layers = {
    name: as_matrix(name, array)
    for name, array in weights.items()
    if array.ndim >= 2 and jnp.issubdtype(array.dtype, jnp.floating)
  }
  matrices = [name for name in layers if weights[name].ndim == 2]
  candidates = matrices or list(layers)
  last = candidates[-1] if candidates else None
  network, params, note = None, None, ''
  try:
    network, params = resnets.from_torch(weights)
  except ValueError as error:
    note = str(error)
  final_layer = final if final in layers else last
  return Model(path.stem, layers, final_layer, network, params, note)


def as_matrix(name: str, array: np.ndarray) -> np.ndarray:
  """A layer as [fan_in, fan_out], float32.

  Flax calls its weights kernels and has the outputs last; PyTorch has them
  first.
  """
  array = np.asarray(array, np.float32)
  if name.endswith('kernel'):
    return array.reshape(-1, array.shape[-1])
  return array.reshape(array.shape[0], -1).T


def cells(config: ConfigDict, models: list[Model]) -> Iterator[Cell]:
  """One cell for the layers of a file, one for each trial in its last layer."""
  for model in models:
    yield Cell(
      f'{model.name}/layers', functools.partial(layer_rows, config, model)
    )
  for model in models:
    if model.network is None:
      continue
    # One pass over the pictures serves all trials: only the last layer changes.
    examples = functools.cache(
      functools.partial(features, config, model.network, model.params)
    )
    yield Cell(
      f'{model.name}/original',
      functools.partial(
        original_rows, config, model, model.network.depth, examples
      ),
    )
    for variant in config.variants:
      for trial in range(1 if variant == 'zeros' else config.num_trials):
        yield Cell(
          f'{model.name}/{variant}/{trial}',
          functools.partial(
            trial_rows, config, model, examples, variant, trial
          ),
        )


def layer_rows(config: ConfigDict, model: Model) -> list[Row]:
  """Power law and stable rank of every layer that is large enough."""
  rows = []
  for name, matrix in model.layers.items():
    is_final = name == model.final
    if matrix.size < config.min_entries and not is_final:
      continue
    row = {
      'study': 'layer',
      'weights': model.name,
      'layer': name,
      'shape': list(matrix.shape),
      'final': is_final,
      'note': model.note if is_final else '',
    }
    row |= measure_layer(matrix)
    if is_final:
      row |= {'pdf_exponent_positive': positive_exponent(matrix)}
    rows.append(row)
  return rows


def measure_layer(matrix: np.ndarray) -> Row:
  """Power law of |w|, and stable rank; None and why for a constant layer."""
  try:
    fit = tail_index.power_law(matrix)
    rank = float(spectral.stable_rank(jnp.asarray(matrix)))
  except ValueError as error:
    return {'pdf_exponent': None, 'stable_rank': None, 'fault': str(error)}
  return {
    'pdf_exponent': float(fit.pdf_exponent),
    'tail_index': float(fit.tail_index),
    'tail_index_se': float(fit.standard_error),
    'xmin': float(fit.scale),
    'num_tail': int(fit.num_used),
    'ks_distance': float(fit.ks_distance),
    'stable_rank': rank,
  }


def positive_exponent(matrix: np.ndarray) -> float | None:
  """Density exponent of the positive entries alone, None if they are few."""
  try:
    return float(tail_index.power_law(matrix[matrix > 0]).pdf_exponent)
  except ValueError:
    return None


@functools.cache
def load_pictures(dataset: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
  """Pictures normalised as the weights expect them, and labels."""
  split = data.load(dataset).test
  # Every channel has pixels 0 and 255, which undoes any normalisation.
  low, high = (f(split.inputs, (0, 1, 2)) for f in (np.min, np.max))
  pixels = np.rint(255 * (split.inputs[: limit or None] - low) / (high - low))
  return resnets.normalise(pixels), split.labels[: limit or None]


def features(
  config: ConfigDict, network: resnets.ResidualNetwork, params: PyTree
) -> tuple[Array, Array]:
  """What the last layer sees of the test set, and the labels."""
  inputs, labels = load_pictures(config.dataset, config.limit)
  extract = jax.jit(network.features)
  # Accelerators would round the factors of a convolution to fewer digits.
  with jax.default_matmul_precision('highest'):
    batches = [
      extract(params, inputs[i : i + config.eval_batch])
      for i in range(0, len(inputs), config.eval_batch)
    ]
  return jnp.concatenate(batches), jnp.asarray(labels)


def original_rows(
  config: ConfigDict, model: Model, depth: int, examples: Callable[[], Any]
) -> list[Row]:
  """The network as it is."""
  hits = int(count_hits(model.params['output'], *examples()))
  num_examples = len(examples()[1])
  return [
    {
      'study': 'original',
      'weights': model.name,
      'depth': depth,
      'dataset': config.dataset,
      'errors': num_examples - hits,
      'num_examples': num_examples,
      'accuracy': hits / num_examples,
    }
  ]


def trial_rows(
  config: ConfigDict,
  model: Model,
  examples: Callable[[], Any],
  variant: str,
  trial: int,
) -> list[Row]:
  """The network with noise in its last layer; trial i has its own key.

  'zeros' is the control without noise: what 'theory' replaces is removed.
  """
  output = model.params['output']
  key = jax.random.fold_in(jax.random.key(config.seed), trial)
  options = {}
  if variant in ('theory', 'zeros'):
    s = float(jnp.std(output['kernel']))
    noise = 0.0 if variant == 'zeros' else config.theory_variance
    options['threshold'] = config.theory_threshold * s
    options['variance'] = noise * s**2
  compressed = pruning.gaussian_replacement(
    key,
    {'kernel': output['kernel']},
    variant='theory' if options else variant,
    **options,
  )
  hits = int(count_hits(output | compressed.params, *examples()))
  return [
    {
      'study': 'trial',
      'weights': model.name,
      'variant': variant,
      'trial': trial,
      'accuracy': hits / len(examples()[1]),
      'replaced': float(compressed.masked / compressed.total),
    }
  ]


@jax.jit
def count_hits(output: PyTree, features: Array, labels: Array) -> Array:
  """How many examples the last layer classifies correctly."""
  product = jnp.matmul(features, output['kernel'], precision='highest')
  logits = product + output['bias'][None, :]
  return jnp.sum(logits.argmax(-1) == labels, dtype=jnp.int32)


if __name__ == '__main__':
  program.main(run)
