"""Every bound that the paper compares, on one network."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import optimize

from experiments.sketching_bounds import networks
from experiments.sketching_bounds.networks import Network
from htjax import bounds
from htjax.bounds import baselines, cushions
from htjax.bounds import magnitude_sketching as paper
from htjax.bounds.networks import pre_activations
from htjax.types import Array

Bounds = dict[str, bounds.Bound]


def evaluate(net: Network) -> Bounds:
  """By method; Arora 2018 is missing where a dead layer has no cushion."""
  of, config, sizes = net.norms, net.config, net.input_norms
  shared = {'delta': config.delta, 'constant': config.constant}
  shared['gamma'] = net.gamma
  longest = shared | {'input_norm': float(jnp.max(sizes))}
  spectral: Any = {'spectral': of.spectral}
  frobenius: Any = {'frobenius': of.frobenius}
  width = int(of.fan_out.max())
  return {
    'neyshabur_2015': baselines.neyshabur_2015(
      net.margins, **frobenius, **longest
    ),
    'neyshabur_2017': baselines.neyshabur_2017(
      net.margins, width=width, **spectral, **frobenius, **longest
    ),
    'bartlett_2017': baselines.bartlett_2017(
      net.margins,
      two_one=of.two_one,
      width=max(width, int(of.fan_in.max())),
      data_norm=float(jnp.linalg.norm(sizes)),
      **spectral,
      **shared,
    ),
    **_arora(net, shared),
    'ju_2022': _ju(net),
    **_counted(net),
  }


def _arora(net: Network, shared: dict[str, float]) -> Bounds:
  config, layers = net.config, list(net.layers)
  x = net.task.x[: config.cushion_inputs]
  smoothness = cushions.interlayer_smoothness(
    jax.random.fold_in(net.key, networks.SMOOTHNESS),
    layers,
    x,
    delta=config.delta,
    noise_scale=0.01,
    num_draws=config.smoothness_draws,
  )
  probes = jax.random.fold_in(net.key, networks.PROBES)
  needed: dict[str, Any] = {
    'cushions': cushions.layer_cushions(layers, x),
    'interlayer': cushions.interlayer_cushions(
      layers, x, key=probes, num_probes=config.cushion_probes
    ).minimal,
    'contraction': float(cushions.activation_contraction(layers, x)),
  }
  if not all(np.all(np.isfinite(c) & (c > 0)) for c in needed.values()):
    return {}
  bound = baselines.arora_2018(
    net.margins,
    output_norm=float(jnp.max(jnp.linalg.norm(net.logits, axis=1))),
    smoothness=float(smoothness),
    **needed,
    **shared,
  )
  return {'arora_2018': bound}


def _ju(net: Network) -> bounds.Bound:
  """The loss is bounded by the largest that occurs in training."""
  few, (x, y, *_) = net.config.curvature_inputs, net.task
  losses = optax.softmax_cross_entropy_with_integer_labels(net.logits, y)
  curvatures = baselines.layer_curvatures(
    _loss, list(net.layers), list(net.start), x[:few], y[:few]
  )
  return baselines.ju_2022(
    float(jnp.mean(losses)),
    curvatures=curvatures,
    num_samples=len(y),
    loss_bound=float(jnp.max(losses)),
  )


def _loss(layers: list[Array], x: Array, label: Array) -> Array:
  logits = pre_activations(layers, x[None])[-1][0]
  return optax.softmax_cross_entropy_with_integer_labels(logits, label)


def _counted(net: Network) -> Bounds:
  """The paper's bounds at 1/60 kept, and at what the margin allows."""
  kept, delta = net.config.kept, net.config.delta
  code = Code(net, float(jnp.max(net.input_norms)))
  sixtieth = paper.pruning_strength(kept)
  grid = [2 * w / net.config.num_values for w in code.largest]
  naive = paper.naive_risk(
    net.margins,
    gamma=net.gamma,
    output_error=code.error(sixtieth, grid),
    nonzeros=[math.ceil(kept * a * b) for a, b in net.shapes],
    shapes=net.shapes,
    num_values=code.num_values(grid),
    delta=delta,
  )
  return {
    'sketched': _sketched(code, sixtieth, grid),
    'sketched_margin': _sketched(code, *code.within(net.gamma)),
    'naive': naive,
  }


