"""Pruning of units with all that belongs to them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_choice, check_range, checked, is_concrete
from htjax.pruning.costs import trace
from htjax.pruning.removal import difference, signature
from htjax.pruning.results import Left, Pruned
from htjax.selection import Selection, resolve
from htjax.types import PyTree
from htjax.units import Family, families, named_leaves
from htjax.units.families import scaled, squared_norms

CRITERIA = ('norm', 'centred', 'in_out', 'activation', 'group')


@checked
def units(
  params: PyTree,
  kappa: float,
  *,
  apply: Callable[..., Any],
  inputs: Any,
  criterion: str = 'norm',
  amounts: Mapping[str, float] | None = None,
  select: Selection = None,
  within_heads: bool = False,
) -> Pruned:
  """Keep the fraction kappa of the units of each layer, by following them.

  A unit goes with its incoming weights, its bias, its entries of normalisations
  and its outgoing weights, all of them set to zero, so that `compact` removes
  it without a change of the outputs. Units that a sum ties together, such as
  the channels of residual blocks, go together.

  Args:
    params: pytree of concrete arrays.
    kappa: kept fraction in (0, 1]; ceil(kappa n) of a layer's n units stay.
    apply: the network, `apply(params, *inputs)`, a pure function; of a model
      that remembers its sizes, `nnx_apply` or `linen_apply`.
    inputs: example inputs, one or a tuple. Their entries matter for
      'activation' alone.
    criterion: which units stay, those of largest 'norm', the l_2 norm of their
      incoming weights; 'centred', of the incoming weights of each leaf less
      the median over its entries; 'in_out', the product of the norms of
      incoming and of outgoing weights; 'activation', the root mean square over
      the outputs of the derivative by a factor on their outgoing weights, for
      a last hidden layer their contribution; 'group', the norm of everything
      that is set to zero.
    amounts: kappa of single layers, by the name of their family: that of its
      first leaf with incoming weights, see `htjax.units.families`.
    select: see `htjax.selection`; units go if their first leaf with incoming
      weights is selected. None is all units that can go.
    within_heads: whether the dimensions of attention heads are pruned too;
      else whole heads are.

  Returns:
    Pruned, with zeros for what went, `errors` the relative l_2 error of each
    leaf that lost entries, and `left` the layers whose units have to stay,
    with the reason.

  Raises:
    ValueError: kappa, or one of `amounts`, outside (0, 1]; an unknown
      criterion or name; traced params; `apply` with side effects or that
      cannot be traced; nothing that can be pruned.

  Values: of equal scores the unit of lower index stays; NaN ranks highest.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> params = {'a': jnp.array([[3.0, 0.5, 2.0]]), 'b': jnp.ones((3, 2))}
    >>> apply = lambda p, x: jax.nn.relu(x @ p['a']) @ p['b']
    >>> x = jnp.ones((1, 1))
    >>> pruned = pruning.units(params, 0.6, apply=apply, inputs=x)
    >>> pruned.params['a'].tolist(), pruned.params['b'][:, 0].tolist()
    ([[3.0, 0.0, 2.0]], [1.0, 0.0, 1.0])
  """
  check_choice('criterion', criterion, CRITERIA)
  amounts = dict(amounts or {})
  check_range('kappa', kappa, 0.0, 1.0, open_low=True)
  for name, value in amounts.items():
    check_range(f'amounts[{name!r}]', value, 0.0, 1.0, open_low=True)
  if not isinstance(inputs, tuple | list):
    inputs = (inputs,)
  named, treedef = named_leaves(params), jax.tree.structure(params)
  for name, leaf in named:
    if not is_concrete(leaf):
      raise ValueError(f'{name} must be concrete: its units are ranked')
  trace(apply, params, inputs)
  found = _choose(families(apply, params, inputs), params, select, within_heads)
  unknown = sorted(set(amounts) - {f.name for f in found})
  if unknown:
    raise ValueError(
      f'amounts: no layer is called {", ".join(unknown)}; there are '
      f'{", ".join(f.name for f in found) or "none"}'
    )
  leaves = [np.asarray(leaf) for _, leaf in named]
  before = signature(apply, params, inputs)
  masks, left = [np.ones(a.shape, bool) for a in leaves], {}
  for family in found:
    count = math.ceil(
      round(amounts.get(family.name, kappa) * family.num_units, 6)
    )
    if count == family.num_units:
      continue
    score = _scores(family, leaves, treedef, apply, inputs, criterion)
    order = np.argsort(-np.nan_to_num(score, nan=np.inf), kind='stable')
    keep = np.zeros(family.num_units, bool)
    keep[order[:count]] = True
    small = _without(family, keep, leaves)
    why = difference(apply, treedef, small, inputs, before)
    if why is None:
      _mask(family, keep, masks)
    else:
      left[family.name] = why
  if not any(f.name not in left for f in found):
    raise ValueError(
      'no layer has units that can be pruned'
      + ''.join(f'; {name}: {why}' for name, why in left.items())
    )
  return _pruned(leaves, masks, treedef, [n for n, _ in named], left)


def _choose(
  found: list[Family], params: PyTree, select: Selection, within_heads: bool
) -> list[Family]:
  """The families that are selected, of heads and dimensions the heads."""
  flags = None if select is None else jax.tree.leaves(resolve(select, params))
  chosen: list[Family] = []
  taken: set[int] = set()
  for family in found:
    incoming = {p.leaf for p in family.at('incoming')}
    if not incoming or (flags and not flags[min(incoming)]):
      continue
    if within_heads or not incoming & taken:
      chosen.append(family)
      taken |= incoming
  if not chosen:
    raise ValueError('select must choose a layer whose units can go, got none')
  return chosen


def _scores(
  family: Family,
  leaves: list[np.ndarray],
  treedef: Any,
  apply: Callable[..., Any],
  inputs: Sequence[Any],
  criterion: str,
) -> np.ndarray:
  """[num_units], how much a unit is worth."""
  if criterion == 'activation':
    return _effects(family, leaves, treedef, apply, inputs)
  wide: list[Any] = list(leaves)
  if criterion == 'centred':
    for part in family.at('incoming'):
      array = leaves[part.leaf].astype(np.float64)
      wide[part.leaf] = np.asarray(array - np.median(array), np.float32)
  places = {
    'in_out': ('incoming', 'outgoing'),
    'group': ('incoming', 'outgoing', 'partner'),
  }.get(criterion, ('incoming',))
  norms = [np.asarray(squared_norms(family, wide, p)) for p in places]
  if criterion == 'in_out':
    return norms[0] * norms[1]
  return np.sum(norms, axis=0)


def _effects(
  family: Family,
  leaves: list[np.ndarray],
  treedef: Any,
  apply: Callable[..., Any],
  inputs: Sequence[Any],
) -> np.ndarray:
  """Root mean square of the outputs' derivative by a factor of each unit."""

  def outputs(factors: jax.Array) -> jax.Array:
    arrays = [jnp.asarray(leaf) for leaf in leaves]
    for part in family.at('outgoing'):
      arrays[part.leaf] = scaled(part, arrays[part.leaf], factors)
    out = jax.tree.leaves(apply(jax.tree.unflatten(treedef, arrays), *inputs))
    return jnp.concatenate([x.ravel().astype(jnp.float32) for x in out])

  ones = jnp.ones(family.num_units)

  def effect(unit: jax.Array) -> jax.Array:
    _, moved = jax.jvp(outputs, (ones,), (unit,))
    return jnp.mean(moved**2)

  return np.asarray(jax.lax.map(effect, jnp.eye(family.num_units)))


