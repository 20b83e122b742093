"""Noise in what each unit contributes: multiplicative, and conserved in sum.

A unit's contribution is the norm of its incoming weights times that of its
outgoing ones. Noise on its logarithm makes contributions heavy-tailed, so that
a few units carry the function and the others can go.

Which tail they get: without a gradient the logarithms walk, and Gaussian noise
of scale s that is on for a share o of the steps makes contributions log-normal
with sigma^2 = 2 s^2 o, whatever the number of steps. Hill's estimate from the
largest share q of them is 1 / (sigma (phi(z) / q - z)) with z the normal
quantile of 1 - q: 0.59 at sigma = 3.6 and q = 0.1. That is what trained
networks have, within a tenth (experiments/prunability): gradients hardly touch
it in the time that noise takes, and it is no power law yet. In the long run a
gradient adds to contributions what the noise does not know of, so that they
follow c' = a c + b with random a, as a Kesten process does: a power law of the
index kappa with E a^kappa = 1 [Kesten1973]. As the sum is conserved, E a < 1
where b > 0 on average, and so kappa > 1. It needs E a^kappa to be finite, which
it is for Gaussian noise, and for heavy-tailed noise only as it is clipped here:
the tail of the contributions is not that of the noise.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from htjax import selection, stable
from htjax import units as _units
from htjax.checks import (
  check_arrays,
  check_choice,
  check_count,
  check_range,
  checked,
)
from htjax.noise.transformations import (
  AddStableNoiseState,
  of_words,
  typed,
)
from htjax.rounding import ROUNDING, is_narrower, stochastic_round, widened
from htjax.schedules import ScalarOrSchedule, at
from htjax.types import Array, ArrayLike, PRNGKey, PyTree
from htjax.units.families import scaled, squares

# No factor of a step is outside of [exp(-2), exp(2)].
CLIP = 2.0
SIDES = ('both', 'incoming', 'outgoing')
_STATISTICS = ('mean', 'var', 'running_mean', 'running_var')


class _Levers(NamedTuple):
  """Parts that are multiplied for a family, each with its leaf's position."""

  name: str
  num_units: int
  incoming: tuple[tuple[int, _units.Part], ...]
  outgoing: tuple[tuple[int, _units.Part], ...]


