"""Bounds for pruned and sketched networks, against draws and exact laws."""

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, linalg, special, stats

from htjax.bounds import magnitude_sketching

STRENGTHS = (0.1, 1.0, 10.0, 58.5)
MARGINS = np.linspace(0.1, 50.0, 60_000)
MNIST = [(784, 784)] * 4 + [(784, 10)]
NO_ERROR = magnitude_sketching.pruned_output_error(
  [1.0], [1e-9], input_norm=1.0, multipliers=None
)
NAIVE = {
  'gamma': 0.5,
  'output_error': NO_ERROR,
  'nonzeros': [100, 20],
  'shapes': [(30, 40), (40, 5)],
  'num_values': 16,
  'delta': 0.05,
}
SKETCH = {
  'gamma': 0.5,
  'output_error': NO_ERROR,
  'shapes': [(30, 40), (40, 5)],
  'kept': 0.1,
  'num_values': 16,
}
LOTTERY = {
  'gamma': 0.5,
  'target_width': 20,
  'input_dimension': 30,
  'num_layers': 3,
  'random_width': 1000,
  'num_values': 16,
  'delta': 0.05,
  'spectral': 0.9,
  'largest_entries': 0.1,
  'fan_in': 20,
}
FILTERS = {
  'gamma': 5.0,
  'channels': [3, 16, 32],
  'sides': [8, 8, 4],
  'exponent': 0.5,
  'num_values': 16,
}


def prune(rng, matrix, variance, strength):
  """The algorithm as printed: the diagonal stays."""
  keep = rng.random(matrix.shape) >= np.exp(
    -(matrix**2) / (strength * variance)
  )
  np.fill_diagonal(keep, True)
  return np.where(keep, matrix, 0.0)


def outputs(layers, x):
  for w in layers[:-1]:
    x = np.maximum(x @ w, 0)
  return x @ layers[-1]


@pytest.mark.parametrize('strength', STRENGTHS)
def test_kept_probability_and_moments_by_quadrature(strength):
  variance = 0.3
  deviation = math.sqrt(variance)

  def expect(function):
    def integrand(a):
      pruned = math.exp(-(a**2) / (strength * variance))
      return function(a) * pruned * stats.norm.pdf(a, scale=deviation)

    return integrate.quad(integrand, -np.inf, np.inf, epsabs=0)[0]

  kept = 1 - expect(lambda a: 1.0)
  assert magnitude_sketching.kept_probability(strength) == pytest.approx(
    kept, rel=1e-6
  )
  for order in (1.0, 2.0, 4.0):
    exact = expect(lambda a, q=order: abs(a) ** q)
    found = magnitude_sketching.pruning_moment(
      order, variance=variance, strength=strength
    )
    assert found == pytest.approx(exact, rel=1e-6)
  ratio = strength / (strength + 2)
  for order, closed in [(2, 0.3 * ratio**1.5), (4, 0.27 * ratio**2.5)]:
    found = magnitude_sketching.pruning_moment(
      order, variance=0.3, strength=strength
    )
    assert found == pytest.approx(closed)
  inverse = magnitude_sketching.pruning_strength(
    magnitude_sketching.kept_probability(strength)
  )
  assert inverse == pytest.approx(strength, rel=1e-10)


def test_kept_probability_values():
  for strength, chi in zip(
    STRENGTHS, (0.782, 0.423, 0.0871, 0.01667), strict=True
  ):
    found = magnitude_sketching.kept_probability(strength)
    assert found == pytest.approx(chi, abs=6e-4)
  assert magnitude_sketching.pruning_strength(1 / 60) == pytest.approx(
    58.504, abs=1e-3
  )
  # No cancellation: chi -> 1 / d.
  assert magnitude_sketching.kept_probability(1e12) == pytest.approx(
    1e-12, rel=1e-9
  )
  # Both ends without cancellation: 1 - sqrt(d / 2), and 1 / d.
  tiny = magnitude_sketching.kept_probability(1e-20)
  assert 1 - tiny == pytest.approx(math.sqrt(0.5e-20), rel=1e-5)
  assert magnitude_sketching.kept_probability(1e-40) == 1
  assert magnitude_sketching.kept_probability(1e12) == pytest.approx(
    1e-12, rel=1e-9
  )


