"""Work and transfers of a step on 1, 2, 4 and 8 devices, counted, not timed.

  XLA_FLAGS=--xla_force_host_platform_device_count=8 \\
    python -m experiments.benchmarks.scaling

Each step is compiled for a mesh, its size growing with the devices, and the
compiled program is read: what one device computes and holds, and what it sends.
A step scales as long as these columns stay as they are.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from htjax import mean_field, models, training
from htjax.training import engine, layout

_TRANSFERS = (
  'all-reduce',
  'all-gather',
  'all-to-all',
  'collective-permute',
  'reduce-scatter',
)
_COLUMNS = (
  'step',
  'devices',
  'MFLOP',
  'MB held',
  'MB beside',
  'transfers, entries',
)


def transfers(text: str) -> list[tuple[str, int]]:
  """(kind, number of entries) of each transfer of a compiled program."""
  found = []
  for kind in _TRANSFERS:
    for shapes in re.findall(rf'= (.*?) {kind}(?:-start)?\(', text):
      sizes = re.findall(r'[a-z]+[0-9]+\[([0-9,]*)\]', shapes)
      entries = sum(
        math.prod(map(int, filter(None, s.split(',')))) for s in sizes
      )
      found.append((kind, entries))
  return sorted(found)


def particle_step(kind: str, num: int, per_device: int, p: int = 10) -> Any:
  """A compiled step of so many particles on each device."""
  rng = np.random.default_rng(0)
  problem = mean_field.Problem(
    lambda theta, x: jnp.tanh(theta @ x),
    lambda f, y: (f - y) ** 2,
    rng.normal(size=(32, p)).astype(np.float32),
    np.ones(32, np.float32),
  )
  mesh = Mesh(np.array(jax.devices()[:num]), ('n',))
  rows = NamedSharding(mesh, PartitionSpec('n'))
  step = jax.jit(
    lambda key, x: mean_field.euler_step(
      key, problem, x, alpha=1.8, sigma=0.1, step_size=0.1, kind=kind
    ),
    donate_argnums=1,
  )
  shape = (num * per_device, p)
  start = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=rows)
  return step.lower(jax.random.key(0), start).compile()


def network_step(
  kind: str | None, axes: dict[str, int], width: int, batch: int
) -> Any:
  """A compiled training step of a network with 5 hidden layers."""
  network = models.fcn(64, width, 10, hidden_layers=5)
  recipe = training.Recipe(learning_rate=0.1, batch_size=batch, kind=kind)
  program = training.make_program(network.init, network.apply, recipe)
  devices = np.array(jax.devices()[: math.prod(axes.values())])
  mesh = Mesh(devices.reshape(tuple(axes.values())), tuple(axes))
  place = layout.layout_of(mesh, None, False, None)
  data = training.Examples(
    np.zeros((2 * batch, 64), np.float32), np.zeros(2 * batch, int)
  )
  made = engine.Engine(program, data, batched=False, layout=place)
  return made.compiled_step(training.Lane(0, 1.8, 0.01))


def rows(small: bool = False) -> Iterator[list[str]]:
  """A row for each step and number of devices."""
  n, width, batch = (2**10, 256, 16) if small else (2**17, 2048, 128)
  counts = [k for k in (1, 2, 4, 8) if k <= jax.device_count()]
  for kind in ('type1', 'type2'):
    for k in counts:
      yield _row(f'particles, {kind}', k, particle_step(kind, k, n))
  for k in counts:
    step = network_step('type1', {'data': k}, width, k * batch)
    yield _row('network, over data', k, step)
  for k in counts:
    step = network_step('type1', {'model': k}, width, batch)
    yield _row('one network, over model', k, step)


def _row(name: str, num: int, step: Any) -> list[str]:
  memory, sent = step.memory_analysis(), transfers(step.as_text())
  kinds = sorted({kind for kind, _ in sent})
  words = [
    f'{sum(k == kind for k, _ in sent)} {kind}, '
    f'{sum(n for k, n in sent if k == kind):,}'
    for kind in kinds
  ]
  return [
    name,
    str(num),
    f'{step.cost_analysis()["flops"] / 1e6:.1f}',
    f'{memory.argument_size_in_bytes / 1e6:.2f}',
    f'{memory.temp_size_in_bytes / 1e6:.2f}',
    '; '.join(words) or 'none',
  ]


def main(argv: list[str]) -> None:
  """Print the table."""
  del argv
  print(' | '.join(_COLUMNS))
  for row in rows():
    print(' | '.join(row))


if __name__ == '__main__':
  app.run(main)
