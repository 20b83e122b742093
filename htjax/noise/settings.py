"""Numbers of the noise that differ between layers or change with time."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax

from htjax import units as _units
from htjax.schedules import ScalarOrSchedule
from htjax.types import PyTree

# Also a pytree of some, by the names of layers.
Setting = ScalarOrSchedule | PyTree


def numbers(setting: Setting) -> Iterator[Any]:
  """The numbers in it that are no schedules, to be checked."""
  for value in _layers(setting).values():
    if not callable(value):
      yield value


def of_leaves(
  setting: Setting, names: Sequence[str], wanted: Sequence[bool], argument: str
) -> list[Any]:
  """The number or schedule of each leaf.

  Args:
    setting: a number, a schedule, or a pytree of some. The name of an entry of
      the pytree is a leaf's, or that of something that holds it: 'encoder' is
      all of 'encoder.dense.kernel' and its like. The longest name counts; the
      empty one is everything.
    names: of the leaves.
    wanted: for each leaf, whether its number is asked for.
    argument: what the setting is called, for messages.

  Returns:
    A list; None where nothing is wanted.

  Raises:
    ValueError: a wanted leaf that no entry names; an entry that names no leaf.
  """
  layers = _layers(setting)
  for layer in layers:
    if not any(_holds(layer, name) for name in names):
      raise ValueError(
        f'{argument}: {layer!r} is no leaf and holds none; the parameters hold '
        f'{", ".join(names)}'
      )
  return [
    layers[_layer_of(name, layers, argument)] if is_wanted else None
    for name, is_wanted in zip(names, wanted, strict=True)
  ]


def _layers(setting: Setting) -> dict[str, Any]:
  """Entries by the names of what they are for; '' is everything."""
  if setting is None or jax.tree_util.all_leaves([setting]):
    return {'': setting}
  return dict(_units.named_leaves(setting))


def _layer_of(name: str, layers: dict[str, Any], argument: str) -> str:
  holding = [layer for layer in layers if _holds(layer, name)]
  if not holding:
    raise ValueError(
      f'{argument} must have an entry for {name}, or an empty name for what is '
      f'left; got {", ".join(map(repr, layers))}'
    )
  return max(holding, key=len)


def _holds(layer: str, name: str) -> bool:
  return layer == '' or name == layer or name.startswith(f'{layer}.')
