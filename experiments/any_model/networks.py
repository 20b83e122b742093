"""Nine models as their users write them, with what half of them should cost.

Each is made by `make(key)`; `variables` are all its arrays, statistics among
them, and `apply(variables, x)` is the model at inference.
"""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from flax.training import train_state

from htjax import pruning, resnets, units
from htjax.io import weights


class Model(NamedTuple):
  """A model, however it is written.

  Attributes:
    variables: its arrays.
    apply: `apply(variables, x)`, logits [batch, classes] at inference, at the
      sizes that the arrays have.
    units: what a unit is in each leaf.
    start: `start(tx, variables)`, what training carries along.
    step: `step(carried, x, y)`, the same after one step.
    end: `end(carried)`, the variables.
    by_hand: (floats, multiply-adds of one example) once half of the hidden
      units are gone, counted on paper.
  """

  variables: Any
  apply: Callable[..., Any]
  units: units.Units
  start: Callable[..., Any]
  step: Callable[..., Any]
  end: Callable[..., Any]
  by_hand: tuple[int, int]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Mean cross-entropy of integer labels."""
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return losses.mean()


# Flax NNX -------------------------------------------------------------------


class CNN(nnx.Module):
  """Convolutions with BatchNorm and dropout, a dense layer, for 8 x 8."""

  def __init__(self, rngs: nnx.Rngs):
    self.conv1 = nnx.Conv(1, 16, (3, 3), rngs=rngs)
    self.norm1 = nnx.BatchNorm(16, rngs=rngs)
    self.conv2 = nnx.Conv(16, 32, (3, 3), rngs=rngs)
    self.norm2 = nnx.BatchNorm(32, rngs=rngs)
    self.drop = nnx.Dropout(0.2, rngs=rngs)
    self.hidden = nnx.Linear(32 * 2 * 2, 64, rngs=rngs)
    self.output = nnx.Linear(64, 10, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    x = nnx.max_pool(nnx.relu(self.norm1(self.conv1(x))), (2, 2), (2, 2))
    x = nnx.max_pool(nnx.relu(self.norm2(self.conv2(x))), (2, 2), (2, 2))
    x = self.drop(x.reshape(x.shape[0], -1))
    return self.output(self.drop(nnx.relu(self.hidden(x))))


class MNIST(nnx.Module):
  """The network of Flax's MNIST tutorial."""

  def __init__(self, rngs: nnx.Rngs):
    self.conv1 = nnx.Conv(1, 32, kernel_size=(3, 3), rngs=rngs)
    self.conv2 = nnx.Conv(32, 64, kernel_size=(3, 3), rngs=rngs)
    self.linear1 = nnx.Linear(3136, 256, rngs=rngs)
    self.linear2 = nnx.Linear(256, 10, rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    x = nnx.avg_pool(nnx.relu(self.conv1(x)), (2, 2), strides=(2, 2))
    x = nnx.avg_pool(nnx.relu(self.conv2(x)), (2, 2), strides=(2, 2))
    x = x.reshape(x.shape[0], -1)
    return self.linear2(nnx.relu(self.linear1(x)))


class Transformer(nnx.Module):
  """Pixels of 17 values as tokens: embedding, attention, LayerNorm."""

  def __init__(self, rngs: nnx.Rngs):
    self.embed = nnx.Embed(17, 32, rngs=rngs)
    self.place = nnx.Param(0.02 * jax.random.normal(rngs.params(), (64, 32)))
    self.norm1 = nnx.LayerNorm(32, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(4, 32, decode=False, rngs=rngs)
    self.norm2 = nnx.LayerNorm(32, rngs=rngs)
    self.up = nnx.Linear(32, 64, rngs=rngs)
    self.down = nnx.Linear(64, 32, rngs=rngs)
    self.norm3 = nnx.LayerNorm(32, rngs=rngs)
    self.output = nnx.Linear(32, 10, rngs=rngs)

  def __call__(self, tokens: jax.Array) -> jax.Array:
    x = self.embed(tokens) + self.place[...]
    x = x + self.attention(self.norm1(x))
    x = x + self.down(nnx.gelu(self.up(self.norm2(x))))
    return self.output(self.norm3(x).mean(axis=1))


def _nnx(module: Any, by_hand: tuple[int, int]) -> Model:
  module.eval()
  apply, variables = pruning.nnx_apply(module)
  describe = units.infer(module)

  def start(tx: Any, variables: Any) -> Any:
    ours = nnx.clone(module)
    nnx.update(ours, variables)
    ours.train()
    return ours, nnx.Optimizer(ours, tx, wrt=nnx.Param)

  @nnx.jit
  def update(ours: Any, optimizer: Any, x: Any, y: Any) -> None:
    gradient = nnx.grad(lambda m: cross_entropy(m(x), y))(ours)
    optimizer.update(ours, gradient)

  def step(carried: Any, x: Any, y: Any) -> Any:
    ours, optimizer = carried
    update(ours, optimizer, x, y)
    return carried

  def end(carried: Any) -> Any:
    return pruning.nnx_apply(carried[0])[1]

  return Model(variables, apply, describe, start, step, end, by_hand)


# Flax Linen -----------------------------------------------------------------


class LinenCNN(nn.Module):
  """Convolutions, BatchNorm and dense layers, for 8 x 8."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = nn.relu(nn.Conv(16, (3, 3))(x))
    x = nn.avg_pool(x, (2, 2), strides=(2, 2))
    x = nn.Conv(32, (3, 3))(x)
    x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
    x = nn.avg_pool(x, (2, 2), strides=(2, 2))
    x = nn.relu(nn.Dense(64)(x.reshape(x.shape[0], -1)))
    return nn.Dense(10)(x)


class _Block(nn.Module):
  @nn.compact
  def __call__(self, x: jax.Array, _: Any) -> tuple[jax.Array, None]:
    h = nn.relu(nn.Dense(64)(nn.LayerNorm()(x)))
    return x + nn.Dense(32)(h), None


class Scanned(nn.Module):
  """Four residual blocks whose parameters `nn.scan` stacks, for 64 pixels."""

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    blocks = nn.scan(
      _Block, variable_axes={'params': 0}, split_rngs={'params': True}, length=4
    )
    x = nn.Dense(32)(x.reshape(x.shape[0], -1))
    return nn.Dense(10)(nn.LayerNorm()(blocks()(x, None)[0]))


class _State(train_state.TrainState):
  rest: Any


def _linen(
  module: Any, key: jax.Array, x: jax.Array, by_hand: tuple[int, int]
) -> Model:
  variables = module.init(key, x)

  def start(tx: Any, variables: Any) -> Any:
    rest = {k: v for k, v in variables.items() if k != 'params'}
    return _State.create(
      apply_fn=pruning.linen_apply(module, train=True, mutable=['batch_stats']),
      params=variables['params'],
      tx=tx,
      rest=rest,
    )

  @jax.jit
  def step(state: Any, x: Any, y: Any) -> Any:
    def loss(params: Any) -> Any:
      logits, rest = state.apply_fn({'params': params, **state.rest}, x)
      return cross_entropy(logits, y), rest

    gradient, rest = jax.grad(loss, has_aux=True)(state.params)
    return state.apply_gradients(grads=gradient).replace(rest=rest)

  def end(state: Any) -> Any:
    return {'params': state.params, **state.rest}

  apply = pruning.linen_apply(module)
  describe = units.infer(module, x)
  return Model(variables, apply, describe, start, step, end, by_hand)


# Pytrees and Equinox --------------------------------------------------------


def _pytree(variables: Any, apply: Any, describe: Any, by_hand: Any) -> Model:
  def start(tx: Any, variables: Any) -> Any:
    return tx, variables, tx.init(variables)

  @functools.partial(jax.jit, static_argnums=0)
  def update(tx: Any, variables: Any, state: Any, x: Any, y: Any) -> Any:
    loss = lambda v: cross_entropy(apply(v, x), y)  # noqa: E731
    updates, state = tx.update(jax.grad(loss)(variables), state, variables)
    return optax.apply_updates(variables, updates), state

  def step(carried: Any, x: Any, y: Any) -> Any:
    tx, variables, state = carried
    return tx, *update(tx, variables, state, x, y)

  def end(carried: Any) -> Any:
    return carried[1]

  return Model(variables, apply, describe, start, step, end, by_hand)


def experts(key: jax.Array) -> Model:
  """Four experts of 32 units, of which a gate takes two, for 64 pixels."""
  keys = jax.random.split(key, 5)
  normal = lambda key, *s: jax.random.normal(key, s) * (2 / s[-2]) ** 0.5  # noqa: E731
  variables = {
    'input': {'kernel': normal(keys[0], 64, 32), 'bias': jnp.zeros(32)},
    'gate': {'kernel': 0.1 * normal(keys[1], 32, 4)},
    'experts': {
      'up': normal(keys[2], 4, 32, 32),
      'up_bias': jnp.zeros((4, 32)),
      'down': normal(keys[3], 4, 32, 32),
    },
    'output': {'kernel': normal(keys[4], 32, 10), 'bias': jnp.zeros(10)},
  }

  def apply(p: Any, x: jax.Array) -> jax.Array:
    x = x.reshape(x.shape[0], -1) @ p['input']['kernel']
    x = x + p['input']['bias'][None]
    scores, chosen = jax.lax.top_k(x @ p['gate']['kernel'], 2)
    mixing = jax.nn.softmax(scores)
    e = p['experts']
    h = jnp.einsum('bi,bkio->bko', x, e['up'][chosen]) + e['up_bias'][chosen]
    h = jnp.einsum('bko,bkoc->bkc', jax.nn.relu(h), e['down'][chosen])
    x = jax.nn.relu(x + jnp.einsum('bk,bkc->bc', mixing, h))
    return x @ p['output']['kernel'] + p['output']['bias'][None]

  # The sum x + h ties the experts' outputs to the input layer's units.
  floats = 65 * 16 + 16 * 4 + 4 * (16 * 16 + 16 + 16 * 16) + 17 * 10
  products = 64 * 16 + 16 * 4 + 2 * (16 * 16 + 16 * 16 + 16) + 16 * 10
  given = {
    'experts.up_bias': units.Leaf('bias'),
  }
  return _pytree(
    variables,
    apply,
    units.infer(variables, given=given),
    (floats, products),
  )


def _equinox(model: Any, call: Any, by_hand: tuple[int, int]) -> Model:
  import equinox as eqx

  variables, static = eqx.partition(model, eqx.is_array)

  def apply(variables: Any, x: jax.Array) -> jax.Array:
    return jax.vmap(lambda x: call(eqx.combine(variables, static), x))(x)

  return _pytree(variables, apply, units.infer(model), by_hand)


def equinox_mlp(key: jax.Array) -> Model:
  """Equinox's MLP with two hidden layers, for 64 pixels."""
  import equinox as eqx

  model = eqx.nn.MLP(64, 10, 128, 2, key=key)
  floats = 65 * 64 + 65 * 64 + 65 * 10
  products = 64 * 64 + 64 * 64 + 64 * 10
  call = lambda model, x: model(x.ravel())  # noqa: E731
  return _equinox(model, call, (floats, products))


def equinox_cnn(key: jax.Array) -> Model:
  """Equinox's convolutions, channels first, for 8 x 8."""
  import equinox as eqx

  keys = jax.random.split(key, 3)
  model = eqx.nn.Sequential(
    [
      eqx.nn.Conv2d(1, 16, 3, key=keys[0]),
      eqx.nn.Lambda(jax.nn.relu),
      eqx.nn.Conv2d(16, 32, 3, key=keys[1]),
      eqx.nn.Lambda(jax.nn.relu),
      eqx.nn.MaxPool2d(2, 2),
      eqx.nn.Lambda(jnp.ravel),
      eqx.nn.Linear(32 * 4, 10, key=keys[2]),
    ]
  )
  floats = 10 * 8 + (9 * 8 + 1) * 16 + (16 * 4 + 1) * 10
  products = 36 * 9 * 8 + 16 * 9 * 8 * 16 + 64 * 10
  call = lambda model, x: model(jnp.moveaxis(x, -1, 0))  # noqa: E731
  return _equinox(model, call, (floats, products))


def trained(momentum: float = 0.99) -> resnets.ResNet:
  """The module ResNet-20 with the weights in HTJAX_PRETRAINED.

  Args:
    momentum: of the statistics of its BatchNorm, in training.
  """
  folder = pathlib.Path(os.environ['HTJAX_PRETRAINED'])
  (path,) = folder.glob('resnet20-*.npz')
  _, params = resnets.from_torch(weights.load(path, nested=False))
  module = resnets.ResNet(20, rngs=nnx.Rngs(0))
  state = nnx.state(module, nnx.Any(nnx.Param, nnx.BatchStat))
  nnx.replace_by_pure_dict(state, params)
  nnx.update(module, state)
  for _, layer in nnx.iter_graph(module):
    if isinstance(layer, nnx.BatchNorm):
      layer.momentum = momentum
  return module


def resnet20() -> Model:
  """ResNet-20 for CIFAR-10 with its trained weights, trained on."""
  # Inner channels of the blocks alone: shortcuts pad the others.
  floats = products = 0
  for i in range(9):
    n, fed = 16 * 2 ** (i // 3), 16 * 2 ** (max(i - 1, 0) // 3)
    pixels = (32 // 2 ** (i // 3)) ** 2
    floats += 9 * (fed + n) * n // 2 + 4 * (n // 2 + n)
    products += pixels * 9 * (fed + n) * n // 2
  floats += 27 * 16 + 4 * 16 + 65 * 10
  products += 1024 * 27 * 16 + 64 * 10
  return _nnx(trained(0.9), (floats, products))


def make(name: str, key: jax.Array) -> Model:
  """A model by its name in `NAMES`, drawn from a key."""
  x = jnp.zeros((1, 8, 8, 1))
  rngs = nnx.Rngs(key)
  if name == 'nnx_cnn':
    floats = (9 + 1 + 4) * 8 + (72 + 1 + 4) * 16 + 65 * 32 + 33 * 10
    products = 64 * 9 * 8 + 16 * 72 * 16 + 64 * 32 + 32 * 10
    return _nnx(CNN(rngs), (floats, products))
  if name == 'flax_mnist':
    floats = 10 * 16 + 145 * 32 + 1569 * 128 + 129 * 10
    products = 784 * 9 * 16 + 196 * 144 * 32 + 1568 * 128 + 128 * 10
    return _nnx(MNIST(rngs), (floats, products))
  if name == 'nnx_transformer':
    # Half of the heads, half of the hidden units; the rest is tied by sums.
    attention = 3 * 33 * 16 + 16 * 32 + 32
    hidden = 33 * 32 + 32 * 32 + 32
    floats = (17 + 64) * 32 + 3 * 64 + attention + hidden + 33 * 10
    per_token = 4 * 32 * 16 + 2 * 64 * 16 + 2 * 32 * 32
    return _nnx(Transformer(rngs), (floats, 64 * per_token + 32 * 10))
  if name == 'linen_train_state':
    floats = 10 * 8 + (72 + 1 + 4) * 16 + 65 * 32 + 33 * 10
    products = 64 * 9 * 8 + 16 * 72 * 16 + 64 * 32 + 32 * 10
    return _linen(LinenCNN(), key, x, (floats, products))
  if name == 'linen_scanned':
    floats = 65 * 32 + 4 * (64 + 33 * 32 + 32 * 32 + 32) + 64 + 33 * 10
    products = 64 * 32 + 4 * 2 * 32 * 32 + 32 * 10
    return _linen(Scanned(), key, x, (floats, products))
  return {
    'experts': lambda: experts(key),
    'equinox_mlp': lambda: equinox_mlp(key),
    'equinox_cnn': lambda: equinox_cnn(key),
    'resnet20': resnet20,
  }[name]()


NAMES = (
  *('nnx_cnn', 'flax_mnist', 'linen_train_state', 'nnx_transformer'),
  *('linen_scanned', 'experts', 'equinox_mlp', 'equinox_cnn', 'resnet20'),
)
