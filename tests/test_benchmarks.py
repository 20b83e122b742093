"""Every benchmark runs, at tiny sizes; how fast it is tested nowhere."""

import math

import jax
import pytest

from experiments.benchmarks import run


@pytest.mark.parametrize('name', run.BENCHMARKS)
def test_benchmark_runs(name):
  # A timing repeats its draw from one key on purpose.
  with jax.debug_key_reuse(False):
    rows = list(run.BENCHMARKS[name](True))
  assert rows
  for row in rows:
    assert row.theirs > 0
    assert row.ours > 0
    assert math.isfinite(row.ratio)
  assert rows[0].name in run.report(rows)


def test_ratio_and_targets_point_the_right_way():
  slower = run.Row('a', 'b', 2.0, 3.0, True, 1.6, 1.2)
  assert slower.ratio == 1.5
  assert slower.reached == 'yes'
  faster = run.Row('a', 'b', 30.0, 2.0, False, 10.0, 15.0)
  assert faster.ratio == 15.0
  assert faster.reached == 'goal'
  assert faster._replace(ours=4.0).reached == 'NO'
