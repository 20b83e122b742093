"""Whole kinds of files that do harm, lose something or say nothing.

Special files, bombs, names, formats of other programs, damage of every kind,
and disks that are full. Each is read as it was written, or is one line that
names the path.
"""

import gzip
import json
import os
import random
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from flax import nnx, serialization
from safetensors.numpy import load_file, save_file

import htjax
from htjax.data import ecg5000, store
from htjax.io import checkpoints, files, records, weights

ROOT = Path(htjax.__file__).resolve().parents[1]
FORMATS = ['w.safetensors', 'w.npz', 'w']
ONES = np.ones((2, 3), np.float32)


def one_line(call, path, errors=(ValueError, OSError)):
  """The message of a call that must fail with one line about `path`."""
  with pytest.raises(errors) as caught:
    call()
  message = str(caught.value)
  assert '\n' not in message
  assert str(path) in message
  return message


def same(a, b):
  return jax.tree.structure(a) == jax.tree.structure(b) and all(
    x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()
    for x, y in zip(
      map(np.asarray, jax.tree.leaves(a)),
      map(np.asarray, jax.tree.leaves(b)),
      strict=True,
    )
  )


# Special files.


def fifo(path):
  os.mkfifo(path)


def endless(path):
  path.symlink_to('/dev/zero')


def terminal(path):
  path.symlink_to('/dev/null')


def directory(path):
  path.mkdir()


def loop(path):
  path.symlink_to(path)


SPECIAL = [fifo, endless, terminal, directory, loop]


@pytest.mark.parametrize('make', SPECIAL)
@pytest.mark.parametrize(
  'name', ['w.npz', 'w.safetensors', 'w.msgpack', 'w.safetensors.index.json']
)
def test_weights_are_read_from_regular_files_only(tmp_path, make, name):
  make(tmp_path / name)
  one_line(lambda: weights.load(tmp_path / name), tmp_path / name)
  one_line(lambda: list(weights.stream(tmp_path / name)), tmp_path / name)


@pytest.mark.parametrize('make', [fifo, endless, terminal, directory])
@pytest.mark.parametrize('name', ['results.json', 'metrics.jsonl'])
def test_records_are_read_from_regular_files_only(tmp_path, make, name):
  records.open_run(tmp_path, {}).close()
  (tmp_path / name).unlink(missing_ok=True)
  make(tmp_path / name)
  read = {
    'results.json': records.read_results,
    'metrics.jsonl': records.read_metrics,
  }[name]
  one_line(lambda: read(tmp_path), tmp_path / name)
  one_line(lambda: records.open_run(tmp_path, {}), tmp_path / name)


@pytest.mark.parametrize('make', [fifo, endless, terminal, directory])
def test_a_config_is_read_from_a_regular_file_only(tmp_path, make):
  make(tmp_path / 'config.json')
  path = tmp_path / 'config.json'
  one_line(lambda: records.read_config(tmp_path), path)
  one_line(lambda: records.open_run(tmp_path, {}), path)


@pytest.mark.parametrize('make', [fifo, endless])
def test_directories_of_orbax_hold_regular_files_only(tmp_path, make):
  weights.save(tmp_path / 'w', {'x': ONES})
  (tmp_path / 'w' / 'd').mkdir(exist_ok=True)
  make(tmp_path / 'w' / 'd' / 'more')
  message = one_line(lambda: weights.load(tmp_path / 'w'), tmp_path / 'w')
  assert 'not a file' in message


def test_files_are_read_up_to_a_size(tmp_path):
  (tmp_path / 'a').write_bytes(b'12345')
  assert files.read_bytes(tmp_path / 'a', 5) == b'12345'
  with pytest.raises(ValueError, match='must have at most 4 bytes'):
    files.read_bytes(tmp_path / 'a', 4)


# Bombs.


def peak_bytes(call, path):
  tracemalloc.start()
  try:
    message = one_line(call, path)
    return tracemalloc.get_traced_memory()[1], message
  finally:
    tracemalloc.stop()


@pytest.mark.parametrize('read', [weights.load, weights.stream])
def test_a_limit_relative_to_the_file(tmp_path, read):
  path = tmp_path / 'w.npz'
  about = {'descr': '<f4', 'fortran_order': False, 'shape': (3 * 2**25,)}
  with (
    zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive,
    archive.open('a.npy', 'w', force_zip64=True) as file,
  ):
    np.lib.format.write_array_header_1_0(file, about)
    for _ in range(3 * 2**7):
      file.write(bytes(2**20))
  peak, message = peak_bytes(lambda: read(path), path)
  assert f'for {path.stat().st_size:,} bytes on disk; pass a larger' in message
  assert peak < 2**22


