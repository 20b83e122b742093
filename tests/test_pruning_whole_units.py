"""Whole units pruned and really removed, from models of every kind."""

import os
import pathlib
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from htjax import noise, pruning, resnets
from htjax.io import weights


def _draw(*shape, seed=9):
  x = np.random.default_rng(seed).normal(size=shape)
  return jnp.asarray(x, jnp.float32)


def _uneven(params, seed=0):
  """Every leaf moved, so that no bias or statistic is what it starts as."""
  rng = np.random.default_rng(seed)

  def moved(leaf):
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      return leaf
    factor = np.exp(0.3 * rng.normal(size=leaf.shape))
    return jnp.asarray(leaf * factor + 0.05 * factor, leaf.dtype)

  return jax.tree.map(moved, params)


def _check(params, apply, inputs, kappa=0.5, **options):
  """Prune, compact, compare; returns both results."""
  pruned = pruning.units(params, kappa, apply=apply, inputs=inputs, **options)
  small = pruning.compact(pruned, apply=apply, inputs=inputs)
  expected = apply(pruned.params, *inputs)
  peak = float(jnp.max(jnp.abs(expected)))
  ours = apply(small.params, *inputs)
  assert float(jnp.max(jnp.abs(ours - expected))) <= 1e-5 * peak
  # Pruning does change the network.
  assert (
    float(jnp.max(jnp.abs(apply(params, *inputs) - expected))) > 1e-3 * peak
  )
  return pruned, small


