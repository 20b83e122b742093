"""One neuron in any model: unit, input and stacked axes, groups, roles.

A neuron is a column of a dense kernel [in, out], a filter of a convolution
[h, w, in, out], one (head, dim) pair of an attention projection
[in, heads, head_dim], a row in PyTorch's layout [out, in]; and in a leaf that
stacks layers or experts each of them has its own. `infer` finds that out from
an NNX, Linen or Equinox model, or from the names in a plain pytree; noise,
pruning, tail indices and bounds ask it what to act on.
"""

from htjax.units.families import Family, Part, families
from htjax.units.inference import (
  Given,
  default_flags,
  describe,
  fitting,
  infer,
  match,
)
from htjax.units.leaf import (
  ROLES,
  UNITS,
  WEIGHTS,
  Leaf,
  Units,
  leaf_name,
  named_leaves,
)
from htjax.units.targets import Target, targets
from htjax.units.views import View, views_of

__all__ = [
  'ROLES',
  'UNITS',
  'WEIGHTS',
  'Family',
  'Given',
  'Leaf',
  'Part',
  'Target',
  'Units',
  'View',
  'default_flags',
  'describe',
  'families',
  'fitting',
  'infer',
  'leaf_name',
  'match',
  'named_leaves',
  'targets',
  'views_of',
]
