"""Names of leaves in files, from which the tree comes back as it was.

A file names an array by one text. Components of a path are joined by dots;
what cannot be read back from that (dots and slashes in a component, numbers as
keys) is kept beside the arrays, as the path of each name.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from htjax.io.faults import Refused
from htjax.types import PyTree

Path = tuple[str | int, ...]
Names = tuple[str, ...]
METADATA = 'htjax.paths'


def leaves_by_path(tree: PyTree) -> dict[Path, Any]:
  """Leaves by the keys that lead to them; integer keys of dictionaries stay."""
  nnx = sys.modules.get('flax.nnx')
  if nnx is not None and isinstance(tree, nnx.State):
    # In a state each array lies in a variable, which has no name of its own.
    tree = nnx.to_pure_dict(tree)
  by_path: dict[Path, Any] = {}
  for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    path = tuple(map(_component, keys)) or ('value',)
    if path in by_path:
      raise ValueError(f'two leaves have the same name, {joined(path)}')
    by_path[path] = leaf
  return by_path


def named(tree: PyTree) -> dict[Names, Any]:
  """Leaves by the names that lead to them, all as text."""
  found = leaves_by_path(tree)
  by_name = {tuple(map(str, path)): leaf for path, leaf in found.items()}
  if len(by_name) < len(found):
    listed = sorted(map(joined, found))
    raise ValueError(f'two leaves have the same name, among {listed}')
  return by_name


def joined(path: Iterable[str | int]) -> str:
  """The name that files give to a leaf."""
  return '.'.join(map(str, path))


def stored(paths: Iterable[Path]) -> dict[Path, Names]:
  """Components under which arrays are stored, different when joined by dots.

  They are those of the paths; dots in them become %2E only where two arrays
  would have one name.
  """
  chosen = {path: tuple(map(str, path)) for path in paths}
  if len(set(map(joined, chosen.values()))) < len(chosen):
    chosen = {p: tuple(map(_escaped, name)) for p, name in chosen.items()}
  names = [joined(name) for name in chosen.values()]
  if len(set(names)) < len(names):
    raise ValueError(f'two leaves have the same name, among {sorted(names)}')
  return chosen


def split(name: str, separator: str) -> Names:
  """The components of a name."""
  return tuple(name.split(separator))


def separator_of(names: Iterable[str]) -> str:
  """The separator of the parts of names whose file does not say."""
  return '/' if any('/' in name for name in names) else '.'


def to_text(paths: Mapping[str, Path]) -> str | None:
  """Paths by name as text, None if the names alone lead back to them."""
  separator = separator_of(paths)
  if all(split(name, separator) == path for name, path in paths.items()):
    return None
  return json.dumps({name: list(path) for name, path in paths.items()})


def from_text(text: Any, names: Iterable[str], where: Any) -> dict[str, Path]:
  """The paths in a text of `to_text`, one for each of the names."""
  try:
    paths = {name: tuple(path) for name, path in json.loads(text).items()}
  except (TypeError, ValueError, AttributeError, RecursionError):
    paths = {}
  good = all(
    path and all(type(part) in (str, int) for part in path)
    for path in paths.values()
  )
  if not good or paths.keys() != set(names):
    raise Refused(
      f'{where} is damaged: the paths that it keeps are not those of its '
      'arrays; pass nested=False'
    )
  return paths


def nested_dict(arrays: Mapping[Any, Any]) -> dict[Any, Any]:
  """Nested dictionaries of `arrays`, which have paths for keys."""
  tree: dict[Any, Any] = {}
  for path, array in arrays.items():
    node = tree
    for name in path[:-1]:
      node = node.setdefault(name, {})
      if not isinstance(node, dict):
        raise Refused(f'{joined(path)} lies in an array; pass nested=False')
    if path[-1] in node:
      raise Refused(f'{joined(path)} is there twice; pass nested=False')
    node[path[-1]] = array
  return tree


def _component(key: Any) -> str | int:
  if isinstance(key, jax.tree_util.DictKey) and type(key.key) is int:
    return key.key
  return jax.tree_util.keystr((key,), simple=True)


def _escaped(name: str) -> str:
  return name.replace('%', '%25').replace('.', '%2E')
