"""The theorems on heavy-tailed mean-field networks, measured.

Propagation of chaos, the error of the Euler scheme, tails and compressibility
of "Implicit Compressibility of Overparametrized Neural Networks Trained with
Heavy-Tailed SGD" (sections 3, 4 and appendices A to D): the measured rate, its
interval and the theorem's rate and constant side by side. Each study is made
of cells, one per tail index and kind of noise; a cell that is done is kept.

  python -m experiments.mean_field \
    --config=experiments/configs/mean_field.py:cpu --workdir=runs/mean_field
"""

from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from experiments import mean_field_reports, mean_field_studies, program
from htjax import records


def run(config: ConfigDict, workdir: str | Path) -> list[dict[str, Any]]:
  """Measure what is not measured yet and report; returns all rows."""
  cells = mean_field_studies.cells(config)
  problem = mean_field_studies.make_problem(config)
  with records.open_run(workdir, config.to_dict()) as output:
    rows = output.read_results()
    done = {row['cell'] for row in rows}
    left = [cell for cell in cells if cell.name not in done]
    bar = tqdm(left, desc='measuring', unit='cell')
    for cell in bar:
      bar.set_postfix_str(cell.name)
      rows += [{'cell': cell.name} | row for row in cell.measure(problem)]
      output.write_results(rows)
    order = {cell.name: i for i, cell in enumerate(cells)}
    rows.sort(key=lambda row: order[row['cell']])
    if jax.process_index() == 0:
      print(mean_field_reports.write(rows, Path(workdir)))
  return rows


if __name__ == '__main__':
  program.main(run)
