"""Speed against what a user would otherwise do, as ratios within one run.

  python -m experiments.benchmarks.run [--only=NAME,..] [--small]

Baseline and ours take turns, are compiled and checked to agree before they are
timed, and the ratio of their minima is held against the targets. Beside it
stand the median, the minimum and the maximum of the ratios of neighbouring
turns and the ratio of the CPU seconds, which tell how far a busy machine can be
believed. The whole takes about a quarter of an hour on two idle cores.
"""

import functools
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import app, flags, logging

from experiments.benchmarks import (
  bounds,
  convolutions,
  drawing,
  lanes,
  particles,
  startup,
  steps,
  table1,
  weights,
)
from experiments.benchmarks.timing import (
  Cost,
  Disagreement,
  Measurement,
  Unavailable,
  environment,
  load,
  spread,
)
from htjax import records

_ONLY = flags.DEFINE_list('only', [], 'Names of benchmarks; empty is all.')
_SMALL = flags.DEFINE_bool(
  'small', False, 'Tiny sizes: do both sides run and agree? Nothing is judged.'
)
_REPEATS = flags.DEFINE_integer(
  'repeats', 0, 'Turns of each side; 0 is as many as each benchmark wants.'
)
_OUTPUT = flags.DEFINE_string(
  'output', 'runs/benchmarks.json', 'Where the figures are written.'
)
_TORCH_PYTHON = flags.DEFINE_string(
  'torch_python', '', 'Interpreter with torch and scipy, for table1, threshold.'
)
_TORCH_RUNS = flags.DEFINE_integer(
  'torch_runs', 0, 'Runs that PyTorch makes for table1, scaled up; 0 is all.'
)


class Target(NamedTuple):
  """Limits of a ratio: the one it must reach, and the one it should.

  Attributes:
    faster: the ratio is baseline / ours, at least the targets; otherwise it
      is ours / baseline, at most the targets.
    must, goal: None for a line that is for information only.
  """

  faster: bool
  must: float | None
  goal: float | None

  def ratio(self, baseline: float, ours: float) -> float:
    return baseline / ours if self.faster else ours / baseline

  def verdict(self, ratio: float) -> str:
    if self.must is None:
      return '-'
    if self.goal is not None and self.met(ratio, self.goal):
      return 'goal'
    return 'reached' if self.met(ratio, self.must) else 'MISSED'

  def met(self, ratio: float, target: float) -> bool:
    return ratio >= target if self.faster else ratio <= target

  def show(self, target: float | None) -> str:
    if target is None:
      return '-'
    return f'{">=" if self.faster else "<="} {target:g}'


class Benchmark(NamedTuple):
  """A line of the table.

  Attributes:
    what, baseline: what is measured, and against what.
    target: of its ratio.
    repeats: turns of each side, unless --repeats says otherwise.
    measure: (small, repeats) -> Measurement.
  """

  what: str
  baseline: str
  target: Target
  repeats: int
  measure: Callable[[bool, int], Measurement]


