"""Descriptions of plain pytrees of arrays, by names, ranks and neighbours.

Where nothing but arrays is known, a leaf's role follows from its rank, its
name, the names around it and the shape of the bias beside it. A leaf of which
these do not tell is ambiguous, and is described so.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from htjax.units.leaf import Leaf

LAYOUTS = ('flax', 'torch')

_BIAS = re.compile(r'(^|_)(bias|b|beta|offset)$')
_WEIGHTS = {'kernel', 'weight', 'w', 'W'}
_NORM = re.compile(r'^(scale|gamma|mean|var|running_\w+|num_batches_tracked)$')
_EMBEDDING = re.compile(r'embed|^w[tp]e$|^(cls|class|pos)(_token)?$')
_CONVOLUTION = re.compile(r'conv|downsample', re.IGNORECASE)
_NORM_LAYER = re.compile(r'norm|(^|[^a-z])(bn|ln)(_?[0-9]|$)', re.IGNORECASE)
# Projections into heads, and the one that joins them again.
_INTO_HEADS = re.compile(r'^(query|key|value|q|k|v|[qkv]_proj)$')
_OUT_OF_HEADS = re.compile(r'^(out|o|o_proj|out_proj|attention_output)$')
# A leaf right below one of these holds one entry per layer or expert.
_STACKS = re.compile(
  r'^(layers|blocks|experts|stack(ed)?\w*|scan\w*|ensemble|members|h)$'
)
_MAX_WINDOW = 11


Shape = tuple[int, ...]
Partners = tuple[str, ...]
# (name, shape, whether its entries are floating) of every leaf.
Signature = tuple[tuple[str, tuple[int, ...], bool], ...]


class _Tree(NamedTuple):
  """Shapes of all leaves by name, and the last names under each head."""

  shapes: dict[str, tuple[int, ...]]
  beside: dict[str, set[str]]


def is_floating(leaf: Any) -> bool:
  """Whether a leaf is an array of floating-point numbers."""
  dtype = getattr(leaf, 'dtype', None)
  return dtype is not None and jnp.issubdtype(dtype, jnp.floating)


# Outside `jit` a transformation asks in each step.
@functools.lru_cache(maxsize=64)
def describe(leaves: Signature, layout: str) -> dict[str, Leaf]:
  """Describe every leaf of a plain pytree.

  Args:
    leaves: name, shape and whether it is floating, of every leaf.
    layout: 'flax' for kernels [.., in, out], 'torch' for weights [out, in, ..].

  Returns:
    name -> Leaf; an ambiguous leaf has a `reason`. Not to be changed: it is
    kept for the next call.
  """
  tree = _Tree({}, {})
  for name, shape, _ in leaves:
    head, _, last = name.rpartition('.')
    tree.shapes[name] = shape
    tree.beside.setdefault(head, set()).add(last)
  return {
    name: _describe(name, tree, layout) if floating else Leaf('other')
    for name, _, floating in leaves
  }


def _describe(name: str, tree: _Tree, layout: str) -> Leaf:
  head, _, last = name.rpartition('.')
  parts, shape = name.split('.'), tree.shapes[name]
  if _is_bias(name, tree):
    return Leaf('norm' if _in_norm(head, tree) else 'bias')
  if _NORM.match(last):
    return Leaf('norm')
  if any(_EMBEDDING.search(p.lower()) for p in parts[-2:]):
    return _embedding(shape)
  if _in_norm(head, tree):
    return Leaf('norm')
  if len(shape) < 2:
    return Leaf('bias' if shape else 'other')
  bias = _bias_of(name, tree)
  partners = () if bias is None else (bias,)
  if layout == 'torch':
    return _torch(name, shape, parts, partners)
  bias_shape = None if bias is None else tree.shapes[bias]
  return _flax(name, shape, parts, tree.shapes, bias_shape, partners)


def _flax(
  name: str,
  shape: Shape,
  parts: list[str],
  shapes: Mapping[str, Shape],
  bias_shape: Shape | None,
  partners: Partners,
) -> Leaf:
  rank = len(shape)
  if rank == 2:
    return Leaf('dense', units=(1,), inputs=(0,), partners=partners)
  depth = int(_below_a_stack(parts))
  if any(map(_CONVOLUTION.search, parts)):
    if bias_shape == (shape[0], shape[-1]):
      return _convolution(rank, 1, partners)
    if not depth or bias_shape == shape[-1:]:
      return _convolution(rank, 0, partners)
  heads = _heads(parts, shapes, rank, partners)
  if heads is not None:
    return heads
  if depth and rank == 3:
    return _stacked(partners)
  if bias_shape is not None:
    by_bias = _by_bias(shape, bias_shape, partners)
    if by_bias is not None:
      return by_bias
  if rank >= 4 and not depth and _looks_like_window(shape[:-2]):
    return _convolution(rank, 0, partners)
  return Leaf(
    'other',
    reason=(
      f'{name} of shape {shape} may be a convolution, an attention projection '
      'or stacked layers'
    ),
  )


def _torch(
  name: str, shape: Shape, parts: list[str], partners: Partners
) -> Leaf:
  rank = len(shape)
  if rank == 3 and not any(map(_CONVOLUTION.search, parts)):
    return Leaf(
      'other',
      reason=(
        f'{name} of shape {shape} may be a convolution of one dimension or '
        'stacked experts'
      ),
    )
  window = tuple(range(2, rank))
  role = 'convolution' if window else 'dense'
  return Leaf(role, units=(0,), inputs=(1,), window=window, partners=partners)


def _heads(
  parts: list[str], shapes: Mapping[str, Shape], rank: int, partners: Partners
) -> Leaf | None:
  """An attention projection [.., in, heads, dim] or [.., heads, dim, out]."""
  if len(parts) < 2 or rank not in (3, 4):
    return None
  stacked = tuple(range(rank - 3))
  a, b, c = range(rank - 3, rank)
  units: Shape
  inputs: Shape
  if _INTO_HEADS.match(parts[-2]):
    units, inputs = (b, c), (a,)
  elif _OUT_OF_HEADS.match(parts[-2]) and _has_query(parts, shapes):
    units, inputs = (c,), (a, b)
  else:
    return None
  return Leaf(
    'attention', units=units, inputs=inputs, stacked=stacked, partners=partners
  )


def _has_query(parts: Sequence[str], shapes: Mapping[str, Any]) -> bool:
  """Whether a projection into heads stands beside the one out of them."""
  head = parts[:-2]
  return any(
    other[: len(head)] == head
    and len(other) > len(head)
    and _INTO_HEADS.match(other[len(head)])
    for other in (n.split('.') for n in shapes)
  )


def _by_bias(
  shape: Shape, bias_shape: Shape, partners: Partners
) -> Leaf | None:
  """The kind that a bias beside a leaf of rank 3 or more tells, if clear."""
  rank = len(shape)
  stacked = rank == 3 and bias_shape == (shape[0], shape[2])
  into_heads = rank == 3 and bias_shape == shape[1:]
  if stacked != into_heads:
    if stacked:
      return _stacked(partners)
    return Leaf('attention', units=(1, 2), inputs=(0,), partners=partners)
  if rank >= 4 and bias_shape == shape[-1:] and _looks_like_window(shape[:-2]):
    return _convolution(rank, 0, partners)
  return None


def _stacked(partners: Partners) -> Leaf:
  return Leaf('dense', units=(2,), inputs=(1,), stacked=(0,), partners=partners)


def _convolution(rank: int, depth: int, partners: Partners) -> Leaf:
  return Leaf(
    'convolution',
    units=(rank - 1,),
    inputs=(rank - 2,),
    window=tuple(range(depth, rank - 2)),
    stacked=tuple(range(depth)),
    partners=partners,
  )


def _embedding(shape: Shape) -> Leaf:
  rank = len(shape)
  if rank < 2:
    return Leaf('embedding')
  return Leaf('embedding', units=(rank - 1,), inputs=(rank - 2,))


def _in_norm(head: str, tree: _Tree) -> bool:
  """Whether the leaves under a head are those of a normalisation."""
  layer = head.rpartition('.')[2]
  beside = tree.beside[head]
  return bool(head) and (
    bool(beside & {'scale', 'running_mean', 'gamma'})
    or bool(_NORM_LAYER.search(layer))
  )


def _is_bias(name: str, tree: _Tree) -> bool:
  """Whether a leaf is a bias; a matrix called b is one beside a weight only."""
  head, _, last = name.rpartition('.')
  if not _BIAS.search(last):
    return False
  rank = len(tree.shapes[name])
  return last == 'bias' or rank < 2 or bool(tree.beside[head] & _WEIGHTS)


def _bias_of(name: str, tree: _Tree) -> str | None:
  head, dot, _ = name.rpartition('.')
  for last in ('bias', 'b'):
    if last in tree.beside[head] and _is_bias(f'{head}{dot}{last}', tree):
      return f'{head}{dot}{last}'
  return None


def _below_a_stack(parts: Sequence[str]) -> bool:
  """Whether the parameters of all layers or experts lie in one leaf.

  A number below the container is one of its layers, so nothing is stacked.
  """
  for i, part in enumerate(parts[:-1]):
    if _STACKS.match(part) and not parts[i + 1].isdigit():
      return True
  return False


def _looks_like_window(sizes: Sequence[int]) -> bool:
  return len(set(sizes)) == 1 and sizes[0] <= _MAX_WINDOW
