"""With what a run was made: versions, commit, platform, devices."""

import datetime
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = ('jax', 'jaxlib', 'numpy', 'flax', 'optax')


def surroundings() -> dict[str, Any]:
  """Facts that a reader needs to run it again, and to understand its times."""
  import jax

  import htjax

  versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
  now = datetime.datetime.now(datetime.UTC)
  return {
    'versions': {'htjax': htjax.__version__, **versions},
    'commit': _commit(Path(htjax.__file__).resolve().parent),
    'python': platform.python_version(),
    'platform': platform.platform(),
    'hosts': jax.process_count(),
    'devices': [device.device_kind for device in jax.devices()],
    'started': now.isoformat(timespec='seconds'),
  }


def _commit(package: Path) -> str | None:
  """The commit of a checkout ('-dirty' with changes), None if installed."""

  def git(*args: str) -> str:
    command = ['git', '-C', str(package), *args]
    return subprocess.run(
      command, capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()

  try:
    # An installed package may lie inside somebody else's checkout.
    if Path(git('rev-parse', '--show-toplevel')) != package.parent:
      return None
    return git('describe', '--always', '--dirty', '--abbrev=40', '--exclude=*')
  except (OSError, subprocess.SubprocessError):
    return None
