"""The analysis of anyone's weights, from file to table."""

import json

import numpy as np
import pytest

from experiments import analyze
from htjax import checkpoints


@pytest.fixture
def weights():
  generator = np.random.default_rng(0)
  return {
    'a.kernel': generator.standard_normal((30, 64)).astype(np.float32),
    'b.kernel': generator.standard_cauchy((64, 64)).astype(np.float32),
    'b.bias': np.zeros(64, np.float32),
    'c.kernel': np.ones((8, 8), np.float32),
  }


def test_from_file_to_table(tmp_path, weights, capsys):
  checkpoints.save_weights(tmp_path / 'w.npz', weights)
  rows = analyze.run(str(tmp_path / 'w.npz'), tmp_path / 'run')
  assert [row['layer'] for row in rows] == ['a.kernel', 'b.kernel', 'c.kernel']
  gaussian, cauchy, constant = rows
  assert gaussian['stable_mle'] > 1.9
  # 4,096 draws; the standard error is that of the fit.
  assert abs(cauchy['stable_mle'] - 1) < 5 * cauchy['stable_mle_se']
  assert 'constant' in constant['note']
  kept = list(analyze.KAPPAS)
  assert gaussian['error'][kept.index(1.0)] == 0
  # Few entries carry a Cauchy matrix, not a Gaussian one.
  assert cauchy['error'][0] < 0.5 < gaussian['error'][0]
  written = json.loads((tmp_path / 'run' / 'results.json').read_text())
  assert len(written) == 3
  assert (tmp_path / 'run' / 'compression.png').exists()
  assert 'b.kernel' in capsys.readouterr().out


def test_layouts(tmp_path, weights):
  kernel = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
  stored = {
    'conv.weight': np.transpose(kernel, (3, 2, 0, 1)),
    'fc.weight': weights['a.kernel'].T,
  }
  checkpoints.save_weights(tmp_path / 'w.safetensors', stored)
  loaded = analyze.load(tmp_path / 'w.safetensors', 'torch')
  np.testing.assert_array_equal(loaded['conv.weight'], kernel)
  np.testing.assert_array_equal(loaded['fc.weight'], weights['a.kernel'])


def test_bad_files(tmp_path):
  np.savez(tmp_path / 'w.npz', bias=np.zeros(3, np.float32))
  with pytest.raises(ValueError, match='holds no floating array of rank 2'):
    analyze.load(tmp_path / 'w.npz')
  (tmp_path / 'x.npz').write_bytes(b'nothing')
  with pytest.raises(ValueError, match='damaged'):
    analyze.load(tmp_path / 'x.npz')
