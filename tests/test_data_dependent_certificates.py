"""Certificates with a part of the data for training alone."""

import itertools
import math

import jax
import numpy as np
import pytest
from scipy import special, stats

from htjax import stable
from htjax.bounds import certificates, codes

# Pick-to-learn --------------------------------------------------------------


@pytest.mark.parametrize(('k', 'n'), [(0, 7), (3, 7), (6, 7), (40, 300)])
def test_the_compression_certificate_solves_its_equation(k, n):
  p = certificates.compression_certificate(k, n, 0.05).value
  terms = [
    math.comb(m, k) / math.comb(n, k) * (1 - p) ** -(n - m) for m in range(k, n)
  ]
  assert 0.05 / n * sum(terms) == pytest.approx(1, rel=1e-9)
  # A test-set bound with as many errors is smaller: it picks nothing.
  assert k / n < certificates.invert_binomial(k, n, math.log(0.05)) < p


def test_the_compression_certificate_at_its_ends():
  certified = certificates.compression_certificate
  assert certified(5, 5, 0.1).value == 1
  base = certified(60, 1000, 0.05)
  assert base.failure == 0.05
  assert base.valid
  assert certified(61, 1000, 0.05).value > base.value
  assert certified(60, 1100, 0.05).value < base.value
  of_two = certified(60, 1000, 0.05, log_settings=math.log(2)).value
  assert of_two == pytest.approx(certified(60, 1000, 0.025).value, rel=1e-12)


def nearest(x, labels):
  """A nearest-neighbour rule that learns from what was picked."""

  def learn(model, picked):
    return x[picked], labels[picked]

  def margins(model):
    seen, own = model
    if not len(seen):
      return np.full(len(x), -1.0)
    gaps = np.abs(x[:, None] - seen)
    far = np.where(own == labels[:, None], np.inf, gaps).min(1, initial=9)
    near = np.where(own == labels[:, None], gaps, np.inf).min(1, initial=9)
    return far - near

  return learn, margins


@pytest.mark.parametrize(('at_once', 'rounds'), [(1, 99), (3, 99), (2, 2)])
def test_all_examples_that_do_not_count_may_be_left_out(at_once, rounds):
  """The property that the bound rests on, for every set of those."""
  rng = np.random.default_rng(3)
  x = rng.random(11)
  labels = (np.floor(5 * x) % 2).astype(int)

  def run(kept):
    functions = nearest(x[kept], labels[kept])
    found = certificates.pick_to_learn(
      *functions, at_once=at_once, max_rounds=rounds
    )
    left = functions[1](found.model)
    left[found.indices] = np.inf
    wrong = np.flatnonzero(left <= 0)
    assert found.errors == len(wrong)
    return {*kept[found.indices], *kept[wrong]}, found

  whole, found = run(np.arange(11))
  assert found.size == len(whole)
  assert found.errors == 0 or found.rounds == rounds
  spare = sorted(set(range(11)) - whole)
  assert spare
  for size in range(len(spare) + 1):
    for more in itertools.combinations(spare, size):
      assert run(np.array(sorted(whole | set(more))))[0] == whole


def test_the_smallest_margins_are_picked_first():
  order = []

  def learn(model, picked):
    order.append(picked.tolist())
    return set(picked.tolist())

  def margins(model):
    return np.array([-1.0, 2.0, -3.0, 0.0, -3.0])

  found = certificates.pick_to_learn(learn, margins, at_once=3)
  assert order == [[], [2, 4, 0], [2, 4, 0, 3]]
  assert (found.rounds, found.errors, found.size) == (2, 0, 4)
  none = certificates.pick_to_learn(learn, margins, max_rounds=0)
  assert (none.errors, none.size, none.model) == (4, 4, set())


# Relative entropies ---------------------------------------------------------


@pytest.mark.parametrize('t', [0.03, 1.0, 7.0, 300.0])
def test_divergences_in_closed_form(t):
  def near(law, tail, exact):
    found = certificates.shift_divergence([t, -t], law, tail)
    assert 2 * exact * (1 - 1e-9) <= found <= 2 * exact * 1.0202

  near('gaussian', None, t**2 / 2)
  near('stable', 2.0, t**2 / 4)
  near('stable', 1.0, math.log1p(t**2 / 4))
  near('student', 1.0, math.log1p(t**2 / 4))


@pytest.mark.parametrize(('law', 'tail'), [('student', 3.0), ('stable', 1.5)])
@pytest.mark.parametrize('t', [0.2, 4.0])
def test_divergences_by_another_quadrature(law, tail, t):
  def log_density(x):
    if law == 'student':
      return stats.t.logpdf(x, tail)
    return np.float64(stable.logpdf(np.float32(x), tail))

  # Trapezoids in u, where x = sinh u: smooth, and beyond 10^4 the integrand
  # falls as |x|^-3.5 and faster.
  u = np.linspace(-10, 10, 2001)
  x = np.sinh(u)
  own = log_density(x)
  integrand = np.exp(own) * (own - log_density(x - t)) * np.cosh(u)
  exact = np.sum(integrand) * (u[1] - u[0])
  found = certificates.shift_divergence([t], law, tail)
  # Float32 densities are good to 1e-6 of their logarithm.
  assert exact * 0.9999 - 1e-5 <= found <= exact * 1.0203 + 1e-5


