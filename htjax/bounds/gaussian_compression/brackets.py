"""Brackets of entries of one size: the bound beside what it bounds."""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from htjax import stable
from htjax.bounds.arguments import as_numbers, number
from htjax.bounds.gaussian_compression.kept_entries import (
  bracket_tail,
  nonzero_tail,
)
from htjax.checks import check_count, check_range
from htjax.types import ArrayLike


class BracketTails(NamedTuple):
  """P(at least c^(M - i) entries of a row in bracket i), in three ways.

  Attributes:
    bound: eq. (16), exp(-N D(..)).
    valid: 1 where its premise c^(M - i) > N p holds, else 0, and the bound is
      no bound on anything.
    binomial: the probability itself, with p of eq. (14).
    exact: likewise with the probability of a stable entry, whose limit (14) is.
  """

  bound: np.ndarray
  valid: np.ndarray
  binomial: np.ndarray
  exact: np.ndarray


def bracket_tails(
  indices: ArrayLike,
  alphas: ArrayLike,
  *,
  base: float,
  top: float,
  row_length: int,
) -> BracketTails:
  """`bracket_tail` on a grid, beside the probabilities that it bounds.

  Args:
    indices: i in [0, M], of a shape that goes with the alphas'.
    alphas: in [0.5, 2), likewise.
    base: c in (1, 10^30].
    top: M >= 0.
    row_length: N.

  Returns:
    BracketTails of float64 arrays of the common shape.

  Raises:
    ValueError: for numbers out of range, and shapes that do not go together.

  Source: [SH], eqs. (14)-(16), Figure 2.
  """
  c = number('base', base, 1, 1e30, open_low=True)
  top = number('top', top, 0, math.inf, open_high=True)
  check_count('row_length', row_length)
  i, alpha = as_numbers('indices', indices), as_numbers('alphas', alphas)
  check_range('indices', i, 0, top)
  check_range('alphas', alpha, 0.5, 2, open_high=True)
  try:
    np.broadcast_shapes(i.shape, alpha.shape)
  except ValueError:
    raise ValueError(
      'indices and alphas must have shapes that go together, got '
      f'{i.shape} and {alpha.shape}'
    ) from None
  x = jnp.asarray(c ** (i[..., None] + np.arange(2)))
  above = np.asarray(
    stable.sf(x, jnp.asarray(alpha)[..., None], scale=c), float
  )

  def at(i: float, alpha: float, rate: float) -> tuple[float, ...]:
    tail = bracket_tail(i, alpha, base=c, top=top, row_length=row_length)
    exact = nonzero_tail(c ** (top - i), num_entries=row_length, rate=rate)
    logs = tail.log_value, tail.details['log_exact'], exact.details['log_exact']
    return (*map(math.exp, logs), tail.valid)

  found = np.vectorize(at, otypes=[float] * 4)(
    i, alpha, above[..., 0] - above[..., 1]
  )
  bound, binomial, exact, valid = found
  return BracketTails(bound, valid, binomial, exact)
