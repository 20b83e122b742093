"""Optax transformations that add stable noise to an update."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from htjax import selection
from htjax import units as _units
from htjax.checks import check_key, check_range, checked
from htjax.noise import settings
from htjax.noise.process import StableNoise
from htjax.noise.relative import check_num_steps, sizes, time_shares
from htjax.noise.settings import Setting
from htjax.rounding import ROUNDING, is_narrower, landing, narrowed, widened
from htjax.schedules import ScalarOrSchedule, at
from htjax.types import Array, ArrayLike, PRNGKey, PyTree


class AddStableNoiseState(NamedTuple):
  """State of `add_stable_noise`: arrays of numbers, which any format holds.

  Attributes:
    count: [] int32, updates made so far.
    key: uint32, the words of the key ([2] for JAX's default kind of keys),
      never consumed; step t draws from fold_in(key, t). They are a copy, so
      that donating the state leaves the caller's key alone. A typed key may be
      put in their place.
    sizes: with `relative`, the root mean square weight of every unit at the
      start, an array for each leaf with noise, of size 1 along the unit's
      vectors; else empty.
    lost: for each leaf with noise that is narrower than float32, what rounding
      has lost of its weights so far, float32 of its shape.
    total: with `monitor`, the sum of the noise so far: an array for each leaf,
      with one number for each unit of Type I, of shape [] where there is no
      noise; else empty.
  """

  count: Array  # type: ignore[assignment]
  key: Array
  sizes: tuple[Array, ...] = ()
  lost: tuple[Array, ...] = ()
  total: tuple[Array, ...] = ()


@checked
def add_stable_noise(
  learning_rate: ScalarOrSchedule,
  alpha: Setting | None = None,
  sigma: Setting | None = None,
  *,
  key: int | PRNGKey,
  kind: str = 'type1',
  select: selection.Selection = None,
  mask: selection.Selection = None,
  unit: str = 'filter',
  noise: StableNoise | None = None,
  units: _units.Given = None,
  relative: Setting | None = None,
  num_steps: ArrayLike | None = None,
  monitor: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """Add sigma * eta_t^(1/alpha) * X_t to the updates.

  `htjax.noise.StableNoise` says what X_t is for each kind and unit, and
  `StableNoise.draw` what is drawn in which dtype.

  The state is a tuple of a count and of the key's words, both numbers, so
  `flax.serialization.to_bytes`, Orbax and pickle save it like any other; which
  kind of key the words are of is known to the transformation that is made
  anew.

  `optax.inject_hyperparams` takes alpha, sigma, the learning rate and an
  integer seed as they are, but would call a selection that is a function with
  the step count: name it in `static_args=('select',)`.

  With `relative` in place of sigma, the scale is in units of the weights: after
  `num_steps` updates noise has r times the norm that a unit had at the start,
  in directions that the loss does not see. Per unit
  sigma = r c / (sqrt(p) (sum_t eta_t)^(1/alpha)), with c that norm, p the
  number of its weights, and the sum over the steps planned: an increment is
  r c / sqrt(p) (eta_t / sum eta)^(1/alpha) X_t. Momentum needs no correction:
  increments are added behind it, and gradients undo them the sooner for it.
  Later steps go on with the same sigma. r = 0.1 is where to start.

  alpha, sigma and relative may be pytrees of numbers and schedules, by the
  names of leaves or of what holds them: `{'hidden': 1.5, 'output': 2.0}`, with
  an empty name for what is left, or a pytree like the parameters, from
  `jax.tree.map` over them. A schedule of sigma or of relative anneals the
  noise: `relative=optax.linear_schedule(0.2, 0.0, 800)` with num_steps=1000
  leaves the last 200 steps without any. The r of the whole run is then
  (sum_t r_t^alpha eta_t / sum_t eta_t)^(1/alpha).

  Weights narrower than float32 do not notice an update below half their
  spacing: for them the state keeps in float32 what rounding has lost, and adds
  it to the next update. Weight and lost part together have the law that a
  weight in float32 has, and the weight is the number nearest to them; it costs
  four bytes for each such weight, and needs `params`.

  Args:
    learning_rate: eta_t >= 0, a number or an optax schedule of the step count;
      the same one that the optimizer in front uses.
    alpha: tail index in (0, 2], a number, traced if an array, a schedule, or a
      pytree of those by layers. alpha = 2 gives Gaussian noise of variance
      2 sigma^2 eta_t.
    sigma: noise scale >= 0, likewise.
    key: typed key or integer seed. For seeds under `vmap`, build the
      transformation inside the mapped function.
    kind: 'type1', 'type2' or 'type3'.
    select: the weights that get noise: a pytree of booleans, or of arrays of
      booleans entry by entry (the mask of a pruned network), a function of the
      parameters that returns one, or None for every weight, which embeddings,
      norms and biases are not. `htjax.selection.exclude('name')` leaves out a
      layer; the papers leave out the last one.
    mask: another name of `select`.
    unit: 'filter' or 'kernel', what convolutions are made of.
    noise: the process, in place of alpha, sigma, kind and unit.
    units: what a unit is in each leaf, see `htjax.units`; None asks the leaves'
      names, which is enough for dense layers and convolutions of Flax.
    relative: r >= 0, in place of sigma and likewise a number, a schedule or a
      pytree of those by layers. A unit that starts at zero gets no noise.
    num_steps: updates planned, with `relative`.
    monitor: whether the state keeps the sum of the noise, for
      `htjax.noise.shares`; memory of a number for each unit of Type I, for each
      weight otherwise.

  Returns:
    An optax transformation. Its state holds the step count and the key, so a
    restored state continues with the same noise. Inside `optax.MultiSteps` it
    acts once per accumulated step.

  Raises:
    ValueError: alpha outside (0, 2], sigma negative, NaN or infinite, either
      one missing or not a scalar, a negative learning rate, an unknown kind or
      unit, a legacy key, both `select` and `mask`, both `noise` and what it
      stands for, both `relative` and sigma, `relative` without `num_steps`;
      from `init` an empty pytree, a selection of another structure, or one that
      chooses nothing, a pytree of numbers with a name that is no leaf's or
      without a leaf's; from `update` leaves narrower than float32 without
      `params`.

  Values: traced alpha outside (0, 2], or traced sigma negative, infinite or
    NaN, gives NaN updates.

  Source: [IC], eq. (2).

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from htjax import noise
    >>> optimizer = optax.chain(
    ...   optax.adam(0.1),
    ...   noise.add_stable_noise(0.1, 1.8, 0.01, key=jax.random.key(0)),
    ... )
    >>> params = {'kernel': jnp.zeros((3, 2)), 'bias': jnp.zeros(2)}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> column = updates['kernel'][:, 0]  # Type I: one number for each column
    >>> bool(column[0] != 0), bool((column == column[0]).all())
    (True, True)
    >>> bool((updates['bias'] == 0).all())
    True

    Noise of a tenth of the weights, annealed over a cosine schedule:

    >>> rate = optax.cosine_decay_schedule(0.1, 1000)
    >>> optimizer = optax.chain(
    ...   optax.sgd(rate, momentum=0.9),
    ...   noise.add_stable_noise(
    ...     rate,
    ...     1.8,
    ...     key=jax.random.key(0),
    ...     relative=optax.linear_schedule(0.1, 0.0, 700),
    ...     num_steps=1000,
    ...   ),
    ... )
  """
  if not callable(learning_rate):
    check_range('learning_rate', learning_rate, 0.0, np.inf, open_high=True)
  time = _time(learning_rate, relative, num_steps)
  laws = _laws(alpha, sigma, kind, unit, noise, relative)
  kind, unit = (kind, unit) if noise is None else (noise.kind, noise.unit)
  chosen, name = selection.one_name(select, mask)
  key = typed(key)
  impl = jax.random.key_impl(key)

  def init(params: PyTree) -> AddStableNoiseState:
    reached = _units.targets(chosen, params, name, units)
    leaves = jax.tree.leaves(params)
    laws(params, reached)
    return AddStableNoiseState(
      count=jnp.zeros((), jnp.int32),
      key=jnp.array(jax.random.key_data(key), copy=True),
      sizes=() if relative is None else sizes(leaves, reached, unit),
      lost=tuple(
        jnp.zeros(leaf.shape, jnp.float32)
        for leaf, to in zip(leaves, reached, strict=True)
        if to is not None and _is_narrow(leaf)
      ),
      total=_no_noise(leaves, reached, kind, unit) if monitor else (),
    )

  def update(
    updates: Any, state: Any, params: Any = None, **extra_args: Any
  ) -> tuple[Any, AddStableNoiseState]:
    del extra_args
    leaves, treedef = jax.tree.flatten(updates)
    weights = _weights(leaves, treedef, params, state.lost)
    reached = _units.targets(chosen, updates, name, units)
    step_key = jax.random.fold_in(of_words(state.key, impl), state.count)
    step_size = time(state.count)
    sized = [relative is not None and to is not None for to in reached]
    unit_sizes = _spread(state.sizes, sized)
    draws = [
      law
      and law(state.count).draw_leaf(
        *(jax.random.fold_in(step_key, i), widened(leaf), to, step_size, size)
      )
      for i, (leaf, to, law, size) in enumerate(
        zip(leaves, reached, laws(updates, reached), unit_sizes, strict=True)
      )
    ]
    noisy, lost = _added(step_key, leaves, draws, weights, state.lost)
    return jax.tree.unflatten(treedef, noisy), AddStableNoiseState(
      count=optax.safe_increment(state.count),
      key=state.key,
      sizes=state.sizes,
      lost=lost,
      total=tuple(
        total if x is None else total + x.astype(total.dtype)
        for total, x in zip(state.total, draws, strict=bool(state.total))
      ),
    )

  return optax.GradientTransformationExtraArgs(init, update)


@checked
def heavy_tailed_sgd(
  learning_rate: ScalarOrSchedule,
  alpha: Setting | None = None,
  sigma: Setting | None = None,
  *,
  key: int | PRNGKey,
  kind: str = 'type1',
  select: selection.Selection = None,
  mask: selection.Selection = None,
  unit: str = 'filter',
  noise: StableNoise | None = None,
  units: _units.Given = None,
  relative: Setting | None = None,
  num_steps: ArrayLike | None = None,
  monitor: bool = False,
  momentum: float | None = None,
  nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """SGD with heavy-tailed noise: `optax.sgd`, then `add_stable_noise`.

  theta_{t+1} = theta_t - eta_t * gradient + sigma * eta_t^(1/alpha) * X_t.

  Args:
    learning_rate: eta_t >= 0, a number or a schedule.
    alpha: tail index in (0, 2], a number, traced if an array, a schedule, or a
      pytree of those by layers.
    sigma: noise scale >= 0, likewise.
    key: typed key or integer seed.
    kind: 'type1', 'type2' or 'type3'.
    select: the weights that get noise: a pytree of booleans, a function of the
      parameters that returns one, or None for every weight.
    mask: another name of `select`.
    unit: 'filter' or 'kernel'.
    noise: the process, in place of alpha, sigma, kind and unit.
    units: what a unit is in each leaf, see `htjax.units`.
    relative: r >= 0, in place of sigma: the noise of `num_steps` updates has r
      times the norm that a unit had at the start, with any momentum.
    num_steps: updates planned, with `relative`.
    monitor: whether the state keeps the sum of the noise.
    momentum: decay of the gradient's running sum, or None.
    nesterov: whether momentum is Nesterov's.

  Returns:
    An optax transformation.

  Raises:
    ValueError: as `add_stable_noise`.

  Source: [IC], eq. (2).

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from htjax import noise
    >>> optimizer = noise.heavy_tailed_sgd(
    ...   0.5, alpha=1.8, sigma=0.01, key=jax.random.key(0)
    ... )
    >>> params = {'kernel': jnp.ones((3, 2)), 'bias': jnp.ones(2)}
    >>> gradient = jax.tree.map(jnp.ones_like, params)
    >>> updates, _ = optimizer.update(gradient, optimizer.init(params))
    >>> params = optax.apply_updates(params, updates)
    >>> params['bias'].tolist()  # biases get no noise
    [0.5, 0.5]
  """
  return optax.chain(
    optax.sgd(learning_rate, momentum=momentum, nesterov=nesterov),
    add_stable_noise(
      learning_rate,
      alpha,
      sigma,
      key=key,
      kind=kind,
      select=select,
      mask=mask,
      unit=unit,
      noise=noise,
      units=units,
      relative=relative,
      num_steps=num_steps,
      monitor=monitor,
    ),
  )


def _time(
  learning_rate: ScalarOrSchedule, relative: Any, num_steps: Any
) -> Callable[[ArrayLike], Any]:
  """The time that a step takes, or its share of what is planned."""
  if relative is not None:
    check_num_steps(num_steps)
    return time_shares(learning_rate, num_steps)
  if num_steps is not None:
    raise ValueError(
      f'num_steps is for relative, which is None; got {num_steps}'
    )
  return lambda count: at(learning_rate, count)


def _laws(
  alpha: Any,
  sigma: Any,
  kind: str,
  unit: str,
  noise: StableNoise | None,
  relative: Any,
) -> Callable[[PyTree, Sequence[_units.Target | None]], list[Any]]:
  """A function to the process of each leaf, each a function of the step.

  With `relative` that takes the place of sigma, and is multiplied by sizes.
  """
  if noise is not None:
    _check_process(noise, (alpha, sigma, kind, unit, relative))
    return lambda params, reached: [
      to and (lambda count: noise) for to in reached
    ]
  if relative is not None and sigma is not None:
    raise ValueError(
      'sigma and relative both say how large the noise is: one of them must be '
      f'None, got {sigma!r} and {relative!r}'
    )
  scale, argument = (
    (sigma, 'sigma') if relative is None else (relative, 'relative')
  )
  _check_numbers(alpha, scale, argument, kind, unit)

  def laws(params: PyTree, reached: Sequence[_units.Target | None]) -> Any:
    names = [name for name, _ in _units.named_leaves(params)]
    wanted = [to is not None for to in reached]
    return [
      to
      and (
        lambda count, a=a, s=s: StableNoise(
          at(a, count), at(s, count), kind=kind, unit=unit
        )
      )
      for to, a, s in zip(
        reached,
        settings.of_leaves(alpha, names, wanted, 'alpha'),
        settings.of_leaves(scale, names, wanted, argument),
        strict=True,
      )
    ]

  return laws


def _check_numbers(
  alpha: Any, scale: Any, argument: str, kind: str, unit: str
) -> None:
  """Look at what is given as numbers; schedules are where they give some."""
  StableNoise(1.0, 0.0, kind=kind, unit=unit)
  for number in settings.numbers(alpha):
    StableNoise(number, 0.0).check_scalar()
  for number in settings.numbers(scale):
    check_range(argument, number, 0.0, np.inf, open_high=True)
    StableNoise(1.0, number).check_scalar()


def _check_process(noise: Any, beside: tuple[Any, ...]) -> None:
  if not isinstance(noise, StableNoise):
    raise ValueError(f'noise must be a StableNoise, got {noise!r}')
  if beside != (None, None, 'type1', 'filter', None):
    alpha, sigma, kind, unit, relative = beside
    raise ValueError(
      'noise holds alpha, sigma, kind and unit, which must not be given beside '
      f'it, got {alpha!r}, {sigma!r}, {kind!r} and {unit!r}'
      + ('' if relative is None else f', nor must relative, got {relative!r}')
    )
  noise.check_scalar()


def _weights(
  updates: list[Array], treedef: Any, params: Any, lost: tuple[Array, ...]
) -> list[Any]:
  """The weight of each update, None where none is given nor needed."""
  if params is not None:
    return treedef.flatten_up_to(params)
  narrow = [u for u in updates if _is_narrow(u)]
  if narrow or lost:
    dtype = narrow[0].dtype.name if narrow else 'a narrow dtype'
    raise ValueError(
      f'params must be given to update for leaves of {dtype}, got None: how '
      'noise below the spacing of a weight is rounded depends on the weight'
    )
  return [None] * len(updates)


def _added(
  step_key: PRNGKey,
  updates: list[Array],
  draws: list[Array | None],
  weights: list[Any],
  lost: tuple[Array, ...],
) -> tuple[list[Array], tuple[Array, ...]]:
  """Updates with noise, in their dtypes, and what narrow weights lost by it."""
  narrow = [
    x is not None and _is_narrow(w) for x, w in zip(draws, weights, strict=True)
  ]
  noisy, still_lost = [], []
  for i, (u, x, w, e) in enumerate(
    zip(updates, draws, weights, _spread(lost, narrow), strict=True)
  ):
    if x is None:
      noisy.append(u)
    elif e is None:
      key = jax.random.fold_in(step_key, ROUNDING + i)
      noisy.append(narrowed(key, widened(u) + x, u.dtype))
    else:
      moved = (widened(u) + x).astype(jnp.float32)
      landed, rest = landing(w, moved, e, u.dtype)
      noisy.append(landed)
      still_lost.append(rest)
  return noisy, tuple(still_lost)


def _no_noise(
  leaves: list[Array],
  reached: list[_units.Target | None],
  kind: str,
  unit: str,
) -> tuple[Array, ...]:
  """Zeros of the shapes in which the noise of each leaf is drawn."""

  def zeros(leaf: Array, to: _units.Target | None) -> Array:
    shape: Any = leaf.shape
    if to is None:
      shape = ()
    elif kind == 'type1' and to.flag is True:
      axes = to.leaf.vector_axes(unit)
      shape = tuple(1 if i in axes else n for i, n in enumerate(shape))
    return jnp.zeros(shape, widened(leaf).dtype)

  return tuple(zeros(*pair) for pair in zip(leaves, reached, strict=True))


def _spread(values: tuple[Array, ...], flags: Sequence[bool]) -> list[Any]:
  """The values, each in its turn where a flag is true; None elsewhere."""
  if len(values) != sum(flags):
    raise ValueError(
      'state must be of this transformation and these parameters: it has '
      f'numbers for {len(values)} leaves, and {sum(flags)} are wanted'
    )
  rest = iter(values)
  return [next(rest) if flag else None for flag in flags]


def _is_narrow(leaf: Any) -> bool:
  return leaf is not None and is_narrower(leaf.dtype, jnp.float32)


def typed(key: Any) -> PRNGKey:
  """A typed key, also of a seed, which may be an array of one integer."""
  is_seed = np.shape(key) == () and (
    isinstance(key, int | np.integer)
    or jnp.issubdtype(getattr(key, 'dtype', np.float64), jnp.integer)
  )
  return jax.random.key(key) if is_seed else check_key(key)


def of_words(words: Array, impl: Any) -> PRNGKey:
  """The key that the words of a state are of; a typed key stays."""
  if jnp.issubdtype(words.dtype, jax.dtypes.prng_key):
    return words
  return jax.random.wrap_key_data(words, impl=impl)
