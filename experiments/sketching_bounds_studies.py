"""What `experiments/sketching_bounds.py` measures, cell by cell.

A row of the studies `bounds`, `trace` (one per epoch) and `pruned` (the network
after Algorithm 1) holds a network's errors and, for each method,

  complexity, bound    natural logarithms, without and with the empirical term
  failure, broken      probability; names of the premises that do not hold

`strengths` has a row for each pruning strength, `weights` one for each layer,
`counts` one for each network, `recovery` one for each kind of sketch.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from ml_collections import ConfigDict
from scipy import optimize, stats

from htjax import bounds, data, models, pruning, sketching
from htjax.bounds import (
  baselines,
  cushions,
  gaussian_compression,
  magnitude_sketching,
  networks,
  spectral,
)
from htjax.types import Array

Row = dict[str, Any]

# Edges of the histograms, in standard deviations of the layer.
BINS = np.linspace(-6, 6, 121)

_CHUNK = 5000
_TRAINING, _PRUNING, _PROBES, _SMOOTHNESS = range(4)


class Cell(NamedTuple):
  """A piece of the study that is kept once it is done."""

  name: str
  measure: Callable[[], list[Row]]


class Task(NamedTuple):
  """A data set on the device: inputs [n, d], labels [n]."""

  x: Array
  y: Array
  test_x: Array
  test_y: Array
  num_classes: int


class Net(NamedTuple):
  """Layers [fan_in, fan_out], as trained and as initialised."""

  layers: list[Array]
  start: list[Array]


def cells(config: ConfigDict) -> list[Cell]:
  """Everything that the config asks for, in the order of the tables."""
  plans: list[tuple[str, Callable[..., list[Row]], tuple[Any, ...]]] = [
    (f'network {name} {width}', _network, (name, width))
    for name, width in config.networks
  ]
  plans += [
    (f'trace {name} {width}', _trace, (name, width))
    for name, width in config.traced
  ]
  plans += [
    (f'recovery {p} {j}', _recovery, (p, j))
    for p in config.sides
    for j in config.sparsities
  ]
  return [
    Cell(name, functools.partial(study, config, _key(config, name), *args))
    for name, study, args in plans
  ]


def _key(config, name) -> Array:
  """A key of its own for each cell, whatever else the config asks for."""
  key, letters = jax.random.key(config.seed), name.encode()
  for chunk in (letters[i : i + 4] for i in range(0, len(letters), 4)):
    key = jax.random.fold_in(key, int.from_bytes(chunk, 'little') % 2**31)
  return key


# Training --------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def load_task(name: str) -> Task:
  """A data set, flattened."""
  found = data.load(name, flatten=True)
  arrays = [jnp.asarray(a) for a in (*found.train, *found.test)]
  return Task(arrays[0], arrays[1], arrays[2], arrays[3], found.num_classes)


def train(
  config: ConfigDict, name: str, width: int, epochs: Sequence[int]
) -> Iterator[tuple[int, Net]]:
  """Train with Adam and give the network after each of these epochs.

  The seed fixes initialisation and batches; the last incomplete batch of an
  epoch is left out. A network's arrays are reused for the next one.
  """
  task = load_task(name)
  setting = _setting(
    *(task.x.shape[1], width, task.num_classes, config.hidden_layers),
    *(len(task.y), config.batch_sizes[name], config.learning_rate),
  )
  # Not the cell's key: a trace and a table are of the same network.
  key = _key(config, f'{name} {width}')
  params = setting.init(jax.random.fold_in(key, _TRAINING))
  start = networks.dense_layers(params)
  state = jax.tree.map(jnp.copy, params), setting.optimizer.init(params)
  for epoch in range(1, max(epochs) + 1):
    state = setting.advance(
      state, jax.random.fold_in(key, 1000 + epoch), task.x, task.y
    )
    if epoch in epochs:
      yield epoch, Net(networks.dense_layers(state[0]), start)


class _Setting(NamedTuple):
  """Functions of one architecture and optimizer, compiled once."""

  init: Callable[[Array], Any]
  optimizer: optax.GradientTransformation
  advance: Callable[..., Any]


@functools.lru_cache
def _setting(dim, width, classes, hidden, num_samples, batch_size, rate):
  network = models.fcn(dim, width, classes, hidden_layers=hidden)
  optimizer = optax.adam(rate)
  size = min(batch_size, num_samples)
  steps = num_samples // size

  def loss(params, x, y):
    logits = network.apply(params, x)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    return jnp.mean(losses)

  # One pass over the data in a random order, as one program.
  @functools.partial(jax.jit, donate_argnums=0)
  def advance(state, key, x, y):
    order = jax.random.permutation(key, num_samples)[: steps * size]

    def step(state, batch):
      params, opt_state = state
      gradient = jax.grad(loss)(params, x[batch], y[batch])
      updates, opt_state = optimizer.update(gradient, opt_state, params)
      return (optax.apply_updates(params, updates), opt_state), None

    return lax.scan(step, state, order.reshape(steps, size))[0]

  return _Setting(jax.jit(network.init), optimizer, advance)


@jax.jit
def _apply(layers, x):
  return networks.pre_activations(layers, x)[-1]


def outputs(layers: Sequence[Array], x: Array) -> Array:
  """Outputs [n, k], some thousand inputs at a time."""
  parts = [x[i : i + _CHUNK] for i in range(0, len(x), _CHUNK)]
  return jnp.concatenate([_apply(list(layers), part) for part in parts])


def _error(layers, x, y) -> float:
  return float(jnp.mean(jnp.argmax(outputs(layers, x), axis=1) != y))


# Bounds ----------------------------------------------------------------------


def _network(config, key, name, width) -> list[Row]:
  ((_, net),) = train(config, name, width, [config.epochs])
  common = {'dataset': name, 'width': width, 'epoch': config.epochs}
  rows: list[Row] = [{'study': 'bounds'} | _measured(config, key, name, net)]
  asked = (name, width) in [tuple(pair) for pair in config.pruned]
  if asked and rows[0]['methods']:
    strength = magnitude_sketching.pruning_strength(config.kept)
    pruned = _prune(key, net.layers, strength)
    rows += [
      {'study': 'pruned', 'kept_fraction': float(1 - pruned.ratio)}
      | _measured(config, key, name, net._replace(layers=pruned.params)),
      _counts(config, net.layers, pruned),
      *_weights(net.layers),
      *_strengths(config, key, load_task(name), net.layers),
    ]
  return [common | row for row in rows]


def _trace(config, key, name, width) -> list[Row]:
  return [
    {'study': 'trace', 'dataset': name, 'width': width, 'epoch': epoch}
    | _measured(config, key, name, net)
    for epoch, net in train(config, name, width, config.trace_epochs)
  ]


def _measured(config, key, name, net: Net) -> Row:
  """Errors of a network, and all bounds if it has a margin."""
  task = load_task(name)
  logits = outputs(net.layers, task.x)
  test_error = _error(net.layers, task.test_x, task.test_y)
  train_error = float(jnp.mean(jnp.argmax(logits, axis=1) != task.y))
  row = {
    'status': 'trained',
    'train_error': train_error,
    'test_error': test_error,
    'num_samples': len(task.y),
    'shapes': [w.shape for w in net.layers],
  }
  if not bool(jnp.all(jnp.isfinite(logits))):
    return row | {'status': 'diverged', 'methods': {}}
  margins = np.asarray(bounds.margins(logits, task.y), np.float64)
  if not np.any(margins > 0):
    return row | {'status': 'no margin', 'methods': {}}
  gamma = float(np.quantile(margins[margins > 0], config.margin_quantile))
  measured = spectral.layer_norms(net.layers, net.start)
  methods = _methods(config, key, task, net, measured, logits, margins, gamma)
  return row | {
    'gamma': gamma,
    'norms': {
      name: getattr(measured, name).tolist()
      for name in ('spectral', 'frobenius', 'two_one')
    },
    'methods': {k: _summary(bound) for k, bound in methods.items()},
  }


def _summary(bound: bounds.Bound) -> Row:
  return {
    'complexity': bound.terms['complexity'],
    'bound': bound.log_value,
    'failure': bound.failure,
    'broken': [a.name for a in bound.assumptions if a.holds is False],
  }


def _methods(config, key, task, net, measured, logits, margins, gamma):
  sizes = jnp.linalg.norm(task.x, axis=1)
  input_norm = float(jnp.max(sizes))
  width = int(measured.fan_out.max())
  common = {
    'gamma': gamma,
    'delta': config.delta,
    'constant': config.constant,
  }
  found = {
    'neyshabur_2015': baselines.neyshabur_2015(
      margins, frobenius=measured.frobenius, input_norm=input_norm, **common
    ),
    'neyshabur_2017': baselines.neyshabur_2017(
      margins,
      spectral=measured.spectral,
      frobenius=measured.frobenius,
      width=width,
      input_norm=input_norm,
      **common,
    ),
    'bartlett_2017': baselines.bartlett_2017(
      margins,
      spectral=measured.spectral,
      two_one=measured.two_one,
      width=max(width, int(measured.fan_in.max())),
      data_norm=float(jnp.linalg.norm(sizes)),
      **common,
    ),
  }
  cushions = _cushions(config, key, net.layers, task.x[: config.cushion_inputs])
  # A dead layer has none.
  if all(
    np.all(np.isfinite(cushions[name]) & (np.asarray(cushions[name]) > 0))
    for name in ('cushions', 'interlayer', 'contraction')
  ):
    found['arora_2018'] = baselines.arora_2018(
      margins,
      output_norm=float(jnp.max(jnp.linalg.norm(logits, axis=1))),
      **cushions,
      **common,
    )
  found['ju_2022'] = _ju(config, task, net, logits)
  return found | _counted(config, net.layers, measured, margins, gamma, task)


def _cushions(config, key, layers, x) -> dict[str, Any]:
  probes, noise = (jax.random.fold_in(key, i) for i in (_PROBES, _SMOOTHNESS))
  smoothness = cushions.interlayer_smoothness(
    noise,
    layers,
    x,
    delta=config.delta,
    noise_scale=0.01,
    num_draws=config.smoothness_draws,
  )
  return {
    'cushions': cushions.layer_cushions(layers, x),
    'interlayer': cushions.interlayer_cushions(
      layers, x, key=probes, num_probes=config.cushion_probes
    ).minimal,
    'contraction': float(cushions.activation_contraction(layers, x)),
    'smoothness': float(smoothness),
  }


def _ju(config, task, net, logits) -> bounds.Bound:
  """The loss is bounded by the largest that occurs in training."""
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, task.y)
  few = config.curvature_inputs
  curvatures = baselines.layer_curvatures(
    _loss, net.layers, net.start, task.x[:few], task.y[:few]
  )
  return baselines.ju_2022(
    float(jnp.mean(losses)),
    curvatures=curvatures,
    num_samples=len(task.y),
    loss_bound=float(jnp.max(losses)),
  )


def _loss(layers, x, label):
  logits = networks.pre_activations(layers, x[None])[-1][0]
  return optax.softmax_cross_entropy_with_integer_labels(logits, label)


def _counted(config, layers, measured, margins, gamma, task):
  """The paper's bounds at 1/60 kept, and at what the margin allows."""
  shapes = [w.shape for w in layers]
  sizes = jnp.linalg.norm(task.x, axis=1)
  code = _Code(config, layers, measured.spectral, float(jnp.max(sizes)))
  sixtieth = magnitude_sketching.pruning_strength(config.kept)
  grid = [2 * w / config.num_values for w in code.largest]
  found = {}
  for name, (strength, steps) in (
    ('sketched', (sixtieth, grid)),
    ('sketched_margin', code.within(gamma)),
  ):
    kept = _kept(strength)
    found[name] = magnitude_sketching.sketched_risk(
      margins,
      gamma=gamma,
      output_error=code.error(strength, steps),
      shapes=shapes,
      kept=kept,
      num_values=code.num_values(steps),
      factors=np.array(
        [_factor(s, kept, config.sparsity_failure) for s in shapes]
      ),
      constant=config.constant,
    )
  found['naive'] = magnitude_sketching.naive_risk(
    margins,
    gamma=gamma,
    output_error=code.error(sixtieth, grid),
    nonzeros=[math.ceil(config.kept * a * b) for a, b in shapes],
    shapes=shapes,
    num_values=code.num_values(grid),
    delta=config.delta,
  )
  return found