def test_what_is_asked_for_is_read(tmp_path):
  zeros = {'a': np.zeros(2**18)}
  np.savez_compressed(tmp_path / 'w.npz', **zeros)
  assert same(weights.load(tmp_path / 'w.npz'), zeros)
  one_line(
    lambda: weights.load(tmp_path / 'w.npz', max_bytes=2**20),
    tmp_path / 'w.npz',
  )
  assert same(weights.load(tmp_path / 'w.npz', max_bytes=2**22), zeros)


def test_members_that_share_bytes_are_refused(tmp_path):
  path = tmp_path / 'w.npz'
  np.savez(path, a=ONES, b=ONES)
  data = bytearray(path.read_bytes())
  second = data.rindex(b'PK\x01\x02')
  # The second member of the directory becomes the first once more.
  data[second + 42 : second + 46] = bytes(4)
  path.write_bytes(data)
  one_line(lambda: weights.load(path), path)


def test_arrays_that_the_directory_lost_are_missed(tmp_path):
  path = tmp_path / 'w.npz'
  np.savez(path, a=ONES, b=ONES)
  with zipfile.ZipFile(path, 'a') as archive:
    del archive.filelist[0]
    archive.writestr('c.npy', b'')
  assert 'behind the others' in one_line(lambda: weights.load(path), path)


def orbax_plain(path, tree):
  """An Orbax directory with a file for each chunk."""
  import orbax.checkpoint as ocp

  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as c:
    c.save(path, ocp.args.PyTreeSave(tree))


def zstd_bomb(num_blocks):
  """A frame of Zstandard whose blocks repeat one byte 128 Ki times."""
  block = ((2**17 << 3) | 2).to_bytes(3, 'little') + b'\0'
  last = ((2**17 << 3) | 3).to_bytes(3, 'little') + b'\0'
  # No size of the content, a window of 8 MiB.
  return b'\x28\xb5\x2f\xfd\x00\x68' + block * (num_blocks - 1) + last


@pytest.mark.parametrize('before', [b'', b'\x50\x2a\x4d\x18\x01\x00\x00\x00\0'])
def test_a_chunk_that_inflates_is_refused(tmp_path, before):
  path = tmp_path / 'w'
  orbax_plain(path, {'a': np.arange(4.0)})
  (path / 'a' / '0').write_bytes(before + zstd_bomb(10_000))
  message = one_line(lambda: weights.load(path), path)
  assert 'a chunk inflates to 1,310,720,000 bytes, not 32' in message


@pytest.mark.parametrize(
  'claims',
  [
    {'chunks': [10**9]},
    {'shape': [2, 2], 'chunks': [10**9, 10**9]},
    {'chunks': [0]},
    {'chunks': [-4]},
    {'chunks': [1, 1]},
    {'chunks': None},
    {'shape': [2**40]},
    {'dtype': '<f99'},
    {'compressor': {'id': 'none such'}},
  ],
)
def test_descriptions_of_arrays_are_checked(tmp_path, claims):
  path = tmp_path / 'w'
  orbax_plain(path, {'a': np.arange(4.0)})
  about = json.loads((path / 'a' / '.zarray').read_text())
  (path / 'a' / '.zarray').write_text(json.dumps(about | claims))
  peak, _ = peak_bytes(lambda: weights.load(path), path)
  assert peak < 2**23


@pytest.mark.parametrize('compressor', ['zlib', 'gzip', 'bz2', 'blosc'])
def test_chunks_of_other_compressors(tmp_path, compressor):
  import bz2

  path = tmp_path / 'w'
  orbax_plain(path, {'a': np.arange(4.0)})
  about = json.loads((path / 'a' / '.zarray').read_text())
  about['compressor'] = {'id': compressor}
  pack = {'zlib': zlib.compress, 'gzip': gzip.compress, 'bz2': bz2.compress}
  if compressor == 'blosc':
    about['compressor'] |= {'cname': 'lz4', 'clevel': 1, 'shuffle': 0}
    bomb = b'\x02\x01\x00\x08' + (2**31 - 1).to_bytes(4, 'little') + bytes(24)
  else:
    good, bomb = map(pack[compressor], (np.arange(4.0).tobytes(), bytes(2**23)))
    (path / 'a' / '.zarray').write_text(json.dumps(about))
    (path / 'a' / '0').write_bytes(good)
    np.testing.assert_array_equal(weights.load(path)['a'], np.arange(4.0))
  (path / 'a' / '.zarray').write_text(json.dumps(about))
  (path / 'a' / '0').write_bytes(bomb)
  assert 'a chunk inflates' in one_line(lambda: weights.load(path), path)


