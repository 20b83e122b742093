"""Slopes of the stable log-density in log x and in alpha, by a table.

Polynomials in log x on pieces of an eighth of an octave up to x = 32, in x
itself on the piece at 0, and in x^-alpha beyond; their coefficients are in turn
polynomials in log(2 / alpha - 1), in which the law is smooth up to alpha = 2.
The numbers are computed by `experiments/stable_slopes.py` from `htjax.stable`.
"""

import functools
import importlib.resources
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from htjax.types import Array

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
  """What the log-density and P(X > x) are at log x and alpha.

  Attributes:
    by_alpha, by_log_x: slopes of the log-density, of the shape of log x.
    tail: P(X > x).
  """

  by_alpha: Array
  by_log_x: Array
  tail: Array


class Coefficients(NamedTuple):
  """Of the table: bands of alpha, powers of the place there, then as named.

  Attributes:
    log_density: log f, [bands, powers, coefficients, pieces].
    log_tail: log P(X > x), likewise.
    series: c[k] of f = (2 - alpha) / x sum_k c[k] x^(-alpha (k + 1)) beyond 32,
      [bands, powers, terms].
  """

  log_density: np.ndarray
  log_tail: np.ndarray
  series: np.ndarray


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


def slopes(log_x: Float[Array, ' n'], alpha: Float[Array, '']) -> Slopes:
  """Slopes at points of one alpha in [0.5, 2 - TOUCH], or 2.

  Args:
    log_x: any finite numbers.
    alpha: traced.

  Returns:
    Slopes. At alpha = 2 `by_alpha` is that of 2 - TOUCH.
  """
  below = jnp.minimum(alpha, HIGH - TOUCH)
  table, by_alpha = _at(below)
  within = log_x < TOP * math.log(2.0)
  inside = _inside(jnp.where(within, log_x, 0.0), table, by_alpha)
  outside = _outside(
    jnp.where(within, TOP * math.log(2.0), log_x), below, table, by_alpha
  )
  found = Slopes(
    *(jnp.where(within, a, b) for a, b in zip(inside, outside, strict=True))
  )
  x = jnp.exp(jnp.minimum(log_x, 40.0))
  is_normal = alpha == HIGH
  return Slopes(
    found.by_alpha,
    jnp.where(is_normal, -0.5 * x * x, found.by_log_x),
    jnp.where(is_normal, 0.5 * jax.lax.erfc(0.5 * x), found.tail),
  )


def _at(alpha: Array) -> tuple[Coefficients, Coefficients]:
  """The coefficients at alpha, and their derivatives by alpha."""
  edges = jnp.asarray(_BANDS, alpha.dtype)
  z = jnp.log(HIGH - alpha) - jnp.log(alpha)
  band = jnp.clip(jnp.sum(z >= edges) - 1, 0, NUM_BANDS - 1)
  width = (edges[1:] - edges[:-1])[band]
  place = 2.0 * (z - edges[band]) / width - 1.0
  numbers = Coefficients(
    *(jnp.asarray(a, alpha.dtype)[band] for a in coefficients())
  )
  num = numbers.series.shape[0]
  power = jnp.cumprod(jnp.full(num, place).at[0].set(1.0))
  times = jnp.arange(1, num, dtype=power.dtype)
  by_place = jnp.concatenate([jnp.zeros_like(times[:1]), power[:-1] * times])
  by_z = by_place * (2.0 / width)
  by_alpha = by_z * (-HIGH / (alpha * (HIGH - alpha)))

  def combined(weight: Array) -> Coefficients:
    # No matrix product, which an accelerator may round to few digits.
    return Coefficients(
      *(
        jnp.sum(weight.reshape((num,) + (1,) * (a.ndim - 1)) * a, axis=0)
        for a in numbers
      )
    )

  return combined(power), combined(by_alpha)


def _inside(
  log_x: Array, table: Coefficients, by_alpha: Coefficients
) -> Slopes:
  height = (log_x - math.log(_FIRST)) / _WIDTH
  cell = jnp.clip(jnp.floor(height), -1, NUM_PIECES - 2)
  x = jnp.exp(log_x)
  is_first = height < 0
  t = jnp.where(is_first, 2.0 * x / _FIRST, 2.0 * (height - cell)) - 1.0
  rate = jnp.where(is_first, 2.0 * x / _FIRST, 2.0 / _WIDTH)
  piece = cell.astype(jnp.int32) + 1
  return Slopes(
    _value_and_slope(by_alpha.log_density[:, piece], t)[0],
    _value_and_slope(table.log_density[:, piece], t)[1] * rate,
    jnp.exp(_value_and_slope(table.log_tail[:, piece], t)[0]),
  )


def _outside(
  log_x: Array, alpha: Array, table: Coefficients, by_alpha: Coefficients
) -> Slopes:
  y = jnp.exp(-alpha * log_x)
  value, slope = _value_and_slope(table.series, y)
  change, _ = _value_and_slope(by_alpha.series, y)
  terms = alpha * jnp.arange(1, len(table.series) + 1, dtype=y.dtype)
  tail, _ = _value_and_slope(table.series / terms, y)
  return Slopes(
    (change - slope * y * log_x) / value - 1.0 / (HIGH - alpha) - log_x,
    -(1.0 + alpha) - slope * alpha * y / value,
    (HIGH - alpha) * y * tail,
  )


def _value_and_slope(numbers: Array, t: Array) -> tuple[Array, Array]:
  """Polynomials of coefficients along the first axis, and derivatives by t."""
  value, slope = numbers[-1], jnp.zeros_like(t)
  for i in range(len(numbers) - 2, -1, -1):
    slope = slope * t + value
    value = value * t + numbers[i]
  return value, slope
