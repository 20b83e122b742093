"""The run of a study: its cells (`htjax.io.cells`), and its report."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from experiments.common.figures import Figure
from htjax import plotting, training
from htjax.io import files, records
from htjax.io.cells import Cell, Measure, Row, cell, collect, measure

__all__ = ['Cell', 'Report', 'Row', 'cell', 'publish', 'run_cells']


class Report(NamedTuple):
  """Tables, empty ones left out, and figures by the names of their files."""

  tables: Sequence[str]
  figures: Mapping[str, Figure]


def run_cells(
  config: ConfigDict,
  workdir: str | Path,
  cells: Iterable[Cell],
  report: Callable[[ConfigDict, list[Row]], Report],
) -> list[Row]:
  """Measure the cells that are missing, and report; returns all rows.

  Raises:
    ValueError: `workdir` holds the run of another config, or rows that belong
      to none of the cells.
  """
  with records.open_run(workdir, config.to_dict()) as run:
    rows = measure(run, cells)
    publish(report(config, rows), Path(workdir))
  return rows


def train_lanes(
  run: records.Run,
  program: Any,
  lanes: Sequence[training.Lane],
  examples: training.Examples,
  measure: Callable[[training.Finished], Row],
  config: ConfigDict,
  title: str = 'training',
) -> list[Row]:
  """Train the lanes that are missing; each is a cell, named by its number.

  `measure` makes the row of a trained lane. The config has `at_once`, where 0
  chooses by backend, and `checkpoint_every`.
  """

  def missing(done: frozenset[int]) -> Iterator[tuple[int, Measure]]:
    finished = training.train(
      program,
      lanes,
      examples,
      at_once=config.at_once or None,
      done=done,
      run=run,
      checkpoint_every=config.checkpoint_every,
    )
    for lane in finished:
      yield lane.lane_index, functools.partial(measure, lane)

  tags = [{'lane': i} for i in range(len(lanes))]
  return collect(run, tags, missing, title)


def publish(report: Report, workdir: Path) -> None:
  """Write `table.txt` and the figures and print the tables, on one host."""
  if jax.process_index() != 0:
    return
  text = '\n\n'.join(filter(None, report.tables))
  files.atomic_write(workdir / 'table.txt', text + '\n')
  for name, figure in report.figures.items():
    plotting.save(figure, workdir / f'{name}.png')
  print(f'{text}\n\nwritten to {workdir}')
