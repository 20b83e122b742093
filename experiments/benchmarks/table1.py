"""A table of "Implicit Compressibility ..." end to end, from a cold start.

Ours is the experiment as a user starts it, figures included; the baseline is
`torch_program.py`, which trains, stops and prunes the same networks from the
same first weights. Both start with the imports and keep nothing compiled.
"""

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.timing import (
  ROOT,
  Cost,
  Disagreement,
  Measurement,
  Unavailable,
  cold_environment,
  interleave,
  run_command,
)
from htjax import records, training

# CPU seconds of the authors' program on one thread of an AMD EPYC, measured
# once: per run at n = 2000, with evaluation on 500 test series, and imports.
_RECORDED_RUN, _RECORDED_IMPORTS = 3.4, 4.0
_CONFIG = 'experiments/implicit_compressibility/config.py'

Row = dict[str, Any]


def end_to_end(
  small: bool, repeats: int, *, torch_python: str, torch_runs: int
) -> Measurement:
  """Table 1, or the smoke preset, against PyTorch.

  Args:
    small: the smoke preset.
    repeats: cold starts of each.
    torch_python: an interpreter that has torch and scipy; this one if empty.
    torch_runs: how many of the runs the baseline makes, evenly spread over
      the lanes; their time, without the start, is scaled up. 0 is all.

  Raises:
    Unavailable: the data set is not prepared.
  """
  preset = 'smoke' if small else 'ecg5000_type1_2k'
  problem = make_problem(preset)
  lanes = spread_out(problem['lanes'], torch_runs)
  python, reason = find_torch(torch_python)
  with tempfile.TemporaryDirectory() as folder:
    ours = _Experiment(preset, problem['batch_size'], Path(folder))
    if python is None:
      costs = [ours(i) for i in range(repeats)]
      seconds = _RECORDED_IMPORTS + len(problem['lanes']) * _RECORDED_RUN
      return Measurement(
        [Cost(seconds, seconds)],
        costs,
        note=f'CPU s against a recorded figure, not of this run: {reason}',
        judged_by='cpu',
        recorded=True,
      )
    theirs = _TorchProgram(python, problem, lanes, Path(folder))
    measured = interleave(theirs, ours, repeats, warm_up=False)
  check_rows(
    [ours.rows[problem['lanes'].index(lane)] for lane in lanes],
    theirs.rows,
    problem['eval_every'],
    len(problem['train_labels']),
    problem['width'],
  )
  made = f'{len(lanes)} of {len(problem["lanes"])} runs made, scaled up; '
  return measured._replace(
    note=(made if len(lanes) < len(problem['lanes']) else '')
    + 'PyTorch runs share one process and its imports',
    details={
      'steps_ours': sum(row['steps'] for row in ours.rows),
      'torch_runs': len(lanes),
      'torch_steps': sum(row['steps'] for row in theirs.rows),
      'torch_version': theirs.version,
      'torch_threads': theirs.threads,
      'torch_start_seconds': theirs.start.wall,
    },
  )


def make_problem(preset: str) -> dict[str, Any]:
  """Inputs of the baseline: data, first weights, lanes and settings."""
  # Imported here because it defines flags of its own.
  from experiments.common import tasks
  from experiments.implicit_compressibility import cells
  from experiments.implicit_compressibility.config import get_config

  config = get_config(preset)
  try:
    dataset = cells.load_data(config)
  except FileNotFoundError as error:
    raise Unavailable(str(error)) from None
  lanes = [
    [lane.seed, lane.alpha, lane.sigma] for lane in cells.make_lanes(config)
  ]
  network = tasks.network(config, dataset)
  problem = {
    'lanes': lanes,
    'train_inputs': dataset.train.inputs.reshape(len(dataset.train.labels), -1),
    'train_labels': dataset.train.labels,
    'test_inputs': dataset.test.inputs.reshape(len(dataset.test.labels), -1),
    'test_labels': dataset.test.labels,
    # Full batches, of which no order has to be agreed on.
    'batch_size': len(dataset.train.labels),
  }
  names = ('width', 'learning_rate', 'eval_every', 'max_steps')
  problem |= {n: config[n] for n in (*names, 'target_accuracy', 'tolerance')}
  for seed in sorted({seed for seed, _, _ in lanes}):
    params = network.init(training.init_key(seed))
    for layer in ('hidden_0', 'output'):
      problem[f'{layer}_{seed}'] = np.asarray(params[layer]['kernel'])
  return problem


