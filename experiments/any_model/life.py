"""From first weights to a file: noise, half of the units, fine-tuning."""

import tempfile
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.any_model.networks import Model, make
from experiments.any_model.shifted import first
from htjax import data, noise, pruning
from htjax.io import checkpoints


class Task(NamedTuple):
  """Data and settings of a model.

  Attributes:
    train: (inputs, labels).
    test: likewise.
    steps: of training; of fine-tuning a fourth.
    batch: examples of a step.
    learning_rate: of the optimizer.
    optimizer: step size -> optax transformation.
    decays: whether the step size falls to 0, along a cosine.
  """

  train: tuple[np.ndarray, np.ndarray]
  test: tuple[np.ndarray, np.ndarray]
  steps: int
  batch: int
  learning_rate: float
  optimizer: Any
  decays: bool = False

  @property
  def rate(self) -> optax.ScalarOrSchedule:
    """The step size, or its schedule."""
    if not self.decays:
      return self.learning_rate
    return optax.cosine_decay_schedule(self.learning_rate, self.steps)


def momentum(learning_rate: float) -> optax.GradientTransformation:
  """SGD with momentum 0.9."""
  return optax.sgd(learning_rate, momentum=0.9)


def task(name: str) -> Task:
  """The data and settings of a model, by its name."""
  if name == 'flax_mnist':
    found = data.load('mnist')
    train = (found.train.inputs[:10_000], found.train.labels[:10_000])
    test = (found.test.inputs[:2000], found.test.labels[:2000])
    return Task(train, test, 300, 32, 0.02, momentum)
  if name == 'resnet20':
    found = data.load('cifar10')
    splits = [first(found.train, 50_000), first(found.test, 10_000)]
    return Task(splits[0], splits[1], 3000, 64, 0.05, momentum, decays=True)
  found = data.load('digits')
  splits = [(s.inputs.reshape(-1, 8, 8, 1), s.labels) for s in found[1:3]]
  if name == 'nnx_transformer':
    splits = [
      (data.pixels(s, 16).reshape(-1, 64).astype(np.int32), s.labels)
      for s in (found.train, found.test)
    ]
    return Task(splits[0], splits[1], 600, 64, 0.003, optax.adam)
  if name == 'linen_scanned':
    return Task(splits[0], splits[1], 600, 64, 0.003, optax.adam)
  return Task(splits[0], splits[1], 600, 64, 0.02, momentum)


class Result(NamedTuple):
  """Accuracies, sizes and times of a model.

  Attributes:
    accuracies: on test examples, clean, noisy, pruned, fine-tuned, reloaded.
    compacted: as `pruning.compact` returned it.
    by_hand: floats and multiply-adds of one example, as counted on paper.
    difference: of the outputs by compacting, over the largest.
    seconds: of one call on `batch` examples, before and after.
    batch: see there.
    left: layers that stay, and why.
  """

  accuracies: dict[str, float]
  compacted: pruning.Compacted
  by_hand: tuple[int, int]
  difference: float
  seconds: tuple[float, float]
  batch: int
  left: dict[str, str]


def live(
  name: str, seed: int, steps: int | None = None, repeats: int = 20
) -> Result:
  """One model from its first weights to its file.

  Args:
    name: of the model.
    seed: of weights, batches and noise.
    steps: of training; None are the task's own.
    repeats: calls that are timed.

  Returns:
    Result.
  """
  work, model = task(name), make(name, jax.random.key(seed))
  if steps is not None:
    work = work._replace(steps=steps)
  optimizer = work.optimizer(work.rate)
  clean = train(model, optimizer, model.variables, work, seed)
  noisy = noise_for(model, work, seed)
  variables = train(
    model, optax.chain(optimizer, noisy), model.variables, work, seed
  )
  x, batch = work.test[0][:8], min(256, len(work.test[0]))
  pruned = pruning.units(variables, 0.5, apply=model.apply, inputs=x[:1])
  small = pruning.compact(pruned, apply=model.apply, inputs=x[:1])
  expected = model.apply(pruned.params, x)
  gap = jnp.abs(model.apply(small.params, x) - expected).max()
  short = work._replace(steps=max(work.steps // 4, 1))
  held = optax.chain(short.optimizer(short.rate), pruning.hold(pruned.mask))
  tuned = train(model, held, pruned.params, short, seed + 1)
  last = pruning.compact(tuned, apply=model.apply, inputs=x[:1]).params
  again = _reloaded(last)
  measured = {
    'clean': clean,
    'noisy': variables,
    'pruned': small.params,
    'fine_tuned': tuned,
    'reloaded': again,
  }
  inputs = work.test[0][:batch]
  return Result(
    {k: accuracy(model, v, work.test) for k, v in measured.items()},
    small,
    model.by_hand,
    float(gap / jnp.abs(expected).max()),
    (
      seconds(model, variables, inputs, repeats),
      seconds(model, again, inputs, repeats),
    ),
    batch,
    {} if pruned.left is None else dict(pruned.left.reasons),
  )


def noise_for(
  model: Model, work: Task, seed: int, relative: float = 0.1
) -> optax.GradientTransformation:
  """Type I noise that grows to a tenth of a unit's norm."""
  return noise.add_stable_noise(
    work.rate,
    1.8,
    relative=relative,
    num_steps=work.steps,
    key=jax.random.key(seed),
    units=model.units,
  )


def train(model: Model, tx: Any, variables: Any, work: Task, seed: int) -> Any:
  """The variables after the steps of a task."""
  carried, rng = model.start(tx, variables), np.random.default_rng(seed)
  for _ in range(work.steps):
    chosen = rng.integers(len(work.train[0]), size=work.batch)
    carried = model.step(carried, *(a[chosen] for a in work.train))
  return model.end(carried)


def accuracy(model: Model, variables: Any, split: Any) -> float:
  """Share of examples that are classified right."""
  call = jax.jit(model.apply)
  chunks = [
    np.asarray(call(variables, split[0][i : i + 250])).argmax(axis=-1)
    for i in range(0, len(split[0]), 250)
  ]
  return float(np.mean(np.concatenate(chunks) == split[1]))


def seconds(model: Model, variables: Any, x: Any, repeats: int) -> float:
  """Of one call, the shortest of some."""
  call, best = jax.jit(model.apply), np.inf
  jax.block_until_ready(call(variables, x))
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(call(variables, x))
    best = min(best, time.perf_counter() - start)
  return float(best)


def _reloaded(variables: Any) -> Any:
  with tempfile.TemporaryDirectory() as folder:
    checkpoints.save(folder, 0, variables)
    found = checkpoints.restore(folder, variables)
  assert found is not None
  return found[0]
