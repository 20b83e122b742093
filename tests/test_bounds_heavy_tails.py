"""Bounds by perturbation and covering, against measured changes and algebra."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from htjax import compressibility, stable
from htjax.bounds import binomial, gaussian_compression, heavy_tails

MARGINS = np.linspace(0.1, 50.0, 60_000)
ARGUMENTS = {
  'radius': 3.0,
  'kappa': 0.1,
  'epsilon': 0.2,
  'tau': 0.5,
  'delta': 0.01,
  'input_norm': 2.0,
  'num_layers': 3,
  'num_weights': 10_000,
}
STABLE = {
  'alphas': [1.7, 1.9],
  'scales': [1e-6, 2e-6],
  'layer_sizes': [2000, 500],
  'kappas': 0.1,
  'epsilon': 0.1,
  'tau': 0.5,
  'input_norm': 1.0,
}


def random_layers(seed, widths=(8, 12, 10, 3)):
  rng = np.random.default_rng(seed)
  return [
    rng.standard_normal(s) / math.sqrt(s[0]) for s in itertools.pairwise(widths)
  ]


def outputs(layers, x):
  for w in layers[:-1]:
    x = np.maximum(x @ w, 0)
  return x @ layers[-1]


def sizes(layers, order=None):
  return np.array([np.linalg.norm(w, order) for w in layers])


def log_excess(bound):
  """All but the empirical term."""
  rest = [v for k, v in bound.terms.items() if k != 'empirical']
  return np.logaddexp.reduce(rest)


@pytest.mark.parametrize('scale', [1e-6, 1e-2, 0.5])
@pytest.mark.parametrize('order', [None, 2])
def test_output_change_dominates_measurement(scale, order):
  for seed in range(20):
    layers = random_layers(seed)
    moves = [scale * w for w in random_layers(100 + seed)]
    x = np.random.default_rng(seed).standard_normal((30, 8))
    moved = [w + m for w, m in zip(layers, moves, strict=True)]
    change = np.linalg.norm(outputs(moved, x) - outputs(layers, x), axis=1)
    size = np.linalg.norm(x, axis=1).max()
    bound = heavy_tails.output_change(
      sizes(layers, order), sizes(moves, order), input_norm=size
    )
    assert change.max() <= bound.value
    # The closed form, directly.
    direct = np.prod(sizes(layers, order) + sizes(moves, order))
    direct = size * (direct - np.prod(sizes(layers, order)))
    assert bound.value == pytest.approx(direct, rel=1e-8)


def test_output_change_is_attained():
  """One unit per layer and positive weights: nothing is lost."""
  layers = [np.array([[2.0]]), np.array([[3.0]]), np.array([[0.5]])]
  moved = [1.25 * w for w in layers]
  x = np.array([[4.0]])
  bound = heavy_tails.output_change(
    sizes(layers), 0.25 * sizes(layers), input_norm=4.0
  )
  assert bound.value == pytest.approx(
    (outputs(moved, x) - outputs(layers, x)).item(), rel=1e-12
  )
  still = heavy_tails.output_change(sizes(layers), 0.0, input_norm=4.0)
  assert still.value == 0
  # From a layer that was zero, the whole product is the change.
  fresh = heavy_tails.output_change([0.0, 2.0], [1.0, 0.0], input_norm=1.0)
  assert fresh.value == pytest.approx(2)


def test_change_within_a_radius():
  for seed in range(20):
    layers = random_layers(seed)
    radius = math.sqrt(np.sum(sizes(layers) ** 2))
    change = 0.3 * radius / math.sqrt(3)
    moves = random_layers(50 + seed)
    moves = [m * change / np.linalg.norm(m) for m in moves]
    x = np.random.default_rng(seed).standard_normal((30, 8))
    moved = [w + m for w, m in zip(layers, moves, strict=True)]
    measured = np.linalg.norm(outputs(moved, x) - outputs(layers, x), axis=1)
    size = np.linalg.norm(x, axis=1).max()
    bound = heavy_tails.radius_output_change(
      radius, num_layers=3, change=change, input_norm=size
    )
    assert bound.valid
    assert measured.max() <= bound.value
    pruned = [
      np.asarray(compressibility.best_k(w, w.size // 2)) for w in layers
    ]
    gaps = [w - v for w, v in zip(layers, pruned, strict=True)]
    epsilon = np.max(sizes(gaps) / sizes(layers))
    bound = heavy_tails.relative_output_change(
      radius, num_layers=3, epsilon=epsilon, input_norm=size
    )
    measured = np.linalg.norm(outputs(pruned, x) - outputs(layers, x), axis=1)
    assert measured.max() <= bound.value
  outside = heavy_tails.radius_output_change(
    1.0, num_layers=4, change=0.6, input_norm=1.0
  )
  assert not outside.valid


def test_spectral_change_dominates_and_needs_its_premise():
  for seed in range(20):
    layers = random_layers(seed)
    x = np.random.default_rng(seed).standard_normal((30, 8))
    size = np.linalg.norm(x, axis=1).max()
    spectral = sizes(layers, 2)
    moves = random_layers(30 + seed)
    moves = [
      m * a / 3 / np.linalg.norm(m, 2)
      for m, a in zip(moves, spectral, strict=True)
    ]
    moved = [w + m for w, m in zip(layers, moves, strict=True)]
    measured = np.linalg.norm(outputs(moved, x) - outputs(layers, x), axis=1)
    # A hair less than |A| / L, which rounding may have passed.
    changes = np.minimum(sizes(moves, 2), spectral / 3)
    bound = gaussian_compression.spectral_output_change(
      spectral, changes, input_norm=size
    )
    assert bound.valid
    assert measured.max() <= bound.value
    direct = math.e * size * np.prod(spectral) * np.sum(changes / spectral)
    assert bound.value == pytest.approx(direct)
  # One unit per layer, each moved by 9 times itself: 10^3 - 1 > e 27.
  far = gaussian_compression.spectral_output_change(
    np.ones(3), 9 * np.ones(3), input_norm=1.0
  )
  assert not far.valid
  assert far.value < 10**3 - 1


def test_overflow_stays_finite_in_logarithms():
  bound = heavy_tails.output_change(
    np.full(80, 1e10), np.full(80, 1e3), input_norm=1.0
  )
  assert bound.value == math.inf
  # (1 + 1e-7)^80 - 1.
  expected = 800 * math.log(10) + math.log(math.expm1(80 * math.log1p(1e-7)))
  assert bound.log_value == pytest.approx(expected, rel=1e-12)
  risk = heavy_tails.compressed_risk(
    MARGINS, **(ARGUMENTS | {'radius': 1e12, 'num_layers': 60})
  )
  assert risk.value == math.inf
  assert math.isfinite(risk.log_value)
  assert risk.terms['empirical'] == 0  # every margin is below gamma


def test_norm_quantile():
  norms = np.arange(1.0, 101.0)
  # At most one of a hundred runs at or above R: infimum 99.
  assert heavy_tails.norm_quantile(norms, 0.01) == 99
  assert heavy_tails.norm_quantile(norms, 0.009) == 100
  assert heavy_tails.norm_quantile(norms, 0.5) == 50
  for delta in (0.009, 0.01, 0.25):
    radius = heavy_tails.norm_quantile(norms, delta)
    assert np.mean(norms >= radius + 1e-9) <= delta
    assert np.mean(norms >= radius - 1e-9) > delta


def test_kept_fraction_and_entropy_excess():
  assert heavy_tails.kept_fraction([10, 30], [0.25, 0.5]) == 18 / 40
  # 0.1 * 30 is above 3 in floating point.
  assert heavy_tails.kept_fraction([30], 0.1) == 0.1
  # kappa + epsilon_kappa at n = 50,000.
  for kappa, value in [(0.01, 0.0246), (0.05, 0.1005), (0.3, 0.4463)]:
    total = kappa + heavy_tails.entropy_excess(kappa, 50_000)
    assert total == pytest.approx(value, abs=5e-5)
  assert heavy_tails.entropy_excess(1.0, 100) == 0
  assert heavy_tails.entropy_excess(0.0, 100) == 0


def test_volume_factor():
  for epsilon in (0.01, 0.3):
    assert heavy_tails.volume_factor(epsilon, 0.0, 100) == pytest.approx(
      epsilon
    )
    assert heavy_tails.volume_factor(epsilon, 1.0, 100) == 1
    previous = 0.0
    for kappa in np.arange(0, 101, 2) / 100:
      rho = heavy_tails.volume_factor(epsilon, kappa, 100)
      # Even d and kappa d: h_b^(1) = h_b / 2.
      entropy = special.entr(kappa) + special.entr(1 - kappa)
      direct = epsilon ** (1 - kappa) * math.exp(1.5 * entropy)
      assert rho == pytest.approx(min(direct, 1), rel=1e-12)
      assert rho <= min(3 * epsilon ** (1 - kappa), 1)
      assert rho >= previous
      previous = rho


def test_binomial_and_gamma_bounds():
  for n in (1, 2, 7, 30, 200):
    for m in range(n + 1):
      bound = heavy_tails.log_binomial_bound(n, m)
      assert binomial.log_coefficient(n, m) <= bound + 1e-9
  for n in range(10, 80):
    for m in range(n + 1):
      assert gamma_ratio(n, m) <= heavy_tails.log_gamma_ratio_bound(n, m) + 1e-9
  # Below the premise it may fail.
  assert gamma_ratio(2, 1) > heavy_tails.log_gamma_ratio_bound(2, 1)


def gamma_ratio(n, m):
  return (
    math.lgamma(n / 2 + 1)
    - math.lgamma(m / 2 + 1)
    - math.lgamma((n - m) / 2 + 1)
  )


def test_coverings():
  sparse = heavy_tails.log_covering_sparse(
    100, 0.1, radius=2.0, resolution=0.01
  )
  # At least as many supports, times grids of ten dimensions.
  assert sparse >= binomial.log_coefficient(100, 10) + 10 * math.log(600)
  near = heavy_tails.log_covering_compressible(
    100, 0.1, epsilon=0.1, radius=2.0, resolution=0.01
  )
  rho = heavy_tails.volume_factor(0.1, 0.1, 100)
  assert near == pytest.approx(100 * math.log(600 * rho))
  with pytest.raises(ValueError, match='resolution'):
    heavy_tails.log_covering_compressible(
      100, 0.1, epsilon=0.1, radius=2.0, resolution=0.2
    )
  with pytest.raises(ValueError, match='num_weights'):
    heavy_tails.log_covering_compressible(
      9, 0.1, epsilon=0.1, radius=2.0, resolution=0.01
    )


@pytest.mark.parametrize('num_layers', [2, 5, 20])
def test_premise_on_samples_bounds_the_covering_radius(num_layers):
  """n / ln n >= 10 L gives u <= R / sqrt(L), at the first n allowed too."""
  n = 2
  while n / math.log(n) < 10 * num_layers:
    n += 1
  kappas = np.linspace(0, 1, 201)
  total = [k + heavy_tails.entropy_excess(k, n) for k in kappas]
  assert max(total) < 10 / 9
  radii = [heavy_tails.covering_radius(1.0, k, n) for k in kappas]
  assert max(radii) <= num_layers**-0.5
  if num_layers == 2:
    assert n == 90
    assert max(total) == pytest.approx(1.069, abs=5e-4)
  # And the constant 10 is not far from needed.
  assert max(radii) > 0.9 * num_layers**-0.5


@pytest.mark.parametrize('n', [16, 90, 60_000])
def test_exponent_of_the_union_bound(n):
  for kappa in (1e-4, 0.01, 0.3, 0.99, 1.0):
    exponent = heavy_tails.concentration_exponent(
      kappa, num_weights=1000, num_samples=n
    )
    assert exponent <= -kappa * 1000 / 2
    # Line by line as in (S30), for some Lipschitz constant and radius.
    slope, radius = 7.0, 2.0
    size = 12 * slope * radius
    a = size / (size + math.sqrt(1000))
    excess = heavy_tails.entropy_excess(kappa, n)
    c1 = (size + math.sqrt(1000)) / math.sqrt(1000)
    length = c1 * math.sqrt((kappa + excess) * 1000 * math.log(n) / n)
    entropy = special.entr(kappa) + special.entr(1 - kappa)
    direct = -n * length**2 * (1 - a) ** 2 / 2 + 1000 * entropy
    direct += kappa * 1000 * math.log(size / (a * length))
    assert exponent == pytest.approx(direct, rel=1e-9)
    resolution = heavy_tails.covering_radius(radius, kappa, n)
    assert resolution == pytest.approx(a * length / (4 * slope), rel=1e-12)
  # Below n = e^e the last line is no longer enough.
  assert (
    heavy_tails.concentration_exponent(1.0, num_weights=1000, num_samples=15)
    > -500
  )


def test_compressed_risk_by_hand():
  bound = heavy_tails.compressed_risk(MARGINS, **ARGUMENTS)
  n, radius = MARGINS.size, 3.0
  slope = math.sqrt(2) * 2 * 3 * (2 * radius / math.sqrt(3)) ** 2 / 0.5
  excess = heavy_tails.entropy_excess(0.1, n)
  rate = math.sqrt((0.1 + excess) * math.log(n) / n)
  gamma = 0.5 + math.sqrt(2) * 2 * (radius / math.sqrt(3)) ** 3 * (1.2**3 - 1)
  empirical = np.mean(gamma >= MARGINS)
  value = empirical + (12 * slope * radius + 100) * rate
  assert bound.value == pytest.approx(value, rel=1e-12)
  assert bound.log_value == pytest.approx(math.log(value))
  assert sum(map(math.exp, bound.terms.values())) == pytest.approx(value)
  assert math.exp(bound.details['log_margin']) == pytest.approx(gamma)
  assert bound.failure == pytest.approx(0.01)
  assert bound.valid
  names = [a.name for a in bound.assumptions]
  assert names == [
    *('enough samples', 'compressible', 'fixed margin'),
    'confidence',
  ]


def test_dimension_term_at_published_size():
  """FCN4 on MNIST at kappa 0.01: 7.97 from sqrt(d) alone."""
  bound = heavy_tails.compressed_risk(
    MARGINS,
    **(ARGUMENTS | {'kappa': 0.01, 'num_weights': 14_209_024}),
  )
  assert math.exp(bound.terms['dimension']) == pytest.approx(7.97, abs=0.005)


def test_printed_margin_is_unsafe():
  """With tau > 1 a pruned network errs where the printed margin says not."""
  arguments = ARGUMENTS | {'tau': 4.0, 'num_layers': 2, 'epsilon': 0.5}
  arguments |= {'radius': 3.0, 'input_norm': 1.0}
  right = heavy_tails.compressed_risk(MARGINS, **arguments)
  paper = heavy_tails.compressed_risk(MARGINS, **arguments, variant='paper')
  assert paper.details['log_margin'] < right.details['log_margin']
  shift = math.exp(right.details['log_margin']) - 4
  assert math.exp(paper.details['log_margin']) - 4 == pytest.approx(shift / 4)
  # One hidden unit, outputs (s, -s): the margin 2 s really moves by more.
  side = 3 / math.sqrt(2)
  first, second = np.array([[side]]), np.array([[side, -side]]) / math.sqrt(2)
  output = outputs([first, second], np.ones((1, 1)))[0]
  moved = outputs([1.5 * first, 1.5 * second], np.ones((1, 1)))[0]
  move = (moved[0] - moved[1]) - (output[0] - output[1])
  assert move == pytest.approx(shift)
  assert move > shift / 4


def test_uncompressed_risk():
  found = {
    v: heavy_tails.uncompressed_risk(MARGINS, **ARGUMENTS, variant=v)
    for v in ('corrected', 'paper', 'sharp')
  }
  n, d, radius = MARGINS.size, 10_000, 3.0
  slope = math.sqrt(2) * 2 * 3 * (2 * radius / math.sqrt(3)) ** 2 / 0.5
  rho = heavy_tails.volume_factor(0.2, 0.1, d)
  empirical = np.mean(MARGINS <= 0.5)
  factor = max(2, 24 * rho * slope * radius / math.sqrt(d))
  expected = empirical + factor * math.sqrt(d * math.log(n) / n)
  assert found['corrected'].value == pytest.approx(expected, rel=1e-12)
  assert found['paper'].value == found['corrected'].value
  assert found['sharp'].value < found['corrected'].value
  factor = 12 * rho * slope * radius / math.sqrt(d) + 1
  expected = empirical + factor * math.sqrt(d * math.log(n) / n)
  assert found['sharp'].value == pytest.approx(expected, rel=1e-12)
  small = ARGUMENTS | {'num_weights': 11}
  assert heavy_tails.uncompressed_risk(MARGINS, **small, variant='paper').valid
  assert not heavy_tails.uncompressed_risk(MARGINS, **small).valid


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 0.99), st.floats(1e-3, 0.99), st.floats(0.01, 0.99))
def test_penalties_increase_with_kappa(first, second, epsilon):
  low, high = sorted((first, second))
  small = ARGUMENTS | {'kappa': low, 'epsilon': epsilon}
  large = ARGUMENTS | {'kappa': high, 'epsilon': epsilon}
  before, after = (
    log_excess(heavy_tails.compressed_risk(MARGINS, **a))
    for a in (small, large)
  )
  assert before <= after + 1e-12
  # rho rounds kappa d / 2 to an integer, by which h_b moves this much at most.
  step = 2 / ARGUMENTS['num_weights']
  slack = special.entr(step) + special.entr(1 - step)
  before, after = (
    log_excess(heavy_tails.uncompressed_risk(MARGINS, **a))
    for a in (small, large)
  )
  assert before <= after + slack


def test_penalty_does_not_increase_up_to_one():
  """kappa + epsilon_kappa has its maximum just below 1, and is above 1 there.

  At n = 60,000 the slope 1 + (2 ln((1 - k) / k) - ln k - 1) / ln n changes sign
  between 0.99 and 0.995.
  """
  excess = [
    log_excess(
      heavy_tails.compressed_risk(MARGINS, **(ARGUMENTS | {'kappa': kappa}))
    )
    for kappa in (0.99, 0.995, 0.999, 1.0)
  ]
  assert excess[3] < excess[2] < excess[1]


@settings(max_examples=40, deadline=None)
@given(st.floats(1.01, 3.0))
def test_monotone_in_each_number(factor):
  reference = log_excess(heavy_tails.compressed_risk(MARGINS, **ARGUMENTS))
  for name, sign in [('radius', 1), ('input_norm', 1), ('tau', -1)]:
    changed = ARGUMENTS | {name: ARGUMENTS[name] * factor}
    new = log_excess(heavy_tails.compressed_risk(MARGINS, **changed))
    assert sign * (new - reference) > 0, name
  fewer = log_excess(heavy_tails.compressed_risk(MARGINS[::3], **ARGUMENTS))
  assert fewer > reference


def test_normalized_scale():
  for alpha, value in [(1.2, 2.4967), (1.5, 2.2354), (1.8, 2.7219)]:
    found = heavy_tails.normalized_scale(alpha)
    assert found == pytest.approx(value, abs=5e-5)
    # Tail of the normalised law: P(|y| > a) ~ (2 / alpha) a^-alpha.
    a = 1e4
    tail = 2 * float(stable.sf(a / found, alpha))
    assert tail == pytest.approx(2 / alpha * a**-alpha, rel=2e-3)


def test_stable_risk_is_the_corollary():
  bound = heavy_tails.stable_compressed_risk(MARGINS, **STABLE)
  d, depth, alpha = 2500, 2, 1.7
  beta = alpha / (2 * depth)
  sigma_sq = sum(
    size / d * (scale / heavy_tails.normalized_scale(a)) ** 2
    for size, scale, a in zip(
      [2000, 500], [1e-6, 2e-6], [1.7, 1.9], strict=True
    )
  )
  # Corollary 1: sigma_0 from (9), then (10).
  level = 4 ** (-1 / alpha) * math.sqrt(depth) / 3 * d ** -(0.5 + 1 / alpha)
  sigma_0 = math.sqrt(sigma_sq) / level
  a = 6 * math.sqrt(2) * 2**depth * depth**1.5
  n = MARGINS.size
  rate = math.sqrt(
    (0.1 + heavy_tails.entropy_excess(0.1, n)) * d * math.log(n) / n
  )
  expected = math.log((a * sigma_0**depth / 0.5 + 1) * rate)
  assert log_excess(bound) == pytest.approx(expected, rel=1e-10)
  b = math.sqrt(2) * (1.1**depth - 1)
  gamma = 0.5 + b * sigma_0**depth * math.sqrt(d)
  assert bound.details['log_margin'] == pytest.approx(
    math.log(gamma), rel=1e-10
  )
  assert bound.failure == pytest.approx(3 * d**-beta)
  # Corollary S2, with its own beta.
  beta = 0.9
  bound = heavy_tails.stable_compressed_risk(MARGINS, **STABLE, beta=beta)
  a = 6 * math.sqrt(2) * 6**depth * 4 ** (depth / alpha)
  a *= depth ** (-(depth - 3) / 2)
  power = depth * (alpha + 2 * beta + 2) / (2 * alpha)
  size = a * sigma_sq ** (depth / 2) * d**power / 0.5 + math.sqrt(d)
  assert log_excess(bound) == pytest.approx(
    math.log(size * rate / math.sqrt(d)), rel=1e-10
  )
  assert bound.failure == pytest.approx(3 * d**-beta)


def test_failure_of_compression_is_kept():
  options = STABLE | {'compression_failure': 0.2}
  right = heavy_tails.stable_compressed_risk(MARGINS, **options)
  paper = heavy_tails.stable_compressed_risk(
    MARGINS, **options, variant='paper'
  )
  assert right.failure == pytest.approx(paper.failure + 0.2)


def test_premises_are_flagged():
  few = heavy_tails.compressed_risk(MARGINS[:50], **ARGUMENTS)
  flags = {a.name: a for a in few.assumptions}
  assert flags['enough samples'].holds is False
  assert '10 L = 30' in flags['enough samples'].reason
  assert flags['compressible'].holds is None
  assert not few.valid
  sure = heavy_tails.compressed_risk(MARGINS, **(ARGUMENTS | {'kappa': 1e-5}))
  assert sure.failure > 1
  assert not sure.valid
  near_two = heavy_tails.stable_norm_quantile(
    0.9, alphas=1.999, scales=1.0, layer_sizes=[100]
  )
  assert not near_two.valid


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('radius', 0.0),
    ('radius', math.nan),
    ('kappa', 0.0),
    ('kappa', 1.1),
    ('epsilon', -0.1),
    ('tau', 0.0),
    ('delta', 0.0),
    ('delta', 1.0),
    ('input_norm', -1.0),
    ('num_layers', 1),
    ('num_weights', 0),
    ('compression_failure', 1.0),
    ('variant', 'print'),
  ],
)
def test_risks_refuse(name, value):
  for function in (
    heavy_tails.compressed_risk,
    heavy_tails.uncompressed_risk,
  ):
    with pytest.raises(ValueError, match=name):
      function(MARGINS, **(ARGUMENTS | {name: value}))


def test_margins_are_checked():
  for margins in ([], [math.nan], [[1.0, 2.0]]):
    with pytest.raises(ValueError, match='margins'):
      heavy_tails.compressed_risk(margins, **ARGUMENTS)
  with pytest.raises(ValueError, match='alpha'):
    heavy_tails.stable_compressed_risk(
      MARGINS, **(STABLE | {'alphas': [1.0, 1.5]})
    )
  with pytest.raises(ValueError, match='scales must have 2'):
    heavy_tails.stable_compressed_risk(
      MARGINS, **(STABLE | {'scales': [1.0, 1.0, 1.0]})
    )


@pytest.mark.parametrize('p', [0.5, 1, 2, 7])
def test_relative_errors_of_pairs(p):
  rng = np.random.default_rng(2)
  layers = [rng.standard_normal((4, 5)), rng.standard_normal(7) * 1e-300]
  compressed = [np.round(layers[0]), layers[1] * 0.75]
  found = heavy_tails.relative_errors(layers, compressed, p=p)
  change = np.sum(np.abs(compressed[0] - layers[0]) ** p)
  expected = (change / np.sum(np.abs(layers[0]) ** p)) ** (1 / p)
  np.testing.assert_allclose(found, [expected, 0.25], rtol=1e-12)


def test_relative_errors_are_those_of_the_best_terms():
  """Definition 8 on the pair that `compressibility` has in mind."""
  w = np.random.default_rng(3).standard_t(2, 200)
  kept = np.where(np.abs(w) >= np.sort(np.abs(w))[-20], w, 0)
  (found,) = heavy_tails.relative_errors([w], [kept])
  error = compressibility.compression_error(np.float32(w), 0.1)
  assert found == pytest.approx(float(error), rel=1e-5)


def test_relative_errors_at_the_edges():
  zero, one = np.zeros(3), np.ones(3)
  found = heavy_tails.relative_errors([zero, zero, one], [zero, one, one])
  np.testing.assert_array_equal(found, [0, math.inf, 0])
  # A power 1 / p that leaves the floats on the way.
  (small,) = heavy_tails.relative_errors([one], [one * 0.5], p=1e-4)
  assert small == pytest.approx(0.5)
  for bad in ([one], [one, zero[:2]]):
    with pytest.raises(ValueError, match='compressed must have the shapes'):
      heavy_tails.relative_errors([one, one], bad)
  with pytest.raises(ValueError, match='layers must hold finite'):
    heavy_tails.relative_errors([one * math.nan], [one])
