"""The documentation is whole: names, sections, sources, code blocks."""

import ast
import functools
import importlib
import inspect
import pathlib
import re

import griffe
import pytest
from site_pages import docstrings, includes, made, names, references, statements
from site_pages.elsewhere import ELSEWHERE

import htjax

ROOT = pathlib.Path(__file__).parents[1]
SECTIONS = {'Args': 'parameters', 'Returns': 'returns', 'Raises': 'raises'}
FOLDERS = ('htjax', 'experiments', 'tests', 'colabs', 'docs')
OPENERS = re.compile(r'(The same|Where|How|What)\b')


def _public(module):
  """Dotted names that an import finds public, modules opened."""
  exported = getattr(module, '__all__', None)
  for name, value in vars(module).items():
    if inspect.ismodule(value):
      if name in (exported or ()):
        yield from _public(value)
    elif name in exported if exported else _is_defined_in(module, name, value):
      yield f'{module.__name__}.{name}'


def _is_defined_in(module, name, value):
  return (
    not name.startswith('_')
    and callable(value)
    and getattr(value, '__module__', None) == module.__name__
  )


def test_every_public_name_is_in_the_reference():
  public = {
    name
    for room in htjax.__all__
    for name in _public(importlib.import_module(f'htjax.{room}'))
  }
  shown = set(
    re.findall(r'^::: (\S+)', '\n'.join(made.pages().values()), re.MULTILINE)
  )
  assert len(public) > 250
  assert not public - shown
  assert {f'htjax.{room}' for room in htjax.__all__} <= shown


def _functions(module=None):
  """Every function and method of the package, its docstring laid out."""
  for member in (module or names.package()).members.values():
    if member.is_alias:
      continue
    if member.is_module or member.is_class:
      yield from _functions(member)
    elif member.is_function and member.docstring:
      yield member


def _recognised(docstring):
  """Sections in the raw text, and whether the parser finds each."""
  parsed = griffe.Docstring(
    docstrings.arrange(docstring.value),
    parent=docstring.parent,
    parser='google',
    parser_options={
      'returns_named_value': False,
      'returns_multiple_items': False,
      'warnings': False,
    },
  ).parsed
  kinds = {section.kind.value for section in parsed}
  return {
    title: kind in kinds
    for title, kind in SECTIONS.items()
    if re.search(rf'^ *{title}:', docstring.value, re.MULTILINE)
  }


@pytest.mark.parametrize('section', SECTIONS)
def test_sections_are_recognised(section):
  found = {
    function.path: recognised[section]
    for function in _functions()
    if section in (recognised := _recognised(function.docstring))
  }
  assert len(found) > 150
  missed = [path for path, is_found in found.items() if not is_found]
  assert not missed


def test_a_section_without_a_blank_line_is_missed():
  text = 'A sum.\n\nArgs:\n  x: a number.\nReturns:\n  A number.'
  found = _recognised(griffe.Docstring(text))
  assert found == {'Args': True, 'Returns': False}


@functools.cache
def _docstrings():
  documented = (
    *(ast.Module, ast.ClassDef),
    *(ast.FunctionDef, ast.AsyncFunctionDef),
  )
  return [
    (f'{path.relative_to(ROOT)}: {doc.splitlines()[0]}', doc)
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob('*.py'))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, documented)
    if (doc := ast.get_docstring(node))
  ]


def test_docstrings_say_on_their_own_what_they_describe():
  assert OPENERS.match('What it is.')
  riddles = [where for where, doc in _docstrings() if OPENERS.match(doc)]
  assert not riddles


def test_arguments_are_described_where_they_stand():
  pointers = [
    where
    for where, doc in _docstrings()
    if where.startswith('htjax')
    and re.search(r'^ +[a-z][\w, ]*: as in `', doc, re.MULTILINE)
  ]
  assert not pointers


def test_sources_have_keys_that_are_known():
  known = references.read()
  cited = set()
  for where, doc in _docstrings():
    if where.startswith('htjax'):
      for key in references.CITATION.findall(doc):
        assert key in known, f'{where} cites {key}'
        cited.add(key)
  assert cited == set(known)


