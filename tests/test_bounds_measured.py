"""Margins and what bounds measure, against NumPy in float64."""

import itertools
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from htjax import bounds, models
from htjax.bounds import arguments, binomial, cushions, networks, spectral
from htjax.bounds.margins import empirical_margin_loss

SHAPES = ((6, 9), (9, 7), (7, 3))


def random_layers(seed, shapes=SHAPES):
  rng = np.random.default_rng(seed)
  return [rng.standard_normal(s) / math.sqrt(s[0]) for s in shapes]


def random_inputs(seed, shape=(11, 6)):
  return np.random.default_rng(seed).standard_normal(shape)


def forward(layers, x):
  states = [x @ layers[0]]
  for w in layers[1:]:
    states.append(np.maximum(states[-1], 0) @ w)
  return states


def jacobian(layers, states, i, j, row):
  """Of x^i -> x^j at one input, by the chain rule; acts from the left."""
  matrix = np.eye(layers[i].shape[1])
  for layer in range(i + 1, j + 1):
    gate = np.diag((states[layer - 1][row] > 0).astype(float))
    matrix = layers[layer].T @ gate @ matrix
  return matrix


def test_margins_and_losses():
  logits = jnp.array([[3.0, 1.0, 0.0], [0.0, 0.5, 2.5], [1.0, 1.0, 0.0]])
  labels = jnp.array([0, 1, 0])
  np.testing.assert_array_equal(bounds.margins(logits, labels), [2, -2, 0])
  assert float(bounds.margin_loss(logits, labels)) == pytest.approx(2 / 3)
  assert float(bounds.margin_loss(logits, labels, 2.0)) == 1
  assert float(bounds.margin_loss(logits, labels, 1.9)) == pytest.approx(2 / 3)
  # Ramp from 1 at margin 1 to 0 at margin 3: 1 - (2 - 1) / 2.
  ramp = bounds.ramp_loss(logits, labels, 1.0, 2.0)
  assert float(ramp) == pytest.approx((0.5 + 1 + 1) / 3)


def test_margins_and_losses_against_numpy():
  rng = np.random.default_rng(12)
  logits = rng.standard_normal((300, 5))
  labels = rng.integers(0, 5, 300)
  others = np.where(np.eye(5, dtype=bool)[labels], -np.inf, logits)
  expected = logits[np.arange(300), labels] - others.max(axis=1)
  with jax.enable_x64(True):
    found = np.asarray(bounds.margins(logits, labels))
    losses = [float(bounds.margin_loss(logits, labels, g)) for g in (0, 0.4)]
    ramp = float(bounds.ramp_loss(logits, labels, 0.2, 0.7))
  np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)
  for gamma, loss in zip((0, 0.4), losses, strict=True):
    assert loss == pytest.approx(np.mean(expected <= gamma), rel=1e-12)
  slope = np.clip(1 - (expected - 0.2) / 0.7, 0, 1)
  assert ramp == pytest.approx(slope.mean(), rel=1e-10)


def test_ramp_loss_lies_between_margin_losses():
  rng = np.random.default_rng(1)
  logits = jnp.asarray(rng.standard_normal((200, 4)), jnp.float32)
  labels = jnp.asarray(rng.integers(0, 4, 200))
  low = bounds.margin_loss(logits, labels, 0.3)
  high = bounds.margin_loss(logits, labels, 1.0)
  assert low < bounds.ramp_loss(logits, labels, 0.3, 0.7) < high


def test_traced_faults_give_nan():
  logits = jnp.array([[3.0, 1.0], [0.0, 0.5]])
  labels = jnp.array([0, 5])
  assert np.isnan(jax.jit(bounds.margins)(logits, labels)).tolist() == [0, 1]
  assert np.isnan(jax.jit(bounds.margin_loss)(logits, labels))
  one = jnp.array([0, 1])
  assert np.isnan(jax.jit(bounds.margin_loss)(logits, one, jnp.nan))