def _kept(strength) -> float:
  """The kept fraction; it may round to 1, which the bounds do not take."""
  return min(magnitude_sketching.kept_probability(strength), 1 - 2**-53)


class _Code:
  """How far pruning and rounding move the outputs of a network: Lemma 4.2."""

  def __init__(self, config, layers, spectral, input_norm):
    self.shapes = [w.shape for w in layers]
    self.largest = [float(jnp.max(jnp.abs(w))) for w in layers]
    self.variances = [float(jnp.mean(w**2)) for w in layers]
    self.spectral, self.input_norm = spectral, input_norm
    self.multiplier = config.markov_factor * len(layers)

  def error(self, strength, steps=None) -> bounds.Bound:
    """Of pruning at a strength, and rounding each layer to a grid if given."""
    rounding = steps and [
      magnitude_sketching.rounding_error(step, nonzeros)
      for step, nonzeros in zip(steps, self.nonzeros(strength), strict=True)
    ]
    return magnitude_sketching.pruned_output_error(
      self.spectral,
      np.array(
        [
          magnitude_sketching.pruning_error(
            s, variance=v, strength=strength
          ).value
          for s, v in zip(self.shapes, self.variances, strict=True)
        ]
      ),
      input_norm=self.input_norm,
      multipliers=self.multiplier,
      rounding=np.array(rounding or 0.0),
    )

  def nonzeros(self, strength) -> list[int]:
    return [
      math.ceil(magnitude_sketching.expected_nonzeros(s, kept=_kept(strength)))
      for s in self.shapes
    ]

  def num_values(self, steps) -> list[int]:
    return [
      max(2, magnitude_sketching.num_grid_values(w, step))
      for w, step in zip(self.largest, steps, strict=True)
    ]

  def within(self, gamma: float) -> tuple[float, list[float]]:
    """Strength and grids that the margin pays for, half and half.

    The error of pruning grows with the strength, so that the largest one is
    where it meets its half; each layer takes an equal part of the other.
    """
    # A hair less, or rounding decides whether it is enough.
    half = math.log(gamma / (2 * math.sqrt(2))) - 1e-9

    def excess(log_strength):
      return self.error(math.exp(log_strength)).log_value - half

    low, high = -200.0, 10.0
    strength = math.exp(
      high if excess(high) <= 0 else optimize.brentq(excess, low, high)
    )
    # The lemma's error is this much times the sum of the relative changes.
    front = math.log(math.e * self.input_norm) + np.sum(np.log(self.spectral))
    share = math.exp(half - front) / len(self.shapes)
    steps = [
      2 * share * top / math.sqrt(nonzeros)
      for top, nonzeros in zip(
        self.spectral, self.nonzeros(strength), strict=True
      )
    ]
    return strength, steps


