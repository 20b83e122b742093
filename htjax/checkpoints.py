"""State of a run, saved to go on from, and anyone's weights.

`save` and `restore` keep the state of a run bit for bit, random keys included,
through Orbax: a checkpoint is there as a whole or not at all, whenever the
process is killed. `save_weights` and `load_weights` exchange weights with
other programs as `.safetensors` and `.npz` files or Orbax directories; a file
may come from anywhere, so nothing in it is executed and its sizes are checked
before memory is taken.
"""

import json
import math
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Of the same floor: one way of writing a file atomically is enough.
from htjax.records import replacing
from htjax.types import PyTree, check_count

# Two: should the newest be damaged, there is one to go back to.
KEEP = 2

_NAME = re.compile(r'(\d+)_step_(\d+)')
_NUMBERS = {'bool': bool, 'int': int, 'float': float, 'complex': complex}
_ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)
# Kinds of numbers that a .npy file holds without pickling.
_NPY_KINDS = 'biufc'
_NPY_HEADERS: dict[tuple[int, int], Callable] = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}


def save(
  directory: str | os.PathLike,
  step: int,
  state: PyTree,
  meta: Mapping[str, Any] | None = None,
) -> Path:
  """Save the state of a run; the newest two checkpoints are kept.

  Args:
    directory: of the run's checkpoints, created if missing; one process (or
      one group of hosts) writes to it at a time.
    step: >= 0, for the reader; the newest checkpoint is the one saved last,
      whatever its step.
    state: pytree of arrays, typed keys and Python numbers.
    meta: further JSON values, such as the position of the log.

  Returns:
    The checkpoint's path, `directory/NUMBER_step_STEP`.

  Raises:
    ValueError: a leaf that is none of these, two leaves of one name, or meta
      that is not JSON.
  """
  check_count('step', step, 0)
  named = _named(state)
  leaves = {p: _leaf(p, value) for p, value in named.items()}
  bits = {p: _bits(p, value) for p, value in named.items()}
  about = {
    'step': int(step),
    'meta': _json({} if meta is None else meta),
    'leaves': [_entry(p, leaf, bits[p]) for p, leaf in leaves.items()],
  }
  root = Path(directory).resolve()
  root.mkdir(parents=True, exist_ok=True)
  _remove_incomplete(root)
  kept = _complete(root)
  number = _number(kept[-1]) + 1 if kept else 0
  path = root / f'{number:06d}_step_{step}'
  # Orbax refuses arrays of no elements; their shapes are in `about`.
  _orbax_save(path, {p: a for p, a in bits.items() if a.size}, about)
  _remove(_complete(root)[:-KEEP])
  return path


def restore(
  directory: str | os.PathLike,
  like: PyTree = None,
  *,
  strict_shapes: bool = True,
) -> tuple[PyTree, int, dict[str, Any]] | None:
  """Restore the checkpoint that was saved last.

  Args:
    directory: as given to `save`.
    like: pytree of the state's structure: arrays or `jax.ShapeDtypeStruct`s.
      Each leaf comes back as the kind of array that stands there, a JAX array
      with the sharding it has there. None: nested dictionaries of numpy
      arrays, keys and Python numbers, as they were saved.
    strict_shapes: if False, the first axis of an array may have another length
      than in `like` (lanes that were dropped meanwhile); such an array is not
      sharded.

  Returns:
    (state, step, meta), or None if there is no complete checkpoint.

  Raises:
    ValueError: the checkpoint's leaves, shapes or dtypes are not those of
      `like`, so that it belongs to another config; or it is damaged.
  """
  kept = _complete(Path(directory).resolve())
  if not kept:
    return None
  path = kept[-1]
  step, meta, entries = _read_about(path)
  leaves = {p: _Leaf(**e['leaf']) for p, e in entries.items()}
  if like is not None:
    _check_like(path, leaves, like, strict_shapes)
  bits = _read_bits(path, entries)
  values = {p: _as_saved(leaf, bits[p]) for p, leaf in leaves.items()}
  if like is None:
    return _nest(values), step, meta
  placed = [_as_in(p, x, values[p]) for p, x in _named(like).items()]
  return jax.tree.unflatten(jax.tree.structure(like), placed), step, meta


