"""One network, or a batch of them, over a mesh of devices."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from experiments.benchmarks.scaling import particle_step, transfers
from htjax import models, training
from htjax.training import engine, layout


def make_program(width=256, depth=2, kind='type1', num_inputs=8, **changes):
  network = models.fcn(num_inputs, width, 3, hidden_layers=depth)
  recipe = training.Recipe(
    learning_rate=0.1,
    batch_size=16,
    kind=kind,
    eval_every=5,
    eval_batch=20,
    target_accuracy=1.0,
    target_loss=1e-9,
    max_steps=11,
  )._replace(**changes)
  return training.make_program(network.init, network.apply, recipe)


def make_data(num=40, num_inputs=8):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(num, num_inputs)).astype(np.float32)
  return training.Examples(x, rng.integers(0, 3, num).astype(np.int32))


def run(program, mesh, at_once, **options):
  lanes = [training.Lane(seed, 1.8, 0.01) for seed in range(at_once)]
  return list(
    training.train(
      program, lanes, make_data(), at_once=at_once, mesh=mesh, **options
    )
  )


@pytest.mark.parametrize(
  ('axes', 'at_once'),
  [
    ({'lanes': 2, 'data': 2, 'model': 2}, 4),
    ({'data': 2, 'model': 4}, 1),
  ],
)
def test_any_mesh_gives_the_numbers_of_one_device(axes, at_once):
  program = make_program()
  mesh = jax.make_mesh(tuple(axes.values()), tuple(axes))
  found = run(program, mesh, at_once)
  # A batch of lanes on one device, whose products are summed otherwise.
  alone = run(program, None, at_once, devices=jax.devices()[:1])
  for a, b in zip(found, alone, strict=True):
    assert (a.steps, a.status) == (b.steps, b.status) == (11, 'out of steps')
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
      a.params,
      b.params,
    )
  if at_once == 1:
    kernels = [w for w in jax.tree.leaves(found[0].params) if w.size >= 2**14]
    assert kernels
    for kernel in kernels:
      assert kernel.addressable_shards[0].data.size == kernel.size // 4


def compiled_step(program, axes, num_inputs=8):
  """The program of one step for a device of the mesh."""
  names, sizes = tuple(axes), tuple(axes.values())
  mesh = jax.make_mesh(sizes, names, devices=jax.devices()[: np.prod(sizes)])
  place = layout.layout_of(mesh, None, False, None)
  data = make_data(num_inputs=num_inputs)
  made = engine.Engine(program, data, batched=False, layout=place)
  return made.compiled_step(training.Lane(0, 1.8, 0.01))


@functools.cache
def transfers_of_a_step(kind, axis):
  step = compiled_step(make_program(kind=kind), {axis: 8})
  return transfers(step.as_text())


@pytest.mark.parametrize('kind', ['type1', 'type2', 'type3'])
@pytest.mark.parametrize('axis', ['data', 'model'])
def test_noise_is_drawn_where_the_weights_lie(axis, kind):
  noisy, clean = (transfers_of_a_step(k, axis) for k in (kind, None))
  assert clean
  assert noisy == clean
  if axis == 'data':
    # Sums of gradients, and nothing else.
    assert {kind for kind, _ in clean} == {'all-reduce'}


def test_particles_meet_in_one_sum():
  # 2^15 a device: several blocks, each of which is on all devices.
  steps = [particle_step('type3', num, 2**15) for num in (1, 8)]
  assert transfers(steps[1].as_text()) == [('all-reduce', 32)]
  one, eight = (s.memory_analysis().temp_size_in_bytes for s in steps)
  assert eight <= 1.05 * one
  flops = [s.cost_analysis()['flops'] for s in steps]
  assert flops[1] <= 1.05 * flops[0]


def test_a_wide_network_takes_a_share_of_the_memory():
  program = make_program(width=2048, depth=5, num_inputs=64)
  whole, split = (
    compiled_step(program, {'model': num}, 64).memory_analysis()
    for num in (1, 8)
  )
  for name in ('argument_size_in_bytes', 'temp_size_in_bytes'):
    assert getattr(split, name) < getattr(whole, name) / 4, name


def test_the_last_axis_that_goes_evenly_is_split():
  assert layout.by_units((128, 256), 8) == PartitionSpec(None, 'model')
  assert layout.by_units((128, 257), 8) == PartitionSpec('model')
  assert layout.by_units((129, 257), 8) == PartitionSpec()
  assert layout.by_units((16,), 8) == PartitionSpec()


def test_bad_meshes():
  program = make_program()
  mesh = jax.make_mesh((8,), ('devices',))
  with pytest.raises(ValueError, match='mesh must have axes of'):
    run(program, mesh, 1)
  data = jax.make_mesh((8,), ('data',))
  with pytest.raises(
    ValueError, match='batch_size must be a multiple of the 8'
  ):
    run(make_program(batch_size=12), data, 1)
  with pytest.raises(ValueError, match='devices must not be given'):
    run(program, data, 1, devices=jax.devices())
