"""Pruning of singular values, and layers stored as two thin factors."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from htjax import parts
from htjax.checks import checked, is_concrete
from htjax.compressibility import AllBut, Kept, check_kappa, kept_count
from htjax.compressibility.counts import kept_fraction
from htjax.floats import times_power_of_two, to_unit_peak
from htjax.host import is_spread, on_host, placed_freely, to_device
from htjax.pruning.centers import check_center, find_center, stored_medians
from htjax.pruning.magnitudes import CountKept
from htjax.pruning.results import (
  Pruned,
  check_scalar,
  choose,
  in_unit_interval,
)
from htjax.selection import Selection
from htjax.types import Array, PyTree
from htjax.units import Given

# Up to this share of the values their Gram matrix is the faster way.
_FEW = 0.3


class SingularValueCounts(NamedTuple):
  """Sizes of layers that keep some of their singular values.

  Attributes:
    values: int32 [], singular values kept.
    triples: int32 [], parameters of the values and their two vectors, h + h' +
      1 for each, as the paper's text counts.
    vectors: int32 [], parameters with the values absorbed in the vectors, h +
      h' for each, as the authors' program counts and `thin_factors` stores.
    total: int32 [], entries of the selected leaves. Either count exceeds it
      where many values are kept.
  """

  values: Array
  triples: Array
  vectors: Array
  total: Array


class ThinFactors(NamedTuple):
  """One layer as two, with nothing between them.

  Attributes:
    left: [fan_in, k], or the kernel of a convolution to k channels.
    right: [k, fan_out], or the kernel of a convolution from k channels. One of
      the two convolutions is 1 by 1, and needs no padding.
  """

  left: Array
  right: Array

  def dense(self) -> Array:
    """The layer's kernel, [fan_in, fan_out] or [h, w, in, out]."""
    return jnp.matmul(self.left, self.right, precision=lax.Precision.HIGHEST)


class Factored(NamedTuple):
  """Parameters with layers stored as two thin factors.

  Attributes:
    params: the parameters, with `ThinFactors` in place of selected leaves.
    kept: numbers in the factors of the selected leaves.
    total: entries of the selected leaves before.
    bytes_before: bytes of all leaves before.
    bytes_after: bytes of all leaves after.
  """

  params: PyTree
  kept: int
  total: int
  bytes_before: int
  bytes_after: int


@checked
def singular_values(
  params: PyTree,
  kappa: Kept,
  *,
  center: str | None = None,
  protocol: str = 'paper',
  select: Selection = None,
  units: Given = None,
  rounding: str = 'ceil',
) -> Pruned:
  """Keep the fraction kappa of the singular values of each leaf, the largest.

  Args:
    params: pytree of arrays.
    kappa: kept fraction in (0, 1] of the min(h, h') singular values of a leaf
      that is a matrix of h by h'; traced. All of them are computed.
    center: 'median' takes medians off before and adds them after.
    protocol: 'paper' counts the values beside the vectors, k (h + h' + 1), and
      one median a layer; a convolution [a, b, in, out] is the matrix [in, a b
      out]. 'authors' counts k (h + h') and no median, takes one median for
      each input (and position in the kernel), and the matrix is [a b in, out].
    select: which leaves; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.
    rounding: 'ceil' or 'floor' of kappa min(h, h').

  Returns:
    Pruned: dense leaves of lower rank, whose masks are all True; `kept` is the
    number of parameters of the factors, so that `ratio` is negative where many
    values are kept. Nothing is smaller in memory before `thin_factors`. A leaf
    that keeps all its values is returned as it came, but counted in factors.

  Raises:
    ValueError: as `htjax.pruning.magnitude`.

  Values: traced NaN or infinity makes a leaf NaN, as does a traced kappa
    outside [0, 1].

  Source: [HT], Theorem 2 and supplement S1.5. There the fraction is of h',
    which is the number of values only where h' <= h.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> params = {'w': jnp.diag(jnp.array([3.0, 2.0, 1.0]))}
    >>> pruned = pruning.singular_values(params, 1 / 3)
    >>> [f'{w:.2f}' for w in jnp.diag(pruned.params['w'])]
    ['3.00', '0.00', '0.00']
  """
  check_kappa(kappa)
  check_scalar('kappa', kappa)
  return prune_values(
    params,
    lambda values: kept_count(kappa, values.size, rounding),
    kappa,
    rank=lambda size: kept_count(kappa, size, rounding),
    center=center,
    protocol=protocol,
    select=select,
    units=units,
  )


