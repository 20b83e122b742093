"""Anyone's weights: files and directories of arrays of many programs.

`.safetensors` files, alone or as shards with an index, `.npz` archives, Orbax
directories and Flax's `.msgpack`. A file may come from anywhere, so nothing in
it is executed and its sizes are checked before memory is taken.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from htjax.checks import check_count, checked
from htjax.io import names, npz, orbax, safetensors
from htjax.io.checkpoints import complete, paths_of
from htjax.io.faults import Refused, check_size, first_line, naming
from htjax.io.files import read_bytes, replacing, size_of
from htjax.io.leaves import bits_of, check_leaves, leaf_of
from htjax.io.names import joined
from htjax.io.unread import Unread, already
from htjax.types import PyTree

_FORMATS = (
  'path must be a .safetensors or .npz file, an Orbax directory or, to be '
  'read, a .msgpack file of Flax'
)
_TORCH = (
  "in PyTorch, safetensors.torch.save_file(model.state_dict(), 'model."
  "safetensors') writes a file that can be read"
)
_KERAS = (
  "in Python, with h5py or Keras, numpy.savez('model.npz', **{name: array}) "
  'writes a file that can be read'
)
_ADVICE = {
  **dict.fromkeys(('.pt', '.pth', '.bin', '.ckpt', '.pkl'), _TORCH),
  **dict.fromkeys(('.h5', '.hdf5', '.keras'), _KERAS),
  '.npy': "numpy.savez('model.npz', name=array) writes a file of names",
}


class _Stored(NamedTuple):
  """Arrays of a file, not yet read, and the paths that it keeps of them."""

  arrays: dict[str, Unread]
  paths: Mapping[str, names.Path] | None


@checked
def save(path: str | os.PathLike, params: PyTree) -> None:
  """Write weights for other programs, atomically.

  `load` gives back dictionaries with the same keys, dots, slashes and integers
  among them; lists and tuples become dictionaries with '0', '1', ...

  Args:
    path: `NAME.safetensors` or `NAME.npz`, replaced if it is there, or a path
      without suffix for a new Orbax directory.
    params: pytree of arrays, or a state of Flax NNX. A leaf is named by the
      keys that lead to it, joined by dots.

  Raises:
    ValueError: another suffix, no leaves, or an array that the format cannot
      hold (empty ones in Orbax; keys and objects in all).
    FileExistsError: the Orbax directory is there already.
    OSError: it cannot be written, such as to a full disk.

  Examples:
    >>> import pathlib, tempfile
    >>> from flax import nnx
    >>> from htjax.io import weights
    >>> path = pathlib.Path(tempfile.mkdtemp()) / 'model.safetensors'
    >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> weights.save(path, nnx.state(model))
    >>> nnx.update(model, weights.load(path))
  """
  path = _as_path(path)
  _check_suffix(path, ('.safetensors', '.npz', ''))
  check_leaves('params', params)
  arrays = {
    p: _weight(p, leaf) for p, leaf in names.leaves_by_path(params).items()
  }
  if not arrays:
    raise ValueError(f'params must have at least one leaf, got {params!r}')
  chosen = names.stored(arrays)
  text = names.to_text({joined(chosen[p]): p for p in arrays})
  about = None if text is None else {names.METADATA: text}
  if path.suffix:
    write = npz.write if path.suffix == '.npz' else safetensors.write
    with replacing(path) as temporary:
      write(temporary, {joined(chosen[p]): a for p, a in arrays.items()}, about)
  else:
    _write_orbax(path, {chosen[p]: a for p, a in arrays.items()}, about)


@checked
def load(
  path: str | os.PathLike,
  *,
  nested: bool = True,
  separator: str | None = None,
  max_bytes: int | None = None,
) -> dict[Any, Any]:
  """Read weights that any program wrote.

  Nothing in the file is executed, and no memory is taken for more than
  `max_bytes` of arrays. What cannot be noticed is a changed bit among the
  numbers of a `.safetensors` file, which has no checksum.

  Args:
    path: a `.safetensors`, `.npz` or `.msgpack` (Flax) file; the index of
      sharded `.safetensors` files, or their directory; an Orbax directory: of
      one tree, of a step with one or several items, of a `CheckpointManager`
      (its last step), or the `directory` of `checkpoints.save`.
    nested: split names into nested dictionaries; False gives flat names.
    separator: between the parts of a name. None: as `save` kept it, else '/'
      if a name has one, otherwise '.'.
    max_bytes: arrays of more bytes together are refused. None: 2^34, and of a
      small file no more than 100 times its size or 2^28.

  Returns:
    Dictionary of numpy arrays, in the file's dtypes. Raw numbers of two bytes
    in a `.npz` are bfloat16, which is how NumPy writes them.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a damaged file, one of another format, without arrays, no
      regular file, too large or with objects, or names that cannot be nested.
    MemoryError: the arrays do not fit into memory.

  Examples:
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from htjax.io import weights
    >>> path = pathlib.Path(tempfile.mkdtemp()) / 'model.npz'
    >>> weights.save(path, {'hidden': {'kernel': np.ones((2, 3))}})
    >>> weights.load(path)['hidden']['kernel'].shape
    (2, 3)
    >>> list(weights.load(path, nested=False))
    ['hidden.kernel']
  """
  path = _checked(path, separator, max_bytes)
  with _clear(path):
    found = _open(path, max_bytes, whole=True)
    arrays = {name: array.read() for name, array in found.arrays.items()}
    if not nested:
      return _flat(found.paths, arrays, separator)
    if separator is None and found.paths is not None:
      return names.nested_dict({found.paths[n]: a for n, a in arrays.items()})
    parts = separator or names.separator_of(arrays)
    return names.nested_dict(
      {names.split(n, parts): a for n, a in arrays.items()}
    )


@checked
def stream(
  path: str | os.PathLike, *, max_bytes: int | None = None
) -> Iterator[tuple[str, np.ndarray]]:
  """Read weights array by array, so that one at a time is in memory.

  Arrays of `.safetensors` files are views of the file, mapped into memory:
  only what is looked at is read, and they cannot be written to. Those of
  `.npz` and of Orbax are read one by one; `.msgpack` is read as a whole.

  Args:
    path: as `load` takes it.
    max_bytes: arrays of more bytes together are refused. None: 2^34, and of a
      small file no more than 100 times its size or 2^28.

  Returns:
    Iterator of flat names and numpy arrays, in the file's order.

  Raises:
    FileNotFoundError: no such file; at the call, as all that a file says of
      itself.
    ValueError: a damaged file, or one that `load` refuses.

  Examples:
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from htjax.io import weights
    >>> path = pathlib.Path(tempfile.mkdtemp()) / 'model.safetensors'
    >>> weights.save(path, {'hidden': {'kernel': np.ones((2, 3))}})
    >>> [(name, array.shape) for name, array in weights.stream(path)]
    [('hidden.kernel', (2, 3))]
  """
  arrays = unread(path, max_bytes=max_bytes)
  return ((name, array.read()) for name, array in arrays.items())


@checked
def unread(
  path: str | os.PathLike, *, max_bytes: int | None = None
) -> dict[str, Unread]:
  """Names, shapes and dtypes of weights, whose numbers stay in the file.

  What is read of an array is not kept. In `.msgpack` files all arrays are read
  at once, and stay.

  Args:
    path: as `load` takes it.
    max_bytes: arrays of more bytes together are refused. None: 2^34, and of a
      small file no more than 100 times its size or 2^28.

  Returns:
    Dictionary by flat names, in the file's order. `read()` gives an array, as
    `stream` has it, and `numpy.asarray` does.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a damaged file, or one that `load` refuses; some damage is
      noticed only where an array is read.

  Examples:
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from htjax.io import weights
    >>> path = pathlib.Path(tempfile.mkdtemp()) / 'model.npz'
    >>> weights.save(path, {'hidden': {'kernel': np.ones((2, 3))}})
    >>> array = weights.unread(path)['hidden.kernel']
    >>> array.shape, array.dtype.name, array.read().sum().item()
    ((2, 3), 'float64', 6.0)
  """
  path = _checked(path, None, max_bytes)
  with _clear(path):
    found = _open(path, max_bytes, whole=False).arrays

  def reader(array: Unread) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
      with _clear(path):
        return array.read()

    return read

  return {n: dataclasses.replace(a, read=reader(a)) for n, a in found.items()}


def _as_path(path: Any) -> Path:
  if not isinstance(path, str | os.PathLike):
    raise ValueError(f'path must be a path, got {path!r}')
  return Path(path)


def _checked(path: Any, separator: Any, max_bytes: Any) -> Path:
  path = _as_path(path)
  if max_bytes is not None:
    check_count('max_bytes', max_bytes)
  if separator is not None and not (isinstance(separator, str) and separator):
    raise ValueError(f'separator must be None or a text, got {separator!r}')
  if not path.exists():
    raise FileNotFoundError(f'no weights at {path}')
  return path


@contextlib.contextmanager
def _clear(path: Path) -> Iterator[None]:
  """Whatever a parser raises, as one line with the path."""
  try:
    with naming(path):
      yield
  except (Refused, PermissionError, MemoryError):
    raise
  # A foreign file makes the parsers raise nearly anything.
  except Exception as error:
    form = f'{path.suffix} file' if path.is_file() else 'Orbax directory'
    raise ValueError(
      f'{path} is damaged or no {form}: {first_line(error)}'
    ) from error


def _open(path: Path, max_bytes: int | None, whole: bool) -> _Stored:
  """The arrays of a file, which has some, and their paths if it keeps them.

  Args:
    path: which is there.
    max_bytes: more bytes of arrays are refused.
    whole: whether all of them are going to be read, and to be kept.
  """
  found = _stored(path, max_bytes, whole)
  if not found.arrays:
    raise Refused(f'{path} holds no arrays')
  return found


def _stored(path: Path, max_bytes: int | None, whole: bool) -> _Stored:
  if path.is_dir():
    if (index := safetensors.in_folder(path)) is None:
      return _open_orbax(path, max_bytes, whole)
    path = index
  size_of(path)
  if safetensors.is_index(path):
    return _Stored(safetensors.read_shards(path, max_bytes, not whole), None)
  _check_suffix(path, ('.safetensors', '.npz', '.msgpack'))
  if path.suffix == '.msgpack':
    return _open_msgpack(path, max_bytes)
  if path.suffix == '.npz':
    arrays, about = npz.read(path, max_bytes)
  else:
    arrays, about = safetensors.read(path, max_bytes, not whole)
  text = about.get(names.METADATA)
  paths = None if text is None else names.from_text(text, arrays, path)
  return _Stored(arrays, paths)


def _check_suffix(path: Path, suffixes: tuple[str, ...]) -> None:
  if path.suffix not in suffixes:
    advice = _ADVICE.get(path.suffix.lower())
    raise Refused(f'{_FORMATS}, got {path}' + (f'; {advice}' if advice else ''))


def _weight(path: names.Path, value: Any) -> np.ndarray:
  """A leaf as a contiguous numpy array."""
  if leaf_of(path, value).kind != 'key':
    return bits_of(path, value)
  raise ValueError(f'{joined(path)} is a random key, not a weight')


def _flat(
  paths: Mapping[str, names.Path] | None,
  arrays: dict[str, np.ndarray],
  separator: str | None,
) -> dict[str, Any]:
  """Arrays by the names of the file, or by their paths and a separator."""
  if separator is None or paths is None:
    return arrays
  named = {separator.join(map(str, paths[n])): a for n, a in arrays.items()}
  if len(named) < len(arrays):
    raise Refused(f'separator {separator!r} gives two arrays one name')
  return named


def _write_orbax(
  path: Path,
  arrays: Mapping[names.Names, np.ndarray],
  about: dict[str, str] | None,
) -> None:
  import orbax.checkpoint as ocp

  if path.exists():
    raise FileExistsError(f'{path} is there already; choose another path')
  for p, array in arrays.items():
    if not array.size:
      raise ValueError(
        f'{joined(p)} has no elements, which an Orbax directory cannot hold; '
        'write a .safetensors file'
      )
  with naming(path), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as saver:
    args = ocp.args.PyTreeSave(names.nested_dict(arrays), custom_metadata=about)
    saver.save(path.resolve(), args)


def _open_orbax(path: Path, max_bytes: int | None, whole: bool) -> _Stored:
  """All trees of a directory; with several, by the item's name first."""
  path = path.resolve()
  kept = complete(path)
  if kept:
    path = kept[-1]
  found: dict[str, Unread] = {}
  paths: dict[str, names.Path] = {}
  trees = orbax.trees(path)
  left = max_bytes
  for item, place in trees.items():
    arrays, about = orbax.read(place, left, whole)
    if left is not None:
      left = max(left - sum(a.nbytes for a in arrays.values()), 0)
    ours = paths_of(kept[-1]) if kept else _paths_in(about, arrays, place)
    for parts, array in arrays.items():
      name, inside = joined(parts), ours.get(joined(parts), parts)
      if item:
        name, inside = f'{item}.{name}', (item, *inside)
      if name in found:
        raise Refused(f'{path} holds two arrays of the same name, {name}')
      found[name], paths[name] = array, inside
  return _Stored(found, paths)


def _paths_in(
  about: Any, arrays: Mapping[names.Names, Any], path: Path
) -> dict[str, names.Path]:
  text = about.get(names.METADATA) if isinstance(about, dict) else None
  if text is None:
    return {}
  return names.from_text(text, map(joined, arrays), path)


def _open_msgpack(path: Path, max_bytes: int | None) -> _Stored:
  """Arrays and numbers of what `flax.serialization` writes."""
  from flax import serialization

  size = size_of(path)
  check_size(path, size, size, max_bytes)
  tree = serialization.msgpack_restore(read_bytes(path, size))
  if not isinstance(tree, dict):
    raise Refused(f'{path} must hold a dictionary, got a {type(tree).__name__}')
  leaves = names.leaves_by_path(tree)
  found = {p: np.asarray(_weight(p, leaf)) for p, leaf in leaves.items()}
  chosen = {joined(n): p for p, n in names.stored(found).items()}
  arrays = {name: already(found[p]) for name, p in chosen.items()}
  return _Stored(arrays, chosen)
