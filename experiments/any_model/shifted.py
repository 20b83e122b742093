"""ResNet-20 with its trained weights and all of the noise in one step.

  python -m experiments.any_model.shifted [--relative=0.01,0.03,0.1] [--seeds=2]

Nothing is trained: what a size of noise does to the network at once, with the
statistics of its BatchNorm as they were, and with those of 512 training
pictures behind the noise.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.any_model.networks import trained
from htjax import data, noise, resnets, units
from htjax.io import tables


def main(argv: Sequence[str] | None = None) -> None:
  """Print a line for every size and kind of noise."""
  parser = argparse.ArgumentParser(
    prog='python -m experiments.any_model.shifted'
  )
  parser.add_argument('--relative', default='0.01,0.03,0.1')
  parser.add_argument('--seeds', type=int, default=2)
  flags = parser.parse_args(argv)
  sizes = [float(r) for r in flags.relative.split(',')]
  lines = [
    (f'{row[0]:g}', row[1], f'{row[2]:g}', str(row[3]), *map(_percent, row[4:]))
    for row in measured(sizes, range(flags.seeds))
  ]
  headers = ('relative', 'kind', 'alpha', 'seed', 'as they were', 'of 512')
  print(tables.table(headers, lines))


def measured(
  sizes: Sequence[float], seeds: Sequence[int]
) -> Iterator[tuple[float, str, float, int, float, float]]:
  """(r, kind, alpha, seed) and the two accuracies on 500 test pictures."""
  module, found = trained(), data.load('cifar10')
  (few, _), test = first(found.train, 512), first(found.test, 500)
  describe = units.infer(module)
  split: Any = nnx.split(module, nnx.Param, nnx.BatchStat)
  graph, params, stats = split

  def refreshed(params: Any, stats: Any, x: Any) -> Any:
    ours = nnx.merge(graph, params, stats)
    for _, layer in nnx.iter_graph(ours):
      if isinstance(layer, nnx.BatchNorm):
        layer.momentum = 0.0
    ours.train()
    ours(x)
    return nnx.state(ours, nnx.BatchStat)

  refresh, accuracy = jax.jit(refreshed), accuracy_on(test, graph)
  cases = itertools.product(sizes, ('type1', 'type2'), (1.8, 2.0), seeds)
  for r, kind, alpha, seed in [(0.0, 'type1', 2.0, 0), *cases]:
    tx = noise.add_stable_noise(
      1.0,
      alpha,
      relative=r,
      num_steps=1,
      key=jax.random.key(seed),
      kind=kind,
      units=describe,
    )
    still = jax.tree.map(jnp.zeros_like, params)
    shift, _ = tx.update(still, tx.init(params), params)
    moved = optax.apply_updates(params, shift)
    again = refresh(moved, stats, few)
    own = accuracy(moved, stats), accuracy(moved, again)
    yield r, kind, alpha, seed, *own


def accuracy_on(
  test: tuple[np.ndarray, np.ndarray], graph: Any, *rest: Any
) -> Callable[[Any, Any], float]:
  """Accuracy by parameters and statistics of a module that is split.

  Args:
    test: pictures and labels.
    graph: of the module.
    *rest: its state beside these two.
  """

  @jax.jit
  def logits(params: Any, stats: Any, x: Any) -> jax.Array:
    ours = nnx.merge(graph, params, stats, *rest)
    ours.eval()
    return ours(x)

  def accuracy(params: Any, stats: Any) -> float:
    chosen = np.asarray(logits(params, stats, test[0])).argmax(axis=-1)
    return float(np.mean(chosen == test[1]))

  return accuracy


def first(split: data.Split, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Pictures of the first examples, as the network wants them, and labels."""
  few = data.Split(split.inputs[:count], split.labels[:count])
  return resnets.normalise(data.pixels(few)), few.labels


def _percent(share: float) -> str:
  return f'{100 * share:.1f}'


if __name__ == '__main__':
  main()
