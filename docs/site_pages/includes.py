"""Pages whose text lies elsewhere in the project.

A file of the project is shown as it is, with its links led to the pages that
show their targets. A notebook is shown from its percent-format source.
"""

import pathlib
import posixpath
import re

ROOT = pathlib.Path(__file__).parents[2]

_LINK = re.compile(r'(?<!!)\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^)\s]+)\)')
_CELL = re.compile(r'^# %%(.*)\n', re.MULTILINE)


def included(path: str, page: str, pages: dict[str, str]) -> str:
  """Markdown of a file of the project, to stand at `page`.

  Args:
    path: of the file, from the root of the project.
    page: where it will stand, from the root of the site.
    pages: page that shows each file, by the file's path.

  Returns:
    Its text; a link to a file without a page is left as code.
  """
  return relinked((ROOT / path).read_text(), path, page, pages)


def relinked(text: str, path: str, page: str, pages: dict[str, str]) -> str:
  """Lead the relative links of a text to the pages of their targets."""

  def lead(found: re.Match[str]) -> str:
    label, target = found.groups()
    if re.match(r'[a-z]+:|#', target):
      return found[0]
    name, _, anchor = target.partition('#')
    file = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
    if file in pages:
      relative = posixpath.relpath(pages[file], posixpath.dirname(page) or '.')
      return f'[{label}]({relative}{"#" + anchor if anchor else ""})'
    if not (ROOT / file).exists():
      raise ValueError(f'{path} links to {target}, which does not exist')
    return f'`{file}`'

  return _LINK.sub(lead, text)


def notebook(path: str) -> str:
  """Markdown of a notebook in percent format: its text and its code."""
  source = (ROOT / path).read_text()
  _, *cells = _CELL.split(source)
  parts = [
    _cell(kind, body)
    for kind, body in zip(cells[::2], cells[1::2], strict=True)
  ]
  return '\n\n'.join(part for part in parts if part) + '\n'


def _cell(kind: str, body: str) -> str:
  body = body.strip('\n')
  if 'markdown' not in kind:
    body = re.sub(r'^# (?=[%!])', '', body, flags=re.MULTILINE)
    return f'```python\n{body}\n```' if body else ''
  lines = [re.sub(r'^# ?', '', line) for line in body.splitlines()]
  # A badge opens the file somewhere else; here it is open.
  return '\n'.join(line for line in lines if 'badge.svg' not in line).strip()
