"""Data sets: exact values, order, options, and every way files can be wrong."""

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from htjax import data
from htjax.data.__main__ import main

NUM_ROWS = {'train': 500, 'test': 4500}


def make_table(num_rows, seed):
  """Rows like the archive's: a class, then 140 values of mean zero."""
  rng = np.random.default_rng(seed)
  values = rng.standard_normal((num_rows, 140))
  values -= values.mean(axis=1)[:, None]
  classes = rng.integers(1, 6, num_rows)
  classes[:5] = range(1, 6)
  return np.column_stack([classes, values])


def lines_of(table):
  return [' '.join(f'{v:.7e}' for v in row) for row in table]


def write_raw(directory, lines):
  directory.mkdir(exist_ok=True)
  for split in NUM_ROWS:
    text = '\n'.join(lines[split]) + '\n'
    (directory / f'ECG5000_{split.upper()}.txt').write_text(text)


def prepare_ecg(directory, raw):
  return main(
    ['prepare', 'ecg5000', f'--data_dir={directory}', f'--manual_dir={raw}']
  )


@pytest.fixture(scope='module')
def lines():
  return {
    split: lines_of(make_table(n, seed))
    for seed, (split, n) in enumerate(NUM_ROWS.items())
  }


@pytest.fixture(scope='module')
def table(lines):
  """Contents of the text files, parsed by numpy's own reader."""
  return {split: np.loadtxt(rows) for split, rows in lines.items()}


@pytest.fixture(scope='module')
def raw_dir(tmp_path_factory, lines):
  raw = tmp_path_factory.mktemp('raw')
  write_raw(raw, lines)
  return raw


@pytest.fixture(scope='module')
def ecg_dir(tmp_path_factory, raw_dir):
  directory = tmp_path_factory.mktemp('tfds')
  assert prepare_ecg(directory, raw_dir) == 0
  return directory


@pytest.fixture
def ecg_copy(tmp_path, ecg_dir):
  """A prepared set that a test may damage."""
  shutil.copytree(ecg_dir / 'ecg5000', tmp_path / 'ecg5000')
  return data.find_prepared('ecg5000', tmp_path)


# -- load


@pytest.mark.parametrize('name', ['', 'MNIST', 'imagenet', None])
def test_unknown_name_lists_the_known(name):
  with pytest.raises(ValueError, match=r"name must be one of 'digits', .*'syn"):
    data.load(name)


@pytest.mark.parametrize('name', data.NAMES)
def test_unknown_option_is_refused_before_any_reading(name, tmp_path):
  with pytest.raises(ValueError, match=f"'flaten' is not an option of {name}"):
    data.load(name, data_dir=tmp_path, flaten=True)


@pytest.mark.parametrize('name', ['ecg5000', 'mnist', 'cifar10', 'cifar100'])
def test_unprepared_names_the_command(name, tmp_path):
  command = f'python -m htjax.data prepare {name} --data_dir={tmp_path}'
  with pytest.raises(FileNotFoundError, match=command):
    data.load(name, data_dir=tmp_path)


# -- digits


def test_digits_are_standardised_by_the_training_set():
  dataset = data.load('digits')
  assert dataset.train.inputs.shape == (1437, 8, 8, 1)
  assert dataset.test.inputs.shape == (360, 8, 8, 1)
  assert dataset.input_shape == (8, 8, 1)
  assert dataset.num_classes == 10
  for split in (dataset.train, dataset.test):
    assert split.inputs.dtype == np.float32
    assert split.labels.dtype == np.int32
  x = dataset.train.inputs.astype(np.float64)
  # Each of n entries carries a rounding error of at most eps |x| / 2.
  bound = np.finfo(np.float32).eps * np.abs(x).max()
  assert abs(x.mean()) < bound
  assert abs(x.std() - 1.0) < bound
  assert abs(dataset.test.inputs.mean(dtype=np.float64)) > bound


def test_digits_split_is_stratified_and_a_partition():
  from sklearn.datasets import load_digits

  train, test = _splits(data.load('digits', flatten=True))
  assert_array_equal(np.bincount(test.labels), [36] * 10)
  inputs = np.concatenate([train.inputs, test.inputs])
  labels = np.concatenate([train.labels, test.labels])
  # Pixels are the integers 0 to 16.
  unit = (inputs.max() - inputs.min()) / 16
  ours = np.column_stack([np.rint((inputs - inputs.min()) / unit), labels])
  theirs = np.column_stack(load_digits(return_X_y=True))
  assert len(ours) == len(theirs)
  assert_array_equal(np.unique(ours, axis=0), np.unique(theirs, axis=0))


