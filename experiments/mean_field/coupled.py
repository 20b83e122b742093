"""Theorems 4.1 and 4.2: how far systems that meet the same noise part."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.cells import Row
from experiments.mean_field.case import Case, rate_row
from htjax import mean_field
from htjax.types import PRNGKey


def chaos(case: Case) -> Iterator[Row]:
  """Theorem 4.2, and the dependence between particles."""
  widths = case.config.widths
  row = functools.partial(rate_row, 'Theorem 4.2')

  def bound(variant: str) -> list[float]:
    constant = mean_field.gronwall_constant(
      case.constants(), case.config.horizon, variant=variant
    ).value
    return [constant / math.sqrt(n) for n in widths]

  errors = _chaos_errors(case, case.key, reference=case.config.reference)
  yield row('mean over i', widths, errors.typical, -0.5, _is_half, bound=bound)
  yield row('sup over i', widths, errors.largest, -0.5, bound=bound)
  # The sign of the dependence depends on the loss; its size decays.
  dependence = np.asarray(errors.correlation)
  dependence = dependence * np.sign(dependence.mean())
  if np.all(dependence.mean(axis=1) > 0):
    yield row(
      'correlation', widths, dependence, -1.0, lambda rate: rate.covers(-1.0)
    )


def chaos_controls(case: Case, path_key: PRNGKey) -> Iterator[Row]:
  """Noise that the limit does not share, and a limit that does not move."""
  config = case.config
  path = mean_field.reference_path(
    path_key, case.problem, size=config.reference, **case.process
  )
  first = jnp.broadcast_to(path.outputs[:1], path.outputs.shape)
  for what, changes in (
    ('noise of its own', {'reference': path, 'common_noise': False}),
    ('drift frozen at t = 0', {'reference': path._replace(outputs=first)}),
  ):
    errors = _chaos_errors(case, jax.random.clone(case.key), **changes)
    names = 'Theorem 4.2', f'control: {what}'
    yield rate_row(*names, config.widths, errors.typical, -0.5, _is_half)


def _chaos_errors(
  case: Case, key: PRNGKey, **settings: Any
) -> mean_field.ChaosErrors:
  settings |= case.process | case.replicas(case.config.replicas)
  return mean_field.propagation_of_chaos(
    key, case.problem, widths=case.config.widths, **settings
  )


def _is_half(rate: mean_field.Rate) -> bool:
  return -0.55 <= rate.slope <= -0.45


def euler(case: Case, **changes: Any) -> Iterator[Row]:
  """Theorem 4.1 in the step size."""
  n, steps = case.config.euler_particles, case.config.step_sizes
  error_key, norm_key = jax.random.split(case.key)
  predicted = 1 / case.alpha
  yield rate_row(
    *('Theorem 4.1', f'sup over i, n = {n}'),
    steps,
    _euler_errors(case, error_key, steps, n, **changes),
    predicted,
    lambda rate: rate.slope >= predicted - 0.05,
    bound=_euler_bounds(case, norm_key, [(n, step) for step in steps]),
  )


def euler_width(case: Case) -> Iterator[Row]:
  """Theorem 4.1 in the width, at the middle step size."""
  steps, widths = case.config.step_sizes, case.config.euler_widths
  step, predicted = steps[len(steps) // 2], 1 / case.alpha
  norm_key, *keys = jax.random.split(case.key, 1 + len(widths))
  errors = [
    _euler_errors(case, own, [step], n)[0]
    for n, own in zip(widths, keys, strict=True)
  ]
  yield rate_row(
    *('Theorem 4.1', f'sup over i, step {step:g}'),
    widths,
    jnp.stack(errors),
    predicted,
    lambda rate: rate.slope <= predicted,
    bound=_euler_bounds(case, norm_key, [(n, step) for n in widths]),
  )


def euler_control(case: Case) -> Iterator[Row]:
  """The fine scheme with noise of its own."""
  for row in euler(case, common_noise=False):
    yield row | {'what': 'control: noise of its own'}


def _euler_errors(
  case: Case, key: PRNGKey, step_sizes: Sequence[float], n: int, **changes: Any
) -> jax.Array:
  """[len(step_sizes), num_replicas]."""
  config = case.config
  return mean_field.euler_error(
    key,
    case.problem,
    step_sizes=step_sizes,
    fine_step_size=config.fine_step_size,
    horizon=config.horizon,
    num_particles=n,
    **case.noise,
    **case.replicas(config.euler_replicas),
    **changes,
  ).largest


def _euler_bounds(
  case: Case, key: PRNGKey, settings: Sequence[tuple[int, float]]
) -> Callable[[str], list[float]]:
  """By variant, a bound for each (width, step size) of the settings."""
  config = case.config
  widths = sorted({1, *(n for n, _ in settings)})
  norms = {n: case.largest_norm(key, n) for n in widths}

  def bound(variant: str, n: int, step_size: float) -> float:
    return mean_field.euler_bound(
      case.constants(),
      alpha=case.alpha,
      sigma=config.sigma,
      step_size=step_size,
      horizon=config.horizon,
      largest_norm=norms[n],
      mean_norm=norms[1],
      variant=variant,
    ).value

  return lambda variant: [bound(variant, *setting) for setting in settings]
