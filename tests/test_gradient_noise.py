"""Noise of minibatch gradients, against all batches there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htjax import tail_index


def loss(w, x, y):
  # Its gradient is the mean of x: noise is that of the examples themselves.
  return jnp.mean(x @ w) + 0 * jnp.mean(y)


def test_samples_are_batch_means_less_the_mean():
  x, y = jnp.arange(6.0)[:, None], jnp.zeros(6)
  found = tail_index.gradient_noise(
    jax.random.key(5), loss, jnp.zeros(1), x, y, batch_size=2, num_batches=100
  )
  pairs = [(i + j) / 2 - 2.5 for i in range(6) for j in range(i)]
  assert set(np.round(np.asarray(found.samples)[:, 0], 4)) == set(pairs)
  with pytest.raises(ValueError, match='batch_size must be below'):
    tail_index.gradient_noise(
      jax.random.key(6), loss, jnp.zeros(1), x, y, batch_size=6
    )