@checked
def contribution_noise(
  scale: ScalarOrSchedule,
  num_steps: ArrayLike,
  *,
  key: int | PRNGKey,
  alpha: ScalarOrSchedule = 2.0,
  on: ArrayLike = 0.7,
  families: Sequence[_units.Family] | None = None,
  apply: Callable[..., Any] | None = None,
  params: PyTree = None,
  inputs: Any = None,
  select: selection.Selection = None,
  units: _units.Given = None,
  side: str = 'both',
  conserve: bool = True,
) -> optax.GradientTransformationExtraArgs:
  """Multiply what each unit contributes by a random factor in each step.

  The last link of a chain. Once the update has been made, the incoming weights
  of unit u, its bias, and its outgoing weights are multiplied by exp(xi_u / 2),
  with xi_u = s K^(-1/alpha) X_u cut to [-2, 2], K the steps planned and X_u
  standard symmetric alpha-stable, independent over units and steps. Then all
  units of the family are multiplied by one number, so that the sum over units
  of contributions, norm in times norm out, is what it was before the noise.

  The scale s is that of the logarithm of a contribution after K steps without
  clipping, so it does not depend on the number of steps, on the step size or
  on the size of the weights. After the first share `on` of the steps there is
  no noise, and the optimizer settles.

  Where the network normalises a unit, the scale of its incoming weights does
  nothing: the scale and bias of the normalisation are multiplied in place of
  the kernel and its bias. Of attention it is a head's values and what is read
  from them, not its queries and keys. Units that a normalisation averages over
  or a residual stream ties to the network's outputs have no noise, nor have
  those without outgoing weights.

  A kernel between two hidden layers is outgoing for one and incoming for the
  other. Layers are noisy one after another, from the first on; each leaves its
  own sum as it finds it.

  Args:
    scale: s >= 0, a number, traced if an array, or a schedule of the step
      count.
    num_steps: K, updates planned.
    key: typed key or integer seed. For seeds under `vmap`, build the
      transformation inside the mapped function.
    alpha: tail index in (0, 2], a number, traced if an array, or a schedule.
    on: share of the steps with noise, in [0, 1], traced if an array.
    families: the units, from `htjax.units.families`; or None, to find them
      from the next three.
    apply: the network, `apply(params, *inputs)`, a pure function; of a Flax
      model `htjax.pruning.nnx_apply` or `linen_apply` makes it.
    params: pytree of concrete arrays. That which is trained may be a part of
      it: leaves are known by name.
    inputs: example inputs, one or a tuple; their entries are not looked at.
    select: see `htjax.selection`; families whose first leaf with incoming
      weights is selected, of the parameters that are trained. None is all.
    units: the roles of leaves, see `htjax.units`, to know normalisations by;
      None asks the leaves' names.
    side: 'both', or all of the factor on the 'incoming' or on the 'outgoing'
      weights.
    conserve: whether the sum of contributions is conserved.

  Returns:
    An optax transformation; its `update` needs the parameters. The state holds
    the step count and the key, as that of `add_stable_noise`.

  Raises:
    ValueError: scale negative, NaN or infinite, alpha outside (0, 2], `on`
      outside [0, 1], num_steps < 1, an unknown side, a legacy key, neither
      `families` nor all of apply, params and inputs, or both; from `init`
      parameters without a family, or of other sizes; from `update` no
      parameters.

  Values: units that contribute nothing stay so. A traced scale that is
    negative, infinite or NaN, or traced alpha outside (0, 2], gives NaN.

  Source: measured in `experiments/prunability`; for the tails [Kesten1973],
    theorem 5, and [HT], section 3.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from htjax import noise
    >>> params = {'a': jnp.ones((3, 5)), 'b': jnp.ones((5, 2))}
    >>> apply = lambda p, x: jax.nn.relu(x @ p['a']) @ p['b']
    >>> optimizer = optax.chain(
    ...   optax.sgd(0.1),
    ...   noise.contribution_noise(
    ...     2.0, 100, key=0, apply=apply, params=params, inputs=jnp.ones((1, 3))
    ...   ),
    ... )
    >>> gradient = jax.tree.map(jnp.zeros_like, params)
    >>> updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    >>> moved = optax.apply_updates(params, updates)
    >>> column, row = moved['a'][0], moved['b'][:, 0]
    >>> bool(jnp.allclose(column, row)), bool((column != 1).all())
    (True, True)
    >>> round(float((column * row).sum()), 4)  # conserved
    5.0
  """
  _check(scale, num_steps, alpha, on)
  check_choice('side', side, SIDES)
  found = _found(families, apply, params, inputs)
  key = typed(key)
  impl = jax.random.key_impl(key)

  def init(params: PyTree) -> AddStableNoiseState:
    if not _levers(found, params, select, units):
      raise ValueError(
        'families must have incoming and outgoing weights among the '
        'parameters, got none'
      )
    words = jnp.array(jax.random.key_data(key), copy=True)
    return AddStableNoiseState(jnp.zeros((), jnp.int32), words)

  def update(
    updates: Any, state: Any, params: Any = None, **extra_args: Any
  ) -> tuple[Any, AddStableNoiseState]:
    del extra_args
    if params is None:
      raise ValueError('params must be given to update, got None')
    step_key = jax.random.fold_in(of_words(state.key, impl), state.count)
    a = jnp.asarray(at(alpha, state.count), jnp.float32)
    size = at(scale, state.count) * num_steps ** (-1.0 / a)
    size = jnp.where(state.count < on * num_steps, size, 0.0)

    def log_factors(i: int, count: int) -> Array:
      draws = stable.sample(
        jax.random.fold_in(step_key, i), a, (count,), scale=size
      )
      return jnp.clip(draws, -CLIP, CLIP)

    treedef: Any
    leaves, treedef = jax.tree.flatten(updates)
    weights = treedef.flatten_up_to(params)
    levers = _levers(found, params, select, units)
    touched = {i for own in levers for i, _ in own.incoming + own.outgoing}
    start = {i: widened(weights[i]) + widened(leaves[i]) for i in touched}
    end = dict(start)
    for i, own in enumerate(levers):
      _multiply(own, end, log_factors(i, own.num_units), side, conserve)
    for i in touched:
      moved = widened(leaves[i]) + (end[i] - start[i])
      rounding = jax.random.fold_in(step_key, ROUNDING + i)
      leaves[i] = _landed(rounding, moved, leaves[i], weights[i])
    count = optax.safe_increment(state.count)
    return jax.tree.unflatten(treedef, leaves), AddStableNoiseState(
      count, state.key
    )

  return optax.GradientTransformationExtraArgs(init, update)


