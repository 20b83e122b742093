"""Contents of a run's work directory, whatever happens to the run."""

import errno
import fcntl
import json
import math
import random
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

import htjax
from htjax import records
from htjax.io import surroundings

ROOT = Path(htjax.__file__).resolve().parents[1]
CONFIG = {'rate': 0.1, 'net': {'width': 20, 'sizes': (3, 4)}, 'name': 'a'}


def strict(text):
  """Parse JSON as any other language would: NaN is no number."""

  def refuse(token):
    raise AssertionError(f'{token} is not JSON')

  return json.loads(text, parse_constant=refuse)


def log_text(path):
  return (path / 'metrics.jsonl').read_text()


def test_config_json_says_what_ran_and_with_what(tmp_path):
  with records.open_run(tmp_path / 'a' / 'b', CONFIG) as run:
    assert run.workdir == tmp_path / 'a' / 'b'
  about = strict((tmp_path / 'a' / 'b' / 'config.json').read_text())
  assert about['config'] == {
    'rate': 0.1,
    'net': {'width': 20, 'sizes': [3, 4]},
    'name': 'a',
  }
  assert about['versions']['jax'] == jax.__version__
  assert about['versions']['htjax'] == htjax.__version__
  assert about['versions']['numpy'] == np.__version__
  assert about['versions'].keys() >= {'jaxlib', 'flax', 'optax'}
  assert about['devices'] == [d.device_kind for d in jax.devices()]
  assert about['python'] == '.'.join(map(str, sys.version_info[:3]))
  assert about['started'].endswith('+00:00')
  assert records.read_config(run.workdir) == run.config == about['config']


def test_the_same_config_goes_on_and_keeps_its_first_record(tmp_path):
  records.open_run(tmp_path, CONFIG).close()
  first = (tmp_path / 'config.json').read_text()
  net = ml_collections.ConfigDict({'width': 20, 'sizes': [3, 4]})
  again = ml_collections.ConfigDict({'name': 'a', 'rate': 0.1, 'net': net})
  records.open_run(tmp_path, again).close()
  assert (tmp_path / 'config.json').read_text() == first


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'rate': 0.2}, r'\(rate was 0.1, is 0.2\)'),
    ({'net': {'width': 9, 'sizes': (3, 4)}}, r'\(net.width was 20, is 9\)'),
    ({'net': {'width': 20, 'sizes': (3,)}}, r'sizes was \[3, 4\], is \[3\]\)'),
    ({'net': {}}, 'net was absent, is {}; net.sizes was .*; net.width was 20'),
    ({'new': None}, r'\(new was absent, is null\)'),
    ({'name': True}, r'\(name was "a", is true\)'),
    ({f'x{i}': i for i in range(7)}, r'x4 was absent, is 4; 2 more\)'),
  ],
)
def test_another_config_is_refused_in_one_line(tmp_path, changes, message):
  records.open_run(tmp_path, CONFIG).close()
  with pytest.raises(ValueError, match=message) as caught:
    records.open_run(tmp_path, CONFIG | changes)
  text = str(caught.value)
  assert str(tmp_path) in text
  assert text.endswith('choose another --workdir or delete it')
  assert '\n' not in text
  records.open_run(tmp_path, CONFIG).close()


