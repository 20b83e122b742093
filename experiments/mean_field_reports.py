"""The table and the figures of `experiments/mean_field.py`, from its rows."""

from pathlib import Path
from typing import Any

import numpy as np

from htjax import plotting, records

Row = dict[str, Any]

_AXES = {
  'chaos': ('width n', 'distance to the limit'),
  'euler': ('step size', 'distance to the fine scheme'),
  'euler_width': ('width n', 'distance to the fine scheme'),
  'second_moment': ('width n', 'mean square norm'),
  'compressibility': ('width n', 'relative error'),
  'step_condition': ('width n', 'relative error'),
  'gradient': ('sigma, or step size', 'least mean square gradient'),
  'infinite_mean': ('number of terms n', 'probability'),
  'largest_norm': ('number of vectors n', 'mean largest norm'),
  'controls': ('width n, or step size', 'distance'),
}
_KINDS = {'type1': 'Type I', 'type2': 'Type II', 'type3': 'Type III'}
_COLOURS = ('#D55E00', '#E69F00', '#009E73', '#0072B2')


def write(rows: list[Row], workdir: Path) -> str:
  """Write table and figures into `workdir`; returns the table's text."""
  text = table(rows)
  records.atomic_write(workdir / 'table.txt', text + '\n')
  for study in _AXES:
    own = [row for row in rows if row['study'] == study and 'x' in row]
    if own:
      plotting.save(figure(own), workdir / f'{study}.png')
  return f'{text}\n\nwritten to {workdir}'


def table(rows: list[Row]) -> str:
  """Measured, interval, predicted, and whether it holds."""
  lines = []
  for row in rows:
    lines.append(
      [
        row['statement'],
        row['what'],
        f'{row["alpha"]:g}',
        _KINDS[row['kind']],
        _number(row.get('slope')),
        f'[{_number(row.get("low"))}, {_number(row.get("high"))}]',
        _number(row.get('predicted')),
        _yes(row.get('holds')),
        _yes(row.get('bound_holds')),
      ]
    )
  headers = [
    *('statement', 'what', 'alpha', 'kind', 'measured', 'interval'),
    *('predicted', 'holds', 'below bound'),
  ]
  return records.table(headers, lines)


def figure(rows: list[Row]) -> Any:
  """Log-log points with intervals, the fitted line, the predicted one, bounds.

  One panel per quantity and kind of noise, one colour per tail index.
  """
  from matplotlib.figure import Figure

  panels: dict[tuple[str, str], list[Row]] = {}
  for row in rows:
    panels.setdefault((row['what'].split(', n')[0], row['kind']), []).append(
      row
    )
  columns = min(3, len(panels))
  lines = -(-len(panels) // columns)
  drawn = Figure(figsize=(4.2 * columns, 3.4 * lines), layout='constrained')
  axes = np.ravel(drawn.subplots(lines, columns, squeeze=False))
  for ax in axes[len(panels) :]:
    ax.set_visible(False)
  for ax, ((what, kind), group) in zip(axes, panels.items(), strict=False):
    for i, row in enumerate(group):
      _curve(ax, row, _COLOURS[i % len(_COLOURS)])
    ax.set_xscale('log')
    if all(level > 0 for row in group for level in row['levels']):
      ax.set_yscale('log')
    x_label, y_label = _AXES[group[0]['study']]
    if what == 'correlation':
      y_label = 'correlation of two particles'
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.set_title(f'{what}, {_KINDS[kind]}', fontsize='medium')
    ax.legend(fontsize='x-small')
  return drawn


def _curve(ax: Any, row: Row, colour: str) -> None:
  x, y = np.array(row['x']), np.array(row['levels'])
  is_rate = row.get('local_slopes') is not None
  label = f'alpha {row["alpha"]:g}'
  if is_rate:
    label += f': {row["slope"]:.2f}'
    if row['predicted'] is not None:
      label += f' (theorem {row["predicted"]:.2f})'
  ax.errorbar(
    x,
    y,
    1.96 * np.array(row['errors']),
    fmt='o',
    ms=3,
    color=colour,
    label=label,
  )
  if is_rate:
    centre = np.exp(np.log(x).mean()), np.exp(np.log(y).mean())
    ax.plot(x, centre[1] * (x / centre[0]) ** row['slope'], color=colour, lw=1)
    if row['predicted'] is not None:
      ax.plot(
        x, y[-1] * (x / x[-1]) ** row['predicted'], color=colour, lw=0.8, ls=':'
      )
  for name, style in (('sharp_bound', '--'), ('bound', '-.')):
    bound = np.array(row.get(name) or [np.nan], float)
    # The bound in terms of B alone can be 10 powers of ten away.
    if np.all(bound < 1e4 * y.max()):
      ax.plot(x, bound, color=colour, lw=0.8, ls=style)


def _number(value: float | None) -> str:
  return '' if value is None else f'{value:.4g}'


def _yes(value: bool | None) -> str:
  return {None: '', True: 'yes', False: 'NO'}[value]
