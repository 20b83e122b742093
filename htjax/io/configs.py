"""Whether a work directory belongs to a run of this config."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from htjax.checks import checked
from htjax.io.strict_json import load

CONFIG = 'config.json'
LOCK = '.lock'
_ABSENT = object()


@checked
def read_config(workdir: str | os.PathLike) -> dict[str, Any]:
  """The config of the run in `workdir`.

  Raises:
    FileNotFoundError: there is no run.
    ValueError: config.json is damaged.
  """
  about = load(Path(workdir) / CONFIG)
  if not isinstance(about, dict) or not isinstance(about.get('config'), dict):
    raise ValueError(f'{Path(workdir) / CONFIG} is not the config of a run')
  return about['config']


def check_config(workdir: Path, config: dict[str, Any]) -> bool:
  """Whether `workdir` holds this config; False if it holds nothing."""
  if not (workdir / CONFIG).exists():
    others = [p.name for p in _contents(workdir) if not _is_ours(p.name)]
    if others:
      raise ValueError(
        f'workdir {workdir} holds files but no {CONFIG} ({others[0]}, ..), so '
        'it is no run; choose another --workdir'
      )
    return False
  if found := differences(read_config(workdir), config):
    raise ValueError(
      f'workdir {workdir} belongs to another config ({found}): choose another '
      '--workdir or delete it'
    )
  return True


def _contents(workdir: Path) -> list[Path]:
  return sorted(workdir.iterdir()) if workdir.is_dir() else []


def _is_ours(name: str) -> bool:
  """Whether a run that died before its config was written leaves the file."""
  return name == LOCK or re.fullmatch(r'\..*\.tmp', name) is not None


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
  """The first entries that differ, in words; empty where none does."""
  old, new = dict(_dotted(old)), dict(_dotted(new))
  found = [
    f'{name} was {_show(a)}, is {_show(b)}'
    for name in sorted(old.keys() | new.keys())
    if not _equal(a := old.get(name, _ABSENT), b := new.get(name, _ABSENT))
  ]
  more = [f'{len(found) - 5} more'] if len(found) > 5 else []
  return '; '.join(found[:5] + more)


def _dotted(
  tree: dict[str, Any], prefix: str = ''
) -> Iterator[tuple[str, Any]]:
  for name, value in tree.items():
    if isinstance(value, dict) and value:
      yield from _dotted(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value


def _equal(a: Any, b: Any) -> bool:
  # Python says True == 1.
  return a == b and isinstance(a, bool) == isinstance(b, bool)


def _show(value: Any) -> str:
  return 'absent' if value is _ABSENT else json.dumps(value)
