"""Proposition B.1, Lemma C.3 and Lemma D.1: gradients, means, largest norms."""

import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.common.cells import Row
from experiments.mean_field.case import VARIANTS, Case, rate_row
from htjax import mean_field, stable
from htjax.types import Array


def gradient(case: Case) -> Iterator[Row]:
  """Proposition B.1's trade-off curve beside the gradients measured."""
  config, measure = case.config, _least_gradients(case)
  sigmas, etas = config.gradient_sigmas, config.gradient_steps
  eta, sigma = etas[len(etas) // 2], sigmas[len(sigmas) // 2]
  for what, x, settings in (
    (f'sigma, step {eta:g}', sigmas, [(s, eta) for s in sigmas]),
    (f'step, sigma {sigma:g}', etas, [(sigma, e) for e in etas]),
  ):
    gradients, risks = zip(*(measure(*s) for s in settings), strict=True)
    printed = [
      mean_field.gradient_norm_bound(
        case.constants(),
        excess_risk=float(risk),
        alpha=case.alpha,
        sigma=sigma,
        step_size=eta,
        num_steps=config.gradient_iterations,
        num_particles=config.gradient_particles,
        gamma=config.gradient_gamma,
      )
      for risk, (sigma, eta) in zip(risks, settings, strict=True)
    ]
    names = 'Proposition B.1', f'gradient against {what}'
    row = rate_row(*names, x, jnp.stack(gradients))
    bound = [p.value for p in printed]
    yield row | {
      'bound': bound,
      'bound_holds': bool(np.all(np.less_equal(row['levels'], bound))),
      'premises': [p.reason for p in printed],
    }


def _least_gradients(
  case: Case,
) -> Callable[[float, float], tuple[Array, Array]]:
  """(sigma, step size) -> (least square gradients [R], mean risk at first)."""
  config, problem = case.config, case.problem

  def square(theta):
    b = mean_field.drift(problem, theta, theta)
    return jnp.sum(b * b) / config.gradient_particles**2

  def one(own, sigma, eta):
    start_key, noise_key = jax.random.split(own)
    theta = case.start(start_key, config.gradient_particles)
    settings = case.noise | {'sigma': sigma, 'step_size': eta}
    steps = config.gradient_iterations
    path = mean_field.simulate(
      noise_key, problem, theta, num_steps=steps, save_every=1, **settings
    ).particles[:-1]
    return lax.map(square, path), mean_field.risk(problem, theta)

  @jax.jit
  def measure(sigma, eta):
    # The same replicas at every setting.
    key = jax.random.clone(case.key)
    keys = jax.random.split(key, config.gradient_replicas)
    squares, risks = lax.map(lambda k: one(k, sigma, eta), keys)
    # min over k of the mean over replicas: replicas are read at that k.
    k = jnp.argmin(squares.mean(axis=0))
    return squares[:, k], risks.mean()

  return measure


def infinite_mean(case: Case) -> Iterator[Row]:
  """Lemma C.3: means of a variable of infinite mean leave every bound."""
  sizes, num = case.config.mean_sizes, case.config.mean_replicas
  means = np.stack([_means_of_squares(case, n, num) for n in sizes])
  level = float(np.median(means[0]))
  shares = [float(s) for s in np.mean(means <= level, axis=1)]
  small = shares[-1] <= min(shares) + 2 / math.sqrt(num)
  yield {
    'statement': 'Lemma C.3',
    'what': f'P(mean of n squares <= {level:.3g})',
    'x': list(map(float, sizes)),
    'levels': shares,
    'errors': [math.sqrt(s * (1 - s) / num) for s in shares],
    'predicted': 0.0,
    'slope': shares[-1],
    'holds': shares[-1] < shares[0] / 2 and small,
  }


def _means_of_squares(case: Case, n: int, num: int) -> np.ndarray:
  """Means [num] of n squares of stable draws."""
  # In pieces, so that 10^6 draws of many replicas need no memory.
  piece = min(n, 10**5)

  def one(own):
    def add(total, k):
      x = stable.sample(jax.random.fold_in(own, k), case.alpha, (piece,))
      return total + jnp.sum(jnp.square(jnp.minimum(x, 1e15))), None

    return lax.scan(add, jnp.zeros(()), jnp.arange(n // piece))[0] / n

  keys = jax.random.split(jax.random.fold_in(case.key, n), num)
  return np.asarray(jax.jit(lambda k: lax.map(one, k))(keys))


def largest_norm(case: Case) -> Iterator[Row]:
  """Lemma D.1: the mean largest of n norms, and its bounds."""
  alpha, widths = case.alpha, case.config.norm_widths
  constant = _tail_supremum(case)
  means = [case.largest_norm(case.key, n) for n in widths]
  slopes = np.diff(np.log(means)) / np.diff(np.log(widths))
  bounds = {
    name: [
      mean_field.largest_norm_bound(alpha, n, constant, variant=variant).value
      for n in widths
    ]
    for name, variant in (*VARIANTS.items(), ('paper_bound', 'paper'))
  }
  yield {
    'statement': 'Lemma D.1',
    'what': 'mean of the largest norm',
    'x': list(map(float, widths)),
    'levels': means,
    'errors': [0.03 * m / alpha for m in means],
    'slope': float(slopes[-1]),
    'predicted': 1 / alpha,
    'holds': bool(abs(slopes[-1] - 1 / alpha) <= 0.05),
    **bounds,
    'bound_holds': bool(np.all(np.array(means) <= bounds['sharp_bound'])),
  }


def _tail_supremum(case: Case) -> float:
  """sup_r r^alpha P(|X| > r), from samples and the limit at large r."""
  alpha, dim = case.alpha, case.config.dim
  x = stable.sample_vectors(
    jax.random.fold_in(case.key, 0),
    alpha,
    (case.config.norm_samples, dim),
    kind=case.kind,
  )
  norms = np.sort(np.linalg.norm(np.asarray(x, np.float64), axis=1))[::-1]
  ranks = np.arange(1, len(norms) + 1) / len(norms)
  # A thousand norms and more: 3 % of statistical error, and less above.
  found = np.max((norms**alpha * ranks)[len(norms) // 100 :])
  return max(float(found), mean_field.norm_tail_constant(alpha, dim, case.kind))