@checked
def contribution_scale(
  kept: ArrayLike, *, on: ArrayLike = 0.7, held: ArrayLike = 0.99
) -> Array:
  """The scale at which a share of the units holds nearly all contributions.

  Contributions are log-normal with sigma^2 = 2 s^2 o by Gaussian noise alone,
  of which the largest share q has the part Phi(sigma - z_q) of the sum, z_q the
  normal quantile of 1 - q: so sigma = z_q + Phi^-1(held).

  Args:
    kept: q in (0, 1), the share of a layer's units that is to be kept.
    on: share of the steps with noise, in (0, 1].
    held: the part of the contributions that these units are to have, in (0, 1).

  Returns:
    Array [], s for `contribution_noise` with alpha = 2, at least 0.

  Raises:
    ValueError: concrete numbers outside of these intervals.

  Values: traced numbers outside of them give NaN or infinity.

  Source: the log-normal law's Lorenz curve.

  Examples:
    >>> from htjax import noise
    >>> round(float(noise.contribution_scale(0.1, on=0.4)), 2)
    4.03
  """
  for name, value in {'kept': kept, 'held': held}.items():
    check_range(name, value, 0.0, 1.0, open_low=True, open_high=True)
  check_range('on', on, 0.0, 1.0, open_low=True)
  q, part = jnp.float32(kept), jnp.float32(held)
  sigma = jax.scipy.special.ndtri(part) - jax.scipy.special.ndtri(q)
  return jnp.maximum(sigma, 0.0) / jnp.sqrt(2 * jnp.float32(on))


@checked
def contributions(
  families: Sequence[_units.Family],
  params: PyTree,
  *,
  units: _units.Given = None,
) -> dict[str, Array]:
  """Contributions of units: the norm of what goes in times that out.

  Args:
    families: from `htjax.units.families`.
    params: pytree of arrays of the sizes that the families have.
    units: the roles of leaves, see `htjax.units`; None asks their names.

  Returns:
    {name of the family: array [num_units]}, float32 or wider, of the families
    that `contribution_noise` acts on, with the norms over what it multiplies.

  Raises:
    ValueError: parameters of other sizes.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import noise, units
    >>> params = {'a': jnp.ones((4, 3)), 'b': jnp.ones((3, 9))}
    >>> apply = lambda p, x: jax.nn.relu(x @ p['a']) @ p['b']
    >>> found = units.families(apply, params, jnp.ones((1, 4)))
    >>> noise.contributions(found, params)['a'].tolist()
    [6.0, 6.0, 6.0]
  """
  check_arrays('params', params)
  leaves = dict(enumerate(map(widened, jax.tree.leaves(params))))
  return {
    own.name: _contributions(own, leaves)
    for own in _levers(families, params, None, units)
  }


def _multiply(
  own: _Levers,
  leaves: dict[int, Array],
  log_factors: Array,
  side: str,
  conserve: bool,
) -> None:
  """Multiply a family's contributions, half in and half out or on a side."""
  if conserve:
    before = _contributions(own, leaves)
    total, noisy = before.sum(), (before * jnp.exp(log_factors)).sum()
    lost = jnp.where(total > 0, jnp.log(noisy / total), 0.0)
    # The quotient of equal sums is one, and its logarithm nothing.
    log_factors = log_factors - lost
  levers = {'incoming': own.incoming, 'outgoing': own.outgoing}
  factors = jnp.exp(log_factors / (2 if side == 'both' else 1))
  for i, part in levers.get(side, own.incoming + own.outgoing):
    leaves[i] = scaled(part, leaves[i], factors.astype(leaves[i].dtype))


