"""Which tail-index estimator to believe: bias on each other's models, coverage.

Every estimator of `htjax.tail_index` is given samples of laws whose tail index
is known, most of which are not its own model. Then the 95 % intervals are
counted that hold the truth where each estimator is at home.

  python -m experiments.tail_estimators \
    --config=experiments/configs/tail_estimators.py:cpu --workdir=runs/tails
"""

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from ml_collections import ConfigDict
from tqdm import tqdm

from experiments import program
from htjax import plotting, records, stable, tail_index

Row = dict[str, Any]
# (key, shape [K, d]) -> samples.
Draw = Callable[[Any, tuple[int, int]], Any]


class Law(NamedTuple):
  """A law of samples and its tail index; infinite where tails are light."""

  name: str
  draw: Draw
  alpha: float


def laws() -> list[Law]:
  """The models of the estimators, and laws that are nobody's."""
  found = [
    Law(f'stable {a:g}', functools.partial(_stable, a), a)
    for a in (1.2, 1.5, 1.8, 1.95)
  ]
  found += [
    Law(f'stable vectors {a:g}', functools.partial(_vectors, a), a)
    for a in (1.5, 1.8)
  ]
  found += [
    Law('stable 1.8, shifted', lambda k, s: _stable(1.8, k, s) + 1, 1.8)
  ]
  found += [
    Law(f'+-Pareto {a:g}', functools.partial(_pareto, a), a)
    for a in (1.5, 2.5, 3.5)
  ]
  found += [
    Law(f'Student {a:g}', functools.partial(_student, a), a)
    for a in (1.5, 1.8, 3.0, 5.0)
  ]
  return [
    *found,
    Law('Gaussian', jax.random.normal, math.inf),
    Law('Laplace', jax.random.laplace, math.inf),
    Law('lognormal', lambda k, s: jax.random.lognormal(k, shape=s), math.inf),
  ]


def _stable(alpha: float, key: Any, shape: tuple[int, int]) -> Any:
  return stable.sample(key, alpha, shape)


def _vectors(alpha: float, key: Any, shape: tuple[int, int]) -> Any:
  return stable.sample_vectors(key, alpha, shape, kind='type3')


def _student(freedom: float, key: Any, shape: tuple[int, int]) -> Any:
  return jax.random.t(key, freedom, shape)


def _pareto(alpha: float, key: Any, shape: tuple[int, int]) -> Any:
  sign, size = jax.random.split(key)
  return jax.random.rademacher(sign, shape) * jax.random.pareto(
    size, alpha, shape
  )


Estimator = Callable[[Any], tail_index.TailEstimate]


