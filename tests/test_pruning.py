"""Columns to a fraction and to an error; the refusals of all simple kernels."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htjax import pruning
from htjax.compressibility import pruning_ratio
from htjax.selection import exclude

HEAVY = np.random.default_rng(0).standard_t(1.8, size=(2048, 64)).T


def _params(seed=1):
  rng = np.random.default_rng(seed)

  def draw(*shape):
    return jnp.asarray(rng.standard_t(1.5, size=shape), jnp.float32)

  return {
    'conv_0': {'kernel': draw(3, 3, 2, 8)},
    'hidden_0': {'kernel': draw(5, 20), 'bias': draw(20)},
    'output': {'kernel': draw(20, 3)},
  }


def _kept_columns(mask):
  """The columns kept whole; fails if one is kept in part."""
  flat = np.asarray(mask).reshape(-1, mask.shape[-1])
  assert np.all(flat == flat[:1])
  return flat[0]


def _removed_share(before, after):
  before, after = np.float64(before), np.float64(after)
  return np.sum((before - after) ** 2) / np.sum(before**2)


# Columns.


@pytest.mark.parametrize('shape', [(3, 7), (2, 2, 2, 7)])
@pytest.mark.parametrize('p', [1, 2, 3])
@pytest.mark.parametrize('k', [1, 3, 6, 7])
def test_columns_are_the_best_of_all_subsets(shape, p, k):
  leaf = np.random.default_rng(k).standard_t(1.5, size=shape)
  leaf = leaf.astype(np.float32)
  pruned = pruning.columns({'w': leaf}, k / 7, p=p)
  kept = _kept_columns(pruned.mask['w'])
  costs = np.sum(np.abs(leaf) ** p, axis=tuple(range(leaf.ndim - 1)))
  best = max(
    itertools.combinations(range(7), k), key=lambda s: costs[list(s)].sum()
  )
  assert set(np.flatnonzero(kept)) == set(best)
  np.testing.assert_array_equal(pruned.params['w'], np.where(kept, leaf, 0))


@settings(deadline=None, max_examples=50)
@given(
  st.lists(st.integers(0, 2), min_size=12, max_size=12),
  st.integers(1, 100),
  st.sampled_from(['ceil', 'floor']),
)
def test_columns_keeps_exact_counts_under_ties(sizes, percent, rounding):
  leaf = np.tile(np.float32(sizes), (4, 1))
  pruned = pruning.columns({'w': leaf}, percent / 100, rounding=rounding)
  # Integer arithmetic: ceil and floor of 12 percent / 100.
  count = (
    12 * percent // 100 if rounding == 'floor' else -(-12 * percent // 100)
  )
  expected = np.zeros(12, bool)
  expected[np.argsort(-leaf[0], kind='stable')[:count]] = True
  np.testing.assert_array_equal(_kept_columns(pruned.mask['w']), expected)
  assert pruned.kept == 4 * count
  assert pruned.total == 48


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(0.05, 1), st.floats(0.05, 1))
def test_columns_is_idempotent_and_nested(seed, a, b):
  low, high = sorted((a, b))
  params = _params(seed)
  once = pruning.columns(params, low)
  twice = pruning.columns(once.params, low)
  chex.assert_trees_all_equal(once, twice)
  more = pruning.columns(params, high).mask
  inside = jax.tree.map(lambda s, t: np.all(~s | t), once.mask, more)
  assert all(jax.tree.leaves(inside))


def test_columns_of_extreme_sizes():
  leaf = np.ones((4, 6), np.float32)
  leaf *= np.float32([1e-30, 1e18, 1e-3, 1e30, 0.0, 1e-25])[None, :]
  order = [3, 1, 2, 5, 0, 4]
  for k in range(1, 7):
    kept = _kept_columns(pruning.columns({'w': leaf}, k / 6).mask['w'])
    assert set(np.flatnonzero(kept)) == set(order[:k])


@pytest.mark.parametrize('value', [0.0, 3.0])
def test_equal_columns_are_kept_by_index(value):
  pruned = pruning.columns({'w': np.full((3, 10), value)}, 0.4)
  np.testing.assert_array_equal(
    _kept_columns(pruned.mask['w']), np.arange(10) < 4
  )


# The rule of the paper's tables.


@pytest.mark.parametrize('squared', [True, False])
@pytest.mark.parametrize('tolerance', [0.01, 0.1, 0.5])
def test_columns_to_error_removes_as_much_as_it_may(squared, tolerance):
  params = _params(3)
  pruned = pruning.columns_to_error(params, tolerance, squared=squared)
  budget = tolerance if squared else tolerance**2
  for layer in ('conv_0', 'hidden_0', 'output'):
    before = np.asarray(params[layer]['kernel'])
    kept = _kept_columns(pruned.mask[layer]['kernel'])
    assert _removed_share(before, pruned.params[layer]['kernel']) <= budget
    costs = np.sum(np.float64(before) ** 2, axis=tuple(range(before.ndim - 1)))
    # The next column is too much, and none removed outweighs one kept.
    removed = costs[~kept].sum() + costs[kept].min()
    assert removed > budget * costs.sum()
    assert costs[~kept].max(initial=0) <= costs[kept].min()
    np.testing.assert_allclose(
      pruned.leaf_ratios[layer]['kernel'],
      pruning_ratio(before, tolerance=tolerance, squared=squared),
      rtol=1e-6,
    )


def test_columns_to_error_golden():
  leaf = {'w': HEAVY.astype(np.float32)}
  assert np.sum(~pruning.columns_to_error(leaf).mask['w'][0]) == 1034
  unsquared = pruning.columns_to_error(leaf, squared=False)
  assert np.sum(~unsquared.mask['w'][0]) == 177
  with jax.enable_x64(True):
    pruned = pruning.columns_to_error({'w': HEAVY})
    assert pruned.params['w'].dtype == np.float64
    assert np.sum(~pruned.mask['w'][0]) == 1034


def test_columns_to_error_at_its_ends():
  params = {'w': jnp.array([[1.0, 0.0, 2.0, 0.0]] * 2), 'z': jnp.zeros((2, 4))}
  nothing = pruning.columns_to_error(params, 0.0)
  np.testing.assert_array_equal(
    _kept_columns(nothing.mask['w']), [True, False, True, False]
  )
  assert not np.any(nothing.mask['z'])
  chex.assert_trees_all_equal(nothing.params, params)
  everything = pruning.columns_to_error(params, 1.0)
  assert everything.kept == 0
  assert everything.ratio == 1


def test_half_precision_norms_do_not_overflow():
  # 300^2 is beyond float16, whose largest number is 65504.
  leaf = jnp.array([[300.0, 200.0, 250.0]] * 4, jnp.float16)
  kept = _kept_columns(pruning.columns({'w': leaf}, 0.5).mask['w'])
  np.testing.assert_array_equal(kept, [True, False, True])


@pytest.mark.parametrize(
  'kernel',
  [
    lambda params, x: pruning.columns(params, x, rounding='floor'),
    lambda params, x: pruning.columns_to_error(params, x),
  ],
)
def test_a_schedule_is_one_program(kernel):
  params = _params()
  traced = jax.jit(chex.assert_max_traces(kernel, n=1))
  amounts = [0.1, 0.25, 0.5, 0.75, 1.0]
  loop = [kernel(params, x) for x in amounts]
  for x, expected in zip(amounts, loop, strict=True):
    chex.assert_trees_all_equal(traced(params, x), expected)
  swept = jax.vmap(kernel, in_axes=(None, 0))(params, jnp.array(amounts))
  chex.assert_trees_all_equal(
    swept, jax.tree.map(lambda *x: jnp.stack(x), *loop)
  )


def test_robustness_curve_reaches_both_ends():
  params = {'w': jnp.asarray(HEAVY[:5, :20], jnp.float32)}
  curve = jax.vmap(
    lambda kappa: pruning.columns(params, kappa, rounding='floor')
  )(jnp.arange(11) / 10)
  np.testing.assert_array_equal(curve.kept, 5 * 2 * np.arange(11))
  assert not np.any(curve.params['w'][0])
  eager = pruning.columns(params, 1e-9, rounding='floor')
  assert eager.ratio == 1


def test_traced_bad_numbers():
  params = _params()
  for kernel in (pruning.columns, pruning.columns_to_error):
    for bad in (-0.1, 1.1, jnp.nan):
      pruned = jax.jit(
        lambda params, x, k=kernel: k(params, x, select=exclude('output'))
      )(params, bad)
      assert np.all(np.isnan(pruned.params['hidden_0']['kernel']))
      chex.assert_trees_all_equal(pruned.params['output'], params['output'])
  leaf = jnp.array([[1.0, jnp.nan, 3.0, 2.0]] * 2)
  kept = jax.jit(lambda w: pruning.columns({'w': w}, 0.5).mask['w'])(leaf)
  np.testing.assert_array_equal(_kept_columns(kept), [False, True, True, False])
  pruned = jax.jit(lambda w: pruning.columns_to_error({'w': w}, 0.5))(leaf)
  assert pruned.ratio == 0


def test_zero_columns_are_absent_units():
  """A network with pruned columns computes what the smaller network does."""
  params = _params(7)
  first, second = params['hidden_0']['kernel'], params['output']['kernel']
  pruned = pruning.columns(params, 0.35, select=exclude('conv_0', 'output'))
  kept = _kept_columns(pruned.mask['hidden_0']['kernel'])
  x = jnp.asarray(np.random.default_rng(2).normal(size=(9, 5)), jnp.float32)

  def outputs(first, second):
    return jax.nn.relu(x @ first) @ second

  ours = outputs(pruned.params['hidden_0']['kernel'], second)
  small = outputs(first[:, kept], second[kept])
  np.testing.assert_allclose(ours, small, rtol=1e-5, atol=1e-4)
  full = outputs(first, second)
  assert np.max(np.abs(ours - full)) > 0.1


W = {'layer': {'kernel': np.ones((3, 4))}}


def _leaf(array):
  return {'layer': {'kernel': array}}


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: pruning.columns(W, 0.0), r'kappa must lie in \(0, 1\], got 0.0'),
    (lambda: pruning.columns(W, 1.5), r'kappa must lie in \(0, 1\], got 1.5'),
    (lambda: pruning.columns(W, np.nan), r'kappa must lie in \(0, 1\]'),
    (lambda: pruning.columns(W, np.array([0.1, 0.2])), 'kappa must be one'),
    (lambda: pruning.columns(W, 0.5, p=-1), 'p must be a static number'),
    (lambda: pruning.columns(W, 0.5, rounding='x'), 'rounding must be one of'),
    (lambda: pruning.columns({}, 0.5), 'params must have at least one leaf'),
    (lambda: pruning.columns(W, 0.5, select={}), 'select must have the struc'),
    (
      lambda: pruning.columns({'bias': np.ones(3)}, 0.5),
      'select must choose at least one leaf, got none',
    ),
    (
      lambda: pruning.columns(W, 0.5, select=exclude('outptu')),
      "no part of the parameters is called 'outptu'",
    ),
    (
      lambda: pruning.columns(_leaf(np.ones(3)), 0.5, select=_leaf(True)),
      r'layer\.kernel must be of rank 2 or more.*got shape \(3,\)',
    ),
    (
      lambda: pruning.columns(_leaf(np.ones((0, 3))), 0.5),
      r'layer\.kernel must be .* not empty',
    ),
    (
      lambda: pruning.columns(
        _leaf(np.ones((2, 3), int)), 0.5, select=_leaf(True)
      ),
      r'layer\.kernel must be floating, got dtype int',
    ),
    (
      lambda: pruning.columns(_leaf(np.full((2, 3), np.nan)), 0.5),
      r'layer\.kernel must be finite',
    ),
    (
      lambda: pruning.columns_to_error(_leaf(np.full((2, 3), np.inf))),
      r'layer\.kernel must be finite',
    ),
    (
      lambda: pruning.columns_to_error(W, -0.1),
      r'tolerance must lie in \[0, 1\], got -0.1',
    ),
    (
      lambda: pruning.columns_to_error(W, np.array([0.1])),
      'tolerance must be one number, got shape',
    ),
    (
      lambda: pruning.columns(W, 0.5, center='mean'),
      "center must be one of 'median', got 'mean'",
    ),
    (
      lambda: pruning.magnitude(W, 0.5, scope='model'),
      "scope must be one of 'layer', 'global', got 'model'",
    ),
    (
      lambda: pruning.magnitude(W, 0.5, scope='global', protocol='x'),
      "protocol must be one of 'paper', 'authors', got 'x'",
    ),
    (
      lambda: pruning.magnitude(W, 0.5, scope='global', rounding='x'),
      'rounding must be one of',
    ),
    (lambda: pruning.magnitude(W, 0.0), r'kappa must lie in \(0, 1\]'),
    (
      lambda: pruning.magnitude(W, np.ones(3), scope='global'),
      'kappa must be one number',
    ),
    (
      lambda: pruning.magnitude(_leaf(np.full((2, 3), np.nan)), 0.5),
      r'layer\.kernel must be finite',
    ),
    (lambda: pruning.rows(W, 2.0), r'kappa must lie in \(0, 1\]'),
    (
      lambda: pruning.rows(_leaf(np.ones(3)), 0.5, select=_leaf(True)),
      r'layer\.kernel must be of rank 2 or more',
    ),
    (
      lambda: pruning.filters(W, 0.5),
      r'layer\.kernel must be of rank 3 or more, .* got shape \(3, 4\)',
    ),
    (
      lambda: pruning.kernels(W, 0.5),
      r'layer\.kernel must be of rank 3 or more, .* leave it out with `select`',
    ),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
