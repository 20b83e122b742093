"""Units of NNX, Linen and Equinox models, of plain pytrees, and by hand."""

import chex
import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from htjax import units
from htjax.units import Leaf


def axes(leaf):
  return leaf.role, leaf.units, leaf.inputs, leaf.window, leaf.stacked


DENSE = ('dense', (1,), (0,), (), ())
CONV = ('convolution', (3,), (2,), (0, 1), ())


class Everything(nnx.Module):
  """A layer of every kind, and a parameter of the module itself."""

  def __init__(self, rngs):
    self.conv = nnx.Conv(4, 8, (3, 3), feature_group_count=2, rngs=rngs)
    self.transposed = nnx.ConvTranspose(
      4, 8, (3, 3), transpose_kernel=True, rngs=rngs
    )
    self.bn = nnx.BatchNorm(8, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(4, 16, decode=False, rngs=rngs)
    self.embed = nnx.Embed(5, 16, rngs=rngs)
    self.general = nnx.LinearGeneral((3, 2), (4, 5), axis=(-2, -1), rngs=rngs)
    self.einsum = nnx.Einsum('bec,ecd->bed', (6, 3, 4), rngs=rngs)
    self.layers = nnx.List([nnx.Linear(3, 4, rngs=rngs)])
    self.position = nnx.Param(jnp.zeros((1, 7, 16)))
    self.dropout = nnx.Dropout(0.1, rngs=rngs)


def test_nnx_layers_are_known_by_their_class():
  given = {'position': Leaf('embedding')}
  found = units.infer(Everything(nnx.Rngs(0)), given=given)
  assert axes(found['conv.kernel']) == CONV
  assert found['conv.kernel'].groups == 2
  assert found['conv.kernel'].partners == ('conv.bias',)
  assert found['transposed.kernel'].units == (2,)
  assert {found[f'bn.{n}'].role for n in ('scale', 'bias', 'mean', 'var')} == {
    'norm'
  }
  query = ('attention', (1, 2), (0,), (), ())
  for name in ('query', 'key', 'value'):
    assert axes(found[f'attention.{name}.kernel']) == query
    assert found[f'attention.{name}.bias'].role == 'bias'
  out = ('attention', (2,), (0, 1), (), ())
  assert axes(found['attention.out.kernel']) == out
  assert found['embed.embedding'].role == 'embedding'
  assert axes(found['general.kernel']) == ('dense', (2, 3), (0, 1), (), ())
  # Six experts, told by the letters of the einsum.
  assert axes(found['einsum.kernel']) == ('dense', (2,), (1,), (), (0,))
  assert axes(found['layers.0.kernel']) == DENSE


def test_an_unknown_parameter_is_refused_by_name():
  class Odd(nnx.Module):
    def __init__(self):
      self.table = nnx.Param(jnp.zeros((2, 3, 4)))

  with pytest.raises(ValueError, match=r'table of shape \(2, 3, 4\).*given='):
    units.infer(Odd())
  given = {'table': Leaf('dense', units=(2,), inputs=(1,), stacked=(0,))}
  assert units.infer(Odd(), given=given)['table'].stacked == (0,)
  with pytest.raises(ValueError, match='no leaf is called'):
    units.infer(Odd(), given={'tabel': given['table']})


def test_vmapped_nnx_layers_are_stacked():
  class Block(nnx.Module):
    def __init__(self, rngs):
      self.linear = nnx.Linear(4, 4, rngs=rngs)
      self.norm = nnx.LayerNorm(4, rngs=rngs)

  stacked = nnx.vmap(Block)(nnx.Rngs(0).split(3))
  found = units.infer(stacked)
  assert axes(found['linear.kernel']) == ('dense', (2,), (1,), (), (0,))
  assert found['linear.bias'].role == 'bias'
  assert found['norm.scale'].role == 'norm'


class Layer(nn.Module):
  @nn.compact
  def __call__(self, x, _):
    x = nn.LayerNorm()(nn.Dense(4)(x))
    return nn.MultiHeadDotProductAttention(2)(x), None


class Scanned(nn.Module):
  @nn.compact
  def __call__(self, tokens):
    x = nn.Embed(7, 4)(tokens)
    layers = nn.scan(
      Layer, variable_axes={'params': 0}, split_rngs={'params': True}, length=3
    )
    x, _ = layers()(x, None)
    x = nn.Conv(4, (3,), feature_group_count=2)(x)
    return nn.BatchNorm(use_running_average=True)(x)


def test_scanned_linen_layers_are_stacked():
  tokens = jax.ShapeDtypeStruct((2, 5), jnp.int32)
  found = units.infer(Scanned(), tokens)
  head = 'ScanLayer_0.MultiHeadDotProductAttention_0'
  assert axes(found['ScanLayer_0.Dense_0.kernel']) == (
    *('dense', (2,), (1,), (), (0,)),
  )
  assert axes(found[f'{head}.query.kernel']) == (
    *('attention', (2, 3), (1,), (), (0,)),
  )
  assert axes(found[f'{head}.out.kernel']) == (
    *('attention', (3,), (1, 2), (), (0,)),
  )
  assert found['ScanLayer_0.LayerNorm_0.scale'].role == 'norm'
  assert found['BatchNorm_0.mean'].role == 'norm'
  assert axes(found['Conv_0.kernel']) == ('convolution', (2,), (1,), (0,), ())
  # Of the parameters alone names tell as much, but for the window of rank 1.
  params = jax.eval_shape(Scanned().init, jax.random.key(0), tokens)['params']
  assert len(units.match(found, params)) == len(jax.tree.leaves(params))


def test_linen_needs_inputs():
  with pytest.raises(ValueError, match='inputs must be given'):
    units.infer(Scanned())
  with pytest.raises(ValueError, match='Linen module alone'):
    units.infer({'kernel': jnp.ones((2, 2))}, jnp.ones(3))


def test_equinox_layers_are_output_first():
  keys = jax.random.split(jax.random.key(0), 4)
  model = {
    'mlp': eqx.nn.MLP(3, 4, 8, 2, key=keys[0]),
    'conv': eqx.nn.Conv2d(4, 8, 3, groups=2, key=keys[1]),
    'norm': eqx.nn.LayerNorm((4, 5)),
    'embed': eqx.nn.Embedding(4, 5, key=keys[2]),
    'attention': eqx.nn.MultiheadAttention(2, 8, key=keys[3]),
  }
  found = units.infer(model)
  assert axes(found['mlp.layers.1.weight']) == ('dense', (0,), (1,), (), ())
  assert axes(found['conv.weight']) == ('convolution', (0,), (1,), (2, 3), ())
  assert found['conv.weight'].groups == 2
  assert found['norm.weight'].role == 'norm'
  assert found['embed.weight'].role == 'embedding'
  assert found['attention.query_proj.weight'].units == (0,)
  # An operation that is handed the model itself knows as much.
  matched = dict(
    zip(found, units.match(None, eqx.filter(model, eqx.is_array)), strict=True)
  )
  assert matched['mlp.layers.1.weight'].units == (0,)
  assert matched['norm.weight'] is None


def test_ensembles_of_equinox_are_stacked():
  make = eqx.filter_vmap(lambda k: eqx.nn.Linear(3, 4, key=k))
  found = units.infer(make(jax.random.split(jax.random.key(0), 5)))
  assert axes(found['weight']) == ('dense', (1,), (2,), (), (0,))


@pytest.mark.parametrize(
  ('params', 'name', 'expected'),
  [
    ({'Dense_0': {'kernel': (3, 4)}}, 'Dense_0.kernel', DENSE),
    ({'mlp/~/linear_0': {'w': (3, 4), 'b': (4,)}}, 'mlp/~/linear_0.w', DENSE),
    ({'a': (3, 4), 'b': (5, 6)}, 'b', DENSE),
    ({'conv_0': {'kernel': (3, 3, 4, 8)}}, 'conv_0.kernel', CONV),
    ({'conv2_d': {'w': (3, 3, 4, 8)}}, 'conv2_d.w', CONV),
    ({'x': {'kernel': (3, 3, 4, 8)}}, 'x.kernel', CONV),
    (
      {'experts': {'kernel': (6, 8, 4)}},
      'experts.kernel',
      ('dense', (2,), (1,), (), (0,)),
    ),
    (
      {'blocks': {'dense': {'kernel': (3, 8, 4), 'bias': (3, 4)}}},
      'blocks.dense.kernel',
      ('dense', (2,), (1,), (), (0,)),
    ),
    (
      {'query': {'kernel': (16, 4, 4)}},
      'query.kernel',
      ('attention', (1, 2), (0,), (), ()),
    ),
    (
      {'q': {'kernel': (3, 16, 4, 4)}, 'o': {'kernel': (3, 4, 4, 16)}},
      'o.kernel',
      ('attention', (3,), (1, 2), (), (0,)),
    ),
    (
      {'proj': {'kernel': (16, 4, 5), 'bias': (4, 5)}},
      'proj.kernel',
      ('attention', (1, 2), (0,), (), ()),
    ),
    (
      {'scan': {'conv': {'kernel': (5, 3, 3, 2, 4), 'bias': (5, 4)}}},
      'scan.conv.kernel',
      ('convolution', (4,), (3,), (1, 2), (0,)),
    ),
  ],
)
def test_plain_trees_by_names_ranks_and_biases(params, name, expected):
  params = jax.tree.map(
    jnp.zeros, params, is_leaf=lambda x: isinstance(x, tuple)
  )
  assert axes(units.infer(params)[name]) == expected


@pytest.mark.parametrize(
  'shape', [(6, 8, 4), (12, 64, 4, 16), (2, 3, 4, 5), (2, 2, 2, 3, 4)]
)
def test_a_plain_leaf_of_high_rank_is_not_guessed(shape):
  params = {'w': jnp.zeros(shape)}
  if shape == (2, 2, 2, 3, 4):  # a window of rank 3
    assert units.infer(params)['w'].window == (0, 1, 2)
    return
  with pytest.raises(ValueError, match=r"given=\{'w': htjax.units.Leaf"):
    units.infer(params)
  with pytest.raises(ValueError, match=r"units=\{'w': htjax.units.Leaf"):
    units.match(None, params)
  given = {'w': Leaf('other')}
  assert units.match(given, params) == [None]


def test_torch_layout():
  params = {
    'fc': {'weight': jnp.zeros((4, 3)), 'bias': jnp.zeros(4)},
    'conv1': {'weight': jnp.zeros((8, 3, 5, 5))},
    'bn1': {'weight': jnp.zeros(8), 'running_mean': jnp.zeros(8)},
    'wte': {'weight': jnp.zeros((9, 4))},
  }
  found = units.infer(params, layout='torch')
  assert axes(found['fc.weight']) == ('dense', (0,), (1,), (), ())
  assert axes(found['conv1.weight']) == (
    *('convolution', (0,), (1,), (2, 3), ()),
  )
  assert found['bn1.weight'].role == 'norm'
  assert found['wte.weight'].role == 'embedding'
  with pytest.raises(ValueError, match='layout must be one of'):
    units.infer(params, layout='keras')


@pytest.mark.parametrize(
  ('leaf', 'shape'),
  [
    (Leaf('dense', (1,), (0,)), (3, 4)),
    (Leaf('dense', (0,), (1,)), (4, 3)),
    (Leaf('attention', (2, 3), (1,), (), (0,)), (2, 5, 3, 4)),
    (Leaf('attention', (3,), (1, 2), (), (0,)), (2, 3, 4, 5)),
    (Leaf('convolution', (0,), (1,), (2, 3)), (6, 5, 3, 2)),
  ],
)
def test_canonical_form_keeps_every_weight_in_its_place(leaf, shape):
  array = np.arange(np.prod(shape)).reshape(shape)
  form = leaf.canonical(jnp.asarray(array))
  assert form.shape == (
    leaf.num_layers(shape),
    int(np.prod([shape[a] for a in leaf.window])),
    int(np.prod([shape[a] for a in leaf.inputs])),
    leaf.num_units(shape),
  )
  np.testing.assert_array_equal(leaf.restore(form, shape), array)
  # One unit's incoming weights, written out by indexing.
  index = [0] * len(shape)
  for a in (*leaf.window, *leaf.inputs):
    index[a] = slice(None)
  np.testing.assert_array_equal(
    np.sort(form[0, :, :, 0].ravel()), np.sort(array[tuple(index)].ravel())
  )


def test_bad_descriptions_are_refused():
  with pytest.raises(ValueError, match='must not share an axis'):
    Leaf('dense', units=(0,), inputs=(0,))
  with pytest.raises(ValueError, match='must have unit and input axes'):
    Leaf('dense', units=(0,))
  with pytest.raises(ValueError, match='role must be one of'):
    Leaf('matrix')
  with pytest.raises(ValueError, match='units must be axes >= 0'):
    Leaf('dense', units=(-1,), inputs=(0,))
  params = {'w': jnp.zeros((3, 4))}
  wrong = {'w': Leaf('dense', units=(2,), inputs=(0,), stacked=(1,))}
  with pytest.raises(ValueError, match=r'w has shape \(3, 4\)'):
    units.match(wrong, params)
  odd = {'w': Leaf('dense', units=(1,), inputs=(0,), groups=3)}
  with pytest.raises(ValueError, match='3 groups do not divide'):
    units.match(odd, params)
  with pytest.raises(ValueError, match=r'units must be htjax\.units'):
    units.match('flax', params)
  with pytest.raises(ValueError, match='another model: v is'):
    units.match({'v': Leaf('bias')}, params)
  with pytest.raises(ValueError, match='another model: w is'):
    units.match(units.infer({'v': jnp.zeros((3, 4))}), params)
  with pytest.raises(ValueError, match='at least one leaf'):
    units.infer({})


def test_units_are_static_and_printable():
  found = units.infer({'a': jnp.zeros((3, 4)), 'norm': {'scale': jnp.ones(4)}})
  assert jax.tree.leaves(found) == []

  @jax.jit
  @chex.assert_max_traces(n=1)
  def fan_in(units, w):
    return units['a'].fan_in(w.shape) * w.sum()

  assert fan_in(found, jnp.ones((3, 4))) == 36
  fan_in(
    units.infer({'a': jnp.zeros((3, 4)), 'norm': {'scale': jnp.ones(4)}}),
    jnp.ones((3, 4)),
  )
  text = str(found).split('\n')
  assert text[0].split() == [
    *('leaf', 'role', 'units', 'inputs', 'window', 'stacked', 'groups'),
  ]
  assert text[1].split() == ['a', 'dense', '1', '0', '1']
  assert text[2].split() == ['norm.scale', 'norm']


def test_what_stands_around_the_parameters_is_no_part_of_a_name():
  model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
  found = units.infer(model)
  state = nnx.state(model)
  for params in (state, nnx.to_pure_dict(state), {'params': state}):
    assert [leaf is not None for leaf in units.match(found, params)] == [
      *(False, True),
    ]
