"""Checks of the arguments, which every public function makes.

Three kinds of bad input are told apart throughout the library: static faults
(shapes, counts, unknown names) raise `ValueError` at trace time; concrete
numbers raise `ValueError` when the function is called eagerly; traced numbers
are not looked at, and the docstring says what they give.
"""

import dataclasses
import functools
import inspect
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from htjax.floats import as_floating
from htjax.host import on_host
from htjax.types import PRNGKey

P = ParamSpec('P')
R = TypeVar('R')
Check = Callable[[str, Any], None]


def checked(function: Callable[P, R]) -> Callable[P, R]:
  """Check the arguments of a public function against their annotations.

  Flags are booleans, counts integers, numbers real and of shape
  [], arrays real numbers, keys typed, records of their class, and callables
  can be called. What an annotation does not tell, the function looks at.

  Args:
    function: with annotations; what is traced is not looked at.

  Returns:
    The function, which raises `ValueError` with the name of an argument.
  """
  signature = inspect.signature(function)
  parameters = signature.parameters.values()
  named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD,)]
  cache: dict[str, Check | None] = {}

  def check_of(name: str) -> Check | None:
    # Annotations are read at the first call: some name what comes later.
    if not cache:
      for p in named:
        several = p.kind is p.VAR_POSITIONAL
        cache[p.name] = None if several else _check_for(p, function)
    return cache.get(name)

  @functools.wraps(function)
  def call(*args: P.args, **kwargs: P.kwargs) -> R:
    given = dict(zip((p.name for p in named), args, strict=False))
    for name, value in (given | kwargs).items():
      if (check := check_of(name)) is not None:
        check(name, value)
    return function(*args, **kwargs)

  return call


def is_concrete(value: Any) -> bool:
  """Whether `value` is a number (or array) that can be looked at now."""
  return not isinstance(value, jax.core.Tracer)


def check_range(
  name: str,
  value: Any,
  low: float,
  high: float,
  *,
  open_low: bool = False,
  open_high: bool = False,
) -> None:
  """Raise if a concrete `value` has an entry outside the interval, or NaN."""
  if not is_concrete(value):
    return
  try:
    x = np.asarray(value)
  except (TypeError, ValueError):  # keys, ragged lists
    x = np.empty(0, object)
  if not any(jnp.issubdtype(x.dtype, d) for d in (jnp.integer, jnp.floating)):
    raise ValueError(f'{name} must be a real number, got {value!r}')
  above = x > low if open_low else x >= low
  below = x < high if open_high else x <= high
  if not np.all(above & below):
    interval = (
      f'{"(" if open_low else "["}{low:g}, {high:g}{")" if open_high else "]"}'
    )
    raise ValueError(f'{name} must lie in {interval}, got {_show(x)}')


def check_finite(name: str, value: Any) -> None:
  """Raise if a concrete `value` holds NaN or infinity."""
  if not is_concrete(value):
    return
  if getattr(value, 'dtype', None) == np.float32 and on_host(value):
    # JAX needs a program for each shape.
    if not np.isfinite(np.asarray(value)).all():
      raise ValueError(f'{name} must be finite, got NaN or infinity')
    return
  # A constant that a traced function closes over is looked at now, and an
  # array that is spread over several hosts is reduced where it lies.
  with jax.ensure_compile_time_eval():
    finite = bool(jnp.all(jnp.isfinite(as_floating(name, value, vanish=True))))
  if not finite:
    raise ValueError(f'{name} must be finite, got NaN or infinity')


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
  """Raise unless `value` is one of the named choices."""
  # An array would be compared with names entry by entry.
  named = value is None or isinstance(value, str)
  if not named or value not in choices:
    listed = ', '.join(repr(c) for c in choices)
    raise ValueError(f'{name} must be one of {listed}, got {value!r}')


def check_flag(name: str, value: Any) -> None:
  """Raise unless `value` is True or False."""
  if not isinstance(value, bool | np.bool_):
    raise ValueError(f'{name} must be True or False, got {_brief(value)}')


def check_integer(name: str, value: Any) -> None:
  """Raise unless `value` is a Python integer."""
  if isinstance(value, bool) or not isinstance(value, int | np.integer):
    raise ValueError(f'{name} must be an integer, got {_brief(value)}')


