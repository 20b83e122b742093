"""Batches of a data set that need not fit in memory, through grain."""

import os
from typing import Any

import jax
import numpy as np

from htjax.checks import check_choice, check_count, check_flag, checked
from htjax.data import store
from htjax.data.loading import IMAGES, prepared
from htjax.data.structures import Split

# Threads that read files, and batches that they read ahead; grain's own 500
# batches would be most of a data set.
_THREADS = 8
_AHEAD = 8
_HOW = (
  'batches are made by grain, which is not installed: '
  "pip install 'htjax[streams]'"
)


@checked
def batches(
  source: str | Split,
  batch_size: int,
  *,
  split: str = 'train',
  seed: int | None = 0,
  num_epochs: int | None = None,
  flatten: bool = False,
  drop_last: bool = True,
  data_dir: str | os.PathLike | None = None,
) -> Any:
  """Batches of a data set, read and prepared as they are asked for.

  Of several hosts each gets its own examples: together they make a batch of
  `batch_size`, the same on any number of hosts but for the order inside it.

  Args:
    source: name of a set of pictures whose files TFDS has prepared, 'mnist',
      'cifar10', 'cifar100' or 'svhn_cropped', examples in stored order; or a
      `Split` in memory.
    batch_size: examples of a batch, of all hosts together; a multiple of
      their number.
    split: 'train' or 'test' of a name.
    seed: of the order, which is another in each epoch, the same on all
      hosts; None leaves the order as it is.
    num_epochs: passes over the examples; None goes on for ever.
    flatten: of a name, whether inputs are [b, height * width * channels].
    drop_last: whether the last, partial batch of all is left out.
    data_dir: TFDS directory of the prepared files; None looks where `load`
      does.

  Returns:
    grain's iterator over (inputs [b, ..] float32, labels [b] int32), prepared
    as `load` does. `get_state` and `set_state` say and set where it is.

  Raises:
    ImportError: grain is not installed.
    ValueError: another name, split or number, a batch_size that is no multiple
      of the hosts, and damaged files.
    FileNotFoundError: the data set is not prepared.

  Examples:
    >>> import numpy as np
    >>> from htjax import data
    >>> split = data.Split(np.ones((6, 2), np.float32), np.arange(6))
    >>> [y.tolist() for _, y in data.batches(split, 3, seed=None, num_epochs=1)]
    [[0, 1, 2], [3, 4, 5]]
  """
  try:
    import grain
  except ImportError:
    raise ImportError(_HOW) from None
  check_count('batch_size', batch_size)
  hosts, host = jax.process_count(), jax.process_index()
  if batch_size % hosts:
    raise ValueError(
      f'batch_size must be a multiple of the {hosts} hosts, got {batch_size}'
    )
  if seed is not None:
    check_count('seed', seed, 0)
  if num_epochs is not None:
    check_count('num_epochs', num_epochs)
  check_flag('flatten', flatten)
  if isinstance(source, Split):
    examples: Any = _InMemory(source)
  else:
    examples = _Pictures(source, split, flatten, data_dir)
  dataset = grain.MapDataset.source(examples)
  if seed is not None:
    dataset = dataset.shuffle(seed=seed)
  dataset = dataset[host::hosts].repeat(num_epochs)
  dataset = dataset.batch(batch_size // hosts, drop_remainder=drop_last)
  in_memory = isinstance(source, Split)
  options = grain.ReadOptions(
    num_threads=0 if in_memory else _THREADS, prefetch_buffer_size=_AHEAD
  )
  return iter(dataset.to_iter_dataset(options))


class _InMemory:
  """Examples of a split by number."""

  def __init__(self, split: Split):
    self._split = split

  def __len__(self) -> int:
    return len(self._split.labels)

  def __getitem__(self, index: Any) -> tuple[Any, Any]:
    return self._split.inputs[index], self._split.labels[index]


class _Pictures:
  """Pictures by number, each read and prepared when it is asked for."""

  def __init__(self, name: str, split: str, flatten: bool, data_dir: Any):
    check_choice('source', name, tuple(IMAGES))
    check_choice('split', split, ('train', 'test'))
    self._images, self._flatten = IMAGES[name], flatten
    self._place = prepared(name, data_dir), split
    fields = {'image': self._images.shape, 'label': ()}
    self._records = store.records_of(*self._place, fields)

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: Any) -> tuple[Any, Any]:
    with store.as_damage(*self._place):
      record = self._records[int(index)]
    x = self._images.standardised(record['image'])
    return x.reshape(-1) if self._flatten else x, np.int32(record['label'])