def _factor(shape, kept, failure) -> float:
  """Least lambda (in steps of 1.1) that fails with at most this probability."""
  factor = 1.0
  while (
    magnitude_sketching.distributed_sparsity(
      shape, kept=kept, factor=factor
    ).failure
    > failure
  ):
    factor *= 1.1
  return factor


# Pruning ---------------------------------------------------------------------


def _prune(key, layers, strength) -> pruning.Pruned:
  return pruning.randomized_magnitude(
    jax.random.fold_in(key, _PRUNING), list(layers), strength
  )


def _counts(config, layers, pruned) -> Row:
  """Nats of the three counts on the pruned network as it is."""
  sizes = [w.size for w in layers]
  nonzeros = [int(jnp.sum(m)) for m in pruned.mask]
  values = config.num_values
  measured = []
  for mask in pruned.mask:
    j_r, j_c = (int(j) for j in sketching.distributed_sparsity(mask))
    measured.append(sketching.sketch_dimension(j_r, j_c, mask.shape) ** 2)
  formula = magnitude_sketching.count_lengths_nats(
    [w.shape for w in layers], kept=config.kept, num_values=values
  )
  return {
    'study': 'counts',
    'nonzeros': sum(nonzeros),
    'entries': sum(sizes),
    'naive': gaussian_compression.code_length_nats(nonzeros, sizes, values),
    'sketch': formula['sketch'],
    'sketch_measured': sum(measured) * math.log(values),
    'dense': formula['dense'],
  }