@pytest.mark.parametrize(
  ('logits', 'labels', 'message'),
  [
    (np.zeros((0, 3), np.float32), np.zeros(0, int), 'logits must be'),
    (np.zeros((2, 1), np.float32), np.zeros(2, int), 'logits must be'),
    (np.zeros((2, 3), np.float32), np.zeros(3, int), 'labels must be'),
    (np.zeros((2, 3), np.float32), np.zeros(2, np.float32), 'labels must be'),
    (np.zeros((2, 3), np.float32), np.array([0, 3]), 'labels must lie'),
    (np.full((2, 3), np.nan, np.float32), np.array([0, 1]), 'logits must be f'),
    (np.full((2, 3), np.inf, np.float32), np.array([0, 1]), 'logits must be f'),
    (np.zeros((2, 3), int), np.array([0, 1]), 'logits must be floating'),
  ],
)
def test_margins_refuse(logits, labels, message):
  with pytest.raises(ValueError, match=message):
    bounds.margins(logits, labels)


def test_losses_refuse():
  logits, labels = jnp.zeros((2, 3)), jnp.array([0, 1])
  with pytest.raises(ValueError, match='gamma'):
    bounds.margin_loss(logits, labels, -0.1)
  with pytest.raises(ValueError, match='tau'):
    bounds.ramp_loss(logits, labels, 0.1, 0.0)


def test_bounds_add_up():
  bound = bounds.make_bound(
    {'a': math.log(2), 'b': math.log(3), 'c': -math.inf}, failure=0.25
  )
  assert bound.value == pytest.approx(5, rel=1e-15)
  assert bound.valid
  assert bound.failure == 0.25
  huge = bounds.make_bound({'a': 2000.0, 'b': 2000.0}, failure=1.5)
  assert huge.value == math.inf
  assert huge.log_value == pytest.approx(2000 + math.log(2))
  assert not huge.valid
  unsure = bounds.make_bound({'a': 0.0}, [bounds.Assumption('x', None, 'y')])
  assert unsure.valid
  zero = bounds.make_bound({'a': -math.inf})
  assert (zero.value, zero.log_value) == (0.0, -math.inf)


def test_bounds_are_made_on_the_host():
  for function in (arguments.number, arguments.vector):
    with pytest.raises(ValueError, match='v must be concrete'):
      jax.jit(lambda v, f=function: f('v', v))(1.0)
  with pytest.raises(ValueError, match='v must be concrete'):
    jax.jit(lambda v: arguments.vector('v', [1.0, v]))(1.0)
  with pytest.raises(ValueError, match='margins must be concrete'):
    jax.jit(lambda v: empirical_margin_loss(v, 0.0))(jnp.ones(3))


@pytest.mark.parametrize(('n', 'p'), [(10, 0.3), (1000, 0.05), (50_000, 0.01)])
def test_binomial_tail(n, p):
  for k in {0, 1, int(n * p), int(n * p) + 1, int(2 * n * p) + 3, n, n + 1}:
    exact = stats.binom.logsf(k - 1, n, p)
    found = binomial.log_sf(k, n, p)
    if exact == -math.inf and k <= n:  # scipy underflows
      assert found < -700
    else:
      # lgamma(n) is right to about 1e-16 n ln n.
      assert found == pytest.approx(exact, rel=1e-9, abs=1e-9)
  assert binomial.log_sf(3, 5, 0.0) == -math.inf
  assert binomial.log_sf(5, 5, 1.0) == 0


@pytest.mark.parametrize('shape', [(40, 40), (60, 20), (5, 1), (1, 5)])
def test_spectral_norm(shape):
  matrix = np.random.default_rng(7).standard_normal(shape)
  exact = np.linalg.norm(matrix, 2)
  with jax.enable_x64(True):
    found = spectral.spectral_norm(matrix)
    rank = spectral.stable_rank(matrix)
  assert float(found.value) == pytest.approx(exact, rel=1e-10)
  assert float(found.residual) < 2e-8
  assert float(found.upper) >= exact * (1 - 1e-14)
  expected = np.linalg.norm(matrix) ** 2 / exact**2
  assert float(rank) == pytest.approx(expected, rel=1e-10)


