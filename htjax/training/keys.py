"""The keys of one run: named children of its seed's root key."""

import functools

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


@checked
def named_key(seed: int, name: str) -> PRNGKey:
  """A key of its own for each name, whatever other names there are.

  The bytes of the name, four by four, are folded into the seed's root key.

  Args:
    seed: of the whole.
    name: any text; the empty one gives the root key.

  Returns:
    A typed key.
  """
  letters = name.encode()
  chunks = (letters[i : i + 4] for i in range(0, len(letters), 4))
  numbers = (int.from_bytes(chunk, 'little') % 2**31 for chunk in chunks)
  return functools.reduce(jax.random.fold_in, numbers, jax.random.key(seed))


def child(seed: ArrayLike, purpose: int) -> PRNGKey:
  """The child of a seed's root key for one purpose."""
  return jax.random.fold_in(jax.random.key(seed), purpose)
