"""Two programs timed against each other, turn by turn.

Every figure is a ratio within one run: the machine may be slow or busy, but
it is so for both. Wall and CPU seconds are kept of every turn; the first call,
which compiles, is kept apart.
"""

import datetime
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

import htjax

ROOT = Path(__file__).resolve().parents[2]


class Unavailable(Exception):
  """A benchmark cannot run here; the text says why."""


class Disagreement(Exception):
  """The two programs do not compute the same thing."""


class Cost(NamedTuple):
  """Seconds of wall clock, and of all cores together."""

  wall: float
  cpu: float


Turn = Callable[[int], Cost]


class Measurement(NamedTuple):
  """Costs of both programs.

  Attributes:
    baseline, ours: a Cost per turn.
    first: what the first, compiling call of each took; None if every turn is
      a cold start.
    note: what a reader of the ratio must know.
    judged_by: 'wall' or 'cpu', the seconds that make the ratio.
    recorded: the baseline's cost is a figure of another run.
    details: further numbers for the results file.
  """

  baseline: Sequence[Cost]
  ours: Sequence[Cost]
  first: tuple[Cost, Cost] | None = None
  note: str = ''
  judged_by: str = 'wall'
  recorded: bool = False
  details: dict[str, Any] = {}  # noqa: RUF012 - never written to


def in_process(
  call: Callable[..., Any], arguments: Callable[[int], tuple] = lambda i: ()
) -> Turn:
  """Turns of `call(*arguments(i))`; the arguments are made off the clock."""

  def turn(i: int) -> Cost:
    ready = jax.block_until_ready(arguments(i))
    cpu, wall = time.process_time(), time.perf_counter()
    jax.block_until_ready(call(*ready))
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)

  return turn


def run_command(
  command: Sequence[str | Path], environment: dict[str, str]
) -> tuple[Cost, str]:
  """Run a program to its end; returns its cost and what it printed.

  Raises:
    RuntimeError: it failed; the text ends with what it said.
  """
  before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
  done = subprocess.run(
    [str(part) for part in command],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  wall = time.monotonic() - wall
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  if done.returncode:
    raise RuntimeError(
      f'{command[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}'
    )
  user, system = (
    getattr(after, name) - getattr(before, name)
    for name in ('ru_utime', 'ru_stime')
  )
  return Cost(wall, user + system), done.stdout


def cold_environment(**more: str) -> dict[str, str]:
  """The environment without what would keep compiled programs, make more
  devices than there are, or compile modules that an installation has compiled.
  """
  dropped = (
    'JAX_COMPILATION_CACHE_DIR',
    'XLA_FLAGS',
    'PYTHONDONTWRITEBYTECODE',
  )
  kept = {k: v for k, v in os.environ.items() if k not in dropped}
  return kept | {'JAX_ENABLE_COMPILATION_CACHE': 'false'} | more


def interleave(
  baseline: Turn, ours: Turn, repeats: int, *, warm_up: bool = True
) -> Measurement:
  """Measure both, baseline first and ours first in turn."""
  first = (baseline(0), ours(0)) if warm_up else None
  costs: tuple[list[Cost], list[Cost]] = ([], [])
  for i in range(1, repeats + 1):
    for side in (0, 1) if i % 2 else (1, 0):
      costs[side].append((baseline, ours)[side](i))
  return Measurement(*costs, first)


def spread(costs: Sequence[Cost]) -> dict[str, float]:
  """Minimum and median of the wall and CPU seconds."""
  return {
    f'{which}_{name}': how(getattr(cost, which) for cost in costs)
    for which in Cost._fields
    for name, how in (('min', min), ('median', statistics.median))
  }


def environment() -> dict[str, Any]:
  """Machine and versions with which the figures were measured."""
  device = jax.devices()[0]
  return {
    'device': device.device_kind,
    'backend': device.platform,
    'num_devices': jax.device_count(),
    'cores': len(os.sched_getaffinity(0)),
    'load_average': load(),
    'platform': platform.platform(),
    'python': platform.python_version(),
    'jax': jax.__version__,
    'htjax': htjax.__version__,
    'dtype': 'float32',
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
  }


def load() -> list[float]:
  """Load averages over 1, 5 and 15 minutes."""
  return [round(x, 2) for x in os.getloadavg()]
