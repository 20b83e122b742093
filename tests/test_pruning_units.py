"""Entries, columns, rows, filters, kernels: against sorts and small cases."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from htjax import pruning
from htjax.compressibility import largest as mask_of_largest
from htjax.compressibility import median, num_true
from htjax.selection import exclude


def _draw(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return rng.standard_t(1.5, size=shape).astype(np.float32)


def _params(seed=0):
  return {
    'conv_0': {'kernel': _draw(3, 3, 2, 6, seed=seed)},
    'hidden_0': {'kernel': _draw(10, 14, seed=seed + 1) * 2},
    'output': {'kernel': _draw(14, 3, seed=seed + 2)},
  }


def _first_largest(scores, count):
  """The mask that a stable sort gives."""
  mask = np.zeros(scores.size, bool)
  mask[np.argsort(-scores.ravel(), kind='stable')[:count]] = True
  return mask.reshape(scores.shape)


# The threshold without a sort.

ARRAYS = {
  'constant': lambda n: np.full(n, 3.0),
  'zero': lambda n: np.zeros(n),
  'few values': lambda n: np.random.default_rng(0).integers(0, 4, n) / 4,
  'ascending': lambda n: np.arange(n) / n,
  'descending': lambda n: np.arange(n)[::-1] / n,
  'one giant': lambda n: np.r_[1e30, np.random.default_rng(1).random(n - 1)],
  'heavy': lambda n: np.abs(np.random.default_rng(2).standard_t(0.4, n)),
  # Every entry that the sample sees is zero.
  'hidden from the sample': lambda n: np.where(
    np.arange(n) % 4, np.random.default_rng(3).random(n), 0
  ),
  'two scales': lambda n: np.where(np.arange(n) % 2, 1e-30, 1e30),
}


@pytest.mark.parametrize('kind', ARRAYS)
def test_largest_is_a_stable_sort(kind):
  # Beyond 2^14 entries the sample is not the whole.
  scores = ARRAYS[kind](50_000).astype(np.float32)
  for k in (0, 1, 2, 137, 25_000, 49_999, 50_000):
    mask = mask_of_largest(jnp.asarray(scores), k)
    np.testing.assert_array_equal(mask, _first_largest(scores, k))


@pytest.mark.parametrize('kind', ARRAYS)
@pytest.mark.parametrize('size', [1, 2, 3, 40_000, 40_001])
def test_median_is_that_of_a_sort(kind, size):
  x = ARRAYS[kind](size).astype(np.float32)
  x[::3] *= -1
  np.testing.assert_allclose(
    median(jnp.asarray(x)), np.median(x), rtol=1e-6, atol=0
  )


def test_median_in_double_precision_and_with_infinities():
  x = np.random.default_rng(0).standard_t(1.0, size=999)
  with jax.enable_x64(True):
    assert median(jnp.asarray(x)) == np.median(x)
    assert median(jnp.asarray(x)).dtype == np.float64
  infinite = np.float32([-np.inf, -np.inf, 1.0, np.inf, 2.0])
  assert median(jnp.asarray(infinite)) == 1.0


def test_largest_of_nothing():
  assert mask_of_largest(jnp.zeros((0, 3)), 2).shape == (0, 3)


@pytest.mark.parametrize('size', [0, 1, 15, 16, 33, 1000])
def test_num_true_counts_groups_and_what_is_left_over(size):
  rng = np.random.default_rng(size)
  for share in (0.0, 0.4, 1.0):
    mask = rng.random(size) < share
    assert num_true(jnp.asarray(mask)) == mask.sum()


# Entries.


@pytest.mark.parametrize('center', [None, 'median'])
@pytest.mark.parametrize('kappa', [1e-9, 0.1, 0.5, 0.77, 1.0])
def test_layerwise_magnitude_is_a_sort(center, kappa):
  params = _params()
  pruned = pruning.magnitude(params, kappa, center=center)
  kept = 0
  for layer, leaves in params.items():
    leaf = leaves['kernel']
    middle = np.median(leaf) if center else np.float32(0)
    count = int(np.ceil(np.round(kappa * leaf.size, 6)))
    mask = _first_largest(np.abs(leaf - middle), max(count, 1))
    np.testing.assert_array_equal(pruned.mask[layer]['kernel'], mask)
    np.testing.assert_array_equal(
      pruned.params[layer]['kernel'], np.where(mask, leaf, middle)
    )
    # The median is one number more, where anything was lost.
    kept += mask.sum() + (center is not None and not mask.all())
  assert pruned.kept == kept
  assert pruned.total == 108 + 140 + 42


@pytest.mark.parametrize('center', [None, 'median'])
@pytest.mark.parametrize('kappa', [1e-9, 0.1, 0.5, 1.0])
def test_global_magnitude_is_one_sort(center, kappa):
  params = _params()
  pruned = pruning.magnitude(params, kappa, scope='global', center=center)
  leaves = [params[layer]['kernel'] for layer in params]
  middles = [np.median(w) if center else np.float32(0) for w in leaves]
  scores = [np.abs(w - c).ravel() for w, c in zip(leaves, middles, strict=True)]
  mask = _first_largest(np.concatenate(scores), max(round(kappa * 290), 1))
  parts = np.split(mask, np.cumsum([w.size for w in leaves])[:-1])
  for layer, leaf, part, middle in zip(
    params, leaves, parts, middles, strict=True
  ):
    part = part.reshape(leaf.shape)
    np.testing.assert_array_equal(pruned.mask[layer]['kernel'], part)
    np.testing.assert_array_equal(
      pruned.params[layer]['kernel'], np.where(part, leaf, middle)
    )
  medians = sum(not part.all() for part in parts) if center else 0
  assert pruned.kept == mask.sum() + medians


@settings(deadline=None, max_examples=30)
@given(
  st.lists(st.sampled_from([-2, -1, 0, 1, 2]), min_size=24, max_size=24),
  st.integers(1, 100),
  st.sampled_from(['layer', 'global']),
)
def test_magnitude_keeps_exact_counts_under_ties(values, percent, scope):
  leaf = np.float32(values).reshape(4, 6)
  params = {'a': leaf, 'b': leaf[:2]}
  pruned = pruning.magnitude(params, percent / 100, scope=scope)
  counts = [-(-n * percent // 100) for n in (24, 12)]
  expected = sum(counts) if scope == 'layer' else -(-36 * percent // 100)
  assert pruned.kept == expected
  assert sum(np.sum(m) for m in jax.tree.leaves(pruned.mask)) == expected


@pytest.mark.parametrize('scope', ['layer', 'global'])
def test_constant_layers_are_pruned_in_order(scope):
  params = {'a': np.full((4, 5), 2.0, np.float32), 'b': np.ones((4, 5)) * 2}
  pruned = pruning.magnitude(params, 0.25, scope=scope)
  mask = np.concatenate([np.ravel(pruned.mask[k]) for k in 'ab'])
  first = np.r_[0:5, 20:25] if scope == 'layer' else np.arange(10)
  np.testing.assert_array_equal(np.flatnonzero(mask), first)
  centred = pruning.magnitude(params, 0.25, scope=scope, center='median')
  chex.assert_trees_all_equal(centred.params, jax.tree.map(jnp.asarray, params))


def test_the_authors_count_no_medians():
  params = _params()
  ours = pruning.magnitude(params, 0.3, center='median')
  theirs = pruning.magnitude(params, 0.3, center='median', protocol='authors')
  assert ours.kept == theirs.kept + 3
  chex.assert_trees_all_equal(ours.params, theirs.params)


def test_magnitude_is_idempotent_and_nested():
  params = _params()
  for scope in ('layer', 'global'):
    once = pruning.magnitude(params, 0.2, scope=scope)
    twice = pruning.magnitude(once.params, 0.2, scope=scope)
    chex.assert_trees_all_equal(once, twice)
    more = pruning.magnitude(params, 0.6, scope=scope)
    for a, b in zip(
      jax.tree.leaves(once.mask), jax.tree.leaves(more.mask), strict=True
    ):
      assert not np.any(a & ~b)


@pytest.mark.parametrize('scope', ['layer', 'global'])
def test_a_curve_of_fifty_ratios_is_one_program(scope):
  params = {'a': _draw(40, 30), 'b': _draw(30, 7, seed=1)}
  kappas = jnp.arange(1, 51) / 50
  traces = []

  def kernel(kappa):
    traces.append(kappa)
    return pruning.magnitude(params, kappa, scope=scope)

  curve = jax.jit(jax.vmap(kernel))(kappas)
  assert len(traces) == 1
  for i in (0, 7, 24, 49):
    one = pruning.magnitude(params, kappas[i], scope=scope)
    chex.assert_trees_all_equal(jax.tree.map(lambda x, i=i: x[i], curve), one)
  np.testing.assert_array_equal(
    jax.vmap(lambda r: r.masked)(curve), 1410 - curve.kept
  )


@pytest.mark.parametrize('scope', ['layer', 'global'])
def test_a_schedule_is_one_trace(scope):
  params = {'a': _draw(6, 5), 'b': _draw(5, 7, seed=1)}
  traces = []

  @jax.jit
  def kernel(kappa):
    traces.append(kappa)
    return pruning.magnitude(params, kappa, scope=scope, center='median')

  for kappa in (0.1, 0.5, 1.0):
    chex.assert_trees_all_equal(
      kernel(kappa),
      pruning.magnitude(params, kappa, scope=scope, center='median'),
    )
  assert len(traces) == 1


def test_traced_zero_keeps_nothing():
  params = _params()
  for scope in ('layer', 'global'):
    pruned = jax.jit(
      lambda kappa, scope=scope: pruning.magnitude(params, kappa, scope=scope)
    )(0.0)
    assert pruned.kept == 0
    assert not any(np.any(w) for w in jax.tree.leaves(pruned.params))


def _torch_masks(weights, counts, together):
  torch = pytest.importorskip('torch', reason='compares with PyTorch')
  from torch.nn.utils import prune

  modules = []
  for weight in weights:
    module = torch.nn.Linear(*weight.shape, bias=False)
    module.weight.data = torch.from_numpy(weight.T.copy())
    modules.append(module)
  if together:
    prune.global_unstructured(
      [(m, 'weight') for m in modules], prune.L1Unstructured, amount=sum(counts)
    )
  else:
    for module, count in zip(modules, counts, strict=True):
      prune.l1_unstructured(module, 'weight', amount=count)
  return [m.weight_mask.numpy().T.astype(bool) for m in modules]


@pytest.mark.parametrize('scope', ['layer', 'global'])
def test_masks_are_those_of_pytorch(scope):
  params = {'a': _draw(20, 30), 'b': _draw(30, 10, seed=1)}
  expected = _torch_masks(list(params.values()), [420, 210], scope == 'global')
  pruned = pruning.magnitude(params, 0.3, scope=scope)
  for mask, ours in zip(expected, pruned.mask.values(), strict=True):
    np.testing.assert_array_equal(ours, mask)


# Units.


def _unit_costs(leaf, unit, p):
  """Sums of |w|^p over each unit, and the mask of a set of units."""
  power = np.abs(np.float64(leaf)) ** p
  if unit == 'rows':
    axes = (*range(leaf.ndim - 2), leaf.ndim - 1)
    shape = (leaf.shape[-2], 1)
  elif unit == 'kernels':
    axes = tuple(range(leaf.ndim - 2))
    shape = leaf.shape[-2:]
  else:
    axes = tuple(range(leaf.ndim - 1))
    shape = (leaf.shape[-1],)
  costs = power.sum(axis=axes).ravel()

  def mask(units):
    chosen = np.isin(np.arange(costs.size), units).reshape(shape)
    return np.broadcast_to(chosen, leaf.shape)

  return costs, mask


CASES = [
  ('rows', (7, 3)),
  ('rows', (2, 2, 6, 3)),
  ('filters', (2, 2, 3, 6)),
  ('kernels', (2, 3, 2, 3)),
  ('kernels', (3, 2, 3)),
  ('columns', (2, 2, 2, 6)),
]


@pytest.mark.parametrize(('unit', 'shape'), CASES)
@pytest.mark.parametrize('p', [1, 2])
def test_units_are_the_best_of_all_subsets(unit, shape, p):
  leaf = _draw(*shape, seed=5)
  costs, mask_of = _unit_costs(leaf, unit, p)
  for k in (1, 2, costs.size - 1):
    pruned = getattr(pruning, unit)({'conv': leaf}, k / costs.size, p=p)
    best = max(
      itertools.combinations(range(costs.size), k),
      key=lambda s: costs[list(s)].sum(),
    )
    mask = mask_of(best)
    np.testing.assert_array_equal(pruned.mask['conv'], mask)
    np.testing.assert_array_equal(
      pruned.params['conv'], np.where(mask, leaf, 0)
    )
    assert pruned.kept == mask.sum()
    assert pruned.masked == leaf.size - mask.sum()


@pytest.mark.parametrize('unit', ['columns', 'rows', 'filters', 'kernels'])
@pytest.mark.parametrize('value', [0.0, -1.5])
def test_equal_units_are_kept_by_index(unit, value):
  leaf = np.full((2, 2, 4, 5), value, np.float32)
  pruned = getattr(pruning, unit)({'conv': leaf}, 0.5)
  costs, mask_of = _unit_costs(leaf, unit, 2)
  kept = -(-costs.size // 2)
  np.testing.assert_array_equal(pruned.mask['conv'], mask_of(np.arange(kept)))


def test_filters_are_the_columns_of_convolutions():
  params = _params()
  select = exclude('hidden_0', 'output')
  chex.assert_trees_all_equal(
    pruning.filters(params, 0.5, select=select),
    pruning.columns(params, 0.5, select=select),
  )


@pytest.mark.parametrize(
  ('unit', 'axes'),
  [('rows', (0, 1, 2)), ('kernels', (2, 3)), ('columns', None)],
)
def test_medians_of_units(unit, axes):
  leaf = _draw(3, 3, 4, 6) + 0.3
  kernel = getattr(pruning, unit)
  pruned = kernel({'conv': leaf}, 0.5, center='median')
  middle = np.median(leaf)
  costs, mask_of = _unit_costs(leaf - middle, unit, 2)
  mask = mask_of(np.argsort(-costs)[: costs.size // 2])
  np.testing.assert_array_equal(pruned.mask['conv'], mask)
  np.testing.assert_array_equal(pruned.params['conv'][~mask], middle)
  assert pruned.kept == mask.sum() + 1
  if axes:
    theirs = kernel({'conv': leaf}, 0.5, center='median', protocol='authors')
    middle = np.median(leaf, axis=axes, keepdims=True)
    costs, mask_of = _unit_costs(leaf - middle, unit, 2)
    mask = mask_of(np.argsort(-costs)[: costs.size // 2])
    np.testing.assert_array_equal(theirs.mask['conv'], mask)
    np.testing.assert_allclose(
      theirs.params['conv'], np.where(mask, leaf, middle), rtol=1e-6
    )
    assert theirs.kept == mask.sum()


def test_masked_and_removed():
  leaf = np.arange(1.0, 13.0, dtype=np.float32).reshape(3, 4)
  # Columns go whole, entries leave holes.
  by_column = pruning.columns({'w': leaf, 'b': np.ones(3)}, 0.5)
  assert by_column.masked == 6
  assert by_column.removed == 6
  # 7 of 12 kept: all of the first row goes, and one entry of the second.
  by_entry = pruning.magnitude({'w': leaf, 'b': np.ones(3)}, 7 / 12)
  assert by_entry.masked == 5
  assert by_entry.removed == 4
  np.testing.assert_allclose(by_entry.ratio, 5 / 12, rtol=1e-6)
  np.testing.assert_allclose(by_entry.network_ratio, 5 / 15, rtol=1e-6)
