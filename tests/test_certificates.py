"""The code sends networks exactly; the certificate inverts exact tails."""

import itertools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special, stats

from htjax.bounds import certificates, codes

VALUES = [0.0, -1.5, 1.0, 0.0625, -0.75, 3.0]


def sparse(rng, shape, kept, num_values=4):
  book = np.linspace(-1, 1, num_values + 1)[1:] + 0.0625
  book = np.asarray(codes.to_grid(book.astype(np.float32)))
  return np.where(rng.random(shape) < kept, rng.choice(book, shape), 0.0)


def round_trip(layers, header=(), **options):
  code = codes.encode(layers, header, **options)
  decoded = codes.decode(code.bits, lambda s: [np.shape(w) for w in layers])
  return code, decoded


def test_a_network_comes_back_exactly():
  rng = np.random.default_rng(0)
  layers = [
    sparse(rng, (5, 5, 3, 8), 0.4),
    sparse(rng, (72, 10), 0.1, 7),
    np.zeros((4, 4)),
    np.full((3,), -0.5),
    np.float32([2.0**127, 2.0**-120]),
    np.float32(2.0),
  ]
  code, decoded = round_trip(layers, (7, 0, 123456))
  assert decoded.settings == (7, 0, 123456)
  assert decoded.num_bits == code.num_bits == code.bits.size
  for sent, received in zip(layers, decoded.layers, strict=True):
    assert received.dtype == np.float32
    np.testing.assert_array_equal(sent, received)


@settings(max_examples=100, deadline=None)
@given(
  st.lists(
    hnp.arrays(
      np.float32,
      hnp.array_shapes(max_dims=4, max_side=5),
      elements=st.sampled_from(VALUES),
    ),
    max_size=3,
  ),
  st.lists(st.integers(0, 2**31), max_size=3),
  st.binary(max_size=8),
)
def test_what_follows_a_codeword_does_not_matter(layers, header, rest):
  # So no codeword is the beginning of another one of another network.
  code = codes.encode(layers, header)
  bits = np.concatenate([code.bits, np.unpackbits(np.array([*rest], np.uint8))])
  decoded = codes.decode(bits, lambda s: [w.shape for w in layers])
  assert decoded.num_bits == code.num_bits
  assert decoded.settings == tuple(header)
  for sent, received in zip(layers, decoded.layers, strict=True):
    np.testing.assert_array_equal(sent, received)


def test_kraft_over_all_small_networks():
  # Shapes follow from the settings, so networks of all sizes share one code.
  words = []
  for size in (1, 2, 3, 4):
    for entries in itertools.product((0.0, 1.0, -1.0, 0.5), repeat=size):
      layer = np.array(entries, np.float32)
      words.append(codes.encode([layer], (size,), mantissa_bits=0).bits)
  texts = sorted(''.join(map(str, w)) for w in words)
  assert len(set(texts)) == len(words) == 340
  for word, following in itertools.pairwise(texts):
    assert not following.startswith(word)
  assert sum(Fraction(1, 2 ** len(t)) for t in texts) <= 1
  # The negative control: without the two last bits the code is not prefix free.
  cut = sorted(t[:-2] for t in texts)
  assert any(b.startswith(a) for a, b in itertools.pairwise(cut))


@pytest.mark.parametrize('kept', [0.02, 0.2, 0.5, 0.9])
def test_length_against_the_ideal(kept):
  rng = np.random.default_rng(1)
  layer = sparse(rng, (40, 50), kept)
  code = codes.encode([layer])
  ideal = code.header_bits + code.position_bits + code.value_bits
  # The end costs two bits; 32-bit intervals less than one.
  assert ideal <= code.num_bits < ideal + 3
  # Krichevsky and Trofimov: at most log2(N) / 2 + 1 bits over the entropy for
  # flags, and (r - 1) / 2 log2(k) + log2(r) for r values.
  k, n = int(np.sum(layer != 0)), layer.size
  entropy = n * float(stats.entropy([k / n, 1 - k / n], base=2))
  assert entropy < code.position_bits < entropy + math.log2(n) / 2 + 1
  counts = np.unique(layer[layer != 0], return_counts=True)[1]
  r = len(counts)
  best = k * float(stats.entropy(counts / k, base=2))
  assert (
    best < code.value_bits < best + (r - 1) / 2 * math.log2(k) + math.log2(r)
  )


