"""Bounds by counting, against exact probabilities, draws and quadrature."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from htjax import stable
from htjax.bounds import cushions, gaussian_compression, networks, spectral

MARGINS = np.linspace(-1.0, 9.0, 1001)
PIPELINE = {
  'gamma': 1.0,
  'cushions': [0.5, 0.5],
  'interlayer': [0.2, 0.3],
  'contraction': 1.4,
  'smoothness': 7.0,
  'output_norm': 5.0,
  'delta': 0.05,
  'num_values': 16,
}


def power_law(rng, shape, alpha, minimum=1.0):
  return minimum * (1 - rng.random(shape)) ** (-1 / alpha)


def test_code_length():
  exact = math.log(math.comb(20, 3) * 4**3) + math.log(math.comb(5, 5) * 2**5)
  found = gaussian_compression.code_length_nats([3, 5], [20, 5], [4, 2])
  assert found == pytest.approx(exact, rel=1e-12)
  bare = gaussian_compression.code_length_nats(
    [3, 5], [20, 5], [4, 2], positions=False
  )
  assert bare == pytest.approx(math.log(4**3 * 2**5))
  assert gaussian_compression.code_length_nats([0], [20], 4) == pytest.approx(
    0, abs=1e-12
  )
  with pytest.raises(ValueError, match='kept must lie'):
    gaussian_compression.code_length_nats([21], [20], 4)
  with pytest.raises(ValueError, match='one entry per layer'):
    gaussian_compression.code_length_nats([1, 2], [20], 4)
  with pytest.raises(ValueError, match='num_values'):
    gaussian_compression.code_length_nats([1], [20], 0)


def test_finite_class():
  bound = gaussian_compression.finite_class(
    MARGINS, gamma=0.5, log_count=math.log(1000), delta=0.05
  )
  excess = math.sqrt(math.log(math.sqrt(1000 / 0.05)) / MARGINS.size)
  assert bound.value == pytest.approx(np.mean(MARGINS <= 0.5) + excess)
  assert bound.failure == 0.05


def test_finite_class_refuses():
  for changed in ({'gamma': -1.0}, {'log_count': -1.0}, {'delta': 1.0}):
    arguments = {'gamma': 0.0, 'log_count': 1.0, 'delta': 0.1} | changed
    with pytest.raises(ValueError, match=next(iter(changed))):
      gaussian_compression.finite_class(MARGINS, **arguments)


def test_noise_budget():
  # The three printed relations disagree: epsilon 0.5, eta 0.01.
  expected = {'corrected': 0.02359, 'paper': 0.0438, 'paper_appendix': 0.0877}
  for variant, value in expected.items():
    found = gaussian_compression.noise_budget(0.5, 0.01, variant=variant)
    assert found == pytest.approx(value, rel=2e-3), variant
  for eta in (1e-8, 0.01, 0.5):
    budget = gaussian_compression.noise_budget(0.3, eta)
    tail = gaussian_compression.bilinear_tail(
      0.3, threshold=math.sqrt(budget / 2), noise_variance=budget / 2
    )
    assert tail.value == pytest.approx(eta, rel=1e-12)
  # As printed, the budget exceeds what the printed inequality gives.
  budget = gaussian_compression.noise_budget(0.3, 0.01, variant='paper')
  tail = gaussian_compression.bilinear_tail(
    0.3, threshold=math.sqrt(budget), noise_variance=0.0, variant='paper'
  )
  assert tail.value > 0.01


def test_layer_error_inverts_the_budget():
  epsilon = gaussian_compression.layer_error(
    threshold=0.1, noise_variance=0.02, delta=0.05, num_pairs=40, num_rows=7
  )
  budget = gaussian_compression.noise_budget(epsilon, 0.05 / (40 * 7))
  assert budget == pytest.approx(0.1**2 + 0.02)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 3000), st.floats(0.001, 0.99), st.floats(0.001, 1.0))
def test_nonzero_tail_dominates_the_exact_one(n, rate, part):
  k = max(part * n, 1e-6)
  bound = gaussian_compression.nonzero_tail(k, num_entries=n, rate=rate)
  exact = stats.binom.logsf(math.ceil(k) - 1, n, rate)
  assert bound.valid == (k > n * rate)
  if bound.valid and exact > -600:
    assert exact <= bound.log_value + 1e-9
    assert bound.details['log_exact'] == pytest.approx(
      exact, rel=1e-8, abs=1e-9
    )


def test_nonzero_tail_edges():
  at_mean = gaussian_compression.nonzero_tail(50, num_entries=1000, rate=0.05)
  assert at_mean.value == pytest.approx(1)
  assert not at_mean.valid
  # Below the mean the formula is below the probability.
  below = gaussian_compression.nonzero_tail(40, num_entries=1000, rate=0.05)
  assert below.value == pytest.approx(0.324, abs=5e-4)
  exact = math.exp(below.details['log_exact'])
  assert exact == pytest.approx(0.940, abs=5e-4)
  assert not below.valid
  every = gaussian_compression.nonzero_tail(20, num_entries=20, rate=0.3)
  assert every.value == pytest.approx(0.3**20)
  with pytest.raises(ValueError, match='count'):
    gaussian_compression.nonzero_tail(21, num_entries=20, rate=0.3)


def test_stable_density_tail():
  for alpha in (0.8, 1.3, 1.75):
    w = 300.0
    exact = float(stable.pdf(w / 1.7, alpha)) / 1.7
    found = gaussian_compression.stable_density_tail(w, alpha, scale=1.7)
    assert found == pytest.approx(exact, rel=2e-2 if alpha == 0.8 else 5e-3)


def test_brackets():
  """The printed figure: c = 1.3, M = 5, N = 64 at alpha 1.75."""
  bounds = [
    gaussian_compression.bracket_tail(i, 1.75, base=1.3, top=5, row_length=64)
    for i in range(6)
  ]
  printed = [0.972, 0.991, 0.924, 0.847, 0.787, 0.749]
  np.testing.assert_allclose([b.value for b in bounds], printed, atol=6e-4)
  assert [b.valid for b in bounds] == [False] + [True] * 5
  # Heavier: the premise fails nearly everywhere.
  heavy = [
    gaussian_compression.bracket_tail(
      i, 1.3, base=1.3, top=5, row_length=64
    ).valid
    for i in range(6)
  ]
  assert sum(heavy) <= 1
  # For a large base the rate is the law's: the next term of the tail is
  # relatively 1.6 x^-alpha at x = 64.
  exact = stable.sf(64.0**2, 1.5, scale=64.0)
  exact -= stable.sf(64.0**3, 1.5, scale=64.0)
  found = gaussian_compression.bracket_rate(2, 1.5, base=64.0)
  assert found == pytest.approx(float(exact), rel=1.7 * 64**-1.5)


def test_stable_rank_falls_with_alpha():
  ranks = []
  for alpha in (1.2, 1.5, 1.8, 2.0):
    w = stable.sample(jax.random.key(40), alpha, (600, 600))
    ranks.append(float(spectral.stable_rank(w)))
  assert ranks == sorted(ranks)
  assert ranks[0] < 5
  # N / 4 for Gaussian entries; fluctuations are of order N^(-2/3).
  assert ranks[-1] == pytest.approx(150, rel=0.1)


def balanced_network(seed):
  """Three layers of Frobenius norm 2, and inputs."""
  rng = np.random.default_rng(seed)
  layers = [rng.standard_normal(s) for s in ((6, 8), (8, 7), (7, 3))]
  return [2 * w / np.linalg.norm(w) for w in layers], rng.standard_normal(
    (20, 6)
  )


def test_balanced_norm_dominates():
  for seed in range(10):
    layers, x = balanced_network(seed)
    own = cushions.layer_cushions(layers, x)
    contraction = float(cushions.activation_contraction(layers, x))
    output = np.asarray(networks.pre_activations(layers, x)[-1])
    for row in range(len(x)):
      bound = gaussian_compression.balanced_norm(
        contraction=contraction,
        output_norm=np.linalg.norm(output[row]),
        input_norm=np.linalg.norm(x[row]),
        cushions=own,
      )
      assert bound.value >= 8


def test_discretization_change_dominates():
  layers, x = balanced_network(11)
  rng = np.random.default_rng(12)
  nu = 1e-3
  outputs = np.asarray(networks.pre_activations(layers, x)[-1])
  moved = [w + nu * (2 * rng.random(w.shape) - 1) for w in layers]
  after = np.asarray(networks.pre_activations(moved, x)[-1])
  change = np.linalg.norm(after - outputs, axis=1).max()
  arguments = {
    'num_parameters': sum(w.size for w in layers),
    'frobenius': 2.0,
    'contraction': float(cushions.activation_contraction(layers, x)),
    'output_norm': np.linalg.norm(outputs, axis=1).max(),
    'cushions': cushions.layer_cushions(layers, x),
  }
  bound = gaussian_compression.discretization_change(nu, **arguments)
  assert change <= bound.value
  ramp = gaussian_compression.discretization_change(nu, **arguments, tau=0.1)
  assert ramp.value == pytest.approx(bound.value * math.sqrt(2) / 0.1)
  q, log_k = arguments['num_parameters'], bound.details['log_constant']
  covering = gaussian_compression.log_covering(
    q, log_constant=log_k, resolution=0.5
  )
  assert covering == pytest.approx(q * (math.log(2 * q / 0.5) + log_k))


def test_margin_and_accumulated_error():
  inside = gaussian_compression.margin_change(0.7, gamma=1.0)
  assert inside.valid
  assert inside.value == pytest.approx(0.7 * math.sqrt(2))
  assert not gaussian_compression.margin_change(0.71, gamma=1.0).valid
  # Tight: |e| = gamma / sqrt(2) split evenly closes the whole margin.
  f, move = np.array([1.0, 0.0]), np.array([-0.5, 0.5])
  assert np.linalg.norm(move) == pytest.approx(1 / math.sqrt(2))
  assert np.diff(f + move).item() == 0
  half = gaussian_compression.accumulated_error(
    0.3, index=2, num_layers=4, smoothness=12
  )
  assert half.value == pytest.approx(0.15)
  assert half.valid
  rough = gaussian_compression.accumulated_error(
    0.3, index=4, num_layers=4, smoothness=11.9
  )
  assert not rough.valid


@pytest.mark.parametrize('log_constant', [0.0, 5.0, 60.0])
@pytest.mark.parametrize('upper', [1e-3, 0.5, 1.0])
def test_dudley_integral(log_constant, upper):
  q = 12
  log_a = math.log(2 * q) + log_constant
  exact = integrate.quad(
    lambda e: math.sqrt(q * (log_a - math.log(e))), 0, upper, limit=200
  )[0]
  found = gaussian_compression.dudley_integral(
    upper, num_parameters=q, log_constant=log_constant
  )
  assert found == pytest.approx(exact, rel=1e-7)


def test_replacement_keeps_the_output():
  """Lemma 2.2 on a network: noise at the thresholds of the pipeline."""
  rng = np.random.default_rng(15)
  shapes = ((6, 30), (30, 20), (20, 3))
  layers = [
    power_law(rng, s, 1.5, 0.1) * rng.choice([-1, 1], s) for s in shapes
  ]
  assert min(np.linalg.norm(w) for w in layers) >= 1  # a premise
  x = rng.standard_normal((20, 6))
  measured = np.asarray(cushions.layer_cushions(layers, x))
  onward = np.asarray(cushions.interlayer_cushions(layers, x).minimal)
  contraction = float(cushions.activation_contraction(layers, x))
  epsilon, delta = 0.3, 0.05
  output = np.asarray(networks.pre_activations(layers, x)[-1])

  def relative_error(times):
    replaced = []
    for w, own, rest in zip(layers, measured, onward, strict=True):
      share = epsilon * own * rest / (6 * contraction * 3)
      eta = delta / (2 * 9 * 30 * 20)
      budget = gaussian_compression.noise_budget(times * share, eta)
      kept = np.where(np.abs(w) > math.sqrt(budget / 2), w, 0)
      noise = math.sqrt(budget / 2) * rng.standard_normal(w.shape)
      replaced.append(kept + noise)
    moved = np.asarray(networks.pre_activations(replaced, x)[-1])
    error = np.linalg.norm(moved - output, axis=1)
    return np.max(error / np.linalg.norm(output, axis=1))

  assert 0 < relative_error(1) <= epsilon
  assert relative_error(1e5) > epsilon


def test_pipeline_by_hand():
  rng = np.random.default_rng(13)
  weights = [rng.standard_normal((5, 4)), rng.standard_normal((4, 3))]
  weights = [1e-3 * w / np.linalg.norm(w) for w in weights]
  bound = gaussian_compression.compressed_risk(
    MARGINS, weights=weights, **PIPELINE
  )
  epsilon = 1.0 / (math.sqrt(2) * 5)
  kept, length = [], 0.0
  for i, w in enumerate(weights):
    share = epsilon * 0.5 * PIPELINE['interlayer'][i] / (6 * 1.4 * 2)
    eta = 0.05 / (2 * 4 * 4 * 1001)
    tau = math.sqrt(share**2 / (2 * math.log(2 / eta)) / 2)
    kept.append(np.sum(np.abs(w) > tau))
    length += math.log(math.comb(w.size, kept[-1])) + kept[-1] * math.log(16)
  assert 0 < sum(kept) < 32
  excess = math.sqrt((length + math.log(2 / 0.05)) / (2 * 1001))
  expected = np.mean(MARGINS <= 1) + excess
  assert bound.value == pytest.approx(expected, rel=1e-12)
  assert bound.details['kept_fraction_1'] == kept[0] / 20
  assert bound.failure == 0.05
  flags = {a.name: a.holds for a in bound.assumptions}
  assert {'fixed code', 'fixed margin'} <= set(flags)
  assert flags['smooth']
  assert flags['small error']
  assert flags['balanced'] is False  # norms far below 1
  large = [w * 1e4 for w in weights]
  every = gaussian_compression.compressed_risk(
    MARGINS, weights=large, **PIPELINE
  )
  assert {a.name: a.holds for a in every.assumptions}['balanced']
  assert every.valid
  assert every.details['kept_fraction_2'] == 1
  rough = PIPELINE | {'smoothness': 5.9}
  assert not gaussian_compression.compressed_risk(
    MARGINS, weights=large, **rough
  ).valid


def test_pipeline_is_monotone():
  rng = np.random.default_rng(14)
  weights = [rng.standard_normal((50, 40)), rng.standard_normal((40, 3))]
  weights = [1e-2 * w / np.linalg.norm(w) for w in weights]
  reference = gaussian_compression.compressed_risk(
    MARGINS, weights=weights, **PIPELINE
  )
  for name, value in [
    ('contraction', 2.0),
    ('output_norm', 9.0),
    ('num_values', 64),
    ('delta', 0.01),
    ('cushions', [0.3, 0.3]),
    ('noise_fraction', 0.8),
  ]:
    worse = gaussian_compression.compressed_risk(
      MARGINS, weights=weights, **(PIPELINE | {name: value})
    )
    assert worse.terms['complexity'] > reference.terms['complexity'], name
  fewer = gaussian_compression.compressed_risk(
    MARGINS[::4], weights=weights, **PIPELINE
  )
  assert fewer.terms['complexity'] > reference.terms['complexity']
  printed = gaussian_compression.compressed_risk(
    MARGINS, weights=weights, **PIPELINE, variant='paper', positions=False
  )
  assert printed.value < reference.value


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('gamma', 0.0),
    ('cushions', [0.5, 0.0]),
    ('interlayer', [0.5]),
    ('contraction', 0.9),
    ('smoothness', math.nan),
    ('output_norm', 0.0),
    ('delta', 1.0),
    ('num_values', 0),
    ('noise_fraction', 1.0),
    ('variant', 'print'),
    ('weights', [np.ones((2, 2))]),
  ],
)
def test_pipeline_refuses(name, value):
  arguments = {'weights': [np.ones((2, 2))] * 2} | PIPELINE | {name: value}
  with pytest.raises(ValueError, match=name):
    gaussian_compression.compressed_risk(MARGINS, **arguments)
