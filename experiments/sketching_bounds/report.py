"""Tables and figures of `experiments/sketching_bounds.py`, from its rows."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.sketching_bounds_studies import BINS
from htjax import plotting, records

Row = dict[str, Any]

METHODS = {
  'neyshabur_2015': 'Neyshabur 2015',
  'neyshabur_2017': 'Neyshabur 2017',
  'bartlett_2017': 'Bartlett 2017',
  'arora_2018': 'Arora 2018',
  'ju_2022': 'Ju 2022',
  'sketched': 'sketch, 1/60 kept',
  'reading': 'sketch, 3 lambda chi ln r = 1',
  'sketched_margin': 'sketch, margin kept',
  'naive': 'plain count, 1/60 kept',
}
TRUE = 'true error'

# Natural logarithms, Tables 2 and 3; the paper's own bound fits `reading`.
_WIDTHS = (500, 784, 1000, 1500, 2000, 2500)
_MNIST = {
  'neyshabur_2015': (22.29, 23.56, 24.42, 25.12, 27.03, 27.72),
  'neyshabur_2017': (17.91, 18.34, 18.70, 18.81, 21.50, 21.57),
  'bartlett_2017': (11.51, 11.68, 11.87, 11.70, 13.96, 13.81),
  'reading': (3.36, 3.77, 4.00, 4.40, 4.73, 4.96),
  TRUE: (-3.76, -3.84, -3.80, -3.85, -3.86, -3.87),
}
PUBLISHED = {
  ('mnist', h): {name: values[i] for name, values in _MNIST.items()}
  for i, h in enumerate(_WIDTHS)
} | {
  ('cifar10', 784): {
    'neyshabur_2015': 33.19,
    'neyshabur_2017': 30.10,
    'bartlett_2017': 22.40,
    'reading': 4.68,
    TRUE: -2.41,
  }
}
# Table 1, not in logarithms.
PUBLISHED_PRUNED = {
  'mnist': {'sketched': 1.572, 'arora_2018': 9.941, 'ju_2022': 5.113},
  'cifar10': {'sketched': 7.214, 'arora_2018': 80.113, 'ju_2022': 13.194},
}

_NORM_BOUNDS = ('neyshabur_2015', 'neyshabur_2017', 'bartlett_2017')

_COLOURS = (
  *('#D55E00', '#E69F00', '#A6761D', '#CC79A7', '#999999'),
  *('#0072B2', '#56B4E9', '#009E73', '#7570B3'),
)
_COLOUR = dict(zip((*METHODS, TRUE), (*_COLOURS, '#000000'), strict=True))


def write(rows: list[Row], workdir: Path) -> str:
  """Write tables and figures into `workdir`; returns the tables' text."""
  tables = (
    *(methods_table, forms_table, slopes_table, premises_table, pruned_table),
    *(counts_table, strengths_table, weights_table, recovery_table),
  )
  text = '\n\n'.join(part for part in (table(rows) for table in tables) if part)
  records.atomic_write(workdir / 'table.txt', text + '\n')
  figures: dict[str, tuple[str, Callable[[list[Row]], Any]]] = {
    'methods': ('bounds', methods_figure),
    'width': ('bounds', width_figure),
    'epochs': ('trace', epochs_figure),
    'weights': ('weights', weights_figure),
    'pruning_error': ('strengths', error_figure),
    'sparsity': ('strengths', sparsity_figure),
    'recovery': ('recovery', recovery_figure),
  }
  for name, (study, figure) in figures.items():
    own = _of(rows, study)
    if own:
      plotting.save(figure(own), workdir / f'{name}.png')
  return f'{text}\n\nwritten to {workdir}'


# Numbers ---------------------------------------------------------------------


def complexities(row: Row) -> dict[str, float]:
  """Natural logarithms by method, without the empirical term; those that were
  evaluated, and the true error."""
  found = {
    name: summary['complexity']
    for name, summary in row['methods'].items()
    # The logarithm of 0, which a file does not hold.
    if summary['complexity'] is not None
    and math.isfinite(summary['complexity'])
  }
  found['reading'] = reading(row)
  if row['test_error'] > 0:
    found[TRUE] = math.log(row['test_error'])
  return {n: found[n] for n in (*METHODS, TRUE) if n in found}


