"""Archives of arrays, `.npz`, written and read without pickling."""

import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from htjax.io.faults import Refused, check_size

# Kinds of numbers that a .npy file holds without pickling.
_KINDS = 'biufc'
_HEADERS: dict[tuple[int, int], Callable] = {
  (1, 0): np.lib.format.read_array_header_1_0,
  (2, 0): np.lib.format.read_array_header_2_0,
}


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Write named arrays; objects and unknown dtypes are refused."""
  with zipfile.ZipFile(path, 'w') as archive:
    for name, array in arrays.items():
      if array.dtype.kind not in _KINDS:
        raise ValueError(
          f'{name} is {array.dtype.name}, which a .npz file cannot hold; write '
          'a .safetensors file'
        )
      member = zipfile.ZipInfo(f'{name}.npy')
      with archive.open(member, 'w', force_zip64=True) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def read(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
  """Read named arrays, at most `max_bytes` of them, executing nothing."""
  with zipfile.ZipFile(path) as archive:
    members = archive.infolist()
    check_size(path, sum(m.file_size for m in members), max_bytes)
    arrays = {m.filename: _read_npy(path, archive, m) for m in members}
  if len(arrays) < len(members):
    raise Refused(f'{path} holds two arrays of the same name')
  return {name.removesuffix('.npy'): array for name, array in arrays.items()}


def _read_npy(
  path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> np.ndarray:
  """One array, if its header says what the archive does about its size."""
  with archive.open(member) as file:
    version = np.lib.format.read_magic(file)
    shape, _, dtype = _HEADERS[version](file)
    if dtype.kind not in _KINDS:
      raise Refused(
        f'{path} holds {member.filename} of dtype {dtype}, which is not read: '
        'objects would have to be unpickled'
      )
    size = file.tell() + math.prod(shape) * dtype.itemsize
    if size != member.file_size or min(shape, default=0) < 0:
      raise Refused(
        f'{path} is damaged: {member.filename} has {member.file_size:,} bytes, '
        f'not {size:,}'
      )
  with archive.open(member) as file:
    array = np.lib.format.read_array(file, allow_pickle=False)
  return array.astype(dtype.newbyteorder('='), copy=False)
