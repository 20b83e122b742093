"""One MLIR context for all programs of a process.

JAX makes one for each, which is half of what a small program costs that is
already compiled. There is no setting for it: a function of JAX is replaced,
where it is known to be what it was. Elsewhere tests take longer, no more.
"""

import functools
import importlib

KNOWN = '0.10.'
PLACE = 'jax._src.interpreters.mlir'
NAME = 'make_ir_context'


def install(version: str, place: str = PLACE) -> bool:
  """Share the context; whether that was possible.

  Args:
    version: of jaxlib.
    place: the module that makes contexts.
  """
  if not version.startswith(KNOWN):
    return False
  try:
    module = importlib.import_module(place)
  except ImportError:
    return False
  make = getattr(module, NAME, None)
  if not callable(make):
    return False
  setattr(module, NAME, functools.cache(make))
  return True
