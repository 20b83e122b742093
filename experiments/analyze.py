"""Tails and compressibility of anyone's weights, layer by layer.

  python -m experiments.analyze --weights=model.safetensors --workdir=runs/model

Reads a `.safetensors` or `.npz` file or an Orbax directory, and writes a table
(every tail index with its standard error, stable rank, pruning ratios), the
same as `results.json`, and a figure of the compression curves. Weights saved
from PyTorch, [out, in] and [out, in, h, w], need `--layout=torch`.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging

from htjax import (
  checkpoints,
  compressibility,
  plotting,
  records,
  tail_index,
)

Row = dict[str, Any]
# Kept fractions of the curves.
KAPPAS = tuple(np.geomspace(0.01, 1.0, 25).round(4).tolist())
_SHOWN = (
  *('layer', 'shape', 'protocol', 'mmo', 'mmo_se', 'mmo_p', 'hill', 'hill_se'),
  *('power_law', 'power_law_se', 'stable_mle', 'stable_mle_se', 'stable_ks'),
  *('stable_rank', 'rel_err_0.1', 'sq_mass_0.1', 'note'),
)


def load(path: str | Path, layout: str = 'jax') -> dict[str, Any]:
  """The matrices and kernels of a file, by name, units along the last axis.

  Args:
    path: as in `htjax.checkpoints.load_weights`.
    layout: 'jax' for [.., in, out]; 'torch' for [out, in, ..].

  Returns:
    A flat dictionary of arrays of rank 2 and more.

  Raises:
    ValueError: a damaged file, or one without such arrays.
    FileNotFoundError: no such file.
  """
  arrays = {
    name: array
    for name, array in checkpoints.load_weights(path, nested=False).items()
    if array.ndim >= 2 and jnp.issubdtype(array.dtype, jnp.floating)
  }
  if not arrays:
    raise ValueError(f'{path} holds no floating array of rank 2 or more')
  if layout == 'torch':
    arrays = {
      name: np.moveaxis(array, (1, 0), (-2, -1))
      for name, array in arrays.items()
    }
  return arrays


def analyse(params: dict[str, Any]) -> list[Row]:
  """`layer_table` with compression curves; a layer that is degenerate says so.

  Args:
    params: a flat dictionary of arrays of rank 2 and more.

  Returns:
    A row per array. 'error' has the relative l_2 errors of keeping the
    fractions `KAPPAS` of the entries less their median; null where the row's
    'note' says why.
  """
  rows = tail_index.layer_table(params, key=jax.random.key(0))
  return [
    row | {'error': _curve(leaf)}
    for row, leaf in zip(rows, jax.tree.leaves(params), strict=True)
  ]


def _curve(leaf: Any) -> list[float] | None:
  if not np.size(leaf) or not np.all(np.isfinite(leaf)):
    return None
  w = jnp.asarray(leaf, jnp.float32)
  errors = compressibility.compression_error(
    w - compressibility.median(w), jnp.asarray(KAPPAS)
  )
  return np.asarray(errors).round(6).tolist()


def table(rows: list[Row]) -> str:
  """What a reader looks at first; all of it is in results.json."""

  def cell(value: Any) -> str:
    return f'{value:.3g}' if isinstance(value, float) else str(value)

  return records.table(_SHOWN, [[cell(row[c]) for c in _SHOWN] for row in rows])


def curves(rows: list[Row]) -> Any:
  """Relative error against kept fraction, and the Gaussian limit."""
  from matplotlib import colormaps
  from matplotlib.figure import Figure

  drawn = [row for row in rows if row['error'] is not None]
  figure = Figure(figsize=(8, 5), layout='constrained')
  ax = figure.subplots()
  colours = colormaps['viridis'](np.linspace(0, 0.95, max(1, len(drawn))))
  for row, colour in zip(drawn, colours, strict=False):
    ax.plot(KAPPAS, row['error'], color=colour, lw=1, label=row['layer'])
  limit = compressibility.gaussian_limit(jnp.asarray(KAPPAS))
  ax.plot(KAPPAS, limit, 'k:', label='Gaussian')
  ax.set(xscale='log', xlabel='kept fraction', ylabel='relative l2 error')
  ax.set_ylim(0, 1)
  if len(drawn) <= 20:
    ax.legend(fontsize='x-small', frameon=False)
  return figure


def run(weights: str, workdir: str | Path, layout: str = 'jax') -> list[Row]:
  """Analyse a file and write what was found; returns the rows."""
  workdir = Path(workdir)
  about = {'weights': str(weights), 'layout': layout}
  params = load(weights, layout)
  with records.open_run(workdir, about) as output:
    rows = analyse(params)
    output.write_results(rows)
    text = table(rows)
    records.atomic_write(workdir / 'table.txt', text + '\n')
    plotting.save(curves(rows), workdir / 'compression.png')
  print(f'{text}\n\nwritten to {workdir}')
  return rows


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {" ".join(argv[1:])}')
  logging.set_verbosity(logging.WARNING)
  run(flags.FLAGS.weights, flags.FLAGS.workdir, flags.FLAGS.layout)


def _define_flags() -> None:
  """Not on import: the other programs have a --workdir, too."""
  flags.DEFINE_string('weights', None, 'The file to read.')
  flags.DEFINE_string('workdir', None, 'Where the results go.')
  flags.DEFINE_enum(
    *('layout', 'jax', ['jax', 'torch']),
    'Whether the last axis is a unit, or the first.',
  )
  flags.mark_flags_as_required(['weights', 'workdir'])


if __name__ == '__main__':
  _define_flags()
  app.run(main)
