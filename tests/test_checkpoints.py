"""States come back bit for bit, and foreign files do no harm."""

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
import several_hosts
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from safetensors.numpy import load_file, save_file

import htjax
from htjax import checkpoints, records

ROOT = Path(htjax.__file__).resolve().parents[1]

# A NaN with a payload, a signalling NaN, -0, the least subnormal, infinity.
ODD_FLOATS = np.array(
  [0x7FC12345, 0xFF812345, 0x80000000, 0x00000001, 0xFF800000], np.uint32
).view(np.float32)


def make_state():
  params = {
    'hidden': {'kernel': jnp.arange(12.0).reshape(3, 4), 'bias': ODD_FLOATS},
    'odd name /.': jnp.ones((2,), jnp.bfloat16),
  }
  return {
    'params': params,
    'opt': optax.adam(1e-3).init(params),
    'key': jax.random.key(3),
    'keys': jax.random.split(jax.random.key(4, impl='rbg'), 3),
    'numpy': [
      np.array([1 << 62, -1]),
      np.array([True, False]),
      np.float64(0.1),
      np.array([1.5 - 2j], np.complex64),
      np.array([-7, 7], ml_dtypes.int4),
      np.arange(3, dtype='>i4'),
      np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    ],
    'python': (3, -2.5, True, 1j),
    'none': None,
    'empty': (np.zeros((0, 3), np.float16), jnp.zeros((4, 0))),
  }


@jax.tree_util.register_pytree_with_keys_class
class Twins:
  """A node whose two children have one name."""

  def __init__(self, *children):
    self.children = children

  def tree_flatten_with_keys(self):
    key = jax.tree_util.DictKey('a')
    return [(key, child) for child in self.children], None

  @classmethod
  def tree_unflatten(cls, _, children):
    return cls(*children)


def plain(leaf):
  """(kind, dtype, shape, bytes) of a leaf."""
  if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
    leaf.dtype, jax.dtypes.prng_key
  ):
    kind = str(jax.random.key_impl(leaf))
    leaf = jax.random.key_data(leaf)
  else:
    kind = next(
      (k for k in (jax.Array, np.ndarray) if isinstance(leaf, k)), type(leaf)
    )
  x = np.asarray(leaf)
  x = x.astype(x.dtype.newbyteorder('='))
  return kind, x.dtype, x.shape, x.tobytes()


def assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert plain(x) == plain(y)


def same_bits(a, b):
  """Equal names, dtypes, shapes and bytes of two flat dictionaries."""
  return a.keys() == b.keys() and all(
    plain(a[name])[1:] == plain(b[name])[1:] for name in a
  )


def names(directory):
  return sorted(p.name for p in directory.iterdir())


def test_a_state_comes_back_bit_for_bit(tmp_path):
  state = make_state()
  meta = {'log': 10, 'lanes': [0, 2], 'name': 'é'}
  path = checkpoints.save(tmp_path / 'c', 7, state, meta)
  assert path == tmp_path / 'c' / '000000_step_7'
  restored, step, got = checkpoints.restore(tmp_path / 'c', state)
  assert_same(restored, state)
  assert (step, got) == (7, meta)


def test_an_abstract_state_is_enough(tmp_path):
  def init(seed):
    return {'key': jax.random.key(seed), 'x': jnp.full((2, 3), seed * 0.1)}

  checkpoints.save(tmp_path, 0, jax.jit(init)(5))
  like = jax.eval_shape(init, 0)
  assert_same(checkpoints.restore(tmp_path, like)[0], init(5))


def test_without_a_state_the_names_make_dictionaries(tmp_path):
  checkpoints.save(tmp_path, 0, make_state())
  state, _, meta = checkpoints.restore(tmp_path)
  assert meta == {}
  assert state['python'] == {'0': 3, '1': -2.5, '2': True, '3': 1j}
  assert type(state['python']['2']) is bool
  kernel = state['params']['hidden']['kernel']
  assert isinstance(kernel, np.ndarray)
  np.testing.assert_array_equal(kernel, np.arange(12.0).reshape(3, 4))
  assert plain(state['keys']) == plain(make_state()['keys'])
  assert state['opt']['0']['mu']['hidden']['kernel'].shape == (3, 4)
  assert state['empty']['0'].shape == (0, 3)


