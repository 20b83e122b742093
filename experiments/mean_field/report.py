"""The table and, by `figures`, a figure a study, from the rows."""

from ml_collections import ConfigDict

from experiments.common.cells import Report
from experiments.common.frames import Column, Row, columns, group, table
from experiments.mean_field.figures import figure
from htjax import plotting


def _interval(row: Row) -> str:
  ends = (row.get('low'), row.get('high'))
  low, high = ('' if end is None else f'{end:.4g}' for end in ends)
  return f'[{low}, {high}]'


_COLUMNS = [
  *columns('statement; what; alpha:g; kind:name', name=plotting.KINDS.get),
  *columns('measured=slope:.4g'),
  Column('interval', _interval),
  *columns('predicted:.4g; holds:yes; below bound=bound_holds:yes'),
]


def report(config: ConfigDict, rows: list[Row]) -> Report:
  """Measured, interval, predicted, and whether it holds; a figure a study."""
  del config
  drawn = [row for row in rows if 'x' in row]
  return Report(
    [table('', _COLUMNS, rows)],
    {study: figure(own) for study, own in group(drawn, 'study').items()},
  )
