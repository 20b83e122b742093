"""A study in cells: what was measured once is kept.

After each cell `results.json` is replaced as a whole, its rows in the order of
the cells, so that a program that was killed goes on with the first cell that is
missing and ends with the same file.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from htjax import multihost
from htjax.checks import checked
from htjax.io.records import Run

__all__ = ['Cell', 'cell', 'collect', 'measure']

Row = dict[str, Any]
Measure = Callable[[], Row | Iterable[Row]]


class Cell(NamedTuple):
  """A piece of a study that is kept as soon as it is measured.

  Attributes:
    name: a text, which its rows get as their column `cell`, or the columns and
      values that tell its rows from others'.
    measure: a function without arguments that makes its row or rows.
    study: which of several in a run; a column of its rows, but for ''.
  """

  name: str | Mapping[str, Any]
  measure: Measure
  study: str = ''

  @property
  def tags(self) -> dict[str, Any]:
    """Columns that every row of the cell has."""
    name = {'cell': self.name} if isinstance(self.name, str) else self.name
    return ({'study': self.study} if self.study else {}) | dict(name)


@checked
def cell(
  name: str | Mapping[str, Any],
  measure: Callable[..., Any],
  *arguments: Any,
  study: str = '',
) -> Cell:
  """A cell that is measured by a function of some arguments.

  Args:
    name: a text, or columns and values, by which its rows are known.
    measure: makes its row or rows from the arguments.
    *arguments: of `measure`.
    study: which of several in a run.

  Returns:
    A Cell; nothing is measured yet.
  """
  return Cell(name, functools.partial(measure, *arguments), study)


@checked
def measure(run: Run, cells: Iterable[Cell]) -> list[Row]:
  """Measure the cells of a run that have no rows yet, one by one.

  Args:
    run: open; `results.json` in its directory grows by each cell.
    cells: all of them, in the order of their rows.

  Returns:
    The rows of all cells.

  Raises:
    ValueError: the run has rows that belong to none of the cells.

  Examples:
    >>> import tempfile
    >>> from htjax.io import cells, records
    >>> def square(x):
    ...   return {'x': x, 'square': x * x}
    >>> plan = [cells.cell(f'the square of {x}', square, x) for x in (2, 3)]
    >>> with records.open_run(tempfile.mkdtemp(), {'seed': 0}) as run:
    ...   rows = cells.measure(run, plan)
    >>> rows[1]
    {'cell': 'the square of 3', 'x': 3, 'square': 9}
  """
  plan = list(cells)

  def missing(done: frozenset[int]) -> Iterator[tuple[int, Measure]]:
    for i, own in enumerate(plan):
      if i not in done:
        yield i, own.measure

  return collect(run, [own.tags for own in plan], missing)


@checked
def collect(
  run: Run,
  tags: Sequence[Mapping[str, Any]],
  missing: Callable[[frozenset[int]], Iterator[tuple[int, Measure]]],
  title: str = 'measuring',
) -> list[Row]:
  """All rows of a run whose cells end in any order, such as lanes do.

  Args:
    run: open; `results.json` in its directory grows by each cell.
    tags: of each cell, columns and values; added where a row lacks them.
    missing: given the numbers of the cells that have rows, the number and the
      measurement of every other one.
    title: of the progress bar.

  Returns:
    The rows in the order of the tags.

  Raises:
    ValueError: the run has rows that belong to none of the tags.
  """
  from tqdm import tqdm

  kept: list[list[Row]] = [[] for _ in tags]
  for row in multihost.from_first(run.read_results()):
    kept[_owner(run.workdir, row, tags)].append(row)
  done = frozenset(i for i, own in enumerate(kept) if own)
  with tqdm(total=len(tags), initial=len(done), desc=title) as bar:
    for i, own in missing(done):
      bar.set_postfix_str(' '.join(map(str, tags[i].values())))
      found = own()
      for row in [found] if isinstance(found, dict) else found:
        more = {k: v for k, v in tags[i].items() if k not in row}
        kept[i].append(more | row)
      run.write_results([row for rows in kept for row in rows])
      bar.update()
  return [row for rows in kept for row in rows]


def _owner(workdir: Path, row: Row, tags: Sequence[Mapping[str, Any]]) -> int:
  for i, own in enumerate(tags):
    if own.items() <= row.items():
      return i
  path = workdir / 'results.json'
  raise ValueError(f'{path} must have rows of this study, got {row}')
