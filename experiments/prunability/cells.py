"""Training by each method, pruning, and the measurements.

A row of a trained network has its method's numbers, the accuracies of the dense
network, `accuracy_CRITERION` over the config's shares, and `tuned`, the
accuracies after pruning by in times out and fine-tuning. Networks that are
small from the start have the row `share`. Accuracies are in [0, 1], null where
a run diverged.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.common import tasks
from experiments.common.cells import Cell, Row, cell, run_cells
from experiments.prunability import methods, pruned
from experiments.prunability.config import method
from experiments.prunability.report import report
from htjax import data, models, noise, pruning, tail_index, training, units
from htjax.types import PyTree
from htjax.units.families import squared_norms

# The order in which a row lists a method's numbers.
_NUMBERS = ('learning_rate', 'strength', 'alpha', 'on')


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Measure what is not measured yet and report; returns all rows."""
  return run_cells(config, workdir, cells(config), report)


def cells(config: ConfigDict) -> list[Cell]:
  """Sizes, every method with all its seeds, and small networks."""
  study = functools.cache(lambda: Study(config))
  found = [cell('sizes', lambda: study().sizes())]
  for own in config.methods:
    found.append(cell(own['name'], lambda own=own: study().rows(dict(own))))
  if config.small:
    for share in config.shares:
      name = f'small {share:g}'
      found.append(cell(name, lambda share=share: study().small(share)))
  return found