def check_real(name: str, value: Any) -> None:
  """Raise unless `value` is an array of real numbers, or traced."""
  if isinstance(value, jax.Array):
    dtype, is_number = value.dtype, True
  else:
    try:
      host = np.asarray(value)
    except jax.errors.TracerArrayConversionError:
      return
    except (TypeError, ValueError) as error:
      raise ValueError(
        f'{name} must be an array of real numbers: {error}'
      ) from None
    dtype = host.dtype
    # Python integers of any size are objects to NumPy.
    is_number = dtype.kind != 'O' or host.shape != () or _is_number(value)
  real = (jnp.bool_, jnp.integer, jnp.floating)
  known = getattr(dtype, 'kind', None) == 'O' or any(
    jnp.issubdtype(dtype, kind) for kind in real
  )
  if getattr(dtype, 'kind', None) == 'c':
    raise ValueError(f'{name} must be real, got dtype {dtype}')
  if not (is_number and known):
    raise ValueError(
      f'{name} must be a real number or an array of them, got '
      f'{_brief(value)} of dtype {dtype}'
    )


def check_number(name: str, value: Any) -> None:
  """Raise unless `value` is one real number, or traced."""
  check_real(name, value)
  if np.shape(value) != ():
    raise ValueError(
      f'{name} must be one number, got an array of shape {np.shape(value)}'
    )


def check_callable(name: str, value: Any) -> None:
  """Raise unless `value` can be called."""
  if not callable(value):
    raise ValueError(f'{name} must be a function, got {_brief(value)}')


def check_several(name: str, value: Any) -> None:
  """Raise unless `value` is a list, a tuple or an array with an axis."""
  sized = isinstance(value, Sequence) or len(getattr(value, 'shape', ())) > 0
  if not sized or isinstance(value, str | bytes):
    raise ValueError(f'{name} must be a sequence, got {_brief(value)}')


def check_count(name: str, value: Any, low: int = 1) -> None:
  """Raise unless `value` is a Python integer of at least `low`."""
  if (
    isinstance(value, bool)
    or not isinstance(value, int | np.integer)
    or value < low
  ):
    raise ValueError(f'{name} must be an integer >= {low}, got {value!r}')


def check_key(key: Any, name: str = 'key') -> PRNGKey:
  """Return `key` if it is one typed key; refuse anything else by name."""
  if isinstance(key, jax.Array) and jnp.issubdtype(
    key.dtype, jax.dtypes.prng_key
  ):
    if key.shape != ():
      raise ValueError(
        f'{name} must be a single key, got an array of keys of shape '
        f'{key.shape}; vmap over them instead'
      )
    return key
  if getattr(key, 'dtype', None) == np.uint32:
    raise ValueError(
      f'{name} must be a typed key from jax.random.key(seed), got a legacy '
      'uint32 key; wrap it with jax.random.wrap_key_data'
    )
  raise ValueError(
    f'{name} must be a typed key from jax.random.key(seed), got {key!r}'
  )


def check_floating(name: str, dtype: Any) -> np.dtype:
  """Return `dtype` as float32 or float64, or raise."""
  try:
    dtype = jnp.dtype(dtype)
  except (TypeError, ValueError):
    raise ValueError(
      f'{name} must be float32 or float64, got {dtype!r}'
    ) from None
  if dtype not in (jnp.float32, jnp.float64):
    raise ValueError(f'{name} must be float32 or float64, got {dtype.name}')
  if dtype == jnp.float64 and not jax.config.read('jax_enable_x64'):
    raise ValueError(
      f'{name} is float64, which needs jax.enable_x64(True) around the call'
    )
  return dtype


def _show(x: np.ndarray) -> str:
  if x.ndim == 0:
    return f'{x.item()!r}'
  if x.size == 0:
    return f'an array of shape {x.shape}'
  return f'an array with {x.min()}..{x.max()}'


def _brief(value: Any) -> str:
  shape = getattr(value, 'shape', None)
  if shape is None or shape == ():
    return repr(value)
  return f'an array of shape {shape}'


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float | np.number) or hasattr(
    value, '__jax_array__'
  )


def check_arrays(name: str, tree: Any) -> None:
  """Raise unless every leaf of a pytree is an array, or an array's shape."""
  for leaf in jax.tree.leaves(tree):
    if not hasattr(leaf, 'shape') or not hasattr(leaf, 'dtype'):
      raise ValueError(
        f'{name} must be a pytree of arrays, got a leaf {_brief(leaf)}'
      )


