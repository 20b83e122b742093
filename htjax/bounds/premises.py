"""Premises on what was fixed before the data, that many bounds share."""

from htjax.bounds.result import Assumption


def fixed_margin() -> Assumption:
  """The margin, taken on trust."""
  return Assumption(
    'fixed margin',
    None,
    'the margin was fixed before the data were seen; for the best of k margins '
    'of a list that was, each takes delta / k',
  )


def fixed_code() -> Assumption:
  """The class of networks, taken on trust."""
  return Assumption(
    'fixed code', None, 'the class was fixed before the data were seen'
  )
