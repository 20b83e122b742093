"""The certificates' experiment: its network, its rows, and its second start."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from experiments.certificates import cells, decoder, pictures, polish, prior
from experiments.certificates import config as configs
from htjax.bounds import certificates, codes

DESIGN = decoder.Design(orientations=4, cells=9, channels=3, size=3, pool=2)


def smoke():
  config = configs.get_config('smoke')
  config.kappas = ()
  config.epochs, config.study_epochs = (5, 5, 5), (2, 2, 2)
  return config


def smoke_first_part():
  config = configs.get_config('smoke_first_part')
  config.prior_epochs = 15
  return config


def load_images():
  config = smoke()
  return decoder.load_images(config.dataset, config.levels)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('certificates') / 'run'
  return workdir, cells.run(smoke(), workdir)


def test_every_row_is_a_valid_certificate(finished):
  workdir, rows = finished
  assert [row['study'] for row in rows] == ['main', 'random', 'alpha', 'alpha']
  for row in rows:
    assert row['train_error'] <= row['binomial'] <= row['kl']
    assert row['kl'] <= row['hoeffding']
    assert row['bound'] == pytest.approx(row['binomial'], rel=1e-12)
    parts = row['header_bits'] + row['position_bits'] + row['value_bits']
    assert parts <= row['bits'] < parts + 3
  main, random = rows[:2]
  # From 1,437 digits: below chance, and above the test error.
  assert main['test_error'] < main['bound'] < 0.9
  # No network does better than 0.9 on labels that mean nothing.
  assert random['bound'] > 0.9
  names = {path.name for path in workdir.iterdir()}
  assert names >= {
    *('config.json', 'results.json', 'table.txt'),
    *('bound_against_bits.png', 'bound_against_alpha.png'),
  }


def test_the_codeword_alone_gives_the_row_again(finished):
  row = finished[1][0]
  train, test = load_images()
  bits = np.unpackbits(np.frombuffer(bytes.fromhex(row['code']), np.uint8))
  errors, kept = decoder.evaluate(bits, train)
  assert (errors, kept) == (row['train_errors'], row['kept'])
  wrong = decoder.evaluate(bits, test)[0]
  assert wrong / len(test.labels) == row['test_error']
  bound = certificates.certificate(
    errors, len(train.labels), row['bits'], 0.05, log_settings=36 * np.log(2)
  )
  assert bound.value == row['bound']
  # The networks of two codewords are not the same.
  other = np.unpackbits(
    np.frombuffer(bytes.fromhex(finished[1][2]['code']), np.uint8)
  )
  assert decoder.evaluate(other, train)[0] != errors


def test_a_second_start_trains_what_is_missing_bit_for_bit(finished):
  workdir, rows = finished
  # But the network with noise.
  (workdir / 'results.json').write_text(json.dumps(rows[:-1]))
  cells.run(smoke(), workdir)
  again = json.loads((workdir / 'results.json').read_text())
  assert again == json.loads(json.dumps(rows))


def test_the_network_is_a_convolution_with_pooling():
  keys = jax.random.split(jax.random.key(0), 3)
  inputs = jax.random.normal(keys[0], (5, 9, 9, 5))
  shapes = DESIGN.shapes()
  assert shapes == [(3, 3, 5, 3), (27, 10)]
  layers = [
    jax.random.normal(k, s) for k, s in zip(keys[1:], shapes, strict=True)
  ]
  x = lax.conv_general_dilated(
    *(inputs, layers[0], (1, 1), 'VALID'),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  x = nnx.max_pool(nnx.relu(x), (2, 2), (2, 2))
  expected = jnp.transpose(x, (0, 3, 1, 2)).reshape(5, -1) @ layers[1]
  got = decoder.apply(DESIGN, layers, inputs)
  np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def bar(row, column, height, width, slope):
  """A soft-edged upright or leaning bar, [28, 28]."""
  down, right = np.meshgrid(
    np.arange(28) - row, np.arange(28) - column, indexing='ij'
  )
  right = right - slope * down
  return np.exp(-((down / height) ** 2 + (right / width) ** 2) / 2)


def test_pictures_are_brought_upright_to_one_place_and_size():
  one, other = bar(13.5, 13.5, 5, 3, 0), bar(13, 14.5, 3.5, 2.2, 0.3)
  assert np.abs(one - other).max() > 0.5
  found = pictures.straighten(np.float32([one, other, 0 * one]))
  # Linear interpolation of what is curved: a second difference over 8.
  assert np.abs(found[0] - found[1]).max() < 0.1
  assert not np.any(found[2])
  share = found / np.maximum(found.sum((1, 2)), 1e-6)[:, None, None]
  at = np.arange(28)
  for axis, size in ((1, pictures.WIDTH), (2, pictures.HEIGHT)):
    line = np.asarray(share.sum(axis))[:2]
    mean = line @ at
    np.testing.assert_allclose(mean, 13.5, atol=0.02)
    deviation = np.sqrt(line @ at**2 - mean**2)
    # Interpolation adds a variance of at most 1/4 of a pixel of the old one.
    np.testing.assert_allclose(deviation, size * 28, rtol=0.05)


def test_windows_are_alike_on_both_sides():
  picture = np.float32(bar(13.5, 13.5, 5, 3, 0))[None]
  found = np.asarray(pictures.features(picture, 4, 8))
  assert found.shape == (1, 8, 8, 5)
  # The derivatives of a direction and of its opposite change places.
  mirrored = found[:, :, ::-1][..., [2, 1, 0, 3, 4]]
  np.testing.assert_allclose(found, mirrored, atol=1e-5)
  assert found[..., 0].max() > 0.1


@pytest.fixture(scope='module')
def ternary():
  """A network, its inputs, and labels that it has mostly right."""
  rng = np.random.default_rng(0)
  layers = [
    np.float32(rng.choice([-0.5, 0, 0, 0.5], size=s)) for s in DESIGN.shapes()
  ]
  inputs = np.float32(rng.random((300, 9, 9, 5)))
  outputs = np.asarray(decoder.apply(DESIGN, layers, jnp.asarray(inputs)))
  noisy = outputs + rng.normal(size=outputs.shape) * outputs.std(1).mean() / 2
  return layers, inputs, noisy.argmax(1), outputs


def test_polishing_sees_the_network_that_is_decoded(ternary):
  layers, inputs, labels, outputs = ternary
  at = np.arange(len(labels))
  others = outputs.copy()
  others[at, labels] = -np.inf
  expected = outputs[at, labels] - others.max(1)
  got = polish.margins(DESIGN, layers, inputs, labels)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
  code = codes.encode(layers, mantissa_bits=0)
  bits = sum(map(polish.string_bits, layers))
  assert bits == pytest.approx(code.position_bits + code.value_bits, rel=1e-6)


@pytest.mark.parametrize('price', [0.0, 0.6])
def test_polishing_lowers_errors_and_bits(ternary, price):
  layers, inputs, labels, _ = ternary

  def cost(layers):
    wrong = polish.margins(DESIGN, layers, inputs, labels) <= 0
    return wrong.sum() + price * sum(map(polish.string_bits, layers))

  how = {'price': price, 'share': 1.0, 'rounds': 1, 'seed': 0}
  before = [w.copy() for w in layers]
  better = polish.polish(DESIGN, layers, inputs, labels, **how)
  assert cost(better) <= cost(layers) - 5
  for old, kept, new in zip(before, layers, better, strict=True):
    np.testing.assert_array_equal(old, kept)
    assert set(np.unique(new)) <= {-0.5, 0, 0.5}
  again = polish.polish(DESIGN, layers, inputs, labels, **how)
  for one, other in zip(better, again, strict=True):
    np.testing.assert_array_equal(one, other)


def test_pixels_come_back_from_the_standardised_images():
  from sklearn.datasets import load_digits

  train, test = load_images()
  pixels = np.concatenate([train.pixels, test.pixels]).reshape(-1, 64) * 16
  ours = sorted(map(tuple, pixels.tolist()))
  assert ours == sorted(map(tuple, load_digits().data.tolist()))


@pytest.fixture(scope='module')
def certified(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('certificates') / 'first'
  return workdir, cells.run(smoke_first_part(), workdir)


def test_every_bound_of_the_rest_is_above_its_error(certified):
  rows = certified[1]
  methods = ['test set', '1 steps', '10 steps', '100 steps', 'picks']
  for law in ('gaussian', 'stable 1.5'):
    methods += [f'{law}, first', f'{law}, all']
  assert [row['method'] for row in rows] == 2 * methods
  for row in rows:
    assert row['n'] == 737
    assert row['rest_error'] < row['bound'] <= 1
    # One of ten classes: labels that mean nothing are wrong nine times of ten.
    assert row['bound'] > 0.9 or not row['random']
  first, one, _, many = rows[:4]
  assert first['bound'] < 0.5
  errors = round(first['rest_error'] * 737)
  alone = certificates.certificate(
    errors, 737, 0, 0.05, log_settings=np.log(16)
  )
  assert first['bound'] == alone.value
  assert 1 < one['bits'] < many['bits']
  gaussian, moved = rows[5:7]
  assert gaussian['divergence_nats'] == 0 < moved['divergence_nats']
  # The posterior about the same weights has the same deterministic network.
  assert gaussian['rest_error'] == first['rest_error']


def test_a_trained_network_is_kept(certified):
  workdir, rows = certified
  config = smoke_first_part()
  parts = prior.load_parts(config, random=False)
  path = workdir / 'network_0.npz'
  params = prior.train(config, parts.first, 0, path)
  old = np.round(prior.head(params) * 2**12) / 2**12
  outputs = np.asarray(prior.hidden(params, parts.test.inputs) @ old)
  wrong = np.mean(np.argmax(outputs, 1) != np.asarray(parts.test.labels))
  assert wrong == pytest.approx(rows[0]['test_error'], abs=1e-9)


def test_the_rest_is_not_trained_on():
  config = smoke_first_part()
  parts, random = (prior.load_parts(config, r) for r in (False, True))
  assert [len(p.labels) for p in parts] == [700, 737, 360]
  assert parts.first.inputs.shape == (700, 8, 8, 1)
  assert (parts.first.inputs.min(), parts.rest.inputs.max()) == (0, 2)
  both = {p.tobytes() for p in parts.first.inputs}
  assert sum(p.tobytes() in both for p in parts.rest.inputs) == 0
  # Random labels do not tell the digits apart.
  ones = random.first.inputs[random.first.labels == 1].mean(0)
  assert np.abs(ones - random.first.inputs.mean(0)).max() < 1


def test_unknown_preset():
  with pytest.raises(
    ValueError, match='preset must be one of smoke, data_free, cpu'
  ):
    configs.get_config('gpu')