class CNN(nnx.Module):
  def __init__(self, rngs):
    self.conv = nnx.Conv(3, 8, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(8, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)
    self.conv2 = nnx.Conv(8, 12, (3, 3), rngs=rngs)
    self.hidden = nnx.Linear(12 * 2 * 2, 16, rngs=rngs)
    self.out = nnx.Linear(16, 5, rngs=rngs)

  def __call__(self, x):
    x = self.drop(nnx.relu(self.norm(self.conv(x))))
    x = nnx.max_pool(x, (2, 2), (2, 2))
    x = nnx.avg_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
    x = nnx.relu(self.hidden(x.reshape(x.shape[0], -1)))
    return self.out(x)


def test_nnx_cnn_with_batch_norm_and_dropout():
  model = CNN(nnx.Rngs(0))
  model.eval()
  nnx.update(model, _uneven(nnx.state(model, nnx.Not(nnx.RngState))))
  x = _draw(2, 8, 8, 3)
  apply, params = pruning.nnx_apply(model)
  pruned, small = _check(params, apply, (x,))
  # By hand: halves of 8, 12 and 16 units.
  floats = (27 + 1 + 4) * 4 + (36 + 1) * 6 + (24 + 1) * 8 + (8 + 1) * 5
  whole = (27 + 1 + 4) * 8 + (72 + 1) * 12 + (48 + 1) * 16 + (16 + 1) * 5
  assert (small.bytes_before, small.bytes_after) == (4 * whole, 4 * floats)
  assert small.multiply_adds_after == 2 * (
    64 * 27 * 4 + 16 * 36 * 6 + 24 * 8 + 8 * 5
  )
  assert not pruned.left.reasons
  # Some filters keep their bias beside a kernel of zeros; none is left.
  assert small.reasons == {}
  # The error of a leaf is that of what it lost.
  kernel = params['conv']['kernel'].get_value()
  kept = np.asarray(pruned.mask['conv']['kernel'].get_value())
  error = np.linalg.norm(kernel[~kept]) / np.linalg.norm(kernel)
  assert pruned.errors['conv.kernel'] == pytest.approx(error, rel=1e-5)
  # The module itself.
  nnx.update(model, pruned.params)
  module = pruning.compact(model, inputs=x).model
  assert module.conv2.kernel.shape == (3, 3, 4, 6)
  expected = model(x)
  limit = 1e-5 * float(jnp.max(jnp.abs(expected)))
  assert float(jnp.max(jnp.abs(module(x) - expected))) <= limit


class LinenCNN(nn.Module):
  @nn.compact
  def __call__(self, x, train=False):
    x = nn.relu(nn.Conv(8, (3, 3))(x))
    x = nn.avg_pool(x, (2, 2), strides=(2, 2))
    x = nn.Conv(12, (3, 3))(x)
    x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
    x = nn.relu(nn.Dense(16)(x.reshape(x.shape[0], -1)))
    return nn.Dense(5)(x)


def test_linen_with_batch_stats():
  x = _draw(2, 8, 8, 3)
  module = LinenCNN()
  variables = _uneven(module.init(jax.random.key(0), x))
  _, small = _check(variables, pruning.linen_apply(module, train=False), (x,))
  shapes = jax.tree.map(jnp.shape, small.params)
  assert shapes['params']['Conv_1']['kernel'] == (3, 3, 4, 6)
  assert shapes['batch_stats']['BatchNorm_0']['mean'] == (6,)
  assert shapes['params']['Dense_0']['kernel'] == (4 * 4 * 6, 8)


class Block(nn.Module):
  @nn.compact
  def __call__(self, x, _):
    return x + nn.Dense(8)(nn.relu(nn.Dense(16)(x))), None


class Scanned(nn.Module):
  @nn.compact
  def __call__(self, x):
    stack = nn.scan(
      Block, variable_axes={'params': 0}, split_rngs={'params': True}, length=3
    )
    return nn.Dense(3)(stack()(x, None)[0])


def test_scanned_linen_layers():
  x, module = _draw(2, 8), Scanned()
  variables = _uneven(module.init(jax.random.key(0), x))
  _, small = _check(variables, pruning.linen_apply(module), (x,))
  stack = small.params['params']['ScanBlock_0']
  assert stack['Dense_0']['kernel'].shape[-1] == 8
  assert stack['Dense_1']['kernel'].shape[1] == 8


class Transformer(nnx.Module):
  def __init__(self, rngs):
    self.embed = nnx.Embed(11, 8, rngs=rngs)
    self.norm = nnx.LayerNorm(8, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(4, 8, decode=False, rngs=rngs)
    self.up = nnx.Linear(8, 16, rngs=rngs)
    self.down = nnx.Linear(16, 8, rngs=rngs)
    self.out = nnx.Linear(8, 5, rngs=rngs)

  def __call__(self, tokens):
    x = self.embed(tokens)
    x = x + self.attention(self.norm(x))
    x = x + self.down(nnx.gelu(self.up(x)))
    return self.out(x.mean(1))


def test_transformers_lose_heads():
  model = Transformer(nnx.Rngs(0))
  apply, params = pruning.nnx_apply(model)
  tokens = jnp.arange(10).reshape(2, 5) % 11
  _, small = _check(_uneven(params), apply, (tokens,))
  shapes = jax.tree.map(
    jnp.shape,
    nnx.to_pure_dict(small.params),
    is_leaf=lambda x: hasattr(x, 'shape'),
  )
  assert shapes['attention']['query']['kernel'] == (8, 2, 2)
  assert shapes['attention']['out']['kernel'] == (2, 2, 8)
  assert shapes['up']['kernel'] == (8, 8)


def test_mixture_of_experts():
  params = {
    'gate': _draw(6, 4),
    'experts': {
      'up': _draw(4, 6, 10, seed=1),
      'bias': _draw(4, 10, seed=2),
      'down': _draw(4, 10, 3, seed=3),
    },
  }

  def apply(p, x):
    gate = jax.nn.softmax(x @ p['gate'])
    e = p['experts']
    hidden = jnp.einsum('bi,eio->beo', x, e['up']) + e['bias'][None]
    out = jnp.einsum('beo,eok->bek', jax.nn.relu(hidden), e['down'])
    return jnp.einsum('be,bek->bk', gate, out)

  _, small = _check(params, apply, (_draw(5, 6, seed=4),))
  assert small.params['experts']['up'].shape == (4, 6, 5)
  assert small.params['gate'].shape == (6, 4)


def test_equinox_layers():
  eqx = pytest.importorskip('equinox')
  keys = jax.random.split(jax.random.key(0), 3)
  layers = (
    eqx.nn.Conv2d(3, 8, 3, key=keys[0]),
    eqx.nn.MLP(8 * 16, 3, 16, 2, key=keys[1]),
  )
  params, static = eqx.partition(layers, eqx.is_array)

  def apply(p, x):
    conv, mlp = eqx.combine(p, static)
    return jax.vmap(lambda x: mlp(jax.nn.relu(conv(x)).reshape(-1)))(x)

  _, small = _check(_uneven(params), apply, (_draw(2, 3, 6, 6),))
  assert small.params[0].weight.shape == (4, 3, 3, 3)
  assert [w.weight.shape for w in small.params[1].layers] == [
    *((8, 64), (8, 8), (3, 8)),
  ]


MLP = {'a': _draw(4, 10), 'b': _draw(10, 6, seed=1), 'c': _draw(6, 2, seed=2)}


def _mlp(p, x):
  return jax.nn.relu(jax.nn.relu(x @ p['a']) @ p['b']) @ p['c']


@pytest.mark.parametrize(
  ('criterion', 'score'),
  [
    ('norm', lambda p: np.linalg.norm(p['a'], axis=0)),
    ('centred', lambda p: np.linalg.norm(p['a'] - np.median(p['a']), axis=0)),
    (
      'in_out',
      lambda p: np.linalg.norm(p['a'], axis=0) * np.linalg.norm(p['b'], axis=1),
    ),
    (
      'group',
      lambda p: np.hypot(
        np.linalg.norm(p['a'], axis=0), np.linalg.norm(p['b'], axis=1)
      ),
    ),
  ],
)
def test_criteria_by_hand(criterion, score):
  x = _draw(3, 4)
  pruned = pruning.units(
    MLP, 0.3, apply=_mlp, inputs=x, criterion=criterion, amounts={'b': 1.0}
  )
  kept = np.flatnonzero(np.any(np.asarray(pruned.params['a']), axis=0))
  assert sorted(kept) == sorted(np.argsort(score(MLP))[-3:])
  assert np.all(np.any(np.asarray(pruned.params['b']), axis=0))


def test_activations_by_hand():
  """Of a last hidden layer, the contribution to the outputs."""
  x = _draw(30, 4)
  pruned = pruning.units(
    MLP, 0.5, apply=_mlp, inputs=x, criterion='activation', amounts={'a': 1.0}
  )
  hidden = jax.nn.relu(jax.nn.relu(x @ MLP['a']) @ MLP['b'])
  score = np.mean(hidden**2, axis=0) * np.sum(MLP['c'] ** 2, axis=1)
  kept = np.flatnonzero(np.any(np.asarray(pruned.params['c']), axis=1))
  assert sorted(kept) == sorted(np.argsort(score)[-3:])


def test_units_that_a_number_depends_on_stay():
  def apply(p, x):
    hidden = jax.nn.relu(x @ p['a'])
    hidden = hidden / p['a'].shape[1]
    return jax.nn.relu(hidden @ p['b']) @ p['c']

  pruned, small = _check(MLP, apply, (_draw(3, 4),))
  assert dict(pruned.left.reasons) == {
    'a': 'a number in the computation depends on how many units there are'
  }
  assert small.params['b'].shape == (10, 3)


def test_what_was_pruned_stays_under_momentum_and_noise():
  x = _draw(3, 4)
  pruned = pruning.units(MLP, 0.5, apply=_mlp, inputs=x)
  tx = optax.chain(
    noise.heavy_tailed_sgd(0.1, 1.8, 0.1, key=jax.random.key(0), momentum=0.9),
    pruning.hold(pruned.mask),
  )
  params, state = pruned.params, tx.init(pruned.params)
  for _ in range(3):
    updates, state = tx.update(
      jax.tree.map(jnp.ones_like, params), state, params
    )
    params = optax.apply_updates(params, updates)
  for name, mask in pruned.mask.items():
    np.testing.assert_array_equal(np.asarray(params[name]) != 0, mask)


def test_the_mask_of_a_whole_model_holds_what_is_trained():
  """Statistics are in the mask and no optimizer's; leaves go by their names."""
  mask = {
    'params': {'w': jnp.array([True, False])},
    'batch_stats': {'mean': jnp.array([True, False])},
  }
  held = pruning.hold(mask)
  for updates in ({'w': jnp.ones(2)}, {'params': {'w': jnp.ones(2)}}):
    new, _ = held.update(updates, held.init(updates))
    assert jax.tree.leaves(new)[0].tolist() == [1, 0]
  with pytest.raises(ValueError, match='got none for b; it has mean, w'):
    held.update({'w': jnp.ones(2), 'b': jnp.ones(2)}, held.init(mask))
  with pytest.raises(ValueError, match=r'\(3,\) for w, got \(2,\)'):
    held.update({'w': jnp.ones(3)}, held.init(mask))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'kappa': 0.0}, 'kappa must lie in (0, 1]'),
    ({'criterion': 'size'}, 'criterion must be one of'),
    ({'amounts': {'d': 0.5}}, 'amounts: no layer is called d; there are a, b'),
    ({'amounts': {'a': 0.0}}, "amounts['a'] must lie in (0, 1]"),
    (
      {'select': {'a': False, 'b': False, 'c': True}},
      'select must choose a layer whose units can go',
    ),
    (
      {'apply': lambda p, x: x[x[:, 0] > 0] @ p['a']},
      'apply must be a function of arrays that can be traced',
    ),
    (
      {'apply': lambda p, x: (jax.debug.print('hi'), _mlp(p, x))[1]},
      'apply must be free of side effects',
    ),
  ],
)
def test_bad_calls_are_named(options, message):
  options = {'kappa': 0.5, 'apply': _mlp, 'inputs': _draw(3, 4)} | options
  with pytest.raises(ValueError, match=re.escape(message)):
    pruning.units(MLP, **options)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'apply': _mlp}, 'inputs must be given'),
    ({'inputs': 1.0}, 'apply must be given'),
    ({'apply': _mlp, 'inputs': 1.0, 'trim_inputs': True}, 'chain and trim'),
    (
      {'apply': lambda p, x: x[x[:, 0] > 0] @ p['a'], 'inputs': _draw(3, 4)},
      'apply must be a function of arrays that can be traced',
    ),
    (
      {
        'apply': lambda p, x: (jax.debug.print('hi'), _mlp(p, x))[1],
        'inputs': _draw(3, 4),
      },
      'apply must be free of side effects',
    ),
  ],
)
def test_bad_compactions_are_named(options, message):
  with pytest.raises(ValueError, match=message):
    pruning.compact(MLP, **options)


