"""Weights that lie in parts on the devices of a mesh stay where they are."""

import jax
import numpy as np
import pytest
import several_hosts
from jax.sharding import NamedSharding, PartitionSpec

from experiments.benchmarks.scaling import transfers
from htjax import bounds, compressibility, host, parts, pruning, tail_index
from htjax.compressibility import costs, kth_largest
from htjax.pruning import spectra
from htjax.tail_index import (
  block_sums,
  layers,
  power_laws_of_parts,
  stable_fit,
)

SPECS = {
  'units': PartitionSpec(None, 'model'),
  'inputs': PartitionSpec('model'),
  'both': PartitionSpec('data', 'model'),
}


def place(array, spec='units'):
  """Over two axes of a mesh of eight devices."""
  mesh = jax.make_mesh((2, 4), ('data', 'model'))
  return jax.device_put(array, NamedSharding(mesh, SPECS[spec]))


def make_params(ties=False):
  rng = np.random.default_rng(0)
  params = {n: rng.standard_cauchy((16, 24)) for n in 'abc'}
  return {
    n: (np.round(w) if ties else w).astype(np.float32)
    for n, w in params.items()
  }


METHODS = {
  'layer': lambda p: pruning.magnitude(p, 0.3),
  'global': lambda p: pruning.magnitude(p, 0.3, scope='global'),
  'centred': lambda p: pruning.magnitude(p, 0.3, center='median'),
  'columns': lambda p: pruning.columns(p, 0.4),
  'rows': lambda p: pruning.rows(p, 0.4, center='median'),
  'columns to error': lambda p: pruning.columns_to_error(p, 0.2),
  'to error': lambda p: pruning.to_error(p, 0.3, method='magnitude'),
  'p of one': lambda p: pruning.to_error(p, 0.3, method='magnitude', p=1),
  'rows to error': lambda p: pruning.to_error(p, 0.3, method='rows'),
}


# Of all, those whose sums and ties go over both axes of the mesh.
CASES = [(m, 'both') for m in METHODS] + [
  (m, s) for m in ('global', 'columns') for s in ('units', 'inputs')
]


def check(params, spread, method):
  """The result of weights that are spread is that of the same weights here."""
  found, expected = METHODS[method](spread), METHODS[method](params)
  assert int(found.kept) == int(expected.kept)
  for name, leaf in spread.items():
    pairs = [(found.mask, expected.mask), (found.params, expected.params)]
    for many, one in pairs:
      assert many[name].sharding.is_equivalent_to(leaf.sharding, leaf.ndim)
      for shard in many[name].addressable_shards:
        expected_part = np.asarray(one[name])[shard.index]
        np.testing.assert_array_equal(shard.data, expected_part)


@pytest.mark.parametrize(('method', 'spec'), CASES)
def test_pruning_is_that_of_one_device(method, spec):
  for ties in (False, True):
    params = make_params(ties)
    spread = {n: place(w, spec) for n, w in params.items()}
    check(params, spread, method)


def test_ties_go_by_their_place():
  # 0 and 1 alone: what is kept of the ones is decided by their place.
  ones = np.random.default_rng(0).integers(0, 2, (16, 24)).astype(np.float32)
  params = {'a': ones, 'b': ones}
  spread = {n: place(w, 'both') for n, w in params.items()}
  check(params, spread, 'global')
  # More ones than are kept lie in the first leaf.
  few = pruning.magnitude(spread, 0.2, scope='global').mask
  assert few['a'].any()
  assert not few['b'].any()


