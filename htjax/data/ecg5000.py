"""ECG5000 of the UCR archive as a TFDS data set, written without TensorFlow.

The raw files are text, one heartbeat a line: its class, 1 to 5, and 140
values. They are read line by line and checked before anything is written.
"""

import gzip
import io
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

URL = 'https://www.timeseriesclassification.com/aeon-toolkit/ECG5000.zip'

_LENGTH = 140
_NUM_CLASSES = 5
_NUM_ROWS = {'train': 500, 'test': 4500}
_SUFFIXES = ('.txt', '.txt.gz', '.tsv', '.tsv.gz', '.ts', '.ts.gz')
_MAX_LINE, _MAX_TEXT = 16_384, 2**26
# Header, comments and blank lines besides the rows.
_MAX_OTHERS = 10_000
_MAX_DOWNLOAD = 64 * 2**20
_TIMEOUT = 60.0
_MANUAL = (
  'ECG5000_TRAIN and ECG5000_TEST of the UCR archive, as .txt, .tsv or .ts, '
  f'plain or gzipped ({URL})'
)
_DESCRIPTION = """\
5,000 heartbeats of one patient with severe congestive heart failure, each \
interpolated to 140 values and standardised. Class 1 is normal."""
_CITATION = """\
@article{dau2019ucr,
  title = {The {UCR} time series archive},
  author = {Dau, Hoang Anh and Bagnall, Anthony and Kamgar, Kaveh and
    Yeh, Chin-Chia Michael and Zhu, Yan and Gharghabi, Shaghayegh and
    Ratanamahatana, Chotirat Ann and Keogh, Eamonn},
  journal = {IEEE/CAA Journal of Automatica Sinica},
  volume = {6}, number = {6}, pages = {1293--1305}, year = {2019},
}"""


class Ecg5000(tfds.core.GeneratorBasedBuilder):
  """Fields `series` [140], `label` 0 to 4, and `index`, the row in the file."""

  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = _MANUAL

  def _info(self) -> tfds.core.DatasetInfo:
    features = {
      'series': tfds.features.Tensor(shape=(_LENGTH,), dtype=np.float32),
      'label': tfds.features.ClassLabel(num_classes=_NUM_CLASSES),
      'index': tfds.features.Scalar(dtype=np.int32),
    }
    return tfds.core.DatasetInfo(
      builder=self,
      description=_DESCRIPTION,
      features=tfds.features.FeaturesDict(features),
      homepage='https://www.timeseriesclassification.com',
      citation=_CITATION,
    )

  def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
    # Both files are read here: a fault in either is met before any writing.
    raw = read_raw(Path(dl_manager.manual_dir))
    return {split: self._generate_examples(*raw[split]) for split in raw}

  def _generate_examples(
    self, series: np.ndarray, labels: np.ndarray
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, (x, label) in enumerate(zip(series, labels, strict=True)):
      yield index, {'series': x, 'label': int(label), 'index': index}


def read_raw(directory: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Read the two raw files in their own order.

  Args:
    directory: holds ECG5000_TRAIN and ECG5000_TEST with one of the suffixes
      .txt, .tsv or .ts, and perhaps .gz.

  Returns:
    For 'train' and 'test': series float32 [500 or 4500, 140] and labels, the
    class less one, int32.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: naming file and line, if a row does not have 141 finite
      numbers, a class is not 1 to 5, or the number of rows is wrong.
  """
  return {
    split: _read_file(_find_file(directory, split), num_rows)
    for split, num_rows in _NUM_ROWS.items()
  }


def download(directory: Path) -> None:
  """Put the archive's two text files into `directory`.

  Raises:
    OSError: if it cannot be downloaded.
    ValueError: if what comes is not the archive.
  """
  try:
    with urllib.request.urlopen(URL, timeout=_TIMEOUT) as response:
      content = response.read(_MAX_DOWNLOAD + 1)
  except OSError as error:
    reason = getattr(error, 'reason', error)
    raise OSError(
      f'cannot download {URL} ({reason}); give --manual_dir with {_MANUAL}'
    ) from error
  try:
    if len(content) > _MAX_DOWNLOAD:
      raise ValueError(f'larger than {_MAX_DOWNLOAD} bytes')
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
      for split in _NUM_ROWS:
        name = f'ECG5000_{split.upper()}.txt'
        with archive.open(name) as member:
          # What inflates without end is cut here, and fails as damaged text.
          text = member.read(_MAX_DOWNLOAD)
        (directory / name).write_bytes(text)
  except (ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(f'{URL} is not the ECG5000 archive: {error}') from error


def _find_file(directory: Path, split: str) -> Path:
  stem = f'ECG5000_{split.upper()}'
  for suffix in _SUFFIXES:
    if (path := directory / (stem + suffix)).is_file():
      return path
  raise FileNotFoundError(
    f'{directory} holds no {stem} with one of the suffixes '
    f'{", ".join(_SUFFIXES)}'
  )


def _read_file(path: Path, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
  series = np.empty((num_rows, _LENGTH), np.float32)
  labels = np.empty(num_rows, np.int32)
  row = 0
  try:
    for number, fields in _rows(path):
      where = f'{path}, line {number}'
      if row == num_rows:
        raise ValueError(f'{where}: expected {num_rows} rows, got more')
      labels[row], series[row] = _parse(fields, where)
      row += 1
  except (EOFError, OSError, zlib.error) as error:
    raise ValueError(f'{path} is damaged after row {row}: {error}') from error
  if row < num_rows:
    raise ValueError(f'{path}: expected {num_rows} rows, got {row}')
  return series, labels


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
  """Line numbers and fields of the rows of data, class first."""
  opener: Any = gzip.open if path.suffix == '.gz' else open
  others = length = 0
  with opener(path, 'rt', encoding='ascii', errors='replace') as file:
    number = 0
    while line := file.readline(_MAX_LINE + 1):
      number += 1
      if len(line) > _MAX_LINE:
        raise ValueError(
          f'{path}, line {number}: expected {_LENGTH + 1} numbers'
        )
      # A small compressed file may hold lines without end.
      length += len(line)
      if length > _MAX_TEXT:
        raise ValueError(f'{path} must hold at most {_MAX_TEXT:,} characters')
      if not line.strip() or line.startswith(('#', '@')):
        others += 1
        if others > _MAX_OTHERS:
          raise ValueError(
            f'{path} must have at most {_MAX_OTHERS:,} lines that are no rows'
          )
        continue
      # .ts files have the class last, after a colon.
      values, colon, label = line.rpartition(':')
      if colon:
        line = f'{label} {values}'
      yield number, line.replace(',', ' ').split()


def _parse(fields: list[str], where: str) -> tuple[int, np.ndarray]:
  if len(fields) != _LENGTH + 1:
    raise ValueError(
      f'{where}: expected {_LENGTH + 1} numbers, got {len(fields)}'
    )
  try:
    values = np.array([float(field) for field in fields])
  except ValueError as error:
    raise ValueError(f'{where}: {error}') from error
  # NaN fails the comparison; what float32 cannot hold is refused with it.
  if not np.all(np.abs(values) <= np.finfo(np.float32).max):
    raise ValueError(f'{where}: expected finite numbers, got NaN or infinity')
  label = values[0]
  if label not in range(1, _NUM_CLASSES + 1):
    raise ValueError(
      f'{where}: expected a class from 1 to {_NUM_CLASSES}, got {label:g}'
    )
  return int(label) - 1, values[1:].astype(np.float32)