def _weights(layers) -> list[Row]:
  """Histograms in standard deviations, and the excess kurtosis."""
  rows = []
  for i, w in enumerate(layers):
    scaled = np.asarray(w, np.float64).ravel()
    deviation = scaled.std()
    scaled = (scaled - scaled.mean()) / deviation
    counts, _ = np.histogram(scaled, BINS)
    rows.append(
      {
        'study': 'weights',
        'layer': i + 1,
        'deviation': float(deviation),
        'kurtosis': float(np.mean(scaled**4) - 3),
        'density': (counts / scaled.size / np.diff(BINS)).tolist(),
      }
    )
  return rows


def _strengths(config, key, task, layers) -> list[Row]:
  """Algorithm 1 at each strength: what it does, and what the lemmas say."""
  few = task.x[: config.output_inputs]
  before = outputs(layers, few)
  input_norm = float(jnp.max(jnp.linalg.norm(few, axis=1)))
  tops = spectral.layer_norms(layers).spectral
  rows = []
  for strength in config.strengths:
    pruned = _prune(key, layers, strength)
    change = jnp.linalg.norm(outputs(pruned.params, few) - before, axis=1)
    variances = [float(jnp.mean(w**2)) for w in layers]
    gammas = [
      magnitude_sketching.pruning_error(
        w.shape, variance=v, strength=strength
      ).value
      for w, v in zip(layers, variances, strict=True)
    ]
    moved = [
      float(spectral.spectral_norm(a - b).value)
      for a, b in zip(pruned.params, layers, strict=True)
    ]
    rows.append(
      {
        'study': 'strengths',
        'strength': strength,
        'kept_expected': magnitude_sketching.kept_probability(strength),
        'kept_fraction': float(1 - pruned.ratio),
        'test_error': _error(pruned.params, task.test_x, task.test_y),
        'change_max': float(jnp.max(change)),
        'change_mean': float(jnp.mean(change)),
        'norm_ratio': max(m / g for m, g in zip(moved, gammas, strict=True)),
      }
      | {
        f'bound_{name}': _named(
          magnitude_sketching.pruned_output_error(
            tops,
            np.array(changes),
            input_norm=input_norm,
            multipliers=times,
          )
        )
        for name, changes, times in (
          ('markov', gammas, config.markov_factor * len(layers)),
          ('mean', gammas, 1.0),
          ('measured', moved, None),
        )
      }
      | _sparsity(
        config, pruned.mask, magnitude_sketching.kept_probability(strength)
      )
    )
  return rows


