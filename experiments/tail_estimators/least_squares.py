"""The tail that SGD gives itself on least squares: theory beside a chain."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments.common.cells import Cell, Row, cell
from experiments.common.frames import Column, columns, table
from htjax import tail_index, training


def cells(config: ConfigDict) -> Iterator[Cell]:
  """A cell for each (dim, batch size, step size)."""
  for dim, batch_size, step_size in config.least_squares.settings:
    name = f'd {dim}, b {batch_size}, eta {step_size:g}'
    own = config, name, dim, batch_size, step_size
    yield cell(name, _measure, *own, study='least_squares')


def _measure(
  config: ConfigDict, name: str, dim: int, batch_size: int, step_size: float
) -> Row:
  theory_key, chain_key = jax.random.split(training.named_key(0, name))
  setting: Row = {'step_size': step_size, 'batch_size': batch_size, 'dim': dim}
  theory = tail_index.least_squares_index(theory_key, **setting)
  own = config.least_squares
  iterates = tail_index.least_squares_chain(
    chain_key, **setting, num_chains=own.chains, num_steps=own.steps
  )
  found = tail_index.hill(jnp.linalg.norm(iterates, axis=-1), own.top)
  gap = found.alpha - theory.alpha
  error = jnp.hypot(found.standard_error, theory.standard_error)
  return setting | {
    'theory': float(theory.alpha),
    'theory_error': float(theory.standard_error),
    'measured': float(found.alpha),
    'measured_error': float(found.standard_error),
    'standard_errors': float(gap / error),
    'holds': bool(abs(gap) <= 1.96 * error),
  }


def report(rows: list[Row]) -> str:
  """Theory and measurement side by side."""
  title = 'SGD on least squares: the index of theory, and that of its iterates'
  shown = [
    *columns('d=dim; b=batch_size; eta=step_size:g'),
    Column('E |M u|^alpha = 1', lambda row: _interval(row, 'theory')),
    Column('Hill of the chains', lambda row: _interval(row, 'measured')),
    *columns('apart, in standard errors=standard_errors:.2f'),
    *columns('within 1.96=holds:yes'),
  ]
  return table(title, shown, rows)


def _interval(row: Row, name: str) -> str:
  return f'{row[name]:.3f}+-{row[name + "_error"]:.3f}'
