"""Benchmarks at tiny sizes: do both sides run and agree, are ratios right?

Nothing here looks at how long anything takes.
"""

import json
import math
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import app, flags
from absl.testing import flagsaver

from experiments.benchmarks import (
  bounds,
  drawing,
  lanes,
  particles,
  run,
  startup,
  steps,
  table1,
  timing,
)
from htjax import stable

# Those that start processes have tests of their own below.
IN_PROCESS = sorted(run.benchmarks().keys() - {'table1', 'threshold', 'import'})


@pytest.mark.parametrize('name', IN_PROCESS)
def test_both_sides_run_and_agree(name):
  row = run.measure(name, run.benchmarks()[name], True, 1)
  assert row['verdict'] == 'not judged', row['note']
  assert row['repeats'] == 1
  for side in ('baseline', 'ours'):
    assert 0 < row[side]['wall_min'] <= row[side]['wall_median']
  for ratio in ('ratio', 'ratio_paired', 'ratio_cpu'):
    assert 0 < row[ratio] < math.inf
  assert row['ratio_min'] <= row['ratio_paired'] <= row['ratio_max']
  json.dumps(row, allow_nan=False)


def test_turns_are_interleaved_and_the_first_ones_apart():
  order = []

  def turn(name, seconds):
    def run_it(i):
      order.append((name, i))
      return timing.Cost(seconds + i, 0.5)

    return run_it

  found = timing.interleave(turn('a', 10.0), turn('b', 20.0), 3)
  assert [name for name, _ in order] == list('ababbaab')
  assert [cost.wall for cost in found.first] == [10.0, 20.0]
  assert [cost.wall for cost in found.baseline] == [11.0, 12.0, 13.0]
  assert [cost.wall for cost in found.ours] == [21.0, 22.0, 23.0]
  order.clear()
  cold = timing.interleave(turn('a', 1.0), turn('b', 1.0), 1, warm_up=False)
  assert cold.first is None
  assert len(order) == 2


def test_ratios_and_verdicts_point_the_right_way():
  slower, faster = run.Target(False, 1.5, 1.2), run.Target(True, 10.0, 30.0)
  cost = timing.Cost
  found = timing.Measurement(
    [cost(2.0, 4.0), cost(4.0, 8.0)], [cost(3.0, 2.0), cost(4.0, 1.0)]
  )
  ratios = run.compare(slower, found)
  turns = {'ratio_paired': 1.25, 'ratio_min': 1.0, 'ratio_max': 1.5}
  assert ratios == {'ratio': 1.5, **turns, 'ratio_cpu': 0.25}
  ratios = run.compare(faster, found._replace(judged_by='cpu', recorded=True))
  assert ratios == {'ratio': 4.0, **dict.fromkeys(turns), 'ratio_cpu': 4.0}
  for ratio, verdict in ((1.2, 'goal'), (1.5, 'reached'), (1.51, 'MISSED')):
    assert slower.verdict(ratio) == verdict
  for ratio, verdict in ((30.0, 'goal'), (10.0, 'reached'), (9.9, 'MISSED')):
    assert faster.verdict(ratio) == verdict
  assert run.Target(True, None, None).verdict(1.0) == '-'


def test_a_disagreement_is_reported_and_not_timed():
  def measure(small, repeats):
    raise timing.Disagreement('seven is not eight')

  benchmark = run.Benchmark('a', 'b', run.Target(True, 1.0, 2.0), 1, measure)
  row = run.measure('name', benchmark, True, 1)
  assert row['verdict'] == 'DISAGREES'
  assert 'ratio' not in row
  assert 'seven is not eight' in run.report(
    {'environment': timing.environment(), 'comparisons': [row], 'draws': []}
  )


def test_counts_follow_the_law_and_those_of_another_law_do_not(monkeypatch):
  for i, alpha in enumerate((0.6, 1.0, 1.8, 2.0)):
    row = drawing.count_draws(jax.random.key(100 + i), alpha, 10**5, 3)
    assert row['right'], row
    assert row['draws'] == 300_000
    # A tenth, a hundredth, ... of the draws, and so in falling order.
    counts = row['tail_counts']
    assert counts == sorted(counts, reverse=True)

  def sampler(size, law):
    return lambda key, alpha: law(stable.sample(key, alpha, (size,)))

  faults = {
    'wider': lambda x: 1.01 * x,
    'cut off': lambda x: jnp.clip(x, -10.0, 10.0),
    'NaN': lambda x: x.at[0].set(jnp.nan),
    'infinite': lambda x: x.at[0].set(jnp.inf),
  }
  for name, law in faults.items():
    monkeypatch.setattr(
      drawing, '_sampler', lambda size, law=law: sampler(size, law)
    )
    row = drawing.count_draws(jax.random.key(104), 1.8, 10**6, 1)
    assert not row['right'], name


