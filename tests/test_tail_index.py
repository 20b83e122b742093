"""Tail indices against published values, brute force and closed forms."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import optimize, special, stats

from htjax import records, stable
from htjax import tail_index as T
from htjax.compressibility import smallest_kappa
from htjax.tail_index.discrete_power_laws import log_zeta

STUDENT = np.random.default_rng(0).standard_t(1.8, size=(2048, 64))
NUMBERS = np.random.default_rng(1).pareto(1.5, 400) + 1
VECTORS = np.random.default_rng(2).standard_cauchy((60, 3))


def _close(ours, expected, rtol=1e-5):
  np.testing.assert_allclose(np.float64(ours), expected, rtol=rtol)


def _pareto(seed, alpha, n, xmin=1.0):
  return xmin * (1 + np.random.default_rng(seed).pareto(alpha, n))


# The values that the authors' programs give for one matrix.


def test_published_block_sizes():
  usual = (2, 4, 8, 16, 32, 64, 256, 512)
  for num in (2048, 4096, 8192, 262144):
    assert T.protocol_blocks(num) == usual
  assert T.protocol_blocks(784) == (2, 4, 8, 16, 49, 98, 28)
  assert T.protocol_blocks(512) == (2, 4, 8, 16, 32, 64)
  assert T.protocol_blocks(192) == (2, 4, 8, 16, 48, 12)
  assert T.protocol_blocks(10) == (2, 5)
  with pytest.raises(ValueError, match='divisor up to its root, got 13'):
    T.protocol_blocks(13)


def test_published_multivariate_values():
  expected = [
    *(1.580489, 1.589891, 1.609832, 1.616751),
    *(1.635373, 1.661718, 1.700136, 1.759292),
  ]
  with jax.enable_x64(True):
    x = T.layer_samples(STUDENT.T)
    ours = [T.mmo(x, block).alpha for block in T.protocol_blocks(2048)]
  np.testing.assert_allclose(ours, expected, atol=5e-7)


@pytest.mark.parametrize(
  ('estimator', 'expected'),
  [
    ('mmo', 1.626062),
    ('mmo_univariate', 1.419063),
    ('hill', 2.0),
    ('pickands', 1.197442),
    ('de_haan_resnick', 2.0),
    ('moment', 0.998416),
    ('max_ratio', 1.638669),
  ],
)
def test_published_protocol_values(estimator, expected):
  options = {'estimator': estimator, 'num_permutations': 0}
  with jax.enable_x64(True):
    capped, plain = (
      float(
        T.layer_protocol(jax.random.key(0), STUDENT.T, cap=cap, **options).alpha
      )
      for cap in (2.0, None)
    )
  np.testing.assert_allclose(capped, expected, atol=5e-7)
  assert (plain > 2) == (expected == 2)


# Block sums.


def _brute_mmo(x, block):
  scores = []
  for rows in x.reshape(-1, block, x.shape[1]):
    terms = [math.log(np.linalg.norm(row)) for row in rows]
    whole = math.log(np.linalg.norm(rows.sum(axis=0)))
    scores.append((whole - np.mean(terms)) / math.log(block))
  inverse = np.mean(scores)
  return 1 / inverse, stats.sem(scores) / inverse**2


@pytest.mark.parametrize('block', [2, 6, 15])
def test_mmo_against_loops(block):
  alpha, error = _brute_mmo(VECTORS, block)
  ours = T.mmo(VECTORS, block)
  _close(ours.alpha, alpha)
  _close(ours.standard_error, error, 1e-4)
  assert ours.num_used == 60 // block
  assert np.isnan(ours.p_value) == (block == 2)
  ours = T.mmo_univariate(VECTORS, block)
  _close(ours.alpha, _brute_mmo(VECTORS.reshape(-1, 1), block)[0])


def test_stability_test_of_mmo_is_a_t_test():
  # Of the slopes from 1 to 3 and from 3 to 15, in the normal limit.
  def logs(size):
    sums = VECTORS.reshape(-1, size, 3).sum(axis=1)
    return np.log(np.linalg.norm(sums, axis=1)).reshape(4, -1).mean(axis=1)

  change = (logs(15) - logs(3)) / math.log(5) - (logs(3) - logs(1)) / math.log(
    3
  )
  z = change.mean() / stats.sem(change)
  _close(T.mmo(VECTORS, 15).p_value, 2 * stats.norm.sf(abs(z)), 1e-4)


def test_default_block_is_a_square():
  x = VECTORS[:20]
  np.testing.assert_array_equal(T.mmo(x), T.mmo(x, 4))
  # 19 = 4 * 4 + 3: the last three are left out.
  np.testing.assert_array_equal(T.mmo(x[:19]), T.mmo(x[:16], 4))


def test_mmo_leaves_zero_vectors_out_of_the_means():
  x = VECTORS.copy()
  x[[3, 40]] = 0
  terms = np.delete(np.linalg.norm(x, axis=1), [3, 40])
  sums = np.linalg.norm(x.reshape(10, 6, 3).sum(axis=1), axis=1)
  inverse = (np.log(sums).mean() - np.log(terms).mean()) / math.log(6)
  _close(T.mmo(x, 6).alpha, 1 / inverse)


@pytest.mark.parametrize('scale', [1e-30, 1e30])
def test_estimates_are_free_of_scale(scale):
  x = VECTORS.astype(np.float32)
  for estimate in (
    lambda x: T.mmo(x, 6),
    lambda x: T.max_ratio(x, 6),
    lambda x: T.hill(x, 40),
    lambda x: T.moment(x, 40),
    lambda x: T.pickands(x, 40),
    T.power_law,
    T.stable_mle,
  ):
    _close(estimate(x * np.float32(scale)).alpha, estimate(x).alpha, 2e-4)


def test_max_ratio_against_numpy():
  blocks = np.sort(NUMBERS.reshape(40, 10), axis=1)
  ratios = blocks[:, -2] / blocks[:, -1]
  ours = T.max_ratio(NUMBERS, 10)
  mean = ratios.mean()
  _close(ours.alpha, mean / (1 - mean))
  _close(ours.standard_error, stats.sem(ratios) / (1 - mean) ** 2)


# Order statistics.


def test_hill_against_scipy():
  y = np.sort(NUMBERS)[::-1]
  ours = T.hill(-NUMBERS, 50)
  _close(ours.alpha, stats.pareto.fit(y[:50], floc=0, fscale=y[50])[0])
  _close(ours.standard_error, ours.alpha / math.sqrt(50))
  _close(ours.scale, y[50])
  law = stats.pareto(float(ours.alpha), scale=y[50])
  test = stats.kstest(y[:50], law.cdf)
  _close(ours.ks_distance, test.statistic)
  limit = special.kolmogorov(math.sqrt(50) * test.statistic)
  _close(ours.p_value, limit)


@pytest.mark.parametrize('statistic', [0.0, 0.1, 0.3, 0.8, 1.36, 3.0, 20.0])
def test_kolmogorov_limit_against_scipy(statistic):
  from htjax.tail_index.estimate import kolmogorov_p_value

  ours = kolmogorov_p_value(jnp.float32(statistic / 10), 100)
  np.testing.assert_allclose(ours, special.kolmogorov(statistic), atol=1e-6)


@pytest.mark.parametrize('alpha', [0.7, 1.5, 3.0])
def test_order_statistics_on_exact_quantiles(alpha):
  # y_{i+1} = (i/k)^(-1/alpha) is free of noise for i > 0.
  k = 4096
  y = np.append(2 * k, k / np.arange(1.0, k + 1)) ** (1 / alpha)
  with jax.enable_x64(True):
    _close(T.pickands(y, k).alpha, alpha, 1e-9)
    # Riemann sums of the logarithm err by about log(k) / k.
    _close(T.hill(y, k).alpha, alpha, 2 * math.log(k) / k)
    _close(T.moment(y, k).alpha, alpha, 20 * alpha * math.log(k) ** 2 / k)
    _close(T.de_haan_resnick(y, k).alpha, alpha, 1 / math.log(k))


def test_moment_against_numpy():
  y = np.sort(NUMBERS)[::-1]
  logs = np.log(y[:50] / y[50])
  first, second = logs.mean(), (logs**2).mean()
  inverse = first + 1 - 0.5 / (1 - first**2 / second)
  ours = T.moment(NUMBERS, 50)
  _close(ours.alpha, 1 / inverse, 1e-4)
  _close(
    ours.standard_error, math.sqrt((1 + inverse**2) / 50) / inverse**2, 1e-3
  )


def test_light_tails_are_not_clamped():
  x = np.random.default_rng(3).uniform(1, 2, 2000)
  # The extreme value index of the uniform law is -1.
  ours = T.moment(x, 500)
  assert abs(1 / ours.alpha + 1) < 0.3
  assert np.isnan(ours.standard_error)
  assert T.hill(x, 500).alpha > 2
  assert T.hill(x, 500).capped().alpha == 2


def test_both_conventions_are_named():
  ours = T.hill(NUMBERS, 50)
  assert ours.tail_index == ours.alpha
  assert ours.pdf_exponent == ours.alpha + 1


# Power laws.


@pytest.mark.parametrize('xmin', [1.3, 4.0])
def test_power_law_against_scipy(xmin):
  tail = np.array([v for v in NUMBERS if v >= xmin])
  ours = T.power_law(NUMBERS, xmin)
  _close(ours.alpha, stats.pareto.fit(tail, floc=0, fscale=xmin)[0])
  _close(ours.standard_error, ours.alpha / math.sqrt(tail.size))
  assert ours.num_used == tail.size
  law = stats.pareto(float(ours.alpha), scale=xmin)
  _close(ours.ks_distance, stats.kstest(tail, law.cdf).statistic, 1e-4)


def _brute_search(x, candidates):
  best = (math.inf, None)
  for xmin in candidates:
    tail = x[x >= xmin]
    alpha = tail.size / np.log(tail / xmin).sum()
    law = stats.pareto(alpha, scale=xmin)
    best = min(best, (stats.kstest(tail, law.cdf).statistic, xmin))
  return best


@pytest.mark.parametrize('ties', [False, True])
def test_search_is_exact_on_small_samples(ties):
  body = np.random.default_rng(4).uniform(0, 1.2, 200)
  x = np.concatenate([body, _pareto(5, 1.5, 150)])
  x = np.round(x, 1) if ties else x
  with jax.enable_x64(True):
    ours = T.power_law(x, min_tail=5)
  values = np.unique(x[x > 0])
  usable = [v for v in values if np.sum(x >= v) >= 5 and v < x.max()]
  distance, xmin = _brute_search(x, usable)
  _close(ours.scale, xmin, 1e-12)
  _close(ours.ks_distance, distance, 1e-9)


def test_fast_sort_equals_the_traced_one():
  jitted = jax.jit(T.power_law)(NUMBERS)
  for eager, traced in zip(T.power_law(NUMBERS), jitted, strict=True):
    _close(traced, eager)


def test_lognormal_ratio_against_scipy():
  x = np.random.default_rng(11).lognormal(0, 1, 500)
  tail = x[x >= 0.8]
  logs = np.log(tail)

  def loss(theta):
    mu, log_s = theta
    law = stats.norm(mu, math.exp(log_s))
    return -np.sum(law.logpdf(logs) - law.logsf(math.log(0.8)) - logs)

  best = optimize.minimize(
    loss, [0, 0], method='Nelder-Mead', options={'xatol': 1e-9, 'fatol': 1e-9}
  )
  alpha = tail.size / np.log(tail / 0.8).sum()
  power = stats.pareto(alpha, scale=0.8).logpdf(tail)
  mu, s = best.x[0], math.exp(best.x[1])
  other = (
    stats.norm(mu, s).logpdf(logs)
    - stats.norm(mu, s).logsf(math.log(0.8))
    - logs
  )
  with jax.enable_x64(True):
    ours = T.power_law_against(x, 'lognormal', xmin=0.8)
  _close(ours.log_ratio, np.sum(power - other), 1e-6)
  statistic = np.sum(power - other) / (
    math.sqrt(tail.size) * np.std(power - other)
  )
  _close(ours.statistic, statistic, 1e-4)
  _close(ours.p_value, 2 * stats.norm.sf(abs(statistic)), 1e-3)


def test_exponential_ratio_against_scipy():
  x = np.random.default_rng(12).exponential(1, 500) + 1
  scale = np.mean(x) - 1
  power = stats.pareto(500 / np.log(x).sum()).logpdf(x)
  other = stats.expon(1, scale).logpdf(x)
  with jax.enable_x64(True):
    ours = T.power_law_against(x, 'exponential', xmin=1.0)
  _close(ours.log_ratio, np.sum(power - other), 1e-9)
  assert float(ours.log_ratio) < 0
  assert float(ours.p_value) < 0.01


# The stable law.


def _stable_loss(x):
  """Minus the log-likelihood, by Fourier inversion on a fine grid."""
  t = np.linspace(0, 60, 30001)

  def loss(theta):
    alpha, log_scale = theta
    if not 0.6 < alpha < 2:
      return math.inf
    decay = np.exp(-(t**alpha))
    z = np.abs(x) / math.exp(log_scale)
    density = np.trapezoid(np.cos(t[None, :] * z[:, None]) * decay[None, :], t)
    return x.size * log_scale - np.sum(np.log(density / math.pi))

  return loss


def _small_among_large():
  """Numbers for which full steps of the search go to and fro for ever."""
  x = np.random.default_rng(3).uniform(-1, 1, 150)
  return np.where(np.arange(150) < 90, x / 10, x)


@pytest.mark.parametrize(
  'x',
  [np.random.default_rng(15).standard_t(1.7, 150), _small_among_large()],
  ids=['heavy', 'not stable'],
)
def test_stable_fit_against_fourier_inversion(x):
  ours = T.stable_mle(x, num_nodes=1024)
  a, s = float(ours.alpha), math.log(float(ours.scale))
  # Slope and curvature of the oracle there: one step to its minimum.
  h, f = 0.01, _stable_loss(x)
  by = {
    (i, j): f((a + i * h, s + j * h)) for i in (-1, 0, 1) for j in (-1, 0, 1)
  }
  slope = [by[1, 0] - by[-1, 0], by[0, 1] - by[0, -1]]
  aa = (by[1, 0] - 2 * by[0, 0] + by[-1, 0]) / h**2
  ss = (by[0, 1] - 2 * by[0, 0] + by[0, -1]) / h**2
  as_ = (by[1, 1] - by[1, -1] - by[-1, 1] + by[-1, -1]) / (4 * h**2)
  step = np.linalg.solve([[aa, as_], [as_, ss]], np.divide(slope, 2 * h))
  # The grid of the oracle leaves 1e-4, a thousandth of the standard error.
  _close(a, a - step[0], 1e-3)
  _close(ours.scale, math.exp(s - step[1]), 1e-3)
  assert aa * ss > as_**2
  _close(ours.standard_error, (aa - as_**2 / ss) ** -0.5, 0.02)


# Shapes, programs and faults.


@pytest.mark.parametrize(
  'estimate',
  [
    lambda x: T.mmo_univariate(x, 4),
    lambda x: T.max_ratio(x, 4),
    lambda x: T.hill(x, 12),
    lambda x: T.moment(x, 12),
    lambda x: T.pickands(x, 12),
    lambda x: T.de_haan_resnick(x, 12),
    lambda x: T.power_law(x, 0.5),
    T.power_law,
    pytest.param(T.stable_mle, marks=pytest.mark.slow),
  ],
)
def test_vmap_equals_a_loop_and_traced_nan_is_nan(estimate):
  x = jnp.asarray(VECTORS.T, jnp.float32)
  together = jax.vmap(estimate)(x.at[2, 5].set(jnp.nan))
  for i in range(2):
    alone = estimate(x[i])
    for a, b in zip(together, alone, strict=True):
      _close(a[i], b, 2e-3)
  assert np.isnan(together.alpha[2])
  assert np.isnan(together.standard_error[2])


def test_no_recompilation_over_xmin():
  fit = jax.jit(chex.assert_max_traces(T.power_law, n=1))
  for xmin in (1.1, 1.5, 2.0):
    assert np.isfinite(fit(NUMBERS, xmin).alpha)


@pytest.mark.parametrize('xmin', [0.0, -1.0, 1e9, np.nan])
def test_traced_bad_xmin_is_nan(xmin):
  assert np.isnan(jax.jit(T.power_law)(NUMBERS, xmin).alpha)


NAN = np.append(NUMBERS, np.nan)
ESTIMATORS = {
  'mmo': lambda x: T.mmo(np.stack([x, x], axis=1)),
  'mmo_univariate': T.mmo_univariate,
  'max_ratio': T.max_ratio,
  'hill': lambda x: T.hill(x, 20),
  'moment': lambda x: T.moment(x, 20),
  'pickands': lambda x: T.pickands(x, 20),
  'de_haan_resnick': lambda x: T.de_haan_resnick(x, 20),
  'power_law': T.power_law,
  'stable_mle': T.stable_mle,
}


@pytest.mark.parametrize('name', ESTIMATORS)
@pytest.mark.parametrize(
  ('x', 'message'),
  [
    (NAN, 'must be finite, got NaN or infinity'),
    (np.append(NUMBERS, -np.inf), 'must be finite, got NaN or infinity'),
    (np.zeros(50), r'must not be constant, got only \+-0'),
    (np.full(50, -3.0), r'must not be constant, got only \+-3'),
    (NUMBERS[:3], 'must have at least'),
    (NUMBERS * 1j, 'must be real, got dtype complex'),
  ],
)
def test_bad_samples(name, x, message):
  with pytest.raises(ValueError, match=f'x {message}'):
    ESTIMATORS[name](x)


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: T.mmo(NUMBERS, 4), r'x must be of shape \[K, d\]'),
    (lambda: T.mmo(VECTORS, 7), 'block must divide the number of samples, 60'),
    (lambda: T.mmo(VECTORS, 60), 'at least twice, got 60'),
    (lambda: T.mmo(VECTORS, 1), 'block must be an integer >= 2, got 1'),
    (lambda: T.hill(NUMBERS, 0), 'num_top must be an integer >= 1, got 0'),
    (lambda: T.hill(NUMBERS, 400), 'x must have at least 401 samples'),
    (
      lambda: T.hill(np.append(np.zeros(50), NUMBERS[:5]), 10),
      'x has too many equal or zero values',
    ),
    (
      lambda: T.hill(np.append(np.ones(50), 0.5), 10),
      'x has too many equal or zero values',
    ),
    (lambda: T.power_law(NUMBERS, 0.0), r'xmin must lie in \(0, inf\)'),
    (lambda: T.power_law(NUMBERS, 1e9), 'x has too many'),
    (lambda: T.power_law(NUMBERS, min_tail=1), 'min_tail must be an integer'),
    (
      lambda: T.power_law_against(NUMBERS, 'gamma'),
      "alternative must be one of 'exponential', 'lognormal'",
    ),
    (
      lambda: T.power_law_p_value(jax.random.key(8), NUMBERS, 0),
      'num_draws must be an integer >= 1',
    ),
    (lambda: T.power_law_p_value(0, NUMBERS), 'key must be a typed key'),
    (
      lambda: T.power_law_standard_error(jax.random.key(8), NUMBERS, 1),
      'num_draws must be an integer >= 2',
    ),
    (
      lambda: T.power_law_standard_error(jax.random.key(8), NUMBERS[:8]),
      'x must have at least 10 samples',
    ),
    (lambda: T.power_law_standard_error(0, NUMBERS), 'key must be a typed key'),
    (lambda: T.stable_mle(NUMBERS, num_nodes=8), 'num_nodes must be'),
    (lambda: T.layer_samples(NUMBERS), 'leaf must be of rank 2 or more'),
    (lambda: T.layer_samples(VECTORS, 'rows'), 'samples must be one of'),
    (
      lambda: T.layer_protocol(jax.random.key(9), VECTORS, estimator='mle'),
      'estimator must be one of',
    ),
    (lambda: T.layer_table({}, key=jax.random.key(10)), 'at least one leaf'),
    (
      lambda: T.layer_table({'b': np.ones(3)}, key=jax.random.key(11)),
      'select must choose at least one leaf',
    ),
    (
      lambda: T.layer_table({'w': VECTORS}, key=jax.random.key(12), num_top=1),
      'num_top must be an integer >= 2',
    ),
  ],
)
def test_bad_arguments(call, message):
  with pytest.raises(ValueError, match=message):
    call()


# Layers.


def test_vectors_of_a_layer():
  w = np.random.default_rng(20).standard_normal((3, 5)).astype(np.float32)
  _close(T.layer_samples(w), w.T - np.median(w, axis=1)[None, :])
  _close(T.layer_samples(w, 'inputs'), w - np.median(w, axis=0)[None, :])
  conv = np.random.default_rng(21).standard_normal((3, 2, 4, 5))
  kernels = np.stack(
    [conv[:, :, i, o].ravel() for o in range(5) for i in range(4)]
  )
  expected = kernels - np.median(kernels, axis=0)[None, :]
  _close(T.layer_samples(conv), expected, 1e-4)


def test_protocol_is_a_median_over_permutations():
  x = np.random.default_rng(22).standard_cauchy((8, 64)).astype(np.float32)
  ours = T.layer_protocol(jax.random.key(13), x, num_permutations=3)
  values = []
  for i in range(3):
    key = jax.random.fold_in(jax.random.key(13), i)
    rows = jax.random.permutation(key, T.layer_samples(x))
    values.append(
      np.median([T.mmo(rows, b).alpha for b in T.protocol_blocks(64)])
    )
  _close(ours.alpha, np.median(values))
  assert len(set(values)) == 3


def test_protocol_of_the_text_is_one_block_size():
  x = np.random.default_rng(23).standard_cauchy((8, 96)).astype(np.float32)
  ours = T.layer_protocol(jax.random.key(0), x, protocol='paper')
  # 8 is the largest divisor of 96 up to its root.
  _close(ours.alpha, T.mmo(T.layer_samples(x), 8).alpha)
  authors = T.layer_protocol(jax.random.key(0), x)
  assert abs(float(ours.alpha - authors.alpha)) > 1e-3
  with pytest.raises(ValueError, match="protocol must be one of 'paper'"):
    T.layer_protocol(jax.random.key(0), x, protocol='program')


def test_published_pruning_ratios():
  with jax.enable_x64(True):
    kept = float(smallest_kappa(T.layer_samples(STUDENT.T), 0.1))
  assert 1 - kept == pytest.approx(0.600655, abs=5e-7)


@pytest.mark.slow
def test_table_of_a_published_layer():
  (row,) = T.layer_table({'w': STUDENT.T}, key=jax.random.key(14))
  assert row['rel_err_0.1'] == pytest.approx(0.600655, abs=2e-5)
  assert row['sq_mass_0.1'] == pytest.approx(1034 / 2048, abs=1e-6)
  s = np.linalg.svd(STUDENT, compute_uv=False)
  assert row['stable_rank'] == pytest.approx(np.sum(s**2) / s[0] ** 2, rel=1e-4)
  centred = T.layer_samples(STUDENT.T)
  assert row['mmo'] == pytest.approx(float(T.mmo(centred).alpha))
  entries = centred - jnp.median(centred)
  fit = T.stable_mle(entries)
  assert row['stable_mle'] == pytest.approx(float(fit.alpha))
  assert row['stable_mle_se'] == pytest.approx(float(fit.standard_error))
  assert row['stable_ks'] == pytest.approx(float(fit.ks_distance))
  assert row['shape'] == '64x2048'
  assert row['num_vectors'] == 2048
  assert row['note'] == ''


def test_table_of_a_model():
  model = nnx.Sequential(
    nnx.Linear(10, 256, rngs=nnx.Rngs(0)), nnx.Linear(256, 10, rngs=nnx.Rngs(1))
  )
  state = nnx.state(model, nnx.Param)
  rows = T.layer_table(state, key=jax.random.key(15))
  # The last layer has few units: its inputs are the vectors.
  assert [row['num_vectors'] for row in rows] == [256, 256]
  flat = {
    row['layer']: model.layers[i].kernel[...] for i, row in enumerate(rows)
  }
  again = T.layer_table(
    flat, key=jax.random.key(15), inputs=dict.fromkeys(flat, False)
  )
  assert [row['layer'] for row in again] == [row['layer'] for row in rows]
  assert again[1]['num_vectors'] == 10
  assert again[0]['mmo'] == rows[0]['mmo']
  assert 'at least 16 samples, got 10' in again[1]['note']
  cells = [list(row.values()) for row in rows]
  assert rows[0]['layer'] in records.table(list(rows[0]), cells)


def test_degenerate_layers_have_a_reason():
  degenerate = {
    'must not be constant, got only 0': np.zeros((4, 5)),
    'must not be constant, got only 2': np.full((4, 5), 2.0),
    'must be finite': np.full((4, 5), np.nan),
    'must not be empty': np.zeros((0, 5)),
    'must have at least 4 samples': np.eye(3),
    'x has too many equal or zero values': np.eye(64),
  }
  good = np.random.default_rng(23).standard_normal((20, 30))
  model = {f'{i}': leaf for i, leaf in enumerate(degenerate.values())}
  *bad, row = T.layer_table(model | {'good': good}, key=jax.random.key(16))
  for note, found in zip(degenerate, bad, strict=True):
    assert note in found['note']
    assert list(found) == list(row)
  assert np.isfinite(row['hill'])


# Counts.


COUNTS = np.random.default_rng(1).zipf(2.5, 300)


def discrete_fit(x, xmin):
  """(alpha, standard error, distance) by SciPy's zeta, in float64."""
  tail = x[x >= xmin]
  mean = np.log(tail).mean()

  def loss(s):
    return s * mean + np.log(special.zeta(s, xmin))

  s = optimize.minimize_scalar(
    loss, bounds=(1.01, 30), method='bounded', options={'xatol': 1e-9}
  ).x
  h = 1e-3
  information = (loss(s + h) - 2 * loss(s) + loss(s - h)) / h**2
  at = np.arange(xmin, tail.max() + 1)
  law = 1 - special.zeta(s, at + 1) / special.zeta(s, xmin)
  empirical = (tail[None] <= at[:, None]).mean(axis=1)
  distance = np.abs(law - empirical).max()
  return s - 1, 1 / math.sqrt(tail.size * information), distance


