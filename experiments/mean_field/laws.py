"""The law of the particles: its scale, its tails, and what they make.

Equations (3) and (4) under a linear drift, Theorem 4.3, Theorem 3.1 and
Proposition A.1.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.common.cells import Row
from experiments.mean_field.case import Case, rate_row, value_row
from htjax import compressibility, mean_field
from htjax.mean_field import Problem
from htjax.types import Array, PRNGKey

# The decay of the linear drift, whose stable Ornstein-Uhlenbeck process has a
# law in closed form.
_DECAY = 0.7


def linear(case: Case) -> Iterator[Row]:
  """The law of one coordinate under the drift -lambda theta, from 0."""
  num_steps = case.process['num_steps']
  # The process is a scheme of finer steps, with fewer particles.
  for names, expected, finer in (
    (('eq. (3)', 'scale of the scheme'), _scale(case, num_steps), 1),
    (('eq. (4)', 'scale of the process'), _scale(case), 16),
  ):
    steps, n = finer * num_steps, case.config.linear_particles // finer
    key = jax.random.fold_in(case.key, steps)
    yield _scale_row(case, names, expected, _linear(case, key, n, steps))


def linear_control(case: Case) -> Iterator[Row]:
  """Noise scaled as if it had a variance."""
  config, steps = case.config, case.process['num_steps']
  eta = config.horizon / steps
  sigma = config.sigma * eta ** (0.5 - 1 / case.alpha)
  x = _linear(case, case.key, config.linear_particles, steps, sigma=sigma)
  names = 'eq. (3)', 'control: noise scaled by eta^(1/2)'
  yield _scale_row(case, names, _scale(case, steps), x)


def _scale(case: Case, num_steps: int | None = None) -> float:
  """The scale at the horizon, after so many steps or of the process."""
  config = case.config
  return mean_field.ornstein_uhlenbeck_scale(
    case.alpha,
    config.sigma,
    decay=_DECAY,
    horizon=config.horizon,
    num_steps=num_steps,
  )


def _linear(
  case: Case, key: PRNGKey, n: int, steps: int, **changes: float
) -> np.ndarray:
  """First coordinates [n] at the horizon."""
  problem = Problem(
    lambda theta, x: 0.5 * theta @ theta + 0 * x,
    lambda f, y: _DECAY * f + 0 * y,
    jnp.zeros(1),
    jnp.zeros(1),
  )
  start = jnp.zeros((n, 1 if case.kind == 'type1' else 2))
  eta = case.config.horizon / steps
  end = case.end(key, start, eta, steps, problem=problem, **changes)
  return np.asarray(end[:, 0], np.float64)


def _scale_row(
  case: Case, names: tuple[str, str], expected: float, x: np.ndarray
) -> Row:
  """The scale of stable draws, with an interval of five standard errors."""
  # E cos(t X) = exp(-(scale t)^alpha), read at t = 1 / expected.
  cosine = np.cos(x / expected)
  phi, deviation = cosine.mean(), cosine.std() / math.sqrt(x.size)
  exponent = -math.log(phi)
  scale = expected * exponent ** (1 / case.alpha)
  reach = 5 * (scale * deviation / (case.alpha * phi * exponent))
  return value_row(*names, scale, reach, expected)


def tail(case: Case) -> Iterator[Row]:
  """The tail index and constant of the particles, at two times."""
  config, alpha = case.config, case.alpha
  steps, n, top = config.tail_steps, config.tail_particles, config.tail_top
  start_key, noise_key = jax.random.split(case.key)
  theta, eta = case.start(start_key, n), config.horizon / steps
  early = max(1, steps // 10)
  for stage, (until, since) in enumerate(((early, 0), (steps, early))):
    key, time = jax.random.fold_in(noise_key, stage), until * eta
    theta = case.end(key, theta, eta, until - since)
    norms = np.asarray(_top_norms(theta, top + 1), np.float64)
    index = top / np.sum(np.log(norms[:top] / norms[top]))
    # A count of `top` has a relative error of top^(-1/2).
    names = 'Theorem 4.3', f'tail index at t = {time:g}'
    yield value_row(*names, index, 1.96 * index / math.sqrt(top), alpha)
    exact = mean_field.norm_tail_constant(alpha, config.dim, case.kind)
    exact *= config.sigma**alpha * time
    constant = top / n * norms[top] ** alpha
    names = 'Theorem 4.3', f'tail constant at t = {time:g}'
    reach = 1.96 * constant / math.sqrt(top)
    yield value_row(
      *names, constant, reach, exact, abs(constant / exact - 1) <= 0.1
    )


@functools.partial(jax.jit, static_argnums=1)
def _top_norms(theta: Array, top: int) -> Array:
  return lax.top_k(jnp.linalg.norm(theta, axis=-1), top)[0]


def _systems(
  case: Case,
  sizes: Sequence[int],
  num: int,
  time: float,
  steps: Callable[[int], int],
  measure: Callable[[Array], Array],
) -> np.ndarray:
  """A quantity of the norms in whole systems at a time: [sizes, num, ..].

  The number of steps may depend on that of particles.
  """

  def of_size(n: int) -> np.ndarray:
    def one(key):
      start_key, noise_key = jax.random.split(key)
      start, eta = case.start(start_key, n), time / steps(n)
      sigma = case.config.size_sigma
      end = case.end(noise_key, start, eta, steps(n), sigma=sigma)
      return measure(jnp.linalg.norm(end, axis=-1))

    keys = jax.random.split(jax.random.fold_in(case.key, n), num)
    return np.asarray(jax.jit(lambda k: lax.map(one, k))(keys))

  return np.stack([of_size(n) for n in sizes])


def _over_sizes(case: Case, measure: Callable[[Array], Array]) -> np.ndarray:
  """A quantity of the norms at the horizon, [sizes, size_replicas, ..]."""
  c = case.config
  settings = c.sizes, c.size_replicas, c.horizon, lambda n: c.size_steps
  return _systems(case, *settings, measure)


_median_row = functools.partial(rate_row, statistic='median')


def second_moment(case: Case) -> Iterator[Row]:
  """The mean square norm grows with the number of particles below alpha 2."""

  def log_mean_square(norms):
    # Relative to the largest: a square overflows where a norm does not.
    peak = norms.max()
    return 2 * jnp.log(peak) + jnp.log(jnp.mean((norms / peak) ** 2))

  levels = np.exp(_over_sizes(case, log_mean_square).astype(float))
  sizes, predicted = case.config.sizes, 2 / case.alpha - 1
  names = 'Theorem 4.3', 'mean square norm'
  yield _median_row(
    *names, sizes, levels, predicted, lambda rate: rate.covers(predicted)
  )


def _errors(norms: Array, kappas: float | Array) -> Array:
  return compressibility.compression_error(norms, kappas, rounding='floor')


def compression(case: Case) -> Iterator[Row]:
  """Errors of keeping kappa n columns vanish like n^(1/2 - 1/alpha)."""
  sizes, kappas = case.config.sizes, case.config.kappas
  levels = _over_sizes(case, lambda norms: _errors(norms, jnp.array(kappas)))
  predicted = 1 / 2 - 1 / case.alpha

  def holds(rate: mean_field.Rate) -> bool:
    return abs(rate.slope - predicted) <= 0.05

  for i, kappa in enumerate(kappas):
    names = 'Theorem 3.1', f'compression error, kappa = {kappa:g}'
    yield _median_row(*names, sizes, levels[:, :, i], predicted, holds)


def step_condition(case: Case) -> Iterator[Row]:
  """Theorem 3.1 at its step size n^(-alpha/2 - 1), and at a larger one."""
  config, kappa = case.config, case.config.kappas[0]
  time, sizes = config.step_condition_time, config.step_condition_sizes
  for what, steps in (
    ('n^(-alpha/2-1)', lambda n: math.ceil(time * n ** (case.alpha / 2 + 1))),
    ('time / 10', lambda n: 10),
  ):
    settings = sizes, config.step_condition_replicas, time, steps
    levels = _systems(case, *settings, lambda norms: _errors(norms, kappa))
    names = 'Theorem 3.1', f'error at step {what}, kappa = {kappa:g}'
    yield _median_row(*names, sizes, levels, None, lambda rate: rate.slope < 0)


def gaussian_limit(case: Case) -> Iterator[Row]:
  """Without heavy tails the error stays, at its closed form from N(0, I)."""
  config, problem = case.config, case.problem
  free = dataclasses.replace(problem, loss=lambda f, y: 0 * f + 0 * y)
  theta = case.start(jax.random.fold_in(case.key, 1), config.limit_particles)
  eta, kappas = config.horizon / config.size_steps, jnp.array(config.kappas)
  limits = compressibility.gaussian_limit(kappas, dim=config.dim)
  # Started from a Gaussian, moved by Gaussian noise alone: exactly Gaussian.
  for what, data in (('without drift', free), ('with drift', problem)):
    # The same noise for both.
    key = jax.random.clone(case.key)
    end = case.end(key, theta, eta, config.size_steps, problem=data)
    norms = jnp.linalg.norm(end, axis=-1)
    errors = compressibility.compression_error(norms, kappas)
    for kappa, value, limit in zip(config.kappas, errors, limits, strict=True):
      # With drift only the limit's being above 0 is claimed.
      is_limit = abs(float(value / limit) - 1) <= 0.01
      yield {
        'statement': 'Proposition A.1',
        'what': f'error {what}, kappa = {kappa:g}',
        'slope': float(value),
        'predicted': float(limit),
        'holds': is_limit if data is free else bool(value > 0.01),
      }
