"""The mean-field network, its risk and the drift of one of its units.

A unit h_x(theta) and a loss l over a finite data set give the network
f(x) = mu(h_x), the mean of h_x over the measure mu of the units' parameters,
the risk R = E l(f(x), y), and the drift of a unit at theta,

  b(theta, mu) = -E[ d_1 l(mu(h_x), y) grad h_x(theta) ],

which for the empirical measure of n particles is -n dR / d theta_i. The
interaction goes through the m numbers mu(h_x) only, so all n drifts cost
O(n m), never O(n^2); they are computed in blocks of particles that stay in
the cache, which bounds the memory and is faster than one large product.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax import functions
from htjax.checks import check_finite, checked
from htjax.floats import result_dtype
from htjax.products import full_precision
from htjax.types import Array, ArrayLike

Unit = Callable[[Array, Array], Array]
Loss = Callable[[Array, Any], Array]

# Numbers h_x(theta) that one block holds: 2 MiB in float32. On one thread half
# as many are as fast; two then wait for each other more often.
_BLOCK = 2**19


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Problem:
  """Unit and loss of a mean-field network, and the data it is fitted to.

  A pytree whose leaves are the data: it may be passed through jit, and vmapped
  over data sets. Unit and loss are static: steps compile once for each pair of
  functions. A lambda written out again counts as the same one where all that it
  can reach is equal and cannot change unseen (`htjax.functions.shared`); one
  that captures an array, a list or an object is another function each time,
  and its problem is best made once, with `dataclasses.replace` for other data.

  Attributes:
    unit: `unit(theta, x)`, the function h_x(theta) of theta [p] and one input;
      its value is a number or an array [l], the network's output.
    loss: `loss(output, target)`, a number.
    inputs: [m, ...], one input per index of the first axis; an array, or a
      pytree of such arrays if the unit takes one.
    targets: [m, ...], whatever the loss takes, an array or a pytree of them.
  """

  unit: Unit = dataclasses.field(metadata={'static': True})
  loss: Loss = dataclasses.field(metadata={'static': True})
  inputs: Any
  targets: Any

  def __post_init__(self) -> None:
    for name in ('unit', 'loss'):
      object.__setattr__(self, name, functions.shared(getattr(self, name)))


@checked
@full_precision
def predict(problem: Problem, particles: ArrayLike) -> Array:
  """The network's outputs on the problem's inputs, mu^n(h_x).

  Args:
    problem: see `Problem`.
    particles: [n, p], the parameters of the units; not empty.

  Returns:
    Array [m] or [m, l], in the dtype of the unit.

  Raises:
    ValueError: problem or particles of wrong shapes, a unit whose value is not
      a number or a vector, a loss whose value is not a number.

  Source: [IC], section 3.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import mean_field
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> problem = mean_field.Problem(
    ...   unit=lambda theta, x: jnp.tanh(theta @ x),
    ...   loss=lambda f, y: (f - y) ** 2,
    ...   inputs=jax.random.normal(keys[0], (8, 2)),
    ...   targets=jnp.ones(8),
    ... )
    >>> particles = jax.random.normal(keys[1], (16, 2))
    >>> mean_field.predict(problem, particles).shape
    (8,)
  """
  particles = check_particles(problem, particles)
  return mean_output(problem, particles)


@checked
@full_precision
def risk(problem: Problem, particles: ArrayLike) -> Array:
  """The risk R, the mean loss over the problem's data.

  Args:
    problem: see `Problem`.
    particles: [n, p].

  Returns:
    Array [].

  Raises:
    ValueError: as `predict`.

  Source: [IC], eq. (1).

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import mean_field
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> problem = mean_field.Problem(
    ...   unit=lambda theta, x: jnp.tanh(theta @ x),
    ...   loss=lambda f, y: (f - y) ** 2,
    ...   inputs=jax.random.normal(keys[0], (8, 2)),
    ...   targets=jnp.ones(8),
    ... )
    >>> print(f'{mean_field.risk(problem, jnp.zeros((16, 2))):.1f}')
    1.0
  """
  particles = check_particles(problem, particles)
  outputs = mean_output(problem, particles)
  return jnp.mean(jax.vmap(problem.loss)(outputs, problem.targets))


@checked
@full_precision
def drift(problem: Problem, theta: ArrayLike, particles: ArrayLike) -> Array:
  """The drift b(theta, mu) at the empirical measure mu of the particles.

  Args:
    problem: see `Problem`.
    theta: [p], or [k, p] for the drift at k points.
    particles: [n, p]. With theta = particles, row i is -n dR / d theta_i.

  Returns:
    Array of theta's shape.

  Raises:
    ValueError: as `predict`; theta of another number of parameters.

  Source: [IC], eq. (3).

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import mean_field
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> problem = mean_field.Problem(
    ...   unit=lambda theta, x: jnp.tanh(theta @ x),
    ...   loss=lambda f, y: (f - y) ** 2,
    ...   inputs=jax.random.normal(keys[0], (8, 2)),
    ...   targets=jnp.ones(8),
    ... )
    >>> particles = jax.random.normal(keys[1], (16, 2))
    >>> mean_field.drift(problem, particles, particles).shape
    (16, 2)
  """
  particles = check_particles(problem, particles)
  theta = jnp.asarray(theta, particles.dtype)
  if theta.ndim not in (1, 2) or theta.shape[-1] != particles.shape[-1]:
    raise ValueError(
      f'theta must be [p] or [k, p] with p = {particles.shape[-1]} as in '
      f'particles, got shape {theta.shape}'
    )
  slopes = loss_slopes(problem, mean_output(problem, particles))
  points = theta.reshape(-1, theta.shape[-1])
  return velocity(problem, points, slopes).reshape(theta.shape)


def mean_output(problem: Problem, particles: Array) -> Array:
  """`predict` without its checks."""
  n = particles.shape[0]
  num = _num_blocks(problem, particles)
  if num == 1:
    return _units(problem, particles).mean(axis=0)
  blocks = _split(particles, num)
  inside = _split(jnp.ones(n, bool), num)

  def add(total: Array, block: Any) -> Any:
    h = _units(problem, block[0])
    keep = block[1].reshape((-1,) + (1,) * (h.ndim - 1))
    return total + jnp.sum(jnp.where(keep, h, 0), axis=0), None

  shape = jax.eval_shape(lambda x: _units(problem, x).sum(axis=0), blocks[0])
  total, _ = lax.scan(
    add, jnp.zeros(shape.shape, shape.dtype), (blocks, inside)
  )
  return total / n


def loss_slopes(problem: Problem, outputs: Array) -> Array:
  """d_1 l(f(x), y) / m, of the shape of the outputs."""
  slopes = jax.vmap(jax.grad(problem.loss))(outputs, problem.targets)
  return slopes / outputs.shape[0]


def velocity(problem: Problem, particles: Array, slopes: Array) -> Array:
  """-sum_x slopes(x) grad h_x(theta), [n, p], at each particle theta."""
  return by_blocks(
    lambda x: block_velocity(problem, x, slopes), problem, particles
  )


def block_velocity(problem: Problem, block: Array, slopes: Array) -> Array:
  """`velocity` of so few particles that all their outputs may be kept."""
  h, pull_back = jax.vjp(lambda x: _units(problem, x), block)
  slopes = jnp.broadcast_to(-slopes[None], h.shape).astype(h.dtype)
  return pull_back(slopes)[0]


def by_blocks(
  function: Callable[..., Array],
  problem: Problem,
  particles: Array,
  *beside: Array,
) -> Array:
  """A function of particles, of a block of them at a time.

  Args:
    function: `function(block, *rows)`, from [b, p] and b rows of each array
      beside to [b, p]; of each row by itself.
    problem: see `Problem`.
    particles: [n, p].
    *beside: arrays [n, ..].

  Returns:
    Array [n, p].
  """
  num = _num_blocks(problem, particles)
  if num == 1:
    return function(particles, *beside)
  blocks = [_split(x, num) for x in (particles, *beside)]
  found = lax.map(lambda own: function(*own), blocks)
  return _join(found, particles.shape[0])


def num_data(problem: Problem) -> int:
  """m, the length of the first axis of every array of the data."""
  return int(jax.tree.leaves(problem.inputs)[0].shape[0])


def rows_of(data: Any, index: Any) -> Any:
  """One datum, or several, of inputs or targets."""
  return jax.tree.map(lambda x: jnp.asarray(x)[index], data)


def flat_inputs(problem: Problem) -> Array:
  """All numbers of each input as floating rows, [m, d]."""
  leaves = jax.tree.leaves(problem.inputs)
  dtype, m = result_dtype(*leaves), num_data(problem)
  rows = [jnp.asarray(x).reshape(m, -1).astype(dtype) for x in leaves]
  return jnp.concatenate(rows, axis=1)


def check_problem(problem: Problem) -> None:
  """Raise unless the data belong together."""
  if not isinstance(problem, Problem):
    raise ValueError(f'problem must be a mean_field.Problem, got {problem!r}')
  for name in ('unit', 'loss'):
    if not callable(getattr(problem, name)):
      raise ValueError(
        f'{name} must be a function, got {getattr(problem, name)!r}'
      )
  rows = set()
  for name in ('inputs', 'targets'):
    leaves = jax.tree.leaves(getattr(problem, name))
    if not leaves:
      raise ValueError(f'{name} must hold an array [m, ...], got none')
    for leaf in leaves:
      if not hasattr(leaf, 'shape'):
        raise ValueError(
          f'{name} must be an array [m, ...] or a pytree of them, got a leaf '
          f'{leaf!r}'
        )
      rows.add(leaf.shape[:1])
  if len(rows) > 1 or rows & {(), (0,)}:
    raise ValueError(
      'inputs and targets must have the same number of rows, at least one, '
      f'got shapes {_shapes(problem.inputs)} and {_shapes(problem.targets)}'
    )


def check_particles(problem: Problem, particles: ArrayLike) -> Array:
  """Return the particles as floating, or raise if they do not fit."""
  check_problem(problem)
  particles = jnp.asarray(particles)
  if particles.dtype not in (jnp.float32, jnp.float64):
    raise ValueError(
      f'particles must be float32 or float64, got {particles.dtype.name}'
    )
  if particles.ndim != 2 or particles.size == 0:
    raise ValueError(
      'particles must be [n, p], one row per unit, and not empty, got shape '
      f'{particles.shape}'
    )
  check_finite('particles', particles)
  _check_functions(problem, particles)
  return particles


def _check_functions(problem: Problem, particles: Array) -> None:
  theta, x = particles[0], rows_of(problem.inputs, 0)
  where = f'theta {theta.shape}, a row of particles, and x {_shapes(x)}'
  try:
    output = jax.eval_shape(problem.unit, theta, x)
  except Exception as error:
    raise ValueError(
      f'unit(theta, x) of problem cannot be computed for {where}: {error}'
    ) from error
  if not _is_real_array(output) or output.ndim > 1:
    raise ValueError(
      'unit(theta, x) must return a real number or a vector [l], got '
      f'{output} for {where}'
    )
  target = rows_of(problem.targets, 0)
  where = f'an output of shape {output.shape} and a target {_shapes(target)}'
  try:
    value = jax.eval_shape(problem.loss, output, target)
  except Exception as error:
    raise ValueError(
      f'loss(output, target) of problem cannot be computed for {where}: {error}'
    ) from error
  if not _is_real_array(value) or value.ndim > 0:
    raise ValueError(
      f'loss(output, target) must return a real number, got {value} for {where}'
    )


def _shapes(data: Any) -> Any:
  """The shape of an array, or the shapes of a pytree of arrays."""
  return jax.tree.map(np.shape, data)


def _is_real_array(value: Any) -> bool:
  return isinstance(value, jax.ShapeDtypeStruct) and jnp.issubdtype(
    value.dtype, jnp.floating
  )


def _units(problem: Problem, particles: Array) -> Array:
  """h_x(theta) for every particle and input, [n, m] or [n, m, l]."""
  over_inputs = jax.vmap(problem.unit, in_axes=(None, 0))
  return jax.vmap(over_inputs, in_axes=(0, None))(particles, problem.inputs)


def _split(rows: Array, num: int) -> Array:
  """Rows [n, ..] as blocks [num, size, ..], with rows of zeros to fill.

  On one device a block is a run of neighbours, which copies nothing. Of several
  it holds the particles j, j + blocks, ..: where the particles are sharded,
  each device then works on its own part of every block.
  """
  n, rest = rows.shape[0], rows.shape[1:]
  size = -(-n // num)
  padded = jnp.pad(rows, ((0, size * num - n), *((0, 0) for _ in rest)))
  if jax.device_count() == 1:
    return padded.reshape(num, size, *rest)
  return jnp.swapaxes(padded.reshape(size, num, *rest), 0, 1)


def _join(blocks: Array, n: int) -> Array:
  """Undo `_split`."""
  if jax.device_count() == 1:
    return blocks.reshape(-1, blocks.shape[-1])[:n]
  return jnp.swapaxes(blocks, 0, 1).reshape(-1, blocks.shape[-1])[:n]


def _num_blocks(problem: Problem, particles: Array) -> int:
  """Number of blocks; a divisor of n where there is one near."""
  n = particles.shape[0]
  outputs = jax.eval_shape(lambda x: _units(problem, x), particles)
  least = math.ceil(outputs.size / _BLOCK)
  for num in range(least, min(n, 2 * least) + 1):
    if n % num == 0:
      return num
  return min(least, n)
