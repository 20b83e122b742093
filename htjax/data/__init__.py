"""Data sets of the papers as plain numpy arrays.

`load(name)` gives a `Dataset` of float32 inputs and int32 labels. `digits` and
`synthetic` need no files. `ecg5000`, `mnist`, `cifar10`, `cifar100` and
`svhn_cropped` are read through TensorFlow Datasets from `array_record` files,
without TensorFlow, once `htjax data prepare NAME --data_dir=DIR` has
written them. `pixels` gives back the integers of standardised pictures,
of which `edge_features` makes features that know no data; `shifted` moves
pictures at random. `batches` streams what need not fit in memory, for
`training.train_batches`.
"""

from htjax.data.edges import edge_features
from htjax.data.loading import NAMES, load
from htjax.data.pictures import pixels, shifted
from htjax.data.preparing import prepare
from htjax.data.store import find_prepared
from htjax.data.streaming import batches
from htjax.data.structures import Dataset, Split
from htjax.data.synthetic import synthetic

__all__ = [
  'NAMES',
  'Dataset',
  'Split',
  'batches',
  'edge_features',
  'find_prepared',
  'load',
  'pixels',
  'prepare',
  'shifted',
  'synthetic',
]
