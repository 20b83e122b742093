"""Laws of stable processes that are known, and tails that are nearly so."""

import math

import numpy as np

from htjax import stable
from htjax.bounds.arguments import number, positive
from htjax.checks import check_choice, check_count, check_key, checked
from htjax.mean_field.theory import norm_tail_constant
from htjax.types import PRNGKey


@checked
def ornstein_uhlenbeck_scale(
  alpha: float,
  sigma: float,
  *,
  decay: float,
  horizon: float,
  num_steps: int | None = None,
) -> float:
  """Scale of a coordinate under the drift -decay theta, started from 0.

  The law of d theta = -decay theta dt + sigma dL at time T is symmetric
  stable, of scale sigma ((1 - e^(-alpha decay T)) / (alpha decay))^(1/alpha).
  After K steps of the Euler scheme, eta = T / K, it is stable as well, of scale
  sigma (eta sum_(k < K) |1 - decay eta|^(alpha k))^(1/alpha).

  Args:
    alpha: tail index in (0, 2].
    sigma: >= 0, scale of the noise.
    decay: > 0.
    horizon: T > 0.
    num_steps: K, of the Euler scheme; None for the process itself.

  Returns:
    float >= 0.

  Raises:
    ValueError: a number out of range.

  Source: [Samorodnitsky1994], section 3.6, by the stable integral of
    sigma e^(-decay (T - t)).

  Examples:
    >>> from htjax import mean_field
    >>> process = mean_field.ornstein_uhlenbeck_scale(
    ...   2.0, 1.0, decay=0.5, horizon=100.0
    ... )
    >>> print(f'{process:.3f}')  # the stationary law, of variance 2 scale^2
    1.000
  """
  alpha = number('alpha', alpha, 0, 2, open_low=True)
  sigma = number('sigma', sigma, 0, math.inf, open_high=True)
  decay, horizon = positive('decay', decay), positive('horizon', horizon)
  if num_steps is None:
    part = -math.expm1(-alpha * decay * horizon)
    return sigma * (part / (alpha * decay)) ** (1 / alpha)
  check_count('num_steps', num_steps)
  eta, power = horizon / num_steps, 0.0
  for _ in range(num_steps):
    power *= abs(1 - decay * eta) ** alpha
    power += sigma**alpha * eta
  return power ** (1 / alpha)


@checked
def norm_tail_supremum(
  key: PRNGKey,
  alpha: float,
  dim: int,
  kind: str,
  *,
  num_samples: int = 10**6,
) -> float:
  """Supremum over r of r^alpha P(|X| > r) of a standard stable vector X.

  The constant that `largest_norm_bound` asks for: stable laws approach their
  limit, `norm_tail_constant`, from above. Sampled where the probability is
  above 1 %, to about 3 % at 10^5 samples, and beyond that the limit.

  Args:
    key: typed key.
    alpha: tail index in (0, 2].
    dim: p, number of coordinates.
    kind: 'type1', 'type2' or 'type3'.
    num_samples: at least 10^4.

  Returns:
    float, at least the limit.

  Raises:
    ValueError: as `htjax.stable.sample_vectors`, counts out of range.

  Source: [IC], Lemma D.1, which asks for it.

  Examples:
    >>> import jax
    >>> from htjax import mean_field
    >>> key = jax.random.key(0)
    >>> supremum = mean_field.norm_tail_supremum(
    ...   key, 1.5, 2, 'type3', num_samples=10_000
    ... )
    >>> supremum > mean_field.norm_tail_constant(1.5, 2, 'type3')
    True
  """
  key = check_key(key)
  alpha = number('alpha', alpha, 0, 2, open_low=True)
  check_count('dim', dim)
  check_count('num_samples', num_samples, 10**4)
  check_choice('kind', kind, stable.KINDS)
  x = stable.sample_vectors(key, alpha, (num_samples, dim), kind=kind)
  norms = np.sort(np.linalg.norm(np.asarray(x, np.float64), axis=1))[::-1]
  ranks = np.arange(1, len(norms) + 1) / len(norms)
  found = np.max((norms**alpha * ranks)[len(norms) // 100 :])
  return max(float(found), norm_tail_constant(alpha, dim, kind))