def test_zeros_and_large_arrays_pass_the_check_of_chunks(tmp_path):
  rng = np.random.default_rng(0)
  tree = {
    'zeros': np.zeros((1000, 300), np.float32),
    'noise': rng.normal(size=(700, 300)),
    'few': rng.integers(0, 3, (500, 800)).astype(np.int8),
    'mixed': np.where(rng.random((900, 400)) < 0.1, 1.0, 0.0),
  }
  weights.save(tmp_path / 'w', tree)
  assert same(weights.load(tmp_path / 'w'), tree)
  checkpoints.save(tmp_path / 'c', 0, tree)
  assert same(checkpoints.restore(tmp_path / 'c')[0], tree)


@pytest.mark.parametrize('line', ['\n', '# comment\n', '@header\n'])
def test_compressed_text_without_end(tmp_path, line):
  path = tmp_path / 'ECG5000_TRAIN.txt.gz'
  path.write_bytes(gzip.compress(line.encode() * 10**6))
  message = one_line(lambda: ecg5000.read_raw(tmp_path), path)
  assert 'at most 10,000 lines that are no rows' in message


# Checkpoints whose description was edited.


def edited(path, edit):
  """Change the sealed description of a checkpoint, and seal it again."""
  (about,) = (path / 'about').rglob('metadata')
  body = json.loads(about.read_text())['body']
  edit(body)
  seal = zlib.crc32(json.dumps(body, sort_keys=True).encode())
  about.write_text(json.dumps({'body': body, 'crc32': seal}))


EDITS = {
  'no step': lambda b: b.pop('step'),
  'step is text': lambda b: b.update(step='1'),
  'no meta': lambda b: b.pop('meta'),
  'meta is a list': lambda b: b.update(meta=[]),
  'no leaves': lambda b: b.pop('leaves'),
  'leaves are a number': lambda b: b.update(leaves=3),
  'a leaf is text': lambda b: b['leaves'].append('x'),
  'no path': lambda b: b['leaves'][0].pop('path'),
  'path of numbers': lambda b: b['leaves'][0].update(path=[1]),
  'empty path': lambda b: b['leaves'][0].update(path=[]),
  'no shape': lambda b: b['leaves'][0].pop('shape'),
  'no kind': lambda b: b['leaves'][0]['leaf'].pop('kind'),
  'unknown kind': lambda b: b['leaves'][0]['leaf'].update(kind='x'),
  'unknown dtype': lambda b: b['leaves'][0].update(dtype='float99'),
  'another shape': lambda b: b['leaves'][0]['leaf'].update(shape=[7]),
  'negative shape': lambda b: b['leaves'][0].update(shape=[-1]),
  'no checksum': lambda b: b['leaves'][0].pop('crc32'),
  'a leaf more': lambda b: b['leaves'].append(
    b['leaves'][0] | {'path': ['more']}
  ),
  'a leaf twice': lambda b: b['leaves'].append(b['leaves'][0]),
  'body is a list': lambda b: b.clear(),
}


@pytest.mark.parametrize('name', EDITS)
def test_an_edited_description_is_one_line(tmp_path, name):
  path = checkpoints.save(tmp_path, 3, {'a': ONES, 'k': jax.random.key(0)})
  edited(path, EDITS[name])
  message = one_line(lambda: checkpoints.restore(tmp_path), path)
  assert 'is damaged' in message


STATES = {
  'lists of networks': lambda: nnx.state(
    nnx.List([nnx.Linear(2, i + 1, rngs=nnx.Rngs(i)) for i in range(11)])
  ),
  'empty states': lambda: (optax.EmptyState(), {}, None, (), []),
  'empty arrays': lambda: {'a': np.zeros((0, 3)), 'b': jnp.zeros((2, 0), int)},
  'integer keys': lambda: {0: ONES, 10: ONES[0], 2: ONES[:, 0]},
  'typed keys': lambda: [jax.random.key(1), jax.random.key(2, impl='rbg')],
  'arrays of keys': lambda: jax.random.split(jax.random.key(3), (2, 3)),
  'no keys': lambda: jax.random.split(jax.random.key(3), 4)[:0],
  'dots': lambda: {'a.b': ONES, 'a': {'b': ONES[0]}, 'a%2Eb': ONES[1]},
  'numbers': lambda: {'a': 3, 'b': [True, 2.5, 1j]},
}


