"""The symmetric stable law of one known alpha, as piecewise polynomials.

Every octave of x below 32 is cut into equal pieces, so that the bits of x are
the piece and the place in it, without a search or a logarithm. On each piece
P(0 < X < x), beyond x = 1 P(X > x), and the density are polynomials of degree
7 through Chebyshev nodes. From 32 on the series in x^-alpha converges, or
nearly does, within 14 terms. The integrals are taken in NumPy, so that a table
costs a fraction of a second and compiles nothing; the program that reads one
is the same for every alpha.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float, Int

from htjax.stable import integrals
from htjax.types import Array

_DEGREE = 7
_NUM_PIECES = 513
_TOP = 5  # Of the last piece, as a power of two.
_NUM_TERMS = 14
_NEWTON = 4
# What has few tables in use at a time needs no more; 70 kB each.
_CACHED = 64
_BATCH = 256
# Nodes an eighth apart, also nearest to 2.
_NUM_POSITIVE = 700


class Table(NamedTuple):
  """A law of unit scale, x >= 0; floats of one dtype.

  Attributes:
    alpha: its index, [].
    fineness: log2 of the number of pieces of an octave, int [].
    octaves: below 32, int [].
    edge: of the pieces, the first from 0, [P + 1].
    key: increases with the edges: P(0 < X < edge), beyond x = 1 1/P(X > edge).
    mass: coefficients of P(0 < X < x), beyond x = 1 of P(X > x), [8, P], in
      the place within the piece: t in [-1, 1], in the first in [0, 1].
    density: of the density likewise.
    series: b of P(X > x) = sum_k b[k] x^(-alpha (k + 1)) beyond 32, [14].
  """

  alpha: Float[Any, '']
  fineness: Int[Any, '']
  octaves: Int[Any, '']
  edge: Float[Any, ' edges']
  key: Float[Any, ' edges']
  mass: Float[Any, 'coefficients pieces']
  density: Float[Any, 'coefficients pieces']
  series: Float[Any, ' terms']

  def hidden(self, x: Array) -> 'Table':
    """This law with alpha and the series out of the compiler's sight.

    It would fold what is constant into others, with other roundings than where
    the table is an argument.
    """
    if x.size == 0:
      return self
    first = lax.stop_gradient(x).ravel()[0]
    one = jnp.maximum(1.0, jnp.where(first < 0.0, first, -1.0))
    # Not the polynomials, of which vmap would make copies.
    return self._replace(
      alpha=jnp.asarray(self.alpha) * one,
      series=jnp.asarray(self.series) * one,
    )

  def tail(self, x: Array) -> Array:
    """P(X > x), x >= 0."""
    return _tail(x, self)

  def pdf(self, x: Array) -> Array:
    """Density at x >= 0."""
    return _density(x, self)

  def log_density(self, x: Array) -> Array:
    """Its logarithm at x >= 0."""
    return _log_density(x, self)

  def quantile(self, excess: Array, tail: Array) -> Array:
    """The x >= 0 with P(0 < X < x) = excess and P(X > x) = tail."""
    return _quantile(excess, tail, self)


@functools.lru_cache(_CACHED)
def table(alpha: float, dtype: np.dtype) -> Table:
  """The table of one alpha in [0.5, 2), in NumPy numbers; cached."""
  if dtype != np.float64:
    wide = table(alpha, np.dtype(np.float64))
    return Table(
      *(a.astype(dtype) if a.dtype == np.float64 else a for a in wide)
    )
  fineness = _fineness(alpha)
  octaves = (_NUM_PIECES - 1) >> fineness
  edge = _edges(fineness, octaves)
  # Chebyshev nodes, in the first piece the positive half of twice as many.
  angle = np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1)
  t = np.cos(angle)
  x = edge[:-1, None] + 0.5 * (1.0 + t) * np.diff(edge)[:, None]
  x[0] = edge[1] * np.cos(0.5 * angle)
  inner, tail, density = (
    a.reshape(x.shape) for a in known_law(x.ravel(), alpha)
  )
  is_near = _is_near(edge)
  value = np.where(is_near[:-1, None], inner, tail)
  to_powers = np.linalg.inv(np.vander(t, increasing=True)).T
  mass, slope = value @ to_powers, density @ to_powers
  mass[0], slope[0] = _first(np.cos(0.5 * angle), value[0], density[0])
  inner, tail, _ = known_law(edge[1:], alpha)
  key = np.where(is_near[1:], inner, 1.0 / tail)
  made = Table(
    np.asarray(alpha),
    np.asarray(fineness, np.int32),
    np.asarray(octaves, np.int32),
    edge,
    np.append(0.0, key),
    np.ascontiguousarray(mass.T),
    np.ascontiguousarray(slope.T),
    series(alpha),
  )
  for part in made:
    part.flags.writeable = False
  return made


def _fineness(alpha: float) -> int:
  """Where the law has its detail: near 0, or where a normal tail ends."""
  if alpha < 1.0:
    return 4
  return 5 if alpha < 1.95 else 6


def _edges(fineness: int, octaves: int) -> np.ndarray:
  part = 1.0 + np.arange(2**fineness) / 2**fineness
  octave = 2.0 ** np.arange(_TOP - octaves, _TOP)
  return np.concatenate([[0.0], (octave[:, None] * part).ravel(), [2.0**_TOP]])


def _is_near(edge: Any) -> Any:
  return edge < 1.0


def known_law(
  x: np.ndarray, alpha: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """P(0 < X < x), P(X > x) and the density by the integrals, in NumPy."""
  parts = []
  index = np.asarray(alpha)
  reach = 40.0 - math.log(min(1.0, 2.0 - alpha))
  # The integrals take memory, and a cache holds a few hundred of them.
  for i in range(0, x.size, _BATCH):
    some = x[i : i + _BATCH]
    is_near = some < integrals.NEAR
    inner, density = integrals.near(some[is_near], index, np)
    if alpha < integrals.GAUSSIAN:
      tail, beyond = integrals.far(some[~is_near], index, np)
    else:
      logs = integrals.log_positive(
        some[~is_near], index, np, reach, _NUM_POSITIVE
      )
      tail, beyond = (np.exp(a) for a in logs)
    part = np.empty((3, some.size))
    part[:, is_near] = inner, 0.5 - inner, density
    part[:, ~is_near] = 0.5 - tail, tail, beyond
    parts.append(part)
  return tuple(np.concatenate(parts, axis=1))


def _first(
  t: np.ndarray, inner: np.ndarray, density: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Coefficients of the piece that begins at 0: an odd and an even function.

  So that P(0 < X < x) has all digits however small x is.
  """
  half = (_DEGREE + 1) // 2
  even = np.vander(t**2, half, increasing=True)
  found = np.zeros((2, _DEGREE + 1))
  for i, values in enumerate((inner / t, density)):
    found[i, 1 - i :: 2] = np.linalg.lstsq(even, values, rcond=None)[0]
  return found[0], found[1]


