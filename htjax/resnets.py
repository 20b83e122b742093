"""The residual networks of He et al. for CIFAR-10, and their trained weights.

6n + 2 layers: a 3x3 convolution, three stages of n blocks of two 3x3
convolutions with batch normalisation, a mean over the picture and one linear
layer; the shortcuts have no parameters (option A). As in `htjax.models` there
is an `nnx.Module`, and a pair of pure functions of a nested dict, here the
network at inference, with its stored statistics. `from_torch` takes weights
trained with PyTorch. Pictures are [batch, height, width, channels].
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from htjax.checks import check_count, check_key, checked
from htjax.types import Array, ArrayLike, PRNGKey, PyTree

NUM_STAGES = 3
# Of ImageNet's pixels in [0, 1]; the weights in circulation were trained so.
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)

_STATE = (nnx.Param, nnx.BatchStat)


class ResidualNetwork(NamedTuple):
  """A `models.Network`, of its inference, that also shows its last features.

  Attributes:
    init: `init(key) -> params`; stored statistics start as mean 0, variance 1.
    apply: `apply(params, x) -> logits`, with the stored statistics.
    features: `features(params, x) -> [batch, 4 width]`, what the last layer
      multiplies.
    hidden: names of the hidden layers and blocks, first to last.
    excluded: names of the first and the last layer, for
      `htjax.selection.exclude(*network.excluded)`.
    depth: layers with weights, 6n + 2.
  """

  init: Callable[[PRNGKey], PyTree]
  apply: Callable[[PyTree, Array], Array]
  features: Callable[[PyTree, Array], Array]
  hidden: tuple[str, ...]
  excluded: tuple[str, ...]
  depth: int


class ResidualBlock(nnx.Module):
  """relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))).

  With stride 2 the shortcut takes every second row and column, and as many
  zero channels are put before its channels as behind them.
  """

  def __init__(self, fan_in: int, fan_out: int, stride: int, *, rngs: nnx.Rngs):
    self.stride = stride
    self.padding = (fan_out - fan_in) // 2
    self.conv_0 = _convolution(fan_in, fan_out, stride, rngs)
    self.norm_0 = nnx.BatchNorm(fan_out, rngs=rngs)
    self.conv_1 = _convolution(fan_out, fan_out, 1, rngs)
    self.norm_1 = nnx.BatchNorm(fan_out, rngs=rngs)

  def __call__(self, x: Array) -> Array:
    """The block's outputs, channels last, of x, channels last."""
    h = nnx.relu(self.norm_0(self.conv_0(x)))
    h = self.norm_1(self.conv_1(h))
    x = x[:, :: self.stride, :: self.stride]
    pad = (self.padding, self.padding)
    return nnx.relu(h + jnp.pad(x, ((0, 0), (0, 0), (0, 0), pad)))