@pytest.mark.parametrize('xmin', [1, 2, 6])
def test_power_law_of_counts_against_scipy(xmin):
  ours = T.power_law(COUNTS, xmin)
  alpha, error, distance = discrete_fit(COUNTS, xmin)
  # A log alpha to the last bisection, and a second difference to h^2.
  assert float(ours.alpha) == pytest.approx(alpha, rel=2e-5)
  assert float(ours.standard_error) == pytest.approx(error, rel=1e-4)
  assert float(ours.ks_distance) == pytest.approx(distance, abs=2e-6)
  assert ours.num_used == (xmin <= COUNTS).sum()


def test_start_of_counts_is_the_closest_of_all():
  ours = T.power_law(COUNTS)
  starts = [q for q in np.unique(COUNTS) if (q <= COUNTS).sum() >= 10]
  fits = {q: discrete_fit(COUNTS, q) for q in starts}
  best = min(fits, key=lambda q: fits[q][2])
  assert ours.scale == best
  assert float(ours.alpha) == pytest.approx(fits[best][0], rel=2e-5)


KINDS_OF_COUNTS = {
  'list': lambda: (COUNTS.tolist(), {'discrete': True}),
  'floats': lambda: (COUNTS.astype(float), {'discrete': True}),
  'uint8': lambda: (np.minimum(COUNTS, 255).astype(np.uint8), {}),
  'int64, big-endian': lambda: (COUNTS.astype('>i8'), {}),
  'jax': lambda: (jnp.asarray(COUNTS, jnp.int32), {}),
  'a start between numbers': lambda: (COUNTS, {'xmin': 0.5}),
  'signs and zeros': lambda: (np.r_[-COUNTS, np.zeros(5, int)], {}),
}


