"""Behaviour of every kernel on a pytree of parameters."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_pruning import HEAVY, _params

from htjax import pruning
from htjax.selection import exclude

KEY = jax.random.key(7)
KERNELS = [
  lambda params, **options: pruning.columns(params, 0.3, **options),
  lambda params, **options: pruning.columns_to_error(params, 0.2, **options),
  lambda params, **options: pruning.rows(params, 0.3, **options),
  lambda params, **options: pruning.magnitude(params, 0.3, **options),
  lambda params, **options: pruning.magnitude(
    params, 0.3, scope='global', **options
  ),
  lambda params, **options: pruning.to_error(
    params, 0.3, method='magnitude', **options
  ),
  lambda params, **options: pruning.random_columns(KEY, params, 0.3, **options),
  lambda params, **options: pruning.randomized_magnitude(
    KEY, params, 1.0, **options
  ),
]


@pytest.mark.parametrize('kernel', KERNELS)
def test_selected_leaves_are_pruned_and_counted(kernel):
  params = _params()
  pruned = kernel(params, select=exclude('conv_0', 'output'))
  for path in (
    ('conv_0', 'kernel'),
    ('hidden_0', 'bias'),
    ('output', 'kernel'),
  ):
    layer, leaf = path
    assert pruned.params[layer][leaf] is params[layer][leaf]
    assert pruned.mask[layer][leaf].shape == params[layer][leaf].shape
    assert np.all(pruned.mask[layer][leaf])
    assert pruned.leaf_ratios[layer][leaf] == 0
  kept = int(np.sum(pruned.mask['hidden_0']['kernel']))
  assert 0 < kept < 100
  assert pruned.kept == kept
  assert pruned.total == 100
  np.testing.assert_allclose(pruned.ratio, 1 - kept / 100, rtol=1e-6)


def test_ratio_weighs_leaves_by_size():
  params = {'small': jnp.ones((1, 2)), 'large': jnp.ones((3, 10))}
  pruned = pruning.columns(params, 0.3)
  # One of 2 entries and three of 10 columns of 3 are kept.
  assert pruned.kept == 1 + 9
  np.testing.assert_allclose(pruned.ratio, 1 - 10 / 32, rtol=1e-6)
  np.testing.assert_allclose(pruned.leaf_ratios['small'], 0.5)
  np.testing.assert_allclose(pruned.leaf_ratios['large'], 0.7, rtol=1e-6)


def test_every_weight_is_selected_by_default():
  pruned = pruning.columns(_params(), 0.5)
  assert pruned.total == 3 * 3 * 2 * 8 + 5 * 20 + 20 * 3
  assert np.all(pruned.mask['hidden_0']['bias'])


@pytest.mark.parametrize('kernel', KERNELS)
@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16, jnp.float32])
def test_dtype_and_kept_values_survive(kernel, dtype):
  leaf = jnp.asarray(HEAVY[:, :50], dtype)
  pruned = kernel({'w': leaf})
  assert pruned.params['w'].dtype == dtype
  mask = np.asarray(pruned.mask['w'])
  assert 0 < mask.sum() < mask.size
  np.testing.assert_array_equal(pruned.params['w'][mask], leaf[mask])


@pytest.mark.parametrize('kernel', KERNELS)
def test_vmap_is_a_loop_and_jit_is_eager(kernel):
  # A leaf of each kind.
  trees = [_params(i) for i in range(3)]
  for tree in trees:
    del tree['output']

  def stack(*leaves):
    return np.stack(list(map(np.asarray, leaves)))

  loop = [kernel(tree) for tree in trees]
  both = jax.jit(lambda many, one: (jax.vmap(kernel)(many), kernel(one)))
  chex.assert_trees_all_equal(
    both(jax.tree.map(stack, *trees), trees[1]),
    (jax.tree.map(stack, *loop), loop[1]),
  )


def _nnx_state(params):
  class Layer(nnx.Module):
    def __init__(self, leaves):
      for name, leaf in leaves.items():
        setattr(self, name, nnx.Param(leaf))

  class Network(nnx.Module):
    def __init__(self):
      for name, leaves in params.items():
        setattr(self, name, Layer(leaves))

  return nnx.state(Network())


TREES = {
  'flat': lambda params: {
    f'{layer}/{name}': leaf
    for layer, leaves in params.items()
    for name, leaf in leaves.items()
  },
  'linen': lambda params: {'params': params},
  'nnx': _nnx_state,
}
EVERY_KERNEL = [
  *KERNELS,
  lambda params: pruning.singular_values(params, 0.3, center='median'),
  lambda params: pruning.gaussian_replacement(KEY, params),
  lambda params: pruning.discretize(params, 0.5),
]


@pytest.mark.parametrize('tree', TREES)
def test_any_pytree_will_do(tree):
  params = _params()
  other = TREES[tree](params)
  for kernel in EVERY_KERNEL:
    expected, got = kernel(params), kernel(other)
    assert jax.tree.structure(got.params) == jax.tree.structure(other)
    assert jax.tree.structure(got.mask) == jax.tree.structure(other)
    chex.assert_trees_all_equal(jax.tree.leaves(got), jax.tree.leaves(expected))
