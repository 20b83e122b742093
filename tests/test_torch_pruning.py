"""Channels of ResNet-20 against Torch-Pruning, where it is installed.

HTJAX_TORCH_PYTHON may name an interpreter that has torch and torch_pruning.
"""

import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from htjax import pruning, resnets
from htjax.io import weights

PYTHON = os.environ.get('HTJAX_TORCH_PYTHON', sys.executable)
PROGRAM = (
  pathlib.Path(__file__).parents[1] / 'experiments/benchmarks/torch_channels.py'
)


# Torch-Pruning rounds the kept channels down, here of 16, 32 and 64 each.
@pytest.mark.slow
@pytest.mark.parametrize(('ratio', 'kappa'), [(0.3, 11 / 16), (0.5, 0.5)])
def test_the_channels_parameters_and_outputs_are_the_same(
  ratio, kappa, tmp_path
):
  if 'HTJAX_PRETRAINED' not in os.environ:
    pytest.skip('HTJAX_PRETRAINED names no folder with trained weights')
  found = subprocess.run([PYTHON, '-c', 'import torch_pruning'], check=False)
  if found.returncode:
    pytest.skip(f'{PYTHON} has no torch_pruning')
  folder = pathlib.Path(os.environ['HTJAX_PRETRAINED'])
  (path,) = folder.glob('resnet20-*.npz')
  network, variables = resnets.from_torch(weights.load(path, nested=False))
  x = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
  np.save(tmp_path / 'x.npy', x)
  subprocess.run(
    [
      *(PYTHON, '-P', PROGRAM, path, tmp_path / 'x.npy', tmp_path / 'r.npz'),
      str(ratio),
    ],
    check=True,
  )
  theirs = np.load(tmp_path / 'r.npz')
  pruned = pruning.units(variables, kappa, apply=network.apply, inputs=x[:1])
  small = pruning.compact(pruned, apply=network.apply, inputs=x[:1])
  blocks = 0
  for name in theirs:
    if place := re.match(r'removed\.layer(\d)\.(\d)', name):
      stage, block = map(int, place.groups())
      mask = pruned.mask[f'block_{3 * (stage - 1) + block}']['conv_0']['kernel']
      ours = np.flatnonzero(~np.asarray(mask).any(axis=(0, 1, 2)))
      np.testing.assert_array_equal(ours, theirs[name])
      blocks += 1
  assert blocks == 9
  # Statistics are no parameters of PyTorch.
  parameters = sum(
    leaf.size
    for path, leaf in jax.tree_util.tree_leaves_with_path(small.params)
    if path[-1].key not in ('mean', 'var')
  )
  assert parameters == theirs['params']
  ours = np.asarray(network.apply(small.params, x))
  peak = np.abs(theirs['outputs']).max()
  assert np.abs(ours - theirs['outputs']).max() <= 1e-4 * peak
