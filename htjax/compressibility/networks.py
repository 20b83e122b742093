"""Errors expected of several layers of stable weights, pruned together."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from htjax import stable
from htjax.checks import (
  check_choice,
  check_count,
  check_key,
  check_range,
  check_several,
  checked,
)
from htjax.compressibility.arguments import check_order
from htjax.compressibility.counts import kept_count
from htjax.types import Array, PRNGKey

_SCOPES = ('layer', 'global')


class NetworkErrors(NamedTuple):
  """Relative errors of simulated networks.

  Attributes:
    whole: of all weights together, [draws].
    layers: of each layer, [draws, L].
    kappas: kept fraction of each layer, [draws, L].
  """

  whole: Array
  layers: Array
  kappas: Array


@checked
def network_errors(
  key: PRNGKey,
  alphas: Sequence[float],
  sizes: Sequence[int],
  kappa: float,
  *,
  scales: Sequence[float] | None = None,
  scope: str = 'layer',
  p: float = 2,
  num_draws: int = 20,
) -> NetworkErrors:
  """Errors of layers of independent symmetric stable weights after pruning.

  With scope 'layer' each layer keeps its largest ceil(kappa d_l); with
  'global' the largest ceil(kappa d) of all, for which the theorem asks that
  all layers have one law: otherwise the layers of smaller scale may go
  entirely.

  Args:
    key: typed key.
    alphas: tail indices in (0, 2], [L].
    sizes: weights d_l of the layers, [L].
    kappa: kept fraction in (0, 1].
    scales: > 0, [L]; None is 1.
    scope: 'layer' or 'global'.
    p: order of the norm, > 0.
    num_draws: simulated networks.

  Returns:
    NetworkErrors of float32 arrays. Take medians: at p >= alpha the errors are
    too widely spread for means.

  Raises:
    ValueError: numbers out of range, lists of different lengths.

  Source: [HT], Theorem 1 (several layers).

  Examples:
    >>> import jax
    >>> from htjax import compressibility
    >>> errors = compressibility.network_errors(
    ...   jax.random.key(0), [1.2, 1.8], [2000, 1000], 0.1, num_draws=4
    ... )
    >>> errors.layers.shape, bool((errors.whole < 1).all())
    ((4, 2), True)
  """
  key = check_key(key)
  for name, values in (('alphas', alphas), ('sizes', sizes)):
    check_several(name, values)
  if not len(alphas) == len(sizes) == len(scales or sizes) or not len(sizes):
    raise ValueError(
      'alphas, sizes and scales must have one entry for each of at least one '
      f'layer, got {len(alphas)}, {len(sizes)} and {len(scales or sizes)}'
    )
  for size in sizes:
    check_count('every entry of sizes', size)
  check_range('alphas', jnp.asarray(alphas), 0.0, 2.0, open_low=True)
  spread = jnp.ones(len(sizes)) if scales is None else jnp.asarray(scales)
  check_range('scales', spread, 0.0, jnp.inf, open_low=True, open_high=True)
  check_range('kappa', kappa, 0.0, 1.0, open_low=True)
  check_choice('scope', scope, _SCOPES)
  check_order(p)
  check_count('num_draws', num_draws)
  total = int(sum(sizes))
  kept = tuple(int(kept_count(kappa, n)) for n in (*sizes, total))
  return _network_errors(
    key,
    jnp.asarray(alphas, jnp.float32),
    spread.astype(jnp.float32),
    tuple(map(int, sizes)),
    kept,
    scope,
    float(p),
    num_draws,
  )


@functools.partial(
  jax.jit, static_argnames=('sizes', 'kept', 'scope', 'p', 'num_draws')
)
def _network_errors(
  key: PRNGKey,
  alphas: Array,
  scales: Array,
  sizes: tuple[int, ...],
  kept: tuple[int, ...],
  scope: str,
  p: float,
  num_draws: int,
) -> NetworkErrors:
  def draw(own: PRNGKey) -> NetworkErrors:
    layers = [
      jnp.abs(scales[i] * stable.sample(k, alphas[i], (n,)))
      for i, (k, n) in enumerate(
        zip(jax.random.split(own, len(sizes)), sizes, strict=True)
      )
    ]
    # In units of the largest weight, so that no power overflows.
    peak = functools.reduce(jnp.maximum, [jnp.max(w) for w in layers])
    layers = [w / peak for w in layers]
    if scope == 'global':
      joined = jnp.sort(jnp.concatenate(layers))
      least = [joined[-kept[-1]]] * len(sizes)
    else:
      least = [jnp.sort(w)[-k] for w, k in zip(layers, kept, strict=False)]
    gone = jnp.stack(
      [
        jnp.sum(jnp.where(w < level, w, 0) ** p)
        for w, level in zip(layers, least, strict=True)
      ]
    )
    whole = jnp.stack([jnp.sum(w**p) for w in layers])
    share = jnp.stack(
      [
        jnp.mean(w >= level, dtype=w.dtype)
        for w, level in zip(layers, least, strict=True)
      ]
    )
    return NetworkErrors(
      (jnp.sum(gone) / jnp.sum(whole)) ** (1 / p),
      (gone / whole) ** (1 / p),
      share,
    )

  return lax.map(draw, jax.random.split(key, num_draws))