def spread_out(lanes: Sequence[Any], count: int) -> list[Any]:
  """`count` of the lanes, evenly spread; 0 is all of them."""
  if not 0 <= count <= len(lanes):
    raise ValueError(
      f'torch_runs must lie in 0..{len(lanes)}, the number of lanes, got '
      f'{count}'
    )
  count = count or len(lanes)
  return [lanes[i * len(lanes) // count] for i in range(count)]


def find_torch(python: str) -> tuple[str | None, str]:
  """An interpreter that can run the baseline, or None and the reason."""
  python = python or sys.executable
  try:
    run_command([python, '-c', 'import torch, scipy'], dict(os.environ))
  except (OSError, RuntimeError) as error:
    last = str(error).strip().splitlines()[-1]
    return None, f'{last} (--torch_python names another interpreter)'
  return python, ''


def check_rows(
  ours: Sequence[Row],
  theirs: Sequence[Row],
  eval_every: int,
  num_train: int,
  width: int,
) -> None:
  """Raise unless both programs trained to the same end.

  Only runs without noise are the same numbers: they must stop at the same
  evaluation, or, where rounding decides, at a neighbouring one, with all but
  the same accuracy and pruning ratio.
  """
  for a, b in zip(ours, theirs, strict=True):
    if (a['seed'], a['sigma']) != (b['seed'], b['sigma']):
      raise Disagreement(f'not the same lane: {a} and {b}')
    if a['sigma'] > 0:
      continue
    steps = abs(a['steps'] - b['steps'])
    accuracy = abs(a['train_accuracy'] - b['train_accuracy'])
    ratio = abs(a['pruning_ratio'] - b['pruning_ratio'])
    if steps > eval_every or (
      steps == 0 and (accuracy > 2.5 / num_train or ratio > 2.5 / width)
    ):
      raise Disagreement(f'seed {a["seed"]} must end alike, got {a} and {b}')


class _Experiment:
  """Turns of our program; `rows` are those of the last one."""

  def __init__(self, preset: str, batch_size: int, folder: Path):
    self.preset, self.batch_size, self.folder = preset, batch_size, folder
    self.rows: list[Row] = []

  def __call__(self, i: int) -> Cost:
    workdir = self.folder / f'run_{i}'
    cost, _ = run_command(
      [
        *(sys.executable, '-m', 'experiments.implicit_compressibility'),
        f'--config={_CONFIG}:{self.preset}',
        f'--config.batch_size={self.batch_size}',
        f'--workdir={workdir}',
      ],
      cold_environment(),
    )
    self.rows = records.read_results(workdir)
    return cost


class _TorchProgram:
  """Turns of the baseline, scaled to all lanes."""

  def __init__(
    self, python: str, problem: dict[str, Any], lanes: list, folder: Path
  ):
    self.python, self.scale = python, len(problem['lanes']) / len(lanes)
    self.problem, self.results = folder / 'problem.npz', folder / 'torch.json'
    np.savez(self.problem, **{**problem, 'lanes': np.asarray(lanes)})
    self.rows: list[Row] = []

  def __call__(self, i: int) -> Cost:
    script = ROOT / 'experiments' / 'benchmarks' / 'torch_program.py'
    cost, _ = run_command(
      [self.python, script, self.problem, self.results], cold_environment()
    )
    written = json.loads(self.results.read_text())
    self.rows, self.version = written['rows'], written['version']
    self.threads = written['threads']
    costs = zip(*(row['cost'] for row in self.rows), strict=True)
    runs = Cost(*map(sum, costs))
    self.start = Cost(cost.wall - runs.wall, cost.cpu - runs.cpu)
    return Cost(
      self.start.wall + runs.wall * self.scale,
      self.start.cpu + runs.cpu * self.scale,
    )
