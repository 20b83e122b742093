"""Tails and compressibility of anyone's weights, layer by layer.

  htjax analyze model.safetensors --layout=torch --workdir=runs/model

`run` reads a `.safetensors` or `.npz` file or an Orbax directory, and gives a
table (every tail index with its standard error, stable rank, pruning ratios),
the same as `results.json`, and a figure of the compression curves. What it does
not take for a weight it names, with the reason. A file is read and worked on
array by array, and a run that was killed goes on when the same command is given
again.
"""

import contextlib
import hashlib
import itertools
import math
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import htjax
from htjax import compressibility, host, tail_index, units
from htjax.checks import check_choice, checked
from htjax.io import files, records, safetensors, tables
from htjax.io import weights as weight_files
from htjax.io.unread import Unread

if TYPE_CHECKING:
  from matplotlib.figure import Figure

Row = dict[str, Any]
Progress = Callable[[Sequence[str]], Iterable[str]]

LAYOUTS = ('flax', 'torch')
# Kept fractions of the curves.
KAPPAS = tuple(np.geomspace(0.01, 1.0, 25).round(4).tolist())

_SHOWN = (
  *('layer', 'shape', 'protocol', 'mmo', 'mmo_se', 'mmo_p', 'hill', 'hill_se'),
  *('power_law', 'power_law_se', 'stable_mle', 'stable_mle_se', 'stable_ks'),
  *('stable_rank', 'rel_err_0.1', 'sq_mass_0.1', 'note'),
)
# Whose subtrees hold an optimizer's state, in JAX and in PyTorch.
_STATES = {
  *('opt_state', 'optim', 'optimizer', 'optimizer_state'),
  *('optimizer_states', 'exp_avg', 'exp_avg_sq', 'momentum_buffer'),
}
# Fields of optax's states; one stands behind its place in a chain.
_MOMENTS = {'mu', 'nu', 'trace', 'sum_of_squares'}
_EMBEDDING = re.compile(r'embed|^w[tp]e$')


class Choice(NamedTuple):
  """The part of a file that is analysed, and why the rest is not.

  Attributes:
    layers: arrays of rank 2 and more by name, units along the last axis; unread
      where they were given so.
    left_out: shape and reason by name, of the other arrays of rank 2 and more.
    vectors: names of the arrays of rank 0 and 1: biases, norms, scales.
  """

  layers: dict[str, Any]
  left_out: dict[str, tuple[tuple[int, ...], str]]
  vectors: tuple[str, ...]


@checked
def choose(
  arrays: Mapping[str, np.ndarray | Unread],
  layout: str = 'flax',
  *,
  select: Sequence[str] = (),
  exclude: Sequence[str] = (),
) -> Choice:
  """Tell the weights among the arrays of a file from what is none.

  Without `select`, weights are the floating arrays of rank 2 and more outside
  an optimizer's state and, in the layout 'torch', outside embeddings: the rows
  of an embedding are no units, and its name alone tells it from a linear layer.

  Args:
    arrays: by name, the parts of a name between dots or slashes; of NumPy, or
      of `htjax.io.weights.unread`.
    layout: 'flax' for [.., in, out]; 'torch' for [out, in, ..].
    select: patterns (`fnmatch`: *, ?, [..]) of the arrays to take; each stands
      for a whole name or for one part of it.
    exclude: patterns of arrays to leave out.

  Returns:
    A Choice; its layers are views in the layout 'flax'.

  Raises:
    ValueError: unknown layout, a pattern that matches nothing, or no array
      that is left to analyse.
  """
  check_choice('layout', layout, LAYOUTS)
  for name, patterns in (('select', select), ('exclude', exclude)):
    _check_patterns(name, patterns, arrays)
  layers, left_out, vectors = {}, {}, []
  for name, array in arrays.items():
    if array.ndim < 2:
      vectors.append(name)
    elif reason := _reason(name, array, layout, select, exclude):
      left_out[name] = (array.shape, reason)
    else:
      layers[name] = _units_last(array, layout)
  choice = Choice(layers, left_out, tuple(vectors))
  if not layers:
    raise ValueError(
      'no floating array of rank 2 or more to analyse; left out: '
      + ('; '.join(left_out_lines(choice)) or 'nothing')
    )
  return choice