def test_latala_of_unequal_entries():
  second = np.array([[1.0, 4.0], [0.0, 9.0]])
  bound = magnitude_sketching.latala_norm(second, 3 * second**2, constant=2.0)
  expected = 2 * (3 + math.sqrt(13) + (3 * 98) ** 0.25)
  assert bound.value == pytest.approx(expected)
  for wrong in (-second, np.full((2, 2), np.nan), second[0]):
    with pytest.raises(ValueError, match='second'):
      magnitude_sketching.latala_norm(wrong, second)


def test_rounding():
  rng = np.random.default_rng(4)
  matrix = prune(rng, rng.standard_normal((60, 80)), 1.0, 5.0)
  for rho in (0.01, 0.3):
    rounded = rho * np.round(matrix / rho)
    error = np.linalg.norm(rounded - matrix, 2)
    count = int(np.sum(matrix != 0))
    sharp = magnitude_sketching.rounding_error(rho, count)
    paper = magnitude_sketching.rounding_error(rho, count, variant='paper')
    assert error <= sharp <= paper
    values = magnitude_sketching.num_grid_values(np.abs(matrix).max(), rho)
    assert np.abs(np.round(matrix / rho)).max() <= (values - 1) / 2
  # An entry that rounds up; 2 floor(w / rho) + 1 would be one value.
  assert magnitude_sketching.num_grid_values(0.9, 1.0) == 3
  assert magnitude_sketching.num_grid_values(0.0, 1.0) == 1


def test_low_rank_gain():
  """Gaussian inputs and a matrix of rank 3 in 400 dimensions."""
  rng = np.random.default_rng(5)
  inputs = rng.standard_normal((50, 400))
  matrix = rng.standard_normal((3, 400))
  # P(<x, v> >= t |x|) <= e^(-t^2 d / 2) on the sphere.
  gain, failure = magnitude_sketching.low_rank_gain(
    0.3, input_dimension=400, rank=3, num_inputs=50, a=1.0, b=0.5
  )
  assert gain == pytest.approx(math.sqrt(3) * 0.3)
  assert failure == pytest.approx(300 * math.exp(-18))
  lengths = np.linalg.norm(inputs @ matrix.T, axis=1)
  limit = np.linalg.norm(matrix, 2) * np.linalg.norm(inputs, axis=1)
  assert np.all(lengths <= gain * limit)
  printed = magnitude_sketching.low_rank_gain(
    0.3,
    input_dimension=400,
    rank=3,
    num_inputs=50,
    a=1.0,
    b=0.5,
    variant='paper',
  )
  assert printed[1] == pytest.approx(failure / 6)


def five_layers(rng, width):
  sides = [width] * 5 + [10]
  return [
    rng.standard_normal((a, b)) * math.sqrt(2 / a)
    for a, b in itertools.pairwise(sides)
  ]


def largest_singular_value(w):
  n = w.shape[1] - 1
  (square,) = linalg.eigh(w.T @ w, eigvals_only=True, subset_by_index=[n, n])
  return math.sqrt(square)