def estimators(num_vectors: int, dim: int) -> dict[str, Estimator]:
  """Each takes [K, d]; those of numbers take its entries."""
  size = num_vectors * dim
  root = max(2, _divisor(num_vectors))

  def of_entries(estimate: Any, *arguments: Any) -> Estimator:
    return lambda x: estimate(x.reshape(-1), *arguments)

  def centred(x: Any) -> tail_index.TailEstimate:
    return tail_index.mmo(x - jnp.median(x, axis=0)[None, :], root)

  return {
    'mmo': lambda x: tail_index.mmo(x, root),
    'mmo centred': centred,
    'mmo_univariate': of_entries(tail_index.mmo_univariate, _divisor(size)),
    'max_ratio': of_entries(tail_index.max_ratio, _divisor(size)),
    'hill 5 %': of_entries(tail_index.hill, size // 20),
    'hill 1 %': of_entries(tail_index.hill, size // 100),
    'moment 5 %': of_entries(tail_index.moment, size // 20),
    'pickands 5 %': of_entries(tail_index.pickands, size // 20),
    'de_haan 5 %': of_entries(tail_index.de_haan_resnick, size // 20),
    'power_law': of_entries(tail_index.power_law),
    'stable_mle': of_entries(tail_index.stable_mle),
  }


def _divisor(num: int) -> int:
  """The largest divisor of num up to its root."""
  return max(d for d in range(1, math.isqrt(num) + 1) if num % d == 0)


class Cell(NamedTuple):
  """A row to be measured, kept as soon as it is."""

  study: str
  name: str
  measure: Callable[[], Row]


def cells(config: ConfigDict) -> Iterator[Cell]:
  """All rows, in the order of the tables."""
  shape = (config.bias['vectors'], config.bias['dim'])
  compiled = {
    name: _compiled(estimate)
    for name, estimate in estimators(*shape).items()
    if name in (config.estimators or (name,))
  }
  for i, law in enumerate(laws()):
    if law.name not in (config.laws or (law.name,)):
      continue
    for name, estimate in compiled.items():
      yield Cell(
        'bias',
        f'{law.name}, {name}',
        functools.partial(
          _bias, i, law, name, estimate, shape, config.bias['repeats']
        ),
      )
  for i, own in enumerate(own_models(config.coverage['stable_size'])):
    if own.estimator not in (config.estimators or (own.estimator,)):
      continue
    yield Cell(
      'coverage',
      f'{own.estimator}, {own.law}',
      functools.partial(_coverage, i, own, config.coverage['replicates']),
    )


# [R, ..] samples -> alpha, standard error and p-value, [R] each.
Compiled = Callable[[Any], tuple[Any, Any, Any]]


def _compiled(estimate: Estimator) -> Compiled:
  """One program for all laws, which takes one sample after the other."""

  def one(x: Any) -> tuple[Any, Any, Any]:
    found = estimate(x)
    return found.alpha, found.standard_error, found.p_value

  return jax.jit(lambda samples: lax.map(one, samples))


def _run(
  key: Any, num: int, draw: Callable[[Any], Any], estimate: Compiled
) -> tuple[np.ndarray, ...]:
  """alpha, standard error and p-value of `num` fresh samples."""
  samples = jax.jit(lambda keys: lax.map(draw, keys))(
    jax.random.split(key, num)
  )
  return tuple(np.asarray(a, np.float64) for a in estimate(samples))


def _bias(
  index: int,
  law: Law,
  name: str,
  estimate: Compiled,
  shape: tuple[int, int],
  repeats: int,
) -> Row:
  # Every estimator sees the same samples of a law.
  key = jax.random.fold_in(jax.random.key(0), index)
  alpha, error, p_value = _run(
    key, repeats, lambda key: law.draw(key, shape), estimate
  )
  return {
    'law': law.name,
    'estimator': name,
    'truth': law.alpha if math.isfinite(law.alpha) else None,
    'median': np.nanmedian(alpha),
    'low': np.nanquantile(alpha, 0.05),
    'high': np.nanquantile(alpha, 0.95),
    'coverage': _share_covered(alpha, error, law.alpha),
    'rejected': np.nanmean(p_value < 0.05)
    if np.any(np.isfinite(p_value))
    else None,
  }


def _share_covered(
  alpha: np.ndarray, error: np.ndarray, truth: float
) -> float | None:
  if not math.isfinite(truth) or not np.any(np.isfinite(error)):
    return None
  return float(np.mean(np.abs(alpha - truth) <= 1.96 * error))


class OwnModel(NamedTuple):
  """An estimator, and a law on which its standard error is asymptotic."""

  estimator: str
  law: str
  alpha: float
  size: int
  draw: Callable[[Any], Any]
  estimate: Compiled


def own_models(stable_size: int) -> Iterator[OwnModel]:
  """Power laws for order statistics; stable laws for the others."""
  power_laws: dict[str, tuple[Estimator, int]] = {
    'hill': (lambda x: tail_index.hill(x, 500), 3000),
    'moment': (lambda x: tail_index.moment(x, 3000), 8000),
    'pickands': (lambda x: tail_index.pickands(x, 8000), 10_000),
    'max_ratio': (lambda x: tail_index.max_ratio(x, 8), 4000),
    'power_law, start known': (lambda x: tail_index.power_law(x, 1.0), 1000),
    'power_law, start searched': (tail_index.power_law, 2000),
    'power_law, search in the error': (_with_the_search, 500),
  }
  for name, (estimate, size) in power_laws.items():
    compiled = _compiled(estimate)
    for alpha in (1.5, 2.5, 3.5):
      draw = functools.partial(jax.random.pareto, b=alpha, shape=(size,))
      law = f'Pareto {alpha:g}'
      yield OwnModel(name, law, alpha, size, draw, compiled)
  sums: dict[str, tuple[Estimator, tuple[int, ...], Any]] = {
    'mmo_univariate': (
      lambda x: tail_index.mmo_univariate(x, 25),
      (10_000,),
      stable.sample,
    ),
    'stable_mle': (tail_index.stable_mle, (stable_size,), stable.sample),
  }
  for kind in ('type2', 'type3'):
    sums[f'mmo, {kind}'] = (
      lambda x: tail_index.mmo(x, 16),
      (3200, 4),
      functools.partial(stable.sample_vectors, kind=kind),
    )
  for name, (estimate, shape, sample) in sums.items():
    compiled = _compiled(estimate)
    for alpha in (1.2, 1.5, 1.8, 1.95):
      draw = functools.partial(sample, alpha=alpha, shape=shape)
      yield OwnModel(name, f'stable {alpha:g}', alpha, shape[0], draw, compiled)


def _with_the_search(x: Any) -> tail_index.TailEstimate:
  # A key of its own for each sample.
  bits = lax.bitcast_convert_type(x[0], jnp.uint32)
  key = jax.random.fold_in(jax.random.key(2), bits)
  error = tail_index.power_law_standard_error(key, x)
  return tail_index.power_law(x)._replace(standard_error=error)


def _coverage(index: int, own: OwnModel, replicates: int) -> Row:
  key = jax.random.fold_in(jax.random.key(1), index)
  alpha, error, _ = _run(key, replicates, own.draw, own.estimate)
  covered = np.mean(np.abs(alpha - own.alpha) <= 1.96 * error)
  return {
    'law': own.law,
    'estimator': own.estimator,
    'truth': own.alpha,
    'size': own.size,
    'median': np.median(alpha),
    'coverage': covered,
    'standard_error': math.sqrt(covered * (1 - covered) / replicates),
    'holds': bool(0.93 <= covered <= 0.97),
  }


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Measure what is not measured yet and report; returns all rows."""
  workdir = Path(workdir)
  with records.open_run(workdir, config.to_dict()) as output:
    rows = output.read_results()
    done = {(row['study'], row['cell']) for row in rows}
    left = [
      cell
      for cell in cells(config)
      if cell.study in config.studies and (cell.study, cell.name) not in done
    ]
    for cell in tqdm(left, desc='measuring'):
      rows.append({'study': cell.study, 'cell': cell.name} | cell.measure())
      output.write_results(rows)
    if jax.process_index() == 0:
      print(write(rows, workdir))
  return rows


def write(rows: list[Row], workdir: Path) -> str:
  """Write the tables and the figure; returns the tables' text."""
  bias = [row for row in rows if row['study'] == 'bias']
  coverage = [row for row in rows if row['study'] == 'coverage']
  parts = []
  if bias:
    parts += [bias_table(bias, 'median'), bias_table(bias, 'coverage')]
    plotting.save(bias_figure(bias), workdir / 'bias.png')
  if coverage:
    parts.append(coverage_table(coverage))
  text = '\n\n'.join(parts)
  records.atomic_write(workdir / 'table.txt', text + '\n')
  return f'{text}\n\nwritten to {workdir}'


def bias_table(rows: list[Row], column: str) -> str:
  """Laws down, estimators across."""
  names = list(dict.fromkeys(row['estimator'] for row in rows))
  of = {(row['law'], row['estimator']): row for row in rows}
  lines = []
  for law in dict.fromkeys(row['law'] for row in rows):
    own = [of[law, name] for name in names]
    lines.append([law, *(_number(row[column]) for row in own)])
  title = {
    'median': 'median estimate; the tail index is in the name of the law',
    'coverage': 'share of 95 % intervals that hold it',
  }[column]
  return f'{title}\n' + records.table(['law', *names], lines)


def coverage_table(rows: list[Row]) -> str:
  """Each estimator on its own model."""
  lines = [
    [
      *(row['estimator'], row['law'], row['size'], f'{row["median"]:.3f}'),
      f'{100 * row["coverage"]:.1f}+-{100 * row["standard_error"]:.1f}',
      'yes' if row['holds'] else 'NO',
    ]
    for row in rows
  ]
  headers = ['estimator', 'law', 'n', 'median', 'coverage (%)', '93-97 %']
  return "95 % intervals on the estimators' own models\n" + records.table(
    headers, lines
  )


def bias_figure(rows: list[Row]) -> Any:
  """The middle 90 % of the estimates beside the truth, law by law."""
  from matplotlib.figure import Figure

  names = list(dict.fromkeys(row['law'] for row in rows))
  columns = 4
  lines = -(-len(names) // columns)
  figure = Figure(figsize=(4 * columns, 2.6 * lines), layout='constrained')
  axes = np.ravel(figure.subplots(lines, columns, squeeze=False))
  for ax in axes[len(names) :]:
    ax.set_visible(False)
  for i, (ax, name) in enumerate(zip(axes, names, strict=False)):
    own = [row for row in rows if row['law'] == name]
    y = np.arange(len(own))
    ax.hlines(
      y,
      [row['low'] for row in own],
      [row['high'] for row in own],
      color='#0072B2',
      lw=3,
    )
    ax.plot([row['median'] for row in own], y, 'o', color='#222222', ms=4)
    if own[0]['truth'] is not None:
      ax.axvline(own[0]['truth'], color='#D55E00', lw=1)
    labels = [row['estimator'] for row in own] if i % columns == 0 else []
    ax.set_yticks(y[: len(labels) or len(y)], labels or [''] * len(y))
    ax.set(title=name, xlim=(0, 6), ylim=(len(own) - 0.5, -0.5))
    if i >= len(names) - columns:
      ax.set_xlabel('tail index')
  return figure


def _number(value: float | None) -> str:
  return '' if value is None else f'{value:.2f}'


if __name__ == '__main__':
  program.main(run)