@pytest.mark.parametrize('state', [{}, 3, np.zeros((0,)), jnp.ones(3), [None]])
def test_the_smallest_states(tmp_path, state):
  checkpoints.save(tmp_path, 0, state)
  assert_same(checkpoints.restore(tmp_path, state)[0], state)


def test_restored_keys_draw_what_the_saved_ones_would(tmp_path):
  key = jax.random.fold_in(jax.random.key(11), 3)
  checkpoints.save(tmp_path, 0, {'key': key})
  restored = checkpoints.restore(tmp_path, {'key': key})[0]['key']
  np.testing.assert_array_equal(
    jax.random.normal(restored, (5,)), jax.random.normal(key, (5,))
  )


def test_a_restored_state_can_be_donated(tmp_path):
  step = jax.jit(lambda s: jax.tree.map(lambda a: a + 1, s), donate_argnums=0)
  state = {'x': jnp.zeros((64, 64))}
  checkpoints.save(tmp_path, 0, state)
  restored = checkpoints.restore(tmp_path, state)[0]
  for _ in range(3):
    restored = step(restored)
  np.testing.assert_array_equal(restored['x'], np.full((64, 64), 3.0))


def test_float64_needs_x64_and_says_so(tmp_path):
  with jax.enable_x64(True):
    state = {'x': jnp.asarray(1 / 3, jnp.float64)}
    checkpoints.save(tmp_path, 0, state)
    assert_same(checkpoints.restore(tmp_path, state)[0], state)
  with pytest.raises(ValueError, match=r'x is float64, .*enable_x64\(True\)'):
    checkpoints.restore(tmp_path, state)


def test_arrays_come_back_to_the_devices_they_are_asked_for(tmp_path):
  mesh = Mesh(np.array(jax.devices()), ('lanes',))
  lanes = NamedSharding(mesh, PartitionSpec('lanes'))
  one = jax.devices()[3]
  state = {
    'x': jax.device_put(jnp.arange(16.0), lanes),
    'keys': jax.device_put(jax.random.split(jax.random.key(0), 8), lanes),
    'y': jax.device_put(jnp.ones(3), one),
    'z': jnp.ones(3),
  }
  checkpoints.save(tmp_path, 0, state)
  abstract = {
    name: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding)
    for name, a in state.items()
  }
  for like in (state, abstract):
    restored = checkpoints.restore(tmp_path, like)[0]
    assert_same(restored, state)
    assert restored['x'].sharding == restored['keys'].sharding == lanes
    assert restored['y'].devices() == {one}
  assert not checkpoints.restore(tmp_path, state)[0]['z'].committed


def test_the_first_axis_may_differ_if_that_is_wanted(tmp_path):
  def lanes(n):
    return {'x': jnp.ones((n, 2)), 'n': jnp.arange(n), 'k': jnp.ones(())}

  checkpoints.save(tmp_path, 0, lanes(3))
  with pytest.raises(ValueError, match=r'n is int32\[3\] there, int32\[8\] he'):
    checkpoints.restore(tmp_path, lanes(8))
  restored = checkpoints.restore(tmp_path, lanes(8), strict_shapes=False)[0]
  assert_same(restored, lanes(3))
  for other in (
    lanes(8) | {'x': jnp.ones((8, 3))},
    lanes(8) | {'x': jnp.ones((8,))},
    lanes(8) | {'k': jnp.ones((8,))},
    lanes(8) | {'n': jnp.ones((8,))},
  ):
    with pytest.raises(ValueError, match='belongs to another config'):
      checkpoints.restore(tmp_path, other, strict_shapes=False)