def series(alpha: float) -> np.ndarray:
  """Coefficients of P(X > x) in powers of x^-alpha, from the first on.

  Gamma(k alpha) / k! sin(k pi (2 - alpha) / 2) / pi.

  Source: [Nolan2020], section 3.5.
  """
  # The sine by the distance from 2, where all are small.
  k = np.arange(1, _NUM_TERMS + 1)
  log_size = [math.lgamma(i * alpha) - math.lgamma(i + 1) for i in k]
  return np.exp(log_size) * np.sin(k * (0.5 * np.pi * (2.0 - alpha))) / np.pi


def _locate(x: Array, table: Table) -> tuple[Array, Array]:
  """Piece of x in [0, 32), and the place in it."""
  limits = jnp.finfo(x.dtype)
  digits, bias = int(limits.nmant), 1 - int(limits.minexp)
  integer = jnp.int64 if x.dtype == jnp.float64 else jnp.int32
  bits = lax.bitcast_convert_type(x, integer)
  fineness = jnp.asarray(table.fineness).astype(integer)
  lowest = (
    _TOP + bias - jnp.asarray(table.octaves).astype(integer)
  ) << fineness
  piece = (bits >> (digits - fineness)) - lowest + 1
  piece = jnp.clip(piece, 0, _NUM_PIECES - 1).astype(jnp.int32)
  mantissa = ((bits << fineness) & ((1 << digits) - 1)) | (bias << digits)
  place = 2.0 * lax.bitcast_convert_type(mantissa, x.dtype) - 3.0
  return piece, jnp.where(piece == 0, x / jnp.asarray(table.edge)[1], place)


def _take(numbers: Any, piece: Array) -> Array:
  return jnp.asarray(numbers).at[piece].get(mode='promise_in_bounds')


def _polynomial(coefficients: Any, piece: Array, t: Array) -> Array:
  value = _take(coefficients[-1], piece)
  for row in range(len(coefficients) - 2, -1, -1):
    value = value * t + _take(coefficients[row], piece)
  return value


def _slopes(table: Table, coefficients: Any) -> Array:
  """Coefficients of the derivative by x."""
  power = jnp.arange(1, len(coefficients), dtype=coefficients.dtype)
  width = jnp.diff(jnp.asarray(table.edge))
  by_x = jnp.where(jnp.arange(_NUM_PIECES) == 0, 1.0, 2.0) / width
  return jnp.asarray(coefficients)[1:] * power[:, None] * by_x[None]


