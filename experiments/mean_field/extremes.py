"""Proposition B.1, Lemma C.3 and Lemma D.1: gradients, means, largest norms."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.common.cells import Row
from experiments.mean_field.case import VARIANTS, Case, rate_row
from htjax import mean_field, stable


def gradient(case: Case) -> Iterator[Row]:
  """Proposition B.1's trade-off curve beside the gradients measured."""
  config, num = case.config, case.config.gradient_replicas
  sizes = {
    'num_steps': config.gradient_iterations,
    'num_particles': config.gradient_particles,
  }
  sigmas, etas = config.gradient_sigmas, config.gradient_steps
  eta, sigma = etas[len(etas) // 2], sigmas[len(sigmas) // 2]
  for what, x, settings in (
    (f'sigma, step {eta:g}', sigmas, [(s, eta) for s in sigmas]),
    (f'step, sigma {sigma:g}', etas, [(sigma, e) for e in etas]),
  ):
    gradients, printed = [], []
    for s, e in settings:
      process: Any = sizes | case.noise | {'sigma': s, 'step_size': e}
      # The same replicas at every setting.
      key = jax.random.clone(case.key)
      found = mean_field.gradient_norms(
        key, case.problem, num_replicas=num, **process
      )
      gradients.append(found.least)
      printed.append(
        mean_field.gradient_norm_bound(
          case.constants(),
          excess_risk=float(found.risk),
          alpha=case.alpha,
          sigma=s,
          step_size=e,
          gamma=config.gradient_gamma,
          **sizes,
        )
      )
    names = 'Proposition B.1', f'gradient against {what}'
    row = rate_row(*names, x, jnp.stack(gradients))
    bound = [p.value for p in printed]
    yield row | {
      'bound': bound,
      'bound_holds': bool(np.all(np.less_equal(row['levels'], bound))),
      'premises': [p.reason for p in printed],
    }


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
  constant = mean_field.norm_tail_supremum(
    jax.random.fold_in(case.key, 0),
    alpha,
    *(case.config.dim, case.kind),
    num_samples=case.config.norm_samples,
  )
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
