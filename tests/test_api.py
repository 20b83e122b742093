"""The public names, what they say about themselves, and who imports whom."""

import ast
import importlib
import inspect
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import htjax

PACKAGE = pathlib.Path(htjax.__file__).parent
ROOT = PACKAGE.parent

# Positional parameters first, keyword-only ones after the star: the signatures
# that code outside the project calls.
SIGNATURES = {
  'stable.sample': 'key alpha shape dtype * scale',
  'stable.sample_positive': 'key alpha shape dtype *',
  'stable.sample_vectors': 'key alpha shape dtype * kind axis scale',
  'stable.characteristic_function': 't alpha * scale',
  'stable.cdf': 'x alpha * scale',
  'stable.sf': 'x alpha * scale',
  'stable.pdf': 'x alpha * scale',
  'stable.logpdf': 'x alpha * scale',
  'stable.quantile': 'q alpha * scale',
  'stable.log_moment': 'alpha * scale',
  'stable.levy_increments': 'key alpha step_size num_steps shape * kind',
  'noise.StableNoise': 'alpha sigma * kind unit',
  'noise.add_stable_noise': (
    'learning_rate alpha sigma * key kind select mask noise'
  ),
  'noise.heavy_tailed_sgd': (
    'learning_rate alpha sigma * key kind select mask momentum noise'
  ),
  'compressibility.best_k': 'x k *',
  'compressibility.compression_error': 'x kappa * p',
  'compressibility.smallest_kappa': 'x epsilon * p',
  'compressibility.pruning_ratio': 'matrix * tolerance squared',
  'compressibility.gaussian_limit': 'kappa * p dim',
  'compressibility.stable_curve': 'alpha kappa n * key p',
  'pruning.columns': 'params kappa * p select',
  'mean_field.drift': 'problem theta particles',
  'mean_field.euler_step': 'key problem particles noise * step_size',
  'mean_field.simulate': (
    'key problem particles noise * step_size num_steps save_every'
  ),
  'mean_field.reference_path': 'key problem noise * size step_size num_steps',
  'mean_field.propagation_of_chaos': (
    'key problem noise * step_size num_steps study'
  ),
  'mean_field.euler_error': (
    'key problem noise * step_sizes fine_step_size horizon num_particles study'
  ),
  'mean_field.fit_rate': 'x errors *',
  'mean_field.gronwall_constant': 'problem horizon *',
  'pruning.rows': 'params kappa * p center protocol select',
  'pruning.filters': 'params kappa * p select',
  'pruning.kernels': 'params kappa * p center protocol select',
  'pruning.magnitude': 'params kappa * scope center protocol select',
  'pruning.singular_values': 'params kappa * center protocol select',
  'pruning.singular_value_counts': 'params kappa * protocol select',
  'pruning.thin_factors': 'params kappa * center protocol select',
  'pruning.to_error': 'params epsilon * method p select',
  'pruning.columns_to_error': 'params tolerance * squared select',
  'pruning.randomized_magnitude': (
    'key params strength * keep_diagonal select'
  ),
  'pruning.random_columns': 'key params kappa * select',
  'pruning.gaussian_replacement': (
    'key params * variant threshold variance select'
  ),
  'pruning.discretize': 'params resolution * select',
  'pruning.iterative_magnitude': (
    'train params kappas * rewind rewinding scope select'
  ),
  'pruning.compact': 'params * chain trim_inputs',
  'sketching.bipartite_ensemble': 'key m p delta *',
  'sketching.sketch': 'x a b',
  'sketching.recover': 'y a b *',
  'sketching.distributed_sparsity': 'x',
  'bounds.margin_loss': 'logits labels gamma',
  'bounds.margins': 'logits labels',
  'resnets.resnet': 'depth num_classes * in_channels width',
  'resnets.from_torch': 'weights',
  'resnets.normalise': 'pixels',
  'tail_index.mmo': 'x block * cap',
  'tail_index.mmo_univariate': 'x block * cap',
  'tail_index.hill': 'x num_top *',
  'tail_index.power_law': 'x xmin *',
  'tail_index.stable_mle': 'x *',
  'tail_index.layer_table': 'params * key select',
}
DEFAULTS = {
  'stable.sample': {'shape': (), 'scale': 1.0},
  'stable.sample_vectors': {'axis': -1, 'scale': 1.0},
  'noise.add_stable_noise': {'kind': 'type1', 'select': None},
  'noise.heavy_tailed_sgd': {
    'kind': 'type1',
    'select': None,
    'momentum': None,
  },
  'compressibility.compression_error': {'p': 2},
  'compressibility.smallest_kappa': {'p': 2},
  'compressibility.pruning_ratio': {'tolerance': 0.1, 'squared': True},
  'compressibility.gaussian_limit': {'p': 2, 'dim': 1},
  'pruning.columns': {'p': 2, 'select': None},
  'pruning.magnitude': {'scope': 'layer', 'center': None, 'select': None},
  'pruning.to_error': {'p': 2, 'select': None},
  'pruning.gaussian_replacement': {'variant': 'experiment'},
  'bounds.margin_loss': {'gamma': 0.0},
  'tail_index.mmo': {'block': None, 'cap': None},
  'tail_index.mmo_univariate': {'block': None, 'cap': None},
  'tail_index.power_law': {'xmin': None},
}
BOUND_FIELDS = ('value', 'log_value', 'terms', 'assumptions')

