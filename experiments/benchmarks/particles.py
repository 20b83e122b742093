"""Steps of the particle system: against matrix products, and as it grows."""

import functools
import json
import math
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.benchmarks.timing import (
  Disagreement,
  Measurement,
  cold_environment,
  in_process,
  interleave,
  run_command,
)
from htjax import mean_field, stable

_SETTINGS = {'alpha': 1.8, 'sigma': 0.5, 'step_size': 0.1}


def problem(num_data: int, dim: int) -> mean_field.Problem:
  """tanh units on Gaussian data."""
  generator = np.random.default_rng(0)
  return mean_field.Problem(
    lambda theta, x: jnp.tanh(theta @ x),
    lambda f, y: jnp.logaddexp(f - y, y - f),
    jnp.asarray(generator.normal(size=(num_data, dim)), jnp.float32),
    jnp.asarray(generator.normal(size=num_data), jnp.float32),
  )


def particle_step(kind: str, small: bool, repeats: int) -> Measurement:
  """An Euler step of n = 10^6 particles against its two matrix products.

  The baseline makes [n, p] [p, m] and [n, m] [m, p], a block of particles after
  another so that what lies between stays in the cache, and keeps the first from
  being fused away: what the drift needs at the least, no tanh and no noise.
  """
  n, dim, num_data = (1000 if small else 10**6), 10, 64
  data = problem(num_data, dim)
  theta = jax.random.normal(jax.random.key(0), (n, dim))

  def of_block(block):
    inner = lax.optimization_barrier(block @ data.inputs.T)
    return inner @ data.inputs

  @jax.jit
  def products(theta):
    blocks = theta.reshape(-1, 1000, dim)
    return lax.map(of_block, blocks).reshape(theta.shape)

  @jax.jit
  def step(key, theta, sigma):
    return mean_field.euler_step(
      key, data, theta, kind=kind, **(_SETTINGS | {'sigma': sigma})
    )

  _check_step(data, theta, step)
  keys = jax.random.split(jax.random.key(1), repeats + 1)
  return interleave(
    in_process(products, lambda i: (theta,)),
    in_process(step, lambda i: (keys[i], theta, 0.5)),
    repeats,
  )._replace(
    note='the products alone have neither tanh nor noise',
    details=_parts(data, theta, kind, repeats),
  )


def _parts(data, theta, kind, repeats) -> dict[str, float]:
  """Least CPU seconds of parts of a step, and of steps by hand, each alone.

  `one_tanh` is the baseline with a tanh between its products, more than which
  no step can leave out; but the drift is known after the last particle only.
  `by_hand` makes first product and tanh twice, `kept` keeps the outputs; both
  are without noise, in the blocks of the baseline.
  """
  size = theta.size if kind == 'type2' else len(theta)
  alpha = jnp.float32(_SETTINGS['alpha'])
  keys = jax.random.split(jax.random.key(2), repeats + 1)
  calls: dict[str, tuple[Any, Any]] = {
    'mean_output': (functools.partial(mean_field.predict, data), theta),
    'one_tanh': (functools.partial(_one_tanh, data), theta),
    'by_hand': (functools.partial(_by_hand, data), theta),
    'kept': (functools.partial(_by_hand, data, keep=True), theta),
    'draws': (lambda key: stable.sample(key, alpha, (size,)), None),
  }
  found = {}
  for name, (call, given) in calls.items():
    arguments = keys if given is None else [given] * len(keys)
    turn = in_process(jax.jit(call), functools.partial(_nth, arguments))
    found[f'{name}_cpu'] = min(turn(i).cpu for i in range(repeats + 1))
  return found


def _nth(arguments, i):
  return (arguments[i],)


def _one_tanh(data, theta):
  x = data.inputs
  blocks = theta.reshape(-1, 1000, theta.shape[1])
  return lax.map(lambda b: jnp.tanh(b @ x.T) @ x, blocks).reshape(theta.shape)


