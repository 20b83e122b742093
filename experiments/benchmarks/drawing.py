"""Stable draws: against normal draws, against SciPy, and 10^9 of them."""

import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from experiments.benchmarks.timing import (
  Disagreement,
  Measurement,
  in_process,
  interleave,
)
from htjax import stable
from htjax.types import Array

_ALPHA = 1.8
_SIZE, _SMALL_SIZE = 10**7, 10**5
_TAILS = tuple(10.0**-k for k in range(1, 9))
# Of one comparison of a count with the law; 32 are made.
_SIGNIFICANCE = 1e-6


def against_normal(small: bool, repeats: int) -> Measurement:
  """`stable.sample` against `jax.random.normal`."""
  size = _SMALL_SIZE if small else _SIZE
  normal = jax.jit(lambda key: jax.random.normal(key, (size,)))
  ours = _sampler(size)
  key = jax.random.key(0)
  # A standard normal times sqrt(2) is stable with alpha = 2.
  check_law(math.sqrt(2) * np.asarray(normal(jax.random.key(1))), 2.0)
  for i, alpha in enumerate((2.0, _ALPHA)):
    check_law(ours(jax.random.key(2 + i), alpha), alpha)
  return interleave(
    in_process(normal, lambda i: (jax.random.fold_in(key, 2 * i),)),
    in_process(ours, lambda i: (jax.random.fold_in(key, 2 * i + 1), _ALPHA)),
    repeats,
  )


def against_scipy(small: bool, repeats: int) -> Measurement:
  """`stable.sample` against `scipy.stats.levy_stable.rvs`."""
  size = _SMALL_SIZE if small else _SIZE
  rng = np.random.default_rng(0)
  ours = _sampler(size)
  key = jax.random.key(4)

  def scipy_draws() -> np.ndarray:
    return stats.levy_stable.rvs(_ALPHA, 0.0, size=size, random_state=rng)

  check_law(scipy_draws(), _ALPHA)
  check_law(ours(jax.random.key(5), _ALPHA), _ALPHA)
  return interleave(
    in_process(scipy_draws),
    in_process(ours, lambda i: (jax.random.fold_in(key, i), _ALPHA)),
    repeats,
  )


def check_law(draws: Any, alpha: float) -> None:
  """Raise unless E cos(X) is exp(-1), up to five standard errors."""
  phi, phi_double = math.exp(-1.0), math.exp(-(2.0**alpha))
  cosine = np.cos(np.asarray(draws, np.float64))
  variance = (1.0 + phi_double) / 2.0 - phi**2
  limit = 5.0 * math.sqrt(variance / cosine.size)
  if not abs(cosine.mean() - phi) <= limit:
    raise Disagreement(
      f'E cos(X) must be {phi:.5f} +- {limit:.5f} for alpha={alpha}, got '
      f'{cosine.mean():.5f}'
    )


def billion(small: bool) -> list[dict[str, Any]]:
  """Draw 10^9 numbers for some alphas and count what could go wrong."""
  chunk, num_chunks = (10**5, 10) if small else (10**7, 100)
  keys = jax.random.split(jax.random.key(6), 4)
  return [
    count_draws(keys[i], alpha, chunk, num_chunks)
    for i, alpha in enumerate((0.6, 1.0, _ALPHA, 2.0))
  ]


def count_draws(
  key: Array, alpha: float, chunk: int, num_chunks: int
) -> dict[str, Any]:
  """Draw `num_chunks` times `chunk` numbers.

  Returns:
    The numbers of NaNs, infinities and exact zeros; for each tail probability
    p how many draws were beyond the |x| that the law exceeds with probability
    p, and the p-value of that count; and 'right', which says whether all of
    it is as it should be.
  """
  # Sampling and counting are two programs, or the draws would be made again
  # for every count.
  draw, count = _sampler(chunk), jax.jit(_count)
  thresholds = _thresholds(alpha)
  num_draws = chunk * num_chunks
  totals = np.zeros(3 + len(_TAILS), np.int64)
  jax.block_until_ready(
    count(draw(jax.random.fold_in(key, 0), alpha), thresholds)
  )
  start = time.perf_counter()
  for i in range(1, num_chunks + 1):
    x = draw(jax.random.fold_in(key, i), alpha)
    totals += np.asarray(count(x, thresholds), np.int64)
  seconds = time.perf_counter() - start
  nans, infinities, zeros, *beyond = totals.tolist()
  with jax.enable_x64(True):
    exact = 2.0 * stable.sf(np.asarray(thresholds, np.float64), alpha)
  pvalues = [
    float(stats.binomtest(n, num_draws, p).pvalue)
    for n, p in zip(beyond, np.asarray(exact).tolist(), strict=True)
  ]
  return {
    'alpha': alpha,
    'draws': num_draws,
    'seconds': seconds,
    'nan': nans,
    'infinite': infinities,
    'zero': zeros,
    'tail_probabilities': list(_TAILS),
    'tail_counts': beyond,
    'tail_pvalues': pvalues,
    'right': nans == infinities == 0 and bool(min(pvalues) >= _SIGNIFICANCE),
  }


def _sampler(size: int):
  return jax.jit(lambda key, alpha: stable.sample(key, alpha, (size,)))


def _thresholds(alpha: float) -> Array:
  """float32 numbers that |X| exceeds with about the probabilities _TAILS."""
  with jax.enable_x64(True):
    x = -stable.quantile(np.asarray(_TAILS) / 2.0, alpha)
  return jnp.asarray(np.asarray(x), jnp.float32)


def _count(x: Array, thresholds: Array) -> Array:
  size = jnp.abs(x)
  flags = [jnp.isnan(x), jnp.isinf(x), x == 0.0]
  flags += [size > thresholds[i] for i in range(len(_TAILS))]
  return jnp.stack([flag.sum(dtype=jnp.int32) for flag in flags])