def test_output_error_dominates_where_its_premise_holds():
  rng = np.random.default_rng(6)
  layers = five_layers(rng, 100)
  x = rng.standard_normal((20, 100))
  size = np.linalg.norm(x, axis=1).max()
  spectral = [np.linalg.norm(w, 2) for w in layers]
  pruned = [prune(rng, w, w.var(), 1e-3) for w in layers]
  rho = 1e-4
  rounded = [rho * np.round(w / rho) for w in pruned]
  gammas = [
    magnitude_sketching.pruning_error(
      w.shape, variance=w.var(), strength=1e-3
    ).value
    for w in layers
  ]
  roundings = [
    magnitude_sketching.rounding_error(rho, int(np.sum(w != 0))) for w in pruned
  ]
  error = np.linalg.norm(outputs(pruned, x) - outputs(layers, x), axis=1)
  bound = magnitude_sketching.pruned_output_error(
    spectral, gammas, input_norm=size, multipliers=10.0
  )
  assert bound.valid
  assert bound.failure == pytest.approx(0.5)
  assert 0 < error.max() <= bound.value
  error = np.linalg.norm(outputs(rounded, x) - outputs(layers, x), axis=1)
  measured = [
    np.linalg.norm(w - v, 2) for w, v in zip(layers, pruned, strict=True)
  ]
  sharper = magnitude_sketching.pruned_output_error(
    spectral, measured, input_norm=size, rounding=roundings, multipliers=None
  )
  assert sharper.valid
  assert sharper.failure == 0
  assert error.max() <= sharper.value < bound.value
  gained = magnitude_sketching.pruned_output_error(
    spectral,
    gammas,
    input_norm=size,
    multipliers=10.0,
    gains=0.5,
    gain_failure=0.01,
  )
  assert gained.value == pytest.approx(bound.value / 32)
  assert gained.failure == pytest.approx(0.51)


def test_printed_premise_and_confidence_exclude_each_other():
  """At five layers, hardly any pruning is allowed with any confidence."""
  layers = five_layers(np.random.default_rng(7), 784)
  # Of the sides' 10 and 784, the smaller; a fifth of the time of norm(w, 2).
  spectral = [largest_singular_value(w) for w in layers]

  def bound(strength, multiplier):
    gammas = [
      magnitude_sketching.pruning_error(
        w.shape, variance=2 / 784, strength=strength
      ).value
      for w in layers
    ]
    return magnitude_sketching.pruned_output_error(
      spectral, gammas, input_norm=1.0, multipliers=multiplier
    )

  assert bound(1e-3, 10.0).valid  # 2.2 % pruned
  assert not bound(0.02, 10.0).valid  # 10 % pruned, confidence 1/2
  # Without any confidence a little more, but never 59 of 60.
  none = bound(0.02, 1.0)
  assert none.failure == 5
  flags = {a.name: a.holds for a in none.assumptions}
  assert flags.pop('confidence') is False
  assert False not in flags.values()
  # Those of the lemma on the norm, which are taken on trust.
  assert flags['Gaussian weights'] is flags['constant'] is None
  strong = bound(magnitude_sketching.pruning_strength(1 / 60), 1.0)
  assert sum(a.holds is False for a in strong.assumptions) == 6


def test_printed_sparsity_has_no_confidence_on_mnist():
  layers = [
    magnitude_sketching.distributed_sparsity(
      s, kept=1 / 60, factor=10.0, variant='paper'
    )
    for s in MNIST
  ]
  # The part that the theorem leaves out: 1.44 by itself.
  left_out = sum(b.failure - 0.1 for b in layers)
  assert left_out == pytest.approx(1.44, abs=0.005)
  right = [
    magnitude_sketching.distributed_sparsity(s, kept=1 / 60, factor=10.0)
    for s in MNIST
  ]
  assert sum(b.failure for b in right) < 0.05


def test_three_counts():
  """784 x 784 kept to 1/60: the sketch costs more than the nonzeros."""
  counts = magnitude_sketching.count_lengths_nats(
    [(784, 784)], kept=1 / 60, num_values=256
  )
  assert counts['naive'] == pytest.approx(1.09e5, rel=0.01)
  assert counts['sketch'] == pytest.approx(7.57e6, rel=0.01)
  assert counts['dense'] == pytest.approx(784**2 * math.log(256))
  assert counts['naive'] < counts['dense'] < counts['sketch']
  for kept in (1e-4, 0.01, 0.3):
    for width in (50, 784, 2500):
      counts = magnitude_sketching.count_lengths_nats(
        [(width, width)], kept=kept, num_values=256
      )
      assert counts['naive'] < counts['sketch']


