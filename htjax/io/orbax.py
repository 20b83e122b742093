"""Orbax directories: which tree to read, and sizes before memory is taken.

Orbax and TensorStore believe what a directory says about itself: a chunk may
inflate to any size and a chunk's shape may be larger than the array. So the
description of each array, and each chunk, is looked at first.
"""

import bz2
import contextlib
import functools
import json
import math
import mmap
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from htjax.io.faults import Refused, allowed, check_size
from htjax.io.files import size_of_directory
from htjax.io.names import Names, named
from htjax.io.unread import Unread, already

_STEP = re.compile(r'(?:.*_)?(\d+)')
_ITEM = '_METADATA'
_STEP_FILE = '_CHECKPOINT_METADATA'
_MAGIC = b'\x28\xb5\x2f\xfd'
# Most that a block of Zstandard becomes, and the least that one is cut into.
_BLOCK, _CUTS, _SLACK = 2**17, 16, 2**20


def trees(path: Path) -> dict[str, Path]:
  """Directories of the trees of an Orbax directory, by item.

  Those of a step's items; a single tree has the item ''. Of the steps of a
  `CheckpointManager` the last counts.
  """
  if (path / _ITEM).is_file():
    return {'': path}
  steps = {
    int(match[1]): p
    for p in path.iterdir()
    if (match := _STEP.fullmatch(p.name)) and (p / _STEP_FILE).is_file()
  }
  if steps and not (path / _STEP_FILE).is_file():
    return trees(steps[max(steps)])
  items = sorted(p for p in path.iterdir() if (p / _ITEM).is_file())
  if len(items) == 1:
    return {'': items[0]}
  if items and (path / _STEP_FILE).is_file():
    return {p.name: p for p in items}
  names = ', '.join(p.name for p in items) or 'none'
  raise Refused(
    f'{path} must be an Orbax directory with one tree of arrays or a step of '
    f'several, or hold .safetensors files; found {names}'
  )


def read(
  path: Path, max_bytes: int | None, whole: bool
) -> tuple[dict[Names, Unread], Any]:
  """Arrays of one tree by name, and the metadata that were given to `save`.

  Args:
    path: directory of the tree.
    max_bytes: more bytes of arrays are refused.
    whole: whether to read all of them now, which is faster than one by one.
  """
  on_disk = size_of_directory(path)
  check_chunks(path, allowed(on_disk, max_bytes))
  with _handler() as handler:
    stored = handler.metadata(path)
  tree = stored.tree if hasattr(stored, 'tree') else stored
  about = {
    name: (tuple(getattr(x, 'shape', ())), np.dtype(getattr(x, 'dtype', None)))
    for name, x in named(tree).items()
  }
  size = sum(math.prod(s) * dtype.itemsize for s, dtype in about.values())
  check_size(path, size, on_disk, max_bytes)
  if whole:
    arrays = _restored(path, tree, None)
    found = {name: already(np.asarray(a)) for name, a in arrays.items()}
  else:
    found = {
      name: Unread(shape, dtype, functools.partial(_one_of, path, tree, name))
      for name, (shape, dtype) in about.items()
    }
  return found, getattr(stored, 'custom_metadata', None)


def _one_of(path: Path, tree: Any, name: Names) -> np.ndarray:
  return _restored(path, tree, name)[name]


def _restored(path: Path, tree: Any, only: Names | None) -> dict[Names, Any]:
  """All arrays of a tree by name, or one of them, beside marks for the rest."""
  import orbax.checkpoint as ocp

  as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
  args: dict[str, Any] = {
    'restore_args': jax.tree.map(lambda _: as_numpy, tree)
  }
  if only is not None:
    leaves, treedef = jax.tree.flatten(tree)
    chosen = [
      leaf if name == only else ocp.PLACEHOLDER
      for name, leaf in zip(named(tree), leaves, strict=True)
    ]
    args['item'] = jax.tree.unflatten(treedef, chosen)
  with _handler() as handler:
    return named(handler.restore(path, args=ocp.args.PyTreeRestore(**args)))


@contextlib.contextmanager
def _handler() -> Iterator[Any]:
  import orbax.checkpoint as ocp

  handler = ocp.PyTreeCheckpointHandler()
  try:
    yield handler
  finally:
    handler.close()


