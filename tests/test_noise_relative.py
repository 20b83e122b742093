"""Noise in units of the weights, by layers, watched, and what it does alone."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from htjax import noise, selection, stable, units
from htjax.noise import settings

ALPHA = 1.5


def _params():
  keys = jax.random.split(jax.random.key(0), 3)
  return {
    'conv': {'kernel': 3 * jax.random.normal(keys[0], (2, 2, 3, 4))},
    'hidden': {
      'kernel': jax.random.normal(keys[1], (5, 6)) * (1 + jnp.arange(6))[None],
      'bias': jnp.ones(6),
    },
    # As the hidden layer: what is drawn for both is compiled once.
    'output': jax.random.normal(keys[2], (5, 6)),
  }


def _add(rate, **changes):
  arguments = {'alpha': ALPHA, 'key': 1, 'relative': 0.3, 'num_steps': 4}
  return noise.add_stable_noise(rate, **(arguments | changes))


def _run(tx, num_steps, params, update=None):
  """All updates of no gradient, stacked, and the last state."""

  def step(state, _):
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, state = tx.update(zeros, state, params)
    return state, updates

  state, made = jax.lax.scan(step, tx.init(params), length=num_steps)
  return made, state


# The scale.


@functools.cache
def _plain(kind):
  """Draws of the same key at sigma 1."""
  given = {'relative': None, 'num_steps': None, 'sigma': 1.0}
  return _run(_add(1.0, kind=kind, **given), 4, _params())[0]


COSINE = optax.cosine_decay_schedule(0.5, 4)


@pytest.mark.parametrize(
  ('kind', 'rate'),
  [
    *((kind, COSINE) for kind in stable.KINDS),
    *(('type1', rate) for rate in (0.1, lambda count: 0.25)),
  ],
)
def test_scale_is_relative_to_unit_and_planned_time(kind, rate):
  """Each increment against one of sigma 1 from the same key."""
  params = _params()
  made, _ = _run(_add(rate, kind=kind), 4, params)
  plain = _plain(kind)
  rates = np.array([rate(t) if callable(rate) else rate for t in range(4)])
  time = (rates / rates.sum()) ** (1 / ALPHA)
  for name, leaf in units.named_leaves(params):
    new, old = (dict(units.named_leaves(tree))[name] for tree in (made, plain))
    if name == 'hidden.bias':
      assert not np.any(new)
      continue
    axes = tuple(range(leaf.ndim - 1))
    size = np.linalg.norm(np.asarray(leaf).reshape(-1, leaf.shape[-1]), axis=0)
    size /= np.sqrt(np.prod([leaf.shape[a] for a in axes]))
    scale = 0.3 * time.reshape([4] + [1] * leaf.ndim) * size
    # Three roundings of a factor, and a power of one with |exponent| < 2.
    np.testing.assert_allclose(new, scale * np.asarray(old), rtol=1e-5)


def test_a_run_adds_up_to_r_whatever_the_momentum():
  """At alpha 2 noise has variance 2, so the sum has 2 r^2 of the norm's square.

  No gradient: that is the direction which the loss does not see. In one of
  curvature h noise can only be less.
  """
  params = {'w': jax.random.normal(jax.random.key(2), (20, 800))}
  rate = optax.warmup_cosine_decay_schedule(0.0, 0.3, 5, 20)

  def end(momentum, curvature):
    tx = noise.heavy_tailed_sgd(
      *(rate, 2.0),
      key=3,
      kind='type2',
      relative=0.2,
      num_steps=20,
      momentum=momentum,
    )

    def step(carry, _):
      moved, state = carry
      gradients = jax.tree.map(lambda w, v: curvature * (w - v), moved, params)
      updates, state = tx.update(gradients, state)
      return (optax.apply_updates(moved, updates), state), None

    (moved, _), _ = jax.lax.scan(step, (params, tx.init(params)), length=20)
    shift = np.asarray(moved['w'] - params['w'])
    square = np.sum(shift**2) / np.sum(np.asarray(params['w']) ** 2)
    return np.sqrt(square / 2)

  # The mean of 16,000 squares, weighted by columns: 5 standard errors.
  for momentum in (None, 0.9):
    assert abs(end(momentum, 0.0) / 0.2 - 1) < 5 * np.sqrt(2 / 16000)
  assert end(0.9, 1.0) < end(None, 1.0) < 0.9 * 0.2


def test_state_holds_the_initial_sizes():
  params = _params()
  tx = _add(0.1)
  state = tx.init(params)
  assert [x.shape for x in state.sizes] == [(1, 1, 1, 4), (1, 6), (1, 6)]
  grown = jax.tree.map(lambda x: 100 * x, params)
  small, state = tx.update(params, state, params)
  large, _ = tx.update(params, tx.init(params), grown)
  chex.assert_trees_all_equal(small, large)
  # A transformation made anew goes on with the sizes of the state.
  again, _ = _add(0.1).update(params, tx.init(params))
  chex.assert_trees_all_equal(small, again)
  chex.assert_trees_all_equal_shapes_and_dtypes(state, tx.init(params))


def test_a_state_of_another_transformation_is_refused():
  params = _params()
  state = noise.add_stable_noise(0.1, ALPHA, 1.0, key=1).init(params)
  with pytest.raises(ValueError, match='numbers for 0 leaves, and 3 are'):
    _add(0.1).update(params, state, params)


def test_entries_chosen_one_by_one_are_what_is_measured():
  params = {'w': jnp.array([[3.0, 1.0], [100.0, 1.0], [4.0, 1.0]])}
  chosen = {'w': jnp.array([[True, False], [False, False], [True, False]])}
  (size,) = _add(0.1, select=chosen).init(params).sizes
  np.testing.assert_allclose(size, [[5 / np.sqrt(2), 0.0]], rtol=1e-6)
  huge = {'w': jnp.full((3, 2), 1e37)}
  (size,) = _add(0.1).init(huge).sizes
  np.testing.assert_allclose(size, 1e37, rtol=1e-6)


def test_units_of_zeros_and_rates_of_zero_get_no_noise():
  params = {'w': jnp.ones((3, 2)).at[:, 0].set(0)}
  made, _ = _run(_add(0.1), 2, params)
  assert not np.any(made['w'][..., 0])
  assert np.all(made['w'][..., 1] != 0)
  made, _ = _run(_add(0.0), 2, params)
  assert not np.any(made['w'])


def test_annealing():
  params = _params()
  falling = optax.linear_schedule(0.3, 0.0, 2)
  made, _ = _run(_add(0.1, relative=falling), 4, params)
  steady, _ = _run(_add(0.1), 4, params)
  for t, factor in enumerate((1.0, 0.5, 0.0, 0.0)):
    np.testing.assert_allclose(
      made['output'][t], factor * steady['output'][t], rtol=1e-5
    )


def test_hyperparameters_may_be_injected():
  params = _params()
  make = optax.inject_hyperparams(noise.heavy_tailed_sgd)
  tx = make(0.1, ALPHA, key=1, relative=0.3, num_steps=4)
  direct, _ = _run(_add(0.1), 2, params)
  injected, state = _run(tx, 2, params)
  chex.assert_trees_all_close(injected, direct, rtol=1e-5, atol=1e-6)
  assert float(state.hyperparams['relative']) == np.float32(0.3)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'num_steps': None}, 'num_steps must be given with relative'),
    ({'num_steps': 0}, 'num_steps must lie in'),
    ({'num_steps': 2.5}, 'num_steps must be a whole number, got 2.5'),
    ({'relative': None}, 'num_steps is for relative'),
    ({'relative': -0.1}, 'relative must lie in'),
    ({'relative': np.ones(3)}, 'must be a scalar'),
    ({'sigma': 0.1}, 'sigma and relative both say'),
    (
      {'alpha': None, 'noise': noise.StableNoise(1.5, 0.1)},
      'nor must relative, got 0.3',
    ),
  ],
)
def test_bad_calls(changes, message):
  with pytest.raises(ValueError, match=message):
    _add(0.1, **changes)


@pytest.mark.parametrize(
  ('rate', 'message'),
  [
    (lambda count: 0.0 * count, 'the sum of learning_rate must lie in'),
    (lambda count: 1.0 - count, 'learning_rate must lie in'),
  ],
)
def test_bad_schedules(rate, message):
  with pytest.raises(ValueError, match=message):
    _add(rate)


# Layers.


def test_settings_by_layer():
  params = _params()
  sigmas = {'': 0.5, 'hidden.kernel': optax.constant_schedule(2.0), 'conv': 0.0}
  given = {'relative': None, 'num_steps': None}
  made, _ = _run(_add(0.1, sigma=sigmas, **given), 2, params)
  for sigma, name in ((0.5, 'output'), (2.0, 'hidden'), (0.0, 'conv')):
    plain, _ = _run(_add(0.1, sigma=sigma, **given), 2, params)
    chex.assert_trees_all_close(made[name], plain[name], rtol=1e-5)


def test_a_pytree_like_the_parameters_is_by_layer():
  params = _params()
  alphas = jax.tree.map(lambda x: 1.0 + x.ndim / 4, params)
  made, _ = _run(_add(0.1, alpha=alphas), 1, params)
  for alpha, name in ((2.0, 'conv'), (1.5, 'output')):
    plain, _ = _run(_add(0.1, alpha=alpha), 1, params)
    chex.assert_trees_all_close(made[name], plain[name], rtol=1e-5)


def test_names_of_layers():
  names = ['a.b.kernel', 'a.bc.kernel', 'd.kernel', 'd.bias']
  wanted = [True, True, True, False]
  given = {'a': 1.0, 'a.b': 2.0, 'd': 3.0}
  assert settings.of_leaves(given, names, wanted, 'alpha') == [2, 1, 3, None]
  with pytest.raises(ValueError, match=r'must have an entry for d\.kernel'):
    settings.of_leaves({'a': 1.0}, names, wanted, 'alpha')
  with pytest.raises(ValueError, match="alpha: 'e' is no leaf"):
    settings.of_leaves({'': 1.0, 'e': 1.0}, names, wanted, 'alpha')
  with pytest.raises(ValueError, match='alpha must lie in'):
    _add(0.1, alpha={'hidden': 2.5})


# The monitor.


@pytest.mark.parametrize('kind', stable.KINDS)
def test_shares(kind):
  params = _params()
  tx = optax.chain(
    optax.sgd(0.1),
    _add(0.1, kind=kind, monitor=True, select=selection.exclude('output')),
  )
  made, state = _run(tx, 3, params)
  total = jax.tree.map(lambda x: np.asarray(x).sum(axis=0), made)
  moved = jax.tree.map(jnp.add, params, total)
  found = noise.shares(state, moved)
  assert set(found) == {'conv.kernel', 'hidden.kernel'}
  for name, layer in (('conv.kernel', 'conv'), ('hidden.kernel', 'hidden')):
    n = total[layer]['kernel'].reshape(-1, found[name].shape[0])
    w = np.asarray(params[layer]['kernel']).reshape(n.shape)
    expected = (n**2).sum(axis=0) / ((n**2).sum(axis=0) + (w**2).sum(axis=0))
    np.testing.assert_allclose(found[name], expected, rtol=1e-4)
  kept = [x.shape for x in state[1].total]
  assert (kept[0] == (1, 1, 1, 4)) == (kind == 'type1')
  assert kept[3] == ()
  by_kernel = noise.shares(state, moved, unit='kernel')
  assert by_kernel['conv.kernel'].shape == (3, 4)


def test_shares_of_zeros_and_of_large_numbers():
  params = {'w': jnp.array([[0.0, 1e30], [0.0, 1e30]])}
  state = _add(0.1, monitor=True).init(params)
  np.testing.assert_array_equal(noise.shares(state, params)['w'], [0, 0])
  state = state._replace(total=(jnp.full((1, 2), 1e30),))
  np.testing.assert_allclose(noise.shares(state, params)['w'], [0.5, 1.0])
  with pytest.raises(ValueError, match='give monitor=True'):
    noise.shares(_add(0.1).init(params), params)
  with pytest.raises(ValueError, match='state is of 1 leaves'):
    noise.shares(state, params | {'v': params['w']})


def test_check_loss():
  clean = np.stack([np.linspace(2, 1, 50), np.linspace(2.2, 1.2, 50)])
  # The largest of the last five of forty is 2.2 - 35 / 49.
  border = clean[1, 35]
  assert noise.check_loss(np.full(40, border - 1e-6), clean, window=5)
  for bad in (border + 1e-6, np.nan, np.inf):
    losses = np.append(np.zeros(35), np.full(5, bad))
    with pytest.warns(noise.NoiseWarning, match='the mean of the last 5'):
      assert not noise.check_loss(losses, clean, window=5)
  assert noise.check_loss(np.ones(90), clean[0])
  with pytest.raises(ValueError, match='losses must be'):
    noise.check_loss(clean, clean)
  with pytest.raises(ValueError, match='clean must hold finite'):
    noise.check_loss(clean[0], clean * np.nan)


# The ratio that noise gives by itself.


QUARTERS = (0.25, 0.5, 0.75)


def _simulated(kind, alpha, r, p, n, num=40):
  """Quartiles of the ratios of columns with noise, with SciPy's draws."""
  generator = np.random.default_rng(7)

  def symmetric(rows):
    return stats.levy_stable.rvs(
      alpha, 0.0, size=(num, rows, n), random_state=generator
    )

  w = generator.uniform(-1.0, 1.0, size=(num, p, n))
  w /= np.linalg.norm(w, axis=1, keepdims=True)
  if kind == 'type3' and alpha < 2:
    # sqrt(2 A) times a normal vector, E exp(-sA) = exp(-s^(alpha/2)).
    scale = np.cos(np.pi * alpha / 4) ** (2 / alpha)
    a = stats.levy_stable.rvs(
      *(alpha / 2, 1.0, 0.0, scale),
      size=(num, 1, n),
      random_state=generator,
    )
    x = np.sqrt(2 * a) * generator.normal(size=w.shape)
  else:
    x = symmetric(1 if kind == 'type1' else p)
  squares = np.sum((w + r / np.sqrt(p) * x) ** 2, axis=1)
  lost = np.cumsum(np.sort(squares, axis=1), axis=1)
  ratios = np.mean(lost <= 0.1 * lost[:, -1:], axis=1)
  return np.quantile(ratios, QUARTERS)


