"""Optax transformations that add stable noise to an update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from htjax import selection
from htjax import units as _units
from htjax.checks import check_key, check_range, checked
from htjax.noise.process import StableNoise, reached
from htjax.rounding import is_narrower, stochastic_round
from htjax.types import Array, ArrayLike, PRNGKey, PyTree

# Keys of a step from here on are for rounding, and not for draws of leaves.
_ROUNDING = 1 << 31

ScalarOrSchedule = ArrayLike | Callable[[ArrayLike], ArrayLike]


class AddStableNoiseState(NamedTuple):
  """State of `add_stable_noise`: arrays of numbers, which any format holds.

  Attributes:
    count: [] int32, updates made so far.
    key: uint32, the words of the key ([2] for JAX's default kind of keys),
      never consumed; step t draws from fold_in(key, t). They are a copy, so
      that donating the state leaves the caller's key alone. A typed key may be
      put in their place.
  """

  count: Array  # type: ignore[assignment]
  key: Array


@checked
def add_stable_noise(
  learning_rate: ScalarOrSchedule,
  alpha: ScalarOrSchedule | None = None,
  sigma: ScalarOrSchedule | None = None,
  *,
  key: int | PRNGKey,
  kind: str = 'type1',
  select: selection.Selection = None,
  mask: selection.Selection = None,
  unit: str = 'filter',
  noise: StableNoise | None = None,
  units: _units.Given = None,
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

  Weights narrower than float32 hardly notice an update below half their
  spacing: for them the sum of weight, update and noise is rounded up or down at
  random, right on average, and the update is the difference. It needs `params`.

  Args:
    learning_rate: eta_t >= 0, a number or an optax schedule of the step count;
      the same one that the optimizer in front uses.
    alpha: tail index in (0, 2], a number, traced if an array, or a schedule.
      alpha = 2 gives Gaussian noise of variance 2 sigma^2 eta_t.
    sigma: noise scale >= 0, a number, traced if an array, or a schedule.
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

  Returns:
    An optax transformation. Its state holds the step count and the key, so a
    restored state continues with the same noise. Inside `optax.MultiSteps` it
    acts once per accumulated step.

  Raises:
    ValueError: alpha outside (0, 2], sigma negative, NaN or infinite, either
      one missing or not a scalar, a negative learning rate, an unknown kind or
      unit, a legacy key, both `select` and `mask`, both `noise` and what it
      stands for; from `init` an empty pytree, a selection of another structure,
      or one that chooses nothing; from `update` leaves narrower than float32
      without `params`.

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
  """
  process = _process(alpha, sigma, kind, unit, noise)
  if not callable(learning_rate):
    check_range('learning_rate', learning_rate, 0.0, np.inf, open_high=True)
  chosen, name = selection.one_name(select, mask)
  key = _typed(key)
  impl = jax.random.key_impl(key)

  def init(params: PyTree) -> AddStableNoiseState:
    reached(chosen, params, name, units)
    words = jnp.array(jax.random.key_data(key), copy=True)
    return AddStableNoiseState(jnp.zeros((), jnp.int32), words)

  def update(
    updates: Any, state: Any, params: Any = None, **extra_args: Any
  ) -> tuple[Any, AddStableNoiseState]:
    del extra_args
    treedef: Any
    leaves, treedef = jax.tree.flatten(updates)
    weights = (
      [None] * len(leaves) if params is None else treedef.flatten_up_to(params)
    )
    step_key = jax.random.fold_in(_of_words(state.key, impl), state.count)
    wide = [_widened(u, w) for u, w in zip(leaves, weights, strict=True)]
    draws = process(state.count).draw_leaves(
      step_key,
      wide,
      reached(chosen, updates, name, units),
      _at(learning_rate, state.count),
    )
    noisy = [
      leaf
      if x is None
      else _landing(jax.random.fold_in(step_key, _ROUNDING + i), u + x, leaf, w)
      for i, (leaf, u, x, w) in enumerate(
        zip(leaves, wide, draws, weights, strict=True)
      )
    ]
    count = optax.safe_increment(state.count)
    noisy = jax.tree.unflatten(treedef, noisy)
    return noisy, AddStableNoiseState(count, state.key)

  return optax.GradientTransformationExtraArgs(init, update)


@checked
def heavy_tailed_sgd(
  learning_rate: ScalarOrSchedule,
  alpha: ScalarOrSchedule | None = None,
  sigma: ScalarOrSchedule | None = None,
  *,
  key: int | PRNGKey,
  kind: str = 'type1',
  select: selection.Selection = None,
  mask: selection.Selection = None,
  unit: str = 'filter',
  noise: StableNoise | None = None,
  units: _units.Given = None,
  momentum: float | None = None,
  nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """SGD with heavy-tailed noise: `optax.sgd`, then `add_stable_noise`.

  theta_{t+1} = theta_t - eta_t * gradient + sigma * eta_t^(1/alpha) * X_t.

  Args:
    learning_rate: eta_t >= 0, a number or a schedule.
    alpha: tail index in (0, 2], a number, traced if an array, or a schedule.
    sigma: noise scale >= 0, a number, traced if an array, or a schedule.
    key: typed key or integer seed.
    kind: 'type1', 'type2' or 'type3'.
    select: the weights that get noise: a pytree of booleans, a function of the
      parameters that returns one, or None for every weight.
    mask: another name of `select`.
    unit: 'filter' or 'kernel'.
    noise: the process, in place of alpha, sigma, kind and unit.
    units: what a unit is in each leaf, see `htjax.units`.
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
    ),
  )


def _widened(update: Array, weight: Array | None) -> Array:
  """An update in float32 at least, where it or its weight is narrower."""
  narrow = is_narrower(update.dtype, jnp.float32)
  if weight is None:
    if narrow:
      raise ValueError(
        f'params must be given to update for leaves of {update.dtype.name}, '
        'got None: how noise below the spacing of a weight is rounded depends '
        'on the weight'
      )
    return update
  return update.astype(jnp.float32) if narrow else update


def _landing(
  key: PRNGKey, update: Array, like: Array, weight: Array | None
) -> Array:
  """An update after which a narrow weight is a number of its dtype.

  The weight moves to one of the two neighbours of where it should, at random
  and right on average.
  """
  if weight is None or not is_narrower(weight.dtype, jnp.float32):
    return update.astype(like.dtype)
  start = weight.astype(update.dtype)
  end = stochastic_round(key, start + update, weight.dtype)
  largest = jnp.finfo(like.dtype).max.astype(update.dtype)
  move = jnp.clip(end.astype(update.dtype) - start, -largest, largest)
  return move.astype(like.dtype)


def _process(
  alpha: Any, sigma: Any, kind: str, unit: str, noise: StableNoise | None
) -> Callable[[ArrayLike], StableNoise]:
  """The process as a function of the step count, from what was given."""
  if noise is None:
    # What is a schedule is looked at when it gives a number.
    fixed = StableNoise(
      1.0 if callable(alpha) else alpha,
      0.0 if callable(sigma) else sigma,
      kind=kind,
      unit=unit,
    )
    fixed.check_scalar()
    if not callable(alpha) and not callable(sigma):
      return lambda count: fixed
    return lambda count: StableNoise(
      _at(alpha, count), _at(sigma, count), kind=kind, unit=unit
    )
  if not isinstance(noise, StableNoise):
    raise ValueError(f'noise must be a StableNoise, got {noise!r}')
  if (alpha, sigma, kind, unit) != (None, None, 'type1', 'filter'):
    raise ValueError(
      'noise holds alpha, sigma, kind and unit, which must not be given beside '
      f'it, got {alpha!r}, {sigma!r}, {kind!r} and {unit!r}'
    )
  noise.check_scalar()
  return lambda count: noise


def _at(value: Any, count: ArrayLike) -> Any:
  return value(count) if callable(value) else value


def _typed(key: Any) -> PRNGKey:
  """A typed key, also of a seed, which may be an array of one integer."""
  is_seed = np.shape(key) == () and (
    isinstance(key, int | np.integer)
    or jnp.issubdtype(getattr(key, 'dtype', np.float64), jnp.integer)
  )
  return jax.random.key(key) if is_seed else check_key(key)


def _of_words(words: Array, impl: Any) -> PRNGKey:
  if jnp.issubdtype(words.dtype, jax.dtypes.prng_key):
    return words
  return jax.random.wrap_key_data(words, impl=impl)