@checked
def load(
  path: str | os.PathLike,
  layout: str = 'flax',
  *,
  select: Sequence[str] = (),
  exclude: Sequence[str] = (),
  max_bytes: int | None = None,
) -> dict[str, np.ndarray]:
  """Read the weights of a file by name, units along the last axis.

  Args:
    path: a `.npz` or `.safetensors` file, or an Orbax directory.
    layout: 'flax' for [.., in, out]; 'torch' for [out, in, ..].
    select: patterns (`fnmatch`) of the arrays to take, each for a whole name
      or one part of it; none takes the weights that `choose` finds.
    exclude: patterns of arrays to leave out.
    max_bytes: arrays of more bytes together are refused. None is the limit of
      `htjax.io.weights.load`, relative to the file.

  Returns:
    A flat dictionary of arrays of rank 2 and more. What is left out without
    having been excluded is named in a UserWarning.

  Raises:
    ValueError: a damaged file, or as `choose`.
    FileNotFoundError: no such file.
  """
  choice = _choose_in(path, layout, select, exclude, max_bytes)
  if not select and set(choice.left_out) - _matched(choice.left_out, exclude):
    warnings.warn(
      f'{path}: left out {"; ".join(left_out_lines(choice))}', stacklevel=2
    )
  return {name: np.asarray(array) for name, array in choice.layers.items()}


@checked
def analyse(
  params: Mapping[str, np.ndarray | Unread],
  progress: Progress = iter,
  layout: str = 'flax',
  *,
  known: Mapping[str, list[Row]] | None = None,
  keep: Callable[[str, list[Row]], Any] | None = None,
) -> list[Row]:
  """`layer_table` with compression curves; a layer that is degenerate says so.

  Beside the arrays a few copies of the largest in float32 are in memory, and
  of a file only the arrays that are worked on.

  Args:
    params: a flat dictionary of arrays of rank 2 and more, units along the
      last axis. Those that are unread are read where they are worked on.
    progress: passes on the names of the layers, and may show how far it is:
      `tqdm.tqdm` does.
    layout: of the file: in 'torch', arrays of rank 3 and more are convolutions;
      in 'flax', names and shapes tell.
    known: rows of arrays that are not to be analysed again, by name.
    keep: called with the name and the rows of each other array, in the order
      of the names, as soon as they are there.

  Returns:
    A row per layer, by the names of arrays; of an array that stacks layers, a
    row for each. 'error' has the relative l_2 errors of keeping the fractions
    `KAPPAS` of the entries less their median; null where the row's 'note' says
    why.
  """
  key, rows, known = jax.random.key(0), list[Row](), known or {}
  check_choice('layout', layout, LAYOUTS)
  given = _convolutions(params) if layout == 'torch' else None
  abstract: dict[str, Any] = {
    name: jax.ShapeDtypeStruct(array.shape, array.dtype)
    for name, array in params.items()
  }
  described = units.describe(given, abstract)
  leaves = dict(
    zip((n for n, _ in units.named_leaves(abstract)), described, strict=True)
  )
  wide = jax.config.read('jax_enable_x64')
  room = _Room(max((a.size for a in abstract.values()), default=0))

  def rows_of(name: str) -> list[Row]:
    if name in known:
      return known[name]
    # A thread does not know what was enabled around the call.
    with room.taken(abstract[name].size), jax.enable_x64(wide):
      only = {other: other == name for other in params}
      # The only one that is read.
      array = np.asarray(params[name])
      found = tail_index.layer_table(
        abstract | {name: array}, key=key, select=only, units=given
      )
      views = units.views_of(0, leaves[name], array.shape)
      parts: list[Any] = [array]
      if len(found) > 1:
        parts = [view.of(array) for view in views]
      pairs = zip(found, parts, strict=True)
      found = [row | {'error': _curve(part)} for row, part in pairs]
      safetensors.forget(array)
      return found

  names = sorted(params)
  # NumPy leaves the lock of the interpreter to others while it sorts.
  with ThreadPoolExecutor(os.cpu_count()) as pool:
    results = pool.map(rows_of, names)
    try:
      for name, found in zip(progress(names), results, strict=True):
        rows += found
        if keep and name not in known:
          keep(name, found)
    except BaseException:
      pool.shutdown(cancel_futures=True)
      raise
  return rows


class _Room:
  """Lets arrays in together while they are no larger than the largest."""

  def __init__(self, size: int):
    self._free, self._changed = size, threading.Condition()

  @contextlib.contextmanager
  def taken(self, size: int) -> Iterator[None]:
    with self._changed:
      self._changed.wait_for(lambda: self._free >= size)
      self._free -= size
    try:
      yield
    finally:
      with self._changed:
        self._free += size
        self._changed.notify_all()


def _convolutions(
  params: Mapping[str, np.ndarray | Unread],
) -> dict[str, units.Leaf]:
  """PyTorch's kernels of rank 3 and more, once their units are last."""
  return {
    name: units.Leaf(
      'convolution',
      units=(array.ndim - 1,),
      inputs=(array.ndim - 2,),
      window=tuple(range(array.ndim - 2)),
    )
    for name, array in params.items()
    if array.ndim > 2
  }


