"""Compiled programs on disk: where, for how long, and that they are used."""

import os
import pathlib
import subprocess
import sys

import pytest

from htjax import compiled

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = 'JAX_COMPILATION_CACHE_DIR'

PROGRAM = """
from htjax import compiled
compiled.keep()
import jax
hits = []
jax.monitoring.register_event_listener(
  lambda name, **_: name.endswith('cache_hits') and hits.append(name)
)
print(float(jax.jit(lambda x: x * 2 + 1)(3.0)), len(hits) > 0)
"""


def _run(environment):
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout.split(), done.stderr


@pytest.fixture
def bare(tmp_path):
  """The environment of a user who has set nothing."""
  variables = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith('JAX_') and name != 'TF_CPP_MIN_LOG_LEVEL'
  }
  return variables | {
    'XDG_CACHE_HOME': str(tmp_path),
    'JAX_PLATFORMS': 'cpu',
  }


def test_the_second_process_does_not_compile(bare):
  folder = compiled.folder(bare)
  assert _run(bare) == (['7.0', 'False'], '')
  assert list(folder.iterdir())
  # The same number, and not a word from XLA.
  assert _run(bare) == (['7.0', 'True'], '')
  # Switched off by JAX's own variable.
  off = bare | {'JAX_ENABLE_COMPILATION_CACHE': 'false'}
  assert _run(off) == (['7.0', 'False'], '')


def test_half_written_programs_are_compiled_again(bare):
  _run(bare)
  for path in compiled.folder(bare).glob('*-cache'):
    path.write_bytes(path.read_bytes()[:-7])
  numbers, said = _run(bare)
  assert numbers == ['7.0', 'False']
  assert 'Error reading persistent compilation cache' in said


def test_folders_of_the_user_are_honoured(bare, tmp_path):
  own = tmp_path / 'own'
  _run(bare | {FOLDER: str(own)})
  assert list(own.iterdir())
  assert not compiled.folder(bare).exists()


def test_what_is_set_stays():
  variables = {FOLDER: 'there', 'TF_CPP_MIN_LOG_LEVEL': '0'}
  compiled.keep(variables)
  assert variables[FOLDER] == 'there'
  assert variables['TF_CPP_MIN_LOG_LEVEL'] == '0'
  assert variables['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] == '0'


def test_folder():
  assert compiled.folder({'XDG_CACHE_HOME': '/a'}) == pathlib.Path(
    '/a/htjax/jax'
  )
  home = pathlib.Path.home() / '.cache'
  assert compiled.folder({}) == home / 'htjax' / 'jax'
  assert compiled.folder({'XDG_CACHE_HOME': ''}) == home / 'htjax' / 'jax'


def test_trim_deletes_what_was_longest_unused(tmp_path):
  for i, name in enumerate('abcd'):
    path = tmp_path / name
    path.write_bytes(bytes(10))
    os.utime(path, (100 - i, 0))
  # Read of late, though written first.
  os.utime(tmp_path / 'd', (200, 0))
  compiled.trim(tmp_path, 40)
  assert len(list(tmp_path.iterdir())) == 4
  compiled.trim(tmp_path, 25)
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a', 'd']
  compiled.trim(tmp_path, 0)
  assert not list(tmp_path.iterdir())
