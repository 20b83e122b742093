"""Iterative magnitude pruning: train, prune, rewind or go on, repeat."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_choice, checked, is_concrete
from htjax.compressibility import Kept, check_kappa, kept_count, largest
from htjax.compressibility.counts import kept_fraction
from htjax.pruning.results import (
  Pruned,
  check_scalar,
  choose,
  in_unit_interval,
)
from htjax.selection import Selection
from htjax.types import Array, PyTree
from htjax.units import Given

# (params, mask, round) -> trained params.
Train = Callable[[PyTree, PyTree, int], PyTree]


class Round(NamedTuple):
  """One round of iterative magnitude pruning.

  Attributes:
    trained: what the training of this round gave, zero where it was masked.
    pruned: the weights to start again from, pruned by the mask of the largest
      of `trained`: `pruned.params` and `pruned.mask` are the sparse network.
  """

  trained: PyTree
  pruned: Pruned


@checked
def iterative_magnitude(
  train: Train,
  params: PyTree,
  kappas: Sequence[Kept],
  *,
  rewind: PyTree | None = None,
  rewinding: bool = True,
  scope: str = 'global',
  select: Selection = None,
  units: Given = None,
  rounding: str = 'ceil',
) -> tuple[Round, ...]:
  """Train, prune to the next fraction, rewind the rest, and repeat.

  Round r trains what the rounds before have kept, keeps the largest
  magnitudes, kappas[r] of all entries, and puts the kept entries back to
  `rewind`, or leaves them as trained (fine-tuning). The last network is left
  for the caller to train:
  `train(rounds[-1].pruned.params, rounds[-1].pruned.mask, len(kappas))`.

  Args:
    train: `train(params, mask, round) -> trained params` of the same structure,
      shapes and dtypes. It should hold masked entries at zero; they are set to
      zero after it. A function to be traced or one that loads data, whichever.
    params: the weights that the first round starts from, a pytree of arrays.
    kappas: kept fraction of the selected entries after each round, in (0, 1],
      traced or not, falling: a mask never grows, so a fraction larger than
      the one before changes nothing.
    rewind: the weights that kept entries go back to, such as those of an early
      step; None is `params`. Leaves that are not selected go back as well.
    rewinding: False leaves kept entries, and leaves that are not selected, as
      the round trained them.
    scope: 'global' keeps the fraction of all selected entries together, as in
      `magnitude`; 'layer' of each leaf.
    select: which leaves are pruned; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.
    rounding: 'ceil' or 'floor' of kappa times the number of entries.

  Returns:
    A Round for each of `kappas`. Entries that were pruned stay pruned, and
    among equal magnitudes the first is kept.

  Raises:
    ValueError: no kappas, a concrete one outside (0, 1] or above the one
      before, `train` or `rewind` of another structure, shape or dtype, a
      `rewind` without rewinding; and as `magnitude`.

  Values: a traced kappa outside [0, 1] makes the selected leaves of that round
    NaN.

  Source: [Frankle2019], as named in [SK], section 6; without rewinding,
    [Han2015].

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> def train(params, mask, round):
    ...   return {'w': params['w'] * jnp.arange(4.0).reshape(2, 2)}
    >>> params = {'w': jnp.ones((2, 2))}
    >>> rounds = pruning.iterative_magnitude(train, params, (0.75, 0.5))
    >>> [int(r.pruned.kept) for r in rounds]
    [3, 2]
    >>> rounds[-1].pruned.params['w'].tolist()
    [[0.0, 0.0], [1.0, 1.0]]
  """
  check_choice('scope', scope, ('global', 'layer'))
  _check_schedule(kappas)
  start = choose(params, select, units=units)
  if rewind is not None and not rewinding:
    raise ValueError('rewind must be None without rewinding, got weights')
  rewind = params if rewind is None else rewind
  _check_like('rewind', rewind, params)
  target = choose(rewind, select, units=units)
  masks = [jnp.ones(w.shape, bool) for w in start.wide]
  state = start.replaced(masks, [0] * len(masks))
  rounds = []
  for r, kappa in enumerate(kappas):
    raw = train(state.params, state.mask, r)
    _check_like('train(..)', raw, params)
    trained = choose(raw, select, units=units)
    zeros = [0] * len(masks)
    clean = trained.replaced(masks, zeros).params
    scores = [_scores(w, m) for w, m in zip(trained.wide, masks, strict=True)]
    masks = _shrink(scores, masks, kappa, scope, rounding)
    onward = target if rewinding else trained
    state = onward.replaced(masks, zeros, in_unit_interval(kappa))
    rounds.append(Round(clean, state))
  return tuple(rounds)


def _shrink(
  scores: list[Array],
  masks: list[Array],
  kappa: Kept,
  scope: str,
  rounding: str,
) -> list[Array]:
  """The masks of the largest scores, within the masks before."""
  if scope == 'layer':
    kept = [largest(s, kept_count(kappa, s.size, rounding)) for s in scores]
  else:
    joined = jnp.concatenate([s.reshape(-1) for s in scores])
    flat = largest(joined, kept_count(kappa, joined.size, rounding))
    ends = np.cumsum([s.size for s in scores])[:-1]
    kept = jnp.split(flat, ends)
  return [k.reshape(m.shape) & m for k, m in zip(kept, masks, strict=True)]


def _scores(leaf: Array, mask: Array) -> Array:
  """Magnitudes, with zeros among the masks' entries above what is masked."""
  return jnp.where(mask, jnp.nextafter(jnp.abs(leaf), jnp.inf), 0)


def _check_schedule(kappas: Sequence[Kept]) -> None:
  if len(kappas) == 0:
    raise ValueError('kappas must have at least one entry, got none')
  for kappa in kappas:
    try:
      check_kappa(kappa)
    except ValueError as error:
      raise ValueError(f'each of kappas: {error}') from error
    check_scalar('kappas (each entry)', kappa)
  fractions = [kept_fraction(k) for k in kappas]
  known = [np.asarray(k) for k in fractions if is_concrete(k)]
  for before, after in itertools.pairwise(known):
    if after > before:
      raise ValueError(f'kappas must not grow, got {after} after {before}')


def _check_like(name: str, tree: PyTree, params: PyTree) -> None:
  """Raise unless a tree has the structure, shapes and dtypes of params."""
  expected: Any = jax.tree.structure(params)
  got: Any = jax.tree.structure(tree)
  if got != expected:
    raise ValueError(
      f'{name} must have the structure of params, {expected}, got {got}'
    )
  for ours, theirs in zip(
    jax.tree.leaves(params), jax.tree.leaves(tree), strict=True
  ):
    ours, theirs = jnp.asarray(ours), jnp.asarray(theirs)
    if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
      raise ValueError(
        f'{name} must have the shapes and dtypes of params, '
        f'{ours.dtype.name}{list(ours.shape)}, got '
        f'{theirs.dtype.name}{list(theirs.shape)}'
      )