@pytest.mark.parametrize('name', STATES)
def test_states_of_every_kind_come_back(tmp_path, name):
  state = STATES[name]()
  checkpoints.save(tmp_path, 1, state)
  back, _, _ = checkpoints.restore(tmp_path, state)
  assert jax.tree.structure(back) == jax.tree.structure(state)
  for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
    assert bool(jnp.all(x == y))


# What was lost without a word.


def test_two_names_that_become_one(tmp_path):
  with zipfile.ZipFile(tmp_path / 'w.npz', 'w') as archive:
    for name in ('a', 'a.npy'):
      with archive.open(name, 'w') as file:
        np.lib.format.write_array(file, ONES)
  message = one_line(lambda: weights.load(tmp_path / 'w.npz'), tmp_path)
  assert 'two arrays of the same name, a' in message


def raw_safetensors(path, header, data=b''):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  path.write_bytes(len(text).to_bytes(8, 'little') + text + data)


def described(dtype='F32', shape=(2,), begin=0, end=8):
  return {'dtype': dtype, 'shape': shape, 'data_offsets': [begin, end]}


HEADERS = {
  'a name twice': b'{"a":%b,"a":%b}'
  % ((json.dumps(described()).encode(),) * 2),
  'a hole': {'a': described(), 'b': described(begin=9, end=17)},
  'overlap': {'a': described(), 'b': described(begin=4, end=12)},
  'too short': {'a': described(end=12)},
  'too long': {'a': described(shape=(1,))},
  'negative': {'a': described(shape=(-2,))},
  'backwards': {'a': described(begin=8, end=0)},
  'no dtype': {'a': {'shape': [2], 'data_offsets': [0, 8]}},
  'unknown dtype': {'a': described(dtype='F4')},
  'a dtype that is a list': {'a': described(dtype=['F32'])},
  'shape is text': {'a': described(shape='2')},
  'shape of floats': {'a': described(shape=[2.0])},
  'huge': {'a': described(shape=(2**62, 2**62), end=2**124)},
  'a list': [1, 2],
  'null': None,
  'metadata is a list': {'__metadata__': [1], 'a': described()},
  'paths of others': {
    '__metadata__': {'htjax.paths': '{"b": ["c"]}'},
    'a': described(),
  },
  'paths that are none': {
    '__metadata__': {'htjax.paths': '{"a": [[1]]}'},
    'a': described(),
  },
  'NaN': b'{"a": NaN}',
  'empty': {},
}


@pytest.mark.parametrize('name', HEADERS)
def test_headers_of_safetensors(tmp_path, name):
  path = tmp_path / 'w.safetensors'
  raw_safetensors(path, HEADERS[name], bytes(8) if name != 'empty' else b'')
  one_line(lambda: weights.load(path), path)
  one_line(lambda: weights.stream(path), path)


@pytest.mark.parametrize('name', FORMATS)
def test_trees_without_arrays_are_no_weights(tmp_path, name):
  for empty in ({}, [], {'a': {}}, None, ()):
    with pytest.raises(ValueError, match='params must have at least one leaf'):
      weights.save(tmp_path / name, empty)
  with zipfile.ZipFile(tmp_path / 'e.npz', 'w'):
    pass
  message = one_line(lambda: weights.load(tmp_path / 'e.npz'), tmp_path)
  assert 'holds no arrays' in message


RESULTS = [
  {'lane': 0, 'seed': 0, 'train_accuracy': 0.9, 'pruning_ratio': None},
  {'lane': 1, 'seed': 1, 'train_accuracy': 1.0, 'pruning_ratio': 0.25},
]


def rows_with(i, **changes):
  rows = [dict(row) for row in RESULTS]
  rows[i].update(changes)
  return json.dumps(rows)


def rows_without(name):
  return json.dumps(
    [RESULTS[0], {k: v for k, v in RESULTS[1].items() if k != name}]
  )