def test_counts_adapt_to_each_layer():
  # A dense and a sparse layer: cheaper than one layer with both.
  rng = np.random.default_rng(2)
  dense, thin = sparse(rng, (1000,), 0.9), sparse(rng, (1000,), 0.02)
  apart = codes.encode([dense, thin]).position_bits
  assert (
    apart < codes.encode([np.concatenate([dense, thin])]).position_bits - 900
  )


@pytest.mark.parametrize(
  ('value', 'length'), [(0, 1), (1, 3), (2, 3), (3, 5), (6, 5), (7, 7)]
)
def test_settings_cost_elias_gamma(value, length):
  # Three bits say that there is one setting, three the mantissa bits.
  assert codes.encode([], (value,)).header_bits == 3 + length + 3


@pytest.mark.parametrize('mantissa_bits', [0, 3, 7])
def test_the_grid_is_the_nearest(mantissa_bits):
  x = np.random.default_rng(3).standard_cauchy(2000).astype(np.float32)
  got = np.asarray(codes.to_grid(x, mantissa_bits), np.float64)
  mantissas = 1 + np.arange(2**mantissa_bits) / 2**mantissa_bits
  grid = np.sort(np.outer(2.0 ** np.arange(-20, 20), mantissas).ravel())
  distance = np.abs(grid[:, None] - np.abs(x[None])).min(axis=0)
  np.testing.assert_allclose(np.abs(got - x), distance, rtol=0, atol=0)
  np.testing.assert_array_equal(np.sign(got), np.sign(x))
  traced = jax.jit(codes.to_grid, static_argnums=1)(x, mantissa_bits)
  np.testing.assert_array_equal(traced, got)
  assert codes.to_grid(jnp.zeros(2))[0] == 0
  np.testing.assert_array_equal(
    round_trip([got], mantissa_bits=mantissa_bits)[1].layers[0], got
  )


def test_codebook_of_few_values_is_exact():
  np.testing.assert_array_equal(codes.fit_codebook([2, 2, -1, 2], 3), [-1, 2])


def test_tied_weights_are_on_the_grid_and_pass_gradients_straight_through():
  layer = jnp.array([[0.9, -0.3, 0.0], [0.4, -1.4, 0.6]])
  book = jnp.array([-1.01, -0.31, 0.52, 0.97])
  tied = codes.tie(layer, book, 3)
  low, small, half, one = np.asarray(codes.to_grid(book, 3))
  np.testing.assert_array_equal(tied, [[one, small, 0], [half, low, half]])
  weights = jnp.arange(1.0, 7.0).reshape(2, 3)
  to_layer, to_book = jax.grad(
    lambda w, b: jnp.sum(weights * codes.tie(w, b, 3)), (0, 1)
  )(layer, book)
  np.testing.assert_array_equal(to_layer, weights * (layer != 0))
  np.testing.assert_array_equal(to_book, [5, 2, 10, 1])
  with pytest.raises(ValueError, match=r'values must be a vector.*\(2, 2\)'):
    codes.tie(layer, book.reshape(2, 2))


@pytest.mark.parametrize(
  ('layers', 'options', 'message'),
  [
    ([np.array([0.1])], {}, r'layers\[0\] must be finite float32'),
    ([np.float32([0.1])], {}, 'grid of 3 mantissa bits'),
    (
      [np.float32([1]), np.float32([np.nan])],
      {},
      r'layers\[1\] must be finite',
    ),
    ([np.zeros((0, 3), np.float32)], {}, 'not empty'),
    ([], {'settings': (-1,)}, 'settings must be an integer >= 0'),
    ([], {'settings': (2**32,)}, 'settings must lie in'),
    ([], {'mantissa_bits': 8}, 'mantissa_bits must be at most 7'),
  ],
)
def test_encode_refuses(layers, options, message):
  with pytest.raises(ValueError, match=message):
    codes.encode(layers, **options)


