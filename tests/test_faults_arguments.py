"""Bad calls of every public function end in a message that names an argument.

Calls are those of the examples in the docstrings, each with one argument
replaced by something else. An error is clear if it is a `ValueError`, a
`TypeError` or an error of the file system whose text has the name of an
argument; what Python, NumPy or JAX say of their own accord is not.
"""

import contextlib
import doctest
import importlib
import inspect
import io
import pathlib
import re
import signal
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import htjax
from htjax import (
  analysis,
  bounds,
  compressibility,
  data,
  mean_field,
  models,
  noise,
  pruning,
  resnets,
  stable,
  training,
)
from htjax import records as old_records
from htjax.io import checkpoints, files, records, tables, weights

ROOMS = sorted({*htjax.__all__, *(f'io.{name}' for name in htjax.io.__all__)})
SHARE = 1 / 200
# Short forms that functions take beside their signature.
SHORT = {'alpha', 'sigma', 'kind', 'num_replicas', 'initial', 'at_once', 'mesh'}
CLEAR = (ValueError, TypeError, OSError, FloatingPointError, ImportError)


def values():
  """Something else, by what it is."""
  return {
    'None': None,
    'text': 'text',
    'object': object(),
    'function': lambda *args: None,
    'empty list': [],
    'empty dict': {},
    'empty array': np.zeros((0,), np.float32),
    'empty matrix': jnp.zeros((0, 3)),
    'nan': float('nan'),
    'inf': float('inf'),
    'negative': -1,
    'zero': 0,
    'half': 2.5,
    'huge': 1e30,
    'true': True,
    'vector': jnp.arange(1.0, 4.0),
    'matrix': np.ones((2, 3)),
    'rank four': jnp.ones((1, 2, 1, 2)),
    'complex': 1 + 2j,
    'complex array': np.array([[1 + 1j, 2.0], [0.0, 1j]]),
    'keys': jax.random.split(jax.random.key(0), 3),
    'legacy key': np.array([0, 1], np.uint32),
    'texts': np.array(['a', 'b']),
    'ragged': [1.0, [2.0, 3.0]],
    'tree': {'a': np.ones((2, 2)), 'b': None},
  }


def _is_own(value, module):
  name = getattr(value, '__name__', '_')
  of = getattr(value, '__module__', None)
  return of == module.__name__ and not name.startswith('_')


def public():
  """(room, name, function) of all public functions and classes, once each."""
  found = {}
  for room in ROOMS:
    try:
      module = importlib.import_module(f'htjax.{room}')
    except ModuleNotFoundError:
      continue
    own = [n for n, v in vars(module).items() if _is_own(v, module)]
    for name in getattr(module, '__all__', own):
      value = getattr(module, name)
      if callable(value) and (value.__module__ or '').startswith('htjax'):
        found.setdefault(id(value), (module, name, value))
  return list(found.values())


def example_calls(module, name, function):
  """(args, kwargs) of the calls of a function in its own example."""
  calls = []

  def record(*args, **kwargs):
    calls.append((args, kwargs))
    return function(*args, **kwargs)

  source = inspect.getdoc(function) or ''
  examples = doctest.DocTestParser().get_examples(source)
  scope = {}
  setattr(module, name, record)
  try:
    with contextlib.redirect_stdout(io.StringIO()):
      for example in examples:
        exec(compile(example.source, name, 'single'), scope)
  except Exception:
    pass
  finally:
    setattr(module, name, function)
  return calls


def weights_file():
  path = pathlib.Path('weights.npz')
  if not path.exists():
    weights.save(path, params())
  return path


def linear():
  """Parts of a training, as small as it gets."""
  recipe = training.Recipe(0.1, 2, eval_every=1, max_steps=2)
  parts = {
    'init': lambda key: {'w': 0.1 * jax.random.normal(key, (3, 2))},
    'apply': lambda params, x: x @ params['w'],
    'recipe': recipe,
  }
  return parts, training.Examples(np.ones((4, 3), np.float32), np.arange(4) % 2)


