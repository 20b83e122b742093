"""How a preset is looked up, the same for every study."""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict


def choose(
  preset: str, base: Mapping[str, Any], presets: Mapping[str, Mapping[str, Any]]
) -> ConfigDict:
  """The settings of a preset.

  Args:
    preset: a name in `presets`.
    base: every setting, as it is unless a preset says otherwise; the name of
      the preset is added to it.
    presets: by name, what differs from `base`.

  Returns:
    A ConfigDict with every value that a run depends on.

  Raises:
    ValueError: an unknown preset.
  """
  if preset not in presets:
    raise ValueError(
      f'preset must be one of {", ".join(presets)}, got {preset!r}'
    )
  config = ConfigDict({**base, 'preset': preset})
  config.update(presets[preset])
  return config


def getter(
  base: Mapping[str, Any],
  presets: Mapping[str, Mapping[str, Any]],
  default: str,
) -> Callable[..., ConfigDict]:
  """Make the `get_config` of a config file.

  Args:
    base: as in `choose`.
    presets: as in `choose`.
    default: the preset of a flag that names none.

  Returns:
    A function of a preset's name; its errors are those of `choose`.
  """

  def get_config(preset: str = default) -> ConfigDict:
    return choose(preset, base, presets)

  return get_config
