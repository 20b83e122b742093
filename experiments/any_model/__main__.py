"""The table of the nine models.

  python -m experiments.any_model --workdir=DIR [--models=a,b] [--seeds=N]

Each model and seed is a line of `results.jsonl`; those that are there already
are not run again.
"""

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.any_model.life import live
from experiments.any_model.networks import NAMES
from htjax.io import tables


def main(argv: Sequence[str] | None = None) -> None:
  """Run what is missing and print the table."""
  parser = argparse.ArgumentParser(prog='python -m experiments.any_model')
  parser.add_argument('--workdir', type=pathlib.Path, required=True)
  parser.add_argument('--models', default=','.join(NAMES))
  parser.add_argument('--seeds', type=int, default=1)
  flags = parser.parse_args(argv)
  flags.workdir.mkdir(parents=True, exist_ok=True)
  path = flags.workdir / 'results.jsonl'
  rows = _read(path)
  for name in flags.models.split(','):
    for seed in range(flags.seeds):
      if not any((r['model'], r['seed']) == (name, seed) for r in rows):
        rows.append(_row(name, seed))
        with path.open('a') as file:
          file.write(json.dumps(rows[-1]) + '\n')
        print(json.dumps(rows[-1]), flush=True)
  print(table(rows))


def table(rows: Sequence[dict[str, Any]]) -> str:
  """A line for each model, accuracies in % and their spread over seeds."""
  names = [name for name in NAMES if any(r['model'] == name for r in rows)]
  lines = []
  for name in names:
    ours = [r for r in rows if r['model'] == name]
    line = [name, str(len(ours))]
    for stage in ('clean', 'noisy', 'pruned', 'fine_tuned'):
      shares = 100 * np.array([r[stage] for r in ours])
      spread = f' +- {shares.std(ddof=1):.1f}' if len(ours) > 1 else ''
      line.append(f'{shares.mean():.1f}{spread}')
    first = ours[0]
    for what in ('bytes', 'multiply_adds'):
      line.append(f'{first[what][0]:,} -> {first[what][1]:,}')
    times = np.median([r['milliseconds'] for r in ours], axis=0)
    line.append(f'{times[0]:.3g} -> {times[1]:.3g}')
    line.append(f'{max(r["difference"] for r in ours):.0e}')
    lines.append(line)
  headers = (
    *('model', 'seeds', 'clean', 'noisy', 'pruned', 'fine-tuned', 'bytes'),
    *('multiply-adds', 'ms a call', 'difference'),
  )
  return tables.table(headers, lines)


def _row(name: str, seed: int) -> dict[str, Any]:
  found = live(name, seed)
  small = found.compacted
  floats, products = found.by_hand
  if (small.bytes_after, small.multiply_adds_after) != (4 * floats, products):
    raise ValueError(
      f'{name}: {small.bytes_after} bytes and {small.multiply_adds_after} '
      f'multiply-adds are left, by hand {4 * floats} and {products}'
    )
  return {
    'model': name,
    'seed': seed,
    **found.accuracies,
    'bytes': [small.bytes_before, small.bytes_after],
    'multiply_adds': [small.multiply_adds_before, small.multiply_adds_after],
    'milliseconds': [1000 * s for s in found.seconds],
    'batch': found.batch,
    'difference': found.difference,
    'left': found.left,
  }


def _read(path: pathlib.Path) -> list[dict[str, Any]]:
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == '__main__':
  main()