def test_shifts_are_summed_and_small_ones_counted():
  one = certificates.shift_divergence([0.5, -2.0], 'student', 4.0)
  parts = [certificates.shift_divergence([t], 'student', 4.0) for t in (0.5, 2)]
  assert one == pytest.approx(sum(parts), rel=1e-12)
  assert certificates.shift_divergence(np.zeros((2, 3)), 'stable', 1.5) == 0
  assert 0 < certificates.shift_divergence([1e-9], 'student', 4.0) < 1e-6


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (([1.0], 'laplace'), 'law must be one of'),
    (([1.0], 'gaussian', 2.0), 'tail must be None'),
    (([1.0], 'stable', 0.9), 'tail must lie in'),
    (([1.0], 'student', 0.0), 'tail must lie in'),
    (([np.inf],), 'shifts must be finite'),
  ],
)
def test_divergences_refuse(arguments, message):
  with pytest.raises(ValueError, match=message):
    certificates.shift_divergence(*arguments)


# Random weights -------------------------------------------------------------


def test_the_gibbs_certificate_by_hand():
  bound = certificates.gibbs_certificate(
    0, 1000, 100, 2.0, 0.04, log_settings=math.log(3), draws_delta=0.01
  )
  mean = 1 - 0.01 ** (1 / 1000)
  nats = 2 + math.log(3) + math.log(2 * 10 / 0.04)
  assert math.exp(bound.terms['draws']) == pytest.approx(mean)
  p = bound.value
  found = special.rel_entr([mean, 1 - mean], [p, 1 - p]).sum()
  assert found == pytest.approx(nats / 100, rel=1e-9)
  assert bound.failure == pytest.approx(0.05)
  assert certificates.gibbs_certificate(9, 9, 8, 0, 0.1).value == 1


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ((1, 0, 9, 1, 0.1), 'draws must be an integer'),
    ((3, 2, 9, 1, 0.1), 'errors must lie in'),
    ((1, 2, 7, 1, 0.1), 'n must be an integer >= 8'),
    ((1, 2, 9, -1, 0.1), 'divergence_nats must lie in'),
    ((1, 2, 9, 1, 1.5), 'delta must lie in'),
  ],
)
def test_the_gibbs_certificate_refuses(arguments, message):
  with pytest.raises(ValueError, match=message):
    certificates.gibbs_certificate(*arguments)


@pytest.mark.parametrize(
  ('law', 'tail'),
  [('gaussian', None), ('student', 3.0), ('stable', 1.5), ('stable', 2.0)],
)
def test_noise_of_a_layer_is_that_of_its_weights(law, tail):
  # Three chunks, of which the last is not full.
  x = np.tile(np.float32([1.0, -2.0, 0.0]), (1300, 1))
  key = jax.random.key(0)
  found = np.asarray(certificates.linear_noise(key, x, 4, law, tail)).ravel()
  rng = np.random.default_rng(1)
  draw = {
    'gaussian': lambda: rng.normal(size=20_000),
    'student': lambda: rng.standard_t(3, size=20_000),
    'stable': lambda: stats.levy_stable.rvs(
      tail or 2.0, 0, size=20_000, random_state=rng
    ),
  }[law]
  weights = draw() - 2 * draw()
  assert stats.ks_2samp(found, weights).pvalue > 1e-3
  assert stats.ks_2samp(1.2 * found, weights).pvalue < 1e-3
  # New weights for every example and output.
  assert len(np.unique(found)) > 0.99 * len(found)


# Codes of differences -------------------------------------------------------


def test_a_difference_there_and_back():
  rng = np.random.default_rng(0)
  old = [rng.normal(size=s).astype(np.float32) for s in ((40, 10), (7,))]
  # A step that is lost to rounding is a step no more.
  steps = rng.choice([0, 0.5, -0.25], (40, 10), p=[0.9, 0.05, 0.05])
  old[0] = np.round(old[0] * 1024) / np.float32(1024)
  new = [np.float32(old[0] + steps), old[1]]
  code = codes.encode_difference(new, old)
  found = codes.decode_difference(np.append(code.bits, [1, 0]), old)
  assert found.num_bits == code.num_bits
  for a, b in zip(found.layers, new, strict=True):
    np.testing.assert_array_equal(a, b)
  assert (
    code.num_bits < codes.encode([np.float32(steps), old[1] * 0]).num_bits + 2
  )


def test_no_difference_is_one_bit_and_no_other_string():
  old = [np.float32([1, 2])]
  code = codes.encode_difference(old, old)
  assert code.bits.tolist() == [0]
  assert codes.decode_difference(code.bits, old).num_bits == 1
  zeros = np.append([1], codes.encode([np.zeros(2, np.float32)]).bits)
  with pytest.raises(ValueError, match='no difference'):
    codes.decode_difference(zeros, old)


@pytest.mark.parametrize(
  ('new', 'message'),
  [
    ([np.ones(3)], 'must have the shapes'),
    ([np.float32([1, 1e-9])], 'must be reference plus'),
    ([np.float32([1, 3.33])], 'must lie on the grid'),
  ],
)
def test_differences_that_are_refused(new, message):
  with pytest.raises(ValueError, match=message):
    codes.encode_difference(new, [np.float32([1, 2])])


@pytest.mark.parametrize('bits', [[], [2, 1], [[0]]])
def test_strings_that_are_no_difference(bits):
  with pytest.raises(ValueError, match='bits must'):
    codes.decode_difference(bits, [np.ones(2)])