def _splits(dataset):
  return dataset.train, dataset.test


def test_digits_seed_and_flatten():
  images, flat = data.load('digits'), data.load('digits', flatten=True)
  assert_array_equal(images.test.inputs.reshape(360, 64), flat.test.inputs)
  again, other = data.load('digits', seed=0), data.load('digits', seed=1)
  assert_array_equal(images.train.inputs, again.train.inputs)
  assert not np.array_equal(images.train.inputs, other.train.inputs)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'flatten': 1}, 'flatten must be True or False, got 1'),
    ({'seed': -1}, 'seed must be an integer >= 0, got -1'),
  ],
)
def test_digits_refuses_bad_options(options, message):
  with pytest.raises(ValueError, match=message):
    data.load('digits', **options)


# -- ecg5000: what is read


def test_ecg_values_and_order_round_trip(ecg_dir, table):
  dataset = data.load('ecg5000', data_dir=ecg_dir, labels='all')
  for split, rows in zip(_splits(dataset), table.values(), strict=True):
    assert_array_equal(split.inputs, rows[:, 1:].astype(np.float32))
    assert_array_equal(split.labels, rows[:, 0].astype(np.int32) - 1)
    assert split.inputs.dtype == np.float32
    assert split.labels.dtype == np.int32
  assert dataset.num_classes == 5


def test_ecg_binary_labels_are_the_default(ecg_dir, table):
  dataset = data.load('ecg5000', data_dir=ecg_dir)
  assert dataset.num_classes == 2
  assert_array_equal(dataset.train.labels, table['train'][:, 0] != 1)
  assert_array_equal(dataset.test.labels, table['test'][:, 0] != 1)


def test_ecg_seeded_split(ecg_dir, table):
  dataset = data.load('ecg5000', data_dir=ecg_dir, labels='all', split=7)
  rows = np.concatenate([table['train'], table['test']])
  rows = rows[np.random.default_rng(7).permutation(5000)]
  train, test = _splits(dataset)
  assert_array_equal(train.inputs, rows[:500, 1:].astype(np.float32))
  assert_array_equal(test.inputs, rows[500:, 1:].astype(np.float32))
  assert_array_equal(np.append(train.labels, test.labels), rows[:, 0] - 1)
  other = data.load('ecg5000', data_dir=ecg_dir, labels='all', split=8)
  assert not np.array_equal(train.inputs, other.train.inputs)


def test_ecg_variants(ecg_dir):
  plain, bias, per_time = (
    data.load('ecg5000', data_dir=ecg_dir, variant=variant)
    for variant in ('z_normalised', 'bias', 'per_time')
  )
  # Text with 8 digits, then float32: 140 roundings of values below 5.
  bound = 140 * 5 * (5e-8 + np.finfo(np.float32).eps)
  for split in _splits(plain):
    assert np.abs(split.inputs.sum(axis=1, dtype=np.float64)).max() < bound
  for with_bias, without in zip(_splits(bias), _splits(plain), strict=True):
    assert_array_equal(with_bias.inputs[:, :140], without.inputs)
    assert_array_equal(with_bias.inputs[:, 140], np.ones(len(without.labels)))
  x = per_time.train.inputs.astype(np.float64)
  rounding = np.finfo(np.float32).eps * np.abs(x).max()
  assert np.abs(x.mean(axis=0)).max() < rounding
  assert np.abs(x.std(axis=0) - 1.0).max() < rounding
  # Each series then sums to a number of order sqrt(140), not to zero.
  assert np.abs(x.sum(axis=1)).max() > 1.0
  # The test set is shifted and scaled by the training set's numbers.
  train, test = plain.train.inputs, plain.test.inputs
  expected = (test - train.mean(axis=0, dtype=np.float64)[None, :]) / (
    train.std(axis=0, dtype=np.float64)[None, :]
  )
  assert_array_equal(per_time.test.inputs, expected.astype(np.float32))