@pytest.mark.parametrize(
  ('other', 'message'),
  [
    ({'a': {'b': np.ones((2, 4))}}, r'a\.b is float64\[2, 3\] .*\[2, 4\] here'),
    ({'a': {'b': np.ones((2, 3), int)}}, r'float64\[2, 3\] there, int64\[2, 3'),
    ({'a': {'c': np.ones((2, 3))}}, r'it also holds a\.b'),
    ({'a': {}}, r'it also holds a\.b'),
    ({'a': {'b': np.ones((2, 3)), 'd': 1}}, r'it lacks a\.d'),
    ({'a': {'b': 3}}, r'float64\[2, 3\] there, a Python int here'),
    ({'k': 'rbg'}, r'k is key threefry2x32\[\] there, key rbg\[\] here'),
    ({'n': 1.0}, 'n is a Python int there, a Python float here'),
  ],
)
def test_a_checkpoint_of_another_config_names_the_leaf(
  tmp_path, other, message
):
  state = {'a': {'b': np.ones((2, 3))}, 'k': jax.random.key(0), 'n': 1}
  if 'k' in other:
    other = {'k': jax.random.key(0, impl=other['k'])}
  checkpoints.save(tmp_path, 0, state)
  with pytest.raises(
    ValueError, match=f'belongs to another config: .*{message}'
  ):
    checkpoints.restore(tmp_path, state | other)


@pytest.mark.parametrize(
  'leaf',
  [
    'text',
    object(),
    np.array(['a']),
    np.array([None]),
    b'',
    2**70,
    jax.ShapeDtypeStruct((2,), np.float32),
    np.zeros(2, [('a', 'f4')]),
  ],
)
def test_leaves_that_cannot_be_saved_are_named(tmp_path, leaf):
  with pytest.raises(ValueError, match=r'a\.0 '):
    checkpoints.save(tmp_path / 'c', 0, {'a': [leaf]})
  assert checkpoints.restore(tmp_path / 'c') is None


def test_bad_arguments_of_save(tmp_path):
  with pytest.raises(ValueError, match='step must be an integer >= 0, got -1'):
    checkpoints.save(tmp_path, -1, {})
  for meta in ({'a': float('nan')}, {'a': np.ones(2)}, {'a': object()}):
    with pytest.raises(ValueError, match='meta must hold JSON values'):
      checkpoints.save(tmp_path, 0, {}, meta)
  with pytest.raises(ValueError, match='two leaves have the same name'):
    checkpoints.save(tmp_path, 0, Twins(1, 2))
  assert names(tmp_path) == []


def test_the_newest_two_are_kept_and_the_newest_is_restored(tmp_path):
  assert checkpoints.restore(tmp_path / 'c') is None
  assert checkpoints.restore(tmp_path / 'c', {'x': 1}) is None
  # A second group of lanes starts at step 0 again.
  for value, step in enumerate([50, 100, 100, 0, 3]):
    checkpoints.save(tmp_path / 'c', step, {'x': value})
    state, restored_step, _ = checkpoints.restore(tmp_path / 'c', {'x': 0})
    assert (state['x'], restored_step) == (value, step)
  assert names(tmp_path / 'c') == ['000003_step_0', '000004_step_3']


def test_incomplete_checkpoints_are_passed_over_and_cleared(tmp_path):
  checkpoints.save(tmp_path, 1, {'x': 1})
  for name in (
    '000001_step_2.orbax-checkpoint-tmp',
    '000001_step_2.orbax-checkpoint-tmp-123',
    '000000_step_0.removed',
  ):
    shutil.copytree(tmp_path / '000000_step_1', tmp_path / name)
  (tmp_path / 'notes').mkdir()
  assert checkpoints.restore(tmp_path, {'x': 0})[:2] == ({'x': 1}, 1)
  checkpoints.save(tmp_path, 2, {'x': 2})
  assert names(tmp_path) == ['000000_step_1', '000001_step_2', 'notes']


def files(directory):
  return sorted(p for p in directory.rglob('*') if p.is_file())


# When one array fails, Orbax closes its event loop on those still being read.
LATE_READS = 'ignore::pytest.PytestUnraisableExceptionWarning'


