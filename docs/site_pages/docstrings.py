"""Display of the sections of a docstring that are the project's own.

`Values:` (what traced bad values give) and `Source:` start on the line of their
name, like a sentence. The parser knows sections whose text is indented beneath
their name, so they are laid out that way before it reads them; keys of
references become links.
"""

import re
from typing import Any

import griffe

from site_pages import references

_SECTION = re.compile(
  r'^(Values|Source):[ \n](.*(?:\n[ ]+\S.*)*)', re.MULTILINE
)

# A description such as `scale: >= 0` is no quotation.
_QUOTED = re.compile(r'(^ *|: )>(?!>)', re.MULTILINE)


class Sections(griffe.Extension):
  """Lays out the sections of every docstring that is loaded."""

  def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
    """Rewrite the docstring of one object in place."""
    if obj.docstring:
      obj.docstring.value = arrange(obj.docstring.value)


def arrange(docstring: str) -> str:
  """A docstring whose own sections a Google-style parser recognises."""
  return _SECTION.sub(_section, _QUOTED.sub(r'\1\\>', docstring))


def _section(found: re.Match[str]) -> str:
  title, text = found.groups()
  lines = [line.strip() for line in text.splitlines()]
  if title == 'Source':
    lines = references.link('\n'.join(lines)).splitlines()
  return '\n'.join([f'{title}:', *(f'    {line}' for line in lines if line)])
