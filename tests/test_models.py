"""Networks: the functions they compute, the laws they start from."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import signal

from htjax import models

HT_CIFAR10 = (64, 'M', 128, 'M', 256, 256, 'M', 512, 512, 'M', 512, 512, 'M')


def _shapes(network):
  params = jax.eval_shape(network.init, jax.random.key(0))
  return {name: layer['kernel'].shape for name, layer in params.items()}


def _networks():
  return {
    'fcn': (models.fcn(12, (7, 5), 3), (4, 12)),
    'mean_field': (models.mean_field(12, 6, 2), (4, 12)),
    'cnn': (models.cnn(3, 4, channels=(5, 'M', 6, 'M')), (2, 8, 8, 3)),
  }


def _inputs(shape, seed=0):
  x = np.random.default_rng(seed).normal(size=shape)
  return jnp.asarray(x, jnp.float32)


# Shapes and counts.


def test_fcn_layout():
  network = models.fcn(140, 2000, 2)
  assert _shapes(network) == {'hidden_0': (140, 2000), 'output': (2000, 2)}
  assert network.hidden == ('hidden_0',)
  assert network.excluded == ('output',)
  deep = models.fcn(10, [20, 30, 40], 5)
  assert _shapes(deep) == {
    'hidden_0': (10, 20),
    'hidden_1': (20, 30),
    'hidden_2': (30, 40),
    'output': (40, 5),
  }
  assert deep.hidden == ('hidden_0', 'hidden_1', 'hidden_2')


def test_cnn_layout():
  network = models.cnn(3, 10)
  assert network.hidden == tuple(f'conv_{i}' for i in range(8))
  assert network.excluded == ('conv_0', 'output')
  shapes = _shapes(network)
  widths = (3, 128, 256, 512, 512, 1024, 1024, 1024, 1024)
  for i in range(8):
    assert shapes[f'conv_{i}'] == (3, 3, widths[i], widths[i + 1])
  assert shapes['output'] == (1024, 10)


def test_mean_field_layout():
  network = models.mean_field(5, 30)
  assert _shapes(network) == {'hidden_0': (5, 30)}
  assert network.excluded == ()
  assert _shapes(models.mean_field(5, 30, 3)) == {'hidden_0': (15, 30)}


@pytest.mark.parametrize(
  ('network', 'count'),
  [
    (models.fcn(3072, 2048, 10, hidden_layers=4), 18_894_848),
    (models.fcn(3072, 2048, 10, hidden_layers=6), 27_283_456),
    (models.fcn(784, 2048, 10, hidden_layers=4), 14_209_024),
    (models.fcn(784, 2048, 10, hidden_layers=6), 22_597_632),
    (models.cnn(3, 10, channels=HT_CIFAR10), 9_222_848),
    (models.cnn(1, 10, channels=(64, *HT_CIFAR10[2:])), 9_221_696),
  ],
)
def test_published_parameter_counts(network, count):
  """ "Heavy Tails in SGD and Compressibility ...", Table 1."""
  params = jax.eval_shape(network.init, jax.random.key(0))
  assert models.num_params(params) == count


# Functions.


def test_fcn_against_numpy():
  network = models.fcn(12, (7, 5), 3)
  params = network.init(jax.random.key(1))
  x = _inputs((4, 2, 6))
  h = np.float64(x).reshape(4, 12)
  for name in network.hidden:
    h = np.maximum(h @ np.float64(params[name]['kernel']), 0)
  expected = h @ np.float64(params['output']['kernel'])
  np.testing.assert_allclose(network.apply(params, x), expected, atol=1e-6)


def test_mean_field_against_numpy():
  network = models.mean_field(3, 50, 2, activation=jnp.sin)
  params = network.init(jax.random.key(2))
  x = _inputs((4, 3))
  theta = np.float64(params['hidden_0']['kernel'])
  expected = np.zeros((4, 2))
  for i in range(50):
    for j in range(2):
      expected[:, j] += np.sin(np.float64(x) @ theta[3 * j : 3 * j + 3, i]) / 50
  np.testing.assert_allclose(network.apply(params, x), expected, atol=1e-6)


def test_cnn_against_correlations_in_numpy():
  network = models.cnn(2, 3, channels=(4, 'M', 5, 6, 'M'))
  params = network.init(jax.random.key(3))
  x = _inputs((2, 8, 12, 2))
  expected = np.stack([_cnn_in_numpy(params, image) for image in np.float64(x)])
  np.testing.assert_allclose(network.apply(params, x), expected, atol=1e-5)


def _cnn_in_numpy(params, image):
  def convolve(image, layer):
    kernel = np.float64(params[layer]['kernel'])
    out = np.zeros((*image.shape[:2], kernel.shape[3]))
    for i, o in itertools.product(*map(range, kernel.shape[2:])):
      out[:, :, o] += signal.correlate2d(
        image[:, :, i], kernel[:, :, i, o], mode='same'
      )
    return np.maximum(out, 0)

  def pool(image):
    h, w, c = image.shape
    return image.reshape(h // 2, 2, w // 2, 2, c).max(axis=(1, 3))

  h = pool(convolve(image, 'conv_0'))
  h = pool(convolve(convolve(h, 'conv_1'), 'conv_2'))
  return h.mean(axis=(0, 1)) @ np.float64(params['output']['kernel'])


@pytest.mark.parametrize('name', _networks())
def test_modules_compute_what_the_functions_do(name):
  network, shape = _networks()[name]
  rngs = nnx.Rngs(jax.random.key(5))
  module = {
    'fcn': lambda: models.FCN(12, (7, 5), 3, rngs=rngs),
    'mean_field': lambda: models.MeanFieldNetwork(12, 6, 2, rngs=rngs),
    'cnn': lambda: models.CNN(3, 4, (5, 'M', 6, 'M'), rngs=rngs),
  }[name]()
  params = network.init(jax.random.key(5))
  chex.assert_trees_all_equal(nnx.to_pure_dict(nnx.state(module)), params)
  x = _inputs(shape)
  chex.assert_trees_all_equal(module(x), network.apply(params, x))


def _bare(params, x):
  hidden = jax.nn.relu(x @ params['hidden_0']['kernel'])
  return hidden @ params['output']['kernel']


def test_compiled_network_is_the_bare_computation():
  network = models.fcn(140, 300, 2)
  params = network.init(jax.random.key(7))
  x = _inputs((50, 140))

  def cost(apply, differentiate):
    def loss(params, x):
      return jnp.sum(apply(params, x) ** 2)

    step = jax.jit(jax.grad(loss) if differentiate else apply)
    return step.lower(params, x).compile().cost_analysis()

  for differentiate in (False, True):
    ours, theirs = (cost(f, differentiate) for f in (network.apply, _bare))
    # Gradients of the output layer and of the logits are turned over.
    turned = (300 * 2 + 50 * 2) * differentiate
    assert 0 <= ours['flops'] - theirs['flops'] <= 8 * turned
    extra = ours['bytes accessed'] - theirs['bytes accessed']
    assert 0 <= extra <= 8 * 4 * turned


@pytest.mark.parametrize('num_classes', [2, 5])
def test_derivatives_are_those_of_the_bare_computation(
  monkeypatch, num_classes
):
  # One device, for which the output layer has derivatives of its own.
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  network, x = models.fcn(6, 8, num_classes), _inputs((20, 6))
  params = network.init(jax.random.key(8))
  v = jax.tree.map(lambda leaf: jnp.cos(100 * leaf), params)

  def derivatives(apply):
    def loss(params):
      return jnp.sum(jnp.sin(apply(params, x)))

    grad = jax.grad(loss)
    return (
      grad(params),
      jax.jvp(loss, (params,), (v,)),
      jax.jvp(grad, (params,), (v,)),
    )

  ours, theirs = map(derivatives, (network.apply, _bare))
  # Sums of at most 20 x 8 terms, each of a size that the largest bounds.
  eps = np.finfo(np.float32).eps
  for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
    np.testing.assert_allclose(a, b, atol=160 * eps * float(jnp.abs(b).max()))


# Initial laws.


@pytest.mark.parametrize('name', _networks())
def test_init_depends_on_the_key_alone(name):
  network, _ = _networks()[name]
  one = network.init(jax.random.key(19))
  chex.assert_trees_all_equal(one, network.init(jax.random.key(19)))
  # Compiled as a whole, a product may be rounded once instead of twice.
  compiled = jax.jit(network.init)(jax.random.key(19))
  chex.assert_trees_all_close(compiled, one, rtol=3e-7)
  other = network.init(jax.random.key(20))
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    assert a.dtype == jnp.float32
    assert not np.any(a == b)
  keys = jax.random.split(jax.random.key(21), 3)
  lanes = jax.vmap(network.init)(keys)
  loop = [network.init(k) for k in jax.random.split(jax.random.key(21), 3)]
  loop = jax.tree.map(lambda *x: jnp.stack(x), *loop)
  chex.assert_trees_all_close(lanes, loop, rtol=3e-7)


def test_layers_of_one_shape_differ():
  params = models.fcn(6, 6, 6, hidden_layers=2).init(jax.random.key(23))
  a, b, c = (params[n]['kernel'] for n in ('hidden_0', 'hidden_1', 'output'))
  assert not np.any(a == b)
  assert not np.any(a == c)
  assert not np.any(b == c)


# Transformations.


@pytest.mark.parametrize('name', _networks())
def test_apply_under_jit_vmap_and_grad(name):
  network, shape = _networks()[name]
  x = _inputs(shape)
  keys = jax.random.split(jax.random.key(29), 3)
  lanes = jax.vmap(network.init)(keys)
  one = jax.tree.map(lambda leaf: leaf[1], lanes)
  plain = network.apply(one, x)
  # The same sums, possibly in another order.
  np.testing.assert_allclose(
    jax.jit(network.apply)(one, x), plain, rtol=1e-5, atol=1e-6
  )
  swept = jax.vmap(network.apply, in_axes=(0, None))(lanes, x)
  np.testing.assert_allclose(swept[1], plain, rtol=1e-5, atol=1e-6)
  loss = lambda params: jnp.sum(network.apply(params, x) ** 2)  # noqa: E731
  gradient = jax.grad(loss)(one)
  chex.assert_trees_all_equal_shapes_and_dtypes(gradient, one)
  # Along the gradient g the loss rises at the rate |g|^2.
  norm = float(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
  step = 1e-3 / norm**0.5
  up, down = (
    loss(jax.tree.map(lambda p, g, s=s: p + s * step * g, one, gradient))
    for s in (1, -1)
  )
  np.testing.assert_allclose((up - down) / (2 * step), norm, rtol=0.02)


def test_one_trace_serves_all_parameters():
  network = models.fcn(12, 7, 3)
  apply = jax.jit(chex.assert_max_traces(network.apply, n=1))
  x = _inputs((4, 12))
  first, second = (apply(network.init(jax.random.key(i)), x) for i in (31, 32))
  assert np.any(first != second)


def test_double_precision_parameters_compute_in_double_precision():
  network = models.fcn(12, 7, 3)
  params = network.init(jax.random.key(37))
  with jax.enable_x64(True):
    double = jax.tree.map(lambda p: p.astype(jnp.float64), params)
    out = network.apply(double, _inputs((4, 12)).astype(jnp.float64))
    assert out.dtype == jnp.float64


# Refusals.


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: models.fcn(0, 5, 2), 'in_features must be an integer >= 1, got 0'),
    (lambda: models.fcn(3, 0, 2), 'width must be an integer >= 1, got 0'),
    (lambda: models.fcn(3, [4, 0], 2), 'width must be an integer >= 1, got 0'),
    (lambda: models.fcn(3, [], 2), 'width must name at least one layer'),
    (lambda: models.fcn(3, 5, 0), 'num_classes must be an integer >= 1, got 0'),
    (lambda: models.fcn(3, 5, 2, hidden_layers=0), 'hidden_layers must be'),
    (
      lambda: models.fcn(3, [5, 6], 2, hidden_layers=3),
      'one number per hidden layer, got .5, 6. with hidden_layers=3',
    ),
    (lambda: models.mean_field(3, 0), 'num_units must be an integer >= 1'),
    (lambda: models.mean_field(3, 4, 0), 'num_outputs must be an integer'),
    (
      lambda: models.mean_field(3, 4, activation='tanh'),
      "activation must be a function, got 'tanh'",
    ),
    (lambda: models.cnn(0, 2), 'in_channels must be an integer >= 1, got 0'),
    (lambda: models.cnn(3, 2, channels=()), 'channels must start with'),
    (lambda: models.cnn(3, 2, channels=('M', 4)), 'channels must start with'),
    (lambda: models.cnn(3, 2, channels=(4, 'm')), "channels .* got 'm'"),
  ],
)
def test_bad_sizes_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.parametrize(
  ('name', 'shape', 'message'),
  [
    ('fcn', (4, 11), r'12 entries per example, got shape \(4, 11\)'),
    ('fcn', (12,), r'12 entries per example, got shape \(12,\)'),
    ('mean_field', (4, 13), '12 entries per example'),
    ('cnn', (2, 8, 8, 1), r'\[batch, height, width, 3\].*got shape'),
    ('cnn', (8, 8, 3), r'\[batch, height, width, 3\]'),
    ('cnn', (2, 8, 3, 3), 'of at least 4, got shape'),
  ],
)
def test_bad_inputs_are_named(name, shape, message):
  network, _ = _networks()[name]
  params = network.init(jax.random.key(0))
  with pytest.raises(ValueError, match=message):
    network.apply(params, jnp.zeros(shape))


@pytest.mark.parametrize('key', [0, np.array([0, 1], np.uint32), None])
def test_only_typed_keys(key):
  with pytest.raises(ValueError, match='key must be a typed key'):
    models.fcn(3, 4, 2).init(key)


def test_stable_params_have_unit_layers():
  network = models.fcn(5, 40, 3, hidden_layers=2)
  params = models.stable_params(jax.random.key(0), network, 1.0)
  for name in network.hidden:
    kernel = np.asarray(params[name]['kernel'], np.float64)
    assert np.linalg.norm(kernel) == pytest.approx(1.0, abs=1e-5)
    # Cauchy entries: the largest owns most of the norm.
    assert np.abs(kernel).max() > 0.3
  assert np.abs(params['output']['kernel']).max() <= 40**-0.5
  with pytest.raises(ValueError, match='alpha must lie in'):
    models.stable_params(jax.random.key(0), network, 2.5)
