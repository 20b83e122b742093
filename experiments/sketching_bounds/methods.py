"""Every bound that the paper compares, on one network."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from scipy import optimize

from experiments.sketching_bounds.networks import (
  PROBES,
  SMOOTHNESS,
  Net,
  Task,
)
from htjax import bounds
from htjax.bounds import hessian, ingredients, norms
from htjax.bounds import sketching as sketch_bounds
from htjax.types import Array, PRNGKey


class Evidence(NamedTuple):
  """What the bounds read.

  Attributes:
    config: of the run.
    key: for probes.
    task: the data.
    net: the network.
    logits: of the training set [n, k].
    margins: of the training set [n], float64.
    gamma: the margin at which bounds are taken.
    norms: of the layers.
  """

  config: ConfigDict
  key: PRNGKey
  task: Task
  net: Net
  logits: Array
  margins: np.ndarray
  gamma: float
  norms: ingredients.LayerNorms

  @property
  def input_norms(self) -> Array:
    """Lengths of the inputs [n]."""
    return jnp.linalg.norm(self.task.x, axis=1)

  @property
  def shared(self) -> dict[str, float]:
    """What all norm bounds take."""
    shared = {name: self.config[name] for name in ('delta', 'constant')}
    return {'gamma': self.gamma, **shared}


def evaluate(given: Evidence) -> dict[str, bounds.Bound]:
  """By method; Arora 2018 is missing where a dead layer has no cushion."""
  found = _norm_bounds(given)
  cushions = _cushions(given)
  if all(
    np.all(np.isfinite(cushions[name]) & (np.asarray(cushions[name]) > 0))
    for name in ('cushions', 'interlayer', 'contraction')
  ):
    largest = float(jnp.max(jnp.linalg.norm(given.logits, axis=1)))
    found['arora_2018'] = norms.arora_2018(
      given.margins, output_norm=largest, **cushions, **given.shared
    )
  return found | {'ju_2022': _ju(given)} | _counted(given)


def _norm_bounds(given: Evidence) -> dict[str, bounds.Bound]:
  measured, sizes = given.norms, given.input_norms
  width, input_norm = int(measured.fan_out.max()), float(jnp.max(sizes))
  return {
    'neyshabur_2015': norms.neyshabur_2015(
      given.margins,
      frobenius=measured.frobenius,
      input_norm=input_norm,
      **given.shared,
    ),
    'neyshabur_2017': norms.neyshabur_2017(
      given.margins,
      spectral=measured.spectral,
      frobenius=measured.frobenius,
      width=width,
      input_norm=input_norm,
      **given.shared,
    ),
    'bartlett_2017': norms.bartlett_2017(
      given.margins,
      spectral=measured.spectral,
      two_one=measured.two_one,
      width=max(width, int(measured.fan_in.max())),
      data_norm=float(jnp.linalg.norm(sizes)),
      **given.shared,
    ),
  }


def _cushions(given: Evidence) -> dict[str, Any]:
  config, layers = given.config, given.net.layers
  x = given.task.x[: config.cushion_inputs]
  probes, draws = (
    jax.random.fold_in(given.key, i) for i in (PROBES, SMOOTHNESS)
  )
  smoothness = ingredients.interlayer_smoothness(
    draws,
    layers,
    x,
    delta=config.delta,
    noise_scale=0.01,
    num_draws=config.smoothness_draws,
  )
  return {
    'cushions': ingredients.layer_cushions(layers, x),
    'interlayer': ingredients.interlayer_cushions(
      layers, x, key=probes, num_probes=config.cushion_probes
    ).minimal,
    'contraction': float(ingredients.activation_contraction(layers, x)),
    'smoothness': float(smoothness),
  }


def _ju(given: Evidence) -> bounds.Bound:
  """The loss is bounded by the largest that occurs in training."""
  task, few = given.task, given.config.curvature_inputs
  losses = optax.softmax_cross_entropy_with_integer_labels(given.logits, task.y)
  curvatures = hessian.layer_curvatures(
    _loss, *given.net, task.x[:few], task.y[:few]
  )
  return hessian.ju_2022(
    float(jnp.mean(losses)),
    curvatures=curvatures,
    num_samples=len(task.y),
    loss_bound=float(jnp.max(losses)),
  )


def _loss(layers: list[Array], x: Array, label: Array) -> Array:
  logits = ingredients.pre_activations(layers, x[None])[-1][0]
  return optax.softmax_cross_entropy_with_integer_labels(logits, label)


def _counted(given: Evidence) -> dict[str, bounds.Bound]:
  """The paper's bounds at 1/60 kept, and at what the margin allows."""
  config, layers = given.config, given.net.layers
  shapes = [w.shape for w in layers]
  input_norm = float(jnp.max(given.input_norms))
  code = Code(config, layers, given.norms.spectral, input_norm)
  sixtieth = sketch_bounds.pruning_strength(config.kept)
  grid = [2 * w / config.num_values for w in code.largest]
  naive = sketch_bounds.naive_risk(
    given.margins,
    gamma=given.gamma,
    output_error=code.error(sixtieth, grid),
    nonzeros=[math.ceil(config.kept * a * b) for a, b in shapes],
    shapes=shapes,
    num_values=code.num_values(grid),
    delta=config.delta,
  )
  return {
    'sketched': _sketched(given, code, sixtieth, grid),
    'sketched_margin': _sketched(given, code, *code.within(given.gamma)),
    'naive': naive,
  }


