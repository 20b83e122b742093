"""`.safetensors` files, in one piece or as shards with an index.

Read here rather than by the library of that name, whose arrays of NumPy have
no float8: the header is JSON and says where each array lies, so that a file
is checked as a whole and mapped into memory.
"""

import functools
import math
import mmap
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.lib.array_utils import byte_bounds

from htjax.io.faults import Refused, check_size
from htjax.io.files import read_bytes, size_of
from htjax.io.strict_json import parse
from htjax.io.unread import Unread

INDEX = '.index.json'
_MAX_HEADER = 10**8
_DTYPES = {
  'BOOL': np.bool_,
  **{f'I{8 * n}': f'<i{n}' for n in (1, 2, 4, 8)},
  **{f'U{8 * n}': f'<u{n}' for n in (1, 2, 4, 8)},
  **{f'F{8 * n}': f'<f{n}' for n in (2, 4, 8)},
  'C64': '<c8',
  'BF16': ml_dtypes.bfloat16,
  'F8_E4M3': ml_dtypes.float8_e4m3fn,
  'F8_E5M2': ml_dtypes.float8_e5m2,
  'F8_E4M3FNUZ': ml_dtypes.float8_e4m3fnuz,
  'F8_E5M2FNUZ': ml_dtypes.float8_e5m2fnuz,
  'F8_E8M0': ml_dtypes.float8_e8m0fnu,
}


class _Entry(NamedTuple):
  dtype: np.dtype
  shape: tuple[int, ...]
  offset: int


def write(
  path: Path, arrays: dict[str, np.ndarray], about: dict[str, str] | None
) -> None:
  """Write named arrays, and texts about them."""
  from safetensors import SafetensorError
  from safetensors.numpy import save_file

  try:
    save_file(arrays, path, metadata=about)
  except (SafetensorError, KeyError) as error:
    if found := re.search(r'os error (\d+)', str(error)):
      raise OSError(int(found[1]), os.strerror(int(found[1]))) from None
    raise ValueError(
      f'a .safetensors file cannot hold these: {error}'
    ) from None


def read(
  path: Path, max_bytes: int | None, mapped: bool
) -> tuple[dict[str, Unread], dict[str, str]]:
  """The arrays by name, and texts about them.

  Args:
    path: of the file.
    max_bytes: larger files are refused.
    mapped: whether arrays are views of the file, which cannot be written to.
  """
  entries, about = _header(path, max_bytes)
  # One map for all arrays: a process may have no more than some files open.
  whole = _mapped(path) if mapped else None
  return {n: _unread(path, e, whole) for n, e in entries.items()}, about


def is_index(path: Path) -> bool:
  """Whether the file lists the shards of a model."""
  return path.name.endswith(INDEX)


def in_folder(path: Path) -> Path | None:
  """The index, or else the only file, of a folder of `.safetensors` files."""
  found = sorted(path.glob('*.safetensors'))
  indices = sorted(path.glob(f'*.safetensors{INDEX}'))
  chosen = indices or found
  if len(chosen) > 1:
    kind = 'indices of shards' if indices else 'files or shards without index'
    raise Refused(
      f'{path} holds {len(chosen)} {kind} ({chosen[0].name}, ..): give the '
      'path of one'
    )
  return chosen[0] if chosen else None


def read_shards(
  index: Path, max_bytes: int | None, mapped: bool
) -> dict[str, Unread]:
  """All arrays that an index names, as `read` has them."""
  found = parse(read_bytes(index, _MAX_HEADER), str(index))
  places = found.get('weight_map') if isinstance(found, dict) else None
  if not isinstance(places, dict) or not places:
    raise Refused(f'{index} must have a weight_map of names and shards')
  shards = {}
  for name in sorted({str(shard) for shard in places.values()}):
    shard = index.parent / name
    if os.path.basename(name) != name or not name.endswith('.safetensors'):
      raise Refused(f'{index} must name shards beside it, got {name!r}')
    if not shard.exists():
      raise Refused(f'{index} names the shard {name}, which is not there')
    shards[name] = _header(shard, max_bytes)[0]
  for name, shard in places.items():
    if name not in shards[shard]:
      raise Refused(
        f'{index} places {name} in the shard {shard}, which has none'
      )
  size = sum(size_of(index.parent / name) for name in shards)
  check_size(index, size, size, max_bytes)
  maps = {n: _mapped(index.parent / n) if mapped else None for n in shards}
  return {
    name: _unread(index.parent / shard, shards[shard][name], maps[shard])
    for name, shard in places.items()
  }


