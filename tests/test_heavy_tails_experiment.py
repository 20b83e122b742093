"""The heavy-tails experiment: a smoke run, its statistics, its settings."""

import json

import jax
import numpy as np
import pytest
from scipy import stats
from statistical.checks import check_within

from experiments.common.cells import Report
from experiments.heavy_tails_sgd import cells as study
from experiments.heavy_tails_sgd import config as configs
from experiments.heavy_tails_sgd import (
  limits,
  networks,
  rank_correlations,
  synthetic,
  theorems,
)
from htjax import data, models, rank_correlation


@pytest.fixture(scope='module')
def smoke(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('heavy_tails') / 'run'
  config = configs.get_config('smoke')
  # The theorems are tested apart.
  config.studies = configs.STUDIES[:-1]
  # As many layers as have to be told apart.
  config.panels = tuple(panel | {'hidden_layers': 1} for panel in config.panels)
  config.networks.hidden_layers = 2
  return config, workdir, study.run(config, workdir)


def test_smoke_run_writes_everything(smoke):
  _, workdir, rows = smoke
  written = json.loads((workdir / 'results.json').read_text())
  assert len(written) == len(rows)
  trained = [row for row in rows if row['study'] == 'training']
  assert len(trained) == 3
  for row in trained:
    assert row['status'] == 'converged'
    assert row['train_loss'] < 0.01
    assert 1.0 < min(row['layer_alphas']) < max(row['layer_alphas']) < 3.0
    for method in ('magnitude', 'global', 'singular', 'nodes'):
      curve = row[f'{method}_accuracies']
      # All methods start from the network and end near chance.
      assert curve[0] == pytest.approx(row['test_accuracy'], abs=1e-6)
      assert curve[-1] < 0.3
    ratios = row['magnitude_ratios']
    assert ratios == sorted(ratios)
    assert row['singular_ratios'][0] < 0 < row['singular_ratios'][-1]
    # Halves of one layer, permuted by a key that training has not used.
    assert row['histogram']['halves_p_value'] > 1e-6
  names = {p.stem for p in workdir.glob('*.png')}
  assert names == {
    *('F1_tail_index', 'F2_weights', 'F3_layers', 'F4_magnitude'),
    *('F5_singular', 'F7_accuracy', 'FS0_random_networks'),
    *('FS1_random_matrices', 'FS2_global', 'FS3_nodes'),
    *('FS4_volume_factor', 'FS5_stable_draws', 'rank_correlations'),
  }


@pytest.mark.slow
def test_a_convolutional_network_loses_kernels(tmp_path):
  config = configs.get_config('smoke_cnn')
  (row,) = study.run(config, tmp_path / 'run')
  assert row['status'] == 'converged'
  assert len(row['layer_alphas']) == 3
  assert row['kernels_ratios'] == sorted(row['kernels_ratios'])
  # The output layer, which has no kernels, is kept.
  assert 0.8 < row['kernels_ratios'][-1] < 1
  assert (tmp_path / 'run' / 'F6_kernels.png').exists()


def test_what_is_done_is_not_done_again(smoke, monkeypatch):
  config, workdir, rows = smoke

  def fail(*args, **kwargs):
    raise AssertionError('measured again')

  monkeypatch.setattr(study, 'make_row', fail)
  for place in (limits, synthetic):
    monkeypatch.setattr(place, 'matrix_ratios', fail)
  # The figures are drawn above.
  monkeypatch.setattr(study, 'report', lambda *_: Report([], {}))
  again = study.run(config, workdir)
  assert json.dumps(again) == (
    json.dumps(json.loads((workdir / 'results.json').read_text()))
  )
  assert len(again) == len(rows)


def test_smoke_limits_hold(smoke):
  rows = [r for r in smoke[2] if r['study'] == 'limits']
  known = [r for r in rows if r['predicted'] is not None]
  rates = [r for r in known if r['statement'] == 'Lemma S2']
  # Two sizes and 20 repeats fix no slope; the others have intervals.
  others = [r for r in known if r['statement'] != 'Lemma S2']
  assert len(rates) == 4
  assert len(others) >= 20
  # Tables show three standard errors, which one of so many rows may exceed.
  for row in others:
    error = (row['high'] - row['low']) / 6.0
    check_within(row['value'], row['predicted'], error, freedom=19)


@pytest.mark.slow
def test_theorems_on_small_sizes():
  """Within a family, and against a law that the proposition leaves out."""
  config = configs.get_config('smoke')
  order = list(theorems.STATEMENTS['order of errors'](config))
  assert [row['claim'] for row in order] == [True, True, False]
  assert all(row['holds'] for row in order)
  for row in theorems.STATEMENTS['columns'](config):
    assert row['predicted'] == pytest.approx(0.5 - 1 / row['alpha'])
    assert row['low'] < row['value'] < row['high'] < 0.05


def test_a_wrong_limit_does_not_hold():
  values = np.random.default_rng(0).normal(0.5, 0.01, size=40)

  def holds(interval, predicted, slack=0.0):
    return limits.limit_row('', '', 1.5, interval, predicted, slack)['holds']

  assert holds(limits.mean_interval(values), 0.5)
  assert not holds(limits.mean_interval(values), 0.52)
  assert holds(limits.median_interval(values), 0.51, 0.05)
  assert not holds(limits.median_interval(values), 0.6, 0.05)
  assert holds(limits.range_interval(values), 0.51)
  assert not holds(limits.range_interval(values), 0.54)
  assert holds(limits.mean_interval(values), None) is None


def test_the_authors_protocol_counts_an_output_that_it_leaves_alone():
  network = models.fcn(6, 8, 3, hidden_layers=2)
  params = network.init(jax.random.key(1))
  config = configs.get_config('smoke')
  for protocol in ('paper', 'authors'):
    config.protocol = protocol
    for name, way in study.methods(config, 'fcn').items():
      pruned = way(params, 0.25)
      left = np.array_equal(
        pruned.params['output']['kernel'], params['output']['kernel']
      )
      assert left == (protocol == 'authors' and name != 'nodes')
      assert int(pruned.total) == models.num_params(params)


def test_spearman_against_scipy():
  generator = np.random.default_rng(0)
  x, y = generator.normal(size=(2, 60))
  y = y + x
  points = [(i, *p) for i, p in enumerate(zip(x, y, strict=True))]
  rho, low, high = rank_correlations.spearman(points)
  assert rho == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
  assert low < rho < high
  # Copies of one setting are one piece of evidence, not many.
  copied = [point for point in points for _ in range(5)]
  _, low_copied, high_copied = rank_correlations.spearman(copied)
  assert high_copied - low_copied > 0.8 * (high - low)
  alone = rank_correlations.spearman(
    [(i, *p[1:]) for i, p in enumerate(copied)]
  )
  assert alone[2] - alone[1] < 0.7 * (high - low)


def test_relations_are_taken_at_equal_shares_pruned():
  """Curves that cross: the sign at 50 % is not the one at 95 %."""
  ratios = [-0.2, 0.4, 0.6, 1.0]
  rows = [
    {
      'panel': 'net',
      'batch_size': 50,
      'learning_rate': 0.1 * i,
      'layer_alphas': [1.5 + 0.05 * i, 3.0],
      'test_accuracy': 0.8,
      'singular_ratios': ratios,
      'singular_accuracies': [0.8, 0.8 - 0.02 * i, 0.6 - 0.02 * i, 0.1 * i],
    }
    for i in range(1, 6)
  ]
  assert networks.survival_at(rows[0], 'singular', 0.5) == pytest.approx(
    (0.78 + 0.58) / 2 / 0.8
  )
  # At 80 % the rising end of the curves outweighs their falling middle.
  line = rank_correlations.survival_table(rows).splitlines()[-1]
  expected = 'net F5 singular values -1.00 [-1.00, -1.00]'
  assert ' '.join(line.split()) == expected + 3 * ' 1.00 [1.00, 1.00]'


def test_spearman_refuses():
  for x, y, labels, name in (
    ([1.0, 2.0], [1.0], None, 'y'),
    ([1.0, 2.0], [1.0, 2.0], ['a'], 'x'),
    ([1.0, np.nan], [1.0, 2.0], None, 'x'),
    ([], [], None, 'x'),
  ):
    with pytest.raises(ValueError, match=f'{name} must be'):
      rank_correlation.spearman(x, y, labels)


def test_spearman_without_variation():
  assert np.isnan(rank_correlations.spearman([(0, 1.0, 2.0), (1, 1.0, 3.0)])[0])


SHAPES = {'mnist': (28, 28, 1), 'cifar10': (32, 32, 3)}


def fake(name):
  empty = data.Split(np.zeros((0, *SHAPES[name])), np.zeros(0, int))
  return data.Dataset(name, empty, empty, 10, '')


@pytest.mark.parametrize('name', configs.PANELS)
def test_published_parameter_counts(name):
  panel = configs.PANELS[name]
  assert panel['num_params'] > 0
  study.make_network(panel, fake(panel['dataset']))
  wrong = panel | {'num_params': panel['num_params'] + 1}
  with pytest.raises(ValueError, match=f'{name} must have'):
    study.make_network(wrong, fake(panel['dataset']))


def test_published_number_of_networks():
  counts = {
    name: sum(len(rates) for _, rates in panel['rates'])
    for name, panel in configs.PANELS.items()
  }
  assert counts == {
    **{'fcn4_cifar10': 48, 'fcn6_cifar10': 31, 'cnn_cifar10': 18},
    **{'fcn4_mnist': 52, 'fcn6_mnist': 36, 'cnn_mnist': 30},
  }


def test_presets():
  for preset in (*configs.PRESETS, 'paper_cnn_mnist'):
    assert configs.get_config(preset).preset == preset
  with pytest.raises(ValueError, match='preset must be one of'):
    configs.get_config('large')
