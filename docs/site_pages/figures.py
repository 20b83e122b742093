"""Figures of the results, drawn anew from the rows of runs that are kept.

`docs/results/STUDY/PRESET.json` holds the rows of one run, as `results.json` of
the run has them; the study's own report draws them. To add a run:
`cp runs/NAME/results.json docs/results/STUDY/PRESET.json`.
"""

import functools
import hashlib
import importlib
import io
import json
import os
import pathlib
import pickle
import sys
from importlib import metadata

from htjax import compiled

ROOT = pathlib.Path(__file__).parents[2]
# Of all figures that are kept: about forty times what one site has.
MAX_BYTES = 2**27


def kept(study: str) -> list[pathlib.Path]:
  """Files of the runs of a study that are kept."""
  return sorted((ROOT / 'docs' / 'results' / study).glob('*.json'))


def section(study: str) -> str:
  """Markdown of the figures of a study; empty if no kept run has any."""
  parts = []
  for run in kept(study):
    pictures = draw(run)
    if not pictures:
      continue
    rows = run.relative_to(ROOT)
    parts += [
      f'## Figures of the preset `{run.stem}`',
      f'Drawn from the rows in `{rows}`, by the report of the study.'
      + (' A run of seconds, to show the figures.' * ('smoke' in run.stem)),
    ]
    parts += [
      f'![{name.replace("_", " ")}]({study}/{run.stem}/{name}.png)'
      for name in pictures
    ]
  return '\n\n'.join(['', *parts, '']) if parts else ''


def images(study: str) -> dict[str, bytes]:
  """The figures of a study as PNG, by their places in the site."""
  return {
    f'results/{study}/{run.stem}/{name}.png': png
    for run in kept(study)
    for name, png in draw(run).items()
  }


@functools.cache
def draw(run: pathlib.Path) -> dict[str, bytes]:
  """The figures of one run as PNG, by name, in their order.

  Those drawn before are in the user's cache folder; they are taken from there
  while the rows, the code that draws and its packages stay what they were.
  """
  folder = compiled.folder().with_name('figures')
  place = folder / f'{_inputs(run)}.pickle'
  if place.exists():
    return pickle.loads(place.read_bytes())
  pictures = _drawn(run)
  folder.mkdir(parents=True, exist_ok=True)
  compiled.trim(folder, MAX_BYTES)
  half = place.with_suffix(f'.{os.getpid()}')
  half.write_bytes(pickle.dumps(pictures))
  half.replace(place)
  return pictures


def _inputs(run: pathlib.Path) -> str:
  """A number for all that decides what the figures of a run look like."""
  found = hashlib.sha256(str(run.relative_to(ROOT)).encode())
  found.update(run.read_bytes())
  code = ('htjax', 'experiments/common', f'experiments/{run.parent.name}')
  for path in sorted(p for c in code for p in (ROOT / c).rglob('*.py')):
    found.update(path.read_bytes())
  found.update((ROOT / 'experiments' / 'published.json').read_bytes())
  found.update(pathlib.Path(__file__).read_bytes())
  for package in ('jax', 'matplotlib', 'numpy', 'scipy'):
    found.update(metadata.version(package).encode())
  return found.hexdigest()


def _drawn(run: pathlib.Path) -> dict[str, bytes]:
  from matplotlib import pyplot

  # The studies are run from the root, and not installed. Said here, because
  # the path as hooks are loaded is not the path as they are called.
  if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
  study = f'experiments.{run.parent.name}'
  config = importlib.import_module(f'{study}.config').get_config(run.stem)
  report = importlib.import_module(f'{study}.report').report
  drawn = report(config, json.loads(run.read_text())).figures
  pictures = {name: _png(figure) for name, figure in drawn.items()}
  pyplot.close('all')
  return pictures


def _png(figure) -> bytes:
  buffer = io.BytesIO()
  figure.savefig(buffer, format='png', dpi=100)
  return buffer.getvalue()