def good_calls():
  """Calls of functions without an example, by function."""
  parts, examples = linear()
  program = training.make_program(**parts)
  lane, folder = training.Lane(0, 1.8, 0.0), pathlib.Path.cwd()
  rows = [{'a': 1.0, 'b': 'x'}]
  with records.open_run('run', {'a': 1}) as run:
    run.write_results(rows)
    run.log({'step': 1, 'loss': 0.5})
  checkpoints.save('checkpoints', 1, params())
  arrays = {name: np.ones((4, 3), np.float32) for name in ('a', 'b')}
  choice = analysis.choose(arrays)
  analysed = analysis.analyse({'a': np.eye(12, 8, dtype=np.float32)})
  logits = np.eye(3, 2, dtype=np.float32)
  labels = np.array([0, 1, 0])
  code = bounds.codes.encode([np.ones(3)])
  file = weights_file()
  return {
    training.cross_entropy: {'outputs': logits, 'labels': labels},
    training.evaluate: {
      'apply': parts['apply'],
      'params': {'w': np.ones((3, 2), np.float32)},
      'inputs': examples.inputs,
      'labels': examples.labels,
      'losses': training.cross_entropy,
      'batch_size': 2,
    },
    training.init_key: {'seed': 0},
    training.analysis_key: {'seed': 0},
    training.make_program: parts,
    training.epochs: {
      'program': program,
      'lane': lane,
      'data': examples,
      'at': [1],
    },
    training.train: {'program': program, 'lanes': [lane], 'data': examples},
    data.load: {'name': 'digits', 'data_dir': folder},
    data.find_prepared: {'name': 'mnist', 'data_dir': folder},
    data.synthetic: {
      'key': jax.random.key(0),
      'num_train': 4,
      'num_test': 2,
      'dim': 3,
      'num_classes': 2,
      'width': 4,
      'hidden_layers': 1,
      'teacher': 'uniform',
    },
    models.fcn: {
      'in_features': 3,
      'width': 4,
      'num_classes': 2,
      'hidden_layers': 1,
    },
    models.mean_field: {
      'in_features': 3,
      'num_units': 4,
      'num_outputs': 1,
      'activation': jnp.tanh,
    },
    models.cnn: {'in_channels': 1, 'num_classes': 2, 'channels': [2, 'M']},
    models.num_params: {'params': params()},
    resnets.resnet: {
      'depth': 20,
      'num_classes': 2,
      'in_channels': 1,
      'width': 2,
    },
    resnets.num_blocks: {'depth': 20},
    resnets.normalise: {'pixels': np.zeros((1, 2, 2, 3), np.uint8)},
    resnets.from_torch: {'weights': {}},
    analysis.choose: {'arrays': arrays, 'layout': 'flax'},
    analysis.load: {'path': file, 'layout': 'flax', 'max_bytes': 10**6},
    analysis.analyse: {'params': {'a': np.eye(12, 8, dtype=np.float32)}},
    analysis.left_out_lines: {'choice': choice},
    analysis.left_out_rows: {'choice': choice, 'like': {'layer': 'a'}},
    analysis.table: {'rows': analysed},
    analysis.curves: {'rows': analysed},
    analysis.run: {'weights': file, 'layout': 'flax', 'max_bytes': 10**6},
    bounds.margins: {'logits': logits, 'labels': labels},
    bounds.margin_loss: {'logits': logits, 'labels': labels, 'gamma': 0.1},
    bounds.ramp_loss: {
      'logits': logits,
      'labels': labels,
      'gamma': 0.1,
      'tau': 0.2,
    },
    bounds.codes.encode: {'layers': [np.ones(3)], 'mantissa_bits': 3},
    bounds.codes.decode: {'bits': code.bits, 'shapes': lambda s: [(3,)]},
    bounds.codes.to_grid: {'x': np.ones(3), 'mantissa_bits': 3},
    bounds.codes.fit_codebook: {'weights': np.ones(3), 'num_values': 2},
    noise.StableNoise: {'alpha': 1.8, 'sigma': 0.1, 'kind': 'type2'},
    compressibility.AllBut: {'share': 0.5},
    records.open_run: {'workdir': folder / 'new', 'config': {'a': 1}},
    records.read_results: {'workdir': 'run'},
    old_records.read_config: {'workdir': 'run'},
    records.read_metrics: {'workdir': 'run'},
    tables.table: {'headers': ['a'], 'rows': [['b']]},
    files.atomic_write: {'path': 'text.txt', 'data': 'text'},
    checkpoints.save: {'directory': 'more', 'step': 1, 'state': params()},
    checkpoints.restore: {'directory': 'checkpoints', 'like': params()},
    weights.save: {'path': 'other.npz', 'params': params()},
    weights.load: {'path': file, 'nested': True, 'max_bytes': 10**6},
    weights.stream: {'path': file, 'max_bytes': 10**6},
  }


def bad_calls(function, args, kwargs):
  """(argument, value's name, args, kwargs), with one argument replaced."""
  parameters = inspect.signature(function).parameters.values()
  several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
  names = [p.name for p in parameters if p.kind not in several]
  optional = {p.name for p in parameters if p.default is None}
  for name in dict.fromkeys([*names, *kwargs]):
    for kind, value in values().items():
      if value is None and name in optional:
        continue
      at = names.index(name) if name in names else len(args)
      if at < len(args):
        yield name, kind, (*args[:at], value, *args[at + 1 :]), kwargs
      else:
        yield name, kind, args, kwargs | {name: value}


def is_clear(error, function):
  """Whether the error is of a clear kind and names an argument."""
  names = {*inspect.signature(function).parameters, *SHORT, 'parameters'}
  words = set(re.findall(r'[A-Za-z_]\w*', str(error)))
  return isinstance(error, CLEAR) and bool(names & words)


