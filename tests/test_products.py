"""Products that enter a bound or a theorem are not rounded by a device."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from htjax import bounds, mean_field, sketching, tail_index
from htjax.bounds import baselines, cushions, spectral

PRODUCTS = ('dot_general', 'conv_general_dilated')
HIGHEST = lax.Precision.HIGHEST
X = jax.random.normal(jax.random.key(1), (6, 4))
W = jax.random.normal(jax.random.key(2), (4, 4))
LAYERS = [W, W.T, W[:, :3]]
PROBLEM = mean_field.Problem(
  unit=lambda theta, x: jnp.tanh(theta @ x),
  loss=lambda f, y: (f - y) ** 2 / 2,
  inputs=X,
  targets=X[:, 0],
)
NOISE = {'alpha': 1.5, 'sigma': 0.1, 'kind': 'type1'}
RUN = NOISE | {'step_size': 0.1, 'num_steps': 2}


def _loss(layers, x, y):
  for w in layers:
    x = jnp.tanh(x @ w)
  return jnp.mean((x - y) ** 2)


CASES = {
  'outputs': lambda x: bounds.networks.outputs(LAYERS, x),
  'pre_activations': lambda x: bounds.networks.pre_activations(LAYERS, x),
  'layer_cushions': lambda x: cushions.layer_cushions(LAYERS, x),
  'interlayer_cushions': lambda x: cushions.interlayer_cushions(LAYERS, x),
  'spectral_norm': lambda x: spectral.spectral_norm(x),
  'stable_rank': lambda x: spectral.stable_rank(x),
  'operator_norm': lambda x: spectral.operator_norm(
    lambda v: v @ x, x.shape[:1]
  ),
  'conv_spectral_norm': lambda x: spectral.conv_spectral_norm(
    x[None, :2, :2, None] * jnp.ones((1, 1, 1, 2)), (4, 4), padding='CIRCULAR'
  ),
  'layer_curvatures': lambda x: baselines.layer_curvatures(
    lambda layers, x, y: _loss(layers, x[None], y[None]),
    [W, W.T],
    [W, W],
    x,
    jnp.zeros((6, 4)),
    num_steps=2,
  ),
  'recover': lambda x: sketching.recover(x[:4], x[:4], x[:4]),
  'sketch': lambda x: sketching.sketch(x, x.T, W),
  'least_squares_chain': lambda x: tail_index.least_squares_chain(
    jax.random.key(0),
    step_size=0.1,
    batch_size=2,
    dim=3,
    num_chains=2,
    num_steps=2,
  ),
  'drift': lambda x: mean_field.drift(PROBLEM, x, x),
  'risk': lambda x: mean_field.risk(PROBLEM, x),
  'euler_step': lambda x: mean_field.euler_step(
    jax.random.key(0), PROBLEM, x, step_size=0.1, **NOISE
  ),
  'simulate': lambda x: mean_field.simulate(
    jax.random.key(0), PROBLEM, x, **RUN
  ),
}


@pytest.mark.parametrize('name', CASES)
def test_products_have_the_precision_of_their_arrays(name):
  found = [
    eqn.params['precision'] for eqn in _products(jax.make_jaxpr(CASES[name])(X))
  ]
  assert found
  assert set(found) == {(HIGHEST, HIGHEST)}, name


def test_a_network_in_training_is_left_to_its_user():
  jaxpr = jax.make_jaxpr(lambda x: _loss(LAYERS, x, 0.0))(X)
  assert {eqn.params['precision'] for eqn in _products(jaxpr)} == {None}


@pytest.mark.parametrize(
  'measure',
  [
    lambda problem: mean_field.regularity(problem),
    lambda problem: mean_field.lipschitz_ratios(
      jax.random.key(0), problem, X, 2
    ),
    lambda problem: mean_field.propagation_of_chaos(
      jax.random.key(0),
      problem,
      widths=(2, 4),
      num_replicas=2,
      reference=8,
      **RUN,
    ),
    lambda problem: mean_field.euler_error(
      jax.random.key(0),
      problem,
      step_sizes=(0.2,),
      fine_step_size=0.1,
      horizon=0.2,
      num_particles=2,
      num_replicas=2,
      **NOISE,
    ),
  ],
  ids=['regularity', 'lipschitz_ratios', 'chaos', 'euler_error'],
)
def test_units_are_computed_so_too(measure):
  seen = set()

  def unit(theta, x):
    seen.add(jax.config.jax_default_matmul_precision)
    return jnp.tanh(theta @ x)

  measure(dataclasses.replace(PROBLEM, unit=unit))
  assert seen == {'highest'}


def _products(jaxpr):
  """All equations of products, also those of programs inside."""
  for eqn in jaxpr.eqns:
    if eqn.primitive.name in PRODUCTS:
      yield eqn
    for inner in jax.tree.leaves(
      list(eqn.params.values()), is_leaf=lambda v: hasattr(v, 'eqns')
    ):
      if hasattr(inner, 'eqns'):
        yield from _products(inner)