@checked
def singular_value_counts(
  params: PyTree,
  kappa: Kept,
  *,
  protocol: str = 'paper',
  select: Selection = None,
  units: Given = None,
  rounding: str = 'ceil',
) -> SingularValueCounts:
  """Both counts of what `singular_values` keeps, without medians.

  Args:
    params: pytree of arrays.
    kappa: kept fraction in (0, 1] of the singular values, traced.
    protocol: which matrix a convolution [a, b, in, out] is: 'paper' [in, a b
      out], 'authors' [a b in, out].
    select: which leaves; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.
    rounding: 'ceil' or 'floor' of kappa min(h, h').

  Returns:
    SingularValueCounts; meaningless where a traced kappa is not in [0, 1].

  Raises:
    ValueError: as `singular_values`.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> counts = pruning.singular_value_counts({'w': jnp.ones((6, 4))}, 0.5)
    >>> int(counts.values), int(counts.triples), int(counts.vectors)
    (2, 22, 20)
  """
  check_kappa(kappa)
  check_scalar('kappa', kappa)
  check_center(None, protocol)
  leaves = choose(params, select, units=units).wide
  shapes = [_matrix_shape(w.shape, protocol) for w in leaves]
  ranks = [kept_count(kappa, min(shape), rounding) for shape in shapes]
  return _counts(shapes, ranks)


@checked
def thin_factors(
  params: PyTree,
  kappa: float | AllBut,
  *,
  center: str | None = None,
  protocol: str = 'paper',
  select: Selection = None,
  units: Given = None,
  rounding: str = 'ceil',
) -> Factored:
  """`singular_values` as really smaller arrays: two thin factors a layer.

  x @ left @ right is the pruned layer's x @ kernel; for convolutions, one
  after the other. With `center` the factors have one column (row) more, for
  the medians.

  Args:
    params: pytree of arrays.
    kappa: kept fraction in (0, 1] of the singular values, concrete: it sets
      the shapes.
    center: 'median' takes medians off before and adds them after; None takes
      the leaves as they are.
    protocol: 'paper' or 'authors'. A convolution [a, b, in, out] becomes a 1
      by 1 convolution to k channels and one by a, b ('paper'), or one by a, b
      to k channels and a 1 by 1 convolution ('authors').
    select: which leaves; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.
    rounding: 'ceil' or 'floor' of kappa min(h, h').

  Returns:
    Factored. A layer is smaller than before where k < h h' / (h + h').

  Raises:
    ValueError: kappa not concrete; otherwise as `singular_values`.

  Source: [HT], Theorem 2 and supplement S1.5.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> factored = pruning.thin_factors({'w': jnp.ones((8, 6))}, 1 / 6)
    >>> factors = factored.params['w']
    >>> factors.left.shape, factors.right.shape, factored.kept
    ((8, 1), (1, 6), 14)
    >>> bool(jnp.allclose(factors.dense(), 1, atol=1e-5))
    True
  """
  if not is_concrete(kept_fraction(kappa)):
    raise ValueError(
      'kappa must be concrete, since it sets shapes, got a tracer'
    )
  check_kappa(kappa)
  check_scalar('kappa', kappa)
  check_center(center, protocol)
  chosen = choose(params, select, units=units)
  factors = []
  for view, wide in zip(chosen.views, chosen.wide, strict=True):
    if not view.is_whole:
      raise ValueError(
        'thin_factors takes leaves [.., fan_in, fan_out], got one of shape '
        f'{jnp.shape(chosen.leaves[view.place])} that stacks layers or has '
        'other axes; leave it out with `select`'
      )
    leaf, exponent = to_unit_peak(wide)
    middle = find_center(leaf, center, protocol, 'singular_values')
    size = min(_matrix_shape(leaf.shape, protocol))
    k = int(kept_count(kappa, size, rounding))
    pair = _factors(leaf, middle, k, protocol, center is not None)
    # The left factor holds the medians, beside ones in the right one.
    exponents = (exponent // 2, -(-exponent // 2))
    if center:
      exponents = (exponent, 0 * exponent)
    dtype = chosen.leaves[view.place].dtype
    parts = (
      times_power_of_two(f, e).astype(dtype)
      for f, e in zip(pair, exponents, strict=True)
    )
    factors.append(ThinFactors(*parts))
  smaller = chosen.unflatten(factors)
  return Factored(
    smaller,
    kept=sum(f.left.size + f.right.size for f in factors),
    total=sum(w.size for w in chosen.wide),
    bytes_before=num_bytes(params),
    bytes_after=num_bytes(smaller),
  )


def prune_values(
  params: PyTree,
  count: CountKept,
  amount: Kept,
  *,
  center: str | None,
  protocol: str,
  select: Selection,
  units: Given,
  rank: Callable[[int], Any] | None = None,
) -> Pruned:
  """Keep in each leaf as many of the largest singular values as `count` says.

  Args:
    params: pytree of arrays.
    count: from a leaf's singular values, how many to keep.
    amount: in [0, 1], or else the selected leaves become NaN.
    center: None or 'median'.
    protocol: 'paper' or 'authors'.
    select: which leaves; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.
    rank: how many of so many values, if `count` only looks at their number.

  Returns:
    Pruned.
  """
  check_center(center, protocol)
  chosen = choose(params, select, units=units)
  values, shapes, ranks = [], [], []
  for given in chosen.wide:
    leaf = placed_freely(given) if is_spread(given) else given
    scaled, exponent = to_unit_peak(leaf)
    middle = find_center(scaled, center, protocol, 'singular_values')
    shapes.append(_matrix_shape(leaf.shape, protocol))
    if _stays(leaf, amount):
      matrix, kept = _of_parts(scaled, middle, count)
    else:
      matrix, kept = _leading(scaled, middle, protocol, rank)
    if matrix is None:
      u, s, vt = _svd(scaled, middle, protocol)
      kept = jnp.asarray(count(s), jnp.int32)
      matrix = _truncated(u, s, vt, kept)
    ranks.append(kept)
    approximation = _from_matrix(matrix, leaf.shape, protocol) + middle
    approximation = times_power_of_two(approximation, exponent)
    value = jnp.where(kept == min(shapes[-1]), leaf, approximation)
    if is_spread(given):
      value = jax.device_put(value, given.sharding)
    values.append(value)
  counts = _counts(shapes, ranks)
  kept = counts.vectors if protocol == 'authors' else counts.triples
  lost = [k < min(shape) for k, shape in zip(ranks, shapes, strict=True)]
  return chosen.rewritten(
    values,
    [jnp.ones_like(w, bool) for w in chosen.wide],
    kept + stored_medians(center, protocol, lost),
    in_unit_interval(amount),
  )


def num_bytes(tree: PyTree) -> int:
  """Bytes of all leaves of a pytree of arrays."""
  return sum(jnp.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree))


