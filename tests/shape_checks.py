"""Shapes in the signatures of htjax are checked while the tests run.

Only annotations of arrays count: what a caller may also give as a list or a
number, and every fault of his, is for the functions themselves to judge.
"""

import functools
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
  # What the hook writes in front of every function.
  jaxtyping.jaxtyped = functools.partial(_where_promised, jaxtyping.jaxtyped)


def _where_promised(jaxtyped, *function, **options):
  """Leave out functions of htjax that promise no shape.

  Those inside of others are decorated anew in each call, in a millisecond.
  """
  if not function:
    return functools.partial(_where_promised, jaxtyped, **options)
  (function,) = function
  if (
    inspect.isfunction(function)
    and function.__module__.startswith('htjax.')
    and not any(map(_may_be_shape, function.__annotations__.values()))
  ):
    return function
  return jaxtyped(function, **options)


def _may_be_shape(annotation: Any) -> bool:
  return isinstance(annotation, str) or _is_shape(annotation)


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