def _same(params, apply, x):
  """Compact what has idle units; returns the smaller parameters."""
  small = pruning.compact(params, apply=apply, inputs=x).params
  expected, ours = apply(params, x), apply(small, x)
  limit = 1e-5 * float(jnp.max(jnp.abs(expected)))
  assert float(jnp.max(jnp.abs(ours - expected))) <= limit
  return small


CONSTANT = {
  'w': _draw(4, 6).at[:, :3].set(0),
  'v': _draw(6, 5, seed=1),
  'b': _draw(5, seed=2),
}


def test_constants_go_into_the_bias_behind_them():
  def apply(p, x):
    return jax.nn.sigmoid(x @ p['w']) @ p['v'] + p['b'][None]

  assert _same(CONSTANT, apply, _draw(3, 4))['w'].shape == (4, 3)


@pytest.mark.parametrize('other', ['branch', 'axis', 'twice'])
def test_constants_stay_where_no_bias_takes_them(other):
  """The bias of one branch, along another axis, or used twice."""

  def apply(p, x):
    total = jax.nn.sigmoid(x @ p['w']) @ p['v']
    if other == 'branch':
      return jax.lax.cond(
        x[0, 0] > 0, lambda s, b: s + b[None], lambda s, b: s, total, p['b']
      )
    if other == 'axis':
      return total + p['b'][:, None]
    return total + p['b'][None] * p['b'][None]

  assert _same(CONSTANT, apply, _draw(5, 4))['w'].shape == (4, 6)


