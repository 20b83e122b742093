"""Single integers and floats of a header, as events of the arithmetic coder."""

import math

import numpy as np

from htjax.bounds.codes.arithmetic import TOP, WORD, Decoder, Encoder, refusal


def write_uniform(coder: Encoder, value: int, num_bits: int) -> None:
  """A number below 2^num_bits, in so many bits."""
  for i in reversed(range(num_bits)):
    bit = value >> i & 1
    coder.write(bit, bit + 1, 2)


def read_uniform(coder: Decoder, num_bits: int) -> int:
  """The inverse of `write_uniform`."""
  value = 0
  for _ in range(num_bits):
    bit = coder.target(2)
    coder.read(bit, bit + 1, 2)
    value = value * 2 + bit
  return value


def write_integer(coder: Encoder, value: int) -> None:
  """Elias gamma code of value + 1: 2 floor(log2(value + 1)) + 1 bits."""
  size = (value + 1).bit_length()
  write_uniform(coder, 0, size - 1)
  write_uniform(coder, value + 1, size)


def read_integer(coder: Decoder) -> int:
  """The inverse of `write_integer`; at most TOP - 1, so that damage ends."""
  size = 0
  while not read_uniform(coder, 1):
    size += 1
    if size > WORD:
      raise refusal('an endless integer')
  value = (1 << size | read_uniform(coder, size)) - 1
  if value >= TOP:
    raise refusal('an integer out of range')
  return value


def write_value(coder: Encoder, value: float, mantissa_bits: int) -> None:
  """Sign, exponent in the order 0, -1, 1, -2, .., and mantissa."""
  fraction, exponent = math.frexp(abs(value))
  write_uniform(coder, int(value < 0), 1)
  write_integer(coder, 2 * exponent if exponent >= 0 else -2 * exponent - 1)
  mantissa = int(fraction * 2 ** (mantissa_bits + 1)) - 2**mantissa_bits
  write_uniform(coder, mantissa, mantissa_bits)


def read_value(coder: Decoder, mantissa_bits: int) -> float:
  """The inverse of `write_value`, a float32."""
  negative = read_uniform(coder, 1)
  index = read_integer(coder)
  exponent = -(index + 1) // 2 if index % 2 else index // 2
  mantissa = read_uniform(coder, mantissa_bits) + 2**mantissa_bits
  if not -148 <= exponent <= 128:  # those of float32
    raise refusal('a value out of range')
  value = math.ldexp(mantissa, exponent - mantissa_bits - 1)
  if float(np.float32(value)) != value:
    raise refusal('a value out of range')
  return -value if negative else value
