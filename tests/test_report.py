"""Every table and figure of the papers has a line, computed from numbers."""

import json

import pytest

from experiments.common import published
from experiments.report import compare, pages

# As printed in the papers.
PRINTED = {
  'heavy_tails': [
    *('Table 1', 'Table 2', *(f'Figure {i}' for i in range(1, 8))),
    *('Figure ??', *(f'Figure S{i}' for i in range(1, 6))),
  ],
  'implicit_compressibility': [
    *(f'Table {i}' for i in range(1, 8)),
    *('Figure 1', *(f'Figure 2 ({part})' for part in 'abc')),
  ],
  'gaussian_compression': ['Table 1', 'Figure 1', 'Figure 2', 'Figure 3'],
  'sketching_bounds': [
    *('Table 1', 'Table 2', 'Table 3', 'Figure 1', 'Figure 2'),
    *(f'Figure 3 ({part})' for part in 'abc'),
    *('Figure 4', 'Figure 5', 'Figure 6'),
  ],
}
# And the statements that runs test.
TESTED = {
  'heavy_tails': [
    *('Theorem 1', 'Theorem 2', 'Theorem 3', 'Section 3.3', 'Proposition S1')
  ],
  'implicit_compressibility': [
    'Equations (3), (4) and (14)',
    *('Theorem 3.1', *(f'Theorem 4.{i}' for i in (1, 2, 3))),
    *('Proposition A.1', 'Proposition B.1'),
    *(f'Lemma {name}' for name in ('C.1', 'C.2', 'C.3', 'D.1')),
  ],
}
VERDICTS = (
  'agrees in all ',
  'differs in ',
  'not run: ',
  'no number is printed',
)


def items():
  return [i for paper in pages.papers().values() for i in paper['items']]


def item(page, name):
  (found,) = (i for i in pages.papers()[page]['items'] if i['item'] == name)
  return found


@pytest.fixture(scope='module')
def committed():
  return pages.collect()


def test_every_table_and_figure_has_a_verdict(committed):
  papers = pages.papers().items()
  assert {
    page: [own['item'] for own in paper['items']] for page, paper in papers
  } == {page: names + TESTED.get(page, []) for page, names in PRINTED.items()}
  for own in items():
    found = pages.entry(own, committed)
    assert found.verdict.startswith(VERDICTS), found.verdict
    assert 'python -m experiments.' in found.command


def test_missing_rows_are_not_run():
  waiting = [i for i in items() if 'measure' in i and i.get('presets')]
  assert len(waiting) > 25
  for own in waiting:
    assert pages.entry(own, {}).verdict == f'not run: {own["missing"]}'


def table_1(**changes):
  """Rows that are, to the last digit, those of Table 1."""
  rows = []
  for alpha in (None, 1.75, 1.8, 1.9):
    printed = published.row('IC-TB1', alpha)
    for i in range(5):
      # Five values whose mean and standard deviation are these.
      step = (i - 2) / 2.5**0.5
      row = {name: mean + step * sd for name, (mean, sd) in printed.items()}
      rows.append({'alpha': alpha, 'diverged': False} | row)
  for column, value in changes.items():
    for row in rows[:5]:
      row[column] = value
  return {('implicit_compressibility', 'ecg5000_type1_2k'): rows}


def test_a_changed_number_changes_the_verdict():
  own = item('implicit_compressibility', 'Table 1')
  same = pages.entry(own, table_1())
  assert same.verdict.startswith('agrees in all 20, within 0.0 standard errors')
  found = pages.entry(own, table_1(pruning_ratio=0.2))
  assert found.verdict.startswith('differs in 1 of 20: ')
  off = [one for one in found.compared if not one.agrees]
  assert [(one.what, one.ours) for one in off] == [
    ('no noise: pruning ratio', '20 (5)')
  ]
  (line,) = (line for line in pages.summary([found]) if 'Table 1' in line)
  assert '| 11.43+-0.04 | 20 (5) |' in line


def test_a_reversed_claim_changes_the_verdict():
  own = item('heavy_tails', 'Figure S1')

  def verdict(slope):
    rows = [
      {
        'study': 'matrices',
        'structure': name,
        'alpha': 1.75 + i / 100,
        'pruning_ratio': 0.3 + slope * i / 100,
      }
      for i in range(20)
      for name in ('independent', 'columns', 'whole')
    ]
    return pages.entry(own, {('heavy_tails_sgd', 'paper'): rows}).verdict

  assert verdict(-1) == 'agrees in all 2'
  assert verdict(1).startswith('differs in 2 of 2')


def test_a_statement_that_fails_changes_the_verdict():
  own = item('heavy_tails', 'Proposition S1')

  def verdict(**changes):
    row = {
      'study': 'theorems',
      'statement': 'Proposition S1',
      **{
        'what': 'gap',
        'alpha': 1.5,
        'value': -0.1,
        'low': -0.2,
        'high': -0.05,
      },
      **{'predicted': -0.11, 'holds': True, 'claim': True},
    }
    rows = [row, row | changes, row | {'statement': 'Theorem 3'}]
    return pages.entry(own, {('heavy_tails_sgd', 'cpu'): rows}).verdict

  assert verdict().startswith('agrees in all 2')
  assert verdict(claim=False).startswith('differs in 1 of 2: true within one')
  assert verdict(claim=None).startswith('agrees in all 1')
  assert verdict(study='controls').startswith('agrees in all 1')


@pytest.mark.parametrize(
  ('printed', 'found', 'agrees'),
  [
    # Without any spread: the tolerance; with one, three standard errors.
    (1.0, [1.05], True),
    (1.0, [1.2], False),
    ([1.0, 0.5], [1.6], True),
    ([1.0, 0.1], [2.0, 2.1, 1.9], False),
    ([1.0, 0.1], [1.0, 2.0, 3.0], True),
  ],
)
def test_numbers_agree_within_their_spread(printed, found, agrees):
  own = {'tolerance': 0.1, 'repeats': 5}
  assert compare.compare(own, 'x', printed, found).agrees is agrees


def test_run_folders_count_before_what_is_committed(tmp_path, committed):
  folder = tmp_path / 'heavy_tails_sgd-smoke'
  folder.mkdir()
  (folder / 'results.json').write_text(json.dumps([{'study': 'limits'}]))
  for place in (tmp_path, folder):
    found = pages.collect([place])
    assert found['heavy_tails_sgd', 'smoke'] == [{'study': 'limits'}]
    assert found.keys() == committed.keys()


def test_the_committed_pages_are_those_of_the_committed_rows(
  tmp_path, committed
):
  def verdicts(path):
    # Rows that no verdict comes from are only listed, at the end.
    return path.read_text().partition('## Rows at hand')[0]

  pages.write(committed, tmp_path)
  for path in tmp_path.iterdir():
    assert verdicts(path) == verdicts(pages.FOLDER / path.name), path.name


def test_measures_read_the_rows_of_small_runs(committed):
  small = {
    study: rows
    for (study, preset), rows in committed.items()
    if preset in ('smoke', 'demo')
  }
  read = {
    own['measure']
    for own in items()
    if own.get('study') in small
    and 'measure' in own
    and compare.comparisons(own, small[own['study']])
  }
  assert read >= {
    *('halves', 'random_networks', 'random_matrices', 'curves'),
    *('shapes', 'pruning', 'epochs'),
  }
