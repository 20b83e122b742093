"""Kept entries rounded: change of the output, covering, Dudley's integral."""

import math

from scipy import special

from htjax.bounds.arguments import number, positive, vector
from htjax.bounds.logarithms import exp, log_product
from htjax.bounds.result import Bound, make_bound
from htjax.checks import check_count
from htjax.types import ArrayLike


def balanced_norm(
  *,
  contraction: float,
  output_norm: float,
  input_norm: float,
  cushions: ArrayLike,
) -> Bound:
  """Bound on the product of Frobenius norms, beta^d if they are balanced.

  prod |W_i|_F <= c^d |f(x)| / (|x| prod mu_i).

  Args:
    contraction: c >= 1.
    output_norm: |f(x)| > 0, at one training example.
    input_norm: |x| > 0, of the same example.
    cushions: mu_i > 0, [d].

  Returns:
    Bound, deterministic.

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], eq. (97).
  """
  cushions = vector('cushions', cushions, open_low=True)
  c = number('contraction', contraction, 1, math.inf, open_high=True)
  value = cushions.size * math.log(c) - log_product(cushions)
  value += math.log(positive('output_norm', output_norm))
  return make_bound(
    {'norm': value - math.log(positive('input_norm', input_norm))}
  )


def discretization_change(
  resolution: float,
  *,
  num_parameters: int,
  frobenius: float,
  contraction: float,
  output_norm: float,
  cushions: ArrayLike,
  tau: float | None = None,
) -> Bound:
  """Change sqrt(q) nu K / beta when q parameters are known to accuracy nu.

  K = e^2 c^d d |f| / prod mu_i. This bounds the change of the output; of the
  ramp loss of width tau it is sqrt(2) / tau times that. (The 0-1 margin loss,
  for which it is printed, jumps.)

  Args:
    resolution: nu > 0.
    num_parameters: q.
    frobenius: beta > 0, the Frobenius norm of every layer.
    contraction: c >= 1.
    output_norm: |f(x)| > 0.
    cushions: mu_i > 0, [d].
    tau: width of the ramp, > 0; None for the output itself.

  Returns:
    Bound, with `log_constant` = ln K in the details.

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], eqs. (98)-(101).
  """
  check_count('num_parameters', num_parameters)
  depth = vector('cushions', cushions, open_low=True).size
  norm = balanced_norm(
    contraction=contraction,
    output_norm=output_norm,
    input_norm=1.0,
    cushions=cushions,
  )
  log_k = 2 + norm.log_value + math.log(depth)
  value = 0.5 * math.log(num_parameters) + log_k
  value += math.log(positive('resolution', resolution))
  value -= math.log(positive('frobenius', frobenius))
  if tau is not None:
    value += 0.5 * math.log(2) - math.log(positive('tau', tau))
  return make_bound({'change': value}, details={'log_constant': log_k})


def log_covering(
  num_parameters: int, *, log_constant: float, resolution: float
) -> float:
  """Logarithm q ln(2 q K / epsilon) of a covering number of the loss.

  Args:
    num_parameters: q.
    log_constant: ln K, see `discretization_change`.
    resolution: epsilon > 0.

  Returns:
    float. (In print the logarithm is called the covering number.)

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], before eq. (102).
  """
  check_count('num_parameters', num_parameters)
  size = math.log(2 * num_parameters) + number('log_constant', log_constant)
  step = math.log(positive('resolution', resolution))
  return num_parameters * (size - step)


def dudley_integral(
  upper: float, *, num_parameters: int, log_constant: float
) -> float:
  """Dudley's entropy integral over (0, D), of sqrt(q ln(2 q K / epsilon)).

  sqrt(q) (D sqrt(l) + (a sqrt(pi) / 2) erfc(sqrt(l))), a = 2 q K, l = ln(a/D).

  Args:
    upper: D in (0, 2 q K].
    num_parameters: q.
    log_constant: ln K.

  Returns:
    float.

  Raises:
    ValueError: for numbers out of range.

  Source: [SH], eq. (102).
  """
  check_count('num_parameters', num_parameters)
  log_a = math.log(2 * num_parameters) + number('log_constant', log_constant)
  upper = number('upper', upper, 0, exp(log_a), open_low=True)
  root = math.sqrt(log_a - math.log(upper))
  # a = D e^(root^2), and erfc underflows where e^(root^2) overflows.
  tail = math.sqrt(math.pi) / 2 * special.erfcx(root)
  return math.sqrt(num_parameters) * upper * (root + tail)
