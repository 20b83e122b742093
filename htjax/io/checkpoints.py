"""State of a run, saved to go on from, bit for bit, random keys included.

Through Orbax: a checkpoint is there as a whole or not at all, whenever the
process is killed.
"""

import contextlib
import json
import math
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_count, checked
from htjax.io import orbax
from htjax.io.faults import first_line, naming
from htjax.io.leaves import NUMBERS, Leaf, bits_of, check_leaves, leaf_of
from htjax.io.names import Names, joined, named, nested_dict, stored
from htjax.types import PyTree

# Two: should the newest be damaged, there is one to go back to.
KEEP = 2
_NAME = re.compile(r'(\d+)_step_(\d+)')


@checked
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
  check_leaves('state', state)
  values = named(state)
  leaves = {p: leaf_of(p, value) for p, value in values.items()}
  bits = {p: bits_of(p, value) for p, value in values.items()}
  about = {
    'step': int(step),
    'meta': _json({} if meta is None else meta),
    'leaves': [_entry(p, leaf, bits[p]) for p, leaf in leaves.items()],
  }
  root = Path(directory).resolve()
  root.mkdir(parents=True, exist_ok=True)
  _remove_incomplete(root)
  kept = complete(root)
  number = _number(kept[-1]) + 1 if kept else 0
  path = root / f'{number:06d}_step_{step}'
  # Orbax refuses arrays of no elements; their shapes are in `about`.
  _orbax_save(path, {p: a for p, a in bits.items() if a.size}, about)
  _remove(complete(root)[:-KEEP])
  return path


@checked
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
  if like is not None:
    check_leaves('like', like)
  kept = complete(Path(directory).resolve())
  if not kept:
    return None
  path = kept[-1]
  step, meta, entries = _read_about(path)
  leaves = {p: Leaf(**e['leaf']) for p, e in entries.items()}
  if like is not None:
    _check_like(path, leaves, like, strict_shapes)
  bits = _read_bits(path, entries)
  values = {p: _as_saved(leaf, bits[p]) for p, leaf in leaves.items()}
  if like is None:
    return nested_dict(values), step, meta
  placed = [_as_in(p, x, values[p]) for p, x in named(like).items()]
  return jax.tree.unflatten(jax.tree.structure(like), placed), step, meta


def complete(root: Path) -> list[Path]:
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
  path: Path, arrays: Mapping[Names, Any], about: dict[str, Any]
) -> None:
  import orbax.checkpoint as ocp

  sealed = {'body': about, 'crc32': _json_crc32(about)}
  items = {'about': ocp.args.JsonSave(sealed)}
  if arrays:
    places = stored(tuple(map(tuple, (e['path'] for e in about['leaves']))))
    tree = nested_dict({places[p]: a for p, a in arrays.items()})
    items['state'] = ocp.args.PyTreeSave(tree)
  with naming(path), ocp.Checkpointer(_orbax()) as checkpointer:
    checkpointer.save(path, ocp.args.Composite(**items))


def _orbax_restore(path: Path, **items: Any) -> Any:
  import orbax.checkpoint as ocp

  with _damage(path), ocp.Checkpointer(_orbax()) as checkpointer:
    return checkpointer.restore(path, ocp.args.Composite(**items))


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
  """Whatever Orbax raises, as one line with the path."""
  try:
    with naming(path):
      yield
  except (PermissionError, MemoryError):
    raise
  # Damaged files make Orbax raise nearly anything.
  except Exception as error:
    raise _damaged(path, first_line(error)) from error


def _damaged(path: Path, error: str) -> ValueError:
  return ValueError(
    f'checkpoint {path} is damaged ({error}): delete it to go on from the one '
    'before'
  )


def _read_about(
  path: Path,
) -> tuple[int, dict[str, Any], dict[Names, dict[str, Any]]]:
  """(step, meta, entries of the leaves by path)."""
  import orbax.checkpoint as ocp

  sealed = _orbax_restore(path, about=ocp.args.JsonRestore())['about']
  if not isinstance(sealed, dict) or (
    sealed.get('crc32') != _json_crc32(sealed.get('body'))
  ):
    raise _damaged(path, 'its description has another checksum')
  try:
    about = sealed['body']
    check_count('step', about['step'], 0)
    entries = {tuple(e['path']): _checked(e) for e in about['leaves']}
    stored(entries)
  except (KeyError, TypeError, ValueError, AttributeError) as error:
    raise _damaged(path, f'its description: {first_line(error)}') from error
  if not isinstance(about.get('meta'), dict):
    raise _damaged(path, 'its description has no meta')
  if len(entries) < len(about['leaves']):
    raise _damaged(path, 'its description has two leaves of one name')
  return about['step'], about['meta'], entries


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
  """A leaf's entry with tuples for shapes, if it describes a leaf."""
  leaf = entry['leaf'] | {'shape': tuple(entry['leaf']['shape'])}
  entry = entry | {'leaf': leaf, 'shape': tuple(entry['shape'])}
  path, (kind, dtype) = entry['path'], (leaf['kind'], leaf['dtype'])
  texts = (*path, dtype, entry['dtype'])
  lengths = (*leaf['shape'], *entry['shape'])
  if not path or not all(isinstance(text, str) for text in texts):
    raise ValueError(f'names of {path} must be text')
  if not all(type(n) is int and n >= 0 for n in lengths):
    raise ValueError(f'shapes of {joined(path)} must be of integers >= 0')
  bits = jnp.dtype(entry['dtype']).name, entry['shape']
  if kind == 'array':
    fits = bits == (jnp.dtype(dtype).name, leaf['shape'])
  elif kind == 'number':
    fits = dtype in NUMBERS and bits[1] == leaf['shape'] == ()
  else:
    like = jax.eval_shape(lambda: jax.random.key_data(_no_keys(leaf)))
    fits = kind == 'key' and bits == (like.dtype.name, like.shape)
  if not fits or entry['crc32'] not in (None, int(entry['crc32'] or 0)):
    raise ValueError(f'{joined(path)} is no leaf of a state')
  return entry


