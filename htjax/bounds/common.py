"""The record that every bound returns, margins, and counting in log space.

A bound is a closed form of a few measured numbers, so it is evaluated on the
host in float64: a product of fifty norms, or the logarithm of a binomial
coefficient of ten million, does not fit float32. Nothing is clipped at 1, no
constant is dropped, and a value beyond the range of floats is infinite while
its logarithm stays finite. All logarithms are natural.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.checks import check_finite, check_range, is_concrete
from htjax.types import Array, ArrayLike

VARIANTS = ('corrected', 'paper')


class Assumption(NamedTuple):
  """One premise of a bound.

  Attributes:
    name: what is assumed, in a word or two.
    holds: True or False where the inputs decide it; None where they cannot,
      so that the premise is taken on trust.
    reason: the comparison that was made, with its numbers, or what is trusted.
  """

  name: str
  holds: bool | None
  reason: str


class Bound(NamedTuple):
  """A bound with everything that went into it.

  Attributes:
    value: the bound, not clipped; infinite if it exceeds the floats.
    log_value: its natural logarithm, finite where `value` overflows.
    terms: natural logarithm of each summand; their log-sum-exp is `log_value`.
    assumptions: the premises, whether each holds, and why.
    failure: probability with which the statement may fail, itself possibly
      above 1; 0 for a deterministic statement.
    details: named numbers on the way, those called `log_..` in logarithms.
  """

  value: float
  log_value: float
  terms: dict[str, float]
  assumptions: tuple[Assumption, ...]
  failure: float
  details: dict[str, float]

  @property
  def valid(self) -> bool:
    """Whether no premise is known to fail."""
    return all(a.holds is not False for a in self.assumptions)


def make_bound(
  terms: Mapping[str, float],
  assumptions: Sequence[Assumption] = (),
  *,
  failure: float = 0.0,
  details: Mapping[str, float] | None = None,
) -> Bound:
  """Sum the terms and list the premises, that of confidence among them.

  Args:
    terms: natural logarithm of each summand; -inf for a summand of 0.
    assumptions: premises of the statement.
    failure: probability that the statement fails.
    details: further named numbers to report.

  Returns:
    Bound. If `failure` is 1 or more, a premise 'confidence' that fails.
  """
  log_value = float(np.logaddexp.reduce(list(terms.values())))
  premises = list(assumptions)
  if failure > 0:
    premises.append(
      Assumption(
        'confidence',
        bool(failure < 1),
        f'the failure probability {failure:.4g} must be below 1',
      )
    )
  return Bound(
    exp(log_value),
    log_value,
    dict(terms),
    tuple(premises),
    float(failure),
    dict(details or {}),
  )


def margins(logits: ArrayLike, labels: ArrayLike) -> Array:
  """Margins f[y] - max_{j != y} f[j].

  Args:
    logits: [n, k], k >= 2 classes, n >= 1, float, finite.
    labels: integers in [0, k), [n].

  Returns:
    [n], dtype of `logits`. A traced label out of range gives NaN.

  Raises:
    ValueError: for other shapes or types, labels out of range, logits that are
      not finite.

  Source: "Heavy Tails in SGD and Compressibility ...", before eq. (6).
  """
  logits, labels = jnp.asarray(logits), jnp.asarray(labels)
  if logits.ndim != 2 or logits.shape[0] < 1 or logits.shape[1] < 2:
    raise ValueError(
      f'logits must be [n, k] with n >= 1 and k >= 2, got {logits.shape}'
    )
  if labels.shape != logits.shape[:1] or not jnp.issubdtype(
    labels.dtype, jnp.integer
  ):
    raise ValueError(
      f'labels must be {logits.shape[0]} integers, got {labels.dtype} '
      f'{labels.shape}'
    )
  if not jnp.issubdtype(logits.dtype, jnp.floating):
    raise ValueError(f'logits must be floating, got {logits.dtype}')
  num_classes = logits.shape[1]
  check_finite('logits', logits)
  check_range('labels', labels, 0, num_classes - 1)
  own = jax.nn.one_hot(labels, num_classes, dtype=bool)
  true = jnp.max(jnp.where(own, logits, -jnp.inf), axis=1)
  rival = jnp.max(jnp.where(own, -jnp.inf, logits), axis=1)
  return jnp.where(jnp.any(own, axis=1), true - rival, jnp.nan)


def margin_loss(
  logits: ArrayLike, labels: ArrayLike, gamma: ArrayLike = 0.0
) -> Array:
  """Fraction of examples whose margin is at most gamma.

  Args:
    logits: [n, k], finite.
    labels: integers in [0, k), [n].
    gamma: >= 0, traced; 0 counts ties as errors.

  Returns:
    Float [], in [0, 1]; NaN for a traced NaN in `logits` or `gamma`.

  Raises:
    ValueError: as in `margins`, or if gamma is concrete and negative.

  Source: "Heavy Tails in SGD and Compressibility ...", eq. (6).
  """
  check_range('gamma', gamma, 0, math.inf)
  distance = margins(logits, labels)
  gamma = jnp.asarray(gamma, distance.dtype)
  loss = jnp.where(distance <= gamma, 1, 0).astype(distance.dtype)
  return jnp.mean(jnp.where(jnp.isnan(distance - gamma), jnp.nan, loss))


def ramp_loss(
  logits: ArrayLike, labels: ArrayLike, gamma: ArrayLike, tau: ArrayLike
) -> Array:
  """Mean loss falling from 1 at margin gamma to 0 at gamma + tau.

  It lies between the margin losses at gamma and at gamma + tau, and moves by at
  most sqrt(2) / tau times the change of an output in l_2.

  Args:
    logits: [n, k], finite.
    labels: integers in [0, k), [n].
    gamma: >= 0, traced.
    tau: > 0, traced.

  Returns:
    Float [], in [0, 1]; NaN for a traced NaN.

  Raises:
    ValueError: as in `margins`, or for a concrete gamma < 0 or tau <= 0.

  Source: "Heavy Tails in SGD and Compressibility ...", eq. (S27).
  """
  check_range('gamma', gamma, 0, math.inf)
  check_range('tau', tau, 0, math.inf, open_low=True)
  distance = margins(logits, labels)
  gamma = jnp.asarray(gamma, distance.dtype)
  return jnp.mean(jnp.clip(1 - (distance - gamma) / tau, 0, 1))


# Helpers on the host -------------------------------------------------------


def check_concrete(name: str, value: Any) -> None:
  """Raise if `value` is traced, or a list with a traced entry."""
  entries = value if isinstance(value, list | tuple) else [value]
  if not all(is_concrete(entry) for entry in entries):
    raise ValueError(
      f'{name} must be concrete: bounds are evaluated on the host, outside jit '
      'and vmap'
    )


def number(
  name: str,
  value: Any,
  low: float = -math.inf,
  high: float = math.inf,
  **interval: bool,
) -> float:
  """`value` as a float in an interval, or a ValueError that names it."""
  check_concrete(name, value)
  if np.shape(value) != ():
    raise ValueError(f'{name} must be one number, got shape {np.shape(value)}')
  check_range(name, value, low, high, **interval)
  return float(value)


def positive(name: str, value: Any) -> float:
  """`value` as a float above 0 and finite."""
  value = number(name, value, 0, math.inf, open_low=True, open_high=True)
  return value


def probability(name: str, value: Any) -> float:
  """`value` as a float strictly inside (0, 1)."""
  return number(name, value, 0, 1, open_low=True, open_high=True)


def vector(
  name: str, values: Any, low: float = 0.0, *, open_low: bool = False
) -> np.ndarray:
  """`values` as finite float64 [L], L >= 1, each at least `low`."""
  check_concrete(name, values)
  array = np.asarray(values, np.float64)
  if array.ndim != 1 or array.size == 0:
    raise ValueError(f'{name} must be a list of numbers, got {array.shape}')
  check_range(name, array, low, math.inf, open_low=open_low, open_high=True)
  return array


def like(name: str, values: Any, size: int, **options: Any) -> np.ndarray:
  """`values` as float64 [size]; a single number stands for all of them."""
  check_concrete(name, values)
  array = np.asarray(values, np.float64)
  if array.ndim == 0:
    array = np.full(size, float(array))
  array = vector(name, array, **options)
  if array.size != size:
    raise ValueError(f'{name} must have {size} entries, got {array.size}')
  return array


def snap(values: Any) -> np.ndarray:
  """Values that miss an integer by rounding alone, put right: 0.1 * 30."""
  nearest = np.round(values)
  close = np.isclose(values, nearest, rtol=1e-12, atol=0)
  return np.where(close, nearest, values)


def empirical_margin_loss(
  distances: ArrayLike, log_gamma: float
) -> tuple[float, int]:
  """Fraction of margins at most exp(log_gamma), and their number."""
  check_concrete('margins', distances)
  array = np.asarray(distances, np.float64)
  if array.ndim != 1 or array.size == 0:
    raise ValueError(
      f'margins must be a list of at least one number, got {array.shape}'
    )
  if not np.all(np.isfinite(array)):
    raise ValueError('margins must be finite, got NaN or infinity')
  logs = np.log(array, where=array > 0, out=np.full(array.size, -math.inf))
  return float(np.mean(logs <= log_gamma)), array.size


def log(value: float) -> float:
  """Natural logarithm, -inf at 0."""
  return math.log(value) if value > 0 else -math.inf


def exp(value: float) -> float:
  """Exponential, infinite where it overflows."""
  return math.exp(value) if value < 709.78 else math.inf


def log_sum(values: np.ndarray) -> float:
  """Logarithm of the sum of exp(values)."""
  return float(np.logaddexp.reduce(values))


def log_product(values: np.ndarray) -> float:
  """Logarithm of a product of numbers >= 0, -inf if one is 0."""
  return -math.inf if np.any(values == 0) else float(np.sum(np.log(values)))


def binary_entropy(kappa: float) -> float:
  """h_b = -kappa ln kappa - (1 - kappa) ln(1 - kappa), in nats."""
  return -sum(q * math.log(q) for q in (kappa, 1 - kappa) if q > 0)


def log_binomial(n: float, k: float) -> float:
  """Logarithm of the binomial coefficient."""
  return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def binomial_log_sf(k: int, n: int, p: float) -> float:
  """Logarithm of P(X >= k) for X binomial(n, p), exact, in O(n) time.

  Args:
    k: count, any integer.
    n: trials, >= 0.
    p: success probability in [0, 1].

  Returns:
    float, <= 0; -inf where the probability is 0.
  """
  if k <= 0:
    return 0.0
  if k > n or p == 0:
    return -math.inf
  if p == 1:
    return 0.0
  if k > n * p:
    return _log_upper_tail(k, n, p)
  # The other tail is the smaller one.
  lower = _log_upper_tail(n - k + 1, n, 1 - p)
  return math.log1p(-math.exp(lower))


def _log_upper_tail(k: int, n: int, p: float) -> float:
  """log P(X >= k): the first term, and the ratios of those that follow."""
  start = log_binomial(n, k) + k * math.log(p) + ((n - k) * math.log1p(-p))
  j = np.arange(k, n, dtype=np.float64)
  ratios = np.log((n - j) / (j + 1)) + (math.log(p) - math.log1p(-p))
  return min(start + log_sum(np.concatenate([[0.0], np.cumsum(ratios)])), 0.0)
