"""Files of weights, and the networks that they belong to."""

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from htjax import checkpoints, resnets
from htjax.types import PyTree


class Model(NamedTuple):
  """The weights of one file: matrices [fan_in, fan_out] by their names in it.

  `final` names the final dense layer, if there is a layer; `network` and its
  `params` are None for networks that are not known here, and `note` says why.
  """

  name: str
  layers: dict[str, np.ndarray]
  final: str | None
  network: resnets.ResidualNetwork | None
  params: PyTree
  note: str


def load_models(config: ConfigDict) -> list[Model]:
  """All files of `config.weights`, read before anything is measured."""
  paths = [Path(name) for name in config.weights.split(',') if name]
  names = [path.stem for path in paths]
  if len(set(names)) < len(names):
    raise ValueError(
      f'config.weights must name files of different names, got {names}'
    )
  models = [load_model(path, config.final_layer) for path in paths]
  layers = sorted({name for model in models for name in model.layers})
  if config.final_layer and config.final_layer not in layers:
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
  last = next(reversed(matrices or list(layers)), None)
  network, params, note = None, None, ''
  try:
    network, params = resnets.from_torch(weights)
  except ValueError as error:
    note = str(error)
  final_layer = final if final in layers else last
  return Model(path.stem, layers, final_layer, network, params, note)


def as_matrix(name: str, array: np.ndarray) -> np.ndarray:
  """A layer as [fan_in, fan_out], float32."""
  array = np.asarray(array, np.float32)
  # Flax has outputs last and calls its weights kernels; PyTorch has them first.
  if name.endswith('kernel'):
    return array.reshape(-1, array.shape[-1])
  return array.reshape(array.shape[0], -1).T
