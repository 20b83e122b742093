"""Singular values: against NumPy, both counts, thin factors as layers."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from test_pruning_units import _draw

from htjax import pruning


def _matrix(leaf, protocol):
  if protocol == 'authors':
    return leaf.reshape(-1, leaf.shape[-1])
  return np.moveaxis(leaf, -2, 0).reshape(leaf.shape[-2], -1)


def _best(matrix, k):
  u, s, vt = np.linalg.svd(np.float64(matrix), full_matrices=False)
  return (u[:, :k] * s[:k]) @ vt[:k]


# Rounding of a float32 decomposition, relative to the largest singular value.
def _check(ours, expected, leaf):
  limit = 50 * np.finfo(np.float32).eps * np.linalg.norm(leaf)
  assert np.max(np.abs(np.asarray(ours) - expected)) <= limit


@pytest.mark.parametrize('protocol', ['paper', 'authors'])
@pytest.mark.parametrize('shape', [(9, 5), (4, 11), (3, 3, 2, 5), (3, 4, 3)])
@pytest.mark.parametrize('kappa', [0.2, 0.5, 0.9])
def test_leaves_are_best_of_their_rank(protocol, shape, kappa):
  leaf = _draw(*shape)
  matrix = _matrix(leaf, protocol)
  r, sides = min(matrix.shape), sum(matrix.shape)
  k = int(np.ceil(np.round(kappa * r, 6)))
  pruned = pruning.singular_values({'conv': leaf}, kappa, protocol=protocol)
  _check(
    _matrix(np.asarray(pruned.params['conv']), protocol), _best(matrix, k), leaf
  )
  # Values and vectors, or vectors alone.
  assert pruned.kept == k * (sides + (protocol == 'paper'))
  assert pruned.total == leaf.size
  assert np.all(pruned.mask['conv'])
  counts = pruning.singular_value_counts(
    {'conv': leaf}, kappa, protocol=protocol
  )
  assert counts.values == k
  assert counts.vectors == k * sides
  assert counts.triples == k * (sides + 1)
  assert counts.total == leaf.size


def test_a_square_matrix_may_take_twice_its_size():
  params = {'w': _draw(8, 8)}
  whole = pruning.singular_values(params, 1.0, protocol='authors')
  assert whole.ratio == -1.0
  np.testing.assert_array_equal(whole.params['w'], params['w'])
  # The authors' ratio is positive only below half of the values.
  half = pruning.singular_values(params, 0.5, protocol='authors')
  assert half.ratio == 0.0


@pytest.mark.parametrize('protocol', ['paper', 'authors'])
def test_medians(protocol):
  leaf = _draw(3, 3, 4, 6) + 1
  axis = -1 if protocol == 'authors' else None
  middle = np.median(leaf, axis=axis, keepdims=True)
  pruned = pruning.singular_values(
    {'w': leaf}, 0.25, center='median', protocol=protocol
  )
  matrix = _matrix(leaf - middle, protocol)
  k = -(-min(matrix.shape) // 4)
  shift = _matrix(np.broadcast_to(middle, leaf.shape), protocol)
  _check(
    _matrix(np.asarray(pruned.params['w']), protocol),
    _best(matrix, k) + shift,
    leaf,
  )
  sides = sum(matrix.shape)
  paper = protocol == 'paper'
  assert pruned.kept == k * (sides + paper) + paper


def test_pruning_again_changes_nothing():
  leaf = _draw(12, 7)
  once = pruning.singular_values({'w': leaf}, 0.4).params
  _check(pruning.singular_values(once, 0.4).params['w'], once['w'], leaf)


def test_a_curve_is_one_program():
  params = {'w': _draw(10, 8), 'v': _draw(3, 3, 2, 4, seed=1)}

  traces = []

  def kernel(kappa):
    traces.append(kappa)
    return pruning.singular_values(params, kappa)

  kappas = jnp.arange(1, 51) / 50
  curve = jax.jit(jax.vmap(kernel))(kappas)
  assert len(traces) == 1
  for i in (0, 20, 48, 49):
    one = jax.tree.map(lambda x, i=i: x[i], curve)
    assert one.kept == kernel(kappas[i]).kept
    chex.assert_trees_all_close(
      one.params, kernel(kappas[i]).params, rtol=1e-5, atol=1e-5
    )


def _conv(x, kernel, padding):
  return lax.conv_general_dilated(
    x,
    kernel,
    (1, 1),
    padding,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision=lax.Precision.HIGHEST,
  )


@pytest.mark.parametrize('center', [None, 'median'])
@pytest.mark.parametrize('protocol', ['paper', 'authors'])
def test_thin_factors_are_the_pruned_layers(center, protocol):
  params = {
    'conv': {'kernel': _draw(3, 3, 4, 6)},
    'dense': {'kernel': _draw(20, 30, seed=1), 'bias': jnp.ones(30)},
  }
  options = {'center': center, 'protocol': protocol}
  thin = pruning.thin_factors(params, 0.25, **options)
  pruned = pruning.singular_values(params, 0.25, **options)
  for layer in params:
    leaf = params[layer]['kernel']
    factors = thin.params[layer]['kernel']
    _check(factors.dense(), pruned.params[layer]['kernel'], leaf)
  assert thin.params['dense']['bias'] is params['dense']['bias']
  # The layers one after the other.
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 5, 5, 4)), jnp.float32)
  left, right = thin.params['conv']['kernel']
  ours = x
  for kernel in (left, right):
    pad = kernel.shape[0] // 2
    ours = _conv(ours, kernel, [(pad, pad)] * 2)
  expected = _conv(x, pruned.params['conv']['kernel'], [(1, 1)] * 2)
  np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3)
  size = sum(w.size for f in thin.params.values() for w in f['kernel'])
  assert thin.kept == size
  assert thin.total == 3 * 3 * 4 * 6 + 600
  assert thin.bytes_before == 4 * (thin.total + 30)
  assert thin.bytes_after == 4 * (size + 30)
  if center is None:
    counts = pruning.singular_value_counts(params, 0.25, protocol=protocol)
    assert thin.kept == counts.vectors


def test_thin_factors_keep_the_dtype():
  thin = pruning.thin_factors(
    {'w': jnp.asarray(_draw(8, 6), jnp.bfloat16)}, 0.5
  )
  assert thin.params['w'].left.dtype == jnp.bfloat16
  assert thin.params['w'].left.shape == (8, 3)
  assert thin.params['w'].right.shape == (3, 6)


def test_traced_numbers():
  for bad in (-0.1, 1.1, jnp.nan):
    pruned = jax.jit(
      lambda kappa: pruning.singular_values({'w': jnp.ones((3, 3))}, kappa)
    )(bad)
    assert np.all(np.isnan(pruned.params['w']))


W = {'layer': np.ones((3, 4))}


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: pruning.singular_values(W, 0.0), r'kappa must lie in \(0, 1\]'),
    (lambda: pruning.thin_factors(W, 1.2), r'kappa must lie in \(0, 1\]'),
    (
      lambda: pruning.singular_value_counts(W, np.ones(2)),
      'kappa must be one number',
    ),
    (
      lambda: pruning.singular_values(W, 0.5, protocol='x'),
      'protocol must be one of',
    ),
    (
      lambda: pruning.thin_factors(W, 0.5, center='mean'),
      'center must be one of',
    ),
    (
      lambda: pruning.singular_value_counts(W, 0.5, protocol='x'),
      'protocol must be one of',
    ),
    (
      lambda: jax.jit(lambda kappa: pruning.thin_factors(W, kappa))(0.5),
      'kappa must be concrete',
    ),
    (
      lambda: pruning.singular_values({'layer': np.full((2, 2), np.nan)}, 0.5),
      'layer must be finite',
    ),
    (
      lambda: pruning.singular_values({'b': np.ones(3)}, 0.5),
      'select must choose at least one leaf',
    ),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
