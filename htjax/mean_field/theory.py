"""The theorems' explicit constants, corrected where the print is wrong.

Everything here is a closed form in B of Assumption 1 (see `regularity`), the
horizon and the law of the noise, evaluated on the host in float64, and comes as
a `Bound` with its premises. `variant` chooses between the corrected statement,
the printed one, and a sharper one that follows from the same proofs if the
suprema are not first put together into B:

  speed        |b| <= E Phi_1 Psi_1,
  own          Lipschitz in theta:  E Phi_1 Psi_2,
  mean         Lipschitz in the mean distance:  E Phi_2 Psi_1^2,
  fluctuation  E Phi_2 Psi_1 Psi_0, of the drift at n independent particles,

with Psi_0, Psi_1, Psi_2 = sup |h|, sup |grad h|, sup |grad^2 h| and Phi_1,
Phi_2 = sup |l'|, sup |l''|. In terms of B these are at most B, B, B^2/2 and
B^2.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax import stable
from htjax.bounds import Assumption, Bound, make_bound
from htjax.bounds.arguments import number, positive
from htjax.bounds.logarithms import exp, log, power
from htjax.checks import check_choice, check_count, check_key, checked
from htjax.mean_field.assumption import Regularity, regularity
from htjax.mean_field.problem import Problem
from htjax.types import Array, PRNGKey

VARIANTS = ('corrected', 'paper', 'sharp')


@checked
def gronwall_constant(
  problem: Problem | Regularity,
  horizon: float,
  *,
  variant: str = 'corrected',
) -> Bound:
  """The constant C of propagation of chaos, E sup |..| <= C n^(-1/2).

  Corrected: C = B^2 (e^(L T) - 1) / L with L = B + B^2 / 2. Paper: the printed
  (1 + B)(B T + B^2 T^2 / 2 e^(B T (1 + E Psi))), which its proof does not
  give. Sharp: fluctuation (e^(L T) - 1) / L with L = own + mean.

  Args:
    problem: a Problem of which `regularity` is taken, or that Regularity.
    horizon: T > 0.
    variant: 'corrected', 'paper' or 'sharp'.

  Returns:
    Bound whose value is C, with the premise 'Assumption 1'; infinite, and so
    its logarithm, where that does not hold.

  Raises:
    ValueError: horizon not positive, unknown variant, a bad problem.

  Source: [IC], Theorem 4.2 and its proof, eqs. (10) to (13).

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import mean_field
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> problem = mean_field.Problem(
    ...   unit=lambda theta, x: jnp.tanh(theta @ x),
    ...   loss=lambda f, y: jnp.logaddexp(f - y, y - f),
    ...   inputs=jax.random.normal(keys[0], (8, 2)),
    ...   targets=jnp.ones(8),
    ... )
    >>> found = mean_field.regularity(problem)
    >>> constant = mean_field.gronwall_constant(found, 1.0)
    >>> sharp = mean_field.gronwall_constant(found, 1.0, variant='sharp')
    >>> constant.valid, 0 < sharp.value < constant.value
    (True, True)
  """
  horizon = positive('horizon', horizon)
  check_choice('variant', variant, VARIANTS)
  r = _regularity(problem)
  premises = [_assumption_1(r)]
  if not premises[0].holds:
    return make_bound({'fluctuation': math.inf}, premises)
  if variant == 'paper':
    b, t = r.bound, horizon
    rate = b * t * (1 + r.psi.mean())
    front, square = math.log1p(b), 2 * log(b * t) - math.log(2)
    return make_bound(
      {'drift': front + log(b * t), 'fluctuation': front + square + rate},
      premises,
      value=(1 + b) * (b * t + (b * t) ** 2 / 2 * exp(rate)),
    )
  own, mean, _, fluctuation = _constants(r, variant)
  growth = _growth(own + mean, horizon)
  return make_bound(
    {'fluctuation': log(fluctuation) + growth.log_value},
    premises,
    value=fluctuation * growth.value,
  )


@checked
def euler_bound(
  problem: Problem | Regularity,
  *,
  alpha: float,
  sigma: float,
  step_size: float,
  horizon: float,
  largest_norm: float,
  mean_norm: float,
  variant: str = 'corrected',
) -> Bound:
  """Bound of E sup_i |theta^i_T - Euler scheme|, common noise.

  With M = E max_i |X^i| over the n particles' noises and m = E |X|,
    (e^(L T) - 1) / L [ L speed eta / 2
      + sigma alpha / (alpha + 1) (own M + mean m) eta^(1/alpha) ].
  Paper: T e^(2 B T) (B^2 eta + 2 B alpha (M + m) / (alpha + 1) eta^(1/alpha)),
  which has sigma = 1 and B for what its own lemma bounds by B^2 / 2.

  Args:
    problem: a Problem of which `regularity` is taken, or that Regularity.
    alpha: tail index of the noise, in (0, 2].
    sigma: >= 0.
    step_size: eta > 0.
    horizon: T > 0.
    largest_norm: M >= 0, see `mean_largest_norm`.
    mean_norm: m >= 0, E |X| of one particle.
    variant: 'corrected', 'paper' or 'sharp'.

  Returns:
    Bound with terms drift and noise and the premises 'Assumption 1', 'tail
    index', which asks for alpha in (1, 2], and 'finite norms'; infinite where
    one of them fails.

  Raises:
    ValueError: a number out of range, unknown variant, a bad problem.

  Source: [IC], Theorem 4.1 and eqs. (14) to (18).

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import mean_field
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> problem = mean_field.Problem(
    ...   unit=lambda theta, x: jnp.tanh(theta @ x),
    ...   loss=lambda f, y: jnp.logaddexp(f - y, y - f),
    ...   inputs=jax.random.normal(keys[0], (8, 2)),
    ...   targets=jnp.ones(8),
    ... )
    >>> bound = mean_field.euler_bound(
    ...   problem,
    ...   alpha=1.5,
    ...   sigma=0.1,
    ...   step_size=0.01,
    ...   horizon=1.0,
    ...   largest_norm=10.0,
    ...   mean_norm=2.0,
    ... )
    >>> bound.valid
    True
  """
  alpha = number('alpha', alpha, 0, 2, open_low=True)
  sigma = number('sigma', sigma, 0, math.inf, open_high=True)
  step_size = positive('step_size', step_size)
  horizon = positive('horizon', horizon)
  largest = number('largest_norm', largest_norm, 0, math.inf)
  typical = number('mean_norm', mean_norm, 0, math.inf)
  check_choice('variant', variant, VARIANTS)
  r = _regularity(problem)
  premises = [
    _assumption_1(r),
    _tail_index(alpha),
    Assumption(
      'finite norms',
      math.isfinite(largest + typical),
      f'M = {largest:.4g} and m = {typical:.4g} must be finite',
    ),
  ]
  if not all(premise.holds for premise in premises):
    return make_bound({'drift': math.inf, 'noise': math.inf}, premises)
  noise = alpha / (alpha + 1) * step_size ** (1 / alpha)
  if variant == 'paper':
    b = r.bound
    drift, noise = b**2 * step_size, 2 * b * noise * (largest + typical)
    growth = _Growth(
      horizon * exp(2 * b * horizon), math.log(horizon) + 2 * b * horizon
    )
  else:
    own, mean, speed, _ = _constants(r, variant)
    drift = (own + mean) * speed * step_size / 2
    noise = sigma * noise * (own * largest + mean * typical)
    growth = _growth(own + mean, horizon)
  return make_bound(
    {
      'drift': growth.log_value + log(drift),
      'noise': growth.log_value + log(noise),
    },
    premises,
    value=growth.value * (drift + noise),
  )


@checked
def gradient_norm_bound(
  problem: Problem | Regularity,
  *,
  excess_risk: float,
  alpha: float,
  sigma: float,
  step_size: float,
  num_steps: int,
  num_particles: int,
  gamma: float,
) -> Bound:
  """The printed trade-off curve of min_k E |grad R|^2 over K steps.

    (R_0 - R*) / (K n eta)
      + (2 B)^(2 + gamma) sigma^(1 + gamma) / ((1 + gamma) n^2)
        eta^((gamma + 1 - alpha) / alpha).

  A curve to compare shapes with, not a bound: its proof puts powers of B for
  moments of the noise and takes a Hölder constant that does not follow.

  Args:
    problem: a Problem of which `regularity` is taken, or that Regularity.
    excess_risk: R_0 - R* >= 0.
    alpha: tail index of the noise, in (0, 2].
    sigma: > 0.
    step_size: eta > 0.
    num_steps: K.
    num_particles: n.
    gamma: in (0, 1]; below alpha - 1 by the statement.

  Returns:
    Bound with terms descent and noise and the printed premises, 0 < gamma <
    alpha - 1 and eta < sigma^(alpha / (alpha - 1)) among them; infinite where
    Assumption 1 does not hold.

  Raises:
    ValueError: a number out of range, a bad problem.

  Source: [IC], Proposition B.1.

  Examples:
    >>> import numpy as np
    >>> from htjax import mean_field
    >>> one = np.ones(8)  # suprema that are known, for eight data
    >>> known = mean_field.Regularity(one, one, one, one, one, True, '')
    >>> bound = mean_field.gradient_norm_bound(
    ...   known,
    ...   excess_risk=1.0,
    ...   alpha=1.5,
    ...   sigma=0.5,
    ...   step_size=0.01,
    ...   num_steps=100,
    ...   num_particles=1000,
    ...   gamma=0.25,
    ... )
    >>> bound.valid
    True
  """
  alpha = number('alpha', alpha, 0, 2, open_low=True)
  sigma, step_size = positive('sigma', sigma), positive('step_size', step_size)
  excess = number('excess_risk', excess_risk, 0, math.inf, open_high=True)
  check_count('num_steps', num_steps)
  check_count('num_particles', num_particles)
  gamma = number('gamma', gamma, 0, 1, open_low=True)
  r = _regularity(problem)
  premises = [
    _assumption_1(r),
    _tail_index(alpha),
    Assumption(
      'moment',
      gamma < alpha - 1,
      f'gamma must be below alpha - 1 = {alpha - 1:g}',
    ),
    Assumption(
      'small step',
      sigma * step_size ** (1 / alpha - 1) > 1,
      'sigma eta^(1/alpha - 1) must exceed 1',
    ),
  ]
  if not premises[0].holds:
    return make_bound({'descent': math.inf, 'noise': math.inf}, premises)
  descent = excess / (num_steps * num_particles * step_size)
  noise = power(2 * r.bound, 2 + gamma) * power(sigma, 1 + gamma)
  noise *= power(step_size, (gamma + 1 - alpha) / alpha)
  noise /= (1 + gamma) * num_particles**2
  return make_bound(
    {'descent': log(descent), 'noise': log(noise)},
    premises,
    value=descent + noise,
  )


@checked
def norm_tail_constant(alpha: float, dim: int, kind: str) -> float:
  """Tail constant C in P(|X| > r) ~ C r^(-alpha) of a stable vector X.

  Args:
    alpha: tail index in (0, 2); at 2 there is no power tail and C = 0.
    dim: p, number of coordinates.
    kind: 'type1', 'type2' or 'type3'.

  Returns:
    C: with c = 2/pi Gamma(alpha) sin(pi alpha/2) of one coordinate,
    p^(alpha/2) c, p c, or 2^alpha Gamma((p+alpha)/2) / (Gamma(p/2)
    Gamma(1-alpha/2)).

  Raises:
    ValueError: alpha outside (0, 2], bad dim or kind.

  Source: [IC], Theorem 4.3 (the tail of its particles);
    [Samorodnitsky1994], property 1.2.15 and section 2.5.

  Examples:
    >>> from htjax import mean_field
    >>> print(f"{mean_field.norm_tail_constant(1.0, 1, 'type1'):.4f}")  # 2 / pi
    0.6366
  """
  alpha = number('alpha', alpha, 0, 2, open_low=True)
  check_count('dim', dim)
  check_choice('kind', kind, stable.KINDS)
  if kind == 'type3':
    if alpha == 2:
      return 0.0
    ratio = math.lgamma((dim + alpha) / 2) - math.lgamma(dim / 2)
    return 2**alpha * math.exp(ratio) / math.gamma(1 - alpha / 2)
  # sin(pi alpha / 2), which is 0 at alpha = 2 and not 1e-16.
  sine = math.sin(math.pi * (2 - alpha) / 2)
  one = 2 / math.pi * math.gamma(alpha) * sine
  return one * (dim ** (alpha / 2) if kind == 'type1' else dim)


@checked
def mean_largest_norm(
  key: PRNGKey,
  alpha: float,
  num_particles: int,
  dim: int,
  kind: str,
  *,
  num_samples: int = 10**6,
) -> float:
  """Mean of the largest norm |X| of n independent standard stable vectors.

  The integral of 1 - (1 - P(|X| > r))^n, the law of |X| from samples up to
  their thousandth largest and below alpha = 2 the power r^(-alpha) beyond: a
  relative error of about 0.03, where a plain mean of maxima has none that is
  finite. Close to alpha = 2, where the power sets in later, it is too large.

  Args:
    key: typed key.
    alpha: tail index; the mean is infinite up to 1.
    num_particles: n; 1 gives E |X|.
    dim: p, coordinates of one vector.
    kind: 'type1', 'type2' or 'type3'.
    num_samples: static, at least 10^4.

  Returns:
    The mean, infinite for alpha <= 1.

  Raises:
    ValueError: as `htjax.stable.sample_vectors`, counts out of range.

  Source: [IC], Lemma D.1, which bounds it.

  Examples:
    >>> import jax
    >>> from htjax import mean_field
    >>> largest = mean_field.mean_largest_norm(
    ...   jax.random.key(0), 1.5, 100, 2, 'type3', num_samples=10_000
    ... )
    >>> bool(10 < largest < 200)
    True
  """
  alpha = number('alpha', alpha, 0, 2, open_low=True)
  check_count('num_particles', num_particles)
  check_count('dim', dim)
  check_count('num_samples', num_samples, 10**4)
  check_choice('kind', kind, stable.KINDS)
  key = check_key(key)
  if alpha <= 1:
    return math.inf
  norms = _sorted_norms(key, alpha, num_samples, dim, kind)
  norms = np.asarray(norms, np.float64)
  n, num = num_particles, len(norms)
  beyond = 1000 if alpha < 2 else 0
  survival = 1 - np.arange(num - beyond) / num
  steps = np.diff(np.concatenate([[0.0], norms[: num - beyond]]))
  mean = float(np.sum(steps * _any_of(n, survival)))
  if not beyond:
    return mean
  # r = q u^(-1/alpha) makes the power a straight line in u on (0, 1).
  quantile, share = norms[num - beyond - 1], beyond / num
  u, weights = np.polynomial.legendre.leggauss(200)
  u, weights = (u + 1) / 2, weights / 2
  # v = u^(1 - 1/alpha) takes the singularity at u = 0 away.
  inside = u ** (1 / (1 - 1 / alpha))
  slopes = _any_of(n, share * inside) / np.maximum(inside, 1e-300)
  return mean + float(np.sum(weights * slopes)) * quantile / (alpha - 1)


@checked
def largest_norm_bound(
  alpha: float, num_particles: int, constant: float, *, variant: str = 'sharp'
) -> Bound:
  """Bounds of E max over n vectors with P(|X| > r) <= C r^(-alpha).

  Sharp: alpha / (alpha - 1) (C n)^(1/alpha). Corrected: the paper's dyadic sum
  with C kept, (1 + C 2^(1 + 1/alpha) / (2 - 2^(1/alpha))) n^(1/alpha). Paper:
  that sum without C.

  Args:
    alpha: tail index, in (0, 2].
    num_particles: n.
    constant: C > 0, a bound of r^alpha P(|X| > r) over all r. The limit at
      large r, `norm_tail_constant`, is smaller: stable laws approach it from
      above.
    variant: 'sharp', 'corrected' or 'paper'.

  Returns:
    Bound with the premise 'tail index', which asks for alpha in (1, 2];
    infinite where it fails.

  Raises:
    ValueError: a number out of range, unknown variant.

  Source: [IC], Lemma D.1.

  Examples:
    >>> from htjax import mean_field
    >>> print(f'{mean_field.largest_norm_bound(1.5, 100, 1.0).value:.2f}')
    64.63
  """
  alpha = number('alpha', alpha, 0, 2, open_low=True)
  check_count('num_particles', num_particles)
  constant = positive('constant', constant)
  check_choice('variant', variant, VARIANTS)
  premises = [_tail_index(alpha)]
  if alpha <= 1:
    return make_bound({'norm': math.inf}, premises)
  root = num_particles ** (1 / alpha)
  if variant == 'sharp':
    value = alpha / (alpha - 1) * constant ** (1 / alpha) * root
  else:
    dyadic = 2 ** (1 + 1 / alpha) / (2 - 2 ** (1 / alpha))
    value = (1 + dyadic * (1 if variant == 'paper' else constant)) * root
  return make_bound({'norm': log(value)}, premises, value=value)


def _constants(
  r: Regularity, variant: str
) -> tuple[float, float, float, float]:
  """own, mean, speed and fluctuation, see the module's docstring."""
  if variant == 'corrected':
    b = r.bound
    return b, b**2 / 2, b, b**2
  return (
    float(np.mean(r.slope * r.hessian)),
    float(np.mean(r.curvature * r.gradient**2)),
    float(np.mean(r.slope * r.gradient)),
    float(np.mean(r.curvature * r.gradient * r.unit)),
  )


