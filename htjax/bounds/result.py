"""The record that every bound returns: its value, its terms, its premises.

Nothing is clipped at 1, no constant is dropped, and a value beyond the range of
floats is infinite while its logarithm stays finite. All logarithms are natural.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from htjax.bounds.arguments import as_list, number
from htjax.bounds.logarithms import exp
from htjax.checks import checked

VARIANTS = ('corrected', 'paper')


class Assumption(NamedTuple):
  """One premise of a bound.

  Attributes:
    name: what is assumed, in a word or two.
    holds: True or False where the inputs decide it; None where they cannot,
      so that the premise is taken on trust.
    reason: the comparison that was made, with its numbers, or what is trusted.
  """

  name: str
  holds: bool | None
  reason: str


class Bound(NamedTuple):
  """A bound with everything that went into it.

  Attributes:
    value: the bound, not clipped; infinite if it exceeds the floats.
    log_value: its natural logarithm, finite where `value` overflows.
    terms: natural logarithm of each summand; their log-sum-exp is `log_value`.
    assumptions: the premises, whether each holds, and why.
    failure: probability with which the statement may fail, itself possibly
      above 1; 0 for a deterministic statement.
    details: named numbers on the way, those called `log_..` in logarithms.
  """

  value: float
  log_value: float
  terms: dict[str, float]
  assumptions: tuple[Assumption, ...]
  failure: float
  details: dict[str, float]

  @property
  def valid(self) -> bool:
    """True if no premise is known to fail."""
    return all(a.holds is not False for a in self.assumptions)

  @property
  def reason(self) -> str:
    """Why the first premise that fails does, or ''."""
    return next((a.reason for a in self.assumptions if a.holds is False), '')

  def __float__(self) -> float:
    """The value."""
    return self.value


@checked
def make_bound(
  terms: Mapping[str, float],
  assumptions: Sequence[Assumption] = (),
  *,
  failure: float = 0.0,
  details: Mapping[str, float] | None = None,
  value: float | None = None,
) -> Bound:
  """Sum the terms and list the premises, that of confidence among them.

  Args:
    terms: natural logarithm of each summand; -inf for a summand of 0.
    assumptions: premises of the statement.
    failure: probability that the statement fails.
    details: further named numbers to report.
    value: the sum where it is known directly, to the last digit; None is the
      exponential of its logarithm.

  Returns:
    Bound. If `failure` is 1 or more, a premise 'confidence' that fails.

  Raises:
    ValueError: for terms or details that are no dict, assumptions that are
      none, a value or failure that is negative or no number.
  """
  for name, found in (
    ('terms', terms),
    ('details', {} if details is None else details),
  ):
    if not isinstance(found, Mapping):
      raise ValueError(f'{name} must be a dict of numbers, got {found!r}')
  failure = number('failure', failure, 0)
  premises = as_list('assumptions', assumptions)
  if not all(isinstance(premise, Assumption) for premise in premises):
    raise ValueError(f'assumptions must be Assumptions, got {premises!r}')
  log_value = float(np.logaddexp.reduce(list(terms.values())))
  if failure > 0:
    premises.append(
      Assumption(
        'confidence',
        bool(failure < 1),
        f'the failure probability {failure:.4g} must be below 1',
      )
    )
  return Bound(
    exp(log_value) if value is None else number('value', value, 0),
    log_value,
    dict(terms),
    tuple(premises),
    float(failure),
    dict({} if details is None else details),
  )
