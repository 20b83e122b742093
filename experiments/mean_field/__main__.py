"""The theorems on heavy-tailed mean-field networks, measured.

Propagation of chaos, the error of the Euler scheme, tails and compressibility
of "Implicit Compressibility of Overparametrized Neural Networks Trained with
Heavy-Tailed SGD" (sections 3, 4 and appendices A to D): the measured rate, its
interval and the theorem's rate and constant side by side. Each study is made
of cells, one per tail index and kind of noise; a cell that is done is kept.

  python -m experiments.mean_field \
    --config=experiments/mean_field/config.py:cpu --workdir=runs/mean_field
"""

from pathlib import Path

from ml_collections import ConfigDict

from experiments.common import program
from experiments.common.cells import Row, run_cells
from experiments.mean_field.cells import cells
from experiments.mean_field.report import report


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Measure what is not measured yet and report; returns all rows."""
  return run_cells(config, workdir, cells(config), report)


if __name__ == '__main__':
  program.main(run)
