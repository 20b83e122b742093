"""Heavy-tailed noise as optax transformations.

`add_stable_noise` is the last link of a chain: it adds
sigma * eta_t^(1/alpha) * X_t to the finished update, with X_t symmetric
alpha-stable of Type I, II or III. Behind any optimizer that gives the update
u_t the recursion is

  theta_{t+1} = theta_t + u_t + sigma * eta_t^(1/alpha) * X_t,

the Euler scheme of a stochastic differential equation driven by a stable Lévy
process when u_t = -eta_t * gradient. Anywhere else in a chain it would be
another process.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from htjax import selection, stable
from htjax.checks import check_choice, check_key, check_range
from htjax.types import Array, ArrayLike, PRNGKey, PyTree

ScalarOrSchedule = ArrayLike | Callable[[ArrayLike], ArrayLike]

UNITS = ('filter', 'kernel')


class AddStableNoiseState(NamedTuple):
  """State of `add_stable_noise`.

  Attributes:
    count: [] int32, updates made so far.
    key: [] typed key, never consumed; step t draws from fold_in(key, t).
  """

  count: Array  # type: ignore[assignment]
  key: PRNGKey


def add_stable_noise(
  learning_rate: ScalarOrSchedule,
  alpha: ArrayLike,
  sigma: ArrayLike,
  *,
  key: int | PRNGKey,
  kind: str = 'type1',
  mask: selection.Selection = None,
  unit: str = 'filter',
) -> optax.GradientTransformationExtraArgs:
  """Add sigma * eta_t^(1/alpha) * X_t to the updates.

  A vector X is drawn for each unit, independent over units, leaves and steps.
  The unit of a dense kernel [fan_in, fan_out] is a column, one neuron's
  incoming weights; the unit of a convolution [.., in, out] is a filter
  [.., o], or with unit='kernel' each [.., i, o]. Type I adds one number to all
  weights of a unit, Type II one to each weight, Type III a vector whose
  direction is uniform. In float16 and bfloat16 leaves the noise is drawn in
  float32 and then rounded.

  Args:
    learning_rate: eta_t >= 0, a number or an optax schedule of the step count;
      the same one that the optimizer in front uses.
    alpha: tail index in (0, 2], a number, traced if an array. alpha = 2 gives
      Gaussian noise of variance 2 sigma^2 eta_t.
    sigma: noise scale >= 0, a number, traced if an array.
    key: typed key or integer seed. For seeds under `vmap`, build the
      transformation inside the mapped function.
    kind: 'type1', 'type2' or 'type3'.
    mask: the leaves that get noise: a pytree of booleans, a function of the
      parameters that returns one, or None for every weight (floating-point,
      rank >= 2). `htjax.selection.exclude('name')` leaves out a layer; the
      papers leave out the last one.
    unit: 'filter' or 'kernel', what convolutions are made of.

  Returns:
    An optax transformation. Its state holds the step count and the key, so a
    restored state continues with the same noise. Inside `optax.MultiSteps` it
    acts once per accumulated step.

  Raises:
    ValueError: alpha outside (0, 2], sigma negative, NaN or infinite, either
      one not a scalar, a negative learning rate, an unknown kind or unit, a
      legacy key, an empty pytree, or a mask of another structure.

  Values: traced alpha outside (0, 2], or traced sigma negative, infinite or
    NaN, gives NaN updates.

  Source: "Implicit Compressibility of Overparametrized Neural Networks Trained
    with Heavy-Tailed SGD", eq. (2).
  """
  check_range('alpha', alpha, 0.0, 2.0, open_low=True)
  check_range('sigma', sigma, 0.0, np.inf, open_high=True)
  for name, value in (('alpha', alpha), ('sigma', sigma)):
    if np.shape(value) != ():
      raise ValueError(
        f'{name} must be a scalar, got an array of shape {np.shape(value)}; '
        'vmap over it instead'
      )
  check_choice('kind', kind, stable.KINDS)
  check_choice('unit', unit, UNITS)
  if not callable(learning_rate):
    check_range('learning_rate', learning_rate, 0.0, np.inf, open_high=True)
  is_seed = isinstance(key, int | np.integer)
  key = jax.random.key(key) if is_seed else check_key(key)

  def init(params: PyTree) -> AddStableNoiseState:
    selection.resolve(mask, params, 'mask')
    return AddStableNoiseState(jnp.zeros((), jnp.int32), key)

  def update(updates, state, params=None, **extra_args):
    del params, extra_args
    eta = learning_rate
    if callable(eta):
      eta = eta(state.count)
    chosen = selection.resolve(mask, updates, 'mask')
    leaves = jax.tree.leaves(updates)
    step_key = jax.random.fold_in(state.key, state.count)
    noisy = [
      _add(leaf, jax.random.fold_in(step_key, i), state.count, eta)
      if flag
      else leaf
      for i, (leaf, flag) in enumerate(
        zip(leaves, jax.tree.leaves(chosen), strict=True)
      )
    ]
    count = optax.safe_increment(state.count)
    noisy = jax.tree.unflatten(jax.tree.structure(updates), noisy)
    return noisy, AddStableNoiseState(count, state.key)

  def _add(leaf: Array, leaf_key: PRNGKey, count: Array, eta: ArrayLike):
    dtype = jnp.float64 if leaf.dtype == jnp.float64 else jnp.float32
    a = jnp.asarray(alpha, dtype)
    scale = jnp.asarray(sigma, dtype) * jnp.asarray(eta, dtype) ** (1.0 / a)
    axes = _vector_axes(leaf.ndim, unit)
    draw_shape = leaf.shape
    if kind == 'type1':
      draw_shape = tuple(
        1 if i in axes else s for i, s in enumerate(leaf.shape)
      )

    def draw(key: PRNGKey) -> Array:
      return stable.sample_vectors(
        key, a, draw_shape, dtype, kind=kind, axis=axes, scale=scale
      )

    if kind == 'type1':
      # A branch ends the fusion. Without it the CPU backend draws each number
      # again for every weight that it is added to. The key goes in as words,
      # because vmap would make a select of a branch, which reuses keys.
      words, impl = jax.random.key_data(leaf_key), jax.random.key_impl(leaf_key)
      x = lax.cond(
        count >= 0,
        lambda: draw(jax.random.wrap_key_data(words, impl=impl)),
        lambda: jnp.zeros(draw_shape, dtype),
      )
    else:
      x = draw(leaf_key)
    largest = jnp.finfo(leaf.dtype).max.astype(dtype)
    return leaf + jnp.clip(x, -largest, largest).astype(leaf.dtype)

  return optax.GradientTransformationExtraArgs(init, update)


def heavy_tailed_sgd(
  learning_rate: ScalarOrSchedule,
  alpha: ArrayLike,
  sigma: ArrayLike,
  *,
  key: int | PRNGKey,
  kind: str = 'type1',
  mask: selection.Selection = None,
  unit: str = 'filter',
  momentum: float | None = None,
  nesterov: bool = False,
) -> optax.GradientTransformationExtraArgs:
  """SGD with heavy-tailed noise: `optax.sgd`, then `add_stable_noise`.

  theta_{t+1} = theta_t - eta_t * gradient + sigma * eta_t^(1/alpha) * X_t.

  Args:
    learning_rate: eta_t >= 0, a number or a schedule.
    alpha, sigma, key, kind, mask, unit: as in `add_stable_noise`.
    momentum: decay of the gradient's running sum, or None.
    nesterov: whether momentum is Nesterov's.

  Returns:
    An optax transformation.

  Raises:
    ValueError: as `add_stable_noise`.

  Source: "Implicit Compressibility ...", eq. (2).
  """
  return optax.chain(
    optax.sgd(learning_rate, momentum=momentum, nesterov=nesterov),
    add_stable_noise(
      learning_rate, alpha, sigma, key=key, kind=kind, mask=mask, unit=unit
    ),
  )


def _vector_axes(ndim: int, unit: str) -> tuple[int, ...]:
  """The axes along which one unit's weights lie."""
  if ndim == 2 or unit == 'filter':
    return tuple(range(ndim - 1))
  return tuple(range(ndim - 2))
