"""Processes of this machine that run one function, as several hosts do."""

import os
import socket
import subprocess
import sys
import typing
from pathlib import Path

import children

ROOT = Path(__file__).parents[1]
_HOST = """
import gc, importlib, sys, jax
gc.disable()  # Too short a life to look for garbage.
address, num, index, timeout, place, *args = sys.argv[1:]
jax.distributed.initialize(
  *(address, int(num), int(index)), heartbeat_timeout_seconds=int(timeout)
)
module, name = place.split(':')
getattr(importlib.import_module(module), name)(*args)
"""


class End(typing.NamedTuple):
  """Words and status that a process ended with."""

  output: str
  errors: str
  status: int


def start(function, *args, num=2, devices=1, timeout=100, flags=()):
  """Start `num` processes that call a function of a module of tests.

  Args:
    function: of the first level of its module.
    *args: texts.
    num: processes.
    devices: virtual devices of each.
    timeout: seconds after which one that is silent is taken for dead.
    flags: more flags of XLA.

  Returns:
    A list of `Popen`.
  """
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  environment = children.environment(devices) | {
    'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'tests')]),
    'JAX_PLATFORMS': 'cpu',
  }
  environment['XLA_FLAGS'] = ' '.join([environment['XLA_FLAGS'], *flags])
  place = f'{function.__module__}:{function.__name__}'
  return [
    subprocess.Popen(
      [
        *(sys.executable, '-c', _HOST),
        *map(str, (address, num, index, timeout, place, *args)),
      ],
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(num)
  ]


def ends(processes):
  """Wait for them all; none is left behind."""
  try:
    return [End(*p.communicate(timeout=600), p.returncode) for p in processes]
  finally:
    for process in processes:
      process.kill()


def run(function, *args, **options):
  """Their outputs, once all have ended well."""
  found = ends(start(function, *args, **options))
  for end in found:
    assert end.status == 0, end.errors[-3000:]
  return [end.output for end in found]
