"""The loop, the tables and the printed numbers that all studies share."""

import json

import pytest
from ml_collections import ConfigDict

from experiments.common import cells, frames, published, tasks
from experiments.common.cells import Cell, Report
from experiments.common.frames import Column
from htjax import data

CONFIG = ConfigDict({'seed': 0})


def report(config, rows):
  del config
  return Report([f'{len(rows)} rows', ''], {})


def test_cells_are_tagged_in_their_order(tmp_path, capsys):
  plan = [
    Cell('one', lambda: {'x': 1}),
    Cell('two', lambda: iter([{'x': 2}, {'x': 3}]), 'chaos'),
    Cell({'lane': 7}, lambda: [{'first': 0, 'lane': 7}]),
  ]
  rows = cells.run_cells(CONFIG, tmp_path / 'run', plan, report)
  expected = [
    {'cell': 'one', 'x': 1},
    {'study': 'chaos', 'cell': 'two', 'x': 2},
    {'study': 'chaos', 'cell': 'two', 'x': 3},
    {'first': 0, 'lane': 7},
  ]
  written = json.loads((tmp_path / 'run' / 'results.json').read_text())
  for found in (rows, written):
    assert [list(row.items()) for row in found] == [
      list(row.items()) for row in expected
    ]
  assert (tmp_path / 'run' / 'table.txt').read_text() == '4 rows\n'
  assert 'written to' in capsys.readouterr().out


def test_a_stopped_run_goes_on_with_what_is_missing(tmp_path):
  measured = []

  def cell(name, fails=False):
    def measure():
      if fails:
        raise KeyboardInterrupt
      measured.append(name)
      return {'value': len(measured)}

    return Cell(name, measure)

  plan = [cell('a'), cell('b'), cell('c', fails=True)]
  with pytest.raises(KeyboardInterrupt):
    cells.run_cells(CONFIG, tmp_path / 'run', plan, report)
  plan = [cell('a'), cell('b'), cell('c')]
  rows = cells.run_cells(CONFIG, tmp_path / 'run', plan, report)
  assert measured == ['a', 'b', 'c']
  assert [row['value'] for row in rows] == [1, 2, 3]


def test_rows_come_in_the_order_of_the_cells_whichever_ends_first(tmp_path):
  from htjax.io import records

  def missing(done):
    for i in (2, 0, 1):
      if i not in done:
        yield i, lambda i=i: {'square': i * i}

  tags = [{'lane': i} for i in range(3)]
  with records.open_run(tmp_path / 'run', {}) as run:
    rows = cells.collect(run, tags, missing)
    assert [row['square'] for row in rows] == [0, 1, 4]
    assert run.read_results() == rows


def test_rows_of_another_study_are_refused(tmp_path):
  plan = [Cell('old', lambda: {'x': 1})]
  cells.run_cells(CONFIG, tmp_path / 'run', plan, report)
  with pytest.raises(ValueError, match=r"rows of this study, got .*'old'"):
    cells.run_cells(CONFIG, tmp_path / 'run', [Cell('new', dict)], report)


ROWS = [
  {'alpha': None, 'seed': 0, 'ratio': 0.1},
  {'alpha': 1.5, 'seed': 0, 'ratio': 0.2},
  {'alpha': 1.5, 'seed': 1, 'ratio': 0.4},
]


def test_rows_are_picked_and_grouped():
  assert frames.where(ROWS, alpha=1.5, seed=1) == ROWS[2:]
  assert frames.group(ROWS, 'alpha') == {None: ROWS[:1], 1.5: ROWS[1:]}
  assert list(frames.group(ROWS, 'alpha', 'seed')) == [
    *((None, 0), (1.5, 0), (1.5, 1)),
  ]


def test_a_table_has_the_published_line_beneath():
  columns = [
    Column('alpha', 'alpha', frames.tail),
    Column('runs', len),
    frames.spread('ratio', 'ratio', 1, 100),
  ]

  def printed(own):
    return {'ratio': '25.0'} if own[0]['alpha'] else None

  text = frames.table(
    'title', columns, frames.group(ROWS, 'alpha').values(), beneath=printed
  )
  assert [line.split() for line in text.splitlines()] == [
    ['title'],
    ['alpha', 'runs', 'ratio'],
    ['-' * 8, '-' * 4, '-' * 10],
    ['no', 'noise', '1', '10.0+-0.0'],
    ['1.5', '2', '30.0+-14.1'],
    ['25.0'],
  ]
  assert frames.table('title', columns, []) == ''


def test_what_is_missing_is_shown_as_nothing():
  columns = [Column('x', 'x', '.2f'), Column('y', 'y', frames.yes)]
  text = frames.table('', columns, [{'x': None, 'y': False}, {'x': 1.0}])
  assert [line.split() for line in text.splitlines()[2:]] == [['NO'], ['1.00']]
  assert frames.mean_sd([]) == '-'


def test_every_printed_row_has_an_entry_for_each_column():
  for table, found in published._tables().items():
    assert found['source'], table
    for key, values in found['rows'].items():
      assert len(values) == len(found['columns']), (table, key)
      assert published.row(table, *key.split())


def test_networks_and_data_as_presets_describe_them():
  digits = data.load('digits')
  few = tasks.first(digits, 7, ('train',))
  assert len(few.train.labels) == 7
  assert few.test is digits.test
  assert tasks.first(digits, 0) is digits
  with pytest.raises(ValueError, match="network must be 'fcn' or 'cnn'"):
    tasks.network({'network': 'rnn'}, digits)
