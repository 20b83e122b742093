"""htjax: heavy-tailed training, compressibility and generalization bounds.

Every room is imported when first used: `htjax.noise` takes jax, optax and
numpy, and only some of the others need Flax, data sets or pictures.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from htjax import (
    analysis,
    bounds,
    checkpoints,
    checks,
    compiled,
    compressibility,
    data,
    initializers,
    io,
    laws,
    line_mixture,
    mean_field,
    models,
    noise,
    plotting,
    pruning,
    rank_correlation,
    records,
    regularizers,
    resnets,
    selection,
    sketching,
    stable,
    tail_index,
    training,
    types,
    units,
  )

__version__ = '0.1.0'

__all__ = [
  'analysis',
  'bounds',
  'checkpoints',
  'checks',
  'compiled',
  'compressibility',
  'data',
  'initializers',
  'io',
  'laws',
  'line_mixture',
  'mean_field',
  'models',
  'noise',
  'plotting',
  'pruning',
  'rank_correlation',
  'records',
  'regularizers',
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