def reading(row: Row) -> float:
  """ln sqrt(sum d_1 d_2 ln^2(p) / n): Theorem 5.2 with unit factors.

  The published column 'ours' follows it to within 0.04 on MNIST.
  """
  total = sum(a * b * math.log(max(a, b)) ** 2 for a, b in row['shapes'])
  return 0.5 * math.log(total / row['num_samples'])


def forms(row: Row) -> dict[str, float]:
  """The norm bounds as often compared: products of norms over the margin and
  sqrt(n), without B, logarithms, depth and 2^L; natural logarithms.

  Neyshabur 2015 prod F; 2017 prod S sqrt(sum h F^2 / S^2); Bartlett 2017
  prod S (sum (T / S)^(2/3))^(3/2). S, F, T: spectral, Frobenius, (2, 1) norms.
  """
  spectral, frobenius, sums = (
    np.array(row['norms'][name])
    for name in ('spectral', 'frobenius', 'two_one')
  )
  widths = np.array([b for _, b in row['shapes']])
  scale = -math.log(row['gamma'] * math.sqrt(row['num_samples']))
  tops = np.sum(np.log(spectral)) + scale
  ranks = (frobenius / spectral) ** 2
  return {
    'neyshabur_2015': np.sum(np.log(frobenius)) + scale,
    'neyshabur_2017': tops + 0.5 * math.log(np.sum(widths * ranks)),
    'bartlett_2017': tops
    + 1.5 * math.log(np.sum((sums / spectral) ** (2 / 3))),
  }


def slopes(rows: list[Row]) -> dict[str, tuple[float, float | None]]:
  """Slopes against ln width: measured and, by the same fit, published."""
  values = [complexities(row) for row in rows]
  widths = [row['width'] for row in rows]
  found = {}
  for name in (*METHODS, TRUE):
    if all(name in v for v in values):
      printed = [
        PUBLISHED.get((row['dataset'], row['width']), {}).get(name)
        for row in rows
      ]
      found[name] = (
        _slope(widths, [v[name] for v in values]),
        None if None in printed else _slope(widths, printed),
      )
  return found


def _slope(widths, values) -> float:
  return float(np.polyfit(np.log(widths), np.asarray(values, float), 1)[0])


# Tables ----------------------------------------------------------------------


def methods_table(rows: list[Row]) -> str:
  """Each network's complexities, the published ones under ours."""
  lines = []
  names = (*METHODS, TRUE)
  for row in _of(rows, 'bounds'):
    ours = complexities(row)
    gap = row['test_error'] - row['train_error']
    lines.append(
      [
        *(row['dataset'], row['width'], row['status']),
        *(_number(ours.get(name)) for name in names),
        _number(math.log(gap) if gap > 0 else None),
        _number(row.get('gamma'), 3),
      ]
    )
    printed = PUBLISHED.get((row['dataset'], row['width']))
    if printed:
      cells = (_number(printed.get(name)) for name in names)
      lines.append(['', '', 'published', *cells, '', ''])
  headers = ['data', 'width', '', *METHODS.values(), TRUE, 'gap', 'margin']
  return _titled(
    'natural logarithm of the complexity term, constants 1', headers, lines
  )


def forms_table(rows: list[Row]) -> str:
  """Norm bounds without factors, and the stable ranks that order them."""
  lines = []
  for row in _of(rows, 'bounds'):
    if row['methods']:
      norms = row['norms']
      ranks = np.divide(norms['frobenius'], norms['spectral']) ** 2
      lines.append(
        [
          *(row['dataset'], row['width']),
          *(_number(value) for value in forms(row).values()),
          ' '.join(f'{rank:.1f}' for rank in ranks),
          ' '.join(f'{norm:.1f}' for norm in norms['spectral']),
        ]
      )
  headers = ['data', 'width', *(METHODS[name] for name in _NORM_BOUNDS)]
  headers += ['stable ranks', 'spectral norms']
  return _titled(
    'products of norms over margin and sqrt(n), without further factors',
    headers,
    lines,
  )


