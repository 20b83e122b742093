"""The package: its metadata, its dependencies, and a wheel that works alone."""

import ast
import importlib
import os
import re
import site
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import htjax

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())
PROJECT = PYPROJECT['project']
EXTRAS = PROJECT['optional-dependencies']
TEXTS = sorted(
  path
  for pattern in ('*.md', '*.toml', '*.cff', 'colabs/*', 'docs/**/*.md')
  for path in ROOT.glob(pattern)
)

# Packages that are imported under another name than they are installed by.
IMPORTED_AS = {
  'absl-py': 'absl',
  'pillow': 'PIL',
  'scikit-learn': 'sklearn',
  'orbax-checkpoint': 'orbax',
}
# Reached through another package, or asked for where they are used.
INDIRECT = {
  # TFDS reads and prepares with these.
  *('array_record', 'importlib_resources', 'PIL'),
  # jax is not whole without its library.
  'jaxlib',
}
OPTIONAL = {
  # An option of `records.open_run`, which says so where it is missing.
  'tensorboardX',
  # Baselines of benchmarks, where they are installed.
  *('torch', 'torch_pruning', 'torchvision'),
  # Two of nine models are written with it.
  'equinox',
  # Of `data.batches`, which says so where it is missing.
  'grain',
}


def names(requirements):
  found = {re.match(r'[\w-]+', r).group() for r in requirements}
  return {IMPORTED_AS.get(n, n.replace('-', '_')) for n in found}


def imports(folder):
  found = set()
  for path in sorted((ROOT / folder).rglob('*.py')):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Import):
        found |= {a.name.partition('.')[0] for a in node.names}
      elif isinstance(node, ast.ImportFrom) and not node.level:
        found.add(node.module.partition('.')[0])
  return found - set(sys.stdlib_module_names) - {'htjax', 'experiments'}


def test_dependencies_are_what_the_library_imports():
  declared = names(PROJECT['dependencies'])
  assert imports('htjax') - OPTIONAL <= declared
  assert declared - INDIRECT <= imports('htjax')


def test_extra_is_what_the_experiments_import():
  declared = names(PROJECT['dependencies'])
  extra = names(EXTRAS['experiments'])
  assert imports('experiments') - declared - OPTIONAL == extra


def test_tests_install_what_they_import():
  declared = names(
    [
      *PROJECT['dependencies'],
      *EXTRAS['experiments'],
      *EXTRAS['test'],
    ]
  )
  ours = {path.stem for path in (ROOT / 'tests').rglob('*.py')}
  ours |= {'tests', 'statistical', 'site_pages'}
  # nbformat comes with nbclient, ml_dtypes with jax, griffe with the site.
  indirect = {'nbformat', 'ml_dtypes', 'griffe'}
  assert imports('tests') - ours - declared - OPTIONAL <= indirect


def test_version_stands_in_one_place():
  assert PROJECT['dynamic'] == ['version']
  attribute = PYPROJECT['tool']['setuptools']['dynamic']['version']['attr']
  assert attribute == 'htjax.__version__'
  citation = (ROOT / 'CITATION.cff').read_text()
  assert f'\nversion: {htjax.__version__}\n' in citation


def test_command_exists():
  module, _, function = PROJECT['scripts']['htjax'].partition(':')
  assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize('path', TEXTS, ids=lambda p: p.name)
def test_no_address_of_a_repository_of_ours(path):
  assert not re.search(r'github\.com/\w+/htjax', path.read_text())
  assert 'colab.research.google.com' not in path.read_text()


# -- a wheel


@pytest.fixture(scope='module')
def outside(tmp_path_factory):
  """Python of a new environment that holds the wheel.

  The dependencies are lent to it from here.
  """
  folder = tmp_path_factory.mktemp('wheel')
  if int(metadata.version('setuptools').partition('.')[0]) < 77:
    pytest.skip('a wheel is built by setuptools 77 or newer')
  quiet = [sys.executable, '-m', 'pip', '--quiet']
  options = ['--no-deps', '--no-build-isolation', '--no-index']
  source = folder / 'source'
  source.mkdir()
  for name in ('htjax', 'pyproject.toml', 'README.md', 'LICENSE'):
    # The build leaves its traces beside the sources.
    subprocess.run(['cp', '-R', str(ROOT / name), str(source)], check=True)
  _run([*quiet, 'wheel', *options, '-w', str(folder), str(source)], folder)
  (wheel,) = folder.glob('htjax-*.whl')
  venv.create(folder / 'venv', with_pip=False)
  python = folder / 'venv' / 'bin' / 'python'
  printed = _run(
    [str(python), '-c', 'import site; print(site.getsitepackages()[0])'],
    folder,
  )
  target = Path(printed.strip())
  # Behind the wheel's own files, whatever is installed here.
  (target / 'lent.pth').write_text('\n'.join(site.getsitepackages()))
  _run(
    [
      *(*quiet, '--python', str(python), 'install', *options),
      # A htjax that is lent must not pass for the one of the wheel.
      *('--ignore-installed', str(wheel)),
    ],
    folder,
  )
  return python


def _run(command, folder, status=0):
  environment = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
  done = subprocess.run(
    command, cwd=folder, env=environment, capture_output=True, text=True
  )
  assert done.returncode == status, done.stderr
  return done.stdout if status == 0 else done.stderr


def test_wheel_brings_the_library(outside, tmp_path):
  code = (
    'import htjax, htjax.cli, pathlib; '
    'p = pathlib.Path(htjax.__file__).parent; '
    'print(p, (p / "py.typed").exists(), htjax.__version__)'
  )
  folder, typed, version = _run([outside, '-c', code], tmp_path).split()
  assert Path(folder).is_relative_to(outside.parent.parent)
  assert typed == 'True'
  assert version == htjax.__version__


def test_wheel_brings_the_command(outside, tmp_path):
  generator = np.random.default_rng(0)
  layer = generator.normal(size=(16, 8)).astype(np.float32)
  np.savez(tmp_path / 'x.npz', layer=layer, counts=np.ones((2, 2), np.int8))
  command = str(outside.parent / 'htjax')
  printed = _run([command, 'analyze', 'x.npz', '--workdir=run'], tmp_path)
  assert 'layer' in printed
  assert 'left out: counts (int8 is not floating' in printed
  written = {path.name for path in (tmp_path / 'run').iterdir()}
  assert written >= {'results.json', 'table.txt', 'compression.png'}
  error = _run([command, 'analyze', 'y.npz'], tmp_path, status=2)
  assert error == 'htjax: error: no weights at y.npz\n'
  listed = _run([command, 'data', 'list', '--data_dir=none'], tmp_path)
  assert 'ecg5000       not prepared' in listed