class ResNet(nnx.Module):
  """Residual network of `depth` = 6n + 2 layers, option A shortcuts.

  Layers are the attributes `conv`, `norm`, `block_0` .. `block_{3n - 1}` and
  `output`. Convolutions have no biases and are drawn from N(0, 2 / fan_in), as
  is the linear layer, whose biases start at 0. `train()` and `eval()` switch
  between the statistics of the batch, the default, and the stored ones.
  """

  def __init__(
    self,
    depth: int,
    num_classes: int = 10,
    *,
    in_channels: int = 3,
    width: int = 16,
    rngs: nnx.Rngs,
  ):
    self.blocks = tuple(f'block_{i}' for i in range(num_blocks(depth)))
    check_count('num_classes', num_classes)
    check_count('in_channels', in_channels)
    check_count('width', width)
    # A stage doubles the channels, half of the new ones on each side.
    if width % 2:
      raise ValueError(f'width must be even, got {width!r}')
    self.in_channels = in_channels
    self.conv = _convolution(in_channels, width, 1, rngs)
    self.norm = nnx.BatchNorm(width, rngs=rngs)
    fan_in = width
    for i, name in enumerate(self.blocks):
      fan_out = width * 2 ** (i * NUM_STAGES // len(self.blocks))
      stride = 1 if fan_out == fan_in else 2
      setattr(self, name, ResidualBlock(fan_in, fan_out, stride, rngs=rngs))
      fan_in = fan_out
    self.output = nnx.Linear(
      fan_in, num_classes, kernel_init=_he_normal(), rngs=rngs
    )

  def features(self, x: Array) -> Array:
    """The features that the last layer multiplies, [batch, 4 width]."""
    if x.ndim != 4 or x.shape[3] != self.in_channels or 0 in x.shape[1:3]:
      raise ValueError(
        f'x must be [batch, height, width, {self.in_channels}], got shape '
        f'{x.shape}'
      )
    x = nnx.relu(self.norm(self.conv(x)))
    for name in self.blocks:
      x = getattr(self, name)(x)
    return x.mean(axis=(1, 2))

  def __call__(self, x: Array) -> Array:
    """Logits [batch, num_classes] of images, channels last."""
    return self.output(self.features(x))


@checked
def resnet(
  depth: int, num_classes: int = 10, *, in_channels: int = 3, width: int = 16
) -> ResidualNetwork:
  """Residual network for small pictures, as pure functions at inference.

  To train one, use the module `ResNet`, whose batch statistics are state.

  Args:
    depth: 6n + 2: 20, 32, 44, 56, 110, 1202 in the paper.
    num_classes: logits.
    in_channels: channels of the pictures [batch, height, width, channels],
      of any height and width; `normalise` makes them from pixels.
    width: filters of the first stage, even; twice and four times as many in
      the others.

  Returns:
    ResidualNetwork whose params are {'conv': {'kernel'}, 'norm': {'scale',
    'bias', 'mean', 'var'}, 'block_0': {'conv_0', 'norm_0', 'conv_1',
    'norm_1'}, .., 'output': {'kernel', 'bias'}}, float32, kernels
    [3, 3, in, out] and [4 width, num_classes].

  Raises:
    ValueError: another depth, a count below 1, an odd width; `init` refuses
      anything but one typed key, `apply` pictures of another shape.

  Source: [He2016], section 4.2; initialised as in [He2015]. Batch normalisation
    with epsilon 1e-5.
  """

  def make(rngs: nnx.Rngs) -> ResNet:
    module = ResNet(
      depth, num_classes, in_channels=in_channels, width=width, rngs=rngs
    )
    module.eval()
    return module

  abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
  graphdef, _ = nnx.split(abstract)

  def init(key: PRNGKey) -> PyTree:
    module = make(nnx.Rngs(check_key(key)))
    return nnx.to_pure_dict(nnx.state(module, nnx.Any(*_STATE)))

  def apply(params: PyTree, x: Array) -> Array:
    return nnx.merge(graphdef, params)(x)

  def features(params: PyTree, x: Array) -> Array:
    return nnx.merge(graphdef, params).features(x)

  hidden = ('conv', *abstract.blocks)
  return ResidualNetwork(
    init, apply, features, hidden, ('conv', 'output'), depth
  )


@checked
def num_blocks(depth: int) -> int:
  """3n for a network of 6n + 2 layers.

  Raises:
    ValueError: a depth that is not 6n + 2 with n >= 1.
  """
  check_count('depth', depth, 8)
  if depth % 6 != 2:
    raise ValueError(f'depth must be 6n + 2, got {depth!r}')
  return (depth - 2) // 2


@checked
def normalise(pixels: ArrayLike) -> np.ndarray:
  """Pictures as the trained weights expect them.

  Args:
    pixels: [.., 3], red, green and blue in 0..255.

  Returns:
    float32 array of the same shape: (pixels / 255 - PIXEL_MEAN) / PIXEL_STD.

  Raises:
    ValueError: another number of channels.
  """
  x = np.asarray(pixels, np.float32)
  if x.shape[-1:] != (3,):
    raise ValueError(f'pixels must be [.., 3], got shape {x.shape}')
  x = x / np.float32(255) - np.asarray(PIXEL_MEAN, np.float32)
  return x / np.asarray(PIXEL_STD, np.float32)


@checked
def from_torch(weights: Mapping[str, Any]) -> tuple[ResidualNetwork, PyTree]:
  """The network and the params of weights trained with PyTorch.

  Args:
    weights: arrays by the names of Idelbayev's pytorch_resnet_cifar10, with or
      without the prefix 'module.': 'conv1.weight' [out, in, 3, 3],
      'layer1.0.bn1.running_mean' .. 'linear.weight' [num_classes, 4 width];
      'num_batches_tracked' is not looked at. `htjax.io.weights.load`
      with `nested=False` reads them.

  Returns:
    (network, params): of the depth, width and classes that the weights have.

  Raises:
    ValueError: names or shapes that are not of such a network, or arrays that
      are not of finite floating-point numbers.
  """
  arrays = {
    name.removeprefix('module.'): np.asarray(array)
    for name, array in weights.items()
    if not name.endswith('num_batches_tracked')
  }
  network = _network_of(arrays)
  shapes = jax.eval_shape(network.init, jax.random.key(0))
  names = dict(_torch_names(network.depth))
  if unknown := sorted(arrays.keys() - names.keys()):
    raise ValueError(
      f'weights must be those of a ResNet-{network.depth}, which has no '
      f'{unknown[0]!r}'
    )
  params: dict[str, Any] = {}
  for name, path in names.items():
    *parents, leaf = path
    layer, expected = params, shapes
    for parent in parents:
      layer, expected = layer.setdefault(parent, {}), expected[parent]
    layer[leaf] = _converted(arrays, name, expected[leaf].shape)
  return network, params


def _network_of(arrays: Mapping[str, np.ndarray]) -> ResidualNetwork:
  """The network that has these arrays, by their number and outer shapes."""
  blocks = {
    match.groups()
    for name in arrays
    if (match := re.fullmatch(r'layer(\d+)\.(\d+)\.conv1\.weight', name))
  }
  first, last = (arrays.get(f'{n}.weight') for n in ('conv1', 'linear'))
  if not (
    blocks
    and len(blocks) % NUM_STAGES == 0
    and first is not None
    and first.ndim == 4
    and last is not None
    and last.ndim == 2
  ):
    raise ValueError(
      "weights must be those of a CIFAR ResNet, with 'conv1.weight', three "
      "equal stages of 'layer1.0.conv1.weight' .. and 'linear.weight', got "
      f'{len(arrays)} arrays named {", ".join(list(arrays)[:3])} ..'
    )
  return resnet(
    2 * len(blocks) + 2,
    last.shape[0],
    in_channels=first.shape[1],
    width=first.shape[0],
  )


def _torch_names(depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
  """(name there, path here) of every array."""
  norms = {
    'weight': 'scale',
    'bias': 'bias',
    'running_mean': 'mean',
    'running_var': 'var',
  }

  def pair(before: str, path: tuple[str, ...], i: str, j: str) -> Any:
    yield f'{before}conv{i}.weight', (*path, f'conv{j}', 'kernel')
    for theirs, ours in norms.items():
      yield f'{before}bn{i}.{theirs}', (*path, f'norm{j}', ours)

  yield from pair('', (), '1', '')
  count = num_blocks(depth)
  for stage, i in itertools.product(range(NUM_STAGES), range(count // 3)):
    block = f'block_{stage * count // 3 + i}'
    for j in range(2):
      yield from pair(f'layer{stage + 1}.{i}.', (block,), str(j + 1), f'_{j}')
  yield 'linear.weight', ('output', 'kernel')
  yield 'linear.bias', ('output', 'bias')


def _converted(
  arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]
) -> Array:
  """One array, with its outputs last; its shape there and here must fit."""
  if name not in arrays:
    raise ValueError(f'weights must hold {name!r}, which is missing')
  array = arrays[name]
  theirs = shape if len(shape) == 1 else (shape[-1], shape[-2], *shape[:-2])
  if array.shape != theirs:
    raise ValueError(f'{name} must have shape {theirs}, got {array.shape}')
  if array.dtype.kind != 'f' or not np.isfinite(array).all():
    raise ValueError(f'{name} must hold finite floating-point numbers')
  if array.ndim == 4:
    array = array.transpose(2, 3, 1, 0)
  elif array.ndim == 2:
    array = array.T
  return jnp.asarray(array, jnp.float32)


def _he_normal() -> nnx.initializers.Initializer:
  return nnx.initializers.variance_scaling(2.0, 'fan_in', 'normal')


def _convolution(
  fan_in: int, fan_out: int, stride: int, rngs: nnx.Rngs
) -> nnx.Conv:
  return nnx.Conv(
    fan_in,
    fan_out,
    (3, 3),
    strides=stride,
    padding=1,
    use_bias=False,
    kernel_init=_he_normal(),
    rngs=rngs,
  )