def slopes_table(rows: list[Row]) -> str:
  """How the logarithms grow with ln(width), where there are widths."""
  lines = []
  for dataset, group in _by_dataset(_of(rows, 'bounds')).items():
    good = [row for row in group if row['methods']]
    if len({row['width'] for row in good}) < 2:
      continue
    lines += [
      [dataset, METHODS.get(name, name), _number(ours), _number(printed)]
      for name, (ours, printed) in slopes(good).items()
    ]
  headers = ['data', 'method', 'slope', 'published']
  return _titled('slope against ln(width)', headers, lines)


def premises_table(rows: list[Row]) -> str:
  """Which premises fail on the trained networks, and with what confidence."""
  lines = []
  for row in _of(rows, 'bounds'):
    for name, found in row['methods'].items():
      broken = ', '.join(found['broken']) or '-'
      lines.append(
        [
          *(row['dataset'], row['width'], METHODS[name]),
          f'{found["failure"]:.3g}',
          _number(found['bound']),
          broken,
        ]
      )
  headers = ['data', 'width', 'method', 'may fail with', 'ln bound']
  return _titled(
    'the whole bound, and the premises that do not hold',
    [*headers, 'broken'],
    lines,
  )


def pruned_table(rows: list[Row]) -> str:
  """Table 1: heavily pruned networks, not in logarithms."""
  lines = []
  trained = {(r['dataset'], r['width']): r for r in _of(rows, 'bounds')}
  for row in _of(rows, 'pruned'):
    before = trained[row['dataset'], row['width']]
    printed = PUBLISHED_PRUNED.get(row['dataset'], {})
    for name in ('sketched', 'arora_2018', 'ju_2022'):
      values = [complexities(r).get(name) for r in (before, row)]
      shown = [None if v is None else math.exp(min(v, 700)) for v in values]
      lines.append(
        [
          *(row['dataset'], row['width'], METHODS[name]),
          *(_number(v, 4) for v in shown),
          _number(printed.get(name), 4),
          f'{before["test_error"]:.3f}',
          f'{row["test_error"]:.3f}',
          f'{row["kept_fraction"]:.4f}',
        ]
      )
  headers = ['data', 'width', 'method', 'trained', 'pruned', 'published']
  headers += ['test error', 'pruned', 'kept']
  return _titled('pruned by Algorithm 1, not in logarithms', headers, lines)


def counts_table(rows: list[Row]) -> str:
  """The plain count of a pruned network is the smallest of the three."""
  lines = [
    [
      *(row['dataset'], row['width'], row['nonzeros'], row['entries']),
      *(
        f'{row[c]:.4g}' for c in ('naive', 'sketch', 'sketch_measured', 'dense')
      ),
      'yes' if row['naive'] < min(row['sketch'], row['dense']) else 'NO',
    ]
    for row in _of(rows, 'counts')
  ]
  headers = ['data', 'width', 'nonzeros', 'entries', 'plain', 'sketch']
  headers += ['sketch of this one', 'dense', 'plain is least']
  return _titled('nats of the three counts', headers, lines)


def strengths_table(rows: list[Row]) -> str:
  """Algorithm 1 at each strength beside what the lemmas say."""
  lines = [
    [
      *(row['dataset'], row['width'], f'{row["strength"]:.4g}'),
      f'{row["kept_expected"]:.3f}',
      f'{row["kept_fraction"]:.3f}',
      f'{row["test_error"]:.3f}',
      f'{row["change_max"]:.3g}',
      *(
        f'{row[f"bound_{name}"]["log"]:.1f}'
        + ('' if row[f'bound_{name}']['premise'] else ' broken')
        for name in ('markov', 'mean', 'measured')
      ),
      f'{row["norm_ratio"]:.2f}',
      max(row['most_nonzeros']),
      f'{max(row["most_claimed"]):.0f}',
      max(row['most_quantile']),
    ]
    for row in _of(rows, 'strengths')
  ]
  headers = ['data', 'width', 'd', 'chi', 'kept', 'test error', 'change']
  headers += ['ln bound, Markov', 'mean', 'from norms', 'norm / Gamma']
  headers += ['nonzeros', 'Lemma 5.1', '95 %']
  return _titled(
    'pruning: largest change of an output against Lemma 4.1 (broken: the '
    'change of a layer is above |A| / L); most nonzeros in a row or column',
    headers,
    lines,
  )


