"""Arguments that may also be given by their fields."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

Result = TypeVar('Result')


class Decorator(Protocol):
  """Takes a function to one of the same results."""

  def __call__(
    self, function: Callable[..., Result], /
  ) -> Callable[..., Result]:
    """The function that takes both forms."""
    ...


def gathers(**classes: Callable[..., Any]) -> Decorator:
  """Let an argument of a function be given by the fields of its class.

  With `gathers(noise=StableNoise)` a call with `alpha=1.8, sigma=0.1` is the
  one with `noise=StableNoise(alpha=1.8, sigma=0.1)`.

  Args:
    **classes: the class of each such argument.

  Returns:
    A decorator. What it makes raises `ValueError` for an argument that is given
    both ways.
  """

  def decorate(function: Callable[..., Result], /) -> Callable[..., Result]:
    order = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Result:
      for name, make in classes.items():
        names = [f for f in inspect.signature(make).parameters if f in keywords]
        if not names:
          continue
        fields = {field: keywords.pop(field) for field in names}
        if name in (*order[: len(args)], *keywords):
          raise ValueError(
            f'{name} holds {", ".join(names)}, which must not be given beside '
            f'it, got {fields!r}'
          )
        keywords[name] = make(**fields)
      return function(*args, **keywords)

    return call

  return decorate
