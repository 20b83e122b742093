"""The analysis of anyone's weights, from file to table."""

import json
import os
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from htjax import analysis, checkpoints, cli, tail_index
from htjax.io import safetensors
from htjax.io import weights as weight_files


@pytest.fixture
def weights():
  generator = np.random.default_rng(0)
  return {
    'a.kernel': generator.standard_normal((30, 64)).astype(np.float32),
    'b.kernel': generator.standard_cauchy((64, 64)).astype(np.float32),
    'b.bias': np.zeros(64, np.float32),
    'c.kernel': np.ones((8, 8), np.float32),
  }


@pytest.fixture
def npz(tmp_path, weights):
  checkpoints.save_weights(tmp_path / 'w.npz', weights)
  return tmp_path / 'w.npz'


def test_from_file_to_table(tmp_path, npz, capsys):
  rows = analysis.run(npz, tmp_path / 'run')
  assert [row['layer'] for row in rows] == ['a.kernel', 'b.kernel', 'c.kernel']
  gaussian, cauchy, constant = rows
  assert gaussian['stable_mle'] > 1.9
  # 4,096 draws; the standard error is that of the fit.
  assert abs(cauchy['stable_mle'] - 1) < 5 * cauchy['stable_mle_se']
  assert 'constant' in constant['note']
  kept = list(analysis.KAPPAS)
  assert gaussian['error'][kept.index(1.0)] == 0
  # Few entries carry a Cauchy matrix, not a Gaussian one.
  assert cauchy['error'][0] < 0.5 < gaussian['error'][0]
  written = json.loads((tmp_path / 'run' / 'results.json').read_text())
  assert len(written) == 3
  assert (tmp_path / 'run' / 'compression.png').exists()
  printed = capsys.readouterr().out
  assert 'b.kernel' in printed
  assert 'left out: 1 of rank 0 or 1' in printed


def test_rows_are_those_of_the_layer_table(weights):
  params = {name: w for name, w in weights.items() if w.ndim == 2}
  rows = analysis.analyse(params)
  table = tail_index.layer_table(params, key=jax.random.key(0))
  for row, expected in zip(rows, table, strict=True):
    del row['error']
    # A missing value is NaN, which does not equal itself.
    assert str(row) == str(expected)


def test_layouts(tmp_path, weights):
  kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
  stored = {
    'conv.weight': np.transpose(kernel, (3, 2, 0, 1)),
    'fc.weight': weights['a.kernel'].T,
  }
  checkpoints.save_weights(tmp_path / 'w.safetensors', stored)
  loaded = analysis.load(tmp_path / 'w.safetensors', 'torch')
  assert_array_equal(loaded['conv.weight'], kernel)
  assert_array_equal(loaded['fc.weight'], weights['a.kernel'])


def test_bad_files(tmp_path):
  np.savez(tmp_path / 'w.npz', bias=np.zeros(3, np.float32))
  with pytest.raises(ValueError, match=r'w\.npz: no floating array'):
    analysis.load(tmp_path / 'w.npz')
  (tmp_path / 'x.npz').write_bytes(b'nothing')
  with pytest.raises(ValueError, match='damaged'):
    analysis.load(tmp_path / 'x.npz')


class Killed(BaseException):
  pass


def test_a_run_that_was_killed_goes_on(tmp_path, weights, monkeypatch, capsys):
  path, workdir = tmp_path / 'w.safetensors', tmp_path / 'run'
  checkpoints.save_weights(path, weights)
  expected = analysis.run(path)

  def killed(names):
    yield names[0]
    raise Killed

  with pytest.raises(Killed):
    analysis.run(path, workdir, progress=killed)
  assert not (workdir / 'results.json').exists()
  asked = []
  table = tail_index.layer_table

  def noted(params, **options):
    asked.extend(name for name, chosen in options['select'].items() if chosen)
    return table(params, **options)

  monkeypatch.setattr(tail_index, 'layer_table', noted)
  assert str(analysis.run(path, workdir)) == str(expected)
  assert sorted(asked) == ['b.kernel', 'c.kernel']
  written = (workdir / 'results.json').read_text()
  assert str(analysis.run(path, workdir)) == str(expected)
  assert (workdir / 'results.json').read_text() == written
  # Other weights in the same file have other rows.
  checkpoints.save_weights(path, weights | {'a.kernel': matrix(30, 64)})
  asked.clear()
  assert str(analysis.run(path, workdir)) != str(expected)
  assert len(asked) == 3


def test_large_arrays_are_worked_on_alone():
  room, most = analysis._Room(10), []

  def take(size):
    with room.taken(size):
      most.append(10 - room._free)
      assert 0 <= room._free <= 10 - size

  with ThreadPoolExecutor(4) as pool:
    list(pool.map(take, [10, 3, 3, 4, 10, 1] * 20))
  assert max(most) <= 10


