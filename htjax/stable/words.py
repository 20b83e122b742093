"""Random words that fuse with what is done to them.

`jax.random.bits` is a loop over whole arrays on CPU, which costs more than a
stable draw itself. Here every element hashes its own index (Threefry-2x32,
Salmon et al. 2011), so that the compiler folds counter, hash and transform
into one pass without intermediate arrays, on any backend and under sharding.
Written in `lax`, whose operations are traced several times as fast as those of
arrays: there are a hundred.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import UInt32

from htjax.types import Array, PRNGKey

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def threefry(
  key: tuple[Array, Array], x: tuple[Array, Array]
) -> tuple[Array, Array]:
  """Threefry-2x32 with 20 rounds.

  Args:
    key: two uint32 arrays that broadcast against the counters.
    x: two uint32 arrays of one shape, the counter.

  Returns:
    Two uint32 arrays of the counters' shape.

  Source: [Salmon2011], section 3.3.
  """
  keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
  a, b = x[0] + keys[0], x[1] + keys[1]
  for i in range(5):
    for r in _ROTATIONS[i % 2]:
      a = lax.add(a, b)
      b = lax.bitwise_xor(_rotate(b, r), a)
    a = lax.add(a, keys[(i + 1) % 3])
    b = lax.add(lax.add(b, keys[(i + 2) % 3]), np.uint32(i + 1))
  return a, b


def _rotate(word: Array, bits: int) -> Array:
  return lax.bitwise_or(
    lax.shift_left(word, np.uint32(bits)),
    lax.shift_right_logical(word, np.uint32(32 - bits)),
  )


def word_pairs(
  key: PRNGKey,
  shape: tuple[int, ...],
  num_pairs: int = 1,
  index: UInt32[Array, '...'] | None = None,
) -> list[tuple[UInt32[Array, '...'], UInt32[Array, '...']]]:
  """Independent pairs of uniform 32-bit words, one of each per element.

  Args:
    key: typed key of any implementation.
    shape: static; at most 2**32 elements.
    num_pairs: static, how many pairs each element gets.
    index: flat indices of the elements that are wanted, or None for all.

  Returns:
    `num_pairs` pairs of uint32 arrays of shape `shape`, or of that of `index`.

  Raises:
    ValueError: if the shape has more than 2**32 elements.
  """
  size = math.prod(shape)
  if size > 2**32:
    raise ValueError(
      f'shape must have at most 2**32 elements, got {shape}; split the key and '
      'draw in parts'
    )
  seed = jax.random.bits(key, (2,), jnp.uint32)
  if index is None:
    index = lax.iota(jnp.uint32, size).reshape(shape)
  return [
    threefry((seed[0], seed[1]), (jnp.full_like(index, i), index))
    for i in range(num_pairs)
  ]
