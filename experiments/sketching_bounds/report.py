"""The tables: which rows, which columns, which printed numbers beneath."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

from ml_collections import ConfigDict

from experiments.common import published
from experiments.common.cells import Report
from experiments.common.frames import (
  Column,
  Row,
  columns,
  group,
  table,
  where,
  yes,
)
from experiments.sketching_bounds import numbers
from experiments.sketching_bounds.figures import FIGURES
from experiments.sketching_bounds.numbers import LABELS


def report(config: ConfigDict, rows: list[Row]) -> Report:
  """All tables, and the figures of the studies that have rows."""
  del config
  drawn = {
    name: draw(own)
    for name, (study, draw) in FIGURES.items()
    if (own := where(rows, study=study))
  }
  return Report(tables(rows), drawn)


def tables(rows: list[Row]) -> list[str]:
  """All of them, empty where there is nothing to show."""
  studies = ('bounds', 'pruned', 'recovery')
  trained, pruned, sketches = (where(rows, study=s) for s in studies)
  draws = sketches[0]['draws'] if sketches else 0
  return [
    table(*_METHODS, trained, beneath=_printed),
    table(*_FORMS, [row for row in trained if row['methods']]),
    table(*_SLOPES, _slopes(trained)),
    table(*_PREMISES, _each_method(trained)),
    table(*_PRUNED, _pruned(trained, pruned)),
    table(*_COUNTS, where(rows, study='counts')),
    table(*_STRENGTHS, where(rows, study='strengths')),
    table(*_WEIGHTS, where(rows, study='weights')),
    table(
      f'recovery from sketches, of {draws} draws',
      _RECOVERY,
      _recovered(sketches),
    ),
  ]


# Lines -----------------------------------------------------------------------


def _printed(row: Row) -> dict[str, str]:
  values = numbers.printed(row)
  cells = {LABELS[name]: f'{value:.2f}' for name, value in values.items()}
  return {'': 'published', **cells} if cells else {}


def _slopes(rows: list[Row]) -> Iterator[Row]:
  """Of the data sets with networks of several widths."""
  good = [row for row in rows if row['methods']]
  for dataset, own in group(good, 'dataset').items():
    if len({row['width'] for row in own}) > 1:
      for name, (ours, theirs) in numbers.slopes(own).items():
        row = {'dataset': dataset, 'method': name}
        yield row | {'slope': ours, 'published': theirs}


def _each_method(rows: list[Row]) -> Iterator[Row]:
  for row in rows:
    for name, found in row['methods'].items():
      yield row | found | {'method': name}


def _pruned(trained: list[Row], rows: list[Row]) -> Iterator[Row]:
  """Of Table 1: heavily pruned networks beside those that they were."""
  known = group(trained, 'dataset', 'width')
  for row in rows:
    (before,) = known[row['dataset'], row['width']]
    for name in ('sketched', 'arora_2018', 'ju_2022'):
      values = (numbers.complexities(r).get(name) for r in (before, row))
      first, last = (v if v is None else math.exp(min(v, 700)) for v in values)
      yield row | {
        'method': name,
        'trained': first,
        'pruned': last,
        'published': published.value('SK-TB1', (row['dataset'],), name),
        'first_error': before['test_error'],
      }


def _recovered(rows: list[Row]) -> Iterator[Row]:
  """Of each kind of sketch, the least m from which on 90 % come back."""
  for own in group(rows, 'p', 'j', 'ones').values():
    enough, theorem = None, own[0]['theorem']
    for row in reversed(own):
      if row['recovered'] < 0.9 * row['draws']:
        break
      enough = row['m']
    yield own[0] | {
      'curve': ' '.join(f'{row["m"]}:{row["recovered"]}' for row in own),
      'enough': enough,
      'ratio': enough and enough / theorem,
      'fewer': enough and enough < min(own[0]['p'], theorem),
    }


# Columns ---------------------------------------------------------------------

_FEWER = {None: '', True: 'yes', False: 'no'}.__getitem__


def _by_method(
  function: Callable[[Row], Mapping[str, float]], names: Iterable[str]
) -> list[Column]:
  """A column for each entry of what the function gives."""

  def entry(name: str) -> Callable[[Row], float | None]:
    return lambda row: function(row).get(name)

  return [Column(LABELS[name], entry(name), '.2f') for name in names]


def _gap(row: Row) -> float | None:
  found = row['test_error'] - row['train_error']
  return math.log(found) if found > 0 else None


def _is_least(row: Row) -> bool:
  return row['naive'] < min(row['sketch'], row['dense'])


def _joined(values: Iterable[float]) -> str:
  return ' '.join(f'{value:.1f}' for value in values)


def _largest(values: list[float]) -> str:
  return f'{max(values):.0f}'


def _bound(found: Row) -> str:
  return f'{found["log"]:.1f}' + ('' if found['premise'] else ' broken')


_FEWER = {None: '', True: 'yes', False: 'no'}.__getitem__
_NETWORK = columns('data=dataset', 'width')
_METHOD = Column('method', lambda row: LABELS[row['method']])
_METHODS = (
  'natural logarithm of the complexity term, constants 1',
  [
    *_NETWORK,
    *columns('=status'),
    *_by_method(numbers.complexities, LABELS),
    Column('gap', _gap, '.2f'),
    *columns('margin=gamma:.3f'),
  ],
)
_FORMS = (
  'products of norms over margin and sqrt(n), without further factors',
  [
    *_NETWORK,
    *_by_method(numbers.forms, numbers.NORM_BOUNDS),
    Column('stable ranks', numbers.stable_ranks, _joined),
    Column('spectral norms', lambda row: row['norms']['spectral'], _joined),
  ],
)
_SLOPES = (
  'slope against ln(width)',
  [_NETWORK[0], _METHOD, *columns('slope:.2f', 'published:.2f')],
)
_PREMISES = (
  'the whole bound, and the premises that do not hold',
  [
    *(*_NETWORK, _METHOD),
    *columns('may fail with=failure:.3g', 'ln bound=bound:.2f'),
    Column('broken', 'broken', lambda names: ', '.join(names) or '-'),
  ],
)
_PRUNED = (
  'pruned by Algorithm 1, not in logarithms',
  [
    *(*_NETWORK, _METHOD),
    *columns('trained:.4f', 'pruned:.4f', 'published:.4f'),
    *columns('test error=first_error:.3f', 'pruned=test_error:.3f'),
    *columns('kept=kept_fraction:.4f'),
  ],
)
_COUNTS = (
  'nats of the three counts',
  [
    *(*_NETWORK, *columns('nonzeros', 'entries', 'plain=naive:.4g')),
    *columns('sketch:.4g', 'sketch of this one=sketch_measured:.4g'),
    *(*columns('dense:.4g'), Column('plain is least', _is_least, yes)),
  ],
)
_STRENGTHS = (
  'pruning: largest change of an output against Lemma 4.1 (broken: the '
  'change of a layer is above |A| / L); most nonzeros in a row or column',
  [
    *(*_NETWORK, *columns('d=strength:.4g', 'chi=kept_expected:.3f')),
    *columns('kept=kept_fraction:.3f', 'test error=test_error:.3f'),
    *columns('change=change_max:.3g'),
    Column('ln bound, Markov', 'bound_markov', _bound),
    Column('mean', 'bound_mean', _bound),
    Column('from norms', 'bound_measured', _bound),
    *columns('norm / Gamma=norm_ratio:.2f'),
    Column('nonzeros', 'most_nonzeros', _largest),
    Column('Lemma 5.1', 'most_claimed', _largest),
    Column('95 %', 'most_quantile', _largest),
  ],
)
_WEIGHTS = (
  'trained weights; normal ones have kurtosis 0',
  [
    *_NETWORK,
    *columns('layer', 'deviation:.4g', 'excess kurtosis=kurtosis:.4g'),
  ],
)
_RECOVERY = (
  *columns('p', 'j', 'ones'),
  Column('m:recovered', 'curve'),
  *columns('m for 90 %=enough:.0f', 'sqrt(jp) ln p=theorem:.0f', 'ratio:.2f'),
  Column('fewer than p and the theorem', 'fewer', _FEWER),
)