def test_a_mapped_file_is_forgotten_and_read_again(tmp_path):
  path = tmp_path / 'w.safetensors'
  arrays = {name: matrix(100, 200) for name in ('a', 'b')}
  checkpoints.save_weights(path, arrays)
  mapped = dict(weight_files.stream(path))
  for name, array in mapped.items():
    safetensors.forget(array)
    safetensors.forget(array.T[::-1])
    assert_array_equal(array, arrays[name])
  own = matrix(3, 3)
  safetensors.forget(own)
  assert_array_equal(own, matrix(3, 3))


@pytest.mark.parametrize('name', ['w.npz', 'w', 'w.safetensors'])
def test_a_file_is_read_array_by_array(tmp_path, monkeypatch, name):
  weights = {f'{i}.kernel': matrix(8, 16) for i in range(12)}
  checkpoints.save_weights(tmp_path / name, weights)
  (row,) = tail_index.layer_table({'a': matrix(8, 16)}, key=jax.random.key(0))
  seen, most = [], []

  def noted(params, **options):
    (array,) = [a for a in params.values() if isinstance(a, np.ndarray)]
    (found,) = [n for n, chosen in options['select'].items() if chosen]
    assert_array_equal(array, weights[found].swapaxes(0, 1))
    seen.append(weakref.ref(array))
    most.append(sum(there() is not None for there in seen))
    return [row]

  monkeypatch.setattr(tail_index, 'layer_table', noted)
  monkeypatch.setattr(analysis, '_curve', lambda array: None)
  analysis.run(tmp_path / name, layout='torch')
  assert len(seen) == 12
  # A thread may still hold what it has done.
  assert max(most) <= os.cpu_count() + 1
  # Negative control: what the caller holds is there.
  seen.clear()
  whole = analysis.load(tmp_path / name, 'torch')
  analysis.analyse(whole, layout='torch')
  assert max(most) == 12


def test_arrays_are_known_before_they_are_read(tmp_path):
  weights = {'a': matrix(3, 4), 'b': matrix(5, dtype=np.float16)}
  for name in ('w.npz', 'w', 'w.safetensors'):
    path = tmp_path / name
    checkpoints.save_weights(path, weights)
    found = weight_files.unread(path)
    assert {n: (a.shape, a.dtype) for n, a in found.items()} == {
      n: (a.shape, a.dtype) for n, a in weights.items()
    }
    assert (found['a'].ndim, found['a'].size, found['b'].nbytes) == (2, 12, 10)
    moved = found['a'].moveaxis((1,), (0,))
    assert moved.shape == (4, 3)
    assert_array_equal(moved, weights['a'].T)
  # A flipped bit is noticed once the array is read.
  path = tmp_path / 'w.npz'
  data = bytearray(path.read_bytes())
  data[data.index(weights['a'].tobytes()) + 5] ^= 1
  path.write_bytes(data)
  with pytest.raises(ValueError, match=r'w\.npz is damaged .* Bad CRC'):
    weight_files.unread(path)['a'].read()


# -- what is left out


def matrix(*shape, dtype=np.float32):
  return np.random.default_rng(1).normal(size=shape).astype(dtype)


@pytest.mark.parametrize(
  'dtype', ['int8', 'uint8', 'int32', 'bool', 'complex64']
)
def test_what_is_not_floating_is_named(tmp_path, dtype):
  np.savez(
    tmp_path / 'w.npz',
    **{'q.weight': matrix(8, 8).astype(dtype), 'o.weight': matrix(8, 8)},
  )
  with pytest.warns(UserWarning, match=rf'q\.weight \({dtype} is not floating'):
    assert set(analysis.load(tmp_path / 'w.npz', 'torch')) == {'o.weight'}


@pytest.mark.parametrize(
  'name',
  [
    'opt_state.0.mu.dense.kernel',
    'opt_state/1/trace/dense/kernel',
    # A state that was saved as a tuple of parameters and optax's state.
    '1.0.nu.dense.kernel',
    'optimizer.state.0.exp_avg',
  ],
)
def test_moments_of_an_optimizer_are_no_weights(name):
  arrays = {'params.dense.kernel': matrix(8, 8), name: matrix(8, 8)}
  choice = analysis.choose(arrays)
  assert set(choice.layers) == {'params.dense.kernel'}
  assert 'optimizer' in choice.left_out[name][1]
  assert set(analysis.choose(arrays, select=[name]).layers) == {name}


def test_names_that_only_sound_like_moments():
  arrays = {'decoder.mu.kernel': matrix(8, 8), 'nu.kernel': matrix(8, 8)}
  assert set(analysis.choose(arrays).layers) == set(arrays)