def _sketched(
  given: Evidence, code: 'Code', strength: float, steps: list[float]
) -> bounds.Bound:
  kept, failure = _kept(strength), given.config.sparsity_failure
  return sketch_bounds.sketched_risk(
    given.margins,
    gamma=given.gamma,
    output_error=code.error(strength, steps),
    shapes=code.shapes,
    kept=kept,
    num_values=code.num_values(steps),
    factors=np.array([_factor(s, kept, failure) for s in code.shapes]),
    constant=given.config.constant,
  )


def _factor(shape: tuple[int, ...], kept: float, failure: float) -> float:
  """Least lambda (in steps of 1.1) that fails with at most this probability."""
  factor = 1.0
  while (
    sketch_bounds.distributed_sparsity(shape, kept=kept, factor=factor).failure
    > failure
  ):
    factor *= 1.1
  return factor


def _kept(strength: float) -> float:
  """The kept fraction; it may round to 1, which the bounds do not take."""
  return min(sketch_bounds.kept_probability(strength), 1 - 2**-53)


class Code:
  """How far pruning and rounding move the outputs of a network: Lemma 4.2."""

  def __init__(
    self,
    config: ConfigDict,
    layers: list[Array],
    spectral: np.ndarray,
    input_norm: float,
  ):
    self.shapes = [w.shape for w in layers]
    self.largest = [float(jnp.max(jnp.abs(w))) for w in layers]
    self.variances = [float(jnp.mean(w**2)) for w in layers]
    self.spectral, self.input_norm = spectral, input_norm
    self.multiplier = config.markov_factor * len(layers)

  def changes(self, strength: float) -> list[float]:
    """Mean spectral norms of what pruning takes from each layer."""
    return [
      sketch_bounds.pruning_error(s, variance=v, strength=strength).value
      for s, v in zip(self.shapes, self.variances, strict=True)
    ]

  def moved(
    self,
    changes: Sequence[float],
    multipliers: float | None,
    rounding: Sequence[float] | float = 0.0,
  ) -> bounds.Bound:
    """Where each layer changes by so much."""
    return sketch_bounds.pruned_output_error(
      self.spectral,
      np.array(changes),
      input_norm=self.input_norm,
      multipliers=multipliers,
      rounding=np.array(rounding),
    )

  def error(self, strength: float, steps: Sequence[float] = ()) -> bounds.Bound:
    """Of pruning at a strength, and rounding each layer to a grid if given."""
    pairs = zip(steps, self.nonzeros(strength), strict=True) if steps else ()
    rounding = [sketch_bounds.rounding_error(*pair) for pair in pairs]
    return self.moved(self.changes(strength), self.multiplier, rounding or 0.0)

  def nonzeros(self, strength: float) -> list[int]:
    """Of each layer after pruning, at least the expected number."""
    return [
      math.ceil(sketch_bounds.expected_nonzeros(s, kept=_kept(strength)))
      for s in self.shapes
    ]

  def num_values(self, steps: list[float]) -> list[int]:
    """Points of each layer's grid."""
    return [
      max(2, sketch_bounds.num_grid_values(w, step))
      for w, step in zip(self.largest, steps, strict=True)
    ]

  def within(self, gamma: float) -> tuple[float, list[float]]:
    """Strength and grids that the margin pays for, half and half.

    The error of pruning grows with the strength, so that the largest one is
    where it meets its half; each layer takes an equal part of the other.
    """
    # A hair less, or rounding decides whether it is enough.
    half = math.log(gamma / (2 * math.sqrt(2))) - 1e-9

    def excess(log_strength: float) -> float:
      return self.error(math.exp(log_strength)).log_value - half

    low, high = -200.0, 10.0
    strength = math.exp(
      high if excess(high) <= 0 else optimize.brentq(excess, low, high)
    )
    # The lemma's error is this much times the sum of the relative changes.
    front = math.log(math.e * self.input_norm) + np.sum(np.log(self.spectral))
    share = math.exp(half - front) / len(self.shapes)
    nonzeros = self.nonzeros(strength)
    return strength, [
      2 * share * top / math.sqrt(n)
      for top, n in zip(self.spectral, nonzeros, strict=True)
    ]


def summary(bound: bounds.Bound) -> dict[str, Any]:
  """A bound as it stands in a row."""
  return {
    'complexity': bound.terms['complexity'],
    'bound': bound.log_value,
    'failure': bound.failure,
    'broken': [a.name for a in bound.assumptions if a.holds is False],
  }