RESULT_FAULTS = {
  'NaN': '[{"a": NaN}]',
  'Infinity': '[{"a": [-Infinity]}]',
  'beyond the range': '[{"a": 1e999}]',
  'a name twice': '[{"a": 1, "a": 2}]',
  'ratio 7': rows_with(1, pruning_ratio=7),
  'negative accuracy': rows_with(0, train_accuracy=-0.1),
  'accuracy is text': rows_with(0, train_accuracy='0.9'),
  'accuracy is true': rows_with(0, train_accuracy=True),
  'negative lane': rows_with(0, lane=-1),
  'half a lane': rows_with(0, lane=0.5),
  'lane is text': rows_with(0, lane='0'),
  'no lane': rows_with(0, lane=None),
  'a row twice': json.dumps([RESULTS[0], RESULTS[0]]),
  'a lane twice': json.dumps(
    [RESULTS[0], RESULTS[0] | {'train_accuracy': 0.8}]
  ),
  'a key less': rows_without('seed'),
  'a dictionary': '{}',
  'numbers': '[1, 2]',
}


def test_draws_of_a_law_belong_to_some_lanes_alone(tmp_path):
  rows = [RESULTS[0], RESULTS[1] | {'law_pruning_ratios': [0.1, 0.2]}]
  (tmp_path / 'results.json').write_text(json.dumps(rows))
  assert records.read_results(tmp_path) == rows


def test_lanes_may_have_names(tmp_path):
  rows = [{'lane': 'main', 'errors': 3}, {'lane': 'random labels', 'errors': 9}]
  (tmp_path / 'results.json').write_text(json.dumps(rows))
  assert records.read_results(tmp_path) == rows


@pytest.mark.parametrize('name', RESULT_FAULTS)
def test_rows_that_no_run_writes(tmp_path, name):
  path = tmp_path / 'results.json'
  path.write_text(json.dumps(RESULTS))
  assert records.read_results(tmp_path) == RESULTS
  path.write_text(RESULT_FAULTS[name])
  one_line(lambda: records.read_results(tmp_path), path)


@pytest.mark.parametrize('line', [b'1\n', b'{"a": NaN}\n', b'{"a":1,"a":2}\n'])
def test_lines_that_no_run_writes(tmp_path, line):
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(b'{"a": 1}\n' + line + b'{"a": 2}\n')
  message = one_line(lambda: records.read_metrics(tmp_path), path)
  assert 'line 2' in message


@pytest.mark.parametrize('field', ['series', 'image', 'label', 'index'])
def test_fields_of_another_dtype_are_refused(field):
  class Feature:
    shape = ()
    np_dtype = np.float64

  with pytest.raises(ValueError, match=f"field '{field}' of dtype"):
    store._check_features({field: Feature}, {field: ()})


# Names.


TREES = {
  'Haiku': {
    'mlp/~/linear_0': {'w': ONES, 'b': ONES[0]},
    'mlp/~/l': {'w': ONES},
  },
  'dots': {'encoder.layer.0': {'weight': ONES}, 'a.b.c': ONES},
  'a dot beside a level': {'blocks.0': ONES, 'blocks': {'0': ONES[0]}},
  'escapes': {'a.b': ONES, 'a': {'b': ONES[0]}, 'a%2Eb': ONES[1], '%': ONES},
  'numbers': {0: {'w': ONES}, 10: {'w': ONES[0]}, 2: {'w': ONES[1]}},
  'numbers as text': {'0': {'w': ONES}, '10': {'w': ONES[0]}},
  'slashes within': {'a/b': {'c.d': ONES}, 'a': {'b/c': {'d': ONES[0]}}},
  'suffixes': {'a': ONES, 'a.npy': ONES[0], 'w.npz': {'.npy': ONES}},
  'spaces and letters': {'größe  1': ONES, '层': {'⟨x⟩': ONES[0]}, ' ': ONES},
  'odd ends': {'.': ONES, '..': {'a.': ONES[0]}, '/': ONES[1]},
  'plain': {'hidden': {'kernel': ONES, 'bias': ONES[0]}},
  'long': {'x' * 200: {'y' * 200: ONES}},
}


@pytest.mark.parametrize('file', FORMATS)
@pytest.mark.parametrize('name', TREES)
def test_save_then_load_is_the_identity(tmp_path, name, file):
  tree = TREES[name]
  weights.save(tmp_path / file, tree)
  assert same(weights.load(tmp_path / file), tree)
  flat = weights.load(tmp_path / file, nested=False)
  assert len(flat) == len(jax.tree.leaves(tree))
  streamed = dict(weights.stream(tmp_path / file))
  assert flat.keys() == streamed.keys()
  assert all(np.array_equal(flat[n], streamed[n]) for n in flat)