def test_gaps_on_mnist():
  nonzeros = [math.ceil(a * b / 60) for a, b in MNIST]
  naive = magnitude_sketching.naive_risk(
    MARGINS,
    **(NAIVE | {'nonzeros': nonzeros, 'shapes': MNIST, 'num_values': 256}),
  )
  printed = magnitude_sketching.naive_risk(
    MARGINS,
    **(NAIVE | {'nonzeros': nonzeros, 'shapes': MNIST, 'num_values': 256}),
    variant='paper',
  )
  sketch = magnitude_sketching.sketched_risk(
    MARGINS, **(SKETCH | {'shapes': MNIST, 'kept': 1 / 60, 'num_values': 256})
  )
  assert math.exp(naive.terms['complexity']) == pytest.approx(1.91, abs=0.01)
  assert math.exp(printed.terms['complexity']) == pytest.approx(2.70, abs=0.01)
  assert math.exp(sketch.terms['complexity']) == pytest.approx(22.5, abs=0.1)


def test_growth_with_width():
  """Slope 1 in ln width plus that of ln p: the published 1.60 over ln 5."""
  values = [
    magnitude_sketching.sketched_risk(
      MARGINS,
      **(
        SKETCH
        | {
          'shapes': [(784, h), (h, h), (h, h), (h, h), (h, 10)],
          'kept': 1 / 60,
          'num_values': 256,
        }
      ),
    ).terms['complexity']
    for h in (500, 2500)
  ]
  slope = (values[1] - values[0]) / math.log(5)
  logs = math.log(math.log(2500) / math.log(784)) / math.log(5)
  assert slope == pytest.approx(1 + logs, abs=0.15)
  assert values[1] - values[0] == pytest.approx(1.60, abs=0.15)


def test_naive_risk_by_hand():
  bound = magnitude_sketching.naive_risk(MARGINS, **NAIVE)
  length = math.log(math.comb(1200, 100)) + math.log(math.comb(200, 20))
  length += 120 * math.log(16)
  excess = math.sqrt((length + math.log(20)) / (2 * MARGINS.size))
  expected = np.mean(MARGINS <= 0.5) + excess
  assert bound.value == pytest.approx(expected, rel=1e-9)
  assert bound.failure == 0.05
  assert bound.valid


def test_sketched_risk_by_hand():
  bound = magnitude_sketching.sketched_risk(
    MARGINS, **SKETCH, factors=[1.0, 2.0]
  )
  size = 0.3 * 1200 * math.log(40) ** 2 + 0.6 * 200 * math.log(40) ** 2
  excess = math.sqrt(size * math.log(16) / MARGINS.size)
  assert math.exp(bound.terms['complexity']) == pytest.approx(excess)
  parts = [
    magnitude_sketching.distributed_sparsity(s, kept=0.1, factor=f).failure
    for s, f in zip(SKETCH['shapes'], (1.0, 2.0), strict=True)
  ]
  assert bound.failure == pytest.approx(sum(parts) + 2 / 40**2)
  printed = magnitude_sketching.sketched_risk(
    MARGINS, **SKETCH, factors=[4.0, 4.0], variant='paper'
  )
  assert printed.failure == pytest.approx(0.5 + 2 / 40**2)


def test_sketched_risk_of_the_authors():
  """Every factor but chi is 1, and nothing is pruned at strength 0."""
  margins = [-1.0, 0.1, 0.3, 2.0]
  error = magnitude_sketching.pruned_output_error(
    [1.0], [0.2 / math.e], input_norm=1.0, multipliers=None
  )
  options = SKETCH | {'output_error': error, 'variant': 'authors'}
  bound = magnitude_sketching.sketched_risk(margins, **options)
  size = 0.1 * (1200 + 200) * math.log(40) ** 2
  assert bound.value == pytest.approx(0.5 + math.sqrt(size / 4), rel=1e-12)
  assert not bound.valid
  whole = magnitude_sketching.sketched_risk(margins, **(options | {'kept': 1}))
  grown = whole.terms['complexity'] - bound.terms['complexity']
  assert grown == pytest.approx(0.5 * math.log(10))
  with pytest.raises(ValueError, match='kept'):
    magnitude_sketching.sketched_risk(margins, **(options | {'kept': 0.0}))


