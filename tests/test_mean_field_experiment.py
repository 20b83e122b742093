"""The mean-field experiment as a user runs it."""

import json
import signal
import subprocess
import sys
import time

import children
import pytest

from experiments.common.cells import publish
from experiments.mean_field import cells, figures
from experiments.mean_field import config as configs
from experiments.mean_field.report import report

LEMMAS = ('drift', 'largest_path', 'one_step')
RATE = {'study', 'alpha', 'kind', 'slope', 'low', 'high', 'predicted'}


def command(workdir, *more):
  return [
    *(sys.executable, '-m', 'experiments.mean_field'),
    '--config=experiments/mean_field/config.py:smoke',
    *(f'--workdir={workdir}', *more),
  ]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('mean_field') / 'whole'
  config = configs.get_config('smoke')
  # The lemmas are tested apart.
  config.studies = tuple(s for s in config.studies if s not in LEMMAS)
  # Each size is a program of its own; two show a rate.
  config.sizes = config.sizes[:2]
  cells.run(config, workdir)
  return workdir


def test_smoke_run_writes_everything(whole):
  rows = json.loads((whole / 'results.json').read_text())
  for row in rows:
    if row.get('local_slopes') is not None:
      assert row.keys() >= RATE
      assert row['low'] <= row['slope'] <= row['high']
  held = {(r['study'], r['what']): r['holds'] for r in rows}
  # At this size intervals are wide, but these have room.
  assert held['euler', 'sup over i, n = 16']
  assert held['linear', 'scale of the scheme']
  assert held['gaussian_limit', 'error without drift, kappa = 0.1']
  controls = [r for r in rows if r['study'] == 'controls']
  assert len(controls) == 4
  assert not any(r['holds'] for r in controls)
  assert all(
    r['bound_holds'] for r in rows if r['study'] == 'chaos' and 'bound' in r
  )
  names = {p.name for p in whole.iterdir()}
  assert names >= {'config.json', 'results.json', 'table.txt', 'chaos.png'}
  assert {f'{study}.png' for study in figures.AXES} <= names
  assert 'Theorem 4.2' in (whole / 'table.txt').read_text()


@pytest.mark.slow
def test_lemmas(tmp_path):
  config = configs.get_config('smoke')
  config.studies = LEMMAS
  rows = cells.run(config, tmp_path)
  assert {r['statement'] for r in rows} == {
    *('eq. (3)', 'eq. (14)', 'Lemma C.1', 'Lemma C.2')
  }
  # Only the printed constant is not one.
  refuted = [r['what'] for r in rows if not r['holds']]
  assert refuted == [
    'Lipschitz in the mean distance, at most the printed B, of 20 sin'
  ]


def test_a_killed_run_goes_on_where_it_was(whole, tmp_path):
  studies = ('linear', 'tail', 'infinite_mean', 'largest_norm')
  config = configs.get_config('smoke')
  config.studies = studies
  rows = [
    row
    for row in json.loads((whole / 'results.json').read_text())
    if row['study'] in studies
  ]
  killed = command(tmp_path / 'killed', f'--config.studies={studies}')
  results = tmp_path / 'killed' / 'results.json'
  process = subprocess.Popen(
    killed,
    env=children.environment(),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  deadline = time.monotonic() + 240
  while process.poll() is None and time.monotonic() < deadline:
    if results.exists():
      process.send_signal(signal.SIGKILL)
    time.sleep(0.02)
  assert process.wait() == -signal.SIGKILL
  kept = json.loads(results.read_text())
  assert 0 < len(kept) < len(rows)
  cells.run(config, tmp_path / 'killed')
  # One device there and eight here: a sum may round differently.
  for ours, row in zip(json.loads(results.read_text()), rows, strict=True):
    assert ours['cell'] == row['cell']
    assert ours['slope'] == pytest.approx(row['slope'], rel=1e-4)
  assert json.loads(results.read_text())[: len(kept)] == kept


@pytest.mark.parametrize('name', configs.PRESETS)
def test_every_preset_is_whole(name):
  config = configs.get_config(name)
  plan = cells.cells(config)
  assert len({cell.name for cell in plan}) == len(plan)
  assert {cell.name.split()[0] for cell in plan} == set(configs.STUDIES)
  assert config.reference >= max(config.widths)
  for step in config.step_sizes:
    ratio = step / config.fine_step_size
    assert ratio == round(ratio)
    assert config.horizon / step == round(config.horizon / step)


def test_presets_are_named():
  with pytest.raises(ValueError, match=r'preset.*gpu'):
    configs.get_config('gpu')


def test_rows_without_points_have_no_figure(tmp_path):
  row = {
    'study': 'chaos',
    'statement': 'Theorem 4.2',
    'what': 'mean over i',
    'alpha': 1.5,
    'kind': 'type1',
    'slope': -0.5,
    'holds': False,
  }
  publish(report(configs.get_config('smoke'), [row]), tmp_path)
  assert 'NO' in (tmp_path / 'table.txt').read_text()
  assert {p.name for p in tmp_path.iterdir()} == {'table.txt'}


def test_a_work_directory_of_another_config_is_refused(tmp_path):
  config = configs.get_config('smoke')
  config.studies = ('infinite_mean',)
  rows = cells.run(config, tmp_path)
  assert rows == cells.run(config, tmp_path)
  config.seed = 1
  with pytest.raises(ValueError, match='seed was 0, is 1'):
    cells.run(config, tmp_path)
