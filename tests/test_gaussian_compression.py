"""Gaussian compression of last layers: lines, tables, figures, resumed runs."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from test_resnets import torch_weights

from experiments.gaussian_compression import brackets, cells, report
from experiments.gaussian_compression import config as configs
from experiments.gaussian_compression import weights as files
from htjax import checkpoints, data, pruning, resnets, stable

PATH = 'experiments/gaussian_compression/config.py'


# Figure 2.


def test_brackets_against_scipy():
  config = configs.get_config('smoke')
  alphas, indices = np.array([0.7, 1.0, 1.75]), np.array([0.0, 0.5, 2.0, 5.0])
  values = brackets.bracket_values(config, alphas, indices)
  for i, index in enumerate(indices):
    count = 1.3 ** (5 - index)
    for a, alpha in enumerate(alphas):
      c_alpha = math.sin(math.pi * alpha / 2) * math.gamma(alpha) / math.pi
      p = c_alpha * 1.3 ** (-alpha * (index - 1)) * (1 - 1.3**-alpha)
      bound = (64 * p / count) ** count
      bound *= ((1 - p) / (1 - count / 64)) ** (64 - count)
      tail = stats.binom.sf(math.ceil(count) - 1, 64, p)
      np.testing.assert_allclose(values.bound[i, a], bound, rtol=1e-9)
      np.testing.assert_allclose(values.binomial[i, a], tail, rtol=1e-9)
      assert values.valid[i, a] == (count > 64 * p)
      if count > 64 * p:
        assert bound >= tail
  # At alpha 1 the law is Cauchy's.
  ends = [np.arctan(1.3 ** (indices + j - 1)) / np.pi for j in (0, 1)]
  exact = stats.binom.sf(
    np.ceil(1.3 ** (5 - indices)) - 1, 64, ends[1] - ends[0]
  )
  np.testing.assert_allclose(values.exact[:, 1], exact, rtol=1e-4)
  # Where the premise fails the printed number is below what it should bound.
  below = values.bound < values.binomial
  assert below.any()
  assert not values.valid[below].any()


def test_the_paper_setting():
  """(16) at alpha 1.75, with a star where it is no bound."""
  text = brackets.bracket_table(configs.get_config('smoke'))
  for number in ('0.972*', '0.991', '0.924', '0.847', '0.787', '0.749'):
    assert number in text


def test_the_figure_as_the_program_has_it():
  """(N p / k)^k (1 - p / (1 - k / N))^(N - k) of a bracket of one entry."""
  config = configs.get_config('smoke')
  scale = math.sin(0.875 * math.pi) * math.gamma(1.75) / math.pi
  p = scale * 1.3 ** (-1.75 * 4) * (1 - 1.3**-1.75)
  found = brackets.as_computed(config, 1.75, 5)
  assert found == pytest.approx(64 * p * (1 - p / (1 - 1 / 64)) ** 63)
  assert f'{found:.3g}' in brackets.bracket_table(config)
  # A base below 0.
  config.row_length = 4
  assert math.isnan(brackets.as_computed(config, 1.0, 0))


def test_a_given_number_of_lines():
  config = configs.get_config('smoke')
  config.num_lines = 2
  axes = report.rank_axes(config)
  x = np.arange(8.0)
  y = np.where(x % 2 == 0, 3 * x, 30 - x)
  rows = [dict(zip(axes, pair, strict=True)) for pair in zip(x, y, strict=True)]
  found = report.fit_points(config, rows, axes)
  np.testing.assert_allclose(found.slopes, [-1, 3], atol=0.05)
  assert report.fit_points(config, rows[:6], axes) is None


# Weights and pictures.


def pictures(dataset='cifar10', limit=0):
  """As many as asked of 40 pictures of 8 x 8."""
  assert dataset == 'cifar10'
  draws = np.random.default_rng(3)
  x = np.float32(draws.normal(size=(40, 8, 8, 3)))
  return x[: limit or None], draws.integers(5, size=40)[: limit or None]


@pytest.fixture
def small(tmp_path, monkeypatch):
  """The config of a run on a small residual network and a foreign one."""
  checkpoints.save_weights(tmp_path / 'small.npz', torch_weights(8))
  draws = np.random.default_rng(4)
  foreign = {
    'encoder.weight': np.float32(draws.normal(size=(30, 20))),
    'encoder.bias': np.zeros(30, np.float32),
    'conv.weight': np.float32(draws.normal(size=(16, 16, 3, 3))),
    'constant.kernel': np.ones((144, 16), np.float32),
    'tiny.weight': np.float32(draws.normal(size=(3, 3))),
    'head.kernel': np.float32(draws.standard_t(3, size=(16, 5))),
  }
  checkpoints.save_weights(tmp_path / 'foreign.safetensors', foreign)
  monkeypatch.setattr(cells, 'load_pictures', pictures)
  config = configs.get_config('smoke')
  config.weights = f'{tmp_path}/small.npz,{tmp_path}/foreign.safetensors'
  config.eval_batch = 16
  # Each shape is compiled for seconds: these layers have two.
  config.min_entries = 2000
  return config


def test_a_run_measures_and_draws(small, tmp_path, capsys):
  small.final_layer = 'head.kernel'
  rows = cells.run(small, tmp_path / 'run')
  (original,) = [row for row in rows if row['study'] == 'original']
  assert original['num_examples'] == 40
  trials = [row for row in rows if row['study'] == 'trial']
  assert len(trials) == 10
  layers = {
    (row['weights'], row['layer']): row
    for row in rows
    if row['study'] == 'layer'
  }
  assert ('foreign', 'encoder.weight') not in layers
  assert layers['foreign', 'constant.kernel']['stable_rank'] is None
  matrix = checkpoints.load_weights(
    tmp_path / 'foreign.safetensors', nested=False
  )['conv.weight'].reshape(16, -1)
  values = np.linalg.svd(np.float64(matrix), compute_uv=False)
  row = layers['foreign', 'conv.weight']
  np.testing.assert_allclose(
    row['stable_rank'], np.sum(values**2) / values[0] ** 2, rtol=1e-4
  )
  # As printed: not scale free.
  np.testing.assert_allclose(
    row['printed_rank'], np.sum(values**2) / values[0] ** 4, rtol=1e-4
  )
  assert row['shape'] == [144, 16]
  assert row['pdf_exponent'] == pytest.approx(1 + row['tail_index'])
  final = {name for name, row in layers.items() if row['final']}
  assert final == {('small', 'linear.weight'), ('foreign', 'head.kernel')}
  text = capsys.readouterr().out
  assert 'must be those of a CIFAR ResNet' in text
  assert 'last layer compressed' in text
  names = {path.name for path in (tmp_path / 'run').iterdir()}
  assert names >= {
    *('config.json', 'results.json', 'table.txt', 'densities.png'),
    *('brackets.png', 'stable_rank.png'),
  }


def test_accuracies_are_those_of_the_whole_network(small, tmp_path):
  """The trials see features only: the network itself must agree."""
  rows = cells.run(small, tmp_path / 'run')
  network, params = resnets.from_torch(torch_weights(8))
  inputs, labels = pictures()
  only_output = jax.tree.map(lambda leaf: False, params)
  only_output['output']['kernel'] = True
  apply = jax.jit(network.apply)
  s = float(np.std(params['output']['kernel']))
  wrong = 0
  for row in rows:
    if row['study'] not in ('original', 'trial'):
      continue
    used = params
    if row['study'] == 'trial':
      variance = {'theory': s**2, 'zeros': 0.0}.get(row['variant'])
      theory = variance is not None
      compressed = pruning.gaussian_replacement(
        jax.random.fold_in(jax.random.key(0), row['trial']),
        params,
        variant='theory' if theory else row['variant'],
        threshold=s if theory else None,
        variance=variance,
        select=only_output,
      )
      used = compressed.params
      mask = np.asarray(compressed.mask['output']['kernel'])
      assert row['replaced'] == pytest.approx(1 - mask.mean())
    hits = np.sum(np.argmax(apply(used, inputs), axis=-1) == labels)
    wrong += abs(row['accuracy'] - hits / 40) > 1e-6
    if row.get('variant') == 'zeros':
      kernel = np.asarray(params['output']['kernel'])
      removed = np.asarray(used['output']['kernel'])
      np.testing.assert_array_equal(removed, kernel * (np.abs(kernel) > s))
  assert wrong == 0
  kept = {row['variant']: row['replaced'] for row in rows if 'variant' in row}
  kernel = np.asarray(params['output']['kernel'])
  assert kept['experiment'] == pytest.approx(np.mean(np.abs(kernel) <= s))
  assert kept['experiment_signed'] == pytest.approx(np.mean(kernel <= s))


def test_a_killed_run_goes_on_where_it_was(small, tmp_path, monkeypatch):
  whole = cells.run(small, tmp_path / 'whole')
  measure, calls = cells.LastLayer.trial, []

  def dying(*arguments):
    if len(calls) == 4:
      raise KeyboardInterrupt
    calls.append(arguments)
    return measure(*arguments)

  monkeypatch.setattr(cells.LastLayer, 'trial', dying)
  with pytest.raises(KeyboardInterrupt):
    cells.run(small, tmp_path / 'killed')
  kept = json.loads((tmp_path / 'killed' / 'results.json').read_text())
  assert kept == whole[: len(kept)]
  assert len(kept) < len(whole)
  calls.clear()
  monkeypatch.setattr(
    cells.LastLayer, 'trial', lambda *a: calls.append(a) or measure(*a)
  )
  cells.run(small, tmp_path / 'killed')
  assert len(calls) == 6
  for name in ('results.json', 'table.txt'):
    expected = (tmp_path / 'whole' / name).read_bytes()
    assert (tmp_path / 'killed' / name).read_bytes() == expected


def test_pictures_are_normalised_anew(monkeypatch):
  draws = np.random.default_rng(9)
  pixels = draws.integers(0, 256, (50, 8, 8, 3)).astype(np.uint8)
  pixels[0, 0, 0], pixels[0, 0, 1] = 0, 255
  spread = np.float32([0.247, 0.243, 0.262])
  split = data.Split(
    (np.float32(pixels) / 255 - np.float32([0.491, 0.482, 0.447])) / spread,
    np.arange(50, dtype=np.int32),
  )
  dataset = data.Dataset('made up', split, split, 10, '')
  monkeypatch.setattr(data, 'load', lambda name: dataset)
  inputs, labels = cells.load_pictures('made up', 20)
  np.testing.assert_array_equal(inputs, resnets.normalise(pixels[:20]))
  np.testing.assert_array_equal(labels, range(20))


def test_layers_are_matrices_of_columns():
  array = np.arange(24.0).reshape(2, 3, 4)
  flax = files.as_matrix('block/kernel', array)
  np.testing.assert_array_equal(flax[:, 1], array[:, :, 1].ravel())
  torch = files.as_matrix('block.weight', array)
  np.testing.assert_array_equal(torch[:, 1], array[1].ravel())


def test_published_numbers_stand_below():
  rows = [
    {'study': 'layer', 'weights': 'w', 'final': True, 'pdf_exponent': 3.0},
    {
      'study': 'original',
      'weights': 'w',
      'depth': 20,
      'dataset': 'cifar10',
      'errors': 827,
      'accuracy': 0.9173,
    },
    *(
      {
        'study': 'trial',
        'weights': 'w',
        'variant': 'experiment',
        'accuracy': a,
        'replaced': 0.7,
      }
      for a in (0.88, 0.90)
    ),
  ]
  own, published = report.accuracy_table(rows).splitlines()[-2:]
  assert own.split()[2:] == [
    '3.00',
    '2.00',
    '827',
    '91.73',
    '89.00+-1.41',
    '70.0',
  ]
  assert published.split()[-4:] == ['3.22', '2.22', '93.90', '89.19+-3.03']


# What a user gets wrong.


def test_bad_files_are_named_in_one_line(tmp_path):
  config = configs.get_config('smoke')
  path = tmp_path / 'a.npz'
  path.write_bytes(b'PK\x03\x04 and nothing else')
  for weights, kind, message in (
    (f'{tmp_path}/none.npz', FileNotFoundError, 'no weights at'),
    (str(path), ValueError, 'is damaged or no .npz file'),
    (f'{path},{path}', ValueError, 'files of different names'),
  ):
    config.weights = weights
    with pytest.raises(kind, match=message) as error:
      cells.run(config, tmp_path / 'run')
    assert '\n' not in str(error.value)
  assert not (tmp_path / 'run').exists()


def test_other_bad_settings_are_named(small, tmp_path):
  # By name the last of the foreign file, which is too small otherwise.
  models = files.load_models(small)
  assert [model.final for model in models] == ['linear.weight', 'tiny.weight']
  small.final_layer = 'head'
  with pytest.raises(
    ValueError, match=r"which are .*linear\.weight, .*, got 'head'"
  ):
    cells.run(small, tmp_path / 'run')
  with pytest.raises(ValueError, match='preset must be one of smoke, cpu'):
    configs.get_config('paper')
  small.points = 'some'
  with pytest.raises(ValueError, match="'all' or 'final', got 'some'"):
    report.layer_points(small, [])
  small.ranks = 'rank'
  with pytest.raises(ValueError, match=r"ranks must be .*, got 'rank'"):
    report.rank_axes(small)


def test_axes_of_the_rank_figure():
  draws = np.random.default_rng(5)
  points = [
    {
      'study': 'layer',
      'final': True,
      'pdf_exponent': 3.0,
      'pdf_exponent_positive': 2.0 + i,
      'stable_rank': 5.0,
      'printed_rank': 0.5 - 0.1 * i + 1e-3 * draws.normal(),
    }
    for i in range(5)
  ]
  points.append(points[0] | {'pdf_exponent_positive': None})
  config = configs.get_config('smoke')
  assert len(report.layer_points(config, points)) == 6
  config.exponents, config.ranks = 'positive', 'printed'
  chosen = report.layer_points(config, points)
  assert chosen == points[:5]
  text = report.mixture_text(chosen, None, report.rank_axes(config))
  assert text.startswith('F^2 / S^4 against density exponent of w > 0, 5')


def test_without_weights_two_figures_are_drawn(tmp_path, capsys):
  cells.run(configs.get_config('smoke'), tmp_path / 'run')
  assert 'c^(M - i) <= N p' in capsys.readouterr().out
  names = {path.name for path in (tmp_path / 'run').iterdir()}
  assert names >= {'densities.png', 'brackets.png', 'table.txt'}
  assert 'stable_rank.png' not in names


def test_drawn_densities_are_those_of_the_laws():
  config = configs.get_config('smoke')
  figure = report.density_figure(config)
  centre, _ = figure.axes
  for line, alpha in zip(centre.lines, config.density_alphas, strict=True):
    x, y = line.get_data()
    np.testing.assert_allclose(y, stable.pdf(jnp.asarray(x), alpha), rtol=1e-6)
  cauchy = centre.lines[1].get_data()
  np.testing.assert_allclose(cauchy[1], stats.cauchy.pdf(cauchy[0]), rtol=1e-4)