@checked
def left_out_rows(choice: Choice, like: Row) -> list[Row]:
  """Rows for `results.json` of what was left out, with the keys of `like`.

  Args:
    choice: of `choose`.
    like: a row of `analyse`.

  Returns:
    A row per array of rank 2 and more; its note says why, all else is None.
  """
  return [
    dict.fromkeys(like)
    | {
      'layer': name,
      'shape': 'x'.join(map(str, shape)),
      'note': f'left out: {reason}',
    }
    for name, (shape, reason) in choice.left_out.items()
  ]


@checked
def left_out_lines(choice: Choice) -> list[str]:
  """Say what was left out and why, a line for each reason.

  Args:
    choice: of `choose`.

  Returns:
    Lines without an end of line, of ten names at most; arrays of rank 0 and 1
    are only counted.
  """
  names: dict[str, list[str]] = {}
  for name, (_, reason) in choice.left_out.items():
    names.setdefault(reason, []).append(name)
  lines = [f'{_few(group)} ({why})' for why, group in names.items()]
  if choice.vectors:
    lines.append(f'{len(choice.vectors)} of rank 0 or 1 (biases, scales)')
  return lines


@checked
def table(rows: Sequence[Row]) -> str:
  """Lay out what a reader looks at first; all of it is in `results.json`.

  Args:
    rows: of `analyse`.

  Returns:
    Aligned plain text, one line per row.
  """

  def cell(value: Any) -> str:
    return f'{value:.3g}' if isinstance(value, float) else str(value)

  return tables.table(_SHOWN, [[cell(row[c]) for c in _SHOWN] for row in rows])


@checked
def curves(rows: Sequence[Row]) -> 'Figure':
  """Draw relative error against kept fraction, and the Gaussian limit.

  Args:
    rows: of `analyse`.

  Returns:
    A matplotlib figure that belongs to no window.
  """
  from matplotlib import colormaps
  from matplotlib.figure import Figure

  drawn = [row for row in rows if row['error'] is not None]
  figure = Figure(figsize=(8, 5), layout='constrained')
  ax = figure.subplots()
  colours = colormaps['viridis'](np.linspace(0, 0.95, max(1, len(drawn))))
  for row, colour in zip(drawn, colours, strict=False):
    ax.plot(KAPPAS, row['error'], color=colour, lw=1, label=row['layer'])
  limit = compressibility.gaussian_limit(np.asarray(KAPPAS, np.float32))
  ax.plot(KAPPAS, limit, 'k:', label='Gaussian')
  ax.set(xscale='log', xlabel='kept fraction', ylabel='relative l2 error')
  ax.set_ylim(0, 1)
  if len(drawn) <= 20:
    ax.legend(fontsize='x-small', frameon=False)
  return figure


@checked
def run(
  weights: str | os.PathLike,
  workdir: str | os.PathLike | None = None,
  layout: str = 'flax',
  *,
  select: Sequence[str] = (),
  exclude: Sequence[str] = (),
  max_bytes: int | None = None,
  progress: Progress = iter,
) -> list[Row]:
  """Analyse a file, print the table and write what was found.

  Array by array: a run that was killed goes on where it was when it is called
  again with the same file and workdir.

  Args:
    weights: a `.npz` or `.safetensors` file, or an Orbax directory.
    workdir: gets `config.json`, `results.json`, `table.txt` and
      `compression.png`, and a line of `metrics.jsonl` for each finished array;
      None writes nothing.
    layout: 'flax' for [.., in, out]; 'torch' for [out, in, ..].
    select: patterns (`fnmatch`) of the arrays to take, each for a whole name
      or one part of it; none takes the weights that `choose` finds.
    exclude: patterns of arrays to leave out.
    max_bytes: arrays of more bytes together are refused. None is the limit of
      `htjax.io.weights.load`, relative to the file.
    progress: wraps the layers while they are gone through, to show how far.

  Returns:
    The rows of `results.json`: of the layers, then of what was left out.

  Raises:
    ValueError: as `load`, or a workdir that belongs to another run.
    FileNotFoundError: no such file.
  """
  choice = _choose_in(weights, layout, select, exclude, max_bytes)
  if workdir is None:
    rows, text = _report(choice, progress, layout)
    print(text)
    return rows
  workdir = Path(workdir)
  about = {
    'weights': str(weights),
    'layout': layout,
    'select': list(select),
    'exclude': list(exclude),
  }
  with records.open_run(workdir, about) as output:
    version = _version(weights)

    def keep(name: str, rows: list[Row]) -> None:
      output.log({'array': name, 'of': version, 'rows': rows})

    known = _known(workdir, version)
    rows, text = _report(choice, progress, layout, known, keep)
    output.write_results(rows)
    files.atomic_write(workdir / 'table.txt', text + '\n')
    with files.replacing(workdir / 'compression.png') as temporary:
      curves(rows).savefig(temporary, format='png', dpi=150)
  print(f'{text}\n\nwritten to {workdir}')
  return rows


