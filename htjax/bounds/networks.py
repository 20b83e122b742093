"""Networks as the bounds see them: a list of matrices and an activation.

The matrices W_1, .., W_L are [fan_in, fan_out]: x^1 = x W_1 and x^i =
phi(x^{i-1}) W_i, so that x^i is what enters the i-th activation and x^L is the
output.
"""

import itertools
import re
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from htjax.bounds.arguments import as_array, as_list, check_callable
from htjax.checks import check_count, check_floating
from htjax.products import full_precision
from htjax.types import Array, ArrayLike, PyTree

Activation = Callable[[Array], Array]


def dense_layers(params: PyTree) -> list[Array]:
  """The matrices of a fully connected network, first to last.

  Args:
    params: nested dict {'hidden_0': {'kernel': [fan_in, fan_out]}, ..,
      'output': {'kernel': ..}}, that `htjax.models.fcn` makes. Layers are taken
      in the order of the numbers in their names, those without one last.

  Returns:
    List of matrices [fan_in, fan_out].

  Raises:
    ValueError: for biases, leaves of another rank, or shapes that do not
      chain.
  """
  found = []
  for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    if jnp.ndim(leaf := as_array(f'params at {name!r}', leaf)) != 2:
      raise ValueError(
        f'params must hold matrices only, got shape {leaf.shape} at {name!r}'
      )
    numbers = [int(n) for n in re.findall(r'\d+', name)]
    found.append(((not numbers, numbers, name), leaf))
  return check_layers([leaf for _, leaf in sorted(found, key=lambda f: f[0])])


@full_precision
def pre_activations(
  layers: Sequence[ArrayLike],
  x: ArrayLike,
  *,
  activation: Activation = jax.nn.relu,
) -> list[Array]:
  """States of all layers, x^1 = x W_1 and x^i = phi(x^{i-1}) W_i.

  Args:
    layers: matrices [fan_in, fan_out], first to last.
    x: inputs [m, fan_in of the first].
    activation: phi, elementwise.

  Returns:
    List of L arrays [m, fan_out]; the last is the output.

  Raises:
    ValueError: if shapes do not fit.
  """
  layers, x = check_network(layers, x)
  check_callable('activation', activation)
  states = [x @ layers[0]]
  for w in layers[1:]:
    hidden = as_array('what activation returns', activation(states[-1]))
    if hidden.shape != states[-1].shape:
      raise ValueError(
        f'activation must keep the shape {states[-1].shape}, got {hidden.shape}'
      )
    states.append(hidden @ w)
  return states


@full_precision
def outputs(
  layers: Sequence[ArrayLike], x: ArrayLike, *, batch_size: int = 5000
) -> Array:
  """Outputs of a ReLU network on many inputs, some thousand at a time.

  Args:
    layers: matrices [fan_in, fan_out], first to last.
    x: inputs [n, fan_in of the first], n >= 1.
    batch_size: how many are in memory with all their states.

  Returns:
    Array [n, fan_out of the last].

  Raises:
    ValueError: if shapes do not fit; batch_size below 1.
  """
  check_count('batch_size', batch_size)
  layers, x = check_network(layers, x)
  parts = [x[i : i + batch_size] for i in range(0, len(x), batch_size)]
  return jnp.concatenate([_outputs(layers, part) for part in parts])


@jax.jit
def _outputs(layers: list[Array], x: Array) -> Array:
  return pre_activations(layers, x)[-1]


def check_matrix(name: str, matrix: ArrayLike) -> Array:
  """A non-empty floating matrix, or a ValueError that names it."""
  matrix = as_array(name, matrix)
  if matrix.ndim != 2 or 0 in matrix.shape:
    raise ValueError(
      f'{name} must be a non-empty matrix [fan_in, fan_out], got shape '
      f'{matrix.shape}'
      + ('; see conv_spectral_norm' if matrix.ndim == 4 else '')
    )
  check_floating(name, matrix.dtype)
  return matrix


def check_layers(
  layers: Sequence[ArrayLike], name: str = 'layers'
) -> list[Array]:
  """Matrices whose shapes chain, or a ValueError that names the list."""
  found = [
    check_matrix(f'{name}[{i}]', w) for i, w in enumerate(as_list(name, layers))
  ]
  if not found:
    raise ValueError(f'{name} must have at least one matrix, got none')
  for left, right in itertools.pairwise(found):
    if left.shape[1] != right.shape[0]:
      raise ValueError(
        f'{name} must chain, got shapes {[w.shape for w in found]}'
      )
  return found


def check_network(
  layers: Sequence[ArrayLike], x: ArrayLike
) -> tuple[list[Array], Array]:
  """Matrices that chain, and inputs of their fan-in and dtype."""
  found, x = check_layers(layers), as_array('x', x)
  if not any(jnp.issubdtype(x.dtype, d) for d in (jnp.integer, jnp.floating)):
    raise ValueError(f'x must be real, got {x.dtype}')
  if x.ndim != 2 or x.shape[0] < 1 or x.shape[1] != found[0].shape[0]:
    raise ValueError(
      f'x must be [m, {found[0].shape[0]}] with m >= 1, got shape {x.shape}'
    )
  return found, x.astype(found[0].dtype)
