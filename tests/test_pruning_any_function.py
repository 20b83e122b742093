"""Units of any JAX function: cut out where they can be followed, never wrongly.

Every network is pruned to half of its units and compacted: the outputs have to
be those of the pruned network, and the floats that are left as counted by hand.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from htjax import pruning

relu = jax.nn.relu


@pytest.fixture(autouse=True)
def _as_users_write():
  with jax.numpy_rank_promotion('allow'), jax.debug_key_reuse(False):
    yield


def _draw(*shape, seed=0, dtype=jnp.float32):
  rng = np.random.default_rng(seed + sum(shape))
  return jnp.asarray(rng.normal(size=shape), dtype)


def _uneven(params):
  """No bias or scale is what it starts as."""
  rng = np.random.default_rng(0)

  def moved(leaf):
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      return leaf
    factor = np.exp(0.3 * rng.normal(size=leaf.shape))
    return jnp.asarray(np.asarray(leaf, np.float32) * factor + 0.05, leaf.dtype)

  return jax.tree.map(moved, params)


def _floats(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _check(params, apply, inputs, left, **options):
  """Prune and compact; compare outputs and counts; return both results."""
  params, inputs = (
    _uneven(params),
    inputs if inputs.__class__ is tuple else (inputs,),
  )
  pruned = pruning.units(params, 0.5, apply=apply, inputs=inputs, **options)
  small = pruning.compact(pruned, apply=apply, inputs=inputs)
  _check_same(apply, pruned.params, small.params, inputs)
  assert _floats(small.params) == left
  return pruned, small


def _check_same(apply, params, small, inputs):
  expected = jax.tree.leaves(apply(params, *inputs))
  ours = jax.tree.leaves(apply(small, *inputs))
  for a, b in zip(ours, expected, strict=True):
    assert a.dtype == b.dtype
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    # Sums of at most 100 products in the arithmetic of the network.
    limit = 100 * float(jnp.finfo(ours[0].dtype).eps)
    assert np.abs(a - b).max() <= min(limit, 0.1) * np.abs(b).max()


def _mlp(dtype=jnp.float32):
  sizes = {'a': (6, 10), 'b': (10, 8), 'c': (8, 3)}
  params = {n: _draw(*s, dtype=dtype) for n, s in sizes.items()}
  return params | {
    f'{n}_bias': _draw(s[1], seed=1, dtype=dtype) for n, s in sizes.items()
  }


HALF = 7 * 5 + 6 * 4 + 5 * 3  # of _mlp
FIRST, SECOND = 7 * 5 + 6 * 8 + 9 * 3, 7 * 10 + 11 * 4 + 5 * 3
X = _draw(5, 6, seed=8)


def _forward(p, x, act=relu, middle=lambda h: h):
  h = middle(act(x @ p['a'] + p['a_bias']))
  return act(h @ p['b'] + p['b_bias']) @ p['c'] + p['c_bias']


def _forward_of(p):
  return lambda x: _forward(p, x)


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_narrow_floats(dtype):
  _check(_mlp(dtype), _forward, X.astype(dtype), HALF)


def test_arithmetic_narrower_than_the_weights():
  def apply(p, x):
    return _forward(jax.tree.map(lambda a: a.astype(jnp.bfloat16), p), x)

  _, small = _check(_mlp(), apply, X.astype(jnp.bfloat16), HALF)
  assert small.params['a'].dtype == jnp.float32


@jax.custom_jvp
def _squared(x):
  return jnp.maximum(x, 0) ** 2


_squared.defjvp(lambda p, t: (_squared(*p), t[0]))


@jax.custom_vjp
def _cubed(x):
  return jnp.maximum(x, 0) ** 3


_cubed.defvjp(lambda x: (_cubed(x), x), lambda x, g: (g * x,))


@pytest.mark.parametrize(
  'apply',
  [
    jax.checkpoint(_forward),
    jax.jit(_forward),
    functools.partial(_forward, act=_squared),
    functools.partial(_forward, act=_cubed),
    lambda p, x: jax.vmap(lambda x: _forward(p, x))(x),
    lambda p, x: lax.cond(
      x[0, 0] > 0, lambda x: _forward(p, x, jnp.tanh), _forward_of(p), x
    ),
    functools.partial(
      _forward,
      middle=lambda h: lax.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, h)
      )[1],
    ),
  ],
  ids=['remat', 'jit', 'custom_jvp', 'custom_vjp', 'vmap', 'cond', 'while'],
)
def test_functions_within_functions(apply):
  _check(_mlp(), apply, X, HALF)


@pytest.mark.parametrize(
  ('middle', 'left', 'reason'),
  [
    (
      lambda h: (h - h.mean(-1, keepdims=True)) / (1 + h.std()),
      SECOND,
      None,
    ),
    (jax.nn.softmax, SECOND, None),
    (jnp.sort, SECOND, None),
    (lambda h: jnp.fft.fft(h).real, SECOND, None),
    (lambda h: h * jnp.arange(h.shape[1]), SECOND, None),
    (
      lambda h: jax.pure_callback(
        np.tanh, jax.ShapeDtypeStruct(h.shape, h.dtype), h
      ),
      SECOND,
      None,
    ),
    (
      lambda h: h * jax.random.bernoulli(jax.random.key(1), 0.5, h.shape),
      SECOND,
      None,
    ),
    (lambda h: h ** h.shape[1], SECOND, 'how many units there are'),
    (lambda h: h / h.shape[1], SECOND, 'how many units there are'),
  ],
  ids=[
    *('layer_norm', 'softmax', 'sort', 'fft', 'positions', 'callback'),
    *('dropout', 'power', 'mean'),
  ],
)
def test_what_looks_at_all_units_keeps_them(middle, left, reason):
  """The second layer still loses half of its units."""
  apply = functools.partial(_forward, middle=middle)
  pruned, _ = _check(_mlp(), apply, X, left)
  assert reason is None or reason in dict(pruned.left.reasons)['a']


@pytest.mark.parametrize('fixed', ['slice', 'groups'])
def test_parts_of_fixed_place_keep_their_units(fixed):
  """With fewer units the function runs, and takes others in their place."""
  params = {'a': _draw(6, 12), 'b': _draw(12, 3), 'c': _draw(4, 3)}
  dead = slice(4) if fixed == 'slice' else slice(6)
  params['a'] = params['a'].at[:, dead].set(0)

  def apply(p, x):
    h = relu(x @ p['a'])
    if fixed == 'slice':
      return h @ p['b'] + h[:, 4:8] @ p['c']
    return h.reshape(-1, 2, h.shape[1] // 2).max(axis=1) @ p['c'][:1].T

  if fixed == 'groups':
    params['c'] = _draw(4, 6)
  small = pruning.compact(params, apply=apply, inputs=X)
  _check_same(apply, params, small.params, (X,))
  assert small.params['a'].shape == (6, 12)
  assert fixed == 'groups' or 'fixed part' in small.reasons['a']


def test_zeros_that_would_make_nans_are_not_made():
  def apply(p, x):
    columns = p['a'] / jnp.linalg.norm(p['a'], axis=0, keepdims=True)
    return relu(relu(x @ columns) @ p['b']) @ p['c']

  params = {k: v for k, v in _mlp().items() if len(k) == 1}
  pruned, _ = _check(params, apply, X, 60 + 10 * 4 + 4 * 3)
  assert 'NaN' in dict(pruned.left.reasons)['a']
  # Made by hand they stay: the network's outputs are NaN.
  params['a'] = params['a'].at[:, :5].set(0)
  small = pruning.compact(params, apply=apply, inputs=X)
  assert small.params['a'].shape == (6, 10)


def test_integers_are_left_alone_and_cut():
  params = _mlp() | {
    'step': jnp.int32(3),
    'flag': jnp.array(True),
    'table': jnp.array([1.0, 2.0]),
    'group': jnp.zeros(8, jnp.int32),
    'scale': jnp.arange(1, 11),
  }

  def apply(p, x):
    out = _forward(p, x, middle=lambda h: h * p['scale'])
    out = out * p['table'][p['group'][:3]] + p['step']
    return jnp.where(p['flag'], out, 0)

  _, small = _check(params, apply, X, HALF + 1 + 1 + 2 + 8 + 5)
  assert small.params['scale'].dtype == jnp.int32


def test_quantised_weights():
  rng = np.random.default_rng(0)
  params = {
    'a': jnp.asarray(rng.integers(-99, 99, (6, 10)), jnp.int8),
    'scale': _draw(10),
    'b': _draw(10, 3),
  }

  def apply(p, x):
    return relu(x @ p['a'].astype(jnp.float32) * p['scale']) @ p['b']

  _, small = _check(params, apply, X, 6 * 5 + 5 + 15)
  assert small.params['a'].dtype == jnp.int8


def test_keys_as_inputs():
  def apply(p, x, key):
    drop = lambda h: h * jax.random.bernoulli(key, 0.5, (*h.shape[:1], 1))  # noqa: E731
    return _forward(p, x, middle=drop)

  _check(_mlp(), apply, (X, jax.random.key(0)), HALF)


@pytest.mark.parametrize('cell', ['rnn', 'lstm'])
def test_recurrent_units_are_tied_over_time(cell):
  gates = 4 if cell == 'lstm' else 1
  params = {
    'w': _draw(4, 8 * gates),
    'u': 0.3 * _draw(8, 8 * gates, seed=1),
    'bias': _draw(8 * gates, seed=2),
    'o': _draw(8, 3, seed=3),
  }

  def apply(p, x):
    def step(state, x):
      h, c = state
      z = x @ p['w'] + h @ p['u'] + p['bias']
      if cell == 'rnn':
        return (jnp.tanh(z), c), None
      i, g, f, o = jnp.split(z, 4, axis=-1)
      c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
      return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((x.shape[0], p['u'].shape[0]))
    state, _ = lax.scan(step, (zeros, zeros), jnp.swapaxes(x, 0, 1))
    return state[0] @ p['o']

  _check(params, apply, _draw(2, 7, 4), (4 + 4 + 1) * 4 * gates + 12)


@pytest.mark.parametrize('layers', ['scan', 'fori'])
def test_stacked_layers(layers):
  params = {
    'up': _draw(3, 6, 10),
    'bias': _draw(3, 10),
    'down': 0.3 * _draw(3, 10, 6, seed=3),
    'o': _draw(6, 3),
  }

  def block(h, layer):
    up, bias, down = layer
    return h + relu(h @ up + bias) @ down, None

  def apply(p, x):
    stack = (p['up'], p['bias'], p['down'])
    if layers == 'scan':
      return lax.scan(block, x, stack)[0] @ p['o']
    pick = lambda i: [lax.dynamic_index_in_dim(a, i, 0, False) for a in stack]  # noqa: E731
    return lax.fori_loop(0, 3, lambda i, h: block(h, pick(i))[0], x) @ p['o']

  _check(params, apply, X, 3 * (6 * 5 + 5 + 5 * 6) + 18)


def test_experts_that_are_picked():
  params = {
    'gate': _draw(6, 4),
    'up': _draw(4, 6, 10),
    'bias': _draw(4, 10),
    'down': _draw(4, 10, 3),
  }

  def apply(p, x):
    scores, chosen = lax.top_k(x @ p['gate'], 2)
    h = jnp.einsum('bi,bkio->bko', x, p['up'][chosen]) + p['bias'][chosen]
    out = jnp.einsum('bko,bkoc->bkc', relu(h), p['down'][chosen])
    return jnp.einsum('bk,bkc->bc', jax.nn.softmax(scores), out)

  _check(params, apply, X, 24 + 4 * (30 + 5 + 15))


def test_tied_embeddings():
  params = {'e': _draw(11, 8), 'up': _draw(8, 10), 'down': _draw(10, 8)}

  def apply(p, tokens):
    x = p['e'][tokens]
    x = x + jax.nn.gelu(x @ p['up']) @ p['down']
    return x @ p['e'].T

  # The embedding's dimensions are tied to the sum, 8 -> 4; hidden 10 -> 5.
  _check(params, apply, jnp.arange(10).reshape(2, 5), 44 + 20 + 20)


@pytest.mark.parametrize('norm', ['group', 'rms'])
def test_normalisations_of_groups(norm):
  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = nn.Dense(8)(x)
      x = nn.GroupNorm(num_groups=4)(x) if norm == 'group' else nn.RMSNorm()(x)
      return nn.Dense(3)(nn.relu(nn.Dense(10)(nn.relu(x))))

  module = Net()
  params = module.init(jax.random.key(0), X)
  stays = 7 * 8 + (16 if norm == 'group' else 8)
  _check(params, pruning.linen_apply(module), X, stays + 9 * 5 + 6 * 3)


def _attention(q, k, v):
  scores = jax.nn.softmax(jnp.einsum('bqhk,bthk->bhqt', q, k))
  return jnp.einsum('bhqt,bthk->bqhk', scores, v)


def _projections(p, x):
  return [jnp.einsum('btd,dhk->bthk', x, p[n]) + p[f'{n}b'] for n in 'qkv']


def _heads_in_axes(p, x):
  return jnp.einsum('bqhk,hkd->bqd', _attention(*_projections(p, x)), p['o'])


def _heads_first(p, x):
  q, k, v = (jnp.moveaxis(a, 2, 1) for a in _projections(p, x))
  out = jax.nn.softmax(q @ jnp.swapaxes(k, 2, 3)) @ v
  return jnp.einsum('bhqk,hkd->bqd', out, p['o'])


def _library(p, x):
  out = jax.nn.dot_product_attention(*_projections(p, x), is_causal=True)
  return jnp.einsum('bqhk,hkd->bqd', out, p['o'])


def _flat(p, x, heads=4):
  """Kernels [d, heads * dim] that are unfolded; -1 is what may shrink."""
  qkv = ((x @ p[n].reshape(8, -1)) for n in 'qkv')
  parts = [a.reshape(*a.shape[:2], *heads) for a in qkv]
  out = _attention(*parts)
  return out.reshape(*out.shape[:2], -1) @ p['of']


ATTENTION = {
  **{n: _draw(8, 4, 6, seed=i) for i, n in enumerate('qkv')},
  **{f'{n}b': _draw(4, 6, seed=i) for i, n in enumerate('qkv')},
  'o': _draw(4, 6, 8),
}
FLAT = {n: ATTENTION[n].reshape(8, 24) for n in 'qkv'} | {'of': _draw(24, 8)}


@pytest.mark.parametrize(
  ('apply', 'params', 'options', 'share'),
  [
    (_heads_in_axes, ATTENTION, {}, 2),
    (_heads_in_axes, ATTENTION, {'within_heads': True}, 4),
    (_heads_first, ATTENTION, {}, 2),
    (_library, ATTENTION, {}, 2),
    (functools.partial(_flat, heads=(-1, 6)), FLAT, {}, 2),
    # The number of heads is fixed, so that their dimensions go.
    (functools.partial(_flat, heads=(4, -1)), FLAT, {}, 2),
  ],
  ids=['axes', 'both', 'heads_first', 'library', 'flat', 'flat_dimensions'],
)
def test_layouts_of_attention(apply, params, options, share):
  whole = _floats(params)
  _check(params, apply, _draw(2, 5, 8), whole // share, **options)


def test_constants_go_into_biases_of_heads():
  """A dead sigmoid unit feeds 1/2 into queries, keys and values."""
  params = ATTENTION | {'in': _draw(8, 8).at[:, 2:5].set(0)}

  def apply(p, x):
    return _heads_in_axes(p, jax.nn.sigmoid(x @ p['in']))

  x = _draw(2, 5, 8)
  small = pruning.compact(params, apply=apply, inputs=x)
  _check_same(apply, params, small.params, (x,))
  assert small.params['q'].shape == (5, 4, 6)
  assert np.abs(small.params['qb'] - params['qb']).max() > 0.1


def _conv(x, kernel, groups=1, layout=('NHWC', 'HWIO', 'NHWC')):
  return lax.conv_general_dilated(
    x,
    kernel,
    (1, 1),
    'SAME',
    dimension_numbers=layout,
    feature_group_count=groups,
  )


def _mobile(p, x, groups=None):
  x = relu(_conv(x, p['a']) + p['a_bias'])
  x = relu(_conv(x, p['depth'], groups or x.shape[-1]) + p['depth_bias'])
  return relu(_conv(x, p['point'])).mean((1, 2)) @ p['o']


MOBILE = {
  'a': _draw(3, 3, 2, 8),
  'a_bias': _draw(8),
  'depth': _draw(3, 3, 1, 16),
  'depth_bias': _draw(16),
  'point': _draw(1, 1, 16, 12),
  'o': _draw(12, 3),
}


@pytest.mark.parametrize('groups', [None, 8])
def test_a_convolution_of_each_channel(groups):
  """Channels go with their filters, unless their number is written down."""
  apply = functools.partial(_mobile, groups=groups)
  n = 8 if groups else 4
  left = 19 * n + 10 * 2 * n + 2 * n * 6 + 18
  pruned, _ = _check(MOBILE, apply, _draw(2, 5, 5, 2), left)
  assert bool(groups) == ('feature_group_count' in str(pruned.left.reasons))


def test_layers_that_are_gated_concatenated_and_pooled():
  params = {
    'a': _draw(6, 20),
    'b': _draw(6, 4),
    'c': _draw(14, 12),
    'o': _draw(4, 3),
  }

  def apply(p, x):
    value, gate = jnp.split(x @ p['a'], 2, axis=-1)
    h = jnp.concatenate([value * jax.nn.sigmoid(gate), relu(x @ p['b'])], -1)
    return (h @ p['c']).reshape(x.shape[0], -1, 3).max(axis=-1) @ p['o']

  # Of c, units of three are the maximum of: 4 -> 2 of them, 12 -> 6.
  _check(params, apply, X, 60 + 12 + 7 * 6 + 6)


def test_layouts_of_pytorch():
  params = {
    '0.weight': _draw(8, 2, 3, 3),
    '0.bias': _draw(8),
    '2.weight': _draw(3, 8 * 25),
  }

  def apply(p, x):
    h = _conv(x, p['0.weight'], layout=('NCHW', 'OIHW', 'NCHW'))
    h = relu(h + p['0.bias'][:, None, None])
    return h.reshape(x.shape[0], -1) @ p['2.weight'].T

  _check(params, apply, _draw(2, 2, 5, 5), 4 * 18 + 4 + 3 * 100)


def test_several_outputs():
  params = _mlp() | {'d': _draw(8, 2)}

  def apply(p, x):
    h = relu(relu(x @ p['a'] + p['a_bias']) @ p['b'] + p['b_bias'])
    return {'c': h @ p['c'] + p['c_bias'], 'd': [h @ p['d'], None]}

  _check(params, apply, X, HALF + 8)


def test_modules_of_flax_with_attention_are_smaller():
  class Net(nnx.Module):
    def __init__(self, rngs):
      self.attention = nnx.MultiHeadAttention(4, 8, decode=False, rngs=rngs)
      self.norm = nnx.GroupNorm(8, num_groups=2, rngs=rngs)
      self.out = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
      return self.out(self.norm(x + self.attention(x)).mean(1))

  apply, params = pruning.nnx_apply(Net(nnx.Rngs(0)))
  left = 3 * 9 * 4 + 4 * 8 + 8 + 16 + 27
  _check(params, apply, _draw(2, 5, 8), left)


@pytest.mark.parametrize('apart', [True, False])
def test_every_unit_can_be_dead(apart):
  """One unit stays, so that no array is empty."""
  params = jax.tree.map(jnp.zeros_like, _mlp()) if apart else _mlp()
  params['a'], params['a_bias'] = jnp.zeros((6, 10)), jnp.zeros(10)
  small = pruning.compact(params, apply=_forward, inputs=X)
  _check_same(_forward, params, small.params, (X,))
  assert min(math.prod(a.shape) for a in small.params.values()) > 0
  assert small.params['a'].shape == (6, 1)