def _choose_in(
  path: str | os.PathLike,
  layout: str,
  select: Sequence[str],
  exclude: Sequence[str],
  max_bytes: int | None,
) -> Choice:
  check_choice('layout', layout, LAYOUTS)
  arrays = weight_files.unread(path, max_bytes=max_bytes)
  try:
    return choose(arrays, layout, select=select, exclude=exclude)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None


def _version(path: str | os.PathLike) -> str:
  """Changes with the files of a checkpoint, and with this library."""
  path = Path(path)
  files = [path]
  if path.is_dir() or path.name.endswith(safetensors.INDEX):
    # The shards of an index lie beside it.
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.glob('*.safetensors*'))
    files = files or sorted(f for f in folder.rglob('*') if f.is_file())
  facts = [htjax.__version__]
  for file in files:
    about = file.stat()
    facts.append(f'{file.name} {about.st_size} {about.st_mtime_ns}')
  return hashlib.sha256('\n'.join(facts).encode()).hexdigest()[:16]


def _known(workdir: Path, version: str) -> dict[str, list[Row]]:
  """Rows that an earlier call kept, of the same version of the file."""
  return {
    line['array']: [
      {n: math.nan if x is None and n != 'error' else x for n, x in row.items()}
      for row in line['rows']
    ]
    for line in records.read_metrics(workdir)
    if line.get('of') == version
  }


def _report(
  choice: Choice,
  progress: Progress,
  layout: str,
  known: Mapping[str, list[Row]] | None = None,
  keep: Callable[[str, list[Row]], Any] | None = None,
) -> tuple[list[Row], str]:
  rows = analyse(choice.layers, progress, layout, known=known, keep=keep)
  lines = [table(rows), *(f'left out: {x}' for x in left_out_lines(choice))]
  return rows + left_out_rows(choice, rows[0]), '\n'.join(lines)


def _curve(leaf: np.ndarray) -> list[float] | None:
  if not np.size(leaf) or not np.all(np.isfinite(leaf)):
    return None
  w = np.array(leaf, np.float32)
  w -= host.median(w.reshape(-1))
  errors = compressibility.compression_error(w, np.asarray(KAPPAS, np.float32))
  return np.asarray(errors).round(6).tolist()


def _units_last(array: Any, layout: str) -> Any:
  if layout != 'torch':
    return array
  if isinstance(array, Unread):
    return array.moveaxis((1, 0), (-2, -1))
  return np.moveaxis(array, (1, 0), (-2, -1))


def _reason(
  name: str,
  array: np.ndarray | Unread,
  layout: str,
  select: Sequence[str],
  exclude: Sequence[str],
) -> str | None:
  """Why an array is not analysed; None if it is."""
  if _matches(name, exclude):
    return 'excluded'
  if select and not _matches(name, select):
    return 'not selected'
  if not jnp.issubdtype(array.dtype, jnp.floating):
    return f'{array.dtype.name} is not floating: dequantise it first'
  if not array.size:
    return 'empty'
  if select:
    return None
  if _in_optimizer(_parts(name)):
    return 'the state of an optimizer by its name: select it to analyse it'
  if layout == 'torch' and array.ndim <= 3 and _is_embedding(_parts(name)):
    return (
      'an embedding by its name, whose rows are no units: select it to take '
      'them for units'
    )
  return None


def _in_optimizer(parts: Sequence[str]) -> bool:
  in_chain = any(
    a.isdigit() and b in _MOMENTS for a, b in itertools.pairwise(parts)
  )
  return in_chain or not _STATES.isdisjoint(parts)


def _is_embedding(parts: Sequence[str]) -> bool:
  return any(_EMBEDDING.search(part) for part in parts)


def _parts(name: str) -> list[str]:
  return re.split(r'[./]', name)


def _matches(name: str, patterns: Sequence[str]) -> bool:
  texts = {name, *_parts(name)}
  return any(fnmatchcase(text, p) for p in patterns for text in texts)


def _matched(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
  return {name for name in names if _matches(name, patterns)}


def _check_patterns(
  argument: str, patterns: Sequence[str], names: Iterable[str]
) -> None:
  for pattern in patterns:
    if not _matched(names, [pattern]):
      raise ValueError(
        f'{argument} {pattern!r} matches no array; there are '
        f'{_few(sorted(names)) or "none"}'
      )


def _few(names: Sequence[str], shown: int = 10) -> str:
  more = len(names) - shown
  listed = ', '.join(names[:shown])
  return f'{listed} and {more} more' if more > 0 else listed
