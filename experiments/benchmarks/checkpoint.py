"""A large checkpoint, made and sent through `htjax analyze`.

  python -m experiments.benchmarks.checkpoint make FOLDER [--layers=48]
  /usr/bin/time -v htjax analyze FOLDER --workdir=DIR
  python -m experiments.benchmarks.checkpoint tree [--layers=12 --width=768]

`make` writes GPT-2 XL's shapes, 1.5 10^9 weights in bfloat16, as six files of
`.safetensors` with an index: 3.1 GB. Each weight is Student's t of 4 degrees of
freedom. `tree` times `layer_table` of such shapes in float32, in memory.
"""

import argparse
import json
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

_WORDS, _PLACES, _FILES = 50257, 1024, 6


def shapes(layers: int, width: int) -> dict[str, tuple[int, ...]]:
  """Names and shapes of the arrays of GPT-2, [inputs, outputs]."""
  found: dict[str, tuple[int, ...]] = {
    'wte.weight': (_WORDS, width),
    'wpe.weight': (_PLACES, width),
  }
  for i in range(layers):
    for name, factors in (
      ('attn.c_attn', (1, 3)),
      ('attn.c_proj', (1, 1)),
      ('mlp.c_fc', (1, 4)),
      ('mlp.c_proj', (4, 1)),
    ):
      shape = tuple(factor * width for factor in factors)
      found[f'h.{i}.{name}.weight'] = shape
      found[f'h.{i}.{name}.bias'] = shape[1:]
    for norm in ('ln_1', 'ln_2'):
      found[f'h.{i}.{norm}.weight'] = (width,)
  return found


def arrays(
  layers: int, width: int, dtype: Any
) -> Iterator[tuple[str, np.ndarray]]:
  """The arrays one by one."""
  generator = np.random.default_rng(0)
  for name, shape in shapes(layers, width).items():
    numbers = generator.standard_normal(shape, np.float32)
    numbers /= np.sqrt(generator.standard_gamma(2.0, shape, np.float32) / 2)
    yield name, (0.02 * numbers).astype(dtype)


def make(folder: Path, layers: int, width: int) -> None:
  """Write the shards and their index."""
  from safetensors.numpy import save_file

  folder.mkdir(parents=True)
  sizes = [np.prod(shape) for shape in shapes(layers, width).values()]
  share, total = sum(sizes) / _FILES, 0.0
  places: dict[str, str] = {}
  shard: dict[str, np.ndarray] = {}
  number = 1

  def write() -> None:
    file = f'model-{number:05}-of-{_FILES:05}.safetensors'
    save_file(shard, folder / file)
    places.update(dict.fromkeys(shard, file))
    shard.clear()

  for name, array in arrays(layers, width, ml_dtypes.bfloat16):
    if total >= number * share:
      write()
      number += 1
    shard[name] = array
    total += array.size
  write()
  index = {'metadata': {'total_size': int(2 * total)}, 'weight_map': places}
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))


def tree(layers: int, width: int) -> None:
  """Cost of `layer_table` of all matrices, imports and compilation included."""
  made = arrays(layers, width, np.float32)
  params = {name: array for name, array in made if array.ndim > 1}
  before = _seconds()
  import jax

  from htjax import tail_index

  rows = tail_index.layer_table(params, key=jax.random.key(0))
  weights = sum(array.size for array in params.values())
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(
    f'{weights:.3g} weights, {len(rows)} rows: {_seconds() - before:.1f} CPU '
    f's, {peak:.2f} GiB at the peak, of which the weights are '
    f'{4 * weights / 2**30:.2f}'
  )


def _seconds() -> float:
  usage = resource.getrusage(resource.RUSAGE_SELF)
  return usage.ru_utime + usage.ru_stime


def main(argv: Sequence[str] | None = None) -> None:
  """Run one of the two."""
  parser = argparse.ArgumentParser(description=__doc__)
  commands = parser.add_subparsers(dest='command', required=True)
  maker = commands.add_parser('make')
  maker.add_argument('folder', type=Path)
  timer = commands.add_parser('tree')
  for command, layers, width in ((maker, 48, 1600), (timer, 12, 768)):
    command.add_argument('--layers', type=int, default=layers)
    command.add_argument('--width', type=int, default=width)
  given = parser.parse_args(argv)
  if given.command == 'make':
    make(given.folder, given.layers, given.width)
  else:
    tree(given.layers, given.width)


if __name__ == '__main__':
  main()