def weights_table(rows: list[Row]) -> str:
  """How far the trained weights are from normal."""
  lines = [
    [
      *(row['dataset'], row['width'], row['layer']),
      f'{row["deviation"]:.4g}',
      f'{row["kurtosis"]:.4g}',
    ]
    for row in _of(rows, 'weights')
  ]
  headers = ['data', 'width', 'layer', 'deviation', 'excess kurtosis']
  return _titled('trained weights; normal ones have kurtosis 0', headers, lines)


def recovery_table(rows: list[Row]) -> str:
  """Least m from which on at least 90 % of the draws come back."""
  lines = []
  for (p, j, ones), group in _sketches(_of(rows, 'recovery')).items():
    enough = None
    for row in reversed(group):
      if row['recovered'] < 0.9 * row['draws']:
        break
      enough = row['m']
    theorem = group[0]['theorem']
    lines.append(
      [
        *(p, j, ones),
        ' '.join(f'{r["m"]}:{r["recovered"]}' for r in group),
        _number(enough, 0),
        f'{theorem:.0f}',
        _number(enough and enough / theorem),
        '' if enough is None else _yes(enough**2 < p * p and enough < theorem),
      ]
    )
  headers = ['p', 'j', 'ones', 'm:recovered', 'm for 90 %', 'sqrt(jp) ln p']
  return _titled(
    'recovery from sketches, of '
    f'{next((r["draws"] for r in _of(rows, "recovery")), 0)} draws',
    [*headers, 'ratio', 'fewer than p and the theorem'],
    lines,
  )


# Figures ---------------------------------------------------------------------


def methods_figure(rows: list[Row]) -> Any:
  """Figure 3 (a, b): bars by method, the published beside ours."""
  groups = {
    dataset: min(group, key=lambda row: abs(row['width'] - 784))
    for dataset, group in _by_dataset(rows).items()
  }
  figure, axes = _panels(len(groups))
  for ax, (dataset, row) in zip(axes, groups.items(), strict=True):
    ours = complexities(row)
    printed = PUBLISHED.get((dataset, row['width']), {})
    places = np.arange(len(ours))
    ax.barh(
      places - 0.2, list(ours.values()), 0.4, color='#0072B2', label='ours'
    )
    ax.barh(
      places + 0.2,
      [printed.get(name, np.nan) for name in ours],
      0.4,
      color='#E69F00',
      label='published',
    )
    ax.set_yticks(places, [METHODS.get(name, name) for name in ours])
    ax.invert_yaxis()
    ax.axvline(0, color='black', lw=0.8)
    ax.set_xlabel('ln of the complexity term')
    ax.set_title(f'{dataset}, width {row["width"]}', fontsize='medium')
    ax.legend(fontsize='x-small', loc='lower right')
  return figure


def width_figure(rows: list[Row]) -> Any:
  """Figure 3 (c): logarithms against width; dotted is published."""
  groups = _by_dataset(rows)
  dataset, group = max(groups.items(), key=lambda item: len(item[1]))
  figure, (ax,) = _panels(1, size=(6.4, 5))
  values = [complexities(row) for row in group]
  widths = [row['width'] for row in group]
  for name in (*METHODS, TRUE):
    ours = [v.get(name, np.nan) for v in values]
    label = METHODS.get(name, name)
    ax.plot(widths, ours, 'o-', ms=3, color=_COLOUR[name], label=label)
    printed = [
      PUBLISHED.get((dataset, width), {}).get(name, np.nan) for width in widths
    ]
    ax.plot(widths, printed, 's:', ms=3, color=_COLOUR[name])
  ax.set_xscale('log')
  ax.set_xticks(widths, [str(width) for width in widths])
  ax.minorticks_off()
  ax.axhline(0, color='black', lw=0.5)
  ax.set_xlabel('width')
  ax.set_ylabel('ln of the complexity term')
  ax.set_title(f'{dataset}; dotted: published', fontsize='medium')
  ax.legend(fontsize='x-small', loc='center left', bbox_to_anchor=(1, 0.5))
  return figure


