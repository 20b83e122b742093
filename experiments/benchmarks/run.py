"""Speed against what a user would otherwise do, as ratios within one run.

  python -m experiments.benchmarks.run [--only=draws,import] [--small]

Baseline and ours take turns (A B A B ..), everything is compiled and checked
to agree before it is timed, and the ratio of the minima is what is compared
with the target. Absolute times are printed beside, with the machine.
"""

import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags, logging

from htjax import models, noise, records, selection, stable, training

_ONLY = flags.DEFINE_list('only', [], 'Names of benchmarks; empty is all.')
_SMALL = flags.DEFINE_bool('small', False, 'Tiny sizes: does it run at all?')
_OUTPUT = flags.DEFINE_string('output', None, 'Also write the rows as JSON.')

# CPU seconds of the authors' PyTorch program on two EPYC cores, measured once:
# the mean of a run at n = 2000, and its imports.
_PYTORCH_RUN, _PYTORCH_IMPORTS = 3.4, 4.0


class Row(NamedTuple):
  """One comparison: seconds of both sides, and what their ratio must reach.

  `slower` says that the ratio is ours / baseline, at most the target;
  otherwise it is baseline / ours, at least the target.
  """

  name: str
  baseline: str
  theirs: float
  ours: float
  slower: bool
  must: float
  goal: float

  @property
  def ratio(self) -> float:
    return self.ours / self.theirs if self.slower else self.theirs / self.ours

  @property
  def reached(self) -> str:
    def within(target: float) -> bool:
      return self.ratio <= target if self.slower else self.ratio >= target

    return 'goal' if within(self.goal) else 'yes' if within(self.must) else 'NO'


def turns(
  a: Callable[[], Any], b: Callable[[], Any], repeats: int
) -> tuple[float, float]:
  """Least seconds of a and of b, taking turns after a warm-up of each."""
  times: tuple[list[float], list[float]] = ([], [])
  for i in range(repeats + 1):
    for side, call in zip(times, (a, b), strict=True):
      start = time.perf_counter()
      jax.block_until_ready(call())
      if i:
        side.append(time.perf_counter() - start)
  return min(times[0]), min(times[1])


def draws(small: bool) -> Iterator[Row]:
  """Rows 1 and 2: symmetric stable draws, float32."""
  size, repeats = (1000, 2) if small else (10**7, 20)
  key = jax.random.key(0)
  ours = jax.jit(lambda k: stable.sample(k, 1.8, (size,)))
  normal = jax.jit(lambda k: jax.random.normal(k, (size,)))
  x = np.asarray(ours(key), np.float64)
  assert abs(np.cos(x).mean() - np.exp(-1.0)) < 5 * 0.5 / np.sqrt(size)
  theirs, mine = turns(lambda: normal(key), lambda: ours(key), repeats)
  yield Row(f'draws {size:.0e}', 'random.normal', theirs, mine, True, 3.0, 2.0)
  from scipy.stats import levy_stable

  def scipy_draws():
    return levy_stable.rvs(1.8, 0.0, size=size, random_state=0)

  theirs, mine = turns(scipy_draws, lambda: ours(key), min(repeats, 3))
  yield Row(f'draws {size:.0e}', 'scipy rvs', theirs, mine, False, 6.0, 12.0)


