"""Tables in plain text."""

import re
from collections.abc import Sequence
from typing import Any

from htjax.checks import check_several, checked


@checked
def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """Aligned plain text; columns of numbers are aligned to the right.

  Args:
    headers: one title per column.
    rows: of cells; each is shown as `str` shows it.

  Raises:
    ValueError: a row of another length, or no sequence.
  """
  for i, row in enumerate(rows):
    check_several(f'rows[{i}]', row)
  cells = [[str(cell) for cell in row] for row in rows]
  for i, row in enumerate(cells):
    if len(row) != len(headers):
      raise ValueError(
        f'rows[{i}] must have {len(headers)} cells, got {len(row)}'
      )
  columns = list(zip(headers, *cells, strict=True))
  widths = [max(map(len, column)) for column in columns]
  to_right = [_numeric(column[1:]) for column in columns]

  def line(row: Sequence[str]) -> str:
    aligned = (
      cell.rjust(width) if right else cell.ljust(width)
      for cell, width, right in zip(row, widths, to_right, strict=True)
    )
    return '  '.join(aligned).rstrip()

  return '\n'.join(
    map(line, [list(headers), ['-' * width for width in widths], *cells])
  )


def _numeric(cells: Sequence[str]) -> bool:
  return all(re.match(r'[+-]?[.\d]|[+-]?(nan|inf)$|-?$', c) for c in cells)
