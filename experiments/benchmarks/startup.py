"""Time of `import htjax.noise` against that of `import jax, optax`.

`import htjax` alone loads nothing: what is timed is the one line that a program
with heavy-tailed noise adds to those that it has.
"""

import json
import sys

from experiments.benchmarks.timing import (
  Cost,
  Disagreement,
  Measurement,
  Turn,
  cold_environment,
  interleave,
  run_command,
)

_CODE = """
import json, sys, time
cpu, wall = time.process_time(), time.perf_counter()
import {modules}
cost = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps([cost, sorted({{m.split('.')[0] for m in sys.modules}})]))
"""
_BASELINE, _OURS = 'jax, optax', 'htjax.noise'
# What belongs to rooms that are imported when first used.
_LATE = {'flax', 'matplotlib', 'orbax', 'sklearn', 'tensorflow_datasets'}


def import_time(repeats: int) -> Measurement:
  """Seconds inside a fresh interpreter, without its own start."""
  check_loaded(_import(_BASELINE)[1], _import(_OURS)[1])
  return interleave(_turn(_BASELINE), _turn(_OURS), repeats, warm_up=False)


def check_loaded(baseline: set[str], ours: set[str]) -> None:
  """Raise unless ours loads all of the baseline and nothing of other rooms."""
  missing, early = baseline - ours, ours & _LATE
  if missing or early or 'htjax' not in ours:
    raise Disagreement(
      'import htjax.noise must load what `import jax, optax` loads and none of '
      f'{", ".join(sorted(_LATE))}; missing: {sorted(missing)}, loaded too '
      f'early: {sorted(early)}'
    )


def _turn(modules: str) -> Turn:
  return lambda i: _import(modules)[0]


def _import(modules: str) -> tuple[Cost, set[str]]:
  code = _CODE.format(modules=modules)
  _, printed = run_command([sys.executable, '-c', code], cold_environment())
  cost, loaded = json.loads(printed)
  return Cost(*cost), set(loaded)
