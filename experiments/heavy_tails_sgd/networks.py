"""Numbers that tables and figures read from the row of a trained network."""

from collections.abc import Iterable

import numpy as np

from experiments.common.frames import Row

# Name of each way of pruning, and the figure in which the paper shows it.
METHODS = {
  'magnitude': ('magnitude, layer by layer', 'F4'),
  'singular': ('singular values', 'F5'),
  'kernels': ('kernels', 'F6'),
  'global': ('magnitude, global', 'FS2'),
  'nodes': ('nodes', 'FS3'),
}


def admitted(rows: Iterable[Row], target_loss: float) -> list[Row]:
  """Networks that met the rule and whose average meets it too, as the paper."""
  return [
    row
    for row in rows
    if row['status'] == 'converged'
    and row.get('average_train_loss') is not None
    and row['average_train_loss'] < target_loss
  ]


def capped(row: Row) -> np.ndarray:
  """Tail index of each layer, at most 2, as the paper caps them."""
  return np.minimum(row['layer_alphas'], 2.0)


def model_alpha(row: Row) -> float:
  """Mean of the capped tail indices over layers."""
  return float(np.mean(capped(row)))


def survival(row: Row, method: str) -> np.ndarray:
  """Test accuracy after pruning over that before."""
  return np.asarray(row[f'{method}_accuracies']) / row['test_accuracy']


def survival_at(row: Row, method: str, share: float) -> float:
  """`survival` with this share of all parameters pruned, interpolated."""
  ratios = np.asarray(row[f'{method}_ratios'])
  return float(np.interp(share, ratios, survival(row, method)))
