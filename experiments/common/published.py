"""Numbers printed in the papers, so that ours can stand beside them.

They stand in `experiments/published.json`, by the number of the table:

  {"IC-TB1": {"source": .., "columns": [..], "rows": {"1.75": [..], ..}}}

A row's name is its key (see `row`) and has an entry for each column: a number,
a [mean, standard deviation], or null where nothing is printed. Numbers are as
printed; those of a table with `"percent": true` are read as fractions.
"""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

_PATH = Path(__file__).resolve().parents[1] / 'published.json'


def row(table: str, *key: Any) -> dict[str, Any]:
  """A printed row: {column: number, or (mean, standard deviation)}.

  The key is made of texts and numbers; None is 'none'. Columns in which nothing
  is printed are left out; empty if there is no such table or row.
  """
  found = _tables().get(table, {'rows': {}})
  values = found['rows'].get(' '.join(map(_word, key)), [])
  unit = 100 if found.get('percent') else 1
  return {
    column: tuple(np.divide(v, unit).tolist())
    if isinstance(v, list)
    else v / unit
    for column, v in zip(found.get('columns', ()), values, strict=False)
    if v is not None
  }


def keys(table: str) -> list[str]:
  """Keys of a printed table's rows, in its order."""
  return list(_tables()[table]['rows'])


def size(table: str) -> int:
  """Count of the numbers in a printed table."""
  return sum(len(row(table, *key.split())) for key in keys(table))


def value(table: str, key: tuple[Any, ...], column: str) -> Any:
  """One entry of a printed row, None if it is not printed."""
  return row(table, *key).get(column)


def _word(part: Any) -> str:
  if part is None:
    return 'none'
  return f'{part:g}' if isinstance(part, float) else str(part)


@functools.cache
def _tables() -> dict[str, Any]:
  return json.loads(_PATH.read_text())
