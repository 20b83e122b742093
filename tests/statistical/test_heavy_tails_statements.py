"""Dependent entries, homogeneous layers, and the norm of stable weights."""

import jax
import jax.numpy as jnp
import numpy as np

from htjax import compressibility, stable, tail_index
from htjax.bounds import heavy_tails
from statistical.checks import (
  check_p_value,
  check_share,
  check_stable,
  check_within,
  refused,
)
from statistical.seeds import key


def test_autoregression_is_stationary():
  x = stable.autoregression(key(9200), 1.4, 0.8, 5, (20_000,))
  check_stable(x[-1], 1.4)
  refused(check_stable, x[-1] * 1.1, 1.4)


def test_dependent_entries_have_the_limit_of_independent_ones():
  """Relative l_1 errors of long sequences; 0.02 is what is left at 4000."""
  x = stable.autoregression(key(9210), 1.8, 0.7, 4000, (64,))
  errors = jax.vmap(
    lambda row: compressibility.compression_error(row, 0.3, p=1)
  )
  found = np.asarray(errors(x.T), np.float64)
  error = found.std(ddof=1) / 8
  limit = compressibility.stable_limit(0.3, 1.8)
  check_within(found.mean(), limit, error, allowed=0.02, freedom=63)
  other = compressibility.stable_limit(0.3, 1.5)
  refused(check_within, found.mean(), other, error, allowed=0.02, freedom=63)


def test_homogeneous_layers():
  """Independent entries, and columns that have a scale each."""
  keys = jax.random.split(key(9220), 40)

  def shares(k, leaf):
    found = tail_index.magnitude_dependence(k, leaf, num_permutations=1)
    return [found['rows'].share, found['columns'].share]

  leaves = stable.sample(key(9221), 1.5, (40, 20, 30))
  found = np.array([shares(*pair) for pair in zip(keys, leaves, strict=True)])
  error = found.std(axis=0, ddof=1) / np.sqrt(40)
  check_within(found.mean(axis=0), 0.0, error, freedom=39)
  keys = jax.random.split(key(9223), 2)
  independent = stable.sample(key(9224), 1.2, (500, 50))
  check_p_value(
    tail_index.halves(keys[0], independent, split='columns').p_value
  )
  # Of four columns as different as that, any two differ from the others.
  columns = independent[:, :4] * 10.0 ** (4 * jnp.arange(4))[None]
  refused(
    check_p_value, tail_index.halves(keys[1], columns, split='columns').p_value
  )


def test_one_weight_makes_the_norm():
  """P(|w| >= R), which is at least delta and tends to it."""
  law = {'alphas': 1.5, 'scales': 1.0, 'layer_sizes': [500]}
  radius = heavy_tails.sharp_norm_quantile(0.02, **law)

  def norm(k):
    return jnp.linalg.norm(stable.sample(k, 1.5, (500,)))

  norms = np.asarray(jax.lax.map(norm, jax.random.split(key(9230), 10_000)))
  check_share(np.sum(norms >= radius), 10_000, 0.02, 0.025)
  refused(check_share, np.sum(norms >= 2 * radius), 10_000, 0.02, 0.025)
