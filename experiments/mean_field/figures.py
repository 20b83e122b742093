"""A figure per study: chaos, Euler, moments, compressibility, the controls."""

from experiments.common.figures import Figure, describe, panel_each
from experiments.common.frames import Row, group
from htjax import plotting

AXES = {
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


def figure(rows: list[Row]) -> Figure:
  """Log-log points with intervals, the fitted line, the predicted one, bounds.

  One panel per quantity and kind of noise, one colour per tail index.
  """
  titled = [row | {'title': row['what'].split(', n')[0]} for row in rows]
  drawn, panels = panel_each(group(titled, 'title', 'kind'), size=(4.2, 3.4))
  for ax, ((what, kind), own) in panels:
    for i, row in enumerate(own):
      label = f'alpha {row["alpha"]:g}'
      plotting.draw_rate(ax, row, plotting.COLOURS[i], label)
    x = own[0]['x']
    plotting.log_x(ax, min(x) / 1.2, max(x) * 1.2)
    if all(level > 0 for row in own for level in row['levels']):
      ax.set_yscale('log')
    x_label, y_label = AXES[own[0]['study']]
    if what == 'correlation':
      y_label = 'correlation of two particles'
    title, legend = f'{what}, {plotting.KINDS[kind]}', {'fontsize': 'x-small'}
    describe(ax, title, legend, xlabel=x_label, ylabel=y_label)
  return drawn
