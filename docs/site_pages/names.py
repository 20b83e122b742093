"""Public names, read from the sources without importing them.

A module's public names are those of `__all__`, and where there is none, the
functions, classes and constants that it defines under a name without underscore
and with a docstring or a value. A public name that is a module is opened.
"""

import dataclasses
import functools
import pathlib

import griffe

ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Module:
  """A public module: its dotted path, its public names, modules inside it."""

  path: str
  names: tuple[str, ...]
  modules: tuple['Module', ...]

  def walk(self):
    """This module and all inside it, outermost first."""
    yield self
    for module in self.modules:
      yield from module.walk()


@functools.cache
def package() -> griffe.Module:
  """The sources of `htjax`, parsed."""
  loaded = griffe.load('htjax', search_paths=[str(ROOT)])
  assert isinstance(loaded, griffe.Module)
  return loaded


@functools.cache
def rooms() -> tuple[Module, ...]:
  """The public modules of `htjax.__all__`, each with its public names."""
  return _module(package()).modules


def _module(module: griffe.Module) -> Module:
  names, modules = [], []
  for name in _exports(module):
    member = module.members[name]
    target = member.final_target if member.is_alias else member
    if target.is_module:
      modules.append(_module(target))
    else:
      names.append(name)
  return Module(module.path, tuple(names), tuple(modules))


def _exports(module: griffe.Module) -> list[str]:
  if module.exports is not None:
    return [str(name) for name in module.exports]
  return [
    name
    for name, member in module.members.items()
    if not (member.is_alias or name.startswith('_') or member.is_module)
    and (member.docstring or not member.is_attribute)
  ]
