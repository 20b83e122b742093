"""ResNet-20 with its trained weights, trained on under noise.

  python -m experiments.any_model.finetuned [--steps=400] [--learning_rate=0.02]
    [--runs=0:type1:0,0.1:type1:0,0.1:type2:0] [--train=10000] [--test=1000]

The statistics of BatchNorm follow the weights, as they do in any training. A
run is r:kind:seed; r = 0 is the same program without noise. Batches of 64 of
the first training pictures, momentum 0.9, a cosine down to a step of 0. About 4
CPU minutes for 400 steps.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from experiments.any_model.networks import trained
from experiments.any_model.shifted import accuracy_on, first
from htjax import data, noise, units

_BATCH, _ALPHA = 64, 1.8


def main(argv: Sequence[str] | None = None) -> None:
  """Print a line for every run."""
  parser = argparse.ArgumentParser(
    prog='python -m experiments.any_model.finetuned'
  )
  parser.add_argument('--runs', default='0:type1:0,0.1:type1:0,0.1:type2:0')
  parser.add_argument('--steps', type=int, default=400)
  parser.add_argument('--learning_rate', type=float, default=0.02)
  parser.add_argument('--train', type=int, default=10_000)
  parser.add_argument('--test', type=int, default=1000)
  flags = parser.parse_args(argv)
  headers = ('relative', 'kind', 'seed', 'steps', 'test')
  print(''.join(f'{h:>9}' for h in headers))
  for run in flags.runs.split(','):
    r, kind, seed = run.split(':')
    found = accuracies(
      *(float(r), kind, int(seed)),
      *(flags.steps, flags.learning_rate, (flags.train, flags.test)),
    )
    # As they come: a run takes minutes.
    for k, a in found:
      line = (r, kind, seed, str(k), f'{100 * a:.1f}')
      print(''.join(f'{entry:>9}' for entry in line), flush=True)


def accuracies(
  r: float,
  kind: str,
  seed: int,
  steps: int,
  learning_rate: float,
  sizes: tuple[int, int],
) -> Iterator[tuple[int, float]]:
  """Steps made, and accuracy on test pictures: at half and the end.

  `sizes` are the numbers of pictures to train on and to test.
  """
  module, found = trained(0.9), data.load('cifar10')
  (x, y), test = (first(s, n) for s, n in zip(found[1:3], sizes, strict=True))
  rate = optax.cosine_decay_schedule(learning_rate, steps)
  optimizer = optax.sgd(rate, momentum=0.9)
  if r:
    added = noise.add_stable_noise(
      rate,
      _ALPHA,
      relative=r,
      num_steps=steps,
      key=jax.random.key(seed),
      kind=kind,
      units=units.infer(module),
    )
    optimizer = optax.chain(optimizer, added)
  module.train()
  split: Any = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
  graph, params, stats, rest = split

  def loss(params: Any, stats: Any, x: Any, y: Any) -> tuple[jax.Array, Any]:
    ours = nnx.merge(graph, params, stats, rest, copy=True)
    losses = optax.softmax_cross_entropy_with_integer_labels(ours(x), y)
    return losses.mean(), nnx.state(ours, nnx.BatchStat)

  @jax.jit
  def step(params: Any, stats: Any, state: Any, x: Any, y: Any) -> Any:
    slopes, stats = jax.grad(loss, has_aux=True)(params, stats, x, y)
    updates, state = optimizer.update(slopes, state, params)
    return optax.apply_updates(params, updates), stats, state

  accuracy = accuracy_on(test, graph, rest)
  state, draws = optimizer.init(params), np.random.default_rng(seed)
  for k in range(1, steps + 1):
    chosen = draws.integers(len(x), size=_BATCH)
    params, stats, state = step(params, stats, state, x[chosen], y[chosen])
    if k in (steps // 2, steps):
      yield k, accuracy(params, stats)


if __name__ == '__main__':
  main()