def _named(bound: bounds.Bound) -> Row:
  small = [a for a in bound.assumptions if a.name != 'confidence']
  return {
    'log': bound.log_value,
    'failure': bound.failure,
    'premise': all(a.holds is not False for a in small),
  }


def _sparsity(config, masks, kept) -> Row:
  """Most nonzeros in a row or column: measured, Lemma 5.1, and the law's."""
  measured, claimed, quantile = [], [], []
  for mask in masks:
    d1, d2 = mask.shape
    measured.append(max(map(int, sketching.distributed_sparsity(mask))))
    claimed.append(
      magnitude_sketching.distributed_sparsity(
        (d1, d2), kept=kept, factor=1.0
      ).value
    )
    # The union bound over rows and columns, at the confidence of the config.
    share = config.delta / (d1 + d2)
    quantile.append(
      1 + max(int(stats.binom.isf(share, d - 1, kept)) for d in (d1, d2))
    )
  return {
    'most_nonzeros': measured,
    'most_claimed': claimed,
    'most_quantile': quantile,
  }


# Recovery --------------------------------------------------------------------


def _recovery(config, key, p, j) -> list[Row]:
  """How often X comes back from A X B^T, for sketches of many sizes."""
  theorem = sketching.sketch_dimension(j, j, (p, p))
  rows = []
  for i, fraction in enumerate(config.fractions):
    m = round(fraction * p)
    for delta in (d for d in config.ones if d <= m):
      keys = jax.random.split(
        jax.random.fold_in(jax.random.fold_in(key, i), delta), config.draws
      )
      errors, found = recover_many(
        *draw_many(keys, p=p, j=j, m=m, delta=delta),
        max_iterations=config.max_iterations,
        # Batched products are slower on a CPU.
        at_once=1 if jax.default_backend() == 'cpu' else config.draws,
      )
      rows.append(
        {
          'study': 'recovery',
          'p': p,
          'j': j,
          'm': m,
          'ones': delta,
          'draws': config.draws,
          'recovered': int(jnp.sum(errors < 1e-3)),
          'converged': int(jnp.sum(found.converged)),
          'iterations': float(jnp.median(found.num_iterations)),
          'theorem': theorem,
        }
      )
  return rows