def _header(
  path: Path, max_bytes: int | None
) -> tuple[dict[str, _Entry], dict[str, str]]:
  size = size_of(path)
  # The arrays lie in the file as they are: it cannot hold more than its size.
  check_size(path, size, size, max_bytes)
  with path.open('rb') as file:
    length = int.from_bytes(file.read(8), 'little')
    if length > min(size - 8, _MAX_HEADER):
      raise Refused(f'{path} is damaged: its header is longer than the file')
    text = file.read(length)
  header = parse(text, f'the header of {path}')
  if not isinstance(header, dict):
    raise Refused(f'{path} is damaged: its header is no dictionary')
  about = header.pop('__metadata__', {})
  if not isinstance(about, dict):
    raise Refused(f'{path} is damaged: its metadata is no dictionary')
  entries = {n: _entry(path, n, e, 8 + length) for n, e in header.items()}
  end = 8 + length
  for name, e in sorted(entries.items(), key=lambda item: item[1][2]):
    if e.offset != end:
      raise Refused(f'{path} is damaged: {name} does not lie behind the others')
    end += _num_bytes(e)
  if end != size:
    raise Refused(f'{path} is damaged: it has {size:,} bytes, not {end:,}')
  return entries, about


def _entry(path: Path, name: str, found: Any, start: int) -> _Entry:
  try:
    dtype, shape = found['dtype'], tuple(found['shape'])
    begin, end = found['data_offsets']
    whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
  except (TypeError, KeyError, ValueError):
    whole = False
  if not whole:
    raise Refused(f'{path} is damaged: its header does not describe {name}')
  if dtype not in _DTYPES:
    raise Refused(
      f'{path} holds {name} of dtype {dtype}, which is not read; known are '
      f'{", ".join(_DTYPES)}'
    )
  entry = _Entry(np.dtype(_DTYPES[dtype]), shape, start + begin)
  if end - begin != _num_bytes(entry):
    raise Refused(
      f'{path} is damaged: {name} has {end - begin:,} bytes, not '
      f'{_num_bytes(entry):,}'
    )
  return entry


def _num_bytes(entry: _Entry) -> int:
  return math.prod(entry.shape) * entry.dtype.itemsize


def _mapped(path: Path) -> np.ndarray:
  return np.memmap(path, np.uint8, 'r')


def _unread(path: Path, entry: _Entry, whole: np.ndarray | None) -> Unread:
  read = functools.partial(_array, path, entry, whole)
  return Unread(entry.shape, entry.dtype, read)


def _array(path: Path, entry: _Entry, whole: np.ndarray | None) -> np.ndarray:
  count = _num_bytes(entry)
  if not count:
    return np.zeros(entry.shape, entry.dtype)
  raw: np.ndarray
  if whole is None:
    raw = np.fromfile(path, np.uint8, count, offset=entry.offset)
  else:
    raw = whole[entry.offset : entry.offset + count]
  if len(raw) < count:
    raise Refused(f'{path} became shorter while it was read')
  return np.asarray(raw).view(entry.dtype).reshape(entry.shape)


def forget(array: np.ndarray) -> None:
  """Give back the memory of what was read of a mapped file for an array.

  Args:
    array: of `read` or `read_shards`, or a view of one. It may be looked at
      again, and is then read again; others are left alone.
  """
  owner: Any = array
  while isinstance(owner, np.ndarray):
    start, owner = owner.ctypes.data, owner.base
  if not isinstance(owner, mmap.mmap):
    return
  first, last = byte_bounds(array)
  begin = -(-(first - start) // mmap.PAGESIZE) * mmap.PAGESIZE
  if last - start > begin and hasattr(mmap, 'MADV_DONTNEED'):
    owner.madvise(mmap.MADV_DONTNEED, begin, last - start - begin)
