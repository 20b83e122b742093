"""Flax models as functions that take their sizes from their arrays.

A module remembers how many units it was built with. To run with smaller arrays
it has to be told: an NNX module by setting its attributes, a Linen module by
setting them while a layer is called.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax

from htjax.checks import checked

PyTree = Any


@checked
def nnx_apply(model: Any) -> tuple[Callable[..., Any], PyTree]:
  """Split an NNX module into a function of its arrays, and these.

  Args:
    model: an `nnx.Module`, as it is to be run: `model.eval()` for a network
      with dropout or BatchNorm.

  Returns:
    (apply, params): `apply(params, *inputs)` is `model(*inputs)` at whatever
    sizes the arrays have. Keys of random numbers are no part of `params`.

  Examples:
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from htjax import pruning
    >>> apply, params = pruning.nnx_apply(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    >>> apply(params, jnp.ones((1, 2))).shape
    (1, 3)
  """
  from flax import nnx

  parts: Any = nnx.split(model, nnx.RngState, ...)
  graph, keys, params = parts

  def apply(params: PyTree, *inputs: Any) -> Any:
    merged = nnx.merge(graph, keys, params)
    resize(merged)
    return merged(*inputs)

  return apply, params


@checked
def nnx_module(model: Any, params: PyTree) -> Any:
  """A copy of an NNX module with other arrays, of other sizes.

  Args:
    model: the `nnx.Module`.
    params: its arrays as `nnx_apply` gives them, in their new sizes.

  Returns:
    The module; `model` stays as it is.

  Raises:
    ValueError: `model` is no NNX module, or `params` have other leaves than
      its arrays.

  Examples:
    >>> import jax
    >>> from flax import nnx
    >>> from htjax import pruning
    >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> _, params = pruning.nnx_apply(model)
    >>> small = jax.tree.map(lambda a: a[..., :1], params)
    >>> pruning.nnx_module(model, small).out_features
    1
  """
  from flax import nnx

  if not is_nnx(model):
    raise ValueError(
      f'model must be an nnx.Module, got a {type(model).__name__}'
    )
  parts: Any = nnx.split(model, nnx.RngState, ...)
  graph, keys, own = parts
  wanted: Any = jax.tree.structure(own)
  given: Any = jax.tree.structure(params)
  if given != wanted:
    raise ValueError(
      f'params must have the structure of the arrays of model, {wanted}, got '
      f'{given}'
    )
  merged = nnx.merge(graph, keys, params)
  resize(merged)
  return merged


def is_nnx(model: Any) -> bool:
  """Whether a model is an NNX module."""
  nnx = sys.modules.get('flax.nnx')
  return nnx is not None and isinstance(model, nnx.Module)


def resize(model: Any) -> None:
  """Set the sizes that the layers of an NNX module remember, from their arrays.

  Args:
    model: an `nnx.Module`; changed in place.
  """
  from flax import nnx

  modules = [m for _, m in nnx.iter_graph(model) if isinstance(m, nnx.Module)]
  for layer in modules:
    for base in type(layer).__mro__:
      rule = _SIZES.get(base.__name__)
      if rule is not None and base.__module__.startswith('flax.nnx'):
        rule(layer)
        break
  for layer in modules:  # once its projections are resized
    if isinstance(layer, nnx.MultiHeadAttention):
      layer.num_heads, layer.head_dim = layer.query.out_features
      layer.qkv_features = layer.num_heads * layer.head_dim
      if hasattr(layer, 'num_kv_heads'):
        layer.num_kv_heads = layer.key.out_features[0]


@checked
def linen_apply(module: Any, **options: Any) -> Callable[..., Any]:
  """A Linen module's `apply` that takes the sizes of layers from their arrays.

  Args:
    module: the Linen module.
    **options: keywords of the module's call, such as `train=False`.

  Returns:
    `apply(variables, *inputs)`, which is `module.apply` at whatever sizes the
    arrays have.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from flax import linen
    >>> from htjax import pruning
    >>> x = jnp.ones((1, 2))
    >>> module = linen.Dense(3)
    >>> variables = module.init(jax.random.key(0), x)
    >>> small = jax.tree.map(lambda a: a[..., :1], variables)
    >>> pruning.linen_apply(module)(small, x).shape
    (1, 1)
  """
  from flax import linen as nn

  def fit(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    layer = context.module
    for base in type(layer).__mro__:
      rule = _LINEN_SIZES.get(base.__name__)
      if rule is not None and base.__module__.startswith('flax.linen'):
        if layer.has_variable('params', rule[0]):
          array = layer.get_variable('params', rule[0])
          for name, value in rule[1](layer, array.shape).items():
            object.__setattr__(layer, name, value)
        break
    return call(*args, **kwargs)

  def apply(variables: PyTree, *inputs: Any) -> Any:
    with nn.intercept_methods(fit):
      return module.apply(variables, *inputs, **options)

  return apply


def _linear(layer: Any) -> None:
  layer.in_features, layer.out_features = layer.kernel.shape[-2:]


def _general(layer: Any) -> None:
  num_in, num_out = len(layer.in_features), len(layer.out_features)
  shape = layer.kernel.shape
  layer.in_features = tuple(shape[-num_in - num_out : -num_out])
  layer.out_features = tuple(shape[-num_out:])


def _einsum(layer: Any) -> None:
  layer.kernel_shape = tuple(layer.kernel.shape)
  if layer.bias is not None:
    layer.bias_shape = tuple(layer.bias.shape)


def _conv(layer: Any) -> None:
  shape = tuple(layer.kernel.shape)
  groups = getattr(layer, 'feature_group_count', 1)
  if groups > 1 and groups == layer.in_features:
    # One group a channel: as many groups as channels are left.
    groups = math.gcd(
      shape[-1] // (layer.out_features // layer.in_features), shape[-1]
    )
    layer.feature_group_count = groups
  layer.in_features, layer.out_features = shape[-2] * groups, shape[-1]
  layer.kernel_shape = shape


def _conv_transpose(layer: Any) -> None:
  shape = tuple(layer.kernel.shape)
  ends = shape[-2:][::-1] if layer.transpose_kernel else shape[-2:]
  layer.in_features, layer.out_features = ends
  layer.kernel_shape = shape


def _embed(layer: Any) -> None:
  layer.num_embeddings, layer.features = layer.embedding.shape


def _norm(layer: Any) -> None:
  for name in ('scale', 'bias', 'mean'):
    array = getattr(layer, name, None)
    if array is not None and hasattr(array, 'shape') and len(array.shape) == 1:
      layer.num_features = array.shape[0]
      return


_SIZES: dict[str, Callable[[Any], None]] = {
  'Linear': _linear,
  'LinearGeneral': _general,
  'Einsum': _einsum,
  'Conv': _conv,
  'ConvTranspose': _conv_transpose,
  'Embed': _embed,
  'BatchNorm': _norm,
  'LayerNorm': _norm,
  'RMSNorm': _norm,
}


def _dense_features(layer: Any, shape: Sequence[int]) -> dict[str, Any]:
  return {'features': shape[-1]}


def _general_features(layer: Any, shape: Sequence[int]) -> dict[str, Any]:
  if isinstance(layer.features, int):
    return {'features': shape[-1]}
  return {'features': tuple(shape[-len(layer.features) :])}


def _conv_features(layer: Any, shape: Sequence[int]) -> dict[str, Any]:
  sizes: dict[str, Any] = {'features': shape[-1]}
  if layer.feature_group_count > 1 and shape[-2] == 1:
    multiple = layer.features // layer.feature_group_count
    sizes['feature_group_count'] = shape[-1] // multiple
  return sizes


# The array that tells the size of a layer, and what to set.
_LINEN_SIZES: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
  'Dense': ('kernel', _dense_features),
  'DenseGeneral': ('kernel', _general_features),
  'Conv': ('kernel', _conv_features),
  'ConvTranspose': ('kernel', _dense_features),
  'Embed': ('embedding', _dense_features),
}
