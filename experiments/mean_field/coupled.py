"""Theorems 4.1 and 4.2: how far systems that meet the same noise part."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.cells import Row
from experiments.mean_field.case import VARIANTS, Case, below, rate_row
from htjax import mean_field
from htjax.types import PRNGKey


def chaos(case: Case) -> Iterator[Row]:
  """Theorem 4.2, and the dependence between particles."""
  widths = case.config.widths
  errors = _chaos_errors(case, case.key, reference=case.config.reference)
  bounds = {
    name: [
      mean_field.gronwall_constant(
        case.constants, case.config.horizon, variant=variant
      )
      / math.sqrt(n)
      for n in widths
    ]
    for name, variant in VARIANTS.items()
  }
  typical, largest = (
    mean_field.fit_rate(widths, e) for e in (errors.typical, errors.largest)
  )
  for what, rate, holds in (
    ('mean over i', typical, _is_half(typical)),
    ('sup over i', largest, None),
  ):
    claim = below(rate.levels, bounds)
    yield rate_row('Theorem 4.2', what, widths, rate, -0.5, holds, **claim)
  # The sign of the dependence depends on the loss; its size decays.
  dependence = np.asarray(errors.correlation)
  dependence = dependence * np.sign(dependence.mean())
  if np.all(dependence.mean(axis=1) > 0):
    rate = mean_field.fit_rate(widths, dependence)
    holds = rate.covers(-1.0)
    yield rate_row('Theorem 4.2', 'correlation', widths, rate, -1.0, holds)


def chaos_controls(case: Case, path_key: PRNGKey) -> Iterator[Row]:
  """Noise that the limit does not share, and a limit that does not move."""
  path = mean_field.reference_path(
    path_key, case.problem, size=case.config.reference, **case.process
  )
  first = jnp.broadcast_to(path.outputs[:1], path.outputs.shape)
  for what, changes in (
    ('noise of its own', {'reference': path, 'common_noise': False}),
    ('drift frozen at t = 0', {'reference': path._replace(outputs=first)}),
  ):
    errors = _chaos_errors(case, jax.random.clone(case.key), **changes)
    widths = case.config.widths
    rate = mean_field.fit_rate(widths, errors.typical)
    what, holds = f'control: {what}', _is_half(rate)
    yield rate_row('Theorem 4.2', what, widths, rate, -0.5, holds)


def _chaos_errors(case: Case, key: PRNGKey, **settings: Any):
  return mean_field.propagation_of_chaos(
    key,
    case.problem,
    widths=case.config.widths,
    **settings,
    **case.process,
    **case.replicas(case.config.replicas),
  )


def _is_half(rate: mean_field.Rate) -> bool:
  return -0.55 <= rate.slope <= -0.45


def euler(case: Case, **changes: Any) -> Iterator[Row]:
  """Theorem 4.1 in the step size."""
  n, steps = case.config.euler_particles, case.config.step_sizes
  error_key, norm_key = jax.random.split(case.key)
  errors = _euler_errors(case, error_key, steps, n, **changes)
  rate = mean_field.fit_rate(steps, errors.largest)
  bounds = _euler_bounds(case, norm_key, [(n, step) for step in steps])
  yield rate_row(
    'Theorem 4.1',
    f'sup over i, n = {n}',
    steps,
    rate,
    1 / case.alpha,
    rate.slope >= 1 / case.alpha - 0.05,
    **below(rate.levels, bounds),
  )


def euler_width(case: Case) -> Iterator[Row]:
  """Theorem 4.1 in the width, at the middle step size."""
  steps, widths = case.config.step_sizes, case.config.euler_widths
  step = steps[len(steps) // 2]
  norm_key, *keys = jax.random.split(case.key, 1 + len(widths))
  levels = [
    _euler_errors(case, own, [step], n).largest[0]
    for n, own in zip(widths, keys, strict=True)
  ]
  rate = mean_field.fit_rate(widths, jnp.stack(levels))
  bounds = _euler_bounds(case, norm_key, [(n, step) for n in widths])
  yield rate_row(
    'Theorem 4.1',
    f'sup over i, step {step:g}',
    widths,
    rate,
    1 / case.alpha,
    rate.slope <= 1 / case.alpha,
    **below(rate.levels, bounds),
  )


def euler_control(case: Case) -> Iterator[Row]:
  """The fine scheme with noise of its own."""
  for row in euler(case, common_noise=False):
    yield row | {'what': 'control: noise of its own'}


def _euler_errors(
  case: Case, key: PRNGKey, step_sizes: Sequence[float], n: int, **changes: Any
):
  return mean_field.euler_error(
    key,
    case.problem,
    step_sizes=step_sizes,
    fine_step_size=case.config.fine_step_size,
    horizon=case.config.horizon,
    num_particles=n,
    **case.noise,
    **case.replicas(case.config.euler_replicas),
    **changes,
  )


def _euler_bounds(
  case: Case, key: PRNGKey, settings: Sequence[tuple[int, float]]
) -> dict[str, list[float]]:
  """Both bounds for each (width, step size) of the settings."""
  widths = sorted({1, *(n for n, _ in settings)})
  norms = {n: case.largest_norm(key, n) for n in widths}
  return {
    name: [
      mean_field.euler_bound(
        case.constants,
        alpha=case.alpha,
        sigma=case.config.sigma,
        step_size=step_size,
        horizon=case.config.horizon,
        largest_norm=norms[n],
        mean_norm=norms[1],
        variant=variant,
      ).value
      for n, step_size in settings
    ]
    for name, variant in VARIANTS.items()
  }
