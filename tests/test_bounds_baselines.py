"""Norm, cushion and Hessian bounds, against their formulas in NumPy."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htjax.bounds import baselines

MARGINS = np.linspace(0.1, 50.0, 10_000)
SPECTRAL = np.array([1.2, 0.7, 3.0])
FROBENIUS = np.array([2.0, 1.5, 4.0])
COMMON = {'gamma': 1.5, 'delta': 0.05}
CASES = {
  'neyshabur_2015': {'frobenius': FROBENIUS, 'input_norm': 2.0},
  'neyshabur_2017': {
    'spectral': SPECTRAL,
    'frobenius': FROBENIUS,
    'width': 30,
    'input_norm': 2.0,
  },
  'bartlett_2017': {
    'spectral': SPECTRAL,
    'two_one': np.array([3.0, 2.0, 5.0]),
    'width': 30,
    'data_norm': 200.0,
  },
  'arora_2018': {
    'cushions': np.array([0.3, 0.4, 0.5]),
    'interlayer': np.array([0.1, 0.2, 0.3]),
    'contraction': 1.4,
    'smoothness': 10.0,
    'output_norm': 8.0,
  },
}


def evaluate(name, **changes):
  arguments = COMMON | CASES[name] | changes
  margins = arguments.pop('margins', MARGINS)
  return getattr(baselines, name)(margins, **arguments)


def formula(name):
  n, gamma, delta, depth = MARGINS.size, 1.5, 0.05, 3
  if name == 'neyshabur_2015':
    rate = 2**depth * 2.0 * np.prod(FROBENIUS) / (gamma * math.sqrt(n))
    return rate + 3 * math.sqrt(math.log(2 / delta) / (2 * n))
  if name == 'neyshabur_2017':
    ratio = np.sum(FROBENIUS**2 / SPECTRAL**2)
    size = 2.0**2 * depth**2 * 30 * math.log(depth * 30)
    size *= np.prod(SPECTRAL**2) * ratio
    return math.sqrt((size + math.log(depth * n / delta)) / (gamma**2 * n))
  if name == 'bartlett_2017':
    ratios = np.array([3.0, 2.0, 5.0]) / SPECTRAL
    size = np.prod(SPECTRAL) * np.sum(ratios ** (2 / 3)) ** 1.5
    rate = 200 * size * math.log(30) / (gamma * n)
    return rate + math.sqrt(math.log(1 / delta) / n)
  mu = np.array([0.3, 0.4, 0.5]) * np.array([0.1, 0.2, 0.3])
  size = 1.4**2 * depth**2 * 8.0**2 * np.sum(1 / mu**2)
  return math.sqrt(size / (gamma**2 * n))


@pytest.mark.parametrize('name', CASES)
def test_formulas(name):
  bound = evaluate(name)
  expected = np.mean(MARGINS <= 1.5) + formula(name)
  assert bound.value == pytest.approx(expected, rel=1e-12)
  assert bound.failure == 0.05
  assert bound.valid
  unsure = [a.name for a in bound.assumptions if a.holds is None]
  # The theorem of Bartlett et al. is for all margins at once.
  fixed = [] if name == 'bartlett_2017' else ['fixed margin']
  assert unsure == ['constant', *fixed]


@pytest.mark.parametrize('name', CASES)
def test_complexities_are_monotone(name):
  reference = evaluate(name).terms['complexity']
  for argument, value in CASES[name].items():
    if argument == 'smoothness':
      continue
    grown = value * 2
    sign = -1 if argument in ('cushions', 'interlayer') else 1
    if argument == 'spectral' and name == 'bartlett_2017':
      # R_A grows with a factor 2^3 / 2 for three layers.
      assert evaluate(name, spectral=grown).terms[
        'complexity'
      ] == pytest.approx(reference + 2 * math.log(2))
      continue
    new = evaluate(name, **{argument: grown}).terms['complexity']
    assert sign * (new - reference) > 0, argument
  assert evaluate(name, margins=MARGINS[::2]).terms['complexity'] > reference
  assert evaluate(name, constant=3.0).terms['complexity'] == pytest.approx(
    reference + math.log(3)
  )
  wide = evaluate(name, gamma=3.0)
  assert wide.terms['complexity'] < reference
  assert wide.terms['empirical'] > evaluate(name).terms['empirical']


def test_products_of_many_norms_stay_in_logarithms():
  many = np.full(400, 1e3)
  bound = baselines.neyshabur_2015(
    MARGINS, frobenius=many, input_norm=1.0, **COMMON
  )
  assert bound.value == math.inf
  expected = 400 * math.log(2000) - math.log(1.5) - 0.5 * math.log(10_000)
  assert bound.terms['complexity'] == pytest.approx(expected)


def test_smoothness_is_a_premise():
  assert not evaluate('arora_2018', smoothness=8.9).valid
  assert evaluate('arora_2018', smoothness=math.inf).valid


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize(
  ('argument', 'value'),
  [
    ('gamma', 0.0),
    ('gamma', -1.0),
    ('delta', 0.0),
    ('delta', 1.0),
    ('constant', 0.0),
    ('margins', []),
    ('margins', [math.inf]),
  ],
)
def test_common_faults(name, argument, value):
  with pytest.raises(ValueError, match=argument):
    evaluate(name, **{argument: value})


@pytest.mark.parametrize('name', CASES)
def test_own_faults(name):
  for argument in CASES[name]:
    with pytest.raises(ValueError, match=argument):
      evaluate(name, **{argument: -1.0})


def predict(layers, x, activation):
  for w in layers[:-1]:
    x = activation(x @ w)
  return x @ layers[-1]


def make_loss(activation):
  def loss(layers, x, y):
    return -jax.nn.log_softmax(predict(layers, x, activation))[y]

  return loss


def network(seed):
  keys = jax.random.split(jax.random.key(seed), 5)
  shapes = [(4, 5), (5, 3)]
  layers = [
    jax.random.normal(k, s, jnp.float64)
    for k, s in zip(keys[:2], shapes, strict=True)
  ]
  start = [
    jax.random.normal(k, s, jnp.float64)
    for k, s in zip(keys[2:4], shapes, strict=True)
  ]
  x = jax.random.normal(keys[4], (6, 4), jnp.float64)
  return layers, start, x, jnp.arange(6) % 3


def dense_forms(loss, layers, start, x, y, index):
  """v^T H v and v^T H_+ v by eigenvectors of the dense Hessian, [n]."""
  v = np.asarray(layers[index] - start[index]).ravel()

  def of_layer(w, x, y):
    changed = [*layers[:index], w, *layers[index + 1 :]]
    return loss(changed, x, y)

  plain, positive = [], []
  for row in range(len(x)):
    h = np.asarray(
      jax.hessian(of_layer)(layers[index], x[row], y[row])
    ).reshape(v.size, v.size)
    values, vectors = np.linalg.eigh(h)
    weights = (vectors.T @ v) ** 2
    plain.append(weights @ values)
    positive.append(weights @ np.maximum(values, 0))
  return np.array(plain), np.array(positive)


def test_curvatures_of_relu_layers_are_exact_in_one_step():
  with jax.enable_x64(True):
    layers, start, x, y = network(1)
    loss = make_loss(jax.nn.relu)
    found = baselines.layer_curvatures(loss, layers, start, x, y, num_steps=1)
    more = baselines.layer_curvatures(loss, layers, start, x, y)
    for i in range(2):
      plain, positive = dense_forms(loss, layers, start, x, y, i)
      np.testing.assert_allclose(plain, positive, rtol=1e-8, atol=1e-12)
      assert float(found[i]) == pytest.approx(plain.max(), rel=1e-10)
      assert float(more[i]) == pytest.approx(plain.max(), rel=1e-8)


def test_curvatures_against_numpy():
  """u^T (diag(p) - p p^T) u, u the change of the logits along the layer."""
  with jax.enable_x64(True):
    layers, start, x, y = network(3)
    found = np.asarray(
      baselines.layer_curvatures(
        make_loss(jax.nn.relu), layers, start, x, y, num_steps=1
      )
    )
  first, second = (np.asarray(w) for w in layers)
  moved = [np.asarray(w - s) for w, s in zip(layers, start, strict=True)]
  x = np.asarray(x)
  hidden = x @ first
  logits = np.maximum(hidden, 0) @ second
  changes = [
    ((hidden > 0) * (x @ moved[0])) @ second,
    np.maximum(hidden, 0) @ moved[1],
  ]
  p = np.exp(logits - logits.max(axis=1, keepdims=True))
  p /= p.sum(axis=1, keepdims=True)
  for i, u in enumerate(changes):
    forms = np.sum(p * u**2, axis=1) - np.sum(p * u, axis=1) ** 2
    assert found[i] == pytest.approx(forms.max(), rel=1e-10)


def test_positive_part_with_curved_activations():
  with jax.enable_x64(True):
    layers, start, x, y = network(2)
    loss = make_loss(jnp.tanh)
    plain, positive = dense_forms(loss, layers, start, x, y, 0)
    # The distinction matters here.
    assert positive.max() > 1.01 * plain.max()
    found = {
      steps: baselines.curvatures_with_residuals(
        loss, layers, start, x, y, num_steps=steps
      )
      for steps in (1, 2, 12)
    }
    signature = inspect.signature(baselines.layer_curvatures)
    assert signature.parameters['num_steps'].default == 12
    one = found[1]
    assert float(one.values[0]) == pytest.approx(plain.max(), rel=1e-10)
    assert np.all(np.isnan(one.residuals))
    # Two are not enough, and say so.
    for steps in (2, 12):
      value, residual = (float(part[0]) for part in found[steps])
      exact = value == pytest.approx(positive.max(), rel=1e-8)
      settled = residual < 1e-8 * positive.max()
      assert exact == settled == (steps == 12)
    still = baselines.layer_curvatures(loss, layers, layers, x, y, num_steps=2)
    np.testing.assert_array_equal(still, 0)


def test_ju_2022():
  bound = baselines.ju_2022(
    0.3,
    curvatures=[4.0, 9.0, -1.0],
    num_samples=400,
    loss_bound=2.0,
    epsilon=0.1,
    remainder=0.01,
  )
  expected = 1.1 * (0.3 + math.sqrt(2) * 5 / 20) + 0.01
  assert bound.value == pytest.approx(expected, rel=1e-12)
  assert bound.valid
  assert not baselines.ju_2022(
    0.3, curvatures=[4.0], num_samples=400, loss_bound=2.0
  ).valid


def test_hessian_faults():
  with jax.enable_x64(True):
    layers, start, x, y = network(3)
  loss = make_loss(jnp.tanh)
  with pytest.raises(ValueError, match='reference'):
    baselines.layer_curvatures(loss, layers, start[:1], x, y)
  with pytest.raises(ValueError, match='same examples'):
    baselines.layer_curvatures(loss, layers, start, x[:0], y[:0])
  with pytest.raises(ValueError, match='num_steps'):
    baselines.layer_curvatures(loss, layers, start, x, y, num_steps=0)
  good = {'curvatures': [1.0], 'num_samples': 10, 'loss_bound': 1.0}
  for name, value in [
    ('curvatures', [math.nan]),
    ('num_samples', 0),
    ('loss_bound', 0.0),
    ('epsilon', -1.0),
    ('remainder', -1.0),
  ]:
    with pytest.raises(ValueError, match=name):
      baselines.ju_2022(0.3, **(good | {name: value}))
  with pytest.raises(ValueError, match='training_loss'):
    baselines.ju_2022(2.0, **good)


def test_norm_products_by_hand():
  found = baselines.log_norm_products(
    spectral=[2.0, 3.0],
    frobenius=[4.0, 5.0],
    two_one=[6.0, 7.0],
    widths=[10, 20],
    gamma=0.5,
    num_samples=100,
  )
  front = 2 * 3 / (0.5 * 10)
  assert math.exp(found['neyshabur_2015']) == pytest.approx(4 * 5 / 5)
  ranks = 10 * (4 / 2) ** 2 + 20 * (5 / 3) ** 2
  squares = math.exp(found['neyshabur_2017']) ** 2
  assert squares == pytest.approx(front**2 * ranks)
  sums = (6 / 2) ** (2 / 3) + (7 / 3) ** (2 / 3)
  assert math.exp(found['bartlett_2017']) == pytest.approx(front * sums**1.5)
  with pytest.raises(ValueError, match='frobenius must have 2 entries'):
    baselines.log_norm_products(
      spectral=[2.0, 3.0],
      frobenius=[4.0],
      two_one=[6.0, 7.0],
      widths=10,
      gamma=0.5,
      num_samples=100,
    )


def authors(name, **arguments):
  """ln of what the program behind the paper prints."""
  unused = {'delta': 0.05, 'variant': 'authors'}
  if name == 'bartlett_2017':
    unused |= {'width': 2, 'data_norm': 1.0}
  else:
    unused |= {'input_norm': 1.0}
  bound = getattr(baselines, name)(MARGINS, **arguments, **unused)
  assert not bound.valid
  assert set(bound.terms) == {'complexity'}
  return bound.log_value


def test_norm_squares_of_the_authors_by_hand():
  top, size, fan_in = np.array([2.0, 3]), np.array([4.0, 5]), np.array([7, 9])
  front = np.prod(top) ** 2 / 0.5**2
  ranks = (size / top) ** 2
  for name, arguments, value in (
    ('neyshabur_2015', {'frobenius': size}, np.prod(size) ** 2 / 0.5**2),
    (
      'neyshabur_2017',
      {'spectral': top, 'frobenius': size, 'width': fan_in},
      front * np.sum(fan_in * ranks),
    ),
    (
      'bartlett_2017',
      {'spectral': top, 'two_one': size},
      front * np.sum(ranks),
    ),
  ):
    found = authors(name, gamma=0.5, **arguments)
    assert found == pytest.approx(math.log(value), rel=1e-12)
  with pytest.raises(ValueError, match='variant'):
    evaluate('neyshabur_2015', variant='paper')


def test_norm_squares_differ_by_the_mean_fan_in():
  ranks = np.array([3.0, 1.0, 4.0, 1.0, 5.0])
  top = np.array([1.5, 2.0, 0.7, 3.0, 1.1])
  size = top * np.sqrt(ranks)
  fan_in = np.array([784, 500, 500, 500, 500])
  first = authors(
    'neyshabur_2017', gamma=1.5, spectral=top, frobenius=size, width=fan_in
  )
  second = authors('bartlett_2017', gamma=1.5, spectral=top, two_one=size)
  mean = np.sum(fan_in * ranks) / np.sum(ranks)
  assert first - second == pytest.approx(math.log(mean), rel=1e-12)