def test_spectral_norm_of_special_matrices():
  zero = spectral.spectral_norm(jnp.zeros((3, 4)))
  assert (float(zero.value), float(zero.residual)) == (0, 0)
  assert float(spectral.stable_rank(jnp.eye(5))) == pytest.approx(5)
  assert np.isnan(spectral.spectral_norm(jnp.full((2, 2), jnp.nan)).value)
  # The upper bound is attained by a non-negative rank-one matrix.
  ones = spectral.spectral_norm(jnp.ones((3, 3)))
  assert float(ones.upper) == pytest.approx(3)


@pytest.mark.parametrize('peak', [1e-30, 1e30])
def test_large_and_small_entries_keep_their_norms(peak):
  matrix = np.random.default_rng(8).standard_normal((20, 10)).astype(np.float32)
  plain = spectral.layer_norms([matrix])
  found = spectral.layer_norms([np.float32(peak) * matrix])
  for name in ('spectral', 'frobenius', 'distance', 'two_one'):
    expected = getattr(plain, name) * peak
    np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-5)
  rank = spectral.stable_rank(np.float32(peak) * matrix)
  assert float(rank) == pytest.approx(
    float(spectral.stable_rank(matrix)), rel=1e-5
  )


def test_residual_tells_of_too_few_iterations():
  """Slow convergence: singular values 1, 1 - 1e-4, .."""
  matrix = jnp.diag(1 - 1e-2 * jnp.arange(40.0))
  found = spectral.spectral_norm(matrix, max_iterations=3)
  assert int(found.num_iterations) == 3
  assert float(found.residual) > 1e-2
  assert float(found.value) < 1
  # What the residual promises: a squared singular value this close.
  squares = np.diag(np.asarray(matrix, np.float64)) ** 2
  top = float(found.value) ** 2
  nearest = np.min(np.abs(squares - top))
  assert nearest <= float(found.residual) * top * (1 + 1e-5)


def dense_operator(function, shape):
  basis = jnp.eye(math.prod(shape)).reshape(-1, *shape)
  return np.asarray(jax.vmap(function)(basis), np.float64).reshape(
    len(basis), -1
  )


def convolve(kernel, padding, stride=1):
  def function(image):
    if padding == 'CIRCULAR':
      rows, columns = kernel.shape[0] - 1, kernel.shape[1] - 1
      image = jnp.pad(image, ((0, rows), (0, columns), (0, 0)), mode='wrap')
    mode = 'SAME' if padding == 'SAME' else 'VALID'
    return jax.lax.conv_general_dilated(
      image[None],
      kernel,
      (stride, stride),
      mode,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )[0]

  return function


@pytest.mark.parametrize('size', [(5, 6), (6, 5)])
def test_circular_convolution_is_exact(size):
  with jax.enable_x64(True):
    kernel = jax.random.normal(jax.random.key(3), (3, 2, 2, 4), jnp.float64)
    dense = dense_operator(convolve(kernel, 'CIRCULAR'), (*size, 2))
    found = spectral.conv_spectral_norm(kernel, size, padding='CIRCULAR')
    assert float(found) == pytest.approx(np.linalg.norm(dense, 2), rel=1e-10)


@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
@pytest.mark.parametrize('stride', [1, 2])
def test_zero_padded_convolution(padding, stride):
  """The Fourier number is above, power iteration is exact."""
  with jax.enable_x64(True):
    kernel = jax.random.normal(jax.random.key(4), (3, 3, 2, 3), jnp.float64)
    function = convolve(kernel, padding, stride)
    exact = np.linalg.norm(dense_operator(function, (5, 5, 2)), 2)
    above = spectral.conv_spectral_norm(kernel, (5, 5), padding=padding)
    found = spectral.operator_norm(function, (5, 5, 2), dtype=jnp.float64)
  assert float(above) >= exact
  # Cutting out loses something but not everything.
  assert float(above) < 2.5 * exact
  assert float(found.value) == pytest.approx(exact, rel=1e-10)