def test_sources_are_read():
  assert statements.parse(
    '[SK], Theorem E.1; [SH], eq. (2) and [Hill1975], page 3.'
  ) == [
    ('SK', 'Theorem E.1'),
    ('SH', 'eq. (2) and'),
    ('Hill1975', 'page 3'),
  ]
  found = {(s.key, s.place): s.function for s in statements.collect()}
  assert found['HT', 'eq. (S43)'] == 'htjax.compressibility.compression_error'


# All that the papers number, but for figures, tables and equations.
NUMBERED = {
  'HT': 'Condition 1; Theorems 1 to 4, S5, S6; Corollaries 1, S2; '
  'Proposition S1; Lemmas S1, S2, S3, S4, S5, S6, S7, S8',
  'IC': 'Assumption 1; Theorems 3.1, 4.1, 4.2, 4.3; Propositions A.1, B.1; '
  'Lemmas C.1, C.2, C.3, D.1; Definition D.1',
  'SH': 'Theorems 1, 2; Propositions 1.1, 1.2, 2.1; Lemmas 2.1, 2.2, 2.3, 2.4; '
  'Algorithm 1; Remarks 1 to 3',
  'SK': 'Assumption 3.1; Definitions 3.1, 5.1, F.1; Theorems 3.1, 5.1, 5.2, '
  '6.1, E.1, F.1, H.1; Lemmas 4.1, 4.2, 5.1, C.1, C.2, C.3, C.4, C.5, D.1, '
  'D.2, D.3, D.4, E.1, E.2, E.3, F.1; Condition D.1; Algorithm 1; '
  'Remarks 4.1, 5.1',
}
PLURALS = {'Corollarie': 'Corollary'}
NUMBER = r'[A-Z]?\.?\d+(?:\.\d+)*'


def _numbers(place):
  """Words with each number after them, ranges of whole numbers written out."""
  listed = rf'([A-Z][a-z]+?)s? ((?:{NUMBER}(?:, | and | to )?)+)'
  for word, text in re.findall(listed, place):
    for first, last in re.findall(r'\b(\d) to (\d)\b', text):
      text += ''.join(f', {i}' for i in range(int(first), int(last)))
    for number in re.findall(NUMBER, text):
      yield PLURALS.get(word, word), number


def test_every_numbered_statement_has_a_line():
  found = {
    (s.key, *pair) for s in statements.collect() for pair in _numbers(s.place)
  }
  found |= {(e.key, *pair) for e in ELSEWHERE for pair in _numbers(e.place)}
  asked = {
    (key, *pair) for key, text in NUMBERED.items() for pair in _numbers(text)
  }
  assert len(asked) == 74
  assert not asked - found


def test_own_sections_are_laid_out():
  text = 'A draw.\n\nSource: [HT], eq. (1)\n  and more.\n\nValues: NaN.'
  assert docstrings.arrange(text) == (
    'A draw.\n\nSource:\n    [[HT]][cite-HT], eq. (1)\n    and more.\n\n'
    'Values:\n    NaN.'
  )
  assert docstrings.arrange('x: >= 0.\n>>> 1') == 'x: \\>= 0.\n>>> 1'


def test_references_have_an_author_and_a_title():
  entries = references.read()
  assert {'HT', 'IC', 'SH', 'SK'} <= set(entries)
  for key, fields in entries.items():
    assert {'author', 'title'} <= set(fields), key
    assert not re.search(r'[\\{}]', ''.join(fields.values())), key


def test_links_lead_to_pages():
  pages = {'docs/a.md': 'a.md', 'README.md': 'index.md'}
  text = '[A](../../docs/a.md#part) and [site](https://jax.dev) [c](../x.py)'
  with pytest.raises(ValueError, match='does not exist'):
    includes.relinked(text, 'experiments/one/README.md', 'r/one.md', pages)
  text = text.replace('../x.py', '../../pyproject.toml')
  assert includes.relinked(
    text, 'experiments/one/README.md', 'r/one.md', pages
  ) == ('[A](../a.md#part) and [site](https://jax.dev) `pyproject.toml`')


def test_no_page_links_to_a_repository_that_does_not_exist():
  for page, text in made.pages().items():
    assert 'github.com/htjax' not in text, page
