"""The index of statements: theorem, equation or algorithm to function.

It is read from the `Source:` paragraphs of the docstrings, whose form is
`[KEY], Theorem 4.2 and eqs. (3) to (5); [OTHER], section 2.`
"""

import dataclasses
import re

import griffe

from site_pages import names, references
from site_pages.elsewhere import ELSEWHERE

_SOURCE = re.compile(r'^Source:[ \n](.*(?:\n[ ]+\S.*)*)', re.MULTILINE)
_PAPERS = ('HT', 'IC', 'SH', 'SK')
# Statements, from the most to the least particular.
_ORDER = (
  'Theorem',
  'Proposition',
  'Corollary',
  'Corollaries',
  'Lemma',
  'Algorithm',
  'Assumption',
  'Condition',
  'Definition',
  'problem',
  'eq',
  'Figure',
)


@dataclasses.dataclass(frozen=True)
class Statement:
  """A place in a paper, and the public function that computes it."""

  key: str
  place: str
  function: str


def source(docstring: str) -> str | None:
  """The `Source` of a docstring on one line, or None."""
  found = _SOURCE.search(docstring)
  return ' '.join(found[1].split()) if found else None


def parse(text: str) -> list[tuple[str, str]]:
  """The (key, place) pairs of a source; the place may be empty."""
  pairs = []
  for part in text.split(';'):
    # Keys and what stands between them: ['', 'SK', ', Lemma E.1 and ', ..].
    _, *cited = references.CITATION.split(part)
    for key, place in zip(cited[::2], cited[1::2], strict=True):
      pairs.append((key, place.strip(' ,.')))
  return pairs


def collect() -> list[Statement]:
  """Every statement that a public function or class names as its source.

  A function that has two addresses is there by the outer one.
  """
  addresses: dict[str, tuple[str, str]] = {}
  for room in names.rooms():
    for module in room.walk():
      for name in module.names:
        target, text = _documented(module.path, name)
        addresses.setdefault(target, (f'{module.path}.{name}', text))
  return [
    Statement(key, place, function)
    for function, text in addresses.values()
    for key, place in parse(source(text) or '')
  ]


def page() -> str:
  """Markdown of the index, the four papers first."""
  statements = collect()
  entries = references.read()
  keys = [*_PAPERS, *sorted({s.key for s in statements} - set(_PAPERS))]
  lines = [
    '# From statement to function',
    '',
    'Which function computes which theorem, lemma, equation or algorithm; '
    'made from the `Source` of every docstring.',
    '',
  ]
  for key in keys[: len(_PAPERS)]:
    lines += [f'## {entries[key]["title"]}', '', references.link(f'[{key}]')]
    lines += ['', '| statement | function |', '| --- | --- |']
    lines += _rows([s for s in statements if s.key == key], key=False)
    lines += ['', 'Without a function of their own:', '']
    lines += ['| what | where, or why not |', '| --- | --- |']
    lines += [f'| {e.place} | {e.text} |' for e in ELSEWHERE if e.key == key]
    lines.append('')
  lines += ['## Other sources', '', '| source | function |', '| --- | --- |']
  for key in keys[len(_PAPERS) :]:
    lines += _rows([s for s in statements if s.key == key], key=True)
  return '\n'.join([*lines, ''])


def _rows(statements: list[Statement], key: bool) -> list[str]:
  rows = []
  for s in sorted(statements, key=_rank):
    place = s.place.replace('|', r'\|')
    if key:
      place = ', '.join(filter(None, (references.link(f'[{s.key}]'), place)))
    short = s.function.removeprefix('htjax.')
    rows.append(f'| {place or "throughout"} | [`{short}`][{s.function}] |')
  return rows


def _rank(statement: Statement) -> tuple:
  found = re.search(
    rf'\b({"|".join(_ORDER)})\w*\.? \(?([A-Z]*)\.?(\d*)\.?(\d*)',
    statement.place,
  )
  if not found:
    return (len(_ORDER), statement.place)
  word, letter, *numbers = found.groups()
  place = _ORDER.index(word)
  return (place, letter, [int(n or 0) for n in numbers], statement.place)


def _documented(module: str, name: str) -> tuple[str, str]:
  """The path of a definition, and its docstring."""
  member = names.package()[f'{module.removeprefix("htjax.")}.{name}']
  target = member.final_target if member.is_alias else member
  assert isinstance(target, griffe.Object)
  return target.path, target.docstring.value if target.docstring else ''
