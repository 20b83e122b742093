"""Random words: the published hash, uniform bits, one counter per element."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

from htjax.stable.words import threefry, word_pairs

SIZE = 1 << 16


@pytest.mark.parametrize(
  ('key', 'counter', 'expected'),
  [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((2**32 - 1,) * 2, (2**32 - 1,) * 2, (0x1CB996FC, 0xBB002BE7)),
    (
      (0x13198A2E, 0x03707344),
      (0x243F6A88, 0x85A308D3),
      (0xC4923A9C, 0x483DF7A0),
    ),
  ],
)
def test_published_vectors(key, counter, expected):
  key, counter = (tuple(jnp.uint32(w) for w in x) for x in (key, counter))
  assert tuple(int(w) for w in threefry(key, counter)) == expected


def test_equals_the_hash_of_jax():
  words = np.random.default_rng(0).integers(0, 2**32, (3, 1000), np.uint32)
  for k0, k1 in words[:2, :20].T:
    counter = jnp.asarray(words[1]), jnp.asarray(words[2])
    ours = threefry((jnp.uint32(k0), jnp.uint32(k1)), counter)
    theirs = threefry_2x32(jnp.array([k0, k1]), jnp.concatenate(counter))
    np.testing.assert_array_equal(np.concatenate(ours), theirs)


def test_the_hash_can_be_undone():
  # A bijection of the counter: no two elements get the same pair.
  pairs = threefry(
    (jnp.uint32(1), jnp.uint32(2)),
    (jnp.zeros(SIZE, jnp.uint32), jnp.arange(SIZE, dtype=jnp.uint32)),
  )
  assert len(np.unique(np.stack(pairs, axis=1), axis=0)) == SIZE


@pytest.mark.parametrize('shape', [(), (0,), (2, 0), (5,), (2, 3, 4)])
@pytest.mark.parametrize('num_pairs', [1, 3])
def test_shapes(shape, num_pairs):
  pairs = word_pairs(jax.random.key(2), shape, num_pairs)
  assert len(pairs) == num_pairs
  for word in (w for pair in pairs for w in pair):
    assert word.shape == shape
    assert word.dtype == jnp.uint32


def test_all_words_of_all_elements_differ():
  # 1200 words: equal ones by chance once in 6000 keys.
  pairs = word_pairs(jax.random.key(3), (20, 10), 3)
  assert len(np.unique(np.asarray(pairs))) == 1200


def test_words_belong_to_the_flat_index():
  ((flat, _),) = word_pairs(jax.random.key(4), (24,))
  ((shaped, _),) = word_pairs(jax.random.key(4), (2, 3, 4))
  np.testing.assert_array_equal(shaped, flat.reshape(2, 3, 4))


@pytest.mark.parametrize('num_pairs', [1, 2])
def test_words_of_some_elements(num_pairs):
  index = jnp.array([[23, 0], [7, 7]], jnp.uint32)
  every = word_pairs(jax.random.key(4), (4, 6), num_pairs)
  some = word_pairs(jax.random.key(4), (4, 6), num_pairs, index)
  np.testing.assert_array_equal(
    some, np.asarray(every).reshape(num_pairs, 2, 24)[..., np.asarray(index)]
  )


def test_keys_differ():
  ((a, _),) = word_pairs(jax.random.key(5), (SIZE,))
  ((b, _),) = word_pairs(jax.random.key(6), (SIZE,))
  # Equal words by chance: SIZE / 2^32, so more than 2 are one in 10^13.
  assert np.sum(np.asarray(a) == np.asarray(b)) <= 2


def test_too_many_elements():
  with pytest.raises(ValueError, match=r'shape must have at most 2\*\*32'):
    jax.eval_shape(
      lambda k: word_pairs(k, (2**16, 2**16 + 1)), jax.random.key(7)
    )


def test_the_largest_shape_is_allowed():
  # Only its type is made.
  shape = jax.eval_shape(
    lambda k: word_pairs(k, (2**16, 2**16)), jax.random.key(8)
  )
  assert shape[0][0].shape == (2**16, 2**16)