def _sketched(code: 'Code', strength: float, steps: list[float]):
  net, kept = code.net, _kept(strength)
  failure = net.config.sparsity_failure
  return paper.sketched_risk(
    net.margins,
    gamma=net.gamma,
    output_error=code.error(strength, steps),
    shapes=net.shapes,
    kept=kept,
    num_values=code.num_values(steps),
    factors=np.array([_factor(s, kept, failure) for s in net.shapes]),
    constant=net.config.constant,
  )


def _factor(shape: tuple[int, int], kept: float, failure: float) -> float:
  """Least lambda (in steps of 1.1) that fails with at most this probability."""
  factor, claim = 1.0, paper.distributed_sparsity
  while claim(shape, kept=kept, factor=factor).failure > failure:
    factor *= 1.1
  return factor


def _kept(strength: float) -> float:
  """The kept fraction; it may round to 1, which the bounds do not take."""
  return min(paper.kept_probability(strength), 1 - 2**-53)


class Code:
  """Movement of outputs by pruning and rounding: Lemma 4.2.

  `input_norm` is that of the longest input.
  """

  def __init__(self, net: Network, input_norm: float):
    self.net, self.input_norm = net, input_norm
    self.largest = [float(jnp.max(jnp.abs(w))) for w in net.layers]
    self.variances = [float(jnp.mean(w**2)) for w in net.layers]
    self.multiplier = net.config.markov_factor * len(net.layers)

  def changes(self, strength: float) -> list[float]:
    """Mean spectral norms of what pruning takes from each layer."""
    return [
      paper.pruning_error(s, variance=v, strength=strength).value
      for s, v in zip(self.net.shapes, self.variances, strict=True)
    ]

  def moved(
    self,
    changes: Sequence[float],
    multipliers: float | None,
    rounding: Sequence[float] | float = 0.0,
  ) -> bounds.Bound:
    """The error where each layer changes by so much."""
    return paper.pruned_output_error(
      self.net.norms.spectral,
      np.array(changes),
      input_norm=self.input_norm,
      multipliers=multipliers,
      rounding=np.array(rounding),
    )

  def error(self, strength: float, steps: Sequence[float] = ()) -> bounds.Bound:
    """Of pruning at a strength, and rounding each layer to a grid if given."""
    pairs = zip(steps, self.nonzeros(strength), strict=True) if steps else ()
    rounding = [paper.rounding_error(*pair) for pair in pairs]
    return self.moved(self.changes(strength), self.multiplier, rounding or 0.0)

  def nonzeros(self, strength: float) -> list[int]:
    """Of each layer after pruning, at least the expected number."""
    kept = _kept(strength)
    expected = paper.expected_nonzeros
    return [math.ceil(expected(s, kept=kept)) for s in self.net.shapes]

  def num_values(self, steps: Sequence[float]) -> list[int]:
    """Points of each layer's grid."""
    pairs = zip(self.largest, steps, strict=True)
    return [max(2, paper.num_grid_values(*pair)) for pair in pairs]

  def within(self, gamma: float) -> tuple[float, list[float]]:
    """Strength and grids that the margin pays for, half and half.

    The error of pruning grows with the strength, so that the largest one is
    where it meets its half; each layer takes an equal part of the other.
    """
    # A hair less, or rounding decides whether it is enough.
    half = math.log(gamma / (2 * math.sqrt(2))) - 1e-9

    def excess(log: float) -> float:
      return self.error(math.exp(log)).log_value - half

    high = 10.0
    log = high if excess(high) <= 0 else optimize.brentq(excess, -200.0, high)
    strength = math.exp(log)
    # The lemma's error is this much times the sum of the relative changes.
    spectral = self.net.norms.spectral
    front = math.log(math.e * self.input_norm) + np.sum(np.log(spectral))
    share = math.exp(half - front) / len(spectral)
    pairs = zip(spectral, self.nonzeros(strength), strict=True)
    return strength, [2 * share * top / math.sqrt(n) for top, n in pairs]
