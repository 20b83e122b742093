"""The tables: which rows, which columns, which printed numbers beneath."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping

from ml_collections import ConfigDict

from experiments.common import published
from experiments.common.cells import Report
from experiments.common.frames import Column, Row, columns, group, table, where
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
    table(*_COUNTS, map(_counted, where(rows, study='counts'))),
    table(*_STRENGTHS, where(rows, study='strengths')),
    table(*_WEIGHTS, where(rows, study='weights')),
    table(
      f'recovery from sketches, of {draws} draws',
      _RECOVERY,
      _recovered(sketches),
    ),
    table(
      *_CURRENCY,
      [row for row in trained if row['methods']],
      beneath=_printed_currency,
    ),
  ]


def _beneath(
  function: Callable[[Row], Mapping[str, float]], row: Row
) -> dict[str, str]:
  found = function(row).items()
  cells = {LABELS[name]: f'{value:.2f}' for name, value in found}
  return {'': 'published', **cells} if cells else {}


_printed = functools.partial(_beneath, numbers.printed)
_printed_currency = functools.partial(_beneath, numbers.in_one_currency)


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


def _counted(row: Row) -> Row:
  least = row['naive'] < min(row['sketch'], row['dense'])
  return row | {'plain is least': least}


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


def _joined(values: Iterable[float]) -> str:
  return ' '.join(f'{value:.1f}' for value in values)


_label, _fewer = LABELS.get, {None: '', True: 'yes', False: 'no'}.get
_NETWORK = 'data=dataset; width; '
_METHODS = (
  'natural logarithm of the complexity term, constants 1',
  [
    *columns(f'{_NETWORK}=status'),
    *_by_method(numbers.complexities, LABELS),
    Column('gap', _gap, '.2f'),
    *columns('margin=gamma:.3f'),
  ],
)
_FORMS = (
  'products of norms over margin and sqrt(n), without further factors',
  [
    *columns('data=dataset; width'),
    *_by_method(numbers.forms, numbers.NORM_BOUNDS),
    Column('stable ranks', numbers.stable_ranks, _joined),
    Column('spectral norms', lambda row: row['norms']['spectral'], _joined),
  ],
)
_CURRENCY = (
  'ln sqrt(value / n) of the formulas that were printed, one margin',
  [
    *columns('data=dataset; width'),
    *_by_method(
      numbers.measured_in_one_currency,
      (*numbers.NORM_BOUNDS, 'reading', numbers.TRUE),
    ),
  ],
)
_SLOPES = (
  'slope against ln(width)',
  columns('data=dataset; method:label; slope:.2f; published:.2f', label=_label),
)
_PREMISES = (
  'the whole bound, and the premises that do not hold',
  columns(
    f'{_NETWORK}method:label; may fail with=failure:.3g; ln bound=bound:.2f; '
    'broken:names',
    label=_label,
    names=lambda names: ', '.join(names) or '-',
  ),
)
_PRUNED = (
  'pruned by Algorithm 1, not in logarithms',
  columns(
    f'{_NETWORK}method:label; trained:.4f; pruned:.4f; published:.4f; test '
    'error=first_error:.3f; pruned=test_error:.3f; kept=kept_fraction:.4f',
    label=_label,
  ),
)
_COUNTS = (
  'nats of the three counts',
  columns(
    f'{_NETWORK}nonzeros; entries; plain=naive:.4g; sketch:.4g; sketch of this '
    'one=sketch_measured:.4g; dense:.4g; plain is least:yes'
  ),
)
_STRENGTHS = (
  'pruning: largest change of an output against Lemma 4.1 (broken: the '
  'change of a layer is above |A| / L); most nonzeros in a row or column',
  columns(
    f'{_NETWORK}d=strength:.4g; chi=kept_expected:.3f; kept=kept_fraction:.3f; '
    'test error=test_error:.3f; change=change_max:.3g; ln bound, '
    'Markov=bound_markov:bound; mean=bound_mean:bound; from '
    'norms=bound_measured:bound; norm / Gamma=norm_ratio:.2f; '
    'nonzeros=most_nonzeros:largest; Lemma 5.1=most_claimed:largest; '
    '95 %=most_quantile:largest',
    bound=lambda b: f'{b["log"]:.1f}' + ('' if b['premise'] else ' broken'),
    largest=lambda values: f'{max(values):.0f}',
  ),
)
_WEIGHTS = (
  'trained weights; normal ones have kurtosis 0',
  columns(f'{_NETWORK}layer; deviation:.4g; excess kurtosis=kurtosis:.4g'),
)
_RECOVERY = [
  *columns('p; j; ones'),
  Column('m:recovered', 'curve'),
  *columns('m for 90 %=enough:.0f; sqrt(jp) ln p=theorem:.0f; ratio:.2f'),
  Column('fewer than p and the theorem', 'fewer', _fewer),
]
