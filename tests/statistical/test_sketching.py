"""Bipartite ensembles and how often recovery works."""

import jax
import jax.numpy as jnp
import numpy as np
from test_sketching import ensembles, sparse_matrix

from htjax import sketching
from statistical import seeds
from statistical.checks import (
  check_count,
  check_share,
  refused,
)


def test_columns_pick_rows():
  matrix = np.asarray(sketching.bipartite_ensemble(seeds.key(1), 20, 5000, 3))
  assert matrix.dtype == np.float32
  assert set(np.unique(matrix)) == {0, 1}
  ones = matrix.sum(axis=0)
  assert ones.min() >= 1
  assert ones.max() == 3
  # All three picks differ with probability (19/20)(18/20).
  check_count(int(np.sum(ones == 3)), 5000, 19 * 18 / 400)
  # A row is met by a column with probability 1 - (19/20)^3.
  rate = 1 - 0.95**3
  check_count(int(matrix[7].sum()), 5000, rate)
  # A pick less.
  refused(check_count, int(matrix[7].sum()), 5000, 1 - 0.95**2)
  refused(check_count, int(np.sum(ones == 3)), 5000, 1.0)


def test_printed_direction_leaves_columns_empty():
  paper = np.asarray(
    sketching.bipartite_ensemble(seeds.key(2), 20, 40, 2, variant='paper')
  )
  assert paper.shape == (20, 40)
  assert paper.sum(axis=1).max() <= 2
  # 40 picks of 40 columns: about 40 / e stay empty.
  assert np.sum(paper.sum(axis=0) == 0) >= 5
  right = np.asarray(sketching.bipartite_ensemble(seeds.key(2), 20, 40, 2))
  assert right.sum(axis=0).min() >= 1


def count_recovered(p, m, delta, j, variant='corrected', num=5):
  successes = 0
  with jax.enable_x64(True):
    for i in range(num):
      x = sparse_matrix(seeds.seed(i), p, j)
      a, b = ensembles(seeds.seed(100 + i), m, p, delta, variant)
      found = sketching.recover(sketching.sketch(x, a, b), a, b)
      successes += bool(jnp.max(jnp.abs(found.x - x)) < 1e-5)
  return successes


def test_recovery_needs_the_columns_to_pick():
  """p = 24, j = 2: columns against rows, and too small a sketch.

  Of the right ensembles 87 % recover the matrix, of the printed ones 13 %.
  """
  right = count_recovered(24, 20, 4, 2, num=40)
  check_share(right, 40, 0.75, 0.97)
  paper = count_recovered(24, 20, 4, 2, variant='paper', num=40)
  refused(check_share, paper, 40, 0.75, 0.97)
  small = count_recovered(24, 8, 4, 2, num=5)
  assert small == 0


def test_recovery_at_two_hundred():
  check_share(count_recovered(200, 120, 7, 2, num=4), 4, 0.98, 1.0)