def _counts(
  shapes: list[tuple[int, int]], ranks: list[Any]
) -> SingularValueCounts:
  def total(sizes: list[int]) -> Array:
    terms = [k * n for k, n in zip(ranks, sizes, strict=True)]
    return jnp.sum(jnp.asarray(terms), dtype=jnp.int32)

  return SingularValueCounts(
    values=total([1] * len(shapes)),
    triples=total([h + w + 1 for h, w in shapes]),
    vectors=total([h + w for h, w in shapes]),
    total=jnp.int32(sum(h * w for h, w in shapes)),
  )


def _matrix_shape(shape: tuple[int, ...], protocol: str) -> tuple[int, int]:
  if protocol == 'authors':
    return math.prod(shape[:-1]), shape[-1]
  return shape[-2], math.prod(shape) // shape[-2]


def _to_matrix(leaf: Array, protocol: str) -> Array:
  first = leaf if protocol == 'authors' else jnp.moveaxis(leaf, -2, 0)
  return first.reshape(_matrix_shape(leaf.shape, protocol))


def _from_matrix(matrix: Array, shape: tuple[int, ...], protocol: str) -> Array:
  if protocol == 'authors':
    return matrix.reshape(shape)
  moved = matrix.reshape(shape[-2], *shape[:-2], shape[-1])
  return jnp.moveaxis(moved, 0, -2)


@functools.partial(jax.jit, static_argnames='protocol')
def _svd(leaf: Array, middle: Array, protocol: str) -> Any:
  return jnp.linalg.svd(
    _to_matrix(leaf - middle, protocol), full_matrices=False
  )


def _leading(
  leaf: Array,
  middle: Array,
  protocol: str,
  rank: Callable[[int], Any] | None,
) -> tuple[Any, Any]:
  """The matrix of few leading values, and how many; (None, None) if many.

  By the eigenvectors of the smaller Gram matrix, in float64: they cost a part
  of the decomposition where few are kept. None also where rounding in the Gram
  matrix might cost more of the error than the matrix's dtype resolves.
  """
  size = min(_matrix_shape(leaf.shape, protocol))
  kept = None if rank is None else rank(size)
  if kept is None or not on_host(leaf, middle, kept):
    return None, None
  k = int(kept)
  if not 0 < k <= _FEW * size:
    return None, None
  from scipy import linalg

  matrix = np.asarray(_to_matrix(leaf - middle, protocol))
  tall = matrix.shape[0] > matrix.shape[1]
  wide = (matrix.T if tall else matrix).astype(np.float64)
  gram = np.matmul(wide, wide.T)
  squares, vectors = linalg.eigh(
    gram, subset_by_index=[size - k, size - 1], check_finite=False
  )
  # Rounding moves k eigenvalues by no more, and what is left out by twice that.
  whole = np.trace(gram)
  lost = 2 * k * wide.shape[1] * np.finfo(np.float64).eps * whole
  if not lost <= np.finfo(matrix.dtype).eps * (whole - np.sum(squares)):
    return None, None
  near = np.matmul(vectors, np.matmul(vectors.T, wide))
  return to_device(near.T if tall else near, matrix.dtype), jnp.int32(k)