@pytest.mark.parametrize(
  ('old', 'new', 'same'),
  [
    (1, 1.0, True),
    (1, True, False),
    (math.inf, math.inf, True),
    (math.inf, None, False),
    (math.nan, math.nan, True),
    (math.nan, math.inf, False),
    (np.float32(0.5), 0.5, True),
    (1e-3, 1.0000001e-3, False),
  ],
)
def test_which_values_are_the_same_config(tmp_path, old, new, same):
  records.open_run(tmp_path, {'x': old}).close()
  strict((tmp_path / 'config.json').read_text())
  if same:
    records.open_run(tmp_path, {'x': new}).close()
  else:
    with pytest.raises(ValueError, match='belongs to another config'):
      records.open_run(tmp_path, {'x': new})


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ({'a': {'b': object()}}, r'config\.a\.b must be a number'),
    ({'a': [1, {2}]}, r'config\.a\[1\] must be a number'),
    ({'a': {1: 2}}, r'keys of config\.a must be strings, got 1'),
    ({'a': 1j}, r'config\.a must be'),
    ([1], 'config must be a dictionary'),
  ],
)
def test_configs_that_are_not_json_are_refused(tmp_path, config, message):
  with pytest.raises(ValueError, match=message):
    records.open_run(tmp_path / 'run', config)
  assert not (tmp_path / 'run').exists()


def test_a_directory_of_other_files_is_refused_and_left_alone(tmp_path):
  (tmp_path / 'thesis.tex').write_text('mine')
  with pytest.raises(ValueError, match=r'no config\.json \(thesis\.tex'):
    records.open_run(tmp_path, CONFIG)
  assert [p.name for p in tmp_path.iterdir()] == ['thesis.tex']


def test_a_file_is_no_work_directory(tmp_path):
  (tmp_path / 'run').write_text('')
  with pytest.raises(ValueError, match='is a file'):
    records.open_run(tmp_path / 'run', CONFIG)


def test_a_run_that_died_before_its_config_was_written_is_new(tmp_path):
  (tmp_path / '.lock').touch()
  (tmp_path / '.config.json.1-2.tmp').write_text('{"conf')
  records.open_run(tmp_path, CONFIG).close()
  assert records.read_config(tmp_path)['rate'] == 0.1
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    '.lock',
    'config.json',
    'metrics.jsonl',
  ]


@pytest.mark.parametrize(
  'text', ['', '{"config": ', '[]', '{"config": 3}', '\0']
)
def test_a_damaged_config_json_is_one_clear_line(tmp_path, text):
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(ValueError, match=r'config\.json is ') as caught:
    records.open_run(tmp_path, CONFIG)
  assert '\n' not in str(caught.value)


def test_one_writer_at_a_time(tmp_path):
  with records.open_run(tmp_path, CONFIG):
    with pytest.raises(ValueError, match='another process is writing'):
      records.open_run(tmp_path, CONFIG)
    # Who asks for something else hears that first.
    with pytest.raises(ValueError, match='belongs to another config'):
      records.open_run(tmp_path, {})
  records.open_run(tmp_path, CONFIG).close()


def test_file_systems_without_locks_are_used_without(tmp_path, monkeypatch):
  def no_locks(file, operation):
    raise OSError(errno.ENOLCK, 'no locks')

  monkeypatch.setattr(fcntl, 'flock', no_locks)
  with records.open_run(tmp_path, CONFIG) as run:
    run.log({'a': 1})
  assert records.read_metrics(tmp_path) == [{'a': 1}]


def test_only_the_first_of_several_hosts_writes(tmp_path, monkeypatch):
  with records.open_run(tmp_path, CONFIG) as first:
    first.log({'a': 1})
    first.write_results([{'b': 2}])
    with monkeypatch.context() as patch:
      patch.setattr(jax, 'process_index', lambda: 1)
      with records.open_run(tmp_path, CONFIG) as other:
        other.log({'a': 3})
        other.truncate(other.log_position())
        other.truncate_from(lambda r: True)
        other.write_results([])
        assert other.read_results() == [{'b': 2}]
      with pytest.raises(ValueError, match='another config'):
        records.open_run(tmp_path, {})
  assert log_text(tmp_path) == '{"a": 1}\n'