def benchmarks() -> dict[str, Benchmark]:
  """All lines by name; some targets depend on the device."""
  type1, type2 = Target(False, 1.05, 1.01), Target(False, 1.5, 1.2)
  on_cpu = jax.default_backend() == 'cpu'
  together = Target(True, 1.0, 1.2) if on_cpu else Target(True, 5.0, 15.0)
  found = {
    'sample_normal': Benchmark(
      'stable.sample, 10^7',
      'jax.random.normal',
      Target(False, 3.0, 2.0),
      20,
      drawing.against_normal,
    ),
    'sample_scipy': Benchmark(
      'stable.sample, 10^7',
      'scipy levy_stable.rvs',
      Target(True, 6.0, 12.0),
      5,
      drawing.against_scipy,
    ),
  }
  for kind, target in (('type1', type1), ('type2', type2)):
    for data, width in (('ecg5000', 2000), ('mnist', 5000)):
      found[f'step_{kind}_{data}'] = Benchmark(
        f'{kind} step, {data} n={width}',
        'step without noise',
        target,
        20,
        functools.partial(steps.noisy_step, data, kind),
      )
  for name, what, repeats in (
    ('two_layers', '2 convolutions', 10),
    ('cifar10_cnn', "IC's convolutions", 2),
  ):
    found[f'step_{name}'] = Benchmark(
      f'type1 step, {what}',
      'one jitted step of SGD',
      Target(False, 1.15, None),
      repeats,
      functools.partial(convolutions.convolutional_step, name),
    )
  found |= {
    'particle_step': Benchmark(
      'particle step, n=10^6, p=10, 64 data',
      'its two matrix products, in blocks',
      Target(False, 1.6, None),
      10,
      functools.partial(particles.particle_step, 'type1'),
    ),
    'particle_step_type2': Benchmark(
      'the same under Type II noise',
      'its two matrix products, in blocks',
      Target(False, 2.2, None),
      10,
      functools.partial(particles.particle_step, 'type2'),
    ),
    'lanes': Benchmark(
      '20 lanes, as train() groups them',
      'one run after another',
      together,
      3,
      functools.partial(lanes.many_lanes, None),
    ),
    'lanes_batched': Benchmark(
      '20 lanes in one batch',
      'one run after another',
      Target(True, None, None),
      3,
      functools.partial(lanes.many_lanes, 20),
    ),
    'table1': Benchmark(
      'Table 1, cold start',
      'PyTorch program',
      Target(True, 10.0, 30.0),
      2,
      lambda small, repeats: table1.end_to_end(
        small,
        repeats,
        torch_python=_TORCH_PYTHON.value,
        torch_runs=_TORCH_RUNS.value,
      ),
    ),
    'threshold': Benchmark(
      'exact magnitude threshold, 10^7',
      'torch global_unstructured',
      Target(True, 8.0, 20.0),
      10,
      lambda small, repeats: weights.threshold(
        small, repeats, torch_python=_TORCH_PYTHON.value
      ),
    ),
    'threshold_numpy': Benchmark(
      'the same',
      'np.partition and np.where',
      Target(True, None, None),
      10,
      weights.threshold_numpy,
    ),
    'hill': Benchmark(
      'hill, 10^7',
      'np.sort',
      Target(False, 1.5, 1.0),
      5,
      weights.hill,
    ),
    'layer_table': Benchmark(
      'layer_table, 768 x 3072',
      'np.sort of its entries',
      Target(False, None, None),
      5,
      weights.layer_table,
    ),
    'singular_values': Benchmark(
      'singular values, 1024 x 1024, 10 % kept',
      'full decomposition by NumPy',
      Target(True, 2.0, 4.0),
      5,
      weights.singular_values,
    ),
    'mmo': Benchmark(
      'mmo, 2048 x 2048',
      'one line of NumPy',
      Target(False, 1.0, 0.5),
      20,
      weights.mmo,
    ),
    'import': Benchmark(
      'import htjax.noise',
      'import jax, optax',
      Target(False, 1.1, 1.05),
      20,
      lambda small, repeats: startup.import_time(repeats),
    ),
  }
  return found


_DRAWS, _SCALING, _MEMORY = 'draws_1e9', 'scaling', 'memory'
_BOUNDS, _FITS, _COMPACT = 'bounds', 'fits', 'compact'
_OTHERS = (_FITS, _COMPACT, _SCALING, _MEMORY, _BOUNDS, _DRAWS)
_SMALL_REPEATS = 2


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {" ".join(argv[1:])}')
  # JAX tells at level INFO of every kind of device that is not there.
  logging.set_verbosity(logging.WARNING)
  known = benchmarks()
  names = _ONLY.value or [*known, *_OTHERS]
  for name in names:
    if name not in (*known, *_OTHERS):
      raise app.UsageError(
        f'--only takes {", ".join((*known, *_OTHERS))}, got {name!r}'
      )
  if _REPEATS.value < 0:
    raise app.UsageError(f'--repeats must be >= 0, got {_REPEATS.value}')
  output = Path(_OUTPUT.value)
  output.parent.mkdir(parents=True, exist_ok=True)
  results: dict[str, Any] = {
    'environment': environment(),
    'small': _SMALL.value,
    'comparisons': [],
    'draws': [],
    'scaling': [],
    'memory': {},
    'bounds': {},
    'fits': [],
    'compact': [],
  }
  for name in names:
    print(f'measuring {name} ..', file=sys.stderr)
    if name == _DRAWS:
      results['draws'] = drawing.billion(_SMALL.value)
    elif name == _SCALING:
      results['scaling'] = particles.scaling(_SMALL.value)
    elif name == _MEMORY:
      results['memory'] = particles.memory(_SMALL.value)
    elif name == _FITS:
      results['fits'] = weights.fits(_SMALL.value)
    elif name == _COMPACT:
      results['compact'] = weights.compact(_SMALL.value)
    elif name == _BOUNDS:
      results['bounds'] = bounds.cost(_SMALL.value)
    else:
      results['comparisons'].append(
        measure(name, known[name], _SMALL.value, _REPEATS.value)
      )
    # After each one: a long campaign that is cut short has not been in vain.
    records.atomic_write(output, json.dumps(results, indent=2) + '\n')
  print(report(results))
  print(f'\nwritten to {output}')


