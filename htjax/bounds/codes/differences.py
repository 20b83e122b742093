"""A code for networks near one that the decoder has."""

from collections.abc import Callable, Sequence

import numpy as np

from htjax.bounds.arguments import as_list, as_numbers
from htjax.bounds.codes.codeword import Code, Decoded, decode, encode
from htjax.checks import checked
from htjax.types import ArrayLike


@checked
def encode_difference(
  layers: Sequence[ArrayLike],
  reference: Sequence[ArrayLike],
  *,
  mantissa_bits: int = 3,
) -> Code:
  """The codeword of layers - reference: one bit if they are equal.

  A bit says whether they differ, and what `encode` makes of the differences
  follows. Where few weights moved, or all by one of few steps, it is short.

  Args:
    layers: float32 arrays; each less its reference is zero or a number that
      `to_grid` leaves alone, and the reference plus that is the layer again.
    reference: arrays of the same shapes that the decoder has: a network that
      was trained on a part of the data that certifies nothing.
    mantissa_bits: of the differences, in [0, 7].

  Returns:
    Code, the first bit counted to its header.

  Raises:
    ValueError: other shapes; differences that `encode` refuses, or that do not
      lead back to the layers.

  Examples:
    >>> import numpy as np
    >>> from htjax.bounds import codes
    >>> old = np.linspace(-1, 1, 1000, dtype=np.float32)
    >>> codes.encode_difference([old], [old]).num_bits
    1
    >>> new = np.where(np.arange(1000) == 7, old + np.float32(0.5), old)
    >>> code = codes.encode_difference([new], [old])
    >>> bool((codes.decode_difference(code.bits, [old]).layers[0] == new).all())
    True
  """
  old = _floats('reference', reference)
  new = _floats('layers', layers)
  if [w.shape for w in old] != [w.shape for w in new]:
    raise ValueError(
      f'layers must have the shapes of reference, got {[w.shape for w in new]}'
    )
  steps = [a - b for a, b in zip(new, old, strict=True)]
  if not any(np.any(step) for step in steps):
    return Code(np.zeros(1, np.uint8), 1.0, 0.0, 0.0)
  for i, (a, b, step) in enumerate(zip(new, old, steps, strict=True)):
    if not np.array_equal(b + step, a):
      raise ValueError(f'layers[{i}] must be reference plus a float32 step')
  code = encode(steps, mantissa_bits=mantissa_bits)
  bits = np.concatenate([np.ones(1, np.uint8), code.bits])
  return code._replace(bits=bits, header_bits=code.header_bits + 1)


@checked
def decode_difference(
  bits: ArrayLike, reference: Sequence[ArrayLike]
) -> Decoded:
  """The layers whose difference stands at the beginning of `bits`.

  Args:
    bits: zeros and ones.
    reference: as it was given to `encode_difference`.

  Returns:
    Decoded, without settings.

  Raises:
    ValueError: as `decode`; a codeword of settings, or of no difference.
  """
  old = _floats('reference', reference)
  flags = as_numbers('bits', bits)
  if flags.ndim != 1 or not len(flags) or flags[0] not in (0, 1):
    raise ValueError('bits must be a list of zeros and ones')
  if flags[0] == 0:
    return Decoded(old, (), 1)
  shapes: Callable = lambda settings: [w.shape for w in old]  # noqa: E731
  found = decode(flags[1:], shapes)
  if found.settings or not any(np.any(w) for w in found.layers):
    raise ValueError('bits do not begin with a codeword: no difference')
  layers = [a + b for a, b in zip(old, found.layers, strict=True)]
  return Decoded(layers, (), found.num_bits + 1)


def _floats(name: str, layers: Sequence[ArrayLike]) -> list[np.ndarray]:
  return [
    as_numbers(f'{name}[{i}]', w).astype(np.float32)
    for i, w in enumerate(as_list(name, layers))
  ]