def save_weights(path: str | os.PathLike, params: PyTree) -> None:
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
  arrays = {p: _weight(p, leaf) for p, leaf in _named(params).items()}
  if path.suffix:
    write = _write_npz if path.suffix == '.npz' else _write_safetensors
    with replacing(path) as temporary:
      write(temporary, {_join(p): array for p, array in arrays.items()})
  else:
    _write_orbax(path, arrays)


def load_weights(
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
      of a step that holds one tree, or `directory` of `save`.
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
      return _nest(arrays) if nested else _flat(arrays, separator or '.')
    _check_suffix(path, ('.safetensors', '.npz'))
    read = _read_npz if path.suffix == '.npz' else _read_safetensors
    weights = read(path, max_bytes)
    return _split(weights, separator) if nested else weights
  except (_Refused, PermissionError, MemoryError):
    raise
  # A foreign file makes the parsers raise nearly anything.
  except Exception as error:
    form = f'{path.suffix} file' if path.is_file() else 'Orbax directory'
    raise ValueError(
      f'{path} is damaged or no {form}: {_first_line(error)}'
    ) from error


class _Refused(ValueError):
  """A fault found here, whose message says all."""


class _Leaf(NamedTuple):
  """What is kept of a leaf besides its bits."""

  kind: str
  shape: tuple[int, ...]
  dtype: str


_Path = tuple[str, ...]


def _named(tree: PyTree) -> dict[_Path, Any]:
  """Leaves by the names that lead to them."""
  named = {}
  for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    path = tuple(jax.tree_util.keystr((k,), simple=True) for k in keys)
    named[path or ('value',)] = leaf
  joined = [_join(path) for path in named]
  if len(set(joined)) < len(jax.tree.leaves(tree)):
    raise ValueError(f'two leaves have the same name, among {sorted(joined)}')
  return named


def _join(path: Iterable[str]) -> str:
  return '.'.join(path)


def _nest(arrays: Mapping[_Path, Any]) -> dict[str, Any]:
  """Nested dictionaries of `arrays`."""
  tree: dict[str, Any] = {}
  for path, array in arrays.items():
    node = tree
    for name in path[:-1]:
      node = node.setdefault(name, {})
      if not isinstance(node, dict):
        raise _Refused(f'{_join(path)} lies in an array; pass nested=False')
    if path[-1] in node:
      raise _Refused(f'{_join(path)} is there twice; pass nested=False')
    node[path[-1]] = array
  return tree


def _leaf(path: _Path, value: Any) -> _Leaf:
  """Kind, shape and dtype of an array, a key, a number or an abstract array."""
  if type(value) in _NUMBERS.values():
    return _Leaf('number', (), type(value).__name__)
  if isinstance(value, _ARRAYS):
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
      # An abstract key has no `key_impl`; an array of its dtype has.
      impl = jax.random.key_impl(jnp.empty((), value.dtype))
      return _Leaf('key', tuple(value.shape), str(impl))
    if value.dtype == np.bool_ or jnp.issubdtype(value.dtype, np.number):
      return _Leaf('array', tuple(value.shape), value.dtype.name)
  raise ValueError(
    f'{_join(path)} must be an array of numbers, a typed key or a number, got '
    f'{value!r}'
  )


def _bits(path: _Path, value: Any) -> Any:
  """What is stored of a leaf: a numpy array, or one spread over hosts."""
  if _leaf(path, value).kind == 'key':
    value = jax.random.key_data(value)
  if isinstance(value, jax.Array) and not (
    value.is_fully_addressable or value.is_fully_replicated
  ):
    return value
  array = np.asarray(value)
  if array.dtype.hasobject:
    raise ValueError(f'{_join(path)} has no value of a fixed size: {value!r}')
  return np.asarray(array, array.dtype.newbyteorder('='), order='C')


def _entry(path: _Path, leaf: _Leaf, bits: Any) -> dict[str, Any]:
  return {
    'path': path,
    'leaf': leaf._asdict(),
    'shape': bits.shape,
    'dtype': bits.dtype.name,
    'crc32': _crc32(bits) if isinstance(bits, np.ndarray) else None,
  }


def _crc32(array: np.ndarray) -> int:
  return zlib.crc32(array.reshape(-1).view(np.uint8).data)


def _json_crc32(value: Any) -> int:
  return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def _json(meta: Mapping[str, Any]) -> dict[str, Any]:
  try:
    return json.loads(json.dumps(dict(meta), allow_nan=False))
  except (TypeError, ValueError) as error:
    raise ValueError(f'meta must hold JSON values: {error}') from None


def _complete(root: Path) -> list[Path]:
  """Checkpoints in the order in which they were saved."""
  if not root.is_dir():
    return []
  return sorted(filter(_is_checkpoint, root.iterdir()), key=_number)


def _is_checkpoint(path: Path) -> bool:
  return _NAME.fullmatch(path.name) is not None


def _number(path: Path) -> int:
  return int(path.name.split('_')[0])


def _remove_incomplete(root: Path) -> None:
  """Clear away what a killed process was writing or removing."""
  if jax.process_index() == 0:
    for path in root.iterdir():
      if _NAME.match(path.name) and not _is_checkpoint(path):
        shutil.rmtree(path, ignore_errors=True)


def _remove(paths: list[Path]) -> None:
  if jax.process_index() == 0:
    for path in paths:
      # Renamed first: half of a checkpoint must not look like a whole one.
      going = path.rename(path.with_name(path.name + '.removed'))
      shutil.rmtree(going, ignore_errors=True)


def _orbax() -> Any:
  """The handler of a run's checkpoints; Orbax takes a second to import."""
  import orbax.checkpoint as ocp

  return ocp.CompositeCheckpointHandler(
    about=ocp.JsonCheckpointHandler(), state=ocp.PyTreeCheckpointHandler()
  )


def _orbax_save(
  path: Path, arrays: Mapping[_Path, Any], about: dict[str, Any]
) -> None:
  import orbax.checkpoint as ocp

  sealed = {'body': about, 'crc32': _json_crc32(about)}
  items = {'about': ocp.args.JsonSave(sealed)}
  if arrays:
    items['state'] = ocp.args.PyTreeSave(_nest(arrays))
  with ocp.Checkpointer(_orbax()) as checkpointer:
    checkpointer.save(path, ocp.args.Composite(**items))


def _orbax_restore(path: Path, **items: Any) -> Any:
  import orbax.checkpoint as ocp

  try:
    with ocp.Checkpointer(_orbax()) as checkpointer:
      return checkpointer.restore(path, ocp.args.Composite(**items))
  # Damaged files make Orbax raise nearly anything.
  except Exception as error:
    raise _damaged(path, _first_line(error)) from error


def _first_line(error: Exception) -> str:
  return (str(error).splitlines() or [''])[0] or type(error).__name__


def _damaged(path: Path, error: str) -> ValueError:
  return ValueError(
    f'checkpoint {path} is damaged ({error}): delete it to go on from the one '
    'before'
  )


def _read_about(
  path: Path,
) -> tuple[int, dict[str, Any], dict[_Path, dict[str, Any]]]:
  """(step, meta, entries of the leaves by path)."""
  import orbax.checkpoint as ocp

  sealed = _orbax_restore(path, about=ocp.args.JsonRestore())['about']
  if not isinstance(sealed, dict) or (
    sealed.get('crc32') != _json_crc32(sealed.get('body'))
  ):
    raise _damaged(path, 'its description has another checksum')
  about = sealed['body']
  for entry in about['leaves']:
    entry['leaf']['shape'] = tuple(entry['leaf']['shape'])
    entry['shape'] = tuple(entry['shape'])
  entries = {tuple(entry['path']): entry for entry in about['leaves']}
  return about['step'], about['meta'], entries


def _check_like(
  path: Path, leaves: dict[_Path, _Leaf], like: PyTree, strict_shapes: bool
) -> None:
  def fail(what: str) -> None:
    raise ValueError(f'checkpoint {path} belongs to another config: {what}')

  wanted = {p: _leaf(p, x) for p, x in _named(like).items()}
  for p in sorted(leaves.keys() ^ wanted.keys()):
    fail(f'it {"lacks" if p in wanted else "also holds"} {_join(p)}')
  for p, leaf in wanted.items():
    saved = leaves[p]
    if not strict_shapes and leaf.shape and saved.shape:
      leaf = leaf._replace(shape=saved.shape[:1] + leaf.shape[1:])
    if saved != leaf:
      fail(f'{_join(p)} is {_show(saved)} there, {_show(leaf)} here')


def _show(leaf: _Leaf) -> str:
  if leaf.kind == 'number':
    return f'a Python {leaf.dtype}'
  prefix = 'key ' if leaf.kind == 'key' else ''
  return f'{prefix}{leaf.dtype}{list(leaf.shape)}'


def _read_bits(
  path: Path, entries: dict[_Path, dict[str, Any]]
) -> dict[_Path, np.ndarray]:
  """The stored arrays, which must be those that were saved."""
  import orbax.checkpoint as ocp

  as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
  there = {p: as_numpy for p, e in entries.items() if 0 not in e['shape']}
  bits = {
    p: np.zeros(e['shape'], jnp.dtype(e['dtype']))
    for p, e in entries.items()
    if p not in there
  }
  if there:
    args = ocp.args.PyTreeRestore(restore_args=_nest(there))
    bits |= _named(_orbax_restore(path, state=args)['state'])
  for p, entry in entries.items():
    if (bits[p].shape, bits[p].dtype.name) != (entry['shape'], entry['dtype']):
      raise _damaged(path, f'{_join(p)} has another shape')
    if entry['crc32'] not in (None, _crc32(bits[p])):
      raise _damaged(path, f'{_join(p)} has another checksum')
  return bits


def _as_saved(leaf: _Leaf, bits: np.ndarray) -> Any:
  """The key or number that `bits` stands for, or the array itself."""
  if leaf.kind == 'key':
    return jax.random.wrap_key_data(jnp.asarray(bits), impl=leaf.dtype)
  return _NUMBERS[leaf.dtype](bits) if leaf.kind == 'number' else bits


def _as_in(path: _Path, like: Any, value: Any) -> Any:
  """`value` as the kind of array, and on the devices, of `like`."""
  if not isinstance(like, jax.Array | jax.ShapeDtypeStruct):
    return value[()] if isinstance(like, np.generic) else value
  sharded = value.shape == like.shape and getattr(like, 'committed', True)
  sharding = like.sharding if sharded else None
  placed = _put(value, sharding) if sharding else jnp.asarray(value)
  if placed.dtype != value.dtype:
    raise ValueError(
      f'{_join(path)} is {value.dtype.name}, which needs jax.enable_x64(True)'
    )
  return placed


def _put(value: Any, sharding: jax.sharding.Sharding) -> jax.Array:
  if isinstance(value, np.ndarray) or sharding.is_fully_addressable:
    return jax.device_put(value, sharding)
  # Keys cannot be put on the devices of other hosts, their bits can.
  impl = jax.random.key_impl(value)
  wrap = jax.jit(
    lambda bits: jax.random.wrap_key_data(bits, impl=impl),
    out_shardings=sharding,
  )
  return wrap(np.asarray(jax.random.key_data(value)))


def _check_suffix(path: Path, allowed: tuple[str, ...]) -> None:
  if path.suffix not in allowed:
    raise _Refused(
      f'path must be a .safetensors or .npz file or an Orbax directory, got '
      f'{path}'
    )


def _check_size(path: Path, size: int, max_bytes: int) -> None:
  if size > max_bytes:
    raise _Refused(
      f'{path} holds {size:,} bytes of arrays, more than max_bytes='
      f'{max_bytes:,}'
    )


def _weight(path: _Path, value: Any) -> np.ndarray:
  """A leaf as a contiguous numpy array."""
  if _leaf(path, value).kind != 'key':
    return _bits(path, value)
  raise ValueError(f'{_join(path)} is a random key, not a weight')


def _flat(arrays: Mapping[_Path, Any], separator: str) -> dict[str, Any]:
  return {separator.join(path): array for path, array in arrays.items()}


def _split(weights: Mapping[str, Any], separator: str | None) -> dict[str, Any]:
  """Nested dictionaries, by the parts of the names."""
  if separator is None:
    separator = '/' if any('/' in name for name in weights) else '.'
  return _nest({tuple(n.split(separator)): w for n, w in weights.items()})


def _write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
  with zipfile.ZipFile(path, 'w') as archive:
    for name, array in arrays.items():
      if array.dtype.kind not in _NPY_KINDS:
        raise ValueError(
          f'{name} is {array.dtype.name}, which a .npz file cannot hold; write '
          'a .safetensors file'
        )
      member = zipfile.ZipInfo(f'{name}.npy')
      with archive.open(member, 'w', force_zip64=True) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def _read_npz(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
  with zipfile.ZipFile(path) as archive:
    members = archive.infolist()
    _check_size(path, sum(m.file_size for m in members), max_bytes)
    arrays = {m.filename: _read_npy(path, archive, m) for m in members}
  if len(arrays) < len(members):
    raise _Refused(f'{path} holds two arrays of the same name')
  return {name.removesuffix('.npy'): array for name, array in arrays.items()}


def _read_npy(
  path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> np.ndarray:
  """One array, if its header says what the archive does about its size."""
  with archive.open(member) as file:
    version = np.lib.format.read_magic(file)
    shape, _, dtype = _NPY_HEADERS[version](file)
    if dtype.kind not in _NPY_KINDS:
      raise _Refused(
        f'{path} holds {member.filename} of dtype {dtype}, which is not read: '
        'objects would have to be unpickled'
      )
    size = file.tell() + math.prod(shape) * dtype.itemsize
    if size != member.file_size or min(shape, default=0) < 0:
      raise _Refused(
        f'{path} is damaged: {member.filename} has {member.file_size:,} bytes, '
        f'not {size:,}'
      )
  with archive.open(member) as file:
    array = np.lib.format.read_array(file, allow_pickle=False)
  return array.astype(dtype.newbyteorder('='), copy=False)


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
  _check_size(path, path.stat().st_size, max_bytes)
  with safe_open(path, framework='np') as file:
    return {name: file.get_tensor(name) for name in list(file.keys())}


def _write_orbax(path: Path, arrays: Mapping[_Path, np.ndarray]) -> None:
  import orbax.checkpoint as ocp

  if path.exists():
    raise FileExistsError(f'{path} is there already; choose another path')
  for p, array in arrays.items():
    if not array.size:
      raise ValueError(
        f'{_join(p)} has no elements, which an Orbax directory cannot hold; '
        'write a .safetensors file'
      )
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    checkpointer.save(path.resolve(), ocp.args.PyTreeSave(_nest(arrays)))


def _read_orbax(path: Path, max_bytes: int) -> dict[_Path, np.ndarray]:
  import orbax.checkpoint as ocp

  path = _tree_directory(path.resolve())
  handler = ocp.PyTreeCheckpointHandler()
  try:
    stored = handler.metadata(path)
    tree = stored.tree if hasattr(stored, 'tree') else stored
    leaves = jax.tree.leaves(tree)
    size = sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)
    _check_size(path, size, max_bytes)
    as_numpy = jax.tree.map(
      lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
    )
    args = ocp.args.PyTreeRestore(restore_args=as_numpy)
    return _named(handler.restore(path, args=args))
  finally:
    handler.close()


def _tree_directory(path: Path) -> Path:
  """Where the one tree of an Orbax directory lies."""
  if kept := _complete(path):
    path = kept[-1]
  places = [path, *sorted(p for p in path.iterdir() if p.is_dir())]
  trees = [p for p in places if (p / '_METADATA').is_file()]
  if len(trees) == 1:
    return trees[0]
  names = ', '.join(p.name for p in trees) or 'none'
  raise _Refused(
    f'{path} must be an Orbax directory with one tree of arrays, found {names}'
  )