@contextlib.contextmanager
def at_most(seconds):
  def stop(*_):
    raise TimeoutError

  before = signal.signal(signal.SIGALRM, stop)
  signal.setitimer(signal.ITIMER_REAL, seconds)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def outcome(function, args, kwargs):
  """The error of a call, None without one."""
  try:
    with at_most(30), warnings.catch_warnings():
      warnings.simplefilter('ignore')
      with contextlib.redirect_stdout(io.StringIO()):
        jax.block_until_ready(function(*args, **kwargs))
  except TimeoutError:
    return None
  except Exception as error:
    return error
  return None


def tried(rooms=None, every=1):
  """(calls made, [(function, argument, kind, error)] of unclear errors)."""
  made, unclear = 0, []
  good = good_calls()
  for module, name, function in public():
    room = module.__name__.removeprefix('htjax.')
    if rooms and room not in rooms:
      continue
    if function in good:
      calls = [((), good[function])]
    else:
      calls = example_calls(module, name, function)
    for i, call in enumerate(bad_calls(function, *calls[0]) if calls else ()):
      if i % every:
        continue
      argument, kind, args, kwargs = call
      error = outcome(function, args, kwargs)
      made += 1
      if error is not None and not is_clear(error, function):
        unclear.append((f'{room}.{name}', argument, kind, error))
  return made, unclear


@pytest.mark.slow
def test_errors_of_bad_calls_are_clear(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  made, unclear = tried()
  assert made > 10_000
  shown = [(*call, repr(error)[:200]) for *call, error in unclear]
  assert len(unclear) <= SHARE * made, shown


def test_an_unclear_error_is_found():
  def divide(x):
    return 1 / x

  assert not is_clear(outcome(divide, (0,), {}), divide)
  assert not is_clear(outcome(divide, ('text',), {}), divide)
  assert is_clear(ValueError('x must not be zero'), divide)
  assert outcome(divide, (2,), {}) is None


def params():
  return {'a': jnp.ones((2, 3)), 'b': jnp.ones((3, 2))}


CALLS = {
  'compact of an array': (lambda: pruning.compact(jnp.ones((2, 2))), 'params'),
  'compact of nothing': (lambda: pruning.compact({}), 'chain'),
  'compact of numbers': (lambda: pruning.compact({'a': 1.0, 'b': 2}), 'params'),
  'median of nothing': (lambda: compressibility.median(jnp.zeros(0)), 'x'),
  'median of integers': (lambda: compressibility.median(jnp.arange(3)), 'x'),
  'a vector of tolerances': (
    lambda: compressibility.pruning_ratio(
      jnp.ones((2, 3)), tolerance=jnp.ones(3) / 4
    ),
    'tolerance',
  ),
  'a flag that is an array': (
    lambda: compressibility.pruning_ratio(
      jnp.ones((2, 3)), squared=jnp.ones(2, bool)
    ),
    'squared',
  ),
  'a choice that is an array': (
    lambda: pruning.magnitude(params(), 0.5, scope=np.ones(3)),
    'scope',
  ),
  'complex margins': (
    lambda: bounds.margins(jnp.ones((2, 3)) * 1j, jnp.zeros(2, int)),
    'logits',
  ),
  'complex weights': (
    lambda: compressibility.pruning_ratio(np.ones((2, 2)) * 1j),
    'matrix',
  ),
  'an array of keys': (
    lambda: stable.sample(jax.random.split(jax.random.key(0), 2), 1.5),
    'key',
  ),
  'a legacy key': (
    lambda: stable.sample(np.array([0, 1], np.uint32), 1.5),
    'key',
  ),
  'keys for numbers': (
    lambda: compressibility.best_k(jax.random.split(jax.random.key(0), 2), 1),
    'x',
  ),
  'a dtype that is none': (
    lambda: stable.sample(jax.random.key(0), 1.5, (), 'text'),
    'dtype',
  ),
  'a shape that is a number': (
    lambda: stable.sample(jax.random.key(0), 1.5, 2.5),
    'shape',
  ),
  'no labels': (
    lambda: training.evaluate(lambda p, x: x, {}, jnp.ones((0, 2)), []),
    'labels',
  ),
  'labels of others': (
    lambda: training.evaluate(
      lambda p, x: x, {}, jnp.ones((3, 2)), jnp.zeros(2, int)
    ),
    'inputs',
  ),
  'a problem that is none': (
    lambda: mean_field.drift(None, jnp.ones(2), jnp.ones((3, 2))),
    'problem',
  ),
}


@pytest.mark.parametrize('name', CALLS)
def test_bad_calls_name_the_argument(name):
  call, argument = CALLS[name]
  with pytest.raises(ValueError, match=rf'\b{argument}\b'):
    call()