ESTIMATORS = {
  'hill': tail_index.hill,
  'moment': tail_index.moment,
  'pickands': tail_index.pickands,
  'de_haan_resnick': tail_index.de_haan_resnick,
  'hill_plot': lambda x, k: tail_index.hill_plot(x, [k // 2, k]),
}


@pytest.mark.parametrize('name', ESTIMATORS)
def test_estimates_are_those_of_one_device(name):
  x = make_params()['a']
  for spec in SPECS:
    # More than a device holds of them, and fewer.
    for k in (200, 12):
      found = ESTIMATORS[name](place(x, spec), k)
      jax.tree.map(np.testing.assert_array_equal, found, ESTIMATORS[name](x, k))


ALL_VALUES = {
  'mmo': (lambda x: tail_index.mmo(x, 16), 5e-7),
  'mmo_univariate': (tail_index.mmo_univariate, 5e-7),
  'max_ratio': (tail_index.max_ratio, 1e-6),
  'power_law': (tail_index.power_law, 0),
  'power_law from 2': (lambda x: tail_index.power_law(x, 2.0), 0),
  # Logarithms in float32, and a search that ends at 10^-3 standard errors.
  'stable_mle': (tail_index.stable_mle, 1e-5),
}


@pytest.mark.parametrize('name', ALL_VALUES)
def test_all_of_a_sample_is_looked_at_where_it_lies(name):
  estimate, bound = ALL_VALUES[name]
  rng = np.random.default_rng(0)
  x = rng.standard_cauchy((64, 48)).astype(np.float32)
  x[3] = 0
  # Sums over parts are in float64, whatever the numbers are.
  with jax.enable_x64(name.startswith('mmo')):
    expected = estimate(x.astype(float))
  found = estimate(place(x, 'both'))
  for field, a, b in zip(found._fields, found, expected, strict=True):
    # Distances of the stable law are taken at nodes, which move a little.
    scale = 10 if field in ('p_value', 'ks_distance') else 1
    np.testing.assert_allclose(a, b, rtol=scale * bound, err_msg=field)


@pytest.mark.parametrize('spec', ['units', 'inputs'])
def test_blocks_lie_across_parts(spec):
  # 21 of 9: blocks end inside of rows, and three numbers are in none.
  x = make_params(ties=True)['a'][:8]
  for estimate in (tail_index.mmo_univariate, tail_index.max_ratio):
    found, expected = estimate(place(x, spec)), estimate(x)
    np.testing.assert_allclose(found.alpha, expected.alpha, rtol=3e-6)
    assert int(found.num_used) == int(expected.num_used)


def test_the_table_of_a_model_is_that_of_one_device():
  params = {'w': make_params()['a']}
  spread = {'w': place(params['w'], 'both')}
  key = jax.random.key(0)
  (found,), (expected,) = (
    tail_index.layer_table(p, key=key, num_top=20) for p in (spread, params)
  )
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    if isinstance(value, float):
      np.testing.assert_allclose(found[name], value, rtol=2e-5, err_msg=name)
    else:
      assert found[name] == value
  for name in ('hill', 'power_law', 'power_law_ks', 'rel_err_0.1'):
    assert found[name] == expected[name]
  spread = {'w': place(np.ones((16, 24), np.float32))}
  (row,) = tail_index.layer_table(spread, key=key)
  assert row['note'] == 'leaf must not be constant, got only 1'


def test_least_fractions_are_those_of_one_device():
  x = make_params(ties=True)['a']
  bounds = np.array([0.0, 0.01, 0.3, 1.0], np.float32)
  for p in (1, 2):
    found, expected = (
      compressibility.smallest_kappa(w, bounds, p=p) for w in (place(x), x)
    )
    np.testing.assert_array_equal(found, expected)
  x[3, 4] = np.nan
  assert np.isnan(compressibility.smallest_kappa(place(x), 0.1))


@pytest.mark.parametrize('num', [3, 8])
def test_parts_are_sorted_where_they_lie(num):
  x = np.random.default_rng(0).standard_cauchy((num, 5)).astype(np.float32)
  mesh = jax.make_mesh((num,), ('n',), devices=jax.devices()[:num])
  rows = NamedSharding(mesh, PartitionSpec('n'))
  found = parts.descending(jax.device_put(x, rows))
  np.testing.assert_array_equal(found, np.sort(np.abs(x).ravel())[::-1])
  assert {s.data.shape for s in found.addressable_shards} == {(5,)}


def test_merges_sort_any_number_of_parts():
  rng = np.random.default_rng(0)
  for num in range(1, 20):
    # Zeros and ones: what sorts these sorts everything.
    values = rng.integers(0, 2, (num, 500))
    for pairs in parts._rounds(num):
      assert len({i for pair in pairs for i in pair}) == 2 * len(pairs)
      for i, j in pairs:
        values[[i, j]] = np.sort(values[[i, j]], axis=0)[::-1]
    assert np.all(np.diff(values, axis=0) <= 0)


@pytest.mark.parametrize('spec', SPECS)
def test_singular_values_are_found_where_a_layer_lies(spec):
  x = np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
  spread = place(x, spec)
  options = {'center': 'median'} if spec == 'both' else {}
  found, expected = (
    pruning.singular_values({'w': w}, 0.5, **options) for w in (spread, x)
  )
  assert int(found.kept) == int(expected.kept)
  many, one = found.params['w'], expected.params['w']
  assert many.sharding.is_equivalent_to(spread.sharding, 2)
  np.testing.assert_allclose(many, one, atol=1e-5)
  # The negative control is what is left out.
  assert np.max(np.abs(np.asarray(many) - x)) > 0.1
  rank = bounds.spectral.stable_rank
  np.testing.assert_allclose(rank(spread), rank(x), rtol=1e-5)


def test_bad_samples_are_refused():
  same = np.full((16, 24), 2.0, np.float32)
  x = place(same)
  with pytest.raises(ValueError, match=r'must not be constant, got only \+-2'):
    tail_index.mmo(x, 4)
  with pytest.raises(ValueError, match='too many equal'):
    tail_index.hill(x, 20)
  with pytest.raises(ValueError, match='at least 385 samples, got 384'):
    tail_index.hill(x, 384)
  with pytest.raises(ValueError, match='x must be finite'):
    tail_index.hill(place(np.where(same == 2, np.nan, same)), 20)


def test_only_counts_go_from_device_to_device():
  x = place(make_params()['a'], 'both')
  masks = kth_largest.largest_of_spread.lower([x, x], 100)
  median = kth_largest._median.lower(x, spread=True)
  with jax.enable_x64(True):
    going = costs._num_removable_of_spread.lower(x, np.float32(0.1), True, 2)
  for program in (masks, median, going):
    sent = transfers(program.compile().as_text())
    assert sent
    # The number of True in two masks, or a least and a largest at a time.
    assert max(size for _, size in sent) <= 4, sent
  # Negative control: what is made for one device has the layer in one place.
  x = host.placed_freely(x)
  for program in (
    kth_largest._largest,
    lambda x, k: kth_largest._median(x, spread=False),
  ):
    sent = transfers(jax.jit(program).lower(x, 100).compile().as_text())
    assert max(size for _, size in sent) >= x.size


def test_parts_of_sums_go_from_device_to_device():
  x = host.placed_freely(place(make_params()['a'], 'both'))
  layout = parts.layout(x)
  y, ranks = parts.descending(x), np.arange(10, 385, 40)
  matrix = (x, np.zeros((1, 1), np.float32))
  with jax.enable_x64(True):
    programs = [
      # 96 sums of four numbers, 24 of sixteen, and two more for each of these.
      (168, block_sums._mmo_of_parts.lower(x, 16, 2, *layout)),
      (128, stable_fit._histogram_of_parts.lower(x, 64, *layout)),
      # A number of each of the candidates for a threshold.
      (10, power_laws_of_parts._search.lower(y, ranks, 32, *parts.layout(y))),
      # The square of the shorter side; a part goes once, too.
      (256, spectra._gram_of_parts.lower(*matrix, x.sharding)),
      (48, spectra._times.lower(*matrix, np.eye(16), x.sharding)),
      # Coordinates of all vectors come together, and then their norms.
      (48, layers._by_coordinates.lower(x, 1, x.sharding)),
      # A part goes to one other device.
      (48, parts._descending.lower(x, *layout)),
    ]
  vectors = layers._vectors(x, 'inputs')
  args = (vectors, 'mmo', (2, 4), 2)
  # Norms of 16 vectors, twice, and of 8, 8 and 4 sums, for two block sizes.
  programs.append((52, layers._protocol.lower(jax.random.key(0), *args)))
  for most, program in programs:
    sent = transfers(program.compile().as_text())
    assert 'all-gather' not in dict(sent), sent
    assert max(size for _, size in sent) == most, sent
  # Negative control: what is made for one device has the layer in one place.
  flat = jax.jit(lambda x: block_sums._mmo(x.reshape(-1, 1), 16)).lower(x)
  sent = transfers(flat.compile().as_text())
  assert max(size for kind, size in sent if kind == 'all-gather') >= x.size / 2


def on_hosts(path):
  """On each of two hosts: results of weights that none of them has whole."""
  jax.config.update('jax_enable_compilation_cache', False)
  mesh = jax.make_mesh((2, 2), ('data', 'model'))
  params = make_params(ties=True)
  spread = {
    n: jax.make_array_from_callback(
      w.shape, NamedSharding(mesh, SPECS['both']), lambda at, w=w: w[at]
    )
    for n, w in params.items()
  }
  for method in ('global', 'centred', 'columns', 'to error'):
    check(params, spread, method)
  for estimate in (lambda x: tail_index.hill(x, 40), tail_index.power_law):
    found, expected = estimate(spread['a']), estimate(params['a'])
    jax.tree.map(np.testing.assert_array_equal, found, expected)
  for estimate in (tail_index.mmo_univariate, tail_index.stable_mle):
    found, expected = estimate(spread['a']), estimate(params['a'])
    np.testing.assert_allclose(found.alpha, expected.alpha, rtol=1e-5)
  found, expected = (
    pruning.singular_values({'w': w['a']}, 0.5) for w in (spread, params)
  )
  expected = np.asarray(expected.params['w'])
  for shard in found.params['w'].addressable_shards:
    np.testing.assert_allclose(shard.data, expected[shard.index], atol=1e-3)


@pytest.mark.slow
def test_no_host_sees_a_layer(tmp_path):
  flags = [f'--xla_dump_to={tmp_path}', '--xla_dump_hlo_as_text']
  several_hosts.run(on_hosts, tmp_path, devices=2, flags=flags)
  texts = tmp_path.glob('*after_optimizations.txt')
  sent = [t for text in texts for t in transfers(text.read_text())]
  gathered = [size for kind, size in sent if kind == 'all-gather']
  # The largest values of `hill` are the most that is gathered.
  assert max(gathered) == 4 * 41