def _assumption_1(r: Regularity) -> Assumption:
  if not r.holds:
    reason = f'Assumption 1 does not hold: {r.reason}'
    return Assumption('Assumption 1', False, reason)
  reason = f'B = {r.bound:.4g} must be finite'
  return Assumption('Assumption 1', math.isfinite(r.bound), reason)


def _tail_index(alpha: float) -> Assumption:
  return Assumption(
    'tail index', alpha > 1, f'alpha must lie in (1, 2], got {alpha:g}'
  )


def _regularity(problem: Problem | Regularity) -> Regularity:
  if isinstance(problem, Regularity):
    return problem
  if not isinstance(problem, Problem):
    raise ValueError(
      f'problem must be a Problem or its Regularity, got {problem!r}'
    )
  return regularity(problem)


class _Growth(NamedTuple):
  """A factor of Gronwall's lemma, and its logarithm where it overflows."""

  value: float
  log_value: float


def _growth(rate: float, horizon: float) -> _Growth:
  """(e^(rate T) - 1) / rate."""
  x = rate * horizon
  if not x:
    return _Growth(horizon, math.log(horizon))
  # ln(e^x - 1) = x + ln(1 - e^-x)
  log_value = x + math.log(-math.expm1(-x)) - math.log(rate)
  return _Growth(exp(log_value) if x > 700 else math.expm1(x) / rate, log_value)


def _any_of(n: int, share: np.ndarray) -> np.ndarray:
  """1 - (1 - share)^n without losing small shares."""
  with np.errstate(divide='ignore'):
    return -np.expm1(n * np.log1p(-share))


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _sorted_norms(
  key: PRNGKey, alpha: float, num: int, dim: int, kind: str
) -> Array:
  x = stable.sample_vectors(key, alpha, (num, dim), kind=kind)
  # Relative to the largest entry: squares of heavy tails overflow.
  peak = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
  peak = jnp.where(peak > 0, peak, 1)
  return jnp.sort(peak[:, 0] * jnp.linalg.norm(x / peak, axis=-1))