@pytest.mark.parametrize('file', FORMATS)
def test_networks_of_flax_go_on_from_a_file(tmp_path, file):
  def make(seed):
    rngs = nnx.Rngs(seed)
    layers = [nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)]
    return nnx.Sequential(*layers, nnx.BatchNorm(1, rngs=rngs))

  saved, other = make(0), make(1)
  weights.save(tmp_path / file, nnx.state(saved))
  nnx.update(other, weights.load(tmp_path / file))
  assert same(
    nnx.to_pure_dict(nnx.state(other)), nnx.to_pure_dict(nnx.state(saved))
  )


def test_arrays_of_safetensors_are_mapped(tmp_path):
  path = tmp_path / 'w.safetensors'
  weights.save(path, {'a': np.zeros((1000, 1000)), 'b': ONES})
  tracemalloc.start()
  found = dict(weights.stream(path))
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 2**20
  assert not found['a'].flags.writeable
  assert np.array_equal(found['b'], ONES)
  assert weights.load(path)['a'].flags.writeable


# Narrow numbers.


NARROW = [
  'bfloat16',
  *('float8_e4m3fn', 'float8_e5m2', 'float8_e4m3fnuz', 'float8_e5m2fnuz'),
]


@pytest.mark.parametrize('file', FORMATS)
@pytest.mark.parametrize('dtype', NARROW)
def test_narrow_numbers_come_back(tmp_path, file, dtype):
  if file == 'w' and dtype != 'bfloat16':
    pytest.skip('Orbax has its own list of dtypes')
  x = np.arange(16).reshape(4, 4).astype(getattr(ml_dtypes, dtype))
  weights.save(
    tmp_path / file,
    {'a.b': {'c': x}, 'd': x[:0], 'e': ONES[0]}
    if file != 'w'
    else {'a.b': {'c': x}},
  )
  back = weights.load(tmp_path / file)
  assert same(back['a.b']['c'], x)


def test_raw_numbers_of_numpy(tmp_path):
  path = tmp_path / 'w.npz'
  x = np.linspace(-2, 2, 12).reshape(3, 4).astype(ml_dtypes.bfloat16)
  np.savez(path, x=x, y=ONES)
  assert same(weights.load(path)['x'], x)
  np.savez(path, x=x.astype(ml_dtypes.float8_e5m2))
  message = one_line(lambda: weights.load(path), path)
  assert 'float8' in message
  np.savez(path, x=np.zeros(2, [('a', 'f4')]))
  assert 'it has no numbers' in one_line(lambda: weights.load(path), path)


def test_the_library_of_safetensors_agrees(tmp_path):
  path = tmp_path / 'w.safetensors'
  arrays = {
    str(np.dtype(t)): np.arange(6).reshape(2, 3).astype(t)
    for t in ('?', 'i1', 'u2', 'i4', 'u8', 'f2', 'f4', 'f8', 'c8')
  } | {'empty': np.zeros((0, 2), np.float32), 'scalar': np.float32(2.0)}
  save_file({k: np.asarray(v) for k, v in arrays.items()}, path)
  assert same(weights.load(path, nested=False), arrays)
  weights.save(path, arrays)
  assert same(load_file(path), arrays)


# Files of other programs.


def sharded(folder, places):
  for shard in set(places.values()):
    save_file(
      {
        n: np.full((2, 2), i)
        for i, n in enumerate(places)
        if places[n] == shard
      },
      folder / shard,
    )
  index = folder / 'model.safetensors.index.json'
  index.write_text(json.dumps({'metadata': {}, 'weight_map': places}))
  return index


PLACES = {
  'a.weight': 'model-00001-of-00002.safetensors',
  'b.weight': 'model-00002-of-00002.safetensors',
  'b.bias': 'model-00001-of-00002.safetensors',
}


def test_shards_are_read_by_their_index_and_folder(tmp_path):
  index = sharded(tmp_path, PLACES)
  for path in (index, tmp_path):
    got = weights.load(path)
    assert got['b']['weight'][0, 0] == 1
    assert got['b']['bias'][0, 0] == 2
    assert [name for name, _ in weights.stream(path)] == list(PLACES)
  one_line(lambda: weights.load(index, max_bytes=100), tmp_path)


def test_a_folder_with_one_file_is_that_file(tmp_path):
  weights.save(tmp_path / 'model.safetensors', {'a': ONES})
  assert same(weights.load(tmp_path), {'a': ONES})
  weights.save(tmp_path / 'other.safetensors', {'a': ONES})
  assert 'shards without index' in one_line(
    lambda: weights.load(tmp_path), tmp_path
  )


