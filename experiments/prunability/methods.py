"""Optimizers that networks are trained by, and where they start from."""

from typing import Any, NamedTuple

import jax
import optax

from htjax import initializers, noise, regularizers, training
from htjax.checks import check_choice
from htjax.types import PRNGKey, PyTree
from htjax.units import Family

ADDITIVE = ('type1', 'type2', 'type3', 'annealed')
KINDS = (
  *('sgd', 'weight_decay', 'l1', 'group_lasso', 'spread'),
  *('contribution', 'unconserved', 'incoming'),
  *ADDITIVE,
)


class Setting(NamedTuple):
  """A lane: a seed with the numbers of its method."""

  seed: Any
  learning_rate: Any
  strength: Any
  alpha: Any
  on: Any


def optimizer(
  kind: str, setting: Any, families: list[Family], num_steps: int
) -> optax.GradientTransformation:
  """The optimizer of a kind.

  'sgd' and 'spread' are SGD, 'weight_decay', 'l1' and 'group_lasso' penalties
  of this strength, 'type1', 'type2' and 'type3' additive noise of strength r,
  'annealed' Type I noise that falls to zero, 'contribution' noise in what units
  contribute, of strength s, 'unconserved' the same without conservation, and
  'incoming' that on incoming weights alone.
  """
  check_choice('kind', kind, KINDS)
  sgd = optax.sgd(setting.learning_rate)
  key = jax.random.fold_in(jax.random.key(setting.seed), 1 << 20)
  if kind in ('sgd', 'spread'):
    return sgd
  if kind == 'weight_decay':
    return optax.chain(optax.add_decayed_weights(setting.strength), sgd)
  if kind in ('l1', 'group_lasso'):
    penalty = getattr(regularizers, kind)
    shrink = penalty(
      setting.learning_rate, setting.strength, select=hidden(families)
    )
    return optax.chain(sgd, shrink)
  if kind in ADDITIVE:
    strength = setting.strength
    if kind == 'annealed':
      strength = lambda t: setting.strength * (1 - t / num_steps)  # noqa: E731
    added = noise.add_stable_noise(
      setting.learning_rate,
      setting.alpha,
      relative=strength,
      num_steps=num_steps,
      key=key,
      kind='type1' if kind == 'annealed' else kind,
      select=hidden(families),
    )
    return optax.chain(sgd, added)
  added = noise.contribution_noise(
    setting.strength,
    num_steps,
    key=key,
    alpha=setting.alpha,
    on=setting.on,
    families=families,
    side='incoming' if kind == 'incoming' else 'both',
    conserve=kind == 'contribution',
  )
  return optax.chain(sgd, added)


def start(kind: str, init: Any, families: list[Family]) -> Any:
  """The function that draws the first weights of a kind."""

  def spread(key: PRNGKey) -> PyTree:
    """Incoming weights times the absolute value of a normal number."""
    return initializers.scale_units(
      jax.random.fold_in(key, 1 << 20),
      init(key),
      'half_normal',
      select=hidden(families),
    )

  return spread if kind == 'spread' else init


def init(network: Any, seed: int) -> PyTree:
  """The weights that a seed starts from."""
  return network.init(training.init_key(seed))


def hidden(families: list[Family]) -> Any:
  """Selects the incoming weights of units that can go."""
  chosen = {p.leaf for f in families for p in f.at('incoming')}

  def select(params: PyTree) -> PyTree:
    treedef: Any = jax.tree.structure(params)
    return treedef.unflatten([i in chosen for i in range(treedef.num_leaves)])

  return select