def test_ecg_constant_time_step_becomes_zero(tmp_path, lines):
  constant = {}
  for split, rows in lines.items():
    fields = [row.split() for row in rows]
    constant[split] = [' '.join([f[0], '3.0', *f[2:]]) for f in fields]
  write_raw(tmp_path / 'raw', constant)
  assert prepare_ecg(tmp_path / 'tfds', tmp_path / 'raw') == 0
  per_time = data.load(
    'ecg5000', data_dir=tmp_path / 'tfds', variant='per_time'
  )
  assert_array_equal(per_time.train.inputs[:, 0], np.zeros(500))
  assert np.isfinite(per_time.test.inputs).all()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'labels': 'both'}, "labels must be one of 'binary', 'all'"),
    ({'variant': 'raw'}, "variant must be one of 'z_normalised', 'bias'"),
    ({'split': 'random'}, "split must be one of 'ucr'"),
    ({'split': -1}, 'split must be an integer >= 0'),
    ({'split': 1.0}, 'split must be an integer >= 0'),
    ({'split': True}, 'split must be an integer >= 0'),
  ],
)
def test_ecg_refuses_bad_options(options, message):
  with pytest.raises(ValueError, match=message):
    data.load('ecg5000', **options)


# -- ecg5000: where it is looked for


def test_search_path(ecg_dir, tmp_path, monkeypatch):
  empty = tmp_path / 'empty'
  monkeypatch.setenv('TFDS_DATA_DIR', f'{empty}{os.pathsep}{ecg_dir}')
  assert data.find_prepared('ecg5000') == ecg_dir / 'ecg5000' / '1.0.0'
  assert data.find_prepared('ecg5000', empty) is None
  assert data.load('ecg5000').train.inputs.shape == (500, 140)
  with pytest.raises(FileNotFoundError, match=f'not prepared in {empty}; '):
    data.load('ecg5000', data_dir=empty)
  monkeypatch.delenv('TFDS_DATA_DIR')
  monkeypatch.setenv('HOME', os.fspath(tmp_path))
  expected = f'not prepared in {tmp_path}/tensorflow_datasets; '
  with pytest.raises(FileNotFoundError, match=expected):
    data.load('ecg5000')


def test_unwritable_directories_are_not_proposed(tmp_path, monkeypatch):
  monkeypatch.setattr(os, 'access', lambda path, mode: path == tmp_path)
  monkeypatch.setenv('TFDS_DATA_DIR', f'/read/only{os.pathsep}{tmp_path}')
  with pytest.raises(FileNotFoundError, match=f'--data_dir={tmp_path} '):
    data.load('ecg5000')
  monkeypatch.setenv('TFDS_DATA_DIR', '/read/only')
  with pytest.raises(
    FileNotFoundError, match=r'--data_dir=DIR .*TFDS_DATA_DIR'
  ):
    data.load('ecg5000')


def test_newest_finished_version_is_found(tmp_path):
  for version in (
    '1.9.0',
    '1.10.0',
    '2.0.0',
    '3.0.0.incomplete',
    'incomplete.3',
  ):
    path = tmp_path / 'mnist' / version
    path.mkdir(parents=True)
    (path / 'dataset_info.json').touch()
    if version != '2.0.0':
      (path / 'features.json').touch()
  assert data.find_prepared('mnist', tmp_path).name == '1.10.0'


def test_list_says_what_is_prepared(ecg_dir, capsys):
  assert main(['list', f'--data_dir={ecg_dir}']) == 0
  rows = dict(r.split(None, 1) for r in capsys.readouterr().out.splitlines())
  assert rows['ecg5000'] == os.fspath(ecg_dir / 'ecg5000' / '1.0.0')
  assert rows['mnist'] == 'not prepared'


# -- ecg5000: raw files


def _as_tsv(row):
  return row.replace(' ', '\t')


def _as_ts(row):
  label, *values = row.split()
  return f'{",".join(values)}:{int(float(label))}'


@pytest.mark.parametrize(
  ('suffix', 'convert', 'header'),
  [
    ('.txt.gz', lambda row: f'   {row}  ', ''),
    ('.tsv', _as_tsv, ''),
    (
      '.ts',
      _as_ts,
      '# ECG\n@problemName ECG5000\n@classLabel true 1 2\n@data\n',
    ),
  ],
)
def test_raw_formats_agree(tmp_path, lines, table, suffix, convert, header):
  from htjax.data import ecg5000

  for split, rows in lines.items():
    text = header + '\r\n'.join(map(convert, rows)) + '\n\n'
    path = tmp_path / f'ECG5000_{split.upper()}{suffix}'
    with (gzip.open if suffix.endswith('gz') else open)(path, 'wt') as file:
      file.write(text)
  for split, (series, labels) in ecg5000.read_raw(tmp_path).items():
    assert_array_equal(series, table[split][:, 1:].astype(np.float32))
    assert_array_equal(labels, table[split][:, 0] - 1)


