"""Bipartite ensembles, sketches and recovery, against linear programming."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from htjax import sketching


def sparse_matrix(seed, p, j, fill=1.0):
  """A full diagonal and j - 1 permutations: at most j in a row or column."""
  rng = np.random.default_rng(seed)
  mask = np.eye(p, dtype=bool)
  for _ in range(j - 1):
    mask[np.arange(p), rng.permutation(p)] = True
  return np.where(mask, fill * rng.standard_normal((p, p)), 0.0)


def linear_program(y, a, b):
  """min |X|_1 with A X B^T = Y: a solution, the minimum, whether it is alone.

  Alone if a random functional has one value on the solutions.
  """
  rows = np.kron(a, b)
  size = rows.shape[1]
  fixed = {
    'A_eq': np.hstack([rows, -rows]),
    'b_eq': np.asarray(y).ravel(),
    'bounds': (0, None),
    'method': 'highs',
  }
  ones = np.ones(2 * size)
  found = optimize.linprog(ones, **fixed)
  random = np.random.default_rng(0).standard_normal(size)
  ends = [
    optimize.linprog(
      sign * np.concatenate([random, -random]),
      A_ub=ones[None],
      b_ub=[found.fun * (1 + 1e-9)],
      **fixed,
    ).fun
    for sign in (1, -1)
  ]
  x = found.x[:size] - found.x[size:]
  alone = abs(sum(ends)) < 1e-5
  return x.reshape(a.shape[1], b.shape[1]), found.fun, alone


def ensembles(seed, m, p, delta, variant='corrected'):
  first, second = jax.random.split(jax.random.key(seed))
  return [
    sketching.bipartite_ensemble(
      k, m, p, delta, dtype=jnp.float64, variant=variant
    )
    for k in (first, second)
  ]


def test_sketch():
  rng = np.random.default_rng(3)
  x, a, b = (rng.standard_normal(s) for s in ((5, 7), (3, 5), (4, 7)))
  np.testing.assert_allclose(
    sketching.sketch(x, a, b), a @ x @ b.T, rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize(
  ('p', 'm', 'delta', 'j'), [(10, 8, 3, 2), (12, 7, 3, 2), (16, 12, 4, 2)]
)
def test_recovery_is_the_linear_program(p, m, delta, j):
  """Also where the matrix itself is not recovered, or not the only solution."""
  num_alone = 0
  with jax.enable_x64(True):
    for seed in range(4):
      x = sparse_matrix(seed, p, j)
      a, b = ensembles(10 + seed, m, p, delta)
      y = sketching.sketch(x, a, b)
      exact, value, alone = linear_program(y, np.asarray(a), np.asarray(b))
      found = sketching.recover(y, a, b, tolerance=1e-6)
      assert bool(found.converged)
      assert float(found.residual) < 1e-12
      size = float(jnp.sum(jnp.abs(found.x)))
      assert size == pytest.approx(value, rel=1e-6)
      if alone:
        num_alone += 1
        found = sketching.recover(y, a, b, tolerance=1e-9)
        np.testing.assert_allclose(found.x, exact, atol=1e-6)
  if p == 16:
    assert num_alone > 0


def test_the_gap_is_an_upper_bound():
  """Stopped early, |x|_1 exceeds the program's value by at most the gap."""
  with jax.enable_x64(True):
    x = sparse_matrix(5, 12, 3)
    a, b = ensembles(6, 8, 12, 3)
    y = sketching.sketch(x, a, b)
    _, value, _ = linear_program(y, np.asarray(a), np.asarray(b))
    for count in (10, 20, 40, 80):
      found = sketching.recover(y, a, b, max_iterations=count)
      size = float(jnp.sum(jnp.abs(found.x)))
      assert int(found.num_iterations) == count
      assert not bool(found.converged)
      assert -1e-12 < (size - value) / size <= float(found.gap)
    done = sketching.recover(y, a, b)
    assert float(done.gap) <= math.sqrt(np.finfo(float).eps)


def test_step_size_changes_the_speed_only():
  with jax.enable_x64(True):
    x = sparse_matrix(7, 20, 2)
    a, b = ensembles(8, 16, 20, 4)
    y = sketching.sketch(x, a, b)
    first = sketching.recover(y, a, b, tolerance=1e-9)
    second = sketching.recover(y, a, b, tolerance=1e-9, step_size=1.0)
    np.testing.assert_allclose(first.x, second.x, atol=1e-6)
    assert int(first.num_iterations) != int(second.num_iterations)


def test_recovery_edges():
  key = jax.random.key(9)
  a = sketching.bipartite_ensemble(key, 6, 8, 2)
  zero = sketching.recover(jnp.zeros((6, 6)), a, a)
  np.testing.assert_array_equal(zero.x, 0)
  assert bool(zero.converged)
  # A sketch with as many rows as the matrix: solved at once.
  identity = jnp.eye(5)
  x = jnp.asarray(sparse_matrix(10, 5, 2), jnp.float32)
  whole = sketching.recover(x, identity, identity)
  np.testing.assert_allclose(whole.x, x, atol=1e-6)
  # Equal rows of A, and a sketch that no matrix has.
  double = jnp.concatenate([a[:1], a[:1]])
  none = sketching.recover(jnp.array([[1.0], [2.0]]), double, a[:1])
  assert float(none.residual) > 0.1
  assert not bool(none.converged)
  bad = jax.jit(sketching.recover)(jnp.full((6, 6), jnp.nan), a, a)
  assert np.all(np.isnan(bad.x))


