"""htjax: heavy-tailed training, compressibility and generalization bounds.

`import htjax` loads what training with heavy-tailed noise takes (jax, optax,
numpy). The other rooms are imported when first used, and only some of them need
Flax, data sets or pictures.
"""

import importlib
from typing import TYPE_CHECKING, Any

from htjax import checks, compressibility, noise, selection, stable, types

if TYPE_CHECKING:
  from htjax import (
    analysis,
    bounds,
    checkpoints,
    data,
    io,
    line_mixture,
    mean_field,
    models,
    plotting,
    pruning,
    records,
    resnets,
    sketching,
    tail_index,
    training,
    units,
  )

__version__ = '0.1.0'

__all__ = [
  'analysis',
  'bounds',
  'checkpoints',
  'checks',
  'compressibility',
  'data',
  'io',
  'line_mixture',
  'mean_field',
  'models',
  'noise',
  'plotting',
  'pruning',
  'records',
  'resnets',
  'selection',
  'sketching',
  'stable',
  'tail_index',
  'training',
  'types',
  'units',
]


def __getattr__(name: str) -> Any:
  if name in __all__:
    return importlib.import_module(f'htjax.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
