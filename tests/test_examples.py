"""Every public function of the front rooms has an example, and it runs."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import htjax

ROOMS = (
  'compressibility',
  'laws.gram',
  'laws.pareto',
  'laws.positive',
  'laws.skewed',
  'laws.tempered',
  'laws.zeta',
  'mean_field',
  'noise',
  'pruning',
  'selection',
  'sketching',
  'stable',
  'tail_index',
)


def _modules(room):
  module = importlib.import_module(f'htjax.{room}')
  yield module
  for info in pkgutil.walk_packages(
    getattr(module, '__path__', ()), f'{module.__name__}.'
  ):
    yield importlib.import_module(info.name)


def _public_functions(room):
  module = importlib.import_module(f'htjax.{room}')
  names = getattr(module, '__all__', vars(module))
  for name in names:
    value = getattr(module, name)
    if name.startswith('_') or not inspect.isfunction(inspect.unwrap(value)):
      continue
    if value.__module__.startswith(module.__name__):
      yield name, value


def _without_examples(functions):
  return [
    name for name, value in functions if '>>>' not in (value.__doc__ or '')
  ]


@pytest.mark.parametrize('room', ROOMS)
def test_every_public_function_has_an_example(room):
  functions = list(_public_functions(room))
  assert functions
  assert not _without_examples(functions)


def test_a_function_without_an_example_is_found():
  def bare():
    """Says what, but shows nothing."""

  assert _without_examples([('bare', bare)]) == ['bare']


def _examples():
  finder = doctest.DocTestFinder()
  found = {
    test.name: test
    for room in sorted(htjax.__all__)
    for module in _modules(room)
    for test in finder.find(module)
    if test.examples
  }
  return [pytest.param(test, id=name) for name, test in found.items()]


@pytest.mark.parametrize('example', _examples())
def test_examples_run(example):
  results = doctest.DebugRunner().run(example)
  assert results.failed == 0
