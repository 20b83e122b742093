"""One object for functions that are written out again and do the same.

JAX compiles once for each function *object*, and `lambda x: jnp.tanh(x)` in a
loop or in a cell that is run again makes a new one each time. Two functions of
the same code do the same if all that the code can reach is equal and cannot
change unseen: closures, defaults and the globals that it names.
"""

import builtins
import collections
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

_F = TypeVar('_F', bound=Callable[..., Any])
_EXACT = (str, bytes, int, bool, type(None), type(...))
# Equal numbers may have another sign or type.
_PRINTED = (float, complex)
# What these define is not changed by who uses it.
_LIBRARIES = (
  *('builtins', 'flax', 'jax', 'jaxlib', 'math', 'ml_dtypes', 'numpy'),
  *('operator', 'optax', 'scipy'),
)
# Compiled once for good by whoever made them.
_COMPILED = (np.ufunc, np.dtype, type(jax.jit(lambda: None)))
_DEPTH = 20

# The least recently asked for goes first.
_MAX_KEPT = 256
_kept: collections.OrderedDict[Any, Any] = collections.OrderedDict()
_lock = threading.Lock()


def shared(function: _F) -> _F:
  """The first function that was seen to do what this one does.

  Args:
    function: anything that can be called.

  Returns:
    A function written in Python with the same code, equal defaults and equal
    values behind all names that its code can look up; `function` itself where
    there is none, and where one of them may change unseen: lists, arrays,
    objects of the user's classes.

  Examples:
    >>> from htjax import functions
    >>> a, b = (lambda x: 2 * x for _ in range(2))
    >>> functions.shared(a) is functions.shared(b)
    True
  """
  key = _key(function)
  if key is None:
    return function
  with _lock:
    found = _kept.pop(key, function)
    # What it reaches may have changed since: then it is not what it was.
    if found is not function and _key(found) != key:
      found = function
    _kept[key] = found
    if len(_kept) > _MAX_KEPT:
      _kept.popitem(last=False)
  return found


def _key(function: Any) -> Any:
  """Hashable and equal for functions that do the same; None if unknown."""
  if not isinstance(function, types.FunctionType):
    return None
  try:
    return _of(function, ())
  except _UnknownError:
    return None


class _UnknownError(Exception):
  """A value that may change unseen."""


def _of(value: Any, above: tuple[int, ...]) -> Any:
  """Key of a value that code can reach; `above` are functions on the way."""
  kind = type(value)
  if kind in _EXACT:
    return kind, value
  if kind in _PRINTED or isinstance(value, np.generic):
    return kind, repr(value)
  if _is_constant(value):
    return kind, _Same(value)
  if kind in (tuple, frozenset):
    return kind, kind(_of(part, above) for part in value)
  if kind is types.FunctionType:
    if id(value) in above:  # it calls itself
      return 'above', above.index(id(value))
    if len(above) < _DEPTH:
      return _of_function(value, (*above, id(value)))
  raise _UnknownError


def _is_constant(value: Any) -> bool:
  if isinstance(value, _COMPILED):
    return True
  if isinstance(value, types.BuiltinFunctionType):  # a list's method, too
    return isinstance(value.__self__, types.ModuleType | None)
  if getattr(value, '__closure__', None):  # over what a user gave
    return False
  # An instance has the module of its class.
  defined = isinstance(value, type | types.FunctionType | jax.custom_jvp)
  return defined and _is_library(getattr(value, '__module__', None))


def _is_library(name: str | None) -> bool:
  return (name or '').partition('.')[0] in _LIBRARIES


def _of_function(function: Any, above: tuple[int, ...]) -> Any:
  try:
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
  except ValueError:  # a cell without a value yet
    raise _UnknownError from None
  names = tuple(_names(function.__code__))
  given = function.__defaults__, function.__kwdefaults__ or {}
  return (
    function.__code__,
    _Same(function.__globals__),
    _of(given[0], above),
    tuple((name, _of(given[1][name], above)) for name in given[1]),
    tuple(_looked_up(value, names, above) for value in cells),
    tuple(
      (name, _looked_up(_global(function, name), names, above))
      for name in names
      if name in function.__globals__ or hasattr(builtins, name)
    ),
  )


def _names(code: types.CodeType) -> Iterator[str]:
  """Names of globals and of attributes, of the code and all within it."""
  yield from code.co_names
  for constant in code.co_consts:
    if isinstance(constant, types.CodeType):
      yield from _names(constant)


def _global(function: Any, name: str) -> Any:
  found = function.__globals__
  return found[name] if name in found else getattr(builtins, name)


def _looked_up(value: Any, names: tuple[str, ...], above: Any) -> Any:
  """Key of a value; of a module that of all attributes the code may ask for."""
  if not isinstance(value, types.ModuleType):
    return _of(value, above)
  if _is_library(value.__name__):
    return _Same(value)
  if len(above) >= _DEPTH:
    raise _UnknownError
  own = vars(value)
  return _Same(value), tuple(
    (name, _looked_up(own[name], names, (*above, id(value))))
    for name in names
    if name in own
  )


class _Same:
  """Equal to itself alone; it keeps its value, whose id none takes then."""

  def __init__(self, value: Any):
    self.value = value

  def __hash__(self) -> int:
    return id(self.value)

  def __eq__(self, other: object) -> bool:
    return isinstance(other, _Same) and self.value is other.value
