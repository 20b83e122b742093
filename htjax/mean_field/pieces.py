"""Pieces of the mean-field proofs, each as a number of its own."""

import math
from typing import NamedTuple

import numpy as np

from htjax.bounds import Bound, make_bound
from htjax.bounds.arguments import number, positive, probability
from htjax.bounds.logarithms import log
from htjax.checks import check_choice, check_count, checked
from htjax.mean_field.assumption import Regularity, regularity
from htjax.mean_field.problem import Problem
from htjax.mean_field.theory import euler_bound

_KINDS = ('type1', 'type2', 'type3')


class EulerPieces(NamedTuple):
  """The steps of the proof of the Euler scheme's error.

  Attributes:
    one_step: eq. (14), E sup_i |theta^i - scheme| after one step.
    growth: factor exp(L (T - eta (k + 1))) by which Gronwall's inequality
      carries the error of step k to the end, [steps].
    total: their sum, eqs. (15) and (16): at most the bound of the theorem.
  """

  one_step: float
  growth: np.ndarray
  total: float


@checked
def euler_pieces(
  problem: Problem | Regularity,
  *,
  alpha: float,
  sigma: float,
  step_size: float,
  num_steps: int,
  largest_norm: float,
  mean_norm: float,
) -> EulerPieces:
  """One-step error, its growth, and their telescoping sum.

  The error after T / eta steps is the sum over k of what step k adds, carried
  along the exact flow for the rest of the time; two flows that start apart by
  e are apart by e exp(L t), L = B + B^2 / 2. (In print the last integral of
  (16) has the other sign, and its bound twice the noise.)

  Args:
    problem: a Problem of which `regularity` is taken, or that Regularity.
    alpha: tail index of the noise, in (1, 2].
    sigma: >= 0.
    step_size: eta > 0.
    num_steps: T / eta >= 1.
    largest_norm: M = E max_i |X^i| >= 0, see `mean_largest_norm`.
    mean_norm: m = E |X| >= 0 of one particle, see `mean_norm`.

  Returns:
    EulerPieces; infinite where Assumption 1 or a premise of `euler_bound` does
    not hold.

  Raises:
    ValueError: a number out of range, a bad problem.

  Source: [IC], eqs. (14) to (16).

  Examples:
    >>> import numpy as np
    >>> from htjax import mean_field
    >>> regularity = mean_field.Regularity(
    ...   *(np.full(3, 0.5) for _ in range(5)), True, ''
    ... )
    >>> pieces = mean_field.euler_pieces(
    ...   regularity, alpha=1.5, sigma=0.1, step_size=0.1, num_steps=10,
    ...   largest_norm=5.0, mean_norm=2.0,
    ... )
    >>> pieces.growth.shape, pieces.total > 10 * pieces.one_step
    ((10,), True)
  """
  check_count('num_steps', num_steps)
  step_size = positive('step_size', step_size)
  horizon = num_steps * step_size
  whole = euler_bound(
    problem,
    alpha=alpha,
    sigma=sigma,
    step_size=step_size,
    horizon=horizon,
    largest_norm=largest_norm,
    mean_norm=mean_norm,
  )
  if not math.isfinite(whole.log_value):
    return EulerPieces(math.inf, np.full(num_steps, math.inf), math.inf)
  known = problem if isinstance(problem, Regularity) else regularity(problem)
  rate = known.bound + known.bound**2 / 2
  # The theorem has (e^(LT) - 1) / L for eta times the sum of the factors.
  log_growth = _log_expm1(rate * horizon) - math.log(rate)
  one_step = math.exp(whole.log_value - log_growth) * step_size
  growth = np.exp(rate * step_size * np.arange(num_steps)[::-1])
  return EulerPieces(one_step, growth, one_step * float(np.sum(growth)))


@checked
def mean_norm(alpha: float, dim: int, kind: str) -> float:
  """E |X| of a stable vector of unit scale, or for 'type2' a bound above.

  With m = E |Z| = 2 Gamma(1 - 1 / alpha) / pi of one coordinate: 'type1'
  sqrt(dim) m; 'type2' at most dim m, and in fact less; 'type3' 2
  Gamma((dim + 1) / 2) Gamma(1 - 1 / alpha) / (Gamma(dim / 2) sqrt(pi)).

  Args:
    alpha: tail index in (1, 2].
    dim: dimension >= 1.
    kind: 'type1', 'type2' or 'type3'.

  Returns:
    float > 0.

  Raises:
    ValueError: a number out of range, unknown kind.

  Source: moments of [Samorodnitsky1994], property 1.2.17.

  Examples:
    >>> from htjax import mean_field
    >>> print(f'{mean_field.mean_norm(2.0, 1, "type3"):.4f}')  # 2 / sqrt(pi)
    1.1284
  """
  alpha = number('alpha', alpha, 1, 2, open_low=True)
  check_count('dim', dim)
  check_choice('kind', kind, _KINDS)
  factor = math.gamma(1 - 1 / alpha)
  if kind == 'type3':
    ratio = math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2)
    return 2 * factor * math.exp(ratio) / math.sqrt(math.pi)
  return 2 / math.pi * factor * (dim if kind == 'type2' else math.sqrt(dim))