def test_decode_refuses_what_is_no_codeword():
  code = codes.encode([np.float32(np.tile([0, 1, -1, 0, 0], 20))])
  for length in (0, 1, code.num_bits // 2, code.num_bits - 1):
    with pytest.raises(ValueError, match='bits do not begin with a codeword'):
      codes.decode(code.bits[:length], lambda s: [(100,)])
  with pytest.raises(ValueError, match='zeros and ones'):
    codes.decode([0, 2], lambda s: [])
  with pytest.raises(ValueError, match='endless integer'):
    codes.decode(np.zeros(500), lambda s: [])


def test_no_beginning_of_a_codeword_is_a_network():
  for seed in range(12):
    rng = np.random.default_rng(seed)
    shapes = [(int(rng.integers(1, 30)),) for _ in range(3)]
    layers = [sparse(rng, s, rng.random(), 3) for s in shapes]
    bits = codes.encode(layers, (seed,)).bits
    for length in range(len(bits)):
      with pytest.raises(ValueError, match='begin with a codeword'):
        codes.decode(bits[:length], lambda s, shapes=shapes: shapes)


def test_what_decodes_is_what_was_encoded():
  """Random strings, most of them no codeword: the rest are, bit by bit."""
  shapes = lambda settings: [(4,), (2, 3)]  # noqa: E731
  rng = np.random.default_rng(0)
  decodable = 0
  for _ in range(4000):
    # Short headers: no settings, three bits of mantissa, small codebooks.
    start = [1, *rng.integers(0, 2, 3), *rng.integers(0, 2, 2)]
    bits = np.concatenate([start, rng.integers(0, 2, 60)])
    try:
      decoded = codes.decode(bits, shapes)
    except ValueError as error:
      assert 'begin with a codeword' in str(error)  # noqa: PT017
      continue
    decodable += 1
    mantissa = int(''.join(map(str, bits[1:4])), 2)
    again = codes.encode(decoded.layers, mantissa_bits=mantissa)
    np.testing.assert_array_equal(again.bits, bits[: decoded.num_bits])
    cut = codes.decode(again.bits, shapes)
    assert cut.num_bits == decoded.num_bits
    for one, two in zip(cut.layers, decoded.layers, strict=True):
      np.testing.assert_array_equal(one, two)
  assert decodable > 20


@pytest.mark.parametrize(
  'shapes', [None, lambda s: [(0,)], lambda s: [(2**17, 2**17)], lambda s: 3]
)
def test_decode_refuses_shapes(shapes):
  bits = codes.encode([np.ones(3)]).bits
  with pytest.raises(ValueError, match='shapes must'):
    codes.decode(bits, shapes)


def test_encode_refuses_tracers():
  with pytest.raises(ValueError, match='must be concrete'):
    jax.jit(lambda w: codes.encode([w]).num_bits)(jnp.ones(3))


# The bound ----------------------------------------------------------------


@pytest.mark.parametrize(
  ('errors', 'n', 'log_failure'),
  [
    *((0, 10, -1.0), (3, 10, -0.1), (9, 10, -5.0), (40, 1000, -30.0)),
    *((1000, 60_000, -600.0), (59_000, 60_000, -700.0), (0, 60_000, -400.0)),
  ],
)
def test_binomial_inversion_against_the_beta_quantile(errors, n, log_failure):
  got = certificates.invert_binomial(errors, n, log_failure)
  exact = special.betainccinv(errors + 1, n - errors, math.exp(log_failure))
  assert got == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
  ('errors', 'n', 'bits'), [(20, 400, 900), (3, 50, 40), (390, 400, 100)]
)
def test_binomial_inversion_beyond_the_floats(errors, n, bits):
  # Exact rational arithmetic; the tail is down to e^-620.
  log_failure = -bits * math.log(2)
  got = certificates.invert_binomial(errors, n, log_failure)

  def log_tail(p):
    p = Fraction(p)
    terms = (
      math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(errors + 1)
    )
    tail = sum(terms)
    return math.log(tail.numerator) - math.log(tail.denominator)

  slack = 1e-9 * bits
  assert log_tail(got) <= log_failure + slack
  assert log_tail(got - 1e-9 * (1 - got)) >= log_failure - slack
  assert log_tail(got * (1 - 1e-6)) > log_failure + slack