def _no_keys(leaf: dict[str, Any]) -> jax.Array:
  key = jax.random.key(0, impl=leaf['dtype'])
  return jnp.broadcast_to(key, leaf['shape'])


def paths_of(path: Path) -> dict[str, Names]:
  """Names of a checkpoint's leaves by the names they are stored under."""
  places = stored(_read_about(path)[2])
  return {joined(place): tuple(map(str, p)) for p, place in places.items()}


def _check_like(
  path: Path, leaves: dict[Names, Leaf], like: PyTree, strict_shapes: bool
) -> None:
  def fail(what: str) -> None:
    raise ValueError(
      f'checkpoint {path} belongs to another config: {what}; like must have '
      'its leaves'
    )

  wanted = {p: leaf_of(p, x) for p, x in named(like).items()}
  for p in sorted(leaves.keys() ^ wanted.keys()):
    fail(f'it {"lacks" if p in wanted else "also holds"} {joined(p)}')
  for p, leaf in wanted.items():
    saved = leaves[p]
    if not strict_shapes and leaf.shape and saved.shape:
      leaf = leaf._replace(shape=saved.shape[:1] + leaf.shape[1:])
    if saved != leaf:
      fail(f'{joined(p)} is {_show(saved)} there, {_show(leaf)} here')


def _show(leaf: Leaf) -> str:
  if leaf.kind == 'number':
    return f'a Python {leaf.dtype}'
  prefix = 'key ' if leaf.kind == 'key' else ''
  return f'{prefix}{leaf.dtype}{list(leaf.shape)}'


def _read_bits(
  path: Path, entries: dict[Names, dict[str, Any]]
) -> dict[Names, np.ndarray]:
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
    places = stored(entries)
    size = sum(
      math.prod(e['shape']) * jnp.dtype(e['dtype']).itemsize
      for e in entries.values()
    )
    with _damage(path):
      orbax.check_chunks(path / 'state', size)
    args = ocp.args.PyTreeRestore(
      restore_args=nested_dict({places[p]: a for p, a in there.items()})
    )
    found = named(_orbax_restore(path, state=args)['state'])
    if missing := [p for p in there if places[p] not in found]:
      raise _damaged(path, f'it lacks {joined(missing[0])}')
    bits |= {p: found[places[p]] for p in there}
  for p, entry in entries.items():
    if (bits[p].shape, bits[p].dtype.name) != (entry['shape'], entry['dtype']):
      raise _damaged(path, f'{joined(p)} has another shape')
    if entry['crc32'] not in (None, _crc32(bits[p])):
      raise _damaged(path, f'{joined(p)} has another checksum')
  return bits


def _entry(path: Names, leaf: Leaf, bits: Any) -> dict[str, Any]:
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


def _as_saved(leaf: Leaf, bits: np.ndarray) -> Any:
  """The key or number that `bits` stands for, or the array itself."""
  if leaf.kind == 'key':
    return jax.random.wrap_key_data(jnp.asarray(bits), impl=leaf.dtype)
  return NUMBERS[leaf.dtype](bits) if leaf.kind == 'number' else bits


def _as_in(path: Names, like: Any, value: Any) -> Any:
  """`value` as the kind of array, and on the devices, of `like`."""
  if not isinstance(like, jax.Array | jax.ShapeDtypeStruct):
    return value[()] if isinstance(like, np.generic) else value
  sharded = value.shape == like.shape and getattr(like, 'committed', True)
  sharding = like.sharding if sharded else None
  placed = _put(value, sharding) if sharding else jnp.asarray(value)
  if placed.dtype != value.dtype:
    raise ValueError(
      f'{joined(path)} is {value.dtype.name}, which needs jax.enable_x64(True)'
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
