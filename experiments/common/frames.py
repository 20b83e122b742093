"""Rows of `results.json` picked, grouped, and shown as tables.

A table is a list of columns over items; an item is a row, or the
group of rows that one line sums up.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from htjax.io import tables

Row = dict[str, Any]
Item = Any  # a Row, or a list of them
RowT = TypeVar('RowT', bound=Mapping[str, Any])


def where(rows: Iterable[RowT], **values: Any) -> list[RowT]:
  """The rows that have these values, as in `where(rows, study='bias')`."""
  return [row for row in rows if values.items() <= row.items()]


def group(rows: Iterable[RowT], *columns: str) -> dict[Any, list[RowT]]:
  """Rows by their value in a column, or by their tuple of values in several.

  Groups come in the order in which the values do.
  """
  groups: dict[Any, list[RowT]] = {}
  for row in rows:
    key = tuple(row[column] for column in columns)
    groups.setdefault(key if len(columns) > 1 else key[0], []).append(row)
  return groups


class Column(NamedTuple):
  """A column of a table.

  The value is a column of the rows (of a group its first row counts), or a
  function of the item; the format a function that gives the text, or a
  specification, with which None is shown as nothing.
  """

  header: str
  value: str | Callable[[Item], Any]
  format: str | Callable[[Any], Any] = ''

  def text(self, item: Item) -> str:
    """The cell of an item."""
    if callable(self.value):
      value = self.value(item)
    else:
      value = (item if isinstance(item, Mapping) else item[0]).get(self.value)
    if callable(self.format):
      return self.format(value)
    return '' if value is None else format(value, self.format)


def columns(text: str, **formats: Callable[[Any], Any]) -> list[Column]:
  """Columns in short: 'header=column:format', or less of it, parted by '; '.

  'd=strength:.4g' is Column('d', 'strength', '.4g'), 'width' is
  Column('width', 'width'). A format may be the name of one of `formats`, or
  `yes` or `tail`.
  """
  functions = {'yes': yes, 'tail': tail} | formats
  found = []
  for part in text.split('; '):
    head, _, format = part.partition(':')
    header, _, value = head.partition('=')
    found.append(Column(header, value or header, functions.get(format, format)))
  return found


def table(
  title: str,
  columns: Sequence[Column],
  items: Iterable[Item],
  *,
  beneath: Callable[[Item], Mapping[str, str] | None] | None = None,
) -> str:
  """Aligned text with a line for each item; '' if there are none.

  `beneath` gives the line that stands under an item's, such as the published
  one, as {header: text}; None or nothing where there is no such line.
  """
  lines = []
  for item in items:
    lines.append([column.text(item) for column in columns])
    if beneath and (more := beneath(item)):
      lines.append([more.get(column.header, '') for column in columns])
  if not lines:
    return ''
  text = tables.table([column.header for column in columns], lines)
  return f'{title}\n{text}' if title else text


def listing(title: str, spec: str, lines: Iterable[Sequence[Any]]) -> str:
  """A table of tuples, whose entries are in the order of `columns(spec)`."""
  shown = enumerate(columns(spec))
  at = [column._replace(value=operator.itemgetter(i)) for i, column in shown]
  return table(title, at, lines)


def spread(
  header: str,
  value: str | Callable[[Row], Any],
  digits: int | None = 2,
  unit: float = 1.0,
  over: Callable[[Any], Sequence[Any]] = list,
) -> Column:
  """A column with `mean_sd` of a value over the rows of a group.

  The value is a column or a function of a row; `over` picks those rows of a
  group that count.
  """

  def values(own: list[Row]) -> list[Any]:
    return [value(row) if callable(value) else row[value] for row in over(own)]

  return Column(header, values, lambda found: mean_sd(found, digits, unit))


def mean_sd(
  values: Sequence[float], digits: int | None = 2, unit: float = 1.0
) -> str:
  """'mean+-sd', the sd of a single value 0; '-' of none.

  Digits after the point: None is 3 for means below 10, 0 from 1000 on, and 2
  between. The values are multiplied by the unit, by 100 for %.
  """
  if not len(values):
    return '-'
  x = unit * np.asarray(values, float)
  sd = x.std(ddof=1) if len(x) > 1 else 0.0
  if digits is None:
    digits = 0 if x.mean() >= 1000 else 3 if x.mean() < 10 else 2
  return f'{x.mean():.{digits}f}+-{sd:.{digits}f}'


def yes(value: bool | None) -> str:
  """'yes' or 'NO'; nothing where there is no claim."""
  return {None: '', True: 'yes', False: 'NO'}[value]


def tail(alpha: float | None) -> str:
  """A tail index; None is a network trained without noise."""
  return 'no noise' if alpha is None else f'{alpha:g}'