def _stays(leaf: Array, amount: Kept) -> bool:
  """Whether a leaf is pruned where it lies, in parts on several devices.

  Its longer side has to divide among them. What Gram matrices lose in float64
  is less than float32 resolves.
  """
  if not (is_spread(leaf) and is_concrete(kept_fraction(amount))):
    return False
  if leaf.ndim != 2 or leaf.dtype != jnp.float32:
    return False
  mesh, spec = parts.layout(leaf)
  num = math.prod(mesh.shape[name] for name in parts.axes_of(spec))
  return max(leaf.shape) % num == 0


def _of_parts(leaf: Array, middle: Array, count: CountKept) -> Any:
  """The matrix of the leading values, in place, and how many they are.

  Rows of the longer side are brought together, each device having as many
  entries as before; the Gram matrix of the shorter side is on all of them.
  """
  with jax.enable_x64(True):
    gram = parts.here(_gram_of_parts(leaf, middle, leaf.sharding))
    xp: Any = np if on_host(gram) else jnp
    squares, vectors = xp.linalg.eigh(gram)
  values = xp.sqrt(xp.maximum(squares[::-1], 0)).astype(leaf.dtype)
  kept = jnp.asarray(count(jnp.asarray(values)), jnp.int32)
  with jax.enable_x64(True):
    vectors = vectors[:, len(gram) - int(kept) :]
    near = xp.matmul(vectors, vectors.T)
    return _times(leaf, middle, near, leaf.sharding), kept


@functools.partial(jax.jit, static_argnames='place')
def _gram_of_parts(leaf: Array, middle: Array, place: NamedSharding) -> Array:
  """The Gram matrix of the shorter side, float64, on all devices."""
  matrix = _by_longer_side(leaf - middle, place).astype(jnp.float64)
  form = 'ni,nj->ij' if leaf.shape[0] >= leaf.shape[1] else 'in,jn->ij'
  gram = jnp.einsum(form, matrix, matrix)
  whole = NamedSharding(place.mesh, PartitionSpec())
  return lax.with_sharding_constraint(gram, whole)


@functools.partial(jax.jit, static_argnames='place')
def _times(
  leaf: Array, middle: Array, near: Array, place: NamedSharding
) -> Array:
  """The matrix times a square one on its shorter side, where it lies."""
  matrix = _by_longer_side(leaf - middle, place).astype(jnp.float64)
  tall = leaf.shape[0] >= leaf.shape[1]
  found = jnp.matmul(*((matrix, near) if tall else (near, matrix)))
  found = _by_longer_side(found.astype(leaf.dtype), place)
  return lax.with_sharding_constraint(found, place)


def _by_longer_side(matrix: Array, place: NamedSharding) -> Array:
  """Split along the longer side alone, over the devices that have it."""
  names = parts.axes_of(place.spec)
  tall = matrix.shape[0] >= matrix.shape[1]
  spec = PartitionSpec(*((names, None) if tall else (None, names)))
  return lax.with_sharding_constraint(matrix, NamedSharding(place.mesh, spec))


@jax.jit
def _truncated(u: Array, s: Array, vt: Array, k: Array) -> Array:
  kept = jnp.where(jnp.arange(s.size) < k, s, 0)
  return jnp.matmul(u * kept[None, :], vt, precision=lax.Precision.HIGHEST)


def _factors(
  leaf: Array, middle: Array, k: int, protocol: str, centered: bool
) -> tuple[Array, Array]:
  u, s, vt = _svd(leaf, middle, protocol)
  root = jnp.sqrt(s[:k])
  left, right = u[:, :k] * root[None, :], root[:, None] * vt[:k]
  if centered:
    column = jnp.broadcast_to(middle, (*leaf.shape[:-1], 1)).reshape(-1)
    column = column[: left.shape[0], None]
    left = jnp.concatenate([left, column], axis=1)
    right = jnp.concatenate([right, jnp.ones_like(vt[:1])], axis=0)
  k = left.shape[1]
  ones = (1,) * (leaf.ndim - 2)
  if protocol == 'authors':
    return left.reshape(*leaf.shape[:-1], k), right.reshape(*ones, k, -1)
  kernel = _from_matrix(right, (*leaf.shape[:-2], k, leaf.shape[-1]), protocol)
  return left.reshape(*ones, -1, k), kernel
