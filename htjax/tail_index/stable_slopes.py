"""Slopes of the stable log-density in log x and in alpha, by a table.

Polynomials in log x on pieces of an eighth of an octave up to x = 32, in x
itself on the piece at 0, and in x^-alpha beyond; their coefficients are in turn
polynomials in log(2 / alpha - 1), in which the law is smooth up to alpha = 2.
The numbers are computed by `experiments/stable_slopes.py` from `htjax.stable`.
"""

import functools
import importlib.resources
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.host import Working

LOW, HIGH = 0.5, 2.0
# Closer to 2 than this is 2.
TOUCH = 1e-4
OCTAVES, PIECES_PER_OCTAVE, TOP = 12, 8, 5
NUM_PIECES = OCTAVES * PIECES_PER_OCTAVE + 1
# Of log(2 / alpha - 1), a little wider than the alpha that are asked for.
_BANDS = np.array([-9.92, -7.7, -5.5, -3.3, -1.6, -0.4, 0.4, 1.1])
NUM_BANDS = _BANDS.size - 1
_FIRST = 2.0 ** (TOP - OCTAVES)
_WIDTH = math.log(2.0) / PIECES_PER_OCTAVE


class Slopes(NamedTuple):
  """Slopes of the log-density, and P(X > x), at log x and alpha.

  Attributes:
    by_alpha, by_log_x: slopes of the log-density, of the shape of log x.
    tail: P(X > x).
  """

  by_alpha: Working
  by_log_x: Working
  tail: Working


class Coefficients(NamedTuple):
  """Of the table: bands of alpha, powers of the place there, then as named.

  Attributes:
    log_density: log f, [bands, powers, coefficients, pieces].
    log_tail: log P(X > x), likewise.
    series: c[k] of f = (2 - alpha) / x sum_k c[k] x^(-alpha (k + 1)) beyond 32,
      [bands, powers, terms].
  """

  log_density: Any
  log_tail: Any
  series: Any


@functools.cache
def coefficients() -> Coefficients:
  """The table, float32."""
  file = importlib.resources.files('htjax.tail_index') / 'stable_slopes.npz'
  with file.open('rb') as stream, np.load(stream) as arrays:
    return Coefficients(*(arrays[name] for name in Coefficients._fields))


def alphas(band: int, place: np.ndarray) -> np.ndarray:
  """The alpha at places of a band, in [-1, 1]."""
  low, high = _BANDS[band : band + 2]
  return HIGH / (1.0 + np.exp(low + 0.5 * (1.0 + place) * (high - low)))


def points(place: np.ndarray) -> np.ndarray:
  """The x at places of every piece, [pieces, places]."""
  low = np.arange(NUM_PIECES - 1)[:, None]
  x = _FIRST * np.exp(_WIDTH * (low + 0.5 * (1.0 + place)))
  return np.concatenate([0.5 * _FIRST * (1.0 + place)[None], x])


def slopes(log_x: Working, alpha: Working, xp: Any = jnp) -> Slopes:
  """Slopes at points of one alpha in [0.5, 2 - TOUCH], or 2.

  Args:
    log_x: [n], any finite numbers.
    alpha: [], traced.
    xp: `jax.numpy` or `numpy`.

  Returns:
    Slopes. At alpha = 2 `by_alpha` is that of 2 - TOUCH.
  """
  below = xp.minimum(alpha, HIGH - TOUCH)
  table, by_alpha = _at(below, xp)
  within = log_x < TOP * math.log(2.0)
  inside = _inside(xp.where(within, log_x, 0.0), table, by_alpha, xp)
  far = xp.where(within, TOP * math.log(2.0), log_x)
  outside = _outside(far, below, table, by_alpha, xp)
  found = Slopes(
    *(xp.where(within, a, b) for a, b in zip(inside, outside, strict=True))
  )
  if xp is np:
    return _host_normal(log_x, found) if alpha == HIGH else found
  x = jnp.exp(jnp.minimum(log_x, 40.0))
  is_normal = alpha == HIGH
  return Slopes(
    found.by_alpha,
    jnp.where(is_normal, -0.5 * x * x, found.by_log_x),
    jnp.where(is_normal, 0.5 * jax.lax.erfc(0.5 * x), found.tail),
  )