def test_scale_and_precision():
  """float32, and entries far from 1: everything is relative."""
  x = sparse_matrix(11, 20, 2, fill=1e-5)
  with jax.enable_x64(True):
    a, b = ensembles(12, 17, 20, 4)
    exact = sketching.recover(sketching.sketch(x, a, b), a, b).x
    a, b = (jnp.asarray(v, jnp.float32) for v in (a, b))
  y = sketching.sketch(jnp.asarray(x, jnp.float32), a, b)
  found = sketching.recover(y, a, b)
  assert bool(found.converged)
  np.testing.assert_allclose(found.x, exact, atol=3e-3 * np.abs(x).max())


def test_vmap_equals_loop():
  a = sketching.bipartite_ensemble(jax.random.key(13), 8, 10, 3)
  ys = jnp.stack(
    [
      sketching.sketch(jnp.asarray(sparse_matrix(s, 10, 2), jnp.float32), a, a)
      for s in range(3)
    ]
  )
  batch = jax.vmap(lambda y: sketching.recover(y, a, a))(ys)
  for y, x, count in zip(ys, batch.x, batch.num_iterations, strict=True):
    one = sketching.recover(y, a, a)
    np.testing.assert_allclose(x, one.x, atol=2e-3)
    assert abs(int(one.num_iterations) - int(count)) <= 20


def test_distributed_sparsity():
  x = np.zeros((4, 6))
  x[:, 1] = 1
  x[2, :3] = -1
  assert [int(j) for j in sketching.distributed_sparsity(x)] == [4, 3]
  x = sparse_matrix(14, 30, 4)
  columns, rows = sketching.distributed_sparsity(x)
  assert int(columns) == np.max(np.sum(x != 0, axis=0))
  assert int(rows) == np.max(np.sum(x != 0, axis=1))
  assert max(columns, rows) <= 4


def test_dimensions():
  assert sketching.sketch_dimension(2, 3, (10, 20)) == pytest.approx(
    math.sqrt(40) * math.log(20)
  )
  for p, useful in [(784, 17.7), (2000, 34.6), (10_000, 118)]:
    found = sketching.useful_sparsity(p)
    assert found == pytest.approx(useful, rel=5e-3)
    below, above = math.floor(found), math.ceil(found)
    assert sketching.sketch_dimension(below, below, (p, p)) < p
    assert sketching.sketch_dimension(above, above, (p, p)) > p


def test_ensemble_faults():
  key = jax.random.key(15)
  for m, p, delta, name in [
    (9, 8, 2, 'm'),
    (0, 8, 2, 'm'),
    (4, 0, 2, 'p'),
    (4, 8, 5, 'delta'),
    (4, 8, 0, 'delta'),
    (4, 8, 2.5, 'delta'),
  ]:
    with pytest.raises(ValueError, match=f'^{name} must'):
      sketching.bipartite_ensemble(key, m, p, delta)
  with pytest.raises(ValueError, match='key'):
    sketching.bipartite_ensemble(3, 4, 8, 2)
  with pytest.raises(ValueError, match='variant'):
    sketching.bipartite_ensemble(key, 4, 8, 2, variant='rows')
  with pytest.raises(ValueError, match='dtype'):
    sketching.bipartite_ensemble(key, 4, 8, 2, dtype=jnp.int32)


def test_recovery_faults():
  a = jnp.ones((2, 3))
  y = jnp.ones((2, 2))
  with pytest.raises(ValueError, match='a and b must have'):
    sketching.sketch(jnp.ones((3, 4)), a, a)
  with pytest.raises(ValueError, match='must be matrices'):
    sketching.sketch(jnp.ones(3), a, a)
  with pytest.raises(ValueError, match='y must be finite'):
    sketching.recover(y * jnp.nan, a, a)
  with pytest.raises(ValueError, match='rows'):
    sketching.recover(jnp.ones((3, 2)), a, a)
  with pytest.raises(ValueError, match='at most as many rows'):
    sketching.recover(jnp.ones((3, 3)), a.T, a.T)
  for name, value in [
    ('tolerance', 0.0),
    ('step_size', 0.0),
    ('max_iterations', 0),
  ]:
    with pytest.raises(ValueError, match=name):
      sketching.recover(y, a, a, **{name: value})
  with pytest.raises(ValueError, match='x must be'):
    sketching.distributed_sparsity(jnp.ones(3))
  with pytest.raises(ValueError, match='j_r'):
    sketching.sketch_dimension(11, 2, (10, 20))
  with pytest.raises(ValueError, match='p must'):
    sketching.useful_sparsity(1)


@pytest.mark.parametrize('j', [1, 2, 4])
def test_sparse_masks(j):
  mask = np.asarray(sketching.sparse_mask(jax.random.key(2), 50, j))
  assert np.all(np.diag(mask))
  counts = np.concatenate([mask.sum(axis=0), mask.sum(axis=1)])
  assert counts.max() == j
  # Permutations meet here and there, but not often.
  assert counts.mean() > j - 0.5
  with pytest.raises(ValueError, match='j must be an integer >= 1, got 0'):
    sketching.sparse_mask(jax.random.key(2), 50, 0)


def test_recovery_needs_enough_rows():
  def recover(seed, m):
    key = jax.random.key(seed)
    return sketching.recovery_trials(
      key, 16, 2, m, 4, num_draws=5, max_iterations=1000
    )

  found = recover(3, m=15)
  assert int(jnp.sum(found.error < 1e-3)) >= 4
  assert found.recovery.x.shape == (5, 16, 16)
  assert not bool(jnp.any(recover(4, m=4).error < 1e-3))
  with pytest.raises(ValueError, match='num_draws'):
    sketching.recovery_trials(jax.random.key(0), 16, 2, 4, 4, num_draws=0)