def steps(small: bool) -> Iterator[Row]:
  """Rows 3 and 4: a noisy SGD step against the same step without noise."""
  shapes = {
    'ECG5000 n=2K': (2000, 140, 500, 2),
    'MNIST n=5K': (5000, 784, 5000, 10),
  }
  for name, (width, dim, batch, classes) in shapes.items():
    if small:
      width, batch = 16, 8
    count, repeats = (2, 2) if small else (50, 20) if width < 5000 else (2, 8)
    network = models.fcn(dim, width, classes)
    key = jax.random.key(0)
    x = jax.random.normal(key, (batch, dim))
    y = jnp.arange(batch) % classes
    params = network.init(jax.random.key(1))
    mask = selection.exclude(*network.excluded)

    def scanned(optimizer, x=x, y=y, network=network, count=count):
      def step(carry, _):
        params, state = carry
        loss, gradient = jax.value_and_grad(
          lambda p: optax.softmax_cross_entropy_with_integer_labels(
            network.apply(p, x), y
          ).mean()
        )(params)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), loss

      return jax.jit(
        lambda p: jax.lax.scan(step, (p, optimizer.init(p)), length=count)
      )

    clean = scanned(optax.sgd(1e-4))
    for kind, must, goal in (('type1', 1.05, 1.01), ('type2', 1.5, 1.2)):

      def with_noise(sigma, kind=kind, mask=mask):
        return noise.heavy_tailed_sgd(
          1e-4, 1.8, sigma, key=2, kind=kind, mask=mask
        )

      silent = scanned(with_noise(0.0))(params)[1]
      np.testing.assert_allclose(silent, clean(params)[1], rtol=1e-5)
      noisy = scanned(with_noise(0.3))
      theirs, ours = turns(
        functools.partial(clean, params),
        functools.partial(noisy, params),
        repeats,
      )
      title = f'step {kind} {name}'
      yield Row(
        title, 'no noise', theirs / count, ours / count, True, must, goal
      )


def lanes(small: bool) -> Iterator[Row]:
  """Row 5: twenty lanes together against one after another."""
  width, repeats = (16, 1) if small else (2000, 3)
  rng = np.random.default_rng(0)
  x = rng.normal(size=(500, 140)).astype(np.float32)
  data = training.Examples(x, (x[:, 0] > 0).astype(np.int32))
  network = models.fcn(140, width, 2)
  recipe = training.Recipe(
    1e-4, 500, eval_every=10, target_accuracy=1.0, max_steps=21
  )
  program = training.make_program(
    network.init, network.apply, recipe, mask=selection.exclude('output')
  )
  settings = [
    training.Lane(seed, alpha, 0.3)
    for alpha in (1.75, 1.8, 1.9, 2.0)
    for seed in range(5)
  ]

  def together():
    return [f.train_loss for f in training.train(program, settings, data)]

  def one_by_one():
    return [
      next(training.train(program, [lane], data, at_once=1)).train_loss
      for lane in settings
    ]

  np.testing.assert_allclose(together(), one_by_one(), rtol=1e-4)
  theirs, ours = turns(one_by_one, together, repeats)
  must, goal = (1.0, 1.2) if jax.default_backend() == 'cpu' else (5.0, 15.0)
  yield Row('20 lanes', 'one by one', theirs, ours, False, must, goal)


def table1(small: bool) -> Iterator[Row]:
  """Row 6: Table 1 end to end, cold; needs ECG5000 to be prepared."""
  preset = 'smoke' if small else 'ecg5000_type1_2k'
  with tempfile.TemporaryDirectory() as folder:
    start = time.perf_counter()
    subprocess.run(
      [
        *(sys.executable, '-m', 'experiments.implicit_compressibility'),
        f'--config=experiments/configs/implicit_compressibility.py:{preset}',
        f'--workdir={folder}/run',
      ],
      check=True,
      capture_output=True,
    )
    ours = time.perf_counter() - start
    count = len(records.read_results(f'{folder}/run'))
  theirs = _PYTORCH_IMPORTS + count * _PYTORCH_RUN
  yield Row('Table 1, cold', 'PyTorch (recorded)', theirs, ours, False, 10, 30)


def imports(small: bool) -> Iterator[Row]:
  """Row 11: what `import htjax` adds."""

  def fresh(code: str) -> Callable[[], Any]:
    return lambda: subprocess.run([sys.executable, '-c', code], check=True)

  theirs, ours = turns(
    fresh('import jax, optax'), fresh('import htjax'), 1 if small else 20
  )
  yield Row('import htjax', 'jax, optax', theirs, ours, True, 1.1, 1.05)