def _contributions(own: _Levers, leaves: dict[int, Array]) -> Array:
  inside, outside = (
    sum(squares(part, leaves[i], own.num_units) for i, part in side)
    for side in (own.incoming, own.outgoing)
  )
  return jnp.sqrt(jnp.asarray(inside)) * jnp.sqrt(jnp.asarray(outside))


def _levers(
  families: Sequence[_units.Family],
  params: PyTree,
  select: selection.Selection,
  units: _units.Given,
) -> list[_Levers]:
  """Parts that are multiplied, of each family with both sides there."""
  named = _units.named_leaves(params)
  position = {name: i for i, (name, _) in enumerate(named)}
  roles = [leaf.role for leaf in _units.describe(units, params)]
  flags = None
  if select is not None:
    flags = jax.tree.leaves(selection.resolve(select, params))
  # Queries and keys have dimensions from which nothing goes out.
  scores = {p.name for f in families if not f.at('outgoing') for p in f.parts}
  found: list[_Levers] = []
  taken: set[int] = set()
  for family in families:
    parts = [
      (position[p.name], p)
      for p in family.parts
      if p.name in position and p.name not in scores
    ]
    _check_sizes(parts, named)
    kernels = {i for i, p in parts if p.place == 'incoming'}
    # Dimensions of heads, of which the heads have been taken.
    if kernels & taken or (flags and kernels and not flags[min(kernels)]):
      continue
    incoming = tuple(_inside(parts, roles))
    outgoing = tuple((i, p) for i, p in parts if p.place == 'outgoing')
    if incoming and outgoing:
      found.append(_Levers(family.name, family.num_units, incoming, outgoing))
      taken |= kernels
  return found


def _inside(
  parts: list[tuple[int, _units.Part]], roles: list[str]
) -> Iterator[tuple[int, _units.Part]]:
  """Parts that set the scale of the units before their outgoing weights."""
  own = [(i, p) for i, p in parts if p.place != 'outgoing']
  is_normalised = any(roles[i] == 'norm' for i, _ in own)
  for i, part in own:
    is_statistic = part.name.rpartition('.')[2] in _STATISTICS
    if (roles[i] == 'norm') == is_normalised and not (
      is_normalised and is_statistic
    ):
      yield i, part


def _check_sizes(
  parts: list[tuple[int, _units.Part]], named: Sequence[tuple[str, Any]]
) -> None:
  for i, part in parts:
    shape = np.shape(named[i][1])
    if len(shape) <= part.axis or shape[part.axis] != len(part.unit):
      raise ValueError(
        f'families: axis {part.axis} of {part.name} must have '
        f'{len(part.unit)} entries, got the shape {shape}'
      )


def _check(scale: Any, num_steps: Any, alpha: Any, on: Any) -> None:
  if not callable(scale):
    check_range('scale', scale, 0.0, math.inf, open_high=True)
  if isinstance(num_steps, int):
    check_count('num_steps', num_steps)
  check_range('num_steps', num_steps, 1.0, math.inf, open_high=True)
  if not callable(alpha):
    check_range('alpha', alpha, 0.0, 2.0, open_low=True)
  check_range('on', on, 0.0, 1.0)


def _found(
  families: Sequence[_units.Family] | None,
  apply: Callable[..., Any] | None,
  params: PyTree,
  inputs: Any,
) -> list[_units.Family]:
  given = [x is not None for x in (apply, params, inputs)]
  if families is not None and not any(given):
    return list(families)
  if families is not None or apply is None or not all(given):
    raise ValueError(
      'families must be given, or apply, params and inputs to find them, and '
      'not both'
    )
  return _units.families(apply, params, inputs)


def _landed(key: PRNGKey, update: Array, like: Array, weight: Array) -> Array:
  """An update after which a narrow weight is one of its two neighbours."""
  if not is_narrower(weight.dtype, jnp.float32):
    return update.astype(like.dtype)
  start = weight.astype(update.dtype)
  end = stochastic_round(key, start + update, weight.dtype)
  return (end.astype(update.dtype) - start).astype(like.dtype)
