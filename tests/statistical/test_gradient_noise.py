"""Index of gradient noise, and what only looks like a heavy tail."""

import jax.numpy as jnp

from htjax import stable, tail_index
from statistical.checks import check_within, refused
from statistical.seeds import key

SHAPE = (4000, 10)


def loss(w, x, y):
  # Its gradient is the mean of x: noise is that of the examples themselves.
  return jnp.mean(x @ w) + 0 * jnp.mean(y)


def noise(k, x, batch_size):
  return tail_index.gradient_noise(
    k,
    loss,
    jnp.zeros(SHAPE[1]),
    x,
    jnp.zeros(SHAPE[0]),
    batch_size=batch_size,
    num_batches=400,
  )


def test_index_of_stable_examples_is_theirs():
  """Examples in pairs, for a mean of heavy-tailed ones would shift the rest."""
  half = stable.sample(key(9301), 1.5, (SHAPE[0] // 2, SHAPE[1]))
  x = jnp.concatenate([half, -half])
  found = noise(key(9302), x, 1).coordinates
  pair = float(found.alpha), float(found.standard_error)
  check_within(pair[0], 1.5, pair[1], allowed=0.05)
  refused(check_within, pair[0], 2.5, pair[1], allowed=0.05)


def test_unequal_variances_look_heavy_unless_scaled():
  x = stable.sample(key(9303), 2.0, SHAPE) * jnp.exp(jnp.arange(10.0))[None]
  found = noise(key(9304), x, 5)
  scaled = float(found.scaled.alpha), float(found.scaled.standard_error)
  check_within(scaled[0], 2.0, scaled[1], allowed=0.05)
  plain = found.coordinates
  refused(
    check_within,
    float(plain.alpha),
    2.0,
    float(plain.standard_error),
    allowed=0.05,
  )
