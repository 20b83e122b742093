"""Single integers and values of a header."""

import math

from htjax.bounds.codes.arithmetic import WORD, Decoder, Encoder


def write_uniform(coder: Encoder, value: int, num_bits: int) -> None:
  for i in reversed(range(num_bits)):
    bit = value >> i & 1
    coder.write(bit, bit + 1, 2)


def read_uniform(coder: Decoder, num_bits: int) -> int:
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
  size = 0
  while not read_uniform(coder, 1):
    size += 1
    if size > WORD:
      raise ValueError('bits do not begin with a codeword: an endless integer')
  return (1 << size | read_uniform(coder, size)) - 1


def write_value(coder: Encoder, value: float, mantissa_bits: int) -> None:
  """Sign, exponent in the order 0, -1, 1, -2, .., and mantissa."""
  fraction, exponent = math.frexp(abs(value))
  write_uniform(coder, int(value < 0), 1)
  write_integer(coder, 2 * exponent if exponent >= 0 else -2 * exponent - 1)
  mantissa = int(fraction * 2 ** (mantissa_bits + 1)) - 2**mantissa_bits
  write_uniform(coder, mantissa, mantissa_bits)


def read_value(coder: Decoder, mantissa_bits: int) -> float:
  negative = read_uniform(coder, 1)
  index = read_integer(coder)
  exponent = -(index + 1) // 2 if index % 2 else index // 2
  mantissa = read_uniform(coder, mantissa_bits) + 2**mantissa_bits
  if not -148 <= exponent <= 128:  # those of float32
    raise ValueError('bits do not begin with a codeword: a value out of range')
  value = math.ldexp(mantissa, exponent - mantissa_bits - 1)
  return -value if negative else value
