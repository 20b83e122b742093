"""The smallest kept fraction of each layer that reaches an error."""

from htjax.checks import check_choice, check_range, checked
from htjax.compressibility import check_order
from htjax.pruning.magnitudes import affordable, prune_units
from htjax.pruning.results import Pruned, check_scalar
from htjax.pruning.spectra import prune_values
from htjax.selection import Selection
from htjax.types import ArrayLike, PyTree
from htjax.units import Given

_UNITS = {
  'magnitude': 'entries',
  'columns': 'columns',
  'rows': 'rows',
  'filters': 'filters',
  'kernels': 'kernels',
}
METHODS = (*_UNITS, 'singular_values')


@checked
def to_error(
  params: PyTree,
  epsilon: ArrayLike,
  *,
  method: str,
  p: float = 2,
  center: str | None = None,
  protocol: str = 'paper',
  select: Selection = None,
  units: Given = None,
) -> Pruned:
  """Prune each leaf as far as a relative error allows.

  Of each selected leaf w the least is kept with |pruned - w|_p <= epsilon |w|_p
  over all its entries; equality is allowed. The norms are not squared: of
  squared norms the shares are epsilon^2, and `columns_to_error` takes those.

  Args:
    params: pytree of arrays.
    epsilon: relative error in [0, 1], traced.
    method: what is pruned: 'magnitude', 'columns', 'rows', 'filters',
      'kernels' or 'singular_values', as the function of that name does.
    p: order of the norm, static; 2 for 'singular_values', where it is the
      Frobenius norm.
    center: 'median' prunes each leaf minus its median, and takes the error
      relative to that; see `magnitude`.
    protocol: as in the function named by `method`.
    select: which leaves; None is every weight.
    units: what a unit is in each leaf, see `htjax.units`; None asks names.

  Returns:
    Pruned; see `leaf_ratios` for the layers' pruning ratios. A leaf of zeros,
    or any at epsilon 1, loses everything.

  Raises:
    ValueError: a concrete epsilon outside [0, 1], an unknown method, another p
      for 'singular_values'; otherwise as the function named by `method`.

  Values: traced NaN or infinity in a leaf prunes nothing of it (or, for
    'singular_values', makes it NaN); a traced epsilon outside [0, 1] makes the
    selected leaves NaN.

  Source: [HT], eq. (S5); section 5 and Figure 3 with `center='median'`, epsilon
    0.1 and p = 2.

  Examples:
    >>> import jax.numpy as jnp
    >>> from htjax import pruning
    >>> params = {'w': jnp.array([[3.0, 0.5, -2.0], [1.0, 0.25, 2.0]])}
    >>> pruned = pruning.to_error(params, 0.3, method='magnitude')
    >>> pruned.mask['w'].tolist()
    [[True, False, True], [False, False, True]]
  """
  check_choice('method', method, METHODS)
  check_range('epsilon', epsilon, 0.0, 1.0)
  check_scalar('epsilon', epsilon)
  check_order(p)
  count = affordable(epsilon, p=p)
  if method == 'singular_values':
    if p != 2:
      raise ValueError(f"p must be 2 for method 'singular_values', got {p!r}")
    return prune_values(
      params,
      count,
      epsilon,
      center=center,
      protocol=protocol,
      select=select,
      units=units,
    )
  return prune_units(
    params,
    count,
    epsilon,
    unit=_UNITS[method],
    p=p,
    center=center,
    protocol=protocol,
    select=select,
    units=units,
  )