def test_norm_faults():
  with pytest.raises(ValueError, match='matrix must be a non-empty'):
    spectral.spectral_norm(jnp.zeros(3))
  with pytest.raises(ValueError, match='see conv_spectral_norm'):
    spectral.spectral_norm(jnp.zeros((3, 3, 1, 1)))
  with pytest.raises(ValueError, match='kernel must be'):
    spectral.conv_spectral_norm(
      jnp.zeros((1, 2, 3, 4, 5)), (5, 5), padding='SAME'
    )
  with pytest.raises(ValueError, match='padding'):
    spectral.conv_spectral_norm(
      jnp.zeros((3, 3, 1, 1)), (5, 5), padding='REFLECT'
    )
  with pytest.raises(ValueError, match='max_iterations'):
    spectral.spectral_norm(jnp.eye(2), max_iterations=0)
  with pytest.raises(ValueError, match='tolerance'):
    spectral.spectral_norm(jnp.eye(2), tolerance=0.0)


def test_layer_norms():
  layers, start = random_layers(1), random_layers(2)
  with jax.enable_x64(True):
    found = spectral.layer_norms(layers, start)
    plain = spectral.layer_norms(layers)
  for i, (w, m) in enumerate(zip(layers, start, strict=True)):
    units = np.sqrt(np.sum((w - m) ** 2, axis=0))
    expected = {
      'spectral': np.linalg.svd(w)[1][0],
      'frobenius': np.linalg.norm(w),
      'distance': np.linalg.norm(w - m),
      'two_one': units.sum(),
    }
    for name, value in expected.items():
      assert getattr(found, name)[i] == pytest.approx(value, rel=1e-10), name
    assert plain.distance[i] == pytest.approx(plain.frobenius[i])
  assert found.fan_in.tolist() == [6, 9, 7]
  assert found.fan_out.tolist() == [9, 7, 3]


def test_layer_norm_faults():
  layers = random_layers(1)
  with pytest.raises(ValueError, match='must chain'):
    spectral.layer_norms(layers[::2])
  with pytest.raises(ValueError, match='at least one'):
    spectral.layer_norms([])
  with pytest.raises(ValueError, match='reference must have the shapes'):
    spectral.layer_norms(layers, layers[:2])
  with pytest.raises(ValueError, match='must be finite'):
    spectral.layer_norms([np.full((2, 2), np.inf)])


def test_layers_of_a_network_in_order():
  network = models.fcn(4, 3, 2, hidden_layers=11)
  params = network.init(jax.random.key(5))
  layers = networks.dense_layers(params)
  assert [w.shape for w in layers] == [(4, 3), *[(3, 3)] * 10, (3, 2)]
  np.testing.assert_array_equal(layers[10], params['hidden_10']['kernel'])
  x = jax.random.normal(jax.random.key(6), (7, 4))
  output = networks.pre_activations(layers, x)[-1]
  np.testing.assert_allclose(output, network.apply(params, x), atol=1e-6)
  with pytest.raises(ValueError, match='hold matrices only'):
    networks.dense_layers({'a': {'bias': jnp.zeros(3)}})


def test_cushions_against_numpy():
  layers, x = random_layers(3), random_inputs(4)
  states = forward(layers, x)
  seen = [x, *(np.maximum(s, 0) for s in states[:-1])]
  with jax.enable_x64(True):
    mu = np.asarray(cushions.layer_cushions(layers, x))
    between = cushions.interlayer_cushions(layers, x)
    contraction = float(cushions.activation_contraction(layers, x))
  pairs, minimal = np.asarray(between.pairs), np.asarray(between.minimal)
  for i, w in enumerate(layers):
    ratios = np.linalg.norm(seen[i] @ w, axis=1)
    ratios /= np.linalg.norm(w) * np.linalg.norm(seen[i], axis=1)
    assert mu[i] == pytest.approx(ratios.min(), rel=1e-10)
    singular = np.linalg.svd(w)[1]
    assert 1 / mu[i] >= math.sqrt(np.sum(singular**2)) / singular[0]
    assert pairs[i, i] == pytest.approx(w.shape[1] ** -0.5)
  for i, j in itertools.combinations(range(3), 2):
    ratios = []
    for row in range(len(x)):
      matrix = jacobian(layers, states, i, j, row)
      image = np.linalg.norm(matrix @ states[i][row])
      size = np.linalg.norm(matrix) * np.linalg.norm(states[i][row])
      ratios.append(image / size)
    assert pairs[i, j] == pytest.approx(min(ratios), rel=1e-10)
    assert np.isnan(pairs[j, i])
  for i in range(3):
    assert minimal[i] == pytest.approx(np.nanmin(pairs[i, i:]), rel=1e-12)
  expected = max(
    np.max(np.linalg.norm(s, axis=1) / np.linalg.norm(np.maximum(s, 0), axis=1))
    for s in states[:-1]
  )
  assert contraction == pytest.approx(expected, rel=1e-10)


