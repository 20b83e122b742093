"""Rules by which the axes of a network's leaves are followed, by operation."""

from htjax.units.following import (
  entrywise,
  indices,
  loops,
  moves,
  reductions,
  sums,
)
from htjax.units.following.walk import Rule

RULES: dict[str, Rule] = {
  **entrywise.RULES,
  **moves.RULES,
  **sums.RULES,
  **reductions.RULES,
  **indices.RULES,
  **loops.RULES,
}

__all__ = ['RULES']