def check_path(name: str, value: Any) -> None:
  """Raise unless `value` is the name of a file: a text or a Path."""
  if not isinstance(value, str | os.PathLike):
    raise ValueError(f'{name} must be a path, got {_brief(value)}')


_SIMPLE: dict[Any, Check] = {
  bool: check_flag,
  int: check_integer,
  float: check_number,
  jax.Array: check_real,
  np.ndarray: check_real,
}


def _check_for(
  parameter: inspect.Parameter, function: Callable[..., Any]
) -> Check | None:
  """The check that an annotation asks for; None if that cannot be told."""
  annotation = parameter.annotation
  if isinstance(annotation, str):
    try:
      scope = inspect.unwrap(function).__globals__
      annotation = eval(annotation, scope)
    except Exception:
      return None
  # A key and an array are one type; where a seed will do, the function looks.
  check: Check | None
  if parameter.name == 'key':
    check = _check_key if annotation is jax.Array else None
  elif parameter.name == 'shape':
    check = _check_shape
  else:
    check = _check_of(annotation)
  default = parameter.default
  if check is None or default is parameter.empty:
    return check

  def unless_default(name: str, value: Any) -> None:
    if value is not default:
      check(name, value)

  return unless_default


def _check_shape(name: str, value: Any) -> None:
  """An integer is a shape as well."""
  if isinstance(value, bool) or not isinstance(value, int | np.integer):
    check_several(name, value)


def _check_key(name: str, value: Any) -> None:
  check_key(value, name)


def _check_of(annotation: Any) -> Check | None:
  # A union that is an array of any kind, before its parts.
  if annotation == jax.typing.ArrayLike:
    return check_real
  if hasattr(annotation, 'array_type'):
    return check_real
  if annotation in _SIMPLE:
    return _SIMPLE[annotation]
  origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
  if origin in (typing.Union, types.UnionType):
    return _check_of_union(annotation, parts)
  if origin is Callable or annotation is Callable:
    return check_callable
  if origin in (Sequence, list, tuple):
    kind: Any = parts[0] if parts else None
    if kind is str or hasattr(kind, '_fields'):
      return functools.partial(_check_each, kind)
    if typing.get_origin(kind) is dict:
      return functools.partial(_check_each, Mapping)
    return check_several
  if origin in (Mapping, dict):
    return functools.partial(_check_class, Mapping)
  # Records; other classes are known by what they do.
  if hasattr(annotation, '_fields') or dataclasses.is_dataclass(annotation):
    return functools.partial(_check_class, annotation)
  return None


def _check_of_union(annotation: Any, parts: tuple[Any, ...]) -> Check | None:
  """Whatever fits one of its parts fits."""
  if os.PathLike in parts:
    optional = type(None) in parts
    return (
      functools.partial(_unless_none, check_path) if optional else check_path
    )
  array = set(typing.get_args(jax.typing.ArrayLike)) <= set(parts)
  array |= any(hasattr(p, 'array_type') for p in parts)
  rest = [p for p in parts if p is not type(None)]
  if array:
    inside = set(typing.get_args(jax.typing.ArrayLike))
    rest = [p for p in rest if p not in inside and not hasattr(p, 'array_type')]
  checks = [_check_of(p) for p in rest] + ([check_real] if array else [])
  if not checks or None in checks:
    return None
  optional = type(None) in parts

  def check(name: str, value: Any) -> None:
    if optional and value is None:
      return
    for i, one in enumerate(checks, 1):
      try:
        one(name, value)  # type: ignore[misc]
        return
      except ValueError:
        if i == len(checks):
          raise

  return check


def _check_each(kind: type, name: str, value: Any) -> None:
  check_several(name, value)
  if hasattr(value, 'dtype'):
    raise ValueError(f'{name} must be a list, got {_brief(value)}')
  for i, item in enumerate(value):
    _check_class(kind, f'{name}[{i}]', item)


def _unless_none(check: Check, name: str, value: Any) -> None:
  if value is not None:
    check(name, value)


def _check_class(kind: type, name: str, value: Any) -> None:
  if not isinstance(value, kind):
    raise ValueError(f'{name} must be a {kind.__name__}, got {_brief(value)}')