@pytest.mark.parametrize(
  'places',
  [
    {'a': 'missing.safetensors'},
    {'missing': 'model-00001-of-00002.safetensors'},
    {'a.weight': '../model.safetensors'},
    {'a.weight': '/etc/passwd'},
    {'a.weight': 3},
    {},
    [],
    None,
  ],
)
def test_indices_that_lead_nowhere(tmp_path, places):
  index = sharded(tmp_path, PLACES)
  index.write_text(json.dumps({'weight_map': places}))
  message = one_line(lambda: weights.load(index), index)
  assert 'shard' in message


@pytest.mark.parametrize('options', [{}, {'step_prefix': 'step'}])
def test_the_last_step_of_a_manager(tmp_path, options):
  import orbax.checkpoint as ocp

  made = ocp.CheckpointManagerOptions(**options)
  with ocp.CheckpointManager(tmp_path / 'm', options=made) as manager:
    for step in (9, 10):
      manager.save(step, args=ocp.args.StandardSave({'a': ONES * step}))
  assert same(weights.load(tmp_path / 'm'), {'a': ONES * 10})


def test_steps_of_several_items(tmp_path):
  import orbax.checkpoint as ocp

  opt = {'mu': {'a': ONES * 2}}
  with ocp.CheckpointManager(tmp_path / 'm') as manager:
    manager.save(
      3,
      args=ocp.args.Composite(
        params=ocp.args.StandardSave({'a': ONES}),
        opt=ocp.args.StandardSave(opt),
        about=ocp.args.JsonSave({'x': 1}),
      ),
    )
  want = {'params': {'a': ONES}, 'opt': opt}
  assert same(weights.load(tmp_path / 'm'), want)
  assert same(weights.load(tmp_path / 'm' / '3'), want)
  assert set(weights.load(tmp_path / 'm', nested=False)) == {
    'params.a',
    'opt.mu.a',
  }


def test_what_flax_serializes(tmp_path):
  path = tmp_path / 'state.msgpack'
  params = {'dense': {'kernel': ONES, 'bias': jnp.ones(3, jnp.bfloat16)}}
  state = {'step': 3, 'params': params, 'opt': optax.adam(0.1).init(params)}
  path.write_bytes(serialization.to_bytes(state))
  got = weights.load(path)
  assert same(got['params'], params)
  assert got['opt']['0']['mu']['dense']['kernel'].shape == (2, 3)
  assert dict(weights.stream(path))['step'] == 3
  for data in (b'', b'\xc1', path.read_bytes()[:-3], b'\x93\x01\x02\x03'):
    path.write_bytes(data)
    one_line(lambda: weights.load(path), path)
  path.write_bytes(serialization.msgpack_serialize({'a': 'text'}))
  with pytest.raises(ValueError, match='a must be an array'):
    weights.load(path)


@pytest.mark.parametrize(
  ('suffix', 'advice'),
  [
    *((s, 'safetensors.torch.save_file') for s in ('.pt', '.pth', '.bin')),
    *((s, 'h5py') for s in ('.h5', '.hdf5', '.keras')),
    ('.npy', 'numpy.savez'),
  ],
)
def test_what_is_not_read_says_what_to_do(tmp_path, suffix, advice):
  path = tmp_path / f'w{suffix}'
  path.write_bytes(b'x')
  assert advice in one_line(lambda: weights.load(path), path)


# The disk.


