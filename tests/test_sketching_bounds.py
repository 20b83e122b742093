"""The experiment on pruned networks: a run, and what its reports say."""

import itertools
import json
import math
import re

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import published
from experiments.sketching_bounds import (
  authors,
  cells,
  networks,
  numbers,
  report,
)
from experiments.sketching_bounds import config as configs
from htjax.bounds import magnitude_sketching, make_bound

FIGURES = (
  *('methods', 'width', 'epochs', 'weights', 'pruning_error', 'sparsity'),
  'recovery',
)
WIDTHS = (500, 784, 1000, 1500, 2000, 2500)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The work directory and rows of a smoke run."""
  workdir = tmp_path_factory.mktemp('smoke')
  return workdir, cells.run(configs.get_config('smoke'), workdir)


def of(rows, study):
  return [row for row in rows if row['study'] == study]


def test_a_run_writes_everything(finished):
  workdir, rows = finished
  assert {p.name for p in workdir.glob('*.png')} == {
    f'{name}.png' for name in FIGURES
  }
  text = (workdir / 'table.txt').read_text()
  for title in (
    *('natural logarithm', 'slope', 'Algorithm 1', 'three counts'),
    'sqrt(value / n)',
  ):
    assert title in text
  assert json.loads((workdir / 'results.json').read_text()) == json.loads(
    json.dumps(rows)
  )
  for row in (*of(rows, 'bounds'), *of(rows, 'trace')):
    assert row['status'] == 'trained'
    assert 0 < row['test_error'] < 0.9
    for found in row['methods'].values():
      assert found['complexity'] <= found['bound']
  assert [row['epoch'] for row in of(rows, 'trace')] == [1, 6]


def test_the_traced_network_is_that_of_the_table(finished):
  _, rows = finished
  table, last = of(rows, 'bounds')[0], of(rows, 'trace')[-1]
  assert (table['width'], table['epoch']) == (last['width'], last['epoch'])
  for name in ('gamma', 'test_error'):
    assert table[name] == last[name]
  # Cushions are probed with other draws.
  for name in ('neyshabur_2015', 'bartlett_2017', 'ju_2022', 'sketched'):
    assert table['methods'][name] == last['methods'][name]


def test_what_the_rows_say(finished):
  _, rows = finished
  for row in of(rows, 'bounds'):
    methods = row['methods']
    assert methods['naive']['complexity'] < methods['sketched']['complexity']
    # 1/60 of the weights is not what the margin allows.
    assert 'margin' in methods['sketched']['broken']
    assert methods['sketched_margin']['broken'] == []
    assert methods['sketched_margin']['failure'] < 1
  (counts,) = of(rows, 'counts')
  assert counts['naive'] < min(counts['sketch'], counts['dense'])
  strengths = of(rows, 'strengths')
  kept = [row['kept_fraction'] for row in strengths]
  assert kept == sorted(kept, reverse=True)
  for row in strengths:
    # The lemma on what was measured, where it applies.
    if row['bound_measured']['premise']:
      assert math.log(row['change_max']) <= row['bound_measured']['log']
    assert row['bound_mean']['log'] < row['bound_markov']['log']
  assert strengths[0]['bound_measured']['premise']
  assert not strengths[-1]['bound_mean']['premise']


def test_what_is_done_is_kept(finished, monkeypatch):
  workdir, rows = finished
  results = workdir / 'results.json'
  before = results.read_text()
  kept = [row for row in rows if row['study'] != 'recovery']
  results.write_text(json.dumps(kept))
  asked = []
  train = networks.train
  monkeypatch.setattr(
    networks, 'train', lambda *args: asked.append(args) or train(*args)
  )
  again = cells.run(configs.get_config('smoke'), workdir)
  assert asked == []
  assert len(again) == len(rows)
  assert json.loads(results.read_text()) == json.loads(before)


def fake_row(width, dataset='mnist', dim=784, **more):
  sides = [dim, width, width, width, width, 10]
  return {
    'study': 'bounds',
    'dataset': dataset,
    'width': width,
    'status': 'trained',
    'train_error': 0.01,
    'test_error': 0.02,
    'num_samples': 60_000,
    'shapes': list(itertools.pairwise(sides)),
    'gamma': 1.0,
    'methods': {},
    **more,
  }


def test_the_published_column_is_the_theorem_with_unit_factors():
  """Within 0.04 at all six widths, so it grows like the width."""
  rows = [fake_row(h) for h in WIDTHS]
  for row in rows:
    printed = published.value('SK-TB2', (row['width'],), 'reading')
    assert numbers.reading(row) == pytest.approx(printed, abs=0.04)
  ours, printed = numbers.slopes(rows)['reading']
  # Six values moved by 0.04 move the fitted slope by at most 0.065.
  assert ours == pytest.approx(printed, abs=0.065)
  assert ours == pytest.approx(1, abs=0.15)
  # It is what the authors compute where nothing is pruned.
  for row in rows:
    unpruned = magnitude_sketching.sketched_risk(
      jnp.ones(row['num_samples']),
      gamma=1.0,
      output_error=make_bound({}),
      shapes=row['shapes'],
      kept=1.0,
      num_values=2,
      variant='authors',
    )
    assert unpruned.log_value == pytest.approx(numbers.reading(row))
  # One hidden layer less does not fit.
  short = fake_row(500)
  del short['shapes'][1]
  assert abs(numbers.reading(short) - 3.36) > 0.1


@pytest.mark.parametrize('width', WIDTHS)
def test_printed_norm_columns_are_squares_that_differ_by_the_fan_in(width):
  """N17 - B17 is ln of the mean fan-in, weighted by stable ranks.

  Whatever the weights, it lies between ln 784 and ln width; at width 784 it is
  known exactly. Two numbers rounded to 0.01 are off by 0.01 at most. Roots of
  the squares, as in the theorems, would differ by half of it.
  """
  row = published.row('SK-TB2', width)
  gap = row['neyshabur_2017'] - row['bartlett_2017']
  low, high = sorted((math.log(784), math.log(width)))
  assert low - 0.0101 <= gap <= high + 0.0101
  assert not low - 0.0101 <= 2 * gap <= high + 0.0101


def test_printed_bounds_in_one_currency():
  """The sketch bound is not the smallest anywhere, nor second at 784."""
  found = {h: numbers.in_one_currency(fake_row(h)) for h in WIDTHS}
  names = ('bartlett_2017', 'neyshabur_2017', 'reading', 'neyshabur_2015')
  assert [found[784][name] for name in names] == [
    pytest.approx(value, abs=0.005) for value in (0.34, 3.67, 3.77, 6.28)
  ]
  for row in found.values():
    assert min(names, key=row.__getitem__) == 'bartlett_2017'
    assert max(names, key=row.__getitem__) == 'neyshabur_2015'
    assert row['reading'] - row['bartlett_2017'] > 3
  below = [
    h for h in WIDTHS if found[h]['neyshabur_2017'] < found[h]['reading']
  ]
  assert below == [784, 1000, 1500]
  assert numbers.in_one_currency(fake_row(784, 'digits')) == {}


def test_our_networks_in_one_currency():
  norms = {'spectral': [2.0] * 5, 'frobenius': [4.0] * 5, 'two_one': [9.0] * 5}
  row = fake_row(784, norms=norms, gamma=2.0, test_error=0.0)
  found = numbers.measured_in_one_currency(row)
  front = 2.0**5 / (2.0 * math.sqrt(60_000))
  assert found == {
    'neyshabur_2015': pytest.approx(math.log(front * 2**5)),
    'neyshabur_2017': pytest.approx(math.log(front * math.sqrt(20 * 784))),
    'bartlett_2017': pytest.approx(math.log(front * math.sqrt(20))),
    'reading': numbers.reading(row),
  }


def test_slopes_are_those_of_the_rows():
  def methods(width):
    summary = {'bound': 0.0, 'failure': 0.05, 'broken': []}
    return {
      'bartlett_2017': summary | {'complexity': 3 + 2 * math.log(width)},
    }

  rows = [
    fake_row(h, 'other', methods=methods(h), test_error=0.1 / h)
    for h in (10, 20, 80)
  ]
  found = numbers.slopes(rows)
  assert found['bartlett_2017'] == (pytest.approx(2), None)
  assert found['true error'][0] == pytest.approx(-1)
  assert 'arora_2018' not in found


def test_networks_that_learned_nothing_have_a_row():
  rows = [fake_row(500, status='no margin'), fake_row(784, status='diverged')]
  text, _, slopes, *_ = report.tables(rows)
  assert 'no margin' in text
  assert 'diverged' in text
  assert re.search(r'published +22\.29', text)
  assert slopes == ''


def test_presets():
  with pytest.raises(ValueError, match=r"preset must be .*'gpu'"):
    configs.get_config('gpu')
  paper = configs.get_config('paper')
  assert (paper.epochs, paper.learning_rate) == (300, 0.02)
  assert (paper.batch_sizes.mnist, paper.batch_sizes.cifar10) == (256, 4)
  assert [width for _, width in paper.networks] == [
    *WIDTHS,
    784,
  ]


def test_the_protocol_behind_table_2_by_hand():
  config = configs.get_config('authors_smoke')
  task = networks.load_task('digits')
  rng = np.random.default_rng(0)
  # The classes' means as units, and a layer that passes them on.
  x, y = np.asarray(task.x), np.asarray(task.y)
  means = np.stack([x[y == c].mean(axis=0) for c in range(10)], axis=1)
  first = means + 0.01 * rng.standard_normal(means.shape)
  params = [
    (jnp.asarray(w, jnp.float32), jnp.asarray(b, jnp.float32))
    for w, b in ((first, rng.uniform(-1, 1, 10)), (np.eye(10), np.zeros(10)))
  ]
  hidden = np.maximum(
    x @ np.asarray(params[0][0]) + np.asarray(params[0][1]), 0
  )
  others = np.where(np.eye(10, dtype=bool)[y], -np.inf, hidden).max(axis=1)
  right = hidden[np.arange(len(y)), y] > others
  assert 0.5 < right.mean() < 1
  row = authors.measured(config, task, params)
  assert row['train_error'] == pytest.approx(1 - right.mean(), abs=1e-6)
  assert row['gamma'] < 0
  assert row['strength'] == 0  # nothing pays for pruning
  assert 'bartlett_2017' not in row

  kept = task._replace(x=task.x[right], y=task.y[right])
  row = authors.measured(config, kept, params)
  gap = hidden[np.arange(len(y)), y] - others
  gamma = gap[right].min()
  # Sums of 64 products, rounded in another order.
  rounding = float(64 * 2.0**-24 * hidden.max())
  assert row['gamma'] == pytest.approx(gamma, abs=rounding)
  frobenius = np.array([np.linalg.norm(w) for w, _ in params]) ** 2
  top = np.array([np.linalg.norm(w, 2) for w, _ in params]) ** 2
  scale = -2 * math.log(row['gamma'])
  for name, value in (
    ('neyshabur_2015', frobenius.prod()),
    ('neyshabur_2017', top.prod() * ([64, 10] * frobenius / top).sum()),
    ('bartlett_2017', top.prod() * (frobenius / top).sum()),
  ):
    assert row[name] == pytest.approx(math.log(value) + scale, abs=1e-5)


def test_a_training_by_that_protocol_stops_at_a_positive_margin(tmp_path):
  config = configs.get_config('authors_smoke')
  config.update({'width': 64, 'hidden_layers': 1, 'learning_rate': 0.2})
  (row,) = cells.run(config, tmp_path)
  assert row['status'] == 'converged'
  assert row['gamma'] > 0 == row['train_error']
  assert 'published' not in (tmp_path / 'table.txt').read_text()
