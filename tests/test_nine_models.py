"""Nine models from first weights to a smaller file, by a few steps each."""

import os

import jax
import pytest

from experiments.any_model import life
from experiments.any_model.networks import NAMES

TASK = life.task


def few(name):
  """Test examples of one shape, that of the batch which is timed."""
  work = TASK(name)
  return work._replace(test=tuple(a[:250] for a in work.test))


# Seconds each; the others compile for longer, or need data that may be absent.
QUICK = ('linen_scanned', 'experts', 'equinox_mlp')


@pytest.mark.parametrize(
  'name',
  [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in NAMES
  ],
)
def test_a_model_is_halved_tuned_and_reloaded(name, monkeypatch):
  if name.startswith('equinox'):
    pytest.importorskip('equinox')
  if name == 'resnet20' and 'HTJAX_PRETRAINED' not in os.environ:
    pytest.skip('HTJAX_PRETRAINED names no folder with trained weights')
  monkeypatch.setattr(life, 'task', few)
  found = life.live(name, seed=0, steps=2, repeats=1)
  small = found.compacted
  floats, products = found.by_hand
  assert sum(leaf.size for leaf in jax.tree.leaves(small.params)) == floats
  assert small.multiply_adds_after == products < small.multiply_adds_before
  assert small.bytes_after == 4 * floats < small.bytes_before
  assert found.difference <= 1e-5
  accuracies = found.accuracies
  assert accuracies['fine_tuned'] == accuracies['reloaded']
  assert small.reasons == {}