def test_smoothness_against_numpy():
  """Smoothness under one noise, through NumPy's network and Jacobian."""
  layers, x = random_layers(9), random_inputs(10, (4, 6))
  with jax.enable_x64(True):
    key = jax.random.key(11)
    found = cushions.interlayer_smoothness(
      key, layers, x, delta=0.2, noise_scale=0.5, num_draws=40
    )
    states = forward(layers, x)
    smallest = math.inf
    for i, j in itertools.combinations(range(3), 2):
      draws = jax.random.split(jax.random.fold_in(key, 3 * i + j), 40)
      noise = np.stack(
        [
          np.asarray(jax.random.normal(k, states[i].shape, jnp.float64))
          for k in draws
        ]
      )
      ratios = np.empty((40, len(x)))
      for draw, row in itertools.product(range(40), range(len(x))):
        state = states[i][row]
        size = np.linalg.norm(state)
        e = noise[draw, row] * 0.5 * size / math.sqrt(state.size)
        moved = state + e
        for w in layers[i + 1 : j + 1]:
          moved = np.maximum(moved, 0) @ w
        linear = jacobian(layers, states, i, j, row) @ (state + e)
        error = np.linalg.norm(moved - linear)
        image = np.linalg.norm(states[j][row])
        with np.errstate(divide='ignore'):
          ratios[draw, row] = np.linalg.norm(e) * image / (error * size)
      quantile = np.sort(ratios, axis=0)[math.floor(0.2 * 39)]
      smallest = min(smallest, quantile.min())
  assert float(found) == pytest.approx(smallest, rel=1e-10)


def test_linear_networks_are_smooth():
  layers = [jnp.eye(3), jnp.eye(3)]
  rho = cushions.interlayer_smoothness(
    jax.random.key(12),
    layers,
    jnp.ones((2, 3)),
    delta=0.1,
    noise_scale=0.1,
    num_draws=10,
    activation=lambda t: t,
  )
  assert float(rho) == math.inf


def test_cushion_faults():
  layers, x = random_layers(1), random_inputs(2)
  with pytest.raises(ValueError, match='x must be'):
    cushions.layer_cushions(layers, x[:, :3])
  with pytest.raises(ValueError, match='together'):
    cushions.interlayer_cushions(layers, x, num_probes=3)
  with pytest.raises(ValueError, match='hidden layer'):
    cushions.activation_contraction(layers[:1], x)
  options = {'delta': 0.1, 'noise_scale': 0.1, 'num_draws': 10}
  for name, value in [('delta', 1.0), ('noise_scale', 0.0), ('num_draws', 9)]:
    with pytest.raises(ValueError, match=name):
      cushions.interlayer_smoothness(
        jax.random.key(1), layers, x, **(options | {name: value})
      )


def test_the_example_of_the_documentation_runs(capsys):
  page = pathlib.Path(__file__).parent.parent / 'docs' / 'bounds.md'
  blocks = re.findall(r'```python\n(.*?)```', page.read_text(), re.S)
  assert blocks
  for block in blocks:
    names = {}
    exec(block, names)
    assert math.isfinite(names['bound'].log_value)
  assert 'confidence True' in capsys.readouterr().out


