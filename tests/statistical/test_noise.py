"""Noise in optax: its law, its independence, its precision."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from htjax import noise, stable
from statistical import seeds
from statistical.checks import (
  check_cosine,
  check_law,
  check_same_law,
  check_stable,
  check_within,
  refused,
)

ETA, ALPHA, SIGMA = 0.04, 1.5, 0.7
SCALE = SIGMA * ETA ** (1 / ALPHA)


def _add(number=1, **changes):
  arguments = {'learning_rate': ETA, 'alpha': ALPHA, 'sigma': SIGMA}
  return noise.add_stable_noise(key=seeds.seed(number), **(arguments | changes))


def _run(tx, num_steps, params):
  """The noise of `num_steps` steps."""
  updates = jax.tree.map(jnp.zeros_like, params)
  state = tx.init(params)
  update = jax.jit(tx.update)
  made = []
  for _ in range(num_steps):
    new, state = update(updates, state, params)
    made.append(new)
  return made


def _accumulated(tx, shape, num_steps):
  params = {'w': jnp.zeros(shape)}

  def step(carry, _):
    params, state = carry
    updates, state = tx.update(
      jax.tree.map(jnp.zeros_like, params), state, params
    )
    return (optax.apply_updates(params, updates), state), None

  carry = params, tx.init(params)
  return jax.lax.scan(step, carry, length=num_steps)[0][0]['w']


@pytest.mark.parametrize('kind', stable.KINDS)
@pytest.mark.parametrize('alpha', [0.8, 1.5, 2.0])
def test_law_of_accumulated_noise(kind, alpha):
  # After K steps the noise is sigma (eta K)^(1/alpha) X.
  total = _accumulated(_add(kind=kind, alpha=alpha), (2, 1 << 16), 8)
  scale = SIGMA * (8 * ETA) ** (1 / alpha)
  check_stable(total[0], alpha, scale)
  u = np.array([0.8, 0.5])
  exponent = {
    'type1': u.sum() ** alpha,
    'type2': np.sum(u**alpha),
    'type3': np.linalg.norm(u) ** alpha,
  }[kind]
  check_cosine(
    u @ np.float64(total) / scale,
    math.exp(-exponent),
    math.exp(-(2**alpha) * exponent),
  )


def test_law_of_the_process():
  process = noise.StableNoise(ALPHA, SIGMA)
  x = process.draw(seeds.key(26), {'w': jnp.zeros((1, 1 << 16))})['w']
  check_stable(x, ALPHA, SIGMA)
  refused(check_stable, x, ALPHA, 1.1 * SIGMA)


def test_the_gaussian_exponent_is_refused():
  # eta^(1/2) in place of eta^(1/alpha): the rate that gives it at ALPHA.
  wrong = _add(learning_rate=ETA ** (ALPHA / 2))
  total = _accumulated(wrong, (1, 1 << 16), 8)
  with pytest.raises(AssertionError, match='error='):
    check_stable(total, ALPHA, SIGMA * (8 * ETA) ** (1 / ALPHA))


def test_steps_and_leaves_and_keys_are_independent():
  params = {'a': jnp.zeros((1, 1 << 16)), 'b': jnp.zeros((1, 1 << 16))}
  made = _run(_add(), 2, params)
  other = _run(_add(6), 1, params)
  first = np.float64(made[0]['a'])
  for second in (made[0]['b'], made[1]['a'], other[0]['a']):
    # Sums and differences of independent draws have one law, of scale
    # 2^(1/alpha); equal or opposite draws would not.
    check_stable(first + second, ALPHA, SCALE * 2 ** (1 / ALPHA))
    check_stable(first - second, ALPHA, SCALE * 2 ** (1 / ALPHA))
    check_same_law(first, second)


def test_type3_directions_are_uniform():
  params = {'w': jnp.zeros((3, 1 << 15))}
  (new,) = _run(_add(kind='type3'), 1, params)
  x = np.float64(new['w'])
  # Each coordinate of a uniform direction in three dimensions is uniform.
  check_law(
    x[0] / np.linalg.norm(x, axis=0), lambda u: np.clip((u + 1) / 2, 0, 1)
  )


def test_double_precision():
  with jax.enable_x64(True):
    params = {'w': jnp.zeros((2, 1 << 15), jnp.float64)}
    (new,) = _run(_add(kind='type2'), 1, params)
    assert new['w'].dtype == jnp.float64
    check_stable(new['w'], ALPHA, SCALE)
    # More digits than float32 holds.
    assert np.mean(np.float64(np.float32(new['w'])) != new['w']) > 0.99


def _walk(num_steps, alpha, on, scale, conserve):
  """Logarithms of contributions of 2^14 units that no gradient moves."""
  params = {'a': jnp.ones((1, 1 << 14)), 'b': jnp.ones((1 << 14, 1))}
  tx = noise.contribution_noise(
    scale,
    num_steps,
    key=seeds.seed(40),
    alpha=alpha,
    on=on,
    apply=lambda p, x: jax.nn.relu(x @ p['a']) @ p['b'],
    params=params,
    inputs=jnp.ones((1, 1)),
    conserve=conserve,
  )

  def step(carry, _):
    params, state = carry
    updates, state = tx.update(
      jax.tree.map(jnp.zeros_like, params), state, params
    )
    return (optax.apply_updates(params, updates), state), None

  carry = params, tx.init(params)
  last = jax.lax.scan(step, carry, length=num_steps)[0][0]
  return np.log(np.float64(last['a'][0])) + np.log(np.float64(last['b'][:, 0]))


def test_law_of_contributions_that_no_gradient_moves():
  # The cut at 2 is 57 standard deviations off, and 14 in eight steps.
  for num_steps, on in ((1, 1.0), (8, 0.5)):
    walked = _walk(num_steps, 2.0, on, 0.1, conserve=False)
    check_stable(walked, 2.0, 0.1 * math.sqrt(on))
    refused(check_stable, walked, 2.0, 0.11 * math.sqrt(on))
  # In one step of alpha 1.5 the law is that of the draw.
  check_stable(_walk(1, 1.5, 1.0, 1e-3, conserve=False), 1.5, 1e-3)


def test_conserved_contributions_are_log_normal_of_mean_one():
  walked = _walk(8, 2.0, 1.0, 0.5, conserve=True)
  variance = 2 * 0.5**2
  error = math.sqrt(variance / (1 << 14))
  check_within(walked.mean(), -variance / 2, 2 * error)
  refused(check_within, walked.mean(), 0.0, 2 * error)
  check_within(walked.var(), variance, variance * math.sqrt(2 / (1 << 14)))


@pytest.mark.parametrize(
  ('kept', 'held', 'on'), [(0.5, 0.8, 1.0), (0.3, 0.6, 0.5)]
)
def test_units_that_are_kept_hold_what_the_scale_is_for(kept, held, on):
  scale = noise.contribution_scale(kept, on=on, held=held)
  walked = _walk(8, 2.0, on, scale, conserve=True)
  shares = np.sort(np.exp(walked))[::-1] / np.exp(walked).sum()
  # More than the standard error of a part of a sum of so many terms.
  error = math.sqrt(np.sum(shares**2))
  found = shares[: round(kept * len(shares))].sum()
  check_within(found, held, error)
  refused(check_within, found, held - 0.1, error)
