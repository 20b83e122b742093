"""Networks without their pruned units: smaller arrays, the same function."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_real, checked, is_concrete
from htjax.pruning.adapting import is_nnx, nnx_apply, nnx_module
from htjax.pruning.costs import multiply_adds, trace
from htjax.pruning.removal import as_arrays, remove_units
from htjax.pruning.results import Pruned
from htjax.pruning.spectra import num_bytes
from htjax.selection import path_components
from htjax.types import PyTree
from htjax.units import Given, describe, named_leaves

_LAYER = re.compile(r'(?:^|[./])(?:(conv|hidden)_(\d+)|(output))(?=[./]|$)')


class Compacted(NamedTuple):
  """A smaller network that computes what the pruned one does.

  Attributes:
    params: the parameters, of the structure and dtypes that came in, and of
      smaller shapes.
    units: for each layer, by the name of its kernel, the indices of the units
      (filters) that are left, [kept].
    inputs: indices of the features (channels) of x to feed, [kept]: all of
      them unless `trim_inputs`. None with `apply`.
    bytes_before: bytes of all leaves before.
    bytes_after: bytes of all leaves after.
    reasons: name of a leaf -> why units of it stay that have no incoming or no
      outgoing weights.
    multiply_adds_before: of one call, see `multiply_adds`; None without
      `apply`.
    multiply_adds_after: likewise.
    model: the smaller module, of an NNX module; else None.
  """

  params: PyTree
  units: dict[str, np.ndarray]
  inputs: np.ndarray | None
  bytes_before: int
  bytes_after: int
  reasons: Mapping[str, str] = MappingProxyType({})
  multiply_adds_before: int | None = None
  multiply_adds_after: int | None = None
  model: Any = None


@checked
def compact(
  params: Any,
  *,
  apply: Callable[..., Any] | None = None,
  inputs: Any = None,
  units: Given = None,
  chain: Sequence[str] | None = None,
  trim_inputs: bool = False,
) -> Compacted:
  """Drop every unit that reaches no output, or that nothing reaches.

  With `apply` and `inputs` the network is followed through its computation,
  whatever it is: a unit goes from all leaves, with its bias, its normalisation
  and what a sum ties it to, if nothing reads it or if it is zero; a unit whose
  value is constant is added to the bias behind it. What cannot be followed
  stays. An NNX module takes the place of `params` and `apply`.

  Without `apply`, layers are a chain: a unit (a filter) between two layers
  goes, with its column in one and its row in the next, if all its incoming
  weights and its bias are zero, or all its outgoing weights.

  And so on with the zeros that are left of what is kept. So columns, filters
  and rows that were pruned to zero are really removed, and so are units that
  unstructured pruning has cut off. The outputs are those of the pruned network,
  to rounding: nothing is estimated.

  Args:
    params: pytree of concrete arrays, pruned with `center=None`; `Pruned`; or
      an NNX module, as it is to be run (`model.eval()`).
    apply: the network, `apply(params, *inputs)`, a pure function that takes
      its sizes from the arrays; of a Linen module, `linen_apply(module)`.
    inputs: example inputs of `apply`, one or a tuple, arrays or
      `jax.ShapeDtypeStruct`; their entries are not looked at.
    units: with `apply`, what a unit is in each leaf, for the indices that are
      reported; None asks names.
    chain: without `apply`, names of all kernels, [fan_in, n] or [.., in, n],
      first layer to last, each the path of a leaf joined by dots:
      ('hidden_0.kernel', 'output.kernel'). None finds the order in networks
      whose layers are called conv_0, conv_1, .., hidden_0, .., output, as those
      of `htjax.models`. A dense layer may follow a convolution by a mean over
      positions, or flattened, channels last.
    trim_inputs: without `apply`, whether rows of the first kernel that are zero
      go too; x is then to be fed as `x[..., inputs]`.

  Returns:
    Compacted. A layer keeps one unit at least, so that no array is empty.

  Raises:
    ValueError: params traced, of rank 2 or more and not numbers; `apply`
      without `inputs`, with side effects, or that cannot be traced; `chain` or
      `trim_inputs` beside it. Without `apply`: leaves other than the kernels of
      the chain and their biases, a chain of fewer than two, unknown or repeated
      names, kernels that do not follow on one another, or a first convolution
      of more than three channels, which may have groups.

  Values: NaN and infinity are not zero. A chain is exact for layers each
    feeding the next alone, without groups, with activations and pooling that
    act on each unit by itself and take zero to zero, as ReLU and tanh do and
    the logistic function does not.

  Source: the arrays behind the k-best column approximation of [HT], Theorem 3.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> params = {
    ...   'hidden_0': {'kernel': jnp.array([[1.0, 0.0], [2.0, 0.0]])},
    ...   'output': {'kernel': jnp.ones((2, 3))},
    ... }
    >>> small = pruning.compact(params)
    >>> small.params['hidden_0']['kernel'].shape
    (2, 1)
    >>> small.params['output']['kernel'].shape
    (1, 3)

    Any function, here with a unit that is constant:

    >>> def apply(p, x):
    ...   hidden = jax.nn.sigmoid(x @ p['hidden_0']['kernel'])
    ...   return hidden @ p['output']['kernel'] + p['output']['bias'][None]
    >>> params['output']['bias'] = jnp.zeros(3)
    >>> small = pruning.compact(params, apply=apply, inputs=jnp.ones((1, 2)))
    >>> small.params['output']['bias'].tolist()
    [0.5, 0.5, 0.5]
    >>> small.multiply_adds_before, small.multiply_adds_after
    (10, 5)
  """
  if isinstance(params, Pruned):
    params = params.params
  model = params if is_nnx(params) else None
  if model is not None or apply is not None:
    if chain is not None or trim_inputs:
      raise ValueError('chain and trim_inputs are for params without `apply`')
    if inputs is None:
      raise ValueError('inputs must be given with a function or a module')
    if model is not None:
      if apply is not None:
        raise ValueError('apply must be None with an NNX module')
      apply, params = nnx_apply(model)
    return _followed(params, apply, inputs, units, model)
  if inputs is not None or units is not None:
    raise ValueError('apply must be given with inputs or units, got None')
  paths, treedef = jax.tree_util.tree_flatten_with_path(params)
  if not all(path for path, _ in paths):
    raise ValueError(f'params must be a pytree of arrays, got {params!r}')
  leaves = {_name(path): leaf for path, leaf in paths}
  for name, leaf in leaves.items():
    if not is_concrete(leaf):
      raise ValueError(f'{name} must be concrete: its zeros set the shapes')
    check_real(name, leaf)
    if np.ndim(leaf) == 0:
      raise ValueError(
        f'params must hold kernels and biases, got {name}={leaf!r}'
      )
  names = _infer_chain(leaves) if chain is None else _check_chain(chain, leaves)
  kernels = [np.asarray(leaves[name]) for name in names]
  biases = [_bias(name, leaves) for name in names]
  _check_known(leaves, names, biases)
  if kernels[0].ndim > 2 and kernels[0].shape[-2] > 3:
    raise ValueError(
      f'apply must be given: {names[0]} of shape {kernels[0].shape} may be a '
      'convolution with groups'
    )
  used = [_used(kernel) for kernel in kernels]
  live = _live_units(
    used, _repeats(names, kernels), [_nonzero(leaves, b) for b in biases]
  )
  live[0] &= used[0][:, live[1]].any(axis=1) | (not trim_inputs)
  live = [_not_empty(units) for units in live]
  cut = dict(leaves)
  for i, (name, bias) in enumerate(zip(names, biases, strict=True)):
    rows = np.tile(live[i], used[i].shape[0] // live[i].size)
    kernel = kernels[i][..., rows, :][..., live[i + 1]]
    cut[name] = jnp.asarray(kernel)
    if bias is not None:
      cut[bias] = jnp.asarray(np.asarray(leaves[bias])[live[i + 1]])
  smaller = jax.tree.unflatten(treedef, list(cut.values()))
  indices = [np.flatnonzero(units) for units in live]
  return Compacted(
    smaller,
    dict(zip(names, indices[1:], strict=True)),
    indices[0],
    num_bytes(params),
    num_bytes(smaller),
  )


def _followed(
  params: PyTree, apply: Any, inputs: Any, units: Given, model: Any
) -> Compacted:
  """Compact any function by following it."""
  if not isinstance(inputs, tuple | list):
    inputs = (inputs,)
  for name, leaf in named_leaves(params):
    if not is_concrete(leaf):
      raise ValueError(f'{name} must be concrete: its zeros set the shapes')
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.extended):
      raise ValueError(f'{name} must be numbers, got {jnp.result_type(leaf)}')
  trace(apply, params, inputs)
  cut = remove_units(apply, params, inputs)
  small = jax.tree.unflatten(jax.tree.structure(params), as_arrays(cut.leaves))
  kept = {}
  rows = zip(
    named_leaves(params), describe(units, params), cut.kept, strict=True
  )
  for (name, leaf), described, axes in rows:
    if described.is_weight:
      places = [axes[a] for a in described.units]
      sizes = [jnp.shape(leaf)[a] for a in described.units]
      grid = np.meshgrid(*places, indexing='ij')
      kept[name] = np.ravel_multi_index(grid, sizes).ravel()
  return Compacted(
    small,
    kept,
    None,
    num_bytes(params),
    num_bytes(small),
    cut.reasons,
    multiply_adds(apply, params, inputs),
    multiply_adds(apply, small, inputs),
    None if model is None else nnx_module(model, small),
  )


def _live_units(
  used: list[np.ndarray], repeats: list[int], fed: list[np.ndarray]
) -> list[np.ndarray]:
  """Which features of every layer, the input first, have to stay.

  Args:
    used: of each kernel, [fan_in, n], where it is not zero.
    repeats: of each kernel, rows for one feature of the layer before.
    fed: of each kernel, [n] or [], whether a unit has a bias that is not zero.

  Returns:
    Booleans for the input and for each kernel's units; inputs and outputs are
    all True.
  """
  sizes = [used[0].shape[0], *(u.shape[1] for u in used)]
  live = [np.ones(n, bool) for n in sizes]
  before = -1
  while before != (before := sum(int(units.sum()) for units in live)):
    for i in range(len(used) - 1):
      reached = used[i][np.tile(live[i], repeats[i])].any(axis=0)
      live[i + 1] &= reached | fed[i]
    for i in range(len(used) - 1, 0, -1):
      reaching = used[i][:, live[i + 1]].any(axis=1)
      live[i] &= reaching.reshape(repeats[i], -1).any(axis=0)
  return live


def _used(kernel: np.ndarray) -> np.ndarray:
  """[fan_in, n], where any position of a kernel is not zero."""
  return (kernel != 0).any(axis=tuple(range(kernel.ndim - 2)))


def _not_empty(units: np.ndarray) -> np.ndarray:
  return units if units.any() else np.arange(units.size) == 0


def _repeats(names: Sequence[str], kernels: list[np.ndarray]) -> list[int]:
  """Rows of each kernel that belong to one unit of the layer before."""
  repeats = [1]
  for i in range(1, len(kernels)):
    before, after = kernels[i - 1], kernels[i]
    flattened = before.ndim > 2 and after.ndim == 2
    rows, units = after.shape[-2], before.shape[-1]
    if rows != units and not (flattened and rows % units == 0):
      raise ValueError(
        f'{names[i]} of shape {after.shape} does not follow on {names[i - 1]} '
        f'of shape {before.shape}: {rows} inputs for {units} units'
      )
    repeats.append(rows // units)
  return repeats


def _name(path: tuple[Any, ...]) -> str:
  """The leaf's name, without the box that an NNX state has around an array."""
  parts = path_components(path)
  return '.'.join(parts[:-1] if parts[-1] == 'value' else parts)


