"""The tables and figures, from the rows."""

from ml_collections import ConfigDict

from experiments.common.cells import Report
from experiments.common.frames import Row, where
from experiments.sketching_bounds import figures
from experiments.sketching_bounds.tables import tables

_FIGURES = {
  'methods': ('bounds', figures.methods_figure),
  'width': ('bounds', figures.width_figure),
  'epochs': ('trace', figures.epochs_figure),
  'weights': ('weights', figures.weights_figure),
  'pruning_error': ('strengths', figures.error_figure),
  'sparsity': ('strengths', figures.sparsity_figure),
  'recovery': ('recovery', figures.recovery_figure),
}


def report(config: ConfigDict, rows: list[Row]) -> Report:
  """All tables, and the figures of the studies that have rows."""
  del config
  drawn = {
    name: draw(own)
    for name, (study, draw) in _FIGURES.items()
    if (own := where(rows, study=study))
  }
  return Report(tables(rows), drawn)
