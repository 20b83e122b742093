"""Experiments as a user runs them: smoke runs, kills, reports, presets."""

import json
import os
import signal
import subprocess
import sys
import time

import children
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments.common import program, published
from experiments.implicit_compressibility import cells as study
from experiments.implicit_compressibility import config as configs
from experiments.implicit_compressibility import report as reports
from htjax import compressibility, models, pruning, stable, training

REQUIRED = {
  *('table', 'alpha', 'sigma', 'kind', 'width', 'seed', 'steps', 'diverged'),
  *('train_accuracy', 'test_accuracy', 'pruning_ratio'),
  *('train_accuracy_pruned', 'test_accuracy_pruned'),
}


def command(workdir, preset='smoke', *more):
  config = 'experiments/implicit_compressibility/config.py'
  return [
    *(sys.executable, '-m', 'experiments.implicit_compressibility'),
    *(f'--config={config}:{preset}', f'--workdir={workdir}', *more),
  ]


# ml_collections imports the file of a config as Python once did.
loads_a_module = pytest.mark.filterwarnings(
  'ignore:the load_module:DeprecationWarning'
)


def config_of(command, monkeypatch):
  """As `python -m` reads it: ml_collections looks at sys.argv itself."""
  _, _, *arguments = command
  monkeypatch.setattr(sys, 'argv', arguments)
  with flagsaver.flagsaver():
    flags.FLAGS(arguments)
    return program._CONFIG.value


def check_files(workdir, num_rows, printed):
  """Files of a run are there, and its end is printed."""
  rows = json.loads((workdir / 'results.json').read_text())
  assert len(rows) == num_rows
  for row in rows:
    assert row.keys() >= REQUIRED
    assert 0 < row['pruning_ratio'] < 1
  assert 'no noise' in printed
  assert '1.75' in printed
  names = {p.name for p in workdir.iterdir()}
  assert names >= {
    *('config.json', 'metrics.jsonl', 'results.json', 'table.txt'),
    *('accuracy_against_pruning_ratio.png', 'pruning_ratio.png'),
    'column_norms.png',
  }


@pytest.mark.slow
def test_one_device_writes_everything(tmp_path):
  done = subprocess.run(
    command(tmp_path / 'run'),
    env=children.environment(),
    capture_output=True,
    text=True,
    check=True,
  )
  check_files(tmp_path / 'run', 4, done.stdout)


