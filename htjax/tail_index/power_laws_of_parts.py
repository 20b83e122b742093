"""Power laws of values that are spread over devices, and sorted there.

All is float64, as on the host. Sums up to a rank, counts and largest distances
are sent: a few numbers of each candidate for a threshold.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from htjax import parts
from htjax.types import Array

# Candidates whose distances are found together.
_TOGETHER = 16


class Fit(NamedTuple):
  """A power law in float64, each [] or, of the number, int64 []."""

  alpha: Array
  num: Array
  xmin: Array
  ks_distance: Array


class _Part(NamedTuple):
  """Part of the descending values that a device has.

  Attributes:
    y: its values, float64.
    before: how many values are before them.
    names: axes of the mesh that split the values.
  """

  y: Array
  before: Array
  names: parts.Axes

  def num_from(self, xmin: Array) -> Array:
    """Number of all values that are at least so large."""
    own = jnp.searchsorted(-self.y, -xmin, side='right')
    return lax.psum(own, self.names)

  def at(self, ranks: Array) -> Array:
    """The values of so many ranks, from 1 on."""
    found, is_here = self.own(ranks)
    return lax.psum(jnp.where(is_here, found, 0), self.names)

  def own(self, ranks: Array) -> tuple[Array, Array]:
    """Values of ranks, and whether they lie here."""
    place = ranks - 1 - self.before
    inside = (place >= 0) & (place < self.y.size)
    return self.y[jnp.clip(place, 0, self.y.size - 1)], inside


def search(y: Array, ranks: np.ndarray, num_quantiles: int) -> Fit:
  """The fit from that of the values of some ranks which is closest to its tail.

  Args:
    y: [n], descending, spread over devices.
    ranks: [c], of the thresholds to try, from 1 on.
    num_quantiles: of each tail, at which the distance is looked at.

  Returns:
    Fit, on one device of each host; its xmin is NaN where no threshold is one.
  """
  with jax.enable_x64(True):
    found = _search(y, np.asarray(ranks), num_quantiles, *parts.layout(y))
    return parts.here(found)


def fit(y: Array, xmin: Any) -> Fit:
  """The power law for the descending y from xmin on."""
  with jax.enable_x64(True):
    found = _fit(y, np.float64(xmin), *parts.layout(y))
    return parts.here(found)


@functools.partial(jax.jit, static_argnames=('num_quantiles', 'mesh', 'spec'))
def _search(
  y: Array,
  ranks: Array,
  num_quantiles: int,
  mesh: Mesh,
  spec: PartitionSpec,
) -> Fit:
  def kernel(y: Array, ranks: Array) -> Fit:
    part = _part(y, spec)
    xmins = part.at(ranks)
    nums = part.num_from(xmins)
    alphas = nums / _excess(part, nums)
    found = _distances(part, nums, xmins, alphas, num_quantiles)
    usable = (xmins > 0) & jnp.isfinite(alphas) & jnp.isfinite(found)
    best = jnp.argmin(jnp.where(usable, found, jnp.inf))
    return _of_part(part, jnp.where(usable[best], xmins[best], jnp.nan))

  return parts.on_parts(kernel, mesh, spec, y, ranks)


@functools.partial(jax.jit, static_argnames=('mesh', 'spec'))
def _fit(y: Array, xmin: Array, mesh: Mesh, spec: PartitionSpec) -> Fit:
  def kernel(y: Array, xmin: Array) -> Fit:
    return _of_part(_part(y, spec), xmin)

  return parts.on_parts(kernel, mesh, spec, y, xmin)


def _part(y: Array, spec: PartitionSpec) -> _Part:
  names = parts.axes_of(spec)
  before = lax.axis_index(names).astype(jnp.int64) * y.size
  return _Part(y.astype(jnp.float64), before, names)


def _excess(part: _Part, nums: Array) -> Array:
  """Sums over i <= num of log(y_i / y_num), as `log_excess_sums_at` has them.

  Where equal values alone are summed, they are 0.
  """
  last = lax.psum(1, part.names) - 1
  following = lax.ppermute(
    part.y[:1], part.names, [(i + 1, i) for i in range(last)]
  )
  me = lax.axis_index(part.names)
  following = jnp.where(me == last, part.y[-1:], following)
  below = jnp.concatenate([part.y[1:], following])
  safe = jnp.where(below > 0, below, 1)
  steps = jnp.where(below > 0, jnp.log1p((part.y - below) / safe), 0)
  steps *= part.before + jnp.arange(1, part.y.size + 1)
  growing = jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])
  own = jnp.clip(nums - 1 - part.before, 0, part.y.size)
  return lax.psum(growing[own], part.names)


def _distances(
  part: _Part, nums: Array, xmins: Array, alphas: Array, num_quantiles: int
) -> Array:
  """Distances of the fits to their tails, at quantiles of each."""
  quantile = jnp.arange(1, num_quantiles + 1)

  def distance(candidate: tuple[Array, Array, Array]) -> Array:
    num, xmin, alpha = candidate
    rank = -(-num * quantile // num_quantiles)
    y, is_here = part.own(rank)
    above = jnp.exp(-alpha * jnp.log(y / xmin))
    gap = jnp.abs(above - rank / num)
    before = jnp.abs(above - (rank - 1) / num)
    return jnp.max(jnp.where(is_here, jnp.maximum(gap, before), 0))

  found = lax.map(distance, (nums, xmins, alphas), batch_size=_TOGETHER)
  return lax.pmax(found, part.names)


def _of_part(part: _Part, xmin: Array) -> Fit:
  num = part.num_from(xmin)
  rank = part.before + jnp.arange(1, part.y.size + 1)
  inside = rank <= num
  excess = jnp.where(inside, jnp.log(jnp.where(inside, part.y, xmin) / xmin), 0)
  total = lax.psum(jnp.sum(excess), part.names)
  valid = (num >= 2) & (xmin > 0) & (total > 0)
  alpha = jnp.where(valid, num / jnp.where(valid, total, 1), jnp.nan)
  above = jnp.exp(-alpha * excess)
  gap = jnp.maximum(jnp.abs(above - rank / num), above - (rank - 1) / num)
  gap = jnp.max(jnp.where(inside, gap, 0))
  distance = jnp.where(valid, lax.pmax(gap, part.names), jnp.nan)
  return Fit(alpha, num, xmin, distance)