def test_records_of_any_kind_of_number_are_strict_json(tmp_path):
  with records.open_run(tmp_path, CONFIG) as run:
    run.log(
      {
        'python': [1, 2.5, True, None, 'é\n'],
        'numpy': {'f': np.float32(0.5), 'i': np.int64(-3), 'b': np.bool_(1)},
        'jax': jnp.float32(0.25),
        'half': jnp.bfloat16(1.5),
        'array': np.arange(3),
        'bad': [math.nan, -math.inf, np.float32('inf'), jnp.array([jnp.nan])],
        'big': 10**30,
      }
    )
  (line,) = log_text(tmp_path).splitlines()
  assert strict(line) == {
    'python': [1, 2.5, True, None, 'é\n'],
    'numpy': {'f': 0.5, 'i': -3, 'b': True},
    'jax': 0.25,
    'half': 1.5,
    'array': [0, 1, 2],
    'bad': [None, None, None, [None]],
    'big': 10**30,
  }
  assert records.read_metrics(tmp_path) == [strict(line)]


@pytest.mark.parametrize(
  'value', [object(), 1j, np.array([1j]), np.array([{1}]), b'x', {1}]
)
def test_records_that_are_no_numbers_are_named(tmp_path, value):
  with records.open_run(tmp_path, CONFIG) as run:
    with pytest.raises(ValueError, match=r'record\.a'):
      run.log({'a': value})
    with pytest.raises(ValueError, match=r'rows\[1\]\.a'):
      run.write_results([{}, {'a': value}])
    with pytest.raises(ValueError, match=r'record\.key'):
      run.log({'key': jax.random.key(0)})
  assert log_text(tmp_path) == ''
  assert records.read_results(tmp_path) == []


def test_results_are_replaced_as_a_whole(tmp_path):
  with records.open_run(tmp_path, CONFIG) as run:
    assert run.read_results() == []
    for rows in ([], [{'a': 1}], [{'a': math.nan}, {'b': [0.1, (2,)]}], []):
      run.write_results(rows)
      text = (tmp_path / 'results.json').read_text()
      assert len(strict(text)) == len(rows)
    run.write_results([{'a': math.nan}, {'b': [0.1, (2,)]}])
  want = [{'a': None}, {'b': [0.1, [2]]}]
  assert records.read_results(tmp_path) == run.read_results() == want
  assert not list(tmp_path.glob('.*.tmp'))


@pytest.mark.parametrize('text', ['', '[{"a": 1}', '{}', '[1]', '\x00\x00'])
def test_damaged_results_are_one_clear_line(tmp_path, text):
  (tmp_path / 'results.json').write_text(text)
  with pytest.raises(ValueError, match=r'results\.json is ') as caught:
    records.read_results(tmp_path)
  assert '\n' not in str(caught.value)


def test_a_log_cut_anywhere_goes_on_after_its_last_whole_line(tmp_path):
  lines = [b'{"a": 1}\n', b'{"b": "x\xc3\xa9"}\n', b'{"c": [1, 2]}\n']
  whole = b''.join(lines)
  records.open_run(tmp_path, CONFIG).close()
  path = tmp_path / 'metrics.jsonl'
  for cut in range(len(whole) + 1):
    path.write_bytes(whole[:cut])
    number = whole[:cut].count(b'\n')
    assert len(records.read_metrics(tmp_path)) == number
    with records.open_run(tmp_path, CONFIG) as run:
      run.log({'z': 0})
    assert path.read_bytes() == b''.join(lines[:number]) + b'{"z": 0}\n'


def test_what_a_power_cut_leaves_at_the_end_of_a_log_is_dropped(tmp_path):
  records.open_run(tmp_path, CONFIG).close()
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(b'{"a": 1}\n' + b'\0' * 50 + b'\n\0\0')
  assert records.read_metrics(tmp_path) == [{'a': 1}]
  records.open_run(tmp_path, CONFIG).close()
  assert path.read_bytes() == b'{"a": 1}\n'


