"""Finding and reading prepared TFDS directories, without TensorFlow."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from htjax.checks import checked

_ENVIRONMENT = 'TFDS_DATA_DIR'
_DEFAULT = '~/tensorflow_datasets'
_VERSION = re.compile(r'(\d+)\.(\d+)\.(\d+)')
# TFDS renames a directory into place only after both have been written.
_METADATA = ('dataset_info.json', 'features.json')
_DTYPES: dict[str, Any] = {
  'series': np.float32,
  'image': np.uint8,
  'label': np.integer,
  'index': np.integer,
}
_BATCH = 1000


def data_dirs(data_dir: str | os.PathLike | None = None) -> list[Path]:
  """Directories to search: the argument, else TFDS_DATA_DIR, else TFDS's own.

  TFDS_DATA_DIR may hold several, separated as in PATH, so that data prepared
  here can stand beside a read-only collection.
  """
  if data_dir is not None:
    named = [os.fspath(data_dir)]
  else:
    named = os.environ.get(_ENVIRONMENT, '').split(os.pathsep)
  found = [Path(d).expanduser() for d in named if d]
  return found or [Path(_DEFAULT).expanduser()]


@checked
def find_prepared(
  name: str, data_dir: str | os.PathLike | None = None
) -> Path | None:
  """Directory of the newest prepared version of a TFDS data set.

  Args:
    name: TFDS name, such as 'ecg5000' or 'mnist'.
    data_dir: where to look; by default every directory in TFDS_DATA_DIR, in
      order, else `~/tensorflow_datasets`.

  Returns:
    `DIR/name/VERSION` of the first directory that holds a finished version,
    or None.
  """
  if not isinstance(name, str):
    raise ValueError(f'name must be a text, got {name!r}')
  for directory in data_dirs(data_dir):
    finished = [
      (tuple(map(int, match.groups())), path)
      for path in (directory / name).glob('*')
      if (match := _VERSION.fullmatch(path.name))
      and all((path / file).is_file() for file in _METADATA)
    ]
    if finished:
      return max(finished)[1]
  return None


def not_prepared(name: str, data_dir: str | os.PathLike | None) -> str:
  """Message for a user whose data set is not prepared."""
  searched = data_dirs(data_dir)
  target = next((d for d in searched if _can_write(d)), None)
  text = (
    f'{name} is not prepared in {", ".join(map(str, searched))}; prepare it '
    f'with: python -m htjax.data prepare {name} --data_dir={target or "DIR"}'
  )
  if name == 'ecg5000':
    text += ' [--manual_dir=RAW]'
  if target is None:
    text += (
      f' (a DIR that can be written: pass it to load, or to {_ENVIRONMENT})'
    )
  return text


def _can_write(directory: Path) -> bool:
  while not directory.exists():
    directory = directory.parent
  return os.access(directory, os.W_OK)


def read(
  path: Path,
  split: str,
  fields: Mapping[str, tuple[int, ...]],
  order: str | None = None,
) -> dict[str, np.ndarray]:
  """Read one split of a prepared data set into stacked arrays.

  Args:
    path: a directory from `find_prepared`.
    split: 'train' or 'test'.
    fields: the shape of every field that is wanted; checked, as its dtype,
      against the stored description before anything is allocated.
    order: field by which the examples are sorted if they have it; without it
      they stay in stored order.

  Returns:
    An array of shape [num_examples, *shape] and stored dtype for each field.

  Raises:
    ValueError: naming the directory, if it is damaged, is another data set
      or was written in a format that needs TensorFlow.
  """
  # Imported here: half a second, and only these data sets need it.
  import tensorflow_datasets as tfds

  keys: list[Any] = []
  with as_damage(path, split):
    builder = _opened(tfds, path, fields)
    features = builder.info.features
    source = builder.as_data_source(
      split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    arrays = {
      field: np.empty((len(source), *shape), features[field].np_dtype)
      for field, shape in fields.items()
    }
    _fill(source, features, arrays, order if order in features else None, keys)
  if keys:
    ranks = np.argsort(np.asarray(keys), kind='stable')
    arrays = {field: array[ranks] for field, array in arrays.items()}
  return arrays


def records_of(
  path: Path, split: str, fields: Mapping[str, tuple[int, ...]]
) -> Any:
  """Records of a split by number, each read when it is asked for.

  Arguments and errors are those of `read`.

  Returns:
    A sequence of dictionaries of field -> array, in stored order.
  """
  import tensorflow_datasets as tfds

  with as_damage(path, split):
    return _opened(tfds, path, fields).as_data_source(split)


@contextlib.contextmanager
def as_damage(path: Path, split: str) -> Iterator[None]:
  """Whatever goes wrong with files, as one line with the directory."""
  try:
    yield
  except NotImplementedError as error:
    raise ValueError(
      f'{path} is not stored as array_record, the format that can be read '
      'without TensorFlow; prepare it again under another data_dir'
    ) from error
  except (ImportError, MemoryError):
    raise
  # A damaged record surfaces as whatever the decoder that met it raises.
  except Exception as error:
    raise ValueError(
      f'cannot read {split} of {path}: {_line(error)}'
    ) from error


def _opened(tfds: Any, path: Path, fields: Any) -> Any:
  builder = tfds.builder_from_directory(os.fspath(path))
  _check_features(builder.info.features, fields)
  return builder


def _check_features(
  features: Any, fields: Mapping[str, tuple[int, ...]]
) -> None:
  for field, shape in fields.items():
    if field not in features or features[field].shape != shape:
      raise ValueError(f'expected a field {field!r} of shape {shape}')
    dtype = features[field].np_dtype
    # Records are decoded as the description says, whatever they hold.
    if not np.issubdtype(dtype, _DTYPES[field]):
      raise ValueError(
        f'expected a field {field!r} of dtype {_DTYPES[field].__name__}, got '
        f'{np.dtype(dtype).name}'
      )


def _fill(
  source: Any,
  features: Any,
  arrays: dict[str, np.ndarray],
  order: str | None,
  keys: list[Any],
) -> None:
  """Fill `arrays` (and `keys`, from the field `order`) from raw records.

  Numbers are taken as they are stored: TFDS decodes five times as long.
  """
  from tensorflow_datasets.proto import tf_example_pb2

  for start in range(0, len(source), _BATCH):
    stop = min(start + _BATCH, len(source))
    records = source.__getitems__(range(start, stop))
    for i, record in enumerate(records, start):
      stored = tf_example_pb2.Example.FromString(record).features.feature
      for field, array in arrays.items():
        value = _value(stored, field, features)
        array[i] = np.reshape(value, array.shape[1:])
      if order is not None:
        keys.append(_value(stored, order, features))


def _value(stored: Any, field: str, features: Any) -> Any:
  """A field of a record, flat where it holds several numbers."""
  kind = stored[field].WhichOneof('kind')
  if kind is None:
    raise ValueError(f'a record has no field {field!r}')
  values = getattr(stored[field], kind).value
  if kind == 'bytes_list':
    return features[field].decode_example_np(values[0])
  if len(values) == 1:
    return values[0]
  return np.array(values, features[field].np_dtype)


def _line(error: Exception) -> str:
  return (str(error).strip().splitlines() or [type(error).__name__])[0]
