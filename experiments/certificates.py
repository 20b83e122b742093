"""A certificate for MNIST: a bound on the risk of a network, far below chance.

A small convolutional network on a fixed bank of oriented derivatives is trained
(with heavy-tailed noise or without), pruned by magnitude, its weights are tied
to a few values, and the whole is written as a string of bits that a fixed
program decodes. The bound counts these bits and the errors of the decoded
network on all training images. Three studies: how the bound moves with the
number of kept weights, with the tail index of the noise at equal size, and
what the same pipeline certifies for random labels (nothing).

  python -m experiments.certificates \
    --config=experiments/configs/certificates.py:cpu --workdir=runs/certificates

Run it again and it goes on with the rows that are missing.
"""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from ml_collections import ConfigDict
from tqdm import tqdm

from experiments import certificates_reports, program
from htjax import data, noise, pruning, records
from htjax.bounds import certificates, codes
from htjax.types import Array, PRNGKey

STAGES = ('dense', 'prune', 'quantise')
# The bank: derivatives of a Gaussian of unit width, cut at three pixels.
_RADIUS = 3


class Lane(NamedTuple):
  """One network to be trained.

  Attributes:
    study: 'main', 'size', 'alpha' or 'random'.
    alpha: tail index of the noise, None without noise.
    sigma: its scale.
    kappa: kept fraction of the weights.
    seed: of initial weights, batches, noise and random labels.
    epochs: of each of `STAGES`.
  """

  study: str
  alpha: float | None
  sigma: float
  kappa: float
  seed: int
  epochs: tuple[int, int, int]

  @property
  def name(self) -> str:
    alpha = 'none' if self.alpha is None else f'{self.alpha:g}'
    return f'{self.study}_alpha{alpha}_kappa{self.kappa:g}_seed{self.seed}'


