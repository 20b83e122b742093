"""Whether a function is the same computation once units are cut out.

A function may remember how many units there were: divide by their number, cut
the fifth to the eighth out of an array, fold an axis into a fixed number of
groups. With smaller arrays it then fails, or runs and is another one. Its two
jaxprs tell: the operations and numbers must be equal, and every array must have
lost along each axis what the ties say.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from htjax.pruning.costs import trace
from htjax.units import jaxprs
from htjax.units.following.known import is_variable
from htjax.units.jaxprs import Followed
from htjax.units.ties import Labels, Resolved

_NUMBER = 'a number in the computation depends on how many units there are'
_SHAPE = 'an array of fixed size, or a fixed part of one, holds units'
# Parameters of an operation that follow from how many channels there are.
_SIZES = ('feature_group_count',)
# Trees that say which operands a loop carries; numbers before JAX 0.11.
_CARRIED = ('ft_in',)


class Network:
  """A function of parameters, before anything is cut.

  Raises:
    ValueError: side effects, or a function that cannot be traced.

  Attributes:
    closed: its jaxpr.
  """

  def __init__(
    self, apply: Callable[..., Any], params: Any, inputs: Sequence[Any]
  ) -> None:
    self._apply = apply
    self._treedef = jax.tree.structure(params)
    self._inputs = inputs
    self.closed = trace(apply, params, inputs)

  def difference(
    self,
    small: Sequence[np.ndarray],
    followed: Followed,
    resolved: Resolved,
    gone: set[int],
  ) -> str | None:
    """Say why the function is another one with small arrays.

    Args:
      small: the leaves, cut.
      followed: the function, followed with the leaves as they were.
      resolved: its ties, resolved.
      gone: the final atoms that are cut.

    Returns:
      The reason, or None if it computes the same.
    """
    params = jax.tree.unflatten(self._treedef, small)
    try:
      closed = jaxprs.trace(self._apply, params, self._inputs)
    except Exception as error:  # whatever the user's function raises
      line = (str(error).splitlines() or [''])[0]
      return f'{type(error).__name__}: {line}'
    lost = np.array([bool(gone.intersection(p)) for p in resolved.parts] + [0])
    return _Comparison(followed, lost.astype(bool)).closed(self.closed, closed)


class _Comparison:
  """Goes through two jaxprs side by side."""

  def __init__(self, followed: Followed, lost: np.ndarray) -> None:
    # An equation in a function that is called twice was met twice, in order.
    self.steps = {key: iter(steps) for key, steps in followed.steps.items()}
    self.lost = lost  # of each atom and, at -1, of what never goes

  def closed(self, a: Any, b: Any) -> str | None:
    """Compare two jaxprs, closed or not."""
    for x, y in zip(_consts(a), _consts(b), strict=False):
      if np.shape(x) != np.shape(y) or not _equal(x, y):
        return _NUMBER
    a, b = getattr(a, 'jaxpr', a), getattr(b, 'jaxpr', b)
    if len(a.eqns) != len(b.eqns):
      return _NUMBER
    found = (self.equation(x, y) for x, y in zip(a.eqns, b.eqns, strict=True))
    return next((why for why in found if why is not None), None)

  def equation(self, a: Any, b: Any) -> str | None:
    if (
      a.primitive.name != b.primitive.name or a.params.keys() != b.params.keys()
    ):
      return _NUMBER
    for x, y in zip(a.invars, b.invars, strict=True):
      if is_variable(x) != is_variable(y):
        return _NUMBER
      if not is_variable(x) and not _equal(x.val, y.val):
        return _NUMBER
    for name, value in a.params.items():
      plain = isinstance(value, bool | int | float | str) or name in _CARRIED
      if plain and name not in _SIZES and repr(value) != repr(b.params[name]):
        return _NUMBER
    # In the order in which they were followed.
    names = sorted(a.params, key=lambda name: name == 'body_jaxpr')
    pairs = [[x for n in names for x in _jaxprs(e.params[n])] for e in (a, b)]
    for x, y in zip(*pairs, strict=True):
      why = self.closed(x, y)
      if why is not None:
        return why
    return self.shapes(a, b)

  def shapes(self, a: Any, b: Any) -> str | None:
    """Whether what an equation makes has lost what it should have."""
    given, made = next(self.steps.get(id(a), iter(())), ([], []))
    for labels, var in zip(made, b.outvars, strict=False):
      for own, size in zip(labels, var.aval.shape, strict=True):
        if own is not None and self.kept(own).sum() != size:
          return _SHAPE
    if a.primitive.name == 'slice' and not self.same_part(given[0], a, b):
      return _SHAPE
    return None

  def kept(self, labels: np.ndarray) -> np.ndarray:
    """[size], whether an index of an axis is left."""
    return ~self.lost[labels].any(axis=1)

  def same_part(self, given: tuple[Labels, ...], a: Any, b: Any) -> bool:
    """Whether two slices take the same indices, of those that are left."""
    for d, own in enumerate(given):
      if own is None:
        continue
      left = np.flatnonzero(self.kept(own))
      before = np.arange(len(own))[_cut(a, d)]
      if not np.array_equal(np.intersect1d(before, left), left[_cut(b, d)]):
        return False
    return True


def _cut(eqn: Any, axis: int) -> slice:
  p = eqn.params
  step = 1 if p['strides'] is None else p['strides'][axis]
  return slice(p['start_indices'][axis], p['limit_indices'][axis], step)


def _consts(jaxpr: Any) -> Sequence[Any]:
  return getattr(jaxpr, 'consts', ())


def _equal(a: Any, b: Any) -> bool:
  """Whether two constants are equal to the last bit."""
  if jnp.issubdtype(jnp.result_type(a), jax.dtypes.prng_key):
    a, b = jax.random.key_data(a), jax.random.key_data(b)
  return np.asarray(a).tobytes() == np.asarray(b).tobytes()


def _jaxprs(value: Any) -> list[Any]:
  """The jaxprs in a parameter of an operation."""
  found = jax.tree.leaves(
    value, is_leaf=lambda p: hasattr(p, 'jaxpr') or hasattr(p, 'eqns')
  )
  return [p for p in found if hasattr(p, 'jaxpr') or hasattr(p, 'eqns')]