@loads_a_module
@pytest.mark.parametrize(
  ('kills', 'num_seeds', 'steps'),
  [((3,), 1, 60), pytest.param((1, 30, 60), 3, 400, marks=pytest.mark.slow)],
)
def test_killed_runs_end_with_the_same_numbers_bit_for_bit(
  tmp_path, capsys, monkeypatch, kills, num_seeds, steps
):
  changes = {
    'max_steps': steps,
    'checkpoint_every': 0.0,
    'target_accuracy': 0.999,
    'num_seeds': num_seeds,
  }
  config = configs.get_config('smoke')
  config.update(changes)
  study.run(config, tmp_path / 'whole')
  more = [f'--config.{k}={v}' for k, v in changes.items()]
  killed = command(tmp_path / 'killed', 'smoke', *more)
  metrics = tmp_path / 'killed' / 'metrics.jsonl'
  # The same compiler and devices as here, so that every bit is the same.
  same = os.environ | {'PYTHONUNBUFFERED': '1'}
  for lines in kills:
    process = subprocess.Popen(
      killed,
      env=same,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
      if metrics.exists() and metrics.read_bytes().count(b'\n') > lines:
        process.send_signal(signal.SIGKILL)
      time.sleep(0.01)
    assert process.wait() == -signal.SIGKILL
  capsys.readouterr()
  study.run(config_of(killed, monkeypatch), tmp_path / 'killed')
  printed = capsys.readouterr().out
  check_files(tmp_path / 'killed', 2 * num_seeds, printed)
  for name in ('results.json', 'metrics.jsonl'):
    whole = (tmp_path / 'whole' / name).read_text()
    assert (tmp_path / 'killed' / name).read_text() == whole


@pytest.fixture(scope='module')
def smoke(tmp_path_factory):
  """The work directory and the rows of a smoke run."""
  workdir = tmp_path_factory.mktemp('smoke') / 'run'
  return workdir, study.run(configs.get_config('smoke'), workdir)


def test_smoke_run_converges(smoke):
  _, rows = smoke
  assert len(rows) == 4
  assert {row['status'] for row in rows} == {'converged'}


def test_a_work_directory_of_another_config_is_refused(smoke):
  workdir, _ = smoke
  before = (workdir / 'results.json').read_bytes()
  config = configs.get_config('smoke')
  config.learning_rate = 0.123
  with pytest.raises(ValueError, match=r'learning_rate was 0\.1, is 0\.123'):
    study.run(config, workdir)
  assert (workdir / 'results.json').read_bytes() == before


@loads_a_module
def test_a_misspelt_override_is_an_error(tmp_path, monkeypatch):
  def read(override):
    given = command(tmp_path, 'smoke', override)
    return config_of(given, monkeypatch).num_seeds

  assert read('--config.num_seeds=3') == 3
  with pytest.raises(AttributeError, match='num_seed'):
    read('--config.num_seed=3')


def test_sweep_finds_the_largest_sigma_that_converges(tmp_path, capsys):
  config = configs.get_config('sweep_smoke')
  config.sweep = (0.5, 1.0, 1e6)
  config.num_seeds = 2
  rows = study.run(config, tmp_path)
  assert len(rows) == 2 + 3 * 2
  wild = [r for r in rows if r['sigma'] > 1]
  assert {r['status'] for r in wild} <= {'out of steps', 'diverged'}
  text = capsys.readouterr().out
  assert 'largest sigma that still converges' in text
  assert f'{config.sigmas[0]:.4g} ' in text
  assert (tmp_path / 'sigma_sweep.png').exists()


@pytest.mark.parametrize('name', configs.PRESETS)
def test_every_preset_is_whole(name):
  for preset in (name, f'sweep_{name}'):
    config = configs.get_config(preset)
    lanes = study.make_lanes(config)
    factors = len(config.sweep) or 1
    assert len(lanes) == config.num_seeds * (1 + len(config.alphas) * factors)
    assert config.learning_rate > 0
    assert config.batch_size > 0
  table = configs.get_config(name).table
  assert not table or published.row(table, 1.75)


def test_unknown_presets_and_settings_are_named():
  with pytest.raises(ValueError, match=r'preset.*ecg'):
    configs.get_config('ecg')
  config = configs.get_config('smoke')
  config.sigmas = (0.1, 0.2)
  with pytest.raises(ValueError, match='sigmas'):
    study.make_lanes(config)


def test_type3_sigmas_are_those_of_the_papers_convention():
  config = configs.get_config('ecg5000_type3_10k')
  np.testing.assert_allclose(
    np.array(config.sigmas) ** 2 * 2, np.array([3.0, 3.0, 2.0]) ** 2
  )


def test_published_rows():
  row = published.row('IC-TB1', 1.8)
  assert row['pruning_ratio'] == pytest.approx((0.3722, 0.2051))
  assert row['test_accuracy_pruned'] == pytest.approx((0.9392, 0.0054))
  assert not published.row('IC-TB3', None)
  assert published.row('', 1.75) == {}
  assert published.value('IC-TB1', (None,), 'pruning_ratio') == (
    pytest.approx((0.1143, 0.0004))
  )


def test_law_draws_are_the_law_of_the_lane():
  # A network whose inputs never moved it, disturbed by K steps of noise.
  config = configs.get_config('ecg5000_type1_2k')
  config.law_draws = 400
  network = models.fcn(140, 500, 2)
  steps, sigma, alpha = 101, 0.5, 1.8

  def initial(seed):
    return network.init(training.init_key(seed))

  def disturbed(seed, scales):
    params = initial(seed)
    z = stable.sample(jax.random.key(1000 + seed), alpha, (1, 500))
    for scale in scales:
      kernel = params['hidden_0']['kernel'] + scale * z
      yield {**params, 'hidden_0': {'kernel': kernel}}

  def law(seed, params):
    lane = training.Lane(seed, alpha, sigma)
    finished = training.Finished(0, lane, params, steps, 'converged', 0.1, 0.95)
    drawn = study.law_draws(config, initial, finished)
    return np.array(drawn['law_pruning_ratios'])

  @jax.jit
  def ratios(scales):
    def of_one(seed):
      kernels = [p['hidden_0']['kernel'] for p in disturbed(seed, scales)]
      return jnp.stack(list(map(compressibility.pruning_ratio, kernels)))

    return jax.lax.map(of_one, jnp.arange(100))

  time = config.learning_rate * (steps - 1)
  right = sigma * time ** (1 / alpha)
  # Negative control: noise scaled by eta^(1/2) instead of eta^(1/alpha).
  wrong = sigma * time**0.5
  ours, others = np.asarray(ratios([right, wrong]), float).T
  draws = law(0, next(disturbed(0, [right]))).tolist()

  def p_value(trained):
    own = {'alpha': alpha, 'sigma': sigma, 'law_pruning_ratios': draws}
    return _p_value(
      reports.law_table([own | {'pruning_ratio': r} for r in trained])
    )

  assert p_value(ours) > 1e-3
  assert p_value(others) < 1e-3


def _p_value(table: str) -> float:
  return float(table.splitlines()[-1].split()[-1])


def test_diverged_lanes_are_rows_and_not_crashes(tmp_path):
  config = configs.get_config('smoke')
  config.alphas, config.sigmas = (1.2,), (1e30,)
  rows = study.run(config, tmp_path)
  lost = [r for r in rows if r['alpha'] is not None]
  assert all(r['diverged'] and r['pruning_ratio'] is None for r in lost)
  assert len(lost) == 2


def test_analysis_at_the_ends_of_the_curve(smoke):
  _, rows = smoke
  for row in rows:
    assert row['test_accuracy_curve'][0] == row['test_accuracy']
    # Without hidden units every logit is 0, so class 0 is the answer.
    assert row['test_accuracy_curve'][-1] == pytest.approx(0.1, abs=0.03)
    assert sum(row['column_norm_counts']) == row['width']
  assert jnp.isfinite(rows[0]['test_accuracy'])


def test_cuts_are_those_of_the_pruning_functions():
  config = configs.get_config('smoke')
  leaf = jax.random.normal(jax.random.key(3), (20, 30)) ** 3
  params, norms = {'w': leaf}, np.asarray(compressibility.column_norms(leaf))
  whole, paid, *curve = study._cuts(config, leaf, norms, True)
  pruned = pruning.columns_to_error(params, config.tolerance)
  assert whole.all()
  assert 0 < pruned.ratio < 1
  expected = [pruned] + [
    pruning.columns(params, 1 - np.float32(share))
    for share in config.fractions[:-1]
  ]
  for cut, result in zip([paid, *curve[:-1]], expected, strict=True):
    assert np.array_equal(np.broadcast_to(cut, leaf.shape), result.mask['w'])
  assert not curve[-1].any()
  masks, flags = {'w': paid[None]}, {'w': True}
  share = study._pruned_share(params, masks, flags)
  np.testing.assert_allclose(share, pruned.ratio, 2 * np.finfo('f4').eps)