class Design(NamedTuple):
  """What the decoder reads in front of a network, and builds it from.

  Attributes:
    orientations: derivatives in the bank; a Gaussian comes with them.
    cell: side of the squares over which the bank's outputs are averaged.
    channels: filters of the convolution.
    size: side of a filter.
    pool: side of the squares over which the maximum is taken.
  """

  orientations: int
  cell: int
  channels: int
  size: int
  pool: int

  def shapes(self, side: int) -> list[tuple[int, ...]]:
    """Shapes of the two layers for pictures of side x side pixels."""
    outputs = (side // self.cell // self.pool) ** 2 * self.channels
    inputs = self.orientations + 1
    return [(self.size, self.size, inputs, self.channels), (outputs, 10)]


class Images(NamedTuple):
  """Pixels in [0, 1], float32 [n, side, side], and labels, int32 [n]."""

  pixels: np.ndarray
  labels: np.ndarray


def run(config: ConfigDict, workdir: str | Path) -> list[dict[str, Any]]:
  """Train, encode, certify and report; returns the rows of results.json."""
  train, test = load_images(config)
  lanes = make_lanes(config)
  with records.open_run(workdir, config.to_dict()) as output:
    rows = {row['lane']: row for row in output.read_results()}
    train_lane = make_trainer(config, train)
    bar = tqdm([lane for lane in lanes if lane.name not in rows], unit='lane')
    for lane in bar:
      bar.set_postfix_str(lane.name)
      code = train_lane(lane)
      rows[lane.name] = make_row(config, lane, code, train, test)
      output.write_results([rows[x.name] for x in lanes if x.name in rows])
    ordered = [rows[lane.name] for lane in lanes]
    print(certificates_reports.write(ordered, Path(workdir)))
  return ordered


def load_images(config: ConfigDict) -> tuple[Images, Images]:
  """Training and test pictures as pixels between 0 and 1.

  The standardisation of `data.load` is undone, so that no number that was
  computed from the data enters: black and white both occur, which gives back
  the integers.
  """
  dataset = data.load(config.dataset)
  black, white = dataset.train.inputs.min(), dataset.train.inputs.max()

  def undo(split: data.Split) -> Images:
    levels = (split.inputs - black) / (white - black) * config.levels
    side = math.isqrt(math.prod(levels.shape[1:]))
    pixels = (np.rint(levels) / config.levels).astype(np.float32)
    return Images(pixels.reshape(-1, side, side), split.labels)

  return undo(dataset.train), undo(dataset.test)


def make_lanes(config: ConfigDict) -> list[Lane]:
  """The main network, then the studies."""
  main = Lane('main', None, 0.0, config.kappa, 0, tuple(config.epochs))
  short = main._replace(epochs=tuple(config.study_epochs))
  lanes = [main, short._replace(study='random')]
  for seed in range(1, config.num_seeds + 1):
    clean = short._replace(study='alpha', seed=seed)
    noisy = clean._replace(sigma=config.sigma)
    lanes += [clean, *(noisy._replace(alpha=a) for a in config.alphas)]
  lanes += [short._replace(study='size', kappa=k) for k in config.kappas]
  return lanes


def make_row(
  config: ConfigDict,
  lane: Lane,
  code: codes.Code,
  train: Images,
  test: Images,
) -> dict[str, Any]:
  """One row of results.json: what the codeword alone is good for."""
  train, test = (relabel(x, lane, i) for i, x in enumerate((train, test)))
  errors, kept = evaluate(code.bits, train)
  num_train = len(train.labels)
  # The codeword names all that was chosen within this family of networks; the
  # other families that were tried are counted here.
  bound = certificates.certificate(
    errors,
    num_train,
    code.num_bits,
    config.delta,
    log_settings=math.log(config.families),
  )
  return {
    'lane': lane.name,
    **lane._asdict(),
    'kept': kept,
    'bits': code.num_bits,
    'header_bits': code.header_bits,
    'position_bits': code.position_bits,
    'value_bits': code.value_bits,
    'train_errors': errors,
    'train_error': errors / num_train,
    'test_error': evaluate(code.bits, test)[0] / len(test.labels),
    'num_train': num_train,
    'delta': config.delta,
    **{form: bound.details[form] for form in certificates.FORMS},
    'bound': bound.value,
    'code': np.packbits(code.bits).tobytes().hex(),
  }


def relabel(images: Images, lane: Lane, split: int) -> Images:
  """Uniform labels in place of the true ones, if the lane is about them."""
  if lane.study != 'random':
    return images
  generator = np.random.default_rng((lane.seed, split))
  labels = generator.integers(10, size=len(images.labels), dtype=np.int32)
  return images._replace(labels=labels)


def evaluate(bits: np.ndarray, images: Images) -> tuple[int, int]:
  """Decode a network and count its errors: the program that is certified.

  Args:
    bits: beginning with a codeword.
    images: that it is to classify.

  Returns:
    Number of errors, and of weights that are not zero.
  """
  side = images.pixels.shape[1]
  decoded = codes.decode(bits, lambda settings: Design(*settings).shapes(side))
  design = Design(*decoded.settings)
  layers = [jnp.asarray(w) for w in decoded.layers]
  inputs = features(design, images.pixels)
  errors = 0
  for i in range(0, len(inputs), 2000):
    logits = _logits(design, layers, inputs[i : i + 2000])
    wrong = np.argmax(logits, axis=1) != images.labels[i : i + 2000]
    errors += int(np.sum(wrong))
  return errors, sum(int(np.count_nonzero(w)) for w in decoded.layers)


def features(design: Design, pixels: np.ndarray) -> Array:
  """The bank's rectified outputs, averaged over cells; nothing is learnt.

  Args:
    design: its `orientations` and `cell` count.
    pixels: [n, side, side].

  Returns:
    float32 [n, side / cell, side / cell, orientations + 1].
  """
  bank = jnp.asarray(_bank(design.orientations))
  parts = [
    _rectified(bank, pixels[i : i + 2000], design.cell)
    for i in range(0, len(pixels), 2000)
  ]
  return jnp.concatenate(parts)


def _bank(orientations: int) -> np.ndarray:
  """[7, 7, 1, orientations + 1], absolute values that sum to one."""
  offsets = np.arange(-_RADIUS, _RADIUS + 1)
  v, u = np.meshgrid(offsets, offsets, indexing='ij')
  gaussian = np.exp(-(u**2 + v**2) / 2)
  angles = 2 * np.pi * np.arange(orientations) / orientations
  filters = [(u * np.cos(a) + v * np.sin(a)) * gaussian for a in angles]
  stacked = np.stack([*filters, gaussian], axis=-1)[:, :, None]
  return (stacked / np.abs(stacked).sum((0, 1))).astype(np.float32)


@functools.partial(jax.jit, static_argnums=2)
def _rectified(bank: Array, pixels: Array, cell: int) -> Array:
  outputs = lax.conv_general_dilated(
    jnp.asarray(pixels)[..., None],
    bank,
    (1, 1),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  n, side, _, c = outputs.shape
  cells = side // cell
  outputs = jax.nn.relu(outputs)[:, : cells * cell, : cells * cell]
  return 4 * outputs.reshape(n, cells, cell, cells, cell, c).mean((2, 4))


def apply(design: Design, layers: Sequence[Array], inputs: Array) -> Array:
  """Convolution, maximum over squares, linear layer; no biases.

  The convolution is a product of matrices with the batch on the last axis,
  which is several times faster than `lax.conv` on a CPU for so few channels.
  """
  size, pool = design.size, design.pool
  x = jnp.transpose(inputs, (3, 1, 2, 0))
  c, side, _, n = x.shape
  q = side // pool
  # What does not fill a square is not looked at.
  used = q * pool
  edge = (size - 1) // 2, size // 2
  x = jnp.pad(x, ((0, 0), edge, edge, (0, 0)))
  shifts = [
    x[:, i : i + used, j : j + used] for i in range(size) for j in range(size)
  ]
  kernel = layers[0].reshape(size * size, c, -1)
  x = jax.nn.relu(jnp.einsum('kchwb,kco->ohwb', jnp.stack(shifts), kernel))
  x = x.reshape(-1, q, pool, q, pool, n)
  return x.max((2, 4)).reshape(-1, n).T @ layers[1]


_logits = jax.jit(apply, static_argnums=0)


# Training ------------------------------------------------------------------


class State(NamedTuple):
  """What training moves.

  Attributes:
    layers: weights, those that are masked zero.
    books: for each layer the values that its weights will take.
    masks: booleans of the layers' shapes.
    optimizer: optax state of layers and books.
    step: number of updates made.
  """

  layers: list[Array]
  books: list[Array]
  masks: list[Array]
  optimizer: Any
  step: Array


class Knobs(NamedTuple):
  """Numbers of a lane that one compiled program takes; steps are updates."""

  alpha: Array
  sigma: Array
  kappa: Array
  prune_start: Array
  prune_steps: Array
  total_steps: Array


def make_trainer(
  config: ConfigDict, train: Images
) -> Callable[[Lane], codes.Code]:
  """A function that trains, prunes and quantises a network, to a codeword."""
  design = Design(*(config[name] for name in Design._fields))
  inputs = features(design, train.pixels)
  epoch = jax.jit(
    functools.partial(_epoch, config, design), static_argnames='stage'
  )
  steps = len(train.labels) // config.batch_size

  def train_lane(lane: Lane) -> codes.Code:
    labels = jnp.asarray(relabel(train, lane, 0).labels)
    shuffles = jax.random.fold_in(jax.random.key(lane.seed), 1)
    dense, prune, _ = lane.epochs
    numbers = (
      *(2.0 if lane.alpha is None else lane.alpha, lane.sigma, lane.kappa),
      *(dense * steps, prune * steps, sum(lane.epochs) * steps),
    )
    knobs = Knobs(*(jnp.float32(x) for x in numbers))
    state = _start(config, design, inputs.shape, lane, knobs)
    done = 0
    for stage, count in zip(STAGES, lane.epochs, strict=True):
      if stage == 'quantise':
        state = state._replace(books=_fit_books(config, state))
      for _ in range(count):
        key = jax.random.fold_in(shuffles, done)
        state = epoch(state, knobs, key, inputs, labels, stage=stage)
        done += 1
    layers = [_tied(config, *x) for x in zip(*state[:3], strict=True)]
    return codes.encode(layers, design, mantissa_bits=config.mantissa_bits)

  return train_lane


def _start(
  config: ConfigDict,
  design: Design,
  inputs: tuple[int, ...],
  lane: Lane,
  knobs: Knobs,
) -> State:
  """He's initial weights, and nothing pruned."""
  key = jax.random.fold_in(jax.random.key(lane.seed), 0)
  shapes = design.shapes(design.cell * inputs[1])
  layers = [
    jax.random.normal(jax.random.fold_in(key, i), shape)
    * math.sqrt(2 / math.prod(shape[:-1]))
    for i, shape in enumerate(shapes)
  ]
  books = [jnp.zeros(config.num_values) for _ in layers]
  masks = [jnp.ones(shape, bool) for shape in shapes]
  noise_key = jax.random.fold_in(jax.random.key(lane.seed), 2)
  optimizer = _optimizer(config, knobs, knobs.sigma, noise_key)
  moments = optimizer.init((layers, books))
  return State(layers, books, masks, moments, jnp.int32(0))


def _optimizer(
  config: ConfigDict, knobs: Knobs, sigma: Array, key: int | PRNGKey
) -> optax.GradientTransformation:
  """Adam, the step rising at first and falling to zero; then the noise."""

  def step_size(count):
    rise = jnp.minimum((count + 1) / config.warmup_steps, 1)
    fall = jnp.cos(jnp.pi * count / knobs.total_steps)
    return config.learning_rate * rise * (1 + fall) / 2

  return optax.chain(
    optax.scale_by_adam(),
    optax.scale_by_learning_rate(step_size),
    noise.add_stable_noise(
      step_size, knobs.alpha, sigma, key=key, kind=config.kind
    ),
  )


def _epoch(
  config: ConfigDict,
  design: Design,
  state: State,
  knobs: Knobs,
  key: PRNGKey,
  inputs: Array,
  labels: Array,
  *,
  stage: str,
) -> State:
  """One pass over the pictures in a new order."""
  size = config.batch_size
  order = jax.random.permutation(key, len(labels))
  order = order[: len(labels) // size * size].reshape(-1, size)
  sigma = knobs.sigma if stage == 'dense' else jnp.zeros_like(knobs.sigma)
  # The key of the noise is the one in the state.
  optimizer = _optimizer(config, knobs, sigma, key=0)

  def loss(trained, masks, batch):
    layers, books = trained
    if stage == 'quantise':
      layers = [
        _tied(config, *x) for x in zip(layers, books, masks, strict=True)
      ]
    logits = apply(design, layers, inputs[batch])
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, labels[batch]
    ).mean()

  def update(state, batch):
    masks = state.masks
    if stage == 'prune':
      kappa = _kept_fraction(state.step, knobs)
      due = state.step % config.prune_every == 0
      masks = lax.cond(
        due, lambda: _prune(state.layers, kappa), lambda: state.masks
      )
    trained = state.layers, state.books
    gradients = jax.grad(loss)(trained, masks, batch)
    updates, moments = optimizer.update(gradients, state.optimizer, trained)
    layers, books = optax.apply_updates(trained, updates)
    layers = [w * m for w, m in zip(layers, masks, strict=True)]
    return State(layers, books, masks, moments, state.step + 1), None

  return lax.scan(update, state, order)[0]


def _kept_fraction(step: Array, knobs: Knobs) -> Array:
  """From 1 to kappa in four fifths of the stage (Zhu & Gupta 2017)."""
  part = 1.25 * (step - knobs.prune_start) / knobs.prune_steps
  return knobs.kappa + (1 - knobs.kappa) * (1 - jnp.minimum(part, 1)) ** 3


def _prune(layers: list[Array], kappa: Array) -> list[Array]:
  return pruning.magnitude(layers, kappa, scope='global').mask


def _tied(config: ConfigDict, layer: Array, book: Array, mask: Array) -> Array:
  """Each kept weight at the nearest value; gradients pass straight through."""
  on_grid = codes.to_grid(lax.stop_gradient(book), config.mantissa_bits)
  values = book - lax.stop_gradient(book) + on_grid
  distances = layer[..., None] - values.reshape((1,) * layer.ndim + (-1,))
  nearest = values[jnp.argmin(jnp.abs(distances), axis=-1)]
  return jnp.where(mask, layer - lax.stop_gradient(layer) + nearest, 0)


def _fit_books(config: ConfigDict, state: State) -> list[Array]:
  """Values by k-means from the kept weights; a value too many is repeated."""
  books = []
  for layer, mask in zip(state.layers, state.masks, strict=True):
    kept = np.asarray(layer)[np.asarray(mask)]
    book = codes.fit_codebook(kept, config.num_values)
    spare = config.num_values - len(book)
    books.append(jnp.asarray(np.pad(book, (0, spare), mode='edge')))
  return books


if __name__ == '__main__':
  program.main(run)