def measure(
  name: str, benchmark: Benchmark, small: bool, repeats: int
) -> dict[str, Any]:
  """One line of the results file."""
  repeats = repeats or (_SMALL_REPEATS if small else benchmark.repeats)
  target = benchmark.target
  row: dict[str, Any] = {
    'name': name,
    'what': benchmark.what,
    'against': benchmark.baseline,
    'ratio_is': 'baseline / ours' if target.faster else 'ours / baseline',
    'must': target.must,
    'goal': target.goal,
    'load_average_before': load(),
  }
  try:
    found = benchmark.measure(small, repeats)
  except Unavailable as error:
    return row | {'verdict': 'skipped', 'note': str(error)}
  except Disagreement as error:
    return row | {'verdict': 'DISAGREES', 'note': str(error)}
  ratios = compare(target, found)
  return row | {
    'repeats': len(found.ours),
    'baseline': spread(found.baseline),
    'ours': spread(found.ours),
    **ratios,
    'verdict': 'not judged' if small else target.verdict(ratios['ratio']),
    'recorded': found.recorded,
    'note': found.note,
    'first_call_seconds': found.first and [c.wall for c in found.first],
    'details': found.details,
    'load_average_after': load(),
  }


def compare(target: Target, found: Measurement) -> dict[str, Any]:
  """The ratios of a measurement, the judged one first."""

  def seconds(costs, which: str) -> list[float]:
    return [getattr(cost, which) for cost in costs]

  least = {
    which: target.ratio(
      min(seconds(found.baseline, which)), min(seconds(found.ours, which))
    )
    for which in Cost._fields
  }
  turns: list[float] = []
  if not found.recorded:
    pairs = zip(found.baseline, found.ours, strict=True)
    turns = [target.ratio(a.wall, b.wall) for a, b in pairs]
  return {
    'ratio': least[found.judged_by],
    'ratio_paired': statistics.median(turns) if turns else None,
    'ratio_min': min(turns, default=None),
    'ratio_max': max(turns, default=None),
    'ratio_cpu': least['cpu'],
  }


def report(results: dict[str, Any]) -> str:
  """The tables as plain text."""
  where = results['environment']
  parts = [
    f'{where["device"]} x {where["num_devices"]}, {where["cores"]} cores, load '
    f'{where["load_average"][0]}, jax {where["jax"]}, {where["dtype"]}, '
    f'{where["platform"]}'
  ]
  if results['comparisons']:
    parts.append(_comparisons(results['comparisons']))
  if results.get('fits'):
    parts.append(_fits(results['fits']))
  if results.get('compact'):
    parts.append(_compact(results['compact']))
  if results['draws']:
    parts.append(_draws(results['draws']))
  if results.get('scaling'):
    parts.append(_scaling(results['scaling']))
  if results.get('memory'):
    parts.append(_memory(results['memory']))
  if results.get('bounds'):
    parts.append(_bounds(results['bounds']))
  return '\n\n'.join(parts)


def _comparisons(rows: list[dict[str, Any]]) -> str:
  headers = ['what', 'against', 'baseline s', 'ours s', 'ratio', 'paired']
  headers += ['min', 'max', 'cpu', 'must', 'goal', 'verdict', 'load']
  lines, notes = [], []
  for row in rows:
    target = Target(
      row['ratio_is'] == 'baseline / ours', row['must'], row['goal']
    )
    figures = ['-'] * 7
    if 'ratio' in row:
      costs = (f'{row[s]["wall_min"]:.4g}' for s in ('baseline', 'ours'))
      names = ('ratio', 'ratio_paired', 'ratio_min', 'ratio_max', 'ratio_cpu')
      ratios = (row[name] for name in names)
      figures = [*costs, *('-' if r is None else f'{r:.3g}' for r in ratios)]
    lines.append(
      [
        *(row['what'], row['against'], *figures),
        *(target.show(t) for t in (row['must'], row['goal'])),
        row['verdict'],
        row['load_average_before'][0],
      ]
    )
    if row['note']:
      notes.append(f'{row["what"]}: {row["note"]}')
  return '\n'.join([records.table(headers, lines), '', *notes])


