"""The stable process that drives a training: its law, scale and draws."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from htjax import selection, stable
from htjax import units as _units
from htjax.checks import check_choice, check_key, check_range
from htjax.rounding import ROUNDING, narrowed, widened
from htjax.stable.draws import sample_components
from htjax.types import Array, ArrayLike, PRNGKey, PyTree

UNITS = _units.UNITS


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class StableNoise:
  """A symmetric stable Lévy process, one vector of it for each unit.

  A pytree with the leaves alpha and sigma, so that it goes through `jit` and
  is mapped over by `vmap`; kind and unit are static.

  The unit of a dense kernel [fan_in, fan_out] is a column, one neuron's
  incoming weights; the unit of a convolution [.., in, out] is a filter
  [.., o], or with unit='kernel' each [.., i, o]; `htjax.units` says what it is
  in other leaves, such as attention projections and stacked layers. Type I
  adds one number to all weights of a unit, Type II one to each weight, Type III
  a vector whose direction is uniform. Vectors are independent over units,
  leaves and steps.

  Attributes:
    alpha: tail index in (0, 2]; 2 is Gaussian, of variance 2 sigma^2 in unit
      time.
    sigma: scale in unit time, >= 0.
    kind: 'type1', 'type2' or 'type3'.
    unit: 'filter' or 'kernel', what convolutions are made of.
    truncation: None, or how many times its scale a number drawn may be, static;
      larger ones are cut to that. The process is stable no more, but of all
      moments: for long runs at small alpha, in which a single increment
      overflows (at alpha 0.3, one in a million is beyond 10^20 scales).

  Raises:
    ValueError: a concrete alpha outside (0, 2] or sigma negative, NaN or
      infinite; an unknown kind or unit; a truncation not in (0, infinity).

  Source: [IC], section 2.
  """

  alpha: ArrayLike
  sigma: ArrayLike
  kind: str = dataclasses.field(default='type1', kw_only=True)
  unit: str = dataclasses.field(default='filter', kw_only=True)
  truncation: float | None = dataclasses.field(default=None, kw_only=True)

  def __post_init__(self) -> None:
    check_range('alpha', self.alpha, 0.0, 2.0, open_low=True)
    check_range('sigma', self.sigma, 0.0, np.inf, open_high=True)
    check_choice('kind', self.kind, stable.KINDS)
    check_choice('unit', self.unit, UNITS)
    if self.truncation is not None:
      check_range(
        'truncation',
        self.truncation,
        0.0,
        np.inf,
        open_low=True,
        open_high=True,
      )

  def scale(self, step_size: ArrayLike) -> Any:
    """Scale of the increment over a time: sigma step_size^(1/alpha).

    Args:
      step_size: >= 0, a time: the learning rate of one step, or the sum of
        many.

    Returns:
      A number, or an array where one of the three is.
    """
    return self.sigma * step_size ** (1.0 / self.alpha)

  def astype(self, dtype: Any) -> 'StableNoise':
    """The process with alpha and sigma as arrays of this dtype."""
    return dataclasses.replace(
      self,
      alpha=jnp.asarray(self.alpha, dtype),
      sigma=jnp.asarray(self.sigma, dtype),
    )

  def check_scalar(self) -> None:
    """Raise if alpha or sigma is an array: one process is wanted, not many."""
    for name in ('alpha', 'sigma'):
      shape = np.shape(getattr(self, name))
      if shape != ():
        raise ValueError(
          f'{name} must be a scalar, got an array of shape {shape}; vmap over '
          'it instead'
        )

  def draw(
    self,
    key: PRNGKey,
    params: PyTree,
    *,
    step_size: ArrayLike = 1.0,
    select: selection.Selection = None,
    units: _units.Given = None,
  ) -> PyTree:
    """The increment over one step, sigma step_size^(1/alpha) X.

    Leaf number i draws from fold_in(key, i), whatever is selected.

    Args:
      key: typed key, of this step.
      params: pytree of arrays; their values do not matter.
      step_size: eta >= 0, traced.
      select: the weights that get noise, see `htjax.selection`: None for every
        weight, a pytree of booleans (or of boolean arrays, entry by entry), or
        a function of the parameters that returns one.
      units: what a unit is in each leaf, see `htjax.units`; None asks the
        leaves' names.

    Returns:
      Pytree of the arrays' shapes and dtypes, zero where nothing is selected.
      Noise in float16 and bfloat16 leaves is drawn in float32 and rounded, to
      the largest finite number at most.

    Raises:
      ValueError: a legacy key; an alpha or sigma that is an array; a negative
        step_size; a selection of another structure, or of nothing; a
        selected leaf that may be one thing or another, by name.

    Values: traced alpha outside (0, 2], or traced sigma negative, infinite or
      NaN, gives NaN.
    """
    check_range('step_size', step_size, 0.0, np.inf, open_high=True)
    targets = _units.targets(select, params, units=units)
    leaves, treedef = jax.tree.flatten(params)
    draws = self.draw_leaves(check_key(key), leaves, targets, step_size)
    return jax.tree.unflatten(
      treedef,
      [
        jnp.zeros_like(leaf) if x is None else jnp.broadcast_to(x, leaf.shape)
        for leaf, x in zip(leaves, draws, strict=True)
      ],
    )

  def kick(
    self,
    key: PRNGKey,
    params: PyTree,
    *,
    step_size: ArrayLike = 1.0,
    select: selection.Selection = None,
    units: _units.Given = None,
  ) -> PyTree:
    """Parameters after one increment, `draw` added to them.

    In leaves narrower than float32 the sum is rounded up or down at random,
    right on average, so that noise below their spacing is not lost.

    Args:
      key: typed key, of this step.
      params: pytree of arrays.
      step_size: eta >= 0, traced.
      select: the weights that get noise, see `htjax.selection`.
      units: what a unit is in each leaf, see `htjax.units`; None asks the
        leaves' names.

    Returns:
      Pytree of the arrays' shapes and dtypes.

    Raises:
      ValueError: a legacy key; an alpha or sigma that is an array; a negative
        step_size; a selection of another structure, or of nothing; a
        selected leaf that may be one thing or another, by name.
    """
    check_range('step_size', step_size, 0.0, np.inf, open_high=True)
    targets = _units.targets(select, params, units=units)
    leaves, treedef = jax.tree.flatten(params)
    wide = [widened(leaf) for leaf in leaves]
    draws = self.draw_leaves(check_key(key), wide, targets, step_size)
    return jax.tree.unflatten(
      treedef,
      [
        leaf
        if x is None
        else narrowed(jax.random.fold_in(key, ROUNDING + i), w + x, leaf.dtype)
        for i, (leaf, w, x) in enumerate(zip(leaves, wide, draws, strict=True))
      ],
    )

  def draw_leaves(
    self,
    key: PRNGKey,
    leaves: list[Array],
    targets: list[_units.Target | None],
    step_size: Any,
  ) -> list[Any]:
    """The addend of each leaf, to be broadcast; None where nothing is."""
    self.check_scalar()
    return [
      None
      if target is None
      else self.draw_leaf(jax.random.fold_in(key, i), leaf, target, step_size)
      for i, (leaf, target) in enumerate(zip(leaves, targets, strict=True))
    ]

  def draw_leaf(
    self,
    key: PRNGKey,
    leaf: Array,
    target: _units.Target,
    step_size: Any,
    size: Array | None = None,
  ) -> Array:
    """The addend of one leaf, to be broadcast.

    Args:
      key: typed key, of this leaf and step.
      leaf: array of the shape and dtype that are wanted.
      target: where it gets noise.
      step_size: eta >= 0.
      size: factors of the units, broadcasting against what is drawn, or None.

    Returns:
      Array of the leaf's dtype and rank. Of Type I it has size 1 along the
      axes of a unit's vector, unless booleans choose entries.
    """
    dtype = jnp.float64 if leaf.dtype == jnp.float64 else jnp.float32
    process = self.astype(dtype)
    scale = process.scale(jnp.asarray(step_size, dtype))
    if size is not None:
      scale = scale * size.astype(dtype)
    x = _vectors(
      jax.random.key_data(key),
      process.alpha,
      scale,
      impl=jax.random.key_impl(key),
      shape=tuple(leaf.shape),
      kind=self.kind,
      axes=target.leaf.vector_axes(self.unit),
    )
    x = self._cut(x, scale, leaf.dtype)
    if target.flag is True:
      return x
    return jnp.where(target.flag, x, jnp.zeros_like(x))

  def draw_entries(
    self, key: PRNGKey, leaf: Array, index: Array, step_size: Any
  ) -> Array:
    """Some entries of the addend of one leaf, of Type II.

    Args:
      key: typed key, of this leaf and step.
      leaf: float32 or float64 array, all of which gets noise.
      index: uint32, flat indices of the entries.
      step_size: eta >= 0.

    Returns:
      Array of the leaf's dtype and the shape of `index`.
    """
    process = self.astype(leaf.dtype)
    scale = process.scale(jnp.asarray(step_size, leaf.dtype))
    x = sample_components(key, process.alpha, tuple(leaf.shape), scale, index)
    return self._cut(x, scale, leaf.dtype)

  def _cut(self, x: Array, scale: Array, dtype: Any) -> Array:
    """Draws within the truncation and the finite numbers of the dtype."""
    if self.truncation is not None:
      x = jnp.clip(x, -self.truncation * scale, self.truncation * scale)
    largest = jnp.finfo(dtype).max.astype(x.dtype)
    return jnp.clip(x, -largest, largest).astype(dtype)

  def tree_flatten_with_keys(self) -> tuple[Any, Any]:
    """Leaves and what is static, for JAX."""
    name = jax.tree_util.GetAttrKey
    leaves = (name('alpha'), self.alpha), (name('sigma'), self.sigma)
    return leaves, (self.kind, self.unit, self.truncation)

  @classmethod
  def tree_unflatten(cls, static: Any, leaves: Any) -> 'StableNoise':
    """The process of these leaves, which need not be numbers, for JAX."""
    process = object.__new__(cls)
    names = ('alpha', 'sigma', 'kind', 'unit', 'truncation')
    for name, value in zip(names, (*leaves, *static), strict=True):
      object.__setattr__(process, name, value)
    return process


# All of a dense kernel [fan_in, fan_out].
KERNEL = _units.Target(True, _units.Leaf('dense', units=(1,), inputs=(0,)))


# Compiled here, so that calls outside of jit do not compile it anew each time.
@functools.partial(jax.jit, static_argnames=('impl', 'shape', 'kind', 'axes'))
def _vectors(
  words: Array,
  alpha: Array,
  scale: Array,
  *,
  impl: Any,
  shape: tuple[int, ...],
  kind: str,
  axes: tuple[int, ...],
) -> Array:
  """Stable vectors along `axes` of an array, of Type I one number for each."""

  def draw(shape: tuple[int, ...]) -> Array:
    key = jax.random.wrap_key_data(words, impl=impl)
    return stable.sample_vectors(
      key, alpha, shape, scale.dtype, kind=kind, axis=axes, scale=scale
    )

  if kind != 'type1':
    return draw(shape)
  shape = tuple(1 if i in axes else size for i, size in enumerate(shape))
  # A branch ends the fusion. Without it the CPU backend draws each number
  # again for every weight that it is added to. That it is always taken, the
  # compiler does not see. The key is made inside it from its words, because
  # vmap would make a select of the branch, which reuses keys.
  always = lax.population_count(words.reshape(-1)[0]) <= 32
  return lax.cond(
    always, lambda: draw(shape), lambda: jnp.zeros(shape, scale.dtype)
  )
