"""Parts of figures of several studies, on top of `htjax.plotting`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from htjax import plotting

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure
else:
  # matplotlib is imported with the first figure.
  Axes = Figure = Any


def panel_each(
  groups: Mapping[Any, Any], **panels: Any
) -> tuple[Figure, Iterator[tuple[Axes, tuple[Any, Any]]]]:
  """A figure, and (axes, (key, rows)) of each group; options as `panels`."""
  figure, axes = plotting.panels(len(groups), **panels)
  return figure, zip(axes, groups.items(), strict=True)


def curves(
  ax: Axes,
  x: Sequence[float] | np.ndarray,
  lines: Mapping[str, Iterable[float]],
  styles: Sequence[str] = ('o-',),
  colours: Sequence[Any] = (None,),
  **style: Any,
) -> None:
  """Draw values against x by their label; styles and colours take turns."""
  for i, (label, y) in enumerate(lines.items()):
    own = {'color': colours[i % len(colours)], 'ms': 3, 'label': label} | style
    ax.plot(x, list(y), styles[i % len(styles)], **own)


def describe(
  ax: Axes,
  title: str = '',
  legend: Mapping[str, Any] | None = None,
  titlesize: Any = 'medium',
  **settings: Any,
) -> None:
  """Label axes (`settings` are for `ax.set`), and give them a legend."""
  ax.set(**settings)
  if title:
    ax.set_title(title, fontsize=titlesize)
  if legend is not None:
    ax.legend(**legend)


def legend_once(figure: Figure, ax: Axes) -> None:
  """A legend below the axes with one entry for each label."""
  handles, labels = ax.get_legend_handles_labels()
  first = dict(zip(reversed(labels), reversed(handles), strict=True))
  names = list(dict.fromkeys(labels))
  shown = [first[name] for name in names]
  place: Any = {'loc': 'outside lower center', 'ncols': 2, 'frameon': False}
  figure.legend(shown, names, **place)


class ColourMap:
  """Colours of numbers, over their range, by the name of matplotlib's map."""

  def __init__(self, name: str, values: Iterable[float]):
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    known = list(values)
    norm = Normalize(min(known), max(known))
    self._mappable = ScalarMappable(norm, colormaps[name])

  def __call__(self, value: float) -> Any:
    """The colour of a number."""
    return self._mappable.to_rgba(np.asarray(value))

  def bar(self, ax: Axes, label: str) -> None:
    """Draw the scale beside the axes."""
    ax.figure.colorbar(self._mappable, ax=ax, label=label)
