"""Modules that functions of `htjax.bounds` were once found in.

`bounds.ingredients.spectral_norm` still works, with a DeprecationWarning that
says the address of today. No name stands in two listed places.
"""

import importlib
import types
import warnings
from typing import Any

# Today's modules that have the functions of an older one.
_ROOMS = {
  'common': ('result', 'margins', 'binomial'),
  'compression': ('gaussian_compression',),
  'counting': ('magnitude_sketching',),
  'covering': ('heavy_tails',),
  'hessian': ('baselines',),
  'ingredients': ('spectral', 'networks', 'cushions'),
  'norms': ('baselines',),
  'perturbation': ('heavy_tails', 'gaussian_compression'),
  'sketching': ('magnitude_sketching',),
}
_RENAMED = {
  'binomial_log_sf': 'log_sf',
  'code_length': 'code_length_nats',
  'count_lengths': 'count_lengths_nats',
  'log_binomial': 'log_coefficient',
}


class _Older(types.ModuleType):
  """A module without names of its own."""

  def __getattr__(self, name: str) -> Any:
    last = self.__name__.rpartition('.')[2]
    # What looks at any module, as pickling and doctest do, is not answered.
    for room in _ROOMS[last] if not name.startswith('_') else ():
      module = importlib.import_module(f'htjax.bounds.{room}')
      today = _RENAMED.get(name, name)
      if hasattr(module, today):
        warnings.warn(
          f'htjax.bounds.{last}.{name} is now htjax.bounds.{room}.{today}',
          DeprecationWarning,
          stacklevel=2,
        )
        return getattr(module, today)
    raise AttributeError(
      f'module {self.__name__!r} has no attribute {name!r}; see '
      f'{" and ".join(f"htjax.bounds.{room}" for room in _ROOMS[last])}'
    )


def older(name: str) -> types.ModuleType:
  """The module of an older address.

  Args:
    name: below `htjax.bounds`.

  Returns:
    A module whose attributes are those of today's.

  Raises:
    AttributeError: no older address either.
  """
  if name not in _ROOMS:
    raise AttributeError(f"module 'htjax.bounds' has no attribute {name!r}")
  return _Older(f'htjax.bounds.{name}')
