"""Pruning and tail indices of large weights, and what compact networks buy."""

import functools
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.timing import (
  ROOT,
  Cost,
  Disagreement,
  Measurement,
  Unavailable,
  in_process,
  interleave,
  run_command,
)
from htjax import models, pruning, stable, tail_index

_FRACTION = 0.9


def _layers(small: bool) -> dict[str, np.ndarray]:
  """Five layers without ties, 10^7 weights together."""
  generator = np.random.default_rng(0)
  shape = (20, 10) if small else (2000, 1000)
  return {
    f'layer_{i}': generator.standard_normal(shape).astype(np.float32)
    for i in range(5)
  }


def threshold(small: bool, repeats: int, *, torch_python: str) -> Measurement:
  """`pruning.magnitude` against `torch.nn.utils.prune`, masks compared.

  PyTorch runs in a process of its own: half of its turns before ours, half
  after.

  Args:
    small: whether to take few weights.
    repeats: turns of each side.
    torch_python: an interpreter that has torch; this one if empty.
  """
  python = torch_python or sys.executable
  try:
    run_command([python, '-c', 'import torch'], dict(os.environ))
  except (RuntimeError, OSError) as error:
    last = str(error).strip().splitlines()[-1]
    raise Unavailable(
      f'{last} (--torch_python names another interpreter)'
    ) from None
  arrays = _layers(small)
  kappa = 1 - _FRACTION
  params = {name: {'kernel': jnp.asarray(w)} for name, w in arrays.items()}
  before = _torch(python, arrays, math.ceil(repeats / 2))
  ours = in_process(
    lambda: pruning.magnitude(params, kappa, scope='global').params
  )
  first = ours(0)
  costs = [ours(i) for i in range(repeats)]
  after = _torch(python, arrays, math.ceil(repeats / 2))
  for scope in ('global', 'layer'):
    masks = pruning.magnitude(params, kappa, scope=scope).mask
    for name in arrays:
      expected = before[f'{scope}.{name}']
      if not np.array_equal(np.packbits(masks[name]['kernel']), expected):
        raise Disagreement(f'masks of {name} differ, scope {scope}')
  theirs = [
    Cost(*cost) for found in (before, after) for cost in found['costs'][1:]
  ][:repeats]
  return Measurement(
    theirs,
    costs,
    (Cost(*before['costs'][0]), first),
    note=f'torch {before["version"]}, {before["threads"]} threads; the masks '
    'of both scopes are identical',
  )


def _torch(python: str, arrays: Any, repeats: int) -> dict[str, Any]:
  script = ROOT / 'experiments' / 'benchmarks' / 'torch_pruning.py'
  with tempfile.TemporaryDirectory() as folder:
    weights, results = (Path(folder) / name for name in ('w.npz', 'r.npz'))
    np.savez(weights, **arrays)
    run_command(
      [python, script, weights, results, str(_FRACTION), str(repeats)],
      dict(os.environ),
    )
    return dict(np.load(results))


def threshold_numpy(small: bool, repeats: int) -> Measurement:
  """Threshold against a partition by NumPy, which is all that it needs."""
  arrays = _layers(small)
  params = {name: {'kernel': jnp.asarray(w)} for name, w in arrays.items()}

  def partition() -> list[np.ndarray]:
    sizes = [np.abs(w) for w in arrays.values()]
    flat = np.concatenate([size.ravel() for size in sizes])
    cut = np.partition(flat, round(_FRACTION * flat.size))
    least = cut[round(_FRACTION * flat.size)]
    return [
      np.where(size >= least, w, 0)
      for size, w in zip(sizes, arrays.values(), strict=True)
    ]

  def ours() -> Any:
    return pruning.magnitude(params, 1 - _FRACTION, scope='global').params

  pruned = [w['kernel'] for w in ours().values()]
  if not all(map(np.array_equal, pruned, partition())):
    raise Disagreement('the pruned weights differ')
  return interleave(in_process(partition), in_process(ours), repeats)


