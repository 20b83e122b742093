"""Archives of arrays, `.npz`, written and read without pickling."""

import contextlib
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from htjax.io.faults import Refused, check_size
from htjax.io.files import size_of
from htjax.io.unread import Unread

# Kinds of numbers that a .npy file holds without pickling.
_KINDS = 'biufc'
_HEADERS: dict[tuple[int, int], Callable] = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}
# Fixed fields of a member's own header, and most of what may follow its data.
_LOCAL, _DESCRIPTOR = 30, 24
# NumPy writes these as raw bytes, so that their dtype is kept in the comment.
_ADVICE = (
  ': np.savez writes float8 (and bfloat16) arrays as raw bytes without their '
  'dtype; save them as float32, or in a .safetensors file'
)
_NARROW = {
  name: np.dtype(getattr(ml_dtypes, name))
  for name in ('bfloat16', *(n for n in dir(ml_dtypes) if 'float8_' in n))
}


def write(
  path: Path, arrays: Mapping[str, np.ndarray], about: dict[str, str] | None
) -> None:
  """Write named arrays, and texts about them; objects are refused.

  bfloat16 and float8 arrays are raw bytes to other programs.
  """
  with zipfile.ZipFile(path, 'w') as archive:
    narrow = {}
    for name, array in arrays.items():
      if array.dtype.name in _NARROW:
        narrow[name] = array.dtype.name
        array = array.view(f'V{array.dtype.itemsize}')
      elif array.dtype.kind not in _KINDS:
        raise ValueError(
          f'{name} is {array.dtype.name}, which a .npz file cannot hold; write '
          'a .safetensors file'
        )
      member = zipfile.ZipInfo(f'{name}.npy')
      with archive.open(member, 'w', force_zip64=True) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)
    texts = (about or {}) | ({'dtypes': json.dumps(narrow)} if narrow else {})
    if texts:
      _put_about(archive, texts)


def read(
  path: Path, max_bytes: int | None
) -> tuple[dict[str, Unread], dict[str, str]]:
  """The arrays by name, and texts about them; nothing is executed.

  The archive stays open as long as one of them is there.
  """
  size = size_of(path)
  with contextlib.ExitStack() as stack:
    archive = stack.enter_context(zipfile.ZipFile(path))
    members = archive.infolist()
    about = _about(path, members)
    check_size(path, sum(m.file_size for m in members), size, max_bytes)
    _check_places(path, archive)
    dtypes = json.loads(about.pop('dtypes', '{}'))
    found: dict[str, Unread] = {}
    for member in members:
      name = member.filename.removesuffix('.npy')
      if name in found:
        raise Refused(f'{path} holds two arrays of the same name, {name}')
      found[name] = _unread(path, archive, member, dtypes.get(name))
    stack.pop_all()
  return found, about


def _put_about(archive: zipfile.ZipFile, texts: dict[str, str]) -> None:
  """Keep texts where NumPy does not look: in comments of the members."""
  data = json.dumps(texts).encode()
  data = f'{zlib.crc32(data):08x}'.encode() + data
  room = 2**16 - 1
  members = archive.infolist()
  if len(data) > room * len(members):
    raise ValueError(
      'names with dots, slashes or numbers take too much room for a .npz '
      'file; write a .safetensors file'
    )
  for i, member in enumerate(members):
    member.comment = data[i * room : (i + 1) * room]


def _about(path: Path, members: list[zipfile.ZipInfo]) -> dict[str, Any]:
  data = b''.join(m.comment for m in members)
  if not data:
    return {}
  if data[:8] != f'{zlib.crc32(data[8:]):08x}'.encode():
    raise Refused(f'{path} is damaged: the texts about its arrays')
  return json.loads(data[8:])


def _check_places(path: Path, archive: zipfile.ZipFile) -> None:
  """Refuse members that share bytes, and bytes that no member claims."""
  end = 0
  file: Any = archive.fp
  for member in sorted(archive.infolist(), key=lambda m: m.header_offset):
    gap = member.header_offset - end
    if not 0 <= gap <= _DESCRIPTOR:
      raise Refused(
        f'{path} is damaged: {member.filename} does not lie behind the others'
      )
    file.seek(member.header_offset)
    lengths = struct.unpack('<HH', file.read(_LOCAL)[-4:])
    end = member.header_offset + _LOCAL + sum(lengths) + member.compress_size
  if not 0 <= archive.start_dir - end <= _DESCRIPTOR:
    raise Refused(f'{path} is damaged: its directory lacks an array')


def _unread(
  path: Path,
  archive: zipfile.ZipFile,
  member: zipfile.ZipInfo,
  narrow: str | None,
) -> Unread:
  """One array, if its header says what the archive does about its size."""
  with archive.open(member) as file:
    shape, dtype = _header(path, member.filename, file)
    target = _target(path, member.filename, dtype, narrow)
    size = file.tell() + math.prod(shape) * dtype.itemsize
    if size != member.file_size or min(shape, default=0) < 0:
      raise Refused(
        f'{path} is damaged: {member.filename} has {member.file_size:,} bytes, '
        f'not {size:,}'
      )

  def read() -> np.ndarray:
    with archive.open(member) as file:
      array = np.lib.format.read_array(file, allow_pickle=False)
    if dtype.kind == 'V':
      return array.view(target)
    return array.astype(target, copy=False)

  return Unread(shape, target, read)


def _header(
  path: Path, name: str, file: Any
) -> tuple[tuple[int, ...], np.dtype]:
  version = np.lib.format.read_magic(file)
  try:
    shape, _, dtype = _HEADERS[version](file)
  except ValueError as error:
    if 'valid dtype' not in str(error):
      raise
    raise Refused(f'{path} holds {name}: {error}{_ADVICE}') from None
  return shape, dtype


def _target(
  path: Path, name: str, dtype: np.dtype, narrow: str | None
) -> np.dtype:
  """The dtype in which an array is given back."""
  if dtype.kind in _KINDS:
    return dtype.newbyteorder('=')
  holds = f'{path} holds {name} of dtype {dtype}'
  if dtype.kind == 'O':
    raise Refused(
      f'{holds}, which is not read: objects would have to be unpickled'
    )
  if dtype.kind != 'V' or dtype.names is not None:
    raise Refused(f'{holds}, which is not read: it has no numbers')
  # Of the floats that NumPy does not know, one has two bytes.
  known = _NARROW.get(narrow or ('bfloat16' if dtype.itemsize == 2 else ''))
  if known is None or known.itemsize != dtype.itemsize:
    raise Refused(f'{holds}{_ADVICE}')
  return known
