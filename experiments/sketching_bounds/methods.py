"""Every bound that the paper compares, on one network."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.sketching_bounds import networks
from experiments.sketching_bounds.networks import Network
from htjax import bounds
from htjax.bounds import baselines, cushions
from htjax.bounds import magnitude_sketching as paper
from htjax.bounds.networks import pre_activations
from htjax.types import Array

Bounds = dict[str, bounds.Bound]
NORM_BOUNDS = ('neyshabur_2015', 'neyshabur_2017', 'bartlett_2017')


def evaluate(net: Network) -> Bounds:
  """By method; Arora 2018 is missing where a dead layer has no cushion."""
  of, config, sizes = net.norms, net.config, net.input_norms
  shared = {'delta': config.delta, 'constant': config.constant}
  shared['gamma'] = net.gamma
  width = int(of.fan_out.max())
  return {
    **norm_bounds(
      net.margins,
      of._asdict(),
      (width, max(width, int(of.fan_in.max()))),
      (float(jnp.max(sizes)), float(jnp.linalg.norm(sizes))),
      **shared,
    ),
    **_arora(net, shared),
    'ju_2022': _ju(net),
    **_counted(net),
  }


def norm_bounds(
  margins: np.ndarray,
  norms: Mapping[str, Any],
  widths: tuple[Any, int],
  lengths: tuple[float, float],
  **shared: Any,
) -> Bounds:
  """Those of norms alone.

  The widths are Neyshabur's (2017) and Bartlett's, the lengths those of the
  longest input and of all inputs in one vector.
  """
  spectral = {'spectral': norms['spectral']} | shared
  longest = {'frobenius': norms['frobenius'], 'input_norm': lengths[0]}
  together = {'two_one': norms['two_one'], 'data_norm': lengths[1]}
  found = (
    baselines.neyshabur_2015(margins, **longest, **shared),
    baselines.neyshabur_2017(margins, width=widths[0], **longest, **spectral),
    baselines.bartlett_2017(margins, width=widths[1], **together, **spectral),
  )
  return dict(zip(NORM_BOUNDS, found, strict=True))


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
  # Exact for ReLU networks.
  curvatures = baselines.layer_curvatures(
    _loss, list(net.layers), list(net.start), x[:few], y[:few], num_steps=1
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
  budget = budget_of(net, float(jnp.max(net.input_norms)))
  sixtieth = paper.pruning_strength(kept)
  grid = [2 * w / net.config.num_values for w in budget.largest]
  naive = paper.naive_risk(
    net.margins,
    gamma=net.gamma,
    output_error=budget.error(sixtieth, grid),
    nonzeros=[math.ceil(kept * a * b) for a, b in net.shapes],
    shapes=net.shapes,
    num_values=budget.num_values(grid),
    delta=delta,
  )
  sketched = functools.partial(
    budget.sketched_risk,
    net.margins,
    gamma=net.gamma,
    sparsity_failure=net.config.sparsity_failure,
    constant=net.config.constant,
  )
  strength, steps = budget.within(net.gamma)
  return {
    'sketched': sketched(strength=sixtieth, steps=grid),
    'sketched_margin': sketched(strength=strength, steps=steps),
    'naive': naive,
  }


def budget_of(net: Network, input_norm: float) -> paper.Budget:
  """Errors of pruning and rounding on inputs of at most this norm."""
  return paper.Budget(
    net.shapes,
    net.norms.spectral,
    variances=[float(jnp.mean(w**2)) for w in net.layers],
    largest=[float(jnp.max(jnp.abs(w))) for w in net.layers],
    input_norm=input_norm,
    multiplier=net.config.markov_factor * len(net.layers),
  )