# An import goes to a lower floor, or stays inside its room.
FLOORS = {
  'types': 0,
  'checks': 0,
  'compiled': 0,
  'floats': 0,
  'functions': 0,
  'host': 0,
  'multihost': 0,
  'parts': 0,
  'products': 0,
  'rounding': 0,
  'schedules': 0,
  'selection': 1,
  'units': 1,
  'stable': 1,
  'compressibility': 1,
  'line_mixture': 1,
  'rank_correlation': 1,
  'sketching': 1,
  'laws': 2,
  'tail_index': 2,
  'noise': 2,
  'regularizers': 2,
  'initializers': 2,
  'pruning': 2,
  'mean_field': 2,
  'bounds': 2,
  'analysis': 3,
  'checkpoints': 3,
  'cli': 3,
  'data': 3,
  'io': 3,
  'models': 3,
  'plotting': 3,
  'records': 3,
  'resnets': 3,
  'training': 3,
}
SIDEWAYS = {
  # Weights are told from other leaves by what their units are; a leaf is named
  # by its path.
  ('selection', 'units'),
  ('units', 'selection'),
  # The theorems of the mean field return the record that every bound returns.
  ('mean_field', 'bounds'),
  # The key that a check returns has an alias.
  ('checks', 'types'),
  ('floats', 'types'),
  ('floats', 'host'),
  ('parts', 'host'),
  ('parts', 'types'),
  ('checks', 'host'),
  ('host', 'types'),
  ('multihost', 'types'),
  ('rounding', 'types'),
  ('schedules', 'types'),
  # Every check looks at numbers through the one conversion; draws need a key.
  ('checks', 'floats'),
  ('rounding', 'checks'),
  # A file is read, analysed and reported; the program runs whatever there is.
  ('analysis', 'io'),
  ('cli', 'analysis'),
  ('cli', 'data'),
  # Stable draws are what the expected curves are averaged over.
  ('compressibility', 'stable'),
  # Particles are driven by the process that drives a training.
  ('mean_field', 'noise'),
  # Older addresses, which programs outside still import.
  ('checkpoints', 'io'),
  ('records', 'io'),
  # A power law is fitted where tails are estimated.
  ('laws', 'tail_index'),
  # One way to replace a file.
  ('plotting', 'io'),
  # A run is saved, resumed and reported while it trains.
  ('training', 'io'),
}
# They ask a model of Flax, where there is one, what it is.
KNOW_FLAX = ('htjax.units.modules', 'htjax.pruning.adapting')
CORE_IMPORTS = {'htjax', 'jax', 'jaxtyping', 'numpy', 'optax', 'scipy'}


def _modules():
  return sorted(
    info.name
    for info in pkgutil.walk_packages([str(PACKAGE)], 'htjax.')
    if not info.name.endswith('__main__')
  )


def _room(module):
  return module.split('.')[1]


def _core():
  return [name for name in _modules() if FLOORS.get(_room(name), 0) <= 2]


