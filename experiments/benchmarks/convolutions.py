"""Training steps of convolutional networks against one jitted step alone."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.steps import check_other, check_same
from experiments.benchmarks.timing import Measurement, in_process, interleave
from experiments.implicit_compressibility.config import get_config
from htjax import models, training

_ALPHA, _SIGMA = 1.8, 0.01
_SMALL: dict[str, Any] = {
  'channels': (3, 'M', 4, 'M'),
  'side': 4,
  'examples': 5,
  'num_steps': 2,
}
# Two layers, the size of a first example; and the network of "Implicit
# Compressibility ..." on CIFAR-10, whose step takes ten seconds for twenty
# pictures.
_CASES: dict[str, dict[str, Any]] = {
  'two_layers': {'channels': (16, 'M', 32, 'M'), 'examples': 100},
  'cifar10_cnn': {'channels': None, 'examples': 20, 'num_steps': 2},
}
_DEFAULTS: dict[str, Any] = {'side': 32, 'num_steps': 10}


def convolutional_step(name: str, small: bool, repeats: int) -> Measurement:
  """Steps of `training`, noise and all, against a compiled step of SGD.

  On a CPU, XLA computes a convolution inside a loop about ten times slower
  than outside, so that the baseline has no loop: one step, jitted with donated
  parameters, called as often.
  """
  case = _DEFAULTS | _CASES[name] | (_SMALL if small else {})
  channels = case['channels'] or tuple(get_config('cifar10_cnn').channels)
  network = models.cnn(3, 10, channels=channels)
  num, side = case['examples'], case['side']
  rng = np.random.default_rng(0)
  examples = training.Examples(
    jnp.asarray(rng.normal(size=(num, side, side, 3)), jnp.float32),
    jnp.asarray(rng.integers(10, size=num), jnp.int32),
  )
  recipe = training.Recipe(0.01, num)
  program = training.make_program(network.init, network.apply, recipe)

  def ours(lane: training.Lane, state: Any) -> Any:
    # All examples at a time: an epoch is a step.
    at = [case['num_steps']]
    ((_, state),) = training.epochs(program, lane, examples, at, state=state)
    return state.params

  @functools.partial(jax.jit, donate_argnums=0)
  def step(params: Any, inputs: Any, labels: Any) -> Any:
    def loss(params: Any) -> Any:
      logits = network.apply(params, inputs)
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      return losses.mean()

    gradient = jax.grad(loss)(params)
    updates = jax.tree.map(lambda g: -recipe.learning_rate * g, gradient)
    return optax.apply_updates(params, updates)

  def alone(params: Any) -> Any:
    for _ in range(case['num_steps']):
      params = step(params, *examples)
    return params

  noisy = training.Lane(0, _ALPHA, _SIGMA)
  ((_, state),) = training.epochs(program, noisy, examples, [0])

  def params(_: int) -> tuple[Any]:
    return (jax.tree.map(jnp.copy, state.params),)

  without = alone(*params(0))
  check_same(without, ours(noisy._replace(sigma=0.0), state))
  check_other(without, ours(noisy, state))
  measured = interleave(
    in_process(alone, params),
    in_process(functools.partial(ours, noisy), lambda i: (state,)),
    repeats,
  )
  return measured._replace(
    note=f'{case["num_steps"]} steps of {num} pictures a turn', details=case
  )
