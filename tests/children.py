"""The environment of processes that tests start."""

import os


def environment(devices: int = 1) -> dict[str, str]:
  """That of this process, with so many devices.

  The compiler is told the same as here, so that what was compiled here need
  not be compiled there.
  """
  flags = [
    flag
    for flag in os.environ['XLA_FLAGS'].split()
    if not flag.startswith('--xla_force_host_platform_device_count=')
  ]
  flags.append(f'--xla_force_host_platform_device_count={devices}')
  return os.environ | {'XLA_FLAGS': ' '.join(flags), 'PYTHONUNBUFFERED': '1'}
