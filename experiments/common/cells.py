"""The loop that every study runs in: what was measured once is kept.

A study is made of cells. After each one `results.json` is replaced as a whole,
its rows in the order of the cells, so that a program that was killed goes on
with the first cell that is missing and ends with the same file.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from experiments.common.figures import Figure
from htjax import multihost, plotting, training
from htjax.io import files, records

Row = dict[str, Any]
Measure = Callable[[], Row | Iterable[Row]]


class Cell(NamedTuple):
  """A piece of a study that is kept as soon as it is measured.

  The name is a text, which its rows get as their column `cell`, or the columns
  and values that tell its rows from others'; so does the study, if there are
  several in a run. `measure` makes its row or rows.
  """

  name: str | Mapping[str, Any]
  measure: Measure
  study: str = ''

  @property
  def tags(self) -> dict[str, Any]:
    """Columns that every row of the cell has."""
    name = {'cell': self.name} if isinstance(self.name, str) else self.name
    return ({'study': self.study} if self.study else {}) | dict(name)


def cell(
  name: str | Mapping[str, Any],
  measure: Callable[..., Any],
  *arguments: Any,
  study: str = '',
) -> Cell:
  """A cell that is measured by a function of these arguments."""
  return Cell(name, functools.partial(measure, *arguments), study)


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
  plan = list(cells)

  def missing(done: frozenset[int]) -> Iterator[tuple[int, Measure]]:
    for i, cell in enumerate(plan):
      if i not in done:
        yield i, cell.measure

  with records.open_run(workdir, config.to_dict()) as run:
    rows = collect(run, [cell.tags for cell in plan], missing)
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


def collect(
  run: records.Run,
  tags: Sequence[Mapping[str, Any]],
  missing: Callable[[frozenset[int]], Iterator[tuple[int, Measure]]],
  title: str = 'measuring',
) -> list[Row]:
  """All rows of a run, those of missing cells measured and written one by one.

  Args:
    run: open.
    tags: of each cell, columns and values; added where a row lacks them.
    missing: given the numbers of the cells that have rows, the number and the
      measurement of every other one, in any order.
    title: of the progress bar.
  """
  kept: list[list[Row]] = [[] for _ in tags]
  for row in multihost.from_first(run.read_results()):
    kept[_owner(run.workdir, row, tags)].append(row)
  done = frozenset(i for i, own in enumerate(kept) if own)
  with tqdm(total=len(tags), initial=len(done), desc=title) as bar:
    for i, measure in missing(done):
      bar.set_postfix_str(' '.join(map(str, tags[i].values())))
      found = measure()
      for row in [found] if isinstance(found, dict) else found:
        more = {k: v for k, v in tags[i].items() if k not in row}
        kept[i].append(more | row)
      run.write_results([row for own in kept for row in own])
      bar.update()
  return [row for own in kept for row in own]


def _owner(workdir: Path, row: Row, tags: Sequence[Mapping[str, Any]]) -> int:
  for i, own in enumerate(tags):
    if own.items() <= row.items():
      return i
  path = workdir / 'results.json'
  raise ValueError(f'{path} must have rows of this study, got {row}')


def publish(report: Report, workdir: Path) -> None:
  """Write `table.txt` and the figures and print the tables, on one host."""
  if jax.process_index() != 0:
    return
  text = '\n\n'.join(filter(None, report.tables))
  files.atomic_write(workdir / 'table.txt', text + '\n')
  for name, figure in report.figures.items():
    plotting.save(figure, workdir / f'{name}.png')
  print(f'{text}\n\nwritten to {workdir}')
