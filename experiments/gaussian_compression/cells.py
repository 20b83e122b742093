"""Measurements of the layers of a file, and trials in its last one."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.common.cells import Cell, Row, cell, run_cells
from experiments.gaussian_compression.report import report
from experiments.gaussian_compression.weights import Model, load_models
from htjax import data, pruning, resnets, tail_index
from htjax.bounds import spectral
from htjax.types import Array, PyTree


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Measure what is not measured yet and report; returns all rows."""
  return run_cells(config, workdir, cells(config, load_models(config)), report)


def cells(config: ConfigDict, models: list[Model]) -> Iterator[Cell]:
  """One cell for the layers of a file, one for each trial in its last layer."""
  for model in models:
    yield cell(f'{model.name}/layers', layer_rows, config, model)
  for model in models:
    if model.network is None:
      continue
    known = LastLayer(config, model)
    yield cell(f'{model.name}/original', known.original)
    for variant in config.variants:
      for trial in range(1 if variant == 'zeros' else config.num_trials):
        name = f'{model.name}/{variant}/{trial}'
        yield cell(name, known.trial, variant, trial)


def layer_rows(config: ConfigDict, model: Model) -> Iterator[Row]:
  """Power law and stable rank of every layer that is large enough."""
  for name, matrix in model.layers.items():
    final = name == model.final
    if final or matrix.size >= config.min_entries:
      yield {
        'study': 'layer',
        'weights': model.name,
        'layer': name,
        'shape': list(matrix.shape),
        'final': final,
        'note': model.note if final else '',
        **measure_layer(matrix),
        **(positive_exponent(matrix) if final else {}),
      }


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


def positive_exponent(matrix: np.ndarray) -> Row:
  """Density exponent of the positive entries alone, None if they are few."""
  try:
    found = float(tail_index.power_law(matrix[matrix > 0]).pdf_exponent)
  except ValueError:
    found = None
  return {'pdf_exponent_positive': found}


class LastLayer:
  """The last layer of a network that is known, and its inputs."""

  def __init__(self, config: ConfigDict, model: Model):
    self.config, self.model = config, model
    self.network: Any = model.network
    self.output = model.params['output']

  @functools.cached_property
  def examples(self) -> tuple[Array, Array]:
    """Its inputs on the test set, and the labels.

    One pass over the pictures serves all trials: only the last layer changes.
    """
    config, model = self.config, self.model
    inputs, labels = load_pictures(config.dataset, config.limit)
    extract = jax.jit(self.network.features)
    # Accelerators would round the factors of a convolution to fewer digits.
    with jax.default_matmul_precision('highest'):
      batches = [
        extract(model.params, inputs[i : i + config.eval_batch])
        for i in range(0, len(inputs), config.eval_batch)
      ]
    return jnp.concatenate(batches), jnp.asarray(labels)

  def hits(self, kernel: Array) -> tuple[int, int]:
    """Examples that it gets right with other weights, and all examples."""
    output = self.output | {'kernel': kernel}
    return int(count_hits(output, *self.examples)), len(self.examples[1])

  def original(self) -> Row:
    """The network as it is."""
    hits, num_examples = self.hits(self.output['kernel'])
    return {
      'study': 'original',
      'weights': self.model.name,
      'depth': self.network.depth,
      'dataset': self.config.dataset,
      'errors': num_examples - hits,
      'num_examples': num_examples,
      'accuracy': hits / num_examples,
    }

  def trial(self, variant: str, trial: int) -> Row:
    """The network with noise in its last layer; trial i has its own key.

    'zeros' is the control without noise: what 'theory' replaces is removed.
    """
    key = jax.random.fold_in(jax.random.key(self.config.seed), trial)
    kernel, options = self.output['kernel'], {}
    if variant in ('theory', 'zeros'):
      s = float(jnp.std(kernel))
      noise = 0.0 if variant == 'zeros' else self.config.theory_variance
      options['threshold'] = self.config.theory_threshold * s
      options['variance'] = noise * s**2
    named = 'theory' if options else variant
    compressed = pruning.gaussian_replacement(
      key, {'kernel': kernel}, variant=named, **options
    )
    hits, num_examples = self.hits(compressed.params['kernel'])
    return {
      'study': 'trial',
      'weights': self.model.name,
      'variant': variant,
      'trial': trial,
      'accuracy': hits / num_examples,
      'replaced': float(compressed.masked / compressed.total),
    }


@functools.cache
def load_pictures(dataset: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
  """Pictures normalised as the weights expect them, and labels."""
  split = data.load(dataset).test
  pixels, labels = (
    a[: limit or None] for a in (data.pixels(split), split.labels)
  )
  return resnets.normalise(pixels), labels


@jax.jit
def count_hits(output: PyTree, features: Array, labels: Array) -> Array:
  """Number of examples that the last layer classifies correctly."""
  product = jnp.matmul(features, output['kernel'], precision='highest')
  logits = product + output['bias'][None, :]
  return jnp.sum(logits.argmax(-1) == labels, dtype=jnp.int32)
