"""Look-up of presets by their names."""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict


def getter(
  base: Mapping[str, Any],
  presets: Mapping[str, Mapping[str, Any]],
  default: str,
) -> Callable[..., ConfigDict]:
  """Make the `get_config` of a config file.

  It gives `base`, with what differs in a preset, and the preset's name;
  `default` is the preset of a flag that names none.
  """

  def get_config(preset: str = default) -> ConfigDict:
    if preset not in presets:
      raise ValueError(
        f'preset must be one of {", ".join(presets)}, got {preset!r}'
      )
    config = ConfigDict({**base, 'preset': preset})
    config.update(presets[preset])
    return config

  return get_config
