"""`load`: one call for every data set, with the papers' preprocessing."""

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from htjax.checks import check_choice, check_count, checked
from htjax.data import store
from htjax.data.structures import Dataset, Split
from htjax.data.synthetic import synthetic

_NUM_SERIES = {'train': 500, 'test': 4500}
_SERIES_LENGTH = 140
_NUM_ECG_CLASSES = 5
_DIGITS_TEST_PER_CLASS = 36


class Images(NamedTuple):
  """Shape, classes and constants of a data set of pictures."""

  shape: tuple[int, int, int]
  num_classes: int
  mean: tuple[float, ...]
  std: tuple[float, ...]

  def standardised(self, pixels: np.ndarray) -> np.ndarray:
    """Integers [.., height, width, channels] as float32 that networks see."""
    # In place: the CIFAR sets are 0.6 GB in float32.
    x = pixels.astype(np.float32)
    x /= 255.0
    x -= np.asarray(self.mean, np.float32)
    x /= np.asarray(self.std, np.float32)
    return x


IMAGES = {
  'mnist': Images((28, 28, 1), 10, (0.1307,), (0.3081,)),
  'cifar10': Images(
    (32, 32, 3), 10, (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)
  ),
  'cifar100': Images(
    (32, 32, 3), 100, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
  ),
  # The papers do not use it; per-channel statistics of its training set.
  'svhn_cropped': Images(
    (32, 32, 3), 10, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)
  ),
}

NAMES = ('digits', 'ecg5000', *IMAGES, 'synthetic')


@checked
def load(
  name: str, *, data_dir: str | os.PathLike | None = None, **options: Any
) -> Dataset:
  """Load a data set as numpy arrays.

  Nothing is downloaded and nothing random depends on the clock: the same call
  gives the same arrays in the same order.

  Args:
    name: one of `NAMES`.
    data_dir: TFDS directory that holds the prepared data; by default the
      directories in the environment variable TFDS_DATA_DIR (separated as in
      PATH, first match wins), else `~/tensorflow_datasets`. `digits` and
      `synthetic` do not look at it.
    **options: those of the data set, and no others.

      `digits` (1,797 images of 8 x 8, 10 classes; 1,437 / 360):
        seed: which 36 images of every class are the test set; default 0.
        flatten: as below. One mean and one standard deviation, those of all
          training pixels, are taken off.

      `ecg5000` (5,000 heartbeats of 140 values; 500 / 4,500):
        labels: 'binary' (default; normal, class 1 of the archive, is 0 and
          classes 2 to 5 are 1), or 'all' (classes 1 to 5 are 0 to 4).
        split: 'ucr' (default; the files' own split, in the files' order), or
          an integer seed: both files are joined, train first, and put in the
          order `numpy.random.default_rng(seed).permutation(5000)`, of which
          the first 500 train.
        variant: 'z_normalised' (default; the values as distributed, where
          every series has mean zero), 'bias' (the same and a 141st input that
          is always 1), or 'per_time' (every time step has mean 0 and standard
          deviation 1 over the training set, so that series no longer sum to
          zero; a step that never varies becomes 0).

      `mnist`, `cifar10`, `cifar100`, `svhn_cropped` (without its extra set):
        flatten: False (default) for inputs [n, height, width, channels], True
          for [n, height * width * channels]. Pixels are scaled to [0, 1];
          then each channel's constant mean is taken off and it is divided by
          its constant standard deviation. CIFAR examples are in the order of
          the original files, the others in the stored order of TFDS.

      `synthetic`: `seed` (default 0) and the options of `synthetic`.

  Returns:
    Dataset of float32 inputs and int32 labels.

  Raises:
    ValueError: for an unknown name, option or value, and for damaged files.
    FileNotFoundError: if the data set is not prepared; the text holds the
      command that prepares it.

  Source: preprocessing of [IC], Section 5 and its code.
  """
  check_choice('name', name, NAMES)
  loader = _LOADERS.get(name, _load_images)
  known = [
    option
    for option, parameter in inspect.signature(loader).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
  ]
  for option in options:
    if option not in known:
      raise ValueError(
        f'{option!r} is not an option of {name}, which takes {", ".join(known)}'
      )
  return loader(name, data_dir, **options)


def _load_digits(
  name: str, data_dir: Any, *, flatten: bool = False, seed: int = 0
) -> Dataset:
  del data_dir
  _check_flag('flatten', flatten)
  check_count('seed', seed, 0)
  pixels, labels = _digits()
  rng = np.random.default_rng(seed)
  test = np.zeros(len(labels), bool)
  for digit in range(10):
    ours = np.flatnonzero(labels == digit)
    test[rng.permutation(ours)[:_DIGITS_TEST_PER_CLASS]] = True
  pixels = (pixels - pixels[~test].mean()) / pixels[~test].std()
  if not flatten:
    pixels = pixels.reshape(-1, 8, 8, 1)
  return Dataset(
    name,
    _split(pixels[~test], labels[~test]),
    _split(pixels[test], labels[test]),
    10,
    'less the mean of all training pixels, over their standard deviation',
  )


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
  """(pixels, labels), which scikit-learn keeps as text: 0.3 s to read."""
  from sklearn.datasets import load_digits

  return load_digits(return_X_y=True)


