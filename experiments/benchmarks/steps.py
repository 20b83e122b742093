"""Training steps with noise against the same steps without."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from experiments.benchmarks.timing import (
  Disagreement,
  Measurement,
  in_process,
  interleave,
)
from htjax import models, noise, selection
from htjax.types import PyTree


class _Case(NamedTuple):
  """Shapes and settings of one experiment, and steps per timed call."""

  in_features: int
  width: int
  num_classes: int
  batch_size: int
  learning_rate: float
  alpha: float
  sigma: float
  num_steps: int


_CASES = {
  'ecg5000': _Case(140, 2000, 2, 500, 1e-4, 1.75, 0.5, 50),
  'mnist': _Case(784, 5000, 10, 5000, 0.25, 1.75, 1e-3, 2),
}
_SMALL = {'width': 40, 'batch_size': 30, 'num_steps': 5}


def noisy_step(name: str, kind: str, small: bool, repeats: int) -> Measurement:
  """Steps of the network of `name` under noise of `kind`, and without.

  Both sides are one compiled scan over the steps with donated parameters.
  """
  case = _CASES[name]._replace(**_SMALL if small else {})
  network = models.fcn(case.in_features, case.width, case.num_classes)
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(case.batch_size, case.in_features))
  labels = rng.integers(case.num_classes, size=case.batch_size)
  examples = jnp.asarray(inputs, jnp.float32), jnp.asarray(labels, jnp.int32)
  params = jax.jit(network.init)(jax.random.key(0))

  def noisy_sgd(alpha, sigma) -> optax.GradientTransformation:
    return noise.heavy_tailed_sgd(
      case.learning_rate,
      alpha,
      sigma,
      key=1,
      kind=kind,
      select=selection.exclude(*network.excluded),
    )

  clean = _run(network, lambda: optax.sgd(case.learning_rate), case.num_steps)
  noisy = _run(network, noisy_sgd, case.num_steps)

  def arguments(*settings):
    return lambda i: (jax.tree.map(jnp.copy, params), *examples, *settings)

  without = clean(*arguments()(0))
  check_same(without, noisy(*arguments(case.alpha, 0.0)(0)))
  check_other(without, noisy(*arguments(case.alpha, case.sigma)(0)))
  measured = interleave(
    in_process(clean, arguments()),
    in_process(noisy, arguments(case.alpha, case.sigma)),
    repeats,
  )
  return measured._replace(
    note=f'{case.num_steps} steps a turn', details=case._asdict()
  )


def check_same(first: PyTree, second: PyTree) -> None:
  """Raise unless all weights agree up to rounding over the steps."""
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
    if not np.allclose(a, b, rtol=1e-4, atol=1e-6):
      raise Disagreement(
        'steps with sigma = 0 must be the steps without noise; a weight '
        f'differs by {np.max(np.abs(np.asarray(a) - np.asarray(b))):.3g}'
      )


def check_other(first: PyTree, second: PyTree) -> None:
  """Raise if all weights agree: then no noise was added."""
  try:
    check_same(first, second)
  except Disagreement:
    return
  raise Disagreement('steps with sigma > 0 must differ from those without')


def _run(
  network: models.Network,
  optimizer: Callable[..., optax.GradientTransformation],
  num_steps: int,
) -> Callable[..., PyTree]:
  """(params, inputs, labels, *settings of the optimizer) -> params."""

  def run(params, inputs, labels, *settings):
    transform = optimizer(*settings)

    def loss(params):
      logits = network.apply(params, inputs)
      losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
      return losses.mean()

    def step(carry, _):
      params, state = carry
      updates, state = transform.update(jax.grad(loss)(params), state, params)
      return (optax.apply_updates(params, updates), state), None

    start = params, transform.init(params)
    (params, _), _ = lax.scan(step, start, length=num_steps)
    return params

  return jax.jit(run, donate_argnums=0)
