"""Descriptions of models that know their layers: NNX, Linen and Equinox.

Each adapter goes through the layers of a model and describes the leaves of
those that it knows by class. What is left over, such as parameters that a
module of the user's own holds itself, is described by its name. No library is
imported here before the caller has handed in one of its models.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from htjax.units.leaf import Leaf, leaf_name, named_leaves
from htjax.units.names import describe, is_floating

Shape = tuple[int, ...]
# From a layer's name and its leaves' shapes to their descriptions.
Described = dict[str, Leaf]

_NORMS = (
  *('BatchNorm', 'LayerNorm', 'RMSNorm', 'GroupNorm', 'InstanceNorm'),
  *('WeightNorm', 'SpectralNorm'),
)


def from_nnx(model: Any) -> Described:
  """Describe the variables of an `nnx.Module`.

  Args:
    model: the module.

  Returns:
    name -> Leaf, for every variable that is an array of numbers.
  """
  from flax import nnx

  variables = {}
  for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Variable)):
    value = variable.get_value() if hasattr(variable, 'get_value') else variable
    if _is_numbers(value):
      variables['.'.join(map(str, path))] = value
  found = _by_name(variables, 'flax')
  attention = []
  for path, node in nnx.iter_graph(model):
    head = ''.join(f'{p}.' for p in path)
    if isinstance(node, nnx.MultiHeadAttention):
      attention.append(head)
    if isinstance(node, nnx.Module):
      shapes = _below(head, variables)
      found |= _flax_layer(node, type(node), head, shapes)
  return _in_attention(found, attention)


def from_linen(module: Any, inputs: Sequence[Any], options: Any) -> Described:
  """Describe the variables of a Linen module, from an abstract `init`.

  Args:
    module: the module.
    inputs: what `module.init` is called with after the key.
    options: keywords of `module.init`.

  Returns:
    name -> Leaf.
  """
  from flax import linen as nn

  seen: list[tuple[tuple[str, ...], Any, dict[str, Shape]]] = []

  def watch(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    out = call(*args, **kwargs)
    layer = context.module
    own = {
      name: tuple(leaf.shape)
      for values in layer.variables.values()
      for name, leaf in values.items()
      if hasattr(leaf, 'shape')
    }
    seen.append((layer.path, layer, own))
    return out

  def init(key: jax.Array) -> Any:
    with nn.intercept_methods(watch):
      return module.init(key, *inputs, **options)

  variables = dict(named_leaves(jax.eval_shape(init, jax.random.key(0))))
  found = _by_name(variables, 'flax')
  attention = []
  for path, layer, own in seen:
    head = ''.join(f'{p}.' for p in path)
    if isinstance(layer, nn.MultiHeadDotProductAttention):
      attention.append(head)
    shapes = _below(head, variables)
    found |= _flax_layer(layer, type(layer), head, shapes, own)
  return _in_attention(found, attention)


def from_equinox(model: Any) -> Described:
  """Describe the arrays of an Equinox module, or a pytree that holds some.

  Args:
    model: the pytree. Layers are known by the names of their classes, so that
      Equinox itself is not needed.

  Returns:
    name -> Leaf, for every array.
  """
  arrays = {n: a for n, a in named_leaves(model) if _is_numbers(a)}
  found = _by_name(arrays, 'torch')
  layers, _ = jax.tree_util.tree_flatten_with_path(
    model, is_leaf=_is_equinox_layer
  )
  for path, layer in layers:
    if _is_equinox_layer(layer):
      head = f'{leaf_name(path)}.' if path else ''
      found |= _equinox_layer(layer, head, _below(head, arrays))
  return found


def is_equinox(model: Any) -> bool:
  """Whether a pytree is, or holds, layers of Equinox."""
  leaves = jax.tree.leaves(model, is_leaf=_is_equinox_layer)
  return any(map(_is_equinox_layer, leaves))


def _by_name(arrays: Mapping[str, Any], layout: str) -> Described:
  signature = tuple(
    (name, tuple(a.shape), is_floating(a)) for name, a in arrays.items()
  )
  return dict(describe(signature, layout))


def _flax_layer(
  layer: Any,
  kind: type,
  head: str,
  shapes: Mapping[str, Shape],
  own: Mapping[str, Shape] | None = None,
) -> Described:
  """Describe the leaves of a layer of NNX or Linen, if its class is known.

  Args:
    layer: the module.
    kind: its class; a class derived from a known one is that one.
    head: what the names of its leaves begin with.
    shapes: of its own leaves, by their last name.
    own: shapes as the layer itself sees them, where layers are stacked.

  Returns:
    name -> Leaf.
  """
  for base in kind.__mro__:
    if base.__module__.split('.')[0] != 'flax':
      continue
    if base.__name__ in _NORMS:
      return {head + name: Leaf('norm') for name in shapes}
    if base.__name__ == 'Embed':
      return {
        head + name: _lead(Leaf('embedding', units=(1,), inputs=(0,)), 2, shape)
        for name, shape in shapes.items()
      }
    rule = _FLAX_RULES.get(base.__name__)
    if rule is not None and 'kernel' in shapes:
      shape = shapes['kernel']
      leaf, rank = rule(layer, (own or {}).get('kernel', shape), shapes)
      partners = (f'{head}bias',) if 'bias' in shapes else ()
      leaf = dataclasses.replace(_lead(leaf, rank, shape), partners=partners)
      return {f'{head}kernel': leaf} | {p: Leaf('bias') for p in partners}
  return {}


def _dense(
  layer: Any, shape: Shape, shapes: Mapping[str, Shape]
) -> tuple[Leaf, int]:
  return Leaf('dense', units=(1,), inputs=(0,)), 2


def _general(
  layer: Any, shape: Shape, shapes: Mapping[str, Shape]
) -> tuple[Leaf, int]:
  """[batch.., inputs.., outputs..], of LinearGeneral and DenseGeneral."""
  outputs = _tuple(getattr(layer, 'out_features', None) or layer.features)
  axes = _tuple(layer.axis)
  batch: Any = getattr(layer, 'batch_axis', None)
  if batch is None:
    batch = getattr(layer, 'batch_dims', ())
  b = len(batch or ())
  i, o = b + len(axes), b + len(axes) + len(outputs)
  return (
    Leaf(
      'dense',
      units=tuple(range(i, o)),
      inputs=tuple(range(b, i)),
      stacked=tuple(range(b)),
    ),
    o,
  )


def _einsum(
  layer: Any, shape: Shape, shapes: Mapping[str, Shape]
) -> tuple[Leaf, int]:
  """The letters of an einsum say which axes are summed over and which stay."""
  words = re.sub(r'\s|\.\.\.', '', layer.einsum_str)
  left, _, out = words.partition('->')
  x, kernel = left.split(',')
  stays = {i: c in out for i, c in enumerate(kernel)}
  fed = {i: c in x for i, c in enumerate(kernel)}
  pick = lambda s, f: tuple(  # noqa: E731
    i for i in stays if stays[i] == s and fed[i] == f
  )
  return (
    Leaf(
      'dense',
      units=pick(True, False),
      inputs=pick(False, True),
      stacked=pick(True, True),
    ),
    len(kernel),
  )


def _convolution(
  layer: Any, shape: Shape, shapes: Mapping[str, Shape]
) -> tuple[Leaf, int]:
  window = len(_tuple(layer.kernel_size))
  inputs, units = window, window + 1
  if getattr(layer, 'transpose_kernel', False):
    inputs, units = units, inputs
  return (
    Leaf(
      'convolution',
      units=(units,),
      inputs=(inputs,),
      window=tuple(range(window)),
      groups=getattr(layer, 'feature_group_count', 1),
    ),
    window + 2,
  )


_FLAX_RULES: dict[str, Callable[..., tuple[Leaf, int]]] = {
  'Linear': _dense,
  'Dense': _dense,
  'LinearGeneral': _general,
  'DenseGeneral': _general,
  'Einsum': _einsum,
  'Conv': _convolution,
  'ConvTranspose': _convolution,
}


def _is_equinox_layer(node: Any) -> bool:
  return type(node).__module__.startswith('equinox.nn') and hasattr(
    node, 'weight'
  )


def _equinox_layer(
  layer: Any, head: str, shapes: Mapping[str, Shape]
) -> Described:
  """Describe a layer [out, in, ..] of Equinox."""
  name = type(layer).__name__
  if 'Norm' in name:
    return {head + n: Leaf('norm') for n in shapes}
  if name == 'Embedding':
    leaf = _lead(
      Leaf('embedding', units=(1,), inputs=(0,)), 2, shapes['weight']
    )
    return {f'{head}weight': leaf}
  window = getattr(layer, 'num_spatial_dims', 0)
  if not window and name != 'Linear':
    return {}
  leaf = Leaf(
    'convolution' if window else 'dense',
    units=(0,),
    inputs=(1,),
    window=tuple(range(2, 2 + window)),
    groups=getattr(layer, 'groups', 1),
  )
  partners = (f'{head}bias',) if 'bias' in shapes else ()
  leaf = dataclasses.replace(
    _lead(leaf, 2 + window, shapes['weight']), partners=partners
  )
  return {f'{head}weight': leaf} | {p: Leaf('bias') for p in partners}


def _lead(leaf: Leaf, rank: int, shape: Shape) -> Leaf:
  """The description behind the axes that `vmap` or `scan` put in front."""
  extra = len(shape) - rank
  if extra < 0:
    return Leaf('other', reason=f'shape {shape} has fewer than {rank} axes')
  move = lambda axes: tuple(a + extra for a in axes)  # noqa: E731
  return dataclasses.replace(
    leaf,
    units=move(leaf.units),
    inputs=move(leaf.inputs),
    window=move(leaf.window),
    stacked=(*range(extra), *move(leaf.stacked)),
  )


def _in_attention(found: Described, heads: Sequence[str]) -> Described:
  """Give dense layers of an attention that role."""
  return {
    name: dataclasses.replace(leaf, role='attention')
    if leaf.role == 'dense' and any(name.startswith(h) for h in heads)
    else leaf
    for name, leaf in found.items()
  }


def _below(head: str, arrays: Mapping[str, Any]) -> dict[str, Shape]:
  """Shapes of the leaves right below a layer, by their last name."""
  return {
    name[len(head) :]: tuple(leaf.shape)
    for name, leaf in arrays.items()
    if name.startswith(head) and '.' not in name[len(head) :]
  }


def _tuple(value: Any) -> tuple[Any, ...]:
  return tuple(value) if isinstance(value, Sequence) else (value,)


def _is_numbers(leaf: Any) -> bool:
  dtype = getattr(leaf, 'dtype', None)
  return dtype is not None and jnp.issubdtype(dtype, jnp.number)