def epochs_figure(rows: list[Row]) -> Any:
  """Figure 5: bounds, and errors with the margin, from epoch to epoch."""
  groups = _by_dataset(rows)
  figure, axes = _panels(2 * len(groups))
  for i, (dataset, group) in enumerate(groups.items()):
    _bounds_panel(axes[2 * i], group)
    _errors_panel(axes[2 * i + 1], group)
    for ax in axes[2 * i : 2 * i + 2]:
      ax.set_xlabel('epoch')
      ax.set_title(f'{dataset}, width {group[0]["width"]}', fontsize='medium')
  return figure


def _bounds_panel(ax: Any, group: list[Row]) -> None:
  epochs = [row['epoch'] for row in group]
  for name in (n for n in METHODS if n != 'reading'):
    values = [
      row['methods'].get(name, {}).get('bound', np.nan) for row in group
    ]
    ax.plot(
      epochs, values, 'o-', ms=3, color=_COLOUR[name], label=METHODS[name]
    )
  ax.set_ylabel('ln of the bound')
  ax.legend(
    fontsize='xx-small', loc='lower left', bbox_to_anchor=(0, 1.08), ncols=2
  )


def _errors_panel(ax: Any, group: list[Row]) -> None:
  epochs = [row['epoch'] for row in group]
  for name, label in (('train_error', 'training'), ('test_error', 'test')):
    ax.plot(epochs, [row[name] for row in group], 'o-', ms=3, label=label)
  ax.set_ylabel('error')
  ax.legend(fontsize='x-small', loc='upper center')
  twin = ax.twinx()
  margins = [row.get('gamma', np.nan) for row in group]
  twin.plot(epochs, margins, 's:', ms=3, color='black')
  twin.set_ylabel('margin (dotted)')


def weights_figure(rows: list[Row]) -> Any:
  """Figures 1 and 6: histograms of the layers with the normal density."""
  figure, axes = _panels(len(rows), columns=5, size=(2.6, 2.6))
  centres = (BINS[1:] + BINS[:-1]) / 2
  normal = np.exp(-(centres**2) / 2) / math.sqrt(2 * math.pi)
  for ax, row in zip(axes, rows, strict=True):
    ax.stairs(row['density'], BINS, fill=True, color='#56B4E9')
    ax.plot(centres, normal, color='black', lw=0.8)
    ax.set_yscale('log')
    ax.set_ylim(1e-6, 10)
    title = f'{row["dataset"]}, layer {row["layer"]}'
    ax.set_title(f'{title}, kurtosis {row["kurtosis"]:.3g}', fontsize='small')
    ax.set_xlabel('weight / deviation')
  return figure


def error_figure(rows: list[Row]) -> Any:
  """Figure 2: change of the outputs and its bounds against the strength."""
  groups = _by_dataset(rows)
  figure, axes = _panels(len(groups))
  for ax, (dataset, group) in zip(axes, groups.items(), strict=True):
    d = [row['strength'] for row in group]
    for name, colour in (('change_max', '#000000'), ('change_mean', '#999999')):
      values = np.log(np.maximum([row[name] for row in group], 1e-30))
      ax.plot(d, values, 'o-', ms=3, color=colour, label=name.replace('_', ' '))
    for name, colour, label in (
      ('markov', '#D55E00', 'Lemma 4.1, Markov'),
      ('mean', '#E69F00', 'Lemma 4.1, in the mean'),
      ('measured', '#0072B2', 'from the measured norms'),
    ):
      logs = [row[f'bound_{name}']['log'] for row in group]
      ax.plot(
        d, logs, '-', color=colour, label=f'{label} (dots: premise holds)'
      )
      valid = [
        v if row[f'bound_{name}']['premise'] else np.nan
        for v, row in zip(logs, group, strict=True)
      ]
      ax.plot(d, valid, 'o', color=colour)
    ax.set_xscale('log')
    ax.set_xlabel('strength d')
    ax.set_ylabel('ln change of the output')
    ax.set_title(f'{dataset}, width {group[0]["width"]}', fontsize='medium')
    ax.legend(
      fontsize='xx-small', loc='lower left', bbox_to_anchor=(0, 1.08), ncols=2
    )
  return figure