def test_inputs_of_zero_and_dead_units_bound_nothing():
  layers, x = random_layers(31), random_inputs(32)
  layers[0][:, 0] = 0
  few = jax.random.key(0)
  options = {'delta': 0.25, 'noise_scale': 0.1, 'num_draws': 8}
  own = cushions.layer_cushions(layers, x)
  onward = cushions.interlayer_cushions(layers, x)
  assert np.all(np.isfinite(own))
  assert np.all(np.isfinite(onward.minimal))
  more = np.concatenate([x, np.zeros((2, 6))])
  np.testing.assert_allclose(cushions.layer_cushions(layers, more), own)
  padded = cushions.interlayer_cushions(layers, more)
  np.testing.assert_allclose(padded.pairs, onward.pairs, rtol=1e-6)
  np.testing.assert_allclose(padded.minimal, onward.minimal, rtol=1e-6)
  rho = cushions.interlayer_smoothness(few, layers, more, **options)
  assert np.isfinite(rho)
  assert rho > 0
  # Whole layers that are dead for some input, and a layer of zeros.
  dead = [w.copy() for w in layers]
  dead[0] = np.abs(dead[0])
  signs = np.concatenate([np.abs(x), -np.abs(x[:1])])
  found = cushions.interlayer_cushions(dead, signs)
  alive = cushions.interlayer_cushions(dead, np.abs(x))
  np.testing.assert_allclose(found.minimal, alive.minimal, rtol=1e-6)
  assert not np.isnan(
    cushions.interlayer_smoothness(few, dead, signs, **options)
  )
  none = [layers[0], np.zeros_like(layers[1]), layers[2]]
  np.testing.assert_array_equal(
    np.isinf(cushions.layer_cushions(none, x)), [False, True, True]
  )
  assert not np.any(np.isnan(cushions.interlayer_cushions(none, x).minimal))
  bad = x.copy()
  bad[0, 0] = np.nan
  assert np.all(np.isnan(cushions.layer_cushions(layers, bad)))


def test_power_iteration_takes_a_key():
  matrix = np.diag([3.0, 1.0, 0.5]).astype(np.float32)
  default = spectral.spectral_norm(matrix)
  same = spectral.spectral_norm(matrix, key=jax.random.key(0))
  other = spectral.spectral_norm(matrix, key=jax.random.key(5))
  assert float(default.value) == float(same.value)
  assert float(other.value) == pytest.approx(3, rel=1e-6)
  with pytest.raises(ValueError, match='key'):
    spectral.spectral_norm(matrix, key=3)


def test_pairs_of_layers_share_programs_and_blocks_change_nothing(monkeypatch):
  """Programs by shapes, not by pairs; draws and probes in parts, and traced."""
  rng = np.random.default_rng(60)
  sides = [5, 7, 7, 7, 7, 3]
  layers = [
    jnp.asarray(rng.normal(size=s), jnp.float32)
    for s in itertools.pairwise(sides)
  ]
  x = jnp.asarray(rng.normal(size=(4, 5)), jnp.float32)
  key = jax.random.key(61)

  def measured(layers, x):
    return (
      cushions.interlayer_cushions(layers, x).minimal,
      cushions.interlayer_cushions(layers, x, key=key, num_probes=9).minimal,
      cushions.interlayer_smoothness(
        key, layers, x, delta=0.2, noise_scale=0.5, num_draws=11
      ),
    )

  programs = (cushions._push, cushions._onward, cushions._departure)
  before = [program._cache_size() for program in programs]
  whole = measured(layers, x)
  more = [p._cache_size() - b for p, b in zip(programs, before, strict=True)]
  assert more == [2, 1, 2]
  traced = jax.jit(measured)
  # 4 inputs of width 7: two draws or probes at a time.
  monkeypatch.setattr(cushions, '_BLOCK', 60)
  for found in (measured(layers, x), traced(layers, x)):
    for a, b in zip(whole, found, strict=True):
      np.testing.assert_allclose(a, b, rtol=2e-5)
