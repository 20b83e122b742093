"""htjax: heavy-tailed training, compressibility and generalization bounds.

`import htjax` loads the numerical core only (jax, optax, numpy). The rooms
that need Flax, data sets or pictures are imported when first used.
"""

import importlib
from typing import Any

from htjax import (
  bounds,
  compressibility,
  mean_field,
  noise,
  pruning,
  selection,
  sketching,
  stable,
  tail_index,
  types,
)

__version__ = '0.1.0'

_LATE = ('checkpoints', 'data', 'models', 'plotting', 'records', 'training')

__all__ = [
  'bounds',
  'checkpoints',
  'compressibility',
  'data',
  'mean_field',
  'models',
  'noise',
  'plotting',
  'pruning',
  'records',
  'selection',
  'sketching',
  'stable',
  'tail_index',
  'training',
  'types',
]


def __getattr__(name: str) -> Any:
  if name in _LATE:
    return importlib.import_module(f'htjax.{name}')
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return sorted([*globals(), *_LATE])
