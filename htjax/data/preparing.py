"""Writing data sets to disk, in the format that `load` reads."""

import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Any

from htjax.checks import check_choice, checked
from htjax.data import store

PREPARABLE = ('ecg5000', 'mnist', 'cifar10', 'cifar100', 'svhn_cropped')


@checked
def prepare(
  name: str,
  data_dir: str | os.PathLike,
  manual_dir: str | os.PathLike | None = None,
) -> Path:
  """Write a TFDS data set as array_record files, unless it is there already.

  TFDS writes to a directory of another name and renames it when it is whole,
  so that a run that is killed leaves nothing that `load` would read.

  Args:
    name: one of `PREPARABLE`. All but 'ecg5000' need TensorFlow for this.
    data_dir: TFDS directory to write under.
    manual_dir: directory of raw files, used instead of a download.

  Returns:
    The prepared directory, `data_dir/name/VERSION`.

  Raises:
    ValueError: for an unknown name or damaged raw files.
    FileNotFoundError: if `manual_dir` does not hold the raw files.
    ModuleNotFoundError: if TensorFlow is needed and missing.
    OSError: if a download or a write fails.
  """
  check_choice('name', name, PREPARABLE)
  if manual_dir is not None and not Path(manual_dir).is_dir():
    raise FileNotFoundError(f'manual_dir {manual_dir} is not a directory')
  data_dir = Path(data_dir).expanduser()
  if (path := store.find_prepared(name, data_dir)) is not None:
    return path
  try:
    if name == 'ecg5000':
      _prepare_ecg5000(data_dir, manual_dir)
    else:
      _prepare_stock(name, data_dir, manual_dir)
  except OSError:
    # Another process may have finished first; its directory is as good.
    if store.find_prepared(name, data_dir) is None:
      raise
  path = store.find_prepared(name, data_dir)
  if path is None:
    raise OSError(
      f'{data_dir / name} holds a damaged version of {name}: remove it first'
    )
  return path


def _prepare_ecg5000(
  data_dir: Path, manual_dir: str | os.PathLike | None
) -> None:
  from htjax.data import ecg5000

  with tempfile.TemporaryDirectory() as scratch:
    if manual_dir is None:
      manual_dir = scratch
      ecg5000.download(Path(scratch))
    builder = ecg5000.Ecg5000(data_dir=os.fspath(data_dir))
    _run(builder, manual_dir, download_dir=Path(scratch) / 'downloads')


def _prepare_stock(
  name: str, data_dir: Path, manual_dir: str | os.PathLike | None
) -> None:
  if importlib.util.find_spec('tensorflow') is None:
    raise ModuleNotFoundError(
      f'preparing {name} needs TensorFlow (reading it does not): '
      "pip install 'htjax[prepare]'"
    )
  import tensorflow_datasets as tfds

  _run(tfds.builder(name, data_dir=os.fspath(data_dir)), manual_dir)


def _run(
  builder: Any,
  manual_dir: str | os.PathLike | None,
  download_dir: Path | None = None,
) -> None:
  import tensorflow_datasets as tfds

  builder.download_and_prepare(
    download_dir=download_dir,
    download_config=tfds.download.DownloadConfig(manual_dir=manual_dir),
    file_format='array_record',
  )
