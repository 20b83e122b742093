"""Networks of which the order of the layers alone is known, as functions.

Such a network is a stand-in for the one that the user has: between two layers
stands whatever takes zero to zero, a product with an unknown number. So what
`removal` finds out of it holds for every activation and pooling of that kind.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

_LAYER = re.compile(r'(?:^|[./])(?:(conv|hidden)_(\d+)|(output))(?=[./]|$)')
_STATISTICS = (('mean', 'var'), ('running_mean', 'running_var'))
_NORM = frozenset(
  'scale bias mean var weight gamma beta running_mean running_var'.split()  # noqa: SIM905
)


class Chain(NamedTuple):
  """Layers in order.

  Attributes:
    kernels: names of the kernels, first layer to last.
    biases: of each kernel, the name of its bias, or None.
    norms: of each kernel, the leaves of the normalisation behind it, by what
      they are; no more than a 'shift' where it may average over units.
    repeats: of each kernel, rows for one unit of the layer before.
    windows: of each kernel, the sizes of its window.
    num_inputs: features, or channels, of the first layer.
    unsure: name of a kernel -> why its units stay.
  """

  kernels: list[str]
  biases: list[str | None]
  norms: list[dict[str, str]]
  repeats: list[int]
  windows: list[tuple[int, ...]]
  num_inputs: int
  unsure: dict[str, str]

  def inputs(self, trimmed: bool) -> list[jax.Array]:
    """The features, where they are to be cut like units."""
    return [jnp.ones(self.num_inputs)] if trimmed else []

  def gates(self) -> list[jax.ShapeDtypeStruct]:
    """Shapes of the unknown numbers, and of the features behind them."""
    shapes: list[tuple[int, ...]] = [
      (*window, repeat, 1)
      for window, repeat in zip(self.windows, self.repeats, strict=True)
    ]
    shapes.append((self.num_inputs,))
    return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]


def run(
  chain: Chain,
  names: Sequence[str],
  trimmed: bool,
  params: Sequence[Any],
  *gates: jax.Array,
) -> jax.Array:
  """The outputs of the network, of one example and one position.

  Args:
    chain: the layers.
    names: of the leaves.
    trimmed: whether the features are a parameter too.
    params: the leaves, and the features.
    *gates: as `Chain.gates`.

  Returns:
    Array [units of the last layer].
  """
  leaves = {
    name: leaf.astype(jnp.float32)
    for name, leaf in zip(names, params[0], strict=True)
  }
  h = params[1] if trimmed else gates[-1]
  for kernel, bias, norm, gate in zip(
    chain.kernels, chain.biases, chain.norms, gates, strict=False
  ):
    h = h.reshape(*(1,) * (gate.ndim - 1), -1) * gate
    h = h.reshape(*h.shape[:-2], -1)
    h = jnp.tensordot(h, leaves[kernel], h.ndim)
    if bias is not None:
      h = h + leaves[bias]
    if kernel in chain.unsure:
      h = h - h.mean()
    if 'mean' in norm:
      h = (h - leaves[norm['mean']]) / (1 + leaves[norm['var']])
    if 'scale' in norm:
      h = h * leaves[norm['scale']]
    if 'shift' in norm:
      h = h + leaves[norm['shift']]
  return h


def read(leaves: Mapping[str, Any], given: Sequence[str] | None) -> Chain:
  """Find the chain in a network's leaves.

  Args:
    leaves: name -> array.
    given: names of the kernels in order, or None.

  Returns:
    Chain.

  Raises:
    ValueError: as `htjax.pruning.compact` without `apply`.
  """
  names = _infer(leaves) if given is None else _check(given, leaves)
  shapes = [jnp.shape(leaves[name]) for name in names]
  biases = [_bias(name, leaves) for name in names]
  for kernel, bias in zip(names, biases, strict=True):
    if bias is not None and jnp.shape(leaves[bias]) != (
      leaves[kernel].shape[-1],
    ):
      raise ValueError(
        f'{bias} must have one entry for each unit of {kernel}, got shape '
        f'{jnp.shape(leaves[bias])}'
      )
  norms, unsure = _norms(leaves, names, [b for b in biases if b])
  first = shapes[0]
  if len(first) > 2 and first[-2] > 3:
    raise ValueError(
      f'apply must be given: {names[0]} of shape {first} may be a convolution '
      'with groups'
    )
  return Chain(
    names,
    biases,
    norms,
    _repeats(names, shapes),
    [shape[:-2] for shape in shapes],
    first[-2],
    unsure,
  )


def _repeats(names: Sequence[str], shapes: list[tuple[int, ...]]) -> list[int]:
  """Rows of each kernel that belong to one unit of the layer before."""
  repeats = [1]
  for i in range(1, len(shapes)):
    before, after = shapes[i - 1], shapes[i]
    flattened = len(before) > 2 and len(after) == 2
    rows, units = after[-2], before[-1]
    if rows != units and not (flattened and rows % units == 0):
      raise ValueError(
        f'{names[i]} of shape {after} does not follow on {names[i - 1]} of '
        f'shape {before}: {rows} inputs for {units} units'
      )
    repeats.append(rows // units)
  return repeats


def _norms(
  leaves: Mapping[str, Any], kernels: Sequence[str], biases: Sequence[str]
) -> tuple[list[dict[str, str]], dict[str, str]]:
  """The normalisation behind each kernel, and the layers that are unsure."""
  rest = [name for name in leaves if name not in {*kernels, *biases}]
  heads: dict[str, dict[str, str]] = {}
  unknown = []
  for name in rest:
    parts = re.split(r'[./](?=[^./]*$)', name)
    head, last = parts if len(parts) == 2 else ['', name]
    if not head or last not in _NORM or jnp.ndim(leaves[name]) != 1:
      unknown.append(name)
    else:
      heads.setdefault(head, {})[last] = name
  norms: list[dict[str, str]] = [{} for _ in kernels]
  unsure: dict[str, str] = {}
  for head, own in heads.items():
    sizes = {jnp.size(leaves[name]) for name in own.values()}
    places = [
      i for i, k in enumerate(kernels) if {leaves[k].shape[-1]} == sizes
    ]
    if not places:
      unknown += own.values()
    sure = len(places) == 1 and sizes != {leaves[kernels[0]].shape[-2]}
    for pair in _STATISTICS:
      if sure and own.keys() >= set(pair):
        mean, var = (own[part] for part in pair)
        norms[places[0]] = {'mean': mean, 'var': var} | {
          role: own[part]
          for role, parts in (
            ('scale', ('scale', 'weight', 'gamma')),
            ('shift', ('bias', 'beta')),
          )
          for part in parts
          if part in own
        }
        break
    else:
      for i in places:
        unsure[kernels[i]] = f'{head} may average over units: give `apply`'
  if unknown:
    raise ValueError(
      'params must hold the kernels of the chain, their biases and '
      f'normalisations alone, got also {", ".join(sorted(unknown))}'
    )
  return norms, unsure


def _infer(leaves: Mapping[str, Any]) -> list[str]:
  order = {}
  for name in (n for n, leaf in leaves.items() if jnp.ndim(leaf) >= 2):
    found = _LAYER.search(name)
    if not found:
      raise ValueError(
        f'chain must be given: the place of {name} among the layers is unknown'
      )
    kind, number, output = found.groups()
    order[name] = (2, 0) if output else (kind == 'hidden', int(number))
  if len(set(order.values())) < len(order):
    raise ValueError(
      f'chain must be given: {", ".join(order)} are not one kernel a layer'
    )
  return _check(sorted(order, key=lambda name: order[name]), leaves)


def _check(chain: Sequence[str], leaves: Mapping[str, Any]) -> list[str]:
  named = not isinstance(chain, str) and all(isinstance(n, str) for n in chain)
  if not named or len(chain) < 2 or len(set(chain)) < len(chain):
    raise ValueError(
      f'chain must be two or more different names of kernels, got {chain!r}'
    )
  for name in chain:
    if name not in leaves:
      raise ValueError(
        f'chain: no leaf is called {name!r}; there are {", ".join(leaves)}'
      )
    if jnp.ndim(leaves[name]) < 2 or jnp.size(leaves[name]) == 0:
      raise ValueError(
        f'{name} must be of rank 2 or more, [..., fan_out], and not empty, got '
        f'shape {jnp.shape(leaves[name])}'
      )
  return list(chain)


def _bias(kernel: str, leaves: Mapping[str, Any]) -> str | None:
  """The name of the bias beside a kernel, if there is one."""
  head, found, tail = kernel.rpartition('kernel')
  name = f'{head}bias{tail}'
  return name if found and name in leaves else None
