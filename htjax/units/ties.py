"""Indices of axes that can only go together.

Removing a unit removes an index from an axis of several leaves: its column in
one kernel, its bias, its row in the next. An atom stands for such a removal.
Each index of each axis of each array of a computation has atoms, and goes if
any of them goes: one as a rule, two in an axis of heads times dimensions, which
loses an index with its head or with its dimension. `-1` never goes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# [size, number of atoms], or None for an axis that fits any other: one along
# which a scalar was repeated.
Labels = np.ndarray | None


class Resolved(NamedTuple):
  """Removals that go together, in the end.

  Attributes:
    parts: of each atom, the final atoms any of which takes it along; empty
      where it never goes.
    reasons: why atoms never go, in words, each once.
  """

  parts: list[tuple[int, ...]]
  reasons: list[str]

  def of(self, labels: Labels, size: int) -> list[tuple[int, ...]]:
    """Final atoms of each index of an axis.

    Args:
      labels: [size, number of atoms] or None.
      size: length of the axis.

    Returns:
      For each index its final atoms, none where it never goes.
    """
    if labels is None:
      return [()] * size
    return [
      tuple(sorted({p for a in row if a >= 0 for p in self.parts[a]}))
      for row in labels.tolist()
    ]


class Ties:
  """Atoms and what is known of them; grows as a computation is followed."""

  def __init__(self) -> None:
    self._count = 0
    self._edges: list[np.ndarray] = []
    self._splits: list[tuple[int, tuple[int, ...]]] = []
    self._first: tuple[Any, Any] = (None, None)
    self.frozen: dict[int, str] = {}
    self.reasons: dict[str, None] = {}

  def fresh(self, size: int) -> np.ndarray:
    """Labels of an axis of which nothing is known yet."""
    if size == 1:
      return fixed(1)
    atoms = np.arange(self._count, self._count + size)[:, None]
    self._count += size
    return atoms

  def freeze(self, labels: Labels, reason: str) -> None:
    """Never remove these indices."""
    if labels is None:
      return
    for atom in np.unique(labels[labels >= 0]).tolist():
      self.frozen.setdefault(atom, reason)
      self.reasons[reason] = None

  def tie(self, a: Labels, b: Labels, reason: str) -> Labels:
    """Two axes lose the same indices from now on.

    Args:
      a: labels of one axis.
      b: labels of another axis of the same length.
      reason: why both stay, if one does.

    Returns:
      Labels of both.
    """
    if a is None or b is None:
      return b if a is None else a
    a, b = _without_fixed(a), _without_fixed(b)
    if a.shape[1] > b.shape[1]:
      a, b = b, a
    if a.shape[1] == b.shape[1]:
      self._join(a.ravel(), b.ravel(), reason)
    elif a.shape[1] == 1:
      for atom, parts in zip(a[:, 0].tolist(), b, strict=True):
        if atom < 0:
          self.freeze(parts, reason)
        else:
          self._splits.append((atom, tuple(parts.tolist())))
    else:
      self.freeze(a, reason)
      self.freeze(b, reason)
    return b

  def merge(self, axes: Sequence[tuple[Labels, int]]) -> Labels:
    """Labels of several axes that are flattened into one, row by row."""
    if all(labels is None for labels, _ in axes):
      return None
    sizes = [size for _, size in axes]
    columns = []
    for i, (labels, size) in enumerate(axes):
      if labels is None:
        continue
      shape = [1] * len(axes)
      shape[i] = size
      for column in _without_fixed(labels).T:
        columns.append(np.broadcast_to(column.reshape(shape), sizes).ravel())
    return _without_fixed(np.stack(columns, axis=1))

  def split(
    self, labels: Labels, sizes: Sequence[int], reason: str
  ) -> list[Labels]:
    """Labels of the axes into which one axis is unfolded, row by row.

    An index of the one axis goes where an index of the new ones goes: atoms
    that are no product of such are replaced by one for each new index.

    Args:
      labels: of the axis that is unfolded.
      sizes: of the new axes.
      reason: why all stay, if they do.

    Returns:
      Labels of each new axis.
    """
    if labels is None:
      return [None] * len(sizes)
    found: list[list[np.ndarray]] = [[] for _ in sizes]
    mixed: dict[int, np.ndarray] = {}
    for column in labels.T:
      if (column < 0).all():
        continue
      grid = column.reshape(sizes)
      varies = [
        d for d in range(len(sizes)) if (grid != np.take(grid, [0], d)).any()
      ]
      if len(varies) == 1:
        d = varies[0]
        found[d].append(np.moveaxis(grid, d, 0).reshape(sizes[d], -1)[:, :1])
        continue
      for d in varies:
        if d not in mixed:
          mixed[d] = self.fresh(sizes[d])
          found[d].append(mixed[d])
      pieces = self.merge([(mixed.get(d), n) for d, n in enumerate(sizes)])
      self.tie(column[:, None], pieces, reason)
    return [
      np.concatenate(columns, axis=1) if columns else fixed(size)
      for columns, size in zip(found, sizes, strict=True)
    ]

  def resolve(self) -> Resolved:
    """Follow everything that was tied to its end."""
    if not self._count:
      return Resolved([], list(self.reasons))
    roots, table = self._roots()
    frozen = {int(roots[a]) for a in self.frozen}
    parts: dict[int, tuple[int, ...]] = {}
    todo = list(frozen)
    while todo:  # an index that stays keeps all that could take it along
      for piece in table.get(todo.pop(), ()):
        if piece not in frozen:
          frozen.add(piece)
          todo.append(piece)

    def expand(root: int, above: tuple[int, ...] = ()) -> tuple[int, ...]:
      if root not in parts:
        if root in frozen:
          parts[root] = ()
        elif root not in table:
          parts[root] = (root,)
        else:
          pieces: set[int] = set()
          for piece in table[root]:
            if piece not in above:
              pieces |= set(expand(piece, (*above, root)))
          parts[root] = tuple(sorted(pieces))
      return parts[root]

    return Resolved([expand(int(r)) for r in roots], list(self.reasons))

  def _join(self, a: np.ndarray, b: np.ndarray, reason: str) -> None:
    self.freeze(a[b < 0], reason)
    self.freeze(b[a < 0], reason)
    both = (a >= 0) & (b >= 0) & (a != b)
    if both.any():
      self._edges.append(np.stack([a[both], b[both]]))

  def _roots(self) -> tuple[np.ndarray, dict[int, tuple[int, ...]]]:
    """The component of each atom, and what components are split into."""
    # Here, since they are a quarter of the time of `import htjax`.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    while True:
      edges = np.concatenate([np.zeros((2, 0), int), *self._edges], axis=1)
      graph = coo_array(
        (np.ones(edges.shape[1], bool), (edges[0], edges[1])),
        shape=(self._count, self._count),
      )
      _, roots = connected_components(graph, directed=False)
      table: dict[int, tuple[int, ...]] = {}
      for atom, pieces in self._splits:
        root = int(roots[atom])
        ours = tuple(int(roots[p]) for p in pieces if p >= 0)
        theirs = table.setdefault(root, ours)
        reason = 'one axis is unfolded in two ways'
        if len(theirs) != len(ours):
          self.freeze(np.array([atom, *pieces]), reason)
          continue
        first = [self._any_atom(roots, r) for r in theirs]
        self._join(
          np.array([p for p in pieces if p >= 0]), np.array(first), reason
        )
      again = np.concatenate([np.zeros((2, 0), int), *self._edges], axis=1)
      if (roots[again[0]] == roots[again[1]]).all():
        return roots, table
      self._edges = [again]

  def _any_atom(self, roots: np.ndarray, root: int) -> int:
    if self._first[0] is not roots:
      _, index = np.unique(roots, return_index=True)
      self._first = (roots, index)
    return int(self._first[1][root])


def fixed(size: int) -> np.ndarray:
  """Labels of an axis that loses nothing."""
  return np.full((size, 1), -1)


def _without_fixed(labels: np.ndarray) -> np.ndarray:
  """The columns in which something can go, or one if nothing can."""
  loose = (labels >= 0).any(axis=0)
  return labels[:, loose] if loose.any() else labels[:, :1]
