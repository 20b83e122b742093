"""Stable draws: the law at every alpha, its tail, its edges, its refusals."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from htjax import stable
from htjax.stable import draws

FEW = 1 << 17
# The same draws compiled in another way may differ by the rounding of an
# exponent that stays below 16 for alpha >= 1: 16 * 2^-23.
RTOL = 2e-6

FLOATS = (jnp.float32, jnp.float64)


def _precision(dtype):
  return jax.enable_x64(dtype == jnp.float64)


# The formula, word by word.


def _from_words(monkeypatch, draw, alpha, dtype):
  """Draws for all pairs of edge and random words, with angle and exponential.

  The angle u in (0, 1), its distance from 1 and w are in extended precision.
  """
  bits = np.dtype(dtype).itemsize * 8
  top = 2 ** (bits - 1)
  # The ends of every interval that a word stands for, and their neighbours.
  edges = [0, 1, 2, top // 2, top - 2, top - 1, top, 2 * top - 2, 2 * top - 1]
  random = np.random.default_rng(2).integers(0, 2**63, 40) >> (64 - bits)
  words = np.array([*edges, *(2 * int(r) + 1 for r in random)], np.uint64)
  a, b = (x.ravel() for x in np.meshgrid(words, words))
  low = 2**32 - 1
  pairs = [(a, b)]
  if bits == 64:
    pairs = [(a >> 32, a & low), (b >> 32, b & low)]
  pairs = [tuple(jnp.asarray(x, jnp.uint32) for x in p) for p in pairs]
  monkeypatch.setattr(draws, 'word_pairs', lambda *_: pairs)
  # Without the compiled functions, which would keep these words.
  x = draw(jax.random.key(0), alpha, a.shape, np.dtype(dtype))
  k, m = a & np.uint64(top - 1), np.where(b < top, b, 2 * top - 1 - b)
  u, far, v = (
    (n.astype(np.longdouble) + np.longdouble(0.5)) / top
    for n in (k, top - 1 - k, m)
  )
  w = -np.where(b < top, np.log(v / 2), np.log1p(-v / 2))
  return np.asarray(x), u, far, w, a >= top


# A power of at most 1 of a number below e^45 (e^90), in roundings of 2^-24
# (2^-53).
FORMULA_RTOL = {jnp.float32: 1e-5, jnp.float64: 4e-14}
PI = np.longdouble('3.14159265358979323846')


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('alpha', [0.5, 1 - 1e-6, 1.0, 1.5, 1.8, 1.95, 2.0])
def test_symmetric_draws_follow_the_formula(monkeypatch, alpha, dtype):
  def draw(key, alpha, shape, dtype):
    return draws._sample.__wrapped__(key, alpha, 1.0, shape, dtype)

  with _precision(dtype):
    x, u, far, w, negative = _from_words(monkeypatch, draw, alpha, dtype)
  alpha = np.longdouble(np.dtype(dtype).type(alpha))
  u, far = u * PI / 2, far * PI / 2
  exact = np.sin(np.minimum(alpha * u, (2 - alpha) * PI / 2 + alpha * far))
  exact /= np.sin(far) ** (1 / alpha)
  rest = np.cos((1 - alpha) * u) if alpha < 2 else np.sin(far)
  exact *= (rest / w) ** ((1 - alpha) / alpha)
  exact = np.where(negative, -exact, exact)
  np.testing.assert_allclose(x, exact, rtol=FORMULA_RTOL[dtype])


@pytest.mark.parametrize('dtype', FLOATS)
@pytest.mark.parametrize('alpha', [0.5, 0.75, 0.9, 0.975, 1 - 1e-6])
def test_positive_draws_follow_the_formula(monkeypatch, alpha, dtype):
  draw = draws._sample_positive.__wrapped__
  with _precision(dtype):
    a, u, far, w, _ = _from_words(monkeypatch, draw, alpha, dtype)
  alpha = np.longdouble(np.dtype(dtype).type(alpha))
  sine = np.sin(PI * np.minimum(u, far))
  exact = np.sin(PI * np.minimum(alpha * u, 1 - alpha + alpha * far))
  exact *= sine ** (-1 / alpha)
  exact *= (np.sin((1 - alpha) * PI * u) / w) ** ((1 - alpha) / alpha)
  np.testing.assert_allclose(a, exact, rtol=FORMULA_RTOL[dtype])


# The one-sided law.


def test_positive_law_at_one_is_one():
  a = stable.sample_positive(jax.random.key(22), 1.0, (1000,))
  np.testing.assert_array_equal(a, 1.0)


# Vectors.


def test_type1_is_constant_along_its_axes():
  def spread(axis):
    x = stable.sample_vectors(
      jax.random.key(36), 1.5, (4, 3, 5), kind='type1', axis=axis
    )
    return [len(np.unique(x)), *(np.ptp(x, axis=i).max() for i in range(3))]

  assert spread(0)[0] == 15
  assert spread(0)[1] == 0 < min(spread(0)[2:])
  assert spread(-3) == spread(0)
  assert spread(-1)[0] == 12
  assert spread(-1)[3] == 0 < min(spread(-1)[1:3])
  assert spread((0, 1))[0] == 5
  assert max(spread((0, -2))[1:3]) == 0 < spread((0, -2))[3]
  assert spread((0, 1, 2))[0] == 1
  assert spread(())[0] == 60


def test_type3_shares_its_radius_along_its_axes():
  # At alpha = 0.2 the radius spans tens of decades, the normals few.
  x = stable.sample_vectors(
    jax.random.key(37), 0.2, (50, 40, 30), kind='type3', axis=(0, -1)
  )
  size = np.log10(np.abs(np.asarray(x)))
  assert np.ptp(np.median(size, axis=(0, 2))) > 5
  within = size - np.median(size, axis=(0, 2), keepdims=True)
  assert np.mean(np.abs(within) > 2) < 0.02


@pytest.mark.parametrize('kind', stable.KINDS)
def test_vectors_scale(kind):
  def draw(scale):
    return stable.sample_vectors(
      jax.random.key(38), 1.5, (3, 4), kind=kind, scale=scale
    )

  scales = jnp.array([0.0, 1.0, 2.5, 4.0])
  np.testing.assert_allclose(draw(3.0), 3.0 * draw(1.0), rtol=RTOL)
  np.testing.assert_allclose(
    draw(scales), draw(1.0) * scales[None, :], rtol=RTOL
  )
  np.testing.assert_allclose(
    jax.vmap(draw)(scales), draw(1.0)[None] * scales[:, None, None], rtol=RTOL
  )
  np.testing.assert_array_equal(draw(0.0), 0.0)


# Lévy increments.


def test_each_step_depends_on_key_and_number_alone():
  def path(num_steps):
    return stable.levy_increments(
      jax.random.key(43), 1.5, 0.1, num_steps, (3, 2), kind='type2'
    )

  np.testing.assert_allclose(path(7)[:4], path(4), rtol=RTOL)
  redrawn = stable.sample_vectors(
    jax.random.fold_in(jax.random.key(43), 5),
    1.5,
    (3, 2),
    kind='type2',
    scale=0.1 ** (1 / 1.5),
  )
  np.testing.assert_allclose(path(7)[5], redrawn, rtol=RTOL)
  assert len(np.unique(path(7))) == 42


def test_increments_take_traced_alpha_and_step_size():
  @jax.jit
  def path(alpha, step_size):
    return stable.levy_increments(
      jax.random.key(44), alpha, step_size, 3, (4,), kind='type3'
    )

  for alpha, step_size in ((1.2, 0.5), (2.0, 0.01)):
    eager = stable.levy_increments(
      jax.random.key(44), alpha, step_size, 3, (4,), kind='type3'
    )
    np.testing.assert_allclose(path(alpha, step_size), eager, rtol=RTOL)
  assert path._cache_size() == 1
  assert jnp.all(jnp.isnan(path(1.5, -0.1)))


# Shapes, transformations, devices.


@pytest.mark.parametrize('shape', [(), (0,), (3, 0), (1,), (2, 3, 4)])
@pytest.mark.parametrize('dtype', FLOATS)
def test_shapes(shape, dtype):
  with _precision(dtype):
    symmetric = stable.sample(jax.random.key(50), 1.5, shape, dtype)
    positive = stable.sample_positive(jax.random.key(51), 0.5, shape, dtype)
  assert symmetric.shape == positive.shape == shape
  assert symmetric.dtype == positive.dtype == dtype


def test_an_integer_is_a_shape():
  for shape in (5, np.int64(5), [5]):
    assert stable.sample(jax.random.key(52), 1.5, shape).shape == (5,)
  assert stable.sample(jax.random.key(52), 2).shape == ()


@pytest.mark.parametrize('alpha', [1e-37, 1e-20, 1e-3, 0.05, 0.2])
def test_tiny_alpha_stays_finite(alpha):
  # About half of the draws lie beyond the largest float32 at 0.001.
  x = np.asarray(stable.sample(jax.random.key(53), alpha, (FEW,)))
  a = np.asarray(stable.sample_positive(jax.random.key(54), alpha, (FEW,)))
  assert np.all(np.isfinite(x))
  assert np.all(np.isfinite(a) & (a >= 0))
  for scale in (0.0, 1e30):
    vectors = stable.sample_vectors(
      jax.random.key(55), alpha, (FEW // 4, 4), kind='type3', scale=scale
    )
    assert jnp.all(jnp.isfinite(vectors))
    assert jnp.all(vectors == 0) == (scale == 0)


@pytest.mark.parametrize('alpha', [1e-3, 0.05, 1.0, 2.0])
def test_scale_zero_is_zero(alpha):
  # Also where the unscaled draw has left float32.
  @jax.jit
  def draw(scale):
    return stable.sample(jax.random.key(56), alpha, (FEW,), scale=scale)

  np.testing.assert_array_equal(draw(0.0), 0.0)
  np.testing.assert_array_equal(
    stable.sample(jax.random.key(56), alpha, (FEW,), scale=0), 0.0
  )


def test_scale_multiplies():
  x = stable.sample(jax.random.key(57), 1.5, (2, 3))
  scales = jnp.array([0.5, 1.0, 3.0])
  np.testing.assert_allclose(
    stable.sample(jax.random.key(57), 1.5, (2, 3), scale=scales),
    x * scales[None, :],
    rtol=RTOL,
  )


@pytest.mark.parametrize('name', ['alpha', 'scale'])
def test_parameters_larger_than_the_shape_are_refused(name):
  # They would give several draws of the same randomness.
  wide = {'alpha': 1.5, 'scale': 1.0, name: jnp.ones(3)}
  for shape in ((), (1,), (2,), (3, 1)):
    with pytest.raises(ValueError, match=f'{name} must broadcast to shape'):
      stable.sample(
        jax.random.key(60), wide['alpha'], shape, scale=wide['scale']
      )


def _draws(key, alpha):
  keys = jax.random.split(key, 5)
  return (
    stable.sample(keys[0], alpha, (7, 3)),
    stable.sample_positive(keys[1], alpha / 2, (7, 3)),
    *(
      stable.sample_vectors(k, alpha, (7, 3), kind=kind)
      for k, kind in zip(keys[2:], stable.KINDS, strict=True)
    ),
  )


def test_jit_equals_eager():
  for alpha in (1.0, 1.5, 2.0):
    eager = _draws(jax.random.key(61), alpha)
    compiled = jax.jit(_draws)(jax.random.key(61), alpha)
    for a, b in zip(eager, compiled, strict=True):
      np.testing.assert_allclose(a, b, rtol=RTOL)


def test_one_compilation_serves_every_alpha_and_scale():
  @jax.jit
  def draw(alpha, scale):
    return stable.sample(jax.random.key(62), alpha, (5,), scale=scale)

  for alpha, scale in ((0.5, 1.0), (1.0, 2.0), (2.0, 0.0)):
    draw(alpha, scale)
  assert draw._cache_size() == 1


def test_vmap_equals_a_loop():
  def keys():
    return jax.random.split(jax.random.key(63), 4)

  alphas = jnp.array([0.7, 1.0, 1.6, 2.0])
  mapped = jax.vmap(_draws)(keys(), alphas)
  for i in range(4):
    one = _draws(keys()[i], alphas[i])
    for a, b in zip(mapped, one, strict=True):
      np.testing.assert_allclose(a[i], b, rtol=RTOL)


@pytest.mark.parametrize('alpha', [0.5, 1.0, 1.5, 1.9])
def test_draws_can_be_differentiated(alpha):
  with jax.enable_x64(True):

    def draw(alpha, scale):
      return stable.sample(
        jax.random.key(68), alpha, (1000,), jnp.float64, scale=scale
      )

    x, by_scale = jax.jvp(lambda s: draw(alpha, s), (2.0,), (1.0,))
    np.testing.assert_allclose(by_scale, x / 2.0, rtol=1e-12)
    # The error is the curvature, log(1e6)^2 |x| h at most for these powers.
    h = 1e-6
    x, by_alpha = jax.jvp(lambda a: draw(a, 1.0), (alpha,), (1.0,))
    difference = (x - draw(alpha - h, 1.0)) / h
    np.testing.assert_allclose(
      by_alpha, difference, rtol=1e-3, atol=1e-3 * np.abs(x).max()
    )
    assert np.mean(by_alpha != 0) > 0.99


@pytest.mark.parametrize('kind', stable.KINDS)
def test_gradients_are_finite(kind):
  @jax.jit
  def gradient(alpha, scale):
    def size(alpha, scale):
      x = stable.sample_vectors(
        jax.random.key(69), alpha, (1000, 3), kind=kind, scale=scale
      )
      return jnp.sum(jnp.log1p(jnp.abs(x)))

    return jax.grad(size, argnums=(0, 1))(alpha, scale)

  for alpha in (0.5, 1.0, 1.5, 2.0):
    by_alpha, by_scale = gradient(alpha, 2.0)
    assert np.isfinite(by_alpha)
    # d/ds sum log(1 + s |z|) = sum |z| / (1 + s |z|) lies in (0, n / s).
    assert 0 < by_scale < 3000 / 2.0
    # A smaller alpha has larger values.
    if alpha < 2:
      assert by_alpha < 0


def test_eight_devices_equal_one():
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ('d',))
  spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('d'))
  assert mesh.size == 8

  for kind in stable.KINDS:

    def draw(key, kind=kind):
      return stable.sample_vectors(key, 1.5, (1 << 10, 8), kind=kind)

    one = jax.jit(draw)(jax.random.key(70))
    compiled = jax.jit(draw, out_shardings=spread)
    eight = compiled(jax.random.key(70))
    assert len(eight.sharding.device_set) == 8
    np.testing.assert_allclose(one, eight, rtol=RTOL)
    # Each device draws its own part.
    text = compiled.lower(jax.random.key(70)).compile().as_text()
    assert 'all-gather' not in text
    assert 'all-reduce' not in text


# Refusals.


@pytest.mark.parametrize('alpha', [0, -1.0, 2.1, math.nan, math.inf, 'a', 1j])
@pytest.mark.parametrize('made', [float, np.asarray])
def test_bad_alpha(alpha, made):
  if made is not float:
    alpha = made(alpha)
  with pytest.raises(ValueError, match='alpha must'):
    stable.sample(jax.random.key(80), alpha)
  with pytest.raises(ValueError, match='alpha must'):
    stable.sample_vectors(jax.random.key(80), alpha, (3,), kind='type3')
  with pytest.raises(ValueError, match='alpha must'):
    stable.sample_positive(jax.random.key(80), alpha)
  with pytest.raises(ValueError, match='alpha must'):
    stable.levy_increments(
      jax.random.key(80), alpha, 0.1, 3, (2,), kind='type1'
    )


def test_positive_alpha_above_one():
  with pytest.raises(ValueError, match=r'alpha must lie in \(0, 1\], got 1.5'):
    stable.sample_positive(jax.random.key(80), 1.5)


@pytest.mark.parametrize('scale', [-1.0, math.nan, math.inf])
def test_bad_scale(scale):
  with pytest.raises(ValueError, match='scale must lie in'):
    stable.sample(jax.random.key(80), 1.5, scale=scale)
  with pytest.raises(ValueError, match='scale must lie in'):
    stable.sample_vectors(
      jax.random.key(80), 1.5, (3,), kind='type1', scale=scale
    )


def test_traced_bad_values_give_nan():
  @jax.jit
  def draw(alpha, scale):
    return [
      stable.sample(jax.random.key(81), alpha, (3,), scale=scale),
      *(
        stable.sample_vectors(
          jax.random.key(82), alpha, (3,), kind=kind, scale=scale
        )
        for kind in stable.KINDS
      ),
    ]

  positive = jax.jit(
    lambda alpha: stable.sample_positive(jax.random.key(83), alpha, (3,))
  )
  for alpha in (0.0, -1.0, 2.001, math.nan, math.inf):
    assert jnp.all(jnp.isnan(jnp.stack(draw(alpha, 1.0))))
    assert jnp.all(jnp.isnan(positive(alpha)))
  assert jnp.all(jnp.isnan(positive(1.001)))
  for scale in (-1.0, math.nan, math.inf):
    assert jnp.all(jnp.isnan(jnp.stack(draw(1.5, scale))))


@pytest.mark.parametrize('shape', [(-1,), -1, (2.5,), ('a',), (True,)])
def test_bad_shape(shape):
  with pytest.raises(ValueError, match='shape must be an integer >= 0'):
    stable.sample(jax.random.key(84), 1.5, shape)


def test_bad_vectors():
  key = jax.random.key(85)
  with pytest.raises(ValueError, match="kind must be one of 'type1', 'type2'"):
    stable.sample_vectors(key, 1.5, (3,), kind='type4')
  for axis in (2, -3, (0, 2)):
    with pytest.raises(ValueError, match=r'axis must be an axis of shape'):
      stable.sample_vectors(key, 1.5, (3, 2), kind='type1', axis=axis)
  with pytest.raises(ValueError, match='axis must be an axis of shape'):
    stable.sample_vectors(key, 1.5, (), kind='type1')
  with pytest.raises(ValueError, match='alpha must be a scalar'):
    stable.sample_vectors(key, jnp.ones(3), (3,), kind='type2')


def test_bad_increments():
  def path(**changes):
    good = {
      'key': jax.random.key(86),
      'alpha': 1.5,
      'step_size': 0.1,
      'num_steps': 3,
      'shape': (2,),
      'kind': 'type1',
    }
    stable.levy_increments(**(good | changes))

  for step_size in (0.0, -1.0, math.nan, math.inf):
    with pytest.raises(ValueError, match='step_size must lie in'):
      path(step_size=step_size)
  for num_steps in (0, -1, 2.0, True):
    with pytest.raises(ValueError, match='num_steps must be an integer'):
      path(num_steps=num_steps)
  with pytest.raises(ValueError, match='kind must be one of'):
    path(kind='I')
  with pytest.raises(ValueError, match='axis must be an axis'):
    path(axis=1)
  with pytest.raises(ValueError, match='key must be a typed key'):
    path(key=3)


def _calls(key, dtype=jnp.float32):
  return (
    lambda: stable.sample(key, 1.5, (), dtype),
    lambda: stable.sample_positive(key, 0.5, (), dtype),
    lambda: stable.sample_vectors(key, 1.5, (2,), dtype, kind='type3'),
    lambda: stable.levy_increments(
      key, 1.5, 0.1, 2, (2,), kind='type1', dtype=dtype
    ),
  )


@pytest.mark.parametrize(
  ('key', 'message'),
  [
    (0, 'key must be a typed key'),
    (np.zeros(2, np.uint32), 'got a legacy uint32 key'),
    (None, 'got None'),
  ],
)
def test_bad_keys(key, message):
  for call in _calls(key):
    with pytest.raises(ValueError, match=message):
      call()


def test_arrays_of_keys_are_refused():
  for call in _calls(jax.random.split(jax.random.key(87), 2)):
    with pytest.raises(ValueError, match='key must be a single key'):
      call()


@pytest.mark.parametrize('dtype', [jnp.float16, jnp.bfloat16, jnp.int32])
def test_bad_dtypes(dtype):
  for call in _calls(jax.random.key(88), dtype):
    with pytest.raises(ValueError, match='dtype must be float32 or float64'):
      call()


def test_float64_needs_x64():
  for call in _calls(jax.random.key(89), jnp.float64):
    with pytest.raises(ValueError, match=r'needs jax\.enable_x64'):
      call()


@pytest.mark.parametrize('index', range(4))
def test_a_key_is_used_once(index):
  key = jax.random.key(90)
  call = _calls(key)[index]
  call()
  if index < 3:
    with pytest.raises(jax.errors.KeyReuseError):
      call()
  else:
    # Steps fold their number into the key and leave it as it is.
    call()


def test_strict_promotion():
  with jax.numpy_dtype_promotion('strict'):
    for call in _calls(jax.random.key(91))[:1] + _calls(jax.random.key(91))[3:]:
      call()
    for draw in _draws(jax.random.key(92), jnp.float32(1.5)):
      assert draw.dtype == jnp.float32