def test_checks_before_timing_can_fail():
  x = np.asarray(stable.sample(jax.random.key(105), 1.8, (10**5,)))
  drawing.check_law(x, 1.8)
  with pytest.raises(timing.Disagreement, match='E cos'):
    drawing.check_law(1.05 * x, 1.8)
  with pytest.raises(timing.Disagreement, match='E cos'):
    drawing.check_law(np.where(np.arange(x.size) == 7, np.nan, x), 1.8)
  weights = {'kernel': jnp.ones((3, 2))}
  other = {'kernel': weights['kernel'].at[1, 1].add(1e-3)}
  steps.check_same(weights, weights)
  steps.check_other(weights, other)
  with pytest.raises(timing.Disagreement, match='sigma = 0'):
    steps.check_same(weights, other)
  with pytest.raises(timing.Disagreement, match='sigma > 0'):
    steps.check_other(weights, weights)
  end = lanes.End(11, 0.5, 0.8)
  lanes.check_ends([end], [end], 100)
  for wrong in ({'steps': 12}, {'loss': 0.51}, {'accuracy': 0.82}):
    with pytest.raises(timing.Disagreement, match='lane 0'):
      lanes.check_ends([end], [end._replace(**wrong)], 100)
  startup.check_loaded({'jax', 'optax'}, {'jax', 'optax', 'htjax'})
  for loaded in ({'jax', 'htjax'}, {'jax', 'optax', 'htjax', 'flax'}):
    with pytest.raises(timing.Disagreement, match='htjax'):
      startup.check_loaded({'jax', 'optax'}, loaded)


def test_runs_of_pytorch_and_ours_are_compared_where_they_are_the_same():
  row = {'seed': 1, 'sigma': 0.0, 'steps': 101, 'train_accuracy': 0.95}
  row['pruning_ratio'] = 0.114
  noisy = row | {'sigma': 0.5, 'steps': 31, 'pruning_ratio': 0.4}

  def check(theirs):
    table1.check_rows([row, noisy], theirs, 10, 500, 2000)

  check([row, noisy | {'pruning_ratio': 0.9}])
  check([row | {'steps': 111, 'train_accuracy': 0.96}, noisy])
  wrong = (
    {'steps': 121},
    {'train_accuracy': 0.956},
    {'pruning_ratio': 0.116},
    {'seed': 2},
  )
  for change in wrong:
    with pytest.raises(timing.Disagreement):
      check([row | change, noisy])


def test_spread_out_lanes():
  assert table1.spread_out(range(20), 0) == list(range(20))
  assert table1.spread_out(range(20), 5) == [0, 4, 8, 12, 16]
  with pytest.raises(ValueError, match=r'torch_runs.*0\.\.20.*21'):
    table1.spread_out(range(20), 21)


def test_the_command_prints_a_table_and_writes_the_figures(
  tmp_path, monkeypatch, capsys
):
  # How long a cold start takes is not asked here.
  monkeypatch.setattr(bounds, 'cost', bounds.measure)
  for module in (particles, table1):
    monkeypatch.setattr(module, 'cold_environment', lambda: os.environ)
  output = tmp_path / 'new' / 'results.json'
  flags.FLAGS.mark_as_parsed()
  with flagsaver.flagsaver(
    small=True,
    only=['table1', 'draws_1e9', 'scaling', 'memory', 'bounds'],
    repeats=1,
    torch_python='/no/such/python',
    output=str(output),
  ):
    run.main(['run'])
  results = json.loads(output.read_text())
  (table,) = results['comparisons']
  assert table['verdict'] == 'not judged', table
  assert table['recorded']
  assert '/no/such/python' in table['note']
  assert all(row['right'] for row in results['draws'])
  assert [row['axis'] for row in results['scaling']] == [
    *('n', 'p', 'm', 'steps', 'lanes')
  ]
  assert results['memory']['n'] == 10**4
  assert results['bounds']['weights'] == 784 * 32 + 3 * 32**2 + 320
  assert {'HT Theorem 4', 'SH Theorem 2', 'SK Theorem 5.2', 'Ju 2022'} <= {
    line['what'] for line in results['bounds']['lines']
  }
  assert results['environment']['cores'] >= 1
  printed = capsys.readouterr().out
  for text in ('Table 1', '>= 10', 'p=1e-08', 'lanes', 'GiB'):
    assert text in printed


@pytest.mark.slow
def test_import_is_measured_in_fresh_processes():
  found = run.measure('import', run.benchmarks()['import'], True, 1)
  assert found['verdict'] == 'not judged', found
  assert found['must'] == 1.1


def test_unknown_names_are_refused(tmp_path):
  output = tmp_path / 'new' / 'results.json'
  flags.FLAGS.mark_as_parsed()
  with (
    flagsaver.flagsaver(small=True, only=['imports'], output=str(output)),
    pytest.raises(app.UsageError, match=r"sample_normal.*got 'imports'"),
  ):
    run.main(['run'])
  assert not output.parent.exists()
