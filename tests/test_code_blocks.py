"""The code blocks of the README and of the written pages run, in order."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(f'docs/{page.name}' for page in ROOT.glob('docs/*.md'))
_BLOCK = re.compile(r'^```python\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def _run(text, name):
  """Run all blocks of a page in one namespace; return it."""
  namespace = {'__name__': name}
  for block in _BLOCK.finditer(text):
    # Blank lines in front, so that an error names the line of the page.
    lines = text.count('\n', 0, block.start(1))
    exec(compile('\n' * lines + block[1], name, 'exec'), namespace)
  return namespace


@pytest.mark.parametrize('page', PAGES)
def test_code_blocks_run(page):
  _run((ROOT / page).read_text(), page)


def test_blocks_share_names_and_errors_are_seen():
  text = '```python\na = 1\n```\n\nThen\n\n```python\nb = a + 1\n```\n'
  assert _run(text, 'page')['b'] == 2
  with pytest.raises(NameError, match='c'):
    _run(text + '```python\nc\n```\n', 'page')


def test_the_readme_runs_and_shows_how_to_add_noise_and_what_to_expect():
  names = _run((ROOT / 'README.md').read_text(), 'README.md')
  assert 0 < names['pruned'].ratio < 1
  rate = names['rate']
  assert abs(rate.slope + 0.5) < 5 * rate.standard_error