def _replace(field, text):
  def damage(rows):
    fields = rows[6].split()
    fields[field] = text
    return [*rows[:6], ' '.join(fields), *rows[7:]]

  return damage


FAULTS = {
  'missing column': (
    lambda rows: [*rows[:6], rows[6].rsplit(' ', 1)[0], *rows[7:]],
    'line 7: expected 141 numbers, got 140',
  ),
  'extra column': (
    lambda rows: [*rows[:6], rows[6] + ' 1.0', *rows[7:]],
    'line 7: expected 141 numbers, got 142',
  ),
  'text': (_replace(9, 'oops'), "line 7: could not convert .*'oops'"),
  'binary': (
    lambda rows: [*rows[:6], '\x00\x7f', *rows[7:]],
    'line 7: expected 141 numbers, got 1',
  ),
  'nan': (_replace(9, 'nan'), 'line 7: expected finite numbers'),
  'infinity': (_replace(9, '-inf'), 'line 7: expected finite numbers'),
  'too large': (_replace(9, '1e39'), 'line 7: expected finite numbers'),
  'class 0': (_replace(0, '0'), 'line 7: expected a class from 1 to 5, got 0'),
  'class 6': (_replace(0, '6.0'), 'line 7: expected a class .*, got 6'),
  'class 1.5': (_replace(0, '1.5'), 'line 7: expected a class .*, got 1.5'),
  'class nan': (_replace(0, 'nan'), 'line 7: expected finite numbers'),
  'endless line': (
    lambda rows: [*rows[:6], '1 ' * 10**6, *rows[7:]],
    'line 7: expected 141 numbers',
  ),
  'empty': (lambda rows: [], 'expected 500 rows, got 0'),
  'too few': (lambda rows: rows[:-1], 'expected 500 rows, got 499'),
  'too many': (
    lambda rows: [*rows, rows[0]],
    'line 501: .* 500 rows, got more',
  ),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_damaged_text_is_one_clear_line(tmp_path, lines, capsys, fault):
  damage, message = FAULTS[fault]
  raw = tmp_path / 'raw'
  write_raw(raw, lines | {'train': damage(lines['train'])})
  assert prepare_ecg(tmp_path / 'tfds', raw) == 2
  error = capsys.readouterr().err.strip().splitlines()[-1]
  assert error.startswith(f'htjax: error: {raw}/ECG5000_TRAIN.txt')
  with pytest.raises(ValueError, match=message) as caught:
    data.prepare('ecg5000', tmp_path / 'tfds', raw)
  assert len(str(caught.value).splitlines()) == 1
  assert data.find_prepared('ecg5000', tmp_path / 'tfds') is None


@pytest.mark.parametrize(
  'damage',
  [
    lambda b: b[: len(b) // 2],
    lambda b: b'not gzip at all',
    lambda b: b[:1000] + b'\xff' * 64 + b[1064:],
  ],
)
def test_damaged_gzip_is_one_clear_line(tmp_path, lines, damage):
  write_raw(tmp_path, lines)
  path = tmp_path / 'ECG5000_TEST.txt'
  content = gzip.compress(path.read_bytes(), 1, mtime=0)
  path.unlink()
  (tmp_path / 'ECG5000_TEST.txt.gz').write_bytes(damage(content))
  with pytest.raises(ValueError, match=r'ECG5000_TEST\.txt\.gz') as caught:
    data.prepare('ecg5000', tmp_path / 'tfds', tmp_path)
  assert len(str(caught.value).splitlines()) == 1


def test_missing_raw_files(tmp_path, lines):
  with pytest.raises(FileNotFoundError, match=r'manual_dir .* not a directory'):
    data.prepare('ecg5000', tmp_path / 'tfds', tmp_path / 'absent')
  write_raw(tmp_path / 'raw', lines)
  (tmp_path / 'raw' / 'ECG5000_TEST.txt').unlink()
  with pytest.raises(FileNotFoundError, match='holds no ECG5000_TEST with'):
    data.prepare('ecg5000', tmp_path / 'tfds', tmp_path / 'raw')


# -- ecg5000: preparing


def test_prepare_is_idempotent(ecg_dir, raw_dir, tmp_path, capsys):
  path = data.find_prepared('ecg5000', ecg_dir)
  before = {p: p.stat().st_mtime_ns for p in ecg_dir.rglob('*')}
  assert prepare_ecg(ecg_dir, raw_dir) == 0
  assert capsys.readouterr().out == f'ecg5000 is prepared in {path}\n'
  # It needs no raw files then.
  assert data.prepare('ecg5000', ecg_dir, tmp_path) == path
  assert {p: p.stat().st_mtime_ns for p in ecg_dir.rglob('*')} == before


def test_interrupted_prepare_leaves_nothing_that_is_read(
  tmp_path, raw_dir, monkeypatch
):
  from htjax.data import ecg5000

  def interrupted(self, series, labels):
    yield 0, {'series': series[0], 'label': 0, 'index': 0}
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(ecg5000.Ecg5000, '_generate_examples', interrupted)
    with pytest.raises(KeyboardInterrupt):
      data.prepare('ecg5000', tmp_path, raw_dir)
  with pytest.raises(FileNotFoundError, match=r'python -m htjax\.data prepare'):
    data.load('ecg5000', data_dir=tmp_path)
  data.prepare('ecg5000', tmp_path, raw_dir)
  assert data.load('ecg5000', data_dir=tmp_path).test.labels.shape == (4500,)


def test_killed_prepare_leaves_nothing_that_is_read(tmp_path, raw_dir):
  code = (
    'import os, signal, sys, pathlib\n'
    'from htjax import data\n'
    'def die(self, target): os.kill(os.getpid(), signal.SIGKILL)\n'
    'import etils.epath\n'
    'etils.epath.gpath.PosixGPath.rename = die\n'
    'data.prepare("ecg5000", *sys.argv[1:])\n'
  )
  arguments = [sys.executable, '-c', code, tmp_path, raw_dir]
  result = subprocess.run(arguments, capture_output=True, check=False)
  assert result.returncode == -9, result.stderr
  # All was written, and nothing had its final name.
  left = list((tmp_path / 'ecg5000').iterdir())
  assert len(left) == 1
  assert 'incomplete' in left[0].name
  assert data.find_prepared('ecg5000', tmp_path) is None
  data.prepare('ecg5000', tmp_path, raw_dir)
  assert data.load('ecg5000', data_dir=tmp_path).test.labels.shape == (4500,)


def test_race_between_two_preparations_is_no_error(
  tmp_path, raw_dir, ecg_dir, monkeypatch
):
  from htjax.data import preparing

  def other_finishes_first(data_dir, manual_dir):
    (tmp_path / 'ecg5000').symlink_to(ecg_dir / 'ecg5000')
    raise OSError('directory not empty')

  monkeypatch.setattr(preparing, '_prepare_ecg5000', other_finishes_first)
  assert data.prepare('ecg5000', tmp_path, raw_dir).name == '1.0.0'


def test_damaged_version_is_not_called_prepared(tmp_path, raw_dir, ecg_copy):
  (ecg_copy / 'features.json').unlink()
  with pytest.raises(OSError, match='damaged version of ecg5000: remove it'):
    data.prepare('ecg5000', tmp_path, raw_dir)


def _truncate(path):
  records = next(path.glob('*-test.array_record-*'))
  records.write_bytes(records.read_bytes()[:100_000])


def _flip(path):
  records = next(path.glob('*-test.array_record-*'))
  content = bytearray(records.read_bytes())
  content[70_000] ^= 0xFF
  records.write_bytes(content)


def _swap_splits(path):
  train, test = (
    next(path.glob(f'*-{split}.array_record-*')) for split in NUM_ROWS
  )
  train.write_bytes(test.read_bytes())


def _edit(file, old, new):
  def damage(path):
    text = (path / file).read_text()
    assert old in text
    (path / file).write_text(text.replace(old, new))

  return damage


@pytest.mark.parametrize(
  'damage',
  [
    _truncate,
    _flip,
    _swap_splits,
    _edit('dataset_info.json', '{', ''),
    _edit('features.json', '"140"', '"141"'),
    _edit('features.json', '"series"', '"heartbeat"'),
    _edit('dataset_info.json', '"array_record"', '"tfrecord"'),
  ],
)
def test_damaged_records_are_one_clear_line(tmp_path, ecg_copy, damage):
  damage(ecg_copy)
  with pytest.raises(ValueError, match=os.fspath(ecg_copy)) as caught:
    data.load('ecg5000', data_dir=tmp_path)
  assert len(str(caught.value).splitlines()) == 1


# -- ecg5000: download


def _serve(monkeypatch, content):
  monkeypatch.setattr(
    urllib.request, 'urlopen', lambda url, timeout: io.BytesIO(content)
  )


def test_download_without_network(tmp_path, monkeypatch, capsys):
  def offline(url, timeout):
    raise urllib.error.URLError('no route to host')

  monkeypatch.setattr(urllib.request, 'urlopen', offline)
  assert main(['prepare', 'ecg5000', f'--data_dir={tmp_path}']) == 2
  error = capsys.readouterr().err.strip()
  assert error.startswith('htjax: error: cannot download https://')
  assert 'no route to host' in error
  assert '--manual_dir' in error
  assert data.find_prepared('ecg5000', tmp_path) is None


def test_download_is_read_like_raw_files(tmp_path, raw_dir, table, monkeypatch):
  archive = io.BytesIO()
  with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED) as file:
    for path in raw_dir.iterdir():
      file.write(path, path.name)
  _serve(monkeypatch, archive.getvalue())
  data.prepare('ecg5000', tmp_path)
  dataset = data.load('ecg5000', data_dir=tmp_path)
  assert_array_equal(
    dataset.test.inputs, table['test'][:, 1:].astype(np.float32)
  )


def _zip_of(name, content):
  archive = io.BytesIO()
  with zipfile.ZipFile(archive, 'w') as file:
    file.writestr(name, content)
  return archive.getvalue()


@pytest.mark.parametrize(
  'content',
  [b'<html>moved</html>', b'', _zip_of('other.txt', b'1')],
)
def test_download_of_something_else(tmp_path, monkeypatch, content):
  _serve(monkeypatch, content)
  with pytest.raises(ValueError, match='is not the ECG5000 archive'):
    data.prepare('ecg5000', tmp_path)


# -- images


def test_stock_sets_need_tensorflow_to_be_prepared(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  assert main(['prepare', 'mnist', f'--data_dir={tmp_path}']) == 2
  assert "pip install 'htjax[prepare]'" in capsys.readouterr().err


@pytest.mark.parametrize('name', ['digits', 'synthetic', 'imagenet'])
def test_only_tfds_sets_can_be_prepared(tmp_path, name):
  with pytest.raises(
    ValueError, match="name must be one of 'ecg5000', 'mnist'"
  ):
    data.prepare(name, tmp_path)


SMALL = {'train': 7, 'test': 3}
SHAPES = {
  'mnist': (28, 28, 1),
  'cifar10': (32, 32, 3),
  'cifar100': (32, 32, 3),
  'svhn_cropped': (32, 32, 3),
}
CONSTANTS = {
  'mnist': (0.1307, 0.3081),
  'cifar10': ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
  'cifar100': ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
  'svhn_cropped': ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}


def write_images(directory, name, shape):
  """Write a small data set under a stock name; returns its pixels by split.

  Image i of a split has label i, and for CIFAR the id that TFDS gives it.
  """
  import tensorflow_datasets as tfds
  from PIL import Image

  rng = np.random.default_rng(0)
  pixels = {
    split: rng.integers(0, 256, (n, *shape), np.uint8)
    for split, n in SMALL.items()
  }
  with_id = name.startswith('cifar')

  def encode(image):
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, 'png')
    file.seek(0)
    return file

  def examples(split):
    for i, image in enumerate(pixels[split]):
      example = {'image': encode(image), 'label': i}
      yield i, example | ({'id': f'{split}_{i:05}'} if with_id else {})

  def info(self):
    features = {
      'image': tfds.features.Image(shape=shape),
      'label': tfds.features.ClassLabel(num_classes=10),
    }
    if with_id:
      features['id'] = tfds.features.Text()
    features = tfds.features.FeaturesDict(features)
    return tfds.core.DatasetInfo(builder=self, features=features)

  body = {
    'name': name,
    'VERSION': tfds.core.Version('0.0.1'),
    '_info': info,
    '_split_generators': lambda self, _: {s: examples(s) for s in SMALL},
    '_generate_examples': examples,
    '__module__': __name__,
  }
  base = tfds.core.GeneratorBasedBuilder
  builder = type(base)('Small', (base,), body, skip_registration=True)
  builder(data_dir=directory).download_and_prepare(file_format='array_record')
  return pixels


@pytest.mark.parametrize('name', SHAPES)
def test_images_are_normalised_by_channel(tmp_path, name):
  shape = SHAPES[name]
  pixels = write_images(tmp_path, name, shape)
  dataset = data.load(name, data_dir=tmp_path)
  assert dataset.input_shape == shape
  assert dataset.num_classes == (100 if name == 'cifar100' else 10)
  mean, std = map(np.array, CONSTANTS[name])
  for split, raw in zip(_splits(dataset), pixels.values(), strict=True):
    assert split.inputs.dtype == np.float32
    assert split.labels.dtype == np.int32
    assert_array_equal(np.sort(split.labels), np.arange(len(raw)))
    expected = (raw[split.labels] / 255 - mean) / std
    # Three float32 operations on numbers below 3 / 0.19.
    assert np.abs(split.inputs - expected).max() < 3 * 16 * 2**-24
  flat = data.load(name, data_dir=tmp_path, flatten=True)
  assert_array_equal(
    flat.train.inputs, dataset.train.inputs.reshape(SMALL['train'], -1)
  )
  assert_array_equal(flat.test.labels, dataset.test.labels)


def test_cifar_is_in_the_original_order(tmp_path):
  write_images(tmp_path, 'cifar10', SHAPES['cifar10'])
  dataset = data.load('cifar10', data_dir=tmp_path)
  assert_array_equal(dataset.train.labels, np.arange(SMALL['train']))
  # TFDS shuffles what it stores: the same writer without ids is not sorted.
  write_images(tmp_path, 'mnist', SHAPES['mnist'])
  dataset = data.load('mnist', data_dir=tmp_path)
  assert not np.array_equal(dataset.train.labels, np.arange(SMALL['train']))


def test_images_of_a_foreign_shape_are_refused(tmp_path):
  write_images(tmp_path, 'mnist', (32, 32, 3))
  with pytest.raises(
    ValueError, match=r"a field 'image' of shape \(28, 28, 1\)"
  ):
    data.load('mnist', data_dir=tmp_path)


# -- synthetic


SIZES = {'num_train': 300, 'num_test': 50, 'dim': 20, 'width': 30}


@pytest.mark.parametrize(
  'options', [{}, {'teacher': 'stable', 'alpha': 1.5}, {'hidden_layers': 0}]
)
def test_synthetic_shapes_and_reproducibility(options):
  dataset = data.load('synthetic', seed=3, **SIZES, **options)
  assert dataset.train.inputs.shape == (300, 20)
  assert dataset.test.inputs.shape == (50, 20)
  assert dataset.num_classes == 10
  for split in _splits(dataset):
    assert split.inputs.dtype == np.float32
    assert split.labels.dtype == np.int32
    assert 0 <= split.labels.min() < split.labels.max() < 10
  again = data.synthetic(jax.random.key(3), **SIZES, **options)
  for ours, theirs in zip(_splits(dataset), _splits(again), strict=True):
    assert_array_equal(ours.inputs, theirs.inputs)
    assert_array_equal(ours.labels, theirs.labels)
  other = data.load('synthetic', seed=4, **SIZES, **options)
  assert not np.array_equal(dataset.train.inputs, other.train.inputs)
  assert not np.array_equal(dataset.train.inputs[:50], dataset.test.inputs)


def test_synthetic_test_size_does_not_change_the_training_set():
  dataset = data.load('synthetic', **SIZES)
  larger = data.load('synthetic', **(SIZES | {'num_test': 60}))
  assert_array_equal(dataset.train.inputs, larger.train.inputs)
  assert_array_equal(dataset.train.labels, larger.train.labels)


def test_synthetic_survives_the_heaviest_tails():
  dataset = data.load('synthetic', teacher='stable', alpha=0.3, **SIZES)
  assert len(np.unique(dataset.train.labels)) > 1


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'num_train': 0}, 'num_train must be an integer >= 1'),
    ({'dim': 2.5}, 'dim must be an integer'),
    ({'num_classes': 1}, 'num_classes must be an integer >= 2'),
    ({'hidden_layers': -1}, 'hidden_layers must be an integer >= 0'),
    ({'teacher': 'cauchy'}, "teacher must be one of 'uniform', 'stable'"),
    ({'teacher': 'stable'}, "alpha must be given with teacher='stable'"),
    ({'alpha': 1.5}, "alpha must be given with teacher='stable'"),
    ({'teacher': 'stable', 'alpha': 0.0}, r'alpha must lie in \(0, 2\]'),
    ({'seed': -1}, 'seed must be an integer >= 0'),
  ],
)
def test_synthetic_refuses_bad_options(options, message):
  with pytest.raises(ValueError, match=message):
    data.load('synthetic', **options)


