"""The pages of the report: Markdown, from `items.json` and the rows at hand.

Every table and figure of the papers has an item, and so have theorems that can
be tested; the verdict is computed from the first of its presets that has rows
for it.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.common import published
from experiments.common.frames import Row
from experiments.report.compare import Comparison, Item, comparisons
from htjax.io import files, records

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / 'docs' / 'results'
FOLDER = RESULTS / 'report'
# Rows by (study, preset).
Results = dict[tuple[str, str], list[Row]]


def papers() -> dict[str, dict[str, Any]]:
  """By the name of its page, each paper's title and items, as in the file."""
  return json.loads((Path(__file__).parent / 'items.json').read_text())


def collect(runs: Iterable[str | Path] = ()) -> Results:
  """The committed rows, and those of run folders, which count before them.

  A folder holds folders named STUDY-PRESET, or is one.
  """
  found = {
    (path.parent.name, path.stem): json.loads(path.read_text())
    for path in sorted(RESULTS.glob('*/*.json'))
  }
  for folder in map(Path, runs):
    for path in sorted({folder, *folder.glob('*-*')}):
      study, _, preset = path.name.partition('-')
      if preset and (rows := records.read_results(path)):
        found[study, preset] = rows
  return found


class Entry(NamedTuple):
  """An item with all that is compared, and what comes of it."""

  item: Item
  preset: str  # whose rows these are, or that would make them; '' needs none
  compared: list[Comparison]
  verdict: str

  @property
  def run(self) -> str:
    """Study and preset that make the rows."""
    return f'{self.item["study"]}:{self.preset}' if self.preset else ''

  @property
  def command(self) -> str:
    """Likewise, to be typed."""
    if not self.preset:
      return '`python -m experiments.report`'
    study, more = self.item['study'], self.item.get('options', '')
    place = f'experiments/{study}/config.py:{self.preset}{more}'
    workdir = f'runs/{study}-{self.preset}'
    return (
      f'`python -m experiments.{study} --config={place} --workdir={workdir}`'
    )


def entry(item: Item, results: Mapping[tuple[str, str], list[Row]]) -> Entry:
  """Compare an item with the first of its presets whose rows have it."""
  presets, study = item.get('presets', {}), item.get('study', '')
  found = {
    name: comparisons(item, results.get((study, name), []))
    for name in presets or ('',)
  }
  preset = next((name for name in found if found[name]), next(iter(found)))
  compared = found[preset]
  if presets and 'measure' in item and not compared:
    verdict = f'not run: {item["missing"]}'
  else:
    verdict = judge(item, compared, presets.get(preset, ''))
  return Entry(item, preset, compared, verdict)


def judge(item: Item, compared: list[Comparison], reduced: str) -> str:
  """One line: agrees, or differs and why, or that no number is printed."""
  judged = [one for one in compared if one.agrees is not None]
  off = [one for one in judged if not one.agrees]
  gaps = [one.apart for one in judged if one.apart is not None]
  if not judged:
    verdict = f'no number is printed: {item["reason"]}'
  elif off:
    verdict = f'differs in {len(off)} of {len(judged)}: {item["reason"]}'
  else:
    verdict = f'agrees in all {len(judged)}'
    verdict += f', within {max(gaps):.1f} standard errors' if gaps else ''
  if judged and 'table' in item and 'width' not in item:
    reduced += (
      f'; {len(judged)} of {published.size(item["table"])} printed numbers'
    )
  notes = reduced.removeprefix('; ')
  return f'{verdict} ({notes})' if notes else verdict


def write(results: Results, folder: Path) -> str:
  """Write a page for each paper and the summary, whose text is given."""
  folder.mkdir(parents=True, exist_ok=True)
  lines = []
  for page, paper in papers().items():
    entries = [entry(item, results) for item in paper['items']]
    files.atomic_write(folder / f'{page}.md', paper_page(paper, entries))
    link = f'[{paper["title"]}]({page}.md)'
    lines += ['', f'## {link}', '', *summary(entries)]
  text = '\n'.join([_HEAD, *lines, '', '## Rows at hand', '', *_hand(results)])
  files.atomic_write(folder / 'index.md', text + '\n')
  return text


_HEAD = """\
# Report: every table and figure, and theorems that a run can test

Made by `make report` from the rows under `docs/results` and those of run
folders that it is given; a paper's page has the commands. Numbers with a spread
agree where they are at most three standard errors of the difference apart; in
brackets stands from how many seeds, draws or networks ours come. Of each table
or figure the number that is furthest off stands here, all of them on the page
of the paper. Of a theorem "published" is what it gives, corrected where it is
wrong unless the line says that it is as printed."""
_COLUMNS = ('', 'what', 'number', 'published', 'ours', 'verdict', 'run')


def summary(entries: list[Entry]) -> list[str]:
  """A line for each item."""
  rows = []
  for own in entries:
    shown = max(own.compared, key=_off, default=Comparison('', '', ''))
    rows.append((*named(own.item), *shown[:3], own.verdict, own.run))
  return markdown(_COLUMNS, rows)


def named(item: Item) -> tuple[str, str]:
  """As the paper names it, and what it shows."""
  return item['item'], item['what']


def _off(one: Comparison) -> tuple[bool, float]:
  return one.agrees is False, one.apart or 0.0


def paper_page(paper: Mapping[str, Any], entries: list[Entry]) -> str:
  """All that is compared of a paper."""
  lines = [f'# {paper["title"]}']
  for own in entries:
    lines += [
      '',
      f'## {": ".join(named(own.item))}',
      '',
      f'**{own.verdict}**',
      '',
      own.command,
    ]
    words = {None: '', True: 'yes', False: 'NO'}
    rows = [
      (
        *one[:3],
        words[one.agrees],
        '' if one.apart is None else f'{one.apart:.1f}',
      )
      for one in own.compared
    ]
    columns = 'number', 'published', 'ours', 'agrees', 'standard errors apart'
    lines += ['', *markdown(columns, rows)] if rows else []
  return '\n'.join(lines) + '\n'


def markdown(
  columns: Iterable[str], rows: Iterable[Iterable[str]]
) -> list[str]:
  """Lines of a table."""
  head = list(columns)
  body = [head, ['---'] * len(head), *rows]
  cells = ([text.replace('|', r'\|') for text in row] for row in body)
  return [f'| {" | ".join(row)} |' for row in cells]


def _hand(results: Results) -> list[str]:
  """Which rows there are."""
  rows = [(*key, str(len(own))) for key, own in results.items()]
  return markdown(('study', 'preset', 'rows'), rows)