def _by_hand(data, theta, keep=False):
  """A step without noise, written for this problem alone."""
  x, eta = data.inputs, _SETTINGS['step_size']
  blocks = theta.reshape(-1, 1000, theta.shape[1])

  def add(total, block):
    h = jnp.tanh(block @ x.T)
    return total + h.sum(axis=0), h if keep else None

  total, kept = lax.scan(add, jnp.zeros(len(x)), blocks)
  slopes = jnp.tanh(total / len(theta) - data.targets) / len(x)

  def moved(block, h=None):
    h = jnp.tanh(block @ x.T) if h is None else h
    return block - eta * (((1 - h * h) * slopes[None]) @ x)

  given = (blocks, kept) if keep else (blocks,)
  return lax.map(lambda own: moved(*own), given).reshape(theta.shape)


def _check_step(data, theta, step) -> None:
  """The step without noise, on some particles, by its formula in float64."""
  h = np.tanh(np.asarray(theta, np.float64) @ np.asarray(data.inputs).T)
  slopes = np.tanh(h.mean(axis=0) - np.asarray(data.targets)) / h.shape[1]
  b = -((1 - h[:100] ** 2) * slopes) @ np.asarray(data.inputs)
  expected = np.asarray(theta[:100]) + _SETTINGS['step_size'] * b
  for found in (step(jax.random.key(0), theta, 0.0), _by_hand(data, theta)):
    if not np.allclose(found[:100], expected, rtol=1e-4, atol=1e-5):
      raise Disagreement('a step is not that of its formula')


def scaling(small: bool) -> list[dict[str, Any]]:
  """Slopes of log time against log size: n, p, m, steps and lanes.

  Each size is timed in turn with the others; what a call costs however little
  it does is taken off by measuring where the work outweighs it.
  """
  unit = 100 if small else 25_000
  base = {'n': 4 * unit, 'p': 8, 'm': 32, 'steps': 4, 'lanes': 2}
  factors = (1, 2) if small else (1, 2, 4, 8)
  return [_slope(axis, base, factors, 1 if small else 5) for axis in base]


def _slope(axis, base, factors, repeats) -> dict[str, Any]:
  calls = [_lanes(**(base | {axis: base[axis] * f})) for f in factors]
  for call in calls:
    jax.block_until_ready(call())
  least = [math.inf] * len(calls)
  for _ in range(repeats):
    for i, call in enumerate(calls):
      start = time.perf_counter()
      jax.block_until_ready(call())
      least[i] = min(least[i], time.perf_counter() - start)
  sizes = [base[axis] * f for f in factors]
  return {
    'axis': axis,
    'sizes': sizes,
    'seconds': least,
    'slope': float(np.polyfit(np.log(sizes), np.log(least), 1)[0]),
  }


def _lanes(n, p, m, steps, lanes):
  data = problem(m, p)
  theta = jax.random.normal(jax.random.key(0), (n, p))

  @jax.jit
  def run(keys, alphas):
    def lane(key, alpha):
      settings = _SETTINGS | {'alpha': alpha}
      path = mean_field.simulate(
        key, data, theta, num_steps=steps, kind='type2', **settings
      )
      return path.particles[-1].mean()

    return lax.map(lambda args: lane(*args), (keys, alphas))

  keys = jax.random.split(jax.random.key(1), lanes)
  return functools.partial(run, keys, jnp.linspace(1.3, 1.9, lanes))


_MEMORY = """
import json, resource, time
import jax
from experiments.benchmarks import particles
from htjax import mean_field
n, dim, steps = {n}, 10, 3
data = particles.problem(64, dim)
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
theta = jax.random.normal(jax.random.key(0), (n, dim))
start = time.perf_counter()
path = mean_field.simulate(jax.random.key(1), data, theta, num_steps=steps,
                           kind='type2', **particles._SETTINGS)
jax.block_until_ready(path.particles)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({{'n': n, 'steps': steps, 'seconds': seconds,
                  'state_gib': n * dim * 4 / 2**30,
                  'outputs_gib': n * 64 * 4 / 2**30,
                  'peak_gib': (peak - base) / 2**20}}))
"""


def memory(small: bool) -> dict[str, Any]:
  """Peak memory of 10^7 particles, p = 10, 64 data, in a process of its own."""
  script = _MEMORY.format(n=10**4 if small else 10**7)
  _, printed = run_command([sys.executable, '-c', script], cold_environment())
  return json.loads(printed.splitlines()[-1])