@pytest.mark.parametrize('kind', stable.KINDS)
@pytest.mark.parametrize(
  ('alpha', 'r', 'p', 'n'), [(1.5, 0.5, 64, 300), (1.75, 1.5, 20, 300)]
)
def test_expected_ratio_is_that_of_simulated_layers(kind, alpha, r, p, n):
  low, _, high = _simulated(kind, alpha, r, p, n)
  found = noise.expected_pruning_ratio(alpha, r, p, n, kind=kind)
  assert low - 1 / n < found < high + 1 / n
  # Another scale is told from it.
  assert not low < noise.expected_pruning_ratio(alpha, r / 3, p, n) < high


def test_expected_ratio_of_gaussian_noise():
  # With nothing heavy in it ratios scatter by 0.01 and less.
  for kind in stable.KINDS:
    _, middle, _ = _simulated(kind, 2.0, 0.7, 50, 300)
    found = noise.expected_pruning_ratio(2.0, 0.7, 50, 300, kind=kind)
    assert abs(found - middle) < 0.01


def test_expected_ratio_at_its_ends():
  ratio = noise.expected_pruning_ratio
  assert abs(ratio(1.5, 0.0, 10, 100) - 0.1) < 1e-3
  assert abs(ratio(1.5, 0.0, 10, 100, tolerance=0.3) - 0.3) < 1e-3
  assert ratio(1.5, 1.0, 10, 100, tolerance=1.0) == 1.0
  for kind in stable.KINDS:
    rising = [ratio(1.7, r, 64, 500, kind=kind) for r in (0, 0.3, 1.0, 3.0)]
    assert rising == sorted(rising)
    near, at = (ratio(a, 1.0, 64, 500, kind=kind) for a in (1.9999, 2.0))
    assert abs(near - at) < 0.01
  with pytest.raises(ValueError, match='kind must be one of'):
    ratio(1.5, 1.0, 10, 10, kind='type4')
  with pytest.raises(ValueError, match='relative must lie in'):
    ratio(1.5, -1.0, 10, 10)
