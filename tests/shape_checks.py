"""Shapes in the signatures of htjax are checked while the tests run.

Only annotations of arrays count: what a caller may also give as a list or a
number, and every fault of his, is for the functions themselves to judge.
"""

import inspect
import types
from typing import Any, Union, get_args, get_origin

import jaxtyping
from beartype import beartype

ROOMS = (
  'htjax.compressibility',
  'htjax.mean_field',
  'htjax.pruning',
  'htjax.sketching',
  'htjax.stable',
  'htjax.tail_index',
)


def install():
  """Check these rooms from their first import on."""
  jaxtyping.install_import_hook(ROOMS, 'shape_checks.check')


def check(function):
  """Check the shapes that a function's annotations promise.

  A jaxtyping type checker: the annotations here are no longer strings, and
  dimensions are shared between calls inside one call of the function.
  """
  function.__annotations__ = {
    name: annotation
    for name, annotation in inspect.get_annotations(function).items()
    if _is_shape(annotation)
  }
  return beartype(function)


def _is_shape(annotation: Any) -> bool:
  if get_origin(annotation) in (Union, types.UnionType):
    # An array or a number, or None: the function decides what it takes.
    return False
  if parts := get_args(annotation):
    return all(_is_shape(part) for part in parts if part is not ...)
  return isinstance(annotation, type) and issubclass(
    annotation, jaxtyping.AbstractArray
  )