def test_strengths_that_a_margin_pays_for():
  asked = []

  def needed(strength):
    asked.append(strength)
    return strength**2

  strength = magnitude_sketching.affordable_strength
  found = strength(needed, gamma=4.0)
  assert 2 - 1e-3 <= found <= 2
  assert found in asked
  assert strength(needed, gamma=200.0) == 10.0
  # No margin, and a margin that pays for nothing.
  assert strength(needed, gamma=0.0) == 0.0
  assert strength(lambda d: 1 + d, gamma=0.5) == 0.0


def test_gains_of_narrowing_layers():
  gain = magnitude_sketching.narrowing_gain
  found = gain(fan_in=784, fan_out=10, num_inputs=60_000)
  t = found / math.sqrt(10)
  assert 60_000 * math.exp(-(t**2) * 784) == pytest.approx(0.01)
  assert gain(fan_in=10, fan_out=10, num_inputs=1) == 1.0
  # t is at most 1, and so is the gain.
  assert gain(fan_in=3, fan_out=2, num_inputs=60_000) == 1.0


@pytest.mark.parametrize(
  ('function', 'options'),
  [
    (magnitude_sketching.naive_risk, NAIVE),
    (magnitude_sketching.sketched_risk, SKETCH),
    (magnitude_sketching.lottery_risk, LOTTERY),
    (magnitude_sketching.filter_risk, FILTERS),
  ],
)
def test_what_must_be_fixed_before_the_data(function, options):
  bound = function(MARGINS, **options)
  trusted = {a.name for a in bound.assumptions if a.holds is None}
  assert {'fixed code', 'fixed margin'} <= trusted


def test_margin_premise():
  error = magnitude_sketching.pruned_output_error(
    [1.0], [0.4 / math.e], input_norm=1.0, multipliers=None
  )
  assert error.value == pytest.approx(0.4)
  for function, options in (
    (magnitude_sketching.naive_risk, NAIVE),
    (magnitude_sketching.sketched_risk, SKETCH | {'factors': 4.0}),
  ):
    options = options | {'output_error': error}

    def holds(bound):
      return {a.name: a.holds for a in bound.assumptions}['margin']

    assert not holds(function(MARGINS, **options))  # 0.5 < 0.4 sqrt(2)
    assert holds(function(MARGINS, **options, variant='paper'))
    assert holds(function(MARGINS, **(options | {'gamma': 0.57})))


def test_beta_tails():
  n, d, kappa = 50, 2.0, 0.7
  rate = special.erf(math.sqrt(-d * math.log(kappa) / 2))
  for tau in (0, 20, 40, 50):
    exact = stats.binom.sf(tau - 1, n, rate)
    found = magnitude_sketching.prunable_tail(
      tau, num_entries=n, strength=d, level=kappa
    )
    assert found == pytest.approx(exact, rel=1e-10)
    assert magnitude_sketching.pruned_tail(
      tau, num_prunable=n, level=kappa
    ) == pytest.approx(stats.binom.sf(tau - 1, n, kappa), rel=1e-10)
    if tau < n:
      # As printed: 1 - I_{1-p}(n - tau, 1 + tau).
      printed = 1 - special.betainc(n - tau, 1 + tau, 1 - rate)
      found = magnitude_sketching.prunable_tail(
        tau, num_entries=n, strength=d, level=kappa, variant='paper'
      )
      assert found == pytest.approx(printed, rel=1e-9)
      assert found <= exact
      if tau == 40:
        assert found < 0.9 * exact
  with pytest.raises(ValueError, match='count'):
    magnitude_sketching.pruned_tail(51, num_prunable=50, level=0.5)


def test_lottery_risk():
  bound = magnitude_sketching.lottery_risk(MARGINS, **LOTTERY)
  size = 20 * 30 + 3 * 20**2
  assert bound.details['parameters'] == size
  excess = math.sqrt(size * math.log(1000) ** 2 * math.log(16) / MARGINS.size)
  assert math.exp(bound.terms['complexity']) == pytest.approx(excess)
  assert bound.failure == pytest.approx(0.05 + 3e-6)
  assert bound.valid
  for name, value in [('spectral', 1.1), ('largest_entries', 0.3)]:
    assert not magnitude_sketching.lottery_risk(
      MARGINS, **(LOTTERY | {name: value})
    ).valid
  with pytest.raises(ValueError, match='random_width'):
    magnitude_sketching.lottery_risk(MARGINS, **(LOTTERY | {'random_width': 1}))


