"""Table 2 by the protocol of the program behind it.

Dense layers with biases, initialised as in PyTorch, pixels in [-1, 1], SGD with
a weight decay in the gradient, until the smallest margin of the training set is
positive: until every example is right, and the loss is below what the config
asks. Norms leave the biases out.
"""

import functools
import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from experiments.common.cells import Report, Row, publish, train_lanes
from experiments.common.frames import Column, columns, table
from experiments.sketching_bounds import numbers
from experiments.sketching_bounds.networks import Task, load_task
from htjax import bounds, pruning, training
from htjax.bounds import magnitude_sketching as paper
from htjax.io import records
from htjax.types import Array, PRNGKey, PyTree


def run(config: ConfigDict, workdir: str | Path) -> list[Row]:
  """Train a network of each seed, if it is not there; returns all rows."""
  task = load_task(config.dataset)
  # Back to pixels, from black at -1 to white at 1.
  low, high = float(task.x.min()), float(task.x.max())
  task = task._replace(
    **{
      name: 2 * (getattr(task, name) - low) / (high - low) - 1
      for name in ('x', 'test_x')
    }
  )
  per_epoch = math.ceil(len(task.y) / config.batch_size)
  program = training.make_program(
    lambda key: _init(key, _sizes(task, config)),
    apply,
    training.Recipe(
      config.learning_rate,
      config.batch_size,
      kind=None,
      eval_every=per_epoch * config.epochs_between,
      target_accuracy=1.0,
      target_loss=config.target_loss or None,
      max_steps=per_epoch * config.epochs,
    ),
    optimizer=lambda lane: optax.chain(
      optax.add_decayed_weights(config.weight_decay),
      optax.sgd(config.learning_rate),
    ),
  )
  lanes = [training.Lane(s, alpha=2.0, sigma=0.0) for s in config.seeds]

  def measure(lane: training.Finished) -> Row:
    epochs = lane.steps / per_epoch
    return {'epochs': epochs, 'status': lane.status} | measured(
      config, task, lane.params
    )

  with records.open_run(workdir, config.to_dict()) as opened:
    rows = train_lanes(
      opened,
      program,
      lanes,
      training.Examples(task.x, task.y),
      measure,
      config,
    )
  publish(Report([table(*_TABLE, rows, beneath=_printed)], {}), Path(workdir))
  return rows


def apply(params: PyTree, x: Array) -> Array:
  """Logits [n, k] of x [n, d]; params are pairs of kernel and bias."""
  *hidden, (kernel, bias) = params
  for w, b in hidden:
    x = jax.nn.relu(x @ w + b[None])
  return x @ kernel + bias[None]


def measured(config: ConfigDict, task: Task, params: PyTree) -> Row:
  """Norms, margin, strength, errors and bounds (ln) of a network; a row."""
  logits = apply(params, task.x)
  gamma = float(np.min(np.asarray(bounds.margins(logits, task.y), np.float64)))
  layers = [np.asarray(w, np.float64) for w, _ in params]
  norms = {
    'spectral': [float(np.linalg.norm(w, 2)) for w in layers],
    'frobenius': [float(np.linalg.norm(w)) for w in layers],
  }
  shapes = [w.shape for w in layers]
  gains = [
    paper.narrowing_gain(fan_in=a, fan_out=b, num_inputs=len(task.y))
    for a, b in shapes
  ]
  key = training.named_key(config.seeds[0], 'pruning')

  def pruned(strength: float) -> list[np.ndarray]:
    found = pruning.randomized_magnitude(key, [w for w, _ in params], strength)
    return [np.asarray(w, np.float64) for w in found.params]

  def needed(strength: float) -> float:
    changes = np.array(
      [
        np.linalg.norm(a - b, 2)
        for a, b in zip(layers, pruned(strength), strict=True)
      ]
    )
    longest = float(jnp.max(jnp.linalg.norm(task.x, axis=1)))
    error = paper.pruned_output_error(
      np.array(norms['spectral']),
      changes,
      input_norm=longest,
      multipliers=None,
      gains=np.array(gains),
    )
    return error.value

  strength = paper.affordable_strength(needed, gamma=gamma)
  kept = pruned(strength) if strength else layers
  biases = [b for _, b in params]
  test = apply(list(zip(kept, biases, strict=True)), task.test_x)
  row = {
    'dataset': config.dataset,
    'width': config.width,
    'num_samples': len(task.y),
    'shapes': shapes,
    'norms': norms,
    'gamma': gamma,
    'strength': strength,
    'train_error': float(jnp.mean(logits.argmax(1) != task.y)),
    'test_error': float(jnp.mean(test.argmax(1) != task.test_y)),
  }
  if gamma > 0:
    row |= numbers.squares(row)
  if row['test_error'] > 0:
    row[numbers.TRUE] = math.log(row['test_error'])
  return row | {'reading': numbers.reading(row)}


def _sizes(task: Task, config: ConfigDict) -> list[int]:
  hidden = [config.width] * config.hidden_layers
  return [task.x.shape[1], *hidden, task.num_classes]


def _init(key: PRNGKey, sizes: list[int]) -> PyTree:
  """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), of kernels and biases."""
  keys = iter(jax.random.split(key, 2 * len(sizes)))

  def drawn(shape: tuple[int, ...], fan_in: int) -> Array:
    limit = fan_in**-0.5
    return jax.random.uniform(next(keys), shape, minval=-limit, maxval=limit)

  return [
    (drawn((a, b), a), drawn((b,), a)) for a, b in itertools.pairwise(sizes)
  ]


def _entry(name: str, row: Row) -> float | None:
  return row.get(name)


def _printed(row: Row) -> dict[str, str]:
  found = numbers.printed(row)
  values = {numbers.LABELS[name]: f'{v:.2f}' for name, v in found.items()}
  return {'data': 'published', **values} if values else {}


_TABLE = (
  "by the protocol of the paper's program, natural logarithms",
  [
    *columns(
      'data=dataset; width; lane; epochs:.0f; status; train '
      'error=train_error:.5f; margin=gamma:.3f; d=strength:.3f'
    ),
    *(
      Column(numbers.LABELS[name], functools.partial(_entry, name), '.2f')
      for name in (*numbers.NORM_BOUNDS, 'reading', numbers.TRUE)
    ),
  ],
)