@checked
def largest_path_norm(
  speed: float,
  *,
  alpha: float,
  sigma: float,
  horizon: float,
  initial_norm: float,
  dim: int,
  kind: str,
) -> Bound:
  """Bound on E sup_(t <= T) |theta_t| of one particle: it is finite.

  E |theta_0| + B T + 2 sigma T^(1/alpha) E |L_1|: the drift moves by at most B
  a time, and by Levy's inequality P(sup |L_t| > r) <= 2 P(|L_T| > r). Moments
  of an order below alpha are finite likewise; that of order alpha, which the
  text takes, is not.

  Args:
    speed: B >= 0, bound on the drift.
    alpha: tail index of the noise, in (1, 2].
    sigma: >= 0.
    horizon: T > 0.
    initial_norm: E |theta_0| >= 0.
    dim: dimension of a particle.
    kind: 'type1', 'type2' or 'type3'.

  Returns:
    Bound with terms initial, drift and noise.

  Raises:
    ValueError: a number out of range, unknown kind.

  Source: [IC], Lemma C.2.

  Examples:
    >>> from htjax import mean_field
    >>> bound = mean_field.largest_path_norm(
    ...   1.0, alpha=2.0, sigma=0.0, horizon=2.0, initial_norm=1.0, dim=3,
    ...   kind='type3',
    ... )
    >>> round(bound.value, 6)
    3.0
  """
  speed = number('speed', speed, 0, math.inf, open_high=True)
  sigma = number('sigma', sigma, 0, math.inf, open_high=True)
  initial = number('initial_norm', initial_norm, 0, math.inf, open_high=True)
  horizon = positive('horizon', horizon)
  norm = mean_norm(alpha, dim, kind)
  noise = math.log(2) + log(sigma) + math.log(horizon) / alpha + math.log(norm)
  return make_bound(
    {
      'initial': log(initial),
      'drift': log(speed) + math.log(horizon),
      'noise': noise,
    }
  )


class Thresholds(NamedTuple):
  """Sizes from which on compressibility carries over to the particles.

  Attributes:
    residual: of the independent copies' best k-term error, beyond which a
      residual of epsilon times the norm of the particles would have to lie.
    paper: the text's own, C sqrt(n) (1 + kappa / epsilon).
  """

  residual: float
  paper: float


@checked
def compressibility_thresholds(
  constant: float, epsilon: float, *, kappa: float, num_particles: int
) -> Thresholds:
  """Distance that the proof of compressibility loses to the coupling.

  Particles are within C / (epsilon sqrt(n)) of independent copies, all at once,
  with probability 1 - epsilon / 3. The best k-term error is 1-Lipschitz in
  l_2, so that both it and the norm move by at most C / epsilon together; if
  the particles' error is at least epsilon times their norm, that of the copies
  is at least epsilon |w*| - C (1 + 1 / epsilon). In print it is
  C sqrt(n) (1 + kappa / epsilon), for a sum over kappa n terms where there are
  (1 - kappa) n.

  Args:
    constant: C >= 0 of the two couplings together, E sup <= C / (3 sqrt(n)).
    epsilon: in (0, 1), error and probability.
    kappa: kept fraction in (0, 1).
    num_particles: n >= 1.

  Returns:
    Thresholds, floats.

  Raises:
    ValueError: a number out of range.

  Source: [IC], Theorem 3.1 (its proof, eqs. (19) to (23)).

  Examples:
    >>> from htjax import mean_field
    >>> mean_field.compressibility_thresholds(
    ...   1.0, 0.5, kappa=0.5, num_particles=100
    ... )
    Thresholds(residual=3.0, paper=20.0)
  """
  constant = number('constant', constant, 0, math.inf, open_high=True)
  epsilon = probability('epsilon', epsilon)
  kappa = probability('kappa', kappa)
  check_count('num_particles', num_particles)
  return Thresholds(
    constant * (1 + 1 / epsilon),
    constant * math.sqrt(num_particles) * (1 + kappa / epsilon),
  )


def _log_expm1(x: float) -> float:
  return x + math.log(-math.expm1(-x))