@pytest.mark.parametrize('seed', range(6))
def test_random_networks_with_random_zeros(seed):
  """Residual sums, concatenation, groups of channels, padding, attention."""
  rng = np.random.default_rng(seed)
  dims = {name: int(rng.integers(3, 7)) for name in 'abc'}
  a, b, c = dims.values()
  params = {
    'one': _draw(5, a, seed=seed),
    'bias': _draw(a, seed=seed + 1),
    'two': _draw(a, b, seed=seed + 2),
    'skip': _draw(5, b, seed=seed + 3),
    'three': _draw(a + b, c, seed=seed + 4),
    'shift': _draw(c, seed=seed + 5),
    'four': _draw(c, 2, seed=seed + 6),
  }
  # Zeros of whole rows and columns at random.
  for name, leaf in params.items():
    for axis in range(leaf.ndim):
      gone = rng.random(leaf.shape[axis]) < 0.3
      shape = [1] * leaf.ndim
      shape[axis] = -1
      params[name] = jnp.where(gone.reshape(shape), 0, params[name])
  activations = (jax.nn.relu, jnp.tanh, jax.nn.sigmoid, jnp.cos)
  first, second = (activations[i] for i in rng.integers(0, 4, 2))
  tail = rng.integers(0, 4)

  def apply(p, x):
    h = first(x @ p['one'] + p['bias'][None])
    r = second(h @ p['two'] + x @ p['skip'])
    y = jnp.concatenate([h, r], axis=1) @ p['three'] + p['shift'][None]
    if tail == 0:
      y = jax.nn.softmax(y)
    elif tail == 1:
      y = (y - y.mean(1, keepdims=True)) / (1 + y.std(1, keepdims=True))
    elif tail == 2:
      y = jnp.pad(y, ((0, 0), (1, 1)))[:, 1:-1]
    return first(y) @ p['four']

  _same(params, apply, _draw(7, 5, seed=seed + 7))


