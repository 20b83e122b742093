"""Parts of figures of several studies, on top of `htjax.plotting`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure


def legend_once(figure: 'Figure', ax: 'Axes') -> None:
  """A legend below the axes with one entry for each label."""
  handles, labels = ax.get_legend_handles_labels()
  first = dict(zip(reversed(labels), reversed(handles), strict=True))
  names = list(dict.fromkeys(labels))
  figure.legend(
    [first[name] for name in names],
    names,
    loc='outside lower center',
    ncols=2,
    frameon=False,
  )


class ColourMap:
  """Colours of numbers, over their range.

  Args:
    name: a matplotlib colour map.
    values: at least one.
  """

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

  def bar(self, ax: 'Axes', label: str) -> None:
    """Draw the scale beside the axes."""
    ax.figure.colorbar(self._mappable, ax=ax, label=label)