def hill(small: bool, repeats: int) -> Measurement:
  """Hill's estimate against the sort that it does not need in full."""
  num = 10**4 if small else 10**7
  x = np.random.default_rng(0).standard_normal(num).astype(np.float32)

  def ours() -> Any:
    return tail_index.hill(x, num // 20).alpha

  y = np.sort(np.abs(x))[::-1].astype(np.float64)
  expected = 1 / np.mean(np.log(y[: num // 20] / y[num // 20]))
  if abs(float(ours()) - expected) > 1e-4 * expected:
    raise Disagreement(f'{float(ours())} is not {expected}')
  return interleave(in_process(lambda: np.sort(x)), in_process(ours), repeats)


def layer_table(small: bool, repeats: int) -> Measurement:
  """All columns of one layer against one sort of its entries."""
  shape = (32, 128) if small else (768, 3072)
  w = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
  key = jax.random.key(0)
  (row,) = tail_index.layer_table({'w': w}, key=key)
  if row['note']:
    raise Disagreement(row['note'])
  return interleave(
    in_process(lambda: np.sort(w, axis=None)),
    in_process(lambda: tail_index.layer_table({'w': w}, key=key)),
    repeats,
  )


def singular_values(small: bool, repeats: int) -> Measurement:
  """Few singular values kept, against all of them computed."""
  side = 64 if small else 1024
  w = np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)
  kept = math.ceil(0.1 * side)

  def full() -> np.ndarray:
    u, s, vt = np.linalg.svd(w)
    return (u[:, :kept] * s[:kept]) @ vt[:kept]

  def ours() -> Any:
    return pruning.singular_values({'w': w}, 0.1).params['w']

  difference = np.linalg.norm(ours() - full())
  if difference > 1e-3 * np.linalg.norm(w):
    raise Disagreement(f'the matrices differ by {difference}')
  return interleave(in_process(full), in_process(ours), repeats)


def mmo(small: bool, repeats: int) -> Measurement:
  """`tail_index.mmo` of a layer against the same in one line of NumPy."""
  size = 64 if small else 2048
  block = math.isqrt(size) // 2 * 2
  x = np.asarray(stable.sample(jax.random.key(0), 1.8, (size, size)))
  on_device = jnp.asarray(x)
  while size % block:
    block -= 1

  def one_liner() -> float:
    sums = x.reshape(-1, block, size).sum(1)
    logs = (np.log(np.linalg.norm(a, axis=1)).mean() for a in (sums, x))
    return math.log(block) / float(np.subtract(*logs))

  def ours() -> Any:
    return tail_index.mmo(on_device, block).alpha

  if abs(float(ours()) - one_liner()) > 1e-4:
    raise Disagreement(f'{float(ours())} is not {one_liner()}')
  return interleave(in_process(one_liner), in_process(ours), repeats)


def fits(small: bool) -> list[dict[str, Any]]:
  """Seconds of fits and of the stable law, cold and warm, against targets.

  The cold calls make what they keep: programs, and the table of an alpha.
  """
  side, num = (50, 10**4) if small else (2048, 10**7)
  matrix = stable.sample(jax.random.key(1), 1.8, (side, side))
  weights = stable.sample(jax.random.key(2), 1.8, (num,))
  points = np.random.default_rng(3).standard_cauchy(100 if small else 10**5)
  share = np.random.default_rng(4).uniform(size=points.size)
  plans: list[tuple[str, Callable[[], Any], float, float | None]] = [
    (
      f'power_law with search, {side} x {side}',
      functools.partial(tail_index.power_law, matrix),
      *(10.0, 2.0),
    ),
    (
      f'stable_mle, {num:.0e}',
      functools.partial(tail_index.stable_mle, weights),
      *(0.3, None),
    ),
    (
      f'cdf, {points.size} float64, one alpha',
      functools.partial(_in_float64, stable.cdf, points, 1.8),
      *(0.010, 0.003),
    ),
    (
      f'quantile, {points.size} float64, one alpha',
      functools.partial(_in_float64, stable.quantile, share, 1.8),
      *(0.020, 0.008),
    ),
    (
      f'cdf, {points.size} float64, an alpha for each',
      functools.partial(
        _in_float64, stable.cdf, points, np.full_like(points, 1.8)
      ),
      *(10.0, None),
    ),
  ]
  rows = []
  for what, fit, must, goal in plans:
    jax.block_until_ready((matrix, weights))
    seconds = []
    for _ in range(4):
      start = time.perf_counter()
      jax.block_until_ready(fit())
      seconds.append(time.perf_counter() - start)
    rows.append(
      {
        'what': what,
        'cold': seconds[0],
        'warm': min(seconds[1:]),
        'must': must,
        'goal': goal,
      }
    )
  return rows


def _in_float64(function: Callable[..., Any], *args: Any) -> Any:
  with jax.enable_x64(True):
    return function(*args)


def compact(small: bool, repeats: int = 20) -> list[dict[str, Any]]:
  """A wide layer with columns removed: the masked network and the compact."""
  width, batch = (50, 10) if small else (5000, 1000)
  network = models.fcn(784, width, 10)
  params = network.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (batch, 784))
  apply = jax.jit(network.apply)
  rows = []
  for fraction in (0.4, 0.9):
    masked = pruning.columns(
      params,
      1 - fraction,
      select=lambda p: jax.tree.map(lambda w: w.shape[1] == width, p),
    ).params
    smaller = pruning.compact(masked)
    outputs = apply(masked, x), apply(smaller.params, x)
    found = interleave(
      in_process(lambda masked=masked: apply(masked, x)),
      in_process(lambda smaller=smaller: apply(smaller.params, x)),
      repeats,
    )
    times = [min(c.wall for c in side) for side in (found.baseline, found.ours)]
    rows.append(
      {
        'columns_removed': fraction,
        'width': width,
        'batch': batch,
        'largest_output': float(jnp.max(jnp.abs(outputs[0]))),
        'difference': float(jnp.max(jnp.abs(outputs[0] - outputs[1]))),
        'time_ratio': times[1] / times[0],
        'bytes_ratio': smaller.bytes_after / smaller.bytes_before,
      }
    )
  return rows
