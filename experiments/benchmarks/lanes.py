"""Twenty lanes of `htjax.training` against a user's loop over twenty runs.

The loop is what one writes with `heavy_tailed_sgd`: a jitted step with donated
state, a jitted evaluation every ten steps, one run after another, compiled
once for all of them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.timing import (
  Disagreement,
  Measurement,
  in_process,
  interleave,
)
from htjax import models, noise, selection, training

_SETTINGS = ((2.0, 0.0), (1.75, 0.5), (1.8, 0.3), (1.9, 0.25))
_NUM_SEEDS = 5


class End(NamedTuple):
  """End of a run: gradient steps, loss and accuracy in [0, 1]."""

  steps: int
  loss: float
  accuracy: float


def many_lanes(at_once: int | None, small: bool, repeats: int) -> Measurement:
  """Lanes of the first table's shapes, as many steps each as those take.

  The labels are random, so that no lane meets its stopping rule and the work
  is fixed; each input sums to zero, so that Type I noise does not change the
  outputs and both sides must end with the same losses.
  """
  width, num_examples, max_steps = (40, 60, 21) if small else (2000, 500, 121)
  network = models.fcn(140, width, 2)
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(num_examples, 140))
  inputs -= inputs.mean(axis=1, keepdims=True)
  examples = training.Examples(
    jnp.asarray(inputs, jnp.float32),
    jnp.asarray(rng.integers(2, size=num_examples), jnp.int32),
  )
  recipe = training.Recipe(
    learning_rate=1e-4,
    batch_size=num_examples,
    eval_every=10,
    target_accuracy=1.0,
    max_steps=max_steps,
  )
  lanes = [
    training.Lane(seed, alpha, sigma)
    for alpha, sigma in _SETTINGS
    for seed in range(1, 1 + _NUM_SEEDS)
  ]
  program = training.make_program(
    network.init,
    network.apply,
    recipe,
    select=selection.exclude(*network.excluded),
  )

  def ours() -> list[End]:
    finished = training.train(program, lanes, examples, at_once=at_once)
    ordered = sorted(finished, key=lambda lane: lane.lane_index)
    return [End(f.steps, f.train_loss, f.train_accuracy) for f in ordered]

  loop = UserLoop(network, recipe, examples)
  check_ends(loop.run(lanes), ours(), num_examples)
  measured = interleave(
    in_process(loop.run, lambda i: (lanes,)), in_process(ours), repeats
  )
  chosen = at_once or (1 if jax.default_backend() == 'cpu' else len(lanes))
  return measured._replace(
    note=f'{len(lanes)} lanes of {max_steps} steps, {chosen} at once',
    details={'lanes': len(lanes), 'steps': max_steps, 'at_once': chosen},
  )


def check_ends(
  first: Sequence[End], second: Sequence[End], num_examples: int
) -> None:
  """Raise unless all runs stopped at the same step with the same loss."""
  for i, (a, b) in enumerate(zip(first, second, strict=True)):
    if not (
      a.steps == b.steps
      and np.isclose(a.loss, b.loss, rtol=1e-3)
      # One example may lie so near the boundary that rounding decides.
      and abs(a.accuracy - b.accuracy) < 1.5 / num_examples
    ):
      raise Disagreement(f'lane {i} must end alike, got {a} and {b}')


class UserLoop:
  """Runs one after another, each until its stopping rule."""

  def __init__(
    self,
    network: models.Network,
    recipe: training.Recipe,
    examples: training.Examples,
  ):
    self.recipe = recipe
    self.examples = examples

    def optimizer(lane: training.Lane) -> optax.GradientTransformation:
      return noise.heavy_tailed_sgd(
        recipe.learning_rate,
        lane.alpha,
        lane.sigma,
        key=jax.random.key(lane.seed),
        kind=recipe.kind or 'type1',
        select=selection.exclude(*network.excluded),
      )

    def init(lane: training.Lane) -> tuple[Any, Any]:
      params = network.init(training.init_key(lane.seed))
      return params, optimizer(lane).init(params)

    def step(state: tuple[Any, Any], lane, examples) -> tuple[Any, Any]:
      params, opt_state = state

      def loss(params):
        logits = network.apply(params, examples.inputs)
        return optax.softmax_cross_entropy_with_integer_labels(
          logits, examples.labels
        ).mean()

      updates, opt_state = optimizer(lane).update(
        jax.grad(loss)(params), opt_state, params
      )
      return optax.apply_updates(params, updates), opt_state

    def evaluate(params, examples):
      return training.evaluate(network.apply, params, *examples)

    self.init = jax.jit(init)
    self.step = jax.jit(step, donate_argnums=0)
    self.evaluate = jax.jit(evaluate)

  def run(self, lanes: Sequence[training.Lane]) -> list[End]:
    return [self.run_one(lane) for lane in lanes]

  def run_one(self, lane: training.Lane) -> End:
    state = self.init(lane)
    for i in range(self.recipe.max_steps):
      state = self.step(state, lane, self.examples)
      if i % self.recipe.eval_every == 0:
        loss, accuracy = map(float, self.evaluate(state[0], self.examples))
        if accuracy >= self.recipe.target_accuracy or np.isnan(loss):
          break
    return End(i + 1, loss, accuracy)
