"""Bounds for networks pruned by magnitude, beside those they compare with.

Tables 1-3 and Figures 1-6 of "Generalization Bounds for Magnitude-Based Pruning
via Sparse Matrix Sketching": networks of five layers are trained with Adam;
on each, every bound is evaluated with the constants that it states, the
published number beside it. The default width is also pruned by Algorithm 1 and
followed from epoch to epoch. Apart from that, sparse matrices are recovered
from sketches of many sizes. A network (or p) that is done is kept.

  python -m experiments.sketching_bounds \
    --config=experiments/configs/sketching_bounds.py:cpu \
    --workdir=runs/sketching_bounds
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from experiments import (
  program,
  sketching_bounds_reports,
  sketching_bounds_studies,
)
from htjax import records


def run(config: ConfigDict, workdir: str | Path) -> list[dict[str, Any]]:
  """Measure what is not measured yet and report; returns all rows."""
  cells = sketching_bounds_studies.cells(config)
  with records.open_run(workdir, config.to_dict()) as output:
    rows = output.read_results()
    done = {row['cell'] for row in rows}
    bar = tqdm(
      [cell for cell in cells if cell.name not in done],
      desc='measuring',
      unit='cell',
    )
    for cell in bar:
      bar.set_postfix_str(cell.name)
      rows += [{'cell': cell.name} | row for row in cell.measure()]
      output.write_results(rows)
    order = {cell.name: i for i, cell in enumerate(cells)}
    rows.sort(key=lambda row: order[row['cell']])
    print(sketching_bounds_reports.write(rows, Path(workdir)))
  return rows


if __name__ == '__main__':
  program.main(run)