def test_filter_risk():
  bound = magnitude_sketching.filter_risk(MARGINS, **FILTERS)
  size = 8**4 * 3 * (16 - 4) * math.log(64 * 16) ** 2
  size += 4**4 * 16 * (32 - math.sqrt(32)) * math.log(16 * 32) ** 2
  excess = math.sqrt(size * math.log(16) / MARGINS.size)
  assert math.exp(bound.terms['complexity']) == pytest.approx(excess)
  printed = magnitude_sketching.filter_risk(MARGINS, **FILTERS, variant='paper')
  size = 64 * 3 * 4 * math.log(64 * 16) ** 2
  size += 16 * 16 * math.sqrt(32) * math.log(16 * 32) ** 2
  excess = math.sqrt(size * math.log(16) / MARGINS.size)
  assert math.exp(printed.terms['complexity']) == pytest.approx(excess)
  # p^-1 p_0 sqrt(K) (p^-1 (..)^0 - p^-1) = 0 for two layers and at p >= 1.
  assert bound.valid
  deeper = FILTERS | {'channels': [3, 16, 32, 32], 'sides': [8, 8, 4, 4]}
  # p = 8, D = 32, beta_1 = 1, beta_2 = 1 / 8.
  change = 1 / 8 * (1 / 8 + 32 ** (-1 / 8)) - 1 / 64
  change *= 1 / 8 * 8 * math.sqrt(3)

  def holds(gamma, variant):
    found = magnitude_sketching.filter_risk(
      MARGINS, **(deeper | {'gamma': gamma}), variant=variant
    )
    return {a.name: a.holds for a in found.assumptions}['margin']

  assert holds(1.001 * change, 'paper')
  assert not holds(0.999 * change, 'paper')
  assert holds(1.001 * math.sqrt(2) * change, 'corrected')
  assert not holds(0.999 * math.sqrt(2) * change, 'corrected')


def test_penalties_are_monotone():
  reference = magnitude_sketching.sketched_risk(MARGINS, **SKETCH)
  for name, value in [('kept', 0.2), ('num_values', 64)]:
    worse = magnitude_sketching.sketched_risk(
      MARGINS, **(SKETCH | {name: value})
    )
    assert worse.terms['complexity'] > reference.terms['complexity']
  fewer = magnitude_sketching.sketched_risk(MARGINS[::5], **SKETCH)
  assert fewer.terms['complexity'] > reference.terms['complexity']
  chis = [magnitude_sketching.kept_probability(d) for d in (0.1, 0.5, 2, 30)]
  assert chis == sorted(chis, reverse=True)


@pytest.mark.parametrize(
  ('function', 'options', 'name', 'value'),
  [
    (magnitude_sketching.sketched_risk, SKETCH, 'gamma', 0.0),
    (magnitude_sketching.sketched_risk, SKETCH, 'kept', 1.0),
    (magnitude_sketching.sketched_risk, SKETCH, 'shapes', []),
    (magnitude_sketching.sketched_risk, SKETCH, 'shapes', [(3, 3, 3)]),
    (magnitude_sketching.sketched_risk, SKETCH, 'num_values', 1),
    (magnitude_sketching.sketched_risk, SKETCH, 'num_values', [4, 4, 4]),
    (magnitude_sketching.sketched_risk, SKETCH, 'factors', 0.5),
    (magnitude_sketching.sketched_risk, SKETCH, 'variant', 'print'),
    (magnitude_sketching.naive_risk, NAIVE, 'delta', 0.0),
    (magnitude_sketching.naive_risk, NAIVE, 'delta', 1.5),
    (magnitude_sketching.naive_risk, NAIVE, 'nonzeros', [1201, 20]),
    (magnitude_sketching.naive_risk, NAIVE, 'gamma', -1.0),
    (magnitude_sketching.lottery_risk, LOTTERY, 'delta', 1.0),
    (magnitude_sketching.filter_risk, FILTERS, 'exponent', 1.0),
    (magnitude_sketching.filter_risk, FILTERS, 'sides', [8, 8]),
  ],
)
def test_risks_refuse(function, options, name, value):
  match = 'kept' if name == 'nonzeros' else name
  with pytest.raises(ValueError, match=match):
    function(MARGINS, **(options | {name: value}))