def _imports(module):
  """(name, whether at the top of the file) of every import in a module."""
  source = importlib.util.find_spec(module).origin
  tree = ast.parse(pathlib.Path(source).read_text())
  top = set(map(id, tree.body))
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from ((a.name, id(node) in top) for a in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{module}: relative import'
      if node.module == 'htjax':
        yield from ((f'htjax.{a.name}', id(node) in top) for a in node.names)
      else:
        yield node.module, id(node) in top


def _public_functions(name):
  for attribute, value in vars(importlib.import_module(name)).items():
    if attribute.startswith('_') or inspect.isclass(value):
      continue
    if callable(value) and getattr(value, '__module__', None) == name:
      yield attribute, value


def _find(name):
  room, function = name.split('.')
  return getattr(getattr(htjax, room), function)


@pytest.mark.parametrize('name', SIGNATURES)
def test_signatures(name):
  signature = inspect.signature(_find(name))
  first, _, keywords = SIGNATURES[name].partition(' *')
  leading = list(signature.parameters)[: len(first.split())]
  assert leading == first.split()
  for parameter in leading:
    assert signature.parameters[parameter].kind in (
      inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
  for parameter in keywords.split():
    assert (
      signature.parameters[parameter].kind is inspect.Parameter.KEYWORD_ONLY
    )
  documented = {*first.split(), *keywords.split()}
  for parameter in signature.parameters.values():
    # What others do not know of, they do not pass.
    if parameter.name not in documented:
      assert parameter.default is not inspect.Parameter.empty, parameter


@pytest.mark.parametrize('name', DEFAULTS)
def test_defaults(name):
  parameters = inspect.signature(_find(name)).parameters
  for parameter, value in DEFAULTS[name].items():
    assert parameters[parameter].default == value


def test_fields_of_a_bound():
  assert htjax.bounds.Bound._fields[:4] == BOUND_FIELDS


def test_log_moment_unpacks():
  mean, variance = htjax.stable.log_moment(2.0)
  assert variance > 0 > mean


@pytest.mark.parametrize('room', htjax.__all__)
def test_rooms_open_after_a_plain_import(room):
  module = getattr(htjax, room)
  assert module.__name__ == f'htjax.{room}'
  assert module.__doc__
  assert room in dir(htjax)


def test_every_room_has_a_floor():
  rooms = {_room(name) for name in _modules()}
  assert rooms <= set(FLOORS)
  assert set(htjax.__all__) <= rooms


def test_unknown_attributes_are_errors():
  with pytest.raises(AttributeError, match="has no attribute 'stabel'"):
    htjax.stabel  # noqa: B018


@pytest.mark.parametrize('name', _modules())
def test_all_names_exist(name):
  module = importlib.import_module(name)
  assert module.__doc__, f'{name} has no docstring'
  for public in getattr(module, '__all__', ()):
    assert hasattr(module, public)


def _faults(function):
  doc = inspect.getdoc(function)
  if not doc:
    return ['no docstring']
  parameters = inspect.signature(function).parameters
  if re.search(r'\b[Aa]rguments.* as in `\w+`', doc):
    return []
  faults = [f'{p} is not described' for p in parameters if p not in doc]
  is_class = inspect.isclass(function)
  parts = ('Attributes:',) if is_class else ('Args:', 'Returns:')
  faults += [f'no {part}' for part in parts if part not in doc]
  return faults


@pytest.mark.parametrize('name', SIGNATURES)
def test_public_names_are_documented(name):
  assert not _faults(_find(name))


@pytest.mark.parametrize('name', _modules())
def test_docstrings(name):
  for function, value in _public_functions(name):
    doc = inspect.getdoc(value)
    assert doc, function
    # A helper may have one line; a list of arguments has them all.
    if 'Args:' in doc:
      missing = [p for p in inspect.signature(value).parameters if p not in doc]
      assert not missing, function


def test_docstring_check_can_fail():
  def undocumented(x):
    """Says nothing about its argument."""
    return x

  assert _faults(undocumented) == [
    'x is not described',
    'no Args:',
    'no Returns:',
  ]


@pytest.mark.parametrize('name', _modules())
def test_imports_go_down(name):
  room = _room(name)
  for imported, _ in _imports(name):
    if not imported.startswith('htjax.') or _room(imported) == room:
      continue
    target = _room(imported)
    assert FLOORS[target] < FLOORS[room] or (room, target) in SIDEWAYS, (
      f'{name} imports {imported}'
    )


def test_every_exception_is_in_use():
  used = {
    (_room(name), _room(imported))
    for name in _modules()
    for imported, _ in _imports(name)
    if imported.startswith('htjax.')
  }
  assert used >= SIDEWAYS


@pytest.mark.parametrize('name', _core())
def test_core_needs_jax_and_optax_only(name):
  for imported, at_top in _imports(name):
    root = imported.partition('.')[0]
    if name in KNOW_FLAX and root == 'flax' and not at_top:
      continue
    assert root in CORE_IMPORTS or root in sys.stdlib_module_names, imported


@pytest.mark.parametrize('name', _modules())
def test_matplotlib_is_imported_late(name):
  for imported, at_top in _imports(name):
    assert not (at_top and imported.startswith('matplotlib')), imported


STATEMENTS = (
  'import htjax',
  'htjax.plotting',
  'htjax.checkpoints, htjax.records',
  'htjax.data',
  "htjax.data.load('digits')",
  'htjax.models',
)


@pytest.fixture(scope='module')
def loaded():
  """Roots of the modules that are there after each statement, one by one."""
  code = '\n'.join(
    ['import sys', *(f'{s}; print(*sys.modules)' for s in STATEMENTS)]
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    check=True,
    cwd=ROOT,
  )
  roots = [
    {module.partition('.')[0] for module in line.split()}
    for line in done.stdout.splitlines()
  ]
  return dict(zip(STATEMENTS, roots, strict=True))


HEAVY = {
  'flax',
  'matplotlib',
  'orbax',
  'sklearn',
  'tensorflow',
  'tensorflow_datasets',
}


def test_import_is_light(loaded):
  assert not loaded['import htjax'] & HEAVY


def test_the_check_of_light_imports_can_fail(loaded):
  assert 'flax' in loaded['htjax.models']


def test_what_is_heavy_waits_until_it_is_needed(loaded):
  assert 'matplotlib' not in loaded['htjax.plotting']
  assert (
    not {'orbax', 'safetensors'} & loaded['htjax.checkpoints, htjax.records']
  )
  assert not {'tensorflow_datasets', 'sklearn', 'flax'} & loaded['htjax.data']
  assert 'tensorflow_datasets' not in loaded["htjax.data.load('digits')"]
