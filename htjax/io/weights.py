"""Anyone's weights: `.safetensors` and `.npz` files and Orbax directories.

A file may come from anywhere, so nothing in it is executed and its sizes are
checked before memory is taken.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from htjax.checks import check_count
from htjax.io import npz
from htjax.io.checkpoints import complete
from htjax.io.faults import Refused, check_size, first_line
from htjax.io.files import replacing
from htjax.io.leaves import Names, bits_of, joined, leaf_of, named, nested_dict
from htjax.types import PyTree


def save(path: str | os.PathLike, params: PyTree) -> None:
  """Write weights for other programs, atomically.

  Args:
    path: `NAME.safetensors` or `NAME.npz`, replaced if it is there, or a path
      without suffix for a new Orbax directory.
    params: pytree of arrays. A leaf is named by the keys that lead to it,
      joined by dots.

  Raises:
    ValueError: another suffix, or an array that the format cannot hold
      (bfloat16 in npz; empty ones in Orbax; keys and objects in all).
    FileExistsError: the Orbax directory is there already.
  """
  path = Path(path)
  _check_suffix(path, ('.safetensors', '.npz', ''))
  arrays = {p: _weight(p, leaf) for p, leaf in named(params).items()}
  if path.suffix:
    write = npz.write if path.suffix == '.npz' else _write_safetensors
    with replacing(path) as temporary:
      write(temporary, {joined(p): array for p, array in arrays.items()})
  else:
    _write_orbax(path, arrays)


def load(
  path: str | os.PathLike,
  *,
  nested: bool = True,
  separator: str | None = None,
  max_bytes: int = 2**34,
) -> dict[str, Any]:
  """Read weights that any program wrote.

  Nothing in the file is executed, and no memory is taken for more than
  `max_bytes` of arrays. What cannot be noticed is a changed bit among the
  numbers of a `.safetensors` file, which has no checksum.

  Args:
    path: a `.safetensors` or `.npz` file, or an Orbax directory: of one tree,
      of a step that holds one tree, or the `directory` of `checkpoints.save`.
    nested: split names into nested dictionaries; False gives flat names.
    separator: between the parts of a name. None: '/' if a name has one,
      otherwise '.'.
    max_bytes: arrays of more bytes together are refused.

  Returns:
    Dictionary of numpy arrays, in the file's dtypes.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a damaged file, one of another format, one that is too large or
      holds objects, or names that cannot be nested.
  """
  path = Path(path)
  check_count('max_bytes', max_bytes)
  if separator == '':
    raise ValueError("separator must be None or a text, got ''")
  if not path.exists():
    raise FileNotFoundError(f'no weights at {path}')
  try:
    if path.is_dir():
      arrays = _read_orbax(path, max_bytes)
      return nested_dict(arrays) if nested else _flat(arrays, separator or '.')
    _check_suffix(path, ('.safetensors', '.npz'))
    read = npz.read if path.suffix == '.npz' else _read_safetensors
    weights = read(path, max_bytes)
    return _split(weights, separator) if nested else weights
  except (Refused, PermissionError, MemoryError):
    raise
  # A foreign file makes the parsers raise nearly anything.
  except Exception as error:
    form = f'{path.suffix} file' if path.is_file() else 'Orbax directory'
    raise ValueError(
      f'{path} is damaged or no {form}: {first_line(error)}'
    ) from error


def _check_suffix(path: Path, allowed: tuple[str, ...]) -> None:
  if path.suffix not in allowed:
    raise Refused(
      f'path must be a .safetensors or .npz file or an Orbax directory, got '
      f'{path}'
    )


def _weight(path: Names, value: Any) -> np.ndarray:
  """A leaf as a contiguous numpy array."""
  if leaf_of(path, value).kind != 'key':
    return bits_of(path, value)
  raise ValueError(f'{joined(path)} is a random key, not a weight')


def _flat(arrays: Mapping[Names, Any], separator: str) -> dict[str, Any]:
  return {separator.join(path): array for path, array in arrays.items()}


def _split(weights: Mapping[str, Any], separator: str | None) -> dict[str, Any]:
  """Nested dictionaries, by the parts of the names."""
  if separator is None:
    separator = '/' if any('/' in name for name in weights) else '.'
  return nested_dict({tuple(n.split(separator)): w for n, w in weights.items()})


def _write_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
  from safetensors import SafetensorError
  from safetensors.numpy import save_file

  try:
    save_file(arrays, path)
  except SafetensorError as error:
    raise ValueError(
      f'a .safetensors file cannot hold these: {error}'
    ) from None


def _read_safetensors(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
  from safetensors import safe_open

  # The arrays lie in the file as they are: it cannot hold more than its size.
  check_size(path, path.stat().st_size, max_bytes)
  with safe_open(path, framework='np') as file:
    return {name: file.get_tensor(name) for name in list(file.keys())}


def _write_orbax(path: Path, arrays: Mapping[Names, np.ndarray]) -> None:
  import orbax.checkpoint as ocp

  if path.exists():
    raise FileExistsError(f'{path} is there already; choose another path')
  for p, array in arrays.items():
    if not array.size:
      raise ValueError(
        f'{joined(p)} has no elements, which an Orbax directory cannot hold; '
        'write a .safetensors file'
      )
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    checkpointer.save(path.resolve(), ocp.args.PyTreeSave(nested_dict(arrays)))


def _read_orbax(path: Path, max_bytes: int) -> dict[Names, np.ndarray]:
  import orbax.checkpoint as ocp

  path = _tree_directory(path.resolve())
  handler = ocp.PyTreeCheckpointHandler()
  try:
    stored = handler.metadata(path)
    tree = stored.tree if hasattr(stored, 'tree') else stored
    leaves = jax.tree.leaves(tree)
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)
    check_size(path, size, max_bytes)
    as_numpy = jax.tree.map(
      lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
    )
    args = ocp.args.PyTreeRestore(restore_args=as_numpy)
    return named(handler.restore(path, args=args))
  finally:
    handler.close()


def _tree_directory(path: Path) -> Path:
  """Path of the one tree of an Orbax directory."""
  if kept := complete(path):
    path = kept[-1]
  places = [path, *sorted(p for p in path.iterdir() if p.is_dir())]
  trees = [p for p in places if (p / '_METADATA').is_file()]
  if len(trees) == 1:
    return trees[0]
  names = ', '.join(p.name for p in trees) or 'none'
  raise Refused(
    f'{path} must be an Orbax directory with one tree of arrays, found {names}'
  )