@pytest.mark.parametrize('name', ['w.npz', 'w.safetensors'])
def test_a_full_disk_is_told_with_the_path(tmp_path, name):
  path = tmp_path / name
  weights.save(path, {'a': ONES})
  # A limit on the size of files ends a write as a full disk does.
  script = (
    'import resource, signal, sys, numpy as np\n'
    'from htjax.io import weights\n'
    'import safetensors.numpy\n'
    'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
    'resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n'
    'try:\n'
    "  weights.save(sys.argv[1], {'a': np.ones(10_000)})\n"
    'except OSError as error:\n'
    '  sys.exit(0 if sys.argv[1] in str(error) else repr(error))\n'
    'sys.exit("no error")\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script, str(path)],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-300:]
  assert same(weights.load(path), {'a': ONES})
  assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize('error', [OSError(28, 'No space left'), MemoryError()])
def test_writers_name_the_path(tmp_path, error):
  def fail():
    with files.replacing(tmp_path / 'a'):
      raise error

  message = one_line(fail, tmp_path / 'a', (OSError, MemoryError))
  assert 'memory' in message or 'No space' in message
  assert not list(tmp_path.iterdir())


def test_a_log_on_a_full_disk(tmp_path):
  with records.open_run(tmp_path, {}) as run:
    run._log.close()
    run._log = Path('/dev/full').open('ab', buffering=0)  # noqa: SIM115
    message = one_line(lambda: run.log({'a': 1}), tmp_path / 'metrics.jsonl')
  assert 'No space left on device' in message


@pytest.mark.parametrize('name', ['results.json', 'a.npz', 'a.safetensors'])
def test_directories_in_the_way(tmp_path, name):
  (tmp_path / name).mkdir()
  (tmp_path / name / 'x').touch()
  one_line(
    lambda: files.atomic_write(tmp_path / name, 'x'), tmp_path / name, OSError
  )
  if name != 'results.json':
    one_line(
      lambda: weights.save(tmp_path / name, {'a': ONES}),
      tmp_path / name,
      OSError,
    )


def test_memory_that_is_not_there(tmp_path, monkeypatch):
  weights.save(tmp_path / 'w.safetensors', {'a': ONES})

  def fail(*_, **__):
    raise MemoryError

  monkeypatch.setattr(np, 'fromfile', fail)
  one_line(
    lambda: weights.load(tmp_path / 'w.safetensors'),
    tmp_path / 'w.safetensors',
    MemoryError,
  )


# Damage of every kind: a file is what it was, or one line.


def mutations(data, rng, count):
  """Bytes that are damaged in one of eight ways."""
  size = len(data)
  for i in range(count):
    at, other = rng.randrange(size), rng.randrange(size)
    low, high = min(at, other), max(at, other)
    flipped = bytearray(data)
    flipped[at] ^= 1 << rng.randrange(8)
    yield (
      data[:at],
      bytes(flipped),
      data[:low] + data[high:],
      data[:low] + bytes(high - low) + data[high:],
      data[:high] + data[low:],
      data + data[at:],
      rng.randbytes(min(size, 64)) + data[64:],
      data[:at] + b'\xff' * 8 + data[at + 8 :],
    )[i % 8]


def make_weights(tmp_path, name):
  tree = {'a/b': {'c.d': np.arange(300.0)}, 'e': {'f': ONES, 'g': ONES[0]}}
  weights.save(tmp_path / name, tree)
  path = tmp_path / name
  found = [path] if path.is_file() else list(path.rglob('*'))
  return [p for p in found if p.is_file()], lambda: weights.load(path), tree


def make_plain_orbax(tmp_path, name):
  tree = {'a': np.arange(300.0), 'e': {'f': ONES}}
  orbax_plain(tmp_path / name, tree)
  found = [p for p in (tmp_path / name).rglob('*') if p.is_file()]
  return found, lambda: weights.load(tmp_path / name), tree


def make_msgpack(tmp_path, name):
  tree = {'a': np.arange(300.0), 'e': {'f': ONES}}
  path = tmp_path / f'{name}.msgpack'
  path.write_bytes(serialization.to_bytes(tree))
  return [path], lambda: weights.load(path), tree


def make_checkpoint(tmp_path, name):
  tree = {'a': np.arange(300.0), 'k': np.arange(3), 'z': np.zeros((0, 2))}
  path = checkpoints.save(tmp_path / name, 1, tree)
  found = [p for p in path.rglob('*') if p.is_file()]
  return found, lambda: checkpoints.restore(tmp_path / name)[0], tree


def make_results(tmp_path, name):
  path = tmp_path / 'results.json'
  path.write_text(json.dumps(RESULTS))
  return [path], lambda: records.read_results(tmp_path), None


KINDS = {
  'w.npz': make_weights,
  'w.safetensors': make_weights,
  'w': make_weights,
  'plain': make_plain_orbax,
  'msgpack': make_msgpack,
  'checkpoint': make_checkpoint,
  'results': make_results,
}
# Formats whose numbers have checksums.
SEALED = {'w.npz', 'checkpoint'}


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('kind', KINDS)
def test_damaged_files_are_whole_or_one_line(tmp_path, kind):
  found, read, tree = KINDS[kind](tmp_path, kind)
  rng = random.Random(11)
  refused = total = unclear = 0
  for path in found:
    data = path.read_bytes()
    for damaged in mutations(data, rng, 136 // len(found) if data else 0):
      path.write_bytes(damaged)
      total += 1
      try:
        got = read()
      except (ValueError, OSError) as error:
        unclear += '\n' in str(error) or str(tmp_path) not in str(error)
        refused += 1
      else:
        if kind in SEALED:
          assert same(got, tree)
    path.write_bytes(data)
  assert not unclear
  assert total >= 100
  assert refused >= total / 8
