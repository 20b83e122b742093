"""Smaller networks compute what the pruned ones do; rounds of pruning."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_pruning_units import _draw

from htjax import models, pruning
from htjax.selection import exclude

FCN = models.fcn(12, (20, 17, 15), 4)
CNN = models.cnn(2, 4, channels=(6, 'M', 8, 7, 'M'))


def _heavy(network, seed=0):
  """Uneven weights with a positive mean, so that few units are never active."""
  params = network.init(jax.random.key(seed))
  return jax.tree.map(
    lambda w: w * (0.5 + jnp.abs(_draw(*w.shape))) + 0.1, params
  )


def _inputs(*shape):
  return jnp.asarray(np.random.default_rng(9).normal(size=shape), jnp.float32)


def _check_same(ours, expected):
  """Equal to the rounding of sums of a few hundred products."""
  expected = np.float64(expected)
  limit = 300 * np.finfo(np.float32).eps * np.max(np.abs(expected))
  assert np.max(np.abs(np.float64(ours) - expected)) <= limit
  assert limit > 0


def _shapes(params):
  return [w.shape for w in jax.tree.leaves(params)]


NETWORKS = {
  'fcn': (FCN, (9, 12)),
  'cnn': (CNN, (3, 8, 8, 2)),
}


@pytest.mark.parametrize(
  ('name', 'unit'),
  [
    ('fcn', 'columns'),
    ('fcn', 'rows'),
    ('cnn', 'columns'),
    ('cnn', 'rows'),
    ('cnn', 'filters'),
  ],
)
@pytest.mark.parametrize('kappa', [0.1, 0.5])
def test_compact_networks_are_the_pruned_ones(name, unit, kappa):
  network, shape = NETWORKS[name]
  params = _heavy(network)
  first = network.hidden[0] if unit == 'rows' else 'output'
  skip = {first, 'output'} if unit == 'filters' else {first}
  pruned = getattr(pruning, unit)(params, kappa, select=exclude(*skip))
  compact = pruning.compact(pruned.params)
  x = _inputs(*shape)
  expected = network.apply(pruned.params, x)
  _check_same(network.apply(compact.params, x), expected)
  # It does matter which units are left.
  assert np.max(np.abs(network.apply(params, x) - expected)) > 0.01
  sizes = [params[layer]['kernel'].shape[-1] for layer in network.hidden]
  if unit == 'columns':
    # The output is the only layer all of whose columns stay.
    kept = [-(-n * round(10 * kappa) // 10) for n in sizes]
    assert [shape[-1] for shape in _shapes(compact.params)][:-1] == kept
  assert compact.bytes_before == 4 * models.num_params(params)
  assert compact.bytes_after == 4 * models.num_params(compact.params)
  assert compact.bytes_after < compact.bytes_before


def test_shapes_and_indices_by_hand():
  params = {
    'hidden_0': {'kernel': jnp.array([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])},
    'hidden_1': {'kernel': jnp.array([[1.0, 4.0], [5.0, 6.0], [0.0, 0.0]])},
    'output': {'kernel': jnp.array([[1.0], [2.0]])},
  }
  # Unit 1 gets nothing, unit 2 gives nothing; input 1 then reaches no unit.
  compact = pruning.compact(params)
  assert _shapes(compact.params) == [(2, 1), (1, 2), (2, 1)]
  np.testing.assert_array_equal(compact.units['hidden_0.kernel'], [0])
  np.testing.assert_array_equal(compact.inputs, [0, 1])
  np.testing.assert_array_equal(compact.params['hidden_1']['kernel'], [[1, 4]])
  trimmed = pruning.compact(params, trim_inputs=True)
  np.testing.assert_array_equal(trimmed.inputs, [0])
  assert _shapes(trimmed.params) == [(1, 1), (1, 2), (2, 1)]


def test_zeros_spread_along_the_chain():
  """A unit all of whose inputs are gone goes too, and so on."""
  a, b, c = np.ones((2, 2)), np.array([[1.0, 0.0], [0.0, 1.0]]), np.eye(2)
  a[:, 1] = 0
  params = {'hidden_0': a, 'hidden_1': b, 'hidden_2': c, 'output': np.eye(2)}
  assert _shapes(pruning.compact(params).params) == [
    (2, 1),
    (1, 1),
    (1, 1),
    (1, 2),
  ]
  # The same from the other end.
  c[:, 1] = 0
  params = {'hidden_0': np.ones((2, 2)), 'hidden_1': b, 'hidden_2': c}
  params['output'] = np.eye(2)
  assert _shapes(pruning.compact(params).params) == [
    (2, 1),
    (1, 1),
    (1, 1),
    (1, 2),
  ]


def test_unstructured_zeros_also_cut_units_off():
  params = _heavy(FCN)
  pruned = pruning.magnitude(params, 0.08)
  compact = pruning.compact(pruned.params, trim_inputs=True)
  x = _inputs(9, 12)
  cut = _shapes(compact.params)
  assert cut != _shapes(params)
  network = models.fcn(len(compact.inputs), [s[1] for s in cut[:-1]], 4)
  _check_same(
    network.apply(compact.params, x[:, compact.inputs]),
    FCN.apply(pruned.params, x),
  )


def test_a_layer_without_any_weight_keeps_one_unit():
  params = _heavy(FCN)
  params['hidden_1']['kernel'] = jnp.zeros((20, 17))
  compact = pruning.compact(params)
  assert _shapes(compact.params) == [(12, 1), (1, 1), (1, 1), (1, 4)]
  assert not np.any(FCN.apply(compact.params, _inputs(9, 12)))


def test_nothing_to_remove():
  params = _heavy(CNN)
  compact = pruning.compact(params)
  chex.assert_trees_all_equal(compact.params, params)
  assert compact.bytes_after == compact.bytes_before


class _Flattened(nnx.Module):
  """Biases, and a flattened picture between convolution and dense layers."""

  def __init__(self, rngs):
    self.conv_0 = nnx.Conv(2, 5, (3, 3), rngs=rngs)
    self.conv_1 = nnx.Conv(5, 6, (3, 3), rngs=rngs)
    self.hidden_0 = nnx.Linear(4 * 4 * 6, 9, rngs=rngs)
    self.output = nnx.Linear(9, 3, rngs=rngs)

  def __call__(self, x):
    x = nnx.max_pool(jnp.tanh(self.conv_0(x)), (2, 2), (2, 2))
    x = nnx.relu(self.conv_1(x))
    return self.output(nnx.relu(self.hidden_0(x.reshape(x.shape[0], -1))))


def test_nnx_states_biases_and_flattened_pictures():
  module = _Flattened(nnx.Rngs(0))
  graphdef, state = nnx.split(module)
  biased = jax.tree.map(
    lambda w: w if w.ndim > 1 else jnp.arange(1.0, w.size + 1) / 10, state
  )
  pruned = pruning.columns(biased, 0.5, select=exclude('output')).params
  x = _inputs(3, 8, 8, 2)
  # A unit without weights still has its bias.
  whole = pruning.compact(pruned)
  assert whole.bytes_after == whole.bytes_before
  unbiased = jax.tree.map(lambda w: w if w.ndim > 1 else 0 * w, pruned)
  compact = pruning.compact(unbiased)
  assert sorted(_shapes(compact.params)) == sorted(
    [(3, 3, 2, 3), (3,), (3, 3, 3, 3), (3,), (48, 5), (5,), (5, 3), (3,)]
  )
  _check_same(
    nnx.merge(graphdef, compact.params)(x), nnx.merge(graphdef, unbiased)(x)
  )
  np.testing.assert_array_equal(
    compact.units['hidden_0.kernel'],
    np.flatnonzero(np.any(unbiased['hidden_0']['kernel'][...], axis=0)),
  )


@pytest.mark.parametrize('separator', ['/', '.'])
def test_flat_and_foreign_trees(separator):
  params = _heavy(FCN)
  pruned = pruning.columns(params, 0.5, select=exclude('output')).params
  expected = pruning.compact(pruned)
  flat = {
    f'{layer}{separator}kernel': pruned[layer]['kernel'] for layer in pruned
  }
  ours = pruning.compact(flat)
  chex.assert_trees_all_equal(
    jax.tree.leaves(ours.params), jax.tree.leaves(expected.params)
  )
  foreign = {
    'params': {f'Dense_{i}': leaf for i, leaf in enumerate(pruned.values())}
  }
  chain = [f'params.Dense_{i}.kernel' for i in range(4)]
  ours = pruning.compact(foreign, chain=chain)
  chex.assert_trees_all_equal(
    jax.tree.leaves(ours.params), jax.tree.leaves(expected.params)
  )


def test_eleven_layers_are_in_order_of_number():
  network = models.fcn(6, (8,) * 11, 3)
  params = _heavy(network)
  pruned = pruning.columns(params, 0.5, select=exclude('output')).params
  x = _inputs(5, 6)
  compact = pruning.compact(pruned)
  _check_same(network.apply(compact.params, x), network.apply(pruned, x))
  assert compact.params['hidden_10']['kernel'].shape == (4, 4)


def _normed(norm, dead_bias=0.0):
  """A dead unit before a normalisation of 4, between layers of 5 and 3."""
  w = np.ones((2, 4), np.float32)
  w[:, 1] = 0
  bias = np.array([1, dead_bias, 2, 3], np.float32)
  return {
    'hidden_0': {'kernel': w},
    'norm_0': {'scale': np.ones(4), 'bias': bias} | norm,
    'hidden_1': {'kernel': np.ones((4, 3))},
    'output': {'kernel': np.ones((3, 2))},
  }


STATISTICS = {'mean': np.array([1, 0, 2, 3.0]), 'var': np.array([1, 0, 2, 3.0])}


def test_batch_norm_goes_with_its_units():
  small = pruning.compact(_normed(STATISTICS))
  assert small.params['hidden_0']['kernel'].shape == (2, 3)
  np.testing.assert_array_equal(small.params['norm_0']['mean'], [1, 2, 3])
  np.testing.assert_array_equal(small.params['norm_0']['bias'], [1, 2, 3])
  assert small.params['hidden_1']['kernel'].shape == (3, 3)
  assert small.reasons == {}


@pytest.mark.parametrize('norm', [{}, STATISTICS])
def test_units_that_a_norm_may_need_stay(norm):
  """A bias feeds on; without statistics it may average over the units."""
  params = _normed(norm, dead_bias=float(bool(norm)))
  small = pruning.compact(params)
  chex.assert_trees_all_equal(small.params, params)
  if not norm:
    why = 'norm_0 may average over units: give `apply`'
    assert small.reasons['hidden_0.kernel'] == why


def _layers(*shapes):
  names = [*(f'hidden_{i}' for i in range(len(shapes) - 1)), 'output']
  return {
    name: {'kernel': np.ones(shape)}
    for name, shape in zip(names, shapes, strict=True)
  }


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (
      lambda: pruning.compact(
        {
          'conv_0': {'kernel': np.ones((3, 3, 4, 8))},
          'conv_1': {'kernel': np.ones((3, 3, 8, 3))},
        }
      ),
      r'apply must be given: conv_0\.kernel .* may be .* with groups',
    ),
    (
      lambda: jax.jit(pruning.compact)(_layers((2, 3), (3, 2))),
      r'hidden_0\.kernel must be concrete',
    ),
    (
      lambda: pruning.compact(_layers((2, 3), (4, 2))),
      r'output\.kernel of shape \(4, 2\) does not follow on hidden_0\.kernel',
    ),
    (
      lambda: pruning.compact({'a': np.ones((2, 2)), 'b': np.ones((2, 2))}),
      'chain must be given: the place of a among the layers is unknown',
    ),
    (
      lambda: pruning.compact(
        {'hidden_0': {'a': np.ones((2, 2)), 'b': np.ones((2, 2))}}
      ),
      r'chain must be given: hidden_0\.a, hidden_0\.b are not one kernel',
    ),
    (
      lambda: pruning.compact({'hidden_0': {'kernel': np.ones((2, 2))}}),
      'chain must be two or more different names',
    ),
    (
      lambda: pruning.compact(
        _layers((2, 2), (2, 2)), chain=['output.kernel', 'output.kernel']
      ),
      'chain must be two or more different names',
    ),
    (
      lambda: pruning.compact(
        _layers((2, 2), (2, 2)), chain=['hidden_0.kernel', 'out']
      ),
      "chain: no leaf is called 'out'; there are hidden_0.kernel, output",
    ),
    (
      lambda: pruning.compact(
        _layers((2, 2), (2, 2), (2, 2)),
        chain=['hidden_0.kernel', 'output.kernel'],
      ),
      r'the chain, their biases and .* alone, got also hidden_1\.kernel',
    ),
    (
      lambda: pruning.compact(_layers((2, 2), (2, 2)) | {'norm': np.ones(2)}),
      'biases and normalisations alone, got also norm',
    ),
    (
      lambda: pruning.compact(
        {
          'hidden_0': {'kernel': np.ones((2, 3)), 'bias': np.ones(2)},
          'output': {'kernel': np.ones((3, 2))},
        }
      ),
      r'hidden_0\.bias must have one entry for each unit of hidden_0\.kernel',
    ),
    (
      lambda: pruning.compact(
        {'a': np.ones(3), 'b': np.ones((3, 2))}, chain=['a', 'b']
      ),
      'a must be of rank 2 or more',
    ),
  ],
)
def test_bad_networks_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


# Iterative magnitude pruning.


def _grow(params, mask, r, log=None):
  """Training that moves weights, masked ones too, and knows the round."""
  if log is not None:
    log.append((params, mask, r))
  return jax.tree.map(lambda w: w * 1.5 + 0.1 * (r + 1), params)


@pytest.mark.parametrize('rewinding', [True, False])
@pytest.mark.parametrize('scope', ['layer', 'global'])
def test_rounds_by_hand(scope, rewinding):
  params = {'a': _draw(6, 5), 'b': _draw(5, 4, seed=1), 'bias': np.ones(3)}
  rewind = jax.tree.map(lambda w: jnp.asarray(w * 2), params)
  kappas, log = (0.8, 0.5, 0.5, 0.1), []
  rounds = pruning.iterative_magnitude(
    functools.partial(_grow, log=log),
    params,
    kappas,
    rewind=rewind if rewinding else None,
    rewinding=rewinding,
    scope=scope,
  )
  state = {name: np.asarray(w) for name, w in params.items()}
  masks = {'a': np.ones((6, 5), bool), 'b': np.ones((5, 4), bool)}
  for r, (kappa, done) in enumerate(zip(kappas, rounds, strict=True)):
    chex.assert_trees_all_close(log[r][0], state, rtol=1e-6)
    np.testing.assert_array_equal(log[r][1]['a'], masks['a'])
    assert log[r][2] == r
    trained = {k: w * 1.5 + 0.1 * (r + 1) for k, w in state.items()}
    scores = {k: np.where(masks[k], np.abs(trained[k]), -1) for k in 'ab'}
    for k in 'ab':
      np.testing.assert_allclose(
        done.trained[k], np.where(masks[k], trained[k], 0), rtol=1e-6
      )
    joined = np.concatenate([scores[k].ravel() for k in 'ab'])
    for k in 'ab':
      pool = scores[k].ravel() if scope == 'layer' else joined
      least = np.sort(pool)[-round(kappa * pool.size)]
      masks[k] = scores[k] >= least
      np.testing.assert_array_equal(done.pruned.mask[k], masks[k])
    assert done.pruned.kept == masks['a'].sum() + masks['b'].sum()
    onward = rewind if rewinding else trained
    state = {k: np.where(masks[k], onward[k], 0) for k in 'ab'}
    state['bias'] = np.asarray(onward['bias'])
    chex.assert_trees_all_close(done.pruned.params, state, rtol=1e-6)


def test_pruned_entries_stay_pruned_beside_zeros():
  """Training that sends everything to zero must not bring entries back."""
  params = {'w': _draw(5, 6)}
  rounds = pruning.iterative_magnitude(
    lambda p, mask, r: jax.tree.map(jnp.zeros_like, p) if r else p,
    params,
    (0.5, 0.3),
  )
  first, second = (r.pruned for r in rounds)
  assert second.kept == 9
  assert not np.any(second.mask['w'] & ~first.mask['w'])
  np.testing.assert_array_equal(
    second.params['w'], np.where(second.mask['w'], params['w'], 0)
  )


def test_rounds_are_pure_and_traceable():
  params = {'w': _draw(5, 6)}

  @jax.jit
  def last(params, kappas):
    rounds = pruning.iterative_magnitude(_grow, params, kappas)
    return rounds[-1].pruned

  schedules = jnp.array([[0.5, 0.2], [0.9, 0.4]])
  curve = jax.vmap(lambda k: last(params, (k[0], k[1])))(schedules)
  for i, (a, b) in enumerate(schedules):
    one = pruning.iterative_magnitude(_grow, params, (a, b))[-1].pruned
    chex.assert_trees_all_equal(jax.tree.map(lambda x, i=i: x[i], curve), one)
  assert np.all(np.isnan(last(params, (0.5, 1.5)).params['w']))


def test_a_trained_ticket_fits():
  """Rounds with gradient steps: the sparse network learns the sparse truth."""
  rng = np.random.default_rng(0)
  truth = np.zeros((12, 1), np.float32)
  truth[[1, 5, 8], 0] = [2.0, -3.0, 1.5]
  x = jnp.asarray(rng.normal(size=(80, 12)), jnp.float32)
  y = x @ truth

  def train(params, mask, r):
    def step(_, w):
      gradient = jax.grad(lambda w: jnp.mean((x @ w - y) ** 2))(w)
      return w - 0.1 * jnp.where(mask['w'], gradient, 0)

    return {'w': jax.lax.fori_loop(0, 200, step, params['w'])}

  params = {'w': jnp.asarray(rng.normal(size=(12, 1)), jnp.float32)}
  rounds = pruning.iterative_magnitude(train, params, (0.5, 0.25))
  np.testing.assert_array_equal(rounds[-1].pruned.mask['w'], truth != 0)
  ticket = rounds[-1].pruned
  np.testing.assert_allclose(
    train(ticket.params, ticket.mask, 2)['w'], truth, atol=1e-4
  )


W = {'layer': np.ones((3, 4), np.float32)}


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (
      lambda: pruning.iterative_magnitude(_grow, W, ()),
      'kappas must have at least one entry',
    ),
    (
      lambda: pruning.iterative_magnitude(_grow, W, (0.5, 0.0)),
      r'kappa must lie in \(0, 1\]',
    ),
    (
      lambda: pruning.iterative_magnitude(_grow, W, (0.5, 0.6)),
      re.escape('kappas must not grow, got 0.6 after 0.5'),
    ),
    (
      lambda: pruning.iterative_magnitude(_grow, W, (0.5,), scope='all'),
      'scope must be one of',
    ),
    (
      lambda: pruning.iterative_magnitude(_grow, W, (0.5,), rewind={}),
      'rewind must have the structure of params',
    ),
    (
      lambda: pruning.iterative_magnitude(
        _grow, W, (0.5,), rewind={'layer': np.ones((4, 3), np.float32)}
      ),
      r'rewind must have the shapes and dtypes of params, float32\[3, 4\]',
    ),
    (
      lambda: pruning.iterative_magnitude(
        _grow, W, (0.5,), rewind=W, rewinding=False
      ),
      'rewind must be None without rewinding',
    ),
    (
      lambda: pruning.iterative_magnitude(lambda p, m, r: m, W, (0.5,)),
      r'train\(..\) must have the shapes and dtypes of params',
    ),
    (
      lambda: pruning.iterative_magnitude(
        lambda p, m, r: {'layer': p['layer'] * np.nan}, W, (0.5,)
      ),
      'layer must be finite',
    ),
  ],
)
def test_bad_rounds_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