@jax.custom_jvp
def _piecewise(x: Array, table: Table, coefficients: Array) -> Array:
  return _polynomial(coefficients, *_locate(x, table))


@_piecewise.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  x, table, coefficients = primals
  slope = _piecewise(x, table, _slopes(table, coefficients))
  return _piecewise(*primals), slope * tangents[0]


def _horner(coefficients: Any, y: Array) -> Array:
  value = jnp.broadcast_to(coefficients[-1], y.shape)
  for i in range(len(coefficients) - 2, -1, -1):
    value = value * y + coefficients[i]
  return value


def _split(x: Array, table: Table) -> tuple[Array, Array, Array]:
  """Whether the pieces have x, x there, and x^-alpha elsewhere."""
  within = x < 2.0**_TOP
  outside = jnp.where(within, 2.0**_TOP, x)
  return (
    within,
    jnp.where(within, x, 0.0),
    jnp.power(outside, -jnp.asarray(table.alpha)),
  )


@jax.custom_jvp
def _tail(x: Array, table: Table) -> Array:
  within, inside, y = _split(x, table)
  piece, t = _locate(inside, table)
  mass = _polynomial(table.mass, piece, t)
  tail = jnp.where(_is_near(inside), 0.5 - mass, mass)
  tail = jnp.where(within, tail, y * _horner(table.series, y))
  return jnp.where(jnp.isnan(x), x, tail)


@_tail.defjvp
def _(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
  return _tail(*primals), -_density(*primals) * tangents[0]


def _outside(table: Table) -> Array:
  """Coefficients of x^(alpha + 1) times the density, in x^-alpha."""
  terms = jnp.arange(1, _NUM_TERMS + 1, dtype=table.series.dtype)
  return jnp.asarray(table.alpha) * terms * jnp.asarray(table.series)


def _density(x: Array, table: Table) -> Array:
  within, inside, y = _split(x, table)
  beyond = y / jnp.where(within, 2.0**_TOP, x) * _horner(_outside(table), y)
  density = _piecewise(inside, table, jnp.asarray(table.density))
  return jnp.where(jnp.isnan(x), x, jnp.where(within, density, beyond))


def _log_density(x: Array, table: Table) -> Array:
  within, inside, y = _split(x, table)
  density = _piecewise(inside, table, jnp.asarray(table.density))
  density = jnp.where(within, density, _horner(_outside(table), y))
  power = (jnp.asarray(table.alpha) + 1.0) * jnp.log(jnp.where(within, 1.0, x))
  value = jnp.log(density) - power
  return jnp.where(jnp.isnan(x), x, value)


def _quantile(excess: Array, tail: Array, table: Table) -> Array:
  """Newton's method within one piece, or on the series."""
  key = jnp.asarray(table.key)
  one = 1 + ((table.octaves - _TOP) << table.fineness)
  inverse = 1.0 / tail
  is_near = inverse < key[one]
  place = jnp.searchsorted(
    key,
    jnp.where(is_near, excess, inverse),
    side='right',
    method='scan_unrolled',
  )
  within = place < key.size
  piece = jnp.clip(place - 1, 0, _NUM_PIECES - 1)
  inside = _in_piece(jnp.where(is_near, excess, tail), piece, table)
  y = _on_series(jnp.where(within, 1.0 / key[-1], tail), table)
  return jnp.where(within, inside, y ** (-1.0 / jnp.asarray(table.alpha)))


def _in_piece(target: Array, piece: Array, table: Table) -> Array:
  """The x of a piece where its mass is `target`."""
  coefficients = [_take(row, piece) for row in table.mass]
  t = jnp.zeros_like(target)
  for _ in range(_NEWTON):
    t = t - _newton_step(coefficients, t, target)
  edge = jnp.asarray(table.edge)
  low, width = _take(edge[:-1], piece), _take(jnp.diff(edge), piece)
  return jnp.where(piece == 0, t * width, low + 0.5 * (1.0 + t) * width)


def _on_series(target: Array, table: Table) -> Array:
  """The x^-alpha where P(X > x) is `target`."""
  coefficients = [0.0, *table.series]
  y = target / coefficients[1]
  for _ in range(_NEWTON + 1):
    y = y - _newton_step(coefficients, y, target)
  return y


def _newton_step(coefficients: Any, t: Array, target: Array) -> Array:
  value, slope = coefficients[-1], 0.0
  for c in coefficients[-2::-1]:
    slope = slope * t + value
    value = value * t + c
  return (value - target) / slope
