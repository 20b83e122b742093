"""Networks and data sets as presets describe them."""

import math
from collections.abc import Mapping
from typing import Any

from htjax import data, models, training


def first(
  dataset: data.Dataset,
  limit: int,
  splits: tuple[str, ...] = ('train', 'test'),
) -> data.Dataset:
  """A data set with the first `limit` examples of some splits; 0 is all."""
  if not limit:
    return dataset
  few: dict[str, Any] = {
    name: data.Split(*(a[:limit] for a in getattr(dataset, name)))
    for name in splits
  }
  return dataset._replace(**few)


def network(
  settings: Mapping[str, Any], dataset: data.Dataset
) -> models.Network:
  """The network for the shape of the data.

  The settings have `network`: 'fcn' with `width` and `hidden_layers`, or 'cnn'
  with `channels`.
  """
  shape = dataset.input_shape
  if settings['network'] == 'cnn':
    return models.cnn(
      shape[-1], dataset.num_classes, channels=tuple(settings['channels'])
    )
  if settings['network'] != 'fcn':
    raise ValueError(
      f"network must be 'fcn' or 'cnn', got {settings['network']!r}"
    )
  return models.fcn(
    math.prod(shape),
    settings['width'],
    dataset.num_classes,
    hidden_layers=settings['hidden_layers'],
  )


def recipe(config: Mapping[str, Any], **changes: Any) -> training.Recipe:
  """Entries of a config that are fields of `Recipe`, by name."""
  known = {
    name: config[name] for name in training.Recipe._fields if name in config
  }
  return training.Recipe(**known | changes)
