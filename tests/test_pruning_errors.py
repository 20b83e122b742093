"""Pruning to an error: the smallest kept part by brute force."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_pruning_units import _draw, _unit_costs

from htjax import pruning
from htjax.compressibility import pruning_ratio, smallest_kappa

METHODS = ('magnitude', 'columns', 'rows', 'filters', 'kernels')


def _smallest(costs, epsilon, p):
  """Number of units that stay, the fewest within the error."""
  ascending = np.sort(costs)
  errors = (np.r_[0, np.cumsum(ascending)] / ascending.sum()) ** (1 / p)
  return costs.size - np.flatnonzero(errors <= epsilon).max()


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('p', [1, 2, 3])
def test_to_error_keeps_the_least_that_may_be_kept(method, p):
  leaf = _draw(2, 3, 4, 5, seed=2)
  for epsilon in (0.02, 0.1, 0.5, 0.9):
    pruned = pruning.to_error({'conv': leaf}, epsilon, method=method, p=p)
    if method == 'magnitude':
      costs, per_unit = np.abs(np.float64(leaf)).ravel() ** p, 1
    else:
      costs, _ = _unit_costs(leaf, method, p)
      per_unit = leaf.size // costs.size
    assert pruned.kept == _smallest(costs, epsilon, p) * per_unit
    removed = np.float64(leaf) - np.float64(pruned.params['conv'])
    error = np.linalg.norm(removed.ravel(), p) / np.linalg.norm(leaf.ravel(), p)
    assert error <= epsilon * (1 + 1e-5)


def test_singular_values_to_error():
  leaf = _draw(12, 9, seed=3)
  s = np.linalg.svd(np.float64(leaf), compute_uv=False)
  for epsilon in (0.05, 0.3, 0.8):
    pruned = pruning.to_error({'w': leaf}, epsilon, method='singular_values')
    k = _smallest(s**2, epsilon, 2)
    assert pruned.kept == k * (12 + 9 + 1)
    assert np.linalg.matrix_rank(pruned.params['w'], tol=1e-4 * s[0]) == k
    error = np.linalg.norm(pruned.params['w'] - leaf) / np.linalg.norm(leaf)
    assert error <= epsilon * (1 + 1e-5)
    np.testing.assert_allclose(
      error, np.sqrt(np.sum(s[k:] ** 2) / np.sum(s**2)), rtol=1e-4
    )


def test_to_error_agrees_with_the_curves():
  params = {'w': _draw(30, 40), 'v': _draw(40, 7, seed=1)}
  entries = pruning.to_error(params, 0.1, method='magnitude')
  for name, leaf in params.items():
    np.testing.assert_allclose(
      1 - entries.leaf_ratios[name], smallest_kappa(leaf, 0.1), rtol=1e-6
    )
  whole = pruning.to_error(params, 0.3, method='columns')
  for name, leaf in params.items():
    np.testing.assert_allclose(
      whole.leaf_ratios[name],
      pruning_ratio(leaf, tolerance=0.3, squared=False),
      rtol=1e-6,
    )


def test_published_figure_golden():
  """Relative error 0.1 of a layer minus its medians, the norm not squared."""
  heavy = np.random.default_rng(0).standard_t(1.8, size=(2048, 64))
  np.testing.assert_allclose(heavy[0, 0], 1.16531641, rtol=1e-8)
  centred = heavy - np.median(heavy, axis=0)
  with jax.enable_x64(True):
    pruned = pruning.to_error(
      {'w': centred}, 0.1, method='magnitude', center='median'
    )
    np.testing.assert_allclose(pruned.leaf_ratios['w'], 0.600655, atol=5e-7)
    np.testing.assert_array_equal(
      pruned.params['w'][~pruned.mask['w']], np.median(centred)
    )
    assert pruned.kept == np.sum(pruned.mask['w']) + 1


@pytest.mark.parametrize('method', pruning.METHODS)
def test_ends(method):
  leaf = _draw(2, 2, 3, 4)
  leaf[:, :, 1, :] = 0
  nothing = pruning.to_error({'conv': leaf}, 0.0, method=method)
  np.testing.assert_allclose(nothing.params['conv'], leaf, rtol=1e-5, atol=1e-5)
  everything = pruning.to_error({'conv': leaf}, 1.0, method=method)
  assert everything.kept == 0
  assert not np.any(everything.params['conv'])
  zero = pruning.to_error({'conv': jnp.zeros((2, 2, 3, 4))}, 0.1, method=method)
  assert zero.kept == 0


@pytest.mark.parametrize('method', pruning.METHODS)
def test_a_schedule_of_errors_is_one_program(method):
  params = {'conv': _draw(2, 2, 3, 4), 'conv_1': _draw(3, 4, 5, seed=1)}

  traces = []

  def kernel(epsilon):
    traces.append(epsilon)
    return pruning.to_error(params, epsilon, method=method)

  epsilons = jnp.array([0.0, 0.1, 0.3, 0.99])
  curve = jax.jit(jax.vmap(kernel))(epsilons)
  assert len(traces) == 1
  for i, epsilon in enumerate(epsilons):
    one = jax.tree.map(lambda x, i=i: np.asarray(x)[i], curve)
    alone = kernel(epsilon)
    np.testing.assert_array_equal(one.kept, alone.kept)
    chex.assert_trees_all_close(one.params, alone.params, rtol=1e-5, atol=1e-5)


def test_traced_bad_epsilon():
  for method in pruning.METHODS:
    prune = jax.jit(
      lambda e, m=method: pruning.to_error(
        {'conv': jnp.ones((2, 2, 2))}, e, method=m
      )
    )
    for bad in (-0.1, 1.1, jnp.nan):
      assert np.all(np.isnan(prune(bad).params['conv']))


W = {'layer': np.ones((3, 4))}


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (
      lambda: pruning.to_error(W, -0.1, method='rows'),
      r'epsilon must lie in \[0, 1\], got -0.1',
    ),
    (
      lambda: pruning.to_error(W, np.array([0.1]), method='rows'),
      'epsilon must be one number',
    ),
    (
      lambda: pruning.to_error(W, 0.1, method='row'),
      "method must be one of 'magnitude', 'columns'",
    ),
    (
      lambda: pruning.to_error(W, 0.1, method='singular_values', p=1),
      "p must be 2 for method 'singular_values', got 1",
    ),
    (
      lambda: pruning.to_error(W, 0.1, method='rows', p=0),
      'p must be a static number',
    ),
    (
      lambda: pruning.to_error(W, 0.1, method='filters'),
      r'layer must be of rank 3 or more',
    ),
    (
      lambda: pruning.to_error(W, 0.1, method='rows', center='mean'),
      "center must be one of 'median'",
    ),
    (
      lambda: pruning.to_error(W, 0.1, method='rows', protocol='code'),
      "protocol must be one of 'paper', 'authors'",
    ),
  ],
)
def test_bad_arguments_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()
