"""All made pages: their places in the site and their text."""

import functools
import pathlib

from site_pages import includes, names, references, statements

_ROOT = includes.ROOT


@functools.cache
def pages() -> dict[str, str]:
  """Markdown of every made page, by its place, in the order of navigation."""
  shown = sources()
  made = {
    page: includes.included(path, page, shown)
    for path, page in shown.items()
    if page != path.removeprefix('docs/') and path.endswith('.md')
  }
  made |= {
    page: includes.notebook(path)
    for path, page in shown.items()
    if path.endswith('.py')
  }
  made |= {f'reference/{_room(m)}.md': reference(m) for m in names.rooms()}
  made['statements.md'] = statements.page()
  made['references.md'] = references.page()
  return made


def sources() -> dict[str, str]:
  """The page that shows each file of the project that is shown."""
  shown = {
    'README.md': 'index.md',
    'CONTRIBUTING.md': 'contributing.md',
    'CHANGELOG.md': 'changelog.md',
    'experiments/README.md': 'results/index.md',
  }
  for file in sorted(_ROOT.glob('docs/*.md')):
    shown[f'docs/{file.name}'] = file.name
  for file in sorted(_ROOT.glob('docs/results/report/*.md')):
    shown[_path(file)] = f'results/report/{file.name}'
  for file in sorted(_ROOT.glob('experiments/*/README.md')):
    shown[_path(file)] = f'results/{file.parent.name}.md'
  for file in sorted(_ROOT.glob('colabs/*.py')):
    shown[_path(file)] = f'colabs/{file.stem}.md'
    shown[_path(file.with_suffix('.ipynb'))] = f'colabs/{file.stem}.md'
  return shown


def reference(room: names.Module) -> str:
  """Markdown of the reference of a room: every public name in it."""
  lines = [f'# {_room(room)}', '']
  for module in room.walk():
    level = 2
    if module is not room:
      lines += [f'## {_room(module)}', '']
      level = 3
    lines += _directive(
      module.path, 'show_root_heading: false', 'members: false'
    )
    for name in module.names:
      lines += _directive(f'{module.path}.{name}', f'heading_level: {level}')
  return '\n'.join(lines)


def _directive(path: str, *options: str) -> list[str]:
  return [f'::: {path}', '    options:', *(f'      {o}' for o in options), '']


def _room(module: names.Module) -> str:
  return module.path.removeprefix('htjax.')


def _path(file: pathlib.Path) -> str:
  return str(file.relative_to(_ROOT))
