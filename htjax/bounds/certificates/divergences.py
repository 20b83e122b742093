"""Relative entropy of noise about moved weights to noise about the old ones."""

import math

import jax
import numpy as np

from htjax.bounds.arguments import as_numbers, number
from htjax.checks import check_choice, check_finite, checked
from htjax.types import ArrayLike

LAWS = ('gaussian', 'student', 'stable')

# Shifts are rounded up to a power of the ratio times the least one.
_LEAST, _RATIO = 1e-3, 1.01
_NODES, _PANELS, _END, _BLOCK = 16, 64, 1e4, 32


@checked
def shift_divergence(
  shifts: ArrayLike, law: str = 'gaussian', tail: float | None = None
) -> float:
  """Relative entropy of independent noise about moved centres, in nats.

  sum_i KL(p(. - t_i) || p) for a symmetric density p: t^2 / 2 for the normal
  law, ln(1 + t^2 / 4) for that of Cauchy, and by quadrature else. Heavy tails
  make a far move cheap, its logarithm, and a near one hardly dearer.

  Args:
    shifts: t, of any shape, finite: how far each weight was moved, in units of
      the scale of its noise.
    law: 'gaussian', of unit variance; 'student', of unit scale; or 'stable',
      E exp(isX) = exp(-|s|^alpha), of variance 2 at alpha = 2.
    tail: degrees of freedom of 'student', in [1, 1000], or alpha of 'stable',
      in [1, 2]; None for 'gaussian'.

  Returns:
    float >= 0. By quadrature a move counts as the next of 0.001 * 1.01^i, so
    that the sum is too large by at most 2 % or d 10^-6, and never too small
    but for 1e-9 of it.

  Raises:
    ValueError: an unknown law, a tail out of range, shifts not finite.

  Examples:
    >>> from htjax.bounds import certificates
    >>> f'{certificates.shift_divergence([3.0, 4.0]):.2f}'
    '12.50'
    >>> f'{certificates.shift_divergence([3.0, 4.0], "stable", 1.0):.2f}'
    '2.80'
  """
  tail = check_law(law, tail)
  moves = np.abs(as_numbers('shifts', shifts)).ravel()
  check_finite('shifts', moves)
  if law == 'gaussian':
    return float(np.sum(moves**2)) / 2
  moves = moves[moves > 0]
  steps = np.ceil(np.log(moves / _LEAST) / math.log(_RATIO))
  knots, counts = np.unique(np.maximum(steps, 0), return_counts=True)
  total = 0.0
  for i in range(0, len(knots), _BLOCK):
    part = knots[i : i + _BLOCK]
    # Blocks of one size, for one compilation.
    padded = np.pad(part, (0, _BLOCK - len(part)))
    found = _divergences(_LEAST * _RATIO**padded, law, tail)[: len(part)]
    total += float(np.dot(counts[i : i + _BLOCK], found))
  return total


def check_law(law: str, tail: float | None) -> float:
  """The tail in range for its law, 2 for 'gaussian', or a ValueError."""
  check_choice('law', law, LAWS)
  if law != 'gaussian':
    return number('tail', tail, 1, 2 if law == 'stable' else 1000)
  if tail is not None:
    raise ValueError(f'tail must be None for gaussian, got {tail!r}')
  return 2.0


def _divergences(t: np.ndarray, law: str, tail: float) -> np.ndarray:
  """Twice the half, beyond t / 2, of the symmetric form, with y = x - t."""
  low, high = np.arcsinh(-t / 2), np.arcsinh(_END * np.maximum(1.0, t))
  edges = np.linspace(low, high, _PANELS + 1, axis=-1)
  nodes, weights = np.polynomial.legendre.leggauss(_NODES)
  widths = np.diff(edges)[..., None]
  u = edges[:, :-1, None] + widths * (nodes + 1) / 2
  y = np.sinh(u)
  near = _log_density(y, law, tail)
  far = _log_density(y + t[:, None, None], law, tail)
  values = np.exp(near) * -np.expm1(far - near) * (near - far)
  return np.sum(weights * np.cosh(u) * widths / 2 * values, axis=(1, 2))


def _log_density(x: np.ndarray, law: str, tail: float) -> np.ndarray:
  """Of unit scale, at float64 x."""
  if law == 'stable':
    from htjax import stable

    with jax.enable_x64(True):
      return np.asarray(stable.logpdf(x, tail))
  top = math.lgamma((tail + 1) / 2) - math.lgamma(tail / 2)
  constant = top - math.log(tail * math.pi) / 2
  return constant - (tail + 1) / 2 * np.log1p(x**2 / tail)
