"""Following the axes of a network's leaves through its computation.

A jaxpr is gone through once, operation by operation. Each array carries the
labels of its axes (see `ties`), and what is known of its entries without the
inputs: a leaf is known, a unit whose incoming weights are zero is known to be
zero, and so on through biases, normalisations and activations. Where a sum
over units meets a kernel it is noted which of them the kernel reads.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from htjax.units.ties import Labels, Ties, fixed

# Operations on entries, one by one: an axis of the result is that axis of each
# operand.
_ENTRYWISE = frozenset(
  """
  add sub mul div rem max min pow atan2 nextafter and or xor not eq ne ge gt le
  lt neg sign abs floor ceil round is_finite exp exp2 expm1 log log1p sqrt rsqrt
  cbrt logistic tanh sin cos tan sinh cosh asin acos atan asinh acosh atanh erf
  erfc erf_inv lgamma digamma square integer_pow select_n clamp
  convert_element_type stop_gradient copy copy_p real imag conj reduce_precision
  shift_left shift_right_logical optimization_barrier add_any population_count
  clz sharding_constraint name
  """.split()  # noqa: SIM905
)
Shape = tuple[int, ...]
Shapes = list[Shape]
# Labels of the axes of several arrays.
Axes = list[tuple[Labels, ...]]
# Operations that numpy does to the same bit on floats, without a compilation.
_NUMPY: dict[str, Callable[..., Any]] = {
  'add': np.add,
  'sub': np.subtract,
  'mul': np.multiply,
  'div': np.divide,
  'max': np.maximum,
  'min': np.minimum,
  'neg': np.negative,
  'abs': np.abs,
  'sqrt': np.sqrt,
  'square': np.square,
  'eq': np.equal,
  'ne': np.not_equal,
  'lt': np.less,
  'le': np.less_equal,
  'gt': np.greater,
  'ge': np.greater_equal,
}
_CALLS = {
  'jit': 'jaxpr',
  'pjit': 'jaxpr',
  'closed_call': 'call_jaxpr',
  'core_call': 'call_jaxpr',
  'remat': 'jaxpr',
  'remat2': 'jaxpr',
  'checkpoint': 'jaxpr',
  'custom_jvp_call': 'call_jaxpr',
  'custom_vjp_call': 'call_jaxpr',
  'custom_vjp_call_jaxpr': 'fun_jaxpr',
  'custom_lin': 'call_jaxpr',
}


class Value(NamedTuple):
  """Knowledge of an array.

  Attributes:
    labels: of each axis.
    value: the entries that are known, broadcastable to the array; None for an
      array that is too strange to keep.
    known: where they are, likewise.
    leaf: the leaf that this array is, but for axes of length 1, or None.
    read: the reading whose sum this array is, or None.
    turn: whether this is a loop's part of an array that is all known.
  """

  labels: tuple[Labels, ...]
  value: np.ndarray
  known: np.ndarray
  leaf: int | None = None
  read: 'Read | None' = None
  turn: bool = False

  @property
  def fixed(self) -> bool:
    """Whether the array depends on no input."""
    return self.turn or bool(self.known.all())

  @property
  def zero(self) -> np.ndarray:
    """[..] boolean, true at known zeros; broadcastable to the array."""
    return self.known & (self.value == 0)


class Read:
  """A sum over an axis of units.

  Attributes:
    labels: of that axis.
    unread: [size], whether the sum is the same without the unit.
    spoilt: [size], whether it is known to have a NaN or infinity of the unit.
    constant: [size], its known value where it has one that is the same for all
      inputs and positions, else NaN.
    weights: [size, outputs], what the constants are multiplied with, or None.
    fold: (leaf, sign): adding sign times the constants' share to this leaf
      takes their place; None where there is no such leaf.
    out: labels of each axis of the outputs; None for a sum that no bias takes.
    by_weights: atoms of that axis of the parameters it is multiplied with.
    rows: of each index its final atoms, once the ties are resolved.
    where: which operation, for messages.
  """

  def __init__(
    self,
    labels: Labels,
    unread: np.ndarray,
    constant: np.ndarray,
    weights: np.ndarray | None,
    where: str,
  ) -> None:
    self.labels = labels
    self.unread = unread
    self.spoilt = np.zeros_like(unread)
    self.constant = constant
    self.weights = weights
    self.out: Sequence[Labels] | None = None
    self.fold: tuple[int, int] | None = None
    self.rows: list[tuple[int, ...]] = []
    self.by_weights: set[int] = set()
    self.where = where


class Followed(NamedTuple):
  """A network, followed from its leaves to its outputs.

  Attributes:
    closed: its computation.
    labels: of each axis of each leaf.
    ties: between them.
    reads: the sums over units.
    multiplied: atoms of the parameters that are a factor of such a sum.
    steps: id of an equation -> labels of what it was given and of what it
      gave, for each time it was met.
  """

  closed: Any
  labels: list[tuple[Labels, ...]]
  ties: Ties
  reads: list[Read]
  multiplied: set[int]
  steps: dict[int, list[tuple[Axes, Axes]]]


def trace(apply: Callable[..., Any], params: Any, inputs: Sequence[Any]) -> Any:
  """The jaxpr of `apply(params, *inputs)`, from shapes alone."""
  shapes = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(np.shape(a), jnp.result_type(a)), params
  )
  return jax.make_jaxpr(apply)(shapes, *inputs)


def follow(closed: Any, leaves: Sequence[Any]) -> Followed:
  """Follow the leaves of a network's parameters through its computation.

  Args:
    closed: the computation, from `trace`.
    leaves: concrete arrays, the first arguments of the computation.

  Returns:
    Followed. What is known of the inputs is their shape.
  """
  walk = _Walk()
  arguments = []
  used = {v for e in closed.jaxpr.eqns for v in e.invars if is_variable(v)}
  used |= {v for v in closed.jaxpr.outvars if is_variable(v)}
  for i, (var, leaf) in enumerate(
    zip(closed.jaxpr.invars[: len(leaves)], leaves, strict=True)
  ):
    array = np.asarray(leaf)
    new = walk.ties.fresh if var in used else fixed
    labels = tuple(new(n) for n in array.shape)
    arguments.append(Value(labels, array, np.ones_like(array, bool), leaf=i))
  own = list(arguments)
  for var in closed.jaxpr.invars[len(leaves) :]:
    arguments.append(_unknown(var.aval.shape))
  outputs = walk.jaxpr(closed.jaxpr, closed.consts, arguments)
  for out in outputs:
    walk.stay(out, 'the outputs of the network stay')
  return Followed(
    closed,
    [v.labels for v in own],
    walk.ties,
    walk.reads,
    walk.multiplied,
    walk.steps,
  )


def is_variable(var: Any) -> bool:
  """Whether an operand is computed, and not a number written in the jaxpr."""
  # By its value: `jax.extend` costs a twentieth of `import jax` to load.
  return not hasattr(var, 'val')


def _unknown(shape: Sequence[int], labels: Any = None) -> Value:
  ones = (1,) * len(shape)
  if labels is None:
    labels = tuple(fixed(n) for n in shape)
  return Value(tuple(labels), np.zeros(ones), np.zeros(ones, bool))


def _constant(value: Any) -> Value:
  """An array that the computation brings along: it keeps its size."""
  array = np.asarray(value)
  if array.dtype == object or not (
    np.issubdtype(array.dtype, np.number) or array.dtype == bool
  ):
    try:
      array = np.asarray(jnp.asarray(value).astype(jnp.float32))
    except (TypeError, ValueError):
      return _unknown(np.shape(value))
  labels = tuple(fixed(n) for n in array.shape)
  return Value(labels, array, np.ones_like(array, bool))


class _Walk:
  """Goes through jaxprs; every rule is a method called as its primitive."""

  def __init__(self) -> None:
    self.ties = Ties()
    self.reads: list[Read] = []
    self.multiplied: set[int] = set()
    self.steps: dict[int, list[tuple[Axes, Axes]]] = {}

  def stay(self, value: Value, reason: str) -> None:
    """No axis of this array loses anything."""
    for labels in value.labels:
      self.ties.freeze(labels, reason)

  def jaxpr(
    self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Value]
  ) -> list[Value]:
    """Follow the equations of a jaxpr; returns what it returns."""
    env: dict[Any, Value] = {}
    env |= zip(jaxpr.constvars, map(_constant, consts), strict=True)
    env |= zip(jaxpr.invars, arguments, strict=True)
    uses: dict[Any, int] = {}
    for eqn in jaxpr.eqns:
      for var in eqn.invars:
        if is_variable(var):
          uses[var] = uses.get(var, 0) + 1
    for var in jaxpr.outvars:
      if is_variable(var):
        uses[var] = uses.get(var, 0) + 1

    def read(var: Any) -> Value:
      if not is_variable(var):
        return _constant(var.val)
      value = env[var]
      # A sum or leaf of two uses is more than the one that it is added to.
      return value if uses[var] == 1 else value._replace(read=None, leaf=None)

    for eqn in jaxpr.eqns:
      operands = [read(v) for v in eqn.invars]
      shapes = [tuple(v.aval.shape) for v in eqn.invars]
      results = self.equation(eqn, operands, shapes)
      self.steps.setdefault(id(eqn), []).append(
        ([v.labels for v in operands], [v.labels for v in results])
      )
      env |= zip(eqn.outvars, results, strict=True)
    return [read(v) for v in jaxpr.outvars]

  def equation(
    self, eqn: Any, operands: list[Value], shapes: list[tuple[int, ...]]
  ) -> list[Value]:
    """Follow one equation."""
    name = eqn.primitive.name
    out = [tuple(v.aval.shape) for v in eqn.outvars]
    if name in _CALLS:
      inner = eqn.params[_CALLS[name]]
      consts = getattr(inner, 'consts', ())
      return self.jaxpr(getattr(inner, 'jaxpr', inner), consts, operands)
    if name in _ENTRYWISE:
      return self.entrywise(eqn, operands, shapes, out)
    rule = getattr(self, name, None)
    if rule is not None:
      return rule(eqn, operands, shapes, out)
    for value in operands:
      self.stay(value, f'units are not followed through {name}')
    return [_unknown(shape) for shape in out]

  # Entries one by one ---------------------------------------------------------

  def entrywise(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    if len(out) > 1:  # optimization_barrier
      return list(operands)
    (shape,) = out
    labels: list[Labels] = [None] * len(shape)
    reason = f'two operands of {eqn.primitive.name} meet'
    for value, own in zip(operands, shapes, strict=True):
      if len(own) == len(shape):
        for d, n in enumerate(own):
          if n == shape[d] and n > 1:
            labels[d] = self.ties.tie(labels[d], value.labels[d], reason)
    labels = [
      fixed(1) if n == 1 else x for x, n in zip(labels, shape, strict=True)
    ]
    result = Value(tuple(labels), *self.evaluate(eqn, operands, shape))
    if eqn.primitive.name in ('convert_element_type', 'copy', 'copy_p'):
      first = operands[0]
      return [
        result._replace(leaf=first.leaf, read=first.read, turn=first.turn)
      ]
    self.fold(eqn.primitive.name, operands, shapes)
    return [result]

  def evaluate(
    self, eqn: Any, operands: list[Value], shape: Shape
  ) -> tuple[np.ndarray, np.ndarray]:
    """The result where all operands are known, or where a factor is zero."""
    known = np.ones((1,) * len(shape), bool)
    for value in operands:
      known = known & value.known
    if eqn.primitive.name == 'mul':
      known = known | operands[0].zero | operands[1].zero
    if not known.any():
      return np.zeros((1,) * len(shape)), np.zeros((1,) * len(shape), bool)
    # Unknown entries are computed too, from zeros, and not looked at.
    result = _computed(eqn, [v.value for v in operands])
    if eqn.primitive.name == 'mul':
      zero = operands[0].zero | operands[1].zero
      both = operands[0].known & operands[1].known  # 0 times infinity is NaN
      result = np.where(zero & ~both, np.zeros((), result.dtype), result)
    return result, known

  def fold(self, name: str, operands: list[Value], shapes: Shapes) -> None:
    """Note the leaf that a sum over units is added to."""
    if name not in ('add', 'add_any', 'sub'):
      return
    for this, other in ((0, 1), (1, 0)):
      found, leaf = operands[this].read, operands[other].leaf
      if found is None or found.weights is None or leaf is None:
        continue
      if self.along(found, operands[this], shapes[other]) and (
        name != 'sub' or this == 0
      ):
        found.fold = (leaf, -1 if name == 'sub' else 1)

  def along(self, found: Read, total: Value, shape: Shape) -> bool:
    """Whether an array of this shape lies along the outputs of a sum."""
    if found.weights is None or found.out is None:
      return False
    if math.prod(shape) != found.weights.shape[1]:
      return False
    own = [total.labels[d] for d, n in enumerate(shape) if n > 1]
    out = [x for x in found.out if x is None or len(x) > 1]
    # Two axes of equal labels could be taken for one another.
    ends = {x[0].tobytes() for x in out if x is not None}
    return len(own) == len(out) == len(ends) and all(
      a is not None and b is not None and np.array_equal(a, b)
      for a, b in zip(own, out, strict=True)
    )

  # Axes moved around ----------------------------------------------------------

  def moved(
    self,
    value: Value,
    labels: Sequence[Labels],
    change: Callable[[np.ndarray], np.ndarray],
  ) -> Value:
    return value._replace(
      labels=tuple(labels), value=change(value.value), known=change(value.known)
    )

  def broadcast_in_dim(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    value, dims = operands[0], eqn.params['broadcast_dimensions']
    labels: list[Labels] = [None] * len(out[0])
    for d, axis in enumerate(dims):
      if shapes[0][d] == out[0][axis]:
        labels[axis] = value.labels[d]
    sizes = [1] * len(out[0])

    def change(x: np.ndarray) -> np.ndarray:
      for d, axis in enumerate(dims):
        sizes[axis] = x.shape[d]
      return x.reshape(sizes)

    moved = self.moved(value, labels, change)
    if math.prod(out[0]) != math.prod(shapes[0]):
      moved = moved._replace(leaf=None, read=None)
    return [moved]

  def transpose(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    order = [int(d) for d in eqn.params['permutation']]
    value = operands[0]
    moved = self.moved(
      value, [value.labels[d] for d in order], lambda x: x.transpose(order)
    )
    return [moved._replace(leaf=None)]

  def squeeze(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    gone = {int(d) % len(shapes[0]) for d in eqn.params['dimensions']}
    value = operands[0]
    keep = [d for d in range(len(shapes[0])) if d not in gone]
    return [
      self.moved(
        value,
        [value.labels[d] for d in keep],
        lambda x: x.reshape([x.shape[d] for d in keep]),
      )
    ]

  def expand_dims(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    return self.reshape(eqn, operands, shapes, out)

  def rev(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    value, dims = operands[0], tuple(int(d) for d in eqn.params['dimensions'])
    labels = [
      x[::-1] if d in dims and x is not None else x
      for d, x in enumerate(value.labels)
    ]
    moved = self.moved(value, labels, lambda x: np.flip(x, dims))
    return [moved._replace(leaf=None, read=None)]

  def reshape(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    value, (before,), (after,) = operands[0], shapes, out
    labels: list[Labels] = [fixed(1)] * len(after)
    reason = 'a reshape takes units apart'
    for old, new in _blocks(before, after):
      sizes = [after[d] for d in new]
      if len(old) == 1 and len(new) == 1:
        parts = [value.labels[old[0]]]
      else:
        flat = self.ties.merge([(value.labels[d], before[d]) for d in old])
        parts = (
          [flat] if len(new) == 1 else self.ties.split(flat, sizes, reason)
        )
      for d, part in zip(new, parts, strict=True):
        labels[d] = part
    return [self.moved(value, labels, lambda x: _reshape(x, before, after))]

  def slice(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    p, value = eqn.params, operands[0]
    strides = p['strides'] or (1,) * len(shapes[0])
    cuts = [
      slice(a, b, s)
      for a, b, s in zip(
        p['start_indices'], p['limit_indices'], strides, strict=True
      )
    ]
    labels = [
      x if x is None else x[c] for x, c in zip(value.labels, cuts, strict=True)
    ]

    def change(x: np.ndarray) -> np.ndarray:
      return x[
        tuple(
          c if n > 1 else slice(None)
          for c, n in zip(cuts, x.shape, strict=True)
        )
      ]

    moved = self.moved(value, labels, change)
    whole = out[0] == shapes[0]
    return [moved if whole else moved._replace(leaf=None, read=None)]

  def split(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    axis, value = eqn.params['axis'], operands[0]
    results, start = [], 0
    for shape in out:
      stop = start + shape[axis]
      labels = list(value.labels)
      if labels[axis] is not None:
        labels[axis] = labels[axis][start:stop]

      def change(
        x: np.ndarray, start: int = start, stop: int = stop
      ) -> np.ndarray:
        cut = slice(start, stop) if x.shape[axis] > 1 else slice(None)
        return x[(slice(None),) * axis + (cut,)]

      part = self.moved(value, labels, change)
      results.append(part._replace(leaf=None, read=None))
      start = stop
    return results

  def concatenate(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    axis, rank = eqn.params['dimension'], len(out[0])
    labels: list[Labels] = [None] * rank
    for d in range(rank):
      if d != axis:
        for value in operands:
          labels[d] = self.ties.tie(labels[d], value.labels[d], 'concatenation')
    parts = [
      fixed(s[axis]) if v.labels[axis] is None else v.labels[axis]
      for v, s in zip(operands, shapes, strict=True)
    ]
    width = max(p.shape[1] for p in parts)
    labels[axis] = np.concatenate(
      [np.pad(p, ((0, 0), (0, width - p.shape[1])), mode='edge') for p in parts]
    )

    def joined(field: str) -> np.ndarray:
      arrays = [getattr(v, field) for v in operands]
      others = np.broadcast_shapes(
        *((*a.shape[:axis], 1, *a.shape[axis + 1 :]) for a in arrays)
      )
      return np.concatenate(
        [
          np.broadcast_to(a, (*others[:axis], s[axis], *others[axis + 1 :]))
          for a, s in zip(arrays, shapes, strict=True)
        ],
        axis=axis,
      )

    return [Value(tuple(labels), joined('value'), joined('known'))]

  def pad(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    value = operands[0]
    labels = []
    for d, (low, high, inner) in enumerate(eqn.params['padding_config']):
      if low == high == inner == 0:
        labels.append(value.labels[d])
      else:
        self.ties.freeze(value.labels[d], 'a padding has a fixed size')
        labels.append(fixed(out[0][d]))
    return [_unknown(out[0], labels)]

  # Sums -----------------------------------------------------------------------

  def dot_general(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    (ca, cb), (ba, bb) = eqn.params['dimension_numbers']
    a, b = operands
    free_a = [d for d in range(len(shapes[0])) if d not in (*ca, *ba)]
    free_b = [d for d in range(len(shapes[1])) if d not in (*cb, *bb)]
    batch = [
      self.ties.tie(a.labels[i], b.labels[j], 'a batch axis')
      for i, j in zip(ba, bb, strict=True)
    ]
    for i, j in zip(ca, cb, strict=True):
      self.ties.tie(a.labels[i], b.labels[j], 'a sum over units')
    labels = [
      *batch,
      *(a.labels[d] for d in free_a),
      *(b.labels[d] for d in free_b),
    ]
    for side in (a, b):
      if side.fixed:
        self.multiplied |= set().union(*map(_atoms, side.labels))
    value, known = _product(a, b, shapes, (ca, cb), (ba, bb), (free_a, free_b))
    found = None
    for i, j in zip(ca, cb, strict=True):
      size = shapes[0][i]
      found = self.note(a, i, b, j, size, len(ca) == 1 and not ba)
      if len(ca) > 1 or found is None:
        found = None
    return [Value(tuple(labels), value, known, read=found)]

  def note(
    self, a: Value, i: int, b: Value, j: int, size: int, foldable: bool
  ) -> 'Read | None':
    """Note which units a sum over axis i of a and j of b reads."""
    labels = b.labels[j] if a.labels[i] is None else a.labels[i]
    if labels is None or (labels < 0).all():
      return None
    unread = _all_zero(a, i, size) | _all_zero(b, j, size)
    spoilt = _not_finite(a, i, size) | _not_finite(b, j, size)
    constant, weights = np.full(size, np.nan), None
    out: Sequence[Labels] | None = None
    if foldable:
      for this, axis, other, across in ((a, i, b, j), (b, j, a, i)):
        if other.known.all() and np.isnan(constant).all():
          constant = _uniform(this, axis, size)
          weights = np.moveaxis(
            np.broadcast_to(
              other.value,
              [
                size if d == across else n
                for d, n in enumerate(other.value.shape)
              ],
            ),
            across,
            0,
          ).reshape(size, -1)
          out = [x for d, x in enumerate(other.labels) if d != across]
    found = Read(
      labels, unread & ~spoilt, constant, weights, 'a sum over units'
    )
    found.spoilt = spoilt
    found.out = out
    for side, axis in ((a, i), (b, j)):
      if side.fixed:
        found.by_weights |= _atoms(side.labels[axis])
    self.reads.append(found)
    return found if foldable else None

  def conv_general_dilated(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    p = eqn.params
    numbers = p['dimension_numbers']
    (ln, lc, *ls), (ro, ri, *rs) = numbers.lhs_spec, numbers.rhs_spec
    on, oc, *os = numbers.out_spec
    x, kernel = operands
    groups = p['feature_group_count']
    labels: list[Labels] = [None] * len(out[0])
    labels[on] = x.labels[ln]
    for d in ls:
      self.ties.freeze(x.labels[d], 'a window slides over an axis')
    for d in rs:
      self.ties.freeze(kernel.labels[d], 'the window of a convolution')
    for d in os:
      labels[d] = fixed(out[0][d])
    labels[oc] = kernel.labels[ro]
    if p['batch_group_count'] != 1:
      self.stay(x, 'a convolution groups its batch')
      self.stay(kernel, 'a convolution groups its batch')
      return [_unknown(out[0])]
    channels, units = shapes[0][lc], shapes[1][ro]
    self.multiplied |= set().union(*map(_atoms, kernel.labels))
    if groups == 1:
      self.ties.tie(x.labels[lc], kernel.labels[ri], 'a convolution')
    elif groups == channels:
      self.ties.freeze(kernel.labels[ri], 'one input a group')
      repeated = x.labels[lc]
      if repeated is not None:
        repeated = np.repeat(repeated, units // groups, axis=0)
      labels[oc] = self.ties.tie(
        repeated, kernel.labels[ro], 'a convolution of each channel'
      )
    else:
      reason = 'a convolution has groups of a fixed size'
      for fed in (x.labels[lc], kernel.labels[ri], kernel.labels[ro]):
        self.ties.freeze(fed, reason)
    return [self.convolved(eqn, operands, shapes, out[0], tuple(labels))]

  def convolved(
    self,
    eqn: Any,
    operands: list[Value],
    shapes: Shapes,
    out: Shape,
    labels: tuple[Labels, ...],
  ) -> Value:
    """The channels that a convolution reads, and its filters of zeros."""
    numbers = eqn.params['dimension_numbers']
    lc, (ro, ri, *_) = numbers.lhs_spec[1], numbers.rhs_spec
    oc, groups = numbers.out_spec[1], eqn.params['feature_group_count']
    x, kernel = operands
    channels, per_group = shapes[0][lc], shapes[1][ri]
    units = shapes[1][ro]
    silent = _all_zero(x, lc, channels)
    others = tuple(d for d in range(len(shapes[1])) if d not in (ro, ri))
    zero = np.asarray(
      np.broadcast_to(kernel.zero, shapes[1]).all(axis=others, keepdims=True)
    )
    zero = np.transpose(zero, (ro, ri, *others)).reshape(units, per_group)
    group = np.arange(units) // (units // groups)
    # [units, channels]: whether a filter reads a channel.
    reads = np.zeros((units, channels), bool)
    for i in range(per_group):
      reads[np.arange(units), group * per_group + i] = ~zero[:, i]
    idle = ~(reads & ~silent).any(axis=1)
    found = None
    if x.labels[lc] is not None and (x.labels[lc] >= 0).any():
      constant, weights = np.full(channels, np.nan), None
      unpadded = all(lo == hi == 0 for lo, hi in eqn.params['padding'])
      if groups == 1 and unpadded and kernel.known.all():
        constant = _uniform(x, lc, channels)
        total = np.broadcast_to(kernel.value, shapes[1]).sum(axis=others)
        weights = total if ri < ro else total.T
      unread = silent | ~reads.any(axis=0)
      found = Read(x.labels[lc], unread, constant, weights, 'a convolution')
      found.by_weights = _atoms(kernel.labels[ri])
      found.out = [kernel.labels[ro]]
      self.reads.append(found)
    shape = [1] * len(out)
    shape[oc] = units
    return Value(labels, np.zeros(shape), idle.reshape(shape), read=found)

  # Reductions -----------------------------------------------------------------

  def reduced(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    axes = {int(d) for d in eqn.params['axes']}
    value = operands[0]
    reason = f'{eqn.primitive.name} over units depends on their number'
    for d in axes:
      self.ties.freeze(value.labels[d], reason)
    labels = [x for d, x in enumerate(value.labels) if d not in axes]
    keep = [d for d in range(len(shapes[0])) if d not in axes]
    whole = tuple(axes)
    known = np.asarray(value.known.all(axis=whole))
    same = all(value.value.shape[d] == 1 for d in axes)
    if same and eqn.primitive.name in ('reduce_max', 'reduce_min'):
      total = value.value.reshape([value.value.shape[d] for d in keep])
    elif eqn.primitive.name == 'reduce_sum':
      count = math.prod(shapes[0][d] for d in axes if value.value.shape[d] == 1)
      total = value.value.sum(axis=whole) * count
    else:
      return [_unknown(out[0], labels)]
    return [Value(tuple(labels), total, np.asarray(known))]

  reduce_sum = reduce_max = reduce_min = reduce_prod = reduced
  reduce_and = reduce_or = argmax = argmin = reduced

  def windows(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    """A maximum or sum over windows; an axis of window 1 is left alone."""
    value, p = operands[0], eqn.params
    still = [
      w == s == 1 and tuple(pad) == (0, 0)
      for w, s, pad in zip(
        p['window_dimensions'], p['window_strides'], p['padding'], strict=True
      )
    ]
    labels = []
    for d, ok in enumerate(still):
      if not ok:
        self.ties.freeze(value.labels[d], 'a window slides over an axis')
      labels.append(value.labels[d] if ok else fixed(out[0][d]))
    moving = [d for d, ok in enumerate(still) if not ok]
    if any(value.value.shape[d] > 1 for d in moving):
      return [_unknown(out[0], labels)]
    known = value.known
    if eqn.primitive.name != 'reduce_window_max':
      known = value.zero  # sums at a border have fewer terms
    return [Value(tuple(labels), value.value, known)]

  reduce_window_max = reduce_window_min = reduce_window_sum = windows

  def cumulated(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    axis = eqn.params['axis']
    self.ties.freeze(
      operands[0].labels[axis], f'{eqn.primitive.name} runs over units'
    )
    return [_unknown(out[0], operands[0].labels)]

  cumsum = cumprod = cummax = cummin = cumlogsumexp = cumulated

  # Indices --------------------------------------------------------------------

  def iota(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    return [_unknown(out[0])]

  def gather(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    p, value = eqn.params, operands[0]
    numbers, sizes = p['dimension_numbers'], p['slice_sizes']
    gone = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    kept = [d for d in range(len(shapes[0])) if d not in gone]
    labels: list[Labels] = [fixed(n) for n in out[0]]
    through: set[int] = set()
    for d, axis in zip(kept, numbers.offset_dims, strict=True):
      if sizes[d] == shapes[0][d]:
        labels[axis] = value.labels[d]
        through.add(d)
    for d, own in enumerate(value.labels):
      if d not in through:
        self.ties.freeze(own, 'indices point into an axis')
    self.stay(operands[1], 'indices that point into an axis')
    if 'FILL' in str(p['mode']).upper():
      value = _unknown(shapes[0], value.labels)._replace(turn=value.fixed)
    places = dict(zip(kept, numbers.offset_dims, strict=True))
    return [self.picked(value, labels, {d: places[d] for d in through})]

  def picked(
    self, value: Value, labels: Sequence[Labels], places: dict[int, int]
  ) -> Value:
    """A part of an array: all of some axes, some of the others.

    Args:
      value: the array.
      labels: of the part.
      places: whole axes of the array -> those of the part.

    Returns:
      Value; what is the same wherever the part is taken from is known. A part
      of stacked matrices is the parameters' like the whole.
    """
    others = tuple(d for d in range(value.known.ndim) if d not in places)
    entries = np.broadcast_to(value.value, value.known.shape)
    first = np.take(entries, [0], others[0]) if others else entries
    for d in others[1:]:
      first = np.take(first, [0], d)
    same = value.known.all(axis=others) & (entries == first).all(axis=others)
    shape = [1] * len(labels)
    for d, axis in places.items():
      shape[axis] = value.known.shape[d]
    return Value(
      tuple(labels),
      first.reshape(shape),
      same.reshape(shape),
      turn=value.fixed and len(places) > 1,
    )

  def dynamic_slice(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    value = operands[0]
    labels = []
    for d, n in enumerate(out[0]):
      if n == shapes[0][d]:
        labels.append(value.labels[d])
      else:
        self.ties.freeze(value.labels[d], 'indices point into an axis')
        labels.append(fixed(n))
    whole = [d for d, n in enumerate(out[0]) if n == shapes[0][d]]
    return [self.picked(value, labels, {d: d for d in whole})]

  def dynamic_update_slice(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    value, update = operands[:2]
    labels = []
    for d, n in enumerate(out[0]):
      if shapes[1][d] == n:
        labels.append(
          self.ties.tie(value.labels[d], update.labels[d], 'an update')
        )
      else:
        self.ties.freeze(value.labels[d], 'indices point into an axis')
        self.ties.freeze(update.labels[d], 'indices point into an axis')
        labels.append(fixed(n))
    return [_unknown(out[0], labels)]

  # Loops ----------------------------------------------------------------------

  def scan(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    p = eqn.params
    c, k = p['num_consts'], p['num_carry']
    layers = [
      self.layer(v, s)
      for v, s in zip(operands[c + k :], shapes[c + k :], strict=True)
    ]
    carry = self.carry(operands[c : c + k], shapes[c : c + k])
    body = p['jaxpr']
    inner = self.jaxpr(
      body.jaxpr, body.consts, [*operands[:c], *carry, *layers]
    )
    carried = [
      self.carried(a, b, s)
      for a, b, s in zip(carry, inner[:k], out[:k], strict=True)
    ]
    stacked = [
      _unknown(s, (fixed(s[0]), *v.labels))
      for v, s in zip(inner[k:], out[k:], strict=True)
    ]
    return [*carried, *stacked]

  def layer(self, value: Value, shape: tuple[int, ...]) -> Value:
    """One turn's part of an array that a loop goes through."""
    self.ties.freeze(value.labels[0], 'a loop goes through its layers')
    # What is the same in all turns is known.
    same = value.known.all(axis=0) & (value.value == value.value[:1]).all(
      axis=0
    )
    whole = bool(value.known.all())
    return Value(value.labels[1:], value.value[0], same, turn=whole)

  def carry(
    self, values: Sequence[Value], shapes: Sequence[Shape]
  ) -> list[Value]:
    """Values that a loop begins with: the first turn alone knows their entries.

    An axis of a repeated scalar is one of units from now on.
    """
    return [
      _unknown(
        shape,
        tuple(
          self.ties.fresh(n) if x is None else x
          for x, n in zip(value.labels, shape, strict=True)
        ),
      )
      for value, shape in zip(values, shapes, strict=True)
    ]

  def carried(self, before: Value, after: Value, shape: Shape) -> Value:
    labels = [
      self.ties.tie(a, b, 'a loop carries units')
      for a, b in zip(before.labels, after.labels, strict=True)
    ]
    return _unknown(shape, labels)

  def while_(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    p = eqn.params
    a, b = p['cond_nconsts'], p['body_nconsts']
    carry = self.carry(operands[a + b :], shapes[a + b :])
    for value in self.jaxpr(
      p['cond_jaxpr'].jaxpr, p['cond_jaxpr'].consts, [*operands[:a], *carry]
    ):
      self.stay(value, 'a condition')
    body = p['body_jaxpr']
    inner = self.jaxpr(body.jaxpr, body.consts, [*operands[a : a + b], *carry])
    return [
      self.carried(x, y, s) for x, y, s in zip(carry, inner, out, strict=True)
    ]

  def cond(
    self, eqn: Any, operands: list[Value], shapes: Shapes, out: Shapes
  ) -> list[Value]:
    results: list[Value] | None = None
    for branch in eqn.params['branches']:
      # Another branch may use a sum or a bias without the other.
      given = [v._replace(read=None, leaf=None) for v in operands[1:]]
      found = self.jaxpr(branch.jaxpr, branch.consts, given)
      if results is None:
        results = [
          _unknown(s, v.labels) for v, s in zip(found, out, strict=True)
        ]
      else:
        results = [
          self.carried(x, y, s)
          for x, y, s in zip(results, found, out, strict=True)
        ]
    return results or []


setattr(_Walk, 'while', _Walk.while_)


def _computed(eqn: Any, values: Sequence[np.ndarray]) -> np.ndarray:
  """The result of an operation on entries, at broadcastable operands."""
  name, dtypes = eqn.primitive.name, [v.aval.dtype for v in eqn.invars]
  if name in ('copy_p', 'sharding_constraint', 'name', 'stop_gradient', 'copy'):
    return values[0]
  new = eqn.params.get('new_dtype', dtypes[0])
  floats = all(jnp.issubdtype(d, jnp.floating) for d in (*dtypes, new))
  with np.errstate(all='ignore'):
    if floats and name == 'convert_element_type':
      return values[0].astype(new)
    arrays = [np.asarray(v, d) for v, d in zip(values, dtypes, strict=True)]
    if floats and name in _NUMPY:
      return np.asarray(_NUMPY[name](*arrays))
  common = np.broadcast_shapes(*(a.shape for a in arrays))
  full = [np.broadcast_to(a, common) if a.ndim else a for a in arrays]
  return np.asarray(eqn.primitive.bind(*map(jnp.asarray, full), **eqn.params))


def _atoms(labels: Labels) -> set[int]:
  return set() if labels is None else set(labels[labels >= 0].tolist())


def _blocks(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
  """Axes that a reshape makes of axes, in runs of equal products."""
  blocks, i, j = [], 0, 0
  while i < len(before) or j < len(after):
    old: list[int] = []
    new: list[int] = []
    a = b = 1
    while True:
      if old and new and a == b:
        break
      if (a <= b and i < len(before)) or j >= len(after):
        if i >= len(before):
          break
        a *= before[i]
        old.append(i)
        i += 1
      else:
        b *= after[j]
        new.append(j)
        j += 1
    # Axes of length 1 at the end of a run belong to nothing else.
    blocks.append((old, new))
  return [(o, n) for o, n in blocks if o and n]


def _reshape(x: np.ndarray, before: Shape, after: Shape) -> np.ndarray:
  """Reshape an array some of whose axes are of length 1 for many."""
  result = [1] * len(after)
  full = list(x.shape)
  for old, new in _blocks(before, after):
    if any(x.shape[d] > 1 for d in old):
      for d in old:
        full[d] = before[d]
      for d in new:
        result[d] = after[d]
  return np.broadcast_to(x, full).reshape(result)


def _all_zero(value: Value, axis: int, size: int) -> np.ndarray:
  """[size], whether an array is known to be zero at an index of an axis."""
  others = tuple(d for d in range(value.zero.ndim) if d != axis)
  return np.broadcast_to(value.zero.all(axis=others), (size,))


def _not_finite(value: Value, axis: int, size: int) -> np.ndarray:
  """[size], whether an array is known to be NaN or infinite at an index."""
  entries = np.asarray(value.value, np.float64)
  wild = np.asarray(value.known & ~np.isfinite(entries))
  others = tuple(d for d in range(wild.ndim) if d != axis)
  return np.broadcast_to(wild.any(axis=others), (size,))


def _uniform(value: Value, axis: int, size: int) -> np.ndarray:
  """[size], the known value at an index that is the same everywhere, or NaN."""
  if any(n > 1 for d, n in enumerate(value.value.shape) if d != axis):
    return np.full(size, np.nan)
  known = np.broadcast_to(value.known.ravel(), (size,))
  entries = np.broadcast_to(value.value.ravel(), (size,))
  return np.where(known, entries, np.nan)


def _product(
  a: Value, b: Value, shapes: Shapes, contract: Any, batch: Any, free: Any
) -> tuple[np.ndarray, np.ndarray]:
  """The known entries of a product of two arrays.

  An entry is known if each of its terms is: both factors are, or one is zero.
  """
  (ca, cb), (ba, bb), (free_a, free_b) = contract, batch, free
  letters = iter('abcdefghijklmnopqrstuvwxyz')
  in_a = [next(letters) for _ in shapes[0]]
  in_b = [''] * len(shapes[1])
  for i, j in (*zip(ca, cb, strict=True), *zip(ba, bb, strict=True)):
    in_b[j] = in_a[i]
  for d in free_b:
    in_b[d] = next(letters)
  out = [in_a[d] for d in (*ba, *free_a)] + [in_b[d] for d in free_b]
  words = f'{"".join(in_a)},{"".join(in_b)}->{"".join(out)}'

  def spread(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with equal lengths along what they share."""
    shape_x, shape_y = list(x.shape), list(y.shape)
    for i, j in zip(ca, cb, strict=True):
      shape_x[i] = shape_y[j] = shapes[0][i]
    for i, j in zip(ba, bb, strict=True):
      shape_x[i] = shape_y[j] = max(x.shape[i], y.shape[j])
    return np.broadcast_to(x, shape_x), np.broadcast_to(y, shape_y)

  def product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = spread(x.astype(np.float64), y.astype(np.float64))
    return np.einsum(words, x, y, optimize=True)

  open_a, open_b = ~a.zero, ~b.zero
  # Terms that are not known: one factor is unknown, the other not zero.
  doubtful = product(~a.known, open_b) + product(open_a, ~b.known)
  known = doubtful == 0
  nans = [x.known & np.isnan(np.asarray(x.value, np.float64)) for x in (a, b)]
  if any(map(np.any, nans)):  # whatever the other factor is
    spoilt = product(nans[0], np.ones_like(b.known)) + product(
      np.ones_like(a.known), nans[1]
    )
    known = known | (spoilt > 0)
  if not known.any():
    ones = (1,) * known.ndim
    return np.zeros(ones), np.zeros(ones, bool)
  value = product(np.where(a.known, a.value, 0), np.where(b.known, b.value, 0))
  return value, known
