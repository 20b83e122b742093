"""Tail indices of the weights of a network: the papers' protocol, and a table.

A leaf is [fan_in, fan_out], or [.., in, out] for a convolution. Its vectors are
what the estimators of vectors take as independent samples: the incoming weights
of a unit, or one kernel of a convolution.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Float

from htjax import compressibility, parts
from htjax.checks import (
  check_choice,
  check_count,
  check_finite,
  check_key,
  checked,
  is_concrete,
)
from htjax.compressibility import pruning_ratio, smallest_kappa
from htjax.compressibility.errors import ascending, kappas_of
from htjax.compressibility.host_costs import Removal
from htjax.floats import as_working, times_power_of_two, to_unit_peak
from htjax.host import (
  Working,
  is_spread,
  median,
  on_host,
  placed_freely,
  to_device,
  top,
)
from htjax.selection import Selection, path_components, resolve
from htjax.tail_index.block_sums import (
  host_max_ratio,
  max_ratio,
  mmo,
  mmo_at,
  mmo_univariate,
)
from htjax.tail_index.estimate import (
  TailEstimate,
  check_cap,
  known_where,
  make_estimate,
  working_samples,
)
from htjax.tail_index.order_statistics import (
  de_haan_resnick,
  de_haan_resnick_of,
  hill,
  hill_of,
  moment,
  moment_of,
  of_sorted,
  pickands,
  pickands_of,
)
from htjax.tail_index.power_laws import power_law, power_law_of_sorted
from htjax.tail_index.stable_fit import stable_mle
from htjax.types import Array, ArrayLike, PRNGKey, PyTree
from htjax.units import (
  Given,
  Leaf,
  View,
  default_flags,
  describe,
  views_of,
)

SAMPLES = ('units', 'inputs')
_PERMUTATIONS = 5
_SIZES = (2, 5, 10, 20, 50, 100, 500, 1000)
# With fewer units than this, a matrix has too few vectors to sum in blocks.
_FEW_UNITS = 128

_BLOCK_SUMS: dict[str, Callable[[Array, int], TailEstimate]] = {
  'mmo': mmo,
  'mmo_univariate': mmo_univariate,
  'max_ratio': max_ratio,
}
_ORDER_STATISTICS: dict[str, Callable[[Array, int], TailEstimate]] = {
  'hill': hill,
  'moment': moment,
  'pickands': pickands,
  'de_haan_resnick': de_haan_resnick,
}
ESTIMATORS = (*_BLOCK_SUMS, *_ORDER_STATISTICS)
_OF_SORTED = {
  'hill': hill_of,
  'moment': moment_of,
  'pickands': pickands_of,
  'de_haan_resnick': de_haan_resnick_of,
}
# From this size on an iteration is faster than all eigenvalues.
_LANCZOS = 64
# Least number of random bits that are drawn at a time, and the factor between
# such numbers: few programs serve layers of all sizes.
_LEAST_BITS = 4096
_BITS_RATIO = 8


@checked
def layer_samples(
  leaf: Float[ArrayLike, '... fan_in fan_out'], samples: str = 'units'
) -> Float[Array, 'num_vectors dim']:
  """The vectors of a leaf, each coordinate centred by its median.

  Args:
    leaf: [fan_in, fan_out], or [.., in, out] for a convolution.
    samples: 'units' for the columns of a matrix, 'inputs' for its rows, which
      the paper takes for the last layer; static. The vectors of a convolution
      are its in * out kernels either way.

  Returns:
    Array [num_vectors, dim]: [fan_out, fan_in], [fan_in, fan_out] or
    [in * out, kernel], kernels ordered by output first. Medians are over
    vectors.

  Raises:
    ValueError: leaf of rank below 2, empty or complex; unknown samples.

  Values: NaN makes its coordinate NaN.

  Source: [HT], section 5 and the authors' code.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import tail_index
    >>> tail_index.layer_samples(jnp.ones((64, 10))).shape  # matrix
    (10, 64)
    >>> tail_index.layer_samples(jnp.ones((3, 3, 4, 8))).shape  # convolution
    (32, 9)
  """
  check_choice('samples', samples, SAMPLES)
  vectors = _vectors(leaf, samples)
  return to_device(vectors) if on_host(vectors) else vectors


def _vectors(leaf: ArrayLike, samples: str) -> Working:
  """`layer_samples`, of NumPy where that is to do the work."""
  leaf = _of_rank_2(as_working('leaf', leaf))
  if is_spread(leaf):
    leaf = placed_freely(leaf)
  leaf, exponent = to_unit_peak(leaf)
  axis = 0 if samples == 'units' else 1
  if _splits(leaf, axis):
    return times_power_of_two(
      _by_coordinates(leaf, axis, leaf.sharding), exponent
    )
  if leaf.ndim == 2:
    vectors = leaf.T if samples == 'units' else leaf
  else:
    vectors = leaf.reshape(-1, *leaf.shape[-2:]).transpose(2, 1, 0)
    vectors = vectors.reshape(-1, vectors.shape[-1])
  if on_host(vectors):
    middle = median(np.ascontiguousarray(vectors.T))
    centred: Any = np.array(vectors, order='C')
    centred -= middle
  else:
    centred = vectors - jnp.median(vectors, axis=0)[None, :]
  return times_power_of_two(centred, exponent)


def _splits(leaf: Working, axis: int) -> bool:
  """Whether a matrix on several devices can be split along one of its axes."""
  if not is_spread(leaf) or leaf.ndim != 2:
    return False
  mesh, spec = parts.layout(leaf)
  num = math.prod(mesh.shape[name] for name in parts.axes_of(spec))
  return leaf.shape[axis] % num == 0


@functools.partial(jax.jit, static_argnames=('axis', 'place'))
def _by_coordinates(leaf: Array, axis: int, place: NamedSharding) -> Array:
  """Centred vectors, each device having some coordinates of all of them.

  Medians, permutations and sums of vectors are then made where they lie.
  """
  names = parts.axes_of(place.spec)
  spec = PartitionSpec(*((names, None) if axis == 0 else (None, names)))
  leaf = lax.with_sharding_constraint(leaf, NamedSharding(place.mesh, spec))
  vectors = leaf.T if axis == 0 else leaf
  return vectors - jnp.median(vectors, axis=0)[None, :]


def _of_rank_2(leaf: Working) -> Working:
  if leaf.ndim < 2 or leaf.size == 0:
    raise ValueError(
      f'leaf must be of rank 2 or more and not empty, got shape {leaf.shape}'
    )
  return leaf


@checked
def protocol_blocks(num: int) -> tuple[int, ...]:
  """Block sizes of the protocol for `num` samples.

  For 2, 5, 10, 20, 50, 100, 500 and 1000, up to num / 2, the largest divisor of
  num not above; then the largest divisor up to the root of num. Without 1.

  Args:
    num: number of samples, static.

  Returns:
    Distinct divisors of num, in that order.

  Raises:
    ValueError: no divisor is left.

  Source: the authors' code of [HT].

  Examples:
    >>> from htjax import tail_index
    >>> tail_index.protocol_blocks(100)
    (2, 5, 10, 20, 50)
  """
  check_count('num', num, 1)
  limits = [size for size in _SIZES if 2 * size <= num] + [math.isqrt(num)]
  divisors = [max(d for d in range(1, s + 1) if num % d == 0) for s in limits]
  blocks = tuple(d for d in dict.fromkeys(divisors) if d > 1)
  if not blocks:
    raise ValueError(
      f'the number of samples must have a divisor up to its root, got {num}'
    )
  return blocks


@checked
def layer_protocol(
  key: PRNGKey,
  leaf: ArrayLike,
  *,
  estimator: str = 'mmo',
  samples: str = 'units',
  protocol: str = 'authors',
  num_permutations: int = _PERMUTATIONS,
  cap: float | None = None,
) -> TailEstimate:
  """Tail index of a layer as the papers report it.

  Vectors centred by their medians and permuted at random; the median of the
  estimates at all block sizes of `protocol_blocks`; the median of those over
  permutations. Estimators of numbers take all entries of the centred vectors
  minus their median; those of order statistics take the block sizes as
  `num_top`, and no permutation. The model's value is the mean over layers.

  Args:
    key: typed key, for the permutations.
    leaf: [fan_in, fan_out], or [.., in, out] for a convolution.
    estimator: 'mmo', 'mmo_univariate', 'max_ratio', 'hill', 'moment',
      'pickands' or 'de_haan_resnick', static.
    samples: 'units' for the columns of a matrix, or 'inputs' for its rows,
      which the paper takes for the last layer; static.
    protocol: 'authors', as above and as their program has it; or 'paper',
      what the text says: one block size, for which we take the largest divisor
      up to the root of the number of samples, in the stored order.
    num_permutations: of 'authors', static; 0 leaves the stored order. Those
      of single entries cost a sort each.
    cap: None, or the largest alpha to return (the papers take 2), static.

  Returns:
    TailEstimate. `num_used` is the number of samples, of a prime number all but
    the last, since none divides it; the standard error and
    `p_value` are the medians over block sizes and permutations of what the
    estimator says. It says nothing of how the estimates change with the block
    size, which they do unless the law is stable.

  Raises:
    ValueError: as `layer_samples`, `protocol_blocks` and the estimator;
      unknown estimator; num_permutations < 0.

  Values: as the estimator. Zeros are left out of mean logarithms, where the
    authors' code takes them as 2e-16.

  Source: [HT], section 5, eq. (S1), and the authors' code.

  Examples:
    >>> import jax
    >>> from htjax import stable, tail_index
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> leaf = stable.sample(keys[0], 1.8, (20, 200))
    >>> estimate = tail_index.layer_protocol(keys[1], leaf, num_permutations=0)
    >>> bool(1.5 < estimate.alpha < 2.1)
    True
  """
  key = check_key(key)
  check_cap(cap)
  check_choice('estimator', estimator, ESTIMATORS)
  check_choice('protocol', protocol, ('paper', 'authors'))
  check_count('num_permutations', num_permutations, 0)
  vectors = working_samples('leaf', _vectors(leaf, samples), 2, 4)
  vectors, _ = to_unit_peak(vectors)
  if estimator != 'mmo':
    vectors = _entries(vectors).reshape(-1)
  vectors = _with_divisors(vectors)
  blocks = protocol_blocks(vectors.shape[0])
  if protocol == 'paper':
    root = math.isqrt(vectors.shape[0])
    blocks = (max(block for block in blocks if block <= root),)
    num_permutations = 0
  estimate = _over_blocks(key, vectors, estimator, blocks, num_permutations)
  return estimate if cap is None else estimate.capped(cap)


def _of_vectors(key: PRNGKey, vectors: Any) -> TailEstimate:
  """`layer_protocol` of vectors that are known, as it is by default."""
  vectors, _ = to_unit_peak(working_samples('leaf', vectors, 2, 4))
  vectors = _with_divisors(vectors)
  blocks = protocol_blocks(len(vectors))
  return _over_blocks(key, vectors, 'mmo', blocks, _PERMUTATIONS)


def _with_divisors(vectors: Working) -> Working:
  """Without the last of a prime number of samples, which has no blocks."""
  num = len(vectors)
  is_prime = all(num % d for d in range(2, math.isqrt(num) + 1))
  return vectors[:-1] if is_prime else vectors


def _over_blocks(
  key: PRNGKey,
  vectors: Any,
  estimator: str,
  blocks: tuple[int, ...],
  num_permutations: int,
) -> TailEstimate:
  """The medians over block sizes and permutations; nothing is checked."""
  num, args = len(vectors), (estimator, blocks, num_permutations)
  if on_host(vectors, key):
    known = _host_protocol(key, np.asarray(vectors), *args)
    fields = {n: to_device(x, vectors.dtype) for n, x in known.items()}
    return make_estimate(**fields, num_used=num)
  # Every concrete fault has been found, and the rest is one program.
  alpha, numbers, valid = _protocol(key, vectors, *args)
  if is_spread(vectors):
    alpha, numbers, valid = parts.here((alpha, numbers, valid))
  numbers = {n: known_where(valid[n], x) for n, x in numbers.items()}
  return make_estimate(alpha, num_used=num, **numbers)


def _entries(vectors: Working) -> Working:
  """All entries less their median; on several devices, where they lie."""
  if is_spread(vectors):
    return vectors - compressibility.median(vectors)
  entries = vectors.reshape(-1)
  if on_host(entries):
    return entries - median(entries)
  return entries - jnp.median(entries)


def _host_protocol(
  key: PRNGKey,
  vectors: Any,
  estimator: str,
  blocks: tuple[int, ...],
  num_permutations: int,
) -> dict[str, Any]:
  """`_protocol` by NumPy."""

  def at_blocks(x: Any) -> list[dict[str, Any]]:
    if estimator in ('mmo', 'mmo_univariate'):
      return mmo_at(x if x.ndim == 2 else x[:, None], blocks)
    if estimator == 'max_ratio':
      return [host_max_ratio(x, block, np) for block in blocks]
    y = top(np.abs(x), max(blocks) + 1).astype(np.float64)
    return [_OF_SORTED[estimator](y[: k + 1], k, np) for k in blocks]

  orders: Any = [slice(None)]
  if estimator in _BLOCK_SUMS and num_permutations:
    orders = permutations(key, len(vectors), num_permutations)
  with np.errstate(all='ignore'):
    table = [at_blocks(vectors[order]) for order in orders]
    alphas = [[float(known['alpha']) for known in line] for line in table]
    middle = np.median(np.median(alphas, axis=1))
    numbers: dict[str, Any] = {'alpha': middle}
    for name in ('standard_error', 'p_value'):
      values = [known.get(name, math.nan) for line in table for known in line]
      some = np.asarray(values)[~np.isnan(values)]
      numbers[name] = np.median(some) if some.size else math.nan
  return numbers


def permutations(key: PRNGKey, num: int, count: int) -> list[np.ndarray]:
  """`jax.random.permutation(fold_in(key, i), num)` for i < count, on the host.

  Made of the same random bits, of which a program draws as many for every
  `num` that is not much smaller.
  """
  threefry = str(jax.random.key_impl(key)) == 'threefry2x32'
  config: Any = jax.config
  if not (threefry and config.jax_threefry_partitionable):
    keys = (jax.random.fold_in(key, i) for i in range(count))
    return [np.asarray(jax.random.permutation(k, num)) for k in keys]
  rounds = math.ceil(3 * math.log(max(1, num)) / math.log(2**32 - 1))
  size = _LEAST_BITS
  while size < num:
    size *= _BITS_RATIO
  orders = []
  for lines in np.asarray(_bits(key, count, size)):
    order = np.arange(num)
    for bits in lines[:rounds]:
      order = order[np.argsort(bits[:num], kind='stable')]
    orders.append(order)
  return orders


@functools.partial(jax.jit, static_argnames=('count', 'size'))
def _bits(key: PRNGKey, count: int, size: int) -> Array:
  """Random bits of `count` permutations of up to 2^31 things, in 3 rounds."""

  def drawn(own: PRNGKey, _: None) -> tuple[PRNGKey, Array]:
    own, once = jax.random.split(own)
    return own, jax.random.bits(once, (size,), jnp.uint32)

  def lines(index: Array) -> Array:
    # Rolled up, since these rounds are slow to compile.
    own = jax.random.fold_in(key, index)
    return lax.scan(drawn, own, None, length=3)[1]

  return lax.map(lines, jnp.arange(count))


@functools.partial(
  jax.jit, static_argnames=('estimator', 'blocks', 'num_permutations')
)
def _protocol(
  key: PRNGKey,
  vectors: Float[Array, 'K ...'],
  estimator: str,
  blocks: tuple[int, ...],
  num_permutations: int,
) -> Any:
  kernel = (_BLOCK_SUMS | _ORDER_STATISTICS)[estimator]

  def all_blocks(x: Array) -> TailEstimate:
    estimates = [kernel(x, block) for block in blocks]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *estimates)

  if estimator in _BLOCK_SUMS and num_permutations:
    table = lax.map(
      lambda i: all_blocks(
        jax.random.permutation(jax.random.fold_in(key, i), vectors)
      ),
      jnp.arange(num_permutations),
    )
  else:
    table = jax.tree.map(lambda a: a[None, :], all_blocks(vectors))
  # NaN is for what is not known, and comes in afterwards.
  numbers = {
    'standard_error': jnp.nanmedian(table.standard_error),
    'p_value': jnp.nanmedian(table.p_value),
  }
  known = {name: ~jnp.isnan(x) for name, x in numbers.items()}
  numbers = {n: jnp.where(known[n], x, 0) for n, x in numbers.items()}
  return jnp.median(jnp.median(table.alpha, axis=1)), numbers, known


@checked
def layer_table(
  params: PyTree,
  *,
  key: PRNGKey,
  select: Selection = None,
  inputs: Selection = None,
  num_top: int | None = None,
  units: Given = None,
) -> list[dict[str, Any]]:
  """One row per layer of weights: tail indices, stable rank, pruning ratios.

  Args:
    params: pytree of concrete arrays: an `nnx.State`, the variables of a Linen
      module, or any dict.
    key: typed key, for the permutations of `layer_protocol`.
    select: which leaves, see `htjax.selection`; None is every weight and every
      embedding.
    inputs: of which leaves the rows are the vectors (the paper: the last
      layer); None is matrices with fewer than 128 columns.
    num_top: largest values for `hill`, `moment`, `pickands` and
      `de_haan_resnick`; None is 5 % of the entries, at least 8.
    units: what a unit is in each leaf, see `htjax.units`; None asks names. A
      leaf that stacks layers has a row for each, 'name[0]', 'name[1]', ..; an
      attention projection is the matrix [inputs, heads * dim].

  Returns:
    A list of dicts with the same keys in the same order, of Python values:
    'layer', 'role' (see `htjax.units`), 'shape', 'size', 'num_vectors'; for
    each of 'protocol' (`mmo` by `layer_protocol`), 'mmo', 'mmo_univariate',
    'hill', 'moment', 'pickands', 'de_haan_resnick', 'max_ratio', 'power_law',
    'stable_mle' its alpha, and its standard error under that name with '_se';
    'mmo_p', 'power_law_ks', 'stable_ks'; 'stable_rank' = |W|_F^2 / |W|_2^2 of
    the leaf as [.., fan_out], not centred;
    'rel_err_0.1', the fraction of centred entries that can go at a relative
    l_2 error of 0.1; 'sq_mass_0.1', the fraction of columns that can go at
    0.1 of the squared norm, not centred; 'note', why values are missing, or
    ''. Missing values are NaN. Print with
    `records.table(list(rows[0]), [list(r.values()) for r in rows])`.
    `mmo_univariate` and `max_ratio` take the entries in the order of the
    vectors.

  Raises:
    ValueError: no leaf selected, or a bad selection, key or num_top. What is
      wrong with one leaf becomes the note of its row.

  Source: [HT], section 5; [IC], section 5.

  Examples:
    >>> import jax
    >>> from htjax import stable, tail_index
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> params = {'hidden': stable.sample(keys[0], 1.8, (10, 100))}
    >>> (row,) = tail_index.layer_table(params, key=keys[1])
    >>> row['layer'], row['shape'], row['stable_mle_se'] > 0
    ('hidden', '10x100', True)
  """
  key = check_key(key)
  if num_top is not None:
    check_count('num_top', num_top, 2)
  flags = _chosen(select, params, units)
  if not any(flags):
    raise ValueError('select must choose at least one leaf, got none')
  rows_are_vectors = jax.tree.leaves(
    resolve(_few_units if inputs is None else inputs, params, 'inputs')
  )
  rows = []
  described = describe(units, params)
  for i, (path, array) in enumerate(jax.tree.leaves_with_path(params)):
    if not flags[i]:
      continue
    name = '.'.join(path_components(path))
    views = _views(i, described[i], jnp.shape(array))
    for view in views:
      # One layer alone draws as it did before there were others.
      own = jax.random.fold_in(key, i)
      rows.append(
        _row(
          own if len(views) == 1 else jax.random.fold_in(own, view.layer),
          name if len(views) == 1 else f'{name}[{view.layer}]',
          array,
          view,
          _samples(rows_are_vectors[i], view, inputs is None),
          num_top,
        )
      )
  return rows


def _chosen(select: Selection, params: PyTree, units: Given) -> list[bool]:
  if select is not None:
    return jax.tree.leaves(resolve(select, params))
  resolve(None, params)  # refuses an empty pytree
  described = describe(units, params)
  return [
    flag or (leaf.role == 'embedding' and bool(leaf.units))
    for flag, leaf in zip(default_flags(described), described, strict=True)
  ]


def _views(place: int, leaf: Leaf, shape: tuple[int, ...]) -> list[View]:
  """The layers of a leaf; one that is ambiguous is refused in its row."""
  return views_of(place, Leaf('other') if leaf.reason else leaf, shape)


def _samples(as_inputs: bool, view: View, by_size: bool) -> str:
  if by_size and view.leaf.is_weight:
    as_inputs = len(view.shape) == 2 and view.shape[1] < _FEW_UNITS
  return 'inputs' if as_inputs else 'units'


def _few_units(params: PyTree) -> PyTree:
  return jax.tree.map(
    lambda leaf: jnp.ndim(leaf) == 2 and jnp.shape(leaf)[1] < _FEW_UNITS, params
  )


_NAMES = (
  'protocol',
  'mmo',
  'mmo_univariate',
  'hill',
  'moment',
  'pickands',
  'de_haan_resnick',
  'max_ratio',
  'power_law',
  'stable_mle',
)
# Of what is said to have gone wrong.
_ORDER = ('stable_rank', 'rel_err_0.1', 'sq_mass_0.1', *_NAMES)


def _row(
  key: PRNGKey,
  name: str,
  leaf: Any,
  view: View,
  samples: str,
  num_top: int | None,
) -> dict[str, Any]:
  row: dict[str, Any] = {
    'layer': name,
    'role': view.leaf.role,
    'shape': 'x'.join(map(str, view.shape)),
    'size': math.prod(view.shape),
    'num_vectors': 0,
  }
  columns = [c for n in _NAMES for c in (n, f'{n}_se')]
  columns += ['mmo_p', 'power_law_ks', 'stable_ks', 'stable_rank']
  row |= dict.fromkeys([*columns, 'rel_err_0.1', 'sq_mass_0.1'], math.nan)
  row['note'] = ''
  try:
    # No column of the table depends on the unit.
    leaf, _ = to_unit_peak(_of_rank_2(_usable(leaf, view)))
  except ValueError as error:
    return row | {'note': str(error)}
  notes = dict[str, str]()
  _fill(row, notes, _leaf_calls(leaf))
  vectors = _vectors(leaf, samples)
  row['num_vectors'] = vectors.shape[0]
  # A leaf may be large: what is not needed any more goes.
  del leaf
  _fill(row, notes, _vector_calls(key, vectors))
  entries = _entries(vectors)
  del vectors
  _fill(row, notes, _entry_calls(entries, num_top))
  ordered = [notes[name] for name in _ORDER if name in notes]
  return row | {'note': '; '.join(ordered)}


def _leaf_calls(leaf: Any) -> dict[str, Callable[[], Any]]:
  """Calls for the columns of a leaf as it is."""
  return {
    'stable_rank': lambda: _stable_rank(leaf.reshape(-1, leaf.shape[-1])),
    'sq_mass_0.1': lambda: pruning_ratio(leaf, tolerance=0.1),
  }


def _vector_calls(key: PRNGKey, vectors: Any) -> dict[str, Callable[[], Any]]:
  """Calls for the columns of centred vectors."""
  return _cells(
    {
      'protocol': lambda: _of_vectors(key, vectors),
      'mmo': lambda: mmo(vectors),
    }
  )


def _entry_calls(
  entries: Any, num_top: int | None
) -> dict[str, Callable[[], Any]]:
  """Calls for the columns of single entries."""
  count = num_top or max(8, entries.size // 20)
  calls: dict[str, Callable[[], TailEstimate]] = {
    'mmo_univariate': lambda: mmo_univariate(entries),
    'stable_mle': lambda: stable_mle(entries),
    'hill': lambda: hill(entries, count),
    'moment': lambda: moment(entries, count),
    'pickands': lambda: pickands(entries, count),
    'de_haan_resnick': lambda: de_haan_resnick(entries, count),
    'max_ratio': lambda: max_ratio(entries),
    'power_law': lambda: power_law(entries),
  }

  if not on_host(entries):
    search = {'rel_err_0.1': lambda: 1 - smallest_kappa(entries, 0.1)}
    return {**_cells(calls), **search}
  sizes = functools.cache(lambda: ascending(entries))
  calls |= _of_one_sort(entries, sizes, count)
  measure = {'rel_err_0.1': lambda: _share_that_goes(sizes())}
  return {**_cells(calls), **measure}


def _of_one_sort(
  entries: Any, sizes: Callable[[], Any], num_top: int
) -> dict[str, Callable[[], TailEstimate]]:
  """The estimates that need no more of the entries than their sorted sizes."""

  def at_top(kernel: Callable[..., dict[str, Any]]) -> TailEstimate:
    working_samples('x', entries, 1, num_top + 1)
    return of_sorted(kernel, sizes()[::-1], num_top)

  def searched() -> TailEstimate:
    working_samples('x', entries, 1, 10)
    return power_law_of_sorted(sizes()[::-1])

  names = tuple(_OF_SORTED)
  return {n: functools.partial(at_top, _OF_SORTED[n]) for n in names} | {
    'power_law': searched
  }


def _share_that_goes(ascending: Any) -> Any:
  """1 - `smallest_kappa` at a relative error of 0.1, of sorted magnitudes."""
  bound = np.asarray(0.1, ascending.dtype)
  kappa = kappas_of(Removal(ascending, 2), bound)
  return 1 - kappa.astype(ascending.dtype)


def _fill(
  row: dict[str, Any],
  notes: dict[str, str],
  calls: dict[str, Callable[[], Any]],
) -> None:
  """Put what each call gives into the row, and what went wrong into notes."""
  for name, call in calls.items():
    try:
      value = call()
    except ValueError as error:
      notes[name] = f'{name}: {error}'
      continue
    row.update(value if isinstance(value, dict) else {name: float(value)})


_FITS = {
  'mmo': ('mmo_p', 'p_value'),
  'power_law': ('power_law_ks', 'ks_distance'),
  'stable_mle': ('stable_ks', 'ks_distance'),
}


def _cells(
  calls: dict[str, Callable[[], TailEstimate]],
) -> dict[str, Callable[[], Any]]:
  return {name: _to_cells(name, call) for name, call in calls.items()}


def _to_cells(
  name: str, call: Callable[[], TailEstimate]
) -> Callable[[], dict[str, float]]:
  def cells() -> dict[str, float]:
    estimate = call()
    fields = {name: 'alpha', f'{name}_se': 'standard_error'}
    fields |= dict([_FITS[name]]) if name in _FITS else {}
    return {k: float(getattr(estimate, f)) for k, f in fields.items()}

  return cells


def _usable(leaf: Any, view: View) -> Any:
  """The layer as floating numbers, finite and not constant."""
  if not is_concrete(leaf):
    raise ValueError('leaf must be concrete, got a traced array')
  leaf = view.of(as_working('leaf', leaf))
  if leaf.size == 0:
    raise ValueError(f'leaf must not be empty, got shape {leaf.shape}')
  if is_spread(leaf):
    leaf = placed_freely(leaf)
    check_finite('leaf', leaf)
    low, high = float(jnp.min(leaf)), float(jnp.max(leaf))
    if low == high:
      raise ValueError(f'leaf must not be constant, got only {low:g}')
    return leaf
  values = np.asarray(leaf)
  if not np.all(np.isfinite(values)):
    raise ValueError('leaf must be finite, got NaN or infinity')
  first = values.flat[0]
  if np.all(values == first):
    raise ValueError(f'leaf must not be constant, got only {first:g}')
  return leaf


def _stable_rank(matrix: Any) -> Any:
  """|W|_F^2 / |W|_2^2, from the eigenvalues of the smaller Gram matrix."""
  if not on_host(matrix):
    return _device_stable_rank(matrix)
  matrix = np.asarray(matrix)
  peak = np.max(np.abs(matrix))
  if not 1e-6 < peak < 1e6:
    matrix = matrix / peak
  wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
  gram = np.matmul(wide, wide.T)
  largest = _largest_eigenvalue(gram.astype(np.float64))
  return np.asarray(np.trace(gram) / largest, matrix.dtype)


def _largest_eigenvalue(gram: np.ndarray) -> Any:
  """By Lanczos' iteration, whose error is the square of the vector's."""
  from scipy.sparse import linalg

  if len(gram) >= _LANCZOS:
    start = np.random.default_rng(0).standard_normal(len(gram))
    # Threads of a product with one vector wait longer than they work.
    product = linalg.LinearOperator(
      gram.shape, lambda v: np.einsum('ij,j->i', gram, v.ravel()), dtype=float
    )
    try:
      return linalg.eigsh(
        product, 1, which='LA', v0=start, tol=1e-9, return_eigenvectors=False
      )[0]
    except linalg.ArpackNoConvergence:
      pass
  return np.linalg.eigvalsh(gram)[-1]


@jax.jit
def _device_stable_rank(matrix: Float[Array, 'm n']) -> Float[Array, '']:
  matrix = matrix / jnp.max(jnp.abs(matrix))
  wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
  gram = jnp.matmul(wide, wide.T, precision=lax.Precision.HIGHEST)
  return jnp.trace(gram) / jnp.linalg.eigvalsh(gram)[-1]
