"""Initial weights, synthetic data and scores, by their laws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from htjax import data, models, resnets, stable
from statistical import seeds
from statistical.checks import (
  check_at_most,
  check_count,
  check_law,
  check_mean,
  check_within,
  refused,
)


def _inputs(shape, seed=0):
  x = seeds.generator(seed).normal(size=shape)
  return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize('width', [(50, 400), (300, 200)])
def test_linear_layers_start_uniform(width):
  network = models.fcn(140, width, 90)
  params = network.init(seeds.key(11))
  for layer in params.values():
    kernel = np.asarray(layer['kernel'])
    b = kernel.shape[0] ** -0.5
    # Variance, its triple, the root and the draw are each rounded once.
    end = b * (1 + 4 * np.finfo(kernel.dtype).epsneg)
    assert np.abs(kernel).max() <= end
    flat = kernel.ravel()
    check_law(flat, stats.uniform(-b, 2 * b).cdf)
    # Controls: the normal law of equal variance, and the wrong fan.
    same_variance = stats.norm(scale=b / np.sqrt(3)).cdf
    refused(check_law, flat, same_variance)
    b = kernel.shape[1] ** -0.5
    refused(check_law, flat, stats.uniform(-b, 2 * b).cdf)


@pytest.mark.parametrize('num_outputs', [1, 4])
def test_mean_field_units_start_uniform_in_their_inputs(num_outputs):
  network = models.mean_field(30, 500, num_outputs)
  theta = network.init(seeds.key(13))['hidden_0']['kernel']
  b = 30**-0.5
  law = stats.uniform(-b, 2 * b).cdf
  check_law(theta, law)
  wider = stats.uniform(-1.1 * b, 2.2 * b).cdf
  refused(check_law, theta, wider)


def test_convolutions_start_normal():
  network = models.cnn(64, 50, channels=(32, 'M', 64))
  params = network.init(seeds.key(17))
  for name, out in (('conv_0', 32), ('conv_1', 64)):
    flat = np.ravel(params[name]['kernel'])
    scale = np.sqrt(2 / (9 * out))
    check_law(flat, stats.norm(scale=scale).cdf)
    # Control: a scale 15 % larger.
    refused(check_law, flat, stats.norm(scale=1.15 * scale).cdf)
    # The tail beyond 2.5 deviations, which a truncated normal lacks.
    tail = 2 * stats.norm.sf(2.5)
    check_count(np.sum(np.abs(flat) > 2.5 * scale), flat.size, tail)
    refused(check_count, 0, flat.size, tail)
  b = 64**-0.5
  flat = np.ravel(params['output']['kernel'])
  check_law(flat, stats.uniform(-b, 2 * b).cdf)


def test_residual_blocks_start_normal():
  params = jax.jit(resnets.resnet(8, width=32).init)(seeds.key(103))
  kernel = np.ravel(params['block_2']['conv_1']['kernel'])
  variance = 2 / (9 * 128)
  check_law(kernel, stats.norm(scale=math.sqrt(variance)).cdf)
  # Control: the variance of fan_out / 2, or of the block before.
  refused(check_law, kernel, stats.norm(scale=math.sqrt(2 * variance)).cdf)


def test_mean_field_output_does_not_grow_with_width():
  x = _inputs((20, 8))

  def spread(units, number):
    network = models.mean_field(8, units)
    return np.std(network.apply(network.init(seeds.key(number)), x))

  narrow = [spread(16, number) for number in range(40)]
  wide = [spread(1600, number) for number in range(40, 80)]
  ratio = np.mean(narrow) / np.mean(wide)
  relative = [np.std(v, ddof=1) / np.mean(v) / 40**0.5 for v in (narrow, wide)]
  error = ratio * np.hypot(*relative)
  # A mean of n independent units: 1/sqrt(n), so 10.
  check_within(ratio, 10.0, error, freedom=39)
  refused(check_within, ratio, 1.0, error, freedom=39)
  refused(check_within, ratio, 100.0, error, freedom=39)


def _splits(dataset):
  return dataset.train, dataset.test


SIZES = {'num_train': 300, 'num_test': 50, 'dim': 20, 'width': 30}


def test_synthetic_labels_are_those_of_one_teacher():
  options = SIZES | {'num_train': 5000, 'num_test': 5000, 'num_classes': 2}
  dataset = data.load(
    'synthetic', seed=seeds.seed(0), hidden_layers=0, **options
  )
  (x, y), (x_test, y_test) = _splits(dataset)
  # The teacher is linear. Least squares on its signs is off its direction by
  # an angle of about sqrt((pi / 2 - 1) dim / num_train), below twice that with
  # probability 1 - 1e-9 of a chi variable with 19 degrees of freedom; it then
  # disagrees on angle / pi of the sphere, and independent labels on half.
  w, *_ = np.linalg.lstsq(x, 2.0 * y - 1.0, rcond=None)
  guess = x_test @ w > 0
  angle = 2 * np.sqrt((np.pi / 2 - 1) * 20 / 5000)
  check_at_most(np.sum(guess != y_test), 5000, angle / np.pi)
  shuffled = seeds.generator(0).permutation(y_test)
  refused(check_at_most, np.sum(guess != shuffled), 5000, angle / np.pi)


def test_synthetic_inputs_are_standard_normal():
  options = SIZES | {'num_train': 5000, 'seed': seeds.seed(1)}
  x = data.load('synthetic', **options).train.inputs
  check_law(x, stats.norm.cdf)
  check_mean(np.float64(x) ** 2, 1.0, 2.0)
  refused(check_law, x, stats.norm(scale=1.1).cdf)


def test_maximum_likelihood_recovers_alpha():
  # The score has mean 0 at the truth; its variance is the Fisher information.
  n, alpha = 20_000, 1.6
  x = stable.sample(seeds.key(11), alpha, (n,))

  def scores(a):
    return jax.jacfwd(lambda a: stable.logpdf(x, a))(a)

  at_truth = np.asarray(scores(alpha), np.float64)
  check_mean(at_truth, 0.0, at_truth.var())
  wrong = np.asarray(scores(1.5), np.float64)
  refused(check_mean, wrong, 0.0, wrong.var())
