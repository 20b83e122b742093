"""Random words: uniform and independent bits."""

import numpy as np
import pytest

from htjax.stable.words import word_pairs
from statistical import seeds
from statistical.checks import (
  check_count,
  check_mean,
  refused,
)

SIZE = 1 << 16


def _bits(words):
  """[32, n] booleans, lowest bit first."""
  words = np.asarray(words).ravel()
  return (words[None] >> np.arange(32, dtype=np.uint32)[:, None]) & 1 == 1


@pytest.mark.parametrize('impl', ['threefry2x32', 'rbg', 'unsafe_rbg'])
def test_every_bit_is_balanced_and_independent(impl):
  (a, b), (c, d) = word_pairs(seeds.key(1, impl=impl), (SIZE,), 2)
  bits = np.concatenate([_bits(w) for w in (a, b, c, d)])
  for row in bits:
    check_count(np.sum(row), SIZE, 0.5)
  # Correlations of every two of the 128 bits, also of neighbouring elements.
  # One correlation of 0.14 between two bits would be seen.
  signs = np.where(bits, 1.0, -1.0).astype(np.float32)
  for other in (signs, np.roll(signs, 1, axis=1)):
    products = np.float64(signs @ other.T) / SIZE
    # n times a square has mean 1 and variance 2 - 2 / n.
    free = products[np.triu_indices(128, k=1)]
    check_mean(free**2 * SIZE, 1.0, 2.0)


def test_bit_checks_refuse_a_plain_counter():
  highest = _bits(np.arange(SIZE, dtype=np.uint32))[31]
  refused(check_count, np.sum(highest), SIZE, 0.5)
  # Two bits that are one.
  products = np.full(128 * 127 // 2, 0.0)
  products[0] = 1.0
  refused(check_mean, products**2 * SIZE, 1.0, 2.0)
