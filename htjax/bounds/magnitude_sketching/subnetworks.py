"""A subnetwork of a random network that imitates a target: the construction."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.bounds.arguments import as_list, as_numbers
from htjax.checks import check_count, check_key, checked
from htjax.types import Array, ArrayLike, PRNGKey


class Subnetwork(NamedTuple):
  """A random network of twice the depth of a target, and what is kept of it.

  Attributes:
    weights: of the random network, independent and uniform on [-1, 1], 2 L
      arrays float32 [fan_in, fan_out].
    masks: which of them are kept, of the same shapes.
    errors: largest distance of an imitated weight from the target's, for each
      layer of the target, float64 [L].
    active: number of kept weights.
  """

  weights: list[Array]
  masks: list[Array]
  errors: np.ndarray
  active: int

  @property
  def layers(self) -> list[Array]:
    """The weights under their masks: dense layers with ReLU between them."""
    return [
      jnp.where(m, w, 0) for w, m in zip(self.weights, self.masks, strict=True)
    ]


@checked
def lottery_subnetwork(
  key: PRNGKey, target: Sequence[ArrayLike], *, num_candidates: int = 64
) -> Subnetwork:
  """Imitate each weight of a target by two random paths through a ReLU.

  w x = v relu(u x) + v' relu(u' x) if u > 0 > u' and u v = u' v' = w. Each
  input i of a layer of the target has `num_candidates` units that see it alone,
  and to each output j the two of them, one of either sign of u, are kept whose
  product u v is closest to the weight. An error falls like 1 / num_candidates.

  Args:
    key: typed key, of the random weights.
    target: kernels [fan_in, fan_out] of dense layers without biases, ReLU
      between them, entries in [-1, 1].
    num_candidates: units for each input, at least 4.

  Returns:
    Subnetwork. Active are two weights for each of the target, and one for each
    unit that is used: at most 4 d_in d_out of a layer.

  Raises:
    ValueError: for no target, entries out of range, layers that do not fit, or
      too few candidates for both signs to occur.

  Source: [SK], section 6 (construction); [Malach2020], Theorem 2.1.

  Examples:
    >>> import jax
    >>> import numpy as np
    >>> from htjax.bounds import magnitude_sketching
    >>> target = [np.array([[0.5, -0.2]]), np.array([[0.3], [0.1]])]
    >>> found = magnitude_sketching.lottery_subnetwork(
    ...   jax.random.key(0), target
    ... )
    >>> [w.shape for w in found.weights], bool(found.errors.max() < 0.1)
    ([(1, 64), (64, 2), (2, 128), (128, 1)], True)
  """
  key = check_key(key)
  check_count('num_candidates', num_candidates, 4)
  layers = [
    as_numbers(f'target[{i}]', w)
    for i, w in enumerate(as_list('target', target))
  ]
  _check_target(layers)
  weights: list[Array] = []
  masks: list[Array] = []
  errors = []
  for i, w in enumerate(layers):
    block, kept, error = _block(jax.random.fold_in(key, i), w, num_candidates)
    weights += block
    masks += kept
    errors.append(error)
  active = sum(int(np.sum(np.asarray(m))) for m in masks)
  return Subnetwork(weights, masks, np.array(errors), active)


def _block(
  key: PRNGKey, w: np.ndarray, count: int
) -> tuple[list[Array], list[Array], float]:
  """Two random layers, what is kept of them, and the largest error."""
  fan_in, fan_out = w.shape
  keys = jax.random.split(key)
  first = _uniform(keys[0], (fan_in, fan_in * count))
  second = _uniform(keys[1], (fan_in * count, fan_out))
  units = np.arange(fan_in * count).reshape(fan_in, count)
  u = np.asarray(first, np.float64)[np.arange(fan_in)[:, None], units]
  v = np.asarray(second, np.float64).reshape(fan_in, count, fan_out)
  distance = np.abs(u[:, :, None] * v - w[:, None])
  into, out = np.zeros(first.shape, bool), np.zeros(second.shape, bool)
  worst = 0.0
  for of_sign in (u > 0, u < 0):
    allowed = np.where(of_sign[:, :, None], distance, np.inf)
    best = np.argmin(allowed, axis=1)
    worst = max(worst, float(np.min(allowed, axis=1).max()))
    rows = units[np.arange(fan_in)[:, None], best]
    out[rows, np.arange(fan_out)] = True
    into[np.arange(fan_in)[:, None], rows] = True
  if not np.isfinite(worst):
    raise ValueError(
      f'num_candidates must be larger for both signs to occur, got {count}'
    )
  return [first, second], [jnp.asarray(into), jnp.asarray(out)], worst


def _uniform(key: PRNGKey, shape: tuple[int, int]) -> Array:
  return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)


def _check_target(layers: list[np.ndarray]) -> None:
  if not layers or any(w.ndim != 2 or not w.size for w in layers):
    raise ValueError(
      'target must be matrices, at least one, got shapes '
      f'{[w.shape for w in layers]}'
    )
  for left, right in itertools.pairwise(layers):
    if left.shape[1] != right.shape[0]:
      raise ValueError(
        f'target must have layers that fit, got shapes {left.shape} and '
        f'{right.shape}'
      )
  if not all(np.all(np.abs(w) <= 1) for w in layers):
    raise ValueError('target must have entries in [-1, 1], got others')