@functools.partial(jax.jit, static_argnames=('p', 'j', 'm', 'delta'))
def draw_many(
  keys: Array, *, p: int, j: int, m: int, delta: int
) -> tuple[Array, Array, Array]:
  """X [n, p, p] with j nonzeros a row, and A and B [n, m, p] to sketch it."""

  def one(key):
    values, places, left, right = jax.random.split(key, 4)
    a, b = (sketching.bipartite_ensemble(k, m, p, delta) for k in (left, right))
    return sparse_matrix(values, places, p, j), a, b

  return jax.vmap(one)(keys)


# Apart from the draws: its one program for each p and m takes seconds to make.
@functools.partial(jax.jit, static_argnames=('max_iterations', 'at_once'))
def recover_many(
  x: Array, a: Array, b: Array, *, max_iterations: int, at_once: int
) -> tuple[Array, sketching.Recovery]:
  """Sketch and recover matrices.

  Returns:
    (errors, found): the largest error of an entry over the largest entry, [n];
    the recoveries.
  """

  def one(triple):
    x, a, b = triple
    found = sketching.recover(
      sketching.sketch(x, a, b), a, b, max_iterations=max_iterations
    )
    return jnp.max(jnp.abs(found.x - x)) / jnp.max(jnp.abs(x)), found

  return lax.map(one, (x, a, b), batch_size=at_once)


def sparse_matrix(values: Array, places: Array, p: int, j: int) -> Array:
  """A full diagonal and j - 1 permutations, with normal entries."""
  mask = jnp.eye(p, dtype=bool)
  for key in jax.random.split(places, j - 1) if j > 1 else ():
    mask |= jnp.eye(p, dtype=bool)[jax.random.permutation(key, p)]
  return jnp.where(mask, jax.random.normal(values, (p, p)), 0.0)
