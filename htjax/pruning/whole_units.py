"""Pruning of units with all that belongs to them."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_choice, check_range, checked, is_concrete
from htjax.pruning.results import Left, Pruned
from htjax.pruning.sameness import Network
from htjax.selection import Selection, resolve
from htjax.types import PyTree
from htjax.units import Family, Part, named_leaves
from htjax.units.families import group, scaled, squared_norms
from htjax.units.jaxprs import follow

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
  leaves = [np.asarray(leaf) for _, leaf in named]
  network = _Cutting(Network(apply, params, inputs), leaves, params)
  found = _choose(network.families, params, select)
  unknown = sorted(set(amounts) - {f.name for f in found})
  if unknown:
    raise ValueError(
      f'amounts: no layer is called {", ".join(unknown)}; there are '
      f'{", ".join(f.name for f in found) or "none"}'
    )
  taken: set[int] = set()
  done: list[tuple[Family, np.ndarray]] = []
  refused: list[tuple[Family, np.ndarray, str]] = []
  for family in found:
    # Of heads and their dimensions the heads, if they can go.
    if not within_heads and taken.intersection(_incoming(family)):
      continue
    count = math.ceil(
      round(amounts.get(family.name, kappa) * family.num_units, 6)
    )
    if count < family.num_units:
      score = _scores(family, leaves, treedef, apply, inputs, criterion)
      order = np.argsort(-np.nan_to_num(score, nan=np.inf), kind='stable')
      keep = np.zeros(family.num_units, bool)
      keep[order[:count]] = True
      why = network.refusal([(family, keep)])
      if why is not None:
        refused.append((family, keep, why))
        continue
      done.append((family, keep))
    taken |= _incoming(family)
  refused = [r for r in refused if within_heads or not taken & _incoming(r[0])]
  # Such as queries, keys and values of one size: none alone, but together.
  for first in range(len(refused) - 1):
    together = [(family, keep) for family, keep, _ in refused[first:]]
    if network.refusal(together) is None:
      done, refused = done + together, refused[:first]
      break
  if done and network.spoils(done):
    why = 'its zeros make a NaN or an infinity, as 0 / 0'
    refused += [(*cut, why) for cut in done if network.spoils([cut])]
    done = [cut for cut in done if not network.spoils([cut])]
  left = {family.name: why for family, _, why in refused}
  if not done and left:
    raise ValueError(
      'no layer has units that can be pruned'
      + ''.join(f'; {name}: {why}' for name, why in left.items())
    )
  masks = network.masks(done)
  return _pruned(leaves, masks, treedef, [n for n, _ in named], left)


class _Cutting:
  """A network some of whose units may be cut.

  Attributes:
    families: its units.
  """

  def __init__(
    self, network: Network, leaves: list[np.ndarray], params: PyTree
  ) -> None:
    self._network, self._leaves = network, leaves
    self._followed = follow(network.closed, leaves)
    self._resolved = self._followed.ties.resolve()
    self.families = group(self._followed, self._resolved, params)

  def refusal(self, cuts: Sequence[tuple[Family, np.ndarray]]) -> str | None:
    """Why units cannot go, or None; for each family which of them stay."""
    gone = {
      atom
      for family, keep in cuts
      for atom, stays in zip(family.atoms, keep, strict=True)
      if not stays
    }
    small = list(self._leaves)
    stays = [[np.ones(n, bool) for n in leaf.shape] for leaf in small]
    for family, keep in cuts:
      for part in family.parts:
        stays[part.leaf][part.axis] &= _left(part, keep)
    small = [
      leaf[np.ix_(*axes)] if axes else leaf
      for leaf, axes in zip(small, stays, strict=True)
    ]
    return self._network.difference(small, self._followed, self._resolved, gone)

  def masks(
    self, cuts: Sequence[tuple[Family, np.ndarray]]
  ) -> list[np.ndarray]:
    """Of each leaf, True at the entries that stay."""
    masks = [np.ones(leaf.shape, bool) for leaf in self._leaves]
    for family, keep in cuts:
      for part in family.parts:
        shape = [1] * masks[part.leaf].ndim
        shape[part.axis] = -1
        masks[part.leaf] &= _left(part, keep).reshape(shape)
    return masks

  def spoils(self, cuts: Sequence[tuple[Family, np.ndarray]]) -> bool:
    """Whether zeros in place of units make numbers that are not finite."""
    masks = self.masks(cuts)
    leaves = [
      np.where(mask, leaf, np.zeros((), leaf.dtype))
      for mask, leaf in zip(masks, self._leaves, strict=True)
    ]
    after = follow(self._network.closed, leaves)
    pairs = zip(self._followed.reads, after.reads, strict=True)
    return any((new.spoilt & ~old.spoilt).any() for old, new in pairs)


def _left(part: Part, keep: np.ndarray) -> np.ndarray:
  """Booleans: the indices of a part's axis that stay."""
  return (part.unit < 0) | keep[np.maximum(part.unit, 0)]


def _incoming(family: Family) -> set[int]:
  return {part.leaf for part in family.at('incoming')}


def _choose(
  found: list[Family], params: PyTree, select: Selection
) -> list[Family]:
  """The families of incoming weights that are selected."""
  flags = None if select is None else jax.tree.leaves(resolve(select, params))
  chosen: list[Family] = []
  for family in found:
    incoming = _incoming(family)
    if incoming and (flags is None or flags[min(incoming)]):
      chosen.append(family)
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
