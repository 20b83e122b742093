"""The keys of one run: named children of its seed's root key."""

import jax

from htjax.checks import checked
from htjax.types import ArrayLike, PRNGKey

# One root key per lane, and named children of it.
_INIT, BATCHES, NOISE, _ANALYSIS = range(4)


@checked
def init_key(seed: ArrayLike) -> PRNGKey:
  """The key from which a lane with this seed draws its first weights."""
  return child(seed, _INIT)


@checked
def analysis_key(seed: ArrayLike) -> PRNGKey:
  """A key of a lane for what is drawn after its training.

  It is independent of all that the training draws, which the children of
  `jax.random.key(seed)` in general are not.
  """
  return child(seed, _ANALYSIS)


def child(seed: ArrayLike, purpose: int) -> PRNGKey:
  """The child of a seed's root key for one purpose."""
  return jax.random.fold_in(jax.random.key(seed), purpose)
