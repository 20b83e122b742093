"""Residual networks: the functions they compute, and weights from PyTorch.

Where the environment variable HTJAX_PRETRAINED names a folder with the weights
of Idelbayev's pytorch_resnet_cifar10 as resnet20-*.npz .., and TFDS_DATA_DIR
one with CIFAR-10, the published test errors are counted.
"""

import os
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import signal, stats

from htjax import checkpoints, models, resnets, selection, training
from htjax.data import store

# Published, in %, and so counted among 10,000.
TEST_ERRORS = {20: 827, 32: 737, 44: 690, 56: 661}
PARAMETERS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018}


def torch_weights(depth=14, width=4, num_classes=5, seed=0):
  """Arrays of a small network by PyTorch's names; none is its initial value."""
  draws = np.random.default_rng(seed)
  arrays = {}

  def layer(conv, norm, fan_in, fan_out):
    shape = (fan_out, fan_in, 3, 3)
    arrays[f'{conv}.weight'] = draws.normal(size=shape) / np.sqrt(4.5 * fan_in)
    for name in ('weight', 'running_var'):
      arrays[f'{norm}.{name}'] = draws.uniform(0.5, 1.5, fan_out)
    for name in ('bias', 'running_mean'):
      arrays[f'{norm}.{name}'] = draws.normal(size=fan_out) / 2

  layer('conv1', 'bn1', 3, width)
  fan_in = width
  for stage in (1, 2, 3):
    fan_out = width * 2 ** (stage - 1)
    for i in range((depth - 2) // 6):
      block = f'layer{stage}.{i}'
      layer(f'{block}.conv1', f'{block}.bn1', fan_in, fan_out)
      layer(f'{block}.conv2', f'{block}.bn2', fan_out, fan_out)
      fan_in = fan_out
  arrays['linear.weight'] = draws.normal(size=(num_classes, fan_in))
  arrays['linear.bias'] = draws.normal(size=num_classes)
  return {name: np.float32(array) for name, array in arrays.items()}


def key(seed):
  # Compiles in a third of the time.
  return jax.random.key(seed, impl='rbg')


def in_numpy(arrays, image, sides=(1, 1)):
  """Features and logits of one picture [channels, height, width], in float64.

  Written from the paper, with PyTorch's names and axes. A shortcut puts its
  zeros before and behind in the proportion of `sides`.
  """
  arrays = {name: np.float64(array) for name, array in arrays.items()}

  def conv(name, x, stride=1):
    kernel = arrays[f'{name}.weight']
    out = [
      sum(signal.correlate2d(c, k, mode='same') for c, k in zip(x, filters))  # noqa: B905
      for filters in kernel
    ]
    return np.stack(out)[:, ::stride, ::stride]

  def norm(name, x):
    scale, bias, mean, variance = (
      arrays[f'{name}.{n}'][:, None, None]
      for n in ('weight', 'bias', 'running_mean', 'running_var')
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias

  def shortcut(x, channels):
    if len(x) == channels:
      return x
    small = x[:, ::2, ::2]
    before, behind = (
      np.zeros((n * channels // 4, *small.shape[1:])) for n in sides
    )
    return np.concatenate([before, small, behind])

  x = np.maximum(norm('bn1', conv('conv1', image)), 0)
  for stage in (1, 2, 3):
    i = 0
    while f'layer{stage}.{i}.conv1.weight' in arrays:
      block = f'layer{stage}.{i}'
      stride = 2 if stage > 1 and i == 0 else 1
      h = norm(f'{block}.bn1', conv(f'{block}.conv1', x, stride))
      h = norm(f'{block}.bn2', conv(f'{block}.conv2', np.maximum(h, 0)))
      x = np.maximum(h + shortcut(x, len(h)), 0)
      i += 1
  features = x.mean(axis=(1, 2))
  return features, arrays['linear.weight'] @ features + arrays['linear.bias']


def pictures(shape=(2, 8, 12, 3)):
  return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


# Layout.


@pytest.mark.parametrize('depth', PARAMETERS)
def test_published_parameter_counts(depth):
  """0.27, 0.46, 0.66 and 0.85 million in the paper."""
  network = resnets.resnet(depth)
  params = jax.eval_shape(network.init, jax.random.key(0))
  leaves = jax.tree_util.tree_flatten_with_path(params)[0]
  trained = [
    leaf for path, leaf in leaves if path[-1].key not in ('mean', 'var')
  ]
  assert models.num_params(trained) == PARAMETERS[depth]
  assert network.depth == depth
  assert len(network.hidden) == 1 + (depth - 2) // 2


def test_layout():
  network = resnets.resnet(14, 7, in_channels=2, width=6)
  params = jax.eval_shape(network.init, jax.random.key(0))
  assert network.hidden == ('conv', *(f'block_{i}' for i in range(6)))
  assert set(params) == {*network.hidden, 'norm', 'output'}
  assert params['conv']['kernel'].shape == (3, 3, 2, 6)
  shapes = [params[f'block_{i}']['conv_0']['kernel'].shape for i in range(6)]
  fans = [(6, 6), (6, 6), (6, 12), (12, 12), (12, 24), (24, 24)]
  assert shapes == [(3, 3, *f) for f in fans]
  assert params['output']['kernel'].shape == (24, 7)
  # What noise and pruning act on: the convolutions inside the blocks.
  chosen = selection.exclude(*network.excluded)(params)
  assert sum(jax.tree.leaves(chosen)) == 12


def test_initial_values():
  init = jax.jit(resnets.resnet(8, width=32).init)
  params = init(key(3))
  for name, value in {'scale': 1, 'bias': 0, 'mean': 0, 'var': 1}.items():
    assert np.all(params['block_2']['norm_1'][name] == value)
  assert np.all(params['output']['bias'] == 0)
  chex.assert_trees_all_equal(params, init(key(3)))
  other = init(key(4))['block_2']['conv_1']['kernel']
  assert not np.any(other == params['block_2']['conv_1']['kernel'])


# Functions.


@pytest.mark.parametrize('depth', [8, 14])
def test_against_numpy(depth):
  arrays = torch_weights(depth)
  network, params = resnets.from_torch(arrays)
  assert network.depth == depth
  x = pictures()
  expected = [in_numpy(arrays, image.transpose(2, 0, 1)) for image in x]
  features, logits = (np.stack(e) for e in zip(*expected, strict=True))
  assert np.std(logits, axis=0).min() > 0.01
  scale = np.abs(logits).max()
  shown = jax.jit(network.features)(params, x)
  np.testing.assert_allclose(shown, features, atol=1e-5)
  apply = jax.jit(network.apply)
  np.testing.assert_allclose(apply(params, x), logits, atol=1e-5 * scale)


def test_the_oracle_sees_what_a_shortcut_does():
  arrays = torch_weights(8)
  network, params = resnets.from_torch(arrays)
  x = pictures()
  logits = jax.jit(network.apply)(params, x)
  behind = np.stack(
    [in_numpy(arrays, i.transpose(2, 0, 1), sides=(0, 2))[1] for i in x]
  )
  assert np.abs(logits - behind).max() > 1e-2 * np.abs(behind).max()


def test_logits_are_those_of_the_features():
  network, params = resnets.from_torch(torch_weights())
  x = pictures()
  output = params['output']
  logits = (
    jax.jit(network.features)(params, x) @ output['kernel']
    + output['bias'][None, :]
  )
  np.testing.assert_allclose(
    logits, jax.jit(network.apply)(params, x), atol=1e-5
  )


def test_the_module_trains_on_the_statistics_of_its_batch():
  module = resnets.ResNet(8, 5, width=4, rngs=nnx.Rngs(key(5)))
  x = pictures((16, 8, 8, 3))
  nnx.jit(lambda module, x: module(x))(module, x)
  h = np.asarray(module.conv(x))
  momentum = module.norm.momentum
  np.testing.assert_allclose(
    module.norm.mean[...], (1 - momentum) * h.mean(axis=(0, 1, 2)), atol=1e-6
  )
  module.eval()
  network = resnets.resnet(8, 5, width=4)
  params = nnx.to_pure_dict(nnx.state(module))
  chex.assert_trees_all_equal_structs(
    params, jax.eval_shape(network.init, jax.random.key(0))
  )
  np.testing.assert_array_equal(
    jax.jit(network.apply)(params, x),
    nnx.jit(lambda module, x: module(x))(module, x),
  )


def test_one_trace_serves_all_parameters():
  network, first = resnets.from_torch(torch_weights(8))
  _, second = resnets.from_torch(torch_weights(8, seed=1))
  apply = jax.jit(chex.assert_max_traces(network.apply, n=1))
  x = pictures()
  assert np.any(apply(first, x) != apply(second, x))


def test_pixels():
  x = resnets.normalise(np.array([[0, 0, 0], [255, 255, 255]], np.uint8))
  assert x.dtype == np.float32
  expected = [
    [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225],
    [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225],
  ]
  np.testing.assert_allclose(x, expected, rtol=1e-6)


# Weights from elsewhere.


@pytest.mark.parametrize('suffix', ['.npz', '.safetensors'])
def test_weights_come_from_files(tmp_path, suffix):
  arrays = torch_weights()
  path = tmp_path / f'weights{suffix}'
  # The names that torch.nn.DataParallel gives, and a counter.
  stored = {f'module.{name}': array for name, array in arrays.items()}
  stored['module.bn1.num_batches_tracked'] = np.int64(7)
  checkpoints.save_weights(path, stored)
  loaded = checkpoints.load_weights(path, nested=False)
  chex.assert_trees_all_equal(
    resnets.from_torch(loaded)[1], resnets.from_torch(arrays)[1]
  )


def _without(name):
  return {k: v for k, v in torch_weights().items() if k != name}


@pytest.mark.parametrize(
  ('weights', 'message'),
  [
    ({}, "must be those of a CIFAR ResNet, with 'conv1.weight'"),
    ({'a': np.zeros(3)}, 'got 1 arrays named a'),
    (_without('layer2.1.conv1.weight'), 'three equal stages'),
    (_without('layer2.1.bn2.bias'), "'layer2.1.bn2.bias', which is missing"),
    (_without('linear.weight'), 'must be those of a CIFAR ResNet'),
    (
      torch_weights()
      | {'layer2.0.downsample.0.weight': np.zeros((8, 4, 1, 1))},
      "a ResNet-14, which has no 'layer2.0.downsample.0.weight'",
    ),
    (
      torch_weights() | {'bn1.bias': np.zeros(3, np.float32)},
      r'bn1.bias must have shape \(4,\), got \(3,\)',
    ),
    (
      torch_weights() | {'layer3.0.conv1.weight': np.zeros((8, 16, 3, 3))},
      r'layer3.0.conv1.weight must have shape \(16, 8, 3, 3\)',
    ),
    (
      torch_weights() | {'bn1.bias': np.full(4, np.nan)},
      'bn1.bias must hold finite floating-point numbers',
    ),
    (
      torch_weights() | {'bn1.bias': np.arange(4)},
      'bn1.bias must hold finite floating-point numbers',
    ),
  ],
)
def test_other_weights_are_refused(weights, message):
  with pytest.raises(ValueError, match=message) as error:
    resnets.from_torch(weights)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: resnets.resnet(18), r'depth must be 6n \+ 2, got 18'),
    (lambda: resnets.resnet(2), 'depth must be an integer >= 8, got 2'),
    (lambda: resnets.resnet(20, 0), 'num_classes must be an integer >= 1'),
    (lambda: resnets.resnet(20, in_channels=0), 'in_channels must be an'),
    (lambda: resnets.resnet(20, width=3), 'width must be even, got 3'),
    (lambda: resnets.resnet(20).init(0), 'key must be a typed key'),
    (
      lambda: resnets.normalise(np.zeros((2, 4))),
      r'pixels must be \[.., 3\], got shape \(2, 4\)',
    ),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.parametrize('shape', [(8, 8, 3), (2, 8, 8, 1), (2, 0, 8, 3)])
def test_bad_pictures_are_named(shape):
  network, params = resnets.from_torch(torch_weights())
  with pytest.raises(
    ValueError, match=r'x must be \[batch, height, width, 3\]'
  ):
    network.apply(params, jnp.zeros(shape))


# The published errors.


def test_the_first_pictures_are_told_apart_as_published(cifar10_test):
  """Weights in a wrong place err nine times in ten."""
  network, params = pretrained(20)
  x, labels = (array[:200] for array in cifar10_test)
  logits = jax.jit(network.apply)(params, x)
  errors = int(jnp.sum(jnp.argmax(logits, axis=-1) != labels))
  expected = TEST_ERRORS[20] / 10_000
  assert stats.binomtest(errors, len(labels), expected).pvalue > 1e-6


@pytest.mark.slow
@pytest.mark.parametrize('depth', TEST_ERRORS)
def test_published_test_errors(depth, cifar10_test):
  """One picture more or less would be 0.01 %."""
  network, params = pretrained(depth)
  evaluate = jax.jit(
    lambda params, x, y: training.evaluate(
      network.apply, params, x, y, batch_size=500
    )
  )
  with jax.default_matmul_precision('highest'):
    _, accuracy = evaluate(params, *cifar10_test)
  assert round(10_000 * (1 - float(accuracy))) == TEST_ERRORS[depth]


def pretrained(depth):
  folder = pathlib.Path(os.environ['HTJAX_PRETRAINED'])
  (path,) = folder.glob(f'resnet{depth}-*.npz')
  network, params = resnets.from_torch(
    checkpoints.load_weights(path, nested=False)
  )
  assert network.depth == depth
  return network, params


@pytest.fixture(scope='module')
def cifar10_test():
  """The test pictures alone: there are five times as many to train on."""
  if 'HTJAX_PRETRAINED' not in os.environ:
    pytest.skip('HTJAX_PRETRAINED names no folder with trained weights')
  path = store.find_prepared('cifar10', None)
  if path is None:
    pytest.skip('CIFAR-10 is not prepared')
  fields = {'image': (32, 32, 3), 'label': ()}
  read = store.read(path, 'test', fields, order='id')
  pixels = read['image'].astype(np.float32)
  labels = read['label'].astype(np.int32)
  return jnp.asarray(resnets.normalise(pixels)), jnp.asarray(labels)