# -- the real data, where they are


def real(name):
  path = data.find_prepared(name)
  if path is None:
    pytest.skip(f'{name} is not prepared under TFDS_DATA_DIR')
  return data.load(name)


def unnormalised(inputs, name):
  mean, std = (np.array(c, np.float32) for c in CONSTANTS[name])
  return np.rint((inputs * std + mean) * 255).astype(np.uint8)


def sha256(array):
  return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.slow
def test_real_mnist():
  dataset = real('mnist')
  assert dataset.train.inputs.shape == (60000, 28, 28, 1)
  assert dataset.test.inputs.shape == (10000, 28, 28, 1)
  counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
  assert_array_equal(np.bincount(dataset.train.labels), counts)
  counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
  assert_array_equal(np.bincount(dataset.test.labels), counts)
  # The constants are the training set's own, to four digits.
  assert abs(dataset.train.inputs.mean(dtype=np.float64)) < 5e-5 / 0.3081
  assert abs(dataset.train.inputs.std(dtype=np.float64) - 1) < 5e-5 / 0.3081


@pytest.mark.slow
def test_real_cifar10():
  dataset = real('cifar10')
  expected = {
    'train': (
      '47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a',
      '2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253',
    ),
    'test': (
      'f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04',
      'cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5',
    ),
  }
  for split, digests in zip(_splits(dataset), expected.values(), strict=True):
    assert_array_equal(
      np.bincount(split.labels), [len(split.labels) // 10] * 10
    )
    assert sha256(unnormalised(split.inputs, 'cifar10')) == digests[0]
    assert sha256(split.labels.astype(np.uint8)) == digests[1]


def test_real_ecg5000(tmp_path):
  raw = os.environ.get('HTJAX_ECG5000_RAW')
  if raw is None:
    pytest.skip('HTJAX_ECG5000_RAW does not name a directory of raw files')
  data.prepare('ecg5000', tmp_path, raw)
  dataset = data.load('ecg5000', data_dir=tmp_path, labels='all')
  train, test = _splits(dataset)
  assert_array_equal(np.bincount(train.labels), [292, 177, 10, 19, 2])
  assert_array_equal(np.bincount(test.labels), [2627, 1590, 86, 175, 22])
  for split in (train, test):
    sums = split.inputs.sum(axis=1, dtype=np.float64)
    assert np.abs(sums).max() < 1e-5


def test_shifted_pictures_move_as_one():
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(60, 5, 4, 2)).astype(np.float32)
  found = data.shifted(inputs, 2, seed=(3, 1))
  assert found.dtype == np.float32
  padded = np.pad(inputs, ((0, 0), (2, 2), (2, 2), (0, 0)), 'edge')
  moves = set()
  for one, whole in zip(found, padded, strict=True):
    at = [
      (i, j)
      for i in range(5)
      for j in range(5)
      if np.array_equal(one, whole[i : i + 5, j : j + 4])
    ]
    assert len(at) == 1
    moves |= set(at)
  # Of 25 moves all but one or so occur in 60 pictures, at 2 of 25 for each end.
  assert len(moves) > 15
  series = data.shifted(inputs[:, :, :1], 1, seed=0)
  assert series.shape == (60, 5, 1, 2)
  np.testing.assert_array_equal(data.shifted(inputs, 0, seed=0), inputs)
  with pytest.raises(ValueError, match='most must be below'):
    data.shifted(inputs, 4, seed=0)
  with pytest.raises(ValueError, match='inputs must be'):
    data.shifted(inputs[0], 1, seed=0)
