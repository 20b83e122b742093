"""Coverage of the 95 % intervals, each estimator on its own model."""

import functools

import jax
import numpy as np
import pytest

from htjax import stable
from htjax import tail_index as T

NUM = 1000


def _coverage(seed, draw, estimate, alpha, num=NUM):
  """Share of intervals around alpha, and of p-values below 0.05."""

  def one(key):
    ours = estimate(draw(key))
    return ours.alpha, ours.standard_error, ours.p_value

  keys = jax.random.split(jax.random.key(seed), num)
  run = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=50))
  ours, error, p_value = map(np.asarray, run(keys))
  return np.mean(np.abs(ours - alpha) <= 1.96 * error), np.mean(p_value < 0.05)


def _pareto(alpha, n):
  return lambda key: jax.random.pareto(key, alpha, (n,))


# On exact power laws the order statistics have no bias at any k.
POWER_LAWS = {
  'hill': (lambda x: T.hill(x, 500), 3000),
  'moment': (lambda x: T.moment(x, 3000), 8000),
  'pickands': (lambda x: T.pickands(x, 8000), 10000),
  'max_ratio': (lambda x: T.max_ratio(x, 8), 4000),
  'power_law': (lambda x: T.power_law(x, 1.0), 1000),
}


@pytest.mark.parametrize('alpha', [1.5, 2.5, 3.5])
@pytest.mark.parametrize('name', POWER_LAWS)
def test_power_laws(name, alpha):
  estimate, n = POWER_LAWS[name]
  seed = 10 * list(POWER_LAWS).index(name) + int(alpha)
  coverage, _ = _coverage(seed, _pareto(alpha, n), estimate, alpha)
  assert 0.93 <= coverage <= 0.97


def test_a_searched_start():
  """The bootstrap has the search in its error, the formula has not."""

  def own(keys):
    return T.power_law(jax.random.pareto(keys[0], 2.5, (200,)))

  def bootstrap(keys):
    x = jax.random.pareto(keys[0], 2.5, (200,))
    error = T.power_law_standard_error(keys[1], x, 60)
    return T.power_law(x)._replace(standard_error=error)

  coverage, _ = _coverage(3, jax.random.split, bootstrap, 2.5)
  assert 0.93 <= coverage <= 0.97
  assert _coverage(3, jax.random.split, own, 2.5)[0] < 0.93


@pytest.mark.parametrize('alpha', [1.2, 1.5, 1.8, 1.95])
@pytest.mark.parametrize('kind', [None, 'type2', 'type3'])
def test_block_sums(kind, alpha):
  if kind is None:
    draw = lambda key: stable.sample(key, alpha, (10000,))  # noqa: E731
    estimate = functools.partial(T.mmo_univariate, block=25)
  else:
    draw = functools.partial(
      stable.sample_vectors, alpha=alpha, shape=(3200, 4), kind=kind
    )
    estimate = functools.partial(T.mmo, block=16)
  seed = int(100 * alpha) + len(kind or '') * (1 + (kind == 'type3'))
  coverage, rejected = _coverage(seed, draw, estimate, alpha)
  assert 0.93 <= coverage <= 0.97
  # The test of stability has the level it says: 5 standard errors of 0.05.
  assert abs(rejected - 0.05) < 5 * (0.05 * 0.95 / NUM) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize('alpha', [1.2, 1.5, 1.8, 1.95])
def test_stable_fit(alpha):
  draw = functools.partial(stable.sample, alpha=alpha, shape=(20000,))
  coverage, _ = _coverage(int(1000 * alpha), draw, T.stable_mle, alpha)
  assert 0.93 <= coverage <= 0.97


def test_coverage_can_fail():
  # Hill on stable numbers: biased as soon as k is a good part of n.
  draw = functools.partial(stable.sample, alpha=1.8, shape=(2000,))
  coverage, _ = _coverage(2, draw, lambda x: T.hill(x, 200), 1.8)
  assert coverage < 0.93


@pytest.mark.parametrize('alpha', [1.5, 1.9])
def test_protocol_does_not_promise_too_much(alpha):
  # A median over permutations varies less than its standard error says.
  def draw(key):
    return jax.random.split(key)

  def estimate(keys):
    x = stable.sample(keys[0], alpha, (5, 512))
    return T.layer_protocol(keys[1], x)

  coverage, _ = _coverage(int(10 * alpha), draw, estimate, alpha, num=400)
  assert coverage > 0.95 - 5 * (0.05 * 0.95 / 400) ** 0.5