def _without(
  family: Family, keep: np.ndarray, leaves: list[np.ndarray]
) -> list[np.ndarray]:
  """The leaves, cut."""
  small = list(leaves)
  for part in family.parts:
    stays = (part.unit < 0) | keep[np.maximum(part.unit, 0)]
    small[part.leaf] = np.compress(stays, small[part.leaf], axis=part.axis)
  return small


def _mask(family: Family, keep: np.ndarray, masks: list[np.ndarray]) -> None:
  for part in family.parts:
    stays = (part.unit < 0) | keep[np.maximum(part.unit, 0)]
    shape = [1] * masks[part.leaf].ndim
    shape[part.axis] = -1
    masks[part.leaf] &= stays.reshape(shape)


def _pruned(
  leaves: list[np.ndarray],
  masks: list[np.ndarray],
  treedef: Any,
  names: list[str],
  left: dict[str, str],
) -> Pruned:
  values, errors, kept, total = [], {}, 0, 0
  for name, leaf, mask in zip(names, leaves, masks, strict=True):
    if mask.all():
      values.append(jnp.asarray(leaf))
      continue
    values.append(jnp.asarray(np.where(mask, leaf, np.zeros((), leaf.dtype))))
    wide = leaf.astype(np.float64)
    norm = np.linalg.norm(wide.ravel())
    lost = np.linalg.norm(wide[~mask])
    errors[name] = jnp.float32(lost / norm if norm else 0.0)
    kept, total = kept + int(mask.sum()), total + mask.size
  return Pruned(
    jax.tree.unflatten(treedef, values),
    jax.tree.unflatten(treedef, [jnp.asarray(m) for m in masks]),
    jnp.int32(kept),
    jnp.int32(total),
    errors,
    Left(tuple(left.items())),
  )
