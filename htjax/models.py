"""Networks of the papers as Flax modules and as pairs of pure functions.

Fully connected and convolutional ReLU networks without biases, and the mean
field network whose second layer is fixed to 1/n. Each is an `nnx.Module` of
its own; `fcn`, `cnn` and `mean_field` split one into `init(key) -> params` and
`apply(params, x) -> outputs`, where params is a plain nested dict of arrays,
which is all that the rest of the library sees. Kernels are [fan_in, fan_out]
or [height, width, in, out]: a column, or filter, is one unit's incoming
weights.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from htjax import stable
from htjax.checks import check_arrays, check_count, check_key, checked
from htjax.types import Array, ArrayLike, PRNGKey, PyTree

VGG11_WIDE = (
  *(128, 'M', 256, 'M', 512, 512, 'M'),
  *(1024, 1024, 'M', 1024, 1024, 'M'),
)


# Columns of a kernel whose transpose is nothing beside the product, and of one
# by which a product is a single pass over what is large.
_NARROW = 16
_FEW = 4


class Network(NamedTuple):
  """A network as pure functions of a nested dict of arrays.

  Attributes:
    init: `init(key) -> params`; the same key gives the same params, and it may
      be jitted and vmapped over keys.
    apply: `apply(params, x) -> outputs`, x [batch, ...], outputs
      [batch, num_outputs]; jit it: traced, it is the bare computation, of which
      one CPU makes the gradient of a narrow output layer without a copy.
    hidden: names of the hidden layers, first to last.
    excluded: names of the layers that the papers neither disturb nor prune,
      for `htjax.selection.exclude(*network.excluded)`.
  """

  init: Callable[[PRNGKey], PyTree]
  apply: Callable[[PyTree, Array], Array]
  hidden: tuple[str, ...]
  excluded: tuple[str, ...]


class FCN(nnx.Module):
  """Fully connected ReLU network without biases.

  Layers are the attributes `hidden_0`, `hidden_1`, .. and `output`, each drawn
  from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
  """

  def __init__(
    self,
    in_features: int,
    widths: Sequence[int],
    num_classes: int,
    *,
    rngs: nnx.Rngs,
  ):
    check_count('in_features', in_features)
    check_count('num_classes', num_classes)
    self.in_features = in_features
    self.hidden = _names('hidden', len(_check_widths(widths)))
    fans = (in_features, *widths)
    for i, name in enumerate(self.hidden):
      setattr(self, name, _linear(fans[i], fans[i + 1], rngs))
    self.output = _linear(fans[-1], num_classes, rngs, _narrow_product)

  def __call__(self, x: Array) -> Array:
    """Logits [batch, num_classes] of x [batch, ..], flattened."""
    x = _flatten(x, self.in_features)
    for name in self.hidden:
      x = nnx.relu(getattr(self, name)(x))
    return self.output(x)


class MeanFieldNetwork(nnx.Module):
  """f(x) = (1/n) sum_i h_x(theta_i), the second layer fixed to 1/n.

  The kernel of `hidden_0` is Theta [in_features * num_outputs, n]. Unit i has
  one block of in_features weights per output, and output j is the mean over
  units of activation(<block j of theta_i, x>).
  """

  def __init__(
    self,
    in_features: int,
    num_units: int,
    num_outputs: int = 1,
    *,
    activation: Callable[[Array], Array] = jnp.tanh,
    rngs: nnx.Rngs,
  ):
    check_count('in_features', in_features)
    check_count('num_units', num_units)
    check_count('num_outputs', num_outputs)
    if not callable(activation):
      raise ValueError(f'activation must be a function, got {activation!r}')
    self.in_features = in_features
    self.num_outputs = num_outputs
    self.activation = activation
    self.hidden = ('hidden_0',)
    self.hidden_0 = nnx.Linear(
      in_features * num_outputs,
      num_units,
      use_bias=False,
      # Every block sees in_features inputs, however many blocks there are.
      kernel_init=_uniform_fan_in(1 / num_outputs),
      rngs=rngs,
    )

  def __call__(self, x: Array) -> Array:
    """Outputs [batch, num_outputs] of x [batch, ..], flattened."""
    x = _flatten(x, self.in_features)
    theta = self.hidden_0.kernel[...]
    blocks = theta.reshape(self.num_outputs, self.in_features, -1)
    return self.activation(jnp.einsum('bi,jin->bjn', x, blocks)).mean(axis=-1)


class CNN(nnx.Module):
  """Convolutional ReLU network without biases: 3x3, pooling, one linear layer.

  Layers are the attributes `conv_0`, `conv_1`, .. and `output`. A convolution
  to c channels is drawn from N(0, 2 / (9 c)), the output layer as `FCN` does.
  """

  def __init__(
    self,
    in_channels: int,
    num_classes: int,
    channels: Sequence[int | str] = VGG11_WIDE,
    *,
    rngs: nnx.Rngs,
  ):
    check_count('in_channels', in_channels)
    check_count('num_classes', num_classes)
    self.in_channels = in_channels
    self.channels = tuple(channels)
    widths = _filters(self.channels)
    self.hidden = _names('conv', len(widths))
    fans = (in_channels, *widths)
    for i, name in enumerate(self.hidden):
      setattr(self, name, _convolution(fans[i], fans[i + 1], rngs))
    self.output = _linear(fans[-1], num_classes, rngs)

  def __call__(self, x: Array) -> Array:
    """Logits [batch, num_classes] of images, channels last."""
    _check_images(x, self.in_channels, self.channels.count('M'))
    layers = iter(self.hidden)
    for c in self.channels:
      if c == 'M':
        x = nnx.max_pool(x, (2, 2), (2, 2))
      else:
        x = nnx.relu(getattr(self, next(layers))(x))
    return self.output(x.mean(axis=(1, 2)))


@checked
def fcn(
  in_features: int,
  width: int | Sequence[int],
  num_classes: int,
  *,
  hidden_layers: int = 1,
) -> Network:
  """Fully connected ReLU network without biases.

  Args:
    in_features: entries of one example; x [batch, ...] is flattened.
    width: units of every hidden layer, or one number per hidden layer.
    num_classes: logits.
    hidden_layers: number of hidden layers; left at 1 if `width` is a sequence.

  Returns:
    Network whose params are {'hidden_0': {'kernel'}, .., 'output': {'kernel'}},
    float32 [fan_in, fan_out], every entry U(-1/sqrt(fan_in), 1/sqrt(fan_in)),
    and whose `excluded` is ('output',).

  Raises:
    ValueError: a size below 1, or a sequence of widths beside another number
      of hidden layers. `init` refuses anything but one typed key, `apply` an
      example of another size.

  Source: [IC], section 5 (the last layer trained, nothing divided by the
    width), initialised as in the authors' code.
  """
  widths = _widths(width, hidden_layers)
  return _network(
    lambda rngs: FCN(in_features, widths, num_classes, rngs=rngs),
    excluded=('output',),
  )


@checked
def mean_field(
  in_features: int,
  num_units: int,
  num_outputs: int = 1,
  *,
  activation: Callable[[Array], Array] = jnp.tanh,
) -> Network:
  """Mean-field network f(x) = (1/n) sum_i h_x(theta_i).

  Args:
    in_features: entries of one example; x [batch, ...] is flattened.
    num_units: n.
    num_outputs: l. With l > 1 a unit theta_i is l blocks of in_features
      weights, and h_x(theta_i)_j = activation(<block j, x>).
    activation: elementwise. The theory asks for a bounded smooth one.

  Returns:
    Network whose params are {'hidden_0': {'kernel': Theta}}, Theta float32
    [in_features * num_outputs, n] with one unit per column, every entry
    U(-1/sqrt(in_features), 1/sqrt(in_features)); `excluded` is ().

  Raises:
    ValueError: a size below 1; `init` and `apply` as in `fcn`.

  Source: [IC], section 2.
  """
  return _network(
    lambda rngs: MeanFieldNetwork(
      in_features, num_units, num_outputs, activation=activation, rngs=rngs
    ),
    excluded=(),
  )


@checked
def stable_params(key: PRNGKey, network: Network, alpha: ArrayLike) -> PyTree:
  """Independent symmetric stable weights, each hidden layer of unit norm.

  Args:
    key: typed key.
    network: of `fcn`, `cnn` or `mean_field`.
    alpha: tail index in (0, 2], traced.

  Returns:
    params of the network: kernels of hidden layers with Frobenius norm 1, the
    output layer as the network initialises it.

  Raises:
    ValueError: as `htjax.stable.sample`.

  Source: [HT], supplement, section S1.6.1.

  Examples:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from htjax import models
    >>> network = models.fcn(4, 8, 2)
    >>> params = models.stable_params(jax.random.key(0), network, 1.5)
    >>> print(f"{jnp.linalg.norm(params['hidden_0']['kernel']):.3f}")
    1.000
  """
  params = dict(network.init(jax.random.fold_in(key, 0)))
  for i, name in enumerate(network.hidden, 1):
    shape = params[name]['kernel'].shape
    w = stable.sample(jax.random.fold_in(key, i), alpha, shape)
    # Over the largest: squares of the tail would overflow.
    w = w / jnp.max(jnp.abs(w))
    params[name] = {'kernel': w / jnp.linalg.norm(w)}
  return params


@checked
def cnn(
  in_channels: int,
  num_classes: int,
  *,
  channels: Sequence[int | str] = VGG11_WIDE,
) -> Network:
  """Convolutional ReLU network without biases.

  Convolutions are 3x3 with padding 1, 'M' is 2x2 max pooling, and a mean over
  what is left of the picture feeds one linear layer.

  Args:
    in_channels: channels of the input; x is [batch, height, width, channels],
      and height and width survive every halving by 'M'.
    num_classes: logits.
    channels: numbers of filters and 'M's in order, starting with a number.

  Returns:
    Network whose params are {'conv_0': {'kernel'}, .., 'output': {'kernel'}},
    float32 [3, 3, in, out] ~ N(0, 2 / (9 out)) and [fan_in, num_classes]
    uniform as in `fcn`, and whose `excluded` is ('conv_0', 'output').

  Raises:
    ValueError: a size below 1, an entry of `channels` that is neither a number
      nor 'M'; `init` refuses anything but one typed key, `apply` pictures of
      another rank or number of channels, or too small for the pooling.

  Source: [IC], section 5; layout and initialisation of the authors' code, a
    wide VGG11 [Simonyan2015].
  """
  return _network(
    lambda rngs: CNN(in_channels, num_classes, channels, rngs=rngs),
    excluded=('conv_0', 'output'),
  )


@checked
def num_params(params: PyTree) -> int:
  """Number of entries of all arrays in a pytree (arrays or their shapes)."""
  check_arrays('params', params)
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _network(
  make: Callable[[nnx.Rngs], FCN | MeanFieldNetwork | CNN],
  excluded: tuple[str, ...],
) -> Network:
  """Split the module once; its graph definition lives on in `apply`."""
  abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
  graphdef, _ = nnx.split(abstract)

  def init(key: PRNGKey) -> PyTree:
    module = make(nnx.Rngs(check_key(key)))
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))

  def apply(params: PyTree, x: Array) -> Array:
    return nnx.merge(graphdef, params)(x)

  return Network(init, apply, abstract.hidden, excluded)


def _names(stem: str, count: int) -> tuple[str, ...]:
  return tuple(f'{stem}_{i}' for i in range(count))


def _uniform_fan_in(scale: float = 1.0) -> nnx.initializers.Initializer:
  """U(-b, b) with b = 1 / sqrt(scale * fan_in), so variance b^2 / 3."""
  return nnx.initializers.variance_scaling(1 / (3 * scale), 'fan_in', 'uniform')


def _linear(
  fan_in: int,
  fan_out: int,
  rngs: nnx.Rngs,
  dot_general: Callable[..., Array] = lax.dot_general,
) -> nnx.Linear:
  return nnx.Linear(
    fan_in,
    fan_out,
    use_bias=False,
    kernel_init=_uniform_fan_in(),
    dot_general=dot_general,
    rngs=rngs,
  )


def _narrow_product(
  x: Array, kernel: Array, dimensions: Any, **options: Any
) -> Array:
  """x [b, n] times a kernel [n, k] of few columns, `lax.dot_general`.

  XLA's CPU backend copies all of x for the kernel's gradient x^T g, where the
  product g^T x needs no copy; it turns any transpose of the one into the other.
  Of a kernel of two to four columns the gradient of x is left to elementwise
  passes, which the compiler makes one with the mask of a ReLU before it.
  """
  on_one_cpu = jax.default_backend() == 'cpu' and jax.device_count() == 1
  if not on_one_cpu or x.ndim != 2 or kernel.shape[1] > _NARROW:
    return lax.dot_general(x, kernel, dimensions, **options)
  product: Callable[..., Array] = functools.partial(lax.dot_general, **options)
  single = x.dtype == kernel.dtype == jnp.float32
  few = kernel.shape[1] <= _FEW and single

  @jax.custom_jvp
  def narrow(x: Array, kernel: Array) -> Array:
    return product(x, kernel, dimensions)

  @narrow.defjvp
  def _(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (x, kernel), (dx, d_kernel) = primals, tangents
    turned = product(_turned(d_kernel), x, (((1,), (1,)), ((), ())))
    moved = _by_column(dx, kernel) if few else product(dx, kernel, dimensions)
    return narrow(x, kernel), moved + _turned(turned)

  return narrow(x, kernel)


def _by_column(x: Array, kernel: Array) -> Array:
  """x [b, n] times a kernel [n, k], whose transpose is k outer products."""
  columns = kernel.T[:, None]
  return jnp.stack([jnp.sum(x * column, axis=1) for column in columns], axis=1)


def _turned(x: Array) -> Array:
  """The transpose of a matrix, entry by entry, which XLA takes for none."""
  rows, columns = x.shape
  place = jnp.arange(columns)[:, None] + columns * jnp.arange(rows)[None]
  return (
    x.reshape(-1).at[place].get(mode='promise_in_bounds', unique_indices=True)
  )


def _convolution(fan_in: int, fan_out: int, rngs: nnx.Rngs) -> nnx.Conv:
  return nnx.Conv(
    fan_in,
    fan_out,
    (3, 3),
    padding=1,
    use_bias=False,
    kernel_init=nnx.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
    rngs=rngs,
  )


def _widths(width: int | Sequence[int], hidden_layers: int) -> tuple[int, ...]:
  """One width per hidden layer."""
  check_count('hidden_layers', hidden_layers)
  if isinstance(width, int | np.integer):
    return (int(width),) * hidden_layers
  widths = tuple(width)
  if hidden_layers not in (1, len(widths)):
    raise ValueError(
      f'width must be a number or one number per hidden layer, got '
      f'{width!r} with hidden_layers={hidden_layers}'
    )
  return widths


def _check_widths(widths: Sequence[int]) -> Sequence[int]:
  if not widths:
    raise ValueError(f'width must name at least one layer, got {widths!r}')
  for width in widths:
    check_count('width', width)
  return widths


def _filters(channels: tuple[int | str, ...]) -> list[int]:
  """The numbers among `channels`, checked."""
  if not channels or channels[0] == 'M':
    raise ValueError(
      f'channels must start with a number of filters, got {channels!r}'
    )
  for c in channels:
    if c != 'M':
      check_count("channels (an entry that is not 'M')", c)
  return [int(c) for c in channels if c != 'M']


def _flatten(x: Array, in_features: int) -> Array:
  if x.ndim < 2 or math.prod(x.shape[1:]) != in_features:
    raise ValueError(
      f'x must be [batch, ...] with {in_features} entries per example, got '
      f'shape {x.shape}'
    )
  return x.reshape(x.shape[0], in_features)


def _check_images(x: Array, in_channels: int, num_poolings: int) -> None:
  smallest = 2**num_poolings
  if x.ndim != 4 or x.shape[3] != in_channels or min(x.shape[1:3]) < smallest:
    raise ValueError(
      f'x must be [batch, height, width, {in_channels}] with height and width '
      f'of at least {smallest}, got shape {x.shape}'
    )