def _draws(rows: list[dict[str, Any]]) -> str:
  tails = [f'p={p:.0e}' for p in rows[0]['tail_probabilities']]
  headers = ['alpha', 'draws', 's', 'NaN', 'infinite', 'zero', *tails]
  lines = [
    [
      *(f'{row["alpha"]:g}', f'{row["draws"]:.0e}', f'{row["seconds"]:.1f}'),
      *(row[key] for key in ('nan', 'infinite', 'zero')),
      *row['tail_counts'],
      f'{min(row["tail_pvalues"]):.2g}',
      'right' if row['right'] else 'WRONG',
    ]
    for row in rows
  ]
  return (
    'draws beyond the |x| that the law exceeds with probability p\n'
    + records.table([*headers, 'least p-value', 'verdict'], lines)
  )


def _fits(rows: list[dict[str, Any]]) -> str:
  lines = [
    [
      row['what'],
      f'{row["cold"]:.3g}',
      f'{row["warm"]:.3g}',
      f'<= {row["must"]:g}',
      '-' if row['goal'] is None else f'<= {row["goal"]:g}',
    ]
    for row in rows
  ]
  return 'seconds of a fit, with compilation and without\n' + records.table(
    ['what', 'cold', 'warm', 'must', 'goal'], lines
  )


def _compact(rows: list[dict[str, Any]]) -> str:
  lines = [
    [
      f'{100 * row["columns_removed"]:g} %',
      f'{row["difference"]:.2g}',
      f'{row["largest_output"]:.2g}',
      f'{row["time_ratio"]:.2f}',
      f'{row["bytes_ratio"]:.2f}',
    ]
    for row in rows
  ]
  headers = ['columns removed', 'largest difference', 'of outputs up to']
  return (
    f'784-{rows[0]["width"]}-10, batches of {rows[0]["batch"]}: compact / '
    'masked\n' + records.table([*headers, 'time', 'bytes'], lines)
  )


def _scaling(rows: list[dict[str, Any]]) -> str:
  lines = [
    [
      row['axis'],
      ' '.join(f'{size:g}' for size in row['sizes']),
      ' '.join(f'{seconds:.3g}' for seconds in row['seconds']),
      f'{row["slope"]:.2f}',
    ]
    for row in rows
  ]
  return (
    'particle system: seconds against size; slopes to be at most 1.05\n'
    + (records.table(['axis', 'sizes', 'seconds', 'slope'], lines))
  )


def _memory(row: dict[str, Any]) -> str:
  return (
    f'particle system, n={row["n"]:.0e}, p=10, 64 data, {row["steps"]} steps: '
    f'{row["seconds"]:.1f} s with compilation\n'
    f'{row["peak_gib"]:.2f} GiB at the peak; the particles are '
    f'{row["state_gib"]:.2f} GiB, all outputs of all units would be '
    f'{row["outputs_gib"]:.2f}'
  )


def _bounds(row: dict[str, Any]) -> str:
  lines = [
    [
      line['what'],
      f'{line["seconds"]:.3g}',
      f'{line["cpu"]:.3g}',
      f'{line["peak_gib"]:.2f}',
    ]
    for line in row['lines']
  ]
  return (
    f'bounds of a network of {row["weights"]:.3g} weights on {row["samples"]} '
    f'examples, compilation included: {row["seconds"]:.1f} s, to be at most '
    f'120\n'
    + records.table(['what', 's', 'CPU s', 'peak GiB so far'], lines)
    + f'\n{row["peak_gib"]:.2f} GiB at the peak; the inputs are '
    f'{row["data_gib"]:.2f} GiB, the weights {row["weights_gib"]:.2f}'
  )


if __name__ == '__main__':
  app.run(main)