def test_scalars_refuse():
  with pytest.raises(ValueError, match='strength'):
    magnitude_sketching.kept_probability(0.0)
  with pytest.raises(ValueError, match='kept'):
    magnitude_sketching.pruning_strength(1.0)
  with pytest.raises(ValueError, match='multiplier'):
    magnitude_sketching.pruning_error(
      (3, 3), variance=1.0, strength=1.0, multiplier=0.5
    )
  with pytest.raises(ValueError, match='rank'):
    magnitude_sketching.low_rank_gain(
      0.1, input_dimension=3, rank=4, num_inputs=1, a=1.0, b=1.0
    )
  with pytest.raises(ValueError, match='resolution'):
    magnitude_sketching.rounding_error(0.0, 3)


def make_budget():
  """Three Gaussian layers, and inputs of norm 7."""
  shapes = [(30, 40), (40, 40), (40, 5)]
  rng = np.random.default_rng(1)
  layers = [rng.standard_normal(s) / math.sqrt(s[0]) for s in shapes]
  return magnitude_sketching.Budget(
    shapes,
    spectral=[np.linalg.norm(w, 2) for w in layers],
    variances=[np.mean(w**2) for w in layers],
    largest=[np.abs(w).max() for w in layers],
    input_norm=7.0,
    multiplier=6.0,
  )


def test_margins_pay_for_strength_and_grid():
  """Pruning takes half of the margin, rounding the other half."""
  budget = make_budget()
  for gamma in (0.01, 2.0):
    strength, steps = budget.within(gamma)
    half = gamma / (2 * math.sqrt(2))
    assert budget.error(strength).value == pytest.approx(half, rel=1e-6)
    whole = budget.error(strength, steps)
    assert whole.value == pytest.approx(2 * half, rel=1e-6)
    assert budget.error(1.01 * strength, steps).value > 2 * half
  # More margin, more pruning.
  assert budget.within(2.0)[0] > budget.within(0.01)[0]
  with pytest.raises(ValueError, match='gamma must lie in'):
    budget.within(0.0)


def test_a_budget_puts_the_lemmas_together():
  budget, strength = make_budget(), 3.0
  changes = [
    magnitude_sketching.pruning_error(
      shape, variance=variance, strength=strength
    ).value
    for shape, variance in zip(budget.shapes, budget.variances, strict=True)
  ]
  by_hand = magnitude_sketching.pruned_output_error(
    budget.spectral, changes, input_norm=7.0, multipliers=6.0
  )
  assert budget.error(strength).log_value == by_hand.log_value
  # What was measured does not fail; Markov fails for each layer.
  assert budget.output_error(changes).failure == 0
  assert budget.error(strength).failure == pytest.approx(3 / 6)
  kept = magnitude_sketching.kept_probability(strength)
  assert budget.kept(strength) == kept
  assert budget.kept(1e-40) < 1
  diagonal = [30, 40, 5]
  for count, (d1, d2), always in zip(
    budget.nonzeros(strength), budget.shapes, diagonal, strict=True
  ):
    exact = kept * (d1 * d2 - always) + always
    assert exact <= count < exact + 1
  assert budget.num_values([100.0] * 3) == [2, 2, 2]


def test_least_factor_is_the_first_that_fails_rarely():
  shape, kept = (200, 50), 0.02

  def failure(factor):
    return magnitude_sketching.distributed_sparsity(
      shape, kept=kept, factor=factor
    ).failure

  found = magnitude_sketching.least_factor(shape, kept=kept, failure=1e-3)
  assert found > 1
  assert failure(found) <= 1e-3 < failure(found / 1.1)
  sure = magnitude_sketching.least_factor(shape, kept=0.9, failure=0.5)
  assert sure == 1
  with pytest.raises(ValueError, match='failure must'):
    magnitude_sketching.least_factor(shape, kept=kept, failure=0.0)