def check_chunks(path: Path, limit: int) -> None:
  """Refuse arrays whose chunks would take more memory than the arrays.

  Args:
    path: directory of one tree.
    limit: bytes that all arrays may have together.

  Raises:
    ValueError: a file that is no regular one, a chunk that is larger than its
      array, or that inflates to more than the array's description says.
  """
  import tensorstore as ts

  size_of_directory(path)
  spec: dict[str, Any] = {'driver': 'file', 'path': f'{path}/'}
  if (path / 'manifest.ocdbt').is_file():
    spec = {'driver': 'ocdbt', 'base': f'file://{path}/'}
    for file in filter(Path.is_file, path.rglob('*')):
      # The tree of names is compressed too, and read before anything else.
      if _largest_frame(file) > 4 * limit + _SLACK:
        raise Refused(f'{file} is damaged: it inflates to more than its arrays')
  store = ts.KvStore.open(spec).result()
  keys = sorted(store.list().result(), key=len)
  checks = {}
  for key in keys:
    name, _, last = key.rpartition(b'/')
    if last in (b'.zarray', b'zarr.json'):
      text = store.read(key).result().value
      if check := _chunk_check(f'{path}, {name.decode()}', text):
        checks[name] = check
  for key in keys:
    name = key.rpartition(b'/')[0]
    while name and name not in checks:
      name = name.rpartition(b'/')[0]
    if name in checks and not key.endswith((b'.zarray', b'zarr.json')):
      checks[name](store.read(key).result().value)


def _chunk_check(where: str, text: bytes) -> Callable[[bytes], None] | None:
  """The check of an array's chunks, after that of its description."""
  about = json.loads(text)
  if about.get('node_type') == 'group':
    return None
  if about.get('zarr_format') == 3:
    chunks = about['chunk_grid']['configuration']['chunk_shape']
    compressor = _compressor_of(about['codecs'])
    dtype = str(about['data_type'])
    bits = re.search(r'\d+$', dtype)
    itemsize = int(bits[0]) // 8 if bits else 8
  else:
    chunks = about['chunks']
    compressor = (about['compressor'] or {}).get('id')
    itemsize = _itemsize(about['dtype'])
  shape = about['shape']
  for axis, (chunk, length) in enumerate(zip(chunks, shape, strict=True)):
    if not 1 <= chunk <= max(length, 1):
      raise Refused(
        f'{where} is damaged: its chunks have {chunk} of the {length} entries '
        f'of axis {axis}'
      )
  expected = math.prod(chunks) * max(itemsize, 1)

  def check(data: bytes) -> None:
    size = _SIZES.get(compressor, _inflated)(data, expected)
    if size > _CUTS * expected + _SLACK:
      raise Refused(
        f'{where} is damaged: a chunk inflates to {size:,} bytes, not '
        f'{expected:,}'
      )

  return check


def _itemsize(dtype: str) -> int:
  found = re.search(r'\d+', dtype)
  if dtype.startswith(('<', '>', '|')) and found:
    return int(found[0])
  return np.dtype(getattr(jax.numpy, dtype)).itemsize


def _compressor_of(codecs: list[Mapping[str, Any]]) -> str | None:
  """The one that is no transposition, also inside of shards."""
  for codec in codecs:
    if codec['name'] == 'sharding_indexed':
      return None
    if codec['name'] in _SIZES:
      return codec['name']
  return None


def _inflated(data: Any, expected: int = 0) -> int:
  """Most bytes that the frames of Zstandard in `data` can become.

  The size that a frame claims is not what its blocks become, so these are
  counted. Frames are looked for everywhere: they may stand behind others.
  """
  total, at = 0, data.find(_MAGIC)
  while at >= 0:
    size, end = _frame(data, at + len(_MAGIC))
    total += size
    at = data.find(_MAGIC, max(end, at + 1))
  return total


def _largest_frame(file: Path) -> int:
  """Most bytes that one frame in a file can become, wherever it begins."""
  if not file.stat().st_size:
    return 0
  with (
    file.open('rb') as opened,
    mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data,
  ):
    most, at = 0, data.find(_MAGIC)
    while at >= 0:
      most = max(most, _frame(data, at + len(_MAGIC))[0])
      at = data.find(_MAGIC, at + 1)
  return most


def _frame(data: Any, at: int) -> tuple[int, int]:
  """Most bytes of the blocks of the frame that goes on here, and its end."""
  if at >= len(data):
    return 0, at
  single = data[at] >> 5 & 1
  content = (single, 2, 4, 8)[data[at] >> 6]
  at += 2 - single + (0, 1, 2, 4)[data[at] & 3] + content
  total = 0
  while at + 3 <= len(data):
    block = int.from_bytes(data[at : at + 3], 'little')
    kind, size = block >> 1 & 3, block >> 3
    if kind == 3 or size > _BLOCK:
      break
    total += _BLOCK if kind == 2 else size
    at += 3 + (1 if kind == 1 else size)
    if block & 1:
      break
  return total, at


def _deflated(data: bytes, expected: int) -> int:
  most = _CUTS * expected + _SLACK + 1
  return len(zlib.decompressobj(47).decompress(data, most))


def _bzipped(data: bytes, expected: int) -> int:
  most = _CUTS * expected + _SLACK + 1
  return len(bz2.BZ2Decompressor().decompress(data, most))


def _blosc(data: bytes, expected: int) -> int:
  return int.from_bytes(data[4:8], 'little')


_SIZES: dict[str | None, Callable[[Any, int], int]] = {
  'gzip': _deflated,
  'zlib': _deflated,
  'bz2': _bzipped,
  'blosc': _blosc,
}