def _load_ecg5000(
  name: str,
  data_dir: Any,
  *,
  labels: str = 'binary',
  split: str | int = 'ucr',
  variant: str = 'z_normalised',
) -> Dataset:
  check_choice('labels', labels, ('binary', 'all'))
  check_choice('variant', variant, tuple(_VARIANTS))
  if isinstance(split, str):
    check_choice('split', split, ('ucr',))
  else:
    check_count('split', split, 0)
  path = prepared(name, data_dir)
  stored = [_read_series(path, s) for s in _NUM_SERIES]
  x, y = (np.concatenate(parts) for parts in zip(*stored, strict=True))
  if not isinstance(split, str):
    order = np.random.default_rng(split).permutation(len(x))
    x, y = x[order], y[order]
  if labels == 'binary':
    y = y > 0
  prepare, preprocessing = _VARIANTS[variant]
  cut = _NUM_SERIES['train']
  train, test = prepare(x[:cut], x[cut:])
  return Dataset(
    name,
    _split(train, y[:cut]),
    _split(test, y[cut:]),
    2 if labels == 'binary' else _NUM_ECG_CLASSES,
    preprocessing,
  )


def _read_series(path: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
  fields = {'series': (_SERIES_LENGTH,), 'label': (), 'index': ()}
  stored = store.read(path, split, fields, order='index')
  if not np.array_equal(stored['index'], np.arange(_NUM_SERIES[split])):
    raise ValueError(
      f'{split} of {path} must hold {_NUM_SERIES[split]} series, numbered '
      f'from 0; it holds {len(stored["index"])}'
    )
  return stored['series'], stored['label']


def _as_distributed(train: np.ndarray, test: np.ndarray) -> Any:
  return train, test


def _with_bias(train: np.ndarray, test: np.ndarray) -> Any:
  return tuple(
    np.pad(x, ((0, 0), (0, 1)), constant_values=1.0) for x in (train, test)
  )


def _per_time(train: np.ndarray, test: np.ndarray) -> Any:
  mean = train.mean(axis=0, dtype=np.float64)[None, :]
  std = train.std(axis=0, dtype=np.float64)[None, :]
  std[std == 0.0] = 1.0
  return (train - mean) / std, (test - mean) / std


_VARIANTS: dict[str, tuple[Callable[[np.ndarray, np.ndarray], Any], str]] = {
  'z_normalised': (_as_distributed, 'as distributed: each series has mean 0'),
  'bias': (_with_bias, 'as distributed, and a 141st input that is always 1'),
  'per_time': (_per_time, 'each time step standardised over the training set'),
}


def _load_images(name: str, data_dir: Any, *, flatten: bool = False) -> Dataset:
  _check_flag('flatten', flatten)
  path = prepared(name, data_dir)
  images = IMAGES[name]
  fields = {'image': images.shape, 'label': ()}
  splits = []
  for split in ('train', 'test'):
    stored = store.read(path, split, fields, order='id')
    x = images.standardised(stored['image'])
    splits.append(
      _split(x.reshape(len(x), -1) if flatten else x, stored['label'])
    )
  return Dataset(
    name,
    splits[0],
    splits[1],
    images.num_classes,
    f'pixel / 255, less {images.mean}, over {images.std}',
  )


def _load_synthetic(
  name: str,
  data_dir: Any,
  *,
  seed: int = 0,
  num_train: int = 60_000,
  num_test: int = 10_000,
  dim: int = 784,
  num_classes: int = 10,
  width: int = 2048,
  hidden_layers: int = 6,
  teacher: str = 'uniform',
  alpha: float | None = None,
) -> Dataset:
  del name, data_dir
  check_count('seed', seed, 0)
  return synthetic(
    jax.random.key(seed),
    num_train=num_train,
    num_test=num_test,
    dim=dim,
    num_classes=num_classes,
    width=width,
    hidden_layers=hidden_layers,
    teacher=teacher,
    alpha=alpha,
  )


_LOADERS: dict[str, Callable[..., Dataset]] = {
  'digits': _load_digits,
  'ecg5000': _load_ecg5000,
  'synthetic': _load_synthetic,
}


def prepared(name: str, data_dir: Any) -> Any:
  """Directory of a data set, or an error that says how to prepare it."""
  path = store.find_prepared(name, data_dir)
  if path is None:
    raise FileNotFoundError(store.not_prepared(name, data_dir))
  return path


def _split(inputs: np.ndarray, labels: np.ndarray) -> Split:
  return Split(inputs.astype(np.float32), labels.astype(np.int32))


def _check_flag(name: str, value: Any) -> None:
  if not isinstance(value, bool):
    raise ValueError(f'{name} must be True or False, got {value!r}')