def test_damage_inside_a_log_is_told_with_its_line(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('{"a": 1}\n{"b\n{"c": 1}\n')
  with pytest.raises(ValueError, match=r'metrics\.jsonl, line 2 is damaged'):
    records.read_metrics(tmp_path)


def test_truncate_takes_back_what_was_logged_after_a_checkpoint(tmp_path):
  with records.open_run(tmp_path, CONFIG) as run:
    start = run.log_position()
    run.log({'a': 1})
    run.log({'b': 2})
    position = run.log_position()
    run.log({'c': 3})
  # A new process, which starts at the end of the file.
  with records.open_run(tmp_path, CONFIG) as run:
    assert run.log_position() > position
    run.truncate(position)
    assert run.log_position() == position
    run.log({'d': 4})
    assert log_text(tmp_path) == '{"a": 1}\n{"b": 2}\n{"d": 4}\n'
    for bad in (-1, position - 1, position + 1, 10**6):
      with pytest.raises(ValueError, match=f'ends at byte {bad}'):
        run.truncate(bad)
    assert log_text(tmp_path) == '{"a": 1}\n{"b": 2}\n{"d": 4}\n'
    run.truncate(start)
  assert log_text(tmp_path) == ''


def test_truncate_from_takes_back_the_first_unwanted_record_and_on(tmp_path):
  with records.open_run(tmp_path, CONFIG) as run:
    for step in (1, 2, 3, 1):
      run.log({'step': step})
    run.truncate_from(lambda r: r['step'] > 3)
    assert len(records.read_metrics(tmp_path)) == 4
    run.truncate_from(lambda r: r['step'] > 2)
    run.log({'step': 9})
    steps = [r['step'] for r in records.read_metrics(tmp_path)]
    assert steps == [1, 2, 9]
    (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n{"st\n')
    with pytest.raises(ValueError, match='line 2 is damaged'):
      run.truncate_from(lambda r: False)


def test_atomic_write_replaces_or_leaves_alone(tmp_path):
  path = tmp_path / 'x.txt'
  records.atomic_write(path, 'é')
  assert path.read_bytes() == 'é'.encode()
  records.atomic_write(path, b'\x00\xff')
  assert path.read_bytes() == b'\x00\xff'
  assert path.stat().st_mode & 0o777 == mode_of_a_new_file(tmp_path)

  def fail():
    with records.replacing(path) as temporary:
      temporary.write_text('half')
      raise KeyError

  with pytest.raises(KeyError):
    fail()
  assert path.read_bytes() == b'\x00\xff'
  assert sorted(p.name for p in tmp_path.iterdir()) == ['new', 'x.txt']
  with pytest.raises(FileNotFoundError):
    records.atomic_write(tmp_path / 'missing' / 'x', '')


def mode_of_a_new_file(directory):
  (directory / 'new').touch()
  return (directory / 'new').stat().st_mode & 0o777


WRITER = """
import itertools, sys
from htjax import records
with records.open_run(sys.argv[1], {'a': 1}) as run:
  first = len(run.read_results())
  print('ready', flush=True)
  for n in itertools.count(first):
    run.log({'n': n, 'padding': 'x' * 5000})
    run.write_results([{'row': i, 'of': n + 1, 'p': 'y' * 300}
                       for i in range(n + 1)])
"""


@pytest.mark.parametrize('kills', [3, pytest.param(8, marks=pytest.mark.slow)])
def test_kill_9_at_any_moment_leaves_whole_files(tmp_path, kills):
  delays = random.Random(5)
  last = 0
  for _ in range(kills):
    process = subprocess.Popen(
      [sys.executable, '-c', WRITER, str(tmp_path / 'run')],
      cwd=ROOT,
      stdout=subprocess.PIPE,
    )
    with process:
      assert process.stdout.readline() == b'ready\n'
      time.sleep(delays.uniform(0.0, 0.15))
      process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    rows = records.read_results(tmp_path / 'run')
    assert [row['row'] for row in rows] == list(range(len(rows)))
    assert {row['of'] for row in rows} <= {len(rows)}
    assert len(rows) >= last
    last = len(rows)
    # The kernel gave the lock back, and the log is whole.
    with records.open_run(tmp_path / 'run', {'a': 1}) as run:
      assert not list(run.workdir.glob('.*.tmp'))
    logged = [strict(line) for line in log_text(run.workdir).splitlines()]
    assert len(logged) == len(records.read_metrics(run.workdir)) >= last
  assert last > 0


@pytest.fixture
def tensorboard(monkeypatch):
  """A stand-in for tensorboardX that keeps what it is given."""
  module = types.ModuleType('tensorboardX')

  class SummaryWriter:
    def __init__(self, logdir):
      self.logdir, self.scalars, self.closed = logdir, [], False
      module.writer = self

    def add_scalar(self, tag, value, step):
      self.scalars.append((tag, value, step))

    def close(self):
      self.closed = True

  module.SummaryWriter = SummaryWriter
  monkeypatch.setitem(sys.modules, 'tensorboardX', module)
  return module


def test_tensorboard_gets_the_floats_against_the_step(tmp_path, tensorboard):
  with records.open_run(tmp_path, CONFIG, tensorboard=True) as run:
    run.log({'step': 3, 'loss': 0.5, 'accuracy': np.float32(1.0)})
    run.log({'lane': 7, 'steps': 4, 'loss': 0.25, 'bad': math.nan})
    run.log({'name': 'x', 'flag': True, 'loss': 1.0})
  writer = tensorboard.writer
  assert writer.logdir == str(tmp_path / 'tensorboard')
  assert writer.scalars == [
    ('loss', 0.5, 3),
    ('accuracy', 1.0, 3),
    ('lane_7/loss', 0.25, 4),
    ('name_x/flag_True/loss', 1.0, None),
  ]
  assert writer.closed
  assert len(records.read_metrics(tmp_path)) == 3


def test_tensorboard_that_is_not_installed_is_asked_for(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorboardX', None)
  with pytest.raises(ImportError, match='pip install tensorboardX'):
    records.open_run(tmp_path, CONFIG, tensorboard=True)
  # The lock was given back.
  records.open_run(tmp_path, CONFIG).close()


def test_the_commit_is_that_of_a_checkout_of_its_own(tmp_path):
  package = tmp_path / 'work' / 'package'
  package.mkdir(parents=True)
  assert surroundings._commit(package) is None

  def git(*args):
    identity = ['-c', 'user.name=a', '-c', 'user.email=a@b.c']
    command = ['git', *identity, *args]
    return subprocess.run(
      command, cwd=tmp_path / 'work', check=True, capture_output=True, text=True
    ).stdout.strip()

  (package / 'a.py').write_text('1')
  git('init', '--quiet')
  git('add', '.')
  git('commit', '--quiet', '-m', 'one')
  head = git('rev-parse', 'HEAD')
  assert surroundings._commit(package) == head
  (package / 'a.py').write_text('2')
  assert surroundings._commit(package) == f'{head}-dirty'
  # Installed somewhere below another project.
  assert surroundings._commit(package / 'site-packages' / 'x') is None
  deeper = package / 'b'
  deeper.mkdir()
  assert surroundings._commit(deeper) is None


def test_table_aligns_numbers_to_the_right():
  text = records.table(
    ['name', 'mean', 'n'],
    [['a', '1.5+-0.2', 3], ['long name', '-10.25', ''], ['b', '-', 1000]],
  )
  assert text.splitlines() == [
    'name           mean     n',
    '---------  --------  ----',
    'a          1.5+-0.2     3',
    'long name    -10.25',
    'b                 -  1000',
  ]
  assert records.table(['a', 'b'], []).splitlines() == ['a  b', '-  -']
  with pytest.raises(ValueError, match=r'rows\[1\] must have 2 cells, got 3'):
    records.table(['a', 'b'], [[1, 2], [1, 2, 3]])