@pytest.mark.filterwarnings(LATE_READS)
def test_a_damaged_checkpoint_is_never_restored_as_another(tmp_path):
  state = {'x': np.arange(500.0), 'key': jax.random.key(3), 'n': 12345}
  checkpoints.save(tmp_path, 9, state, {'log': 4321})
  where = random.Random(1)
  refused = []
  for path in files(tmp_path):
    whole = path.read_bytes()
    size = len(whole)
    changed = [b'', whole[: size // 2], whole[:-1]]
    for at in [where.randrange(size) for _ in range(8)]:
      flipped = bytearray(whole)
      flipped[at] ^= 1 << where.randrange(8)
      changed.append(bytes(flipped))
    for data in changed:
      path.write_bytes(data)
      try:
        restored, step, meta = checkpoints.restore(tmp_path, state)
      except ValueError as error:
        refused.append(str(error))
      else:
        assert_same(restored, state)
        assert (step, meta) == (9, {'log': 4321})
    path.write_bytes(whole)
  assert all('is damaged (' in message for message in refused)
  assert not any('\n' in message for message in refused)
  assert len(refused) > 10


RESUMING = """
import sys, numpy as np
# Imported by the first save: not to spend the time before the kill on it.
import orbax.checkpoint
from htjax import checkpoints, records
workdir, last = sys.argv[1], int(sys.argv[2])
with records.open_run(workdir, {'a': 1}) as run:
  state = {'x': np.arange(1000, dtype=np.uint64)}
  step = position = 0
  if saved := checkpoints.restore(run.workdir / 'state', state):
    state, step, meta = saved
    position = meta['log']
  run.truncate(position)
  print(first := step, flush=True)
  while step < last:
    step += 1
    state = {'x': state['x'] * np.uint64(6364136223846793005) + np.uint64(step)}
    run.log({'step': step, 'x': int(state['x'][7])})
    if step % 2 == 0:
      meta = {'log': run.log_position()}
      checkpoints.save(run.workdir / 'state', step, state, meta)
      if step == first + 2:
        print(step, flush=True)
  run.write_results([{'x': int(state['x'].sum())}])
"""


def resume(workdir, last, seconds=None):
  """Go on to step `last`, or for seconds after a save; the first step."""
  command = [sys.executable, '-c', RESUMING, str(workdir), str(last)]
  with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
    first, saved = (int(process.stdout.readline()) for _ in range(2))
    assert saved == first + 2
    if seconds is not None:
      time.sleep(seconds)
      process.send_signal(signal.SIGKILL)
  assert process.returncode == (0 if seconds is None else -signal.SIGKILL)
  return first


@pytest.mark.parametrize('kills', [1, pytest.param(4, marks=pytest.mark.slow)])
def test_kill_9_and_resume_end_in_the_same_files(tmp_path, monkeypatch, kills):
  delays = random.Random(2)
  starts = [
    resume(tmp_path / 'killed', 10**6, delays.uniform(0.1, 0.7))
    for _ in range(kills)
  ]
  last = checkpoints.restore(tmp_path / 'killed' / 'state')[1] + 2
  starts.append(resume(tmp_path / 'killed', last))
  assert starts == sorted(starts)
  assert starts[-1] > 0
  monkeypatch.setattr(sys, 'argv', ['-c', str(tmp_path / 'whole'), str(last)])
  exec(RESUMING, {})
  for name in ('metrics.jsonl', 'results.json'):
    texts = [(tmp_path / d / name).read_text() for d in ('whole', 'killed')]
    assert texts[0] == texts[1]
  # What the kills left half written is gone.
  assert len(names(tmp_path / 'killed' / 'state')) == checkpoints.KEEP
  assert records.read_metrics(tmp_path / 'killed')[-1]['step'] == last


def save_and_restore(workdir):
  """On each of two hosts: a state whose rows lie apart comes back there."""
  mesh = Mesh(np.array(jax.devices()), ('lanes',))
  lanes = NamedSharding(mesh, PartitionSpec('lanes'))
  assert not lanes.is_fully_addressable
  rows = np.arange(12, dtype=np.float32).reshape(4, 3)
  keys = jax.jit(
    lambda: jax.random.split(jax.random.key(0), 4), out_shardings=lanes
  )
  state = {
    'x': jax.make_array_from_callback((4, 3), lanes, lambda i: rows[i]),
    'keys': keys(),
    'n': 3,
  }
  with records.open_run(workdir, {'a': 1}) as run:
    for step in range(3):
      run.log({'step': step})
      meta = {'log': run.log_position()}
      checkpoints.save(run.workdir / 'state', step, state, meta)
    restored, step, meta = checkpoints.restore(run.workdir / 'state', state)
    run.truncate(meta['log'])
  assert (restored['n'], step) == (3, 2)
  draw = jax.jit(jax.vmap(jax.random.normal), out_shardings=lanes)
  for a, b in [
    (restored['x'], state['x']),
    (draw(restored['keys']), draw(state['keys'])),
  ]:
    assert a.sharding == lanes
    for s, t in zip(a.addressable_shards, b.addressable_shards, strict=True):
      np.testing.assert_array_equal(s.data, t.data)


@pytest.mark.slow
def test_two_hosts_save_and_restore_one_state(tmp_path):
  several_hosts.run(save_and_restore, tmp_path / 'run')
  assert len(records.read_metrics(tmp_path / 'run')) == 3
  # One machine goes on from what two have saved.
  state, step, _ = checkpoints.restore(tmp_path / 'run' / 'state')
  np.testing.assert_array_equal(state['x'], np.arange(12.0).reshape(4, 3))
  assert step == 2


def make_params():
  return {
    'hidden_0': {'kernel': jnp.arange(6.0).reshape(2, 3), 'bias': ODD_FLOATS},
    'blocks': [np.ones((2, 2), np.float16), np.array([1, -1], np.int8)],
    'mask': np.array([[True], [False]]),
    # Views that do not lie in memory as they are written.
    'transposed': np.arange(12.0).reshape(3, 4).T,
    'strided': np.arange(10)[::-3],
    'scalar': np.float32(0.1),
    'big_endian': np.arange(3, dtype='>f8'),
  }


FLAT_NAMES = {
  'hidden_0.kernel',
  'hidden_0.bias',
  'blocks.0',
  'blocks.1',
  'mask',
  'transposed',
  'strided',
  'scalar',
  'big_endian',
}
FORMATS = ['w.safetensors', 'w.npz', 'w']


@pytest.mark.parametrize('name', FORMATS)
def test_weights_come_back_bit_for_bit(tmp_path, name):
  params, path = make_params(), tmp_path / name
  checkpoints.save_weights(path, params)
  assert names(tmp_path) == [name]
  flat = checkpoints.load_weights(path, nested=False)
  assert flat.keys() == FLAT_NAMES
  assert all(type(array) is np.ndarray for array in flat.values())
  kernel = params['hidden_0']['kernel']
  assert plain(flat['hidden_0.kernel'])[1:] == plain(kernel)[1:]
  nested = checkpoints.load_weights(path)
  assert nested.keys() == params.keys()
  params['blocks'] = dict(zip('01', params['blocks'], strict=True))
  for x, y in zip(
    jax.tree.leaves(nested), jax.tree.leaves(params), strict=True
  ):
    assert plain(x)[1:] == plain(y)[1:]
    jnp.asarray(x)


def test_int4_does_not_go_into_npz(tmp_path):
  x = np.array([1, -2], ml_dtypes.int4)
  with pytest.raises(ValueError, match='x is int4, which'):
    checkpoints.save_weights(tmp_path / 'w.npz', {'x': x})
  assert names(tmp_path) == []


def test_empty_arrays_go_into_files_and_not_into_orbax(tmp_path):
  params = {'a': np.zeros((0, 3), np.float32), 'b': np.ones(1)}
  for name in ('w.safetensors', 'w.npz'):
    checkpoints.save_weights(tmp_path / name, params)
    assert same_bits(checkpoints.load_weights(tmp_path / name), params)
  with pytest.raises(ValueError, match='a has no elements'):
    checkpoints.save_weights(tmp_path / 'w', params)
  assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize('name', FORMATS)
def test_weights_that_cannot_be_written_are_named(tmp_path, name):
  for leaf, message in [
    (jax.random.key(0), r'a\.b is a random key'),
    ('text', r'a\.b must be an array of numbers'),
    (np.array([None]), r'a\.b must be an array of numbers'),
  ]:
    with pytest.raises(ValueError, match=message):
      checkpoints.save_weights(tmp_path / name, {'a': {'b': leaf}})
  with pytest.raises(ValueError, match='two leaves have the same name'):
    checkpoints.save_weights(tmp_path / name, Twins(1.0, 2.0))
  assert names(tmp_path) == []


def test_safetensors_says_which_dtype_it_cannot_hold(tmp_path):
  with pytest.raises(ValueError, match=r'cannot hold these: .*complex128'):
    checkpoints.save_weights(tmp_path / 'w.safetensors', {'x': np.ones(1) * 1j})
  assert names(tmp_path) == []


@pytest.mark.parametrize('suffix', ['.pt', '.pkl', '.h5', '.npy', '.ckpt'])
def test_other_formats_are_refused_by_name(tmp_path, suffix):
  path = tmp_path / f'w{suffix}'
  with pytest.raises(ValueError, match=r'must be a \.safetensors or \.npz'):
    checkpoints.save_weights(path, {'x': np.ones(1)})
  path.write_bytes(b'x')
  with pytest.raises(ValueError, match=r'must be a \.safetensors or \.npz'):
    checkpoints.load_weights(path)


def test_files_are_replaced_and_directories_are_not(tmp_path):
  for name in ('w.safetensors', 'w.npz'):
    for value in (1.0, 2.0):
      checkpoints.save_weights(tmp_path / name, {'x': np.full(3, value)})
    np.testing.assert_array_equal(
      checkpoints.load_weights(tmp_path / name)['x'], [2.0, 2.0, 2.0]
    )
  checkpoints.save_weights(tmp_path / 'w', {'x': np.ones(3)})
  with pytest.raises(FileExistsError, match='is there already'):
    checkpoints.save_weights(tmp_path / 'w', {'x': np.zeros(3)})
  assert checkpoints.load_weights(tmp_path / 'w')['x'].all()


@pytest.mark.parametrize('name', FORMATS)
def test_what_a_killed_writer_left_is_in_nobodys_way(tmp_path, name):
  checkpoints.save_weights(tmp_path / 'w', {'x': np.zeros(3)})
  left_over = 'w.orbax-checkpoint-tmp' if name == 'w' else f'.{name}.1-2.tmp'
  (tmp_path / 'w').rename(tmp_path / left_over)
  checkpoints.save_weights(tmp_path / name, {'x': np.ones(3)})
  got = checkpoints.load_weights(tmp_path / name)['x']
  np.testing.assert_array_equal(got, np.ones(3))


@pytest.mark.parametrize('name', FORMATS)
def test_missing_weights_are_a_missing_file(tmp_path, name):
  with pytest.raises(FileNotFoundError, match='no weights at'):
    checkpoints.load_weights(tmp_path / name)


def test_the_programs_that_own_the_formats_read_ours(tmp_path):
  params = {'a': {'b': np.arange(6.0).reshape(2, 3).T}}
  checkpoints.save_weights(tmp_path / 'w.npz', params)
  with np.load(tmp_path / 'w.npz', allow_pickle=False) as file:
    np.testing.assert_array_equal(file['a.b'], params['a']['b'])
  checkpoints.save_weights(tmp_path / 'w.safetensors', params)
  theirs = load_file(tmp_path / 'w.safetensors')
  np.testing.assert_array_equal(theirs['a.b'], params['a']['b'])


def test_ours_reads_what_those_programs_write(tmp_path):
  flat = {'a/b': np.asfortranarray(np.ones((2, 3))), 'c.d/e': np.arange(3)}
  nested = {'a': {'b': flat['a/b']}, 'c.d': {'e': flat['c.d/e']}}
  np.savez(tmp_path / 'a.npz', **flat)
  np.savez_compressed(tmp_path / 'b.npz', **flat)
  save_file(
    {k: np.ascontiguousarray(v) for k, v in flat.items()},
    tmp_path / 'c.safetensors',
  )
  for name in ('a.npz', 'b.npz', 'c.safetensors'):
    got = checkpoints.load_weights(tmp_path / name, nested=False)
    assert same_bits(got, flat)
    got = checkpoints.load_weights(tmp_path / name)
    assert jax.tree.structure(got) == jax.tree.structure(nested)
    got = checkpoints.load_weights(tmp_path / name, separator='.')
    assert got.keys() == {'a/b', 'c'}
    with pytest.raises(ValueError, match='separator must be None or a text'):
      checkpoints.load_weights(tmp_path / name, separator='')


def orbax_tree(path, tree):
  import orbax.checkpoint as ocp

  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as c:
    c.save(path, ocp.args.PyTreeSave(tree))


def orbax_standard(path, tree):
  import orbax.checkpoint as ocp

  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(path, tree)


def orbax_manager(path, tree):
  import orbax.checkpoint as ocp

  with ocp.CheckpointManager(path.parent / 'manager') as manager:
    manager.save(5, args=ocp.args.StandardSave(tree))
  (path.parent / 'manager' / '5').rename(path)


def own_checkpoints(path, tree):
  checkpoints.save(path, 1, jax.tree.map(jnp.zeros_like, tree))
  checkpoints.save(path, 2, tree)


@pytest.mark.parametrize(
  'write', [orbax_tree, orbax_standard, orbax_manager, own_checkpoints]
)
def test_orbax_directories_of_any_making_are_read(tmp_path, write):
  tree = {'a': {'kernel': jnp.arange(6.0).reshape(2, 3)}, 'b': jnp.ones(2)}
  write(tmp_path / 'w', tree)
  got = checkpoints.load_weights(tmp_path / 'w')
  assert jax.tree.structure(got) == jax.tree.structure(tree)
  flat = checkpoints.load_weights(tmp_path / 'w', nested=False)
  assert same_bits(flat, {'a.kernel': tree['a']['kernel'], 'b': tree['b']})
  with pytest.raises(ValueError, match='holds 32 bytes of arrays, more than'):
    checkpoints.load_weights(tmp_path / 'w', max_bytes=31)


def test_a_directory_of_something_else_is_refused(tmp_path):
  with pytest.raises(ValueError, match='must be an Orbax directory'):
    checkpoints.load_weights(tmp_path)
  for name in ('a', 'b'):
    checkpoints.save_weights(tmp_path / name, {'x': np.ones(1)})
  with pytest.raises(
    ValueError, match=r'with one tree of arrays or .*; found a, b'
  ):
    checkpoints.load_weights(tmp_path)


def test_names_that_cannot_be_nested_can_be_had_flat(tmp_path):
  flat = {'a': np.ones(1), 'a.b': np.ones(2)}
  np.savez(tmp_path / 'w.npz', **flat)
  with pytest.raises(
    ValueError, match=r'a\.b lies in an array; pass nested=Fa'
  ):
    checkpoints.load_weights(tmp_path / 'w.npz')
  got = checkpoints.load_weights(tmp_path / 'w.npz', nested=False)
  assert same_bits(got, flat)


GARBAGE = {
  'empty': b'',
  'text': b'these are no weights\n' * 20,
  'zeros': b'\0' * 100,
  'ones': b'\xff' * 100,
  'pickle': pickle.dumps({'x': [1, 2, 3]}),
  'zip of text': None,
  'deep header': (200_000).to_bytes(8, 'little') + b'[' * 200_000,
}


@pytest.mark.parametrize('kind', GARBAGE)
@pytest.mark.parametrize('suffix', ['.npz', '.safetensors'])
def test_foreign_files_are_one_clear_error(tmp_path, kind, suffix):
  path = tmp_path / f'w{suffix}'
  path.write_bytes(GARBAGE[kind] or b'')
  if kind == 'zip of text':
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('a.npy', 'text')
  with pytest.raises(ValueError, match=str(path)) as caught:
    checkpoints.load_weights(path)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize('suffix', ['.npz', '.safetensors'])
def test_a_file_cut_anywhere_is_refused(tmp_path, suffix):
  path = tmp_path / f'w{suffix}'
  checkpoints.save_weights(path, {'a': np.arange(20.0), 'b': np.ones((2, 2))})
  whole = path.read_bytes()
  for cut in range(len(whole)):
    path.write_bytes(whole[:cut])
    with pytest.raises(ValueError, match='is damaged'):
      checkpoints.load_weights(path)


def test_a_flipped_bit_in_npz_changes_no_number(tmp_path):
  path = tmp_path / 'w.npz'
  params = {'a': np.arange(20.0), 'b': np.ones((2, 2), np.float32)}
  checkpoints.save_weights(path, params)
  whole = path.read_bytes()
  refused = 0
  for at in range(len(whole)):
    flipped = bytearray(whole)
    flipped[at] ^= 1 << (at % 8)
    path.write_bytes(flipped)
    try:
      got = checkpoints.load_weights(path)
    except ValueError:
      refused += 1
    else:
      # The zip's own directory may lose one.
      assert same_bits(got, {name: params[name] for name in got})
  assert refused > len(whole) / 2


def test_a_flipped_bit_in_safetensors_raises_nothing_else(tmp_path):
  path = tmp_path / 'w.safetensors'
  params = {'a': np.arange(20.0), 'b': np.ones((2, 2), np.float32)}
  checkpoints.save_weights(path, params)
  whole = path.read_bytes()
  refused = 0
  for at in range(len(whole)):
    flipped = bytearray(whole)
    flipped[at] ^= 1 << (at % 8)
    path.write_bytes(flipped)
    try:
      checkpoints.load_weights(path)
    except ValueError as error:
      refused += str(path) in str(error)
  assert refused > 50


@pytest.mark.filterwarnings(LATE_READS)
def test_a_damaged_orbax_directory_raises_nothing_else(tmp_path):
  params = {'a': np.arange(500.0)}
  checkpoints.save_weights(tmp_path / 'w', params)
  where = random.Random(7)
  refused = 0
  for path in files(tmp_path / 'w'):
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[where.randrange(len(whole))] ^= 1
    for data in (b'', whole[: len(whole) // 2], bytes(flipped)):
      path.write_bytes(data)
      try:
        checkpoints.load_weights(tmp_path / 'w')
      except ValueError:
        refused += 1
    path.write_bytes(whole)
  assert refused >= 3
  assert same_bits(checkpoints.load_weights(tmp_path / 'w'), params)


class Payload:
  """Unpickling it creates a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


def test_objects_are_not_unpickled(tmp_path):
  target = tmp_path / 'harm'
  objects = np.array([Payload(target)], dtype=object)
  path = tmp_path / 'w.npz'
  np.savez(path, a=np.ones(2), b=objects)
  with pytest.raises(ValueError, match=r'b\.npy of dtype object'):
    checkpoints.load_weights(path)
  path.write_bytes(pickle.dumps(Payload(target)))
  with pytest.raises(ValueError, match=r'damaged or no \.npz file'):
    checkpoints.load_weights(path)
  assert not target.exists()
  # Negative control: numpy, told to trust it, runs the payload.
  np.load(path, allow_pickle=True)
  assert target.exists()


def peak_bytes(call):
  tracemalloc.start()
  try:
    with pytest.raises(ValueError, match='w') as caught:
      call()
    return tracemalloc.get_traced_memory()[1], str(caught.value)
  finally:
    tracemalloc.stop()


def test_a_bomb_is_refused_before_memory_is_taken(tmp_path):
  path = tmp_path / 'w.npz'
  np.savez_compressed(path, a=np.zeros(2**23))
  assert path.stat().st_size < 2**17
  peak, message = peak_bytes(
    lambda: checkpoints.load_weights(path, max_bytes=2**20)
  )
  assert 'more than max_bytes=1,048,576' in message
  assert peak < 2**20
  # A header that claims more than there is.
  with zipfile.ZipFile(path, 'w') as archive, archive.open('a.npy', 'w') as f:
    np.lib.format.write_array_header_1_0(
      f, {'descr': '<f8', 'fortran_order': False, 'shape': (2**40,)}
    )
  peak, message = peak_bytes(lambda: checkpoints.load_weights(path))
  assert 'a.npy has' in message
  assert peak < 2**20
  # And one whose negative axes multiply to the right number.
  with zipfile.ZipFile(path, 'w') as archive, archive.open('a.npy', 'w') as f:
    np.lib.format.write_array_header_1_0(
      f, {'descr': '<f8', 'fortran_order': False, 'shape': (-2, -2)}
    )
    f.write(bytes(32))
  with pytest.raises(ValueError, match='is damaged'):
    checkpoints.load_weights(path)


def test_an_orbax_bomb_is_refused_before_memory_is_taken(tmp_path):
  orbax_tree(tmp_path / 'w', {'a': np.zeros(4)})
  zarray = tmp_path / 'w' / 'a' / '.zarray'
  claims = json.loads(zarray.read_text()) | {'shape': [2**40]}
  zarray.write_text(json.dumps(claims))
  peak, message = peak_bytes(lambda: checkpoints.load_weights(tmp_path / 'w'))
  assert 'holds 8,796,093,022,208 bytes of arrays' in message
  assert peak < 2**22
