"""Selections: which leaves are weights, and masks that do not fit."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from htjax import selection


class Pair(NamedTuple):
  first: jax.Array
  second: jax.Array


PARAMS = {
  'conv': {'kernel': np.zeros((3, 3, 2, 4)), 'bias': np.zeros(4)},
  'hidden': [{'kernel': np.zeros((5, 4))}, {'kernel': np.zeros((4, 4))}],
  'norm': {'scale': np.zeros(()), 'table': np.zeros((2, 2), np.int32)},
  'output': Pair(np.zeros((4, 3), np.float16), np.zeros(3)),
}


def _paths(chosen):
  """The selected leaves, as 'a/b/c'."""
  return {
    '/'.join(selection.path_components(path))
    for path, flag in jax.tree_util.tree_leaves_with_path(chosen)
    if flag
  }


WEIGHTS = {'conv/kernel', 'hidden/0/kernel', 'hidden/1/kernel', 'output/first'}


def test_weights_are_floating_and_of_rank_two():
  chosen = selection.weights(PARAMS)
  assert _paths(chosen) == WEIGHTS
  assert jax.tree.structure(chosen) == jax.tree.structure(PARAMS)
  assert {type(flag) for flag in jax.tree.leaves(chosen)} == {bool}


def test_weights_of_types_instead_of_arrays():
  shapes = jax.eval_shape(lambda: {'w': jnp.ones((2, 2)), 'b': jnp.ones(2)})
  assert selection.weights(shapes) == {'w': True, 'b': False}
  assert selection.weights({'w': jnp.bfloat16(1), 'x': 3.0}) == {
    'w': False,
    'x': False,
  }


@pytest.mark.parametrize(
  ('names', 'left'),
  [
    ((), WEIGHTS),
    (('output',), WEIGHTS - {'output/first'}),
    (('first',), WEIGHTS - {'output/first'}),
    (('0',), WEIGHTS - {'hidden/0/kernel'}),
    (('conv', 'output'), {'hidden/0/kernel', 'hidden/1/kernel'}),
    (('kernel',), {'output/first'}),
    (('bias',), WEIGHTS),
  ],
)
def test_exclude(names, left):
  assert _paths(selection.exclude(*names)(PARAMS)) == left


@pytest.mark.parametrize('name', ['outptu', 'out', 'conv/kernel', '', 2])
def test_exclude_wants_names_that_exist(name):
  with pytest.raises(ValueError, match='no part of the parameters is called'):
    selection.exclude('conv', name)(PARAMS)
  with pytest.raises(ValueError, match='0, 1, bias, conv, first, hidden'):
    selection.exclude(name)(PARAMS)


def test_exclude_in_flax_networks():
  class Net(nnx.Module):
    def __init__(self, rngs):
      self.hidden = nnx.Linear(3, 4, rngs=rngs)
      self.output = nnx.Linear(4, 2, rngs=rngs)

  state = nnx.state(Net(nnx.Rngs(0)))
  chosen = selection.resolve(selection.exclude('output'), state)
  assert jax.tree.structure(chosen) == jax.tree.structure(state)
  assert {p.rsplit('/', 1)[0] for p in _paths(chosen)} <= {
    'hidden',
    'hidden/kernel',
  }
  assert sum(jax.tree.leaves(chosen)) == 1

  params = linen.Dense(4).init(jax.random.key(0), jnp.ones((1, 3)))
  assert _paths(selection.resolve(None, params)) == {'params/kernel'}
  assert not _paths(selection.resolve(selection.exclude('params'), params))


def test_resolve_takes_three_forms():
  params = {'a': jnp.ones((2, 2)), 'b': jnp.ones(2)}
  assert selection.resolve(None, params) == {'a': True, 'b': False}
  for flags in (
    {'a': False, 'b': True},
    {'a': np.bool_(False), 'b': np.True_},
    {'a': jnp.array(False), 'b': jnp.array(True)},
  ):
    for chosen in (flags, lambda p, flags=flags: flags):
      result = selection.resolve(chosen, params)
      assert result == {'a': False, 'b': True}
      assert {type(flag) for flag in result.values()} == {bool}


def test_resolve_hands_the_parameters_to_a_function():
  params = {'a': jnp.ones((2, 2)), 'b': jnp.ones((3, 3))}
  chosen = selection.resolve(
    lambda p: jax.tree.map(lambda x: x.shape[0] == 3, p), params
  )
  assert chosen == {'a': False, 'b': True}


def test_resolve_works_on_traced_parameters():
  def f(params):
    assert selection.resolve(selection.exclude('b'), params) == {
      'a': True,
      'b': False,
    }
    return params

  jax.jit(f)({'a': jnp.ones((2, 2)), 'b': jnp.ones((2, 2))})


@pytest.mark.parametrize('params', [{}, [], None, {'a': None}, {'a': {}}])
def test_resolve_refuses_nothing(params):
  with pytest.raises(ValueError, match='params must have at least one leaf'):
    selection.resolve(None, params)


@pytest.mark.parametrize(
  'mask',
  [True, {'a': True}, {'a': True, 'c': True}, [True, True], {}],
)
def test_resolve_refuses_another_structure(mask):
  params = {'a': jnp.ones((2, 2)), 'b': jnp.ones(2)}
  for chosen in (mask, lambda p: mask):
    with pytest.raises(ValueError, match='mask must have the structure of par'):
      selection.resolve(chosen, params, 'mask')


@pytest.mark.parametrize(
  'flag', [1, 0.0, 'yes', np.int32(1), jnp.ones(2), np.ones((2, 2), bool)]
)
def test_resolve_refuses_other_flags(flag):
  params = {'a': jnp.ones((2, 2)), 'b': jnp.ones(2)}
  with pytest.raises(ValueError, match='select must hold booleans, got'):
    selection.resolve({'a': True, 'b': flag}, params)