def sparsity_figure(rows: list[Row]) -> Any:
  """Figure 4: most nonzeros in a row or column, over all layers."""
  groups = _by_dataset(rows)
  figure, axes = _panels(len(groups))
  for ax, (dataset, group) in zip(axes, groups.items(), strict=True):
    d = [row['strength'] for row in group]
    for name, label, style in (
      ('most_nonzeros', 'trained network', 'o-'),
      ('most_claimed', 'Lemma 5.1, lambda = 1', 's--'),
      ('most_quantile', 'normal weights, 95 %', '^:'),
    ):
      ax.plot(d, [max(row[name]) for row in group], style, ms=3, label=label)
    ax.set_xscale('log')
    ax.set_yscale('log')
    ax.set_xlabel('strength d')
    ax.set_ylabel('most nonzeros in a row or column')
    ax.set_title(f'{dataset}, width {group[0]["width"]}', fontsize='medium')
    ax.legend(fontsize='x-small', loc='lower left')
  return figure


def recovery_figure(rows: list[Row]) -> Any:
  """Share of matrices that come back against m / p; dotted is the theorem."""
  panels: dict[tuple[int, int], list[list[Row]]] = {}
  for (p, j, _), group in _sketches(rows).items():
    panels.setdefault((j, p), []).append(group)
  panels = dict(sorted(panels.items()))
  figure, axes = _panels(
    len(panels), columns=len({p for _, p in panels}), size=(3.2, 3)
  )
  for ax, ((j, p), groups) in zip(axes, panels.items(), strict=True):
    for group in groups:
      x = [row['m'] / p for row in group]
      y = [row['recovered'] / row['draws'] for row in group]
      ax.plot(x, y, 'o-', ms=3, label=f'{group[0]["ones"]} ones')
    limit = groups[0][0]['theorem'] / p
    title = f'p = {p}, j = {j}; theorem: {limit:.1f}'
    ax.set_title(title, fontsize='small')
    ax.set_xlabel('m / p')
    ax.set_ylabel('recovered')
    ax.legend(fontsize='xx-small', loc='upper left')
  return figure


# Helpers ---------------------------------------------------------------------


def _of(rows: list[Row], study: str) -> list[Row]:
  return [row for row in rows if row['study'] == study]


def _by_dataset(rows: list[Row]) -> dict[str, list[Row]]:
  groups: dict[str, list[Row]] = {}
  for row in rows:
    groups.setdefault(row['dataset'], []).append(row)
  return groups


def _sketches(rows: list[Row]) -> dict[tuple[int, int, int], list[Row]]:
  groups: dict[tuple[int, int, int], list[Row]] = {}
  for row in rows:
    groups.setdefault((row['p'], row['j'], row['ones']), []).append(row)
  return groups


def _panels(
  count: int, columns: int = 2, size: tuple[float, float] = (5.2, 4)
) -> tuple[Any, list[Any]]:
  from matplotlib.figure import Figure

  columns = min(columns, count)
  lines = -(-count // columns)
  figure = Figure(
    figsize=(size[0] * columns, size[1] * lines), layout='constrained'
  )
  axes = list(np.ravel(figure.subplots(lines, columns, squeeze=False)))
  for ax in axes[count:]:
    ax.set_visible(False)
  return figure, axes[:count]


def _titled(
  title: str, headers: Sequence[str], lines: Sequence[Sequence[Any]]
) -> str:
  return f'{title}\n{records.table(headers, lines)}' if lines else ''


def _number(value: float | None, digits: int = 2) -> str:
  return '' if value is None else f'{value:.{digits}f}'


def _yes(value: bool) -> str:
  return 'yes' if value else 'no'