@pytest.mark.parametrize('groups', [1, 2, 6])
@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
def test_convolutions_with_groups(groups, padding):
  """Dead filters before and behind groups, constants under padding."""
  params = {
    'one': _draw(3, 3, 2, 6).at[..., [0, 4, 5]].set(0),
    'shift': jnp.array([0.3, 0, 1, -1, 0, -2.0]),
    'two': _draw(3, 3, 6 // groups, 6, seed=1),
    'three': _draw(1, 1, 6, 4, seed=2),
    'bias': _draw(4, seed=3),
  }

  def conv(x, kernel, groups=1):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (1, 1),
      padding,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=x.shape[-1] if groups == 6 else groups,
    )

  def apply(p, x):
    x = jax.nn.relu(conv(x, p['one']) + p['shift'][None, None, None])
    x = conv(jax.nn.relu(conv(x, p['two'], groups)), p['three'])
    return x + p['bias'][None, None, None]

  small = _same(params, apply, _draw(2, 7, 7, 2))
  assert small['one'].shape[-1] == {1: 4, 2: 6, 6: 4}[groups]


@pytest.mark.parametrize('share', [0.3, 0.5])
def test_trained_resnets_are_compacted(share):
  if 'HTJAX_PRETRAINED' not in os.environ:
    pytest.skip('HTJAX_PRETRAINED names no folder with trained weights')
  folder = pathlib.Path(os.environ['HTJAX_PRETRAINED'])
  (path,) = folder.glob('resnet20-*.npz')
  network, variables = resnets.from_torch(weights.load(path, nested=False))
  x = _draw(2, 32, 32, 3)
  _, small = _check(variables, network.apply, (x,), 1 - share)
  # The first and the last layer stay, and what the shortcuts tie.
  before, after = small.multiply_adds_before, small.multiply_adds_after
  assert after < (1.05 - share) * before
  assert small.bytes_after < (1.05 - share) * small.bytes_before
