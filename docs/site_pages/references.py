"""The page of references, from `references.bib`."""

import pathlib
import re

BIB = pathlib.Path(__file__).parents[1] / 'references.bib'
# A key in the text: [HT] or [Hill1975].
CITATION = re.compile(r'\[([A-Z][A-Za-z]+\d{4}|HT|IC|SH|SK)\](?![\[(])')

_ENTRY = re.compile(r'^@(\w+)\{(\w+),\n(.*?)^\}', re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r'^  (\w+) = \{(.*)\},$', re.MULTILINE)
_PLACES = ('journal', 'booktitle', 'publisher')
_ACCENTS = {
  r'{\c{S}}': 'Ş',
  r'{\c{s}}': 'ş',
  r'{\v{c}}': 'č',
  r'{\l}': 'ł',
  r'{\'e}': 'é',
  r'{\"e}': 'ë',
  r'$\alpha$': 'α',
}


def read(path: pathlib.Path = BIB) -> dict[str, dict[str, str]]:
  """The entries of a BibTeX file by key, accents resolved, in file order."""
  return {
    key: {name: _plain(value) for name, value in _FIELD.findall(body)}
    for _, key, body in _ENTRY.findall(path.read_text())
  }


def link(text: str) -> str:
  """Markdown in which each citation leads to the page of references."""
  return CITATION.sub(r'[[\1]][cite-\1]', text)


def page() -> str:
  """Markdown of the page of references, an anchor for each key."""
  lines = [
    '# References',
    '',
    'The keys in brackets are those that the `Source` of a function names.',
    '',
  ]
  for key, fields in read().items():
    where = next((fields[f] for f in _PLACES if f in fields), None)
    if 'volume' in fields:
      where = f'{where} {fields["volume"]}'
    parts = [_authors(fields['author']), f'*{fields["title"]}*', where]
    parts.append(fields.get('year'))
    text = '. '.join(part for part in parts if part)
    lines += [f'[](){{#cite-{key}}}', f'**[{key}]**{{ .key }} {text}.', '']
  return '\n'.join(lines)


def _authors(field: str) -> str:
  people = [
    ' '.join(reversed(person.split(', '))) for person in field.split(' and ')
  ]
  return ', '.join(people)


def _plain(value: str) -> str:
  for code, letter in _ACCENTS.items():
    value = value.replace(code, letter)
  return re.sub(r'[{}]', '', value)