@pytest.mark.parametrize(
  'name',
  [
    'model.embed_tokens.weight',
    'bert.embeddings.word_embeddings.weight',
    'transformer.wte.weight',
    'transformer.wpe.weight',
  ],
)
def test_embeddings_have_no_units_in_the_torch_layout(name):
  arrays = {name: matrix(50, 8), 'fc.weight': matrix(8, 4)}
  torch = analysis.choose(arrays, 'torch')
  assert set(torch.layers) == {'fc.weight'}
  assert 'embedding' in torch.left_out[name][1]
  assert set(analysis.choose(arrays, 'flax').layers) == set(arrays)
  chosen = analysis.choose(arrays, 'torch', select=[name])
  assert chosen.layers[name].shape == (8, 50)


def test_patches_are_embedded_by_a_convolution():
  arrays = {'patch_embed.proj.weight': matrix(16, 3, 4, 4)}
  choice = analysis.choose(arrays, 'torch')
  assert choice.layers['patch_embed.proj.weight'].shape == (4, 4, 3, 16)


def test_rows_of_what_is_left_out(tmp_path, capsys):
  arrays = {'q': matrix(8, 8, dtype=np.int8), 'o': matrix(16, 16)}
  np.savez(tmp_path / 'w.npz', **arrays)
  with warnings.catch_warnings():
    warnings.simplefilter('error')  # the table says it
    rows = analysis.run(tmp_path / 'w.npz', tmp_path / 'run')
  assert [row['layer'] for row in rows] == ['o', 'q']
  assert rows[0].keys() == rows[1].keys()
  assert rows[1]['shape'] == '8x8'
  assert rows[1]['mmo'] is None
  assert rows[1]['note'].startswith('left out: int8 is not floating')
  text = (tmp_path / 'run' / 'table.txt').read_text()
  assert 'left out: q (int8 is not floating' in text
  assert text in capsys.readouterr().out


def test_patterns(weights):
  def layers(**options):
    return sorted(analysis.choose(weights, **options).layers)

  assert layers(select=['a']) == ['a.kernel']
  assert layers(select=['a.k*', 'b.kernel']) == ['a.kernel', 'b.kernel']
  assert layers(exclude=['[bc]']) == ['a.kernel']
  assert layers(select=['kernel'], exclude=['a']) == ['b.kernel', 'c.kernel']
  with pytest.raises(ValueError, match=r"exclude 'd' matches no .* a\.kernel"):
    layers(exclude=['d'])
  with pytest.raises(ValueError, match='excluded'):
    layers(exclude=['kernel'])


# -- the command


def run(*words):
  return cli.main(['analyze', *map(str, words)])


def test_command_without_a_directory(npz, capsys):
  assert run(npz, '--select=a', '--layout=torch') == 0
  out, err = capsys.readouterr()
  assert '64x30' in out
  assert 'left out: b.kernel, c.kernel (not selected)' in out
  assert not err


def test_command_with_a_directory(tmp_path, npz, capsys):
  workdir = tmp_path / 'run'
  assert run(npz, f'--workdir={workdir}', '--exclude=b', '--exclude=c') == 0
  config = json.loads((workdir / 'config.json').read_text())['config']
  assert config['exclude'] == ['b', 'c']
  # Another selection is another run.
  assert run(npz, f'--workdir={workdir}') == 2
  assert 'exclude' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['missing.npz'], 'no weights at missing.npz'),
    (['w.npz', '--max-bytes=10'], 'max_bytes=10'),
    (['w.npz', '--max-bytes=0'], 'max_bytes must be'),
    (['w.npz', '--select=z'], "select 'z' matches no array"),
    (['w.npz', '--workdir=w.npz'], 'w.npz'),
    (['damaged.npz'], 'damaged'),
    (['notes.txt'], 'must be a .safetensors or .npz'),
    (['empty'], 'Orbax'),
  ],
)
def test_faults_are_one_line(
  tmp_path, npz, words, message, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'damaged.npz').write_bytes(npz.read_bytes()[:-40])
  (tmp_path / 'notes.txt').write_text('x')
  (tmp_path / 'empty').mkdir()
  assert run(*words) == 2
  out, err = capsys.readouterr()
  assert not out
  (line,) = err.splitlines()
  assert line.startswith('htjax: error: ')
  assert message in line


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['analyze'], 'FILE'),
    (['analyze', 'w.npz', '--layout=keras'], 'invalid choice'),
    (['analyze', 'w.npz', '--max-bytes=many'], 'invalid int'),
    (['analyze', 'w.npz', 'v.npz'], 'unrecognized arguments'),
    (['analyse', 'w.npz'], 'invalid choice'),
    (['data'], 'COMMAND'),
    (['data', 'prepare', 'imagenet'], 'invalid choice'),
    ([], 'COMMAND'),
  ],
)
def test_wrong_words_are_one_line(words, message, capsys):
  with pytest.raises(SystemExit) as caught:
    cli.main(words)
  assert caught.value.code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert message in line
