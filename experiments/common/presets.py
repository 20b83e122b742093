"""Looking up a preset by its name, for every study."""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict


def getter(
  base: Mapping[str, Any],
  presets: Mapping[str, Mapping[str, Any]],
  default: str,
) -> Callable[..., ConfigDict]:
  """Make the `get_config` of a config file.

  Args:
    base: every setting, as it is unless a preset says otherwise; the name of
      the preset is added to it.
    presets: by name, what differs from `base`.
    default: the preset of a flag that names none.

  Returns:
    A function of a preset's name, to a ConfigDict with every value that a run
    depends on; a ValueError if there is no such preset.
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