def _host_normal(log_x: Any, found: Slopes) -> Slopes:
  """Slopes of the normal law in place of those found just below alpha = 2."""
  from scipy import special

  x = np.exp(np.minimum(log_x, 40.0))
  return found._replace(by_log_x=-0.5 * x * x, tail=0.5 * special.erfc(0.5 * x))


def _at(alpha: Working, xp: Any) -> tuple[Coefficients, Coefficients]:
  """The coefficients at alpha, and their derivatives by alpha."""
  edges = xp.asarray(_BANDS, alpha.dtype)
  z = xp.log(HIGH - alpha) - xp.log(alpha)
  band = xp.clip(xp.sum(z >= edges) - 1, 0, NUM_BANDS - 1)
  width = (edges[1:] - edges[:-1])[band]
  place = 2.0 * (z - edges[band]) / width - 1.0
  numbers = Coefficients(
    *(xp.asarray(a)[band].astype(alpha.dtype) for a in coefficients())
  )
  num = numbers.series.shape[0]
  rising = xp.where(xp.arange(num) > 0, place, 1.0)
  power = xp.cumprod(rising.astype(alpha.dtype))
  times = xp.arange(1, num, dtype=power.dtype)
  by_place = xp.concatenate([xp.zeros_like(times[:1]), power[:-1] * times])
  by_z = by_place * (2.0 / width)
  by_alpha = by_z * (-HIGH / (alpha * (HIGH - alpha)))

  def combined(weight: Working) -> Coefficients:
    # No matrix product, which an accelerator may round to few digits.
    return Coefficients(
      *(
        xp.sum(weight.reshape((num,) + (1,) * (a.ndim - 1)) * a, axis=0)
        for a in numbers
      )
    )

  return combined(power), combined(by_alpha)


def _inside(
  log_x: Working, table: Coefficients, by_alpha: Coefficients, xp: Any
) -> Slopes:
  height = (log_x - math.log(_FIRST)) / _WIDTH
  cell = xp.clip(xp.floor(height), -1, NUM_PIECES - 2)
  x = xp.exp(log_x)
  is_first = height < 0
  t = xp.where(is_first, 2.0 * x / _FIRST, 2.0 * (height - cell)) - 1.0
  rate = xp.where(is_first, 2.0 * x / _FIRST, 2.0 / _WIDTH)
  piece = cell.astype(np.int32) + 1
  return Slopes(
    _value_and_slope(by_alpha.log_density[:, piece], t)[0],
    _value_and_slope(table.log_density[:, piece], t)[1] * rate,
    xp.exp(_value_and_slope(table.log_tail[:, piece], t)[0]),
  )


def _outside(
  log_x: Working,
  alpha: Working,
  table: Coefficients,
  by_alpha: Coefficients,
  xp: Any,
) -> Slopes:
  y = xp.exp(-alpha * log_x)
  value, slope = _value_and_slope(table.series, y)
  change, _ = _value_and_slope(by_alpha.series, y)
  terms = alpha * xp.arange(1, len(table.series) + 1, dtype=y.dtype)
  tail, _ = _value_and_slope(table.series / terms, y)
  return Slopes(
    (change - slope * y * log_x) / value - 1.0 / (HIGH - alpha) - log_x,
    -(1.0 + alpha) - slope * alpha * y / value,
    (HIGH - alpha) * y * tail,
  )


def _value_and_slope(numbers: Working, t: Working) -> tuple[Working, Working]:
  """Polynomials of coefficients along the first axis, and derivatives by t."""
  value, slope = numbers[-1], 0 * t
  for i in range(len(numbers) - 2, -1, -1):
    slope = slope * t + value
    value = value * t + numbers[i]
  return value, slope
