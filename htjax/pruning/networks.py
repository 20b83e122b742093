"""Networks without their pruned units: smaller arrays, the same function."""

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_real, checked, is_concrete
from htjax.pruning import chains
from htjax.pruning.adapting import is_nnx, nnx_apply, nnx_module
from htjax.pruning.costs import multiply_adds
from htjax.pruning.removal import as_arrays, remove_units
from htjax.pruning.results import Pruned
from htjax.pruning.spectra import num_bytes
from htjax.selection import path_components
from htjax.types import PyTree
from htjax.units import Given, describe, named_leaves


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
  weights and its bias are zero, or all its outgoing weights. A BatchNorm that
  has its statistics beside it goes with the units of the one layer of its size;
  units of a layer that another normalisation may average over stay.

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
      the chain, their biases and normalisations, a chain of fewer than two,
      unknown or repeated names, kernels that do not follow on one another, or a
      first convolution of more than three channels, which may have groups.

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
  return _in_order(params, chain, trim_inputs)


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
  cut = remove_units(apply, params, inputs)
  small = jax.tree.unflatten(jax.tree.structure(params), as_arrays(cut.leaves))
  kept = {}
  names = [name for name, _ in named_leaves(params)]
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
    {names[place]: why for place, why in cut.reasons.items()},
    multiply_adds(apply, params, inputs),
    multiply_adds(apply, small, inputs),
    None if model is None else nnx_module(model, small),
  )


def _in_order(
  params: PyTree, given: Sequence[str] | None, trim_inputs: bool
) -> Compacted:
  """Compact a chain of layers of which the order alone is known."""
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
  found = chains.read(leaves, given)
  names = list(leaves)
  cut = remove_units(
    functools.partial(chains.run, found, names, trim_inputs),
    [list(leaves.values()), *found.inputs(trim_inputs)],
    found.gates(),
  )
  small = as_arrays(cut.leaves[: len(names)])
  kept = dict(zip(names, cut.kept, strict=False))
  fed = cut.kept[-1][0] if trim_inputs else np.arange(found.num_inputs)
  smaller = jax.tree.unflatten(treedef, small)
  reasons = {
    names[place]: found.unsure.get(names[place], why)
    for place, why in cut.reasons.items()
    if place < len(names)
  }
  return Compacted(
    smaller,
    {name: kept[name][-1] for name in found.kernels},
    fed,
    num_bytes(params),
    num_bytes(smaller),
    reasons,
  )


def _name(path: tuple[Any, ...]) -> str:
  """The leaf's name, without the box that an NNX state has around an array."""
  parts = path_components(path)
  return '.'.join(parts[:-1] if parts[-1] == 'value' else parts)
