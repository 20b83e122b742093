"""Equation (3), Lemmas C.1 and C.2, and a step of the proof of Theorem 4.1."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.cells import Row
from experiments.mean_field.case import Case, value_row
from htjax import mean_field
from htjax.mean_field import Problem
from htjax.types import Array

_PAIRS = 20
# Lengths of the shifts between pairs of systems.
_SHIFTS = (0.01, 0.3, 3.0)


def drift(case: Case) -> Iterator[Row]:
  """The drift as a gradient, its bound, and its Lipschitz constants."""
  theta = case.start(
    jax.random.fold_in(case.key, 0), case.config.drift_particles
  )
  problem, bound = case.problem, case.constants().bound
  here = mean_field.drift(problem, theta, theta)
  gradient = jax.grad(lambda t: mean_field.risk(problem, t))(theta)
  gap = jnp.max(jnp.abs(here + len(theta) * gradient)) / jnp.max(jnp.abs(here))
  # Sums of so many float32 terms.
  yield _at_most('eq. (3)', 'b + n grad R, of b', gap, 1e-5)
  wide = mean_field.drift(problem, 10 * theta, theta)
  longest = jnp.max(jnp.linalg.norm(jnp.concatenate([here, wide]), axis=-1))
  yield _at_most('Lemma C.1', '|b|, at most B', longest, bound)
  own, mean = _ratios(case, problem, theta)
  yield _at_most('Lemma C.1', 'Lipschitz in theta, at most B', own, bound)
  what = 'Lipschitz in the mean distance, at most'
  yield _at_most('Lemma C.1', f'{what} B^2 / 2', mean, bound**2 / 2)
  # Phi = 1 and Psi = 20 |cos|: near 0 the drift moves by 20^2.
  steep = Problem(
    lambda t, x: 20 * jnp.sin(t[0]) * x,
    lambda f, y: jnp.logaddexp(f, -f) + y,
    *2 * [jnp.ones(1)],
  )
  bound = mean_field.regularity(steep, num_parameters=1).bound
  _, mean = _ratios(case, steep, jnp.zeros((2, 1)), (1e-4,))
  yield _at_most('Lemma C.1', f'{what} B^2 / 2, of 20 sin', mean, bound**2 / 2)
  yield _at_most('Lemma C.1', f'{what} the printed B, of 20 sin', mean, bound)


def _ratios(
  case: Case,
  problem: Problem,
  theta: jax.Array,
  shifts: tuple[float, ...] = _SHIFTS,
) -> tuple[float, float]:
  """The largest ratios that were found."""
  key = jax.random.fold_in(case.key, len(theta))
  found = [
    mean_field.lipschitz_ratios(own, problem, theta, _PAIRS, shift=shift)
    for own, shift in zip(
      jax.random.split(key, len(shifts)), shifts, strict=True
    )
  ]
  own, mean = np.max(np.array(found), axis=(0, 2)).tolist()
  return own, mean


def largest_path(case: Case) -> Iterator[Row]:
  """Lemma C.2: the largest norm along a path has a finite mean."""
  config, process = case.config, case.process
  start_key, noise_key = jax.random.split(case.key)
  theta = case.start(start_key, config.path_particles)
  paths = mean_field.simulate(
    noise_key, case.problem, theta, save_every=1, **process
  ).particles
  norms = jnp.linalg.norm(paths, axis=-1)
  found = np.asarray(jnp.max(norms, axis=0), np.float64)
  bound = mean_field.largest_path_norm(
    case.constants().bound,
    alpha=case.alpha,
    sigma=config.sigma,
    horizon=config.horizon,
    initial_norm=float(jnp.mean(norms[0])),
    dim=config.dim,
    kind=case.kind,
  ).value
  yield _at_most(
    'Lemma C.2', 'E sup |theta_t|, one particle', found.mean(), bound
  )


def one_step(case: Case) -> Iterator[Row]:
  """Equation (14): what one step of Euler's scheme adds to the error."""
  config, n = case.config, case.config.euler_particles
  step = config.step_sizes[len(config.step_sizes) // 2]
  error_key, *norm_keys = jax.random.split(case.key, 3)
  errors = mean_field.euler_error(
    error_key,
    case.problem,
    step_sizes=[step],
    fine_step_size=config.fine_step_size,
    horizon=step,
    num_particles=n,
    **case.noise,
    **case.replicas(config.euler_replicas),
  ).largest
  largest, typical = map(case.largest_norm, norm_keys, (n, 1))
  pieces = mean_field.euler_pieces(
    case.constants(),
    alpha=case.alpha,
    sigma=config.sigma,
    step_size=step,
    num_steps=1,
    largest_norm=largest,
    mean_norm=typical,
  )
  what = f'sup over i after one step of {step:g}, n = {n}'
  yield _at_most('eq. (14)', what, jnp.mean(errors), pieces.one_step)


def _at_most(
  statement: str, what: str, value: Array | float, bound: float
) -> Row:
  """A number and its bound."""
  found = float(value)
  row = value_row(statement, what, found, 0.0, bound, found <= bound)
  return row | {'low': None, 'high': None}