@pytest.mark.parametrize('kind', KINDS_OF_COUNTS)
def test_counts_are_known_by_their_dtype(kind):
  x, options = KINDS_OF_COUNTS[kind]()
  ours = T.power_law(x, **{'xmin': 1, **options})
  expected = discrete_fit(np.abs(np.asarray(x, int)), 1)[0]
  assert float(ours.alpha) == pytest.approx(expected, rel=2e-5)
  assert ours.scale == 1


def test_numbers_without_a_dtype_are_no_counts():
  x = COUNTS.tolist()
  expected = len(x) / np.log(x).sum()
  assert float(T.power_law(x, 1).alpha) == pytest.approx(expected, rel=1e-5)
  # To which the density is no approximation.
  assert expected > 2 * discrete_fit(COUNTS, 1)[0]
  with pytest.raises(ValueError, match='x must be whole numbers'):
    T.power_law([1.0, 2.5] * 10, 1, discrete=True)
  with pytest.raises(ValueError, match='discrete must be True or False'):
    T.power_law(x, 1, discrete='yes')


def test_large_counts_are_as_good_as_continuous():
  x = (1e7 * (1 + np.random.default_rng(2).pareto(1.5, 300))).astype(np.int64)
  ours, other = T.power_law(x, 10**7), T.power_law(x, 1e7, discrete=False)
  # The densities differ by about 1 / xmin.
  assert float(ours.alpha) == pytest.approx(float(other.alpha), rel=2e-5)


def test_log_zeta_against_scipy():
  s = np.array([1.0001, 1.5, 2.5, 4.0, 10.0, 30.0])[:, None]
  q = np.array([1.0, 2.0, 7.0, 100.0])
  expected = np.log(special.zeta(s, q)) + s * np.log(q)
  with jax.enable_x64(True):
    ours = log_zeta(jnp.asarray(s), jnp.asarray(q))
  np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-14)


def test_a_prime_number_of_units():
  """The last is left out, since none divides their number."""
  leaf = stable.sample(jax.random.key(11), 1.7, (30, 13))
  prime = T.layer_protocol(jax.random.key(12), leaf, num_permutations=0)
  # Vectors are centred by the medians of all.
  vectors = T.layer_samples(leaf)[:12]
  rest = [float(T.mmo(vectors, b).alpha) for b in T.protocol_blocks(12)]
  assert int(prime.num_used) == 12
  np.testing.assert_allclose(prime.alpha, np.median(rest), rtol=1e-5)