def _infer_chain(leaves: dict[str, Any]) -> list[str]:
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
  return _check_chain(sorted(order, key=lambda name: order[name]), leaves)


def _check_chain(chain: Sequence[str], leaves: dict[str, Any]) -> list[str]:
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


def _bias(kernel: str, leaves: dict[str, Any]) -> str | None:
  """The name of the bias beside a kernel, if there is one."""
  head, found, tail = kernel.rpartition('kernel')
  name = f'{head}bias{tail}'
  return name if found and name in leaves else None


def _nonzero(leaves: dict[str, Any], bias: str | None) -> np.ndarray:
  return np.asarray(False) if bias is None else np.asarray(leaves[bias]) != 0


def _check_known(
  leaves: dict[str, Any], names: Sequence[str], biases: Sequence[str | None]
) -> None:
  for kernel, bias in zip(names, biases, strict=True):
    if bias is not None and jnp.shape(leaves[bias]) != (
      leaves[kernel].shape[-1],
    ):
      raise ValueError(
        f'{bias} must have one entry for each unit of {kernel}, got shape '
        f'{jnp.shape(leaves[bias])}'
      )
  unknown = sorted(set(leaves) - {*names, *(b for b in biases if b)})
  if unknown:
    raise ValueError(
      'params must hold the kernels of the chain and their biases alone, got '
      f'also {", ".join(unknown)}'
    )
