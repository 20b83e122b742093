"""Bounds from the rest of a training set, of which the first part made a prior.

Whatever is tried on the rest was settled before, or is in `config.tried`.
"""

import functools
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from experiments.certificates import prior
from experiments.common.cells import Cell, Report, Row, cell, run_cells
from experiments.common.frames import columns, group, spread, table
from htjax import bounds, data
from htjax.bounds import certificates, codes
from htjax.types import Array

_CHUNK = 2000


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Train on the first part, certify in each way; returns the rows."""
  runs = [(s, False) for s in range(config.num_seeds)] + [(0, True)]
  cells: list[Cell] = [
    cell({'seed': s, 'random': r}, rows_of, config, Path(workdir), s, r)
    for s, r in runs
  ]
  return run_cells(config, workdir, cells, report)


def rows_of(
  config: ConfigDict, workdir: Path, seed: int, random: bool
) -> list[Row]:
  """Every bound of one network."""
  parts = prior.load_parts(config, random)
  name = f'network_{"random" if random else seed}.npz'
  params = prior.train(config, parts.first, seed, workdir / name)
  features = jax.jit(functools.partial(prior.hidden, params))
  first, rest, test = (
    data.Split(_in_chunks(features, p.inputs), p.labels) for p in parts
  )
  # On a grid, so that steps from it are exact.
  old = np.asarray(jnp.round(prior.head(params) * 2**12) / 2**12)
  both = data.Split(
    *(np.concatenate(pair) for pair in zip(first, rest, strict=True))
  )
  own = np.arange(len(both.labels)) < len(first.labels)
  new = _fit(config, both, np.ones(len(own)) / len(own), old)
  tried = math.log(config.tried)
  n, delta = len(rest.labels), config.delta

  def errors(weights: np.ndarray, split: data.Split = rest) -> int:
    return int(np.sum(_margins(weights, split) <= 0))

  def row(method: str, bound: Any, weights: np.ndarray, **more: Any) -> Row:
    on_test = errors(weights, test)
    limit = certificates.certificate(on_test, len(test.labels), 0, delta)
    return {
      'seed': seed,
      'random': random,
      'method': method,
      'n': n,
      'rest_error': errors(weights) / n,
      'test_error': on_test / len(test.labels),
      'test_bound': limit.value,
      'bound': float(bound),
    } | more

  certified = functools.partial(
    certificates.certificate, n=n, delta=delta, log_settings=tried
  )
  rows = [row('test set', certified(errors(old), bits=0), old)]
  for moved in config.moved:
    near = old + _steps(new - old, moved)
    bits = codes.encode_difference([near], [old]).num_bits
    bound = certified(errors(near), bits=bits)
    rows.append(row(f'{moved} steps', bound, near, bits=bits))
  picked = certificates.pick_to_learn(
    lambda model, k: _fit_picked(config, both, own, k, old, model),
    lambda model: _margins(model, rest),
    at_once=config.at_once,
    max_rounds=config.max_rounds,
  )
  bound = certificates.compression_certificate(
    picked.size, n, delta, log_settings=tried
  )
  more = {'picked': len(picked.indices), 'size': picked.size}
  rows.append(row('picks', bound, picked.model, **more))
  for law, tail in config.laws:
    noise = _noise(config, rest, seed, law, tail)
    for centre, weights in (('first', old), ('all', new)):
      found = _gibbs(config, rest, noise, law, tail, old, weights)
      name = f'{law}{"" if tail is None else f" {tail:g}"}, {centre}'
      rows.append(row(name, found.pop('bound'), weights, **found))
  return rows


def _in_chunks(function: Any, inputs: np.ndarray) -> np.ndarray:
  starts = range(0, len(inputs), _CHUNK)
  return np.concatenate([function(inputs[i : i + _CHUNK]) for i in starts])


def _margins(weights: np.ndarray, split: data.Split) -> np.ndarray:
  return np.asarray(bounds.margins(split.inputs @ weights, split.labels))


def _fit(
  config: ConfigDict, split: data.Split, shares: np.ndarray, start: np.ndarray
) -> np.ndarray:
  """A last layer that Adam moves on by so many steps on all examples."""
  weights = jnp.asarray(start)
  state = optax.adam(config.head_rate).init(weights)
  for _ in range(config.head_steps):
    weights, state = _head_step(
      config.head_rate, split, np.float32(shares), weights, state
    )
  return np.asarray(weights)


@functools.partial(jax.jit, static_argnums=0)
def _head_step(
  rate: float, split: data.Split, shares: Array, weights: Array, state: Any
) -> tuple[Array, Any]:
  def loss(weights: Array) -> Array:
    losses = optax.softmax_cross_entropy_with_integer_labels(
      jnp.asarray(split.inputs) @ weights, jnp.asarray(split.labels)
    )
    return jnp.sum(shares * losses)

  updates, state = optax.adam(rate).update(jax.grad(loss)(weights), state)
  return jnp.asarray(optax.apply_updates(weights, updates)), state


def _fit_picked(
  config: ConfigDict,
  both: data.Split,
  own: np.ndarray,
  picked: np.ndarray,
  old: np.ndarray,
  model: np.ndarray | None,
) -> np.ndarray:
  """On the first part and the picked examples, these with more weight."""
  if model is None:
    return old
  shares = own / np.sum(own)
  shares[np.sum(own) + picked] = config.weight_of_picked / np.sum(own)
  return _fit(config, both, shares, model)


def _steps(difference: np.ndarray, count: int) -> np.ndarray:
  """The largest entries, all by one step up or down."""
  sizes = np.abs(difference)
  kept = sizes >= np.sort(sizes, axis=None)[-count]
  step = codes.to_grid(np.float32(sizes[kept].mean()), 0)
  return np.asarray(kept * np.sign(difference) * step, np.float32)


def _noise(
  config: ConfigDict, rest: data.Split, seed: int, law: str, tail: Any
) -> list[np.ndarray]:
  """Of unit scale, on the outputs, several draws for each example."""
  keys = jax.random.split(jax.random.key(seed), config.repeats)
  layer = rest.inputs, config.num_classes, law, tail
  return [np.asarray(certificates.linear_noise(key, *layer)) for key in keys]


def _gibbs(
  config: ConfigDict,
  rest: data.Split,
  noise: list[np.ndarray],
  law: str,
  tail: float | None,
  old: np.ndarray,
  weights: np.ndarray,
) -> Row:
  """The best scale of the list, each paid for, and what it comes from."""
  outputs, found = rest.inputs @ weights, []
  # Scales are in units of the first part's weights.
  unit = float(np.sqrt(np.mean(old**2)))
  for scale in config.scales:
    wrong = sum(
      int(np.sum(np.asarray(bounds.margins(o, rest.labels)) <= 0))
      for o in (outputs + scale * unit * own for own in noise)
    )
    nats = certificates.shift_divergence(
      (weights - old) / (scale * unit), law, tail
    )
    draws, count = len(noise) * len(rest.labels), len(config.scales)
    bound = certificates.gibbs_certificate(
      *(wrong, draws, len(rest.labels), nats, 0.8 * config.delta),
      draws_delta=0.2 * config.delta / count,
      log_settings=math.log(config.tried * count),
    )
    found.append(
      {
        'bound': bound.value,
        'scale': scale,
        'gibbs_error': wrong / draws,
        'divergence_nats': nats,
      }
    )
  return min(found, key=lambda one: one['bound'])


def report(config: ConfigDict, rows: list[Row]) -> Report:
  """Mean and deviation over seeds of each bound; random labels beside."""
  del config
  names = ['rest_error', 'test_error', 'test_bound', 'bound']
  shown = columns('random; method; n')
  shown += [spread(name, name, unit=100) for name in names]
  groups = group(rows, 'random', 'method').values()
  return Report([table('', shown, groups)], {})
