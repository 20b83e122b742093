"""The table of `stable_mle` against the law and against the exact scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htjax import stable
from htjax.tail_index import stable_slopes

LOG_X = np.concatenate([np.linspace(-9.0, 9.0, 61), [40.0, 80.0]])
ALPHAS = (0.5, 0.503, 0.62, 1.0, 1.3, 1.7, 1.95, 1.999, 2 - 1e-4)


@jax.jit
@functools.partial(jax.grad, argnums=(0, 1))
def _log_density_slopes(alpha, u):
  return jnp.sum(stable.logpdf(jnp.exp(u), alpha))


def _exact(u, alpha):
  """Slopes of the log-density by the integrals, and P(X > x)."""
  by_alpha, by_u = _log_density_slopes(np.full(u.shape, alpha), u)
  return by_alpha, by_u, stable.sf(np.exp(u), alpha)


def test_slopes_equal_those_of_the_integrals():
  slopes = jax.jit(stable_slopes.slopes)
  with jax.enable_x64(True):
    for alpha in ALPHAS:
      # Far out the nodes of the integral near 2 are too far apart.
      u = LOG_X if alpha < 1.7 else LOG_X[:61]
      exact = [np.asarray(a) for a in _exact(u, alpha)]
      found = slopes(u, alpha)
      # The numbers are kept in float32, 6e-8, times the slopes' own size.
      for i, scale in ((0, 1 / (2 - alpha) + np.abs(u)), (1, 3.0)):
        error = np.abs(np.asarray(found[i]) - exact[i]) / scale
        # Slopes exceed that where a normal tail ends, at x of 6 to 9.
        far = (np.abs(u - 2.0) < 0.3) & (alpha > 1.99)
        # The piece at 0 is wide for the detail that small alpha have there.
        assert error[~far].max() < (5e-5 if alpha < 0.6 else 3e-6), (alpha, i)
        assert error[far].max(initial=0) < 1e-4, (alpha, i)
      some = exact[2] > 0
      np.testing.assert_allclose(
        np.asarray(found.tail)[some], exact[2][some], rtol=3e-6
      )


def test_numpy_reads_the_same_table():
  slopes = jax.jit(stable_slopes.slopes)
  # At no end of a piece, where either would be right.
  u = LOG_X + 0.01
  for alpha in (0.5, 1.3, 1.99, 2.0):
    found = stable_slopes.slopes(u, np.float64(alpha), np)
    with jax.enable_x64(True):
      expected = slopes(u, np.float64(alpha))
    for ours, value in zip(found, expected, strict=True):
      np.testing.assert_allclose(ours, value, 1e-9, 1e-300)


def test_slopes_in_float32_are_as_good_as_it_allows():
  slopes = jax.jit(stable_slopes.slopes)
  u = LOG_X.astype(np.float32)
  for alpha in (0.62, 1.3, 1.999):
    alpha = np.float32(alpha)
    with jax.enable_x64(True):
      exact = slopes(np.float64(u), np.float64(alpha))
    found = slopes(u, alpha)
    assert found.tail.dtype == jnp.float32
    for i, scale in ((0, 1 / (2 - alpha) + np.abs(u)), (1, 3.0)):
      error = np.abs(np.float64(found[i]) - np.asarray(exact[i])) / scale
      assert error.max() < 1e-4, (alpha, i)


def test_the_normal_law():
  u = jnp.asarray(LOG_X[:40], jnp.float32)
  found = stable_slopes.slopes(u, jnp.float32(2.0))
  np.testing.assert_allclose(found.by_log_x, -np.exp(2 * u) / 2, rtol=1e-5)


@pytest.mark.parametrize('band', range(stable_slopes.NUM_BANDS - 1))
def test_bands_join(band):
  # At the last alpha of one band and the first of the next.
  edge = float(stable_slopes.alphas(band, np.array(1.0)))
  slopes = jax.jit(stable_slopes.slopes)
  with jax.enable_x64(True):
    low, high = (
      slopes(LOG_X, 2 - (2 - edge) * (1 + side)) for side in (-1e-9, 1e-9)
    )
    for a, b in zip(low, high, strict=True):
      np.testing.assert_allclose(a, b, rtol=3e-4, atol=2e-5 / (2 - edge))
