"""The pure functions that train one lane."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from htjax import selection
from htjax.checks import checked
from htjax.noise import StableNoise
from htjax.training import evaluation
from htjax.training.batches import next_batch, weighted_mean
from htjax.training.evaluation import Apply, Losses
from htjax.training.keys import BATCHES, NOISE, child, init_key
from htjax.training.lanes import (
  AVERAGING,
  CONVERGED,
  DIVERGED,
  OUT_OF_STEPS,
  RUNNING,
  Examples,
  LaneState,
  Recipe,
  check_recipe,
  is_going,
)
from htjax.training.stopping import Progress, on_target
from htjax.types import Array, PRNGKey, PyTree


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
  """Pure functions of one lane, to be jitted or mapped; from `make_program`.

  A program is compiled once for all calls that are given the same object. The
  attributes are the arguments of `make_program`, with nothing left None but
  `select`, and `noise` where there is none.
  """

  init_params: Callable[[PRNGKey], PyTree]
  apply: Apply
  recipe: Recipe
  select: selection.Selection
  optimizer: Callable[[Any], optax.GradientTransformation]
  losses: Losses
  stop: Callable[[Progress], Array]
  noise: Callable[[Any], StableNoise] | None
  epoch_key: Callable[[Any, Array], PRNGKey]

  @property
  def averaging(self) -> bool:
    """Whether iterates after the rule are averaged."""
    return self.recipe.average_steps > 0

  def init(self, lane: Any, data: Examples) -> LaneState:
    """The state before the first step.

    Args:
      lane: settings, as arrays.
      data: the training set.

    Returns:
      LaneState.
    """
    params = self.init_params(init_key(lane.seed))
    num_train = data.labels.shape[0]
    shuffled = self.recipe.batch_size < num_train
    return LaneState(
      params=params,
      opt_state=self.optimizer(lane).init(params),
      order=jnp.arange(num_train if shuffled else 0, dtype=jnp.int32),
      status=jnp.asarray(RUNNING, jnp.int32),
      steps=jnp.zeros((), jnp.int32),
      loss=jnp.full((), jnp.nan, jnp.float32),
      accuracy=jnp.zeros((), jnp.float32),
      average=jax.tree.map(jnp.zeros_like, params) if self.averaging else (),
      averaged=jnp.asarray(-self.recipe.average_delay, jnp.int32),
    )

  def step(self, state: LaneState, lane: Any, data: Examples) -> LaneState:
    """One step: noise (but not before the first), then the gradient step.

    Args:
      state: of the lane.
      lane: settings, as arrays.
      data: the training set.

    Returns:
      LaneState.
    """
    recipe = self.recipe
    params = self._kicked(state.params, lane, state.steps)
    order, batch, weight = next_batch(
      *(state, data, recipe.batch_size, recipe.drop_last),
      lambda epoch: self.epoch_key(lane, epoch),
    )

    def loss(params: PyTree) -> Array:
      losses = self.losses(self.apply(params, batch.inputs), batch.labels)
      return weighted_mean(losses, weight)

    updates, opt_state = self.optimizer(lane).update(
      jax.grad(loss)(params), state.opt_state, params
    )
    state = state._replace(
      params=optax.apply_updates(params, updates),
      opt_state=opt_state,
      order=order,
      steps=state.steps + 1,
    )
    return _averaged(state) if self.averaging else state

  def judge(
    self, state: LaneState, totals: tuple[Array, Array], num_train: int
  ) -> LaneState:
    """Verdict of an evaluation about going on.

    Args:
      state: of the lane.
      totals: sum of the losses and number of hits on the training set.
      num_train: its size.

    Returns:
      LaneState with loss, accuracy and status as they are now.
    """
    loss, hits = totals[0] / num_train, totals[1]
    met = self.stop(
      Progress(state.steps, loss, hits / num_train, hits, num_train)
    )
    out = state.steps >= self.recipe.max_steps
    status = jnp.where(out, OUT_OF_STEPS, RUNNING)
    averaging = self.averaging
    status = jnp.where(met, AVERAGING if averaging else CONVERGED, status)
    if averaging:
      enough = state.averaged >= self.recipe.average_steps
      further = jnp.where(enough, CONVERGED, AVERAGING)
      status = jnp.where(state.status == AVERAGING, further, status)
    status = jnp.where(jnp.isnan(loss), DIVERGED, status)
    return state._replace(
      status=status.astype(jnp.int32), loss=loss, accuracy=hits / num_train
    )

  def advance(
    self, state: LaneState, lane: Any, data: Examples, num_steps: Array | int
  ) -> LaneState:
    """So many steps and then the stopping rule, as one loop on the device.

    Args:
      state: of the lane; one that is not running comes back as it was.
      lane: settings, as arrays.
      data: the training set.
      num_steps: >= 0, may be traced.

    Returns:
      LaneState.
    """

    def run(state: LaneState) -> LaneState:
      state = self.move(state, lane, data, num_steps)
      totals = evaluation.on_device(
        *(self.apply, self.losses, state.params, data, self.recipe.eval_batch)
      )
      return self.judge(state, totals, data.labels.shape[0])

    return lax.cond(is_going(state.status), run, lambda s: s, state)

  def move(
    self, state: LaneState, lane: Any, data: Examples, num_steps: Array | int
  ) -> LaneState:
    """So many steps, as one loop on the device; arguments as in `advance`."""
    return lax.fori_loop(
      0, num_steps, lambda _, s: self.step(s, lane, data), state
    )

  def _kicked(self, params: PyTree, lane: Any, steps: Array) -> PyTree:
    """The parameters with the noise that follows so many steps."""
    if self.noise is None:
      return params
    process = self.noise(lane)
    return dataclasses.replace(
      process,
      # No noise before the first step, and so none after the last one.
      sigma=jnp.where(steps > 0, process.sigma, 0.0),
    ).kick(
      jax.random.fold_in(child(lane.seed, NOISE), steps),
      params,
      step_size=_rate(self.recipe, lane),
      select=self.select,
    )


@checked
def make_program(
  init: Callable[[PRNGKey], PyTree],
  apply: Apply,
  recipe: Recipe,
  *,
  select: selection.Selection = None,
  optimizer: Callable[[Any], optax.GradientTransformation] | None = None,
  losses: Losses = evaluation.cross_entropy,
  stop: Callable[[Progress], Array] | None = None,
  noise: Callable[[Any], StableNoise] | None = None,
  epoch_key: Callable[[Any, Array], PRNGKey] | None = None,
) -> Program:
  """Build the pure functions that train one lane.

  By default they are those of the paper: SGD with the recipe's rate and
  momentum, noise on the weights before each gradient step but the first, and
  the accuracy at which to stop. Each part may be another. Noise that belongs
  to the optimizer, with its schedule, is `htjax.noise.add_stable_noise` at the
  end of its chain, and the recipe's kind is then None.

  Args:
    init: key -> params, any pytree.
    apply: (params, inputs) -> outputs, logits for the default losses.
    recipe: numbers that all lanes share.
    select: which weights get noise, as in `htjax.noise.add_stable_noise`.
    optimizer: lane -> optax transformation; the lane's settings are traced.
    losses: (outputs, labels) -> losses [b].
    stop: Progress -> boolean [], traced, whether to stop; None is the recipe's
      target_accuracy and target_loss. `max_steps` holds beside it.
    noise: lane -> StableNoise; None is that of the lane's alpha and sigma with
      the recipe's kind and unit, or no noise where the kind is None.
    epoch_key: (lane, number of the epoch, from 0) -> key of the epoch's
      permutation of the examples; None is the lane's own.

  Returns:
    A Program.

  Raises:
    ValueError: a recipe with impossible entries.

  Source: [HT], eq. (2); [IC], section 5 and appendix E; [SH], eq. (3).
  """
  check_recipe(recipe)

  def sgd(lane: Any) -> optax.GradientTransformation:
    return optax.sgd(_rate(recipe, lane), momentum=recipe.momentum)

  def of_lane(lane: Any) -> StableNoise:
    kind = recipe.kind or ''
    return StableNoise(lane.alpha, lane.sigma, kind=kind, unit=recipe.unit)

  if noise is None and recipe.kind is not None:
    noise = of_lane
  return Program(
    init,
    apply,
    recipe,
    select,
    optimizer or sgd,
    losses,
    stop or (lambda progress: on_target(recipe, progress)),
    noise,
    epoch_key or _own_epoch_key,
  )


def _rate(recipe: Recipe, lane: Any) -> Any:
  own = getattr(lane, 'learning_rate', None)
  return recipe.learning_rate if own is None else own


def _own_epoch_key(lane: Any, epoch: Array) -> PRNGKey:
  return jax.random.fold_in(child(lane.seed, BATCHES), epoch)


def _averaged(state: LaneState) -> LaneState:
  """With this iterate in the mean, if the lane is averaging."""
  num = state.averaged + (state.status == AVERAGING)
  counts = (state.status == AVERAGING) & (num > 0)
  share = jnp.where(counts, 1 / jnp.maximum(num, 1), 0)
  average = optax.incremental_update(state.params, state.average, share)
  return state._replace(average=average, averaged=num)