def draws_1e9(small: bool) -> Iterator[Row]:
  """10^9 draws for each alpha: no NaN, no infinity, tails; against normal."""
  size, chunks = (1000, 2) if small else (10**7, 100)
  for alpha in (0.5, 1.0, 1.5, 1.8, 2.0):
    yield _many_draws(alpha, size, chunks)


def _many_draws(alpha: float, size: int, chunks: int) -> Row:
  with jax.enable_x64(True):
    far = float(-stable.quantile(0.5e-7, alpha))

  @jax.jit
  def normal(key):
    return jax.random.normal(key, (size,)).max()

  @jax.jit
  def counts(key):
    x = jnp.abs(stable.sample(key, alpha, (size,)))
    bad = jnp.sum(~jnp.isfinite(x))
    return bad, jnp.sum(x == 0.0), jnp.sum(x > far), x.max()

  keys = jax.random.split(jax.random.key(3), chunks)
  start = time.perf_counter()
  found = [jax.tree.map(float, counts(key)) for key in keys]
  ours = time.perf_counter() - start
  bad, zeros, beyond, largest = (np.array(c) for c in zip(*found, strict=True))
  expected = size * chunks * 1e-7
  print(
    f'alpha {alpha}: {size * chunks:.0e} draws, {bad.sum():.0f} not finite, '
    f'{zeros.sum():.0f} zeros, {beyond.sum():.0f} beyond probability 1e-7 '
    f'({expected:.0f} expected), largest {largest.max():.3g}'
  )
  assert bad.sum() == 0
  assert abs(beyond.sum() - expected) < 5 * np.sqrt(expected) + 1
  theirs, _ = turns(lambda: normal(keys[0]), lambda: counts(keys[0]), 3)
  title = f'draws {size * chunks:.0e}, alpha {alpha}'
  return Row(title, 'random.normal', theirs * chunks, ours, True, 3.0, 2.0)


BENCHMARKS: dict[str, Callable[[bool], Iterator[Row]]] = {
  'draws': draws,
  'steps': steps,
  'lanes': lanes,
  'table1': table1,
  'import': imports,
  'draws_1e9': draws_1e9,
}


def machine() -> dict[str, Any]:
  """What the figures were measured on."""
  return {
    'device': jax.devices()[0].device_kind,
    'cores': os.cpu_count(),
    'load': round(os.getloadavg()[0], 1),
    'jax': jax.__version__,
    'platform': platform.platform(),
  }


def report(rows: list[Row]) -> str:
  """The table: seconds of both sides, ratio, targets."""
  lines = [
    [
      *(r.name, r.baseline, f'{r.theirs:.4g} s', f'{r.ours:.4g} s'),
      f'{r.ratio:.2f}x',
      *(f'{"<=" if r.slower else ">="} {t:g}x' for t in (r.must, r.goal)),
      r.reached,
    ]
    for r in rows
  ]
  headers = ['what', 'against', 'baseline', 'ours', 'ratio', 'must', 'goal']
  return records.table([*headers, 'reached'], lines)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {" ".join(argv[1:])}')
  logging.set_verbosity(logging.WARNING)
  names = _ONLY.value or [n for n in BENCHMARKS if n != 'draws_1e9']
  for name in names:
    if name not in BENCHMARKS:
      raise app.UsageError(
        f'--only takes {", ".join(BENCHMARKS)}, got {name!r}'
      )
  print(machine())
  rows = [row for name in names for row in BENCHMARKS[name](_SMALL.value)]
  print(report(rows))
  if _OUTPUT.value:
    found = [r._asdict() | {'ratio': r.ratio} for r in rows]
    text = json.dumps({'machine': machine(), 'rows': found}, indent=2)
    records.atomic_write(Path(_OUTPUT.value), text + '\n')


if __name__ == '__main__':
  app.run(main)