@settings(max_examples=100, deadline=None)
@given(
  st.integers(1, 3000).flatmap(
    lambda n: st.tuples(st.integers(0, n), st.just(n))
  ),
  st.floats(0, 3000),
  st.floats(1e-6, 0.5),
)
def test_each_form_is_at_most_the_next(counts, bits, delta):
  details = certificates.certificate(*counts, bits, delta).details
  assert counts[0] / counts[1] < details['binomial'] + 1e-12
  assert details['binomial'] <= details['kl'] + 1e-9
  assert details['kl'] <= details['hoeffding'] + 1e-9
  assert details['kl'] <= 1


@pytest.mark.parametrize('form', certificates.FORMS)
def test_certificate_falls_with_n_and_grows_with_the_rest(form):
  def value(errors=300, n=10_000, bits=500.0, delta=0.05, **more):
    return certificates.certificate(
      errors, n, bits, delta, form=form, **more
    ).value

  base = value()
  assert base < value(errors=301)
  assert base < value(bits=501)
  assert base < value(delta=0.04)
  assert base > value(errors=600, n=20_000)
  # A setting that was searched costs as much as a bit that names it.
  assert value(log_settings=math.log(2)) == pytest.approx(value(bits=501))


def test_the_record():
  bound = certificates.certificate(1200, 60_000, 2500, 0.05)
  # By hand: ln(1/delta_h) = 2500 ln 2 + ln 20 = 1735.86.
  assert bound.failure == 0.05
  assert bound.valid
  assert math.exp(bound.terms['empirical']) == pytest.approx(0.02)
  assert bound.value == pytest.approx(bound.details['binomial'], rel=1e-12)
  root = 0.02 + math.sqrt(1735.8637 / 120_000)
  assert bound.details['hoeffding'] == pytest.approx(root, rel=1e-7)
  p = bound.details['kl']
  divergence = 0.02 * math.log(0.02 / p) + 0.98 * math.log(0.98 / (1 - p))
  assert divergence == pytest.approx(1735.8637 / 60_000, rel=1e-7)


def test_kl_at_the_ends():
  assert certificates.invert_kl(1.0, 0.3) == 1
  assert certificates.invert_kl(0.0, 0.3) == pytest.approx(1 - math.exp(-0.3))
  assert certificates.invert_kl(0.4, 0.0) == pytest.approx(0.4)
  # Pinsker is loosest at the ends and nearly exact at 1/2 for small gaps.
  assert certificates.invert_kl(0.5, 2e-6) == pytest.approx(0.501, abs=1e-6)


@pytest.mark.parametrize(
  ('arguments', 'options', 'message'),
  [
    ((-1, 10, 5, 0.1), {}, 'errors must be an integer >= 0'),
    ((11, 10, 5, 0.1), {}, 'errors must lie in'),
    ((1, 0, 5, 0.1), {}, 'n must be an integer >= 1'),
    ((1, 10, -5, 0.1), {}, 'bits must lie in'),
    ((1, 10, 5, 1.0), {}, 'must lie in'),
    ((1, 10, 5, 0.1), {'log_settings': -1}, 'log_settings must lie in'),
    ((1, 10, 5, 0.1), {'form': 'chernoff'}, 'form must be one of'),
  ],
)
def test_certificate_refuses(arguments, options, message):
  with pytest.raises(ValueError, match=message):
    certificates.certificate(*arguments, **options)