class Study:
  """The data, the network and the compiled programs of a preset."""

  def __init__(self, config: ConfigDict):
    self.config = config
    self.dataset = load_data(config)
    self.train = training.Examples(*self.dataset.train)
    self.test = jax.tree.map(jnp.asarray, self.dataset.test)
    self.network = tasks.network(config, self.dataset)
    self.families = self._families(self.network)
    self.program = functools.cache(self._program)
    self.tuner = functools.cache(self._tuner)
    self.measure = jax.jit(self._measure)

  def sizes(self) -> Iterator[Row]:
    """Units, parameters and multiply-adds of what is left of a network."""
    params = methods.init(self.network, self.config.first_seed)
    example = jnp.asarray(self.dataset.train[0][:1])
    apply = self.network.apply
    for share in (1.0, *self.config.shares):
      small = params
      if share < 1:
        gone = pruning.units(
          params, share, apply=apply, inputs=example, criterion='in_out'
        )
        small = pruning.compact(gone, apply=apply, inputs=(example,)).params
      yield {
        'share': share,
        'units': sum(pruned.count(f, share) for f in self.families),
        'parameters': sum(leaf.size for leaf in jax.tree.leaves(small)),
        'multiply_adds': pruning.multiply_adds(apply, small, (example,)),
      }

  def rows(self, own: dict[str, Any]) -> Iterator[Row]:
    """Train all seeds by a method, and measure."""
    program = self.program(own['kind'], own['batch_size'], 1.0)
    for done in self._trained(program, own):
      row = {'seed': int(done.lane.seed)} | {
        k: own[k] for k in own if k != 'name'
      }
      row |= {'diverged': done.status == 'diverged', 'steps': done.steps}
      yield row | ({} if row['diverged'] else self._measured(done.params, done))

  def small(self, share: float) -> Iterator[Row]:
    """Networks that have only a share of the units from the start."""
    own = method('', 'sgd', self.config.small_learning_rate)
    evaluate = jax.jit(self._accuracy)
    for done in self._trained(self.program('sgd', 0, share), own):
      yield {
        'seed': int(done.lane.seed),
        'kind': 'small',
        'share': share,
        'learning_rate': own['learning_rate'],
        'diverged': done.status == 'diverged',
        'test_accuracy': float(evaluate(done.params, self.test)),
      }

  def _trained(
    self, program: Any, own: dict[str, Any]
  ) -> Iterator[training.Finished]:
    seeds = range(
      self.config.first_seed, self.config.first_seed + self.config.num_seeds
    )
    lanes = [methods.Setting(s, *(own[n] for n in _NUMBERS)) for s in seeds]
    finished = training.train(
      program, lanes, self.train, at_once=self.config.at_once or None
    )
    yield from sorted(finished, key=lambda done: done.lane_index)

  def _measured(self, params: PyTree, done: training.Finished) -> Row:
    found = jax.tree.map(np.asarray, self.measure(params, self.test))
    row = {k: np.round(v, 4).tolist() for k, v in found.items()}
    row['train_accuracy'] = round(done.train_accuracy, 4)
    if self.config.tuned_epochs:
      row['tuned'] = [
        self._tuned(params, share, done.lane.seed)
        for share in self.config.tuned_shares
      ]
    return row

  def _measure(self, params: PyTree, test: data.Split) -> dict[str, Any]:
    config = self.config
    few = jnp.asarray(self.dataset.train[0][: config.activation_examples])
    found = {'test_accuracy': self._accuracy(params, test)}
    for criterion in config.criteria:
      worth = pruned.scores(
        criterion, self.families, self.network.apply, params, few
      )
      found[f'accuracy_{criterion}'] = jnp.stack(
        [
          self._accuracy(
            pruned.smaller(self.families, params, worth, share), test
          )
          for share in config.shares
        ]
      )
    ratio = pruning.columns_to_error(params, 0.1, select=self._hidden).ratio
    leaves = jax.tree.leaves(params)
    norms = [
      jnp.sqrt(squared_norms(f, leaves, 'incoming')) for f in self.families
    ]
    shares = noise.contributions(self.families, params).values()
    return found | {
      'pruning_ratio': ratio,
      'tail_index_norm': jnp.stack([_hill(x) for x in norms]).mean(),
      'tail_index_contribution': jnp.stack([_hill(x) for x in shares]).mean(),
    }

  def _accuracy(self, params: PyTree, test: data.Split) -> jax.Array:
    return training.evaluate(
      self.network.apply, params, *test, batch_size=self.config.eval_batch
    )[1]

  def _tuned(self, params: PyTree, share: float, seed: Any) -> float:
    """Accuracy of the pruned network after some epochs without noise."""
    program, cut, evaluate = self.tuner(share)
    lane = methods.Setting(seed, self.config.tuned_learning_rate, 0.0, 2.0, 1.0)
    state = program.init(lane, self.train)._replace(params=cut(params))
    for _, end in training.epochs(
      program, lane, self.train, [self.config.tuned_epochs], state=state
    ):
      state = end
    return round(float(evaluate(state.params, self.test)), 4)

  def _tuner(self, share: float) -> Any:
    """Fine-tuning at a share: a program, the cut before, the look after."""
    families, apply = self.families, self.network.apply
    example = jnp.asarray(self.dataset.train[0][:1])

    def cut(params: PyTree) -> PyTree:
      worth = pruned.scores('in_out', families, apply, params, example)
      return pruned.smaller(families, params, worth, share)

    program = training.make_program(
      lambda key: cut(self.network.init(key)), apply, self._recipe(0)
    )
    return program, jax.jit(cut), jax.jit(self._accuracy)

  def _recipe(self, batch_size: int) -> training.Recipe:
    steps = self.config.num_steps
    return training.Recipe(
      learning_rate=0.0,
      batch_size=batch_size or self.config.batch_size,
      kind=None,
      eval_every=steps,
      max_steps=steps,
      eval_batch=self.config.eval_batch,
    )

  def _program(self, kind: str, batch_size: int, share: float) -> Any:
    network, families = self.network, self.families
    if share < 1:
      network = tasks.network(_narrow(self.config, share), self.dataset)
      families = self._families(network)
    return training.make_program(
      methods.start(kind, network.init, families),
      network.apply,
      self._recipe(batch_size),
      optimizer=lambda lane: methods.optimizer(
        kind, lane, families, self.config.num_steps
      ),
      stop=lambda progress: jnp.zeros((), bool),
    )

  def _families(self, network: models.Network) -> list[units.Family]:
    params = methods.init(network, self.config.first_seed)
    return units.families(network.apply, params, self.dataset.train[0][:1])

  @property
  def _hidden(self) -> Callable[[PyTree], PyTree]:
    return methods.hidden(self.families)


def load_data(config: ConfigDict) -> data.Dataset:
  """The data set of the config, pictures made smaller."""
  dataset = data.load(config.dataset, **config.dataset_options)
  dataset = tasks.first(dataset, config.num_train, ('train',))
  dataset = tasks.first(dataset, config.num_test, ('test',))
  if config.pool == 1:
    return dataset
  few: dict[str, Any] = {
    name: data.Split(_pooled(split[0], config.pool), split[1])
    for name, split in (('train', dataset.train), ('test', dataset.test))
  }
  return dataset._replace(**few)


def _pooled(pictures: np.ndarray, by: int) -> np.ndarray:
  n, height, width, channels = pictures.shape
  squares = pictures.reshape(n, height // by, by, width // by, by, channels)
  return squares.mean(axis=(2, 4))


def _narrow(config: ConfigDict, share: float) -> dict[str, Any]:
  """The network's settings with a share of the units in every layer."""

  def few(size: Any) -> Any:
    return size if size == 'M' else int(np.ceil(round(share * size, 6)))

  return dict(config) | {
    'width': few(config.width),
    'channels': tuple(map(few, config.channels)),
  }


def _hill(x: jax.Array) -> jax.Array:
  return tail_index.hill(x, max(2, x.size // 10)).alpha
